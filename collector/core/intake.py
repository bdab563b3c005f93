"""What a decoded body becomes: every field checked, in the words of the contract's error table.

Two outcomes for a bad value. What makes it no order or no click (its store, type, id, value, currency; its fbclid and
landing page) is refused. Everything else only makes an event poorer: it is left out and named, because an order must
not be lost for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final

from msgspec import Struct

from collector.core import (
    addresses,
    amounts,
    clickid,
    event_names,
    flags,
    marks,
    nobody,
    orders,
    personal,
    statuses,
    times,
    urls,
)
from collector.core.capi import custom_data
from collector.core.capi.event_id import derive
from collector.core.capi.normalise import hash_customer
from collector.core.capi.payload import ACTION_SOURCES
from collector.core.consent import Decision
from collector.core.events import ClickBody, ConversionBody, CustomerData, Marketing, Product, StoredClick, StoredEvent
from collector.core.matching.shapes import fingerprint_version_bits
from collector.core.orders import Rank
from collector.core.wire import printable
from collector.errors import ApiError

_MOST_DIGITS: Final = 18
# What a page may not say of an order (T3).
_NOT_A_PAGES: Final = {
    "order_status": "orderStatus",
    "status_at": "statusAt",
    "renewal_of": "renewalOf",
    "click_id": "clickId",
}


class Caller(Struct, frozen=True, gc=False):
    """Who calls: a server with a secret key, or a page. `address` and `user_agent` are the connection's own."""

    secret: bool
    address: str | None = None
    user_agent: str | None = None
    bot: str | None = None  # why the request itself is no person's (its headers)
    opted_out: bool = False  # Sec-GPC or Do-Not-Track
    shop: bool = False  # a shop's signed webhook, which is believed before a server

    @property
    def rank(self) -> Rank:
        """How far it is believed about an order."""
        return Rank.SHOP if self.shop else Rank.SERVER if self.secret else Rank.PAGE


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
    ignored: list[str] = []
    ts, corrected = _time(body.timestamp, caller, now, ignored) if body.timestamp is not None else (now, False)
    test = _test(caller, ignored, told=body.test)
    fbc = marks.fbc(body.fbc, ignored) if body.fbc else None
    if fbc is not None:
        marks.check_fbc_age(fbc, now)
    bot = bot or caller.bot
    marketing, ldu = decision.marketing, decision.ldu
    reason = bot or ("consent" if not decision.allows_matching else None)
    return CheckedClick(  # by position, as the click within it: this is the hot path
        ts,
        now,
        corrected,
        _address(body.ip_address, caller, ignored),
        body.user_agent or (None if caller.secret else caller.user_agent),
        body.fingerprint or None,
        _flags(marketing, bot, test, corrected)
        | (fingerprint_version_bits(body.fingerprint_version) if body.fingerprint_version else 0),
        reason,
        StoredClick(
            body.fbclid,
            landing_page,
            _page(body.referrer, site, "referrer", ignored) if body.referrer else None,
            body.visitor_id or None,
            marks.fbp(body.fbp, ignored) if body.fbp else None,
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
    ignored: list[str] = []
    body.event_type = event_names.read(body.event_type)
    if not caller.secret:
        _leave_out(body, ignored)
    order_id = _order_id(body, ignored)
    value, currency = _amount(body)
    ts, corrected = _time(body.timestamp, caller, now, ignored)
    status = _status(body.order_status, ignored)
    status_at = _status_at(body.status_at, now, ignored)
    test = _test(caller, ignored, told=body.test)
    hashed = (
        hash_customer(body.customer_data, country=country or None, this_year=times.year(now))
        if body.customer_data is not None
        else None
    )
    said = personal.said_of(body.customer_data)
    purchase = body.event_type == "Purchase"
    unconfirmed = purchase and caller.rank is Rank.PAGE
    bits = _flags(decision.marketing, bot or caller.bot, test, corrected)
    event = StoredEvent(
        event_type=body.event_type,
        event_id=marks.event_id(body.event_id, ignored)
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
        fbclid=marks.fbclid(body.fbclid, now, ignored),
        fbc=marks.fbc(body.fbc, ignored),
        fbp=marks.fbp(body.fbp, ignored),
        visitor_id=marks.visitor_id(body.visitor_id, ignored),
        ip=_address(body.ip_address, caller, ignored),
        user_agent=body.user_agent or (None if caller.secret else caller.user_agent),
        event_source_url=_page(body.event_source_url, site, "eventSourceUrl", ignored, said),
        action_source=_action_source(body.action_source, ignored),
        referrer=_page(body.referrer, site, "referrer", ignored, said),
        marketing=decision.marketing,
        ldu=decision.ldu,
        order_status=status,
        test_event_code=body.test_event_code if caller.secret else None,
        renewal_of=nobody.trimmed(body.renewal_of) if body.renewal_of else None,
        first_touch=_page(body.first_touch, site, "firstTouch", ignored, said),
        last_touch=_page(body.last_touch, site, "lastTouch", ignored, said),
        test=test,
        unconfirmed=unconfirmed,
        rank=int(caller.rank),
        consented=body.consent is not None and body.consent.marketing == "granted",
        unasked=decision.unasked and decision.marketing != "granted",
        bot=bot or caller.bot,
    )
    edited = body.order_status is not None and statuses.is_update(body.order_status)
    if edited or status_at is not None:
        event.told = [orders.fact(event, status_at, edited=edited)]
    event.paid_at = orders.facts_of(event)[0].moment if statuses.is_paid(status) else None
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


def is_order(body: ConversionBody) -> bool:
    """Whether it tells of an order, and not of a step towards one."""
    return body.order_id is not None or body.event_type.strip().lower() == "purchase"


def _leave_out(body: ConversionBody, ignored: list[str]) -> None:
    """What a page may not say of an order (T3)."""
    for field, name in _NOT_A_PAGES.items():
        if getattr(body, field) is not None:
            setattr(body, field, None)
            ignored.append(name)


def _test(caller: Caller, ignored: list[str], *, told: bool) -> bool:
    """Whether it is a merchant's own test; a page cannot say so (T3)."""
    if told and not caller.secret:
        ignored.append("test")
    return told and caller.secret


def _order_id(body: ConversionBody, ignored: list[str]) -> str | None:
    """The order's id, trimmed; what stands for none is none (L3)."""
    order_id = "" if body.order_id is None else nobody.trimmed(str(body.order_id))
    if len(order_id) > 256:
        raise ApiError("invalid_field", "orderId: expected at most 256 characters", "orderId")
    if not nobody.is_no_order(order_id):
        return order_id
    if body.event_type == "Purchase":
        found = f"{order_id[:40]!r} is none" if order_id else "orderId is required for a Purchase"
        raise ApiError("missing_required_field", f"orderId: {found}" if order_id else found, "orderId")
    if order_id:
        ignored.append("orderId")
    return None


def _status(text: str | None, ignored: list[str]) -> str | None:
    """The order's status in our words (L1); a word that nobody knows is left out."""
    if not text or statuses.is_update(text):
        return None
    status = statuses.read(text)
    if status is None:
        ignored.append("orderStatus")
        return None
    return status.word


def _status_at(text: str | None, now: int, ignored: list[str]) -> int | None:
    """Since when the status holds (ms); a time that is none, or lies ahead, is left out."""
    at = times.parse(text.strip()) if text else None
    if text and (at is None or at > now + times.AHEAD_MS):
        ignored.append("statusAt")
        return None
    return at


def _amount(body: ConversionBody) -> tuple[Decimal | None, str | None]:
    value = body.event_value
    if value is None and body.event_type == "Purchase":
        raise ApiError("missing_required_field", "eventValue is required for a Purchase", "eventValue")
    if value is not None:
        value = checked_amount(value, "eventValue")
        if not body.currency:
            raise ApiError("missing_required_field", "currency is required with eventValue", "currency")
    return value, _currency(body.currency)


def checked_amount(value: Decimal, field: str) -> Decimal:
    """An amount with the decimals that money may have (L2); one that is negative, endless or no money is refused."""
    if not value.is_finite() or (value.is_signed() and value != 0):
        raise ApiError("invalid_field", f"{field}: expected a number of 0 or more", field)
    if value != 0 and abs(value.adjusted()) >= _MOST_DIGITS + (value.adjusted() < 0):
        raise ApiError("invalid_field", f"{field}: expected at most {_MOST_DIGITS} digits", field)
    return amounts.at_most(value, amounts.MOST_DECIMALS)


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
    ignored += ["customData." + ("personal" if personal.is_in(key) else printable(key)) for key in left_out]
    return kept


def _currency(text: str | None) -> str | None:
    if not text:
        return None
    code = text.strip().upper()
    if not amounts.is_currency(code):
        raise ApiError("invalid_currency", "currency: expected an ISO 4217 code such as USD", "currency")
    return code


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


def _time(text: str | None, caller: Caller, now: int, ignored: list[str]) -> tuple[int, bool]:
    """The event's time, and whether a clock was corrected: a server's past is true however long ago (L4)."""
    if not text:
        return now, False
    claimed = times.parse(text.strip())
    if claimed is None:
        ignored.append("timestamp")
        return now, False
    ts, corrected = times.settle(claimed, now, None if caller.secret else times.PAGE_PAST_MS)
    if corrected and not caller.secret:
        ignored.append("timestamp")
    return ts, corrected


def _address(text: str | None, caller: Caller, ignored: list[str]) -> str | None:
    """The visitor's address: a server's word for it, a page's own; the shop server's own address says nothing."""
    if not caller.secret:
        if text is not None:
            ignored.append("ipAddress")
        return caller.address
    if text is None:
        return None
    address = addresses.normalise(text) or marks.odd_address(text, ignored)
    return address if address != caller.address else None


def _flags(marketing: Marketing, bot: str | None, test: bool, corrected: bool) -> int:
    bits = flags.TEST if test else 0
    if bot is not None:
        bits |= flags.PREFETCH if bot == "prefetch" else flags.BOT
    if marketing != "granted":
        bits |= flags.DENIED if marketing == "denied" else flags.PENDING
    return bits | flags.TIME_CORRECTED if corrected else bits
