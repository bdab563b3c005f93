"""The console's words: what each figure counts, in a merchant's language. Every figure's title is one of these."""

from __future__ import annotations

from typing import Final

WORDS: Final = {
    "orders": "Orders told by your server or shop in these days, by the time of the order. Tests and orders that only "
    "a page has told are not among them.",
    "events": "Events of this name in these days, by their own time. Tests and crawlers are not among them.",
    "revenue": "The value of the orders in these days. Refunded, cancelled and unpaid orders count without their "
    "value. Currencies are never added up.",
    "attributed": "Orders that a click on an ad led to, of all orders.",
    "clicks": "Visits that came by an ad's link (with a click id of Meta), without crawlers, prefetches, refused "
    "consent and tests, by the time of the click.",
    "rate": "Orders of these days for each 100 clicks of these days.",
    "lag": "Half of the attributed orders came sooner after their click than this. Of the newest 5,000 orders.",
    "accuracy": "Orders that Meta has taken, or that were left out on purpose, of all orders. Aim: 98 %.",
    "sent": "Meta said that it has the event.",
    "doubt": "Sent; an answer was lost on the way, so it may have gone twice. Meta removes the second.",
    "waiting": "In the queue: it goes out by itself.",
    "held": "Waits for consent, payment or a confirmation by your server or shop.",
    "on purpose": "Never sent: consent refused, a dry run, delivery switched off, or cancelled before it went out.",
    "refused": "Meta refused it and would refuse it again. The reason is on the order's page.",
    "expired": "It waited until it was too old for Meta.",
    "proven": "The order carries the click's own id, or the same browser's cookie.",
    "likely": "No proof, but the evidence is above the threshold.",
    "none": "No click is known that led to it.",
    "credit": "Each order goes to the click that it is attributed to, once, on the day of the order.",
    "left out": "Clicks that are kept and never matched with an order.",
}


def title(word: str, days: str = "") -> str:
    """What a figure counts, and over which days."""
    return f"{WORDS[word]} {days}".strip()
