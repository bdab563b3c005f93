"""Which campaign sold what, this span against the one before: campaign › ad set › ad, or source."""

from __future__ import annotations

import re
from collections import defaultdict
from statistics import median
from typing import Any, Final, NamedTuple

from litestar import Response

from collector.console import glossary, plots, words
from collector.console.bar import Asked, Bar, Unknown, read
from collector.console.shell import Desk, page
from collector.console.standing import unread
from collector.core.credit import CREDIT_MODELS
from collector.core.digest import Line, whole
from collector.core.event_names import STANDARD
from collector.core.insights import NOT_JOINED
from collector.core.saying import roas
from collector.storage.reports import digest, insights
from collector.storage.reports.cells import record
from collector.storage.reports.digest import BY, Path, add_spend, by_place, path_under
from collector.storage.reports.insights import InsightState
from collector.storage.reports.kept import OTHER
from collector.storage.reports.purchases import Way, newest_ways

_SHOWN: Final = 250
_MARKUP_BYTES: Final = 420  # of a line
_IDS: Final = 3  # of a campaign, beside its name
# Groupings that no sums hold, and what they are called.
SHARED: Final = {"landing-page": "landing page", "day": "day of order", "click-day": "day of click"}
DAYS: Final = ("day", "click-day")
_MODELS: Final = {
    "last": "last click",
    "first": "first click",
    "linear": "all alike",
    "time-decay": "later ones more",
    "position": "first and last more",
}
_WORDS: Final = ("after", "new", "clicks", "orders", "rate", "revenue", "proven", "credit", "spend", "cost", "roas")


class Key(NamedTuple):
    """A line's place, the most orders first; as text it stands in the address of the page after it."""

    orders: int
    clicks: int
    name: str

    @classmethod
    def of(cls, name: Path, line: Line) -> Key:
        return cls(-line.orders, -line.clicks, name[-1])

    def __str__(self) -> str:
        return f"{-self.orders}_{-self.clicks}_{self.name}"

    @classmethod
    def read(cls, text: str) -> Key:
        if (found := _KEY.fullmatch(text)) is None:
            raise Unknown("The page after that line cannot be read from the address.")
        return cls(-int(found[1]), -int(found[2]), found[3])


_KEY: Final = re.compile(r"(\d{1,18})_(\d{1,18})_(.{1,400})", re.ASCII | re.DOTALL)


class _Read(NamedTuple):
    """What a page or a table is made of: the lines below `path`, and what Meta says that they cost."""

    bar: Bar
    path: Path
    sums: digest.Read
    own: dict[Path, Line]
    account: InsightState | None

    @property
    def names(self) -> list[Path]:
        """The most orders first."""
        return sorted(self.own, key=lambda name: Key.of(name, self.own[name]))

    def after(self, place: str) -> list[Path]:
        """Those behind the line that had this place, wherever it stands now; all, where none is."""
        last = Key.read(place) if place else None
        return [name for name in self.names if last is None or Key.of(name, self.own[name]) > last] or self.names


async def _read(desk: Desk, asked: Asked, by: str, under: str) -> _Read:
    bar = await read(desk, asked)
    if by not in BY:
        raise Unknown(f"There is no grouping {by[:60]!r}. Known are: {', '.join(BY)}.")
    path = tuple(under[:400].split("\x1f"))[:2] if under else ()
    sums = await by_place(desk.reader, bar.span, bar.event)
    own = sums.lines(by, path)
    account = await insights.state(desk.reader, desk.config) if by == "campaign" else None
    if account is not None:
        await add_spend(desk.reader, desk.config, bar.days, bar.span, own, path, sums.clicks)
    return _Read(bar, path, sums, own, account)


_COLUMNS: Final = ("first_day", "last_day", "zone", "event", "clicks", "orders", "proven", "currency", "value", "spend")


async def campaigns_csv(desk: Desk, asked: Asked, by: str, under: str) -> str:
    """The page's lines, every one, as a table: a line for each currency, whose first has the clicks and orders."""
    found = await _read(desk, asked, by, under)
    bar, levels = found.bar, ("campaign", "ad_set", "ad")[: len(found.path) + 1] if by == "campaign" else (by,)
    days = (str(bar.days.first), str(bar.days.last), bar.zone.key, bar.event)
    out = [record((*levels, *_COLUMNS))]
    for name in found.names:
        line, counts = found.own[name], tuple[int | None, ...]()
        for code in sorted({*line.value, *line.spend} - {""}) or [""]:
            counts = (None, None, None) if counts else (line.clicks, line.orders, line.proven)
            out.append(record((*name, *days, *counts, code, line.value.get(code), line.spend.get(code))))
    return "".join(out)


async def campaigns(desk: Desk, asked: Asked, by: str, under: str, after: str = "") -> Response[bytes]:
    """The page. `under`: names parted by U+001F, whose parts are shown; `after`: the place of the line before it.

    However others move meanwhile, a line that keeps its figures is on one of the pages, and once.
    """
    found = await _read(desk, asked, by, under)
    bar, path, sums, own, account = found
    past = (await by_place(desk.reader, bar.past_span, bar.event)).lines(by, path) if bar.past_span else {}
    ways = await _ways(desk, bar, by, path)
    every = [way for found in ways.values() for way in found]
    names = found.after(after)
    most, said_by = max((line.clicks for line in own.values()), default=0), by if by != "campaign" else ""
    lines = [_row(bar, by, name, own[name], past.get(name), most, path, ways[name]) for name in names[:_SHOWN]]
    lines = lines[: words.fitting(lines, _MARKUP_BYTES)]
    last = Key.of(names[len(lines) - 1], own[names[len(lines) - 1]]) if lines else ""
    return page(
        "campaigns.html",
        title="Campaigns",
        here="/campaigns",
        bar=bar,
        by=by,
        kinds=kinds(bar, by, "", ""),
        level=("Campaign", "Ad set", "Ad")[len(path)] if by == "campaign" else "Source",
        trail=[(name, bar.address("/campaigns", under="\x1f".join(path[:i]))) for i, name in enumerate(path)],
        lines=lines,
        more=len(names) - len(lines),
        further=bar.address("/campaigns", by=said_by, under=under, after=last),
        begin=bar.address("/campaigns", by=said_by, under=under) if len(names) < len(own) else "",
        whole=_row(
            bar,
            by,
            ("All",),
            whole(own.values()),
            whole(past.values()) if past else None,
            0,
            path,
            every,
        ),
        told=bar.event == "Purchase",
        without=words.number(sums.without),
        titles={word: glossary.title(word, bar.said) for word in _WORDS},
        account=account and _said(account, bar),
        share=_share(bar),
        csv=bar.address("/campaigns.csv", by=said_by, under=under),
        notes=unread(account, desk.clock()),
    )


def _share(bar: Bar) -> str:
    """The command that makes a link to these sums, where they are one shop's."""
    shop = bar.shop or (next(iter(bar.shops)) if len(bar.shops) == 1 else "")
    if not shop or bar.event not in STANDARD:
        return ""
    event = "" if bar.event == "Purchase" else f" --event {bar.event}"
    return f"collector share create --store {shop} --range {bar.days.first}..{bar.days.last}{event}"


def is_shared_out(by: str, model: str, window: str) -> bool:
    """Whether the answer is not in the sums: another credit model or window, landing pages, or days."""
    return by in SHARED or bool(model or window)


def kinds(bar: Bar, by: str, model: str, window: str) -> list[list[tuple[str, str, bool]]]:
    """The groupings, then the credit models to choose from: a name, where it leads, and whether it is chosen."""
    more = {"model": model, "window": window}
    groups = [(f"by {kind}", bar.address("/campaigns", by=kind, **more), kind == by) for kind in BY]
    groups += [(f"by {said}", bar.address("/campaigns", by=kind, **more), kind == by) for kind, said in SHARED.items()]
    plain = not is_shared_out(by, model, window)
    own = bar.address("/campaigns", by=by if by in BY else "campaign")
    models = [("the credited click", own, plain)]
    for one in CREDIT_MODELS:
        address = bar.address("/campaigns", by=by, model=one, window=window)
        models.append((_MODELS[one], address, not plain and one == (model or "last")))
    return [groups, models]


def _said(account: InsightState, bar: Bar) -> str:
    """Whose days the spend is by, and from when on it is known."""
    zone = f" by the ad account's days ({account.timezone})" if account.timezone not in (None, bar.zone.key) else ""
    known = f", known from {account.since} to {account.until}" if account.since else ", not read yet"
    return f"Spend of {account.account}{zone}{known}."


async def _ways(desk: Desk, bar: Bar, by: str, under: Path) -> dict[Path, list[Way]]:
    """How orders came of their clicks, by line."""
    out: dict[Path, list[Way]] = defaultdict(list)
    for way in await newest_ways(desk.reader, bar.span) if bar.event == "Purchase" else []:
        if (path := path_under(way.place, by, under)) is not None:
            out[path].append(way)
    return out


def _row(
    bar: Bar, by: str, name: Path, line: Line, before: Line | None, most: int, under: Path, ways: list[Way]
) -> dict[str, Any]:
    known = [way.new for way in ways if way.new is not None]
    named = by == "campaign" and name[-1] != NOT_JOINED
    deeper = named and len(under) < 2
    listed = (
        named and not under and bar.event == "Purchase" and name[0] != OTHER.campaign
    )  # Orders has purchases, by name
    return {
        "name": name[-1],
        "ids": _ids(name[0], ways) if named and not under else "",
        "address": bar.address("/campaigns", under="\x1f".join(name)) if deeper else "",
        "orders_address": bar.address("/orders", campaign=name[0]) if listed else "",
        "clicks": words.number(line.clicks),
        "bar": plots.share(line.clicks, most, f"{name[-1]}: {line.clicks:,} clicks") if most else "",
        "orders": words.number(line.orders),
        "proven": words.percent(line.proven, line.orders),
        "rate": words.percent(line.orders, line.clicks),
        "value": [words.money(value, code) for code, value in sorted(line.value.items()) if code] or ["–"],
        "spend": [words.money(spend, code) for code, spend in sorted(line.spend.items())] or ["–"],
        "cost": words.money(cost[1], cost[0]) if (cost := line.cost_each) else "–",
        "roas": roas(line.roas),
        "after": words.span(median(way.after_ms for way in ways) / 1000) if ways else "–",
        "new": words.percent(sum(known), len(known)) if known else "–",
        "change": f"{line.orders - before.orders:+,}" if before else ("new" if bar.past and line.clicks else ""),
    }


def _ids(name: str, ways: list[Way]) -> str:
    """Meta's ids of a campaign, as its clicks' landing pages say them: one name may stand for several campaigns."""
    return words.some(sorted({way.campaign_id for way in ways} - {"", name}), _IDS)
