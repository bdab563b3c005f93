"""Does a stated probability come true: the Platt map, reliability tables, calibration error and its noise floor."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise
from math import exp, log, pi, sqrt

from msgspec import Struct

EPSILON = 1e-9


def logit(p: float) -> float:
    p = min(max(p, EPSILON), 1 - EPSILON)
    return log(p / (1 - p))


def sigmoid(x: float) -> float:
    return 1 / (1 + exp(-x)) if x >= 0 else exp(x) / (1 + exp(x))


def calibrate(p: float, platt: tuple[float, float], knots: Sequence[tuple[float, float]] = ()) -> float:
    """The store's own map g: isotonic knots (stated, true) where learnt, else Platt's two parameters."""
    if knots:
        return _between(p, knots)
    if platt == (1.0, 0.0):
        return p
    return sigmoid(platt[0] * logit(p) + platt[1])


def _between(p: float, knots: Sequence[tuple[float, float]]) -> float:
    at = bisect_right(knots, (p, 2.0))
    if at == 0:
        return knots[0][1]
    if at == len(knots):
        return knots[-1][1]
    (x0, y0), (x1, y1) = knots[at - 1], knots[at]
    return y0 + (y1 - y0) * (p - x0) / (x1 - x0)


def least_for(q: float, platt: tuple[float, float], knots: Sequence[tuple[float, float]] = ()) -> float | None:
    """The least probability that `calibrate` takes to `q` or more; None where none is taken so high."""
    if not knots:
        least = sigmoid((logit(q) - platt[1]) / platt[0])
        return least if least <= 1 - EPSILON else None
    if knots[0][1] >= q:
        return 0.0
    for (x0, y0), (x1, y1) in pairwise(knots):
        if y1 >= q:
            return x0 + (x1 - x0) * (q - y0) / (y1 - y0)
    return None


Bins = Sequence[tuple[float, float, float]]  # (stated, labels, of which right)


def fit_platt(bins: Bins) -> tuple[float, float]:
    """(a, b) of sigmoid(a logit(p) + b) by Newton's method, with the penalty 10 (a-1)^2 + 4 b^2 and a in [.2, 2]."""
    a, b = 1.0, 0.0
    rows = [(logit(p), n, right) for p, n, right in bins]
    for _ in range(25):
        ga, gb, haa, hab, hbb = 20 * (a - 1), 8 * b, 20.0, 0.0, 8.0
        for x, n, right in rows:
            p = sigmoid(a * x + b)
            error, weight = n * p - right, n * p * (1 - p)
            ga, gb = ga + error * x, gb + error
            haa, hab, hbb = haa + weight * x * x, hab + weight * x, hbb + weight
        det = haa * hbb - hab * hab
        da, db = (hbb * ga - hab * gb) / det, (haa * gb - hab * ga) / det
        a, b = min(max(a - da, 0.2), 2.0), b - db
        if abs(da) + abs(db) < 1e-9:
            break
    return a, b


def fit_isotonic(bins: Bins) -> tuple[tuple[float, float], ...]:
    """Knots (stated, true) that never fall, by pooling adjacent violators; half a label of doubt per side."""
    pools: list[list[float]] = []  # [sum of stated * n, n, right]
    for p, n, right in bins:
        pools.append([p * n, n, right])
        while len(pools) > 1 and pools[-2][2] * pools[-1][1] >= pools[-1][2] * pools[-2][1]:
            last = pools.pop()
            pools[-1] = [x + y for x, y in zip(pools[-1], last, strict=True)]
    return tuple((stated / n, (right + 0.5) / (n + 1)) for stated, n, right in pools)


Statement = tuple[float, bool]  # (probability stated, came true)


class Bin(Struct, frozen=True):
    """One row of a reliability table."""

    n: int
    stated: float
    true: float
    spread: float  # expected |true - stated| of a perfectly calibrated bin of this size


def reliability(statements: Sequence[Statement], bins: int = 10) -> list[Bin]:
    """Equal-mass bins of what was stated beside what came true (equal width would hide the tails)."""
    rows = sorted(statements)
    cuts = [len(rows) * i // bins for i in range(bins + 1)]
    return [_bin(rows[low:high]) for low, high in pairwise(cuts) if high > low]


def _bin(rows: Sequence[Statement]) -> Bin:
    n = len(rows)
    variance = sum(p * (1 - p) for p, _ in rows)
    # E|X| of a normal with this variance: sqrt(2 variance / pi); no redrawing, so no randomness.
    spread = sqrt(2 * variance / pi) / n
    return Bin(n, sum(p for p, _ in rows) / n, sum(right for _, right in rows) / n, spread)


def calibration_error(statements: Sequence[Statement], bins: int = 10) -> tuple[float, float]:
    """(expected calibration error, its noise floor: what a perfect matcher would show with as many statements)."""
    table, n = reliability(statements, bins), max(1, len(statements))
    return sum(b.n * abs(b.true - b.stated) for b in table) / n, sum(b.n * b.spread for b in table) / n


def overstatement(statements: Sequence[Statement], bins: int = 10) -> tuple[float, float]:
    """As `calibration_error`, of what is stated above the truth alone: caps understate on purpose."""
    table, n = reliability(statements, bins), max(1, len(statements))
    return sum(b.n * max(0.0, b.stated - b.true) for b in table) / n, sum(b.n * b.spread for b in table) / n / 2


def brier(statements: Sequence[Statement]) -> float:
    """Mean squared difference of the stated probability and what came true."""
    return sum((p - right) ** 2 for p, right in statements) / max(1, len(statements))
