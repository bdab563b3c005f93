"""What does Meta refuse? A judge over one decoded request, by Meta's pages and public reports, apart from the product.

`judge` gives the index, code, subcode and message of the first event at fault: Meta refuses the whole request for it.
"""

from __future__ import annotations

import math
import re
from functools import lru_cache
from hashlib import sha256
from ipaddress import ip_address
from typing import Any, NamedTuple

HASHED = {
    "em",
    "ph",
    "fn",
    "ln",
    "db",
    "ge",
    "ct",
    "st",
    "zp",
    "country",
    "f5first",
    "f5last",
    "fi",
    "dobd",
    "dobm",
    "doby",
}
PLAIN = {
    "client_ip_address",
    "client_user_agent",
    "fbc",
    "fbp",
    "subscription_id",
    "fb_login_id",
    "lead_id",
    "anon_id",
    "madid",
    "page_id",
    "page_scoped_user_id",
    "ctwa_clid",
    "ig_account_id",
    "ig_sid",
    "external_id",
}
SERVER_KEYS = {
    "event_name",
    "event_time",
    "user_data",
    "action_source",
    "event_source_url",
    "event_id",
    "custom_data",
    "opt_out",
    "data_processing_options",
    "data_processing_options_country",
    "data_processing_options_state",
    "referrer_url",
    "customer_segmentation",
    "original_event_data",
    "attribution_data",
    "advanced_measurement_table",
    "messaging_channel",
    "app_data",
}
TOP_KEYS = {
    "data",
    "access_token",
    "appsecret_proof",
    "test_event_code",
    "partner_agent",
    "namespace_id",
    "upload_id",
    "upload_tag",
    "upload_source",
}
SOURCES = {
    "email",
    "website",
    "app",
    "phone_call",
    "chat",
    "physical_store",
    "system_generated",
    "business_messaging",
    "other",
}
TOO_LITTLE = (
    {"ct", "country", "st", "zp", "ge", "client_user_agent"},
    {"db", "client_user_agent"},
    {"fn", "ge"},
    {"ln", "ge"},
)
SHA256 = re.compile(r"[0-9a-f]{64}(\.[\w-]{8})?")
FBC = re.compile(r"fb\.\d\.(\d{13})\.[A-Za-z0-9_-]{1,500}(\.(AQ|Ag|Aw|BA|BQ|Bg|[\w-]{8}))?")
FBP = re.compile(r"fb\.\d\.\d{10,13}\.\d{1,20}(\.(AQ|Ag|Aw|BA|BQ|Bg|[\w-]{8}))?")
ADDRESS = re.compile(r"(\d{1,3}(\.\d{1,3}){3}|[0-9a-fA-F:]*:[0-9a-fA-F:.]+)(\.[\w-]{8})?")
URL = re.compile(r"https?://[^\s/?#@]+([/?#]\S*)?")
EMAIL = re.compile(r"[^\s@=&?/\"']+(@|%40)[^\s@=&?/\"']+\.[A-Za-z]{2,}")
# Meta's diagnostics name "external ids" and "hashed nothing" where an integration hashes what it has not.
NOTHING = {sha256(text.encode()).hexdigest() for text in ("", " ", "null", "undefined", "none", "None", "0", "NaN")}
STRINGS = {"event_name", "event_id", "event_source_url", "referrer_url", "customer_segmentation", "messaging_channel"}
# What Meta knows in custom_data, and in a line of its contents.
TEXT, NUMBER, COUNT, TEXTS = "a string", "a number", "a whole number", "a list of strings"
CUSTOM = {
    "value": NUMBER, "currency": TEXT, "content_ids": TEXTS, "content_type": {"product", "product_group"},
    "content_name": TEXT, "content_category": TEXT, "num_items": COUNT, "order_id": TEXT, "search_string": TEXT,
    "predicted_ltv": NUMBER, "net_revenue": NUMBER, "delivery_category": {"in_store", "curbside", "home_delivery"},
    "item_number": TEXT, "availability": TEXT,
}  # fmt: skip
LINE = {"id": TEXT, "quantity": COUNT, "item_price": NUMBER, "title": TEXT, "description": TEXT, "brand": TEXT,
        "category": TEXT, "delivery_category": CUSTOM["delivery_category"]}  # fmt: skip
DAY = 86_400


class Refusal(NamedTuple):
    """One event at fault."""

    index: int
    code: int
    subcode: int
    title: str
    message: str


def judge(data: list[Any], now: float) -> Refusal | None:
    """The first event that Meta would refuse, or None. `now` in seconds."""
    for index, event in enumerate(data):
        fault = _event(event, now, index)
        if fault is not None:
            return Refusal(index, 100, *fault)
    return None


def _event(event: Any, now: float, index: int) -> tuple[int, str, str] | None:
    if not isinstance(event, dict):
        return 2804019, "Server Side Api Parameter Error", f"Event $['data'][{index}] is not an object"
    for key in event.keys() - SERVER_KEYS:
        return _unexpected(key, f"$['data'][{index}]")
    for key in ("event_name", "event_time", "user_data", "action_source"):
        if key not in event:
            return 2804019, "Server Side Api Parameter Error", f'Missing key "{key}" on param "$[\'data\'][{index}]"'
    return (
        _time(event, now)
        or _texts(event)
        or _user(event, index)
        or _source(event)
        or _custom(event)
        or _ldu(event)
        or _clear(event)
    )


def _wrong(what: str) -> tuple[int, str, str]:
    return 2804019, "Server Side Api Parameter Error", what


def _texts(event: dict[str, Any]) -> tuple[int, str, str] | None:
    for key in event.keys() & STRINGS:
        if not isinstance(event[key], str) or not event[key]:
            return _wrong(f"{key} is not a string")
    if len(event["event_name"]) > 50:
        return _wrong("event_name is longer than 50 characters")
    for key in ("event_source_url", "referrer_url"):
        if key in event and not URL.fullmatch(event[key]):
            return _wrong(f"{key} is no URL")
    if not isinstance(event.get("opt_out", False), bool):
        return _wrong("opt_out is no boolean")
    return None


def _clear(event: dict[str, Any]) -> tuple[int, str, str] | None:
    """Customer information that is not hashed, wherever it stands."""
    text = repr(event)  # hashes hold no "@"
    if ("@" in text or "%40" in text) and EMAIL.search(text):
        return 2804019, "Unhashed Personal Data", "an e-mail address stands in clear"
    return None


def _unexpected(key: str, path: str) -> tuple[int, str, str]:
    return 2804019, "Server Side Api Parameter Error", f'Unexpected key "{key}" on param "{path}"'


def _time(event: dict[str, Any], now: float) -> tuple[int, str, str] | None:
    at = event["event_time"]
    if not isinstance(at, int):
        return 2804019, "Server Side Api Parameter Error", "event_time is not an integer"
    days = 62 if event["action_source"] == "physical_store" else 7
    if at < now - days * DAY:
        return 2804003, "Event Timestamp Too Old", "Invalid parameter"
    if at > now + 60:
        return 2804004, "Event Timestamp in the Future", "Invalid parameter"
    return None


def _user(event: dict[str, Any], index: int) -> tuple[int, str, str] | None:
    user = event["user_data"]
    if not isinstance(user, dict):
        return 2804050, "Insufficient Customer Information", "Invalid parameter"
    for key in user.keys() - HASHED - PLAIN:
        return _unexpected(key, f"$['data'][{index}]['user_data']")
    for key in user.keys() & HASHED:
        values = user[key] if isinstance(user[key], list) else [user[key]]
        if not values or not all(isinstance(v, str) and SHA256.fullmatch(v) for v in values):
            return 2804019, "Unhashed Personal Data", f"{key} is not a SHA-256"
    for key in user.keys() & (HASHED | {"external_id"}):
        values = user[key] if isinstance(user[key], list) else [user[key]]
        if not all(isinstance(v, str) and v for v in values) or NOTHING & set(values):
            return _wrong(f"{key} is nobody's")
    if "lead_id" in user and not isinstance(user["lead_id"], int):
        return 2804036, "Invalid lead_id", "Invalid parameter"
    present = set(user)
    if any(present <= few for few in TOO_LITTLE):
        return 2804050, "Insufficient Customer Information", "Invalid parameter"
    return _browser(event, user)


def _browser(event: dict[str, Any], user: dict[str, Any]) -> tuple[int, str, str] | None:
    if "fbc" in user:
        found = FBC.fullmatch(str(user["fbc"]))
        if found is None or not event["event_time"] - 90 * DAY <= int(found[1]) // 1000 <= event["event_time"]:
            return 2804001, "Click ID Incorrectly Formatted", "Invalid parameter"
    if "fbp" in user and FBP.fullmatch(str(user["fbp"])) is None:
        return 2804019, "Server Side Api Parameter Error", "fbp is malformed"
    if "client_ip_address" in user and not _is_visitors(user["client_ip_address"]):
        return _wrong("client_ip_address is malformed, or no visitor's")
    if not isinstance(user.get("client_user_agent", ""), str):
        return _wrong("client_user_agent is not a string")
    return None


@lru_cache(maxsize=1024)
def _is_visitors(address: Any) -> bool:
    if not isinstance(address, str) or ADDRESS.fullmatch(address) is None:
        return False
    try:
        return ip_address(re.sub(r"\.[\w-]{8}$", "", address)).is_global
    except ValueError:
        return False


def _source(event: dict[str, Any]) -> tuple[int, str, str] | None:
    source = event["action_source"]
    if source not in SOURCES:
        return 2804019, "Server Side Api Parameter Error", "action_source is not one of the allowed values"
    if source == "app" and len((event.get("app_data") or {}).get("extinfo", ())) != 16:
        return 2804043, "Invalid Extinfo", "Invalid parameter"
    if source == "business_messaging" and "messaging_channel" not in event:
        return 2804063, "Missing Messaging Channel", "Invalid parameter"
    return None


def _custom(event: dict[str, Any]) -> tuple[int, str, str] | None:
    custom = event.get("custom_data", {})
    if not isinstance(custom, dict):
        return 2804019, "Server Side Api Parameter Error", "custom_data is not an object"
    value, currency = custom.get("value"), custom.get("currency")
    if event["event_name"] == "Purchase":
        if isinstance(value, bool) or not isinstance(value, int | float):
            return 2804009, "Missing Value for Purchase Event", "Invalid parameter"
        if not isinstance(currency, str) or not re.fullmatch(r"[A-Za-z]{3}", currency):
            return 2804010, "Missing Currency for Purchase Event", "Invalid parameter"
    elif value is not None and currency is None:
        return 2804023, "Value Without Currency", "Invalid parameter"
    contents = custom.get("contents")
    if contents is not None and not _good_contents(contents):
        return 2804008, "Invalid Contents Parameter", "Invalid parameter"
    for key in custom.keys() & CUSTOM.keys():
        if not _fits(custom[key], CUSTOM[key]):
            return _wrong(f"custom_data.{key} is not {CUSTOM[key]}")
    if "currency" in custom and not re.fullmatch(r"[A-Za-z]{3}", custom["currency"]):
        return _wrong("custom_data.currency is no ISO 4217 code")
    return None


def _good_contents(contents: Any) -> bool:
    return isinstance(contents, list) and bool(contents) and all(map(_good_line, contents))


def _good_line(line: Any) -> bool:
    return (
        isinstance(line, dict)
        and bool(line.get("id"))
        and all(key in LINE and _fits(value, LINE[key]) for key, value in line.items())
    )


def _fits(value: Any, kind: Any) -> bool:
    if isinstance(kind, set):
        return value in kind
    if kind is TEXT:
        return isinstance(value, str)
    if kind is TEXTS:
        return isinstance(value, list) and bool(value) and all(isinstance(one, str) and one for one in value)
    if isinstance(value, bool) or not isinstance(value, int if kind is COUNT else int | float):
        return False
    return math.isfinite(value) and math.copysign(1, value) > 0  # the negative is never ours; -0.0 neither


def _ldu(event: dict[str, Any]) -> tuple[int, str, str] | None:
    options = event.get("data_processing_options")
    if options is not None and options not in ([], ["LDU"]):
        return 2804030, "LDU Selection Required", "Invalid parameter"
    places = [event.get(f"data_processing_options_{part}", 0) for part in ("country", "state")]
    if options and not ("data_processing_options_country" in event and all(isinstance(part, int) for part in places)):
        return 2804030, "LDU Selection Required", "Invalid parameter"
    return None
