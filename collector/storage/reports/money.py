"""How many decimals has a currency, and a value in its smallest units."""

from __future__ import annotations

from decimal import Decimal
from functools import lru_cache

from iso4217 import Currency


@lru_cache(maxsize=256)
def decimals_of(code: str) -> int:
    """Decimals of a currency; 2 where it is unknown or has none of its own."""
    try:
        exponent = Currency(code).exponent
    except ValueError:
        return 2
    return 2 if exponent is None else int(exponent)


def to_minor(value: Decimal, code: str) -> tuple[int, int]:
    """A value as whole units and their number of decimals: the currency's, or the value's own where that is finer."""
    finest = -min(0, int(value.normalize().as_tuple().exponent))
    decimals = max(decimals_of(code), finest)
    return int(value.scaleb(decimals)), decimals


def from_minor(units: int, decimals: int) -> Decimal:
    """The value of so many units."""
    return Decimal(units).scaleb(-decimals)
