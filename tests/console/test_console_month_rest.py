"""The month again: shared links, the weekly report, Live, Events, System and the ads' cost are the generator's too."""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from statistics import median
from zoneinfo import ZoneInfo

import pytest

from collector import __version__
from collector.console import campaigns, delivery, events, live, orders, share, system, today
from collector.console.bar import Asked
from collector.console.shell import Desk
from collector.console.words import seconds
from collector.core import weekly
from collector.core.saying import money, percent
from collector.core.weeks import week_before
from collector.storage.ground.schema import newest_schema
from collector.storage.reports.reader import Reader
from collector.storage.reports.weekly import weekly as of_a_week
from tests.console.test_console_month import Month, _text, people
from tests.kit import console_world
from tests.kit.console_store import DAY_MS, IDS, NOW
from tests.kit.console_world import CAMPAIGNS, NAMES, PIXELS, SHOPS, Sold, World, midnight, shared_links

SHOWN = {"sent": "sent", "held": "held", "expired": "expired", "refused": "refused", "on purpose": "left out"}


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    world = console_world.trouble(tmp_path_factory.mktemp("month"), NOW, clicks=700)
    yield world
    world.db.close()


@pytest.fixture
async def month(generated: World) -> AsyncIterator[Month]:
    async with Reader(generated.folder / "collector.db") as reader:
        yield Month(Desk(generated.config, reader, lambda: NOW), generated)


def _day(sold: Sold) -> str:
    at = datetime.fromtimestamp(sold.ts / 1000, ZoneInfo(SHOPS[sold.shop])).date()
    return f"{at:%a} {at.day} {at:%b}"


def _value(orders: list[Sold]) -> str:
    kept = [sold.value for sold in orders if not sold.reversed]
    return money(sum(kept, Decimal(0)), orders[0].currency) if orders else "–"


@pytest.mark.parametrize("shop", SHOPS)
async def test_todays_changes_and_hours_to_the_order_are_the_generators(month: Month, shop: str) -> None:
    (since, until), world = month.world.days(shop), month.world
    before = since - 28 * DAY_MS  # no clock changes in these weeks
    page = _text((await today.today(month.desk, Asked(shop=shop, range="28"))).content)
    spans = ((before, since), (since, until))
    sold = [sum(one.shop == shop and a <= one.ts < b for one in world.sold) for a, b in spans]
    came = [sum(s == shop and a <= at < b and not apart for s, at, _, apart in world.clicks) for a, b in spans]
    for name, (then, now) in (("Orders", sold), ("Clicks", came)):
        change = 100 * (now - then) / then
        said = f"{change:+.0f} %" if abs(change) >= 0.5 else "as before"
        assert f" {name} {now:,} {said} " in page, name
    assert f" {100 * sold[0] / came[0]:.1f} before " in page
    clicked = dict(world.db.execute("SELECT c.id, k.ts FROM conversion c JOIN click k ON k.id = c.click"))
    lags = [one.ts - clicked[one.conversion] for one in world.orders(shop) if one.campaign is not None]
    assert f"Click to order {seconds(median(max(lag, 0) for lag in lags) / 1000)} median" in page


async def test_how_each_pixel_stands_is_the_generators(month: Month) -> None:
    page = _text((await delivery.delivery_page(month.desk, Asked(range="28"), "")).content)
    for shop, pixel in PIXELS.items():
        own = Counter(sold.state for sold in month.world.sold if sold.shop == shop)
        queue = rf"{own['waiting']} \d+ d ago {own['held']} " if own["waiting"] else rf"0 – {own['held']} – "
        assert re.search(rf"{re.escape(NAMES[shop])} {pixel} .{{0,60}}? {queue}", page), (shop, own)


async def test_a_shared_links_figures_are_the_generators(month: Month) -> None:
    (link,), world = shared_links(month.world.folder), month.world
    own, clicks = world.orders("store_demo"), people(world, "store_demo")
    page = _text((await share.shared(month.desk, link.removeprefix("/share/"))).content)
    known = [sold for sold in own if sold.campaign is not None]
    tiles = f"Orders {len(own)} Value {_value(own)} Attributed {percent(len(known), len(own))} Clicks {clicks} "
    assert f"{tiles}Per 100 clicks {100 * len(own) / clicks:.1f} " in page
    for day in {_day(sold) for sold in own}:
        mine = [sold for sold in own if _day(sold) == day]
        part = sum(sold.campaign is not None for sold in mine)
        assert re.search(rf"{day} .{{0,60}}?{len(mine)} {part} \d+ {re.escape(_value(mine))} ", page), day
    since, until = world.days("store_demo")
    for name in CAMPAIGNS:
        came = sum(
            shop == "store_demo" and since <= at < until and one == name and not apart
            for shop, at, one, apart in world.clicks
        )
        mine = [sold for sold in known if sold.campaign == name]
        sure = percent(sum(sold.proven for sold in mine), len(mine))
        said = f"{came} {len(mine)} {percent(len(mine), came)} {sure} {_value(mine)} "
        assert re.search(rf"{re.escape(name)} .{{0,60}}?{re.escape(said)}", page), (name, said)
    assert f"{len(own) - len(known)} without a known click" in page


async def test_the_weekly_reports_figures_are_the_generators(month: Month) -> None:
    days = week_before(datetime.fromtimestamp(NOW / 1000, ZoneInfo("Europe/Zurich")).date())
    week = await of_a_week(month.desk.reader, month.world.config, days)
    said = weekly.text(week)
    assert [shop.name for shop in week.shops] == list(NAMES.values())
    for shop, found in zip(SHOPS, week.shops, strict=True):
        zone = ZoneInfo(SHOPS[shop])
        since, until = midnight(days.first, zone), midnight(days.last + timedelta(1), zone)
        own = [sold for sold in month.world.sold if sold.shop == shop and since <= sold.ts < until]
        clicks = sum(s == shop and since <= at < until and not apart for s, at, _, apart in month.world.clicks)
        assert (found.own.orders, found.own.clicks) == (len(own), clicks)
        assert found.own.attributed == sum(sold.campaign is not None for sold in own)
        assert found.own.parts.get("sent", 0) == sum(sold.state == "sent" for sold in own)
        lines = Counter(sold.campaign for sold in own if sold.campaign is not None)
        assert {name: line.orders for name, line in found.own.campaigns.items() if line.orders} == lines
        part = said.partition(f"{found.name} (")[2].partition("\n\n")[0]
        assert re.search(rf"Orders +{len(own)} ", part)
        assert _value(own).split()[1] in part


def _rows(page: bytes, begin: str = "<tr>") -> dict[str, str]:
    """The lines of a page that lead to an order or a click, as text, by its id."""
    found = {}
    for row in page.decode().split(begin)[1:]:
        if link := re.search(r'href="/(?:conversions|clicks)/(\w+)"', row):
            found[link[1]] = html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", row)))
    return found


async def test_what_live_and_events_say_of_an_order_is_the_generators(month: Month) -> None:
    sold = {IDS.public("conv", one.conversion): one for one in month.world.sold}
    told = _rows((await live.live(month.desk, Asked(), "order")).content, "<li>")
    mine = {number: text for number, text in told.items() if number in sold}
    assert len(mine) > 10
    for number, text in mine.items():
        one = sold[number]
        known = "click known, " if one.campaign is not None else "no click known"
        state = SHOWN.get(one.state, "tried again|waiting")
        assert NAMES[one.shop] in text
        assert f"Purchase of {money(one.value, one.currency)} · {known}" in text
        assert re.search(rf"at Meta: ({state}) ", text), text
    newest = _rows((await events.last(month.desk, "")).content)
    listed = {number: text for number, text in newest.items() if number in sold}
    assert listed
    for number, text in listed.items():
        one = sold[number]
        assert (" Purchase " in text, re.search(r" \d+ · ", text) is not None) == (True, one.campaign is not None)
        assert re.search(rf" ({SHOWN.get(one.state, 'tried again|waiting')}) ", text), (text, one.state)


async def test_what_live_says_of_a_click_is_the_generators(month: Month) -> None:
    """The generator makes one click a visit, so its n-th is row n."""
    told = _rows((await live.live(month.desk, Asked(), "click")).content, "<li>")
    assert len(told) > 10
    for number, text in told.items():
        shop, _, campaign, apart = month.world.clicks[(IDS.row("click", number) or 0) - 1]
        assert NAMES[shop] in text
        assert (f"a click on {campaign}" in text, ", kept apart" in text) == (True, bool(apart))


async def test_each_listed_order_is_the_generators(month: Month) -> None:
    sold = {IDS.public("conv", one.conversion): one for one in month.world.sold}
    rows = _rows((await orders.orders(month.desk, Asked(range="28"), orders.Filters(), "")).content)
    assert len(rows) == 50
    for number, text in rows.items():
        one = sold[number]
        sure = "proven" if one.proven else "likely" if one.campaign is not None else "none"
        state = SHOWN.get(one.state, "tried again|waiting")
        assert f" {money(one.value, one.currency)} {NAMES[one.shop]} " in text
        assert re.search(rf" ({state}) .*{sure} {re.escape(one.campaign or '–')} ", text), (text, one)


async def test_systems_figures_are_the_generators(month: Month) -> None:
    page = _text((await system.system(month.desk, Asked())).content)
    for said in (
        f"Collector {__version__} Database's schema {newest_schema()} ",
        f"Database {month.desk.reader.size() / 1e6:.1f} MB ",
        "Free 2.1 GB Full in 3 days ",
        "Newest backup 9 d ago ",
        "keeper silent 4 h ago ",
        "courier alive ",
        "reload settings [alerts] backlog_minutes ",
        "release version 0.3.0 ",
        "keys create store store_demo, kind secret ",
    ):
        assert said in page, said
    for name, zone in SHOPS.items():
        assert f"Days of {NAMES[name]} {zone} " in page


async def test_what_the_ads_cost_is_the_generators_to_the_cent(month: Month) -> None:
    today = NOW // DAY_MS
    spent = [sum(Decimal(20 + 3 * n + day % 5) for day in range(today - 27, today + 1)) for n in range(6)]
    page = _text((await campaigns.campaigns(month.desk, Asked(range="28"), "campaign", "")).content)
    for name, spend in zip((*CAMPAIGNS, "(not joined)"), spent, strict=True):
        line = page.partition(f" {name} ")[2][:200]
        assert f" {money(spend, 'USD')} " in line, name
    assert f" {money(sum(spent, Decimal(0)), 'USD')} " in page.partition(" All ")[2]
