"""What an explanation claims comes true: the matcher is run without the evidence that it names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random

import msgspec
import pytest
from msgspec.structs import replace

from collector.core.calibration import calibrate, least_for
from collector.core.explain import Change, explain
from collector.core.matching import DEFAULT_MODEL, Candidate, Match, Model, Policy, Query, Statistics, match
from collector.core.useragents import classify
from collector.storage.reports import commands
from tests.kit.console_process import make_config
from tests.kit.console_store import IDS, add_conversion, make_store
from tests.matching.test_matching_cases import CHROME, IN_APP, NOW, SAFARI, SAFARI_OLD

HOUR = 3_600_000
PLATT = replace(DEFAULT_MODEL, version="fs.7", calibration=(0.5, -1.2))
KNOTS = replace(DEFAULT_MODEL, knots=((0.02, 0.01), (0.3, 0.15), (0.7, 0.45), (0.9, 0.45), (0.97, 0.8)))
MODELS = (DEFAULT_MODEL, PLATT, replace(DEFAULT_MODEL, calibration=(1.5, 1.0)), KNOTS)
CLASSES = [classify(agent) for agent in (SAFARI, IN_APP, CHROME, SAFARI_OLD)]
ABOUT = Statistics(clicks_in_window=300, visitors=1500, visitors_on_ip=1, visitors_on_ua=700)
ORDER = Query(ts=30 * HOUR, ip_k=5, ua_k=7, jar_since=29 * HOUR)


def clicked(hours_before: float) -> Candidate:
    at = int((30 - hours_before) * HOUR)
    return Candidate(1, at, at, 1, 11, None, 5, 7, None, 0, 0)


def refused() -> Match:
    """An order whose click has odds of five to one, which the store's own labels have taught to doubt."""
    found = match(ORDER, [clicked(20)], ABOUT, PLATT, Policy())
    assert (found.attributed, found.best) == (False, 41)
    return found


def test_a_refused_order_is_judged_by_the_map_that_refused_it() -> None:
    """Without the cookies' age, which speaks for it, the odds are worth 69 before the map and less than 41 after it."""
    told = explain(refused(), 50, PLATT)
    assert told.changes == []
    assert told.missing_bits == pytest.approx(1.03, abs=0.01)


def test_nothing_is_claimed_in_the_name_of_another_model() -> None:
    found = refused()
    for other in (None, DEFAULT_MODEL):
        told = explain(found, 50, other)
        assert (told.changes, told.missing_bits) == ([], 0)
        assert told.lines


def test_no_bits_are_missing_where_a_cap_or_the_map_refuses_whatever_the_evidence() -> None:
    capped = replace(DEFAULT_MODEL, caps=(40,) * 8)
    deaf = replace(DEFAULT_MODEL, knots=((0.1, 0.05), (0.9, 0.45)))
    for model in (capped, deaf):
        found = match(ORDER, [clicked(1)], ABOUT, model, Policy())
        assert not found.attributed
        assert explain(found, 50, model).missing_bits == 0


@pytest.mark.parametrize("model", MODELS)
def test_the_least_probability_for_a_figure_is_just_enough(model: Model) -> None:
    for percent in range(2, 80):
        least = least_for(percent / 100, model.calibration, model.knots)
        assert least is not None
        assert calibrate(least, model.calibration, model.knots) >= percent / 100 - 1e-12
        assert calibrate(least - 1e-6, model.calibration, model.knots) < percent / 100


def _any(rng: Random) -> tuple[Query, list[Candidate], Statistics]:
    """An order without proof, and some clicks that share one thing or another with it."""

    def some(*values: int | None) -> int | None:
        return rng.choice([None, *values])

    agents = [rng.randrange(4) for _ in range(4)]
    query = Query(
        ts=NOW,
        ip_k=some(1, 1, 1),
        ua_k=1 + agents[0],
        ua_class=CLASSES[agents[0]],
        fp_k=some(1, 1),
        jar_since=some(NOW - HOUR, NOW - 300 * HOUR),
    )
    clicks = []
    for n in range(rng.choice([1, 1, 1, 2, 3])):
        at = NOW - int(60_000 * 10 ** rng.uniform(0, 3.9))
        agent, seen = agents[n % 2], rng.random() < 0.9
        keys = (some(1, 1, 2), 1 + agent if seen else None, some(1, 2))
        version = rng.choice([0, 0, 0, 1 << 16])
        clicks.append(Candidate(n + 1, at, at, n, some(8, 8, 9), None, *keys, CLASSES[agent] if seen else 0, version))
    about = Statistics(
        clicks_in_window=10 ** rng.uniform(1, 5),
        visitors=10 ** rng.uniform(1, 5),
        visitors_on_ip=rng.choice([1, 1, 2, 40]),
        visitors_on_ua=10 ** rng.uniform(0, 3),
        visitors_on_fp=rng.choice([1, 3]),
    )
    return query, clicks, about


def _journey(c: Candidate) -> object:
    return c.visitor_k or (c.ip_k, c.ua_k, c.id if c.ip_k is None else 0)


def _without(signal: str, query: Query, clicks: list[Candidate], found: Match) -> tuple[Query, list[Candidate]]:
    credited = next(c for c in clicks if c.id in (found.click, found.best_click))
    gone = {
        "ip": {"ip_k": None},
        "fingerprint": {"fp_k": None},
        "user_agent": {"ua_k": None, "ua_class": 0},
        "cookie_jar": {"jar_since": None},
    }
    if signal == "rivals":
        return query, [c for c in clicks if _journey(c) == _journey(credited)]
    if signal == "journey":
        return query, [c for c in clicks if c is credited or _journey(c) != _journey(credited)]
    return replace(query, **gone[signal]), clicks


def _claims(runs: int, model: Model) -> Iterator[tuple[Change, Match, Match]]:
    """Every claim about so many orders, the answer it is about, and the answer that comes when it is tried."""
    rng = Random(7)
    for _ in range(runs):
        query, clicks, about = _any(rng)
        found = match(query, clicks, about, model, Policy())
        for change in explain(found, 50, model).changes:
            yield change, found, match(*_without(change.without, query, clicks, found), about, model, Policy())


@pytest.mark.parametrize("model", MODELS)
def test_what_would_have_changed_the_answer_changes_it(model: Model) -> None:
    seen: Counter[str] = Counter()
    for change, found, tried in _claims(4_000, model):
        seen[change.without] += 1
        assert change.attributed == tried.attributed != found.attributed
        if change.attributed or change.without != "ip":
            assert change.confidence == (tried.confidence or tried.best), change
        if change.attributed:
            assert tried.click == found.best_click
    assert min(seen[name] for name in ("ip", "fingerprint", "user_agent", "cookie_jar", "rivals", "journey")) > 0, seen


@pytest.mark.parametrize("model", MODELS)
def test_the_missing_bits_are_those_that_would_have_been_enough(model: Model) -> None:
    """Given to it by a shop with fewer clicks, in which each is likelier by so much."""
    rng, tried = Random(8), 0
    for _ in range(2_000):
        query, clicks, about = _any(rng)
        found = match(query, clicks[:1], about, model, Policy())
        lacking = explain(found, 50, model).missing_bits
        if lacking < 0.1 or about.clicks_in_window < 2**lacking:
            continue
        tried += 1
        for bits, enough in ((lacking + 1e-6, True), (lacking - 0.1, False)):
            fewer = replace(about, clicks_in_window=about.clicks_in_window / 2**bits)
            assert match(query, clicks[:1], fewer, model, Policy()).attributed is enough
    assert tried > 50


def test_an_address_that_many_share_is_said_to_be_one() -> None:
    click = Candidate(1, HOUR, HOUR, 1, 11, None, 5, 8, None, 0, 0)
    query = Query(ts=8 * HOUR, ip_k=5)
    for others, said in ((7, True), (1, False)):
        found = match(query, [click], Statistics(clicks_in_window=30, visitors_on_ip=others), DEFAULT_MODEL, Policy())
        told = explain(found)
        assert ("many people share" in told.summary) is found.shared is said
        assert not (said and (told.changes or told.missing_bits))


def test_a_stored_answer_is_explained_by_the_model_that_made_it(tmp_path: Path) -> None:
    db = make_store(tmp_path, clicks=1, conversions=0)
    number = add_conversion(db, NOW, match=refused())
    db.execute("DELETE FROM model")
    newer = replace(DEFAULT_MODEL, version="fs.8")
    for at, model in enumerate((PLATT, newer)):
        db.execute("INSERT INTO model VALUES (1, ?, ?, ?)", (model.version, at, msgspec.msgpack.encode(model)))
    db.commit()
    why = commands.explain(make_config(tmp_path), IDS.public("conv", number))
    assert why is not None
    assert why["changes"] == []
    assert why["missingBits"] == explain(refused(), 50, PLATT).missing_bits > 1
