"""What does a page's beacon say: its compact JSON into clicks and events of the contract.

Its own shape is said.py's. Times are the visitor's clock; only differences are used, so that a wrong one does no harm.
"""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any, Final, Literal, NamedTuple
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

import msgspec

from collector.core import clickid, lenient, times, wire
from collector.core.cookies import EMPTY, Jar, same_site
from collector.core.events import ClickBody, Consent, ConversionBody
from collector.core.said import Beacon, Happening, decode
from collector.errors import ApiError

_ORDER_NAMES: Final = ("order_id", "orderId", "transaction_id")
_members: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


class Landing(NamedTuple):
    """A click id and when it was first seen, ms by our clock; the page before this one, where it stood only there."""

    fbclid: str
    at: int
    before: str | None = None


def contract_body(raw: bytes) -> ClickBody | ConversionBody | None:
    """The click or event in the contract's own words, which a page may post as well; None when it is a beacon."""
    if b'"storeId"' not in raw:
        return None
    try:
        members = _members.decode(wire.without_mark(raw))
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


def of_pixel(
    query: str, referer: str, now: int, faults: list[ApiError] | None = None, ignored: list[str] | None = None
) -> Beacon:
    """The beacon in a pixel's query: `d` holds a whole one; without JavaScript `s`, `k`, `c`, `u` or the Referer do.

    The contract's names (`storeId`, `key`, `landingPage`, `fbclid`) stand for them as well.
    """
    try:
        asked = {name: values[0] for name, values in parse_qs(query, max_num_fields=20).items()}
    except ValueError:
        raise ApiError("invalid_field", "the query has too many parameters") from None
    if "d" in asked:
        return decode(asked["d"].encode(), faults, ignored)
    store = asked.get("s") or asked.get("storeId")
    if not store:
        raise ApiError("missing_required_field", "s, the store, is required", "s")
    page = asked.get("u") or asked.get("landingPage") or referer
    if asked.get("fbclid") and "fbclid=" not in page:
        page += ("&" if "?" in page else "?") + urlencode({"fbclid": asked["fbclid"]})
    seen = Happening(t="PageView", at=now, u=page)
    said: Literal["granted"] | None = "granted" if asked.get("c") == "granted" else None
    return Beacon(s=store, k=asked.get("k") or asked.get("key"), n=now, c=said, e=[seen])


# Where Meta's own library finds it: anywhere behind ?, # or &; and where `&` was escaped for HTML on its way.
_CLICK_ID: Final = re.compile(r"[?#&;](fbclid)=([^?#&;]+)", re.IGNORECASE)
# What templates, mails and chats put around it; behind one as long as Meta's are (61 letters and more; 20 will do).
_AROUND: Final = " +=/\\\"'\r\n\t"
_IN_FRONT: Final = re.compile(r"[A-Za-z0-9_-]{20,500}(?![A-Za-z0-9_-])")
_SESSION_MS: Final = 30 * 60_000


@lru_cache(maxsize=1024)  # one beacon asks for the same address three times; 4 MB at most
def fbclid_of(url: str) -> str | None:
    """The click id in a page's address as it stands, decoded; of several the first that can be one.

    `FBCLID=` is read where the id has letters of both cases: what changed the name's case has not changed the id's,
    and a wrong id would be worse than none.
    """
    if "fbclid=" not in url.lower():
        return None
    try:
        urlsplit(url)
    except ValueError:
        return None
    found = [text for name, value in _CLICK_ID.findall(url) if (text := _in_value(value)) and _is_whole(name, text)]
    return next((text for text in found if clickid.fault(text, 0) is None), found[0] if found else None)


def _in_value(value: str) -> str:
    """The id in a parameter's value: no id has a percent sign, so that one was encoded twice."""
    text = unquote(value)
    text = (unquote(text) if "%" in text else text).strip(_AROUND)
    return found[0] if (found := _IN_FRONT.match(text)) else text


def _is_whole(name: str, text: str) -> bool:
    return name == "fbclid" or not (text.islower() or text.isupper())


def landing(beacon: Beacon, now: int, jar: Jar = EMPTY) -> tuple[Landing | None, str | None]:
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
    return _landed_before(beacon, jar, now, found) or found, fault


def _landed_before(beacon: Beacon, jar: Jar, now: int, found: Landing | None) -> Landing | None:
    """The landing on a page of ours without the snippet, of which only this page's referrer tells.

    The referrer also names a page that was counted when it was open, and it comes back with the browser's Back. So it
    tells nothing while a click of this session is known.
    """
    held = clickid.parse_fbc(jar.fbc) if jar.fbc else None
    for one in beacon.e:
        fbclid = fbclid_of(one.r) if one.r and "fbclid=" in one.r else None
        if fbclid is None or one.t != "PageView" or clickid.fault(fbclid, now) or not _are_one_site(one.u, one.r or ""):
            continue
        at = _time(beacon, one.at, now)
        known = max(held.created if held else 0, found.at if found else 0)
        if at - known > _SESSION_MS and fbclid not in (held and held.fbclid, found and found.fbclid):
            return Landing(fbclid, at, one.r)
    return None


def _are_one_site(one: str, other: str) -> bool:
    try:
        hosts = urlsplit(one).hostname, urlsplit(other).hostname
    except ValueError:
        return False
    return bool(hosts[0] and hosts[1]) and same_site(hosts[0] or "", hosts[1] or "")


def _time(beacon: Beacon, at: int, now: int) -> int:
    """When something happened, by our clock: as long ago as the page says."""
    return max(0, now - max(0, beacon.n - at)) if beacon.n and at else now


def seed_age(beacon: Beacon) -> int:
    """Milliseconds since the page drew its seed; 0 without one."""
    return max(0, beacon.n - beacon.v.at) if beacon.v and beacon.n else 0


def clicks(beacon: Beacon, jar: Jar, now: int, found: Landing | None = None) -> list[ClickBody]:
    """The clicks that a beacon's page views are, and the one before them that `landing` found."""
    views = [one for one in beacon.e if one.t == "PageView"]
    taken = [
        _click(beacon, one, fbclid, jar, now)
        for one in views
        if (fbclid := fbclid_of(one.u)) and not clickid.fault(fbclid, now)
    ]
    if found and found.before:
        view = next(one for one in views if one.r == found.before)
        taken.append(_click(beacon, Happening(t=view.t, at=view.at, u=found.before), found.fbclid, jar, now))
    return taken


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


def event(beacon: Beacon, one: Happening, jar: Jar, now: int, ignored: list[str] | None = None) -> ConversionBody:
    """One of the beacon's events, page views included; ApiError when its amount is no number.

    `ignored` gets the names of what could not be read of its data and its customer.
    """
    data = dict(one.d)
    named: list[str] = [] if ignored is None else ignored
    order_id = next((lenient.text_of(data[name]) for name in _ORDER_NAMES if data.get(name)), None)
    for name in _ORDER_NAMES:
        data.pop(name, None)
    return ConversionBody(
        store_id=beacon.s,
        event_type=one.t,
        order_id=order_id,
        event_value=_decimal(data.pop("value", None)),
        currency=_text(data.pop("currency", None)),
        customer_data=lenient.person(one.h, named) if one.h else None,
        timestamp=times.exact(_time(beacon, one.at, now)),
        fbc=jar.fbc,
        fbp=jar.fbp,
        visitor_id=jar.visitor,
        event_id=one.i or None,
        event_source_url=one.u or None,
        referrer=one.r or None,
        consent=consent_of(beacon),
        custom_data=lenient.custom_data(data, "customData", named) or None,
        first_touch=beacon.f.url if beacon.f else None,
        last_touch=beacon.l.url if beacon.l else None,
    )


def consent_of(beacon: Beacon) -> Consent | None:
    """The consent that the page says it has, None when it leaves that to the store."""
    return Consent(marketing=beacon.c) if beacon.c else None


def _decimal(value: Any) -> Decimal | None:
    """A page's amount: a number, or a text that is one."""
    if isinstance(value, bool) or lenient.is_nothing(value):
        return None
    try:
        return Decimal(str(value).strip())
    except InvalidOperation:
        raise ApiError("invalid_field", "value: expected a number", "value") from None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
