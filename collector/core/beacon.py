"""What does a page's beacon say: its compact JSON into clicks and events of the contract.

The format is the snippet's own (edge/assets/collector.js). Its names are one letter: block lists know the usual ones.
Times are the visitor's clock; only differences are used, so that a wrong clock does no harm.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Annotated, Any, Final, Literal, NamedTuple
from urllib.parse import parse_qs, urlencode, urlsplit

import msgspec
from msgspec import Meta, Struct

from collector.core import clickid, lenient, times, wire
from collector.core.cookies import Jar
from collector.core.events import ClickBody, Consent, ConversionBody, CustomerData
from collector.errors import ApiError

MAX_BYTES: Final = 65_536  # browsers give a keepalive request no more
Millis = Annotated[int, Meta(ge=0, le=1 << 53)]
_ORDER_NAMES: Final = ("order_id", "orderId", "transaction_id")


class Happening(Struct, kw_only=True):
    """One event on the page: `at` by its clock, `u` the page, `r` where from, `d` its data, `h` who (customerData)."""

    t: Annotated[str, Meta(min_length=1, max_length=50)]
    i: Annotated[str, Meta(max_length=256)] | None = None
    at: Millis = 0
    u: Annotated[str, Meta(max_length=4096)] = ""
    r: Annotated[str, Meta(max_length=4096)] | None = None
    d: dict[str, Any] = {}
    h: dict[str, Any] | None = None


class Touch(NamedTuple):
    """A landing that a campaign led to: when (the page's clock), and its address."""

    at: Millis
    url: Annotated[str, Meta(max_length=4096)]


class Seed(NamedTuple):
    """What a visitor id is made from where no cookie has come yet: the page's randomness, and when it was drawn."""

    random: Annotated[str, Meta(min_length=16, max_length=64)]
    at: Millis


class Beacon(Struct, kw_only=True):
    """`s` store, `k` publishable key, `n` the page's clock, `c` consent said, `f` and `l` first and last touch,
    `v` seed of the visitor id, `w` a script drives the browser, `x` consent was withdrawn, `e` what happened."""

    s: Annotated[str, Meta(min_length=1, max_length=256)]
    k: Annotated[str, Meta(max_length=512)] | None = None
    n: Millis = 0
    c: Literal["granted", "denied", "pending"] | None = None
    f: Touch | None = None
    l: Touch | None = None  # noqa: E741  # the wire's name
    v: Seed | None = None
    w: int = 0
    x: int = 0
    e: Annotated[list[Happening], Meta(max_length=50)] = []


class Landing(NamedTuple):
    """A click id and when it was first seen, ms by our clock."""

    fbclid: str
    at: int


_decoder: Final = msgspec.json.Decoder(Beacon)
_members: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


def decode(raw: bytes) -> Beacon:
    """The beacon in a body; ApiError for anything else. Unknown keys are a newer snippet's, and are ignored."""
    wire.check_strings(raw)
    try:
        return _decoder.decode(raw)
    except msgspec.ValidationError as error:
        raise ApiError("invalid_field", f"the beacon does not fit: {error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ApiError("invalid_json", "the beacon is not valid JSON") from None


def contract_body(raw: bytes) -> ClickBody | ConversionBody | None:
    """The click or event in the contract's own words, which a page may post as well; None when it is a beacon."""
    if b'"storeId"' not in raw:
        return None
    try:
        members = _members.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ApiError("invalid_json", "the body is not a JSON object") from None
    kind = members.pop("type", None)
    rest = msgspec.json.encode(members)
    event = "eventType" in members if kind is None else bytes(kind) != b'"click"'
    return wire.decode_conversion(rest)[0] if event else wire.decode_click(rest)[0]


def of_contract(body: ClickBody | ConversionBody) -> Beacon:
    """The beacon that a body of the contract stands for: who speaks, for which store, with which consent."""
    said = body.consent.marketing if body.consent else None
    return Beacon(s=body.store_id, k=body.key, c=said)


def landed(body: ClickBody | ConversionBody, now: int) -> Landing | None:
    """The usable click id that a body of the contract tells of."""
    if not body.fbclid or clickid.fault(body.fbclid, now):
        return None
    claimed = times.parse(body.timestamp) if body.timestamp else None
    return Landing(body.fbclid, now if claimed is None else times.settle(claimed, now, times.PAGE_PAST_MS)[0])


def with_jar(body: ClickBody | ConversionBody, jar: Jar) -> ClickBody | ConversionBody:
    """The body with what only the cookies know."""
    body.visitor_id = body.visitor_id or jar.visitor
    body.fbp = body.fbp or jar.fbp
    held = clickid.parse_fbc(jar.fbc) if jar.fbc else None
    if held and (isinstance(body, ConversionBody) or held.fbclid == body.fbclid):
        body.fbc = body.fbc or jar.fbc
    return body


def of_pixel(query: str, referer: str, now: int) -> Beacon:
    """The beacon in a pixel's query: `d` holds a whole one; without JavaScript `s`, `k`, `c`, `u` or the Referer do.

    The contract's names (`storeId`, `key`, `landingPage`, `fbclid`) stand for them as well.
    """
    try:
        asked = {name: values[0] for name, values in parse_qs(query, max_num_fields=20).items()}
    except ValueError:
        raise ApiError("invalid_field", "the query has too many parameters") from None
    if "d" in asked:
        return decode(asked["d"].encode())
    store = asked.get("s") or asked.get("storeId")
    if not store:
        raise ApiError("missing_required_field", "s, the store, is required", "s")
    page = asked.get("u") or asked.get("landingPage") or referer
    if asked.get("fbclid") and "fbclid=" not in page:
        page += ("&" if "?" in page else "?") + urlencode({"fbclid": asked["fbclid"]})
    seen = Happening(t="PageView", at=now, u=page)
    said: Literal["granted"] | None = "granted" if asked.get("c") == "granted" else None
    return Beacon(s=store, k=asked.get("k") or asked.get("key"), n=now, c=said, e=[seen])


@lru_cache(maxsize=1024)  # one beacon asks for the same address three times; 4 MB at most
def fbclid_of(url: str) -> str | None:
    """The click id in a page's address, decoded once and otherwise as it stands."""
    if "fbclid=" not in url:
        return None
    try:
        return parse_qs(urlsplit(url).query, max_num_fields=200).get("fbclid", [None])[0]
    except ValueError:
        return None


def landing(beacon: Beacon, now: int) -> tuple[Landing | None, str | None]:
    """The newest usable click id that the beacon tells of, and why one is not usable."""
    seen = [(one.u, one.at) for one in beacon.e] + ([(beacon.l.url, beacon.l.at)] if beacon.l else [])
    found: Landing | None = None
    fault: str | None = None
    for url, at in seen:
        fbclid = fbclid_of(url)
        if fbclid is None:
            continue
        if clickid.fault(fbclid, now):
            fault = "invalid_fbclid"
        elif found is None or _time(beacon, at, now) > found.at:
            found = Landing(fbclid, _time(beacon, at, now))
    return found, fault


def _time(beacon: Beacon, at: int, now: int) -> int:
    """When something happened, by our clock: as long ago as the page says."""
    return max(0, now - max(0, beacon.n - at)) if beacon.n and at else now


def seed_age(beacon: Beacon) -> int:
    """Milliseconds since the page drew its seed; 0 without one."""
    return max(0, beacon.n - beacon.v.at) if beacon.v and beacon.n else 0


def clicks(beacon: Beacon, jar: Jar, now: int) -> list[ClickBody]:
    """The clicks that a beacon's page views are."""
    found = []
    for one in beacon.e:
        fbclid = fbclid_of(one.u)
        if one.t == "PageView" and fbclid and not clickid.fault(fbclid, now):
            found.append(_click(beacon, one, fbclid, jar, now))
    return found


def _click(beacon: Beacon, one: Happening, fbclid: str, jar: Jar, now: int) -> ClickBody:
    held = clickid.parse_fbc(jar.fbc) if jar.fbc else None
    return ClickBody(
        fbclid=fbclid,
        store_id=beacon.s,
        landing_page=one.u,
        referrer=one.r or None,
        timestamp=times.exact(_time(beacon, one.at, now)),
        visitor_id=jar.visitor,
        fbp=jar.fbp,
        fbc=jar.fbc if held and held.fbclid == fbclid else None,
        consent=consent_of(beacon),
    )


def event(beacon: Beacon, one: Happening, jar: Jar, now: int) -> ConversionBody:
    """One of the beacon's events, page views included; ApiError when its amount is no number."""
    data = dict(one.d)
    order_id = next((str(data[name]) for name in _ORDER_NAMES if data.get(name)), None)
    for name in _ORDER_NAMES:
        data.pop(name, None)
    return ConversionBody(
        store_id=beacon.s,
        event_type=one.t,
        order_id=order_id,
        event_value=_decimal(data.pop("value", None)),
        currency=_text(data.pop("currency", None)),
        customer_data=_customer(one.h),
        timestamp=times.exact(_time(beacon, one.at, now)),
        fbc=jar.fbc,
        fbp=jar.fbp,
        visitor_id=jar.visitor,
        event_id=one.i or None,
        event_source_url=one.u or None,
        referrer=one.r or None,
        consent=consent_of(beacon),
        custom_data=lenient.custom_data(data, "d", []) or None,
        first_touch=beacon.f.url if beacon.f else None,
        last_touch=beacon.l.url if beacon.l else None,
    )


def consent_of(beacon: Beacon) -> Consent | None:
    """The consent that the page says it has, None when it leaves that to the store."""
    return Consent(marketing=beacon.c) if beacon.c else None


def _decimal(value: Any) -> Decimal | None:
    """A page's amount: a number, or a text that is one."""
    if value is None or isinstance(value, bool):
        return None
    try:
        return Decimal(str(value).strip())
    except InvalidOperation:
        raise ApiError("invalid_field", "value: expected a number", "value") from None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _customer(said: dict[str, Any] | None) -> CustomerData | None:
    """Who the page says it is; what does not fit is left out, since the event counts without it."""
    if not said:
        return None
    names = {field.encode_name for field in msgspec.structs.fields(CustomerData)}
    known = {name: str(value) if type(value) is int else value for name, value in said.items() if name in names}
    try:
        return msgspec.convert(known, CustomerData)
    except msgspec.ValidationError:
        return None
