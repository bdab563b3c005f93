"""One click or conversion, for whoever asks for it, as it is committed."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from collector.core.capi.states import CapiState, name_of
from collector.core.events import StoredEvent
from collector.core.matching import Match
from collector.exchange.clicks import read
from collector.exchange.rows import ClickRow, ConversionRow
from collector.exchange.shops import Waiting
from collector.exchange.states import Attempt, Delivery, EventState
from collector.storage.postgres.columns import BARE_CLICK, CONVERSION_COLUMNS, click_of, conversion_of
from collector.storage.postgres.connecting import Connection
from collector.storage.rules.deliveries import standing_of

_decode_event = msgspec.msgpack.Decoder(StoredEvent).decode
_decode_match = msgspec.msgpack.Decoder(Match).decode
_INBOX: Final = "SELECT id, store, platform, topic, seen, body FROM shop_inbox ORDER BY id LIMIT 50"
_INBOX_BYTES: Final = 4_000_000

_ONE_CONVERSION: Final = f"SELECT 0, 0, {CONVERSION_COLUMNS} FROM conversion v WHERE v.id = $1 AND v.store > 0"
_ONE_CLICK: Final = f"SELECT 0, 0, {BARE_CLICK} FROM click c WHERE c.id = $1 AND c.store > 0"
_GIVEN: Final = "SELECT id FROM conversion WHERE store = $1 AND click = $2 ORDER BY id LIMIT 100"
_DELIVERIES: Final = """
SELECT p.name, o.state, o.reason, o.attempts, o.settled FROM outbox o JOIN pixel p ON p.id = o.pixel
 WHERE o.store = $1 AND o.conversion = $2 ORDER BY o.id"""
_ATTEMPTS: Final = """
SELECT p.name, r.at, r.outcome, r.http_status, r.code, r.subcode, r.trace_id, r.message
  FROM outbox o JOIN pixel p ON p.id = o.pixel
  JOIN request r ON r.id = o.request OR r.id IN (SELECT request FROM attempt WHERE outbox = o.id)
 WHERE o.store = $1 AND o.conversion = $2 ORDER BY r.at, r.id"""


async def conversion(connection: Connection, number: int) -> ConversionRow | None:
    """A stored conversion."""
    row = await connection.fetchrow(_ONE_CONVERSION, number)
    return None if row is None else conversion_of(row[2], *tuple(row)[3:])


async def click(connection: Connection, number: int) -> ClickRow | None:
    """A stored click."""
    row = await connection.fetchrow(_ONE_CLICK, number)
    return None if row is None else click_of(row[2], row[5])


async def given(connection: Connection, row: ClickRow) -> list[int]:
    """Conversions that have a click."""
    return [found[0] for found in await connection.fetch(_GIVEN, row.store, row.id)]


async def deliveries(connection: Connection, row: ConversionRow) -> tuple[list[Any], list[Attempt]]:
    """A conversion's rows in the outbox, and every attempt, the oldest first."""
    rows = [tuple(one) for one in await connection.fetch(_DELIVERIES, row.store, row.id)]
    attempts = [Attempt(*one) for one in await connection.fetch(_ATTEMPTS, row.store, row.id)]
    return rows, attempts


_OF_EDGE: Final = "{0}.id >= $1 AND {0}.id >> 12 & 1023 = $2 ORDER BY {0}.id"
_CLICKS_OF: Final = f"SELECT 0, 0, {BARE_CLICK} FROM click c WHERE {_OF_EDGE.format('c')}"
_ORDERS_OF: Final = f"SELECT 0, 0, {CONVERSION_COLUMNS} FROM conversion v WHERE {_OF_EDGE.format('v')}"

_CHANGED: Final = """
SELECT n.before, 0, {1} FROM unlooked n JOIN {0} ON {2}.id = n.number AND {2}.store = n.store
 WHERE n.of_click = {3} AND {4}"""
_CHANGED_CLICKS: Final = _CHANGED.format("click c", BARE_CLICK, "c", True, _OF_EDGE.format("n"))
_CHANGED_ORDERS: Final = _CHANGED.format("conversion v", CONVERSION_COLUMNS, "v", False, _OF_EDGE.format("n"))
_CARRIED: Final = "SELECT DISTINCT store, key FROM conversion_identity WHERE store = ANY($1) AND conversion = ANY($2)"
Clicks = list[tuple[ClickRow | None, ClickRow]]
Orders = list[tuple[ConversionRow | None, ConversionRow]]
_decode_click = msgspec.msgpack.Decoder(ClickRow).decode
_decode_conversion = msgspec.msgpack.Decoder(ConversionRow).decode


async def of_edge(connection: Connection, edge: int, first: int) -> tuple[Clicks, Orders]:
    """What an edge has stored or changed from this id on: each row before that, and as it is now."""
    given = first, edge
    clicks: Clicks = [(None, click_of(row[2], row[5])) for row in await connection.fetch(_CLICKS_OF, *given)]
    orders: Orders = [(None, _order_of(row)) for row in await connection.fetch(_ORDERS_OF, *given)]
    changed = await connection.fetch(_CHANGED_CLICKS, *given)
    clicks += [(_decode_click(row[0]), click_of(row[2], row[5])) for row in changed]
    changed = await connection.fetch(_CHANGED_ORDERS, *given)
    orders += [(_decode_conversion(row[0]), _order_of(row)) for row in changed]
    return clicks, orders


def _order_of(row: Any) -> ConversionRow:
    return conversion_of(row[2], *tuple(row)[3:])


async def carried(connection: Connection, orders: Orders) -> list[tuple[int, int]]:
    """What these carry that leads to a person: store and value."""
    places = [row.store for _, row in orders], [row.id for _, row in orders]
    return [(store, key) for store, key in await connection.fetch(_CARRIED, *places)]


async def known(connection: Connection, number: int) -> tuple[EventState, list[Delivery], list[Attempt]] | None:
    """A conversion with its deliveries and every attempt; of a page's telling of an order, the order's."""
    row = await conversion(connection, number)
    if row is None:
        return None
    if order := _decode_event(row.body).note_of:
        row = await conversion(connection, order) or row
    rows, attempts = await deliveries(connection, row)
    found = _decode_match(row.match)
    credited = await click(connection, found.click) if found.click is not None else None
    standing = standing_of([(state, reason) for _, state, reason, _, _ in rows])
    state = EventState(
        row,
        _decode_event(row.body),
        found,
        standing.state if standing else CapiState(row.capi),
        standing.reason if standing else None,
        read(credited) if credited is not None else None,
    )
    told = [Delivery(pixel, name_of(s), reason, n, settled) for pixel, s, reason, n, settled in rows]
    return state, told, attempts


async def with_orders(connection: Connection, number: int) -> tuple[ClickRow, list[int]] | None:
    """A click and the conversions that it was given."""
    row = await click(connection, number)
    return None if row is None else (row, await given(connection, row))


async def inbox(connection: Connection) -> list[Waiting]:
    """What has waited longest, fifty rows and some megabytes at most."""
    found: list[Waiting] = []
    size = 0
    for row in await connection.fetch(_INBOX):
        found.append(Waiting(*row))
        size += len(found[-1].body)
        if size > _INBOX_BYTES:
            break
    return found
