"""What is a phone number in Meta's form: E.164 without the plus, country code included, never guessed?

written with + or 00               that number; without the library, where it cannot be otherwise
digits, in a country that is known  as people there dial it, or with a country code already (Meta's own form):

    begin with that country's code, and a valid number so   so; the other reading beside it only where the number
                                                            is valid there too and is no mobile one
    valid with another country's code, not valid at home    so
    valid both ways                                         as at home, where that is a mobile number or people dial
                                                            no trunk prefix; else both
    else                                                    as at home, if such a number is possible

digits, country unknown            nothing: 2079460958 is a Londoner's or an Egyptian's

Mexico dialled otherwise until 2019, and address books there still do: 52 1 55 …, 01 55 …, 044 55 … are one number,
whose owner may be known with the 1 or without.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Any, Final

from collector.core.remembered import remembered

_SEPARATORS: Final = str.maketrans("", "", " \t-.()/\u00a0\u2010\u2011\u2012\u2013")
# The library finds two digits possible in Germany. No subscriber has fewer than these, with the country code (Saint
# Helena's: 290 and four or five).
LEAST_DIGITS: Final = 7
_COUNTED: Final = frozenset("1234567890"[:n] for n in range(7, 11))  # typed to get past a form
_TRUNK_ZERO: Final = re.compile(r"\(\s*0\s*\)")
_ABROAD: Final = re.compile(r"^(?:00+|\+0*)(?=[1-9])")  # +001 … is +1 …
# A number that needs no library: North America at its exact length, or a country code that no trunk zero can follow
# (country codes have one to three digits, so the second to the fourth digit are not 0).
# But for Argentina, where a mobile's 15 becomes a 9 before the area.
_PLAIN: Final = re.compile(r"\+(1[2-9]\d{9}|(?!54|521)[2-9][1-9]{3}\d{4,11})", re.ASCII)
_OLD_MEXICAN: Final = re.compile(r"\+?521(\d{10})", re.ASCII)
_DIALLED_IN_MEXICO: Final = re.compile(r"0(?:1|44|45)(\d{10})", re.ASCII)
_AS_FLOAT: Final = re.compile(r"(\d+)\.0+", re.ASCII)  # a column of a table with gaps in it: 4915123456789.0


def e164_digits(text: str, country: str | None) -> str | None:
    """The digits of `text` with their country code, or None where that cannot be known; see `e164_readings`."""
    return readings[0] if (readings := e164_readings(text, country)) else None


@remembered(4096)  # an order is told several times within seconds, and the library takes 40 µs for a number
def e164_readings(text: str, country: str | None) -> Sequence[str]:
    """The digits of `text` with their country code: none, one, or two where both can be meant, the likelier first.

    `country` (lower-case alpha-2) is whose national numbers are read. What is typed to get past a form is no number.
    """
    bare = bare_form(text)
    if bare[-4:] == bare[-1:] * 4 and is_placeholder(bare):
        return ()
    if _PLAIN.fullmatch(bare):
        return (bare[1:],)
    if (ten := old_mexican(bare, country)) is not None:
        return (f"52{ten}", f"521{ten}") if bare[0] == "0" else (f"521{ten}", f"52{ten}")
    return tuple(_by_library(bare, text, country))


def old_mexican(bare: str, country: str | None) -> str | None:
    """The ten digits of a Mexican number that is written as it was dialled until 2019, None for any other number."""
    if bare[-14:-10] not in ("+521", "521", "01", "044", "045") or (bare[0] != "+" and country != "mx"):
        return None
    found = _OLD_MEXICAN.fullmatch(bare) or _DIALLED_IN_MEXICO.fullmatch(bare)
    return found[1] if found and _is_valid(_number(f"+52{found[1]}", None)) else None


def is_placeholder(bare: str) -> bool:
    """0000000 and +49 1111111 are typed to get past a form."""
    return len(set(bare.removeprefix("+")[3:])) == 1


def bare_form(text: str) -> str:
    """Digits after a plus where there is one; without separators and the trunk zero that is for callers at home."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    if found := _AS_FLOAT.fullmatch(text):
        return found[1]
    stripped = (_TRUNK_ZERO.sub("", text) if "(" in text else text).removeprefix("tel:").translate(_SEPARATORS)
    return _ABROAD.sub("+", stripped, count=1) if stripped[:2] in ("00", "+0") else stripped


def _by_library(bare: str, text: str, country: str | None) -> list[str]:
    region = country.upper() if country else None
    if bare in _COUNTED:
        return []
    if not (bare.isdigit() and region):
        return _digits(_number(bare, region))
    home = _number(bare, region)
    if bare[0] == "0" and _is_valid(home):  # dialled as at home
        return _digits(home)
    abroad = _number("+" + bare.lstrip("0"), None)
    return _either(home, abroad, bare, region, trunk_zero="(" in text and _TRUNK_ZERO.search(text) is not None)


def _either(home: Any, abroad: Any, bare: str, region: str, *, trunk_zero: bool) -> list[str]:
    """Which of two readings of the same digits is meant: as at home, or with a country code already."""
    import phonenumbers

    own = abroad is not None and abroad.country_code == phonenumbers.country_code_for_region(region)
    if home is None and own:
        return _digits(abroad)
    if abroad is None or not phonenumbers.is_valid_number(abroad) or abroad == home:
        return _digits(home)
    if not _is_valid(home) or (own and (trunk_zero or _is_mobile(abroad))):
        return _digits(abroad)
    if not own and (_is_mobile(home) or _needs_no_trunk(region)):
        return _digits(home)
    return _digits(abroad) + _digits(home)


def _is_valid(number: Any) -> bool:
    import phonenumbers

    return number is not None and phonenumbers.is_valid_number(number)


def _is_mobile(number: Any) -> bool:
    import phonenumbers

    return bool(phonenumbers.number_type(number) == phonenumbers.PhoneNumberType.MOBILE)


def _needs_no_trunk(region: str) -> bool:
    """Whether people write a number at home as it is: no trunk prefix, or (North America) the country code for one."""
    import phonenumbers

    known = phonenumbers.PhoneMetadata.metadata_for_region(region)
    return known is None or known.national_prefix in (None, str(known.country_code))


def _number(text: str, region: str | None) -> Any:
    """A number that is possible, as the library reads it; None for what is none."""
    # Imported here: 30 ms that a start without phone numbers need not pay.
    import phonenumbers

    try:
        number = phonenumbers.parse(text, region)
    except phonenumbers.NumberParseException:
        return None
    return number if phonenumbers.is_possible_number(number) else None


def _digits(number: Any) -> list[str]:
    import phonenumbers

    if number is None:
        return []
    digits = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)[1:]
    return [digits] if len(digits) >= LEAST_DIGITS else []


def warm() -> None:
    """Load the library now, so that the first odd number of a page does not wait for it."""
    e164_digits("(650) 555-1212", "us")
