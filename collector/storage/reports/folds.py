"""What does a slice of rows add up to? Clicks by hour, campaign and reason; conversions by hour, signal and label."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Set
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final, NamedTuple

import msgspec

from collector.core import flags, statuses
from collector.core.calibration import logit
from collector.core.event_names import STANDARD
from collector.core.events import StoredClick
from collector.core.landing import campaign_of
from collector.core.learning import is_order
from collector.core.matching.shapes import Label
from collector.storage.reports.reader import Row

HOUR_MS: Final = 3_600_000
DAY_MS: Final = 24 * HOUR_MS
LOG_ODDS_STEP: Final = 0.25  # labels are binned by their stated log odds, as core/learning.py does
# The keys of Meta's user_data that are counted; their places are the bits of a SignalKey.
SIGNALS: Final = (
    *("em", "ph", "fn", "ln", "db", "ge", "ct", "st", "zp", "country", "external_id"),
    *("fbc", "fbp", "client_ip_address", "client_user_agent"),
)
_BIT: Final = {name: 1 << place for place, name in enumerate(SIGNALS)}
_FBC, _FBP, _IP, _UA = (_BIT[name] for name in SIGNALS[-4:])
OTHER: Final = "(other)"
Names = Set[tuple[int, str]]  # store, custom event name
NAMES_SQL: Final = "SELECT store, name FROM event_name"
_ALWAYS: Final = STANDARD | {"erased", "lost"}  # what we call rows of which nothing else is known
MISSING: Final = "(none)"
# Labels are the callers' words: a flood of them ends as "(other)". A slice has 4,096 rows.
_LABELS_PER_SLICE: Final = 256

CLICK_SQL: Final = "SELECT id, ts, store, flags, body FROM click WHERE id >= ? AND id < ? AND store > 0"
CONVERSION_SQL: Final = """
SELECT c.id, c.ts, c.store, c.event_type, c.flags, c.click, c.ip_k IS NOT NULL, c.ua_k IS NOT NULL, c.body,
       c.match, k.body
  FROM conversion c LEFT JOIN click k ON k.id = c.click AND c.event_type NOT IN ('PageView', 'ViewContent', 'Search')
 WHERE c.id >= ? AND c.id < ? AND c.store > 0"""
BROWSING: Final = frozenset({"PageView", "ViewContent", "Search"})  # not counted as what a campaign has brought


class ClickKey(NamedTuple):
    hour: int
    store: int
    kept_apart: bool  # bots, prefetches, refused consent, tests


class CampaignKey(NamedTuple):
    day: int
    store: int
    source: str
    campaign: str

    def other(self) -> CampaignKey:
        """The key of everything that found no room."""
        return self._replace(source=OTHER, campaign=OTHER)


class ReasonKey(NamedTuple):
    day: int
    store: int
    kind: str  # bot, prefetch, consent, test
    reason: str


class ConversionKey(NamedTuple):
    hour: int
    store: int
    event_type: str
    currency: str  # empty: no value


class SignalKey(NamedTuple):
    day: int
    store: int
    event_type: str
    signals: int  # bits of SIGNALS


class OutcomeKey(NamedTuple):
    day: int
    store: int
    tier: str  # click, device, identity, inferred, none
    word: str  # the method, or why not


class LabelKey(NamedTuple):
    """One kind of label; `step` is the stated log odds in steps of a quarter."""

    store: int
    kind: str
    method: str
    step: int
    purchase: bool = True


@dataclass(slots=True)
class Sums:
    """What conversions with one key add up to; money only ever within one currency."""

    n: int = 0
    attributed: int = 0
    value: Decimal = Decimal(0)
    attributed_value: Decimal = Decimal(0)
    reversed: int = 0  # refunded or cancelled: counted, without their value

    def add(self, other: Sums) -> None:
        self.n += other.n
        self.attributed += other.attributed
        self.value += other.value
        self.attributed_value += other.attributed_value
        self.reversed += other.reversed


@dataclass(slots=True)
class Truth:
    """Labels with one key: how many, and how many of them came true."""

    n: int = 0
    right: int = 0

    def add(self, other: Truth) -> None:
        self.n += other.n
        self.right += other.right


@dataclass(slots=True)
class ClickSlice:
    newest: int = 0
    hours: Counter[ClickKey] = field(default_factory=Counter)
    campaigns: Counter[CampaignKey] = field(default_factory=Counter)
    apart: Counter[ReasonKey] = field(default_factory=Counter)


@dataclass(slots=True)
class ConversionSlice:
    newest: int = 0
    hours: dict[ConversionKey, Sums] = field(default_factory=lambda: defaultdict(Sums))
    campaigns: dict[CampaignKey, dict[str, Sums]] = field(default_factory=dict)
    signals: Counter[SignalKey] = field(default_factory=Counter)
    outcomes: Counter[OutcomeKey] = field(default_factory=Counter)
    labels: dict[LabelKey, Truth] = field(default_factory=lambda: defaultdict(Truth))
    sellers: set[int] = field(default_factory=set)  # stores with purchases


class _Event(msgspec.Struct):
    """The fields of a stored event that are counted."""

    value: Decimal | None = None
    currency: str | None = None
    order_status: str | None = None
    user_data: dict[str, msgspec.Raw] = {}  # its keys alone are wanted
    fbc: str | None = None
    fbp: str | None = None


class _Judged(msgspec.Struct):
    """The fields of a match that are counted."""

    attributed: bool
    tier: str = "none"
    method: str | None = None
    reason: str | None = None
    deterministic: bool = False
    label: Label | None = None


_decode_click = msgspec.msgpack.Decoder(StoredClick).decode
_decode_event = msgspec.msgpack.Decoder(_Event).decode
_decode_judged = msgspec.msgpack.Decoder(_Judged).decode


def fold_clicks(rows: Iterable[Row], _: Names) -> ClickSlice:
    """One slice of clicks, counted."""
    out = ClickSlice()
    for _, ts, store, marks, body in rows:
        apart = bool(marks & flags.INELIGIBLE)
        out.newest = max(out.newest, ts)
        out.hours[ClickKey(ts // HOUR_MS, store, apart)] += 1
        if apart:
            _count_apart(out.apart, ts // DAY_MS, store, marks, _decode_click(body))
        else:
            key = _label(ts // DAY_MS, store, body)
            out.campaigns[key if key in out.campaigns or len(out.campaigns) < _LABELS_PER_SLICE else key.other()] += 1
    return out


def _count_apart(into: Counter[ReasonKey], day: int, store: int, marks: int, click: StoredClick) -> None:
    kinds = (
        (flags.BOT, "bot", click.bot or "crawler"),
        (flags.PREFETCH, "prefetch", "fetched ahead of a person"),
        (flags.DENIED, "consent", "denied"),
        (flags.WITHDRAWN, "consent", "withdrawn later"),
        (flags.PENDING, "consent", "not decided yet"),
        (flags.TEST, "test", "a merchant's test"),
    )
    kind, reason = next((kind, reason) for bit, kind, reason in kinds if marks & bit)
    into[ReasonKey(day, store, kind, reason)] += 1


def _label(day: int, store: int, body: bytes | None) -> CampaignKey:
    if body is None:
        return CampaignKey(day, store, MISSING, MISSING)
    place = campaign_of(_decode_click(body).landing_page)
    return CampaignKey(day, store, place.source or MISSING, place.campaign or MISSING)


def fold_conversions(rows: Iterable[Row], names: Names) -> ConversionSlice:
    """One slice of conversions, counted; tests, bots and what only a page says are left out.

    `names`: the custom event names that each store has.
    """
    out = ConversionSlice()
    for _, ts, store, event_type, marks, click, has_ip, has_ua, body, match, click_body in rows:
        out.newest = max(out.newest, ts)
        if marks & flags.NO_SALE:
            continue
        event, judged, day = _decode_event(body), _decode_judged(match), ts // DAY_MS
        sums = _sums(event, judged.attributed)
        kind = _label_of_type(event_type, store, names)
        out.hours[ConversionKey(ts // HOUR_MS, store, kind, event.currency or "")].add(sums)
        out.outcomes[OutcomeKey(day, store, judged.tier, judged.method or judged.reason or "none")] += 1
        out.signals[SignalKey(day, store, kind, _signals(event, judged, has_ip, has_ua))] += 1
        if event_type == "Purchase":
            out.sellers.add(store)
        if judged.label is not None and is_order(event_type, purchases=False):
            _count_truth(out.labels, store, event_type == "Purchase", judged.method or "", judged.label)
        if click is not None and event_type not in BROWSING:
            _count_order(out, _label(day, store, click_body), event.currency or "", sums)
    return out


def _label_of_type(event_type: str, store: int, names: Names) -> str:
    """A standard name, one of ours, or one that the store has; custom names are the callers' words as well (D5)."""
    return event_type if event_type in _ALWAYS or (store, event_type) in names else OTHER


def _sums(event: _Event, attributed: bool) -> Sums:
    if statuses.has_ended(event.order_status):
        return Sums(n=1, attributed=int(attributed), reversed=1)
    value = event.value or Decimal(0)
    return Sums(1, int(attributed), value, value if attributed else Decimal(0))


def _signals(event: _Event, judged: _Judged, has_ip: int, has_ua: int) -> int:
    """What Meta is given, as bits; a click that a proof names adds its own click id."""
    bits = (_IP if has_ip else 0) | (_UA if has_ua else 0) | (_FBP if event.fbp else 0)
    if event.fbc or judged.deterministic:
        bits |= _FBC
    for name in event.user_data:
        bits |= _BIT.get(name, 0)
    return bits


def _count_truth(into: dict[LabelKey, Truth], store: int, purchase: bool, method: str, label: Label) -> None:
    if label.kind == "device":
        if label.contradicted is not None:
            into[LabelKey(store, "device", method, 0, purchase)].add(Truth(1, int(not label.contradicted)))
        return
    step = round(logit(label.stated) / LOG_ODDS_STEP) if label.stated > 0 else -1000
    into[LabelKey(store, label.kind, "", step, purchase)].add(Truth(1, int(label.right)))


def _count_order(out: ConversionSlice, key: CampaignKey, currency: str, sums: Sums) -> None:
    known = key in out.campaigns or len(out.campaigns) < _LABELS_PER_SLICE
    out.campaigns.setdefault(key if known else key.other(), defaultdict(Sums))[currency].add(sums)
