"""Did every order of the shop arrive? Its own list by day, and of a day its orders, each with what became of it."""

from __future__ import annotations

from typing import Any, Final

from litestar import Response

from collector.config import StoreConfig
from collector.console import plots
from collector.console.shell import Desk, page
from collector.core import times
from collector.core.shops.counted import CLASSES, DAYS, Line
from collector.storage.reports import reconcile as report
from collector.storage.reports.shop_ways import ways

_LINE_PERCENT: Final = 98  # what a shop should reach


async def reconcile_page(desk: Desk, store: str, pixel: str, day: str) -> Response[bytes]:
    """The days of every store, the newest first; with `store`, `pixel` and `day`, that day's orders too."""
    now = desk.clock()
    lines = await report.sums(desk.reader, desk.config, now - DAYS * 86_400_000, now)
    chosen = desk.config.store_by_id(store)
    return page(
        "reconcile.html",
        title="Reconcile",
        here="/reconcile",
        lines=[_row(line) for line in sorted(lines, key=lambda line: (line.day, line.store), reverse=True)],
        classes=CLASSES,
        goal=_LINE_PERCENT,
        chosen=day if chosen is not None else "",
        orders=await _orders(desk, chosen, pixel, day) if chosen is not None else [],
        ways=await ways(desk.reader, desk.config, now),
    )


def _row(line: Line) -> dict[str, Any]:
    return {
        "store": line.store,
        "pixel": line.pixel,
        "day": line.day,
        "currency": line.currency,
        "orders": line.orders,
        "counts": [getattr(line, name) for name in CLASSES],
        "accuracy": "–" if line.accuracy is None else f"{line.accuracy:.2f} %",
        "low": line.accuracy is not None and line.accuracy < _LINE_PERCENT,
        "bar": plots.share(line.sent + line.held + line.ignored, line.orders, f"{line.day}: {line.accuracy} %"),
        "basis": line.basis,
    }


async def _orders(desk: Desk, store: StoreConfig, pixel: str, day: str) -> list[dict[str, Any]]:
    ids = await desk.ids()
    found = await report.orders_of_day(desk.reader, store, pixel, day)
    return [
        {
            "order": one.order,
            "at": times.text(one.at),
            "status": one.status or "–",
            "value": f"{one.value} {one.currency}" if one.value is not None else "–",
            "group": one.group,
            "reason": one.reason,
            "conversion": ids.public("conv", one.conversion) if one.conversion is not None else "",
        }
        for one in found
    ]
