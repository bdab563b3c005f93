"""What waits for Meta, what Meta said, and which pixel needs a person."""

from __future__ import annotations

from typing import Any

import msgspec

from collector.storage.reports.reader import Reader

# min(id) and not min(created): the partial index holds the row number, so a backlog of a million is counted without
# touching its rows.
QUEUE_SQL = """
SELECT p.name, o.state, count(*), min(o.id)
  FROM outbox o JOIN pixel p ON p.id = o.pixel WHERE o.settled IS NULL GROUP BY o.pixel, o.state"""
PIXEL_SQL = """
SELECT p.name, s.state, s.since, s.until, s.reason
  FROM pixel p LEFT JOIN pixel_state s ON s.pixel = p.id ORDER BY p.id"""
REQUEST_SQL = """
SELECT r.id, p.name, r.at, r.events, r.outcome, r.http_status, r.code, r.subcode, r.trace_id, r.message, r.took_ms
  FROM request r LEFT JOIN pixel p ON p.id = r.pixel WHERE r.id < ? ORDER BY r.id DESC LIMIT ?"""
SETTLED_SQL = """
SELECT o.id, o.conversion, p.name, o.state, o.settled, o.attempts, o.reason
  FROM outbox o JOIN pixel p ON p.id = o.pixel
 WHERE o.id < ? AND o.settled IS NOT NULL AND o.state IN ({states}) ORDER BY o.id DESC LIMIT ?"""

OUTCOME_SQL = """
SELECT coalesce(p.name, r.pixel), r.outcome, count(*)
  FROM request r LEFT JOIN pixel p ON p.id = r.pixel GROUP BY 1, 2"""


class Waiting(msgspec.Struct, frozen=True):
    """Events of one pixel in one state that are not settled."""

    pixel: str
    state: int
    events: int
    oldest: int  # ms: when the oldest was made


class Pixel(msgspec.Struct, frozen=True):
    """How delivery to one pixel stands."""

    name: str
    state: str = "open"
    since: int | None = None
    until: int | None = None
    reason: str | None = None


class Request(msgspec.Struct, frozen=True):
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


class Heartbeat(msgspec.Struct, frozen=True):
    """A process's last sign of life and its own figures."""

    process: str
    at: int
    figures: dict[str, Any]


async def waiting(reader: Reader) -> list[Waiting]:
    """The queue by pixel and state, with the age of its oldest event."""
    out = []
    for name, state, events, oldest in await reader.rows(QUEUE_SQL):
        created = await reader.one("SELECT created FROM outbox WHERE id = ?", oldest)
        if created:
            out.append(Waiting(name, state, events, created[0]))
    return out


async def pixels(reader: Reader) -> list[Pixel]:
    """Every pixel that has ever been given an event, and its state."""
    return [
        Pixel(name, state or "open", since, until, reason)
        for name, state, since, until, reason in await reader.rows(PIXEL_SQL)
    ]


async def requests(reader: Reader, *, before: int | None = None, limit: int = 50) -> list[Request]:
    """The last requests, newest first; `before` is a request's id."""
    return [Request(*row) for row in await reader.rows(REQUEST_SQL, before or 1 << 62, limit)]


async def last_success(reader: Reader) -> dict[str, int]:
    """When each pixel last took events, by its name."""
    out = {}
    for pixel, name in await reader.rows("SELECT id, name FROM pixel"):
        row = await reader.one(
            "SELECT at FROM request WHERE pixel = ? AND outcome = 'sent' ORDER BY id DESC LIMIT 1", pixel
        )
        if row:
            out[name] = row[0]
    return out


async def heartbeats(reader: Reader) -> list[Heartbeat]:
    """Each process's last sign of life."""
    return [
        Heartbeat(process, at, _figures(body))
        for process, at, body in await reader.rows("SELECT process, at, body FROM heartbeat ORDER BY process")
    ]


def _figures(body: bytes) -> dict[str, Any]:
    try:
        figures = msgspec.json.decode(body)
    except msgspec.DecodeError:
        return {}
    return figures if isinstance(figures, dict) else {}


async def outcomes(reader: Reader) -> dict[tuple[str, str], int]:
    """Requests to Meta by pixel and outcome, of all that are kept."""
    return {(str(name), outcome): n for name, outcome, n in await reader.rows(OUTCOME_SQL)}
