"""Controls of what pages cannot do and of who vouches for whom: a rule switched off, and its check fails."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from collector.core import intake, orders
from collector.core.capi import gate
from collector.core.capi.gate import Gate
from collector.core.capi.states import CapiState
from collector.core.matching import links
from collector.errors import ApiError
from collector.storage.journal import transaction
from collector.storage.people import identities
from tests.journal import test_people, test_tellers
from tests.kit.journal_kit import Kit

# rule: (where it stands, what it is called, what is there instead, the check)
CHECKS: dict[str, tuple[Any, str, Any, Callable[[Kit], None]]] = {
    "T3": (
        intake,
        "_leave_out",
        lambda _body, _ignored: None,
        test_tellers.test_T3_what_a_page_may_not_say_is_left_out_and_named,
    ),
    "T5 a page refuses": (
        orders,
        "without_device",
        lambda event: event,
        test_tellers.test_T5_a_pages_refusal_takes_its_device_out_and_stops_nothing_else,
    ),
    "T5 a visitor withdraws": (
        orders,
        "outlives",
        lambda _event: False,
        test_tellers.test_T5_who_withdraws_takes_his_device_out_of_an_order_that_was_told_with_consent,
    ),
    "T6": (
        gate,
        "_purchase",
        lambda _event, _terms: Gate(CapiState.QUEUED),
        test_tellers.test_T6_a_pages_purchase_is_held_whatever_it_lacks_and_says_why,
    ),
    "P2 too many": (
        links,
        "too_many",
        lambda _sure, _said: False,
        test_people.test_P2_claims_of_many_prefixes_are_too_many_for_one_person,
    ),
    "P2 what is kept": (
        identities,
        "kept",
        lambda known: sorted(known, key=lambda link: link.first_ts)[: links.MOST_VISITORS],
        test_people.test_P2_the_claim_of_the_true_device_outlives_a_flood_of_one_prefix,
    ),
}


@pytest.mark.parametrize("rule", CHECKS)
def test_with_its_rule_off_the_check_fails(rule: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place, name, off, check = CHECKS[rule]
    monkeypatch.setattr(transaction, "_REST", 0)
    monkeypatch.setattr(place, name, off)
    with Kit(tmp_path) as kit, pytest.raises((AssertionError, ApiError, ValueError)):
        check(kit)
