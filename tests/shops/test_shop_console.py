"""C4: the console's page of a shop's orders, and its metrics."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import structs

from collector.cli import status
from collector.config import EdgeConfig, ShopConfig
from collector.config_loader import for_role, load
from collector.console import metrics
from collector.console.bar import Asked
from collector.console.reconcile import reconcile_page
from collector.console.shell import Desk
from collector.core import times
from collector.storage.reports import commands
from collector.storage.reports.reader import Reader
from collector.storage.reports.shop_ways import ShopWays, ways
from tests.journal.test_shop_orders import Shop
from tests.kit import shops as made
from tests.kit.journal_kit import DAY, HOUR, NOW, PIXEL, STORE
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
            bar = Asked(shop=asked.get("store", ""), range="28")
            answer = await reconcile_page(desk, bar, asked.get("pixel", ""), asked.get("day", ""), "")
            return answer.content.decode()

    return asyncio.run(ask())


def test_C4_a_day_leads_to_its_orders_and_each_to_its_story(shop: Shop) -> None:
    days = seen(shop)
    assert re.search(rf"/reconcile\?shop={STORE}&amp;[^\"]*pixel={PIXEL}&amp;day=2026-09-21", days)
    assert str(NUMBER) not in days
    orders = seen(shop, store=STORE, pixel=PIXEL, day="2026-09-21")
    assert "/conversions/conv_" in orders
    assert "channel_pos" in orders


WAYS = structs.replace(
    made.STORE, id=STORE, webhook_secrets={"shopify": ""}, shop=ShopConfig(platform="shopify", url="https://a.example")
)


def test_C8_each_way_is_named_with_what_came_by_it(shop: Shop) -> None:
    db = shop.kit.transaction._db
    db.execute(
        "INSERT INTO counter VALUES (?, 1, 'shop.ping', 2), (?, 1, 'shop.refused.no_secret', 3)", [NOW // DAY] * 2
    )
    db.execute("INSERT INTO shop_pull VALUES (?, 1, ?, ?, NULL)", (STORE, NOW - HOUR, NOW))
    config = structs.replace(shop.kit.config, store=[WAYS], edge=EdgeConfig(public_url="https://t.shop.example/m/"))

    async def ask(at: int) -> list[ShopWays]:
        async with Reader(shop.kit.journal.data_dir / "collector.db") as reader:
            return await ways(reader, config, at)

    (found,) = asyncio.run(ask(NOW + HOUR))
    told = {one.name: one for one in found.webhooks}
    assert told["shopify"].url == f"https://t.shop.example/m/v1/webhooks/shopify/{STORE}"
    assert told["shopify"].last_order == told["shopify"].last_delivery is not None
    assert "orders/paid" in told["shopify"].topics
    assert "orders/edited" not in told["shopify"].topics  # it is ignored
    assert (told["paddle"].last_delivery, told["kiosk"].last_order) == (None, None)
    assert (found.last_ping, found.refused7) == (times.text(NOW)[:10], {"no_secret": 3})
    assert (found.pulls_from, found.last_pull, found.pulled_to) == ("shopify", times.text(NOW), times.text(NOW - HOUR))
    assert asyncio.run(ask(NOW + 9 * DAY))[0].refused7 == {}
    shop.kit.config = config
    assert "https://t.shop.example/m/v1/webhooks/kiosk/" in (page := seen(shop))
    assert "complete to" in page


def test_C8_status_names_the_address_to_paste(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    config = structs.replace(shop.kit.config, store=[WAYS])
    found = commands.status(config, NOW + HOUR)
    status._show(found)
    out = capsys.readouterr().out
    assert f"https://YOUR-ADDRESS/v1/webhooks/shopify/{STORE}" in out
    assert "shopify topics: orders/create, orders/paid" in out


def test_C8_a_process_that_holds_no_secret_knows_which_webhooks_have_one(tmp_path: Path) -> None:
    (tmp_path / "hook").write_text("hush")
    text = f"[[store]]\nid = '{STORE}'\n[store.webhook_secrets]\nshopify_file = 'hook'\nstripe = 'whsec_x'\n"
    (tmp_path / "collector.toml").write_text(text)
    config = load(str(tmp_path / "collector.toml"), {}, {}, role="none")
    assert config.store[0].webhook_secrets == {"shopify": "", "stripe": ""}
    whole = load(str(tmp_path / "collector.toml"), {}, {}, role="all")
    assert for_role(whole, "console").store[0].webhook_secrets == {"shopify": "", "stripe": ""}
    assert for_role(whole, "edge").store[0].webhook_secrets == {"shopify": "hush", "stripe": "whsec_x"}


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
