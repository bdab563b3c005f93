"""What a decoded body becomes: every field checked, in the words of the contract's error table.

Two outcomes for a bad value. What makes it no order or no click (its store, type, id, value, currency; its fbclid and
landing page) is refused. Everything else only makes an event poorer: it is left out and named, because an order must
not be lost for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from hashlib import sha256
from typing import Any, Final

import iso4217
from msgspec import Struct

from collector.core import addresses, clickid, event_names, flags, personal, times, urls
from collector.core.capi import custom_data
from collector.core.capi.event_id import derive
from collector.core.capi.gate import ENDED, PAID
from collector.core.capi.normalise import hash_customer
from collector.core.capi.payload import ACTION_SOURCES
from collector.core.consent import Decision
from collector.core.events import ClickBody, ConversionBody, CustomerData, Marketing, Product, StoredClick, StoredEvent
from collector.core.matching.shapes import fingerprint_version_bits
from collector.errors import ApiError

ORDER_STATUSES: Final = PAID | ENDED | {"pending", "updated", "partially_refunded"}
_CURRENCIES: Final = frozenset(c.code for c in iso4217.Currency if c.code not in {"XXX", "XTS"})
_MOST_DIGITS: Final = 18
_UNKNOWN_ADDRESSES: Final = frozenset({"", "unknown", "null", "undefined", "-"})
_BLANKS_AND_QUOTES: Final = " \t\r\n\"'"


class Caller(Struct, frozen=True, gc=False):
    """Who calls: a server with a secret key, or a page. `address` and `user_agent` are the connection's own."""

    secret: bool
    address: str | None = None
    user_agent: str | None = None
    bot: str | None = None  # why the request itself is no person's (its headers)
    opted_out: bool = False  # Sec-GPC or Do-Not-Track


class CheckedClick(Struct, gc=False):
    """A click, ready to be stored."""

    ts: int
    received: int
    time_corrected: bool
    ip: str | None  # canonical text; full, whatever the storage rule
    user_agent: str | None
    fingerprint: str | None
    flags: int
    reason: str | None  # why it will not be used
    stored: StoredClick
    ignored: Sequence[str] = ()


class CheckedEvent(Struct, gc=False):
    """A conversion or funnel event, ready to be matched and stored."""

    event: StoredEvent
    flags: int
    fingerprint: str | None
    click_id: str | None  # as the caller names it
    customer: CustomerData | None  # plain values, for the matching keys; never stored
    idempotent: str | None  # what makes it the same event when it is sent again
    ignored: Sequence[str] = ()
    dropped: Sequence[str] = ()  # names of the customer fields that have no normal form


def check_click(
    body: ClickBody, caller: Caller, decision: Decision, now: int, bot: str | None, site: str | None = None
) -> CheckedClick:
    """A click from its body; ApiError for what makes it none.

    `now` in ms; `bot`: why its agent is no person; `site`: the store's own address, which completes relative ones.
    """
    if not body.fbclid:
        raise ApiError("missing_required_field", "fbclid is required", "fbclid")
    if fault := clickid.fault(body.fbclid, now):
        raise ApiError("invalid_fbclid", fault, "fbclid")
    landing_page = _landing(body.landing_page, site, body.fbclid)
    ts, corrected = _time(body.timestamp, caller, now) if body.timestamp is not None else (now, False)
    ignored: list[str] = []
    fbc = _fbc(body.fbc, ignored) if body.fbc else None
    if fbc is not None:
        _check_fbc_age(fbc, now)
    bot = bot or caller.bot
    marketing, ldu = decision
    reason = bot or ("consent" if not decision.allows_matching else None)
    return CheckedClick(  # by position, as the click within it: this is the hot path
        ts,
        now,
        corrected,
        _address(body.ip_address, caller, ignored),
        body.user_agent or (None if caller.secret else caller.user_agent),
        body.fingerprint or None,
        _flags(marketing, bot, body.test, corrected)
        | (fingerprint_version_bits(body.fingerprint_version) if body.fingerprint_version else 0),
        reason,
        StoredClick(
            body.fbclid,
            landing_page,
            _page(body.referrer, site, "referrer", ignored) if body.referrer else None,
            body.visitor_id or None,
            _fbp(body.fbp, ignored) if body.fbp else None,
            fbc,
            body.fingerprint_version,
            body.event_id,
            marketing,
            ldu,
            bot,
        ),
        ignored,
    )


def check_event(
    body: ConversionBody,
    caller: Caller,
    decision: Decision,
    now: int,
    bot: str | None,
    country: str,
    site: str | None = None,
) -> CheckedEvent:
    """A conversion or funnel event from its body; ApiError for what makes it none. `country`, `site`: the store's."""
    body.event_type = event_names.read(body.event_type)
    order_id = _order_id(body)
    value, currency = _amount(body, order_id)
    _check_choice(body.order_status, ORDER_STATUSES, "orderStatus")
    ts, corrected = _time(body.timestamp, caller, now)
    ignored: list[str] = []
    hashed = (
        hash_customer(body.customer_data, country=country or None, this_year=times.year(now))
        if body.customer_data is not None
        else None
    )
    said = personal.said_of(body.customer_data)
    purchase = body.event_type == "Purchase"
    unconfirmed = purchase and not caller.secret
    bits = _flags(decision.marketing, bot or caller.bot, body.test, corrected)
    event = StoredEvent(
        event_type=body.event_type,
        event_id=_event_id(body.event_id, ignored)
        or (derive(body.store_id, body.event_type, order_id) if order_id else ""),
        ts=ts,
        received=now,
        time_corrected=corrected,
        order_id=order_id,
        value=value,
        currency=currency,
        user_data=hashed.user_data if hashed else {},
        products=_anonymous(_priced(body.products or [], ignored), said, ignored) if body.products else [],
        custom_data=_custom_data(body.custom_data, said, ignored) if body.custom_data else {},
        fbclid=_fbclid(body.fbclid, now, ignored),
        fbc=_fbc(body.fbc, ignored),
        fbp=_fbp(body.fbp, ignored),
        visitor_id=_visitor_id(body.visitor_id, ignored),
        ip=_address(body.ip_address, caller, ignored),
        user_agent=body.user_agent or (None if caller.secret else caller.user_agent),
        event_source_url=_page(body.event_source_url, site, "eventSourceUrl", ignored, said),
        action_source=_action_source(body.action_source, ignored),
        referrer=_page(body.referrer, site, "referrer", ignored, said),
        marketing=decision.marketing,
        ldu=decision.ldu,
        order_status=body.order_status,
        test_event_code=body.test_event_code if caller.secret else None,
        renewal_of=body.renewal_of,
        first_touch=_page(body.first_touch, site, "firstTouch", ignored, said),
        last_touch=_page(body.last_touch, site, "lastTouch", ignored, said),
        test=body.test,
        unconfirmed=unconfirmed,
        bot=bot or caller.bot,
    )
    return CheckedEvent(
        event=event,
        flags=bits | (flags.UNCONFIRMED if unconfirmed else 0) | fingerprint_version_bits(body.fingerprint_version),
        fingerprint=body.fingerprint or None,
        click_id=body.click_id or None,
        customer=body.customer_data,
        idempotent=f"o{order_id}" if order_id else f"e{event.event_id}" if event.event_id else None,
        ignored=ignored,
        dropped=[name for name, _ in hashed.dropped] if hashed else (),
    )


def _order_id(body: ConversionBody) -> str | None:
    order_id = str(body.order_id) if body.order_id is not None else None
    if order_id is not None and len(order_id) > 256:
        raise ApiError("invalid_field", "orderId: expected at most 256 characters", "orderId")
    if not order_id and body.event_type == "Purchase":
        raise ApiError("missing_required_field", "orderId is required for a Purchase", "orderId")
    return order_id or None


def _amount(body: ConversionBody, order_id: str | None) -> tuple[Decimal | None, str | None]:
    value = body.event_value
    if value is None and body.event_type == "Purchase":
        raise ApiError("missing_required_field", "eventValue is required for a Purchase", "eventValue")
    if value is not None:
        check_amount(value, "eventValue")
        if not body.currency:
            raise ApiError("missing_required_field", "currency is required with eventValue", "currency")
    return value, _currency(body.currency)


def check_amount(value: Decimal, field: str) -> None:
    """Refuse an amount that is negative, not finite, or longer than any money is."""
    if not value.is_finite() or (value.is_signed() and value != 0):
        raise ApiError("invalid_field", f"{field}: expected a number of 0 or more", field)
    digits = value.as_tuple()
    if not isinstance(digits.exponent, int) or value.adjusted() >= _MOST_DIGITS or digits.exponent < -_MOST_DIGITS:
        raise ApiError("invalid_field", f"{field}: expected at most {_MOST_DIGITS} digits", field)


def _priced(products: list[Product], ignored: list[str]) -> list[Product]:
    """The products, each price that no money has ("NaN", 1e999) left out and named: it would spoil the whole event."""
    for number, product in enumerate(products):
        price = product.price
        if price is not None and not (price.is_finite() and abs(price.adjusted()) < _MOST_DIGITS):
            product.price = None
            ignored.append(f"products[{number}].price")
    return products


def _anonymous(products: list[Product], said: personal.Said, ignored: list[str]) -> list[Product]:
    """The products, without texts that name the customer ("Engraving: …")."""
    for number, product in enumerate(products):
        for field in ("name", "category"):
            text = getattr(product, field)
            if text and (personal.is_in(text) or said.is_in(text, alone=False)):
                setattr(product, field, None)
                ignored.append(f"products[{number}].{field}")
    return products


def _custom_data(given: dict[str, Any], said: personal.Said, ignored: list[str]) -> dict[str, Any]:
    """What Meta takes of it; the rest is not even stored, and named."""
    kept, left_out = custom_data.own_keys(given, said)
    ignored += [f"customData.{'personal' if personal.is_in(key) else key}" for key in left_out]
    return kept


def _event_id(text: str | None, ignored: list[str]) -> str | None:
    """The caller's own; one that holds an e-mail address or a phone goes by its hash."""
    if not text or not personal.is_in(text):
        return text
    ignored.append("eventId")
    return sha256(text.encode()).hexdigest()[:32]


def _visitor_id(text: str | None, ignored: list[str]) -> str | None:
    """A random name of a browser; a person's own is none."""
    if text and personal.is_in(text):
        ignored.append("visitorId")
        return None
    return text or None


def _currency(text: str | None) -> str | None:
    if not text:
        return None
    code = text.strip().upper()
    if code not in _CURRENCIES:
        raise ApiError("invalid_currency", "currency: expected an ISO 4217 code such as USD", "currency")
    return code


def _check_choice(value: str | None, choices: frozenset[str], field: str) -> None:
    if value is not None and value not in choices:
        raise ApiError("invalid_field", f"{field}: expected one of {', '.join(sorted(choices))}", field)


def _landing(text: str, site: str | None, fbclid: str) -> str:
    if not text.strip():
        raise ApiError("missing_required_field", "landingPage is required", "landingPage")
    page = urls.read(text, site, fbclid)
    if page is None:
        raise ApiError("invalid_field", "landingPage: expected an absolute http or https URL", "landingPage")
    return page


def _page(
    text: str | None, site: str | None, field: str, ignored: list[str], said: personal.Said = personal.NOBODY
) -> str | None:
    """A page's address without personal data; one that is none is left out."""
    if not text or not text.strip():
        return None
    page = urls.read(text, site)
    if page is not None and said is not personal.NOBODY:
        page = personal.page_without(page, said)
    if page is None or len(page) == urls.MAX_LENGTH < len(text):
        ignored.append(field)
    return page


def _action_source(text: str | None, ignored: list[str]) -> str:
    if text is None or text == "website":
        return "website"
    source = text.strip().lower()
    if source in ACTION_SOURCES:
        return source
    if source:
        ignored.append("actionSource")
    return "website"


def _time(text: str | None, caller: Caller, now: int) -> tuple[int, bool]:
    if text is None:
        return now, False
    claimed = times.parse(text)
    if claimed is None:
        raise ApiError("invalid_field", "timestamp: expected RFC 3339, such as 2026-01-31T06:00:00Z", "timestamp")
    return times.settle(claimed, now, times.SERVER_PAST_MS if caller.secret else times.PAGE_PAST_MS)


def _address(text: str | None, caller: Caller, ignored: list[str]) -> str | None:
    """The visitor's address: a server's word for it, a page's own; the shop server's own address says nothing."""
    if not caller.secret:
        if text is not None:
            ignored.append("ipAddress")
        return caller.address
    if text is None:
        return None
    address = addresses.normalise(text) or _odd_address(text, ignored)
    return address if address != caller.address else None


def _odd_address(text: str, ignored: list[str]) -> str | None:
    """The first public one of a list, or the one before the suffix of Meta's builder; else named."""
    found = addresses.first_public(text)
    if (found is None or "," in text) and text.strip().lower() not in _UNKNOWN_ADDRESSES:
        ignored.append("ipAddress")
    return found


def _fbc(value: str | None, ignored: list[str]) -> str | None:
    return _of_form(value, clickid.is_fbc, "fbc", ignored)


def _check_fbc_age(value: str, now: int) -> None:
    fbc = clickid.parse_fbc(value)
    if fbc is not None and now - fbc.created > clickid.MAX_AGE_DAYS * clickid.DAY_MS:
        raise ApiError("invalid_fbclid", "the click is over 90 days old, by the creation time of its fbc", "fbc")


def _fbp(value: str | None, ignored: list[str]) -> str | None:
    return _of_form(value, clickid.is_fbp, "fbp", ignored)


def _of_form(value: str | None, fits: Callable[[str], bool], field: str, ignored: list[str]) -> str | None:
    """One of Meta's cookies as it came, without blanks and quotes around it; another form is left out."""
    if not value or fits(value):
        return value or None
    bare = value.strip(_BLANKS_AND_QUOTES)
    if fits(bare):
        return bare
    if bare:
        ignored.append(field)
    return None


def _fbclid(value: str | None, now: int, ignored: list[str]) -> str | None:
    fbclid = value.strip() if value else ""
    if fbclid and clickid.fault(fbclid, now) is not None:
        ignored.append("fbclid")
        return None
    return fbclid or None


def _flags(marketing: Marketing, bot: str | None, test: bool, corrected: bool) -> int:
    bits = flags.TEST if test else 0
    if bot is not None:
        bits |= flags.PREFETCH if bot == "prefetch" else flags.BOT
    if marketing != "granted":
        bits |= flags.DENIED if marketing == "denied" else flags.PENDING
    return bits | flags.TIME_CORRECTED if corrected else bits
