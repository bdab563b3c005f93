"""Which campaign or page earned the orders under another credit model: what `collector report attribution` says."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from decimal import Decimal
from typing import Any, Final, cast

from litestar import Response

from collector.console import words
from collector.console.bar import Asked, Bar, Unknown, read
from collector.console.campaigns import DAYS, SHARED, kinds
from collector.console.shell import Desk, page
from collector.core.credit import CREDIT_MODELS
from collector.storage.reports.attribution import UNATTRIBUTED, WINDOWS, By, Line, Question, attribution
from collector.storage.reports.digest import BY
from collector.storage.reports.kept import CUSTOM
from collector.storage.reports.reader import TooSlow

_SHOWN: Final = 250
_MARKUP_BYTES: Final = 120  # of a line
_PATIENCE_SECONDS: Final = 8.0  # every order's journey is read: no sums hold it


async def credit(desk: Desk, asked: Asked, by: str, model: str, window: str) -> Response[bytes]:
    """The page. `window`: days, as the report offers them; the matching window where it is not said."""
    bar = await read(desk, asked)
    question = _question(desk, bar, by, model or "last", window)
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            report = await attribution(desk.reader, question)
    except TimeoutError:
        command = f"collector report attribution {_said(by)} --model {question.model}"
        raise TooSlow(f"so many orders take longer than a page may; shorten the days, or run {command}") from None
    names: dict[str, list[Line]] = defaultdict(list)
    for line in report.lines:
        names[line.label].append(line)
    ordered = sorted(names, key=lambda name: (name == UNATTRIBUTED, -sum(x.conversions for x in names[name]), name))
    if by in DAYS:
        ordered = sorted(names, reverse=True)
    rows = [_row(name, names[name], report.orders) for name in ordered[:_SHOWN]]
    rows = rows[: words.fitting(rows, _MARKUP_BYTES)]
    return page(
        "credit.html",
        title="Campaigns",
        here="/campaigns",
        bar=bar,
        by=by,
        model=model,
        window=window,
        kinds=kinds(bar, by, model or "last", window),
        windows=[_window(bar, by, question, days) for days in WINDOWS],
        level=SHARED[by].capitalize() if by in SHARED else by.capitalize(),
        command=f"collector report attribution {_said(by)}",
        days=by in DAYS,
        lines=rows,
        more=max(0, len(ordered) - len(rows)),
        whole=_row("All", report.lines, report.orders),
    )


def _said(by: str) -> str:
    """The grouping in the command's words."""
    day = {"day": " --day-of order", "click-day": " --day-of click"}
    return f"--by {'day' if by in day else by}{day.get(by, '')}"


def _window(bar: Bar, by: str, question: Question, days: int) -> tuple[str, str, bool]:
    address = bar.address("/campaigns", by=by, model=question.model, window=days)
    return f"{days} days" if days > 1 else "1 day", address, days == question.window_days


def _question(desk: Desk, bar: Bar, by: str, model: str, window: str) -> Question:
    if by not in (*BY, *SHARED):
        raise Unknown(f"There is no grouping {by[:60]!r}. Known are: {', '.join((*BY, *SHARED))}.")
    if model not in CREDIT_MODELS:
        raise Unknown(f"There is no credit model {model[:60]!r}. Known are: {', '.join(CREDIT_MODELS)}.")
    if window and window not in map(str, WINDOWS):
        raise Unknown(f"There is no window {window[:60]!r}. Known are: {', '.join(map(str, WINDOWS))} days.")
    if bar.event == CUSTOM:
        raise Unknown("Custom events are shared out by name: collector report attribution --event NAME.")
    return Question(
        model=model,
        by=cast("By", "day" if by in DAYS else by),
        day_of="click" if by == "click-day" else "order",
        since=bar.span.since,
        until=bar.span.until,
        window_days=int(window) if window else desk.config.matching.window_days,
        event_type=bar.event,
        store=(bar.stores[0] if bar.stores else -1) if bar.shop else None,
    )


def _row(name: str, lines: list[Line], orders: int) -> dict[str, Any]:
    value: dict[str, Decimal] = defaultdict(Decimal)
    for line in lines:
        value[line.currency] += line.value
    n = sum(line.conversions for line in lines)
    return {
        "name": name,
        "orders": f"{n:,.2f}".rstrip("0").rstrip("."),
        "share": words.percent(n, orders),
        "value": [words.money(amount, code) for code, amount in sorted(value.items()) if code] or ["–"],
    }
