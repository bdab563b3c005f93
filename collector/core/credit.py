"""How an order's value is shared over the clicks of its journey: last, first, linear, time decay, position.

Weights are exact fractions that sum to 1; amounts are whole minor units that sum to the order, by largest remainder.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import lcm
from operator import itemgetter
from typing import Literal

CreditModel = Literal["last", "first", "linear", "time-decay", "position"]
CREDIT_MODELS: tuple[CreditModel, ...] = ("last", "first", "linear", "time-decay", "position")
HALF_LIFE_MS = 7 * 86_400_000  # a click a week earlier counts half
_ENDS, _MIDDLE = Fraction(2, 5), Fraction(1, 5)


def weights(model: CreditModel, touches: Sequence[int], conversion: int) -> list[Fraction]:
    """Each touch's share; `touches` and `conversion` are times in ms, oldest first. None without touches."""
    n = len(touches)
    if n == 0:
        return []
    if model in ("last", "first"):
        chosen = n - 1 if model == "last" else 0
        return [Fraction(int(at == chosen)) for at in range(n)]
    if model == "linear":
        return [Fraction(1, n)] * n
    return _time_decay(touches, conversion) if model == "time-decay" else _position(n)


def _time_decay(touches: Sequence[int], conversion: int) -> list[Fraction]:
    """2^(-age / 7 days), continuous (a stepped decay would move credit at arbitrary hours)."""
    newest = max(touches)  # ages are taken from it: the same shares, and no underflow after a year
    raw = [Fraction(2.0 ** ((t - newest) / HALF_LIFE_MS)) for t in touches]
    total = sum(raw)
    return [w / total for w in raw]


def _position(n: int) -> list[Fraction]:
    """40/20/40; two touches share equally, one has it all."""
    if n <= 2:
        return [Fraction(1, n)] * n
    return [_ENDS, *[_MIDDLE / (n - 2)] * (n - 2), _ENDS]


def shared(model: CreditModel, touches: Sequence[int], conversion: int, minor: int) -> list[tuple[Fraction | int, int]]:
    """Each touch's share of an order, and its whole minor units, which sum to `minor`."""
    if model in ("last", "first"):
        chosen = len(touches) - 1 if model == "last" else 0
        return [(1, minor) if at == chosen else (0, 0) for at in range(len(touches))]
    shares = weights(model, touches, conversion)
    return list(zip(shares, allocate(minor, shares), strict=True))


def allocate(minor: int, shares: Sequence[Fraction]) -> list[int]:
    """Whole minor units by largest remainder; they sum to `minor` exactly, also for a refund's negative amount.

    Equal remainders go to the later touch, as last touch would have it.
    """
    if minor < 0:
        return [-part for part in allocate(-minor, shares)]
    whole = lcm(*[share.denominator for share in shares])  # in whole numbers: fractions cost three times as much
    divided = [divmod(minor * share.numerator * (whole // share.denominator), whole) for share in shares]
    parts = [part for part, _ in divided]
    by_remainder = sorted(range(len(shares)), key=lambda at: (divided[at][1], at), reverse=True)
    for at in by_remainder[: minor - sum(parts)]:
        parts[at] += 1
    return parts


def within(journey: Sequence[tuple[int, int]], conversion: int, window_ms: int) -> list[tuple[int, int]]:
    """The (click, time) pairs of a stored journey that are eligible for another window, oldest first.

    Clicks of one moment keep their order: the last is the credited one. A click stamped a little after its conversion
    (two clocks) counts as at it.
    """
    found = [(c, t) for c, t in journey if conversion - t <= window_ms]
    return sorted(found, key=itemgetter(1)) if len(found) > 1 else found
