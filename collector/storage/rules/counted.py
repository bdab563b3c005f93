"""What does a row count as in the sums (click_sum, sale_sum …)? The same on both engines.

Nothing here raises: a row that cannot be read counts as nothing known.
"""

from __future__ import annotations

import math
from decimal import ROUND_HALF_UP, Decimal
from functools import lru_cache
from typing import Final

import msgspec

from collector.core import flags, statuses
from collector.core.calibration import logit
from collector.core.event_names import STANDARD
from collector.core.events import StoredClick
from collector.core.landing import labels_of
from collector.core.learning import BIN, is_order
from collector.core.matching.shapes import Label

QUARTER_MS: Final = 900_000  # the days of every time zone begin at a quarter of an hour
UNITS: Final = 10_000  # of a currency's unit: no currency has more than four decimals
_MOST_UNITS: Final = Decimal(10) ** 15
SEPARATOR: Final = "\x1f"
CUSTOM: Final = "(custom)"
_CAUSE_MAX: Final = 160
_APART: Final = (
    (flags.BOT, "bot"),
    (flags.PREFETCH, "prefetch"),
    (flags.DENIED, "denied"),
    (flags.WITHDRAWN, "withdrawn"),
    (flags.PENDING, "pending"),
    (flags.TEST, "test"),
)
NOWHERE: Final = 287  # not a person's with consent: such a click makes no place, and counts at none
_ANY_APART: Final = sum(bit for bit, _ in _APART)


class _Sold(msgspec.Struct):
    value: Decimal | None = None
    currency: str | None = None
    order_status: str | None = None


class _Judged(msgspec.Struct):
    attributed: bool = False
    deterministic: bool = False


class _Taught(msgspec.Struct):
    method: str | None = None
    label: Label | None = None


class _Landed(msgspec.Struct, array_like=True):
    """The first fields of StoredClick."""

    fbclid: str
    landing_page: str


_sold: Final = msgspec.msgpack.Decoder(_Sold).decode
_judged: Final = msgspec.msgpack.Decoder(_Judged).decode
_taught: Final = msgspec.msgpack.Decoder(_Taught).decode
_click: Final = msgspec.msgpack.Decoder(StoredClick).decode
_landed: Final = msgspec.msgpack.Decoder(_Landed).decode


# Several things are asked of one row, one after the other: its body is decoded once.
@lru_cache(maxsize=64)
def _read_sold(body: bytes) -> _Sold:
    try:
        return _sold(body)
    except msgspec.MsgspecError:
        return _Sold()


def event_name_of(event_type: str) -> str:
    """A standard name; custom ones are their callers' words, and any number of them."""
    return event_type if event_type in STANDARD else CUSTOM


def event_currency(body: bytes) -> str:
    """The currency of an order's value; empty where it has none."""
    sold = _read_sold(body)
    return sold.currency or "" if sold.value is not None else ""


def event_units(body: bytes) -> int:
    """The value in ten-thousandths; 0 where the order brings nothing any more."""
    sold = _read_sold(body)
    if sold.value is None or not sold.value.is_finite() or statuses.has_ended(sold.order_status):
        return 0
    return int(min((sold.value * UNITS).to_integral_value(ROUND_HALF_UP), _MOST_UNITS))


def event_ended(body: bytes) -> int:
    """1 for an order that was refunded, cancelled or never paid."""
    return int(statuses.has_ended(_read_sold(body).order_status))


@lru_cache(maxsize=4)  # it is asked before a change and after it
def counts_otherwise(old: bytes, new: bytes, match: bytes, new_match: bytes) -> int:
    """1 where an order's change changes a sum: its value, currency or end, or how sure its attribution is."""
    return int((old != new and _figures(old) != _figures(new)) or match_tier(match) != match_tier(new_match))


def _figures(body: bytes) -> tuple[Decimal | None, str | None, bool]:
    sold = _read_sold(body)
    return sold.value, sold.currency, statuses.has_ended(sold.order_status)


def match_tier(match: bytes) -> int:
    """How sure the attribution is: 2 proven, 1 likely, 0 none."""
    try:
        judged = _judged(match)
    except msgspec.MsgspecError:
        return 0
    return int(judged.attributed) * (1 + int(judged.deterministic))


@lru_cache(maxsize=64)
def match_label(match: bytes, event_type: str) -> str | None:
    """What a proof taught: kind, method, stated log odds in steps, 1 if it came true; None where it teaches nothing."""
    try:
        taught = _taught(match)
    except msgspec.MsgspecError:
        return None
    label = taught.label
    if label is None or not is_order(event_type, purchases=False):
        return None
    if label.kind == "device":
        told = None if label.contradicted is None else ("device", taught.method or "", "0", not label.contradicted)
    else:
        step = round(logit(label.stated) / BIN) if label.stated > 0 else -1000
        told = (label.kind, "", str(step), label.right)
    return told and SEPARATOR.join((*told[:3], str(int(told[3]))))


@lru_cache(maxsize=64)
def click_place(body: bytes) -> str:
    """Source, campaign, ad set and ad of a click's landing page."""
    try:
        return SEPARATOR.join(labels_of(_landed(body).landing_page))
    except msgspec.MsgspecError:
        return SEPARATOR * 3


def click_apart(marks: int, body: bytes) -> str:
    """Why a click is kept apart: a crawler's name, `prefetch`, `denied` …; empty for a person's."""
    if not marks & _ANY_APART:
        return ""
    kind = next(word for bit, word in _APART if marks & bit)
    if kind != "bot":
        return kind
    try:
        return f"bot{SEPARATOR}{_click(body).bot or 'crawler'}"
    except msgspec.MsgspecError:
        return f"bot{SEPARATOR}crawler"


def cause_name(reason: str | None) -> str | None:
    """A reason with its figures blotted out, so that one cause is one line."""
    return "".join("#" if c.isdigit() else c for c in reason)[:_CAUSE_MAX] if reason else None


def wait_step(ms: int) -> int:
    """A wait in eighths of a doubling of a millisecond: nine percent apart, from 1 ms to weeks in 250 steps."""
    return round(8 * math.log2(max(ms, 1)))
