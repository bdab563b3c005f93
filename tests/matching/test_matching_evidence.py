"""What every answer holds to: evidence that sums, independence of order, a storable form, an explanation."""

from __future__ import annotations

from random import Random

import msgspec
import pytest

from collector.core import explain
from collector.core.matching import DEFAULT_MODEL, Candidate, Match, Policy, Query, Statistics, inference, match
from collector.core.matching.eligible import sort_out
from tests.kit.simulators.trial import Shelf, query_of
from tests.kit.simulators.truth import Public, World
from tests.matching.test_matching_cases import HOUR, IN_APP, MINUTE, SAFARI, answer, click, order

POLICY = Policy()


@pytest.fixture(scope="module")
def cases() -> list[tuple[Query, list[Candidate], Statistics]]:
    """Some hundred orders of a simulated shop with all that is known about them."""
    public = Public(World(seed=901, people=6_000, cgnat=0.5))
    shelf = Shelf(public)
    found = []
    for one in public.orders:
        query = query_of(one)
        candidates = shelf.candidates(query)
        if candidates:
            found.append((query, candidates, shelf.statistics(query)))
    assert len(found) > 100
    return found


def test_the_weights_sum_to_the_log_odds(cases: list[tuple[Query, list[Candidate], Statistics]]) -> None:
    for query, candidates, statistics in cases:
        found = match(query, candidates, statistics, DEFAULT_MODEL, POLICY)
        assert sum(e.bits for e in found.evidence) == pytest.approx(found.log_odds_bits, abs=1e-6)


def test_the_log_odds_are_the_confidence_before_its_cap(cases: list[tuple[Query, list[Candidate], Statistics]]) -> None:
    """A reader can check the figure: P = 1 / (1 + 2^-bits)."""
    judged = 0
    for query, candidates, statistics in cases:
        found = match(query, candidates, statistics, DEFAULT_MODEL, POLICY)
        if found.evidence:
            judged += 1
            stated = found.capped_from or found.confidence or found.best
            assert stated == pytest.approx(100 / (1 + 2**-found.log_odds_bits), abs=1.001)
    assert judged > 50


def test_a_thousand_permutations_give_one_answer(cases: list[tuple[Query, list[Candidate], Statistics]]) -> None:
    random = Random(4)
    crowded = sorted(cases, key=lambda case: -len(case[1]))[:20]
    for query, candidates, statistics in crowded:
        first = match(query, candidates, statistics, DEFAULT_MODEL, POLICY)
        for _ in range(50):
            shuffled = random.sample(candidates, len(candidates))
            assert match(query, shuffled, statistics, DEFAULT_MODEL, POLICY) == first


def test_the_fast_loop_says_what_the_evidence_says(cases: list[tuple[Query, list[Candidate], Statistics]]) -> None:
    for query, candidates, statistics in cases:
        fresh = sort_out(query, candidates, POLICY).fresh
        found = inference.infer(query, fresh, statistics, DEFAULT_MODEL, POLICY)
        for journey in found.journeys if found else []:
            odds = sum(
                2.718281828459045 ** (found.scale.prior + inference.weigh(c, found.scale).total) for c in journey.clicks
            )
            assert odds == pytest.approx(journey.mass)


def test_an_answer_can_be_stored_and_read_again(cases: list[tuple[Query, list[Candidate], Statistics]]) -> None:
    for query, candidates, statistics in cases[:50]:
        found = match(query, candidates, statistics, DEFAULT_MODEL, POLICY)
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(found), type=Match) == found


def test_evidence_holds_no_key(cases: list[tuple[Query, list[Candidate], Statistics]]) -> None:
    """Keys are personal data: none may leave in an answer."""
    for query, candidates, statistics in cases[:100]:
        text = msgspec.json.encode(match(query, candidates, statistics, DEFAULT_MODEL, POLICY).evidence).decode()
        for key in (query.ip_k, query.ua_k, query.visitor_k, query.fbc_k):
            assert key is None or f":{key}}}" not in text


def test_a_confidence_is_never_100_and_never_0(cases: list[tuple[Query, list[Candidate], Statistics]]) -> None:
    for query, candidates, statistics in cases:
        found = match(query, candidates, statistics, DEFAULT_MODEL, POLICY)
        assert found.confidence in range(1, 100) if found.attributed else found.confidence == 0


def test_explain_names_what_would_have_changed_an_attribution() -> None:
    """Without the address nothing is left; without the user agent it would not have been enough either."""
    found = answer(order(SAFARI, ip_k=5), click(2 * HOUR, IN_APP, ip_k=5))
    assert found.attributed
    told = explain.explain(found)
    assert "ip" in {change.without for change in told.changes}
    assert len(told.lines) == len(found.evidence)
    assert "confidence" in told.summary


def test_explain_names_the_rival_of_an_ambiguous_order() -> None:
    found = answer(order(SAFARI, ip_k=5), click(3 * MINUTE, SAFARI, ip_k=5), click(4 * MINUTE, SAFARI, ip_k=5))
    told = explain.explain(found)
    assert [change.without for change in told.changes if change.attributed] == ["rivals"]
    assert told.missing_bits > 0
