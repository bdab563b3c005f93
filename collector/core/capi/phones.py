"""What is a phone number in Meta's form: E.164 without the plus, country code included, never guessed?"""

from __future__ import annotations

import re
from typing import Final

_SEPARATORS: Final = str.maketrans("", "", " \t-.()/\u00a0\u2010\u2011\u2012\u2013")
# The library finds two digits possible in Germany. No subscriber has fewer than these, with the country code (Saint
# Helena's: 290 and four or five).
LEAST_DIGITS: Final = 7
_TRUNK_ZERO: Final = re.compile(r"\(\s*0\s*\)")
# A number that needs no library: North America at its exact length, or a country code that no trunk zero can follow
# (country codes have one to three digits, so the second to the fourth digit are not 0).
_PLAIN: Final = re.compile(r"\+(1[2-9]\d{9}|[2-9][1-9]{3}\d{4,11})", re.ASCII)


def e164_digits(text: str, country: str | None) -> str | None:
    """The digits of `text` with their country code, or None where that cannot be known.

    `country` (lower-case alpha-2) is used for a national number. Without a plus, 00 or a country, there is no number:
    2079460958 is a Londoner's or an Egyptian's.
    """
    if _PLAIN.fullmatch(text):
        return text[1:]
    stripped = (_TRUNK_ZERO.sub("", text) if "(" in text else text).translate(_SEPARATORS)
    if stripped.startswith("00"):
        stripped = "+" + stripped[2:]
    if _PLAIN.fullmatch(stripped):
        return stripped[1:]
    return _by_library(stripped, country)


def _by_library(text: str, country: str | None) -> str | None:
    region = country.upper() if country else None
    if (found := _parse(text, region, strict=False)) is not None:
        return found
    # Digits that are no number of the store's country may carry another country's code already (Meta's own form).
    if region and text.isascii() and text.isdigit():
        return _parse("+" + text, None, strict=True)
    return None


def _parse(text: str, region: str | None, *, strict: bool) -> str | None:
    # Imported here: 30 ms that a start without phone numbers need not pay.
    import phonenumbers

    try:
        number = phonenumbers.parse(text, region)
    except phonenumbers.NumberParseException:
        return None
    taken = phonenumbers.is_valid_number(number) if strict else phonenumbers.is_possible_number(number)
    digits = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)[1:] if taken else ""
    return digits if len(digits) >= LEAST_DIGITS else None


def warm() -> None:
    """Load the library now, so that the first odd number of a page does not wait for it."""
    e164_digits("(650) 555-1212", "us")
