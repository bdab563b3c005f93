"""What doctor asks of each store is that store's own, whatever others have, and holds for a store without a pixel."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from pathlib import Path

import pytest
from msgspec import structs

from collector.console import system
from collector.console.bar import Asked
from collector.console.shell import Desk
from collector.core.capi.states import CapiState
from collector.storage.ground.damage import Missing
from collector.storage.ground.database import open_database
from collector.storage.ground.losses import stand_in
from collector.storage.reports import delivery, health, judged
from collector.storage.reports.health import Orders
from collector.storage.reports.reader import Reader
from tests.kit import journal_kit
from tests.kit.console_process import make_config
from tests.kit.console_store import (
    DAY_MS,
    HOUR_MS,
    NOW,
    OTHER_PIXEL,
    PIXEL,
    add_click,
    add_conversion,
    add_outbox,
    add_request,
    make_store,
)
from tests.kit.journal_kit import Kit, click, config_for, order
from tests.reports.test_reports_purchases import many


def test_orders_of_a_store_without_a_pixel_are_judged_and_its_system_page_comes(tmp_path: Path) -> None:
    config = config_for(tmp_path)
    config = structs.replace(config, store=[structs.replace(config.store[0], pixel=[])])

    async def look() -> None:
        async with Reader(tmp_path / "collector.db") as reader:
            found = await health.facts(reader, journal_kit.NOW)
            assert [(one.held, one.n) for one in found.orders.values()] == [(0, 1)]
            checks = {one.check: one for one in judged.judge(found, config, journal_kit.NOW)}
            assert "store.orders" in checks
            page = await system.system(Desk(config, reader, lambda: journal_kit.NOW), Asked())
            assert page.status_code == 200

    with Kit(tmp_path, config=config) as kit:
        kit.post(click("IwARofJane0000"), order("J1"))
        assert kit.rows("SELECT * FROM outbox") == []
        asyncio.run(look())


async def test_a_store_that_has_nothing_has_no_order_and_no_click(tmp_path: Path) -> None:
    make_store(tmp_path, clicks=0, conversions=0).close()
    async with Reader(tmp_path / "collector.db") as reader:
        found = await health.facts(reader, NOW)
    assert (found.orders, found.clicks) == ({}, {})
    assert (found.dead, found.bytes_a_day, found.waiting, found.successes) == (0, 0, [], {})


async def test_a_small_shops_last_order_is_seen_beside_a_large_one(tmp_path: Path) -> None:
    db = make_store(tmp_path, clicks=0, conversions=0)
    add_conversion(db, NOW - DAY_MS, store=2, order="zurich")
    many(db, health._ORDERS_NEWEST + 500, store=1, newest=NOW, seen=itertools.count())
    db.execute("UPDATE conversion SET received = ts")
    async with Reader(tmp_path / "collector.db") as reader:
        found = await health.facts(reader, NOW)
    db.close()
    assert found.orders == {
        "store_demo": Orders(NOW, 0, health._ORDERS_NEWEST),
        "store_zurich": Orders(NOW - DAY_MS, 0, 1),
    }
    said = [one.what for one in judged.judge(found, make_config(tmp_path), NOW) if one.check == "store.orders"]
    assert "store store_zurich: the last order came at 2026-09-20T14:13:20Z" in said


async def test_a_small_shops_last_click_is_seen_beside_a_large_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "_NEWEST", 10)
    db = make_store(tmp_path, clicks=0, conversions=0)
    add_click(db, NOW - DAY_MS, store=2)
    add_click(db, NOW - HOUR_MS, store=2, marks=1)  # a crawler is no visitor
    for n in reversed(range(20)):
        add_click(db, NOW - 1000 * n, store=1)
    async with Reader(tmp_path / "collector.db") as reader:
        found = await health.facts(reader, NOW)
    db.close()
    assert found.clicks["store_demo"] == NOW
    assert 0 <= NOW - DAY_MS - found.clicks["store_zurich"] < 900_000


async def test_a_small_shops_pixel_was_heard_by_meta_however_often_anothers_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "_LOOK_BACK", 10)
    db = make_store(tmp_path, clicks=0, conversions=0)
    row = add_conversion(db, NOW - DAY_MS, store=2, order="zurich")
    taken = add_request(db, NOW - DAY_MS + 900, pixel=2)
    add_outbox(db, row, CapiState.SENT, NOW - DAY_MS, pixel=2, settled=NOW - DAY_MS + 900, request=taken)
    for n in reversed(range(20)):
        add_request(db, NOW - 1000 * n)
    async with Reader(tmp_path / "collector.db") as reader:
        found = (await health.facts(reader, NOW)).successes
    db.close()
    assert found[PIXEL] == NOW
    assert 0 <= NOW - DAY_MS - found[OTHER_PIXEL] < 900_000


async def test_an_order_that_waits_counts_once_however_many_pixels_it_goes_to(tmp_path: Path) -> None:
    db = make_store(tmp_path, clicks=0, conversions=0)
    for n, states in enumerate([(2, 2), (2, 10), (10, 10), (10, 10), ()]):
        row = add_conversion(db, NOW - n * HOUR_MS, order=f"o-{n}")
        for pixel, state in enumerate(states, 1):
            settled = None if state == CapiState.HELD else NOW
            add_outbox(db, row, state, NOW - n * HOUR_MS, pixel=pixel, settled=settled)
    async with Reader(tmp_path / "collector.db") as reader:
        found = await health.facts(reader, NOW)
    db.close()
    assert found.orders["store_demo"] == Orders(NOW, 2, 5)


async def test_an_index_serves_each_stores_newest_orders(tmp_path: Path) -> None:
    db = make_store(tmp_path, clicks=0, conversions=0)
    steps = [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {health._ORDERS}", (1, 10))]
    db.close()
    assert "SEARCH c USING INDEX conversion_purchase (store=?)" in steps
    assert not [step for step in steps if "TEMP B-TREE" in step]


@pytest.mark.parametrize(("of_today", "of_before"), [(0, 30), (30, 0), (20, 10), (1, 59)])
async def test_the_growth_is_the_last_days_share_of_the_rows_however_many_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, of_today: int, of_before: int
) -> None:
    monkeypatch.setattr(health, "_NEWEST", 5)
    db = make_store(tmp_path, clicks=0, conversions=0)
    for n in range(of_before):
        add_click(db, NOW - 3 * DAY_MS + n)
    for n in range(of_today):
        add_click(db, NOW - HOUR_MS + n)
    async with Reader(tmp_path / "collector.db") as reader:
        found, size = (await health.facts(reader, NOW)).bytes_a_day, reader.size()
    db.close()
    assert found == size * of_today // (of_today + of_before)


@pytest.mark.parametrize("days_ago", [0, 2])
async def test_the_numbers_that_a_restore_skips_are_no_growth(tmp_path: Path, days_ago: int) -> None:
    """Whether it was within the last day or before."""
    now = journal_kit.NOW
    for day in (3, 2, 0):
        with Kit(tmp_path, now - day * DAY_MS - HOUR_MS) as kit:
            kit.post(*(order(f"{day}-{n}", kit.now) for n in range(20)))
        if day == days_ago:
            with contextlib.closing(open_database(kit.config.storage)) as db:
                newest = db.execute("SELECT max(id) FROM conversion").get
                stand_in(db, Missing("conversion", newest, newest + 100_000))
    async with Reader(tmp_path / "collector.db") as reader:
        found, size = (await health.facts(reader, now)).bytes_a_day, reader.size()
        assert (await reader.one("SELECT max(id) FROM conversion") or (0,))[0] > 100_000  # the control
    assert found == size * 20 // 60
