"""Is it working, what did it sell, what must I do now? The first page."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from decimal import Decimal
from statistics import median
from typing import Any, Final, NamedTuple

from litestar import Response

from collector.console import glossary, words
from collector.console.bar import Asked, Bar, read
from collector.console.checklist import checklist
from collector.console.shell import Desk, Note, page
from collector.console.standing import dead, lost, pixel_lines, processes
from collector.console.steps import steps_of
from collector.console.timeplots import Step, over_time, spark
from collector.core.capi.states import CapiState
from collector.storage.reports import kept
from collector.storage.reports.kept import Delivered, Sale, Span

AIM: Final = 98.0  # percent
_LAG_SQL: Final = """
SELECT c.ts - k.ts FROM conversion c JOIN click k ON k.id = c.click
 WHERE c.event_type = 'Purchase' AND c.ts >= ? AND c.ts < ? AND c.store IN ({}) AND c.flags & 145 = 0
 ORDER BY c.ts DESC LIMIT 5000"""

# The parts of the order bar, in its order: key, name, tone.
PARTS: Final = (
    ("sent", "sent", "good"),
    ("doubt", "sent, in doubt", "good"),
    ("waiting", "waiting", "warn"),
    ("held", "held", "warn"),
    ("on purpose", "left out on purpose", ""),
    ("refused", "refused by Meta", "bad"),
    ("expired", "expired", "bad"),
)
_PART_OF: Final = {
    CapiState.SENT: "sent",
    CapiState.QUEUED: "waiting",
    CapiState.RETRYING: "waiting",
    CapiState.HELD: "held",
    CapiState.REJECTED: "refused",
    CapiState.EXPIRED: "expired",
}


def part_of(state: int, doubt: bool) -> str:
    """Which part of the order bar a delivery is."""
    if state == CapiState.SENT and doubt:
        return "doubt"
    return _PART_OF.get(CapiState(state), "on purpose") if state in list(CapiState) else "on purpose"


class Figures(NamedTuple):
    """The sums of one span."""

    sales: list[Sale]
    clicks: dict[int, int]

    @property
    def orders(self) -> int:
        return sum(s.n for s in self.sales)

    @property
    def attributed(self) -> int:
        return sum(s.n for s in self.sales if s.tier)

    @property
    def all_clicks(self) -> int:
        return sum(self.clicks.values())

    def revenue(self) -> dict[str, tuple[Decimal, Decimal]]:
        """All and attributed, by currency."""
        out: dict[str, tuple[Decimal, Decimal]] = {}
        for sale in self.sales:
            whole, part = out.get(sale.currency, (Decimal(0), Decimal(0)))
            out[sale.currency] = (whole + sale.value, part + (sale.value if sale.tier else Decimal(0)))
        return {code: sums for code, sums in sorted(out.items()) if code}


async def figures(desk: Desk, span: Span, event: str) -> Figures:
    """What was sold and clicked in a span."""
    sales = await kept.sales_by_quarter(desk.reader, span, event)
    return Figures(sales, await kept.clicks_by_quarter(desk.reader, span))


async def today(desk: Desk, asked: Asked) -> Response[bytes]:
    """The page."""
    bar, now = await read(desk, asked), desk.clock()
    own = await figures(desk, bar.span, bar.event)
    past = await figures(desk, bar.past_span, bar.event) if bar.past_span else None
    lines, notes = await pixel_lines(desk, now)
    alive, silent = await processes(desk, now)
    delivered = await kept.deliveries(desk.reader, bar.span, bar.event, sales=True)
    trouble = [*lost(desk), *notes, *silent, *await dead(desk, now)]
    return page(
        "today.html",
        title="Today",
        here="/",
        bar=bar,
        refresh=30,
        notes=trouble,
        light=_light(trouble, own),
        first_steps=await checklist(desk) if not own.orders else [],
        order_bar=order_bar(bar, delivered, own.orders),
        refused=sum((await kept.refusals(desk.reader, bar.span)).values()),
        tiles=await _tiles(desk, bar, own, past),
        plot=_plot(bar, own, past),
        pixels=lines,
        processes=alive,
        say=words,
    )


def _light(notes: list[Note], own: Figures) -> tuple[str, str]:
    """A light and a sentence."""
    if any(note.level == "bad" for note in notes):
        return "bad", "Act: something needs you."
    if notes:
        return "warn", "Look: something is not as usual."
    return ("good", "All is well.") if own.orders or own.clicks else ("", "Nothing has come in in these days.")


def order_bar(bar: Bar, delivered: list[Delivered], orders: int) -> dict[str, Any]:
    """Where the orders stand with Meta; with several pixels an order counts for each."""
    counts: Counter[str] = Counter()
    for row in delivered:
        counts[part_of(row.state, row.doubt)] += row.n
    whole = sum(counts.values())
    good = counts["sent"] + counts["doubt"] + counts["on purpose"]
    x, parts = 0.0, []
    for key, name, tone in PARTS:
        if n := counts[key]:
            width = 100 * n / whole
            parts.append(
                {
                    "key": key.replace(" ", "-"),
                    "name": name,
                    "tone": tone or "plain",
                    "n": words.number(n),
                    "share": words.percent(n, whole),
                    "title": glossary.title(key, bar.said),
                    "address": bar.address("/orders", state=key.replace(" ", "_")),
                    "x": f"{x:.2f}",
                    "width": f"{width:.2f}",
                }
            )
            x += width
    return {
        "parts": parts,
        "whole": words.number(whole),
        "per_pixel": whole > orders,
        "accuracy": words.percent(good, whole),
        "reached": bool(whole) and 100 * good / whole >= AIM,
        "title": glossary.title("accuracy", bar.said),
    }


def _change(now: float, before: float | None) -> tuple[str, str]:
    """The change in percent, and its direction."""
    if before is None:
        return "", ""
    if not before:
        return ("none before" if now else "none before either"), ""
    change = 100 * (now - before) / before
    text = f"{change:+.0f} %" if change < 1000 else f"× {now / before:,.0f}"  # a percentage says little there
    return text, "up" if change > 0 else "down" if change < 0 else ""


async def _tiles(desk: Desk, bar: Bar, own: Figures, past: Figures | None) -> list[dict[str, Any]]:
    steps = steps_of(bar.days, bar.zone)
    orders = steps.add_up((sale.key, sale.n) for sale in own.sales)
    attributed = steps.add_up((sale.key, sale.n) for sale in own.sales if sale.tier)
    clicks = steps.add_up(own.clicks.items())
    word, name = ("orders", "Orders") if bar.event == "Purchase" else ("events", bar.event)
    share = words.percent(own.attributed, own.orders)
    part = f"{words.number(own.attributed)} of {words.number(own.orders)}"
    more_clicks = _change(own.all_clicks, past and past.all_clicks)
    before = f"{_rate(past)} before" if past and past.all_clicks else ""
    return [
        _tile(bar, word, name, [words.number(own.orders)], _change(own.orders, past and past.orders), orders),
        _revenue(bar, own, past),
        _tile(bar, "attributed", "Attributed", [share], (part, ""), attributed),
        _tile(bar, "clicks", "Clicks", [words.number(own.all_clicks)], more_clicks, clicks),
        _tile(bar, "rate", "Per 100 clicks", [_rate(own)], (before, ""), []),
        _tile(bar, "lag", "Click to order", [await _lag(desk, bar)], ("median", ""), []),
    ]


def _revenue(bar: Bar, own: Figures, past: Figures | None) -> dict[str, Any]:
    """The value by currency; a change only where there is one currency, for currencies are never added up."""
    money, earlier = own.revenue(), past.revenue() if past else {}
    change = ("Currencies are never added up", "") if len(money) > 1 else ("", "")
    if past and len(money) == 1:
        ((code, (whole, _)),) = money.items()
        change = _change(float(whole), float(earlier.get(code, (Decimal(0), Decimal(0)))[0]))
    big = [words.money(whole, code) for code, (whole, _) in money.items()] or ["–"]
    return _tile(bar, "revenue", "Revenue" if bar.event == "Purchase" else "Value", big, change, [])


def _tile(
    bar: Bar, word: str, name: str, big: list[str], change: tuple[str, str], line: Sequence[float]
) -> dict[str, Any]:
    text, level = change
    drawn = spark(line) if line else ""
    title = glossary.title(word, bar.said)
    return {"name": name, "big": big, "title": title, "change": text, "level": level, "spark": drawn}


def _rate(f: Figures | None) -> str:
    return f"{100 * f.orders / f.all_clicks:.1f}" if f and f.all_clicks else "–"


async def _lag(desk: Desk, bar: Bar) -> str:
    """The median time from click to order, of orders."""
    if bar.event != "Purchase" or not bar.stores:
        return "–"
    span = bar.span
    rows = await desk.reader.rows(_LAG_SQL.format(",".join(map(str, span.stores))), span.since, span.until)
    return words.seconds(max(median(row[0] for row in rows), 0) / 1000) if rows else "–"


def _plot(bar: Bar, own: Figures, past: Figures | None) -> dict[str, Any]:
    steps = steps_of(bar.days, bar.zone)
    parts: dict[bool, list[tuple[int, float]]] = defaultdict(list)
    for sale in own.sales:
        parts[sale.tier > 0].append((sale.key, sale.n))
    with_click, without = steps.add_up(parts[True]), steps.add_up(parts[False])
    line = _past_line(bar, past, len(steps.begins))
    columns = [
        Step(
            label,
            (with_click[i], without[i]),
            f"{label}: {with_click[i] + without[i]:,.0f}, {with_click[i]:,.0f} of them attributed"
            + (f"; {line[i]:,.0f} before" if line else ""),
            line[i] if line else None,
            bar.address("/orders" if len(steps.begins) == 1 or bar.days.length == 1 else "/", range=steps.ranges[i]),
        )
        for i, label in enumerate(steps.labels)
    ]
    name = "Orders" if bar.event == "Purchase" else bar.event
    whole = sum(with_click) + sum(without)
    return {
        "name": f"{name} by {'hour' if bar.days.length <= 2 else 'day' if bar.days.length <= 92 else 'week'}",
        "svg": over_time(
            columns, f"{name}, {bar.said}: {whole:,.0f} in all; the table below has the figures", name.lower()
        ),
        "rows": [
            (label, words.number(int(with_click[i] + without[i])), words.number(int(with_click[i])))
            for i, label in enumerate(steps.labels)
        ],
        "compared": bool(line),
    }


def _past_line(bar: Bar, past: Figures | None, length: int) -> list[float]:
    """The comparison's columns, laid under this span's."""
    if past is None or bar.past is None:
        return []
    line = steps_of(bar.past, bar.zone).add_up((s.key, s.n) for s in past.sales)
    return (line + [0.0] * length)[:length]
