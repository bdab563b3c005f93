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
    "lag": "Half of the newest 2,000 attributed orders came sooner after their click than this.",
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
    "after": "Half of the orders came sooner after their click than this. Of the newest 2,000 attributed orders.",
    "new": "Of the orders that name a customer (e-mail, phone, customer id), those whose customer has no earlier order "
    "that is kept. Of the newest 2,000 attributed orders.",
    "credit": "Each order goes to the click that it is attributed to, once, on the day of the order.",
    "shared orders": "Orders, shared out among the clicks of their journeys within the window; so there are fractions.",
    "shared value": "The orders' value, shared out in the same way, to the cent.",
    "share": "Of all orders of these days, with and without a known click.",
    "spend": "What Meta says that the ads cost in these days of the ad account, as of its last reading. Joined by the "
    "ad's id in the landing page, else by names; the rest is (not joined).",
    "cost": "Spend for each order.",
    "roas": "Value of the orders for each unit spent, in the same currency: of the proven orders alone – with the "
    "likely ones.",
    "class sent": "Meta said that it has the order's event.",
    "class held": "Waits for consent, payment or a confirmation.",
    "class ignored": "Never sent, for a reason that is known: consent, cancelled before it went out, another channel.",
    "class waiting": "In the queue: it goes out by itself.",
    "class failed": "Meta refused it, or it waited until it was too old.",
    "class missing": "The shop has this order, and nothing of it has reached us.",
    "wait": "From the receipt of an event to Meta's answer that it has it: half of them were sooner than the first "
    "figure, 95 of 100 sooner than the second. All events of the pixel, those that waited for company among them.",
    "refusals": "Requests, and items of batches, that the API refused, by the code of its answer.",
    "of all": "Of all clicks of these days, people's and those left out.",
    "change": "How many more or fewer than in the days of the comparison.",
    "said": "The confidence that was stated, before caps.",
    "came true": "Of these, the share that a later proof bore out.",
    "between": "Where the true share lies in 95 of 100 cases, with so few orders.",
    "labels": "Orders whose click was proven in a second way, so that the first answer could be tested.",
    "carried": "The share of the events that carried it to Meta. By whole days of UTC.",
    "used": "Orders and events that were decided by this proof, in 31 days.",
    "calibration": "How far stated and true lie apart, on average: 0 is perfect.",
    "organic": "Of orders proven to come from no ad, those that would have been given to a click.",
    "decoys": "How often a click that cannot be the cause looks like it, for each order; tried nightly.",
    "waiting now": "Events in the queue now, of every name: they go out by themselves.",
    "oldest": "How long the oldest of them has waited.",
    "last success": "When Meta last said that it has events.",
    "causes": "Events that ended so for one reason.",
    "request events": "Events in one request.",
    "http": "The status of the answer; what decides is Meta's code.",
    "code": "Meta's code and subcode.",
    "took": "From the request to its answer.",
    "shop orders": "Orders that the shop itself has told of, by its own days.",
    "bits": "What it weighs: one bit doubles the odds.",
    "one value": "As it stands now; refunds are taken off.",
    "left out": "Clicks that are kept and never matched with an order.",
}


def title(word: str, days: str = "") -> str:
    """What a figure counts, and over which days."""
    return f"{WORDS[word]} {days}".strip()
