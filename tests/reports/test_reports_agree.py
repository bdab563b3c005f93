"""`report attribution --model last` credits the click that the API names, for every kind of answer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from collector.core.explain import explain
from collector.storage.reports import commands
from collector.storage.reports.attribution import UNATTRIBUTED, Question
from collector.storage.reports.folds import MISSING
from tests.kit.journal_kit import DAY, HOUR, NOW, Kit, click, config_for, order

JO = {"email": "jo@example.com"}


def ad(fbclid: str, campaign: str, ago: int, visitor: str) -> dict[str, Any]:
    page = f"https://mystore.com/p?utm_campaign={campaign}"
    return click(fbclid, NOW - ago, landingPage=page, visitorId=visitor)


SHARED = [ad("IwARp00000000", f"by-{n}", hours * HOUR, f"visitor-{n}") for n, hours in ((1, 20), (2, 15), (3, 10))]
TWO_DEVICES = [
    ad("IwARa00000000", "phone", 9 * HOUR, "phone"),
    ad("IwARb00000000", "desk", 5 * HOUR, "desk"),
    order("known", NOW - 4 * HOUR, eventType="Lead", visitorId="desk", customerData=JO),
]
UNSEEN = f"fb.1.{NOW - 2 * HOUR}.IwARu00000000"


@pytest.fixture
def kit(tmp_path: Path) -> Iterator[Kit]:
    with Kit(tmp_path) as kit:
        yield kit


def credited(kit: Kit, window_days: int = 7) -> str:
    """The one label that the report credits with the purchase at NOW."""
    question = Question(model="last", by="campaign", since=NOW, until=NOW + 1, window_days=window_days)
    (line,) = [line for line in commands.attribution(kit.config, question).lines if line.conversions]
    return line.label


def answer(kit: Kit, **named: Any) -> Any:
    (result,) = kit.post(order("1", NOW, **named))
    return result.state


@pytest.mark.parametrize(
    ("before", "named", "expected"),
    [
        (SHARED, {"fbclid": "IwARp00000000"}, "by-1"),
        (SHARED, {"fbclid": "IwARp00000000", "visitorId": "visitor-2"}, "by-2"),
        (TWO_DEVICES, {"visitorId": "phone", "customerData": JO}, "phone"),
        (TWO_DEVICES, {"customerData": JO}, "desk"),
        (TWO_DEVICES, {"visitorId": "phone", "fbc": UNSEEN}, MISSING),
        (TWO_DEVICES, {"visitorId": "nobody"}, UNATTRIBUTED),
    ],
)
def test_the_report_credits_the_click_that_the_answer_names(
    kit: Kit, before: list[dict[str, Any]], named: dict[str, Any], expected: str
) -> None:
    kit.post(*before)
    state = answer(kit, **named)
    assert credited(kit) == expected
    if state.match.attributed:
        assert (state.match.path[-1], state.match.journey[-1][0]) == (state.match.click, state.match.click)


def test_a_click_that_the_caller_names_is_credited_though_a_newer_one_came(kit: Kit) -> None:
    named, _ = kit.post(
        ad("IwARa00000000", "named", 9 * HOUR, "visitor-1"), ad("IwARb00000000", "newer", 5 * HOUR, "visitor-1")
    )
    answer(kit, clickId=kit.journal.public.public("click", named.id), visitorId="visitor-1")
    assert credited(kit) == "named"


def test_a_proof_below_the_threshold_is_credited_by_neither(tmp_path: Path) -> None:
    with Kit(tmp_path, config=config_for(tmp_path, threshold=90)) as kit:
        kit.post(
            ad("IwARa00000000", "refused", 9 * HOUR, "visitor-1"),
            order("known", NOW - 8 * HOUR, eventType="Lead", visitorId="visitor-1", customerData=JO),
        )
        match = answer(kit, customerData={"email": "jo+x@example.com"}).match
        assert (match.attributed, match.reason, match.best) == (False, "below_threshold", 85)
        assert explain(match, 90).summary.startswith("A click is proven, but")
        assert credited(kit) == UNATTRIBUTED


@pytest.mark.parametrize(("window_days", "expected"), [(7, "spring"), (1, UNATTRIBUTED)])
def test_a_renewal_is_credited_as_the_order_that_it_inherits_from(kit: Kit, window_days: int, expected: str) -> None:
    kit.post(
        ad("IwARa00000000", "spring", 42 * DAY, "visitor-1"),
        order("first", NOW - 40 * DAY, visitorId="visitor-1"),
        order("second", NOW - 10 * DAY, renewalOf="first"),
    )
    assert answer(kit, renewalOf="second").match.attributed
    assert credited(kit, window_days) == expected
