"""What does a slice of conversions add up to that no kept sum holds? Signals, and how they were attributed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Set
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import msgspec

from collector.core import flags
from collector.core.event_names import STANDARD
from collector.storage.reports.questions import Row, named

HOUR_MS: Final = 3_600_000
DAY_MS: Final = 24 * HOUR_MS
# The keys of Meta's user_data that are counted; their places are the bits of a SignalKey.
SIGNALS: Final = (
    *("em", "ph", "fn", "ln", "db", "ge", "ct", "st", "zp", "country", "external_id"),
    *("fbc", "fbp", "client_ip_address", "client_user_agent"),
)
_BIT: Final = {name: 1 << place for place, name in enumerate(SIGNALS)}
_FBC, _FBP, _IP, _UA = (_BIT[name] for name in SIGNALS[-4:])
OTHER: Final = "(other)"
Names = Set[tuple[int, str]]  # store, custom event name
NAMES_SQL: Final = named("event names", "SELECT store, name FROM event_name")
_ALWAYS: Final = STANDARD | {"erased", "lost"}  # what we call rows of which nothing else is known
MISSING: Final = "(none)"
CONVERSION_SQL: Final = named(
    "conversions of a slice",
    """
SELECT id, ts, store, event_type, flags, ip_k IS NOT NULL, ua_k IS NOT NULL, body, match
  FROM conversion WHERE id >= ? AND id < ? AND store > 0""",
)


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


@dataclass(slots=True)
class ConversionSlice:
    newest: int = 0
    signals: Counter[SignalKey] = field(default_factory=Counter)
    outcomes: Counter[OutcomeKey] = field(default_factory=Counter)

    def add(self, other: ConversionSlice) -> None:
        """What follows it."""
        self.newest = max(self.newest, other.newest)
        self.signals.update(other.signals)
        self.outcomes.update(other.outcomes)


class _Event(msgspec.Struct):
    """The fields of a stored event that are counted."""

    user_data: dict[str, msgspec.Raw] = {}  # its keys alone are wanted
    fbc: str | None = None
    fbp: str | None = None


class _Judged(msgspec.Struct):
    """The fields of a match that are counted."""

    tier: str = "none"
    method: str | None = None
    reason: str | None = None
    deterministic: bool = False


_decode_event = msgspec.msgpack.Decoder(_Event).decode
_decode_judged = msgspec.msgpack.Decoder(_Judged).decode


def fold_conversions(rows: Iterable[Row], names: Names) -> ConversionSlice:
    """One slice of conversions, counted; tests, bots and what only a page says are left out.

    `names`: the custom event names that each store has.
    """
    out = ConversionSlice()
    for _, ts, store, event_type, marks, has_ip, has_ua, body, match in rows:
        out.newest = max(out.newest, ts)
        if marks & flags.NO_SALE:
            continue
        event, judged, day = _decode_event(body), _decode_judged(match), ts // DAY_MS
        kind = _label_of_type(event_type, store, names)
        out.outcomes[OutcomeKey(day, store, judged.tier, judged.method or judged.reason or "none")] += 1
        out.signals[SignalKey(day, store, kind, _signals(event, judged, has_ip, has_ua))] += 1
    return out


def _label_of_type(event_type: str, store: int, names: Names) -> str:
    """A standard name, one of ours, or one that the store has; custom names are the callers' words as well (D5)."""
    return event_type if event_type in _ALWAYS or (store, event_type) in names else OTHER


def _signals(event: _Event, judged: _Judged, has_ip: int, has_ua: int) -> int:
    """What Meta is given, as bits; a click that a proof names adds its own click id."""
    bits = (_IP if has_ip else 0) | (_UA if has_ua else 0) | (_FBP if event.fbp else 0)
    if event.fbc or judged.deterministic:
        bits |= _FBC
    for name in event.user_data:
        bits |= _BIT.get(name, 0)
    return bits
