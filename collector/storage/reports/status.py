"""How does everything stand, at a glance: the answer of `collector status`."""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal
from typing import Any

from msgspec import Struct, json

from collector.core import times, trusted
from collector.core.capi.states import NAMES
from collector.storage.reports import decoys, delivery, models, trust
from collector.storage.reports.folds import DAY_MS, Sums
from collector.storage.reports.reader import Reader
from collector.storage.reports.totals import Totals

_PATIENCE_SECONDS = 20.0  # a command may wait longer than a page; what is not counted then is said


class Camel(Struct, rename="camel", kw_only=True):
    """Answers are in camelCase, as the API's."""


class Counts(Camel):
    """Events in a span of time; `attributed` and `share` of purchases."""

    clicks: int
    kept_apart: int  # bots, prefetches, refused consent, tests
    events: int
    purchases: int
    attributed: int
    share: float | None


class Revenue(Camel):
    """Purchases' value in one currency; never added to another's."""

    currency: str
    value: Decimal
    attributed: Decimal


class Queue(Camel):
    """Events of one pixel in one state that wait."""

    pixel: str
    state: str
    events: int
    oldest_seconds: int


class Pixel(Camel):
    """How delivery to one pixel stands."""

    pixel: str
    state: str
    since: str | None
    reason: str | None
    last_success: str | None


class Process(Camel):
    """A process's last sign of life."""

    process: str
    age_seconds: int
    figures: dict[str, Any]


class Clock(Camel):
    """What time is believed (core/trusted.py). `held_since`: of a jump ahead that is held; `advice` for people then."""

    system: str
    trusted: str
    held_seconds: int
    held_since: str | None
    meta_ahead_seconds: int | None  # null where Meta's clock is not known
    advice: str | None


class Stated(Camel):
    """What was stated, and what came true of it by so many labels; `true` null where they are too few."""

    tier: str  # the method of a proof, or "inferred"
    stated: float
    true: float | None
    labels: int


class Confidence(Camel):
    """Whether the stated confidence comes true; null where there are too few labels."""

    labels: int
    labels_needed: int
    calibration_error: float | None
    noise_floor: float | None
    decoy_orders: int
    decoy_links_at80: float | None
    decoy_links_at90: float | None
    reliability: list[Stated]  # each proof's tier, then what inference states in steps of equal size


class Status(Camel):
    """Everything at a glance. `complete` is false when not all days could be counted in time."""

    at: str
    database: str
    database_bytes: int
    wal_bytes: int  # of the write-ahead log, which `database_bytes` includes
    oldest_reader_seconds: int  # that the oldest reader has kept the log from being begun anew, as the edge said last
    total_clicks: int
    total_conversions: int
    today: Counts
    days7: Counts
    revenue7: list[Revenue]
    queue: list[Queue]
    pixels: list[Pixel]
    ambiguous7: int  # sent in 7 days without an answer, and therefore again: Meta removes the second
    processes: list[Process]
    clock: Clock
    confidence: Confidence
    complete: bool


async def status(reader: Reader, now: int, threshold: int) -> Status:
    """The store's state at `now` (ms); `threshold` of attribution, from the configuration."""
    totals = Totals()
    complete = await totals.refresh(reader, now, budget_seconds=_PATIENCE_SECONDS)
    today = now // DAY_MS * DAY_MS
    week = today - 6 * DAY_MS
    requests = delivery.Requests()
    await requests.refresh(reader)
    return Status(
        at=times.text(now),
        database=str(reader.path),
        database_bytes=reader.size(),
        wal_bytes=reader.wal_size(),
        oldest_reader_seconds=await delivery.oldest_reader(reader),
        total_clicks=await _newest(reader, "click"),
        total_conversions=await _newest(reader, "conversion"),
        today=_counts(totals, today),
        days7=_counts(totals, week),
        revenue7=_revenue(totals, week),
        queue=[_queue(w, now) for w in await delivery.waiting(reader)],
        pixels=[_pixel(p, requests.last_success.get(p.name)) for p in await delivery.pixels(reader)],
        ambiguous7=await _ambiguous(reader, now // DAY_MS - 6),
        processes=[
            Process(process=b.process, age_seconds=_age(b.at, now), figures=b.figures)
            for b in await delivery.heartbeats(reader)
        ],
        clock=await clock(reader, now),
        confidence=await _confidence(reader, totals, now, threshold),
        complete=complete,
    )


async def clock(reader: Reader, now: int) -> Clock:
    """What time the courier believed when it last looked (every two seconds); `now` where it never did."""
    row = await reader.one("SELECT body FROM clock WHERE id = 1")
    state = trusted.State(trusted.Mark(now, 0, ""), now) if row is None else json.decode(row[0], type=trusted.State)
    mark, then = state.mark, trusted.as_kept(state)
    return Clock(
        system=times.text(state.system),
        trusted=times.text(trusted.trusted(mark, then)),
        held_seconds=trusted.held_ms(mark, then) // 1000,
        held_since=_text(state.held_since),
        meta_ahead_seconds=None if mark.date is None else (mark.date - state.system) // 1000,
        advice=trusted.advice(mark, then) or None,
    )


def _queue(w: delivery.Waiting, now: int) -> Queue:
    return Queue(
        pixel=w.pixel, state=NAMES.get(w.state, str(w.state)), events=w.events, oldest_seconds=_age(w.oldest, now)
    )


def _pixel(p: delivery.Pixel, last_success: int | None) -> Pixel:
    return Pixel(pixel=p.name, state=p.state, since=_text(p.since), reason=p.reason, last_success=_text(last_success))


async def _ambiguous(reader: Reader, day: int) -> int:
    """The courier's count of events of which nobody knows whether Meta took them, since `day`."""
    sql = "SELECT coalesce(sum(n), 0) FROM counter WHERE store = 0 AND name = 'ambiguous' AND day >= ?"
    row = await reader.one(sql, day)
    return (row and row[0]) or 0


async def _newest(reader: Reader, table: str) -> int:
    """How many rows ever came: they are numbered in order of arrival."""
    row = await reader.one(f"SELECT max(id) FROM {table}")
    return (row and row[0]) or 0


def _counts(totals: Totals, since: int) -> Counts:
    clicks = totals.click_hours(since)
    sums = totals.conversion_hours(since)
    purchases = [s for key, s in sums.items() if key.event_type == "Purchase"]
    orders, attributed = sum(s.n for s in purchases), sum(s.attributed for s in purchases)
    return Counts(
        clicks=sum(n for key, n in clicks.items() if not key.kept_apart),
        kept_apart=sum(n for key, n in clicks.items() if key.kept_apart),
        events=sum(s.n for s in sums.values()),
        purchases=orders,
        attributed=attributed,
        share=round(attributed / orders, 4) if orders else None,
    )


def _revenue(totals: Totals, since: int) -> list[Revenue]:
    by_currency: dict[str, Sums] = defaultdict(Sums)
    for key, s in totals.conversion_hours(since).items():
        if key.event_type == "Purchase" and key.currency:
            by_currency[key.currency].add(s)
    return [
        Revenue(currency=code, value=s.value, attributed=s.attributed_value) for code, s in sorted(by_currency.items())
    ]


async def _confidence(reader: Reader, totals: Totals, now: int, threshold: int) -> Confidence:
    stores = {row[0] for row in await reader.rows("SELECT id FROM store")}
    found = trust.assess(totals.labels(), await models.newest(reader), stores, threshold)
    tried = await decoys.counted(reader, now, stores)
    enough = tried.orders >= trust.ENOUGH
    return Confidence(
        labels=found.labels,
        labels_needed=trust.ENOUGH,
        calibration_error=found.error,
        noise_floor=found.floor,
        decoy_orders=tried.orders,
        decoy_links_at80=tried.at_80 / tried.orders if enough else None,
        decoy_links_at90=tried.at_90 / tried.orders if enough else None,
        reliability=_reliability(found),
    )


def _reliability(found: trust.Trust) -> list[Stated]:
    def of(tier: str, stated: float, right: float, n: int, least: int) -> Stated:
        return Stated(tier=tier, stated=stated, true=right if n >= least else None, labels=n)

    proofs = [of(t.name, t.stated, t.right / max(t.labels, 1), t.labels, trust.ENOUGH) for t in found.tiers]
    least = 1 if found.labels >= trust.ENOUGH else found.labels + 1  # ten bins of enough labels together
    return proofs + [of("inferred", b.stated, b.true, b.n, least) for b in found.bins]


def _age(at: int, now: int) -> int:
    return max(0, now - at) // 1000


def _text(ms: int | None) -> str | None:
    return None if ms is None else times.text(ms)
