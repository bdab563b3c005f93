"""What does Meta compare: the normal form of each customer field (core/capi/forms.py, phones.py), and its SHA-256?

A field that has no normal form, or names nobody (core/nobody.py), is dropped with its reason; the event goes on
without it. A value that already is a SHA-256 (64 hexadecimal characters, also with the param builder's suffix) is taken
as such.

    external_id  as given, and in lower case where that differs: Meta's param builder lowers it, its SDKs do not
    country      ISO 3166-1 alpha-2, lower case; the store's own stands in only where the customer's was not given
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Any, Final

from msgspec import Struct, structs

from collector.core import nobody
from collector.core.capi import forms
from collector.core.capi.forms import Bad
from collector.core.capi.phones import e164_readings
from collector.core.capi.regions import country_code, country_of_hash
from collector.core.events import CustomerData
from collector.core.remembered import remembered


class HashedCustomer(Struct, frozen=True):
    """`user_data`: Meta's key to its hashes. `dropped`: the contract's field name and why, without the value."""

    user_data: dict[str, list[str]]
    dropped: list[tuple[str, str]]


# 64 hex characters; Meta's param builder appends ".<8 base64url characters>" to the hashes it makes.
_SHA256: Final = re.compile(r"([0-9a-f]{64})(?:\.[\w-]{8})?", re.ASCII | re.IGNORECASE)
# Zero width, direction marks, BOM, soft hyphen: copied along with a value, and never seen.
_INVISIBLE: Final = dict.fromkeys(
    [*range(0x200B, 0x2010), *range(0x202A, 0x202F), *range(0x2060, 0x2065), 0xFEFF, 0xAD]
)


def already_hashed(text: str) -> str | None:
    """The lower-case hash when `text` already is a SHA-256, else None."""
    if len(text) < 64:
        return None
    found = _SHA256.fullmatch(text)
    return found[1].lower() if found else None


_REMEMBERED: Final = 512  # customers: an order is told several times within seconds
_MOST_BYTES: Final = 2048  # of one; 11 fields take 600 before their first letter


def hash_customer(customer: CustomerData, *, country: str | None, this_year: int) -> HashedCustomer:
    """The customer's fields as Meta's `user_data` lists, hashed once, and what had to be dropped with the reason.

    `country` is the store's (any case), used where the customer's own is absent: for a national phone number, a state's
    name and the order of day and month. It is not sent as the customer's country, and does not replace one that was
    given and not understood. `this_year` is the last in which somebody may be born.
    """
    values = structs.astuple(customer)
    if any(type(value) is list for value in values):
        return _hashed(customer, country, this_year)
    known = _remembered(values, country, this_year)
    return HashedCustomer({key: [*hashes] for key, hashes in known.user_data.items()}, [*known.dropped])


@remembered(_REMEMBERED, _MOST_BYTES)
def _remembered(values: tuple[Any, ...], country: str | None, this_year: int) -> HashedCustomer:
    fields = zip(CustomerData.__struct_fields__, values, strict=True)
    return _hashed(CustomerData(**dict(fields)), country, this_year)


def _hashed(customer: CustomerData, country: str | None, this_year: int) -> HashedCustomer:
    data: dict[str, list[str]] = {}
    dropped: list[tuple[str, str]] = []

    def put(key: str, field: str, value: str, form: Callable[[str], str | Sequence[str]]) -> None:
        text = value.strip() if value.isascii() else _visible(value)
        if not text:
            return
        try:
            if len(text) >= 64 and (hashed := _hash_in(text)) is not None:
                hashes = [hashed]
            elif isinstance(found := form(text), str):
                hashes = [sha256(found.encode()).hexdigest()]
            else:
                hashes = [sha256(each.encode()).hexdigest() for each in found]
        except Bad as bad:
            dropped.append((field, str(bad)))
            return
        data[key] = hashes if key not in data else [*data[key], *(h for h in hashes if h not in data[key])]

    home, said = home_of(customer.country, country)
    for text in _values(customer.email):
        put("em", "email", text, forms.email)
    for text in _values(customer.phone):
        put("ph", "phone", text, lambda phone: _phone(phone, home))
    if customer.first_name:
        put("fn", "firstName", customer.first_name, forms.name)
    if customer.last_name:
        put("ln", "lastName", customer.last_name, forms.name)
    if customer.date_of_birth:
        put("db", "dateOfBirth", customer.date_of_birth, lambda born: forms.birth_date(born, home, this_year))
    if customer.gender:
        put("ge", "gender", customer.gender, forms.gender)
    if customer.city:
        put("ct", "city", customer.city, forms.letters)
    if customer.state:
        put("st", "state", customer.state, lambda state: forms.state(state, home, said=said))
    if customer.zip_code:
        put("zp", "zipCode", customer.zip_code, lambda code: forms.zip_code(code, home))
    if customer.country:
        put("country", "country", customer.country, lambda _: _country(home if said else None))
    for text in _external_ids(customer.external_id):
        put("external_id", "externalId", text, _external_id)
    return HashedCustomer(data, dropped)


def _visible(value: str) -> str:
    return value.translate(_INVISIBLE).strip()


def _hash_in(text: str) -> str | None:
    """The hash that a text is already; raises Bad for the hash of nothing."""
    if (hashed := already_hashed(text)) in nobody.HASHES:
        raise Bad("the hash of nothing")
    return hashed


def home_of(own: str | None, store: str | None) -> tuple[str | None, bool]:
    """Whose national numbers and dates these are, and whether the customer said so."""
    if own and own.isalnum() and (known := country_code(own)) is not None:  # nearly every one
        return known, True
    text = _visible(own) if own else ""
    if not text or nobody.is_nothing(text):
        return store.lower() if store else None, False
    return country_code(text) or country_of_hash(already_hashed(text) or ""), True


def _values(given: str | list[str] | None) -> Sequence[str]:
    if given is None:
        return ()
    return (given,) if isinstance(given, str) else given


def _external_ids(given: str | int | list[str] | None) -> Sequence[str]:
    if given is None:
        return ()
    return given if isinstance(given, list) else [str(given)]


def _external_id(text: str) -> str | Sequence[str]:
    if nobody.is_no_id(text) or text.lower() in nobody.HASHES:
        raise Bad("a placeholder, nobody's id")
    lowered = text.lower()
    return text if lowered == text else (text, lowered)


def _phone(text: str, country: str | None) -> str | Sequence[str]:
    if not (readings := e164_readings(text, country)):
        raise Bad("not a phone number with a known country code")
    return readings[0] if len(readings) == 1 else readings


def _country(code: str | None) -> str:
    if code is None:
        raise Bad("not an ISO 3166-1 country")
    return code
