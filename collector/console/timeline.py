"""The time line of one order: click, pages, cart, order, queue, each attempt, and Meta's answer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from collector.console import meta_codes
from collector.console.bar import Bar
from collector.console.shell import delivery_word
from collector.core import orders, times
from collector.core.capi.states import CapiState
from collector.core.ids import PublicIds
from collector.storage.reports.conversions import Conversion, Delivery, Way

_LITTLE_MS: Final = 60_000
_STEPS: Final = 12  # pages and cart on the time line
_DID: Final = {
    "PageView": "Page seen",
    "ViewContent": "Product seen",
    "Search": "Searched",
    "AddToWishlist": "Put on the wish list",
    "AddToCart": "Put into the cart",
    "InitiateCheckout": "Checkout begun",
    "AddPaymentInfo": "Payment named",
}


class Moment(NamedTuple):
    """One line of the time line."""

    at: int  # ms
    what: str
    tone: str = ""
    address: str = ""
    detail: str = ""


def time_line(found: Conversion, way: Way, ids: PublicIds, bar: Bar) -> list[dict[str, Any]]:
    """Its lines, oldest first."""
    moments = sorted([*_moments(found, ids, bar), *_steps(way, found, ids)], key=lambda m: m.at)
    return [{**m._asdict(), "at": times.text(m.at), "when": bar.moment(m.at)} for m in moments]


def _moments(found: Conversion, ids: PublicIds, bar: Bar) -> Iterator[Moment]:
    match = found.match
    clicks = dict(match.journey)
    if match.click is not None and match.click_ts is not None:
        clicks.setdefault(match.click, match.click_ts)
    for click, at in clicks.items():
        address = f"/clicks/{ids.public('click', click)}"
        credit = click == match.click
        yield Moment(
            at, "Click that it is credited to" if credit else "Click on an ad", "good" if credit else "", address
        )
    if found.credited and found.credited.last_ts - found.credited.ts > _LITTLE_MS:
        yield Moment(found.credited.last_ts, "The same click was seen again")
    yield Moment(found.ts, "Order placed" if found.event_type == "Purchase" else found.event_type, "good")
    yield from _tellings(found)
    for d in found.deliveries:
        yield from _sending(d, bar)


def _steps(way: Way, found: Conversion, ids: PublicIds) -> Iterator[Moment]:
    """Pages and cart on the way from the click: the last of them; how many came before."""
    before, last = way.steps[:-_STEPS], way.steps[-_STEPS:]
    if not way.whole:
        at = before[-1].ts if before else last[0].ts if last else found.match.click_ts or found.ts
        many = f"At least {len(before):,} more" if before else "There may be more"
        yield Moment(at, f"{many} on the shop's pages before: too many came by this click to read them all")
    elif before:
        yield Moment(before[-1].ts, f"{len(before):,} more on the shop's pages before")
    for step in last:
        what = _DID.get(step.event_type, step.event_type)
        yield Moment(step.ts, what, address=f"/conversions/{ids.public('conv', step.id)}", detail=step.page)


def _tellings(found: Conversion) -> Iterator[Moment]:
    facts = orders.facts_of(found.event)
    for fact in facts if len(facts) > 1 else []:
        said = fact.status or ("changed" if fact.edited else "told")
        yield Moment(fact.at, f"{orders.Rank(fact.rank).name.capitalize()} says: {said.replace('_', ' ')}")
    if len(facts) < 2 and found.received - found.ts > _LITTLE_MS:
        teller = orders.Rank(orders.rank_of(found.event)).name.lower()
        yield Moment(found.received, f"Told to us by the {teller}")


def _sending(d: Delivery, bar: Bar) -> Iterator[Moment]:
    to = bar.whose(d.pixel)
    yield Moment(d.created, f"Queued for Meta ({to})")
    for a in d.tries:
        if a.outcome in ("sent", "short"):
            took = f"in {a.took_ms:,} ms" if a.took_ms is not None else ""
            yield Moment(
                a.at, "Sent; Meta answered 200", "good", detail=f"{took}, trace {a.trace_id or '–'}".strip(", ")
            )
        else:
            code = f" {meta_codes.shown(a.code, a.subcode)}" if a.code is not None else ""
            ours = meta_codes.sentence(a.code, a.subcode)
            detail = " ".join(filter(None, (ours, a.message and f"Meta: {a.message}")))
            yield Moment(a.at, f"Sent; {a.outcome.replace('_', ' ')}{code}", "bad", detail=detail)
    if d.settled is not None and not d.tries:
        yield Moment(
            d.settled, delivery_word(d.state).word.capitalize(), delivery_word(d.state).level, detail=d.reason or ""
        )
    elif d.settled is not None and d.state in (CapiState.REJECTED, CapiState.EXPIRED):
        yield Moment(d.settled, f"Given up: {delivery_word(d.state).word}", "bad", detail=d.reason or "")
