"""The courier's outbox on PostgreSQL: the verbs of `storage/outbox/dispatch.py`, for pixels that this courier leases.

One request row is the claim, an event is written twice in its life. A claim locks its rows, passing over those that
somebody is changing at this moment, and reads their bytes afterwards: who changes a row locks it first and looks at the
requests in flight then, so that one of the two knows of the other. What is written of a request is written under the
lease's epoch or not at all. Asked from one thread; every verb is one transaction.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from msgspec import structs

from collector.core.capi.states import CapiState
from collector.storage.postgres import leases, settling
from collector.storage.postgres.connecting import Connection
from collector.storage.postgres.leases import Held
from collector.storage.postgres.threaded import Threaded
from collector.storage.rules.sending import (
    AMBIGUOUS,
    EXPIRED_REASON,
    FRESH_MS,
    UNSURE_MS,
    UNSURE_REASON,
    Claim,
    PixelHealth,
    Report,
    halves,
    sort_out,
)
from collector.telemetry import logger

log = logger("courier")

_FAR: Final = 1 << 62
_STEP_MS: Final = 5_000  # between two looks at who leases what
_SOON_MS: Final = 250  # while pixels change hands

_PIXELS: Final = "SELECT name, id FROM pixel"
_DUE: Final = """
(SELECT due FROM outbox WHERE pixel = $1 AND state = {} AND lane = {} AND settled IS NULL ORDER BY due LIMIT 1)"""
_NEXT_DUE: Final = (
    f"SELECT min(due) FROM ({' UNION ALL '.join(_DUE.format(s, n) for s in (0, 1) for n in (0, 1))}) AS d"
)
_FIRST_DEADLINE: Final = """
SELECT deadline FROM outbox WHERE pixel = $1 AND settled IS NULL AND state < 2 ORDER BY deadline LIMIT 1"""
# NOT IN (SELECT unnest(…)), ANY(ARRAY(SELECT unnest(…))): to plan a list of 3,000 numbers takes 23 ms, to ask it 0.7.
# The lanes in their order: purchases, then others; within each what is retried and due, then what waits for company.
_LANE: Final = """
(SELECT {} AS place, id, due FROM outbox WHERE pixel = $1 AND state = {} AND lane = {} AND settled IS NULL
    AND due BETWEEN $2 AND {} AND id NOT IN (SELECT unnest($4::bigint[])) ORDER BY due LIMIT $5)"""
_LANES: Final = [
    _LANE.format(0, 1, 0, "$3"),
    _LANE.format(1, 0, 0, _FAR),
    _LANE.format(2, 1, 1, "$3"),
    _LANE.format(3, 0, 1, _FAR),
]
_FRESH: Final = f"SELECT place, id, due FROM ({' UNION ALL '.join(_LANES)}) AS found ORDER BY place, due"
_BACKLOG: Final = """
SELECT id FROM outbox
 WHERE pixel = $1 AND settled IS NULL AND state < 2 AND due <= $2 AND id NOT IN (SELECT unnest($3::bigint[]))
 ORDER BY deadline LIMIT $4"""
_LOCK: Final = """
SELECT id FROM outbox
 WHERE id = ANY(ARRAY(SELECT unnest($1::bigint[]))) AND settled IS NULL AND state < 2 FOR NO KEY UPDATE SKIP LOCKED"""
_READ: Final = """
SELECT o.id, o.attempts, o.doubt_at, o.deadline, o.test_code, p.body, v.flags
  FROM unnest($1::bigint[]) WITH ORDINALITY AS wanted (id, place) JOIN outbox o ON o.id = wanted.id
  LEFT JOIN outbox_payload p ON p.id = o.id AND p.store = o.store
  LEFT JOIN conversion v ON v.id = o.conversion AND v.store = o.store
 WHERE o.settled IS NULL AND o.state < 2 ORDER BY wanted.place"""
_OPEN: Final = """
INSERT INTO request (pixel, at, events, outcome, epoch, ids) VALUES ($1, $2, $3, 'in_flight', $4, $5) RETURNING id"""
_LATE: Final = """
SELECT id FROM outbox
 WHERE pixel = $1 AND settled IS NULL AND state < 3 AND deadline < $2 AND id NOT IN (SELECT unnest($3::bigint[]))
 ORDER BY deadline LIMIT $4 FOR NO KEY UPDATE SKIP LOCKED"""
_FORWARD: Final = """
UPDATE outbox SET due = $2 WHERE id IN (
    SELECT id FROM outbox WHERE pixel = $1 AND settled IS NULL AND state < 2 AND due > $3 LIMIT 1000) RETURNING id"""
_PIXEL_OF: Final = "SELECT pixel FROM outbox WHERE id = $1"
_HEALTH: Final = "SELECT state, since, until, reason, token_hash FROM pixel_state WHERE pixel = $1"
_MARK: Final = """
INSERT INTO pixel_state (pixel, state, since, until, reason, token_hash) VALUES ($1, $2, $3, $4, $5, $6)
    ON CONFLICT (pixel) DO UPDATE SET state = excluded.state, since = excluded.since, until = excluded.until,
       reason = excluded.reason, token_hash = excluded.token_hash"""


class PostgresOutbox:
    """`owner`: a name that no other courier has, nor one after this."""

    def __init__(self, threaded: Threaded, owner: str) -> None:
        self._ask = threaded.ask
        self._owner = owner
        self._held = Held()
        self._looked_ms: int | None = None
        self._flying: dict[int, tuple[int, int]] = {}  # events to their pixel and the epoch of its lease
        self._open: dict[int, int] = {}  # requests in flight to that epoch

    # -- leases

    @property
    def lease_ms(self) -> int:
        """How soon it is to be looked again at whose pixels are whose."""
        return _SOON_MS if self._held.is_changing else _STEP_MS

    def lease(self, now: int) -> dict[str, int]:
        """The pixels whose queues this courier sends from now on, and their numbers; looked at every few seconds."""
        ticks = time.monotonic_ns() // 1_000_000
        if self._looked_ms is None or ticks - self._looked_ms >= self.lease_ms:
            self._held = self._ask(lambda c: self._step(c, now))
            self._looked_ms = ticks
            if self._held.doubtful:
                log.warning("a former courier ended in the middle of a request", events=self._held.doubtful)
        mine = self._held.epochs.keys() - self._held.leaving
        return {name: number for name, number in self.pixels().items() if number in mine}

    async def _step(self, c: Connection, now: int) -> Held:
        await settling.forget_unsent(c, self._held.epochs, list(self._open))
        return await leases.step(c, self._owner, self._held, {pixel for pixel, _ in self._flying.values()}, now)

    def release(self) -> None:
        """Others may take the pixels at once, and what is still in flight as in doubt."""
        self._ask(lambda c: leases.give_all(c, self._owner))
        self._held = Held()

    def is_sending(self, pixel: int) -> bool:
        """Whether a request with events of this pixel is under way, as far as this process knows."""
        return any(number == pixel for number, _ in self._flying.values())

    def pixels(self) -> dict[str, int]:
        """Meta's pixel ids that have ever been given an event, to their short numbers."""
        rows = self._ask(lambda c: c.fetch(_PIXELS))
        return {row["name"]: row["id"] for row in rows}

    def take_over(self, now: int) -> int:
        """Nothing yet: what a courier before had in flight is taken over with the lease of its pixel."""
        return 0

    # -- looking

    def next_due(self, pixel: int) -> int | None:
        """The earliest moment at which something of this pixel is due; None with an empty queue."""
        due: int | None = self._ask(lambda c: c.fetchval(_NEXT_DUE, pixel))
        return due

    def first_deadline(self, pixel: int) -> int | None:
        """When Meta would no longer take the first of what waits (ms); None with an empty queue."""
        deadline: int | None = self._ask(lambda c: c.fetchval(_FIRST_DEADLINE, pixel))
        return deadline

    # -- claiming

    def claim_fresh(
        self, pixel: int, limit: int, now: int, lease_ms: int, *, trusted: int | None = None
    ) -> Claim | None:
        """The due events of the last quarter of an hour, purchases first, with company that is not due yet."""
        return self._claimed(pixel, self._ask(lambda c: self._fresh(c, pixel, limit, now, trusted)))

    def claim_backlog(
        self, pixel: int, limit: int, now: int, lease_ms: int, *, trusted: int | None = None
    ) -> Claim | None:
        """Whatever is due, by earliest deadline; None unless something has waited longer than `FRESH_MS`."""
        return self._claimed(pixel, self._ask(lambda c: self._backlog(c, pixel, limit, now, trusted)))

    def open_request(self, pixel: int, ids: Sequence[int], now: int, lease_ms: int, *, trusted: int) -> Claim | None:
        """Write down that these events are about to be sent; they are in flight until `close_request`."""
        return self._opened(pixel, self._ask(lambda c: self._request(c, pixel, ids, now, trusted)))

    async def _fresh(self, c: Connection, pixel: int, limit: int, now: int, trusted: int | None) -> Claim | None:
        rows = await c.fetch(_FRESH, pixel, now - FRESH_MS, now, list(self._flying), limit)
        first = {row["place"]: row["due"] for row in reversed(rows)}
        if len(rows) < limit and not any(due <= now for due in first.values()):
            return None
        ids = [row["id"] for row in rows[:limit]]
        return await self._request(c, pixel, ids, now, now if trusted is None else trusted)

    async def _backlog(self, c: Connection, pixel: int, limit: int, now: int, trusted: int | None) -> Claim | None:
        due = await c.fetchval(_NEXT_DUE, pixel)
        if due is None or due >= now - FRESH_MS:
            return None
        rows = await c.fetch(_BACKLOG, pixel, now, list(self._flying), limit)
        return await self._request(c, pixel, [row["id"] for row in rows], now, now if trusted is None else trusted)

    async def _request(self, c: Connection, pixel: int, ids: Sequence[int], now: int, trusted: int) -> Claim | None:
        epoch = self._held.epochs.get(pixel)
        if not ids or epoch is None or not await leases.renew(c, self._owner, pixel, epoch):
            return None
        locked = {row["id"] for row in await c.fetch(_LOCK, ids)}
        rows = await c.fetch(_READ, [number for number in ids if number in locked])
        events, endings, unsure = sort_out(map(tuple, rows), now, trusted)
        for ending in endings:
            await settling.settle(c, ending.ids, ending.state, now, reason=ending.reason)
        await settling.requeue(c, unsure, now + UNSURE_MS, reason=UNSURE_REASON)
        if not events:
            return None
        numbers = [event.id for event in events]
        return Claim(await c.fetchval(_OPEN, pixel, now, len(events), epoch, numbers), pixel, events)

    def _opened(self, pixel: int, claim: Claim | None) -> Claim | None:
        if claim is not None:
            self._open[claim.request] = self._held.epochs[pixel]
        return claim

    def _claimed(self, pixel: int, claim: Claim | None) -> Claim | None:
        if self._opened(pixel, claim) is not None and claim is not None:
            self._flying.update(dict.fromkeys(claim.ids, (pixel, self._held.epochs[pixel])))
        return claim

    def land(self, ids: Sequence[int]) -> None:
        """These events are no longer in flight."""
        for number in ids:
            self._flying.pop(number, None)

    # -- settling

    def close_request(self, claim: Claim, report: Report) -> None:
        """Write down what came of the request, and the attempt in each of its events; their state stays as it is."""
        self._close(claim, report, lambda c: settling.tried(c, claim.request, claim.ids))

    def close_sent(self, claim: Claim, report: Report, now: int) -> None:
        """As `close_request` followed by `settle` as SENT, in one pass over the rows."""
        self._close(claim, report, lambda c: self._settled(c, claim, CapiState.SENT, now, 1))

    def close_rehearsed(self, claim: Claim, now: int) -> None:
        """As `close_sent`, for a dry run: nothing left the machine."""
        self._close(claim, Report(outcome="dry_run"), lambda c: self._settled(c, claim, CapiState.DRY_RUN, now, 0))

    async def _settled(self, c: Connection, claim: Claim, state: CapiState, now: int, attempts: int) -> None:
        await settling.settle(c, claim.ids, state, now, request=claim.request, attempts=attempts)

    def close_again(self, claim: Claim, report: Report, now: int, due: int, *, reason: str | None, doubt: bool) -> None:
        """As `close_request`; all go once more, not before `due`. `doubt`: Meta may have taken them."""

        async def then(c: Connection) -> None:
            await settling.tried(c, claim.request, claim.ids)
            await settling.requeue(c, claim.ids, due, reason=reason, doubt_at=now if doubt else None)
            if doubt:
                await settling.count(c, AMBIGUOUS, len(claim.events), now)

        self._close(claim, report, then)

    def close_short(self, claim: Claim, report: Report, now: int) -> int:
        """Meta counted fewer: once more with the same ids, then taken as sent. Gives how many were taken as sent."""
        again, taken = halves(claim)

        async def then(c: Connection) -> None:
            await settling.tried(c, claim.request, claim.ids)
            await settling.requeue(c, again, now, reason=report.message, doubt_at=now)
            await settling.settle(c, taken, CapiState.SENT, now, reason=report.message)
            await settling.count(c, AMBIGUOUS, len(again), now)

        self._close(claim, report, then)
        return len(taken)

    def _close(self, claim: Claim, report: Report, then: Callable[[Connection], Awaitable[None]]) -> None:
        epoch = self._open.get(claim.request, -1)

        async def write(c: Connection) -> bool:
            if not await leases.holds(c, self._owner, claim.pixel, epoch):
                return False
            if await settling.close(c, claim, report):
                await then(c)
            return True

        if not self._ask(write):
            _lost(len(claim.events))
        self._open.pop(claim.request, None)

    def settle(self, ids: Sequence[int], state: CapiState, now: int, *, reason: str | None = None) -> None:
        """The last word on these events; only that Meta has one comes after another."""
        self._write(ids, lambda c: settling.settle(c, ids, state, now, reason=reason))

    def requeue(self, ids: Sequence[int], due: int, *, reason: str | None, doubt_at: int | None = None) -> None:
        """Try these again, not before `due`. `doubt_at`: Meta may have taken them in an attempt at that time."""
        self._write(ids, lambda c: settling.requeue(c, ids, due, reason=reason, doubt_at=doubt_at))

    def _write(self, ids: Sequence[int], then: Callable[[Connection], Awaitable[None]]) -> None:
        async def write(c: Connection) -> bool:
            if not await leases.holds(c, self._owner, *await self._lease_of(c, ids[0])):
                return False
            await then(c)
            return True

        if ids and not self._ask(write):
            _lost(len(ids))

    async def _lease_of(self, c: Connection, number: int) -> tuple[int, int]:
        """The lease that an event is in flight under, or that its pixel has now."""
        if (flying := self._flying.get(number)) is not None:
            return flying
        pixel = await c.fetchval(_PIXEL_OF, number)
        return pixel, self._held.epochs.get(pixel, -1)

    def expire(self, pixel: int, now: int, limit: int = 1000) -> int:
        """Settle as EXPIRED what Meta would no longer take, also while the pixel is blocked or the event is held."""
        return self._ask(lambda c: self._expire(c, pixel, now, limit))

    async def _expire(self, c: Connection, pixel: int, now: int, limit: int) -> int:
        if not await leases.holds(c, self._owner, pixel, self._held.epochs.get(pixel, -1)):
            return 0
        ids = [row["id"] for row in await c.fetch(_LATE, pixel, now, list(self._flying), limit)]
        await settling.settle(c, ids, CapiState.EXPIRED, now, reason=EXPIRED_REASON)
        return len(ids)

    def pull_forward(self, pixel: int, now: int, horizon_ms: int) -> int:
        """Make due what waits longer than any wait of ours, because the clock was set back; how many there were."""
        return len(self._ask(lambda c: c.fetch(_FORWARD, pixel, now, now + horizon_ms)))

    # -- pixels

    def health(self, pixel: int) -> PixelHealth:
        """How the pixel's queue stood when it was last written down."""
        row = self._ask(lambda c: c.fetchrow(_HEALTH, pixel))
        return PixelHealth(*row) if row else PixelHealth()

    def mark(self, pixel: int, health: PixelHealth) -> None:
        """Write down how the pixel's queue stands."""
        health = structs.replace(health, reason=settling.plain(health.reason))
        self._ask(lambda c: c.execute(_MARK, pixel, *structs.astuple(health)))


def _lost(events: int) -> None:
    log.warning("the lease of a pixel went to another courier, which takes its events over as in doubt", events=events)
