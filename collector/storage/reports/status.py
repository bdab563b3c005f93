"""How does everything stand, at a glance: the answer of `collector status`."""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal
from typing import Any, Final

from msgspec import Struct, json

from collector.core import times, trusted
from collector.core.capi.states import NAMES
from collector.storage.reports import decoys, delivery, kept, models, trust
from collector.storage.reports.folds import DAY_MS
from collector.storage.reports.insights import InsightState
from collector.storage.reports.kept import Sale, Span
from collector.storage.reports.questions import STORES, Reading, named
from collector.storage.reports.reader import Reader
from collector.storage.reports.shop_ways import ShopWays
from collector.storage.reports.totals import HORIZON_DAYS

_NEVER_GIVEN: Final = """
SELECT coalesce(sum(n), 0) FROM total
 WHERE name GLOB ?1 || '*' AND CAST(substr(name, length(?1) + 1) AS INTEGER) > ?2"""
_AMBIGUOUS: Final = named(
    "doubts of days", "SELECT coalesce(sum(n), 0) FROM counter WHERE store = 0 AND name = 'ambiguous' AND day >= ?"
)
_CLOCK: Final = named("believed clock", "SELECT body FROM clock WHERE id = 1")


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


class Figures(Camel):
    """What the sums tell at a glance; the other fields as in Status."""

    today: Counts
    days7: Counts
    revenue7: list[Revenue]
    ambiguous7: int
    confidence: Confidence
    insights: InsightState | None = None
    shops: list[ShopWays] = []


class Status(Camel):
    """Everything at a glance."""

    at: str
    database: str
    database_bytes: int
    wal_bytes: int  # of the write-ahead log, which `database_bytes` includes
    oldest_reader_seconds: int  # that the oldest reader has kept the log from being begun anew, as the keeper said last
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
    insights: InsightState | None = None  # of the ad account, where one is set; filled as `shops`
    shops: list[ShopWays] = []  # by which ways each shop tells; `ways` fills it, which knows the configuration


async def status(reader: Reader, now: int, threshold: int) -> Status:
    """The store's state at `now` (ms), from kept sums; `threshold` of attribution, from the configuration."""
    told = await figures(reader, now, threshold)
    succeeded = await delivery.last_success(reader)
    return Status(
        at=times.text(now),
        database=str(reader.path),
        database_bytes=reader.size(),
        wal_bytes=reader.wal_size(),
        oldest_reader_seconds=await delivery.oldest_reader(reader),
        total_clicks=await _came(reader, "click"),
        total_conversions=await _came(reader, "conversion"),
        today=told.today,
        days7=told.days7,
        revenue7=told.revenue7,
        queue=[_queue(w, now) for w in await delivery.waiting(reader)],
        pixels=[_pixel(p, succeeded.get(p.name)) for p in await delivery.pixels(reader)],
        ambiguous7=told.ambiguous7,
        processes=[
            Process(process=b.process, age_seconds=_age(b.at, now), figures=b.figures)
            for b in await delivery.heartbeats(reader)
        ],
        clock=await clock(reader, now),
        confidence=told.confidence,
    )


async def figures(reader: Reading, now: int, threshold: int) -> Figures:
    """What the sums tell at `now` (ms); `threshold` of attribution, from the configuration."""
    today = now // DAY_MS * DAY_MS
    stores = tuple(row[0] for row in await reader.rows(STORES))
    days = {n: Span(stores, today - (n - 1) * DAY_MS, today + 2 * DAY_MS) for n in (1, 7)}
    sales7 = await kept.sales(reader, days[7])
    return Figures(
        today=_counts(await kept.clicks(reader, days[1]), await kept.sales(reader, days[1])),
        days7=_counts(await kept.clicks(reader, days[7]), sales7),
        revenue7=_revenue(sales7),
        ambiguous7=await _ambiguous(reader, now // DAY_MS - 6),
        confidence=await _confidence(reader, set(stores), now, threshold),
    )


async def clock(reader: Reading, now: int, host: str | None = None) -> Clock:
    """What time the courier believed when it last looked (every two seconds); `now` where it never did.

    Of several machines that of `host`, or of the one that has looked last.
    """
    row = await reader.one(_CLOCK if host is None else named("clock of a machine", _CLOCK, host))
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


async def _ambiguous(reader: Reading, day: int) -> int:
    """The courier's count of events of which nobody knows whether Meta took them, since `day`."""
    row = await reader.one(_AMBIGUOUS, day)
    return (row and row[0]) or 0


async def _came(reader: Reader, table: str) -> int:
    """How many rows ever came: they are numbered in order of arrival, but for what was lost or skipped by a restore."""
    newest = await reader.one(f"SELECT max(id) FROM {table}")
    return ((newest and newest[0]) or 0) - await never_given(reader, table, 0)


async def never_given(reader: Reading, table: str, above: int) -> int:
    """How many of the numbers above `above` no row ever had: each loss is noted by the row that stands for it."""
    row = await reader.one(_NEVER_GIVEN, f"never.{table}.", above)
    return row[0] if row else 0


def _counts(clicks: tuple[int, int], sales: list[tuple[str, Sale]]) -> Counts:
    purchases = [sale for event, sale in sales if event == "Purchase"]
    orders, attributed = sum(s.n for s in purchases), sum(s.n for s in purchases if s.tier)
    return Counts(
        clicks=clicks[0],
        kept_apart=clicks[1],
        events=sum(sale.n for _, sale in sales),
        purchases=orders,
        attributed=attributed,
        share=round(attributed / orders, 4) if orders else None,
    )


def _revenue(sales: list[tuple[str, Sale]]) -> list[Revenue]:
    value: dict[str, Decimal] = defaultdict(Decimal)
    attributed: dict[str, Decimal] = defaultdict(Decimal)
    for event, sale in sales:
        if event == "Purchase" and sale.currency:
            value[sale.currency] += sale.value
            attributed[sale.currency] += sale.value if sale.tier else 0
    return [Revenue(currency=code, value=value[code], attributed=attributed[code]) for code in sorted(value)]


async def _confidence(reader: Reading, stores: set[int], now: int, threshold: int) -> Confidence:
    labels = await trust.labels(reader, now - HORIZON_DAYS * DAY_MS)
    found = trust.assess(labels, await models.newest(reader), stores, threshold)
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
