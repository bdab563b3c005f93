"""What waits for Meta, what Meta said, and which pixel needs a person."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from typing import Any, Final

import msgspec
from msgspec import Struct

from collector.core.capi.states import combine
from collector.core.latency import Latency
from collector.storage.reports.kept import CUSTOM, STANDARD_SQL, Span
from collector.storage.reports.questions import ABOVE_ALL, Reading, Row, named

# min(id) and not min(created): the partial index holds the row number, so a backlog of a million is counted without
# touching its rows.
QUEUE_SQL = named(
    "queue",
    """
SELECT p.name, o.state, count(*), min(o.id)
  FROM outbox o JOIN pixel p ON p.id = o.pixel WHERE o.settled IS NULL GROUP BY o.pixel, o.state""",
)
PIXEL_SQL = named(
    "pixels",
    """
SELECT p.name, s.state, s.since, s.until, s.reason,
       (SELECT deadline FROM outbox INDEXED BY outbox_deadline
         WHERE pixel = p.id AND settled IS NULL AND state < 2 ORDER BY deadline LIMIT 1)
  FROM pixel p LEFT JOIN pixel_state s ON s.pixel = p.id ORDER BY p.id""",
)
REQUEST_SQL = named(
    "last requests",
    """
SELECT r.id, p.name, r.at, r.events, r.outcome, r.http_status, r.code, r.subcode, r.trace_id, r.message, r.took_ms
  FROM request r LEFT JOIN pixel p ON p.id = r.pixel WHERE r.id < ? ORDER BY r.id DESC LIMIT ?""",
)
# The literal states let SQLite use the partial index of dead letters.
DEAD_COUNT_SQL = named("dead since", "SELECT count(*) FROM outbox WHERE state IN (11, 12) AND settled >= ?")

TALLY_SQL = named(
    "requests to tally",
    """
SELECT r.id, coalesce(p.name, r.pixel), r.at, r.outcome, r.took_ms
  FROM request r LEFT JOIN pixel p ON p.id = r.pixel WHERE r.id > ? ORDER BY r.id LIMIT ?""",
)
_PIXELS_SQL = named("pixels by number", "SELECT id, name FROM pixel")
_SUCCESS_SQL = named(
    "success of pixel",
    """
SELECT at FROM request WHERE pixel = ? AND id > ? AND outcome IN ('sent', 'short') ORDER BY id DESC LIMIT 1""",
)
# Before those: when what Meta took last had come, to the quarter of an hour; another pixel's requests are many.
_TAKEN_SQL = named(
    "taken of pixel", "SELECT quarter * 900000 FROM wait_sum WHERE pixel = ? AND n > 0 ORDER BY quarter DESC LIMIT 1"
)
_CREATED: Final = named("created", "SELECT created FROM outbox WHERE id = ?")
_NEWEST: Final = named("newest request", "SELECT max(id) FROM request")
_BEATS: Final = named("signs of life", "SELECT process, at, body FROM heartbeat ORDER BY process")
_LOOK_BACK = 200_000
_TOOK = ("sent", "short")


# The states of a conversion's outbox rows, as text; conversion.capi is only what it was at intake.
STATES_SQL = "(SELECT group_concat(state) FROM outbox WHERE conversion = c.id)"


@lru_cache(maxsize=1024)
def combined(at_intake: int, states: str | None) -> int:
    """How an event stands over all its pixels; what it was at intake when it never had an outbox row."""
    return int(combine(int(state) for state in states.split(","))) if states else at_intake


class Waiting(Struct, frozen=True):
    """Events of one pixel in one state that are not settled."""

    pixel: str
    state: int
    events: int
    oldest: int  # ms: when the oldest was made


class Pixel(Struct, frozen=True):
    """How delivery to one pixel stands."""

    name: str
    state: str = "open"
    since: int | None = None
    until: int | None = None
    reason: str | None = None
    deadline: int | None = None  # ms: by when the first event that waits must reach Meta


class Request(Struct, frozen=True):
    """One request to Meta."""

    id: int
    pixel: str
    at: int
    events: int
    outcome: str
    http_status: int | None
    code: int | None
    subcode: int | None
    trace_id: str | None
    message: str | None
    took_ms: int | None


class Heartbeat(Struct, frozen=True):
    """A process's last sign of life and its own figures."""

    process: str
    at: int
    figures: dict[str, Any]


async def waiting(reader: Reading) -> list[Waiting]:
    """The queue by pixel and state, with the age of its oldest event."""
    out = []
    for name, state, events, oldest in await reader.rows(QUEUE_SQL):
        created = await reader.one(_CREATED, oldest)
        if created:
            out.append(Waiting(name, state, events, created[0]))
    return out


async def pixels(reader: Reading) -> list[Pixel]:
    """Every pixel that has ever been given an event, and its state."""
    return [Pixel(name, state or "open", *rest) for name, state, *rest in await reader.rows(PIXEL_SQL)]


async def requests(reader: Reading, *, before: int | None = None, limit: int = 50) -> list[Request]:
    """The last requests, newest first; `before` is a request's id."""
    return [Request(*row) for row in await reader.rows(REQUEST_SQL, before or ABOVE_ALL, limit)]


class Requests:
    """Requests to Meta by pixel and outcome, counted on from where the last look ended.

    The table grows for months, so only its newest rows are read at first: a counter may begin anywhere.
    """

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
        self.last_success: dict[str, int] = {}  # when Meta last took events, by the pixel's name; ms
        self.latency = Latency("graph")
        self._after: int | None = None

    async def refresh(self, reader: Reading) -> None:
        """Count what is new and over; a request in flight is left for the next time."""
        if self._after is None:
            self.last_success = await last_success(reader)  # a small shop's may be older than those that are counted
            row = await reader.one(_NEWEST)
            self._after = max(0, ((row and row[0]) or 0) - _LOOK_BACK)
        async for page in reader.pages(TALLY_SQL, self._after, size=5000):
            for number, name, at, outcome, took_ms in page:
                if outcome == "in_flight":
                    return
                self._after = number
                self.counts[name, outcome] += 1
                if took_ms is not None:
                    self.latency.observe(took_ms / 1000)
                if outcome in _TOOK:
                    self.last_success[name] = at


async def last_success(reader: Reading) -> dict[str, int]:
    """When Meta last took events (ms), by the pixel's name: its newest request's time, or no earlier than this."""
    row = await reader.one(_NEWEST)
    after = max(0, ((row and row[0]) or 0) - _LOOK_BACK)
    found = {}
    for number, name in await reader.rows(_PIXELS_SQL):
        success = await reader.one(_SUCCESS_SQL, number, after) or await reader.one(_TAKEN_SQL, number)
        if success:
            found[name] = success[0]
    return found


async def heartbeats(reader: Reading) -> list[Heartbeat]:
    """Each process's last sign of life."""
    return [Heartbeat(process, at, _figures(body)) for process, at, body in await reader.rows(_BEATS)]


async def oldest_reader(reader: Reading) -> int:
    """Seconds for which a reader has held up the write-ahead log, as the keeper said with its last sign of life."""
    held = [beat.figures.get("oldestReaderSeconds", 0) for beat in await heartbeats(reader)]
    return max((n for n in held if isinstance(n, int)), default=0)


def _figures(body: bytes) -> dict[str, Any]:
    try:
        figures = msgspec.json.decode(body)
    except msgspec.DecodeError:
        return {}
    return figures if isinstance(figures, dict) else {}


async def dead_since(reader: Reading, since: int) -> int:
    """How many events were rejected or expired from `since` (ms) on."""
    row = await reader.one(DEAD_COUNT_SQL, since)
    return row[0] if row else 0


class Cause(Struct, frozen=True):
    """Events that ended badly for one reason; `example` is the newest one's row, `order` its number."""

    pixel: str
    state: int
    code: int | None
    subcode: int | None
    reason: str
    n: int
    first: int
    last: int
    example: int
    order: str


CAUSES_FROM: Final = 20_000  # dead letters that are looked through
_CAUSES: Final = f"""
SELECT coalesce(p.name, ''), found.state, CASE found.state WHEN 11 THEN r.code END,
       CASE found.state WHEN 11 THEN r.subcode END, coalesce(found.reason, ''),
       count(*), min(found.settled), max(found.settled), max(c.id)
  FROM (SELECT * FROM outbox WHERE state IN (11, 12) AND settled >= ?
         ORDER BY settled DESC LIMIT {CAUSES_FROM}) AS found
  JOIN conversion c ON c.id = found.conversion LEFT JOIN pixel p ON p.id = found.pixel
  LEFT JOIN request r ON r.id = found.request
 WHERE c.ts >= ? AND c.ts < ? AND c.store IN ({{}}) AND c.flags & 145 = 0 AND {{}}
 GROUP BY 1, 2, 3, 4, 5 ORDER BY 6 DESC, 8 DESC LIMIT 50"""


_BODY: Final = named("body of conversion", "SELECT body FROM conversion WHERE id = ?")


class _Numbered(Struct):
    order_id: str | None = None


_numbered = msgspec.msgpack.Decoder(_Numbered).decode


async def causes(reader: Reading, span: Span, event: str) -> list[Cause]:
    """Why events of a name and of a span were refused or expired, most first; of the newest dead letters."""
    condition = "c.event_type = ?" if event != CUSTOM else f"c.event_type NOT IN ({STANDARD_SQL}) AND ? <> ''"
    sql = _CAUSES.format(",".join(map(str, span.stores)) or "0", condition)
    name = "causes" if event != CUSTOM else "causes of custom events"
    rows = await reader.rows(named(name, sql, list(span.stores)), span.since, span.since, span.until, event)
    return [await _cause(reader, row) for row in rows]


async def _cause(reader: Reading, row: Row) -> Cause:
    pixel, state, code, subcode, reason, n, first, last, example = row
    return Cause(pixel, state, code, subcode, reason, n, first, last, example, await _number(reader, example))


async def _number(reader: Reading, conversion: int) -> str:
    row = await reader.one(_BODY, conversion)
    return (_numbered(row[0]).order_id if row else None) or ""


_LAST: Final = named(
    "last answer",
    """
SELECT r.id, ?1, r.at, r.events, r.outcome, r.http_status, r.code, r.subcode, r.trace_id, r.message, r.took_ms
  FROM request r WHERE r.pixel = ?2 AND r.id > ?3 AND r.outcome <> 'in_flight' ORDER BY r.id DESC LIMIT 1""",
)


async def last_answers(reader: Reading) -> dict[str, Request]:
    """The newest answer to each pixel, by its name; of the newest requests."""
    row = await reader.one(_NEWEST)
    after = max(0, ((row and row[0]) or 0) - _LOOK_BACK)
    found = {name: await reader.one(_LAST, name, number, after) for number, name in await reader.rows(_PIXELS_SQL)}
    return {name: Request(*answer) for name, answer in found.items() if answer}
