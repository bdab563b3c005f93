"""How does one pixel's queue reach Meta? Claim, send, judge, settle; four workers, no other pixel in the way.

The first worker sends fresh events only, so that nothing fresh waits for a backlog; the others take the backlog by
earliest deadline as well. All share the pixel's breaker, pace and block.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from msgspec import Struct, structs

from collector.config import MetaConfig
from collector.core.capi.isolation import Isolation
from collector.core.capi.payload import not_ahead
from collector.core.capi.states import CapiState
from collector.core.capi.verdicts import Answer, Kind, Verdict, classify, clock_ahead_ms
from collector.core.retry import BLOCKED_PROBE_MS, PROBE_EVENTS, Backoff
from collector.courier.alerts import Alerts
from collector.courier.desk import Desk
from collector.courier.graph import GraphClient
from collector.courier.luck import Luck
from collector.courier.targets import Target
from collector.storage.dispatch import Claim, Claimed, PixelHealth, Report
from collector.telemetry import logger

log = logger("courier")

_ROLES: Final = (("fresh",), ("fresh", "backlog"), ("backlog", "fresh"), ("backlog", "fresh"))
# A batch with much poison is finished in a later round, so that it cannot hold a worker for minutes.
_ISOLATION_BUDGET: Final = 300
_CLOCK_ALARM_MS: Final = 5 * 60_000
_IDLE_S: Final = 1.0
_SHORTEST_NAP_S: Final = 0.1


class Stats(Struct):
    """Running figures of one process, for its heartbeat."""

    sent: int = 0
    requests: int = 0
    refused: int = 0
    retried: int = 0
    ambiguous: int = 0
    throttled: int = 0


class PixelQueue:
    """Delivery to one pixel, until `stop`."""

    def __init__(
        self,
        number: int,
        target: Target,
        *,
        meta: MetaConfig,
        desk: Desk,
        graph: GraphClient,
        alerts: Alerts,
        clock: Callable[[], int],
        dice: Callable[[], float],
        stats: Stats,
    ) -> None:
        self.number = number
        self.target = target
        self._meta = meta
        self._desk = desk
        self._outbox = desk.outbox
        self._graph = graph
        self._alerts = alerts
        self._now = clock
        self._dice = dice
        self._stats = stats
        self._luck = Luck(Backoff(int(meta.retry_base_seconds * 1000), int(meta.retry_max_seconds * 1000)))
        self._limit = meta.batch_max
        self._lease_ms = int(meta.timeout_seconds * 1000) + 60_000
        self._blocked: PixelHealth | None = None
        self._probing = False
        self._stopping = False
        self._naps: list[asyncio.Event] = []

    # -- life

    async def run(self) -> None:
        """Deliver until stopped; then the requests in flight are finished and settled."""
        await self._recall()
        async with asyncio.TaskGroup() as group:
            for role in _ROLES:
                group.create_task(self._work(role))

    def stop(self) -> None:
        """Claim nothing more."""
        self._stopping = True
        self.wake()

    def wake(self) -> None:
        """Something may have changed: look again."""
        for nap in self._naps:
            nap.set()

    async def retarget(self, target: Target) -> None:
        """Take a new configuration; a new token resumes a blocked queue at once."""
        changed = target.token_hash != self.target.token_hash
        self.target = target
        if self._blocked is not None and changed:
            await self._unblock()

    @property
    def blocked(self) -> bool:
        """Whether the queue waits for a person."""
        return self._blocked is not None

    async def _recall(self) -> None:
        """A block outlives a restart, unless the token is another one by now."""
        health = await self._desk.ask(lambda: self._outbox.health(self.number))
        if health.state == "blocked" and health.token_hash == self.target.token_hash:
            self._blocked = health
        elif health.state != "open":
            await self._mark("open")

    async def _work(self, role: tuple[str, ...]) -> None:
        nap = asyncio.Event()
        self._naps.append(nap)
        while not self._stopping:
            nap.clear()
            if self._meta.mode == "live" and not self.target.token:
                await self._without_token()
            wait_ms = self._closed_for()
            if wait_ms > 0:
                await _sleep(nap, wait_ms / 1000)
                continue
            probing = self._is_probe()
            self._probing = probing
            try:
                claim = await self._claim(role, probing)
                if claim is not None:
                    await self._deliver(claim)
            finally:
                if probing:
                    self._probing = False
            if claim is not None and probing:
                self.wake()
            if claim is None:
                await self._rest(nap)

    def _closed_for(self) -> int:
        """How long (ms) nothing may be claimed; 0 when the way is open."""
        now = self._now()
        if self._probing:
            return int(_IDLE_S * 1000)
        if self._meta.mode == "live" and not self.target.token:
            return BLOCKED_PROBE_MS
        if self._blocked is not None:
            wait = (self._blocked.until or 0) - now
            return wait if 0 < wait <= BLOCKED_PROBE_MS else 0  # a longer one is a clock set back
        return self._luck.closed_for(now)

    def _is_probe(self) -> bool:
        return self._blocked is not None or self._luck.breaker.open

    async def _claim(self, role: tuple[str, ...], probing: bool) -> Claim | None:
        limit = self._limit
        if probing:
            limit = 1 if self._blocked is not None else min(limit, PROBE_EVENTS)
        return await self._desk.insist(lambda: self._claim_now(role, limit))

    def _claim_now(self, role: tuple[str, ...], limit: int) -> Claim | None:
        now = self._now()
        for lane in role:
            verb = self._outbox.claim_fresh if lane == "fresh" else self._outbox.claim_backlog
            if (claim := verb(self.number, limit, now, self._lease_ms)) is not None:
                return claim
        return None

    async def _rest(self, nap: asyncio.Event) -> None:
        due = await self._desk.ask(lambda: self._outbox.next_due(self.number))
        wait = _IDLE_S if due is None else min(_IDLE_S, (due - self._now()) / 1000)
        await _sleep(nap, max(_SHORTEST_NAP_S, wait))

    # -- one batch

    async def _deliver(self, claim: Claim) -> None:
        ids = [event.id for event in claim.events]
        try:
            if self._meta.mode == "dry_run":
                await self._rehearse(claim)
            else:
                await self._judge(claim, await self._send(claim))
        finally:
            self._outbox.land(ids)

    async def _rehearse(self, claim: Claim) -> None:
        """Dry run: the payload stays as the record of what would have been sent."""
        await self._desk.insist(lambda: self._outbox.close_rehearsed(claim, self._now()))

    async def _without_token(self) -> None:
        """Nothing can be sent: the queue is blocked before it claims, and says so once there is something to send."""
        if self._blocked is None and await self._desk.ask(lambda: self._outbox.next_due(self.number)) is not None:
            await self._block("no access token in the configuration", self._now() + BLOCKED_PROBE_MS)

    async def _send(self, claim: Claim) -> tuple[Verdict, Report]:
        started = self._now()
        target = self.target
        code = claim.events[0].test_code or target.code_at(started)
        bodies = [not_ahead(event.body, event.deadline, started) for event in claim.events]
        answer = await self._graph.send(target.pixel, target.token, bodies, code)
        verdict = classify(answer, len(bodies))
        if verdict.kind is Kind.BLOCKED and target.token_hash != self.target.token_hash:
            verdict = structs.replace(verdict, kind=Kind.TRANSIENT)  # the token was replaced meanwhile
        self._stats.requests += 1
        self._look_at_clock(answer)
        report = Report(
            outcome=verdict.kind.value,
            http_status=verdict.http_status,
            code=verdict.code,
            subcode=verdict.subcode,
            trace_id=verdict.trace_id,
            message=verdict.message or None,
            took_ms=max(0, self._now() - started),
        )
        return verdict, report

    def _look_at_clock(self, answer: Answer) -> None:
        """A wrong clock here costs events: Meta refuses what it takes for the future or for older than 7 days."""
        ahead_ms = clock_ahead_ms(answer.headers, now := self._now())
        if abs(ahead_ms) > _CLOCK_ALARM_MS:
            way = "ahead of" if ahead_ms > 0 else "behind"
            text = f"this machine's clock is {abs(ahead_ms) // 1000} s {way} Meta's; set it by NTP"
            self._alerts.raised("clock", self.target.pixel, text, now)

    async def _judge(self, claim: Claim, came: tuple[Verdict, Report]) -> None:
        verdict, report = came
        match verdict.kind:
            case Kind.SENT:
                await self._on_sent(claim, report)
            case Kind.SHORT:
                await self._on_short(claim, verdict, report)
            case Kind.REFUSED:
                await self._isolate(claim, verdict, report)
            case Kind.TOO_BIG if len(claim.events) > 1:
                self._limit = max(1, len(claim.events) // 2)
                await self._again(claim, claim.events, self._now(), verdict, report)
            case Kind.TOO_BIG:
                await self._on_guilty(claim, verdict, report)
            case Kind.BLOCKED:
                await self._on_blocked(claim, claim.events, verdict, report)
            case _:
                await self._on_fault(claim, claim.events, verdict, report)

    async def _on_sent(self, claim: Claim, report: Report) -> None:
        now = self._now()
        await self._desk.insist(lambda: self._outbox.close_sent(claim, report, now))
        self._stats.sent += len(claim.events)
        self._limit = min(self._meta.batch_max, self._limit * 2)  # after a 413 the batches grow again
        await self._relieved(len(claim.events))

    async def _on_short(self, claim: Claim, verdict: Verdict, report: Report) -> None:
        """Meta counted fewer: once more with the same ids, which Meta removes where it had them; then taken as sent."""
        now = self._now()
        again = [event.id for event in claim.events if event.doubt_at is None]
        taken = [event.id for event in claim.events if event.doubt_at is not None]

        def write() -> None:
            with self._outbox.transaction():
                self._outbox.close_request(claim, report)
                self._outbox.requeue(again, now, reason=verdict.message, doubt_at=now)
                self._outbox.settle(taken, CapiState.SENT, now, reason=verdict.message)
                self._outbox.count("ambiguous", len(again), now)

        await self._desk.insist(write)
        self._stats.ambiguous += len(again)
        self._stats.sent += len(taken)
        await self._relieved(len(taken))

    async def _on_guilty(self, claim: Claim, verdict: Verdict, report: Report) -> None:
        """A single event that Meta refuses: kept with Meta's own words, for replay."""
        now, reason = self._now(), _reason(verdict)

        def write() -> None:
            with self._outbox.transaction():
                self._outbox.close_request(claim, report)
                self._outbox.settle([claim.events[0].id], CapiState.REJECTED, now, reason=reason)

        await self._desk.insist(write)
        self._stats.refused += 1
        self._alerts.refused(self.target.pixel, now)

    async def _isolate(self, claim: Claim, verdict: Verdict, report: Report) -> None:
        """Find the events at fault; the others are delivered in the same round."""
        if len(claim.events) == 1:
            await self._on_guilty(claim, verdict, report)
            await self._relieved(0)
            return
        await self._desk.insist(lambda: self._outbox.close_request(claim, report))
        search: Isolation[Claimed] = Isolation(claim.events, verdict.index)
        while search:
            if search.requests >= _ISOLATION_BUDGET or self._stopping:
                break
            part = await self._open(search.take())
            verdict, report = await self._send(part)
            if verdict.kind is Kind.SENT or verdict.kind is Kind.SHORT:
                await self._judge(part, (verdict, report))
                search.taken()
            elif verdict.kind is Kind.REFUSED and search.refused(verdict.index):
                await self._on_guilty(part, verdict, report)
            elif verdict.kind is Kind.REFUSED:
                await self._close(part, report)
            else:
                await self._judge(part, (verdict, report))
                if self._blocked is not None:
                    break
                search.postponed()
                await asyncio.sleep(self._luck.closed_for(self._now()) / 1000)
        if left := [event.id for event in search.rest()]:
            await self._desk.insist(lambda: self._outbox.requeue(left, self._now(), reason="in a refused batch"))

    async def _open(self, events: list[Claimed]) -> Claim:
        tried = [structs.replace(event, attempts=event.attempts + 1) for event in events]
        return await self._desk.insist(
            lambda: self._outbox.open_request(self.number, tried, self._now(), self._lease_ms)
        )

    async def _close(self, claim: Claim, report: Report) -> None:
        await self._desk.insist(lambda: self._outbox.close_request(claim, report))

    # -- faults

    async def _on_fault(self, claim: Claim, events: list[Claimed], verdict: Verdict, report: Report) -> None:
        """Meta, the way to it, or our pace: the pixel waits, and so do the events."""
        now = self._now()
        if verdict.kind is Kind.THROTTLED:
            self._stats.throttled += 1
        state = self._luck.fault(verdict, now, self._dice())
        await self._again(claim, events, self._luck.breaker.until, verdict, report)
        if state is not None:
            await self._mark(state, until=self._luck.breaker.until, reason=verdict.message)
            log.warning("delivery is slowed", pixel=self.target.pixel, reason=verdict.message, code=verdict.code)
            self._alerts.raised(state, self.target.pixel, verdict.message, now)

    async def _again(self, claim: Claim, events: list[Claimed], due: int, verdict: Verdict, report: Report) -> None:
        now = self._now()
        ids = [event.id for event in events]
        reason = _reason(verdict)

        def write() -> None:
            with self._outbox.transaction():
                self._outbox.close_request(claim, report)
                self._outbox.requeue(ids, due, reason=reason, doubt_at=now if verdict.doubt else None)
                if verdict.doubt:
                    self._outbox.count("ambiguous", len(ids), now)

        await self._desk.insist(write)
        self._stats.retried += len(ids)
        if verdict.doubt:
            self._stats.ambiguous += len(ids)

    async def _on_blocked(self, claim: Claim, events: list[Claimed], verdict: Verdict, report: Report) -> None:
        """Token, permission or pixel: the queue stops and keeps its events; one probe each five minutes."""
        now = self._now()
        await self._again(claim, events, now, verdict, report)
        await self._block(_reason(verdict), now + BLOCKED_PROBE_MS)

    async def _block(self, reason: str, until: int) -> None:
        now, before = self._now(), self._blocked
        health = PixelHealth("blocked", before.since if before else now, until, reason, self.target.token_hash)
        self._blocked = health
        await self._desk.insist(lambda: self._outbox.mark(self.number, health))
        if before is None:
            log.error("delivery is blocked", pixel=self.target.pixel, reason=reason)
            self._alerts.raised("blocked", self.target.pixel, reason, now)

    async def _unblock(self) -> None:
        self._blocked = None
        self._luck.forget()
        await self._mark("open")
        log.info("delivery resumes", pixel=self.target.pixel)
        self._alerts.cleared(self.target.pixel, self._now())
        self.wake()

    async def _relieved(self, events: int) -> None:
        """Meta answered as it should."""
        if self._blocked is not None:
            await self._unblock()
        elif self._luck.success(self._now(), events):
            await self._mark("open")
            self._alerts.cleared(self.target.pixel, self._now())
            self.wake()

    async def _mark(self, state: str, *, until: int | None = None, reason: str | None = None) -> None:
        health = PixelHealth(state, self._now(), until, reason, None)
        await self._desk.insist(lambda: self._outbox.mark(self.number, health))


def _reason(verdict: Verdict) -> str:
    code = f"{verdict.code}" if verdict.code is not None else ""
    code += f"/{verdict.subcode}" if verdict.subcode is not None else ""
    return f"{verdict.message} (Meta {code})" if code else verdict.message


async def _sleep(nap: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await nap.wait()
    except TimeoutError:
        pass
