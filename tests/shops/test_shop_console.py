"""C4: the console's page of a shop's orders, and its metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from collector.console import metrics
from collector.console.reconcile import reconcile_page
from collector.console.shell import Desk
from collector.storage.reports.reader import Reader
from tests.journal.test_shop_orders import Shop
from tests.kit.journal_kit import HOUR, NOW, PIXEL, STORE
from tests.shops.test_shop_reconcile import paid

NUMBER = 9_990_000


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    one = Shop(tmp_path)
    one.tell(paid(NUMBER))
    one.tell(paid(NUMBER + 1, source_name="pos"))
    yield one
    one.kit.close()


def seen(shop: Shop, **asked: str) -> str:
    async def ask() -> str:
        async with Reader(shop.kit.journal.data_dir / "collector.db") as reader:
            desk = Desk(shop.kit.config, reader, lambda: NOW + HOUR)
            answer = await reconcile_page(desk, asked.get("store", ""), asked.get("pixel", ""), asked.get("day", ""))
            return answer.content.decode()

    return asyncio.run(ask())


def test_C4_a_day_leads_to_its_orders_and_each_to_its_story(shop: Shop) -> None:
    days = seen(shop)
    assert f"/reconcile?store={STORE}&amp;pixel={PIXEL}&amp;day=2026-09-21" in days
    assert str(NUMBER) not in days
    orders = seen(shop, store=STORE, pixel=PIXEL, day="2026-09-21")
    assert "/conversions/conv_" in orders
    assert "channel_pos" in orders


@pytest.mark.parametrize("day", ["", "x", "9999-99-99", "0001-01-01", "2026-09-21\0", "<script>"])
def test_any_day_in_the_address_is_answered(shop: Shop, day: str) -> None:
    assert "<script>" not in seen(shop, store=STORE, pixel=PIXEL, day=day).partition("<main")[2]


def test_C4_metrics_of_each_store(shop: Shop) -> None:
    async def ask() -> str:
        async with Reader(shop.kit.journal.data_dir / "collector.db") as reader:
            return await metrics.metrics_text(Desk(shop.kit.config, reader, lambda: NOW + HOUR))

    text = asyncio.run(ask())
    assert f'collector_shop_orders{{store="{STORE}",class="waiting"}} 1' in text
    assert f'collector_shop_orders{{store="{STORE}",class="ignored"}} 1' in text
    assert f'collector_shop_accuracy{{store="{STORE}"}} 50' in text
