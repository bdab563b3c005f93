"""Is it working, what did it sell, what must I do now? The first page."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from decimal import Decimal
from statistics import median
from typing import Any, Final, NamedTuple

from litestar import Response

from collector.console import glossary, words
from collector.console.bar import Asked, Bar, Unknown, read
from collector.console.checklist import checklist
from collector.console.shell import Desk, Note, page
from collector.console.standing import dead, filling, lost, pixel_lines, processes, unread
from collector.console.steps import Steps, steps_of
from collector.console.timeplots import Mark, Step, over_time, spark
from collector.core import times
from collector.core.capi.parts import PARTS, part_of
from collector.storage.ground import audit
from collector.storage.reports import delivery, insights, kept, purchases
from collector.storage.reports.kept import Delivered, Sale, Span

AIM: Final = 98.0  # percent


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


async def figures(desk: Desk, span: Span, event: str, begins: Sequence[int]) -> Figures:
    """What was sold and clicked in a span, by the columns of its plot."""
    sales = await kept.sales_by_step(desk.reader, span, event, begins)
    return Figures(sales, await kept.clicks_by_step(desk.reader, span, begins))


async def today(desk: Desk, asked: Asked, plot: str = "") -> Response[bytes]:
    """The page. `plot`: the currency whose value is drawn; the events' number where it is empty."""
    bar, now = await read(desk, asked), desk.clock()
    if plot and not _CURRENCY.fullmatch(plot):
        raise Unknown(f"There is no plot of {plot[:60]!r}. Say nothing, or a currency such as EUR.")
    own = await figures(desk, bar.span, bar.event, steps_of(bar.days, bar.zone).begins)
    past = await _before(desk, bar)
    lines, notes = await pixel_lines(desk, bar, now)
    alive, silent = await processes(desk, now)
    delivered = await kept.deliveries(desk.reader, bar.span, bar.event)
    stand = order_bar(bar, delivered, own.orders)
    costs = unread(await insights.state(desk.reader, desk.config), now)
    trouble = [*lost(desk), *notes, *silent, *await filling(desk, now), *await dead(desk, now), *costs]
    return page(
        "today.html",
        title="Today",
        here="/",
        bar=bar,
        refresh=30,
        notes=trouble,
        light=_light(trouble, own, stand),
        first_steps=await checklist(desk) if not own.orders else [],
        order_bar=stand,
        refused=sum((await kept.refusals(desk.reader, bar.span)).values()),
        tiles=await _tiles(desk, bar, own, past),
        plot=_plot(bar, own, past, await _happened(desk, bar), plot),
        plotted={"plot": plot} if plot else {},
        plots=_choices(bar, own, plot),
        pixels=lines,
        processes=alive,
        say=words,
    )


async def _before(desk: Desk, bar: Bar) -> Figures | None:
    if bar.past is None or bar.past_span is None:
        return None
    return await figures(desk, bar.past_span, bar.event, steps_of(bar.past, bar.zone).begins)


def _light(notes: list[Note], own: Figures, accuracy: dict[str, Any]) -> tuple[str, str]:
    """A light and a sentence."""
    if bad := sum(note.level == "bad" for note in notes):
        return "bad", "Act: one thing needs you." if bad == 1 else f"Act: {bad} things need you."
    if notes:
        return "warn", "Look: something is not as usual."
    if accuracy["parts"] and not accuracy["reached"]:
        return "warn", f"Look: {accuracy['short']} did not reach Meta."
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
        "short": f"{words.number(whole - good)} of {words.number(whole)}",
        "reached": bool(whole) and 100 * good / whole >= AIM,
        "title": glossary.title("accuracy", bar.said),
    }


def _change(now: float, before: float | None) -> tuple[str, str]:
    """The change in percent, and its direction."""
    if before is None:
        return "", ""
    if not before:
        return ("none before" if now else ""), ""
    change = 100 * (now - before) / before
    if abs(change) < 0.5:
        return "as before", ""
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
    lags = await purchases.lags(desk.reader, bar.span)
    return words.seconds(max(median(lags), 0) / 1000) if lags else "–"


_CURRENCY: Final = re.compile(r"[A-Z]{3}")
_UNITS: Final = 10_000  # of a currency's unit, that values are kept in
_MARKS: Final = 12
_ACTS: Final = {
    "release": "from here on release",
    "reload": "settings read again",
    "restore": "a backup put back",
    "clock accept": "the clock accepted",
}


async def _happened(desk: Desk, bar: Bar) -> list[tuple[int, str]]:
    """What a person did, and since when a pixel stands still: what may explain a bend of the plot."""
    found = []
    for entry in audit.newest(desk.config.storage.data_dir):
        said = next((words_ for act, words_ in _ACTS.items() if entry.action.startswith(act)), None)
        if said is not None and (at := times.parse(entry.at)) is not None:
            version = str(entry.about.get("version", ""))[:40]
            found.append((at, f"{said} {version}".strip() if version else f"{said} by {entry.who}"))
    for pixel in await delivery.pixels(desk.reader):
        mine = not bar.shop or pixel.name in bar.chosen_pixels
        if mine and pixel.state != "open" and pixel.since is not None:
            found.append((pixel.since, f"{bar.whose(pixel.name)}: delivery {pixel.state} from here on"))
    return sorted(one for one in found if bar.span.since <= one[0] < bar.span.until)[-_MARKS:]


def _choices(bar: Bar, own: Figures, plot: str) -> list[tuple[str, str, bool]]:
    """What may be drawn: the number, or the value in each currency. None where no value was told."""
    codes = sorted({*own.revenue(), *filter(None, (plot,))})
    found = [("number", bar.address("/"), not plot)]
    found += [(f"value in {code}", bar.address("/", plot=code), code == plot) for code in codes]
    return found if codes else []


class _Drawn(NamedTuple):
    """What a plot draws of a sale, and how a sum of it is said: the number, or the value in one currency."""

    code: str

    def of(self, sale: Sale) -> float:
        """Whole ten-thousandths of a currency's unit, which add up exactly."""
        if not self.code:
            return sale.n
        return float(int(sale.value * _UNITS)) if sale.currency == self.code else 0.0

    def drawn(self, n: float) -> float:
        return n / _UNITS if self.code else n

    def said(self, n: float) -> str:
        return words.money(Decimal(int(n)) / _UNITS, self.code) if self.code else f"{n:,.0f}"


def _plot(
    bar: Bar, own: Figures, past: Figures | None, happened: list[tuple[int, str]], code: str = ""
) -> dict[str, Any]:
    steps, what = steps_of(bar.days, bar.zone), _Drawn(code)
    parts: dict[bool, list[tuple[int, float]]] = defaultdict(list)
    for sale in own.sales:
        parts[sale.tier > 0].append((sale.key, what.of(sale)))
    with_click, without = steps.add_up(parts[True]), steps.add_up(parts[False])
    line = _past_line(bar, past, len(steps.begins), what)
    columns = [
        Step(
            label,
            (what.drawn(with_click[i]), what.drawn(without[i])),
            f"{label}: {what.said(with_click[i] + without[i])}, {what.said(with_click[i])} of them attributed"
            + (f"; {what.said(line[i])} before" if line else ""),
            what.drawn(line[i]) if line else None,
            _leads_to(bar, steps, i, code),
        )
        for i, label in enumerate(steps.labels)
    ]
    name = "Orders" if bar.event == "Purchase" else bar.event
    name = f"{'Revenue' if bar.event == 'Purchase' else f'Value of {name}'} in {code}" if code else name
    whole = sum(with_click) + sum(without)
    told = [(at, f"{bar.moment(at)}: {text}") for at, text in happened]
    marks = [Mark(steps.place_of(at, bar.span.until), text) for at, text in told]
    return {
        "name": f"{name} by {steps.unit}",
        "svg": over_time(
            columns,
            f"{name}, {bar.said}: {what.said(whole)} in all; the table below has the figures",
            code or name.lower(),
            marks=marks,
        ),
        "marks": [text for _, text in told],
        "rows": [
            (label, what.said(with_click[i] + without[i]), what.said(with_click[i]))
            for i, label in enumerate(steps.labels)
        ],
        "compared": bool(line),
    }


def _leads_to(bar: Bar, steps: Steps, i: int, code: str) -> str:
    """An hour leads to its orders, a day to its hours."""
    if steps.unit == "hour":
        return bar.address("/orders", range=steps.ranges[i], hour=steps.labels[i][:2])
    return bar.address("/", range=steps.ranges[i], plot=code)


def _past_line(bar: Bar, past: Figures | None, length: int, what: _Drawn) -> list[float]:
    """The comparison's columns, laid under this span's."""
    if past is None or bar.past is None:
        return []
    line = steps_of(bar.past, bar.zone).add_up((s.key, what.of(s)) for s in past.sales)
    return (line + [0.0] * length)[:length]
