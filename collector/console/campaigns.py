"""Which campaign sold what, this span against the one before: campaign › ad set › ad, or source."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

from litestar import Response

from collector.console import glossary, plots, words
from collector.console.bar import Asked, Bar, Unknown, read
from collector.console.shell import Desk, page
from collector.core.landing import Campaign
from collector.storage.reports import kept
from collector.storage.reports.kept import OTHER, Span

_SHOWN: Final = 250
BY: Final = ("campaign", "source")
_WORDS: Final = ("clicks", "orders", "rate", "revenue", "proven", "credit")
Path = tuple[str, ...]


@dataclass(slots=True)
class Line:
    """What one name brought."""

    clicks: int = 0
    orders: int = 0
    proven: int = 0
    value: dict[str, Decimal] = field(default_factory=lambda: defaultdict(Decimal))


async def _lines(desk: Desk, bar: Bar, span: Span, by: str, under: Path) -> dict[Path, Line]:
    """The lines below `under`: campaigns, a campaign's ad sets, an ad set's ads."""
    clicks = await kept.clicks_by_place(desk.reader, span)
    sales = [sale for sale in await kept.sales_by_place(desk.reader, span, bar.event) if sale.tier]
    names = await kept.places(desk.reader, {*clicks, *(sale.key for sale in sales)})
    out: dict[Path, Line] = defaultdict(Line)
    for place, n in clicks.items():
        if (path := _path(names.get(place, OTHER), by, under)) is not None:
            out[path].clicks += n
    for sale in sales:
        if (path := _path(names.get(sale.key, OTHER), by, under)) is not None:
            line = out[path]
            line.orders += sale.n
            line.proven += sale.n if sale.tier == 2 else 0
            line.value[sale.currency] += sale.value
    return out


def _path(place: Campaign, by: str, under: Path) -> Path | None:
    """A place's line; None where it lies elsewhere."""
    if by == "source":
        return (place.source or "(none)",)
    whole = tuple(name or "(none)" for name in (place.campaign, place.adset, place.ad))
    return whole[: len(under) + 1] if whole[: len(under)] == under else None


async def campaigns(desk: Desk, asked: Asked, by: str, under: str) -> Response[bytes]:
    """The page. `under`: names parted by U+001F, whose parts are shown."""
    bar = await read(desk, asked)
    if by not in BY:
        raise Unknown(f"There is no grouping {by[:60]!r}. Known are: {', '.join(BY)}.")
    path = tuple(under[:400].split("\x1f"))[:2] if under else ()
    own = await _lines(desk, bar, bar.span, by, path)
    past = await _lines(desk, bar, bar.past_span, by, path) if bar.past_span else {}
    names = sorted(own, key=lambda name: (-own[name].orders, -own[name].clicks, name))
    without = sum(s.n for s in await kept.sales_by_place(desk.reader, bar.span, bar.event) if not s.tier)
    most = max((line.clicks for line in own.values()), default=0)
    return page(
        "campaigns.html",
        title="Campaigns",
        here="/campaigns",
        bar=bar,
        by=by,
        kinds=[(kind, bar.address("/campaigns", by=kind)) for kind in BY],
        level=("Campaign", "Ad set", "Ad")[len(path)] if by == "campaign" else "Source",
        trail=[(name, bar.address("/campaigns", under="\x1f".join(path[:i]))) for i, name in enumerate(path)],
        lines=[_row(bar, by, name, own[name], past.get(name), most, path) for name in names[:_SHOWN]],
        more=max(0, len(names) - _SHOWN),
        whole=_row(bar, by, ("All",), _all(own), _all(past) if past else None, 0, path),
        without=words.number(without),
        titles={
            word: glossary.title(word, bar.said) for word in ("clicks", "orders", "rate", "revenue", "proven", "credit")
        },
    )


def _all(lines: dict[Path, Line]) -> Line:
    out = Line()
    for line in lines.values():
        out.clicks, out.orders, out.proven = (
            out.clicks + line.clicks,
            out.orders + line.orders,
            out.proven + line.proven,
        )
        for code, value in line.value.items():
            out.value[code] += value
    return out


def _row(bar: Bar, by: str, name: Path, line: Line, before: Line | None, most: int, under: Path) -> dict[str, Any]:
    deeper = by == "campaign" and len(under) < 2
    return {
        "name": name[-1],
        "address": bar.address("/campaigns", under="\x1f".join(name)) if deeper else "",
        "orders_address": bar.address("/orders", campaign=name[0]) if by == "campaign" and not under else "",
        "clicks": words.number(line.clicks),
        "bar": plots.share(line.clicks, most, f"{name[-1]}: {line.clicks:,} clicks") if most else "",
        "orders": words.number(line.orders),
        "proven": words.percent(line.proven, line.orders),
        "rate": words.percent(line.orders, line.clicks),
        "value": [words.money(value, code) for code, value in sorted(line.value.items()) if code] or ["–"],
        "change": f"{line.orders - before.orders:+,}" if before else ("new" if bar.past else ""),
    }
