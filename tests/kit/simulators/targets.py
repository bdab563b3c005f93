"""What the matcher must reach where truth is known: precision, recall, calibration. A list of what a trial misses."""

from __future__ import annotations

from collections.abc import Iterable
from math import sqrt

from tests.kit.simulators.scores import Scores

MANY_LINKS = 5_000  # answers from which calibration is judged to the letter


def missed(
    scores: Scores, *, trained: bool, reference: bool = False, cgnat: float = 0.3, strict: bool = False
) -> list[str]:
    """Every target that the trial misses; `strict` takes the figures as they are, else a miss must be beyond chance."""
    sure = _plain if strict else _beyond_chance
    proven, unproven = scores.proven, scores.unproven
    at_90, at_50 = scores.links(90), scores.links(50)
    reachable = [v for v in unproven if v.retrievable]
    checks = [
        ("proof: right click", sure((v.right for v in proven), 0.99)),
        ("proof: recall", sure((v.answer.attributed for v in proven), 0.99)),
        ("stated 90: precision", sure((v.right for v in at_90), 0.95 if cgnat <= 0.3 else 0.90)),
        (
            "stated 90: recall",
            sure((v.right and v.answer.confidence >= 90 for v in reachable), 0.45 if reference else 0.35),
        ),
        ("stated 50: precision", sure((v.right for v in at_50), 0.85 if trained else 0.72)),
        ("organic not attributed", sure((not v.answer.attributed for v in scores.organic), 0.99)),
        ("decoys at 80", sure((not (d.attributed and d.confidence >= 80) for d in scores.decoys), 0.995)),
        ("decoys at 90", sure((not (d.attributed and d.confidence >= 90) for d in scores.decoys), 0.997)),
        (
            "calibration",
            scores.overstated() <= (0.02 if trained else 0.05) or not (strict or scores.overstated() > 0.05),
        ),
    ]
    found = [name for name, met in checks if not met]
    for name, (n, excess) in scores.strata().items():
        allowed = 0.05 if strict else 0.05 + 2 * 0.5 / sqrt(n)
        if excess > allowed:
            found.append(f"stated above the truth: {name} by {excess:.3f} of {n}")
    return found


def _plain(hits: Iterable[bool], least: float) -> bool:
    got = list(hits)
    return bool(got) and sum(got) / len(got) >= least


def _beyond_chance(hits: Iterable[bool], least: float) -> bool:
    """Met, unless so few hits would come about less than once in a hundred by a matcher that just meets the target."""
    got = list(hits)
    n = len(got)
    return n > 0 and sum(got) >= n * least - 2.33 * sqrt(n * least * (1 - least)) - 0.5
