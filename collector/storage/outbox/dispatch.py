"""What does the courier ask of the outbox: claim a batch by lease, settle it, put it back, take over after a crash?

A request row is the lease: it names its events while it is in flight, so a claim writes one row and not a thousand, and
an event is written twice in its life, at its insert and when it is settled. One courier at a time works on a data
directory (a file lock, courier/app.py); what it has in flight it also knows in memory, so a batch never takes an event
twice. Every verb is one transaction of its own, unless it is called inside `with outbox.transaction():`.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, cast

import apsw
import msgspec

from collector.core.capi.states import CapiState
from collector.errors import Unavailable
from collector.storage.ground.database import immediate
from collector.storage.rules.sending import (
    AMBIGUOUS,
    EXPIRED_REASON,
    FRESH_MS,
    INTERRUPTED,
    UNSURE_MS,
    UNSURE_REASON,
    Claim,
    Claimed,
    PixelHealth,
    Report,
    Waiting,
    halves,
    sort_out,
)

_QUEUED, _RETRYING = int(CapiState.QUEUED), int(CapiState.RETRYING)
_FAR: Final = 1 << 62

_DUE_SQL: Final = """
SELECT id FROM outbox
 WHERE pixel = ? AND state = ? AND lane = ? AND settled IS NULL AND due BETWEEN ? AND ? ORDER BY due LIMIT ?"""
_FIRST_DUE_SQL: Final = """
SELECT due FROM outbox
 WHERE pixel = ? AND state = ? AND lane = ? AND settled IS NULL ORDER BY due LIMIT 1"""
_BY_DEADLINE_SQL: Final = """
SELECT id, due, deadline FROM outbox INDEXED BY outbox_deadline
 WHERE pixel = ? AND settled IS NULL AND state < 2 ORDER BY deadline"""
_READ_SQL: Final = """
SELECT o.id, o.attempts, o.doubt_at, o.deadline, o.test_code, p.body, v.flags
  FROM carray(?) c CROSS JOIN outbox o ON o.id = c.value LEFT JOIN outbox_payload p ON p.id = o.id
  LEFT JOIN conversion v ON v.id = o.conversion
 WHERE o.settled IS NULL AND o.state < 2"""
_OPEN_SQL: Final = """
INSERT INTO request (pixel, at, events, outcome, lease_owner, lease_until, ids)
VALUES (?, ?, ?, 'in_flight', ?, ?, ?) RETURNING id"""
_CLOSE_SQL: Final = """
UPDATE request SET outcome = :outcome, http_status = :http_status, code = :code, subcode = :subcode,
       trace_id = :trace_id, message = :message, took_ms = :took_ms, lease_owner = NULL, lease_until = NULL, ids = NULL
 WHERE id = :id"""
_SETTLE_SQL: Final = """
UPDATE outbox SET state = ?1, settled = ?2, attempts = attempts + ?3, request = coalesce(?4, request), reason = ?5
 WHERE (settled IS NULL OR ?1 = 10) AND id IN (SELECT value FROM carray(?6))"""
_EARLIER_SQL: Final = """
INSERT INTO attempt (outbox, request)
SELECT id, request FROM outbox WHERE id IN (SELECT value FROM carray(?)) AND request IS NOT NULL AND request != ?
    ON CONFLICT DO NOTHING"""
_TRIED_SQL: Final = """
UPDATE outbox SET attempts = attempts + 1, request = ? WHERE id IN (SELECT value FROM carray(?))"""
_REQUEUE_SQL: Final = """
UPDATE outbox SET state = 1, due = ?1, reason = ?2,
       doubt_at = coalesce(doubt_at, ?3), doubts = doubts + (?3 IS NOT NULL)
 WHERE settled IS NULL AND state < 2 AND id IN (SELECT value FROM carray(?4))"""
_DOUBT_STOPPED_SQL: Final = """
UPDATE outbox SET doubt_at = coalesce(doubt_at, ?1), doubts = doubts + 1
 WHERE state IN (2, 13) AND id IN (SELECT value FROM carray(?2))"""
_EXPIRE_SQL: Final = """
SELECT id FROM outbox INDEXED BY outbox_deadline
 WHERE pixel = ? AND settled IS NULL AND state < 2 AND deadline < ? LIMIT ?"""
_EXPIRE_HELD_SQL: Final = """
SELECT id FROM outbox WHERE pixel = ? AND state = 2 AND settled IS NULL AND deadline < ? LIMIT ?"""


def _carray(ids: Sequence[int]) -> Any:
    return apsw.carray(array("q", ids), flags=apsw.SQLITE_CARRAY_INT64)


class Outbox:
    """The courier's view of the outbox on its own connection; used from one thread."""

    lease_ms = _FAR  # between two looks at whose pixels are whose

    def __init__(self, db: apsw.Connection, owner: str) -> None:
        self._db = db
        self._owner = owner
        self._flying: dict[int, int] = {}  # events to their pixel

    def is_sending(self, pixel: int) -> bool:
        """Whether a request with events of this pixel is under way."""
        return pixel in self._flying.values()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing; the outermost one owns the commit. IMMEDIATE, because an upgraded read fails at once."""
        if self._db.in_transaction:
            yield
            return
        with immediate(self._db):
            yield

    def lease(self, now: int) -> dict[str, int]:
        """The pixels whose queues this courier sends, and their numbers: all, for one courier works on a directory."""
        return self.pixels()

    def release(self) -> None:
        """Nobody waits for them."""

    def pixels(self) -> dict[str, int]:
        """Meta's pixel ids that have ever been given an event, to their short numbers."""
        return dict(cast("list[tuple[str, int]]", self._db.execute("SELECT name, id FROM pixel").fetchall()))

    # -- looking

    def next_due(self, pixel: int) -> int | None:
        """The earliest moment at which something of this pixel is due; None with an empty queue."""
        dues = [
            due
            for state in (_QUEUED, _RETRYING)
            for lane in (0, 1)
            for (due,) in self._db.execute(_FIRST_DUE_SQL, (pixel, state, lane))
        ]
        return min(cast("list[int]", dues)) if dues else None

    def has_backlog(self, pixel: int, now: int) -> bool:
        """Whether something has been due for longer than the fresh lane looks back."""
        due = self.next_due(pixel)
        return due is not None and due < now - FRESH_MS

    def first_deadline(self, pixel: int) -> int | None:
        """When Meta would no longer take the first of what waits (ms); None with an empty queue."""
        row = self._db.execute(_BY_DEADLINE_SQL + " LIMIT 1", (pixel,)).fetchone()
        return cast(int, row[2]) if row else None

    # -- claiming

    def claim_fresh(
        self, pixel: int, limit: int, now: int, lease_ms: int, *, trusted: int | None = None
    ) -> Claim | None:
        """The due events of the last quarter of an hour, purchases first, with company that is not due yet.

        None when nothing is due and no full batch has gathered. `trusted`: the now by which an event's time may end for
        good (core/trusted.py); without it, `now`.
        """
        ids = self._fresh_ids(pixel, limit, now)
        return self._claim(pixel, ids, now, lease_ms, now if trusted is None else trusted) if ids else None

    def claim_backlog(
        self, pixel: int, limit: int, now: int, lease_ms: int, *, trusted: int | None = None
    ) -> Claim | None:
        """Whatever is due, by earliest deadline; None unless something has waited longer than `FRESH_MS`."""
        if not self.has_backlog(pixel, now):
            return None
        ids: list[int] = []
        for number, due, _ in self._db.execute(_BY_DEADLINE_SQL, (pixel,)):
            if cast(int, due) <= now and number not in self._flying:
                ids.append(cast(int, number))
                if len(ids) == limit:
                    break
        return self._claim(pixel, ids, now, lease_ms, now if trusted is None else trusted) if ids else None

    def _fresh_ids(self, pixel: int, limit: int, now: int) -> list[int]:
        since, room = now - FRESH_MS, limit + len(self._flying)
        ids: list[int] = []
        due = False
        for lane in (0, 1):
            for state, until in ((_RETRYING, now), (_QUEUED, _FAR)):
                rows = self._db.execute(_DUE_SQL, (pixel, state, lane, since, until, room))
                found = [number for (number,) in cast("Iterator[tuple[int]]", rows) if number not in self._flying]
                due = due or (bool(found) and self._is_due(found[0], now))
                ids += found
        return ids[:limit] if due or len(ids) >= limit else []

    def _is_due(self, number: int, now: int) -> bool:
        return cast(int, self._db.execute("SELECT due FROM outbox WHERE id = ?", (number,)).get) <= now

    def _claim(self, pixel: int, ids: list[int], now: int, lease_ms: int, trusted: int) -> Claim | None:
        claim = self.open_request(pixel, ids, now, lease_ms, trusted=trusted)
        if claim is not None:
            self._flying.update(dict.fromkeys(claim.ids, pixel))
        return claim

    def open_request(self, pixel: int, ids: Sequence[int], now: int, lease_ms: int, *, trusted: int) -> Claim | None:
        """Write down that these events are about to be sent; they are in flight until `close_request`.

        Read and written in one transaction: what changes after it knows that these bytes are under way. What was
        settled or held since `ids` were chosen, or may go no more, is left out; None without any other.
        """
        with self.transaction():
            events = self._sendable(ids, now, trusted)
            return self._opened(pixel, events, now, lease_ms) if events else None

    def _sendable(self, ids: Sequence[int], now: int, trusted: int) -> list[Claimed]:
        rows = cast("Iterator[Waiting]", self._db.execute(_READ_SQL, (_carray(ids),)))
        events, endings, unsure = sort_out(rows, now, trusted)
        for ending in endings:
            self.settle(ending.ids, ending.state, now, reason=ending.reason)
        self.requeue(unsure, now + UNSURE_MS, reason=UNSURE_REASON)
        return events

    def _opened(self, pixel: int, events: list[Claimed], now: int, lease_ms: int) -> Claim:
        ids = msgspec.msgpack.encode([event.id for event in events])
        lease = (pixel, now, len(events), self._owner, now + lease_ms, ids)
        return Claim(cast(int, self._db.execute(_OPEN_SQL, lease).get), pixel, events)

    def land(self, ids: Sequence[int]) -> None:
        """These events are no longer in flight."""
        for number in ids:
            self._flying.pop(number, None)

    # -- settling

    def close_request(self, claim: Claim, report: Report) -> None:
        """Write down what came of the request, and the attempt in each of its events; their state stays as it is."""
        ids = _carray(claim.ids)
        with self.transaction():
            self._db.execute(_CLOSE_SQL, {"id": claim.request, **msgspec.structs.asdict(report)})
            if any(event.attempts for event in claim.events):
                self._db.execute(_EARLIER_SQL, (ids, claim.request))
            self._db.execute(_TRIED_SQL, (claim.request, ids))

    def close_sent(self, claim: Claim, report: Report, now: int) -> None:
        """As `close_request` followed by `settle` as SENT, in one pass over the rows: the common case."""
        ids = _carray(claim.ids)
        with self.transaction():
            self._db.execute(_CLOSE_SQL, {"id": claim.request, **msgspec.structs.asdict(report)})
            if any(event.attempts for event in claim.events):
                self._db.execute(_EARLIER_SQL, (ids, claim.request))
            self._db.execute(_SETTLE_SQL, (int(CapiState.SENT), now, 1, claim.request, None, ids))

    def close_rehearsed(self, claim: Claim, now: int) -> None:
        """As `close_sent`, for a dry run: nothing left the machine."""
        ids = _carray(claim.ids)
        with self.transaction():
            self._db.execute(_CLOSE_SQL, {"id": claim.request, **msgspec.structs.asdict(Report(outcome="dry_run"))})
            self._db.execute(_SETTLE_SQL, (int(CapiState.DRY_RUN), now, 0, claim.request, None, ids))

    def close_again(self, claim: Claim, report: Report, now: int, due: int, *, reason: str | None, doubt: bool) -> None:
        """As `close_request`; all go once more, not before `due`. `doubt`: Meta may have taken them."""
        with self.transaction():
            self.close_request(claim, report)
            self.requeue(claim.ids, due, reason=reason, doubt_at=now if doubt else None)
            if doubt:
                self.count(AMBIGUOUS, len(claim.events), now)

    def close_short(self, claim: Claim, report: Report, now: int) -> int:
        """Meta counted fewer: once more with the same ids, which Meta removes where it had them; then taken as sent.

        Gives how many were taken as sent.
        """
        again, taken = halves(claim)
        with self.transaction():
            self.close_request(claim, report)
            self.requeue(again, now, reason=report.message, doubt_at=now)
            self.settle(taken, CapiState.SENT, now, reason=report.message)
            self.count(AMBIGUOUS, len(again), now)
        return len(taken)

    def settle(self, ids: Sequence[int], state: CapiState, now: int, *, reason: str | None = None) -> None:
        """The last word on these events; only that Meta has one comes after another."""
        if ids:
            with self.transaction():
                self._db.execute(_SETTLE_SQL, (int(state), now, 0, None, reason, _carray(ids)))

    def requeue(self, ids: Sequence[int], due: int, *, reason: str | None, doubt_at: int | None = None) -> None:
        """Try these again, not before `due`. `doubt_at`: Meta may have taken them in an attempt at that time."""
        if ids:
            with self.transaction():
                self._db.execute(_REQUEUE_SQL, (due, reason, doubt_at, _carray(ids)))
                if doubt_at is not None:
                    self._db.execute(_DOUBT_STOPPED_SQL, (doubt_at, _carray(ids)))

    def expire(self, pixel: int, now: int, limit: int = 1000) -> int:
        """Settle as EXPIRED what Meta would no longer take, also while the pixel is blocked or the event is held."""
        ids: list[int] = []
        for sql in (_EXPIRE_SQL, _EXPIRE_HELD_SQL):
            rows = cast("list[tuple[int]]", self._db.execute(sql, (pixel, now, limit)).fetchall())
            ids += [number for (number,) in rows if number not in self._flying]
        self.settle(ids, CapiState.EXPIRED, now, reason=EXPIRED_REASON)
        return len(ids)

    def pull_forward(self, pixel: int, now: int, horizon_ms: int) -> int:
        """Make due what waits longer than any wait of ours, because the clock was set back; how many there were."""
        ids: list[int] = []
        for state in (_QUEUED, _RETRYING):
            for lane in (0, 1):
                rows = self._db.execute(_DUE_SQL, (pixel, state, lane, now + horizon_ms, _FAR, 1000))
                ids += [number for (number,) in cast("Iterator[tuple[int]]", rows)]
        if ids:
            with self.transaction():
                self._db.execute(
                    "UPDATE outbox SET due = ? WHERE id IN (SELECT value FROM carray(?))", (now, _carray(ids))
                )
        return len(ids)

    # -- after a crash

    def take_over(self, now: int) -> int:
        """Requeue what a courier before us had in flight; how many events are in doubt because of that."""
        doubtful = 0
        with self.transaction():
            rows = self._db.execute("SELECT id, at, pixel, ids FROM request WHERE outcome = 'in_flight'").fetchall()
            for request, at, pixel, blob in cast("list[tuple[int, int, int, bytes]]", rows):
                ids = msgspec.msgpack.decode(blob, type=list[int])
                events = [Claimed(number, 1, None, 0, None, b"") for number in ids]
                self.close_request(Claim(request, pixel, events), Report(outcome="interrupted", message=INTERRUPTED))
                self.requeue(ids, now, reason="interrupted", doubt_at=at)
                doubtful += len(ids)
            if doubtful:
                self.count(AMBIGUOUS, doubtful, now)
        return doubtful

    # -- pixels

    def health(self, pixel: int) -> PixelHealth:
        """How the pixel's queue stood when it was last written down."""
        sql = "SELECT state, since, until, reason, token_hash FROM pixel_state WHERE pixel = ?"
        row = self._db.execute(sql, (pixel,)).fetchone()
        return PixelHealth(*cast("tuple[Any, ...]", row)) if row else PixelHealth()

    def mark(self, pixel: int, health: PixelHealth) -> None:
        """Write down how the pixel's queue stands."""
        sql = """
INSERT INTO pixel_state (pixel, state, since, until, reason, token_hash) VALUES (?, ?, ?, ?, ?, ?)
    ON CONFLICT (pixel) DO UPDATE SET state = excluded.state, since = excluded.since, until = excluded.until,
       reason = excluded.reason, token_hash = excluded.token_hash"""
        with self.transaction():
            self._db.execute(sql, (pixel, *msgspec.structs.astuple(health)))

    def count(self, name: str, n: int, now: int) -> None:
        """Add to the day's running count `name` of the installation (store 0)."""
        sql = """
INSERT INTO counter (day, store, name, n) VALUES (?, 0, ?, ?) ON CONFLICT DO UPDATE SET n = n + excluded.n"""
        with self.transaction():
            self._db.execute(sql, (now // 86_400_000, name, n))


def may_open_later(error: BaseException) -> bool:
    """Whether a database that could not be opened may open soon: a full disk (SQLite says IOERR then), or a lock."""
    cause = error.__cause__ or error
    return isinstance(cause, apsw.IOError) or is_temporary(cause)


def is_locked(error: BaseException) -> bool:
    """A lock that another process holds for long: it counts the sums anew after an upgrade."""
    return isinstance(error.__cause__ or error, apsw.BusyError | apsw.LockedError)


def is_temporary(error: BaseException) -> bool:
    """A lock held by another process or a full disk: the same statement may work in a moment."""
    return isinstance(error, apsw.BusyError | apsw.LockedError | apsw.FullError | Unavailable)
