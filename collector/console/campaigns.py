"""Which campaigns bring clicks, and what became of them."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any, Final

from litestar import Response

from collector.console import plots, words
from collector.console.choice import SPANS, choose, offered
from collector.console.shell import Desk, page
from collector.storage.reports.folds import Sums

_SHOWN: Final = 100
Name = tuple[str, str]


async def campaigns(desk: Desk, store: str, days: int) -> Response[bytes]:
    """Clicks by source and campaign, with the conversions they are credited with."""
    totals, choice = await desk.fresh_totals(), await choose(desk, store, offered(days))
    clicks, orders = totals.campaigns(choice.since)
    by_name: Counter[Name] = Counter()
    for key, n in clicks.items():
        by_name[key.source, key.campaign] += n if key.store in choice.wanted else 0
    money: dict[Name, dict[str, Sums]] = defaultdict(lambda: defaultdict(Sums))
    for key, by_currency in orders.items():
        for code, sums in by_currency.items() if key.store in choice.wanted else ():
            money[key.source, key.campaign][code].add(sums)
    names = sorted({*(+by_name), *money}, key=lambda name: (-by_name[name], name))
    most = max(by_name.values(), default=0)
    return page(
        "campaigns.html",
        title="Campaigns",
        here="/campaigns",
        choice=choice,
        spans=SPANS,
        lines=[_line(name, by_name[name], money.get(name, {}), most) for name in names[:_SHOWN]],
        more=max(0, len(names) - _SHOWN),
        all=words.number(sum(by_name.values())),
    )


def _line(name: Name, clicks: int, money: dict[str, Sums], most: int) -> dict[str, Any]:
    orders = sum(s.n for s in money.values())
    values = [words.money(s.attributed_value, code) for code, s in sorted(money.items()) if code]
    return {
        "source": name[0],
        "campaign": name[1],
        "clicks": words.number(clicks),
        "bar": plots.share(clicks, most, f"{name[1]}: {clicks:,} clicks"),
        "orders": words.number(orders),
        "rate": words.percent(orders, clicks),
        "value": values or ["–"],
    }
