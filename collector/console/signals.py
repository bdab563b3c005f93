"""What events carry for Meta to find people by, and what to add for the next gain; and who was no person."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final, NamedTuple

from litestar import Response

from collector.console import plots, words
from collector.console.choice import SPANS, choose, offered
from collector.console.shell import Desk, page
from collector.storage.reports import folds


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
_TYPES_SHOWN: Final = 6
_NEVER_URGED: Final = frozenset({"db"})  # nobody should begin to ask for a birthday for the sake of advertising


async def signals(desk: Desk, store: str, days: int) -> Response[bytes]:
    """The share of events that carry each key, by event type, and what to add next."""
    totals, choice = await desk.fresh_totals(), await choose(desk, store, offered(days))
    counts: Counter[tuple[str, str]] = Counter()
    for key, n in totals.signals(choice.since).items():
        if key.store in choice.wanted:
            counts[key.event_type, "events"] += n
            for place, name in enumerate(folds.SIGNALS):
                counts[key.event_type, name] += n if key.signals >> place & 1 else 0
    types = sorted({t for t, _ in +counts}, key=lambda t: (t != "Purchase", -counts[t, "events"]))[:_TYPES_SHOWN]
    return page(
        "signals.html",
        title="Signals",
        here="/signals",
        choice=choice,
        spans=SPANS,
        types=[{"name": t, "n": words.number(counts[t, "events"])} for t in types],
        rows=[_row(signal, types, counts) for signal in SIGNALS],
        advice=_advice(types[0], counts) if types else [],
        about=types[0] if types else "",
    )


def _row(signal: Signal, types: list[str], counts: Counter[tuple[str, str]]) -> dict[str, Any]:
    cells = [(counts[t, signal.key], counts[t, "events"]) for t in types]
    return {
        "name": signal.name,
        "key": signal.key,
        "weight": signal.weight,
        "cells": [
            {
                "text": words.percent(part, whole),
                "bar": plots.share(part, whole, f"{signal.name}: {words.percent(part, whole)}"),
            }
            for part, whole in cells
        ],
    }


def _advice(event_type: str, counts: Counter[tuple[str, str]]) -> list[dict[str, str]]:
    """The three keys whose absence costs most: rank of the key times the share of events without it."""
    whole = counts[event_type, "events"]
    wanted = [s for s in SIGNALS if s.key not in _NEVER_URGED]
    missing = [(_WORTH[s.weight] * (1 - counts[event_type, s.key] / whole), s) for s in wanted]
    best = sorted((m for m in missing if m[0] > 0.2), key=lambda m: -m[0])[:3]
    return [
        {"name": s.name, "key": s.key, "how": s.how, "missing": words.percent(whole - counts[event_type, s.key], whole)}
        for _, s in best
    ]


_KINDS: Final = {"bot": "Not a person", "prefetch": "Fetched ahead", "consent": "Consent", "test": "Test"}
