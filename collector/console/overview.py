"""How is it going: the first page."""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from litestar import Response

from collector.console import plots, words
from collector.console.choice import choose
from collector.console.shell import Desk, Note, Word, page
from collector.core.capi.states import CapiState, kept_until
from collector.storage.ground import damage
from collector.storage.reports import delivery
from collector.storage.reports.folds import DAY_MS, ClickKey, ConversionKey, Sums
from collector.storage.reports.totals import Totals

_SILENT_MS: Final = 60_000
_DAYS: Final = 7
_MEND: Final = {
    "blocked": "Mend what Meta names: most often the token in the pixel's token file, else api_version or app_secret.",
    "failing": "Meta or the way to it has trouble. It is tried again, gently, until it answers.",
    "throttled": "Meta asked for a pause. The queue goes on by itself.",
}


async def overview(desk: Desk, store: str) -> Response[bytes]:
    """The overview, of one store or of all."""
    now = desk.clock()
    totals, choice = await desk.fresh_totals(), await choose(desk, store, _DAYS)
    clicks = {k: n for k, n in totals.click_hours(choice.since).items() if k.store in choice.wanted}
    sums = {k: s for k, s in totals.conversion_hours(choice.since).items() if k.store in choice.wanted}
    lines, notes = await pixel_lines(desk, now)
    processes, silent = await _processes(desk, now)
    return page(
        "overview.html",
        title="Overview",
        here="/",
        refresh=30,
        notes=[*_damage(desk), *notes, *silent, *await _dead(desk, now), *_counting(totals)],
        sentence=_sentence(desk, lines, await desk.last_success()),
        choice=choice,
        figures=_figures(clicks, sums, now // DAY_MS),
        revenue=_revenue(sums, now // DAY_MS),
        pixels=lines,
        processes=processes,
        size=_size(desk),
        kinds=_kinds(sums),
        **_week(clicks, sums, now),
    )


def _damage(desk: Desk) -> list[Note]:
    """What of acknowledged events is lost, until a person accepts it (D6)."""
    told = damage.told(Path(desk.config.storage.data_dir))
    mend = "Restore a backup, or go on without them by `collector damage accept`."
    return [Note("bad", told[0].upper() + told[1:], mend)] if told else []


async def _dead(desk: Desk, now: int) -> list[Note]:
    dead = await delivery.dead_since(desk.reader, now - DAY_MS)
    what = f"{words.number(dead)} events were refused or expired in the last 24 hours."
    return [Note("warn", what, "The delivery page has the reason of each.")] if dead else []


def _counting(totals: Totals) -> list[Note]:
    return [] if totals.complete else [Note("", "Still counting: the oldest days are not in the figures yet.")]


def _figures(clicks: dict[ClickKey, int], sums: dict[ConversionKey, Sums], today: int) -> list[dict[str, str]]:
    """Clicks, conversions, share and what was kept apart: today, and the week below it."""

    def counts(first_day: int) -> tuple[int, int, int, int]:
        good = sum(n for k, n in clicks.items() if not k.kept_apart and k.hour // 24 >= first_day)
        apart = sum(n for k, n in clicks.items() if k.kept_apart and k.hour // 24 >= first_day)
        chosen = [s for k, s in sums.items() if k.hour // 24 >= first_day and k.event_type == "Purchase"]
        return good, sum(s.n for s in chosen), sum(s.attributed for s in chosen), apart

    day, week = counts(today), counts(0)
    say = words.number
    return [
        {"name": "Clicks today", "today": say(day[0]), "week": f"{say(week[0])} in 7 days"},
        {"name": "Purchases today", "today": say(day[1]), "week": f"{say(week[1])} in 7 days"},
        {
            "name": "Attributed today",
            "today": words.percent(day[2], day[1]),
            "week": f"{words.percent(week[2], week[1])} in 7 days",
        },
        {"name": "Bots and refusals today", "today": say(day[3]), "week": f"{say(week[3])} in 7 days, never matched"},
    ]


def _revenue(sums: dict[ConversionKey, Sums], today: int) -> list[dict[str, Any]]:
    """Purchases' value by currency; currencies are never added up."""
    total: dict[str, Sums] = defaultdict(Sums)
    of_today: dict[str, Decimal] = defaultdict(Decimal)
    for key, s in sums.items():
        if key.event_type == "Purchase" and key.currency:
            total[key.currency].add(s)
            of_today[key.currency] += s.value if key.hour // 24 == today else 0
    return [
        {
            "total": words.money(s.value, code),
            "attributed": words.money(s.attributed_value, code),
            "share": words.percent(float(s.attributed_value), float(s.value)),
            "today": words.money(of_today[code], code),
            "bar": plots.share(float(s.attributed_value), float(s.value), f"attributed share of revenue in {code}"),
        }
        for code, s in sorted(total.items(), key=lambda item: -item[1].n)
    ]


def _week(clicks: dict[ClickKey, int], sums: dict[ConversionKey, Sums], now: int) -> dict[str, Any]:
    """Six-hour columns of the week, and the same by day in figures."""
    steps: dict[int, Sums] = defaultdict(Sums)
    for key, s in sums.items():
        steps[key.hour // 6].add(s)
    today = now // DAY_MS
    first, last = (today - _DAYS + 1) * 4, now // (DAY_MS // 4)
    bars = [
        plots.Column(f"{words.day(n // 4)} {n % 4 * 6:02d}:00–{n % 4 * 6 + 6:02d}:00", steps[n].n, steps[n].attributed)
        for n in range(first, (today + 1) * 4)
    ]
    days = range(today - _DAYS + 1, today + 1)
    all_n = sum(steps[n].n for n in range(first, last + 1))
    return {
        "chart": plots.columns(
            bars, f"Conversions in steps of six hours over seven days, {all_n:,} in all; figures below"
        ),
        "axis": [dict(zip(("short", "rest"), words.day(d).split(" ", 1), strict=True)) for d in days],
        "days": [_day(d, clicks, steps) for d in reversed(days)],
    }


def _day(day: int, clicks: dict[ClickKey, int], steps: dict[int, Sums]) -> dict[str, str]:
    own = [steps[n] for n in range(day * 4, day * 4 + 4)]
    return {
        "day": words.day(day),
        "clicks": words.number(sum(n for k, n in clicks.items() if k.hour // 24 == day and not k.kept_apart)),
        "conversions": words.number(sum(s.n for s in own)),
        "attributed": words.number(sum(s.attributed for s in own)),
    }


def _kinds(sums: dict[ConversionKey, Sums]) -> list[dict[str, str]]:
    by_type: dict[str, Sums] = defaultdict(Sums)
    for key, s in sums.items():
        by_type[key.event_type].add(s)
    rows = sorted(by_type.items(), key=lambda item: (item[0] != "Purchase", -item[1].n))[:30]
    return [
        {
            "name": name,
            "n": words.number(s.n),
            "attributed": words.number(s.attributed),
            "share": words.percent(s.attributed, s.n),
            "reversed": words.number(s.reversed) if s.reversed else "–",
        }
        for name, s in rows
    ]


async def pixel_lines(desk: Desk, now: int) -> tuple[list[dict[str, Any]], list[Note]]:
    """A line for each pixel, and a note for each that needs a person."""
    waiting, last = await delivery.waiting(desk.reader), await desk.last_success()
    lines, notes = [], []
    for pixel in await delivery.pixels(desk.reader):
        own = [w for w in waiting if w.pixel == pixel.name]
        queued = [w for w in own if w.state != CapiState.HELD]
        oldest = min((w.oldest for w in queued), default=None)
        lines.append(
            {
                "name": pixel.name,
                "state": _pixel_word(pixel.state),
                "waiting": words.number(sum(w.events for w in queued)),
                "waiting_n": sum(w.events for w in queued),
                "oldest": words.ago(oldest, now) if oldest else "–",
                "held": words.number(sum(w.events for w in own if w.state == CapiState.HELD)),
                "last": words.ago(last.get(pixel.name), now),
            }
        )
        if pixel.state != "open":
            what = f"Pixel {pixel.name} is {pixel.state}: {pixel.reason or 'Meta gave no reason'}"
            mend = _MEND.get(pixel.state, "") + (f" {kept_until(pixel.deadline)}." if pixel.deadline else "")
            notes.append(Note("bad" if pixel.state == "blocked" else "warn", what, mend))
    return lines, notes


def _pixel_word(state: str) -> Word:
    return Word(state, {"open": "good", "blocked": "bad"}.get(state, "warn"))


async def _processes(desk: Desk, now: int) -> tuple[list[dict[str, Any]], list[Note]]:
    lines, notes = [], []
    for beat in await delivery.heartbeats(desk.reader):
        silent = now - beat.at > _SILENT_MS
        lines.append(
            {
                "name": beat.process,
                "state": Word("silent", "bad") if silent else Word("alive", "good"),
                "seen": words.ago(beat.at, now),
            }
        )
        if silent:
            notes.append(
                Note(
                    "bad",
                    f"The {beat.process} has been silent for {words.seconds((now - beat.at) / 1000)}.",
                    "Look at its log; `collector doctor` names the mend.",
                )
            )
    return lines, notes


def _sentence(desk: Desk, lines: list[dict[str, Any]], last: dict[str, int]) -> str:
    waiting, now = sum(line["waiting_n"] for line in lines), desk.clock()
    if not lines:
        return "Waiting for the first event."
    if desk.config.meta.mode == "dry_run":
        return "Dry run: events are built and checked, and nothing leaves this machine."
    queue = f"{words.number(waiting)} events wait for Meta" if waiting else "Nothing waits for Meta"
    return queue + (
        f"; it last took some {words.seconds((now - max(last.values())) / 1000)} ago."
        if last
        else "; it has taken none yet."
    )


def _size(desk: Desk) -> str:
    """What the database takes on disk, its log among it."""
    size = float(desk.reader.size())
    for unit in ("B", "KB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
