"""Controls: a rule switched off, and its check fails. Where a control stands beside its test, it is not here."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from collector.core import amounts, event_names, intake, statuses, times
from collector.core.statuses import Status
from collector.errors import ApiError
from collector.guard import gate
from tests.core import test_orders, test_poor_fields
from tests.guard import test_guard

NEVER = re.compile(r"(?!)")


def servers_past_is_true(_patch: pytest.MonkeyPatch) -> None:
    """A server's order of 400 days ago (L4)."""
    told, _ = test_poor_fields.told(timestamp="2025-08-01T00:00:00Z")
    assert (told.event.ts, told.event.time_corrected) == (times.parse("2025-08-01T00:00:00Z"), False)


def an_order_number_is_one(_patch: pytest.MonkeyPatch) -> None:
    """`undefined` is no order, and blanks are no part of a number (L3)."""
    assert test_poor_fields.told(orderId=" o-1 ")[0].event.order_id == "o-1"
    refused = False
    try:
        test_poor_fields.told(orderId="undefined")
    except ApiError as error:
        refused = error.code == "missing_required_field"
    assert refused


CHECKS: dict[str, tuple[Any, str, Any, Callable[[pytest.MonkeyPatch], None]]] = {
    "L1 the ways of writing": (
        statuses,
        "_NOISE",
        NEVER,
        lambda _: test_orders.test_L1_a_status_in_any_platforms_words("partially-refunded", Status.PARTIALLY_REFUNDED),
    ),
    "L2 minor units": (
        amounts,
        "rounded",
        lambda value, _code: value,
        lambda _: test_orders.test_L2_amounts_are_compared_in_minor_units("49.9", "49.899999999999999", "USD", True),
    ),
    "L2 what is sent": (
        amounts,
        "at_most",
        lambda value, _decimals: value,
        lambda _: test_orders.test_L2_what_is_sent_has_no_tail_and_no_negative_zero(),
    ),
    "L3 standard names": (
        event_names,
        "_BY_CASELESS",
        {},
        lambda _: test_poor_fields.test_L3_a_name_is_trimmed_and_a_standard_one_is_spelled_as_meta_does(
            "pageview", "PageView"
        ),
    ),
    "L3 what is no number": (intake, "_NO_ORDER", frozenset(), an_order_number_is_one),
    "L4": (times, "settle", lambda _claimed, received, _past: (received, True), servers_past_is_true),
    "D2": (
        gate,
        "LEAST_FILES",
        0,
        lambda patch: test_guard.test_D2_with_too_few_files_it_says_so(patch, 64),
    ),
}


@pytest.mark.parametrize("rule", CHECKS)
def test_with_its_rule_off_the_check_fails(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    place, name, off, check = CHECKS[rule]
    with monkeypatch.context() as patch:
        check(patch)
    monkeypatch.setattr(place, name, off)
    with pytest.raises((AssertionError, ApiError, pytest.fail.Exception)):
        check(monkeypatch)
