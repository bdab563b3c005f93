"""What does Meta compare: the normal form of each customer field, and its SHA-256?

Meta's own text (Customer Information Parameters) decides, not one of its SDKs, which disagree with it and with one
another. A field that has no normal form is dropped with its reason; the event goes on without it. A value that already
is a SHA-256 (64 hexadecimal characters, also with the param builder's suffix) is taken as such.

    em           trimmed, lower case; dots and +tags stay
    ph           E.164 digits with the country code (core/capi/phones.py)
    fn, ln, ct   lower case; letters, marks and digits of every script, nothing else
    st           two letters in the US and Canada; elsewhere as ct
    zp           lower case, no space or dash; a US ZIP+4 is cut to its first five
    country      ISO 3166-1 alpha-2, lower case
    db           YYYYMMDD
    ge           f or m
    external_id  as given, and in lower case where that differs: Meta's param builder lowers it, its SDKs do not
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Final

from msgspec import Struct

from collector.core.capi.phones import e164_digits
from collector.core.capi.regions import country_code, state_code
from collector.core.events import CustomerData


class HashedCustomer(Struct, frozen=True):
    """`user_data`: Meta's key to its hashes. `dropped`: the contract's field name and why, without the value."""

    user_data: dict[str, list[str]]
    dropped: list[tuple[str, str]]


class _Bad(Exception):
    """This value has no normal form; the text says why."""


# 64 hex characters; Meta's param builder appends ".<8 base64url characters>" to the hashes it makes.
_SHA256: Final = re.compile(r"([0-9a-f]{64})(?:\.[\w-]{8})?", re.ASCII | re.IGNORECASE)
_OTHER_HASH: Final = re.compile(r"[0-9a-f]{32}|[0-9a-f]{40}", re.ASCII | re.IGNORECASE)  # MD5, SHA-1
_EMAIL: Final = re.compile(r"[^\s@,;<>]+@[^\s@,;<>]+")
_ASCII_DROP: Final = {n: None for n in range(128) if not chr(n).isalnum()}
_KEEP: Final = frozenset("LMN")  # letters, marks, numbers; not P(unctuation), S(ymbol), Z (space), C(ontrol)
_GENDERS: Final = {
    "f": "f",
    "female": "f",
    "woman": "f",
    "m": "m",
    "male": "m",
    "man": "m",
}
_ISO_DATE: Final = re.compile(r"(\d{4})[-/.]?(\d{1,2})[-/.]?(\d{1,2})(?:T.*)?", re.ASCII)
_DAY_LAST: Final = re.compile(r"(\d{1,2})([-/.])(\d{1,2})\2(\d{4})", re.ASCII)


def hash_text(text: str) -> str:
    """Lower-case hexadecimal SHA-256 of `text` in UTF-8."""
    return sha256(text.encode()).hexdigest()


def already_hashed(text: str) -> str | None:
    """The lower-case hash when `text` already is a SHA-256, else None."""
    if len(text) < 64:
        return None
    found = _SHA256.fullmatch(text)
    return found[1].lower() if found else None


def _letters(text: str) -> str:
    """Lower case; letters, marks and digits of every script."""
    if text.isascii():
        lowered = text.lower().replace(" ", "")
        return lowered if lowered.isalnum() else lowered.translate(_ASCII_DROP)
    lowered = unicodedata.normalize("NFC", text).lower()
    return "".join(c for c in lowered if unicodedata.category(c)[0] in _KEEP)


def email(text: str) -> str:
    """Trimmed, lower case; raises _Bad for what is no address."""
    lowered = text.lower() if text.isascii() else unicodedata.normalize("NFC", text).lower()
    if not _EMAIL.fullmatch(lowered):
        raise _Bad("not an e-mail address")
    return lowered


def name(text: str) -> str:
    """A person's or a city's name in Meta's form."""
    if len(text) in (32, 40) and _OTHER_HASH.fullmatch(text):
        raise _Bad("hashed, but not with SHA-256")
    if not (letters := _letters(text)):
        raise _Bad("no letters")
    return letters


def zip_code(text: str) -> str:
    """A postal code in Meta's form. Nine digits are a ZIP+4 in the United States only."""
    if not (letters := _letters(text)):
        raise _Bad("no letters or digits")
    return letters


def gender(text: str) -> str:
    if (found := _GENDERS.get(text.lower())) is None:
        raise _Bad("Meta knows f and m only")
    return found


def birth_date(text: str, country: str | None = None, this_year: int = 2100) -> str:
    """YYYYMMDD. 3/4/1990 is March in the United States, April elsewhere, and nothing where the country is unknown."""
    if found := _ISO_DATE.fullmatch(text):
        year, month, day = int(found[1]), int(found[2]), int(found[3])
    elif found := _DAY_LAST.fullmatch(text):
        year = int(found[4])
        month, day = _month_and_day(int(found[1]), int(found[3]), found[2], country)
    else:
        raise _Bad("not a date; write YYYY-MM-DD")
    if not (1900 <= year <= this_year and 1 <= month <= 12 and 1 <= day <= 31):
        raise _Bad("not a possible date of birth")
    return f"{year:04d}{month:02d}{day:02d}"


def _month_and_day(first: int, second: int, separator: str, country: str | None) -> tuple[int, int]:
    if first > 12 or separator == ".":
        return second, first
    if second > 12 or first == second or country == "us":
        return first, second
    if country is None or country in {"ca", "ph"}:  # both orders are in use there
        raise _Bad("day or month first? write YYYY-MM-DD")
    return second, first


def hash_customer(customer: CustomerData, *, country: str | None, this_year: int = 2100) -> HashedCustomer:
    """The customer's fields as Meta's `user_data` lists, hashed once, and what had to be dropped with the reason.

    `country` is the store's (any case), used where the customer's own is absent: for a national phone number, a state's
    name and the order of day and month. It is not sent as the customer's country.
    """
    data: dict[str, list[str]] = {}
    dropped: list[tuple[str, str]] = []

    def put(key: str, field: str, value: str, form: Callable[[str], str]) -> None:
        text = value.strip()
        if not text:
            return
        hashed = already_hashed(text) if len(text) >= 64 else None
        if hashed is None:
            try:
                hashed = sha256(form(text).encode()).hexdigest()
            except _Bad as bad:
                dropped.append((field, str(bad)))
                return
        known = data.get(key)
        if known is None:
            data[key] = [hashed]
        elif hashed not in known:
            known.append(hashed)

    code = country_code(customer.country) if customer.country else None
    home = code or (country.lower() if country else None)
    for text in _values(customer.email):
        put("em", "email", text, email)
    for text in _values(customer.phone):
        put("ph", "phone", text, lambda phone: _phone(phone, home))
    if customer.first_name:
        put("fn", "firstName", customer.first_name, name)
    if customer.last_name:
        put("ln", "lastName", customer.last_name, name)
    if customer.date_of_birth:
        put("db", "dateOfBirth", customer.date_of_birth, lambda date: birth_date(date, home, this_year))
    if customer.gender:
        put("ge", "gender", customer.gender, gender)
    if customer.city:
        put("ct", "city", customer.city, name)
    if customer.state:
        put("st", "state", customer.state, lambda state: _state(state, home))
    if customer.zip_code:
        put("zp", "zipCode", customer.zip_code, lambda code: _zip(code, home))
    if customer.country:
        put("country", "country", customer.country, lambda _: _country(code))
    for text in _external_ids(customer.external_id):
        put("external_id", "externalId", text, str)
    return HashedCustomer(data, dropped)


def _values(given: str | list[str] | None) -> Sequence[str]:
    if given is None:
        return ()
    return (given,) if isinstance(given, str) else given


def _external_ids(given: str | int | list[str] | None) -> Sequence[str]:
    if given is None:
        return ()
    texts = given if isinstance(given, list) else [str(given)]
    return [form for text in texts for form in (text, text.lower())]


def _phone(text: str, country: str | None) -> str:
    if (digits := e164_digits(text, country)) is None:
        raise _Bad("not a phone number with a known country code")
    return digits


def _country(code: str | None) -> str:
    if code is None:
        raise _Bad("not an ISO 3166-1 country")
    return code


def _state(text: str, country: str | None) -> str:
    if country and text.lower().startswith(country + "-"):  # ISO 3166-2: US-CA
        text = text[3:]
    return state_code(name(text), country)


def _zip(text: str, country: str | None) -> str:
    form = zip_code(text)
    return form[:5] if country == "us" and len(form) == 9 and form.isdigit() else form
