"""What events carry for Meta to find people by, and what to add for the next gain: a part of the Trust page."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final, NamedTuple

from collector.console import plots, words
from collector.console.bar import Bar
from collector.core.event_names import STANDARD
from collector.storage.reports import folds
from collector.storage.reports.kept import CUSTOM
from collector.storage.reports.totals import Totals


class Signal(NamedTuple):
    """One key of Meta's user_data, its weight in Meta's own words, and how to send it."""

    key: str
    name: str
    weight: str  # Meta's help page on match quality: high, medium, low; required where delivery needs it
    how: str


# In the order in which adding one gains most. Meta publishes no numbers, only the three ranks.
SIGNALS: Final = (
    Signal(
        "client_user_agent",
        "User agent",
        "required",
        "Send userAgent with the conversion, or let the page's click carry it.",
    ),
    Signal("em", "E-mail", "high", "Send customerData.email: nearly every order has one."),
    Signal(
        "fbc",
        "Click id",
        "high",
        "Put the snippet on every landing page, so that clicks are stored before orders come.",
    ),
    Signal("client_ip_address", "Address", "high", "Send ipAddress: the shopper's, not the server's."),
    Signal("ph", "Phone", "medium", "Send customerData.phone, with the store's country set for local numbers."),
    Signal("external_id", "Customer id", "medium", "Send customerData.externalId for customers with an account."),
    Signal("fbp", "Browser id", "medium", "Send fbp, Meta's first-party cookie; the snippet sets it."),
    Signal("country", "Country", "medium", "Send customerData.country."),
    Signal("db", "Date of birth", "medium", "Send customerData.dateOfBirth where you have it anyway."),
    Signal("fn", "First name", "low", "Send customerData.firstName."),
    Signal("ln", "Last name", "low", "Send customerData.lastName."),
    Signal("ct", "City", "low", "Send customerData.city."),
    Signal("zp", "Postcode", "low", "Send customerData.zipCode."),
)
_WORTH: Final = {"required": 4.0, "high": 3.0, "medium": 2.0, "low": 1.0}
_NEVER_URGED: Final = frozenset({"db"})  # nobody should begin to ask for a birthday for the sake of advertising


class Told(NamedTuple):
    """What the events of one name carried. `about`: the events' name; `n`: how many they are."""

    about: str
    n: str
    rows: list[dict[str, Any]]
    advice: list[dict[str, str]]


def told(totals: Totals, bar: Bar) -> Told:
    """The share of the bar's events that carry each key, and what to add next. By whole days of UTC."""
    first, end = bar.span.since // folds.DAY_MS, -(-bar.span.until // folds.DAY_MS)
    counts: Counter[str] = Counter()
    for key, n in totals.signals(bar.span.since).items():
        if key.store in bar.stores and first <= key.day < end and _is_of(key.event_type, bar.event):
            counts["events"] += n
            for place, name in enumerate(folds.SIGNALS):
                counts[name] += n if key.signals >> place & 1 else 0
    whole = counts["events"]
    rows = [_row(signal, counts[signal.key], whole) for signal in SIGNALS] if whole else []
    about = "orders" if bar.event == "Purchase" else f"{bar.event} events"
    return Told(about, words.number(whole), rows, _advice(counts))


def _is_of(event_type: str, wanted: str) -> bool:
    return event_type == wanted or (wanted == CUSTOM and event_type not in STANDARD)


def _row(signal: Signal, part: int, whole: int) -> dict[str, Any]:
    text = words.percent(part, whole)
    bar = plots.share(part, whole, f"{signal.name}: {text}")
    return {"name": signal.name, "key": signal.key, "weight": signal.weight, "text": text, "bar": bar}


def _advice(counts: Counter[str]) -> list[dict[str, str]]:
    """The three keys whose absence costs most: rank of the key times the share of events without it."""
    whole = counts["events"]
    if not whole:
        return []
    wanted = [s for s in SIGNALS if s.key not in _NEVER_URGED]
    missing = [(_WORTH[s.weight] * (1 - counts[s.key] / whole), s) for s in wanted]
    best = sorted((m for m in missing if m[0] > 0.2), key=lambda m: -m[0])[:3]
    return [{"name": s.name, "how": s.how, "missing": words.percent(whole - counts[s.key], whole)} for _, s in best]
