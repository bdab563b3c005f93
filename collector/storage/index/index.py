"""The index database: which rows carry which key. Derivable from the main database, filled in large steps.

One table per key, `(k, id) WITHOUT ROWID`, where k = bucket << 44 | low 44 bits of the name and bucket = id / 200,000.
A merge therefore writes into the pages of the newest bucket; a look-up probes one key per bucket of its window. The low
bits may collide, so whoever looks up compares the whole name with the row's. The watermark of what is folded is
committed with the fold, so after any crash the rest is simply still in the tail. Full buckets are merged (merging.py).
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, suppress
from functools import lru_cache
from pathlib import Path
from urllib.parse import quote

import apsw

from collector import telemetry
from collector.config import StorageConfig
from collector.errors import Damaged, StorageError
from collector.storage.ground.database import DATABASE, INDEX, connect, immediate, migrate, plan_once
from collector.storage.index import changing, merging, sums
from collector.storage.index.bloom import LOW_BITS, LOW_MASK
from collector.storage.rules.tables import BUCKET, CLICKS, CONVERSIONS, ELIGIBLE, MINUTE_MS, VISITOR_TAG, Key, Table

log = telemetry.logger("storage")

MOST_UNFOLDED = 50_000  # rows that a start may leave to the tail in memory; more are folded first (0.1 s for so many)
_CONDEMNED = "index.damaged"  # a file that has the next start build the index anew
_CHECK_S = 2.0  # of a quick_check, while nothing can be stored anyway
_MOST_PLACES = 400  # that a look-up probes, the newest: merged, they are 6·10⁸ rows


def _create_tables(db: apsw.Connection) -> None:
    for table in (CLICKS, CONVERSIONS):
        for key in table.keys:
            tag = ", tag INTEGER NOT NULL, minute INTEGER NOT NULL" if key.tagged else ""
            db.execute(
                f"CREATE TABLE IF NOT EXISTS {table.index_table(key.name)} "
                f"(k INTEGER NOT NULL, id INTEGER NOT NULL{tag}, PRIMARY KEY (k, id)) STRICT, WITHOUT ROWID"
            )


def open_index(data_dir: Path, config: StorageConfig, *, mend: bool = True) -> apsw.Connection:
    """The index database, at most MOST_UNFOLDED rows behind; made anew where it is absent, damaged or another one's.

    Without `mend` a damaged one is an error: another process may have it open.
    """
    if mend and (data_dir / _CONDEMNED).exists():
        _discard(data_dir)
    try:
        db = _open(data_dir, config)
    except (StorageError, apsw.Error) as error:
        if not isinstance(error.__cause__ or error, apsw.NotADBError | apsw.CorruptError):
            raise
        if not mend:
            raise Damaged(f"{data_dir / INDEX} is damaged: restart the collector, which builds it anew") from error
        log.failed("the index is damaged and is built anew", error)
        _discard(data_dir)
        db = _open(data_dir, config)
    for table in (CLICKS, CONVERSIONS):
        while _last(db, table) - watermark(db, table) > MOST_UNFOLDED:
            fold(db, table, MOST_UNFOLDED)
    return db


def unfolded(db: apsw.Connection, data_dir: Path, config: StorageConfig) -> int:
    """How many ids of a table the index lacks, at most: whoever looks up beside the keeper holds their rows in memory.

    `db`: the journal. A start after a restore builds the index while others are at work already.
    """
    with ExitStack() as opened:
        index = None
        if (data_dir / INDEX).exists():
            index = opened.enter_context(closing(connect(data_dir / INDEX, config, readonly=True)))
        lacking = []
        for table in (CLICKS, CONVERSIONS):
            through = 0
            with suppress(apsw.SQLError):  # it has no table yet
                through = watermark(index, table) if index else 0
            last = int(db.execute(f"SELECT coalesce(max(id), 0) FROM {table.name}").get)
            lacking.append(last - through)
    return max(lacking)


def _discard(data_dir: Path) -> None:
    for file in (INDEX, INDEX + "-wal", INDEX + "-shm", _CONDEMNED):
        (data_dir / file).unlink(missing_ok=True)


def condemn_if_damaged(data_dir: Path, config: StorageConfig) -> bool:
    """Whether the index, not the journal, is what is damaged; then the next start builds it anew."""
    try:
        with closing(connect(data_dir / INDEX, config, readonly=True)) as db:
            until = time.monotonic() + _CHECK_S
            db.set_progress_handler(lambda: time.monotonic() > until, 10_000)
            damaged = bool(db.execute("PRAGMA quick_check(1)").get != "ok")
    except apsw.InterruptError:
        damaged = False
    except (StorageError, apsw.Error):
        damaged = True
    if damaged:
        log.error("the index is damaged: starting anew, to build it from the database")
        (data_dir / _CONDEMNED).touch()
    return damaged


def _open(data_dir: Path, config: StorageConfig) -> apsw.Connection:
    db = connect(data_dir / INDEX, config, derivable=True)
    migrate(db, "index_migrations")
    with immediate(db):
        _create_tables(db)
    for table in (CLICKS, CONVERSIONS):
        db.execute(f"CREATE TEMP TABLE folding_{table.name} ({_narrow_columns(table)})")
    # Read-only, or each BEGIN IMMEDIATE of a fold would take the journal's write lock as well.
    db.execute("ATTACH ? AS source", (f"file:{quote(str(data_dir / DATABASE))}?mode=ro",))
    identity = db.execute("PRAGMA source.application_id").get
    foreign = db.execute("PRAGMA main.application_id").get != identity
    if foreign or any(watermark(db, table) > _last(db, table) for table in (CLICKS, CONVERSIONS)):
        _forget(db, identity)
    for table in (CLICKS, CONVERSIONS):
        for key in table.keys:  # both ends of each table: a file that was cut short shows here
            entries = table.index_table(key.name)
            db.execute(f"SELECT (SELECT min(k) FROM main.{entries}), (SELECT max(k) FROM main.{entries})").fetchall()
    return db


def _last(db: apsw.Connection, table: Table) -> int:
    return int(db.execute(f"SELECT coalesce(max(id), 0) FROM source.{table.name}").get)


def _forget(db: apsw.Connection, identity: int) -> None:
    """Empty the index: it is of another database, or knows rows that are gone (durability = "normal", a power cut)."""
    with immediate(db):
        for (name,) in db.execute("SELECT name FROM main.sqlite_schema WHERE type = 'table'").fetchall():
            db.execute(f'DELETE FROM main."{name}"')
        db.execute(f"PRAGMA main.application_id = {identity}")


def watermark(db: apsw.Connection, table: Table) -> int:
    """The highest row id whose keys are in the index."""
    row = db.execute("SELECT id FROM main.watermark WHERE subject = ?", (table.name,)).fetchone()
    return int(row[0]) if row else 0


def fold(db: apsw.Connection, table: Table, most: int) -> int:
    """Write the keys of the rows of at most `most` further ids, in one transaction; returns the new watermark.

    `db` is a connection of open_index. Safe beside other folders: the range is chosen under the write lock.
    """
    db.execute("BEGIN IMMEDIATE")
    try:
        low = watermark(db, table)
        high = min(low + most, _last(db, table))
        if high <= low:
            db.execute("ROLLBACK")
            return low
        if table is CLICKS:
            changing.follow(db, low)
        # The wide rows are read once: ten passes over them took a quarter of a fold.
        db.execute(_NARROW.format(table=table.name, columns=_narrow_columns(table)), (low, high))
        for key in table.keys:
            db.execute(_fold_statement(table, key))
        for bucket in range((low + 1) // BUCKET, high // BUCKET + 1):
            db.execute(_BEGUN.format(table.name), (bucket, bucket * BUCKET, (bucket + 1) * BUCKET))
        if table is CLICKS:
            sums.add_folding(db)
        db.execute(f"DELETE FROM temp.folding_{table.name}")
        db.execute("INSERT OR REPLACE INTO main.watermark VALUES (?, ?)", (table.name, high))
        db.execute("COMMIT")
        return high
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def follow(db: apsw.Connection) -> None:
    """Follow the clicks that changed since they were folded; `db` is a connection of open_index."""
    if changing.pending(db):
        with immediate(db):
            changing.follow(db, watermark(db, CLICKS))


Entry = tuple[str, str, int, int]  # table's table, key, low bits of the name, row


def forget(db: apsw.Connection, entries: Sequence[Entry]) -> None:
    """Take entries out; `db` is a connection of open_index."""
    with immediate(db):
        for table, key, name, row in entries:
            db.execute(_FORGET.format(f"{table}_{key}"), (*merging.homes(row, name), row))


def purge(db: apsw.Connection, table: Table, most: int) -> int:
    """Take out at most `most` entries per key of buckets whose rows retention has deleted; how many went.

    `db` is a connection of open_index. A look-up never returned them: it reads the rows. With them go, of clicks, sums
    of days that no order asks for any more.
    """
    days = sums.purge(db, most) if table is CLICKS else 0
    oldest = db.execute(f"SELECT min(id) FROM source.{table.name}").get
    if oldest is None or oldest < BUCKET:
        return days
    gone = days
    with immediate(db):
        bucket = oldest // BUCKET
        if bucket < merging.merged_through(db, table):  # a merged group goes as a whole
            bucket = merging.first_of_group(bucket)
        below = bucket << LOW_BITS
        for key in table.keys:
            entries = f"main.{table.index_table(key.name)}"
            old = f"SELECT k, id FROM {entries} WHERE k < ? ORDER BY k LIMIT ?"
            db.execute(f"DELETE FROM {entries} WHERE (k, id) IN ({old})", (below, most))
            gone += db.changes()
        db.execute("DELETE FROM main.bucket WHERE subject = ? AND bucket < ?", (table.name, bucket))
    return gone


@lru_cache
def _fold_statement(table: Table, key: Key) -> str:
    # Not sorted: the newest bucket's pages are in the cache, and sorting takes longer than jumping about in them.
    tag = f", {VISITOR_TAG}, ts / {MINUTE_MS}" if key.tagged else ""
    eligible = f" AND {ELIGIBLE}" if key.eligible_only else ""
    return (
        f"INSERT OR IGNORE INTO main.{table.index_table(key.name)} "
        f"SELECT (id / {BUCKET}) << {LOW_BITS} | ({key.sql} & {LOW_MASK}), id{tag} FROM temp.folding_{table.name} "
        f"WHERE {key.sql} IS NOT NULL{eligible}"
    )


def _narrow_columns(table: Table) -> str:
    """What a fold reads of a row: its names and times, not its body."""
    return ", ".join(
        c for c in table.row._fields if c.endswith("_k") or c in ("id", "store", "ts", "received", "flags")
    )


_NARROW = "INSERT INTO temp.folding_{table} SELECT {columns} FROM source.{table} WHERE id > ?1 AND id <= ?2"


_BEGUN = (
    "INSERT OR IGNORE INTO main.bucket SELECT '{0}', ?1, min(received) FROM temp.folding_{0} "
    "WHERE id >= ?2 AND id < ?3 HAVING count(*)"
)
_FORGET = "DELETE FROM main.{} WHERE k IN (?, ?) AND id = ?"


_MAPPED_BYTES = 0x7FFF0000


class IndexReader:
    """Look-ups in the folded index, on a read-only connection of the caller's thread."""

    def __init__(self, data_dir: Path, config: StorageConfig) -> None:
        self._db = plan_once(connect(data_dir / INDEX, config, readonly=True))
        # Look-ups read scattered pages. Mapped, and not checked cell by cell since all of it can be rebuilt, an order's
        # matching at 10⁶ clicks takes 1.5 times that at 10⁴; otherwise 2.0.
        self._db.pragma("mmap_size", _MAPPED_BYTES)
        self._db.pragma("cell_size_check", 0)
        self._buckets: dict[str, tuple[list[int], list[int]]] = {}
        self._merged: dict[str, int] = {}  # the buckets below it are merged, by table

    def close(self) -> None:
        self._db.close()

    def watermark(self, table: Table) -> int:
        return watermark(self._db, table)

    def refresh(self, table: Table) -> None:
        """Learn of buckets that a fold began, and of those that are merged."""
        rows: list[tuple[int, int]] = self._db.execute(  # type: ignore[assignment]
            "SELECT first_received, bucket FROM bucket WHERE subject = ? ORDER BY bucket", (table.name,)
        ).fetchall()
        self._buckets[table.name] = ([r[0] for r in rows], [r[1] for r in rows])
        self._merged[table.name] = merging.merged_through(self._db, table)

    def first_bucket(self, table: Table, received: int) -> int:
        """The bucket in which rows received at `received` (ms) or later begin."""
        times, buckets = self._buckets.get(table.name, ([], []))
        position = bisect_right(times, received) - 1
        return buckets[max(position, 0)] if buckets else 0

    def first_id(self, table: Table, received: int) -> int:
        """About the first row received at `received` (ms) or later, to the bucket."""
        return self.first_bucket(table, received) * BUCKET

    def find(self, table: Table, key: str, name: int, since: int, limit: int) -> list[int]:
        """At most `limit` ids under `name`, of rows received at `since` (ms) or later, newest arrivals first."""
        return [row[0] for row in self._probe(table, key, "id", name, since, limit)]

    def find_tagged(self, key: str, name: int, since: int, limit: int) -> Iterator[tuple[int, int, int]]:
        """As `find`, of clicks: (id, the visitor's tag, the minute of the click), read as far as the caller goes."""
        return self._probe(CLICKS, key, "id, tag, minute", name, since, limit)  # type: ignore[return-value]

    def _probe(
        self, table: Table, key: str, columns: str, name: int, since: int, limit: int
    ) -> Iterator[tuple[int, ...]]:
        buckets = self._buckets.get(table.name, ([], []))[1]
        if not buckets:
            return iter(())
        first, low = self.first_bucket(table, since), name & LOW_MASK
        where = merging.places(first, buckets[-1], self._merged[table.name])[:_MOST_PLACES]
        statement = _probe_statement(table.index_table(key), columns, len(where), limit)
        return self._db.execute(statement, [*(bucket << LOW_BITS | low for bucket in where), first * BUCKET])

    def connection(self) -> apsw.Connection:
        """For the sums (frequency.py), which are read once at start."""
        return self._db


@lru_cache(maxsize=512)
def _probe_statement(table: str, columns: str, buckets: int, limit: int) -> str:
    # SQLite walks an IN list in the index's own order and stops at the limit: 10 µs for six buckets, where one
    # sub-select per bucket took 37. A merged group may begin before the window: its earlier rows are passed over.
    marks = ", ".join("?" * buckets)
    return f"SELECT {columns} FROM {table} WHERE k IN ({marks}) AND id >= ? ORDER BY k DESC, id DESC LIMIT {limit}"
