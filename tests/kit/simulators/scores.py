"""What a trial comes to: precision, recall, calibration and false links by population, beside the usual baselines."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from math import sqrt

from collector.core.calibration import Statement, brier, calibration_error, overstatement
from collector.core.matching import DEFAULT_MODEL, Candidate, Match, Model, Policy, Query, Statistics, match
from tests.kit.simulators.trial import Nightly, Shelf, Verdict, counted, decoy, try_matcher
from tests.kit.simulators.truth import DAY, WINDOW, Public, collecting_nothing

STRATUM = 200  # orders that a stratum needs before it is judged


@dataclass
class Scores:
    """Verdicts of one or more trials, three populations apart: proof present, proof absent, proven organic."""

    verdicts: list[Verdict] = field(default_factory=list)
    decoys: list[Match] = field(default_factory=list)

    @property
    def proven(self) -> list[Verdict]:
        return [v for v in self.verdicts if v.proof]

    @property
    def unproven(self) -> list[Verdict]:
        return [v for v in self.verdicts if not v.proof]

    @property
    def organic(self) -> list[Verdict]:
        """Orders without a true click from a browser that was known before the window."""
        return [v for v in self.verdicts if v.organic and v.order.jar_since and v.order.ts - v.order.jar_since > WINDOW]

    def links(self, at_least: int) -> list[Verdict]:
        return [v for v in self.unproven if v.answer.attributed and v.answer.confidence >= at_least]

    def precision(self, at_least: int) -> float:
        return share(v.right for v in self.links(at_least))

    def recall(self, at_least: int) -> float:
        """Of the true clicks that share an address or a fingerprint with their order."""
        within = [v for v in self.unproven if v.retrievable]
        return share(v.right and v.answer.confidence >= at_least for v in within)

    def right_click(self) -> float:
        return share(v.right for v in self.proven)

    def organic_links(self) -> float:
        return share(v.answer.attributed for v in self.organic)

    def decoy_links(self, at_least: int) -> float:
        return share(d.attributed and d.confidence >= at_least for d in self.decoys)

    def statements(self) -> list[Statement]:
        return [(v.answer.confidence / 100 + 0.005, v.right) for v in self.links(1)]

    def overstated(self) -> float:
        """Calibration error of what is stated above the truth, less its noise floor."""
        error, floor = overstatement(self.statements())
        return max(0.0, error - floor)

    def strata(self) -> dict[str, tuple[int, float]]:
        """(orders, stated - true) of each stratum that is large enough to be judged, proven ones too."""
        groups: dict[str, list[Verdict]] = {}
        for v in self.verdicts:
            if v.answer.attributed:
                for name in _strata_of(v):
                    groups.setdefault(name, []).append(v)
        return {
            name: (len(vs), sum(v.answer.confidence / 100 for v in vs) / len(vs) - share(v.right for v in vs))
            for name, vs in sorted(groups.items())
            if len(vs) >= STRATUM
        }

    def line(self, name: str) -> str:
        """One line of the table that a sweep prints."""
        error, floor = calibration_error(self.statements())
        low, high = interval(sum(v.right for v in self.proven), len(self.proven))
        return (
            f"{name:<24} proven {len(self.proven):>5} right {self.right_click():.4f} ({low:.4f}-{high:.4f})"
            f" | unproven {len(self.unproven):>6}"
            f" | >=90 P {self.precision(90):.3f} R {self.recall(90):.3f} ({len(self.links(90))})"
            f" | >=50 P {self.precision(50):.3f} R {self.recall(50):.3f} ({len(self.links(50))})"
            f" | ECE {error:.3f} floor {floor:.3f} over {self.overstated():.3f} Brier {brier(self.statements()):.4f}"
            f" | organic {self.organic_links():.4f}"
            f" | decoys {len(self.decoys)} >=80 {self.decoy_links(80):.4f} >=90 {self.decoy_links(90):.4f}"
        )


def interval(hits: int, n: int) -> tuple[float, float]:
    """The share that 95 of 100 samples like this one would be of (Wilson 1927)."""
    if not n:
        return 0.0, 1.0
    z, p = 1.96, hits / n
    centre, half = p + z * z / (2 * n), z * sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return (centre - half) / (1 + z * z / n), (centre + half) / (1 + z * z / n)


def share(hits: Iterable[bool]) -> float:
    got = list(hits)
    return sum(got) / len(got) if got else 0.0


def _strata_of(v: Verdict) -> list[str]:
    if v.proof:
        return [f"tier {v.answer.method}"]
    group = ("<1h", "<1h", "1-24h", "1-24h", "1-7d", "1-7d")[v.answer.stratum]
    network = "shared" if any(e.signal == "ip" and (e.value or 0) >= 5 for e in v.answer.evidence) else "home"
    return [f"delay {group}", f"network {network}", f"agent level {v.answer.ua_level}", "tier probabilistic"]


def trial(
    public: Public,
    matcher: Callable[..., Match] = match,
    model: Model = DEFAULT_MODEL,
    learn: Nightly | None = None,
    decoys: bool = True,
    shelf: Shelf | None = None,
) -> Scores:
    """Days 31-60 of a public, and the same orders against the clicks of 8-15 days later, which are all false.

    Without `learn` it is a new store: defaults, and orders and clicks counted each night.
    """
    shelf = shelf or Shelf(public)
    learn = learn or counted(public, shelf)
    last = [model]

    def remember(m: Model, answers: list[Match], day: int, seen: Statistics) -> Model:
        last[0] = learn(m, answers, day, seen)
        return last[0]

    with collecting_nothing():
        scores = Scores(try_matcher(public, matcher, model, since_day=30, learn=remember, shelf=shelf))
        if decoys:
            scores.decoys = [
                decoy(shelf, v.order, matcher, last[0]) for v in scores.unproven if v.order.ts < shelf.ends - 15 * DAY
            ]
    return scores


def merged(many: Iterable[Scores]) -> Scores:
    """Several trials as one."""
    total = Scores()
    for one in many:
        total.verdicts += one.verdicts
        total.decoys += one.decoys
    return total


def address_and_agent_24h(
    query: Query, candidates: Sequence[Candidate], statistics: Statistics, model: Model, policy: Policy
) -> Match:
    """The baseline of most trackers: the last click of the same address and user agent within a day."""
    fits = [c for c in candidates if c.ip_k == query.ip_k and c.ua_k == query.ua_k and 0 <= query.ts - c.ts <= DAY]
    return _last(fits)


def last_click_of_address(
    query: Query, candidates: Sequence[Candidate], statistics: Statistics, model: Model, policy: Policy
) -> Match:
    """The other baseline: the last click of the same address within the window."""
    return _last([c for c in candidates if c.ip_k == query.ip_k and 0 <= query.ts - c.ts <= policy.window_ms])


def _last(fits: Sequence[Candidate]) -> Match:
    if not fits:
        return Match(attributed=False, model="baseline", reason="no_candidate")
    newest = max(fits, key=lambda c: c.ts)
    return Match(
        attributed=True, model="baseline", click=newest.id, confidence=95, method="probabilistic", tier="inferred"
    )
