"""Which campaign or page earned the orders under another credit model: what `collector report attribution` says."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from datetime import timedelta
from decimal import Decimal
from typing import Any, Final, cast

from litestar import Response
from msgspec import structs

from collector.console import words
from collector.console.bar import Asked, Bar, Unknown, read
from collector.console.campaigns import DAYS, SHARED, kinds
from collector.console.shell import Desk, page
from collector.core.credit import CREDIT_MODELS
from collector.core.days import day_of
from collector.errors import TooSlow
from collector.storage.reports.attribution import UNATTRIBUTED, WINDOWS, By, Line, Question, attribution, newest_from
from collector.storage.reports.digest import BY
from collector.storage.reports.kept import CUSTOM

_SHOWN: Final = 250
_MARKUP_BYTES: Final = 120  # of a line
_AT_ONCE: Final = 6_000  # orders of which a page reads every journey: no sums hold it
_PATIENCE_SECONDS: Final = 8.0  # where somebody asks for all of them


async def credit(desk: Desk, asked: Asked, by: str, model: str, window: str, every: str = "") -> Response[bytes]:
    """The page. `window`: days, as the report offers them; the matching window where it is not said.

    Of more orders than can be read while somebody waits, the newest whole days are shown, unless `every` is asked for.
    """
    bar = await read(desk, asked)
    question = _question(desk, bar, by, model or "last", window)
    shown = bar if every else await _at_once(desk, bar, question)
    question = structs.replace(question, since=shown.span.since)
    command = _command(bar, by, question, window)
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            report = await attribution(desk.reader, question)
    except TimeoutError:
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
        shown=shown,
        every=bar.address("/campaigns", by=by, model=question.model, window=window, every=1),
        by=by,
        model=model,
        window=window,
        kinds=kinds(bar, by, model or "last", window),
        windows=[_window(bar, by, question, days) for days in WINDOWS],
        level=SHARED[by].capitalize() if by in SHARED else by.capitalize(),
        command=command,
        days=by in DAYS,
        lines=rows,
        more=max(0, len(ordered) - len(rows)),
        whole=_row("All", report.lines, report.orders),
    )


async def _at_once(desk: Desk, bar: Bar, question: Question) -> Bar:
    """The newest whole days of the bar's that have no more orders than a page reads; one day that has some at least."""
    found = await newest_from(desk.reader, question, _AT_ONCE)
    if found is None:
        return bar
    too_many, newest = (day_of(at, bar.zone) for at in found)
    first = too_many if too_many == newest else too_many + timedelta(1)
    return bar._replace(days=bar.days._replace(first=min(first, bar.days.last)))


def _command(bar: Bar, by: str, question: Question, window: str) -> str:
    """The command that gives the same figures."""
    said = [f"collector report attribution {_said(by)} --model {question.model}"]
    said += [f"--window {window}"] if window else []
    said += [f"--event {question.event_type}"] if question.event_type != "Purchase" else []
    said += [f"--store {bar.shop}"] if bar.shop else []
    return " ".join([*said, f"--since {words.iso(question.since)} --until {words.iso(question.until)}"])


def _said(by: str) -> str:
    """The grouping in the command's words."""
    day = {"day": " --day-of order", "click-day": " --day-of click"}
    return f"--by {'day' if by in day else by}{day.get(by, '')}"


def _window(bar: Bar, by: str, question: Question, days: int) -> tuple[str, str, bool]:
    address = bar.address("/campaigns", by=by, model=question.model, window=days)
    return f"within {days} days" if days > 1 else "within a day", address, days == question.window_days


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
