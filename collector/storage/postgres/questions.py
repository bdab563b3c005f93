"""What a group's questions are in SQL: all of one moment in one statement, and what is to be locked before."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, Final

from msgspec import Struct

from collector.core.flags import INELIGIBLE
from collector.storage.postgres.columns import (
    CLICK_COLUMNS,
    CONVERSION_COLUMNS,
    NETWORK,
    NUMBERS,
    click_of,
    conversion_of,
)
from collector.storage.postgres.connecting import Connection
from collector.storage.postgres.counting import have_places
from collector.storage.postgres.finding import DAYS, VISITORS_COUNTED
from collector.storage.postgres.locking import LOCKING, lock
from collector.storage.postgres.memory import Memory, Question
from collector.storage.rules.matched import AHEAD_MS, PER_KEY
from collector.storage.rules.tables import CLICKS, CONVERSIONS, Table
from collector.storage.rules.weighed import MOST_LOOKED_AT

_LATERAL: Final = "CROSS JOIN LATERAL"
_MOST_HOLDERS: Final = 2_000
Taken = Callable[[Memory, Question, Any], None]


class Part(Struct, frozen=True):
    """One kind of question. `sql` selects the answer's columns beside q, the questions as a table of `columns`."""

    columns: str  # names and types, as "store int, name bigint"
    values: Callable[[Question], tuple[Any, ...]]
    select: str
    source: str
    take: Taken
    empty: Callable[[], Any]  # the answer where nothing is found


def _take_click(memory: Memory, question: Question, row: Any) -> None:
    click = click_of(row[2], row[5])
    memory.answers[question] += memory.take(CLICKS, [click])
    if row[3] is not None or row[4] is not None:
        memory.networks[click.id] = (row[3], row[4])


def _take_conversion(memory: Memory, question: Question, row: Any) -> None:
    memory.answers[question] += memory.take(CONVERSIONS, [conversion_of(row[2], *row[3:])])


def _take_numbers(memory: Memory, question: Question, row: Any) -> None:
    memory.answers[question].append(tuple(row[2]))


def _take_sum(memory: Memory, question: Question, row: Any) -> None:
    memory.answers[question] = row[2][0] or 0


def _found(table: Table, key: str, where: str, order: str = "received") -> Part:
    """Rows under a column's name, the newest first."""
    if table is CLICKS:
        source = (
            f"{_LATERAL} (SELECT * FROM click c WHERE c.store = q.store AND {where} AND c.received >= q.since"
            f" ORDER BY c.{order} DESC LIMIT q.most) c {NETWORK}"
        )
        select, take = CLICK_COLUMNS, _take_click
    else:
        source = (
            f"{_LATERAL} (SELECT * FROM conversion v WHERE v.store = q.store AND {where} AND v.received >= q.since"
            f" ORDER BY v.{order} DESC LIMIT q.most) v"
        )
        select, take = CONVERSION_COLUMNS, _take_conversion
    columns = "store int, name bigint, since bigint, most int"
    return Part(columns, lambda q: q[3:], select, source, take, list)


def _near(where: str) -> Part:
    source = (
        f"{_LATERAL} (SELECT * FROM click c WHERE c.store = q.store AND {where} AND c.received >= q.since"
        f" AND c.flags & {INELIGIBLE} = 0 AND c.ts < (q.last + 1) * 60000 ORDER BY c.received DESC LIMIT {PER_KEY}) c"
        f" {NETWORK}"
    )
    columns = "store int, name bigint, since bigint, last bigint"
    return Part(columns, lambda q: q[2:], CLICK_COLUMNS, source, _take_click, list)


def _on(where: str) -> Part:
    source = (
        f"{_LATERAL} (SELECT c.id, coalesce(c.visitor_k, c.fbclid_k, c.id) AS who FROM click c"
        f" WHERE c.store = q.store AND {where} AND c.flags & {INELIGIBLE} = 0"
        f" AND c.received >= q.first * 60000 - {AHEAD_MS} AND c.ts >= q.first * 60000 AND c.ts < (q.last + 1) * 60000"
        f" ORDER BY c.received DESC LIMIT {VISITORS_COUNTED}) c"
    )

    def take(memory: Memory, question: Question, row: Any) -> None:
        number, who = row[2]
        memory.answers[question][number] = who

    columns = "store int, name bigint, first bigint, last bigint"
    return Part(columns, lambda q: q[2:], f"ARRAY[c.id, c.who], {NUMBERS}", source, take, dict)


def _numbers(columns: str, select: str, source: str) -> Part:
    return Part(columns, lambda q: q[1:], f"ARRAY[{select}], {NUMBERS}", source, _take_numbers, list)


def _sum(columns: str, select: str, source: str) -> Part:
    return Part(columns, lambda q: q[1:], f"ARRAY[{select}], {NUMBERS}", source, _take_sum, int)


def _take_row(memory: Memory, question: Question, row: Any) -> None:
    if question[1] == "click":
        memory.answers[question] = []
        _take_click(memory, question, row)
    else:
        memory.take(CONVERSIONS, [conversion_of(row[2], *row[3:])])


def _take_bytes(memory: Memory, question: Question, row: Any) -> None:
    memory.answers[question].append(bytes(row[5]))


def _take_origins(memory: Memory, question: Question, row: Any) -> None:
    memory.answers[question] = tuple(n or 0 for n in row[2])


def _take_answer(memory: Memory, question: Question, row: Any) -> None:
    status, expires = row[2]
    memory.answers[question] = (row[6], expires, status, row[5])


def _take_words(memory: Memory, question: Question, row: Any) -> None:
    memory.answers[question].append(row[3])


_NAMED_SO: Final = (
    f"{_LATERAL} (SELECT s.id FROM sighting s WHERE s.store = q.store AND s.fbclid_k = q.name"
    " ORDER BY s.id DESC LIMIT q.most) s"
    f" JOIN click c ON c.id = s.id AND c.store = q.store AND c.received >= q.since {NETWORK}"
)
_IP_UA: Final = "c.ip_k # c.ua_k = q.name AND c.ip_k IS NOT NULL AND c.ua_k IS NOT NULL"
_PLAIN: Final = {
    "visitor": "visitor_k",
    "fbp": "fbp_k",
    "fbclid": "fbclid_k",
    "ip": "ip_k",
    "fp": "fp_k",
    "dedup": "dedup_k",
}
PARTS: Final[dict[tuple[str, ...], Part]] = {
    **{
        ("find", "click", key): _found(CLICKS, key, f"c.{_PLAIN[key]} = q.name")
        for key in ("visitor", "fbp", "ip", "fp")
    },
    ("find", "click", "fbclid"): Part(
        "store int, name bigint, since bigint, most int", lambda q: q[3:], CLICK_COLUMNS, _NAMED_SO, _take_click, list
    ),
    **{
        ("find", "conversion", key): _found(CONVERSIONS, key, f"v.{_PLAIN[key]} = q.name")
        for key in ("dedup", "fbclid", "visitor", "fbp", "ip", "fp")
    },
    ("near", "ip"): _near("c.ip_k = q.name"),
    ("near", "fp"): _near("c.fp_k = q.name"),
    ("near", "ip_ua"): _near(_IP_UA),
    ("on", "ip"): _on("c.ip_k = q.name"),
    ("on", "fp"): _on("c.fp_k = q.name"),
    ("row", "click"): Part(
        "id bigint", lambda q: q[2:], CLICK_COLUMNS, f"JOIN click c ON c.id = q.id {NETWORK}", _take_row, list
    ),
    ("row", "conversion"): Part(
        "id bigint", lambda q: q[2:], CONVERSION_COLUMNS, "JOIN conversion v ON v.id = q.id", _take_row, list
    ),
    ("holders",): Part(
        "store int, click bigint",
        lambda q: q[1:],
        CONVERSION_COLUMNS,
        f"{_LATERAL} (SELECT * FROM conversion v WHERE v.store = q.store AND v.click = q.click"
        f" ORDER BY v.id DESC LIMIT {_MOST_HOLDERS}) v",
        _take_conversion,
        list,
    ),
    ("links",): _numbers(
        "store int, kind int, name bigint",
        "l.visitor_k, l.first_ts, l.confirmed_ts, l.source",
        "JOIN identity_link l ON l.store = q.store AND l.kind = q.kind AND l.key = q.name",
    ),
    ("held",): Part(
        "store int, visitor bigint",
        lambda q: q[1:],
        f"ARRAY[l.kind::bigint, l.key, (l.confirmed_ts IS NOT NULL)::int::bigint], {NUMBERS}",
        "JOIN identity_link l ON l.store = q.store AND l.visitor_k = q.visitor",
        lambda memory, question, row: memory.answers[question].append((row[2][0], row[2][1], bool(row[2][2]))),
        list,
    ),
    ("carrying",): _numbers(
        "store int, name bigint, most int",
        "i.conversion, i.kind::bigint",
        f"{_LATERAL} (SELECT i.conversion, i.kind FROM conversion_identity i WHERE i.store = q.store AND i.key = q.name"
        " ORDER BY i.conversion DESC LIMIT q.most) i",
    ),
    ("carried",): _numbers(
        "store int, conversion bigint",
        "i.kind::bigint, i.key",
        "JOIN conversion_identity i ON i.store = q.store AND i.conversion = q.conversion",
    ),
    ("told",): Part(
        "store int, name bigint",
        lambda q: q[1:],
        f"ARRAY[i.conversion], {NUMBERS}",
        f"{_LATERAL} (SELECT i.conversion FROM conversion_identity i WHERE i.store = q.store AND i.key = q.name"
        f" AND i.kind = -2 ORDER BY i.conversion LIMIT {MOST_LOOKED_AT}) i",
        lambda memory, question, row: memory.answers[question].append(row[2][0]),
        list,
    ),
    ("called",): _numbers(
        "store int, name bigint",
        "o.conversion, o.number::bigint",
        "JOIN order_name o ON o.store = q.store AND o.name = q.name",
    ),
    ("webhooks",): Part(
        "store int, conversion bigint",
        lambda q: q[1:],
        "NULL::bigint[], d.webhook, NULL::text, NULL::bytea, NULL::bytea",
        "JOIN shop_delivery d ON d.store = q.store AND d.conversion = q.conversion",
        _take_words,
        list,
    ),
    ("delivery",): Part(
        "id bytea",
        lambda q: q[1:],
        f"ARRAY[d.conversion, d.at], {NUMBERS}",
        "JOIN shop_delivery d ON d.id = q.id",
        lambda memory, question, row: memory.answers.__setitem__(question, tuple(row[2])),
        lambda: None,
    ),
    ("booked",): _sum(
        "store int, conversion bigint",
        "1",
        "JOIN shop_order o ON o.store = q.store AND o.conversion = q.conversion",
    ),
    ("hours",): _sum(
        "store int, first bigint, upto bigint",
        "h.n",
        f"{_LATERAL} (SELECT sum(n)::bigint AS n FROM click_hour h WHERE h.store = q.store AND h.hour >= q.first"
        " AND h.hour < q.upto) h",
    ),
    ("agent",): _sum(
        "store int, agent bigint, first bigint, upto bigint",
        "a.n",
        f"{_LATERAL} (SELECT sum(n)::bigint AS n FROM ua_day a WHERE a.store = q.store AND a.ua_k = q.agent"
        " AND a.day >= q.first AND a.day < q.upto) a",
    ),
    ("origins",): Part(
        "store int, kind int, month bigint, since bigint, upto bigint",
        lambda q: q[1:],
        f"ARRAY[o.proven, o.unproven, o.orders], {NUMBERS}",
        f"{_LATERAL} (SELECT sum(proven) FILTER (WHERE hour >= q.month)::bigint AS proven,"
        " sum(unproven) FILTER (WHERE hour >= q.month)::bigint AS unproven,"
        " sum(orders) FILTER (WHERE hour >= q.since)::bigint AS orders FROM order_hour o"
        " WHERE o.store = q.store AND o.kind = q.kind AND o.hour >= least(q.month, q.since) AND o.hour < q.upto) o",
        _take_origins,
        lambda: (0, 0, 0),
    ),
    ("sketches",): Part(
        "store int, day bigint",
        lambda q: q[1:],
        "NULL::bigint[], NULL::text, NULL::text, s.registers, NULL::bytea",
        f"JOIN visitor_sketch s ON s.store = q.store AND s.day > q.day - {DAYS} AND s.day <= q.day",
        _take_bytes,
        list,
    ),
    ("answer",): Part(
        "name bigint",
        lambda q: q[1:],
        "ARRAY[i.status::bigint, i.expires], NULL::text, NULL::text, i.answer, i.body_hash",
        "JOIN idempotency i ON i.key_k = q.name",
        _take_answer,
        lambda: None,
    ),
    ("newest",): _sum(
        "store int",
        "v.ts",
        f"{_LATERAL} (SELECT max(ts) AS ts FROM conversion v WHERE v.store = q.store) v",
    ),
    ("waits",): _sum(
        "store int, ts bigint, conversion bigint",
        "1",
        "JOIN unproven u ON u.store = q.store AND u.ts = q.ts AND u.conversion = q.conversion",
    ),
    ("flying",): _sum(
        "pixel int, id bigint",
        "1",
        "JOIN request r ON r.outcome = 'in_flight' AND r.pixel = q.pixel AND r.ids @> ARRAY[q.id]",
    ),
    ("sketch",): Part(
        "store int, day bigint, edge int",
        lambda q: q[1:],
        "NULL::bigint[], NULL::text, NULL::text, s.registers, NULL::bytea",
        "JOIN visitor_sketch s ON s.store = q.store AND s.day = q.day AND s.edge = q.edge",
        lambda memory, question, row: memory.answers.__setitem__(question, bytes(row[5])),
        bytes,
    ),
}


def _part_of(question: Question) -> tuple[str, ...]:
    kind = question[0]
    if kind == "find":
        return question[:3]
    return question[:2] if kind in ("near", "on", "row") else (kind,)


@lru_cache(maxsize=512)
def _statement(kinds: tuple[tuple[str, ...], ...]) -> str:
    """These kinds of question as one statement."""
    texts, first = [], 1
    for number, kind in enumerate(kinds):
        part = PARTS[kind]
        columns = [column.split(" ") for column in part.columns.split(", ")]
        arrays = ", ".join(f"${first + n}::{type_}[]" for n, (_, type_) in enumerate(columns))
        names = ", ".join(name for name, _ in columns)
        first += len(columns)
        texts.append(
            f"SELECT {number}, q.n::int, {part.select} FROM unnest({arrays})"
            f" WITH ORDINALITY q({names}, n) {part.source}"
        )
    return " UNION ALL ".join(texts)


async def answer(connection: Connection, memory: Memory, asked: Iterable[Question]) -> None:
    """Have the questions answered: first what is to be locked, then all others in one statement."""
    asked = list(asked)
    await lock(connection, memory, asked)
    if any(question[:2] == ("lock", "conversion") for question in asked):
        asked += memory.forget_unlocked()
    await have_places(connection, memory, asked)
    by_kind: dict[tuple[str, ...], list[Question]] = defaultdict(list)
    for question in asked:
        if question[0] not in LOCKING and question not in memory.answers:
            by_kind[_part_of(question)].append(question)
    if not by_kind:
        return
    kinds = tuple(sorted(by_kind))
    arrays: list[Any] = []
    for kind in kinds:
        part = PARTS[kind]
        for question in by_kind[kind]:
            memory.answers[question] = part.empty()
        arrays += map(list, zip(*(part.values(question) for question in by_kind[kind]), strict=True))
    for row in await connection.fetch(_statement(kinds), *arrays):
        kind = kinds[row[0]]
        PARTS[kind].take(memory, by_kind[kind][row[1] - 1], row)
