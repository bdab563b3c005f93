"""Strangers in the simulated public (P3), and lines of every kind (homes, offices, phones, relays) told apart."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import pytest

from collector.core.matching.links import Link, People, people_of
from tests.kit.simulators import trial as trials
from tests.kit.simulators.scores import Scores, merged, share, trial
from tests.kit.simulators.trial import Shelf, counted, nightly
from tests.kit.simulators.truth import Public, World

SEEDS = (701, 702)
LINKS = 120  # of a stratum that is judged


class Outcome(NamedTuple):
    """Of all orders, proven or not."""

    precision_90: float
    recall_90: float
    recall: float


def scored(trained: bool, **knobs: Any) -> Scores:
    found = []
    for seed in SEEDS:
        public = Public(World(seed=seed, people=50_000, **knobs))
        shelf = Shelf(public)
        learn = nightly(public, shelf=shelf) if trained else counted(public, shelf)
        found.append(trial(public, shelf=shelf, learn=learn))
    return merged(found)


def outcome(attack: float, trained: bool) -> Outcome:
    verdicts = scored(trained, attack=attack).verdicts
    true = sum(v.order.truth is not None for v in verdicts)
    sure = [v for v in verdicts if v.answer.confidence >= 90]
    right = sum(v.right for v in verdicts)
    return Outcome(share(v.right for v in sure), sum(v.right for v in sure) / true, right / true)


unharmed = cache(outcome)


@pytest.mark.long
@pytest.mark.parametrize("trained", [False, True], ids=["new", "trained"])
@pytest.mark.parametrize("attack", [0.01, 0.05])
def test_P3_strangers_take_neither_precision_nor_recall(attack: float, trained: bool) -> None:
    calm, met = unharmed(0.0, trained), outcome(attack, trained)
    print(f"attack {attack:.0%}: {met}, without {calm}")
    assert met.precision_90 >= 0.95
    assert met.recall_90 > calm.recall_90 - 0.02
    assert met.recall > calm.recall - 0.02


@pytest.mark.long
def test_P3_control_believed_claims_take_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    def believed(values: Any, ts: int) -> People:
        return people_of([(kind, [Link(x.visitor, x.first_ts, x.first_ts) for x in own]) for kind, own in values], ts)

    calm = outcome(0.0, trained=False)
    monkeypatch.setattr(trials, "people_of", believed)
    met = outcome(0.05, trained=False)
    print(f"believed: {met}, without strangers {calm}")
    assert met.precision_90 < 0.95 or met.recall_90 <= calm.recall_90 - 0.02


@pytest.mark.long
@pytest.mark.parametrize("trained", [False, True], ids=["new", "trained"])
@pytest.mark.parametrize("organic", [2.0, 4.0])
def test_lines_of_every_kind_are_stated_as_they_are(organic: float, trained: bool) -> None:
    """The town with four organic orders to one from an ad is where a new store stated too much."""
    scores = scored(trained, organic=organic)
    print(scores.line(f"organic {organic}, {'trained' if trained else 'new'}"))
    assert scores.precision(90) >= 0.95
    assert scores.precision(50) >= 0.85
    assert scores.recall(90) >= (0.45 if organic == 2.0 else 0.35)
    assert scores.decoy_links(90) <= 0.003


# Where many share a line, which the towns above have too little of to judge: offices large and small, carriers' NAT,
# relays. Eight or so seconds each.
CROWDED = (
    {"employed": 0.9, "per_office": 300},
    {"employed": 0.9, "per_office": 40},
    {"cgnat": 0.9, "strip": 0.2},
    {"relayed": 0.9, "employed": 0.9, "per_office": 1000},
)
FIRST_SEEDS = (900, 904, 950, 954, 1000, 1004, 1050, 1054)


@pytest.mark.long
@pytest.mark.parametrize("trained", [False, True], ids=["new", "trained"])
def test_lines_that_many_share_are_stated_no_surer_than_they_are(trained: bool) -> None:
    found = []
    for first in FIRST_SEEDS:
        for at, knobs in enumerate(CROWDED):
            public = Public(World(seed=first + at, **knobs))
            shelf = Shelf(public)
            learn = nightly(public, shelf=shelf) if trained else counted(public, shelf)
            found.append(trial(public, shelf=shelf, learn=learn, decoys=False))
    unproven = [v for scores in found for v in scores.unproven if v.answer.attributed]
    judged = {}
    for kind in sorted({v.order.network for v in unproven}):
        links = [v for v in unproven if v.order.network == kind]
        stated, true = sum(v.answer.confidence for v in links) / 100 / len(links), share(v.right for v in links)
        print(f"{kind:<12} {len(links):>4} stated {stated:.3f} true {true:.3f}")
        if len(links) >= LINKS:
            judged[kind] = stated, true
    assert judged.keys() >= {"home", "home NAT", "mobile NAT", "office"}
    assert all(stated - true <= 0.05 for stated, true in judged.values())
    assert any(0.97 - true > 0.05 for _, true in judged.values()), "control: what states its best of all is seen"
    relayed = [v for v in unproven if v.order.network == "relay" and v.answer.confidence >= 50]
    assert relayed
    assert all(has_a_second_signal(v.answer) for v in relayed)


def has_a_second_signal(answer: Any) -> bool:
    """Something of the device itself, beside the address."""
    return any(
        e.signal in ("user_agent", "fingerprint") and e.result == "equal" and e.bits > 0 for e in answer.evidence
    )
