"""What a Prometheus may scrape: names, types and help of every metric in one table."""

from __future__ import annotations

import platform
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from litestar.enums import ScopeType
from litestar.types import Receive, Scope, Send

from collector import __version__
from collector.console.shell import Desk
from collector.core.capi.states import NAMES, name_of
from collector.core.latency import Histogram
from collector.core.shops.counted import CLASSES, DAYS, totals
from collector.errors import NoStore, StorageError, TooSlow
from collector.storage.reports import delivery, health, kept, reconcile
from collector.storage.reports.questions import named
from collector.storage.rules.standing import Standing

_DAY_MS: Final = 86_400_000

# name -> (type, help). The table of README.md beside this file is made from this one; a test compares them.
METRICS: Final[dict[str, tuple[str, str]]] = {
    "collector_build_info": ("gauge", "1, with the version as label."),
    "collector_up": ("gauge", "1 when the database can be read, else 0."),
    "collector_clicks_total": ("counter", "Clicks stored since the installation began."),
    "collector_conversions_total": ("counter", "Conversions and events stored since the installation began."),
    "collector_conversions_kept": (
        "gauge",
        "Conversions and events of the last 31 days, by store, event type and whether attributed; no tests, no bots.",
    ),
    "collector_clicks_kept": ("gauge", "People's clicks of the last 31 days, by store."),
    "collector_deliveries_kept": (
        "gauge",
        "Conversions and events of the last 31 days, by store, pixel and how they stand with Meta; no tests, no bots.",
    ),
    "collector_answer_seconds": ("histogram", "From a request that stores to its answer, as the edges wait for it."),
    "collector_commit_seconds": ("histogram", "Groups of events brought to the disk."),
    "collector_graph_request_seconds": ("histogram", "Requests to Meta, of those that this console has counted."),
    "collector_outbox_events": ("gauge", "Events that wait for Meta, by pixel and state."),
    "collector_outbox_oldest_seconds": ("gauge", "Age of the oldest event that waits, by pixel and state."),
    "collector_pixel_open": ("gauge", "1 when the pixel takes events, 0 when it is throttled or blocked."),
    "collector_http_requests_total": (
        "counter",
        "Requests that the edge has answered, by verb and HTTP status; verb none: refused before it was known.",
    ),
    "collector_http_refusals_total": ("counter", "Refused requests, by the error code of the answer."),
    "collector_fields_left_out_total": ("counter", "Fields of events that were unusable and left out, by field."),
    "collector_fields_missing_total": (
        "counter",
        "Website events queued without a field that Meta's documents ask for, by field.",
    ),
    "collector_requests_total": ("counter", "Requests to Meta that this console has counted, by pixel and outcome."),
    "collector_last_success_timestamp_seconds": ("gauge", "When Meta last took events, by pixel."),
    "collector_shop_orders": ("gauge", "Orders that a shop told of in the last 28 days, by store and class."),
    "collector_shop_accuracy": (
        "gauge",
        "Of those, the percentage that was sent, is held or is ignored for a reason.",
    ),
    "collector_database_bytes": ("gauge", "Bytes of the database and its write-ahead log."),
    "collector_wal_bytes": ("gauge", "Bytes of the write-ahead log: 4 MB at most unless a reader holds it up."),
    "collector_wal_reader_seconds": (
        "gauge",
        "Seconds for which the oldest reader has kept the write-ahead log from being begun anew.",
    ),
    "collector_server_connections": (
        "gauge",
        "Connections to PostgreSQL, of everybody; absent over SQLite.",
    ),
    "collector_standby_behind_bytes": (
        "gauge",
        "Bytes of PostgreSQL's log that a standby has not on its disk yet; absent over SQLite.",
    ),
    "collector_disk_free_bytes": ("gauge", "Bytes that are free where the database lies."),
    "collector_disk_days": ("gauge", "Days until the disk is full at the last day's pace; absent while nothing grows."),
    "collector_backup_newest_timestamp_seconds": ("gauge", "When the newest backup was made; absent without one."),
    "collector_heartbeat_age_seconds": ("gauge", "Seconds since each process's last sign of life."),
    "collector_process_figure": ("gauge", "Each process's own figures since it started, as its heartbeat gives them."),
}


# Those of one engine alone.
OF_FILE: Final = frozenset(
    {"collector_wal_bytes", "collector_wal_reader_seconds", "collector_disk_free_bytes", "collector_disk_days"}
    | {"collector_backup_newest_timestamp_seconds"}
)
OF_SERVER: Final = frozenset({"collector_server_connections", "collector_standby_behind_bytes"})
_TOTALS: Final = named("running totals", "SELECT name, n FROM total ORDER BY name")
_SERIES: Final = re.compile(r"_(bucket|sum|count)$")  # of a histogram


class Sample(NamedTuple):
    """One line: a metric's name, its labels, its value."""

    name: str
    value: float
    labels: dict[str, str] = {}


# prometheus_client would add 90 ms of processor time to each start, and an HTTP server, for what `render` does: our
# figures lie in the database, and its registry holds a process's own. A test has its parser read what we write.
async def metrics_text(desk: Desk) -> str:
    """Everything, in Prometheus's text format 0.0.4."""
    samples = [Sample("collector_build_info", 1, {"version": __version__, "python": platform.python_version()})]
    try:
        for part in (_stored, _kept, _running, _delivery, _shops):
            samples += await part(desk)
        samples.append(Sample("collector_up", 1))
    except NoStore:
        samples.append(Sample("collector_up", 0))
    return render(samples)


class MetricsDoor:
    """Metrics on an address of their own ([metrics] listen), which a scraper may reach without the password."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == ScopeType.HTTP and scope["path"] == "/metrics":
            await self._answer(send, 200, await self._text())
        elif scope["type"] == ScopeType.HTTP:
            await self._answer(send, 404, "metrics are at /metrics\n")

    async def _text(self) -> str:
        try:
            return await metrics_text(self._desk)
        except StorageError:
            return render([Sample("collector_up", 0)])

    @staticmethod
    async def _answer(send: Send, status: int, text: str) -> None:
        headers = [(b"content-type", b"text/plain; version=0.0.4; charset=utf-8")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": text.encode(), "more_body": False})


def render(samples: Iterable[Sample]) -> str:
    """Samples grouped under their HELP and TYPE lines."""
    by_name: dict[str, list[Sample]] = {name: [] for name in METRICS}
    for sample in samples:
        by_name[_SERIES.sub("", sample.name) if sample.name not in METRICS else sample.name].append(sample)
    return "".join(_block(name, own) for name, own in by_name.items() if own)


def _block(name: str, samples: list[Sample]) -> str:
    kind, text = METRICS[name]
    lines = [f"# HELP {name} {text}", f"# TYPE {name} {kind}", *(_line(sample) for sample in samples)]
    return "\n".join(lines) + "\n"


def _line(sample: Sample) -> str:
    labels = ",".join(f'{key}="{_escaped(value)}"' for key, value in sample.labels.items())
    value = f"{sample.value:.6f}".rstrip("0").rstrip(".")
    return f"{sample.name}{{{labels}}} {value}" if labels else f"{sample.name} {value}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


async def _stored(desk: Desk) -> list[Sample]:
    held = await desk.reader.held()
    return [
        Sample("collector_clicks_total", await health.came(desk.reader, "click")),
        Sample("collector_conversions_total", await health.came(desk.reader, "conversion")),
        Sample("collector_database_bytes", held.bytes),
        *(await _of_file(desk, held.log) if held.log is not None else _of_server(held.server)),
    ]


async def _of_file(desk: Desk, log: int) -> list[Sample]:
    held_up = await delivery.oldest_reader(desk.reader)
    return [Sample("collector_wal_bytes", log), Sample("collector_wal_reader_seconds", held_up)]


def _of_server(server: Standing | None) -> list[Sample]:
    """Nothing of a primary that cannot be asked."""
    if server is None:
        return []
    behind = [Sample("collector_standby_behind_bytes", s.behind_bytes, {"standby": s.name}) for s in server.standbys]
    return [Sample("collector_server_connections", server.connections), *behind]


# What a running total's name begins with -> its metric and the label that the rest is.
_LABELLED: Final = {
    "refused": ("collector_http_refusals_total", "error"),
    "left_out": ("collector_fields_left_out_total", "field"),
    "missing": ("collector_fields_missing_total", "field"),
}


# A figure of the courier's sign of life -> its metric, and by what it is divided.
_SEEN: Final = {
    "diskFreeBytes": ("collector_disk_free_bytes", 1),
    "diskDays": ("collector_disk_days", 1),
    "newestBackupAt": ("collector_backup_newest_timestamp_seconds", 1000),
}


async def _running(desk: Desk) -> list[Sample]:
    """The totals that the edges add to with each sign of life."""
    totals: dict[str, int] = dict(await desk.reader.rows(_TOTALS))
    out = [*_histogram("collector_answer_seconds", Histogram("answer", totals))]
    out += _histogram("collector_commit_seconds", Histogram("commit", totals))
    for name, n in totals.items():
        kind, _, rest = name.partition(".")
        if kind == "http":
            verb, _, code = rest.partition(".")
            out.append(Sample("collector_http_requests_total", n, {"verb": verb, "code": code}))
        elif kind in _LABELLED:
            metric, label = _LABELLED[kind]
            out.append(Sample(metric, n, {label: rest}))
    return out


def _histogram(name: str, found: Histogram) -> Iterator[Sample]:
    buckets = found.cumulative()
    yield from (Sample(f"{name}_bucket", n, {"le": bound}) for bound, n in buckets)
    yield Sample(f"{name}_sum", found.seconds)
    yield Sample(f"{name}_count", buckets[-1][1])


async def _kept(desk: Desk) -> list[Sample]:
    names, now = await desk.stores(), desk.clock()
    span = kept.Span(tuple(names), now - 31 * _DAY_MS, now + _DAY_MS)
    counts: Counter[tuple[str, str, bool]] = Counter()
    for event, sale in await kept.sales(desk.reader, span):
        counts[names[sale.key], event, False] += 0 if sale.tier else sale.n
        counts[names[sale.key], event, True] += sale.n if sale.tier else 0
    out = [
        Sample("collector_conversions_kept", n, {"store": s, "event_type": e, "attributed": str(a).lower()})
        for (s, e, a), n in sorted(counts.items())
    ]
    for number, store in names.items():
        out += await _of_store(desk, store, kept.Span((number,), span.since, span.until))
    return out


async def _of_store(desk: Desk, store: str, span: kept.Span) -> list[Sample]:
    people, _ = await kept.clicks(desk.reader, span)
    states = await kept.states(desk.reader, span)
    return [
        Sample("collector_clicks_kept", people, {"store": store}),
        *(
            Sample("collector_deliveries_kept", n, {"store": store, "pixel": pixel, "state": name_of(state)})
            for pixel, state, n in states
        ),
    ]


async def _shops(desk: Desk) -> list[Sample]:
    """Of each store with orders of its shop's own telling; nothing where the count takes too long."""
    now = desk.clock()
    try:
        lines = await reconcile.sums(desk.reader, desk.config, now - DAYS * _DAY_MS, now)
    except TooSlow:
        return []
    out = []
    for store in sorted({line.store for line in lines}):
        whole = totals([line for line in lines if line.store == store])
        out += [Sample("collector_shop_orders", getattr(whole, c), {"store": store, "class": c}) for c in CLASSES]
        if whole.accuracy is not None:
            out.append(Sample("collector_shop_accuracy", whole.accuracy, {"store": store}))
    return out


async def _delivery(desk: Desk) -> list[Sample]:
    now, out = desk.clock(), []
    for w in await delivery.waiting(desk.reader):
        labels = {"pixel": w.pixel, "state": NAMES.get(w.state, str(w.state))}
        out.append(Sample("collector_outbox_events", w.events, labels))
        out.append(Sample("collector_outbox_oldest_seconds", max(0, now - w.oldest) / 1000, labels))
    for pixel in await delivery.pixels(desk.reader):
        out.append(Sample("collector_pixel_open", int(pixel.state == "open"), {"pixel": pixel.name}))
    last_success = await desk.last_success()
    for (name, outcome), n in desk.requests.counts.items():
        out.append(Sample("collector_requests_total", n, {"pixel": name, "outcome": outcome}))
    out += _histogram("collector_graph_request_seconds", Histogram("graph", desk.requests.latency.totals()))
    for name, at in last_success.items():
        out.append(Sample("collector_last_success_timestamp_seconds", at / 1000, {"pixel": name}))
    for beat in await delivery.heartbeats(desk.reader):
        out.append(Sample("collector_heartbeat_age_seconds", max(0, now - beat.at) / 1000, {"process": beat.process}))
        for name, value in beat.figures.items():
            if name in _SEEN and isinstance(value, int):
                metric, scale = _SEEN[name]
                out.append(Sample(metric, value / scale))
            elif isinstance(value, int | float) and not isinstance(value, bool):
                out.append(Sample("collector_process_figure", value, {"process": beat.process, "figure": name}))
    return out
