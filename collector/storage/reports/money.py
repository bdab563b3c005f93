"""A value in its currency's smallest units, and back."""

from __future__ import annotations

from decimal import Decimal

from collector.core.amounts import decimals_of


def to_minor(value: Decimal, code: str) -> tuple[int, int]:
    """A value as whole units and their number of decimals: the currency's, or the value's own where that is finer."""
    decimals, exponent = decimals_of(code), value.as_tuple().exponent
    if -int(exponent) > decimals:
        decimals = max(decimals, -int(value.normalize().as_tuple().exponent))
    return int(value.scaleb(decimals)), decimals


def from_minor(units: int, decimals: int) -> Decimal:
    """The value of so many units."""
    return Decimal(units).scaleb(-decimals)
