"""Measures of calibration and the maps that mend it."""

from __future__ import annotations

from random import Random

import pytest

from collector.core.calibration import (
    brier,
    calibrate,
    calibration_error,
    fit_isotonic,
    fit_platt,
    overstatement,
    reliability,
)


def honest(n: int, seed: int, shift: float = 0.0) -> list[tuple[float, bool]]:
    """Statements that come true as often as they say, less `shift`."""
    random = Random(seed)
    stated = [random.uniform(0.3, 0.95) for _ in range(n)]
    return [(p, random.random() < p - shift) for p in stated]


def test_an_honest_matcher_shows_its_noise_floor_and_no_more() -> None:
    errors = [calibration_error(honest(2_000, seed)) for seed in range(20)]
    mean_error, floor = (sum(column) / 20 for column in zip(*errors, strict=True))
    assert mean_error == pytest.approx(floor, rel=0.15)


def test_a_boaster_is_told_by_how_much() -> None:
    error, floor = calibration_error(honest(5_000, 1, shift=0.1))
    assert error == pytest.approx(0.1, abs=0.02)
    assert overstatement(honest(5_000, 1, shift=0.1))[0] == pytest.approx(0.1, abs=0.02)
    assert overstatement(honest(5_000, 1, shift=-0.04))[0] < 0.01
    assert floor < 0.03


def test_bins_have_equal_mass() -> None:
    assert {row.n for row in reliability(honest(1_000, 1))} == {100}


def test_brier() -> None:
    assert brier([(1.0, True), (0.0, False)]) == 0
    assert brier([(0.5, True), (0.5, False)]) == 0.25


def test_identity_until_taught() -> None:
    assert calibrate(0.8, (1.0, 0.0)) == 0.8


def test_platt_moves_little_on_few_labels_and_to_the_truth_on_many() -> None:
    bins = [(p / 10, 100.0, 100.0 * (p / 10 - 0.1)) for p in range(2, 10)]
    few = [(p, n / 100, right / 100) for p, n, right in bins]
    told_little, told_much = calibrate(0.7, fit_platt(few)), calibrate(0.7, fit_platt(bins))
    assert 0.64 < told_little < 0.70
    assert told_much == pytest.approx(0.6, abs=0.03)


def test_isotonic_never_falls_and_stays_inside() -> None:
    random = Random(1)
    bins = [(at / 40, 50.0, float(sum(random.random() < at / 45 for _ in range(50)))) for at in range(1, 40)]
    knots = fit_isotonic(bins)
    mapped = [calibrate(p / 200, (1.0, 0.0), knots) for p in range(1, 200)]
    assert mapped == sorted(mapped)
    assert 0 < mapped[0] < mapped[-1] < 1
