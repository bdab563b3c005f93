"""Amounts of money as they are compared and sent: whole minor units of their currency (L2)."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal, localcontext
from functools import lru_cache
from typing import Final

# No codes of money; and those that ISO 4217 has withdrawn while Meta has had a Conversions API: orders of then are told
# late, and shops change their settings later than the list does.
_NO_MONEY: Final = frozenset({"XXX", "XTS"})
_WITHDRAWN: Final = frozenset(
    ["ANG", "BGN", "BYR", "CUC", "EEK", "HRK", "LTL", "LVL", "MRO", "SLL", "STD", "VEF", "ZMK", "ZWL"]
)
MOST_DECIMALS: Final = 18  # kept; a longer tail is what a binary fraction leaves behind
_PRECISION: Final = 60


def is_currency(code: str) -> bool:
    """Whether this is a code of money, in force or withdrawn lately; `code` in upper case."""
    return code in _WITHDRAWN or (code in _decimals() and code not in _NO_MONEY)


def decimals_of(code: str) -> int:
    """Decimals of a currency; 2 where it is unknown or has none of its own."""
    return _decimals().get(code, 2)


@lru_cache(maxsize=1)
def _decimals() -> dict[str, int]:
    """ISO 4217's list: 25 ms and 2 MB, which a process does without until it sees its first order."""
    from iso4217 import Currency

    return {one.code: 2 if one.exponent is None else int(one.exponent) for one in Currency}


def rounded(value: Decimal, code: str | None) -> Decimal:
    """The value in the currency's minor unit, half up; what has no more decimals stays as it is, and -0 is 0."""
    return at_most(value, decimals_of(code or ""))


def at_most(value: Decimal, decimals: int) -> Decimal:
    """The value with at most so many decimals."""
    if value.is_zero():
        return abs(value) if value.is_signed() else value
    exponent = value.as_tuple().exponent
    if not isinstance(exponent, int) or exponent >= -decimals:
        return value
    with localcontext(prec=_PRECISION):
        return abs(found) if (found := value.quantize(Decimal(1).scaleb(-decimals), ROUND_HALF_UP)).is_zero() else found


def same(one: Decimal, other: Decimal, code: str | None) -> bool:
    """Whether two amounts are one to whoever pays them."""
    return rounded(one, code) == rounded(other, code)
