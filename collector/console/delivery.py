"""What Meta was asked and what it said: requests, and the events that ended badly."""

from __future__ import annotations

from typing import Any, Final

from litestar import Response

from collector.console import words
from collector.console.shell import Desk, Word, delivery_word, page
from collector.console.standing import pixel_lines
from collector.storage.reports import delivery

_PAGE: Final = 50
_TONES: Final = {"sent": "good", "in_flight": "", "throttled": "warn", "retry": "warn"}


async def delivery_page(desk: Desk, before: str) -> Response[bytes]:
    """Pixels, dead letters, and the last requests."""
    now = desk.clock()
    lines, notes = await pixel_lines(desk, now)
    requests = await delivery.requests(desk.reader, before=int(before) if before.isdigit() else None, limit=_PAGE)
    dead = await delivery.dead_letters(desk.reader, limit=_PAGE)
    ids = await desk.ids()
    return page(
        "delivery.html",
        title="Delivery",
        here="/delivery",
        refresh=0 if before else 30,
        notes=notes,
        pixels=lines,
        mode=desk.config.meta.mode,
        requests=[_request(r, now) for r in requests],
        older=requests[-1].id if len(requests) == _PAGE else "",
        dead=[
            {
                "id": ids.public("conv", d.conversion),
                "pixel": d.pixel,
                "state": delivery_word(d.state),
                "when": words.ago(d.settled, now),
                "reason": d.reason or "–",
                "attempts": d.attempts,
            }
            for d in dead
        ],
    )


def _request(r: delivery.Request, now: int) -> dict[str, Any]:
    code = "–" if r.code is None else f"{r.code}/{r.subcode}" if r.subcode else str(r.code)
    return {
        "when": words.ago(r.at, now),
        "pixel": r.pixel,
        "events": words.number(r.events),
        "outcome": Word(r.outcome.replace("_", " "), _TONES.get(r.outcome, "bad")),
        "http": r.http_status or "–",
        "code": code,
        "trace": r.trace_id or "–",
        "took": f"{r.took_ms} ms" if r.took_ms is not None else "–",
        "message": r.message or "",
    }
