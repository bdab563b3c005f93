"""An order's number is looked for among every shop's purchases first, however many shops and events there are."""

from __future__ import annotations

from pathlib import Path

import pytest

from collector.storage.reports import orders
from collector.storage.reports.reader import Reader
from tests.kit.console_process import make_config
from tests.kit.console_store import NOW, add_conversion, make_store

SHOPS = 30


async def _found(folder: Path, number: str) -> list[int]:
    async with Reader(folder / "collector.db") as reader:
        return await orders.of_order(reader, make_config(folder), number, await orders.seen_events(reader))


async def test_with_many_shops_and_names_of_events_each_shops_order_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orders, "_MOST_NAMES", 20)
    db = make_store(tmp_path, clicks=0, conversions=0)
    db.executemany("INSERT INTO store VALUES (?, ?)", [(n, f"shop_{n}") for n in range(3, SHOPS + 1)])
    db.executemany("INSERT INTO event_name VALUES (1, ?, 0)", [(f"Own{n}",) for n in range(9)])
    wanted = [add_conversion(db, NOW, store=n, order="1001") for n in range(1, SHOPS + 1)]
    add_conversion(db, NOW, order="1002")
    db.close()
    assert await _found(tmp_path, "1001") == wanted


async def test_the_events_that_there_are_are_known(tmp_path: Path) -> None:
    db = make_store(tmp_path, clicks=0, conversions=0)
    for n, kind in enumerate(("Lead", "AddToCart", "Purchase")):
        add_conversion(db, NOW, store=1 + n % 2, order=f"o-{n}", kind=kind)
    db.execute("INSERT INTO event_name VALUES (2, 'Own', 1)")
    rows = [add_conversion(db, NOW, order="77", kind=kind) for kind in ("Lead", "Purchase")]
    db.close()
    async with Reader(tmp_path / "collector.db") as reader:
        assert await orders.seen_events(reader) == {"Lead", "AddToCart", "Purchase", "Own"}
    assert await _found(tmp_path, "77") == rows
