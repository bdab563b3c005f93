"""One order: a line that says it all, its time line, why this click, what Meta got, and the rivals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from litestar import Response
from litestar.exceptions import HTTPException

from collector.console import meta_codes, plots, words
from collector.console.bar import Asked, Bar, read
from collector.console.events import click_facts, marks, outside_link
from collector.console.shell import Desk, delivery_word, page
from collector.console.timeline import time_line
from collector.core import orders, refunds, times
from collector.core.capi import payload
from collector.core.capi.states import CapiState
from collector.core.events import Enrichment, StoredEvent
from collector.core.explain import Change
from collector.core.ids import PublicIds
from collector.core.landing import labels_of
from collector.core.matching.shapes import Evidence, Match
from collector.storage.reports import conversions
from collector.storage.reports.conversions import Conversion, Delivery
from collector.storage.reports.explain import WHY_NOT, why, why_unqueued

SIGNALS: Final = {
    "ip": "Network address",
    "user_agent": "Browser and device",
    "fingerprint": "Fingerprint",
    "time": "Time since the click",
    "prior": "How many clicks could have been it",
    "visitor_id": "Visitor cookie",
    "fbclid": "Meta click id",
    "click_id": "Click id named by the caller",
    "fbp": "Meta browser id",
    "external_id": "Customer id",
    "email": "E-mail, hashed",
    "phone": "Phone, hashed",
    "probabilistic": "inference",
    "cookie_jar": "Age of the cookie jar",
    "unreachable": "Clicks that share nothing with it",
    "journey": "More clicks of the same visitor",
    "rivals": "Rivals",
    "shared_link": "The link was shared",
    "clock": "Clocks differ",
    "renewal": "Renewal of an earlier order",
}
# What an item of evidence counted, in words.
_VALUES: Final = {
    "prior": "{:,.0f} clicks in the window",
    "ip": "{:,.0f} other visitors on it",
    "user_agent": "{:,.0f} other visitors have it",
    "fingerprint": "{:,.0f} other visitors have it",
    "journey": "{:,.0f} clicks",
    "rivals": "{:,.0f} journeys",
    "shared_link": "{:,.0f} visitors",
}
_RESULTS: Final = {
    "equal": "the same",
    "differs": "another",
    "missing": "not known",
    "unseen": "known to Meta, not to us",
    "confirmed": "a server vouches for it",
    "claimed": "a page says so",
    "agrees": "names the same click",
    "one_of_all_clicks": "one of all",
    "older_than_the_click": "its cookies are older than the click",
    "made_after_the_click": "its cookies were made after the click",
    "clicks_without_a_shared_key": "they may be the cause all the same",
    "clicks_of_one_visitor": "one visitor",
    "other_journeys": "other visitors' clicks fit as well",
    "earliest_hit": "the first to use it counts",
    "click_stamped_later": "the click's clock is ahead of the order's",
    "inherited": "as the first order was",
}
_TIERS: Final = ("none", "likely", "proven")
# Meta's fields in the order of a reader, and what they are for a merchant.
_FIELDS: Final = {
    "event_name": "Event",
    "event_time": "Time",
    "event_id": "Event id",
    "order_id": "Order number",
    "value": "Value",
    "currency": "Currency",
    "contents": "Products",
    "event_source_url": "Page",
    "action_source": "Where it happened",
    "em": "E-mail",
    "ph": "Phone",
    "external_id": "Customer id",
    "fbc": "Meta click id",
    "fbp": "Meta browser id",
    "client_ip_address": "Address",
    "client_user_agent": "Browser",
    "fn": "First name",
    "ln": "Last name",
    "ct": "City",
    "st": "State",
    "zp": "Postcode",
    "country": "Country",
    "db": "Date of birth",
    "ge": "Gender",
}
_SHOWN: Final = frozenset(
    {"event_name", "event_id", "order_id", "value", "currency", "event_source_url", "action_source"}
)
_NEVER_SENT: Final = frozenset({CapiState.SKIPPED, CapiState.DISABLED, CapiState.DRY_RUN, CapiState.EXPIRED})


async def order_page(desk: Desk, public_id: str) -> Response[bytes]:
    """Why one conversion was or was not attributed, and what Meta was told."""
    ids = await desk.ids()
    number = ids.row("conv", public_id)
    found = await conversions.find(desk.reader, number) if number is not None else None
    if found is None:
        raise HTTPException("no such conversion", status_code=404)
    bar = await read(desk, Asked(shop=found.store))
    match, reasons = found.match, await why(desk.reader, found, desk.config.matching.threshold)
    way = await conversions.way_to(desk.reader, found)
    largest = max((abs(e.bits) for e in match.evidence), default=0)
    return page(
        "order.html",
        title=f"{'Order' if found.event_type == 'Purchase' else found.event_type} {found.event.order_id or ''}".strip(),
        here="/orders",
        bar=bar,
        id=public_id,
        line=_line(found, bar),
        level={CapiState.SENT: "good", CapiState.REJECTED: "bad", CapiState.EXPIRED: "bad"}.get(
            CapiState(found.capi), ""
        ),
        moments=time_line(found, way, ids, bar),
        verdict=_verdict(match, ids),
        speaks=[_speaks(e) for e in sorted(match.evidence, key=lambda e: -abs(e.bits))],
        evidence=[_evidence(e, largest) for e in match.evidence],
        total=_bits(match.log_odds_bits),
        odds=_odds(match),
        changes=[_change(c) for c in reasons.changes],
        rivals=[{"id": ids.public("click", r.click), "share": words.percent(r.probability, 1)} for r in match.rivals],
        fields=_fields(found),
        sent=any(d.state == CapiState.SENT for d in found.deliveries),
        withheld=_withheld(found),
        ways=[_way(d, bar) for d in found.deliveries],
        overall=delivery_word(found.capi),
        facts=_facts(found, bar),
        credited=click_facts(found.credited, ids, desk.clock(), bar.whose_shop(found.store))
        if found.credited
        else None,
    )


def _tier(match: Match) -> str:
    return _TIERS[int(match.attributed) * (1 + int(match.deterministic))]


def _line(found: Conversion, bar: Bar) -> str:
    """The whole order in a sentence or two; one reason, not two."""
    event, match = found.event, found.match
    value = words.money(event.value, event.currency or "") if event.value is not None else "No value"
    head = f"{value}, {bar.whose_shop(found.store)}, {bar.moment(found.ts)}: {_state(found)}."
    if match.attributed:
        campaign = labels_of(found.credited.body.landing_page)[1] if found.credited else ""
        before = max(0, found.ts - match.click_ts) / 1000 if match.click_ts is not None else None
        when = f" {words.span(before)} before" if before is not None else ""
        named = f" on “{campaign}”" if campaign else ""
        sure = {"proven": "Proven", "likely": "Likely"}[_tier(match)]
        return f"{head} {sure} after a click{named}{when}."
    if match.reason == "consent" and found.capi == CapiState.SKIPPED:
        return head
    return f"{head} No click is known that led to it: {WHY_NOT.get(match.reason or '', 'no reason was kept')}."


def _state(found: Conversion) -> str:
    """How it stands with Meta, and why where that needs saying."""
    said = {
        CapiState.SENT: "Meta has it",
        CapiState.QUEUED: "on its way to Meta",
        CapiState.RETRYING: "on its way to Meta, not for the first time",
        CapiState.HELD: "held",
        CapiState.REJECTED: "refused by Meta",
        CapiState.EXPIRED: "too late for Meta",
        CapiState.SKIPPED: "left out on purpose",
        CapiState.DRY_RUN: "built in a dry run, not sent",
        CapiState.DISABLED: "not sent",
    }[CapiState(found.capi)]
    reason = next((d.reason for d in found.deliveries if d.state == found.capi and d.reason), None)
    reason = reason or why_unqueued(found)
    if reason is None or found.capi in (CapiState.SENT, CapiState.QUEUED):
        return said
    ours = meta_codes.sentence(None, None, reason).rstrip(".")
    return f"{said} ({ours[:1].lower() + ours[1:] if ours else reason})"


def _withheld(found: Conversion) -> str:
    """That nothing was sent, and why; empty where something was, or may yet be."""
    states = {d.state for d in found.deliveries} or {found.capi}
    tried = any(d.tries for d in found.deliveries)
    return "" if tried or states - _NEVER_SENT else f"Nothing was sent to Meta: {_state(found)}."


def _verdict(match: Match, ids: PublicIds) -> dict[str, Any]:
    """The answer in a sentence."""
    if match.attributed:
        click = ids.public("click", match.click) if match.click is not None else ""
        text = f"{_tier(match).capitalize()}, by {_method(match.method)}: {match.confidence} of 100."
        capped = (
            f"The evidence alone said {match.capped_from}; held down until this shop's own orders have shown more."
            if match.capped_from
            else ""
        )
        return {"text": text, "more": capped, "click": click}
    text = f"No click is credited: {WHY_NOT.get(match.reason or '', match.reason or 'no reason was kept')}."
    best = (
        f"The best click reached {match.best} of 100; below the shop's threshold it counts as none."
        if match.best
        else ""
    )
    click = ids.public("click", match.best_click) if match.best_click is not None else ""
    return {"text": text, "more": best, "click": click}


def _method(method: str | None) -> str:
    return (SIGNALS.get(method or "") or (method or "").replace("_", " ")).lower()


def _speaks(e: Evidence) -> dict[str, str]:
    """An item of evidence in words: for the click, or against it."""
    value = _VALUES[e.signal].format(e.value) if e.value is not None and e.signal in _VALUES else ""
    strength = "strongly" if abs(e.bits) >= 6 else "a little" if abs(e.bits) < 2 else ""
    side = "says nothing" if abs(e.bits) < 0.05 else f"speaks {strength} {'for' if e.bits > 0 else 'against'} it"
    return {
        "name": SIGNALS.get(e.signal, e.signal.replace("_", " ")),
        "found": _RESULTS.get(e.result, e.result.replace("_", " ")) + (f", {value}" if value else ""),
        "side": " ".join(side.split()),
        "tone": "good" if e.bits >= 0.05 else "warn" if e.bits <= -0.05 else "",
    }


def _evidence(e: Evidence, largest: float) -> dict[str, Any]:
    name = SIGNALS.get(e.signal, e.signal.replace("_", " "))
    return {"name": name, "bits": _bits(e.bits), "bar": plots.weight(e.bits, largest, f"{name}: {e.bits:+.1f} bits")}


def _bits(bits: float) -> str:
    return f"{bits:+.1f}" if abs(bits) >= 0.05 else "0"


def _odds(match: Match) -> str:
    p = 1 / (1 + 2 ** -max(min(match.log_odds_bits, 60), -60))
    return f"odds of 2^{match.log_odds_bits:.1f}, that is {100 * p:.1f} %"


def _change(change: Change) -> str:
    name = SIGNALS.get(change.without, change.without.replace("_", " ")).lower()
    outcome = "likely" if change.attributed else "none"
    return f"Without the {name} it would be {outcome}, with {change.confidence} of 100."


def _fields(found: Conversion) -> list[dict[str, Any]]:
    """What Meta's event holds, field by field: what tells of a person as ✓ alone, what is missing as a dash."""
    built = _built(found)
    rows = []
    for key, name in _FIELDS.items():
        has, value = key in built, built.get(key)
        if not has and key not in _WANTED:
            continue
        shown = str(value) if key in _SHOWN else _counted(key, value)
        rows.append(
            {"name": name, "key": key, "has": has, "value": shown if has else "", "hashed": key in payload.HASHED}
        )
    return rows


_WANTED: Final = frozenset(
    {"em", "ph", "external_id", "fbc", "fbp", "client_ip_address", "client_user_agent", "value", "currency"}
)


def _counted(key: str, value: Any) -> str:
    if key == "event_time" and isinstance(value, int):
        return times.text(value * 1000)
    if key == "contents" and isinstance(value, list):
        return f"{len(value)} lines"
    return f"✓ × {len(value)}" if isinstance(value, list) and len(value) > 1 else "✓"


def _built(found: Conversion) -> dict[str, Any]:
    """The event's fields as they were built; of what was wiped after delivery, that it was there."""
    whole = msgspec.structs.replace(found.event, received=found.event.ts)  # one that is too late is built as well
    event = payload.build_event(whole, Enrichment(), payload.Profile()).payload
    body: dict[str, Any] = msgspec.json.decode(event) if event else {}
    user, custom = body.pop("user_data", {}), body.pop("custom_data", {})
    named = {"event_name": found.event_type, "event_id": found.event.event_id}
    known = {
        "client_ip_address": found.has_address,
        "client_user_agent": found.has_agent,
        "fbc": found.match.deterministic and found.credited is not None,
    }
    return {**{key: "✓" for key, there in known.items() if there}, **named, **body, **user, **custom}


def _way(d: Delivery, bar: Bar) -> dict[str, Any]:
    doubt = (
        f"{d.doubts} of the attempts got no answer, the first {bar.moment(d.doubt_at)}, so nobody knows whether Meta "
        "took it; the event goes out again with the same event id, which Meta counts once."
        if d.doubt_at
        else ""
    )
    return {"shop": bar.whose(d.pixel), "state": delivery_word(d.state), "reason": d.reason or "", "doubt": doubt}


def _facts(found: Conversion, bar: Bar) -> Sequence[tuple[str, Any]]:
    event = found.event
    return [
        ("Shop", bar.whose_shop(found.store)),
        ("Status", (event.order_status or "–").replace("_", " ")),
        *_given_back(event),
        ("Told by", orders.Rank(orders.rank_of(event)).name.lower()),
        ("Placed", bar.moment(found.ts)),
        ("Received", bar.moment(found.received)),
        ("Page", outside_link(event.event_source_url)),
        ("Consent", event.marketing + (", limited data use" if event.ldu else "")),
        ("Marks", ", ".join(marks(found.flags)) or "–"),
        ("Revision", str(found.revision)),
        ("Model", found.match.model),
    ]


def _given_back(event: StoredEvent) -> Sequence[tuple[str, str]]:
    """How many refunds were told one by one, and that there may be more than are kept."""
    n = len({one.id for one in event.refunds} | {fact.refund for fact in event.told if fact.refund})
    if not n:
        return []
    full = "; no more are kept of one order, so later ones are not in its value" if n >= refunds.MOST else ""
    return [("Refunds", f"{n}{full}")]
