"""Merging full buckets of the index changes where entries are, and nothing that anybody finds."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import apsw
import pytest

from collector.config import StorageConfig
from collector.exchange.rows import ClickRow
from collector.storage.ground.database import open_database
from collector.storage.index import changing, index, merging
from collector.storage.rules import tables
from collector.storage.rules.tables import CLICKS, MINUTE_MS
from tests.kit.journal_kit import Kit, click

BUCKET = 8
GROUP_ROWS = BUCKET * merging.GROUP
ROWS = GROUP_ROWS * 3 + 21  # three full groups, two full buckets and a part of one
NAMES = 12  # few, so that each has entries in many buckets


@pytest.fixture(autouse=True)
def small_buckets(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for module in (index, tables, merging):
        monkeypatch.setattr(module, "BUCKET", BUCKET)
    index._fold_statement.cache_clear()
    yield
    index._fold_statement.cache_clear()


class Shelf:
    """An index over clicks of a few visitors, its folder's connection, and a reader that was opened before merging."""

    def __init__(self, folder: Path) -> None:
        self.config, self.folder = StorageConfig(data_dir=str(folder)), folder
        self.main = open_database(self.config)
        random = Random(4)
        self.names = [random.getrandbits(63) for _ in range(NAMES)]
        self.rows = []
        for i in range(1, ROWS + 1):
            ts = i * MINUTE_MS
            keys = (random.getrandbits(63), self._any(random), None, self._any(random), 5, None)
            self.rows.append(ClickRow(i, 1, ts, ts, ts, *keys, 0, 0, b""))
        self.main.executemany(f"INSERT INTO click VALUES ({', '.join('?' * 14)})", self.rows)
        self.db = index.open_index(folder, self.config)
        assert index.fold(self.db, CLICKS, ROWS) == ROWS
        self.reader = self.fresh()

    def _any(self, random: Random) -> int:
        return self.names[random.randrange(NAMES)]

    def fresh(self) -> index.IndexReader:
        reader = index.IndexReader(self.folder, self.config)
        reader.refresh(CLICKS)
        return reader

    def merge(self) -> bool:
        return merging.merge(self.db, CLICKS, index.watermark(self.db, CLICKS))

    def found(self, reader: index.IndexReader, since: int) -> list[Any]:
        """What every name leads to, of rows received since."""
        out: list[Any] = []
        for name in self.names:
            out.append(reader.find(CLICKS, "visitor", name, since, 5))
            out.append(reader.find(CLICKS, "visitor", name, since, ROWS))
            out.append(list(reader.find_tagged("ip", name, since, ROWS)))
        return out

    def expected(self, name: int, since: int) -> list[int]:
        """By the rows themselves: from the bucket on in which what was received since begins."""
        first = since // MINUTE_MS // BUCKET * BUCKET
        return [row.id for row in reversed(self.rows) if row.visitor_k == name and row.id >= first]


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


# In the first group, at a group's first bucket, inside a group, in what is never merged.
WINDOWS = [0, 3 * BUCKET, GROUP_ROWS, GROUP_ROWS + 3 * BUCKET, 3 * GROUP_ROWS + BUCKET]


def test_every_look_up_finds_the_same_at_every_step(shelf: Shelf) -> None:
    """By a reader that knows how far merging is, and by one that has not heard of it since it began."""
    before = {since: shelf.found(shelf.reader, since * MINUTE_MS) for since in WINDOWS}
    for since in WINDOWS:
        assert before[since][1] == shelf.expected(shelf.names[0], since * MINUTE_MS)
    steps = 0
    while shelf.merge():
        steps += 1
        if steps % 16 == 0 or steps % merging.SLICES == 1:
            for since in WINDOWS:
                assert shelf.found(shelf.fresh(), since * MINUTE_MS) == before[since]
                assert shelf.found(shelf.reader, since * MINUTE_MS) == before[since]
    assert steps == 3 * len(CLICKS.keys) * merging.SLICES
    assert {since: shelf.found(shelf.fresh(), since * MINUTE_MS) for since in WINDOWS} == before


def test_full_groups_alone_are_merged_and_each_leaves_one_place(shelf: Shelf) -> None:
    while shelf.merge():
        pass
    buckets = [k >> 44 for (k,) in shelf.db.execute("SELECT DISTINCT k FROM click_visitor ORDER BY k")]
    whole = merging.GROUP
    assert sorted(set(buckets)) == [0, whole, 2 * whole, 3 * whole, 3 * whole + 1, 3 * whole + 2]
    assert merging.merged_through(shelf.db, CLICKS) == 3 * whole
    assert shelf.db.execute("SELECT count(*) FROM click_visitor").get == ROWS


def test_a_look_up_probes_a_group_once() -> None:
    assert merging.places(0, 50, 0) == (*range(50, -1, -1),)
    assert merging.places(0, 50, 48) == (50, 49, 48, 40, 32, 24, 16, 8, 0)
    assert merging.places(25, 50, 48) == (50, 49, 48, 40, 32, 24)
    assert merging.places(45, 50, 0) == (50, 49, 48, 47, 46, 45, 40)  # the group of 45 may be merged by now
    assert merging.places(40, 47, 48) == (40,)
    assert merging.places(0, 0, 0) == (0,)


def test_a_click_that_moves_in_time_is_found_at_its_new_minute_wherever_its_entry_is(shelf: Shelf) -> None:
    for row in (shelf.rows[3], shelf.rows[ROWS - 2]):
        for _ in range(merging.SLICES * len(CLICKS.keys) + 5):
            shelf.merge()
        moved = row._replace(ts=row.ts - 2 * MINUTE_MS)
        shelf.main.execute("UPDATE click SET ts = ? WHERE id = ?", (moved.ts, moved.id))
        changing.note(shelf.main, row)
        index.follow(shelf.db)
        assert row.ip_k is not None
        minutes = {i: minute for i, _, minute in shelf.fresh().find_tagged("ip", row.ip_k, 0, ROWS)}
        assert minutes[row.id] == row.id - 2


def test_a_purge_takes_merged_groups_whole_and_leaves_the_rest(shelf: Shelf) -> None:
    while shelf.merge():
        pass
    kept = GROUP_ROWS + 3 * BUCKET  # inside the second group
    shelf.main.execute("DELETE FROM click WHERE id < ?", (kept,))
    while index.purge(shelf.db, CLICKS, 50):
        pass
    left = [row[0] for row in shelf.db.execute("SELECT id FROM click_visitor ORDER BY id")]
    assert left == list(range(GROUP_ROWS, ROWS + 1))
    assert shelf.found(shelf.fresh(), kept * MINUTE_MS)[1] == shelf.expected(shelf.names[0], kept * MINUTE_MS)


def test_a_damaged_index_forgets_how_far_it_was_merged(shelf: Shelf) -> None:
    while shelf.merge():
        pass
    before = shelf.found(shelf.fresh(), 0)
    shelf.db.close()
    other = apsw.Connection(str(shelf.folder / "index.db"))
    other.execute("PRAGMA application_id = 7")  # another database's
    other.close()
    shelf.db = index.open_index(shelf.folder, shelf.config)
    while index.fold(shelf.db, CLICKS, ROWS) < ROWS:
        pass
    assert merging.merged_through(shelf.db, CLICKS) == 0
    assert shelf.found(shelf.fresh(), 0) == before


def test_the_flusher_merges_by_itself_and_the_writer_hears_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from collector.storage.journal import flusher, transaction

    for module in (flusher, transaction):
        monkeypatch.setattr(module, "FOLD_ROWS", 10)
        monkeypatch.setattr(module, "FOLD_AT_ONCE", 10)
    with Kit(tmp_path) as kit:
        for n in range(GROUP_ROWS + 20):
            kit.post(click(f"IwARmerged{n:04}", visitorId=f"v{n % 3}"))
        name = kit.journal.names.name(1, "visitor", "v1")
        wanted = [n + 1 for n in reversed(range(GROUP_ROWS + 20)) if n % 3 == 1]
        lookup, until = kit.transaction.lookup, time.monotonic() + 20
        while lookup.index._merged.get("click", 0) < merging.GROUP and time.monotonic() < until:
            assert lookup.find(CLICKS, "visitor", name, 0, 1000) == wanted
            kit.submit([])
            time.sleep(0.02)
        assert lookup.index._merged["click"] == merging.GROUP
        assert lookup.find(CLICKS, "visitor", name, 0, 1000) == wanted
