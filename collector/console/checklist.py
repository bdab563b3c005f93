"""The first steps of an installation, ticked by what the database holds."""

from __future__ import annotations

from typing import Any, Final

from collector.console.shell import Desk

_SEEN: Final = """
SELECT EXISTS (SELECT 1 FROM api_key WHERE revoked IS NULL), EXISTS (SELECT 1 FROM click WHERE store > 0),
       EXISTS (SELECT 1 FROM conversion WHERE event_type = 'Purchase' AND store > 0),
       EXISTS (SELECT 1 FROM outbox WHERE state = 10)"""
_STEPS: Final = (
    ("A key is made", "collector keys create --store STORE --kind secret"),
    ("The tag has seen a click on an ad", '<script async src="/m/c.js" data-store="STORE"></script>'),
    ("The first order has come", "collector doctor"),
    ("Meta has accepted an event", "collector doctor"),
)


async def checklist(desk: Desk) -> list[dict[str, Any]]:
    """The steps, in order; none once all are done."""
    row = await desk.reader.one(_SEEN) or (0, 0, 0, 0)
    live = desk.config.meta.mode == "live"
    done = [*map(bool, row), live]
    steps = [*_STEPS, ("Live", '[meta] mode = "live"')]
    lines = [{"name": name, "copy": copy, "done": ok} for (name, copy), ok in zip(steps, done, strict=True)]
    return [] if all(done) else lines
