"""The matcher against known truth: precision and recall that must be reached, and three broken matchers that miss them.

Seeds looked at in tuning the model: 1-3, 11, 12, 21, 22 and 601-604. The world itself was set while 401 and 402 were
looked at: denser networks, so that the control without frequencies fails.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from collector.core.matching import Match, match
from tests.kit.simulators import broken
from tests.kit.simulators.scores import Scores, address_and_agent_24h, last_click_of_address, merged, trial
from tests.kit.simulators.targets import MANY_LINKS, missed
from tests.kit.simulators.trial import Shelf, nightly
from tests.kit.simulators.truth import Public, World

REFERENCE = (401, 402)
PROVEN = 1_000  # orders with proof: .99 of so few may be told from .98
QUICK = ("cgnat 60", "in-app 90", "organic 10:1")  # with two publics each; all corners with as many as it takes: long
SWEEP: dict[str, dict[str, float]] = {
    "reference": {},
    "cgnat 0": {"cgnat": 0.0},
    "cgnat 60": {"cgnat": 0.6},
    "strip 0": {"strip": 0.0},
    "strip 25": {"strip": 0.25},
    "consent 30": {"consent": 0.3},
    "consent 95": {"consent": 0.95},
    "in-app 40": {"in_app": 0.4},
    "in-app 90": {"in_app": 0.9},
    "organic 1:4": {"organic": 0.25},
    "organic 4:1": {"organic": 4.0},
    "organic 10:1": {"organic": 10.0},
    "all hard": {"cgnat": 0.6, "strip": 0.25, "in_app": 0.9, "organic": 6.0},
}


@pytest.fixture(scope="module")
def shelves() -> list[Shelf]:
    """Two reference towns; what their nights find is kept for all trials."""
    return [Shelf(Public(World(seed=seed, people=60_000))) for seed in REFERENCE]


def new_store(shelves: list[Shelf], matcher: Callable[..., Match] = match) -> Scores:
    return merged(trial(shelf.public, matcher, shelf=shelf) for shelf in shelves)


@pytest.mark.slow
def test_a_new_store_meets_the_targets(shelves: list[Shelf]) -> None:
    scores = new_store(shelves)
    print(scores.line("new store"))
    assert missed(scores, trained=False, reference=True) == []


@pytest.mark.slow
def test_a_store_that_learns_meets_the_targets(shelves: list[Shelf]) -> None:
    scores = merged(trial(shelf.public, learn=nightly(shelf.public, shelf=shelf), shelf=shelf) for shelf in shelves)
    print(scores.line("trained"))
    assert missed(scores, trained=True, reference=True) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("matcher", "reason"),
    [
        (broken.constant_95, "stated 90: precision"),
        (broken.without_none, "stated 90: precision"),
        (broken.without_frequencies, "calibration"),
    ],
)
def test_broken_matchers_miss_the_targets(shelves: list[Shelf], matcher: Callable[..., Match], reason: str) -> None:
    """The control: what these get away with, the suite does not measure."""
    scores = new_store(shelves, matcher)
    print(scores.line(matcher.__name__))
    assert reason in missed(scores, trained=False, reference=True)


@pytest.mark.slow
def test_the_baselines_are_beaten(shelves: list[Shelf]) -> None:
    """Address and agent within a day misses what we find; the last click of an address is wrong where we are right."""
    ours = new_store(shelves)
    narrow, wide = new_store(shelves, address_and_agent_24h), new_store(shelves, last_click_of_address)
    print(narrow.line("address + agent, 24 h"), wide.line("last click of the address"), sep="\n")
    assert ours.recall(50) > narrow.recall(50) + 0.1
    assert ours.precision(50) > wide.precision(50) + 0.1
    assert ours.precision(90) >= narrow.precision(90) - 0.02  # of 140 links three are chance


@pytest.mark.slow
def test_the_sweeps_corner_holds_for_a_new_store() -> None:
    scores = trial(Public(World(seed=403, people=40_000, cgnat=0.6, in_app=0.9, strip=0.25, organic=6.0)))
    assert missed(scores, trained=False, cgnat=0.6) == []


def new_and_trained(public: Public) -> dict[str, Scores]:
    """One public twice: building it and its nights takes longer than both trials."""
    shelf = Shelf(public)
    return {
        "new": trial(public, shelf=shelf),
        "trained": trial(public, learn=nightly(public, shelf=shelf), shelf=shelf),
    }


def swept(name: str, least_proven: int, most_publics: int) -> None:
    """Judge as many publics of a corner as `least_proven` orders with proof take; a miss must be beyond chance."""
    knobs, scores = SWEEP[name], {"new": Scores(), "trained": Scores()}
    for seed in range(501, 501 + most_publics):
        found = new_and_trained(Public(World(seed=seed, people=50_000, **knobs)))  # type: ignore[arg-type]
        scores = {who: merged([before, found[who]]) for who, before in scores.items()}
        if len(scores["new"].proven) >= least_proven:
            break
    for who, ours in scores.items():
        print(ours.line(f"{name}, {who}"))
        cgnat = knobs.get("cgnat", 0.3)
        assert missed(ours, trained=who == "trained", reference=name == "reference", cgnat=cgnat) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", QUICK)
def test_short_sweep(name: str) -> None:
    swept(name, PROVEN, most_publics=2)


@pytest.mark.long
@pytest.mark.parametrize("name", SWEEP)
def test_sweep(name: str) -> None:
    swept(name, PROVEN, most_publics=40)


@pytest.mark.long
def test_calibration_of_seven_thousand_answers() -> None:
    """One large store over the days that it takes: the error is judged to the letter, with every stratum."""
    found = [
        new_and_trained(Public(World(seed=seed, people=250_000, clicks_per_person=0.3)))
        for seed in (611, 612, 613, 614)
    ]
    for who in ("new", "trained"):
        scores = merged(one[who] for one in found)
        print(scores.line(f"large, {who}"), {name: (n, round(by, 3)) for name, (n, by) in scores.strata().items()})
        assert len(scores.proven) + len(scores.links(50)) > MANY_LINKS
        assert missed(scores, trained=who == "trained", reference=True, strict=True) == []
