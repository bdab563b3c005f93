"""Controls: a rule switched off, and its check fails. Where a control stands beside its test, it is not here."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from collector.config import Config, EdgeConfig, StoreConfig
from collector.config_loader import checks
from collector.core import amounts, event_names, nobody, statuses, times
from collector.core.statuses import Status
from collector.errors import ApiError
from collector.guard import gate
from collector.guard.bodies import Bodies
from tests.core import test_orders, test_poor_fields
from tests.guard import test_bodies, test_guard

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


def a_word_in_any_writing_is_known(_patch: pytest.MonkeyPatch) -> None:
    """Read anew, not remembered (L1)."""
    statuses._read.cache_clear()
    try:
        test_orders.test_L1_a_status_in_any_platforms_words("partially-refunded", Status.PARTIALLY_REFUNDED)
    finally:
        statuses._read.cache_clear()  # or who comes next would hear what was read with the rule off


def a_suffix_is_refused(_patch: pytest.MonkeyPatch) -> None:
    """Everybody's shop below it could post (D8)."""
    assert checks.check(Config(store=[StoreConfig(id="a", domains=["co.uk"])]), role="edge", env={})


def half_the_internet_is_refused(_patch: pytest.MonkeyPatch) -> None:
    """Whoever comes from there could say that he is anybody (D8)."""
    config = Config(edge=EdgeConfig(trusted_proxies=["0.0.0.0/1"]), store=[StoreConfig(id="a")])
    assert checks.check(config, role="edge", env={})


CHECKS: dict[str, tuple[Any, str, Any, Callable[[pytest.MonkeyPatch], None]]] = {
    "L1 the ways of writing": (
        statuses,
        "_NOISE",
        NEVER,
        a_word_in_any_writing_is_known,
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
    "L3 what is no number": (nobody, "is_no_order", lambda _text: False, an_order_number_is_one),
    "L4": (times, "settle", lambda _claimed, received, _past: (received, True), servers_past_is_true),
    "D1 bytes in flight": (
        Bodies,
        "take",
        lambda *_whose, **_how: True,
        lambda _: test_bodies.test_D1_the_count_by_address_and_in_all(),
    ),
    "D8 public suffixes": (checks, "_is_public_suffix", lambda _domain: False, a_suffix_is_refused),
    "D8 proxies": (checks, "_is_half_the_internet", lambda _text: False, half_the_internet_is_refused),
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
