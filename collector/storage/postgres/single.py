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


async def of_edge(connection: Connection, edge: int, first: int) -> tuple[list[ClickRow], list[ConversionRow]]:
    """What an edge has stored from this id on."""
    clicks = [click_of(row[2], row[5]) for row in await connection.fetch(_CLICKS_OF, first, edge)]
    rows = await connection.fetch(_ORDERS_OF, first, edge)
    return clicks, [conversion_of(row[2], *tuple(row)[3:]) for row in rows]


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
