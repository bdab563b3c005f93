"""The week's report as text and as a letter: its sums, its comparison, and names that stay names."""

from __future__ import annotations

import re
from collections import defaultdict
from datetime import UTC, date, datetime
from decimal import Decimal
from html.parser import HTMLParser
from zoneinfo import ZoneInfo

import pytest

from collector.core import weekly, weeks
from collector.core.days import Days
from collector.core.digest import Day, Digest, Line, Money
from collector.core.insights import NOT_JOINED
from collector.core.weekly import Shop, Week

MONDAY = date(2026, 11, 23)
DAYS = Days(MONDAY, date(2026, 11, 29))


def of_money(**amounts: str) -> Money:
    return defaultdict(Decimal, {code: Decimal(amount) for code, amount in amounts.items()})


def a_line(orders: int = 1, clicks: int = 2, **amounts: str) -> Line:
    value = of_money(**amounts or {"USD": "10"})
    return Line(clicks=clicks, orders=orders, proven=orders, value=value, sure=value)


def a_digest(orders: int = 4, **campaigns: Line) -> Digest:
    day = Day(orders=orders, attributed=orders // 2, clicks=40, value=of_money(USD=f"{orders * 10}"))
    return Digest({MONDAY: day}, {"sent": orders - 1, "refused": 1}, dict(campaigns) or {"autumn": a_line()})


def a_week(name: str = "My shop", own: Digest | None = None, spent: Money | None = None, link: str = "") -> Week:
    return Week(DAYS, [Shop(name, "Europe/Berlin", own or a_digest(), a_digest(2))], spent, link)


def words_of(page: str) -> str:
    return re.sub(r"\s+", " ", page)


def test_the_text_has_each_figure_beside_the_week_before() -> None:
    said = words_of(weekly.text(a_week(link="https://console.example")))
    for part in (
        "Week of Mon 23 Nov – Sun 29 Nov 2026 My shop (Europe/Berlin)",
        "Orders 4 +100 % 2 before",
        "Revenue USD 40.00 +100 % USD 20.00 before",
        "Attributed 50 % 50 %",
        "Clicks 40 +0 % 40 before",
        "Per 100 clicks 10.0 5.0",
        "At Meta 75 % 50 %",
        "refused by Meta 1",
        "autumn 2 1 +0 USD 10.00",
        "Console: https://console.example",
    ):
        assert part in said, part


def test_both_forms_say_the_same() -> None:
    week = a_week(spent=of_money(USD="12.50"), link="https://console.example")

    class Cells(HTMLParser):
        found: list[str] = []

        def handle_data(self, data: str) -> None:
            self.found.append(data.strip())

    parser = Cells()
    parser.feed(weekly.html(week))
    plain = words_of(weekly.text(week)) + weekly.subject(week)
    for cell in parser.found:
        assert words_of(cell).strip("()") in plain, cell


def test_currencies_are_lines_of_their_own() -> None:
    own = a_digest()
    own.days[MONDAY].value["EUR"] = Decimal("7.50")
    said = words_of(weekly.text(a_week(own=own)))
    assert "Revenue EUR 7.50 none before EUR 0.00 before Revenue USD 40.00" in said


def test_what_is_not_among_the_first_ten_is_added_up() -> None:
    named = {f"c{n:02d}": a_line(orders=30 - n, clicks=n) for n in range(25)}
    said = weekly.text(a_week(own=a_digest(**named)))
    rows = re.findall(r"(?m)^  (c\d\d|15 more) +([\d,]+) +([\d,]+) ", said)
    assert len(rows) == 11
    assert sum(int(orders) for _, _, orders in rows) == sum(range(6, 31))
    assert sum(int(clicks) for _, clicks, _ in rows) == sum(range(25))


def test_with_an_ad_account_lines_have_their_cost_and_the_rest_is_the_accounts() -> None:
    line = a_line(orders=2, USD="30")
    line.sure = of_money(USD="20")
    line.spend = of_money(USD="10")
    own = a_digest(autumn=line, **{NOT_JOINED: Line(spend=of_money(USD="99"))})
    said = words_of(weekly.text(a_week(own=own, spent=of_money(USD="109"))))
    assert "autumn 2 2 +1 USD 30.00 USD 10.00 USD 5.00 2.00 – 3.00" in said
    assert "The ad account's spend on these days of its own: USD 109.00." in said
    assert NOT_JOINED not in said


HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=https://evil.example/x.png>",
    "<!channel> <@U123> @here @channel",
    "<https://evil.example|your invoice>",
    "[your invoice](https://evil.example)",
    "https://evil.example www.evil.example HTTPS://EVIL.example",
    "invoice.evil.example/pay",
    "' onmouseover='alert(1)",
    '"><b>',
    "a\r\nBcc: everybody@example.com",
    "‮txt.exe",
    "\x1b[2Jgone",
    "{{7*7}} ${7*7} %s %(name)s {0}",
    "=HYPERLINK(1)",
    "x" * 5000,
    "",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_names_are_only_names_in_both_forms(name: str) -> None:
    week = a_week(name, a_digest(**{name: a_line()}))
    plain, page, head = weekly.text(week), weekly.html(week), weekly.subject(week)
    for said in (plain, head):
        assert not set("<>@[]`\x1b\r\x00\u202e") & set(said)
        assert "://" not in said
        assert "evil.example" not in said
        assert not re.search(r"(?i)\bwww\.", said)
    assert "\n" not in head
    tags = set(re.findall(r"<\s*([a-z!/][a-z0-9]*)", page))
    assert {tag.strip("/") for tag in tags} <= set(
        "!doctype html head meta title body h1 h2 small table tr th td p".split()
    )
    assert not re.search(r"(?i)<[^>]*\b(src|href|on\w+|url)\s*=", page)
    assert len(page) < 10_000


def test_the_control_an_untamed_name_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weekly, "_tame", lambda name: name)
    monkeypatch.setattr(weekly, "escape", lambda text: text)
    page = weekly.html(a_week(HOSTILE[0]))
    assert "<script>" in page


def test_a_shop_without_anything_is_told_as_such() -> None:
    empty = Digest({MONDAY: Day()}, {}, {})
    said = words_of(weekly.text(Week(DAYS, [Shop("New", "UTC", empty, empty)], None, "")))
    assert "Orders 0 0 before" in said
    assert "At Meta – –" in said
    assert "Campaign" not in said


# -- which week, and when


@pytest.mark.parametrize(
    ("said", "first"),
    [
        ("2026-W48", date(2026, 11, 23)),
        ("2026-W01", date(2025, 12, 29)),
        ("2020-W53", date(2020, 12, 28)),
        ("2026-11-25", date(2026, 11, 25)),
    ],
)
def test_a_week_has_a_number_or_begins_on_a_day(said: str, first: date) -> None:
    days = weeks.week_of(said)
    assert days is not None
    assert (days.first, days.length) == (first, 7)


@pytest.mark.parametrize("said", ["", "2026-W54", "2021-W53", "2026-W00", "W48", "2026W48x", "0000-W01", "9999-W53"])
def test_what_is_no_week_is_none(said: str) -> None:
    assert weeks.week_of(said) is None


@pytest.mark.parametrize("today", [date(2026, 11, 30), date(2026, 12, 2), date(2026, 12, 6)])
def test_the_last_whole_week_ends_on_a_sunday(today: date) -> None:
    assert weeks.week_before(today) == DAYS


NO_MOMENTS = ["", "monday", "08:00", "mon 08:00", "monday 8:00", "monday 24:00", "monday 08:60", "monday ٠٨:٠٠"]


@pytest.mark.parametrize("said", NO_MOMENTS)
def test_what_is_no_moment_of_the_week_is_none(said: str) -> None:
    assert weeks.due_of(said) is None


@pytest.mark.parametrize(
    ("zone", "now", "due"),
    [
        ("Europe/Berlin", "2026-11-30T06:59:59+00:00", "2026-11-23T07:00:00+00:00"),
        ("Europe/Berlin", "2026-11-30T07:00:00+00:00", "2026-11-30T07:00:00+00:00"),
        ("Europe/Berlin", "2026-10-26T12:00:00+00:00", "2026-10-26T07:00:00+00:00"),  # the day after a clock change
        ("Europe/Berlin", "2026-10-20T12:00:00+00:00", "2026-10-19T06:00:00+00:00"),
        ("America/Los_Angeles", "2026-11-30T12:00:00+00:00", "2026-11-23T16:00:00+00:00"),
        ("Asia/Kolkata", "2026-11-30T02:30:00+00:00", "2026-11-30T02:30:00+00:00"),
    ],
)
def test_it_is_due_by_the_shops_clock(zone: str, now: str, due: str) -> None:
    moment = weeks.due_of("Monday 08:00")
    assert moment is not None
    ms = int(datetime.fromisoformat(now).timestamp() * 1000)
    found = datetime.fromtimestamp(moment.latest(ms, ZoneInfo(zone)) / 1000, UTC)
    assert found.isoformat() == due
