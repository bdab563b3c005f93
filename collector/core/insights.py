"""What do Meta's ads say of themselves, and which of our lines is each ad's?

The answer of `GET /{version}/{ad_account}/insights` (level ad, a row a day) is hostile: numbers come as texts and are
bounded, names are cut, a row that cannot be read is counted and never guessed. A purchase has many names in `actions`
(purchase, omni_purchase, offsite_conversion.fb_pixel_purchase …), which are the same purchases: one is counted.

    place of our clicks (campaign, ad set, ad) ◀─ ad id ─ ad; else by the names of campaign, ad set and ad, as far as
    they agree. What agrees with nothing is `(not joined)`, so that every level's spend is the account's, to the cent.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Container, Mapping
from datetime import date, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import Struct

from collector.core.capi.verdicts import Answer, Kind, Verdict, classify
from collector.core.landing import label_of

DAYS: Final = 28  # Meta restates what it says of the last days
WINDOWS: Final = ("1d_view", "7d_click")
FIELDS: Final = (
    *("account_currency", "campaign_id", "campaign_name", "adset_id", "adset_name", "ad_id", "ad_name"),
    *("spend", "impressions", "clicks", "inline_link_clicks", "actions", "action_values"),
)
# One purchase under its names, the widest first; Ads Manager's column "Purchases" is the first.
PURCHASES: Final = (
    *("omni_purchase", "purchase", "offsite_conversion.fb_pixel_purchase", "web_in_store_purchase"),
    *("onsite_web_purchase", "onsite_web_app_purchase", "app_custom_event.fb_mobile_purchase"),
)
UNITS: Final = 10_000  # of a currency's unit, as in the kept sums
NOT_JOINED: Final = "(not joined)"
NONE: Final = "(none)"
EPOCH: Final = date(1970, 1, 1)
_MOST: Final = 10**10  # of an ad and a day; so that no sum of a hundred thousand passes 64 bits
_NUMBER: Final = re.compile(r"-?[0-9]{1,15}(\.[0-9]{1,12})?", re.ASCII)
_AD: Final = re.compile(r"[0-9]{1,32}", re.ASCII)
_CODE: Final = re.compile(r"[A-Z]{3}", re.ASCII)
_LONGEST_CURSOR: Final = 4096
_TOO_MUCH: Final = frozenset({1, 1487534})  # the code, and the subcode, by which Meta asks for less at once
Path = tuple[str, str, str]
ShopLine = tuple[int, str, str, str]


class Ad(NamedTuple):
    """An ad by its ids and newest names."""

    ad: str
    ad_name: str
    adset: str
    adset_name: str
    campaign: str
    campaign_name: str


class AdDay(NamedTuple):
    """What one ad did on one day of the account's zone (`day`: since 1970). Money is in ten-thousandths.

    `currency` is empty where neither row nor account says it: then it is nobody else's.
    """

    day: int
    ad: Ad
    currency: str
    spend: int
    impressions: int
    clicks: int
    link_clicks: int
    purchases: int  # Meta's own, one day after a view or seven after a click
    purchase_units: int


class Page(NamedTuple):
    """A page of the answer. `unread`: rows of no use; `after`: where the next one begins, None at the end."""

    rows: list[AdDay]
    unread: int
    after: str | None


class Account(NamedTuple):
    """What the account itself says: its money and the zone of its days (IANA); None where it does not say."""

    currency: str | None = None
    timezone: str | None = None


class _Cursors(Struct, frozen=True):
    after: Any = None


class _Paging(Struct, frozen=True):
    cursors: _Cursors = _Cursors()
    next: Any = None


class _Answer(Struct):
    data: list[msgspec.Raw]
    paging: _Paging = _Paging()


class _Row(Struct):
    ad_id: str | int
    date_start: str
    account_currency: str = ""
    date_stop: str = ""
    ad_name: str = ""
    adset_id: str | int = ""
    adset_name: str = ""
    campaign_id: str | int = ""
    campaign_name: str = ""
    spend: Any = "0"
    impressions: Any = "0"
    clicks: Any = "0"
    inline_link_clicks: Any = "0"
    actions: list[dict[str, Any]] | None = None
    action_values: list[dict[str, Any]] | None = None


class _Account(Struct):
    currency: str
    timezone_name: str


_decode_answer = msgspec.json.Decoder(_Answer).decode
_decode_row = msgspec.json.Decoder(_Row).decode
_decode_account = msgspec.json.Decoder(_Account).decode


def span_of(today: date) -> tuple[date, date]:
    """The days that are asked for, both included: the last 28, today among them."""
    return today - timedelta(DAYS - 1), today


def day_number(day: date) -> int:
    """Days since 1970."""
    return (day - EPOCH).days


def asked(since: date, until: date, limit: int, after: str | None) -> dict[str, str]:
    """The question for one page."""
    said = {
        "level": "ad",
        "time_increment": "1",
        "time_range": msgspec.json.encode({"since": str(since), "until": str(until)}).decode(),
        "fields": ",".join(FIELDS),
        "action_attribution_windows": msgspec.json.encode(WINDOWS).decode(),
        "limit": str(limit),
    }
    return said if after is None else {**said, "after": after}


def fault_of(answer: Answer) -> Verdict | None:
    """Why the answer is none, by the classes of delivery; None where it is to be read."""
    if answer.fault is None and answer.status is not None and 200 <= answer.status < 300:
        return None
    return classify(answer, 0)


def garbled(answer: Answer) -> Verdict:
    """The verdict over a 200 that is not what was asked for."""
    return Verdict(kind=Kind.GARBLED, message="HTTP 200 whose body is not Meta's", http_status=answer.status)


def wants_less(verdict: Verdict) -> bool:
    """Whether smaller pages may pass: Meta asks for less data, or its answer was longer than is read."""
    return verdict.kind in (Kind.GARBLED, Kind.LOST) or bool(_TOO_MUCH & {verdict.code, verdict.subcode})


def is_ours_to_mend(verdict: Verdict) -> bool:
    """Whether only a person can end the fault: token, permission, account, version."""
    return verdict.kind in (Kind.BLOCKED, Kind.REFUSED)


def mend_of(code: int | None, account: str) -> str:
    """What to do where Meta refuses the call, by its code."""
    match code:
        case 190 | 102:
            return "put a new token into [insights] access_token_file: Business settings, System users"
        case int() if code in (3, 10) or 200 <= code < 300:
            return f"give the token's user ads_read and the account {account}: Business settings, Ad accounts"
        case 100 | 803:
            return f"is {account} the right number, and has the token's user that account?"
        case 2635:
            return "set a newer [meta] api_version"
    return "Meta's own words say what it refuses; it is tried again every hour"


def read_account(body: bytes) -> Account | None:
    """The account's currency and zone; None where the answer does not say them."""
    try:
        found = _decode_account(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return Account(found.currency, found.timezone_name[:64]) if _CODE.fullmatch(found.currency) else None


def read_page(body: bytes, since: date, until: date, before: str | None, currency: str = "") -> Page | None:
    """A page, of which only days from `since` to `until` are taken; None where it is none, or leads to itself.

    `currency`: the account's, for rows that do not say theirs.
    """
    try:
        answer = _decode_answer(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    after, more = answer.paging.cursors.after, answer.paging.next is not None
    if not (isinstance(after, str) and 0 < len(after) <= _LONGEST_CURSOR and after.isascii()):
        after = None
    if more and (after is None or after == before):
        return None
    found = [_day_of(raw, since, until, currency) for raw in answer.data]
    rows = [row for row in found if row is not None]
    # The last page has a cursor too, and no `next`: what it leads to is empty.
    ends = after is None or (not more and (after == before or not answer.data))
    return Page(rows, len(found) - len(rows), None if ends else after)


def _day_of(raw: msgspec.Raw, since: date, until: date, currency: str) -> AdDay | None:
    try:
        row = _decode_row(raw)
        day = date.fromisoformat(row.date_start)
        shown, clicks, links = (_count(value) for value in (row.impressions, row.clicks, row.inline_link_clicks))
        spend = _units(row.spend)
        purchases, value = _purchases(row)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError):
        return None
    same_day = row.date_stop in ("", row.date_start)
    code = row.account_currency or currency
    known = _AD.fullmatch(str(row.ad_id)) and (not code or _CODE.fullmatch(code))
    if not (known and same_day and since <= day <= until):
        return None
    names = (row.ad_name, row.adset_id, row.adset_name, row.campaign_id, row.campaign_name)
    ad = Ad(str(row.ad_id), *(label_of(str(name)) for name in names))
    return AdDay(day_number(day), ad, code, spend, shown, clicks, links, purchases, value)


def _decimal(value: Any) -> Decimal:
    """A number as Meta writes it, a text; ValueError for what is none, or larger than money is."""
    text = str(value) if type(value) in (str, int, float) else ""
    if not _NUMBER.fullmatch(text):
        raise ValueError
    try:
        number = Decimal(text)
    except InvalidOperation:  # pragma: no cover (the pattern has no such text)
        raise ValueError from None
    if abs(number) > _MOST:
        raise ValueError
    return number


def _count(value: Any) -> int:
    return max(0, int(_decimal(value)))


def _units(value: Any) -> int:
    return int((_decimal(value) * UNITS).to_integral_value())


def _purchases(row: _Row) -> tuple[int, int]:
    """Purchases and their value, by one name: the first that either list has."""
    counted, valued = _by_name(row.actions), _by_name(row.action_values)
    name = next((name for name in PURCHASES if name in counted or name in valued), "")
    counts, values = counted.get(name, {}), valued.get(name, {})
    return max(0, round(_in_windows(counts))), int((_in_windows(values) * UNITS).to_integral_value())


def _by_name(actions: list[dict[str, Any]] | None) -> dict[Any, Mapping[str, Any]]:
    """The first of each name."""
    return {action.get("action_type"): action for action in reversed(actions or []) if _is_named(action)}


def _is_named(action: Mapping[str, Any]) -> bool:
    return isinstance(action.get("action_type"), str)


def _in_windows(action: Mapping[str, Any]) -> Decimal:
    """The windows that were asked for, added up; `value` where Meta names none."""
    named = [action[window] for window in WINDOWS if window in action] or [action.get("value", "0")]
    return sum((_decimal(value) for value in named), Decimal(0))


class Lines:
    """Our lines (shop, campaign, ad set, ad), and which of them an ad belongs to. `clicks`: of each, in the days asked.

    An id of an ad counts before names. Of several lines with one ad's id it is the one with the most clicks (the
    campaign was renamed), and of several shops with one campaign's name the one with the most: no ad costs twice.
    """

    def __init__(self, clicks: Mapping[ShopLine, int]) -> None:
        self._whole = set(clicks)
        self._shops: dict[str, Counter[int]] = {}  # by campaign
        self._adsets: dict[tuple[int, str], set[str]] = {}
        self._of_ad: dict[str, ShopLine] = {}
        for line in sorted(clicks, key=lambda line: (clicks[line], line)):
            shop, campaign, adset, ad = line
            self._shops.setdefault(campaign, Counter())[shop] += clicks[line]
            self._adsets.setdefault((shop, campaign), set()).add(adset)
            for label in (campaign, ad):  # utm_id is the campaign's where nothing else names one
                if _AD.fullmatch(label):
                    self._of_ad[label] = line

    def of(self, ad: Ad) -> ShopLine:
        """The line of an ad, as deep as ids and names agree; shop 0 where nothing does."""
        if (found := self._of_ad.get(ad.ad)) is not None:
            return found
        campaign = _first(self._shops, (ad.campaign, ad.campaign_name))
        if campaign is None:
            return 0, NOT_JOINED, NOT_JOINED, NOT_JOINED
        shops = self._shops[campaign]
        shop = max(shops, key=lambda number: (shops[number], -number))
        adset = _first(self._adsets[shop, campaign], (ad.adset, ad.adset_name))
        if adset is None:
            return shop, campaign, NOT_JOINED, NOT_JOINED
        named = (shop, campaign, adset, ad.ad_name)
        return named if ad.ad_name and named in self._whole else (shop, campaign, adset, NOT_JOINED)


def _first(known: Container[str], names: tuple[str, ...]) -> str | None:
    return next((name for name in names if name not in ("", NONE) and name in known), None)
