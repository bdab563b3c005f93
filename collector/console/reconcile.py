"""Did every order of the shop arrive, and why does Meta show another number? A waterfall, and the days."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any, Final

from litestar import Response
from markupsafe import Markup

from collector.config import StoreConfig
from collector.console import glossary, plots, words
from collector.console.bar import Asked, Bar, Unknown, read
from collector.console.shell import Desk, Word, page
from collector.console.steps import steps_of
from collector.console.timeplots import Step, over_time
from collector.core import days
from collector.core.days import zone_of
from collector.core.ids import PublicIds
from collector.core.shops.counted import CLASSES, Line, totals
from collector.storage.reports import insights
from collector.storage.reports import reconcile as report
from collector.storage.reports.insights import Spent
from collector.storage.reports.reconcile import Counted
from collector.storage.reports.shop_ways import ways

GOAL_PERCENT: Final = 98  # what a shop should reach
_MOST_COLUMNS: Final = 31
_LISTED: Final = 80
# Where several pixels are looked at: how many are drawn, in how many columns, with how many of their days.
_DRAWN, _MOST_OF_SEVERAL, _DAYS_OF_SEVERAL = 4, 16, 7
_NAMED: Final = 20
# The classes from below: first those that make up the accuracy.
_PARTS: Final = ("sent", "held", "ignored", "waiting", "failed", "missing")
_NAMES: Final = {
    "sent": "sent",
    "held": "held",
    "ignored": "left out on purpose",
    "waiting": "waiting",
    "failed": "refused or expired",
    "missing": "not told to us",
}
_TONES: Final = {"sent": "good", "held": "warn", "waiting": "warn", "failed": "bad", "missing": "bad"}
_REASONS: Final = (
    "view-through: somebody saw the ad and did not click; there is no click to know of",
    "modelled: Meta estimates orders of people whom it cannot follow",
    "another day: Meta counts on the day of the click or the view, we on the day of the order",
    "another window: Meta's usual one is 7 days after a click and 1 day after a view",
    "sent twice under two event ids by a pixel of the shop, which Meta cannot tell apart",
)


async def reconcile_page(desk: Desk, asked: Asked, pixel: str, day: str, metas: str, only: str = "") -> Response[bytes]:
    """A waterfall and the days of every chosen shop; with `pixel` and `day`, that day's orders too.

    `metas`: what Events Manager shows, typed in. `only`: "missing", for the orders of one shop that nobody told us of.
    """
    bar, now = await read(desk, asked), desk.clock()
    if only not in ("", "missing"):
        raise Unknown(f"There is no list of {only[:60]!r}. Say missing, or nothing.")
    chosen = [store for store in desk.config.store if bar.shop in ("", store.id)]
    account = await insights.total(desk.reader, desk.config, bar.days)
    beside = metas or _own_figure(desk, account)
    found = [part for store in chosen for part in await _shop(desk, bar, store)]
    shops = [_part(bar, *part, beside, several=len(found) > 1) for part in found[:_DRAWN]]
    one = desk.config.store_by_id(bar.shop)
    orders = await _orders(desk, bar, one, pixel, day, only) if one is not None else []
    of_day = await report.count_of_day(desk.reader, one, day) if one is not None and len(orders) == _LISTED else 0
    return page(
        "reconcile.html",
        title="Reconcile",
        here="/reconcile",
        bar=bar,
        shops=shops,
        goal=GOAL_PERCENT,
        names=[(name, _NAMES[name], glossary.title(f"class {name}")) for name in CLASSES],
        listed=_listed(day, only) if one is not None else "",
        orders=_lines(orders, await desk.ids(), bar),
        unlisted=words.number(max(0, of_day - len(orders))),
        ways=[way for way in await ways(desk.reader, desk.config, now) if bar.shop in ("", way.store)],
        others=[_other(bar, store, pixel, lines) for store, pixel, lines, _ in found[_DRAWN:]],
        untold=words.some([bar.whose_shop(s.id) for s in chosen if not any(part[0] is s for part in found)], _NAMED),
        metas=metas,
        account=_account(desk, account),
        reasons=_REASONS,
        accuracy_title=glossary.title("accuracy", bar.said),
    )


def _own_figure(desk: Desk, account: Mapping[str, Spent]) -> str:
    """Meta's own figure, where the ad account can only be of one shop and pixel."""
    shops = [store for store in desk.config.store if store.active]
    only = len(shops) == 1 and len(shops[0].pixel) <= 1
    return str(sum(one.purchases for one in account.values())) if account and only else ""


def _account(desk: Desk, account: Mapping[str, Spent]) -> str:
    """What the ad account says of these days, in a sentence."""
    if not account:
        return ""
    n = words.number(sum(one.purchases for one in account.values()))
    worth = ", ".join(words.money(one.value, code) for code, one in sorted(account.items()))
    return f"The ad account {desk.config.insights.ad_account} says {n} purchases of {worth} on these days of its own."


_Part = tuple[StoreConfig, str, list[Line], int]  # of a shop and a pixel: its days, and how many are attributed


async def _shop(desk: Desk, bar: Bar, store: StoreConfig) -> list[_Part]:
    """What each pixel of a shop that has told of orders was sent."""
    since, until = bar.days.span(zone_of(store.timezone) or bar.zone)  # the shop's own days
    found: dict[str, list[Counted]] = defaultdict(list)
    for one in await report.counted(desk.reader, desk.config, since, until, store=store.id):
        found[one.line.pixel].append(one)
    return [
        (store, pixel, [one.line for one in own], sum(one.attributed for one in own)) for pixel, own in found.items()
    ]


def _other(bar: Bar, store: StoreConfig, pixel: str, lines: Sequence[Line]) -> dict[str, Any]:
    """A line for what is not drawn: a page has 60 KB, however many shops there are."""
    whole = totals(lines)
    return {
        "shop": bar.whose_shop(store.id),
        "pixel": pixel,
        "address": bar.address("/reconcile", shop=store.id),
        "orders": words.number(whole.orders),
        "accuracy": _accuracy(whole),
        "low": whole.accuracy is not None and whole.accuracy < GOAL_PERCENT,
    }


def _accuracy(line: Line) -> str:
    return "–" if line.accuracy is None else f"{line.accuracy:.1f} %"


def _part(
    bar: Bar, store: StoreConfig, pixel: str, lines: Sequence[Line], attributed: int, metas: str, *, several: bool
) -> dict[str, Any]:
    """One pixel's part of the page; of `several`, its newest days alone."""
    whole, shown = totals(lines), _DAYS_OF_SEVERAL if several else _MOST_COLUMNS
    return {
        "id": store.id,
        "shop": bar.whose_shop(store.id),
        "pixel": pixel,
        "orders": words.number(whole.orders),
        "accuracy": _accuracy(whole),
        "reached": whole.accuracy is not None and whole.accuracy >= GOAL_PERCENT,
        "fall": _fall(bar, store, whole, attributed),
        "metas": _beside(metas, attributed),
        "plot": _plot(bar, store, pixel, lines, _MOST_OF_SEVERAL if several else _MOST_COLUMNS),
        "sums": [(name, _NAMES[name], words.number(getattr(whole, name))) for name in _PARTS if getattr(whole, name)],
        "days": [_day(bar, store, line) for line in sorted(lines, key=lambda x: x.day, reverse=True)[:shown]],
        "more": max(0, len(lines) - shown),
        "alone": bar.address("/reconcile", shop=store.id) if several else "",
        "basis": _basis({line.basis for line in lines}),
    }


def _basis(found: set[str]) -> str:
    """What the counts rest on; "pull, complete to 11:12" says "pull" as well."""
    return "; ".join(sorted(one for one in found if not any(other.startswith(f"{one},") for other in found)))


def _fall(bar: Bar, store: StoreConfig, whole: Line, attributed: int) -> list[dict[str, Any]]:
    """From the shop's orders down to those that we attribute: each step takes away, each sum stands."""
    steps = (
        ("orders in the shop", "", whole.orders, True, ""),
        ("never told to us", "missing", whole.missing, False, "missing"),
        ("refused by Meta, or too late", "failed", whole.failed, False, "refused"),
        ("left out on purpose", "ignored", whole.ignored, False, "on_purpose"),
        ("held", "held", whole.held, False, "held"),
        ("waiting", "waiting", whole.waiting, False, "waiting"),
        ("delivered to Meta", "sent", whole.sent, True, "sent"),
        ("by our rule not after a click on an ad", "unattributed", whole.sent - attributed, False, ""),
        ("attributed here", "attributed", attributed, True, ""),
    )
    rows, left = [], whole.orders
    for name, kind, n, stands, state in steps:
        if not n and not stands:
            continue
        left = n if stands else left - n
        begin = 0 if stands else left
        address = bar.address("/orders", shop=store.id, state=state) if state else ""
        if state == "missing":
            address = bar.address("/reconcile", shop=store.id, only=state)
        drawn = plots.fall(begin, n, whole.orders, "whole" if stands else f"is-{kind}", f"{name}: {n:,}")
        rows.append(
            {
                "name": name,
                "n": words.number(n) if stands else f"− {words.number(n)}",
                "sum": stands,
                "bar": drawn,
                "address": address,
                "share": words.percent(n, whole.orders),
            }
        )
    return rows


def _beside(metas: str, attributed: int) -> str:
    """Meta's own figure, as it was typed in, beside ours."""
    if not (metas.isascii() and metas.isdigit() and len(metas) < 10):
        return ""
    n, more = int(metas), int(metas) - attributed
    if not more:
        return f"Meta shows {n:,}, as many as are attributed here."
    word = "more" if more > 0 else "fewer"
    return f"Meta shows {n:,}: {abs(more):,} {word} than the {attributed:,} that are attributed here."


def _plot(bar: Bar, store: StoreConfig, pixel: str, lines: Sequence[Line], most: int) -> Markup:
    """Each day's orders by class, in percent, with the line that the accuracy should reach."""
    zone = zone_of(store.timezone) or bar.zone
    steps = steps_of(bar.days, zone, most, hours=False)
    moments = [(days.begin(date.fromisoformat(line.day), zone), line) for line in lines]
    columns = {name: steps.add_up((at, getattr(line, name)) for at, line in moments) for name in _PARTS}
    drawn = []
    for i, label in enumerate(steps.labels):
        counts = {name: columns[name][i] for name in _PARTS}
        whole = sum(counts.values())
        shares = tuple(100 * n / whole if whole else 0 for n in counts.values())
        said = ", ".join(f"{n:,.0f} {_NAMES[name]}" for name, n in counts.items() if n) or "no orders"
        first, _, last = steps.ranges[i].partition("..")
        one = {"pixel": pixel, "day": first} if first == last else {}
        span = bar.range if one else steps.ranges[i]
        address = bar.address("/reconcile", **{"shop": store.id, "range": span, **one})
        drawn.append(Step(label, shares, f"{label}: {said}", address=address))
    name = bar.shops.get(store.id, store.id)
    classes = [f"is-{kind}" for kind in _PARTS]
    return over_time(
        drawn,
        f"{name}: each {steps.unit}'s orders by what became of them",
        f"percent of the {steps.unit}'s orders",
        classes,
        goal=GOAL_PERCENT,
        top=100,
    )


def _day(bar: Bar, store: StoreConfig, line: Line) -> dict[str, Any]:
    return {
        "day": line.day,
        "address": bar.address("/reconcile", shop=store.id, pixel=line.pixel, day=line.day),
        "currency": line.currency,
        "orders": words.number(line.orders),
        "counts": [words.number(getattr(line, name)) if getattr(line, name) else "–" for name in CLASSES],
        "accuracy": _accuracy(line),
        "low": line.accuracy is not None and line.accuracy < GOAL_PERCENT,
        "basis": line.basis,
    }


def _listed(day: str, only: str) -> str:
    """What list of orders is asked for, in words; empty: none."""
    return f"Orders of {day}" if day else f"The newest {_LISTED} never told to us" if only else ""


async def _orders(
    desk: Desk, bar: Bar, store: StoreConfig, pixel: str, day: str, only: str
) -> list[report.ShopOrderLine]:
    """A day's, those first that Meta does not have; or the newest that nobody told us of."""
    if day:
        return await report.orders_of_day(desk.reader, store, pixel, day, _LISTED)
    span = bar.days.span(zone_of(store.timezone) or bar.zone)  # the shop's own days, as the waterfall has
    return await report.missing(desk.reader, store, *span, _LISTED) if only else []


def _lines(found: Sequence[report.ShopOrderLine], ids: PublicIds, bar: Bar) -> list[dict[str, Any]]:
    return [
        {
            "order": one.order,
            "at": bar.moment(one.at),
            "status": one.status or "–",
            "value": words.money(one.value, one.currency) if one.value is not None else "–",
            "state": Word(_NAMES[one.group], _TONES.get(one.group, "")),
            "reason": one.reason,
            "conversion": ids.public("conv", one.conversion) if one.conversion is not None else "",
        }
        for one in found
    ]
