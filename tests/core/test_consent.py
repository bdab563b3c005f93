"""What each decision allows, and what the browser's own signal changes."""

from __future__ import annotations

from typing import Any

import pytest

from collector.core.consent import Decision, decide, opted_out
from collector.core.events import Consent


@pytest.mark.parametrize(
    ("said", "default", "expected"),
    [
        (None, "granted", "granted"),
        (None, "pending", "pending"),
        (Consent(), "denied", "denied"),
        (Consent(marketing="denied"), "granted", "denied"),
        (Consent(marketing="granted"), "denied", "granted"),
    ],
)
def test_the_event_speaks_before_the_stores_default(said: Consent | None, default: Any, expected: str) -> None:
    assert decide(said, default=default).marketing == expected


@pytest.mark.parametrize(
    ("gpc", "said", "expected"),
    [
        ("honour", None, Decision("denied", False)),
        ("honour", Consent(marketing="granted"), Decision("granted", False)),
        ("honour", Consent(marketing="pending"), Decision("denied", False)),
        ("ldu", None, Decision("granted", True, unasked=True)),
        ("ignore", None, Decision("granted", False, unasked=True)),
    ],
)
def test_the_browsers_signal_is_followed_by_the_configured_rule(
    gpc: Any, said: Consent | None, expected: Decision
) -> None:
    assert decide(said, default="granted", opted_out=True, gpc=gpc) == expected


def test_limited_data_use_is_the_events_or_the_stores() -> None:
    assert decide(Consent(ldu=False), default="granted", ldu=True).ldu is False
    assert decide(None, default="granted", ldu=True).ldu is True


def test_only_a_grant_allows_anything() -> None:
    for marketing, allowed, held in (("granted", True, False), ("pending", False, True), ("denied", False, False)):
        decision = Decision(marketing, False)  # type: ignore[arg-type]
        assert decision.allows_matching == allowed
        assert decision.held is held


def test_both_signals_count_and_only_when_they_are_one() -> None:
    assert opted_out([(b"sec-gpc", b"1")])
    assert opted_out([(b"dnt", b"1")])
    assert not opted_out([(b"dnt", b"0"), (b"sec-gpc", b""), (b"accept", b"1")])
