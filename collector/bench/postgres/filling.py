"""A PostgreSQL database with many clicks, or many events that wait for Meta, soon: by COPY."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Any, Final

from collector.bench import payloads, people
from collector.bench.storing import SPAN_DAYS, now_ms, row_of
from collector.config import Config
from collector.core import flags
from collector.core.capi.payload import Profile, build_event
from collector.core.events import Enrichment
from collector.core.keyed import KeyedHash
from collector.exchange.rows import ClickRow
from collector.storage.moving.tables import AGENT_DAYS, CLICK_HOURS, SIGHTINGS
from collector.storage.postgres import ids, partitions, peppers, stores
from collector.storage.postgres.connecting import Connection
from collector.storage.postgres.threaded import Threaded
from collector.storage.rules import deliveries
from collector.storage.rules.visitors import REGISTERS, place_of

_CHUNK: Final = 20_000
_LONG_S: Final = 6 * 3600.0
_DAY_MS: Final = 86_400_000
_WEEK_MS: Final = 7 * _DAY_MS
_NUMBERS: Final = {"recovered": flags.RECOVERED, "uncounted": flags.UNCOUNTED}
_ITEM: Final = (
    *("id", "store", "conversion", "pixel", "state", "lane", "created", "due", "deadline", "attempts", "doubts"),
    *("doubt_at", "settled", "request", "test_code", "reason"),
)


def fill(config: Config, rows: int) -> float:
    """As storing.fill: clicks 1 to `rows`, the newest now, findable; the seconds it took."""
    began = time.monotonic()
    with Threaded(config.storage, "collector bench") as there:
        names, store = there.ask(lambda c: _known(c, config))
        until, step, seen = now_ms(), SPAN_DAYS * _DAY_MS / max(rows, 1), _Seen()
        for at in range(until - SPAN_DAYS * _DAY_MS, until + 1, _WEEK_MS):
            there.ask(lambda c, at=at: partitions.ahead(c, at))  # type: ignore[misc]  # bound at once
        for first in range(1, rows + 1, _CHUNK):
            made = list(_clicks(names, store, range(first, min(first + _CHUNK, rows + 1)), rows, until, step))
            seen.take(row for row, _ in made)
            there.ask(lambda c, made=made: _copy_clicks(c, made), _LONG_S)  # type: ignore[misc]
        there.ask(lambda c: seen.copy(c, store))
        for sql in (SIGHTINGS, CLICK_HOURS, AGENT_DAYS):
            there.ask(lambda c, sql=sql: c.execute(sql.format(**_NUMBERS)), _LONG_S)  # type: ignore[misc]
        there.ask(lambda c: c.execute("ANALYZE"), _LONG_S)
    return time.monotonic() - began


class _Seen:
    """How many visitors each day had, as the keeper's sketches tell."""

    def __init__(self) -> None:
        self._days: dict[int, bytearray] = {}

    def take(self, rows: Iterable[tuple[Any, ...]]) -> None:
        for row in map(ClickRow._make, rows):
            sketch = self._days.setdefault(row.ts // _DAY_MS, bytearray(REGISTERS))
            register, rank = place_of(row.visitor_k or row.fbclid_k or 0)
            sketch[register] = max(sketch[register], rank)

    async def copy(self, connection: Connection, store: int) -> None:
        records = [(store, day, 0, bytes(sketch)) for day, sketch in self._days.items()]
        columns = ["store", "day", "edge", "registers"]
        await connection.copy_records_to_table("visitor_sketch", records=records, columns=columns)


async def _known(connection: Connection, config: Config) -> tuple[KeyedHash, int]:
    names = KeyedHash(await peppers.load(connection, config))
    return names, (await stores.load(connection, config))[people.STORE].number


def _clicks(
    names: KeyedHash, store: int, numbers: Iterable[int], rows: int, until: int, step: float
) -> Iterator[tuple[tuple[Any, ...], tuple[Any, ...]]]:
    for n in numbers:
        at = until - int((rows - n) * step)
        new, number = row_of(names, store, n, at), ids.first_of(at) + n % 4096
        yield (number, *new.row), (number, store, *new.network)


async def _copy_clicks(connection: Connection, made: list[tuple[tuple[Any, ...], tuple[Any, ...]]]) -> None:
    await connection.copy_records_to_table("click", records=[row for row, _ in made], columns=list(ClickRow._fields))
    columns = ["id", "store", "ip", "user_agent"]
    await connection.copy_records_to_table("click_network", records=[row for _, row in made], columns=columns)


def queue(config: Config, events: int) -> None:
    """As drain.queue, shared evenly over all pixels of the configuration."""
    now, who = now_ms(), payloads.buyer(1)
    built = build_event(payloads.event_of(who, payloads.hashed(who), now), Enrichment(), Profile())
    with Threaded(config.storage, "collector bench") as there:
        _, store = there.ask(lambda c: _known(c, config))
        pixels = [row[0] for row in there.ask(lambda c: c.fetch("SELECT id FROM pixel ORDER BY id"))]
        for first in range(1, events + 1, _CHUNK):
            items = [
                (n, deliveries.row_of(n, pixels[n % len(pixels)], "Purchase", built, now=now - 60_000, wait_seconds=0))
                for n in range(first, min(first + _CHUNK, events + 1))
            ]
            there.ask(lambda c, items=items: _copy_items(c, store, items), _LONG_S)  # type: ignore[misc]
        there.ask(lambda c: c.execute("ANALYZE"), _LONG_S)


async def _copy_items(connection: Connection, store: int, items: list[tuple[int, deliveries.OutboxRow]]) -> None:
    rows = [(n, store, *deliveries.values_of(n, item)[1:]) for n, item in items]
    await connection.copy_records_to_table("outbox", records=rows, columns=list(_ITEM))
    bodies = [(n, store, item.payload) for n, item in items]
    await connection.copy_records_to_table("outbox_payload", records=bodies, columns=["id", "store", "body"])


def unsettled(config: Config) -> int:
    """Events that are still in the queue."""
    with Threaded(config.storage, "collector bench") as there:
        return int(there.ask(lambda c: c.fetchval("SELECT count(*) FROM outbox WHERE settled IS NULL")))


_SIZES: Final = r"""
SELECT regexp_replace(relname, '_(\d{8}|sqlite)$', '') AS name, sum(pg_table_size(oid))::bigint,
       sum(pg_indexes_size(oid))::bigint
  FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace GROUP BY 1"""


def sizes(config: Config) -> dict[str, tuple[int, int]]:
    """Bytes of each table and of its indexes."""
    with Threaded(config.storage, "collector bench") as there:
        return {name: (table, index) for name, table, index in there.ask(lambda c: c.fetch(_SIZES))}
