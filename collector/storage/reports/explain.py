"""Why was this order attributed, or not, and what did Meta say: the answer of `collector explain`."""

from __future__ import annotations

from typing import Any

from collector.core import orders, times
from collector.core.capi import gate
from collector.core.capi.states import NAMES, CapiState
from collector.core.events import Fact
from collector.core.explain import Explanation
from collector.core.explain import explain as explanation
from collector.core.ids import PublicIds
from collector.storage.reports import conversions, models
from collector.storage.reports.export import at_meta
from collector.storage.reports.questions import Reading

WHY_NOT = {
    "no_candidate": "no stored click shares anything with it",
    "below_threshold": "the best click is not likely enough",
    "ambiguous": "several journeys are about as likely",
    "outside_window": "the only clicks lie outside the window",
    "consent": "the visitor's consent does not allow matching",
}


async def explain(reader: Reading, ids: PublicIds, public_id: str, threshold: int) -> dict[str, Any] | None:
    """The conversion of a public id as plain data, names as in the API; None when there is none."""
    number = ids.row("conv", public_id)
    found = await conversions.find(reader, number) if number is not None else None
    if found is None:
        return None
    return _explained(found, await why(reader, found, threshold), ids)


async def why(reader: Reading, found: conversions.Conversion, threshold: int) -> Explanation:
    """The reasons, under the model that made the answer."""
    model = await models.version(reader, found.store, found.match.model)
    return explanation(found.match, threshold, model)


def _explained(found: conversions.Conversion, why: Explanation, ids: PublicIds) -> dict[str, Any]:
    match, event = found.match, found.event
    return {
        "conversionId": ids.public("conv", found.id),
        "storeId": found.store,
        "eventType": found.event_type,
        "orderId": event.order_id,
        "timestamp": times.text(found.ts),
        "revision": found.revision,
        "attributed": match.attributed,
        "clickId": _click(match.click, ids),
        "confidenceScore": match.confidence or None,
        "cappedFrom": match.capped_from,
        "method": match.method,
        "tier": match.tier,
        "reason": match.reason,
        "summary": why.summary,
        "bestScore": match.best or None,
        "bestClickId": _click(match.best_click, ids),
        "model": match.model,
        "evidence": [
            {"signal": e.signal, "result": e.result, "bits": e.bits, "value": e.value} for e in match.evidence
        ],
        "logOddsBits": match.log_odds_bits,
        "missingBits": why.missing_bits or None,
        "changes": [
            {"without": c.without, "confidenceScore": c.confidence, "attributed": c.attributed} for c in why.changes
        ],
        "rivals": [{"clickId": _click(r.click, ids), "probability": r.probability} for r in match.rivals],
        "path": [_click(click, ids) for click in match.path],
        "orderStatus": event.order_status,
        "value": _value(found),
        "refundEvents": [{"refund": one.id, "value": one.told} for one in event.refunds if one.told],
        "sharesEventIdWith": ids.public("conv", event.shares_id) if event.shares_id else None,
        "tellings": [_telling(fact) for fact in orders.facts_of(event)] if event.order_id else [],
        "capiStatus": NAMES.get(found.capi, str(found.capi)),
        "capiReason": why_unqueued(found),
        "sentKinds": sent_kinds(found),
        "deliveries": [_delivery(d) for d in found.deliveries],
    }


def _value(found: conversions.Conversion) -> dict[str, Any] | None:
    """What the order was worth, what was refunded, what stays, and what Meta has (O5)."""
    event = found.event
    worth = orders.worth_of(event)
    if worth is None:
        return None
    return {
        "gross": worth.gross,
        "refunded": worth.gross - worth.net,
        "net": worth.net,
        "sent": at_meta(event, found.capi),
        "currency": event.currency,
    }


def _telling(fact: Fact) -> dict[str, Any]:
    """What one teller said of the order's state; a lower rank's word is a note (T1)."""
    return {
        "by": orders.Rank(fact.rank).name.lower(),
        "since": times.exact(fact.at),
        "stated": fact.stated,
        "orderStatus": fact.status or ("updated" if fact.edited else None),
        "eventValue": fact.value,
        "currency": fact.currency,
    } | ({"refund": fact.refund, "givenBack": fact.less} if fact.refund else {})


def why_unqueued(found: conversions.Conversion) -> str | None:
    """Why no pixel was ever to be given it; None where its deliveries say how it stands."""
    return (
        None if found.deliveries or found.capi not in NAMES else gate.why_unqueued(found.event, CapiState(found.capi))
    )


def sent_kinds(found: conversions.Conversion) -> list[str]:
    """Which kinds of data went (or would go) to Meta; never the values."""
    event = found.event
    extra = [("fbc", event.fbc or found.match.deterministic), ("fbp", event.fbp)]
    return sorted(event.user_data) + [name for name, present in extra if present]


def _click(number: int | None, ids: PublicIds) -> str | None:
    return None if number is None else ids.public("click", number)


def _delivery(d: conversions.Delivery) -> dict[str, Any]:
    return {
        "pixel": d.pixel,
        "status": NAMES.get(d.state, str(d.state)),
        "reason": d.reason,
        "settledAt": times.text(d.settled) if d.settled else None,
        "doubts": d.doubts,
        "inDoubtSince": times.text(d.doubt_at) if d.doubt_at else None,
        "attempts": [_attempt(a) for a in d.tries],
    }


def _attempt(a: conversions.Attempt) -> dict[str, Any]:
    return {
        "at": times.text(a.at),
        "outcome": a.outcome,
        "httpStatus": a.http_status,
        "code": a.code,
        "subcode": a.subcode,
        "traceId": a.trace_id,
        "message": a.message,
        "tookMs": a.took_ms,
        "eventsInRequest": a.events,
    }
