"""A month of three shops in three zones: every figure of the pages is the generator's, the report's and the CSV's."""

from __future__ import annotations

import csv
import html
import io
import re
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit
from zoneinfo import ZoneInfo

import pytest

from collector.console import app, campaigns, credit, delivery, left_out, order, orders, reconcile, shell, today, trust
from collector.console.bar import Asked, Unknown
from collector.console.shell import Desk
from collector.core.credit import CREDIT_MODELS
from collector.errors import TooSlow
from collector.storage.reports import commands, totals
from collector.storage.reports import reconcile as shops_count
from collector.storage.reports.attribution import Question, attribution
from collector.storage.reports.reader import Reader
from tests.kit import console_world
from tests.kit.console_store import IDS, NOW
from tests.kit.console_world import NAMES, PIXELS, SHOPS, Sold, World, midnight

BUDGET_BYTES = 60_000
STATE_WORDS = {"sent": "sent", "held": "held", "expired": "expired", "refused": "refused by Meta"}
STATE_WORDS |= {"on purpose": "left out on purpose", "waiting": "waiting"}


class Month(NamedTuple):
    desk: Desk
    world: World


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    world = console_world.trouble(tmp_path_factory.mktemp("month"), NOW, clicks=700)
    yield world
    world.db.close()


@pytest.fixture
async def month(generated: World) -> AsyncIterator[Month]:
    async with Reader(generated.folder / "collector.db") as reader:
        yield Month(Desk(generated.config, reader, lambda: NOW), generated)


def _text(page: bytes) -> str:
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page.decode())))


def _tiles(page: bytes) -> dict[str, str]:
    found = re.findall(r'<h2 title="[^"]*">([^<]*)</h2><div class="(?:big|mid)">([^<]*)<', page.decode())
    return dict(found)


def people(world: World, shop: str) -> int:
    since, until = world.days(shop)
    return sum(s == shop and since <= at < until and not apart for s, at, _, apart in world.clicks)


@pytest.mark.parametrize("shop", SHOPS)
async def test_todays_figures_are_the_generators(month: Month, shop: str) -> None:
    own = month.world.orders(shop)
    page = (await today.today(month.desk, Asked(shop=shop, range="28"))).content
    tiles, value = _tiles(page), sum(sold.value for sold in own if not sold.reversed)
    assert tiles["Orders"] == str(len(own))
    assert tiles["Revenue"] == f"{own[0].currency} {value:,.2f}"
    assert f"{sum(sold.campaign is not None for sold in own)} of {len(own)}" in _text(page)
    assert tiles["Clicks"] == str(people(month.world, shop))
    assert SHOPS[shop] in _text(page)


@pytest.mark.parametrize("shop", SHOPS)
async def test_the_order_bar_adds_up_to_the_orders(month: Month, shop: str) -> None:
    own = Counter(sold.state for sold in month.world.orders(shop))
    page = _text((await today.today(month.desk, Asked(shop=shop, range="28"))).content)
    for state, n in own.items():
        assert f"{STATE_WORDS[state]} {n} " in page, state
    assert f"of {own.total()} reached Meta" in page


@pytest.mark.parametrize("shop", SHOPS)
async def test_a_campaigns_line_is_the_reports_to_the_cent(month: Month, shop: str) -> None:
    since, until = month.world.days(shop)
    number = list(SHOPS).index(shop) + 1
    question = Question(model="last", by="campaign", since=since, until=until, store=number, window_days=90)
    report = await attribution(month.desk.reader, question)
    page = _text((await campaigns.campaigns(month.desk, Asked(shop=shop, range="28"), "campaign", "")).content)
    for line in report.lines:
        if line.label != "(not attributed)":
            assert f"{line.currency} {line.value:,.2f}" in page, line.label
    own = Counter(sold.campaign for sold in month.world.orders(shop))
    for campaign, n in own.items():
        if campaign is not None:
            clicks = sum(
                s == shop and since <= at < until and c == campaign and not apart
                for s, at, c, apart in month.world.clicks
            )
            assert re.search(rf"{re.escape(campaign)} {clicks} .{{0,40}}?{n} ", page), campaign


@pytest.mark.parametrize("model", CREDIT_MODELS)
@pytest.mark.parametrize("by", ["campaign", "landing-page"])
async def test_every_credit_model_is_the_reports_and_adds_up_to_the_orders(month: Month, by: Any, model: Any) -> None:
    asked, (since, until) = Asked(shop="store_demo", range="28"), month.world.days("store_demo")
    page = _text((await credit.credit(month.desk, asked, by, model, "90")).content)
    question = Question(model=model, by=by, since=since, until=until, store=1, window_days=90)
    report = await attribution(month.desk.reader, question)
    own = [sold for sold in month.world.orders("store_demo") if not sold.reversed]
    assert report.orders == len(own)
    assert report.lines
    for line in report.lines:
        n = f"{line.conversions:,.2f}".rstrip("0").rstrip(".")
        assert re.search(rf"{re.escape(line.label)} {re.escape(n)} \S+ % USD {line.value:,.2f} ", page), line
    assert f"All {len(own)} 100 % USD {sum(sold.value for sold in own):,.2f}" in page


@pytest.mark.parametrize("most", [1, 30, 100])
async def test_of_too_many_orders_the_newest_whole_days_are_shared_out_and_it_says_so(
    month: Month, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    zone, (since, until) = ZoneInfo(SHOPS["store_demo"]), month.world.days("store_demo")
    sql = "SELECT ts FROM conversion WHERE store = 1 AND event_type = 'Purchase' AND ts >= ? AND ts < ?"
    days = Counter(
        datetime.fromtimestamp(at / 1000, zone).date() for (at,) in month.world.db.execute(sql, (since, until))
    )
    shown, first = 0, max(days)
    for day in sorted(days, reverse=True):
        shown += days[day]
        first = day if day == max(days) or shown <= most else first
    assert first > min(days)
    monkeypatch.setattr(credit, "_AT_ONCE", most)
    asked = Asked(shop="store_demo", range="28")
    cut = _text((await credit.credit(month.desk, asked, "campaign", "linear", "90")).content)
    question = Question(
        model="linear", by="campaign", since=midnight(first, zone), until=until, store=1, window_days=90
    )
    report = await attribution(month.desk.reader, question)
    for line in report.lines:
        n = f"{line.conversions:,.2f}".rstrip("0").rstrip(".")
        assert re.search(rf"{re.escape(line.label)} {re.escape(n)} \S+ % USD {line.value:,.2f} ", cut), line
    assert f"All {report.orders} 100 % " in cut
    assert f"Of the newest days alone: {first:%a} {first.day} {first:%b}" in cut
    assert f"--store store_demo --since {datetime.fromtimestamp(question.since / 1000, UTC):%Y-%m-%dT%H:%M:%SZ}" in cut
    whole = _text((await credit.credit(month.desk, asked, "campaign", "linear", "90", "1")).content)
    own = [sold for sold in month.world.orders("store_demo") if not sold.reversed]
    assert f"All {len(own)} 100 % " in whole
    assert "newest days alone" not in whole


async def test_of_other_events_as_many_rows_are_looked_through_as_in_the_time_of_so_many_orders(
    month: Month, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(credit, "_AT_ONCE", 60)  # the newest 60 rows are late orders
    asked = Asked(shop="store_demo", range="28", event="Lead")
    cut = _text((await credit.credit(month.desk, asked, "campaign", "linear", "90")).content)
    whole = _text((await credit.credit(month.desk, asked, "campaign", "linear", "90", "1")).content)
    assert "Of the newest days alone" in cut
    counts = [int(found[1]) for page in (cut, whole) if (found := re.search(r"All (\d+) 100 % ", page))]
    assert 0 < counts[0] < counts[1]
    past = Asked(shop="store_demo", first="2026-08-25", last="2026-08-31", event="Lead")
    assert "newest days alone" not in _text((await credit.credit(month.desk, past, "campaign", "linear", "")).content)


@pytest.mark.parametrize(("by", "day_of"), [("day", "order"), ("click-day", "click")])
async def test_days_of_orders_and_of_clicks_are_the_reports(month: Month, by: str, day_of: Any) -> None:
    asked, (since, until) = Asked(shop="store_demo", range="28"), month.world.days("store_demo")
    page = _text((await credit.credit(month.desk, asked, by, "", "90")).content)
    question = Question(model="last", by="day", day_of=day_of, since=since, until=until, store=1, window_days=90)
    for line in (await attribution(month.desk.reader, question)).lines:
        n = f"{line.conversions:,.2f}".rstrip("0").rstrip(".")
        assert re.search(rf"{re.escape(line.label)} {re.escape(n)} \S+ % USD {line.value:,.2f} ", page), line
    assert f"collector report attribution --by day --day-of {day_of}" in page


@pytest.mark.parametrize(
    ("by", "model", "window"), [("x", "", ""), ("ad", "last", ""), ("campaign", "x", ""), ("campaign", "", "8")]
)
async def test_an_unknown_model_window_or_grouping_is_told(month: Month, by: str, model: str, window: str) -> None:
    with pytest.raises(Unknown, match="There is no"):
        await credit.credit(month.desk, Asked(), by, model, window)


async def test_the_first_steps_are_to_be_copied_as_they_stand(tmp_path: Path) -> None:
    world = console_world.empty(tmp_path, NOW)
    async with Reader(tmp_path / "collector.db") as reader:
        page = _text((await today.today(Desk(world.config, reader, lambda: NOW), Asked())).content)
    world.db.close()
    for step in (
        "○ A key is made, for the shop's server : to do collector keys create --store store_demo --kind secret",
        '<script async src="/m/c.js" data-store="store_demo"></script>',
        "collector send-test --store store_demo --code TEST12345",
        "✓ Delivery is live : done",
    ):
        assert step in page, step


async def test_the_plot_marks_what_was_done_and_where_delivery_stands_still(tmp_path: Path) -> None:
    world = console_world.trouble(tmp_path, NOW, clicks=60)
    async with Reader(tmp_path / "collector.db") as reader:
        desk = Desk(world.config, reader, lambda: NOW)
        pages = [await today.today(desk, Asked(range=span)) for span in ("28", "yesterday")]
    world.db.close()
    month, yesterday = (page.content.decode() for page in pages)
    assert month.count('<g class="mark">') == 3
    assert "Mon 14 Sep 16:13: from here on release 0.3.0" in month
    assert "Fri 18 Sep 16:13: settings read again by " in month
    assert "Tue 15 Sep 16:13: Lamps &amp; Co: delivery blocked from here on" in month
    assert '<g class="mark">' not in yesterday  # the control: nothing was done on that day


async def test_the_csv_has_each_order_once_and_its_filters_hold(month: Month) -> None:
    for filters, state in ((orders.Filters(), None), (orders.Filters(state="refused"), "refused")):
        lines = [line async for line in await orders.orders_csv(month.desk, Asked(range="28"), filters)]
        rows = list(csv.DictReader(io.StringIO(b"".join(lines).decode())))
        wanted = [sold for sold in month.world.orders("") if state in (None, sold.state)]
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
    assert len(seen) == len(set(seen)) == len(month.world.orders(""))


@pytest.mark.parametrize("shop", SHOPS)
async def test_deliverys_plots_and_causes_count_the_generators_orders(month: Month, shop: str) -> None:
    own = Counter(sold.state for sold in month.world.orders(shop))
    page = _text((await delivery.delivery_page(month.desk, Asked(shop=shop, range="28"), "")).content)
    assert f"{NAMES[shop]} {PIXELS[shop]}" in page
    drawn = page.partition("How each pixel stands")[2].partition("Why events were refused")[0]
    for state, word in (("sent", "sent"), ("refused", "refused"), ("expired", "expired")):
        if own[state]:
            assert f" {word} {own[state]} " in drawn, state
    causes = page.partition("Why events were refused")[2]
    if own["refused"]:
        assert f"{own['refused']} refused A field has a value that Meta does not take" in causes
    if own["expired"]:
        assert f"{own['expired']} expired It waited until it was older" in causes


async def test_a_cause_leads_to_its_orders_and_to_no_others(month: Month) -> None:
    shop, asked = "store_demo", Asked(shop="store_demo", range="28")
    found = (await delivery.delivery_page(month.desk, asked, "")).content.decode()
    links = re.findall(r'href="(/orders\?[^"]*reason=[^"]*)">(\d+)<', found)
    assert links
    for link, n in links:
        said = {name: values[0] for name, values in parse_qs(urlsplit(html.unescape(link)).query).items()}
        filters = orders.Filters(reason=said["reason"])
        page = (await orders.orders(month.desk, asked, filters, "")).content.decode()
        assert said["shop"] == shop
        assert len(re.findall(r"/conversions/(conv_\w+)", page)) == int(n), link
        assert f"because: {said['reason']}" in _text(page.encode())


async def test_orders_are_filtered_by_consent_and_method(month: Month) -> None:
    for filters in (orders.Filters(method="visitor_id"), orders.Filters(consent="denied")):
        lines = [line async for line in await orders.orders_csv(month.desk, Asked(range="28"), filters)]
        proven = [sold for sold in month.world.orders("") if sold.proven]
        assert len(lines) - 1 == (len(proven) if filters.method else 0)
    with pytest.raises(Unknown, match="There is no method"):
        await orders.orders(month.desk, Asked(), orders.Filters(method="guess"), "")


async def test_reconciles_waterfall_is_the_reports_and_the_generators(month: Month) -> None:
    shop, world = "store_demo", month.world
    since, until = world.days(shop)
    lines = await shops_count.sums(month.desk.reader, world.config, since, until, store=shop)
    own = Counter(sold.state for sold in world.orders(shop))
    missing = sum(
        since <= at < until for (at,) in world.db.execute("SELECT ts FROM shop_order WHERE conversion IS NULL")
    )
    page = _text((await reconcile.reconcile_page(month.desk, Asked(shop=shop, range="28"), "", "", "1")).content)
    assert sum(line.orders for line in lines) == own.total() + missing
    assert f"orders in the shop {own.total() + missing} " in page
    assert f"never told to us − {missing} " in page
    assert f"delivered to Meta {own['sent']} " in page
    assert f"refused by Meta, or too late − {own['refused'] + own['expired']} " in page
    credited = sum(sold.state == "sent" and sold.campaign is not None for sold in world.orders(shop))
    assert f"attributed here {credited} " in page
    assert f"waiting − {own['waiting']} " in page
    assert f"Meta shows 1: {credited - 1} fewer" in page
    good = own["sent"] + own["held"] + own["on purpose"]
    assert f"{10_000 * good // (own.total() + missing) / 100:.1f} % of" in page


async def test_a_day_of_the_shop_lists_its_orders(month: Month) -> None:
    zone = ZoneInfo(SHOPS["store_demo"])
    day, n = Counter(
        datetime.fromtimestamp(sold.ts / 1000, zone).date().isoformat() for sold in month.world.orders("store_demo")
    ).most_common(1)[0]
    asked = Asked(shop="store_demo", range="28")
    page = (await reconcile.reconcile_page(month.desk, asked, PIXELS["store_demo"], day, "")).content.decode()
    assert len(re.findall(r"/conversions/conv_", page.partition("How")[0])) == n


async def test_what_nobody_told_us_of_is_listed(month: Month) -> None:
    since, until = month.world.days("store_demo")
    sql = "SELECT called FROM shop_order WHERE conversion IS NULL AND ts >= ? AND ts < ? ORDER BY ts DESC"
    wanted = [called for (called,) in month.world.db.execute(sql, (since, until))]
    asked = Asked(shop="store_demo", range="28")
    way = "/reconcile?shop=store_demo&amp;range=28&amp;only=missing"
    assert way in (await reconcile.reconcile_page(month.desk, asked, "", "", "")).content.decode()
    page = (await reconcile.reconcile_page(month.desk, asked, "", "", "", "missing")).content.decode()
    table = page.partition("The newest 80 never told to us")[2].partition("</section>")[0]
    assert re.findall(r'<tr><td class="break">([^<]+)</td>', table) == wanted
    assert wanted
    with pytest.raises(Unknown, match="There is no list of 'sent'"):
        await reconcile.reconcile_page(month.desk, asked, "", "", "", "sent")


@pytest.mark.parametrize("shop", ["", *SHOPS])
async def test_trust_says_how_many_are_proven_likely_and_none(month: Month, shop: str) -> None:
    own = month.world.orders(shop)
    known = [sold for sold in own if sold.campaign is not None]
    page = _text((await trust.trust_page(month.desk, Asked(shop=shop, range="28"))).content)
    proven = sum(sold.proven for sold in known)
    assert f"proven {proven} " in page
    assert f"likely {len(known) - proven} " in page
    assert f"none {len(own) - len(known)} " in page
    # A tenth of the labels of a shop would say nothing: it is said, and no dot is drawn.
    assert ("Not enough orders yet: 0 of 100" in page) is (shop not in ("", "store_demo"))


async def test_trust_says_while_it_is_still_counting(month: Month, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(totals, "SLICE", 10)
    monkeypatch.setattr(shell, "_PATIENCE_SECONDS", -1)
    said = "Still counting since the start"
    assert said in _text((await trust.trust_page(month.desk, Asked(range="28"))).content)
    assert await month.desk.count(budget_seconds=60)
    assert said not in _text((await trust.trust_page(month.desk, Asked(range="28"))).content)


async def test_refusals_are_told_with_their_time_and_in_words(month: Month) -> None:
    page = _text((await orders.orders(month.desk, Asked(range="28"), orders.Filters(), "")).content)
    assert "of all shops: 11 " in page
    assert page.count("Sun 20 Sep 16:13 – What was sent is not JSON. – invalid_json") == 3
    assert page.count("Sun 20 Sep 16:13 4711 A field that must be there is missing") == 7
    assert page.count(" currency missing_required_field") == 7
    whole = _text((await left_out.left_out(month.desk, Asked(range="28"))).content)
    assert "3 What was sent is not JSON. invalid_json" in whole
    assert "Refused by the API" not in _text(
        (await orders.orders(month.desk, Asked(range="today"), orders.Filters(), "")).content
    )


async def test_who_was_left_out_is_counted(month: Month) -> None:
    since, until = month.world.days("store_zurich")
    own = Counter(apart for s, at, _, apart in month.world.clicks if s == "store_zurich" and since <= at < until)
    page = _text((await left_out.left_out(month.desk, Asked(shop="store_zurich", range="28"))).content)
    assert f"{own.total() - own['']} of {own.total()} clicks" in page
    for kind, word in (("denied", "refused marketing"), ("pending", "has not decided yet"), ("bot", "crawler")):
        if own[kind]:
            assert f"{word} {own[kind]} " in page, kind


async def test_every_state_of_an_order_has_one_line_with_one_reason(month: Month) -> None:
    said = {
        "sent": "Meta has it",
        "held": "held (the person does not allow it)",
        "refused": "refused by Meta (a field has a value",
        "expired": "too late for Meta (it waited",
        "on purpose": "left out on purpose (the person does not allow it)",
    }
    for state, words in said.items():
        sold = next(sold for sold in month.world.orders("") if sold.state == state)
        page = _text((await order.order_page(month.desk, IDS.public("conv", sold.conversion))).content)
        line = page.partition("All orders of")[2]
        assert f"{sold.currency} {sold.value:,.2f}, {NAMES[sold.shop]}" in line, state
        assert words in line, state
        assert ("after a click on “" + (sold.campaign or "")) in line or sold.campaign is None


async def test_the_control_another_zone_has_other_days(month: Month) -> None:
    """Were days UTC's, the figures of single days would be others: so the comparisons above can fail."""
    for shop, name in SHOPS.items():
        days = [
            Counter(datetime.fromtimestamp(sold.ts / 1000, zone).date() for sold in month.world.orders(shop))
            for zone in (ZoneInfo(name), UTC)
        ]
        assert days[0] != days[1]


@pytest.mark.parametrize("shop", SHOPS)
async def test_each_day_has_its_orders(month: Month, shop: str) -> None:
    zone = ZoneInfo(SHOPS[shop])
    own = Counter(datetime.fromtimestamp(sold.ts / 1000, zone).date() for sold in month.world.orders(shop))
    page = _text((await today.today(month.desk, Asked(shop=shop, range="28"))).content)
    for day, n in own.items():
        assert f"{day:%a} {day.day} {day:%b} {n} " in page, day


@pytest.mark.parametrize("shop", SHOPS)
async def test_each_day_has_its_revenue_to_the_cent(month: Month, shop: str) -> None:
    zone = ZoneInfo(SHOPS[shop])
    own = [sold for sold in month.world.orders(shop) if not sold.reversed]
    asked, code = Asked(shop=shop, range="28"), own[0].currency
    page = (await today.today(month.desk, asked, code)).content
    for day in {datetime.fromtimestamp(sold.ts / 1000, zone).date() for sold in own}:
        mine = [sold for sold in own if datetime.fromtimestamp(sold.ts / 1000, zone).date() == day]
        whole, part = sum(sold.value for sold in mine), sum(sold.value for sold in mine if sold.campaign is not None)
        assert f"{day:%a} {day.day} {day:%b} {code} {whole:,.2f} {code} {part:,.2f} " in _text(page), day
    assert f"plot={code}" in page.decode()  # a day's column leads to the value of its hours
    other = _text((await today.today(month.desk, asked, "XAU")).content)
    assert f"{code} {whole:,.2f} " not in other.partition("Figures")[2]  # the control: another currency is not added


async def test_a_plot_of_no_currency_is_told(month: Month) -> None:
    for plot in ("eur", "EURO", "€", "\"'><script>"):
        with pytest.raises(Unknown, match="There is no plot of"):
            await today.today(month.desk, Asked(), plot)


@pytest.mark.parametrize("span", ["today", "yesterday", "7", "28", "90", "month", "last_month"])
async def test_whatever_the_days_every_page_is_within_its_budget_and_sums_alike(month: Month, span: str) -> None:
    """Long spans are told by sums of days and of quarters: together they are what the rows are."""
    asked = Asked(range=span)
    pages: list[Any] = [
        await today.today(month.desk, asked),
        await campaigns.campaigns(month.desk, asked, "campaign", ""),
        await delivery.delivery_page(month.desk, asked, ""),
        await reconcile.reconcile_page(month.desk, asked, "", "", ""),
        await trust.trust_page(month.desk, asked),
        await left_out.left_out(month.desk, asked),
        await orders.orders(month.desk, asked, orders.Filters(), ""),
    ]
    assert [len(page.content) for page in pages if len(page.content) >= BUDGET_BYTES] == []
    own = [line async for line in await orders.orders_csv(month.desk, asked, orders.Filters())][1:]
    assert _tiles(pages[0].content)["Orders"] == f"{len(own):,}"
    value: Counter[str] = Counter()
    for sold in _in(month.world, span):
        value[sold.currency] += sold.value if not sold.reversed else 0  # type: ignore[assignment]
    for currency, whole in value.items():
        assert f"{currency} {whole:,.2f}" in _text(pages[0].content)


def _in(world: World, span: str) -> list[Sold]:
    zone = ZoneInfo("Europe/Zurich")
    last = datetime.fromtimestamp(NOW / 1000, zone).date()
    first = {"today": last, "yesterday": last - timedelta(1), "month": last.replace(day=1)}.get(span)
    if span == "last_month":
        last = last.replace(day=1) - timedelta(1)
        first = last.replace(day=1)
    if span == "yesterday":
        last = last - timedelta(1)
    since = midnight(first or last - timedelta(int(span) - 1), zone)
    return [sold for sold in world.sold if since <= sold.ts < midnight(last + timedelta(1), zone)]


def test_the_weekly_sums_of_status_are_the_generators(generated: World) -> None:
    """`status` counts by days of UTC."""
    found = commands.status(generated.config, NOW)
    since = NOW // 86_400_000 * 86_400_000 - 6 * 86_400_000
    own = [sold for sold in generated.sold if sold.ts >= since]
    assert found.days7.purchases == len(own)
    assert found.days7.attributed == sum(sold.campaign is not None for sold in own)
    assert {r.currency: r.value for r in found.revenue7 if r.value} == {
        code: whole
        for code in {s.currency for s in own}
        if (whole := sum((s.value for s in own if s.currency == code and not s.reversed), Decimal(0)))
    }


async def test_a_page_that_takes_too_long_says_so_and_names_the_way_out(
    month: Month, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(credit, "_PATIENCE_SECONDS", 0)
    with pytest.raises(TooSlow, match="collector report attribution --by campaign --model linear") as told:
        await credit.credit(month.desk, Asked(range="28"), "campaign", "linear", "")
    request: Any = None
    answer = app._storage_trouble(request, told.value)
    assert answer.status_code == 503
    assert "That took too long" in _text(answer.content)
    assert "shorten the days" in _text(answer.content)
