"""What an ad account's answer says, and which of our lines each ad is."""

from __future__ import annotations

import json
from datetime import date, timedelta
from typing import Any

import pytest

from collector.core import insights
from collector.core.insights import NONE, NOT_JOINED, PURCHASES, Ad, Lines
from tests.kit.simulators.ad_account import an_ad_day, purchases

TODAY = date(2026, 9, 21)
SINCE = TODAY - timedelta(27)


def page(*rows: Any, **more: Any) -> insights.Page | None:
    return insights.read_page(json.dumps({"data": rows, **more}).encode(), SINCE, TODAY, None)


def one(**changed: Any) -> insights.AdDay | None:
    found = page({**an_ad_day(TODAY, 12, "1.23"), **changed})
    assert found is not None
    return found.rows[0] if found.rows else None


@pytest.mark.parametrize(
    ("spend", "units"),
    [("1.23", 12_300), ("0", 0), ("1234567.891", 12_345_678_910), ("-0.50", -5_000), (3, 30_000), (0.25, 2_500)],
)
def test_money_is_exact(spend: Any, units: int) -> None:
    row = one(spend=spend)
    assert row is not None
    assert row.spend == units


@pytest.mark.parametrize(
    "spend", ["", " 1", "1,5", "1.", "١", "inf", "0x1", "1e3", 1e22, None, {}, [], False, "9" * 40]
)
def test_what_is_no_money_is_no_row(spend: Any) -> None:
    assert one(spend=spend) is None


@pytest.mark.parametrize("day", ["0001-01-01", "2126-01-01", str(SINCE - timedelta(1)), str(TODAY + timedelta(1))])
def test_a_day_that_was_not_asked_for_is_no_row(day: str) -> None:
    assert one(date_start=day, date_stop=day) is None


@pytest.mark.parametrize("name", PURCHASES)
def test_a_purchase_is_read_under_each_of_its_names(name: str) -> None:
    action = {"action_type": name, "value": "9", "1d_view": "1", "7d_click": "3"}
    row = one(actions=[action], action_values=[{**action, "7d_click": "30.5"}])
    assert row is not None
    assert (row.purchases, row.purchase_units) == (4, 315_000)


def test_without_windows_the_value_counts_and_nothing_is_nothing() -> None:
    row = one(actions=[{"action_type": "purchase", "value": "2"}])
    assert row is not None
    assert (row.purchases, row.purchase_units) == (2, 0)
    row = one(actions=[{"action_type": "link_click", "value": "2"}])
    assert row is not None
    assert row.purchases == 0


def test_control_adding_up_the_names_would_count_a_purchase_four_times() -> None:
    told = purchases(1, 0)["actions"]
    assert sum(float(action["value"]) for action in told if "purchase" in action["action_type"]) == 4
    row = one(**purchases(1, 0))
    assert row is not None
    assert row.purchases == 1


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'{"data": 5}', b'{"data": [], "paging": []}', b"<html>", b"\xff", b"[" * 9999]
)
def test_what_is_no_page_is_none(body: bytes) -> None:
    assert insights.read_page(body, SINCE, TODAY, None) is None


@pytest.mark.parametrize(
    ("paging", "after"),
    [
        ({}, None),
        ({"cursors": {"after": "b"}}, "b"),
        ({"cursors": {"after": "b"}, "next": "https://x"}, "b"),
        ({"cursors": {"after": "a"}}, None),  # the one that was asked with, and no next
        ({"cursors": {"after": 5}}, None),
        ({"cursors": {"after": "x" * 5000}}, None),
        ({"cursors": {"after": "ü"}}, None),
    ],
)
def test_where_the_next_page_begins(paging: dict[str, Any], after: str | None) -> None:
    body = json.dumps({"data": [an_ad_day(TODAY, 1, "1")], "paging": paging}).encode()
    found = insights.read_page(body, SINCE, TODAY, "a")
    assert found is not None
    assert found.after == after


@pytest.mark.parametrize("cursors", [{"after": "a"}, {}, {"after": None}])
def test_a_page_that_says_there_is_more_and_leads_nowhere_is_none(cursors: dict[str, Any]) -> None:
    body = json.dumps({"data": [], "paging": {"cursors": cursors, "next": "https://x"}}).encode()
    assert insights.read_page(body, SINCE, TODAY, "a") is None


@pytest.mark.parametrize("body", [b"{}", b'{"currency": "US", "timezone_name": "UTC"}', b'{"currency": "USD"}', b"no"])
def test_an_account_that_does_not_say_its_money_is_none(body: bytes) -> None:
    assert insights.read_account(body) is None


# -- whose line


AD = Ad("120000000012", "Ad 12", "2001", "Set 1", "1001", "Campaign 1")


@pytest.mark.parametrize(
    ("lines", "line"),
    [
        ({("any", NONE, AD.ad): 1}, ("any", NONE, AD.ad)),  # ad_id, or utm_content={{ad.id}}
        ({(AD.ad, NONE, NONE): 1}, (AD.ad, NONE, NONE)),  # utm_id={{ad.id}} alone
        ({("old", NONE, AD.ad): 1, ("new", NONE, AD.ad): 9}, ("new", NONE, AD.ad)),  # renamed: the most clicks
        ({("Campaign 1", "Set 1", "Ad 12"): 0}, ("Campaign 1", "Set 1", "Ad 12")),
        ({("1001", "2001", "Ad 12"): 0}, ("1001", "2001", "Ad 12")),
        ({("Campaign 1", "Set 1", "Ad 13"): 0}, ("Campaign 1", "Set 1", NOT_JOINED)),
        ({("Campaign 1", "Set 2", "Ad 12"): 0}, ("Campaign 1", NOT_JOINED, NOT_JOINED)),
        ({("Campaign 1", NONE, NONE): 5}, ("Campaign 1", NOT_JOINED, NOT_JOINED)),
        ({("campaign 1", "Set 1", "Ad 12"): 5}, (NOT_JOINED, NOT_JOINED, NOT_JOINED)),  # another name
        ({(NONE, NONE, NONE): 5}, (NOT_JOINED, NOT_JOINED, NOT_JOINED)),
        ({}, (NOT_JOINED, NOT_JOINED, NOT_JOINED)),
    ],
)
def test_an_ads_line_is_that_of_its_id_else_of_its_names(lines: dict[Any, int], line: Any) -> None:
    shop = 0 if line[0] == NOT_JOINED else 7
    assert Lines({(7, *path): n for path, n in lines.items()}).of(AD) == (shop, *line)


def test_of_shops_with_one_campaigns_name_it_is_the_one_that_got_the_most_clicks() -> None:
    """So no ad costs twice, and the shops' lines and what is joined with none add up to the account."""
    lines = {(1, "Campaign 1", NONE, NONE): 3, (2, "Campaign 1", "Set 1", "Ad 12"): 2, (2, "Campaign 1", NONE, NONE): 2}
    assert Lines(lines).of(AD) == (2, "Campaign 1", "Set 1", "Ad 12")
    assert Lines({**lines, (1, "Campaign 1", "x", NONE): 9}).of(AD) == (1, "Campaign 1", NOT_JOINED, NOT_JOINED)
    even = {(2, "Campaign 1", NONE, NONE): 0, (1, "Campaign 1", NONE, NONE): 0}
    assert Lines(even).of(AD)[0] == 1


def test_an_ad_without_names_is_joined_with_no_line_without_names() -> None:
    bare = Ad("120000000012", "", "", "", "", "")
    assert Lines({(1, NONE, NONE, NONE): 3, (1, "", "", ""): 3}).of(bare) == (0, *(NOT_JOINED,) * 3)
