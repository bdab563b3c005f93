"""The reliability shown to people: labels all have a click, so what is stated without one is counted beside them."""

from __future__ import annotations

import pytest

from collector.core.learning import learn
from collector.core.matching import DEFAULT_MODEL, Match
from collector.storage.reports.folds import LabelKey, Truth
from collector.storage.reports.trust import assess

LOUD = Match(attributed=True, model="x", tier="inferred", confidence=90, log_odds_bits=3.3)  # states .91
QUIET = Match(attributed=False, model="x", tier="none", reason="no_candidate")
LABELS = {LabelKey(1, "identity", "", 9): Truth(120, 114)}  # 9 steps of .25: .905 stated, .95 true


def test_without_decoys_the_labels_stand_alone() -> None:
    found = assess(LABELS, {}, {1}, 50)
    assert [(b.n, b.true) for b in found.bins] == [(120, pytest.approx(0.95))]
    assert found.labels == 120


def test_statements_about_orders_without_a_click_lower_the_truth() -> None:
    model = learn(DEFAULT_MODEL, [], decoys=[LOUD] * 10 + [QUIET] * 190, now=1)
    found = assess(LABELS, {1: model}, {1}, 50)
    n = sum(b.n for b in found.bins)
    true = sum(b.n * b.true for b in found.bins) / n
    assert found.labels == 120, "decoys are no labels"
    assert n > 120
    assert true < 0.95 - 0.05
