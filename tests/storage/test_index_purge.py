"""Entries of clicks that retention has deleted leave the index, and the others stay findable."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from collector.config import StorageConfig
from collector.storage.ground.database import connect, open_database
from collector.storage.index import index
from collector.storage.rules import tables
from collector.storage.rules.tables import CLICKS

BUCKET = 8


@pytest.fixture
def small_buckets(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for module in (index, tables):
        monkeypatch.setattr(module, "BUCKET", BUCKET)
    index._fold_statement.cache_clear()
    yield
    index._fold_statement.cache_clear()  # else the next test folds into these buckets


def test_a_deleted_bucket_leaves_the_index_and_the_rest_is_found(tmp_path: Path, small_buckets: None) -> None:
    config = StorageConfig(data_dir=str(tmp_path))
    main = open_database(config)
    rows = [(i, 1, i, i, i, 1000 + i, None, None, None, None, None, 0, 0, b"") for i in range(1, 31)]
    main.executemany(f"INSERT INTO click VALUES ({', '.join('?' * 14)})", rows)
    folded = index.open_index(tmp_path, config)
    assert index.fold(folded, CLICKS, 100) == 30
    main.execute("DELETE FROM click WHERE id < 20")

    gone = sum(iter(lambda: index.purge(folded, CLICKS, 3), 0))

    assert gone == 15  # ids 1..15 are the buckets 0 and 1; id 20 keeps its bucket 2
    reader = index.IndexReader(tmp_path, config)
    reader.refresh(CLICKS)
    assert reader.find(CLICKS, "fbclid", 1000 + 25, 0, 8) == [25]
    left = connect(tmp_path / "index.db", config, readonly=True).execute("SELECT min(id) FROM click_fbclid").get
    assert left == 16


def test_sums_of_days_that_no_order_asks_for_leave_the_index(tmp_path: Path) -> None:
    config = StorageConfig(data_dir=str(tmp_path))
    main = open_database(config)
    main.execute("INSERT INTO store (name) VALUES ('one'), ('two')")
    day = 86_400_000
    rows = [
        (1 + n, store, n * day, n * day, n * day, n, None, None, None, n, None, 0, 0, b"")
        for store, days in ((1, range(1, 131)), (2, (131,)))
        for n in days
    ]
    main.executemany(f"INSERT INTO click VALUES ({', '.join('?' * 14)})", rows)
    folded = index.open_index(tmp_path, config)
    index.fold(folded, CLICKS, 1_000)

    gone = sum(iter(lambda: index.purge(folded, CLICKS, 3), 0))

    assert gone == 16
    for table in ("ua_day", "visitor_sketch"):
        days = folded.execute(f"SELECT store, min(day), max(day) FROM {table} GROUP BY store ORDER BY store").fetchall()
        assert days == [(1, 9, 130), (2, 131, 131)]
