"""`collector report weekly`: the same figures as Today and Campaigns, printed, as JSON, as a page, and on its way."""

from __future__ import annotations

import json
import random
import re
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from msgspec import structs

from collector.cli import main
from collector.config import AlertsConfig, Config, InsightsConfig, StorageConfig, StoreConfig
from collector.config_loader.checks import warnings_of
from collector.console import bar, campaigns, today
from collector.console.bar import Asked
from collector.console.shell import Desk
from collector.core import saying, weekly
from collector.core.days import Days, day_of
from collector.core.digest import Digest
from collector.core.weeks import week_before
from collector.storage.reports import weekly as reports_weekly
from collector.storage.reports.insights import InsightState
from collector.storage.reports.reader import Reader
from collector.storage.reports.weekly import weekly as of_a_week
from collector.storage.reports.weekly import zone_of_week
from tests.console.test_console_insights import put_account, put_ad
from tests.kit.console_store import DAY_MS, NOW, add_click, add_conversion, make_store
from tests.kit.hooks import hook

SHOPS = {"store_demo": "America/New_York", "store_zurich": "Europe/Zurich"}
TODAY = date(2026, 9, 21)
WEEK = week_before(TODAY)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three weeks of two shops."""
    made = tmp_path_factory.mktemp("weeks")
    db = make_store(made, clicks=0, conversions=0)
    rng = random.Random(3)
    db.execute("BEGIN")
    for n, at in enumerate(sorted(NOW - rng.randrange(21 * DAY_MS) for _ in range(240))):
        store, campaign = rng.randrange(2) + 1, f"c{rng.randrange(14):02d}"
        click = add_click(db, at, store=store, campaign=campaign)
        value = Decimal(rng.randrange(100, 99_999)) / 100
        known = click if rng.random() < 0.7 else None
        currency = rng.choice(("USD", "CHF"))
        if rng.random() < 0.6:
            add_conversion(db, at, store=store, click=known, order=str(n), value=value, currency=currency, rng=rng)
    put_account(db)
    for n in range(14):
        put_ad(db, str(7000 + n), 100 + n, day=WEEK.first + timedelta(n % 7), campaign_name=f"c{n:02d}")
    put_ad(db, "9999", 5000, day=WEEK.first, campaign_name="nobody's")
    db.execute("COMMIT")
    db.close()
    return made


def config_of(folder: Path, **more: Any) -> Config:
    return Config(
        storage=StorageConfig(data_dir=str(folder)),
        store=[StoreConfig(id=shop, timezone=zone) for shop, zone in SHOPS.items()],
        **more,
    )


def asked(shop: str, days: Days) -> Asked:
    return Asked(shop=shop, first=str(days.first), last=str(days.last), compare="previous")


@pytest.mark.parametrize("shop", SHOPS)
async def test_each_figure_is_todays_and_campaigns(folder: Path, shop: str) -> None:
    config = config_of(folder, insights=InsightsConfig(ad_account="act_1"))
    async with Reader(folder / "collector.db") as reader:
        desk = Desk(config, reader, lambda: NOW)
        week = await of_a_week(reader, config, WEEK, shop)
        (own,) = week.shops
        for days, told in ((WEEK, own.own), (Days(WEEK.first - timedelta(7), WEEK.last - timedelta(7)), own.before)):
            looked = await bar.read(desk, asked(shop, days))
            figures = await today.figures(desk, looked.span, "Purchase", [looked.span.since])
            assert (told.orders, told.attributed) == (figures.orders, figures.attributed)
            assert told.clicks == figures.all_clicks
            assert told.value == {code: whole for code, (whole, _) in figures.revenue().items()}
            assert told.orders > 0
        page = (await campaigns.campaigns(desk, asked(shop, WEEK), "campaign", "")).content.decode()
    said = weekly.text(week)
    for name, line in own.own.campaigns.items():
        row = re.search(rf'<td class="break"><a[^>]*>{re.escape(name)}</a>.*?</tr>', page, re.S)
        assert row is not None or name == "(not joined)", name
        for code, value in line.value.items():
            assert row is None or saying.money(value, code) in row[0]
        for code, value in line.spend.items():
            assert row is None or saying.money(value, code) in row[0]
    assert re.search(r"(?m)^  \d more ", said), "ten campaigns are named"
    assert "spend on these days of its own: USD 64.91" in said
    assert f"({SHOPS[shop]})" in said


@pytest.mark.parametrize(
    ("since", "until", "doubt"),
    [
        (WEEK.first, WEEK.last + timedelta(1), ""),
        (WEEK.first - timedelta(20), WEEK.last + timedelta(3), ""),
        (WEEK.first, WEEK.last, "not whole"),
        (WEEK.first + timedelta(1), WEEK.last + timedelta(1), "not whole"),
        (None, None, "not known"),
    ],
)
def test_spend_that_does_not_cover_the_week_is_said(since: Any, until: Any, doubt: str) -> None:
    days = {"since": since and str(since), "until": until and str(until)}
    told = reports_weekly._doubt(InsightState(account="act_1", **days), WEEK)
    assert (doubt in told, bool(told)) == (True, bool(doubt))


def totals(digest: Digest) -> tuple[int, int]:
    return digest.orders, digest.clicks


async def test_every_shop_has_a_part_by_its_own_zone(folder: Path) -> None:
    config = config_of(folder)
    async with Reader(folder / "collector.db") as reader:
        both = await of_a_week(reader, config, WEEK)
        alone = [(await of_a_week(reader, config, WEEK, shop)).shops[0] for shop in SHOPS]
        utc = structs.replace(config, store=[structs.replace(store, timezone="UTC") for store in config.store])
        control = await of_a_week(reader, utc, WEEK)
    assert [totals(shop.own) for shop in both.shops] == [totals(shop.own) for shop in alone]
    assert [totals(shop.own) for shop in control.shops] != [totals(shop.own) for shop in both.shops]
    assert both.spent is None


def test_the_week_is_by_the_calendar_of_who_is_reported_of(folder: Path) -> None:
    config = config_of(folder)
    assert zone_of_week(config) == ZoneInfo("UTC")
    assert zone_of_week(config, "store_zurich") == ZoneInfo("Europe/Zurich")
    one = structs.replace(config, store=[config.store[0], structs.replace(config.store[1], active=False)])
    assert zone_of_week(one) == ZoneInfo("America/New_York")
    sunday_night = int(datetime(2026, 9, 21, 3, tzinfo=UTC).timestamp() * 1000)
    assert week_before(day_of(sunday_night, zone_of_week(one))).last == date(2026, 9, 13)
    assert week_before(day_of(sunday_night, zone_of_week(config))).last == date(2026, 9, 20)


# -- the command


CONFIG = """
[meta]
mode = "off"
{alerts}
[[store]]
id = "store_demo"
timezone = "America/New_York"
[[store]]
id = "store_zurich"
timezone = "Europe/Zurich"
"""


@pytest.fixture
def run(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    def run(*words: str, alerts: str = "") -> tuple[int, str]:
        (tmp_path / "c.toml").write_text(CONFIG.format(alerts=alerts))
        (tmp_path / "c.toml").chmod(0o600)
        files = ("--config", str(tmp_path / "c.toml"), "--data-dir", str(folder))
        code = main(["report", "weekly", *words, *files])
        out = capsys.readouterr()
        return code, out.out or out.err

    return run


def test_it_is_printed_in_three_forms(run: Any) -> None:
    code, plain = run("--week", "2026-W38")
    assert (code, plain.splitlines()[0]) == (0, "Week of Mon 14 Sep – Sun 20 Sep 2026")
    code, page = run("--since", "2026-09-14", "--format", "html")
    assert (code, page.startswith("<!doctype html>")) == (0, True)
    code, told = run("--week", "2026-W38", "--json", "--store", "store_demo")
    (shop,) = json.loads(told)["shops"]
    assert (code, shop["timezone"]) == (0, "America/New_York")
    assert f" {shop['week']['orders']} " in plain
    assert sum(line["orders"] for line in shop["week"]["campaigns"].values()) == shop["week"]["attributed"]


BAD = {
    ("--week", "2026-W60"): "--week: '2026-W60' is none; for example 2026-W48",
    ("--week", "2026-09-14"): "--week: '2026-09-14' is none; for example 2026-W48",
    ("--since", "2026-W38"): "--since: '2026-W38' is none; for example 2026-11-23",
    ("--since", "28d"): "--since: '28d' is none",
    ("--store", "other"): "--store: 'other' is not in the configuration",
    ("--send",): "--send: there is no way; set [alerts] webhook_url",
}


@pytest.mark.parametrize("words", BAD)
def test_what_makes_no_sense_is_told(run: Any, words: tuple[str, ...]) -> None:
    code, said = run(*words)
    assert code == 2
    assert BAD[words] in said


def test_it_is_sent_at_once_when_asked(run: Any) -> None:
    with hook() as (url, received):
        code, said = run("--week", "2026-W38", "--send", alerts=f'[alerts]\nwebhook_url = "{url}"')
    assert (code, said) == (0, "webhook: sent\n")
    assert json.loads(received[0])["text"] == run("--week", "2026-W38")[1]
    code, said = run("--send", alerts='[alerts]\nwebhook_url = "http://127.0.0.1:9/secret-path"')
    assert code == 1
    assert "webhook: not taken (ConnectError)" in said
    assert "secret-path" not in said


def test_a_moment_without_a_way_is_warned_about(folder: Path) -> None:
    said = "[alerts] weekly has no way to go"
    lone = config_of(folder, alerts=AlertsConfig(weekly="monday 08:00"))
    assert any(warning.startswith(said) for warning in warnings_of(lone, None))
    way = AlertsConfig(weekly="monday 08:00", webhook_url="https://hooks.example")
    assert not any(warning.startswith(said) for warning in warnings_of(config_of(folder, alerts=way), None))
