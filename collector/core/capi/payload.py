"""How does a stored event become the bytes of one Conversions API event, and can Meta take it?

Meta refuses a whole batch for one bad event, so every rule of its that is known is applied here. What is
optional and bad is left out and named; what Meta cannot take is refused with the reason in plain words. Personal data
is hashed at intake already, so this is a splice: the courier later only joins such bytes.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final

import msgspec
from msgspec import UNSET, Struct, UnsetType

from collector.core import amounts, clickid, personal
from collector.core.capi import custom_data, identifiers
from collector.core.capi.states import CapiState
from collector.core.events import Enrichment, StoredEvent

DAY_MS: Final = 86_400_000
# Meta takes 7 days, and 62 for shop counters; a quarter of an hour is kept for the queue and for clocks that differ.
MARGIN_MS: Final = 15 * 60_000
MAX_AGE_MS: Final = 7 * DAY_MS - MARGIN_MS
MAX_AGE_COUNTER_MS: Final = 62 * DAY_MS - MARGIN_MS

ACTION_SOURCES: Final = frozenset(
    [
        "email",
        "website",
        "app",
        "phone_call",
        "chat",
        "physical_store",
        "system_generated",
        "business_messaging",
        "other",
    ]
)
# These need keys that the HTTP contract does not carry (app_data.extinfo, messaging_channel with its ids).
_UNSUPPORTED: Final = {
    "app": "an app event needs app_data and extinfo, which this API does not carry",
    "business_messaging": "a messaging event needs messaging_channel and its ids, which this API does not carry",
}

# An event whose identifiers are all within one of these says too little about the person (2804050; best-practices).
_TOO_LITTLE: Final = (
    frozenset({"ct", "country", "st", "zp", "ge", "client_user_agent"}),
    frozenset({"db", "client_user_agent"}),
    frozenset({"fn", "ge"}),
    frozenset({"ln", "ge"}),
)
_TELLING: Final = frozenset(["em", "ph", "external_id", "fbp", "fbc", "client_ip_address"])  # in none of them
HASHED: Final = frozenset(["em", "ph", "fn", "ln", "db", "ge", "ct", "st", "zp", "country", "external_id"])


class Profile(Struct, frozen=True):
    """What a store adds to each of its events. `url`: the page to name where the event has none (its first domain)."""

    ldu: bool = False
    ldu_country: int = 0  # 0: Meta locates the person by address
    ldu_state: int = 0
    url: str | None = None


class BuiltEvent(Struct, frozen=True, gc=False):
    """`payload` is one event's JSON; empty when `refused` says why Meta cannot take it.

    `dropped` names the optional fields left out, `missing` the keys whose absence costs match quality; both are names
    only, for counting. `deadline` is the last moment (ms) at which it may be sent.
    """

    payload: bytes
    dropped: list[str]
    missing: list[str]
    deadline: int
    state: CapiState = CapiState.QUEUED
    refused: str | None = None


class _Body(Struct, gc=False):
    """One event's JSON, its keys in this order."""

    event_name: str
    event_time: int
    event_id: str
    action_source: str
    event_source_url: str | UnsetType
    referrer_url: str | UnsetType
    user_data: dict[str, Any]
    custom_data: dict[str, Any] | UnsetType
    data_processing_options: list[str] | UnsetType = UNSET
    data_processing_options_country: int | UnsetType = UNSET
    data_processing_options_state: int | UnsetType = UNSET


_encode: Final[Callable[[Any], bytes]] = msgspec.json.Encoder(decimal_format="number").encode


def deadline_of(event_ms: int, action_source: str) -> int:
    """The last moment at which Meta still takes an event of `event_ms`, with a margin."""
    return event_ms + (MAX_AGE_COUNTER_MS if action_source == "physical_store" else MAX_AGE_MS)


def build_event(event: StoredEvent, enrichment: Enrichment, profile: Profile) -> BuiltEvent:
    """The event as Meta takes it. What lies ahead of the time of receipt goes as received then, or Meta refuses it."""
    dropped: list[str] = []
    received, source = event.received, event.action_source
    event_ms = event.ts if event.ts < received else received
    deadline = deadline_of(event_ms, source)
    user = _user_data(event, enrichment, event_ms, dropped)
    custom = _custom_data(event, dropped)
    if (reason := _refusal(event, user, custom)) is not None:
        return BuiltEvent(b"", dropped, [], deadline, CapiState.REJECTED, reason)
    if received > deadline:
        return BuiltEvent(b"", dropped, [], deadline, CapiState.EXPIRED, _too_old(source))
    url = _url(event, enrichment, profile, dropped)
    referrer = _referrer(event.referrer, dropped) if event.referrer is not None else UNSET
    body = _Body(event.event_type, event_ms // 1000, event.event_id, source, url, referrer, user, custom or UNSET)
    if event.ldu or profile.ldu:
        body.data_processing_options = ["LDU"]
        body.data_processing_options_country = profile.ldu_country
        body.data_processing_options_state = profile.ldu_state
    return BuiltEvent(_encode(body), dropped, _missing(body), deadline)


_EVENT_TIME: Final = re.compile(rb'"event_time":(\d{1,12})')


def not_ahead(payload: bytes, deadline: int, now: int) -> bytes:
    """The payload with its event_time no later than `now` (ms): a clock that ran ahead at intake has been set right.

    Meta refuses the whole batch for one event of the future (2804004). The deadline tells cheaply that one may be.
    """
    if deadline - MAX_AGE_MS <= now:
        return payload
    found = _EVENT_TIME.search(payload)
    if found is None or int(found[1]) <= now // 1000:
        return payload
    return payload[: found.start(1)] + str(now // 1000).encode() + payload[found.end(1) :]


def as_sent(payload: bytes, before: bytes | None, value: str | None) -> bytes:
    """The payload with what counts of it (time, value, cart) as it was `before`, when Meta may have taken it.

    `value`: what it was worth then, where nothing else is known of it any more.
    """
    now = msgspec.json.decode(payload, type=dict[str, msgspec.Raw])
    if before is not None:
        then = msgspec.json.decode(before, type=dict[str, msgspec.Raw])
        now |= {key: then[key] for key in ("event_time", "custom_data") if key in then}
    elif value is not None and "custom_data" in now:
        custom = msgspec.json.decode(now["custom_data"])
        worth = {"value": amounts.rounded(Decimal(value), custom.get("currency"))}
        now["custom_data"] = msgspec.Raw(_encode(custom | worth))
    return _encode(now)


def _too_old(source: str) -> str:
    days = 62 if source == "physical_store" else 7
    return f"the event is older than the {days} days that Meta takes"


def _user_data(event: StoredEvent, enrichment: Enrichment, event_ms: int, dropped: list[str]) -> dict[str, Any]:
    hashed = event.user_data
    user: dict[str, Any] = hashed.copy()
    if not (HASHED.issuperset(hashed) and all(hashed.values())):
        user = {key: hashes for key, hashes in hashed.items() if key in HASHED and hashes}
        if hashed.keys() - HASHED:
            dropped.append("user_data.unknown")  # one unknown key here refuses the whole batch (2804019)
    ip, fbp = event.ip, event.fbp
    if ip and identifiers.is_plain_address(ip):
        user["client_ip_address"] = ip
    elif (address := _address(ip, enrichment.ip)) is not None:
        user["client_ip_address"] = address
    elif ip or enrichment.ip:
        dropped.append("client_ip_address")
    if agent := event.user_agent or enrichment.user_agent:
        if "@" in agent and personal.is_in(agent):
            dropped.append("client_user_agent")
        else:
            user["client_user_agent"] = agent
    fbc = identifiers.usable_fbc(event.fbc, event_ms) if event.fbc else None
    if fbc is not None or (fbc := _other_fbc(event, enrichment, event_ms)) is not None:
        user["fbc"] = fbc
    elif event.fbc or event.fbclid or enrichment.fbc:
        dropped.append("fbc")
    if fbp and (identifiers.is_plain_fbp(fbp) or clickid.is_fbp(fbp)):
        user["fbp"] = fbp
    elif enrichment.fbp and clickid.is_fbp(enrichment.fbp):
        user["fbp"] = enrichment.fbp
    elif fbp or enrichment.fbp:
        dropped.append("fbp")
    return user


def _address(own: str | None, clicked: str | None) -> str | None:
    """The event's own address, else its click's; None where neither is public."""
    public = identifiers.public_address(own) if own else None
    return public if public is not None or not clicked else identifiers.public_address(clicked)


def _other_fbc(event: StoredEvent, enrichment: Enrichment, event_ms: int) -> str | None:
    """Of the event's own click id, else of the credited click. One click id: the earlier sighting."""
    if event.fbclid is not None and clickid.fault(event.fbclid, event_ms) is None:
        same = enrichment.fbc if enrichment.fbc and identifiers.fbclid_of(enrichment.fbc) == event.fbclid else None
        return (same and identifiers.usable_fbc(same, event_ms)) or clickid.build_fbc(event.fbclid, event_ms)
    return identifiers.usable_fbc(enrichment.fbc, event_ms) if enrichment.fbc is not None else None


def _custom_data(event: StoredEvent, dropped: list[str]) -> dict[str, Any]:
    custom = _own_keys(event.custom_data, dropped) if event.custom_data else {}
    value, currency = event.value, event.currency
    if value is not None and value.is_finite() and value >= 0:
        custom["value"] = amounts.rounded(value, currency)
    if custom_data.is_currency(currency):
        custom["currency"] = currency
    elif "value" in custom and "currency" not in custom and event.event_type != "Purchase":
        del custom["value"]  # 2804023
        dropped.append("value")
    if event.order_id is not None and (event.order_id.isalnum() or _tells_nobody(event.order_id, dropped)):
        custom["order_id"] = event.order_id
    if event.products and (contents := custom_data.contents_of(event.products, dropped)):
        custom["contents"] = contents
        custom["content_ids"] = [item["id"] for item in contents]
        if "content_type" not in custom:
            custom["content_type"] = "product"
        if event.event_type == "InitiateCheckout":  # Meta knows num_items there only
            custom.setdefault("num_items", sum(item.get("quantity", 1) for item in contents))
    return custom


def _own_keys(given: dict[str, Any], dropped: list[str]) -> dict[str, Any]:
    """The last look: what was stored by an older release has not been read so at intake."""
    kept, left_out = custom_data.own_keys(given)
    dropped += [f"custom_data.{custom_data.label(key)}" for key in left_out]
    return kept


def _tells_nobody(order_id: str, dropped: list[str]) -> bool:
    """Whether an order's number says nothing of a person; some shops number orders by e-mail and time."""
    if personal.is_in(order_id):
        dropped.append("order_id")
        return False
    return True


def _refusal(event: StoredEvent, user: dict[str, Any], custom: dict[str, Any]) -> str | None:
    """Why Meta cannot take the event at all, or None."""
    if event.action_source != "website" and (reason := _bad_source(event.action_source)) is not None:
        return reason
    if not event.event_type or not event.event_id:
        return "an event needs a name and an event_id"
    if "@" in event.event_type or ("@" in event.event_id and personal.is_in(event.event_id)):
        return "eventType and eventId may hold no e-mail address and no phone"
    if event.event_type == "Purchase":
        if "value" not in custom:
            return "a Purchase needs eventValue (Meta 2804009)"
        if "currency" not in custom:
            return "a Purchase needs currency (Meta 2804010)"
    if _TELLING.isdisjoint(user) and _says_too_little(frozenset(user)):
        return "too little about the person for Meta (2804050): add e-mail, phone, external id, fbp, fbc or an address"
    return None


def _bad_source(source: str) -> str | None:
    if source not in ACTION_SOURCES:
        return f"actionSource is not one that Meta knows ({', '.join(sorted(ACTION_SOURCES))})"
    return _UNSUPPORTED.get(source)


def _says_too_little(present: frozenset[str]) -> bool:
    return any(present <= few for few in _TOO_LITTLE)


def _url(event: StoredEvent, enrichment: Enrichment, profile: Profile, dropped: list[str]) -> str | UnsetType:
    """The event's own page, else the one that the credited click landed on, else the store's."""
    own = event.event_source_url
    if own is not None:
        if (page := identifiers.public_page(own)) is not None:
            return page
        dropped.append("event_source_url")
    for found in (enrichment.event_source_url, profile.url if event.action_source == "website" else None):
        if found and (page := identifiers.public_page(found)) is not None:
            return page
    return UNSET


def _referrer(referrer: str, dropped: list[str]) -> str | UnsetType:
    if (page := identifiers.public_page(referrer)) is not None:
        return page
    dropped.append("referrer_url")
    return UNSET


def _missing(body: _Body) -> list[str]:
    """What a website event should have and lacks: Meta's text requires both, its server neither."""
    if body.action_source != "website" or (
        body.event_source_url is not UNSET and "client_user_agent" in body.user_data
    ):
        return []
    missing = [] if body.event_source_url is not UNSET else ["event_source_url"]
    return missing if "client_user_agent" in body.user_data else [*missing, "client_user_agent"]
