"""`report attribution`: every cent is given to somebody, under every model, window and label."""

from __future__ import annotations

import random
import sqlite3
from collections import Counter
from decimal import Decimal
from pathlib import Path

import pytest

from collector.core import flags
from collector.core.credit import CREDIT_MODELS
from collector.core.matching.shapes import Match
from collector.storage.reports import attribution, commands
from collector.storage.reports.attribution import UNATTRIBUTED, WINDOWS, Question, Report
from collector.storage.reports.folds import DAY_MS
from collector.storage.reports.money import from_minor, to_minor
from tests.kit.console_process import make_config
from tests.kit.console_store import NOW, add_click, add_conversion, make_store


def _ask(data_dir: Path, **question: object) -> Report:
    asked = {"model": "last", "by": "campaign", "since": NOW - 30 * DAY_MS, "until": NOW + 1, **question}
    return commands.attribution(make_config(data_dir), Question(**asked))  # type: ignore[arg-type]


def _order(db: sqlite3.Connection, ages: list[int], campaigns: list[str], value: str, **more: object) -> None:
    """An order with a journey: clicks so many days before it."""
    journey = [
        (add_click(db, NOW - age * DAY_MS, campaign=name), NOW - age * DAY_MS)
        for age, name in zip(ages, campaigns, strict=True)
    ]
    newest = journey[-1] if journey else (None, None)
    match = Match(
        attributed=bool(journey),
        model="m",
        click=newest[0],
        click_ts=newest[1],
        journey=journey,
        tier="device" if journey else "none",
    )
    add_conversion(db, NOW, click=newest[0], order=f"{ages}{value}", value=Decimal(value), match=match, **more)  # type: ignore[arg-type]


def _values(report: Report) -> dict[str, str]:
    return {line.label: str(line.value) for line in report.lines}


@pytest.fixture
def shop(tmp_path: Path) -> sqlite3.Connection:
    return make_store(tmp_path, clicks=0, conversions=0)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("last", {"c": "100.01"}),
        ("first", {"a": "100.01"}),
        ("linear", {"a": "33.33", "b": "33.34", "c": "33.34"}),
        ("position", {"a": "40.00", "b": "20.00", "c": "40.01"}),
        ("time-decay", {"a": "25.98", "b": "31.67", "c": "42.36"}),
    ],
)
def test_an_order_is_shared_to_the_cent(
    tmp_path: Path, shop: sqlite3.Connection, model: str, expected: dict[str, str]
) -> None:
    _order(shop, [5, 3, 0], ["a", "b", "c"], "100.01")
    found = _values(_ask(tmp_path, model=model))
    if model == "time-decay":
        assert sum(map(Decimal, found.values())) == Decimal("100.01")
        assert Decimal(found["a"]) < Decimal(found["b"]) < Decimal(found["c"])
    else:
        assert {label: value for label, value in found.items() if Decimal(value)} == expected


@pytest.mark.parametrize("model", CREDIT_MODELS)
def test_lines_sum_to_the_orders_whatever_is_asked(tmp_path: Path, shop: sqlite3.Connection, model: str) -> None:
    rng = random.Random(5)
    total: Counter[str] = Counter()
    for i in range(60):
        ages = sorted((rng.randrange(0, 40) for _ in range(rng.randrange(0, 5))), reverse=True)
        value, code = f"{rng.randrange(1, 99999) / 100:.2f}", rng.choice(["USD", "EUR"])
        _order(shop, ages, [rng.choice("abcd") for _ in ages], value, currency=code)
        total[code] += Decimal(value)  # type: ignore[assignment]
        assert i >= 0
    for by in ("campaign", "ad", "landing-page", "day"):
        for window in WINDOWS:
            report = _ask(tmp_path, model=model, by=by, window_days=window, day_of="click")
            assert report.orders == 60
            assert sum(line.conversions for line in report.lines) == pytest.approx(60)
            for code, amount in total.items():
                assert sum(line.value for line in report.lines if line.currency == code) == amount


def test_the_window_decides_which_clicks_count(tmp_path: Path, shop: sqlite3.Connection) -> None:
    _order(shop, [20, 3], ["old", "new"], "10.00")
    assert _values(_ask(tmp_path, model="first", window_days=7)) == {"new": "10.00"}
    assert _values(_ask(tmp_path, model="first", window_days=28)) == {"old": "10.00", "new": "0.00"}
    assert _values(_ask(tmp_path, model="first", window_days=1)) == {UNATTRIBUTED: "10.00"}


def test_a_renewal_that_an_older_version_stored_keeps_its_credit(tmp_path: Path, shop: sqlite3.Connection) -> None:
    _order(shop, [45, 40], ["old", "new"], "10.00")
    assert _values(_ask(tmp_path, model="first", window_days=1)) == {"new": "10.00"}
    assert _values(_ask(tmp_path, model="first", window_days=7)) == {"old": "10.00", "new": "0.00"}


def test_days_are_the_clicks_or_the_orders(tmp_path: Path, shop: sqlite3.Connection) -> None:
    _order(shop, [3], ["a"], "10.00")
    assert list(_values(_ask(tmp_path, by="day"))) == ["2026-09-21"]
    assert list(_values(_ask(tmp_path, by="day", day_of="click"))) == ["2026-09-18"]


def test_tests_refunds_other_events_other_stores_and_other_times_are_left_out(
    tmp_path: Path, shop: sqlite3.Connection
) -> None:
    _order(shop, [1], ["a"], "10.00")
    _order(shop, [1], ["a"], "11.00", marks=flags.TEST)
    _order(shop, [1], ["a"], "12.00", order_status="refunded")
    _order(shop, [1], ["a"], "13.00", kind="Lead")
    _order(shop, [1], ["a"], "14.00", store=2)
    assert _values(_ask(tmp_path, store=1)) == {"a": "10.00"}
    assert _values(_ask(tmp_path)) == {"a": "24.00"}
    assert _values(_ask(tmp_path, event_type="Lead")) == {"a": "13.00"}
    assert _ask(tmp_path, until=NOW).lines == []
    assert commands.store_number(make_config(tmp_path), "store_zurich") == 2
    assert commands.store_number(make_config(tmp_path), "nowhere") is None


def test_money_has_the_decimals_of_its_currency_or_its_own_finer_ones() -> None:
    assert to_minor(Decimal("10.1"), "USD") == (1010, 2)
    assert to_minor(Decimal("500"), "JPY") == (500, 0)
    assert to_minor(Decimal("1.2345"), "KWD") == (12345, 4)
    assert to_minor(Decimal("1.5"), "JPY") == (15, 1)
    assert from_minor(1010, 2) == Decimal("10.10")


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_orders_of_one_moment_are_shared_once_however_they_fall_into_pages(
    tmp_path: Path, shop: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    for n in range(7):
        click = add_click(shop, NOW - DAY_MS, campaign=f"c{n % 3}")
        match = Match(attributed=True, model="m", click=click, click_ts=NOW - DAY_MS)
        add_conversion(shop, NOW, store=1 + n % 2, click=click, order=f"o{n}", value=Decimal(10 + n), match=match)
        add_conversion(shop, NOW, order=f"page-{n}", kind="PageView")
    whole = _ask(tmp_path)
    monkeypatch.setattr(attribution, "_SLICE", size)
    paged = _ask(tmp_path)
    assert (paged, whole.orders) == (whole, 7)
    assert sum(line.value for line in whole.lines) == sum(range(10, 17))


def test_a_report_of_orders_reads_no_page_views(shop: sqlite3.Connection) -> None:
    sql, asked = attribution.PURCHASE_SQL, (1, 0, NOW, 0, -1, 10)
    steps = [row[3] for row in shop.execute(f"EXPLAIN QUERY PLAN {sql}", asked)]
    assert steps == ["SEARCH conversion USING INDEX conversion_purchase (store=? AND ts>? AND ts<?)"]
