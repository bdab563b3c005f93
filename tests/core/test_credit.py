"""Credit sums to one, amounts to the order."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.core.credit import CREDIT_MODELS, HALF_LIFE_MS, CreditModel, allocate, weights, within

DAY = 86_400_000
NOW = 1_780_000_000_000
models = st.sampled_from(CREDIT_MODELS)
ages = st.lists(st.integers(0, 90 * DAY), min_size=1, max_size=50)


@given(models, ages, st.integers(-(10**12), 10**12))
def test_amounts_sum_to_the_order_in_minor_units(model: CreditModel, ages: list[int], minor: int) -> None:
    shares = weights(model, sorted(NOW - age for age in ages), NOW)
    parts = allocate(minor, shares)
    assert sum(shares) == 1
    assert sum(parts) == minor
    assert all(abs(part - minor * share) < 1 for part, share in zip(parts, shares, strict=True))


@pytest.mark.parametrize(
    ("model", "expected"),
    [("last", [0, 0, 1]), ("first", [1, 0, 0]), ("linear", [1, 1, 1]), ("position", [2, 1, 2])],
)
def test_three_touches(model: CreditModel, expected: list[int]) -> None:
    total = sum(expected)
    assert weights(model, [NOW - 3, NOW - 2, NOW - 1], NOW) == [Fraction(n, total) for n in expected]


def test_time_decay_halves_in_seven_days() -> None:
    older, newer = weights("time-decay", [NOW - HALF_LIFE_MS - DAY, NOW - DAY], NOW)
    assert (older, newer) == (Fraction(1, 3), Fraction(2, 3))


def test_position_with_one_and_two_touches() -> None:
    assert weights("position", [NOW], NOW) == [1]
    assert weights("position", [NOW - 1, NOW], NOW) == [Fraction(1, 2)] * 2


def test_a_cent_left_over_goes_to_the_later_touch() -> None:
    assert allocate(100, weights("linear", [NOW - 3, NOW - 2, NOW - 1], NOW)) == [33, 33, 34]
    assert allocate(-100, weights("linear", [NOW - 3, NOW - 2, NOW - 1], NOW)) == [-33, -33, -34]


def test_no_touch_no_credit() -> None:
    assert weights("linear", [], NOW) == []


def test_a_window_takes_the_touches_inside_it() -> None:
    journey = [(3, NOW - 40 * DAY), (1, NOW - 7 * DAY), (2, NOW - DAY)]
    assert [c for c, _ in within(journey, NOW, 7 * DAY)] == [1, 2]
    assert [c for c, _ in within(journey, NOW, 90 * DAY)] == [3, 1, 2]
