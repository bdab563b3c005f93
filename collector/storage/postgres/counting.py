"""What a group's rows count as (migrations/0005_sums.sql): written with them, so that triggers need not read bodies.

Clicks are added up here, once for each group: a sum's row for each place and quarter instead of one for each click.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from collector.core.flags import NO_SALE
from collector.exchange.rows import ClickRow, ConversionRow
from collector.storage.postgres import ids, partitions
from collector.storage.postgres.connecting import Connection
from collector.storage.postgres.memory import Changes, Item, Memory, Question
from collector.storage.rules import counted
from collector.storage.rules.counted import NOWHERE, QUARTER_MS
from collector.storage.rules.tables import CLICKS, CONVERSIONS

_MOST_PLACES: Final = 5_000  # of a store, for all time
FULL: Final = ""  # no place is called so: its store has as many as it may, and all of them are known
_LABEL: Final = b"\xa5label"  # as MessagePack writes the key: most matches have none
_HAVE: Final = f"""
INSERT INTO place (store, name)
SELECT store, name FROM unnest($1::int[], $2::text[]) AS t (store, name)
 WHERE (SELECT count(*) FROM place p WHERE p.store = t.store) < {_MOST_PLACES}
 ORDER BY store, name ON CONFLICT DO NOTHING"""
_PLACES: Final = """
SELECT p.store, p.name, p.id FROM unnest($1::int[], $2::text[]) AS t (store, name)
  JOIN place p ON p.store = t.store AND p.name = t.name"""
_ALL_PLACES: Final = "SELECT store, name, id FROM place WHERE store = ANY($1::int[])"
# What an event's rows in the outbox say of it, and whether it has any.
_FOLLOW: Final = """
WITH keyed AS (
    UPDATE outbox o SET event = event_name_of(c.event_type), quarter = c.ts / 900000, sale = c.flags & 145 = 0
      FROM conversion c
     WHERE c.id = ANY($1::bigint[]) AND c.store = ANY($2::int[]) AND o.store = c.store AND o.conversion = c.id
       AND (o.event, o.quarter, o.sale)
           IS DISTINCT FROM (event_name_of(c.event_type), (c.ts / 900000)::int, c.flags & 145 = 0))
UPDATE conversion c SET queued = NOT queued
 WHERE c.id = ANY($1::bigint[]) AND c.store = ANY($2::int[])
   AND queued <> EXISTS (SELECT 1 FROM outbox o WHERE o.store = c.store AND o.conversion = c.id)"""


def place_question(memory: Memory, row: ClickRow) -> Question:
    """Which place a click's names are; a person's make one."""
    return ("placed" if row.flags & NOWHERE else "place", row.store, _name_of(memory, row))


def _name_of(memory: Memory, row: ClickRow) -> str:
    """Its body is read once, however often the group's operations are done."""
    known = memory.landed.get(row.id)
    if known is None or known[0] is not row.body:
        known = memory.landed[row.id] = row.body, counted.click_place(row.body)
    return known[1]


async def have_places(connection: Connection, memory: Memory, asked: Sequence[Question]) -> None:
    """Answer the questions for places, made where they are new."""
    wanted = [question for question in asked if question[0] in ("place", "placed")]
    if not wanted:
        return
    made = sorted({question[1:] for question in wanted if question[0] == "place"})
    if made:
        await connection.execute(_HAVE, [store for store, _ in made], [name for _, name in made])
    stores, names = [question[1] for question in wanted], [question[2] for question in wanted]
    for store, name, number in await connection.fetch(_PLACES, stores, names):
        memory.places[store, name] = number
    if full := {store for store, name in made if (store, name) not in memory.places}:
        for store, name, number in await connection.fetch(_ALL_PLACES, list(full)):
            memory.places[store, name] = number
        memory.places.update({(store, FULL): 0 for store in full})
    for question in wanted:
        memory.answers[question] = memory.places.get(question[1:], 0)


def click_values(memory: Memory, row: ClickRow) -> tuple[int, str | None]:
    """Its columns `place` and `apart`."""
    return memory.place_of(row.store, _name_of(memory, row)), counted.click_apart(row.flags, row.body) or None


def new_clicks(memory: Memory, changes: Changes) -> list[tuple[Any, ...]]:
    """What the group's new clicks add to the sums."""
    found: Counter[tuple[int, int, int, int, str]] = Counter()
    rows = changes.rows[CLICKS]
    for number in changes.new[CLICKS]:
        row = rows[number]
        if row.store > 0:
            place, apart = click_values(memory, row)
            place = 0 if row.flags & NOWHERE else place
            found[row.store, week_of(number), row.ts // QUARTER_MS, place, apart or ""] += 1
    return [(*key, n) for key, n in sorted(found.items())]


def week_of(click: int) -> int:
    """The week of a click's id, as the function of that name in the schema."""
    return max(0, partitions.week_at(ids.ms_of(click)))


def order_values(memory: Memory, row: ConversionRow) -> tuple[Any, ...]:
    """Its columns from `place` to `label`; the place is None where the click is not of this group, and is looked up."""
    click = memory.changes.rows[CLICKS].get(row.click) if row.click is not None else None
    return (
        None if click is None else click_values(memory, click)[0],
        counted.match_tier(row.match),
        counted.event_currency(row.body),
        counted.event_units(row.body),
        counted.event_ended(row.body),
        counted.match_label(row.match, row.event_type) if _LABEL in row.match else None,
    )


def is_queued(changes: Changes, conversion: int) -> bool:
    """Whether a new conversion has rows in the outbox."""
    return any(changes.items[number].conversion == conversion for number in changes.added.get(conversion, ()))


def item_values(memory: Memory, item: Item) -> tuple[str, int, bool]:
    """The columns `event`, `quarter` and `sale` of a new row of the outbox."""
    return _key(memory.row(CONVERSIONS, item.conversion))


def _key(row: ConversionRow) -> tuple[str, int, bool]:
    return counted.event_name_of(row.event_type), row.ts // QUARTER_MS, not row.flags & NO_SALE


def to_follow(memory: Memory) -> dict[int, int]:
    """Stored conversions, and their stores: what their rows in the outbox say, or whether they have any, is another."""
    changes, stored = memory.changes, memory.stored[CONVERSIONS]
    rows = changes.rows[CONVERSIONS]
    found = {
        number: row.store
        for number, row in rows.items()
        if number not in changes.new[CONVERSIONS] and number in stored and _key(row) != _key(stored[number])
    }
    before = {item.id: item for q, items in memory.answers.items() if q[0] == "outbox" for item in items}
    for number, item in changes.items.items():
        was = before.get(number)
        if was is None and item.conversion not in changes.new[CONVERSIONS]:
            found[item.conversion] = item.store
        elif was is not None and was.conversion != item.conversion:  # handed over, to a new one perhaps
            found |= dict.fromkeys((was.conversion, item.conversion), item.store)
    return found


async def follow(connection: Connection, orders: dict[int, int]) -> None:
    """After the group's rows are written, in the same transaction."""
    await connection.execute(_FOLLOW, list(orders), sorted({*orders.values()}))
