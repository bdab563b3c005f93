"""What of a group's changes is written to which table: each a part of the statement that writing.py makes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from msgspec import Struct

from collector.exchange.rows import ClickRow, ConversionRow
from collector.storage.postgres import counting
from collector.storage.postgres.columns import noted
from collector.storage.postgres.memory import Changes, Memory
from collector.storage.rules.tables import CLICKS, CONVERSIONS

_IDEMPOTENCY: Final = "idempotency"
_CLICK_TYPES: Final = ("bigint", "int", *("bigint",) * 10, "int", "bytea")
_CONVERSION_TYPES: Final = (
    *("bigint", "int", "bigint", "bigint", "text", *("bigint",) * 8),
    *("int", "bigint", "int", "text", "int", "int", "bytea", "bytea"),
)
_CLICK_COUNTS, _CLICK_COUNT_TYPES = ("place", "apart"), ("int", "text")
_ORDER_COUNTS: Final = ("place", "tier", "currency", "units", "reversed", "label")
_ORDER_COUNT_TYPES: Final = ("int", "smallint", "text", "bigint", "smallint", "text")
_ITEM_COUNTS, _ITEM_COUNT_TYPES = ("event", "quarter", "sale"), ("text", "int", "boolean")
# The place of an order's click: as the group has it, or as it is stored.
_PLACE_OF: Final = "coalesce(t.place, (SELECT k.place FROM click k WHERE k.id = t.click AND k.store = t.store), 0)"
_ITEM: Final = (
    *("id", "store", "conversion", "pixel", "state", "lane", "created", "due", "deadline", "attempts", "doubts"),
    *("doubt_at", "settled", "request", "test_code", "reason"),
)
_ITEM_TYPES: Final = (
    *("bigint", "int", "bigint", "int", "int", "int", "bigint", "bigint", "bigint", "int", "int"),
    *("bigint", "bigint", "bigint", "text", "text"),
)


class Part(Struct, frozen=True):
    """One table's changes: rows of `types`, as the table t of `names`; `unique`: each of them must be taken as new."""

    types: Sequence[str]
    names: Sequence[str]
    sql: str
    rows: Callable[[Memory, Changes], Iterable[tuple[Any, ...]]]
    unique: bool = False


def _insert(
    table: str,
    names: Sequence[str],
    types: Sequence[str],
    rows: Any,
    conflict: str = "",
    *,
    unique: bool = False,
    place: str = "t.place",
) -> Part:
    order = ", ".join(f"t.{name}" for name in names[:3])
    columns = ", ".join(names)
    values = ", ".join(place if name == "place" else f"t.{name}" for name in names)
    tail = f"{conflict} RETURNING 1" if unique else conflict
    sql = f"INSERT INTO {table} ({columns}) SELECT {values} FROM t ORDER BY {order} {tail}"
    return Part(types, names, sql, rows, unique)


def _update(table: str, names: Sequence[str], types: Sequence[str], rows: Any, *, place: str = "t.place") -> Part:
    values = {name: place if name == "place" else f"t.{name}" for name in names if name not in ("id", "store")}
    changed = ", ".join(f"{name} = {value}" for name, value in values.items())
    return Part(types, names, f"UPDATE {table} x SET {changed} FROM t WHERE x.id = t.id AND x.store = t.store", rows)


def _delete(table: str, names: Sequence[str], types: Sequence[str], rows: Any) -> Part:
    same = " AND ".join(f"x.{name} = t.{name}" for name in names)
    return Part(types, names, f"DELETE FROM {table} x USING t WHERE {same}", rows)


def _clicks(memory: Memory, changes: Changes, *, new: bool) -> list[tuple[Any, ...]]:
    rows = [row for number, row in sorted(changes.rows[CLICKS].items()) if (number in changes.new[CLICKS]) is new]
    return [(*row, *counting.click_values(memory, row)) for row in rows]


def _orders(memory: Memory, changes: Changes, *, new: bool) -> list[tuple[Any, ...]]:
    rows = [r for number, r in sorted(changes.rows[CONVERSIONS].items()) if (number in changes.new[CONVERSIONS]) is new]
    found = [(*row, *counting.order_values(memory, row)) for row in rows]
    return [(*row, counting.is_queued(changes, row[0])) for row in found] if new else found


def _sightings(memory: Memory, changes: Changes) -> list[tuple[int, ...]]:
    return [(*name, i, changes.rows[CLICKS][i].ts) for name, i in sorted(changes.sightings.items())]


def _moved(memory: Memory, changes: Changes) -> list[tuple[int, ...]]:
    return [(*name, i, changes.rows[CLICKS][i].ts) for name, i in sorted(changes.moved.items())]


def _items(memory: Memory, changes: Changes, *, new: bool) -> list[tuple[Any, ...]]:
    stored = {item.id for q, items in memory.answers.items() if q[0] == "outbox" for item in items}
    rows = [item for number, item in sorted(changes.items.items()) if (number in stored) is not new]
    own = [tuple(getattr(item, name) for name in _ITEM) for item in rows]
    if new:
        return [(*values, *counting.item_values(memory, item)) for values, item in zip(own, rows, strict=True)]
    return own


def _bodies(memory: Memory, changes: Changes) -> list[tuple[Any, ...]]:
    before = {item.id: item.body for q, items in memory.answers.items() if q[0] == "outbox" for item in items}
    items = [item for _, item in sorted(changes.items.items())]
    return [(i.id, i.store, i.body) for i in items if i.body is not None and i.body != before.get(i.id)]


def _no_bodies(memory: Memory, changes: Changes) -> list[tuple[Any, ...]]:
    return [(i.id, i.store) for _, i in sorted(changes.items.items()) if i.body is None]


def _before(memory: Memory, changes: Changes) -> list[tuple[Any, ...]]:
    noted = [item for _, item in sorted(changes.items.items()) if item.before is not None]
    return [(i.store, i.conversion, i.id, str(i.before), i.looked) for i in noted]


def _links(memory: Memory, changes: Changes) -> list[tuple[Any, ...]]:
    return [(*place, *link) for place, link in sorted(changes.links.items()) if link is not None]


def _bare(memory: Memory, changes: Changes) -> list[tuple[int, int, int, int]]:
    gone = {place for place, there in changes.carried.items() if not there}
    for store, conversion, _ in changes.bare:
        stored = memory.answers.get(("carried", store, conversion), ())
        gone |= {(store, conversion, kind, key) for kind, key in stored}
    return sorted(place for place in gone if not changes.carried.get(place))


_NETWORK_TYPES: Final = ("bigint", "int", "text", "text")
_SIGHTING: Final = ("store", "fbclid_k", "visitor_k", "id", "ts")
_SIGHTING_TYPES: Final = ("int", "bigint", "bigint", "bigint", "bigint")
_SIGHTED: Final = "x.store = t.store AND x.fbclid_k = t.fbclid_k AND x.visitor_k = t.visitor_k"
_PLACE: Final = ("store", "conversion", "kind", "key")
_PLACE_TYPES: Final = ("int", "bigint", "int", "bigint")
_BOOK: Final = (*("called", "ts", "status", "value", "currency", "channel", "reason", "conversion", "seen", "first"),)
_WAITING_TYPES: Final = ("int", "bigint")
_MORE: Final = "DO UPDATE SET n = {0}.n + excluded.n"
PARTS: Final[dict[str, Part]] = {
    "sighting": _insert("sighting", _SIGHTING, _SIGHTING_TYPES, _sightings, "ON CONFLICT DO NOTHING", unique=True),
    "moved": Part(
        _SIGHTING_TYPES, _SIGHTING, f"UPDATE sighting x SET id = t.id, ts = t.ts FROM t WHERE {_SIGHTED}", _moved
    ),
    "unseen": _delete("sighting", _SIGHTING[:3], _SIGHTING_TYPES[:3], lambda _, c: sorted(c.unseen)),
    "click": _insert(
        "click",
        (*ClickRow._fields, *_CLICK_COUNTS),
        (*_CLICK_TYPES, *_CLICK_COUNT_TYPES),
        lambda m, c: _clicks(m, c, new=True),
    ),
    "click_now": _update(
        "click",
        (*ClickRow._fields, *_CLICK_COUNTS),
        (*_CLICK_TYPES, *_CLICK_COUNT_TYPES),
        lambda m, c: _clicks(m, c, new=False),
    ),
    "click_new": _insert(
        "click_new",
        ("store", "week", "quarter", "place", "apart", "n"),
        ("int", "int", "int", "int", "text", "bigint"),
        counting.new_clicks,
    ),
    "network": _insert(
        "click_network",
        ("id", "store", "ip", "user_agent"),
        _NETWORK_TYPES,
        lambda _, c: [(i, *row) for i, row in sorted(c.networks.items()) if row is not None],
        "ON CONFLICT (id, store) DO UPDATE SET ip = excluded.ip, user_agent = excluded.user_agent",
    ),
    "no_network": _delete(
        "click_network",
        ("id",),
        ("bigint",),
        lambda _, c: [(i,) for i, row in sorted(c.networks.items()) if row is None],
    ),
    "click_hour": _insert(
        "click_hour",
        ("store", "hour", "edge", "n"),
        ("int", "bigint", "int", "bigint"),
        lambda m, c: [(*place, m.edge, n) for place, n in sorted(c.hours.items()) if n],
        f"ON CONFLICT (store, hour, edge) {_MORE.format('click_hour')}",
    ),
    "ua_day": _insert(
        "ua_day",
        ("store", "day", "ua_k", "edge", "n"),
        ("int", "bigint", "bigint", "int", "bigint"),
        lambda m, c: [(*place, m.edge, n) for place, n in sorted(c.agents.items()) if n],
        f"ON CONFLICT (store, day, ua_k, edge) {_MORE.format('ua_day')}",
    ),
    "sketch": _insert(
        "visitor_sketch",
        ("store", "day", "edge", "registers"),
        ("int", "bigint", "int", "bytea"),
        lambda m, c: [
            (*place, m.edge, bytes(m.sketches[place])) for place in sorted(m.sketched) if place in m.sketches
        ],
        "ON CONFLICT (store, day, edge) DO UPDATE SET registers = excluded.registers",
    ),
    "conversion": _insert(
        "conversion",
        (*ConversionRow._fields, *_ORDER_COUNTS, "queued"),
        (*_CONVERSION_TYPES, *_ORDER_COUNT_TYPES, "boolean"),
        lambda m, c: _orders(m, c, new=True),
        "ON CONFLICT DO NOTHING",
        unique=True,
        place=_PLACE_OF,
    ),
    "conversion_now": _update(
        "conversion",
        (*ConversionRow._fields, *_ORDER_COUNTS),
        (*_CONVERSION_TYPES, *_ORDER_COUNT_TYPES),
        lambda m, c: _orders(m, c, new=False),
        place=_PLACE_OF,
    ),
    "order_hour": _insert(
        "order_hour",
        ("store", "kind", "hour", "edge", "proven", "unproven", "orders"),
        ("int", "int", "bigint", "int", "bigint", "bigint", "bigint"),
        lambda m, c: [(*place, m.edge, *n) for place, n in sorted(c.orders.items()) if any(n)],
        "ON CONFLICT (store, kind, hour, edge) DO UPDATE SET proven = order_hour.proven + excluded.proven,"
        " unproven = order_hour.unproven + excluded.unproven, orders = order_hour.orders + excluded.orders",
    ),
    "outbox": _insert(
        "outbox",
        (*_ITEM, *_ITEM_COUNTS),
        (*_ITEM_TYPES, *_ITEM_COUNT_TYPES),
        lambda m, c: _items(m, c, new=True),
    ),
    "outbox_now": _update("outbox", _ITEM, _ITEM_TYPES, lambda m, c: _items(m, c, new=False)),
    "payload": _insert(
        "outbox_payload",
        ("id", "store", "body"),
        ("bigint", "int", "bytea"),
        _bodies,
        "ON CONFLICT (id, store) DO UPDATE SET body = excluded.body",
    ),
    "no_payload": _delete("outbox_payload", ("id", "store"), ("bigint", "int"), _no_bodies),
    "before": _insert(
        "sent_before",
        ("store", "conversion", "outbox", "value", "looked"),
        ("int", "bigint", "bigint", "text", "boolean"),
        _before,
        "ON CONFLICT (outbox) DO UPDATE SET conversion = excluded.conversion, looked = excluded.looked",
    ),
    "no_before": _delete("sent_before", ("outbox",), ("bigint",), lambda _, c: [(i,) for i in sorted(c.unsent)]),
    "link": _insert(
        "identity_link",
        ("store", "kind", "key", "visitor_k", "last_ts", "first_ts", "confirmed_ts", "source"),
        ("int", "int", "bigint", "bigint", "bigint", "bigint", "bigint", "bigint"),
        _links,
        "ON CONFLICT (store, kind, key, visitor_k) DO UPDATE SET"
        " last_ts = greatest(identity_link.last_ts, excluded.last_ts),"
        " source = CASE WHEN excluded.first_ts < identity_link.first_ts THEN excluded.source"
        " ELSE identity_link.source END,"
        " first_ts = least(identity_link.first_ts, excluded.first_ts),"
        " confirmed_ts = least(identity_link.confirmed_ts, excluded.confirmed_ts)",
    ),
    "no_link": _delete(
        "identity_link",
        ("store", "kind", "key", "visitor_k"),
        ("int", "int", "bigint", "bigint"),
        lambda _, c: [place for place, link in sorted(c.links.items()) if link is None],
    ),
    "unlinked": _delete("identity_link", ("store", "visitor_k"), _WAITING_TYPES, lambda _, c: sorted(set(c.unlinked))),
    "carried": _insert(
        "conversion_identity",
        _PLACE,
        _PLACE_TYPES,
        lambda _, c: [place for place, there in sorted(c.carried.items()) if there],
        "ON CONFLICT DO NOTHING",
    ),
    "bare": _delete("conversion_identity", _PLACE, _PLACE_TYPES, _bare),
    "notice": _insert(
        "notice",
        ("store", "conversion", "revision", "at"),
        ("int", "bigint", "int", "bigint"),
        lambda _, c: [(store, i, *rest) for i, (store, *rest) in sorted(c.notices.items())],
        "ON CONFLICT (store, conversion) DO UPDATE SET revision = excluded.revision, at = excluded.at",
    ),
    "unproven": _insert(
        "unproven",
        ("store", "ts", "conversion"),
        ("int", "bigint", "bigint"),
        lambda _, c: [(*place, i) for i, place in sorted(c.unproven.items())],
        "ON CONFLICT DO NOTHING",
    ),
    "reopened": _insert(
        "reopened",
        ("store", "conversion", "anyway"),
        ("int", "bigint", "boolean"),
        lambda _, c: [(store, i, anyway) for i, (store, anyway) in sorted(c.reopened.items())],
        "ON CONFLICT (store, conversion) DO UPDATE SET anyway = reopened.anyway OR excluded.anyway",
    ),
    "unweighed": _insert(
        "unweighed",
        ("store", "conversion"),
        _WAITING_TYPES,
        lambda _, c: [(store, i) for i, store in sorted(c.unweighed.items())],
        "ON CONFLICT DO NOTHING",
    ),
    "unlooked": _insert(
        "unlooked",
        ("id", "store", "of_click", "number", "before"),
        ("bigint", "int", "boolean", "bigint", "bytea"),
        lambda _, c: [noted(number, row) for number, row in sorted(c.unlooked.items())],
    ),
    "called": _insert(
        "order_name",
        ("store", "name", "conversion", "number"),
        ("int", "bigint", "bigint", "int"),
        lambda _, c: [(*place, n) for place, n in sorted(c.called.items())],
        "ON CONFLICT DO NOTHING",
    ),
    "answer": _insert(
        _IDEMPOTENCY,
        ("key_k", "body_hash", "expires", "status", "answer"),
        ("bigint", "bytea", "bigint", "int", "bytea"),
        lambda _, c: [(key, *values) for key, values in sorted(c.answers.items())],
        "ON CONFLICT (key_k) DO UPDATE SET body_hash = excluded.body_hash, expires = excluded.expires,"
        " status = excluded.status, answer = excluded.answer"
        " WHERE idempotency.expires <= excluded.expires - 86400000",  # the one before is over
        unique=True,
    ),
    "reworded": Part(
        ("bigint", "bytea", "bytea"),
        ("key_k", "body_hash", "answer"),
        f"UPDATE {_IDEMPOTENCY} x SET answer = t.answer FROM t WHERE x.key_k = t.key_k AND x.body_hash = t.body_hash",
        lambda _, c: c.reworded,
    ),
    "event_name": _insert(
        "event_name",
        ("store", "name", "by_page"),
        ("int", "text", "int"),
        lambda _, c: [(*place, int(by_page)) for place, by_page in sorted(c.event_names.items())],
        "ON CONFLICT (store, name) DO UPDATE SET by_page = least(event_name.by_page, excluded.by_page)",
    ),
    "delivery": _insert(
        "shop_delivery",
        ("id", "at", "store", "webhook", "topic", "reason", "conversion"),
        ("bytea", "bigint", "int", "text", "text", "text", "bigint"),
        lambda _, c: [(one, *row) for one, row in sorted(c.deliveries.items())],
        "ON CONFLICT (id) DO UPDATE SET at = excluded.at, reason = excluded.reason, conversion = excluded.conversion"
        " WHERE shop_delivery.conversion IS NULL OR shop_delivery.at < excluded.at - 691200000",
        unique=True,
    ),
    "booked": Part(
        ("int", "bigint", "text", "text", "text", "bigint", "text", "text", "int"),
        ("store", "conversion", "status", "value", "currency", "ts", "channel", "reason", "seen"),
        "UPDATE shop_order x SET status = t.status, value = t.value, currency = t.currency, ts = t.ts,"
        " channel = coalesce(nullif(t.channel, ''), x.channel), reason = t.reason, seen = x.seen | t.seen"
        " FROM t WHERE x.store = t.store AND x.conversion = t.conversion",
        lambda _, c: [(*place, *row) for place, row in sorted(c.booked.items())],
    ),
    "settled": Part(
        ("int", "bigint"),
        ("store", "name"),
        "DELETE FROM shop_order x USING t WHERE x.store = t.store AND x.name = t.name AND x.conversion IS NULL",
        lambda _, c: sorted(c.settled - c.book.keys()),
    ),
    "book": _insert(
        "shop_order",
        ("store", "name", *_BOOK),
        ("int", "bigint", "text", "bigint", "text", "text", "text", "text", "text", "bigint", "int", "bigint"),
        lambda _, c: [(*place, *row) for place, row in sorted(c.book.items())],
        "ON CONFLICT (store, name) DO UPDATE SET status = excluded.status, value = excluded.value, ts = excluded.ts,"
        " currency = excluded.currency, channel = coalesce(nullif(excluded.channel, ''), shop_order.channel),"
        " conversion = coalesce(excluded.conversion, shop_order.conversion),"
        " reason = CASE WHEN excluded.conversion IS NULL AND shop_order.conversion IS NOT NULL THEN shop_order.reason"
        " ELSE excluded.reason END, seen = shop_order.seen | excluded.seen",
    ),
    "seen": Part(
        ("int", "bigint", "int"),
        ("store", "conversion", "seen"),
        "UPDATE shop_order x SET seen = x.seen | t.seen FROM t WHERE x.store = t.store AND x.conversion = t.conversion",
        lambda _, c: c.seen,
    ),
    "read": _delete("shop_inbox", ("id",), ("bigint",), lambda _, c: [(one,) for one in sorted(c.read)]),
    "request": _insert(
        "shop_request",
        ("id", "store", "kind", "at", "asked"),
        ("text", "text", "text", "bigint", "bytea"),
        lambda _, c: c.requests,
        "ON CONFLICT (id) DO NOTHING",
    ),
    "erased": _insert("erased", ("store", "name", "at"), ("int", "bigint", "bigint"), lambda _, c: c.erased),
    "listed": _insert(
        "shop_note",
        ("store", "kind", "called", "conversion", "at"),
        ("int", "text", "text", "bigint", "bigint"),
        lambda _, c: list({row[:3]: row for row in c.listed}.values()),
        "ON CONFLICT (store, kind, called) DO UPDATE SET conversion = excluded.conversion, at = excluded.at",
    ),
}
