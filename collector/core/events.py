"""The nouns of the contract: what callers post (camelCase on the wire, snake_case here)."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

Marketing = Literal["granted", "denied", "pending"]
Short = Annotated[str, Meta(max_length=512)]
Text = Annotated[str, Meta(max_length=4096)]
Name = Annotated[str, Meta(min_length=1, max_length=50)]
Ident = Annotated[str, Meta(max_length=256)]
# Each is normalised and hashed: the 5,000 that fit into a page's event would cost 0.2 s.
Several = Annotated[list[Text], Meta(max_length=20)]
Number = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]  # shops' ids; a longer one fits neither msgpack nor SQLite


class Wire(Struct, rename="camel", omit_defaults=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every body: camelCase keys, absent fields are None; wire.py takes unknown keys out and names them."""


class Consent(Wire):
    """A visitor's decision at the time of the event. `ldu`: Meta's Limited Data Use."""

    marketing: Marketing | None = None
    ldu: bool | None = None


class ClickBody(Wire):
    """POST /v1/track/click, as decoded; not yet checked beyond its types."""

    fbclid: str
    store_id: Ident
    landing_page: Text
    referrer: Text | None = None
    ip_address: Short | None = None
    user_agent: Text | None = None
    timestamp: Short | None = None
    visitor_id: Ident | None = None
    fbp: Short | None = None
    fbc: Annotated[str, Meta(max_length=1024)] | None = None
    fingerprint: Ident | None = None
    fingerprint_version: Short | None = None
    event_id: Ident | None = None
    consent: Consent | None = None
    test: bool = False
    key: Short | None = None


class CustomerData(Wire):
    """Who bought. Plain values, or values already SHA-256 (64 hex characters)."""

    email: Text | Several | None = None
    phone: Text | Several | None = None
    first_name: Text | None = None
    last_name: Text | None = None
    city: Text | None = None
    state: Text | None = None
    country: Text | None = None
    zip_code: Text | None = None
    date_of_birth: Text | None = None
    gender: Text | None = None
    external_id: Text | Number | Several | None = None


def values_of(customer: CustomerData | None) -> int:
    """How many values it has by which a person is known."""
    given = (customer.email, customer.phone, customer.external_id) if customer is not None else ()
    return sum(len(value) if isinstance(value, list) else 1 for value in given if value)


class Product(Wire):
    """One line of an order."""

    product_id: Ident | Number | None = None
    name: Text | None = None
    price: Decimal | None = None
    quantity: Annotated[int, Meta(ge=0, le=1_000_000_000)] | None = None
    category: Text | None = None


class ConversionBody(Wire):
    """POST /v1/track/conversion and /event, as decoded; not yet checked beyond its types."""

    store_id: Ident
    event_type: Name
    order_id: Ident | Number | None = None
    event_value: Decimal | None = None
    currency: Short | None = None
    customer_data: CustomerData | None = None
    fingerprint: Ident | None = None
    fingerprint_version: Short | None = None
    products: Annotated[list[Product], Meta(max_length=1000)] | None = None
    timestamp: Short | None = None
    click_id: Ident | None = None
    fbclid: Annotated[str, Meta(max_length=1024)] | None = None
    fbc: Annotated[str, Meta(max_length=1024)] | None = None
    fbp: Short | None = None
    visitor_id: Ident | None = None
    ip_address: Short | None = None
    user_agent: Text | None = None
    event_id: Ident | None = None
    event_source_url: Text | None = None
    action_source: Short | None = None
    referrer: Text | None = None
    consent: Consent | None = None
    order_status: Short | None = None
    status_at: Short | None = None
    test_event_code: Ident | None = None
    custom_data: dict[str, Any] | None = None
    renewal_of: Ident | None = None
    first_touch: Text | None = None  # the first and the last page that a campaign led this visitor to
    last_touch: Text | None = None
    test: bool = False
    key: Short | None = None


class Fact(Struct, frozen=True, array_like=True):
    """What one telling said of an order's state, and since when (ms) it holds: as stated, else since its receipt."""

    rank: int  # core/orders.py: Rank
    at: int
    stated: bool = False  # with statusAt
    status: str | None = None
    value: Decimal | None = None
    currency: str | None = None
    edited: bool = False  # "updated": another amount is no contradiction
    moment: int = 0  # ms; when it was paid, should this say that it is
    refund: str = ""  # it tells of this refund alone, and of nothing else the order is worth
    less: Decimal | None = None  # what that gave back


class GivenBack(Struct, frozen=True, array_like=True):
    """A refund of an order, as its shop names it. `told`: what of it Meta was told; None while that is open."""

    id: str
    at: int  # ms
    amount: Decimal | None = None  # None: all that this telling says was given back
    told: Decimal | None = None


class StoredEvent(Struct, omit_defaults=True, kw_only=True):
    """A conversion or funnel event as it is kept: checked, PII only as Meta's SHA-256 lists.

    Encoded with msgpack in `conversion.body`. `user_data` maps Meta's keys (em, ph, fn, ln, db, ge, ct, st, zp,
    country, external_id) to lists of lower-case hex SHA-256. `ip` and `user_agent` are wiped after delivery.
    """

    event_type: str
    event_id: str
    ts: int  # event time, ms
    received: int  # ms
    time_corrected: bool = False
    order_id: str | None = None
    value: Decimal | None = None
    currency: str | None = None  # upper case
    user_data: dict[str, list[str]] = {}
    products: list[Product] = []
    custom_data: dict[str, Any] = {}
    fbclid: str | None = None
    fbc: str | None = None
    fbp: str | None = None
    visitor_id: str | None = None
    click: int | None = None  # the row of the click that the caller named
    ip: str | None = None
    user_agent: str | None = None
    event_source_url: str | None = None
    action_source: str = "website"
    referrer: str | None = None
    marketing: Marketing = "granted"
    ldu: bool = False
    order_status: str | None = None
    test_event_code: str | None = None
    renewal_of: str | None = None
    test: bool = False
    first_touch: str | None = None
    last_touch: str | None = None
    unconfirmed: bool = False  # a Purchase that only a page has told us of
    rank: int = 1  # core/orders.py: Rank; an older version's pages are told by `unconfirmed`
    consented: bool = False  # its teller said "granted" in so many words
    note_of: int | None = None  # a page's telling of an order that others tell: its row, 0 where that is another page's
    told: list[Fact] = []  # what its tellings said, where one telling alone does not say it all
    paid_at: int | None = None  # ms
    shares_id: int | None = None  # another order (its row) that was told with the same event id
    sent_value: Decimal | None = None  # what Meta has, where the order's value has changed since
    bot: str | None = None  # the reason why this is not a person
    unsent: str | None = None  # why its shop's settings keep it, and never send it
    refunds: list[GivenBack] = []  # where its store tells Meta of refunds
    refund_of: int | None = None  # it tells Meta of a refund of this order (its row)
    filled: list[str] = []  # which of its browser's keys a page told, and no server: they give way to a server's word
    unasked: bool = False  # that its consent is pending or denied, nobody said: it is the store's default


class Enrichment(Struct, omit_defaults=True, kw_only=True, frozen=True):
    """What a conversion takes from its click on deterministic proof only (never an inferred click id)."""

    fbc: str | None = None
    fbp: str | None = None
    ip: str | None = None
    user_agent: str | None = None
    event_source_url: str | None = None


class StoredClick(Struct, array_like=True):
    """A click as it is kept, msgpack in `click.body`; the raw address and user agent live in `click_network`."""

    fbclid: str
    landing_page: str
    referrer: str | None = None
    visitor_id: str | None = None
    fbp: str | None = None
    fbc: str | None = None
    fingerprint_version: str | None = None
    event_id: str | None = None
    marketing: Marketing = "granted"
    ldu: bool = False
    bot: str | None = None
