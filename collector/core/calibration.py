"""Does a stated probability come true: the Platt map, reliability tables, calibration error and its noise floor."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from math import exp, log

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
