"""What happened, one by one: the last conversions, one conversion's reasons, one click."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlsplit

from litestar import Response
from litestar.exceptions import HTTPException
from markupsafe import Markup

from collector.console import plots, words
from collector.console.shell import Desk, delivery_word, page
from collector.core import flags, times
from collector.core.explain import Change
from collector.core.ids import PublicIds
from collector.core.matching.shapes import Match
from collector.storage.reports import conversions, orders
from collector.storage.reports.explain import WHY_NOT, sent_kinds, why, why_unqueued

_PAGE: Final = 50
_SIGNALS: Final = {
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
_MARKS: Final = (
    (flags.BOT, "bot"),
    (flags.PREFETCH, "prefetch"),
    (flags.DENIED, "consent denied"),
    (flags.PENDING, "consent pending"),
    (flags.WITHDRAWN, "consent withdrawn"),
    (flags.TEST, "test"),
    (flags.RECOVERED, "recovered from fbc"),
    (flags.TIME_CORRECTED, "time corrected"),
    (flags.UNCONFIRMED, "unconfirmed"),
)


async def last(desk: Desk, before: str) -> Response[bytes]:
    """The last conversions and events, without personal data."""
    now, ids = desk.clock(), await desk.ids()
    number = ids.row("conv", before) if before else None
    lines = await conversions.last(desk.reader, before=number, limit=_PAGE)
    return page(
        "events.html",
        title="Events",
        here="/events",
        refresh=0 if before else 30,
        lines=[_line(line, ids, now) for line in lines],
        older=ids.public("conv", lines[-1].id) if len(lines) == _PAGE else "",
        newer=bool(before),
        order="",
    )


async def of_order(desk: Desk, order_id: str) -> Response[bytes]:
    """The conversions with an order id."""
    sql = "SELECT name FROM event_name UNION SELECT event FROM sale_sum WHERE n > 0"
    seen = {name for (name,) in await desk.reader.rows(sql)}
    numbers = await orders.of_order(desk.reader, desk.config, order_id, seen)
    lines = [line for n in reversed(numbers) for line in await conversions.last(desk.reader, before=n + 1, limit=1)]
    ids, now = await desk.ids(), desk.clock()
    return page(
        "events.html",
        title=f"Order {order_id}",
        here="/events",
        status=200 if lines else 404,
        lines=[_line(line, ids, now) for line in lines],
        older="",
        newer=False,
        order=order_id,
    )


def _line(line: conversions.Line, ids: PublicIds, now: int) -> dict[str, Any]:
    return {
        "id": ids.public("conv", line.id),
        "kind": line.event_type,
        "store": line.store,
        "when": words.ago(line.ts, now),
        "attribution": f"{line.confidence} · {line.method}" if line.confidence else "",
        "why_not": (line.reason or "").replace("_", " "),
        "state": delivery_word(line.capi),
        "marks": _marks(line.flags),
    }


def _marks(bits: int) -> list[str]:
    return [word for bit, word in _MARKS if bits & bit]


async def conversion(desk: Desk, public_id: str) -> Response[bytes]:
    """Why one conversion was or was not attributed, and what Meta was told."""
    ids = await desk.ids()
    number = ids.row("conv", public_id)
    found = await conversions.find(desk.reader, number) if number is not None else None
    if found is None:
        raise HTTPException("no such conversion", status_code=404)
    now = desk.clock()
    match, reasons = found.match, await why(desk.reader, found, desk.config.matching.threshold)
    largest = max((abs(e.bits) for e in match.evidence), default=0)
    return page(
        "conversion.html",
        title=f"{found.event_type} {found.event.order_id or ''}".strip(),
        here="/events",
        id=public_id,
        verdict=_verdict(match, ids),
        facts=_facts(found, now),
        evidence=[_evidence(e, largest) for e in match.evidence],
        total=_bits(match.log_odds_bits),
        changes=[_change(c) for c in reasons.changes],
        odds=_odds(match),
        rivals=[{"id": ids.public("click", r.click), "share": words.percent(r.probability, 1)} for r in match.rivals],
        path=[ids.public("click", click) for click in match.path],
        credited=_click(found.credited, ids, now) if found.credited else None,
        sent=sent_kinds(found),
        deliveries=[_delivery(d, now) for d in found.deliveries],
        overall=delivery_word(found.capi),
        unqueued=why_unqueued(found) or "nothing was queued for it",
    )


def _verdict(match: Match, ids: PublicIds) -> dict[str, Any]:
    """The answer in a sentence."""
    if match.attributed:
        click = ids.public("click", match.click) if match.click is not None else ""
        strength = "strong" if match.strong else "likely"
        text = f"Attributed with confidence {match.confidence} ({strength}), by {_method(match.method)}."
        capped = (
            f"The evidence alone said {match.capped_from}; capped until this store's labels earn more."
            if match.capped_from
            else ""
        )
        return {"yes": True, "text": text, "more": capped, "click": click}
    text = f"Not attributed: {WHY_NOT.get(match.reason or '', match.reason or 'no reason was kept')}."
    best = f"The best click reached {match.best}; the threshold is the store's." if match.best else ""
    click = ids.public("click", match.best_click) if match.best_click is not None else ""
    return {"yes": False, "text": text, "more": best, "click": click}


def _method(method: str | None) -> str:
    return (_SIGNALS.get(method or "") or (method or "").replace("_", " ")).lower()


def _bits(bits: float) -> str:
    return f"{bits:+.1f}" if abs(bits) >= 0.05 else "0"


def _odds(match: Match) -> str:
    p = 1 / (1 + 2 ** -max(min(match.log_odds_bits, 60), -60))
    return f"odds of 2^{match.log_odds_bits:.1f}, that is {100 * p:.1f} %"


def _evidence(e: Any, largest: float) -> dict[str, Any]:
    name = _SIGNALS.get(e.signal, e.signal.replace("_", " "))
    value = _VALUES[e.signal].format(e.value) if e.value is not None and e.signal in _VALUES else ""
    return {
        "name": name,
        "result": e.result.replace("_", " "),
        "value": value,
        "bits": _bits(e.bits),
        "bar": plots.weight(e.bits, largest, f"{name}: {e.bits:+.1f} bits"),
    }


def _change(change: Change) -> str:
    name = _SIGNALS.get(change.without, change.without.replace("_", " ")).lower()
    outcome = "attributed" if change.attributed else "not attributed"
    return f"Without the {name} it would be {outcome}, with {change.confidence}."


def _facts(found: conversions.Conversion, now: int) -> list[tuple[str, Any]]:
    event = found.event
    value = words.money(event.value, event.currency or "") if event.value is not None else "–"
    return [
        ("Store", found.store),
        ("Order", event.order_id or "–"),
        ("Value", value),
        ("Happened", words.ago(found.ts, now)),
        ("Received", words.ago(found.received, now)),
        ("Event id", event.event_id),
        ("Page", outside_link(event.event_source_url)),
        ("Consent", event.marketing + (", limited data use" if event.ldu else "")),
        ("Marks", ", ".join(_marks(found.flags)) or "–"),
        ("Revision", str(found.revision)),
        ("Model", found.match.model),
    ]


def _delivery(d: conversions.Delivery, now: int) -> dict[str, Any]:
    return {
        "pixel": d.pixel,
        "state": delivery_word(d.state),
        "settled": words.ago(d.settled, now) if d.settled else "",
        "due": words.ago(d.due, now),
        "reason": d.reason or "",
        "doubts": d.doubts,
        "doubt": words.ago(d.doubt_at, now) if d.doubt_at else "",
        "tries": [
            {
                "when": words.ago(a.at, now),
                "at": times.text(a.at),
                "outcome": a.outcome.replace("_", " "),
                "http": a.http_status or "–",
                "code": _code(a.code, a.subcode),
                "trace": a.trace_id or "–",
                "message": a.message or "",
                "took": f"{a.took_ms} ms" if a.took_ms is not None else "–",
                "events": a.events,
            }
            for a in d.tries
        ],
    }


def _code(code: int | None, subcode: int | None) -> str:
    if code is None:
        return "–"
    return f"{code}/{subcode}" if subcode else str(code)


def _click(click: conversions.Click, ids: PublicIds, now: int) -> dict[str, Any]:
    body = click.body
    return {
        "id": ids.public("click", click.id),
        "facts": [
            ("Store", click.store),
            ("Clicked", words.ago(click.ts, now)),
            ("Seen last", words.ago(click.last_ts, now)),
            ("Landing page", outside_link(body.landing_page)),
            ("Referrer", outside_link(body.referrer)),
            ("fbclid", Markup('<span class="code">{}</span>').format(body.fbclid)),
            ("Consent", body.marketing),
            ("Marks", ", ".join(_marks(click.flags)) or "–"),
        ],
    }


async def click(desk: Desk, public_id: str) -> Response[bytes]:
    """One click."""
    ids = await desk.ids()
    number = ids.row("click", public_id)
    found = await conversions.find_click(desk.reader, number) if number is not None else None
    if found is None:
        raise HTTPException("no such click", status_code=404)
    return page("click.html", title="Click", here="/events", click=_click(found, ids, desk.clock()))


def outside_link(url: str | None) -> Markup | str:
    """A caller's address as a link only where it is http(s); anything else is shown as text."""
    if not url:
        return "–"
    try:
        parts = urlsplit(url)
    except ValueError:
        return url
    if parts.scheme not in ("http", "https") or not parts.netloc:
        return url
    return Markup('<a href="{0}" rel="noopener noreferrer nofollow" target="_blank">{0}</a>').format(url)
