"""A month of three shops in three zones: every figure of the pages is the generator's, the report's and the CSV's."""

from __future__ import annotations

import csv
import io
import random
import re
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import pytest

from collector.config import Config, ConsoleConfig, StorageConfig, StoreConfig
from collector.console import campaigns, left_out, orders, today
from collector.console.bar import Asked
from collector.console.shell import Desk
from collector.core import flags
from collector.core.capi.states import CapiState
from collector.storage.reports.attribution import Question, attribution
from collector.storage.reports.reader import Reader
from tests.kit.console_store import DAY_MS, NOW, add_click, add_conversion, add_outbox, make_store

SHOPS = {"store_demo": "America/New_York", "store_zurich": "Europe/Zurich", "store_kolkata": "Asia/Kolkata"}
BUDGET_BYTES = 60_000
DEAD = ("refunded", "cancelled")
STATES = (CapiState.SENT, CapiState.SENT, CapiState.SENT, CapiState.HELD, CapiState.EXPIRED, CapiState.REJECTED)


class Sold(NamedTuple):
    """What the generator knows of an order."""

    shop: str
    ts: int
    value: Decimal
    currency: str
    campaign: str | None
    state: str
    reversed: bool


class Month(NamedTuple):
    desk: Desk
    sold: list[Sold]
    clicks: list[tuple[str, int, str, bool]]  # shop, ts, campaign, left out

    def days(self, shop: str, span: int = 28) -> tuple[int, int]:
        """The first and the last moment of the shop's last days, by the calendar of its zone."""
        zone = ZoneInfo(SHOPS[shop])
        last = datetime.fromtimestamp(NOW / 1000, zone).date()
        return (_midnight(last - timedelta(span - 1), zone), _midnight(last + timedelta(1), zone))

    def orders(self, shop: str) -> list[Sold]:
        since, until = self.days(shop)
        return [sold for sold in self.sold if sold.shop == shop and since <= sold.ts < until]


def _midnight(day: date, zone: ZoneInfo) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC).timestamp() * 1000)


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, list[Sold], list[Any]]]:
    folder = tmp_path_factory.mktemp("month")
    db = make_store(folder, clicks=0, conversions=0)
    db.execute("INSERT INTO store VALUES (3, 'store_kolkata')")
    rng, sold, clicks = random.Random(28), [], []
    moments = sorted(NOW - rng.randrange(31 * DAY_MS) for _ in range(360))  # rows come in the order of their receipt
    db.execute("BEGIN")
    for n, at in enumerate(moments):
        number = rng.randrange(3) + 1
        shop = list(SHOPS)[number - 1]
        campaign, out = f"c{rng.randrange(5)}", rng.random() < 0.1
        made = add_click(db, at, store=number, campaign=campaign, marks=flags.DENIED if out else 0)
        clicks.append((shop, at, campaign, out))
        if rng.random() < 0.4:
            continue
        known, value = not out and rng.random() < 0.7, Decimal(rng.randrange(100, 99_999)) / 100
        status, state = rng.choice((*DEAD, *["paid"] * 8)), rng.choice(STATES)
        currency = ("USD", "CHF", "INR")[number - 1]
        order: dict[str, Any] = {"store": number, "order": f"{shop}-{n}", "value": value, "currency": currency}
        row = add_conversion(db, at, click=made if known else None, order_status=status, capi=state, rng=rng, **order)
        add_outbox(db, row, int(state), at, settled=at if state >= CapiState.SENT else None)
        told = {10: "sent", 2: "held", 12: "expired", 11: "refused"}[int(state)]
        sold.append(Sold(shop, at, value, currency, campaign if known else None, told, status in DEAD))
        # What is in no figure of orders.
        add_conversion(db, at, click=made if known else None, **order | {"order": f"lead-{n}", "kind": "Lead"})
        add_conversion(db, at, marks=flags.TEST, **order | {"order": f"test-{n}"})
    db.execute("COMMIT")
    yield folder, sold, clicks
    db.close()


@pytest.fixture
async def month(generated: tuple[Path, list[Sold], list[Any]]) -> AsyncIterator[Month]:
    folder, sold, clicks = generated
    config = Config(
        storage=StorageConfig(data_dir=str(folder)),
        console=ConsoleConfig(timezone="Europe/Zurich"),
        store=[StoreConfig(id=shop, timezone=zone) for shop, zone in SHOPS.items()],
    )
    async with Reader(folder / "collector.db") as reader:
        yield Month(Desk(config, reader, lambda: NOW), sold, clicks)


def _text(page: bytes) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page.decode()))


def _tiles(page: bytes) -> dict[str, str]:
    found = re.findall(r'<h2 title="[^"]*">([^<]*)</h2><div class="(?:big|mid)">([^<]*)<', page.decode())
    return dict(found)


@pytest.mark.parametrize("shop", SHOPS)
async def test_todays_figures_are_the_generators(month: Month, shop: str) -> None:
    own, (since, until) = month.orders(shop), month.days(shop)
    page = (await today.today(month.desk, Asked(shop=shop, range="28"))).content
    tiles, value = _tiles(page), sum(sold.value for sold in own if not sold.reversed)
    people = sum(s == shop and since <= at < until and not out for s, at, _, out in month.clicks)
    assert tiles["Orders"] == str(len(own))
    assert tiles["Revenue"] == f"{own[0].currency} {value:,.2f}"
    assert f"{sum(sold.campaign is not None for sold in own)} of {len(own)}" in _text(page)
    assert tiles["Clicks"] == str(people)
    assert SHOPS[shop] in _text(page)
    assert len(page) < BUDGET_BYTES


@pytest.mark.parametrize("shop", SHOPS)
async def test_the_order_bar_adds_up_to_the_orders(month: Month, shop: str) -> None:
    own = Counter(sold.state for sold in month.orders(shop))
    page = _text((await today.today(month.desk, Asked(shop=shop, range="28"))).content)
    said = {"sent": "sent", "held": "held", "expired": "expired", "refused": "refused by Meta"}
    for state, n in own.items():
        assert f"{said[state]} {n} " in page, state
    assert f"of {own.total()} reached Meta" in page


@pytest.mark.parametrize("shop", SHOPS)
async def test_a_campaigns_line_is_the_reports_to_the_cent(month: Month, shop: str) -> None:
    since, until = month.days(shop)
    number = list(SHOPS).index(shop) + 1
    question = Question(model="last", by="campaign", since=since, until=until, store=number, window_days=90)
    report = await attribution(month.desk.reader, question)
    page = _text((await campaigns.campaigns(month.desk, Asked(shop=shop, range="28"), "campaign", "")).content)
    for line in report.lines:
        if line.label != "(not attributed)":
            assert f"{line.currency} {line.value:,.2f}" in page, line.label
    own = Counter(sold.campaign for sold in month.orders(shop))
    for campaign, n in own.items():
        if campaign is not None:
            clicks = sum(s == shop and since <= at < until and c == campaign and not o for s, at, c, o in month.clicks)
            assert re.search(rf"{campaign} {clicks} .{{0,40}}?{n} ", page), campaign


async def test_the_csv_has_each_order_once_and_its_filters_hold(month: Month) -> None:
    for filters, state in ((orders.Filters(), None), (orders.Filters(state="refused"), "refused")):
        lines = [line async for line in await orders.orders_csv(month.desk, Asked(range="28"), filters)]
        rows = list(csv.DictReader(io.StringIO(b"".join(lines).decode())))
        zone = ZoneInfo("Europe/Zurich")
        first = _midnight(datetime.fromtimestamp(NOW / 1000, zone).date() - timedelta(27), zone)
        wanted = [sold for sold in month.sold if sold.ts >= first and state in (None, sold.state)]
        assert sorted(Decimal(row["value"]) for row in rows) == sorted(sold.value for sold in wanted)
        assert len({row["order"] for row in rows}) == len(wanted)


async def test_the_list_pages_through_every_order_by_key(month: Month) -> None:
    seen: list[str] = []
    after = ""
    while True:
        page = (await orders.orders(month.desk, Asked(range="28"), orders.Filters(), after)).content.decode()
        seen += re.findall(r"/conversions/(conv_\w+)", page)
        assert len(page) < BUDGET_BYTES
        older = re.search(r'after=([\d-]+)">Older', page)
        if older is None:
            break
        after = older[1]
    lines = [line async for line in await orders.orders_csv(month.desk, Asked(range="28"), orders.Filters())]
    assert len(seen) == len(set(seen)) == len(lines) - 1


async def test_who_was_left_out_is_counted(month: Month) -> None:
    since, until = month.days("store_zurich")
    own = [out for s, at, _, out in month.clicks if s == "store_zurich" and since <= at < until]
    page = _text((await left_out.left_out(month.desk, Asked(shop="store_zurich", range="28"))).content)
    assert f"{sum(own)} of {len(own)} clicks" in page
    assert f"refused marketing {sum(own)} " in page


async def test_the_control_another_zone_has_other_days(month: Month) -> None:
    """Were days UTC's, the figures of single days would be others: so the comparisons above can fail."""
    for shop, name in SHOPS.items():
        days = [
            Counter(datetime.fromtimestamp(sold.ts / 1000, zone).date() for sold in month.orders(shop))
            for zone in (ZoneInfo(name), UTC)
        ]
        assert days[0] != days[1]


@pytest.mark.parametrize("shop", SHOPS)
async def test_each_day_has_its_orders(month: Month, shop: str) -> None:
    zone = ZoneInfo(SHOPS[shop])
    own = Counter(datetime.fromtimestamp(sold.ts / 1000, zone).date() for sold in month.orders(shop))
    page = _text((await today.today(month.desk, Asked(shop=shop, range="28"))).content)
    for day, n in own.items():
        assert f"{day:%a} {day.day} {day:%b} {n} " in page, day
