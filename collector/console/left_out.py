"""Who was left out? Not people, and people who refused; and what the edge refused."""

from __future__ import annotations

from typing import Any, Final

from litestar import Response

from collector.console import glossary, words
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


async def left_out(desk: Desk, asked: Asked) -> Response[bytes]:
    """The page."""
    bar = await read(desk, asked)
    apart = await kept.kept_apart(desk.reader, bar.span)
    people = sum((await kept.clicks_by_quarter(desk.reader, bar.span)).values())
    whole = people + sum(n for *_, n in apart)
    lines = [(kind, detail or _NAMES.get(kind, kind), n) for kind, detail, n in apart]
    return page(
        "left_out.html",
        title="Left out",
        here="/left-out",
        bar=bar,
        title_text=glossary.title("left out", bar.said),
        whole=words.number(whole),
        apart=words.number(whole - people),
        share=words.percent(whole - people, whole),
        machines=_rows([line for line in lines if line[0] not in _CONSENT], whole),
        consent=_rows([line for line in lines if line[0] in _CONSENT], whole),
        refused=[(code, words.number(n)) for code, n in (await kept.refusals(desk.reader, bar.span)).items()],
    )


def _rows(lines: list[tuple[str, str, int]], whole: int) -> list[dict[str, Any]]:
    return [{"name": name, "n": words.number(n), "share": words.percent(n, whole)} for _, name, n in lines]
