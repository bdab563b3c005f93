"""What the ads cost, on Campaigns and in `report attribution`: each level adds up to the account, to the cent."""

from __future__ import annotations

import random
import re
import sqlite3
from collections.abc import AsyncIterator, Iterator
from datetime import date, timedelta
from decimal import Decimal
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from collector.config import Config, InsightsConfig, StorageConfig, StoreConfig
from collector.console import campaigns, reconcile, today
from collector.console.bar import Asked
from collector.console.shell import Desk
from collector.core.days import Days
from collector.core.insights import NOT_JOINED, day_number
from collector.storage.reports import insights
from collector.storage.reports.attribution import Question, attribution
from collector.storage.reports.kept import Span
from collector.storage.reports.reader import Reader
from tests.kit.console_store import DAY_MS, NOW, add_click, add_conversion, make_store

TODAY = date(2026, 9, 21)
DAYS = Days(TODAY - timedelta(6), TODAY)
SINCE = NOW // DAY_MS * DAY_MS - 6 * DAY_MS
PAGES = "https://shop.example/?utm_source=fb&utm_campaign={}&utm_term={}&utm_content={}"


def put_ad(
    db: sqlite3.Connection, ad: str, cents: int, *, day: date = TODAY, currency: str = "USD", **names: str
) -> None:
    """A day's spend of an ad; its names where it has any."""
    told = {"ad_name": "", "adset": "", "adset_name": "", "campaign": "", "campaign_name": "", **names}
    db.execute("INSERT OR REPLACE INTO insight_ad VALUES ('act_1', ?, ?, ?, ?, ?, ?)", (ad, *told.values()))
    row = (day_number(day), ad, currency, cents * 100)
    db.execute("INSERT INTO insight VALUES ('act_1', ?, ?, ?, 1, ?, 0, 0, 0, 2, 200000)", row)


def put_account(db: sqlite3.Connection, timezone: str = "UTC", fault: str | None = None) -> None:
    since = day_number(TODAY - timedelta(27))
    row = ("USD", timezone, since, day_number(TODAY), NOW, fault, fault and NOW)
    db.execute("INSERT INTO insight_account VALUES ('act_1', 1, ?, ?, ?, ?, ?, 0, ?, ?)", row)


@pytest.fixture
def db(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    made = make_store(tmp_path, clicks=0, conversions=0)
    yield made
    made.close()


@pytest.fixture
async def desk(tmp_path: Path, db: sqlite3.Connection) -> AsyncIterator[Desk]:
    config = Config(
        storage=StorageConfig(data_dir=str(tmp_path)),
        insights=InsightsConfig(ad_account="act_1"),
        store=[StoreConfig(id="store_demo"), StoreConfig(id="store_zurich")],
    )
    async with Reader(tmp_path / "collector.db") as reader:
        yield Desk(config, reader, lambda: NOW)


def sell(db: sqlite3.Connection, page: str, orders: int, *, store: int = 1, at: int = NOW - 3_600_000) -> None:
    for n in range(orders):
        made = add_click(db, at - 60_000, store=store, landing_page=page)
        rng = random.Random(n)
        add_conversion(db, at, store=store, click=made, order=f"{page}{n}", value=Decimal("100.00"), rng=rng)


def a_shop(db: sqlite3.Connection) -> None:
    """Two campaigns with ids and names, another shop's, and ads that no click of ours names."""
    sell(db, PAGES.format("Summer", "Set", "120000000001"), 4)
    sell(db, PAGES.format("Summer", "Set", "Ad+2"), 2)
    sell(db, PAGES.format("Winter", "", ""), 1)
    sell(db, PAGES.format("Zurich", "", ""), 1, store=2)
    put_account(db)
    put_ad(db, "120000000001", 1001, campaign_name="renamed since")
    put_ad(db, "120000000002", 2002, ad_name="Ad 2", adset_name="Set", campaign_name="Summer")
    put_ad(db, "120000000003", 303, ad_name="Ad 3", adset_name="Set", campaign_name="Summer")
    put_ad(db, "120000000004", 44, ad_name="Ad 4", adset_name="Other", campaign_name="Winter")
    put_ad(db, "120000000005", 555, campaign_name="Zurich")
    put_ad(db, "120000000006", 6066, campaign_name="Nobody's")
    put_ad(db, "120000000006", 7, day=TODAY - timedelta(6))
    put_ad(db, "120000000006", 9_999_999, day=TODAY - timedelta(7))  # before these days


SPENT = 1001 + 2002 + 303 + 44 + 555 + 6066 + 7


async def text_of(desk: Desk, under: str = "", by: str = "campaign", **asked: Any) -> str:
    page = await campaigns.campaigns(desk, Asked(**asked), by, under)
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", page.content.decode())))


async def cells(desk: Desk, under: str = "", **asked: Any) -> dict[str, list[str]]:
    """Name -> spend, cost each and ROAS of each line."""
    html = (await campaigns.campaigns(desk, Asked(**asked), "campaign", under)).content.decode()
    out = {}
    for row in re.findall(r"<tr.*?</tr>", html.partition("<tbody>")[2], re.S):
        found = [re.sub(r"<br>", " ", cell) for cell in re.findall(r"<td[^>]*>(.*?)</td>", row, re.S)]
        out[re.sub(r"<[^>]+>", "", found[0])] = [re.sub(r"<(?!br)[^>]+>", "", cell) for cell in found[-3:]]
    return out


async def test_every_level_adds_up_to_the_accounts_spend(desk: Desk, db: sqlite3.Connection) -> None:
    a_shop(db)
    lines = await cells(desk)
    assert {name: cell[0] for name, cell in lines.items()} == {
        "Summer": "USD 33.06",
        "Winter": "USD 0.44",
        "Zurich": "USD 5.55",
        NOT_JOINED: "USD 60.73",
        "All": f"USD {SPENT / 100:.2f}",
    }
    assert (await cells(desk, "Summer"))["Set"][0] == (await cells(desk, "Summer"))["All"][0] == "USD 33.06"
    ads = await cells(desk, "Summer\x1fSet")
    assert {name: cell[0] for name, cell in ads.items()} == {
        "120000000001": "USD 10.01",
        "Ad 2": "USD 20.02",
        NOT_JOINED: "USD 3.03",
        "All": "USD 33.06",
    }


async def test_one_shop_alone_has_the_others_ads_in_the_line_of_what_is_not_joined(
    desk: Desk, db: sqlite3.Connection
) -> None:
    a_shop(db)
    lines = await cells(desk, shop="store_zurich")
    assert lines["Zurich"][0] == "USD 5.55"
    assert lines[NOT_JOINED][0] == f"USD {(SPENT - 555) / 100:.2f}"
    assert lines["All"][0] == f"USD {SPENT / 100:.2f}"


async def test_a_campaign_of_two_shops_costs_once(desk: Desk, db: sqlite3.Connection) -> None:
    """Each shop's own lines, added up with what is no shop's, are the account's spend."""
    sell(db, PAGES.format("Shared", "", ""), 3)
    sell(db, PAGES.format("Shared", "", "") + "&x=1", 1, store=2)
    sell(db, PAGES.format("Own", "", ""), 1, store=2)
    put_account(db)
    put_ad(db, "1", 1000, campaign_name="Shared")
    put_ad(db, "2", 200, campaign_name="Own")
    put_ad(db, "3", 30, campaign_name="nobody's")
    shops = {shop: await cells(desk, shop=shop) for shop in ("store_demo", "store_zurich")}
    assert shops["store_demo"]["Shared"][0] == "USD 10.00"
    assert shops["store_zurich"]["Shared"][0] == "–"
    assert shops["store_zurich"]["Own"][0] == "USD 2.00"
    both = await cells(desk)
    assert [both[name][0] for name in ("Shared", "Own", NOT_JOINED, "All")] == [
        *("USD 10.00", "USD 2.00", "USD 0.30", "USD 12.30")
    ]


async def test_roas_is_a_range_from_what_is_proven_to_what_is_likely(desk: Desk, db: sqlite3.Connection) -> None:
    a_shop(db)
    (proven, whole), *_ = db.execute(
        "SELECT sum(CASE tier WHEN 2 THEN units END), sum(units) FROM sale_sum s JOIN place p ON p.id = s.place"
        " WHERE p.name LIKE '%Summer%'"
    ).fetchall()
    assert 0 < proven < whole, "some are proven, some likely"
    lines = await cells(desk)
    assert lines["Summer"] == ["USD 33.06", "USD 5.51", f"{proven / 330_600:.2f} – {whole / 330_600:.2f}"]
    assert lines[NOT_JOINED] == ["USD 60.73", "–", "0.00"]


async def test_the_report_says_the_same(desk: Desk, db: sqlite3.Connection) -> None:
    a_shop(db)
    lines = await cells(desk)
    for by, spent in (("campaign", SPENT), ("adset", SPENT), ("ad", SPENT)):
        question = Question(model="last", by=by, since=SINCE, until=NOW, window_days=90)  # type: ignore[arg-type]
        report = await attribution(desk.reader, question, desk.config)
        assert sum(line.spend or 0 for line in report.lines) == Decimal(spent) / 100
        assert sum(line.value for line in report.lines) == 800
        assert report.spend_days == f"{DAYS.first}..{DAYS.last}"
        if by == "campaign":
            for line in report.lines:
                told = lines[line.label]
                assert told[0] == f"USD {line.spend:.2f}"
                if line.cost_per_conversion is not None:
                    assert told[1] == f"USD {line.cost_per_conversion:.2f}"
                assert told[2].split(" – ")[-1] == f"{line.roas:.2f}"
                assert told[2].split(" – ")[0] == f"{line.roas_proven:.2f}"


async def test_the_report_without_an_account_is_as_it_was(desk: Desk, db: sqlite3.Connection) -> None:
    a_shop(db)
    question = Question(model="last", by="campaign", since=SINCE, until=NOW, window_days=90)
    bare = await attribution(desk.reader, question, structs.replace(desk.config, insights=InsightsConfig()))
    assert all(line.spend is None and line.proven_value is None for line in bare.lines)
    assert {line.label for line in bare.lines} == {"Summer", "Winter", "Zurich"}


async def test_currencies_are_never_added_up(desk: Desk, db: sqlite3.Connection) -> None:
    sell(db, PAGES.format("Summer", "", ""), 2)
    put_account(db)
    put_ad(db, "1", 1000, campaign_name="Summer")
    put_ad(db, "1", 2000, campaign_name="Summer", currency="EUR")
    lines = await cells(desk)
    assert lines["Summer"] == ["EUR 20.00 USD 10.00", "–", "20.00"]
    question = Question(model="last", by="campaign", since=SINCE, until=NOW, window_days=90)
    found = {
        (line.label, line.currency): line for line in (await attribution(desk.reader, question, desk.config)).lines
    }
    assert (found["Summer", "EUR"].spend, found["Summer", "EUR"].conversions) == (20, 0)
    assert (found["Summer", "USD"].spend, found["Summer", "USD"].roas) == (10, 20)


async def test_orders_in_another_currency_than_the_spend_have_no_roas(desk: Desk, db: sqlite3.Connection) -> None:
    sell(db, PAGES.format("Summer", "", ""), 2)
    put_account(db)
    put_ad(db, "1", 1000, campaign_name="Summer", currency="EUR")
    assert (await cells(desk))["Summer"] == ["EUR 10.00", "EUR 5.00", "–"]


HOSTILE = ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "{{ 7*7 }}", "a\x1fb", "&lt;b&gt;", "--"]


@pytest.mark.parametrize("name", HOSTILE)
async def test_names_are_hostile_and_only_text(desk: Desk, db: sqlite3.Connection, name: str) -> None:
    put_account(db, fault=f"act_1: {name}")
    sell(db, "https://shop.example/", 1)
    put_ad(db, "1", 1000, campaign_name=name, ad_name=name)
    html = (await campaigns.campaigns(desk, Asked(), "campaign", "")).content.decode()
    assert "<script>alert" not in html
    assert "<img" not in html
    assert (await cells(desk))["All"][0] == "USD 10.00"


async def test_the_page_says_whose_days_since_when_and_what_is_wrong(desk: Desk, db: sqlite3.Connection) -> None:
    add_click(db, NOW - 1000)
    assert "Spend of act_1, not read yet." in await text_of(desk)
    put_account(db, "America/New_York", "act_1: Session has expired (code 190); put a new token into it")
    page = await text_of(desk)
    assert "by the ad account's days (America/New_York), known from 2026-08-25 to 2026-09-21" in page
    assert "What the ads cost could not be read." in page.replace(" for 0 s", "")
    front = unescape((await today.today(desk, Asked())).content.decode())
    assert "What the ads cost could not be read" in front
    assert "put a new token into it" in page


async def test_by_source_and_without_an_account_there_is_no_spend(desk: Desk, db: sqlite3.Connection) -> None:
    a_shop(db)
    assert "ROAS" not in await text_of(desk, by="source")
    desk.config = structs.replace(desk.config, insights=InsightsConfig())
    assert "ROAS" not in await text_of(desk)


async def test_another_accounts_rows_are_not_this_ones(desk: Desk, db: sqlite3.Connection) -> None:
    a_shop(db)
    desk.config = structs.replace(desk.config, insights=InsightsConfig(ad_account="act_2"))
    assert await insights.total(desk.reader, desk.config, DAYS) == {}
    state = await insights.state(desk.reader, desk.config)
    assert state is not None
    assert state.last_read is None


async def test_metas_own_purchases_stand_ready_for_beside_ours(desk: Desk, db: sqlite3.Connection) -> None:
    a_shop(db)
    found = await insights.total(desk.reader, desk.config, DAYS)
    assert (found["USD"].purchases, found["USD"].value) == (14, Decimal(140))
    assert found["USD"].spend == Decimal(SPENT) / 100


async def test_lines_are_joined_in_one_pass_over_many_ads(desk: Desk, db: sqlite3.Connection) -> None:
    """Every ad of a large account, to the cent; and a control: an ad that is joined twice would be seen."""
    db.execute("BEGIN")
    sell(db, PAGES.format("C1", "", ""), 3)
    put_account(db)
    for n in range(3000):
        put_ad(db, str(10_000 + n), n, campaign_name=f"C{n % 7}")
    db.execute("COMMIT")
    found = await insights.by_line(desk.reader, desk.config, DAYS, Span((1, 2), SINCE, NOW))
    cents = {path[0]: int(currencies["USD"].spend * 100) for path, currencies in found.items()}
    assert sum(cents.values()) == sum(range(3000))
    assert cents["C1"] == sum(n for n in range(3000) if n % 7 == 1)
    assert cents["C1"] + sum(range(3000)) != sum(cents.values())


async def test_reconcile_has_metas_own_figure_beside_ours(desk: Desk, db: sqlite3.Connection) -> None:
    a_shop(db)
    said = "The ad account act_1 says 14 purchases of USD 140.00 on these days of its own."
    db.execute(
        "INSERT INTO shop_order VALUES (1, 1, 'web-1', ?, 'paid', '19.90', 'USD', 'web', NULL, NULL, 2, ?)", (NOW, NOW)
    )
    page = (await reconcile.reconcile_page(desk, Asked(), "", "", "")).content.decode()
    assert said in unescape(page)
    figures = await insights.total(desk.reader, desk.config, DAYS)
    assert reconcile._account(desk, figures) == said
    assert reconcile._own_figure(desk, figures) == "", "two shops share the account"
    desk.config = structs.replace(desk.config, store=desk.config.store[:1])
    assert reconcile._own_figure(desk, figures) == "14"
    assert reconcile._own_figure(desk, {}) == reconcile._account(desk, {}) == ""


async def test_the_command_that_shares_stands_below_one_shops_sums(desk: Desk, db: sqlite3.Connection) -> None:
    a_shop(db)
    command = f"collector share create --store store_demo --range {DAYS.first}..{DAYS.last}"
    assert command in await text_of(desk, shop="store_demo")
    assert f"{command} --event Lead" in await text_of(desk, shop="store_demo", event="Lead")
    assert "collector share" not in await text_of(desk)
