"""Matchers that look right and are not: the suite must refuse each of them."""

from __future__ import annotations

from collections.abc import Sequence
from math import floor

from msgspec import structs

from collector.core.matching import Candidate, Match, Model, Policy, Query, Statistics, match
from collector.core.matching.model import Network

NOWHERE = {0: Network((1.0, 1.0, 1.0), (1.0, 1.0, 1.0))}  # a night has been, or it would be cautious for lack of one


def constant_95(
    query: Query, candidates: Sequence[Candidate], statistics: Statistics, model: Model, policy: Policy
) -> Match:
    """Says 95 whenever anything fits."""
    found = match(query, candidates, statistics, model, policy)
    return _stating(found, 95) if found.tier == "inferred" else found


def without_frequencies(
    query: Query, candidates: Sequence[Candidate], statistics: Statistics, model: Model, policy: Policy
) -> Match:
    """Takes every address and every user agent for as common as the average one."""
    averages = structs.replace(
        statistics, visitors_on_ip=1.5, visitors_on_ua=0.03 * statistics.visitors, visitors_on_fp=1.5
    )
    unknowing = structs.replace(model, networks=NOWHERE, crowds={}, bunched={}, clickers_per_visitor=0.0)
    return match(query, candidates, averages, unknowing, policy)


def without_none(
    query: Query, candidates: Sequence[Candidate], statistics: Statistics, model: Model, policy: Policy
) -> Match:
    """Asks which click it was, never whether it was any."""
    found = match(query, candidates, statistics, model, policy)
    if found.tier != "inferred":
        return found
    own = 1 / (1 + 2**-found.log_odds_bits)
    return _stating(found, min(97, max(1, floor(100 * own / found.p_any))))


def _stating(found: Match, confidence: int) -> Match:
    click = found.click or found.best_click
    attributed = confidence >= 50
    return structs.replace(found, attributed=attributed, click=click if attributed else None, confidence=confidence)
