"""What Meta was asked and what it said: how each pixel stands, what was sent when, how fast, and why some was not."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any, Final

from litestar import Response

from collector.console import glossary, meta_codes, words
from collector.console.bar import Asked, Bar, day_text, read
from collector.console.shell import Desk, Word, delivery_word, page
from collector.console.standing import pixel_lines
from collector.console.steps import MOST, Steps, steps_of
from collector.console.timeplots import Curve, Step, curves, over_time
from collector.core.capi.parts import part_of
from collector.core.days import day_of
from collector.storage.reports import delivery, kept
from collector.storage.reports.kept import Delivered, Waited

_PAGE: Final = 50
_MOST_OF_SEVERAL: Final = 16  # columns of each plot where there are several: a page has 60 KB
_DRAWN: Final = 4
_TONES: Final = {"sent": "good", "in_flight": "", "throttled": "warn", "retry": "warn"}
# The parts of plot B, from below; who is held or left out on purpose was not on its way.
PARTS: Final = ("sent", "doubt", "waiting", "refused", "expired")
_NAMES: Final = {part: part for part in PARTS} | {"doubt": "sent again after doubt"}


async def delivery_page(desk: Desk, asked: Asked, before: str) -> Response[bytes]:
    """The page. `before`: a request's number, before which the list of requests goes on."""
    bar, now = await read(desk, asked), desk.clock()
    lines, notes = await pixel_lines(desk, bar, now)
    steps = steps_of(bar.days, bar.zone, MOST if len(lines) == 1 else _MOST_OF_SEVERAL)
    fates = await kept.deliveries_by_step(desk.reader, bar.span, bar.event, steps.begins)
    waits = await kept.waits_by_step(desk.reader, bar.span.until, steps.begins)
    requests = await delivery.requests(desk.reader, before=int(before) if before.isdigit() else None, limit=_PAGE)
    causes, ids = await delivery.causes(desk.reader, bar.span, bar.event), await desk.ids()
    return page(
        "delivery.html",
        title="Delivery",
        here="/delivery",
        bar=bar,
        refresh=0 if before else 30,
        notes=notes,
        pixels=lines,
        mode=desk.config.meta.mode,
        plots=[_plots(bar, name, steps, fates, waits) for name in [line["name"] for line in lines][:_DRAWN]],
        undrawn=max(0, len(lines) - _DRAWN),
        parts=[(part, _NAMES[part], glossary.title(part)) for part in PARTS],
        causes=[_cause(cause, bar, ids.public("conv", cause.example)) for cause in causes],
        looked=words.number(delivery.CAUSES_FROM),
        requests=[_request(r, now, bar) for r in requests if not bar.shop or r.pixel in bar.chosen_pixels],
        older=requests[-1].id if len(requests) == _PAGE else "",
        opened=bool(before),
        title_waits=glossary.title("wait", bar.said),
    )


def _plots(bar: Bar, pixel: str, steps: Steps, fates: Sequence[Delivered], waits: Sequence[Waited]) -> dict[str, Any]:
    own = [fate for fate in fates if fate.pixel == pixel]
    by: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for fate in own:
        by[part_of(fate.state, fate.doubt)].append((fate.begin, fate.n))
    columns = {part: steps.add_up(by[part]) for part in PARTS}
    whole = {part: int(sum(values)) for part, values in columns.items()}
    drawn = [_step(bar, steps, i, {part: columns[part][i] for part in PARTS}) for i in range(len(steps.begins))]
    said = ", ".join(f"{n:,} {_NAMES[part]}" for part, n in whole.items() if n) or "none"
    shop, unit = bar.whose(pixel), "orders" if bar.event == "Purchase" else bar.event
    return {
        "shop": shop,
        "pixel": pixel,
        "any": any(whole.values()),
        "sums": [(part, _NAMES[part], words.number(n)) for part, n in whole.items() if n],
        "svg": over_time(
            drawn,
            f"{shop}: {said}",
            unit,
            [f"is-{part}" for part in PARTS],
        ),
        **_waits(steps, [w for w in waits if w.pixel == pixel], shop),
    }


def _step(bar: Bar, steps: Steps, i: int, parts: dict[str, float]) -> Step:
    said = ", ".join(f"{n:,.0f} {_NAMES[part]}" for part, n in parts.items() if n) or "none"
    address = bar.address("/orders" if bar.days.length == 1 else "/delivery", range=steps.ranges[i])
    return Step(steps.labels[i], tuple(parts.values()), f"{steps.labels[i]}: {said}", address=address)


def _waits(steps: Steps, waits: Sequence[Waited], shop: str) -> dict[str, Any]:
    """Plot C: the median, and what 95 of 100 stay under."""
    by: dict[int, Counter[int]] = defaultdict(Counter)
    whole: Counter[int] = Counter()
    for wait in waits:
        by[wait.begin][wait.step] += wait.n
        whole[wait.step] += wait.n
    half = [quantile(by[at], 0.5) for at in steps.begins]
    most = [quantile(by[at], 0.95) for at in steps.begins]
    p50, p95 = quantile(whole, 0.5), quantile(whole, 0.95)
    lines = [Curve("p95", most), Curve("p50", half)]
    return {
        "p50": words.span(p50) if p50 is not None else "–",
        "p95": words.span(p95) if p95 is not None else "–",
        "waits": curves(steps.labels, lines, f"{shop}: {_within(whole)}") if whole else "",
    }


def _within(counts: Counter[int]) -> str:
    half, most = quantile(counts, 0.5), quantile(counts, 0.95)
    if half is None or most is None:
        return "none"
    return f"half within {words.span(half)}, 95 of 100 within {words.span(most)}"


def quantile(counts: Counter[int], share: float) -> float | None:
    """Seconds within which this share of the events was taken, by the steps of `wait_step`; None of nothing."""
    wanted, seen = share * counts.total(), 0
    for step, n in sorted(counts.items()):
        seen += n
        if seen >= wanted and n:
            return float(2 ** (step / 8)) / 1000
    return None


def _cause(cause: delivery.Cause, bar: Bar, example: str) -> dict[str, Any]:
    return {
        "shop": bar.whose(cause.pixel),
        "state": delivery_word(cause.state),
        "code": meta_codes.shown(cause.code, cause.subcode, cause.reason),
        "n": words.number(cause.n),
        "address": _orders_of(cause, bar),
        "first": day_text(day_of(cause.first, bar.zone), bar.today),
        "last": day_text(day_of(cause.last, bar.zone), bar.today),
        "ours": meta_codes.sentence(cause.code, cause.subcode, cause.reason),
        "metas": cause.reason,
        "example": example,
        "order": cause.order or "an example",
    }


def _orders_of(cause: delivery.Cause, bar: Bar) -> str:
    """Where the orders of one cause stand; other events have no list of their own."""
    if bar.event != "Purchase" or not cause.reason:
        return ""
    return bar.address("/orders", shop=bar.pixels.get(cause.pixel, bar.shop), reason=cause.reason)


def _request(r: delivery.Request, now: int, bar: Bar) -> dict[str, Any]:
    return {
        "when": words.ago(r.at, now),
        "pixel": bar.whose(r.pixel),
        "events": words.number(r.events),
        "outcome": Word(r.outcome.replace("_", " "), _TONES.get(r.outcome, "bad")),
        "http": r.http_status or "–",
        "code": meta_codes.shown(r.code, r.subcode),
        "trace": r.trace_id or "–",
        "took": f"{r.took_ms:,} ms" if r.took_ms is not None else "–",
        "message": r.message or "",
    }
