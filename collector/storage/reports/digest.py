"""The sums of some days: by campaign, ad set and ad, by day, and where they stand with Meta. Kept sums alone."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from datetime import date
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from collector.config import Config
from collector.core.capi.parts import part_of
from collector.core.days import Days, begin, day_of
from collector.core.digest import Day, Digest, Line
from collector.core.landing import Campaign
from collector.storage.reports import insights, kept
from collector.storage.reports.kept import OTHER, Sale, Span
from collector.storage.reports.questions import Questions

BY: Final = ("campaign", "source")
Path = tuple[str, ...]


class Read(NamedTuple):
    """The sums of a span by place, read once for all that is told of them."""

    clicks: dict[int, int]
    sales: list[Sale]
    names: dict[int, Campaign]

    @property
    def without(self) -> int:
        """Events of which no click is known."""
        return sum(sale.n for sale in self.sales if not sale.tier)

    def lines(self, by: str = "campaign", under: Path = ()) -> dict[Path, Line]:
        """The lines below `under`: campaigns, a campaign's ad sets, an ad set's ads; or sources."""
        out: dict[Path, Line] = defaultdict(Line)
        for place, n in self.clicks.items():
            if (path := path_under(self.names.get(place, OTHER), by, under)) is not None:
                out[path].clicks += n
        for sale in self.sales:
            if sale.tier and (path := path_under(self.names.get(sale.key, OTHER), by, under)) is not None:
                line = out[path]
                line.orders += sale.n
                line.proven += sale.n if sale.tier == 2 else 0
                line.value[sale.currency] += sale.value
                line.sure[sale.currency] += sale.value if sale.tier == 2 else 0
        return out


async def by_place(reader: Questions, span: Span, event: str) -> Read:
    """The clicks of a span and its events of one name, by place."""
    clicks = await kept.clicks_by_place(reader, span)
    sales = await kept.sales_by_place(reader, span, event)
    return Read(clicks, sales, await kept.places(reader, {*clicks, *(sale.key for sale in sales)}))


def path_under(place: Campaign, by: str, under: Path) -> Path | None:
    """A place's line; None where it lies elsewhere."""
    if by == "source":
        return (place.source or "(none)",)
    whole = insights.path_of(place)
    return whole[: len(under) + 1] if whole[: len(under)] == under else None


async def add_spend(
    reader: Questions,
    config: Config,
    days: Days,
    span: Span,
    out: dict[Path, Line],
    under: Path = (),
    clicks: Mapping[int, int] | None = None,
) -> None:
    """What Meta says that the ads of each line cost; Meta does not tell it by source. `clicks`: the span's, if read."""
    for whole, currencies in (await insights.by_line(reader, config, days, span, clicks)).items():
        if whole[: len(under)] == under:
            for code, one in currencies.items():
                out.setdefault(whole[: len(under) + 1], Line()).spend[code] += one.spend


async def digest(
    reader: Questions, span: Span, days: Days, zone: ZoneInfo, event: str = "Purchase", spend: Config | None = None
) -> Digest:
    """The sums of `days` of a zone, which `span` is of the same stores; with `spend`, what the ads cost as well."""
    by_day: dict[date, Day] = {day: Day() for day in days.all()}
    begins = [begin(day, zone) for day in by_day]
    for sale in await kept.sales_by_step(reader, span, event, begins):
        day = by_day[day_of(sale.key, zone)]
        day.orders += sale.n
        day.attributed += sale.n if sale.tier else 0
        day.value[sale.currency] += sale.value
    for at, n in (await kept.clicks_by_step(reader, span, begins)).items():
        by_day[day_of(at, zone)].clicks += n
    parts: Counter[str] = Counter()
    for row in await kept.deliveries(reader, span, event):
        parts[part_of(row.state, row.doubt)] += row.n
    read = await by_place(reader, span, event)
    named = read.lines()
    if spend is not None:
        await add_spend(reader, spend, days, span, named, clicks=read.clicks)
    return Digest(by_day, dict(parts), {path[0]: line for path, line in named.items()})
