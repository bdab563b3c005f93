"""Who was left out? Not people, and people who refused; and what the API refused."""

from __future__ import annotations

from typing import Any, Final

from litestar import Response

from collector.console import glossary, plots, words
from collector.console.bar import Asked, read
from collector.console.shell import Desk, page
from collector.storage.reports import kept

_NAMES: Final = {
    "prefetch": "fetched ahead of a person",
    "test": "a merchant's own test",
    "denied": "refused marketing",
    "withdrawn": "took consent back later",
    "pending": "has not decided yet",
}
_CONSENT: Final = ("denied", "withdrawn", "pending")
# What the API's codes mean for who reads the console.
REFUSED: Final = {
    "missing_required_field": "A field that must be there is missing, most often the order number or the value.",
    "invalid_fbclid": "The click id is none of Meta's, or its click is over 90 days old.",
    "invalid_currency": "The currency is not one that there is.",
    "invalid_field": "A field holds what it cannot hold.",
    "invalid_json": "What was sent is not JSON.",
    "unauthorized": "The key is unknown or was revoked.",
    "forbidden": "The key may not do this.",
    "origin_not_allowed": "A page of another site called; domains are named in [[store]] domains.",
    "store_not_found": "No shop has this id.",
    "not_found": "There is no such address: often a scanner.",
    "method_not_allowed": "The address exists, and is not asked so.",
    "order_conflict": "A server told the same order with another value.",
    "idempotency_conflict": "The same Idempotency-Key was used for something else.",
    "payload_too_large": "More was sent than is taken at once.",
    "unsupported_media_type": "It was not sent as JSON.",
    "rate_limit_exceeded": "More was asked in a second than is allowed.",
    "internal_error": "Our fault: the log has the reason.",
    "storage_unavailable": "The disk was full or the database could not be written.",
    "overloaded": "More came in at once than can be held.",
}


async def left_out(desk: Desk, asked: Asked) -> Response[bytes]:
    """The page."""
    bar = await read(desk, asked)
    apart = await kept.kept_apart(desk.reader, bar.span)
    people, _ = await kept.clicks(desk.reader, bar.span)
    whole = people + sum(n for *_, n in apart)
    lines = [(kind, detail or _NAMES.get(kind, kind), n) for kind, detail, n in apart]
    refused = await kept.refusals(desk.reader, bar.span)
    return page(
        "left_out.html",
        title="Left out",
        here="/left-out",
        bar=bar,
        title_text=glossary.title("left out", bar.said),
        whole=words.number(whole),
        apart=words.number(whole - people),
        share=words.percent(whole - people, whole),
        tables=[
            ("Not people", "Who", _rows([line for line in lines if line[0] not in _CONSENT], whole), _ALL_PEOPLE),
            ("Consent", "Decision", _rows([line for line in lines if line[0] in _CONSENT], whole), _ALL_CONSENT),
        ],
        refused=[(code, words.number(n), REFUSED.get(code, "")) for code, n in refused.items()],
        refused_title=glossary.title("refusals", bar.said),
    )


_ALL_PEOPLE: Final = "Every click looks like a person's."
_ALL_CONSENT: Final = "Nobody refused or is undecided. A browser's own signal (GPC) counts as a refusal."


def _rows(lines: list[tuple[str, str, int]], whole: int) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "n": words.number(n),
            "share": words.percent(n, whole),
            "bar": plots.share(n, whole, f"{name}: {words.percent(n, whole)} of all clicks"),
        }
        for _, name, n in lines
    ]
