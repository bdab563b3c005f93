"""Amounts in minor units, as Stripe and Paddle write them (M5): by their own table, not by ISO's."""

from __future__ import annotations

from decimal import Decimal
from typing import Final, NamedTuple

# https://docs.stripe.com/currencies: charged in whole units; and in thousandths.
_WHOLE: Final = frozenset("BIF CLP DJF GNF JPY KMF KRW MGA PYG RWF VND VUV XAF XOF XPF".split())
_THOUSANDTHS: Final = frozenset("BHD JOD KWD OMR TND".split())
# Written with two decimals that must be 0; who leaves them out is known by an amount that 100 does not divide.
_TWO_ZEROS: Final = frozenset(("ISK", "UGX"))


class Amount(NamedTuple):
    """An amount in whole units; `odd`: its decimals had to be guessed."""

    value: Decimal
    odd: bool = False


def from_minor(units: Decimal, currency: str) -> Amount | None:
    """What so many minor units are; None where it is no whole number of them."""
    if not units.is_finite() or units.adjusted() > 30 or units != units.to_integral_value():
        return None
    code = currency.upper()
    if code in _TWO_ZEROS and units % 100:
        return Amount(units, odd=True)
    return Amount(units.scaleb(-_decimals(code)))


def _decimals(code: str) -> int:
    return 0 if code in _WHOLE else 3 if code in _THOUSANDTHS else 2
