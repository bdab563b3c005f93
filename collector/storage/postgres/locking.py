"""Rows that are to be changed: locked in the order of their tables and ids, and read as they are then."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final

from collector.storage.postgres.columns import CLICK_COLUMNS, CONVERSION_COLUMNS, NETWORK, click_of, conversion_of
from collector.storage.postgres.connecting import Connection
from collector.storage.postgres.memory import Item, Memory, Question
from collector.storage.rules.tables import CLICKS, CONVERSIONS

LOCKING: Final = ("lock", "sighting", "outbox")
_LOCK_CONVERSIONS: Final = f"""
SELECT 0, 0, {CONVERSION_COLUMNS} FROM conversion v WHERE v.id = ANY($1::bigint[]) AND v.store = ANY($2::int[])
 ORDER BY v.id FOR UPDATE"""
_LOCK_CLICKS: Final = f"""
SELECT 0, 0, {CLICK_COLUMNS} FROM click c {NETWORK} WHERE c.id = ANY($1::bigint[]) AND c.store = ANY($2::int[])
 ORDER BY c.id FOR UPDATE OF c"""
_LOCK_SIGHTINGS: Final = """
SELECT q.n, s.id, s.store
  FROM unnest($1::int[], $2::bigint[], $3::bigint[]) WITH ORDINALITY q(store, fbclid, visitor, n)
  JOIN sighting s ON s.store = q.store AND s.fbclid_k = q.fbclid AND s.visitor_k = q.visitor"""
_LOCK_OUTBOX: Final = """
SELECT o.id, o.store, o.conversion, o.pixel, o.state, o.lane, o.created, o.due, o.deadline, o.attempts, o.doubts,
       o.doubt_at, o.settled, o.request, o.test_code, o.reason, p.body, b.value, b.looked
  FROM outbox o LEFT JOIN outbox_payload p ON p.id = o.id AND p.store = o.store
  LEFT JOIN sent_before b ON b.outbox = o.id AND b.store = o.store
 WHERE o.store = ANY($1::int[]) AND o.conversion = ANY($2::bigint[]) ORDER BY o.id FOR UPDATE OF o"""


def _item_of(row: tuple[Any, ...]) -> Item:
    before, looked = row[-2:]
    return Item(*row[:-2], Decimal(before) if before is not None else None, bool(looked))  # type: ignore[call-arg]


async def lock(connection: Connection, memory: Memory, asked: Sequence[Question]) -> None:
    """Lock rows that are to be changed, in the order of their tables and ids, and read them as they are then."""
    clicks = {(q[2], q[3]) for q in asked if q[0] == "lock" and q[1] == "click"}
    sightings = [q for q in asked if q[0] == "sighting"]
    if sightings:
        for question in sightings:
            memory.answers[question] = None
        names = [list(column) for column in zip(*(question[1:] for question in sightings), strict=True)]
        for n, number, store in await connection.fetch(_LOCK_SIGHTINGS, *names):
            memory.answers[sightings[n - 1]] = number
            clicks.add((store, number))
    if clicks:
        stores, ids = {store for store, _ in clicks}, [number for _, number in clicks]
        for row in await connection.fetch(_LOCK_CLICKS, ids, list(stores)):
            click = click_of(row[2], row[5])
            memory.take(CLICKS, [click], locked=True)
            memory.networks[click.id] = (row[3], row[4])
        gone = [question for question in sightings if memory.answers[question] not in memory.stored[CLICKS]]
        for question in gone:  # retention has taken the click: its name leads nowhere
            if memory.answers[question] is not None:
                memory.adrift.add(question[1:])
                memory.answers[question] = None
    orders = {(q[2], q[3]) for q in asked if q[0] == "lock" and q[1] == "conversion"}
    if orders:
        stores, ids = {store for store, _ in orders}, [number for _, number in orders]
        rows = await connection.fetch(_LOCK_CONVERSIONS, ids, list(stores))
        memory.take(CONVERSIONS, [conversion_of(row[2], *row[3:]) for row in rows], locked=True)
    items = [q for q in asked if q[0] == "outbox"]
    if items:
        for question in items:
            memory.answers[question] = []
        stores, ids = {q[1] for q in items}, [q[2] for q in items]
        for row in await connection.fetch(_LOCK_OUTBOX, list(stores), ids):
            item = _item_of(tuple(row))
            if (kept := memory.answers.get(("outbox", item.store, item.conversion))) is not None:
                kept.append(item)
