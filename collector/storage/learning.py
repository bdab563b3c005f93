"""What does a night teach? Labels of settled conversions, pairs of strangers, decoys: a new model for each store.

The cost is bounded: so many conversions, pairs and decoys a night. Reads go in slices, and there is one short write.
Runs in the courier, beside delivery, on a connection of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, cast

import apsw
import msgspec
from msgspec import Struct

from collector.config import Config
from collector.core import clickid, flags
from collector.core.learning import FUNNEL, Pair, is_order, learn, pair
from collector.core.matching import DEFAULT_MODEL, Match, Model, Policy, Query, match
from collector.storage import models
from collector.storage.database import INDEX, immediate
from collector.storage.lookup import Lookup
from collector.storage.subjects import CLICKS, ClickRow, click_tag

DAY_MS: Final = 86_400_000
# Most of what changes an answer later (late clicks, new links) has arrived after a day.
SETTLED_MS: Final = DAY_MS
MOST_ROWS: Final = 300_000
_SLICE: Final = 2_000
_SAMPLE: Final = 400  # clicks and orders that make pairs; each click meets ten orders
_PARTNERS: Final = 10
_DECOYS: Final = 200
# Clicks made 8 to 15 days after the order. However long the store's own window is: a longer one would reach back to the
# order, and to the click that it came from.
_DECOY_SHIFT_MS: Final = 15 * DAY_MS
_DECOY_WINDOW_MS: Final = 7 * DAY_MS
_NEIGHBOURS_MS: Final = 30 * DAY_MS
_ENOUGH_ORDERS: Final = 20
_GOLDEN: Final = 0.6180339887498949  # multiples of it, modulo 1, spread evenly: a sample without randomness
_ROWS: Final = (
    "SELECT id, ts, event_type, match FROM conversion "
    f"WHERE id > ? AND id <= ? AND store = ? AND flags & {flags.NO_SALE} = 0 ORDER BY id"
)
_ORDER: Final = "SELECT ts, visitor_k, fbp_k, ip_k, ua_k, fp_k, ua_class, flags, body FROM conversion WHERE id = ?"
_COUNT: Final = "INSERT INTO counter VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET n = n + excluded.n"
# When a night was, whatever it found: its day, and the millisecond of it in place of a count.
_NIGHT: Final = f"SELECT max(day * {DAY_MS} + n) FROM counter WHERE store = 0 AND name = 'night'"
_KEEP_NIGHT: Final = "INSERT OR REPLACE INTO counter VALUES (?, 0, 'night', ?)"
_decode_match = msgspec.msgpack.Decoder(Match).decode


class _Fbp(Struct):
    """The one field of a stored event that tells how old its cookies are."""

    fbp: str | None = None


_decode_fbp = msgspec.msgpack.Decoder(_Fbp).decode


class Lesson(Struct):
    """What one store's settled conversions of a night hold; `answers` and `ids` go together."""

    through: int
    answers: list[Match] = []
    ids: list[int] = []
    first_ts: int = 0
    last_ts: int = 0
    purchases: bool = False

    def add(self, row_id: int, ts: int, event_type: str, body: bytes) -> None:
        """Keep an order's answer. A renewal is no order of its own: no click was looked for."""
        if not is_order(event_type, self.purchases):
            return
        answer = _decode_match(body)
        if answer.inherited:
            return
        if event_type == "Purchase" and not self.purchases:
            self.purchases, self.first_ts, self.last_ts = True, 0, 0
            self.answers.clear()
            self.ids.clear()
        self.answers.append(answer)
        self.ids.append(row_id)
        self.first_ts = min(ts, self.first_ts or ts)
        self.last_ts = max(ts, self.last_ts)


def due(db: apsw.Connection, now: int) -> bool:
    """Whether a day has passed since the last night, or since the first conversion of a new installation."""
    for sql in (_NIGHT, "SELECT max(created) FROM model", "SELECT received FROM conversion ORDER BY id LIMIT 1"):
        last = cast("int | None", db.execute(sql).get)
        if last is not None:
            return now - last >= DAY_MS
    return False


def night_if_due(db: apsw.Connection, config: Config, now: int) -> dict[str, Model]:
    """`night`, once a day: one that taught nothing was a night as well."""
    return night(db, config, now) if due(db, now) else {}


def night(db: apsw.Connection, config: Config, now: int, settled_ms: int = SETTLED_MS) -> dict[str, Model]:
    """Learn for every store; the new models by store id. A store without new conversions keeps its model."""
    data_dir = Path(config.storage.data_dir)
    if not (data_dir / INDEX).exists():
        return {}
    lookup = Lookup(db, data_dir, config.storage)
    try:
        found = {name: model for name, model in _nights(db, lookup, config, now, settled_ms) if model is not None}
    finally:
        lookup.close()
    with immediate(db):
        db.execute(_KEEP_NIGHT, divmod(now, DAY_MS))
    return found


def _nights(
    db: apsw.Connection, lookup: Lookup, config: Config, now: int, settled_ms: int
) -> Iterator[tuple[str, Model | None]]:
    for number, name in cast("list[tuple[int, str]]", db.execute("SELECT id, name FROM store").fetchall()):
        policy = policy_of(config, name)
        yield name, _night_of(db, lookup, number, policy, now, settled_ms)


def policy_of(config: Config, name: str) -> Policy:
    """What the store wants of the matcher."""
    matching, store = config.matching, config.store_by_id(name)
    own = store.probabilistic if store is not None else None
    return Policy(
        window_ms=matching.window_days * DAY_MS,
        click_ms=matching.click_days * DAY_MS,
        threshold=matching.threshold,
        strong=matching.strong,
        probabilistic=matching.probabilistic if own is None else own,
    )


def _night_of(
    db: apsw.Connection, lookup: Lookup, store: int, policy: Policy, now: int, settled_ms: int
) -> Model | None:
    before = models.newest(db, store) or DEFAULT_MODEL
    lesson = _lesson(db, store, before.through, now - settled_ms)
    if not lesson.ids:
        return None
    decoys = _decoys(db, lookup, store, policy, before, now)
    after = learn(
        before,
        lesson.answers,
        _pairs(db, lookup, store, lesson.ids, policy, now),
        decoys,
        now=now,
        elapsed_days=(now - before.created) / DAY_MS if before.created else 0.0,
        orders_per_click=_orders_per_click(lookup, store, lesson, before, policy),
    )
    after = msgspec.structs.replace(after, through=lesson.through)
    with immediate(db):
        models.save(db, store, after)
        db.executemany(_COUNT, [(now // DAY_MS, store, name, n) for name, n in _figures(decoys) if n])
    return after


def _figures(decoys: Sequence[Match]) -> list[tuple[str, int]]:
    """Decoys and false links, as the console reads them."""
    links = [decoy.confidence for decoy in decoys if decoy.attributed]
    return [
        ("decoy.orders", len(decoys)),
        ("decoy.80", sum(confidence >= 80 for confidence in links)),
        ("decoy.90", sum(confidence >= 90 for confidence in links)),
    ]


def _lesson(db: apsw.Connection, store: int, after: int, received_before: int) -> Lesson:
    """The store's settled conversions since the last night, tests, bots and steps of the funnel left out.

    Of a flood only the newest rows are read: a night never takes longer, and never lags behind.
    """
    last = _first_received(db, received_before) - 1
    first = max(after, last - MOST_ROWS)
    lesson = Lesson(max(after, last))
    for start in range(first, last, _SLICE):
        rows = db.execute(_ROWS, (start, min(start + _SLICE, last), store)).fetchall()
        for row_id, ts, event_type, body in cast("list[tuple[int, int, str, bytes]]", rows):
            lesson.add(row_id, ts, event_type, body)
    return lesson


def _orders_per_click(lookup: Lookup, store: int, lesson: Lesson, before: Model, policy: Policy) -> float:
    """Orders of a window beside its eligible clicks, steadied by earlier nights; 0 while too few can say."""
    span = lesson.last_ts - lesson.first_ts
    if len(lesson.ids) < _ENOUGH_ORDERS or span < DAY_MS // 4:
        return 0.0
    clicks = lookup.frequencies.clicks_between(store, lesson.last_ts - policy.window_ms, lesson.last_ts)
    rate = len(lesson.ids) * policy.window_ms / span / max(clicks, 1)
    return (rate + 2 * before.orders_per_click) / 3 if before.orders_per_click else rate


def _spread(of: int, first: int, last: int) -> list[int]:
    """`of` numbers in [first, last], evenly spread and the same each time."""
    return sorted({first + int((k * _GOLDEN) % 1.0 * (last - first + 1)) for k in range(of)})


def _pairs(
    db: apsw.Connection, lookup: Lookup, store: int, orders: Sequence[int], policy: Policy, now: int
) -> list[Pair]:
    """Random clicks of the window beside random orders of the night: how often strangers agree."""
    last = lookup.last[CLICKS]
    first = max(1, min(lookup.index.first_id(CLICKS, now - policy.window_ms), last))
    wanted = set(_spread(_SAMPLE, first, last)) if last else set()
    clicks = [c for c in lookup.click_rows(wanted) if c.store == store and not c.flags & flags.INELIGIBLE]
    strangers = [orders[at] for at in _spread(min(_SAMPLE, len(orders)), 0, len(orders) - 1)]
    queries = [query for row_id in strangers if (query := order_query(db, row_id)) is not None]
    pairs: list[Pair] = []
    for at, c in enumerate(sorted(clicks, key=lambda c: c.id)):
        for k in range(min(_PARTNERS, len(queries))):
            q = queries[(at * _PARTNERS + k) % len(queries)]
            near = _neighbours(lookup, c) if k == 0 else -1
            one = pair(q.ua_k, q.ua_class, q.jar_since, c.ua_k, c.ua_class, c.ts, near)
            pairs.append(one if k == 0 else msgspec.structs.replace(one, click_class=0))  # a click's class counts once
    return pairs


def _neighbours(lookup: Lookup, click: ClickRow) -> int:
    """Other visitors on the click's address in 30 days."""
    if click.ip_k is None:
        return -1
    found = lookup.index.find_tagged("ip", click.ip_k, click.received - _NEIGHBOURS_MS, 32)
    return len({tag for _, tag, _ in found} - {click_tag(click)})


def order_query(db: apsw.Connection, row_id: int) -> Query | None:
    """A stored order as inference sees it: without its proofs."""
    row = cast("tuple[Any, ...] | None", db.execute(_ORDER, (row_id,)).fetchone())
    if row is None:
        return None
    ts, visitor_k, fbp_k, ip_k, ua_k, fp_k, ua_class, marks, body = row
    fbp = _decode_fbp(body).fbp
    return Query(
        ts=ts,
        visitor_k=visitor_k,
        fbp_k=fbp_k,
        ip_k=ip_k,
        ua_k=ua_k,
        fp_k=fp_k,
        ua_class=ua_class,
        flags=marks,
        jar_since=clickid.fbp_created(fbp) if fbp else None,
    )


def _decoys(db: apsw.Connection, lookup: Lookup, store: int, policy: Policy, model: Model, now: int) -> list[Match]:
    """Unproven orders of the day 16 days ago against clicks made 8 to 15 days after them: every link is false.

    An upper bound of the true rate: the same person may well have clicked again.
    """
    found: list[Match] = []
    if not policy.probabilistic:
        return found
    policy = msgspec.structs.replace(policy, window_ms=min(policy.window_ms, _DECOY_WINDOW_MS))
    for row_id in _unproven(db, store, now - _DECOY_SHIFT_MS - DAY_MS, now - _DECOY_SHIFT_MS):
        query = order_query(db, row_id)
        if query is not None and not (query.ip_k is None and query.fp_k is None):
            found.append(_decoy(lookup, store, query, policy, model))
    return found


def _decoy(lookup: Lookup, store: int, query: Query, policy: Policy, model: Model) -> Match:
    """The order moved into the future; it keeps its cookies' age and brings no proof."""
    jar = query.jar_since + _DECOY_SHIFT_MS if query.jar_since is not None else None
    moved = msgspec.structs.replace(query, ts=query.ts + _DECOY_SHIFT_MS, jar_since=jar)
    candidates = lookup.candidates(store, moved, policy.window_ms, policy.click_ms, True)
    own = (query.visitor_k, query.fbp_k)  # a click of the same browser is no false link, nor a proof here
    others = [c for c in candidates if not (_same(c.visitor_k, own[0]) or _same(c.fbp_k, own[1]))]
    return match(moved, others, lookup.statistics(store, moved, policy.window_ms), model, policy)


def _same(one: int | None, other: int | None) -> bool:
    return one is not None and one == other


def _unproven(db: apsw.Connection, store: int, since: int, until: int) -> list[int]:
    """At most so many orders received in [since, until) whose answer no proof gave."""
    first, last = (_first_received(db, moment) for moment in (since, until))
    found: list[int] = []
    sql = "SELECT store, event_type, flags, match FROM conversion WHERE id = ?"
    for row_id in _spread(4 * _DECOYS, first, last - 1) if last > first else []:
        row = cast("tuple[Any, ...] | None", db.execute(sql, (row_id,)).fetchone())
        if row is None or row[0] != store or row[1] in FUNNEL or row[2] & flags.NO_SALE:
            continue
        answer = _decode_match(row[3])
        if answer.tier in ("inferred", "none") and answer.reason != "consent" and not answer.inherited:
            found.append(row_id)
        if len(found) == _DECOYS:
            break
    return found


def _first_received(db: apsw.Connection, moment: int) -> int:
    """The first conversion received at `moment` or later, by halving: rows come in the order of receipt."""
    low, high = 0, cast("int | None", db.execute("SELECT max(id) FROM conversion").get) or 0
    high += 1
    ask: Callable[[int], Any] = lambda at: db.execute(  # noqa: E731
        "SELECT id, received FROM conversion WHERE id >= ? ORDER BY id LIMIT 1", (at,)
    ).fetchone()
    while low < high:
        middle = (low + high) // 2
        row = ask(middle)
        if row is None or row[1] >= moment:
            high = middle
        else:
            low = row[0] + 1
    return low
