"""The first steps of an installation, ticked by what the database holds; each with what to copy."""

from __future__ import annotations

from typing import Any, Final

from collector.console.shell import Desk
from collector.storage.reports.questions import named

_SEEN: Final = named(
    "first steps",
    """
SELECT EXISTS (SELECT 1 FROM api_key WHERE revoked IS NULL), EXISTS (SELECT 1 FROM click WHERE store > 0),
       EXISTS (SELECT 1 FROM conversion WHERE event_type = 'Purchase' AND store > 0),
       EXISTS (SELECT 1 FROM outbox WHERE state = 10)""",
)


async def checklist(desk: Desk) -> list[dict[str, Any]]:
    """The steps, in order; none once all are done."""
    row = await desk.reader.one(_SEEN) or (0, 0, 0, 0)
    done = [*map(bool, row), desk.config.meta.mode == "live"]
    lines = [{"name": name, "code": code, "done": ok} for (name, code), ok in zip(_steps(desk), done, strict=True)]
    return [] if all(done) else lines


def _steps(desk: Desk) -> list[tuple[str, str]]:
    store = next((one.id for one in desk.config.store if one.active), "STORE")
    config = f" --config {desk.config.path}" if desk.config.path else ""
    address = desk.config.edge.public_url.rstrip("/") or "/m"
    return [
        ("A key is made, for the shop's server", f"collector keys create --store {store} --kind secret{config}"),
        (
            "The tag stands on the shop's pages, and has seen a click on an ad",
            f'<script async src="{address}{desk.config.edge.snippet_path}" data-store="{store}"></script>',
        ),
        ("The first order has come, from the shop's server or its webhooks", f"collector doctor{config}"),
        ("Meta has taken an event", f"collector send-test --store {store} --code TEST12345{config}"),
        ("Delivery is live", '[meta] mode = "live"'),
    ]
