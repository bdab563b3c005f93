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
LINKS = 150  # of a stratum that is judged


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
    for kind in sorted({v.order.network for v in scores.unproven}):
        links = [v for v in scores.unproven if v.answer.attributed and v.order.network == kind]
        stated, true = share_stated(links), share(v.right for v in links)
        print(f"{kind:<12} {len(links):>4} stated {stated:.3f} true {true:.3f}")
        if len(links) >= LINKS:
            assert stated - true <= 0.05


def share_stated(links: list[Any]) -> float:
    return sum(v.answer.confidence for v in links) / 100 / len(links) if links else 0.0
