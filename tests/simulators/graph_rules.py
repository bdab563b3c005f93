"""What does Meta refuse? The rules of meta-capi.md as a judge over one decoded request, written apart from the product.

`judge` gives the index, code, subcode and message of the first event at fault: Meta refuses the whole request for it.
"""

from __future__ import annotations

import re
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
    return _time(event, now) or _user(event, index) or _source(event) or _custom(event) or _ldu(event)


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
    if "client_ip_address" in user and ADDRESS.fullmatch(str(user["client_ip_address"])) is None:
        return 2804019, "Server Side Api Parameter Error", "client_ip_address is malformed"
    return None


def _source(event: dict[str, Any]) -> tuple[int, str, str] | None:
    source = event["action_source"]
    if source not in SOURCES:
        return 2804019, "Server Side Api Parameter Error", "action_source is not one of the allowed values"
    if source == "app" and "app_data" not in event:
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
    return None


def _good_contents(contents: Any) -> bool:
    return isinstance(contents, list) and bool(contents) and all(isinstance(c, dict) and c.get("id") for c in contents)


def _ldu(event: dict[str, Any]) -> tuple[int, str, str] | None:
    options = event.get("data_processing_options")
    if options is not None and options not in ([], ["LDU"]):
        return 2804030, "LDU Selection Required", "Invalid parameter"
    if options and not isinstance(event.get("data_processing_options_country"), int):
        return 2804030, "LDU Selection Required", "Invalid parameter"
    return None
