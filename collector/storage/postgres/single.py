"""One click or conversion, for whoever asks for it, as it is committed."""

from __future__ import annotations

from typing import Any, Final

from collector.exchange.rows import ClickRow, ConversionRow
from collector.exchange.states import Attempt
from collector.storage.postgres.columns import BARE_CLICK, CONVERSION_COLUMNS, click_of, conversion_of
from collector.storage.postgres.connecting import Connection

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
