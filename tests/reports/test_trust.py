"""The reliability shown to people: labels all have a click, so what is stated without one is counted beside them."""

from __future__ import annotations

import pytest
from msgspec import structs

from collector.core.learning import learn
from collector.core.matching import DEFAULT_MODEL, Match, Model
from collector.core.matching.model import Beta
from collector.storage.reports.trust import LabelKey, Truth, assess

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


def _believing(right: float, wrong: float) -> Model:
    return structs.replace(DEFAULT_MODEL, tiers=DEFAULT_MODEL.tiers | {"visitor_id": Beta(right, wrong)})


def _cookie(labels: dict[LabelKey, Truth], stores: set[int]) -> tuple[float, int]:
    models = {1: _believing(50, 50), 2: _believing(90, 10)}
    tier = next(t for t in assess(labels, models, stores, 50).tiers if t.name == "visitor_id")
    return round(tier.stated, 6), tier.labels


def test_the_tier_table_shows_the_belief_of_the_store_that_is_looked_at() -> None:
    assert _cookie({}, {1}) == (0.5, 0)
    assert _cookie({}, {2}) == (0.9, 0)
    assert _cookie({}, {3}) == (0.98, 0), "a store without a model runs on the defaults"


def test_of_several_stores_each_belief_counts_as_often_as_its_labels() -> None:
    assert _cookie({}, {1, 2}) == (0.7, 0)
    labels = {
        LabelKey(1, "device", "visitor_id", 0): Truth(100, 50),
        LabelKey(2, "device", "visitor_id", 0): Truth(300),
    }
    assert _cookie(labels, {1, 2}) == (0.8, 400)
    assert _cookie(labels, {1}) == (0.5, 100)
