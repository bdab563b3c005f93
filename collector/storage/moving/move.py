"""Move an SQLite installation into PostgreSQL: copied in slices, indexed, compared, and only then marked as moved.

It may be ended at any moment and gone on with: a slice and the note of it are one transaction. Nothing is deleted.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from typing import Final

from msgspec import Struct

from collector.config import Config
from collector.errors import StorageError
from collector.storage.ground import audit, lock
from collector.storage.moving import target as there
from collector.storage.moving.source import Counts, Source
from collector.storage.moving.tables import PARTS
from collector.storage.moving.target import Target
from collector.storage.postgres import peppers
from collector.storage.postgres.database import Database
from collector.storage.postgres.faults import as_storage_errors
from collector.storage.postgres.opening import examined, opened

SLICE: Final = 20_000  # rows in one transaction
_NAME: Final = "collector migrate"
_ANEW: Final = "begin again with an empty database"


class Receipt(Struct, frozen=True):
    """What was moved, in rows by table. `at`: ms, 0 where nothing was."""

    to: str
    rows: dict[str, int]
    compared: int
    at: int
    seconds: float


def move(
    config: Config,
    *,
    resume: bool,
    dry_run: bool,
    show: Callable[[int], None] = lambda rows: None,
    slice_rows: int = SLICE,
) -> Receipt:
    """Move all, or what was left of a move that was broken off. `show`: is told how many rows each slice had.

    StorageError says why it cannot be done, or what differs; then the file is not marked, and works as before.
    """
    held = lock.hold(config.storage.data_dir)
    try:
        with closing(Source(config)) as source, as_storage_errors():
            return asyncio.run(_Move(config, source, show, slice_rows).run(resume=resume, dry_run=dry_run))
    finally:
        os.close(held)


class _Move:
    def __init__(self, config: Config, source: Source, show: Callable[[int], None], slice_rows: int) -> None:
        self._config, self._source, self._show, self._slice = config, source, show, slice_rows
        self._begun = time.monotonic()

    async def run(self, *, resume: bool, dry_run: bool) -> Receipt:
        counts = self._source.counts()
        if dry_run:
            return await self._rehearse(counts)
        database, _ = await opened(self._config.storage, _NAME, moving=True)
        try:
            target = Target(database)
            began = await self._begin(target, database, resume=resume)
            compared = await self._fill(target, counts)
            await target.analyse()
            now = _now()
            if (mark := self._source.mark) is None or mark.done is None:
                audit.note(self._config.storage.data_dir, "migrate", now, to="postgres", rows=sum(counts.values()))
                self._source.finish(began, now)
            await target.finish()
            return self._receipt(database.at, counts, compared, now)
        finally:
            await database.close()

    async def _rehearse(self, counts: Counts) -> Receipt:
        """Everything that can be refused, and not a row written."""
        database = Database(self._config.storage, _NAME)
        try:
            await examined(database, self._config.storage)
            async with database.connection() as connection:
                await there.refuse_rows(connection, database.at)
            return self._receipt(database.at, counts, 0, 0)
        finally:
            await database.close()

    async def _begin(self, target: Target, database: Database, *, resume: bool) -> int:
        """When the move began (ms): now, or before."""
        async with database.connection() as connection:
            await peppers.load(connection, self._config)
        began, mark = await target.began(), self._source.mark
        if resume and began is None:
            raise StorageError(f"nothing to resume: no move into the database at {database.at} was begun and left")
        if not resume and began is not None:
            raise StorageError(f"a move into the database at {database.at} was begun: --resume goes on with it")
        if began is None:
            if mark is not None and mark.done is not None:
                raise StorageError("this data directory was moved already")
            began = _now()
            self._source.begin(began)
            await target.begin(began)
        elif mark is None or mark.began != began:
            raise StorageError(f"the SQLite file was used since that move was begun, and may have changed; {_ANEW}")
        return began

    async def _fill(self, target: Target, counts: Counts) -> int:
        """All rows, all indexes, and the proof; how many conversions were compared."""
        for part in PARTS:
            after, done = await target.progress(part.table)
            while not done:
                rows, after = self._source.slice(part, after, self._slice)
                await target.take(part, rows, after)
                done = after is None
                self._show(len(rows))
        await target.attach()
        await target.index()
        await target.derive(list(self._source.sketches()))
        _refuse_difference(counts, await target.counts())
        return await self._compare(target, _by_table(counts)["conversion"])

    async def _compare(self, target: Target, whole: int) -> int:
        after = compared = 0
        while here := self._source.conversions(after, self._slice):
            if here != (other := await target.conversions(after, self._slice)):
                differs = next(a for a, b in zip(here, [*other, None], strict=False) if a != b)
                raise StorageError(f"conversion row {differs[0]} differs in PostgreSQL; {_ANEW}")
            after, compared = here[-1][0], compared + len(here)
        if compared != whole:
            raise StorageError(f"{compared} of {whole} conversions could be compared")
        return compared

    def _receipt(self, at: str, counts: Counts, compared: int, now: int) -> Receipt:
        seconds = time.monotonic() - self._begun
        return Receipt(at, _by_table(counts), compared, now, round(seconds, 1))


def _by_table(counts: Counts) -> Counter[str]:
    rows = Counter({part.table: 0 for part in PARTS})
    for (table, _), n in counts.items():
        rows[table] += n
    return rows


def _refuse_difference(here: Counts, other: Counts) -> None:
    """StorageError where a table of a store has not as many rows there."""
    for table, store in sorted(here.keys() | other.keys()):
        a, b = here.get((table, store), 0), other.get((table, store), 0)
        if a != b:
            raise StorageError(f'"{table}" of store {store} has {a} rows here and {b} in PostgreSQL; {_ANEW}')


def _now() -> int:
    return time.time_ns() // 1_000_000
