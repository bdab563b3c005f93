"""An agency's console: forty shops with orders of their own telling, and every page stays within its 60 KB."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from collector.config import PixelConfig, StoreConfig
from collector.console import campaigns, delivery, left_out, orders, reconcile, system, today, trust
from collector.console.bar import Asked
from collector.console.shell import Desk
from collector.core.capi.states import CapiState
from collector.storage.reports import reconcile as report
from collector.storage.reports.reader import Reader
from tests.kit.console_process import make_config
from tests.kit.console_store import DAY_MS, NOW, PIXEL, add_conversion, add_outbox, make_store

BUDGET_BYTES = 60_000
SHOPS = 40
MONTH = Asked(range="28")


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    db = make_store(tmp_path, clicks=0, conversions=0)
    db.execute("BEGIN")
    for n in range(3, SHOPS + 1):
        db.execute("INSERT INTO store (id, name) VALUES (?, ?)", (n, f"shop_{n}"))
        db.execute("INSERT INTO pixel (id, name) VALUES (?, ?)", (n, str(10**14 + n)))
    for n in range(1, SHOPS + 1):
        for day in range(27):
            at = NOW - day * DAY_MS
            row = add_conversion(db, at, store=n, order=f"o-{n}-{day}")
            add_outbox(db, row, int(CapiState.SENT), at, pixel=n, settled=at)
            told = (n, row, f"o-{n}-{day}", at, "paid", "10.00", "USD", "web", None, row, 1, at)
            db.execute(f"INSERT INTO shop_order VALUES ({','.join('?' * len(told))})", told)
        for lost in range(99 if n == 1 else 0):  # nobody has told us of these
            at = NOW - lost * 1000
            told = (n, -lost, f"lost-{lost:02}", at, "paid", "10.00", "USD", "web", None, None, 1, at)
            db.execute(f"INSERT INTO shop_order VALUES ({','.join('?' * len(told))})", told)
    db.execute("COMMIT")
    config = make_config(tmp_path)
    more = [
        StoreConfig(id=f"shop_{n}", name=f"Shop {n}", pixel=[PixelConfig(id=str(10**14 + n))])
        for n in range(3, SHOPS + 1)
    ]
    async with Reader(tmp_path / "collector.db") as reader:
        yield Desk(structs.replace(config, store=[*config.store, *more]), reader, lambda: NOW)
    db.close()


async def test_every_page_of_many_shops_is_within_its_budget(desk: Desk) -> None:
    pages: dict[str, Any] = {
        "today": await today.today(desk, MONTH),
        "orders": await orders.orders(desk, MONTH, orders.Filters(), ""),
        "campaigns": await campaigns.campaigns(desk, MONTH, "campaign", ""),
        "delivery": await delivery.delivery_page(desk, MONTH, ""),
        "trust": await trust.trust_page(desk, MONTH),
        "left out": await left_out.left_out(desk, MONTH),
        "system": await system.system(desk, MONTH),
        "reconcile": await reconcile.reconcile_page(desk, MONTH, "", "", ""),
        "missing": await reconcile.reconcile_page(desk, Asked(shop="store_demo", range="28"), "", "", "", "missing"),
    }
    assert {name: len(page.content) for name, page in pages.items() if len(page.content) > BUDGET_BYTES} == {}
    text = pages["reconcile"].content.decode()
    drawn = re.findall(r"<h2>([^<]+): from the shop to Meta", text)
    told = re.findall(r'<tr><td><a href="[^"]+">([^<]+)</a>', text.partition("More shops")[2])
    assert len(drawn) == 4
    assert len({*drawn, *told}) == SHOPS
    assert "lost-79" in pages["missing"].content.decode()


async def test_the_control_all_shops_drawn_break_the_budget(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconcile, "_DRAWN", SHOPS)
    assert len((await reconcile.reconcile_page(desk, MONTH, "", "", "")).content) > BUDGET_BYTES


async def test_a_days_orders_that_meta_does_not_have_stand_first(desk: Desk) -> None:
    asked = Asked(shop="store_demo", range="28")
    text = (await reconcile.reconcile_page(desk, asked, "123456789012345", "2026-09-21", "")).content.decode()
    table = text.partition("Orders of 2026-09-21")[2].partition("</section>")[0]
    assert re.findall(r"lost-\d\d", table)[0] == "lost-98"
    assert "o-1-0" not in table  # sent, and behind eighty that are missing
    assert "20 more of that day, of those that Meta has last" in table
    assert len(text) < BUDGET_BYTES


async def test_however_many_orders_a_day_has_none_that_meta_does_not_have_is_cut_off(tmp_path: Path) -> None:
    db, begin = make_store(tmp_path, clicks=0, conversions=0), NOW - NOW % DAY_MS
    db.execute("BEGIN")
    for n in range(100):  # sent before the others were lost; and on the next day as many that are lost
        row = add_conversion(db, begin + n, order=f"early-{n}")
        add_outbox(db, row, int(CapiState.SENT), begin + n, settled=begin + n)
        named = ((begin + n, "early", row), (begin + 100 + n, "lost", None), (begin + DAY_MS + n, "next", None))
        for at, name, conversion in named:
            told = (1, at, f"{name}-{n}", at, "paid", "10.00", "USD", "web", None, conversion, 1, at)
            db.execute(f"INSERT INTO shop_order VALUES ({','.join('?' * len(told))})", told)
    db.execute("COMMIT")
    db.close()
    store, day = make_config(tmp_path).store[0], "2026-09-21"
    async with Reader(tmp_path / "collector.db") as reader:
        for limit in (80, 100, 120, 300):
            found = await report.orders_of_day(reader, store, PIXEL, day, limit)
            names = [one.order.partition("-")[0] for one in found]
            assert names == (["lost"] * 100 + ["early"] * 100)[:limit]
        assert await report.count_of_day(reader, store, day) == 200
        for none in ("", "2026-09-31", "9999-12-31", "0001-01-01", "x", "\x00", "2026-09-21T05:00"):
            assert await report.count_of_day(reader, store, none) == 0
            assert await report.orders_of_day(reader, store, PIXEL, none) == []
