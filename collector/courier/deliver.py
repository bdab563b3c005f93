"""How does one pixel's queue reach Meta? Claim, send, judge, settle; four workers, no other pixel in the way.

The first worker sends fresh events only, so that nothing fresh waits for a backlog; the others take the backlog by
earliest deadline as well. All share the pixel's breaker, pace and block.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from msgspec import structs

from collector.config import MetaConfig
from collector.core.capi.isolation import Isolation
from collector.core.capi.payload import not_ahead
from collector.core.capi.verdicts import (
    Answer,
    Kind,
    Verdict,
    classify,
    date_of,
    is_about_time,
    is_events_own,
    is_metas,
)
from collector.core.retry import PROBE_EVENTS, Backoff, lone_wait_ms
from collector.courier.alerts import Alerts
from collector.courier.blocks import Block
from collector.courier.desk import Desk
from collector.courier.graph import GraphClient
from collector.courier.pacing import Pacing
from collector.courier.register import Register, Stats, reason_of
from collector.courier.suspects import Suspects
from collector.courier.targets import Target
from collector.courier.timekeeper import Timekeeper
from collector.courier.waiting import told
from collector.storage.rules.sending import Claim, PixelHealth, Report
from collector.telemetry import logger

log = logger("courier")

_EVERY_LANE: Final = ("fresh", "backlog")
_ROLES: Final = (("fresh",), _EVERY_LANE, ("backlog", "fresh"), ("backlog", "fresh"))
# A batch with much poison is finished in a later round, so that it cannot hold a worker for minutes.
_ISOLATION_BUDGET: Final = 300
_CLOCK_ALARM_MS: Final = 5 * 60_000
_IDLE_S: Final = 1.0
_EMPTY_S: Final = 30.0  # what comes into an empty queue is a commit, and `look` tells of it
_SHORTEST_NAP_S: Final = 0.1  # between two looks


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
        time: Timekeeper,
        ticks: Callable[[], int],
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
        self._time = time
        self._now = time.clock
        self._ticks = ticks
        self._dice = dice
        self._stats = stats
        self._backoff = Backoff(int(meta.retry_base_seconds * 1000), int(meta.retry_max_seconds * 1000))
        self._pacing = Pacing(self._backoff)
        self._limit = meta.batch_max
        self._lease_ms = int(meta.timeout_seconds * 1000) + 60_000
        self._register = Register(number, desk, stats, time.clock, self._lease_ms)
        self._block = Block()
        self._blocked_since = 0
        self._lone_code: int | None = None  # of the last event refused alone for no fault of its own fields
        self._probing = False
        self._stopping = False
        self._naps: list[asyncio.Event] = []
        self._look = asyncio.Event()

    # -- life

    async def run(self) -> None:
        """Deliver until stopped; then the requests in flight are finished and settled."""
        await self._recall()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch())
            for role in _ROLES:
                group.create_task(self._work(role))

    def stop(self) -> None:
        """Claim nothing more."""
        self._stopping = True
        self.wake()

    def wake(self) -> None:
        """Something may have changed: every worker looks again."""
        self._look.set()
        self._wake_workers()

    def _wake_workers(self) -> None:
        for nap in self._naps:
            nap.set()

    def look(self) -> None:
        """Somebody has written to the database: one look tells whether this queue's workers have to."""
        self._look.set()

    def retarget(self, target: Target) -> None:
        """Take a new configuration; another token, version or address has a blocked queue tried at once."""
        changed = target.way_hash != self.target.way_hash
        self.target = target
        if changed:
            self.try_now()

    def try_now(self) -> None:
        """A person may have mended what blocks the queue, here or at Meta: one event is tried."""
        if self._block.on:
            self._block.try_now(self._ticks())
            self.wake()

    def hasten(self) -> None:
        """What made requests fail is over: ask again at once."""
        self._pacing.forget()
        self.wake()

    @property
    def blocked(self) -> bool:
        """Whether the queue waits for a person."""
        return self._block.on

    async def _recall(self) -> None:
        """A block outlives a restart, and is tried at once: it may have been mended meanwhile."""
        health = await self._desk.ask(lambda: self._outbox.health(self.number))
        if health.state == "blocked":
            self._block.put(self._ticks())
            self._block.try_now(self._ticks())
            self._blocked_since = health.since
        elif health.state != "open":
            await self._mark("open")

    async def _work(self, role: tuple[str, ...]) -> None:
        nap = asyncio.Event()
        self._naps.append(nap)
        while not self._stopping:
            nap.clear()
            if self._meta.mode == "live" and not self.target.token:
                await self._without_token()
            wait_ms = self.closed_for()
            if wait_ms > 0:
                await told(nap, wait_ms / 1000)
                continue
            probing = self._block.on or self._pacing.breaker.open
            self._probing = probing
            self._block.probing()
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
                await nap.wait()

    def closed_for(self) -> int:
        """How long (ms) nothing may be claimed; 0 when the way is open."""
        if self._probing or (self._meta.mode == "live" and not self.target.token):
            return int(_IDLE_S * 1000)
        return self._block.closed_for(self._ticks()) if self._block.on else self._pacing.closed_for(self._ticks())

    async def _claim(self, role: tuple[str, ...], probing: bool) -> Claim | None:
        limit = self._limit
        if probing:
            role = _EVERY_LANE  # else the fresh lane's worker spends the only probe on a lane without events
            limit = 1 if self._block.on else min(limit, PROBE_EVENTS)
        return await self._desk.insist(lambda: self._claim_now(role, limit))

    def _claim_now(self, role: tuple[str, ...], limit: int) -> Claim | None:
        now, trusted = self._now(), self._time.clock.trusted()
        for lane in role:
            verb = self._outbox.claim_fresh if lane == "fresh" else self._outbox.claim_backlog
            if (claim := verb(self.number, limit, now, self._lease_ms, trusted=trusted)) is not None:
                return claim
        return None

    async def _watch(self) -> None:
        """Wake the workers for what is due, and for a full batch that need not wait; asleep they cost nothing."""
        looked = True
        while not self._stopping:
            self._look.clear()
            due = await self._desk.ask(lambda: self._outbox.next_due(self.number))
            wait = _EMPTY_S if due is None else min((due - self._now()) / 1000, _IDLE_S)
            if due is not None and (looked or wait <= 0):
                self._wake_workers()
            looked = await told(self._look, max(wait, _SHORTEST_NAP_S))

    # -- one batch

    async def _deliver(self, claim: Claim) -> None:
        try:
            if self._meta.mode == "dry_run":
                await self._register.rehearsed(claim)
            else:
                await self._judge(claim, await self._send(claim))
        finally:
            self._outbox.land(claim.ids)

    async def _without_token(self) -> None:
        """Nothing can be sent: the queue is blocked before it claims, and says so once there is something to send."""
        if not self._block.on and await self._desk.ask(lambda: self._outbox.next_due(self.number)) is not None:
            await self._stop_for("no access token in the configuration")

    async def _send(self, claim: Claim) -> tuple[Verdict, Report]:
        started, began, target = self._now(), self._ticks(), self.target
        code = claim.events[0].test_code or target.code_at(started)
        bodies = [not_ahead(event.body, event.deadline, started) for event in claim.events]
        answer = await self._graph.send(target, bodies, code)
        verdict = classify(answer, len(bodies))
        if verdict.kind is Kind.BLOCKED and target.way_hash != self.target.way_hash:
            verdict = structs.replace(verdict, kind=Kind.TRANSIENT)  # what it is about was replaced meanwhile
        self._stats.requests += 1
        self._look_at_clock(answer, verdict)
        if is_about_time(verdict) and self._time.is_disputed:
            verdict = structs.replace(verdict, kind=Kind.TRANSIENT)  # our clock is to blame, and no event
        report = Report(
            outcome=verdict.kind.value,
            http_status=verdict.http_status,
            code=verdict.code,
            subcode=verdict.subcode,
            trace_id=verdict.trace_id,
            message=verdict.message or None,
            took_ms=self._ticks() - began,
        )
        return verdict, report

    def _look_at_clock(self, answer: Answer, verdict: Verdict) -> None:
        """A wrong clock here costs events: Meta refuses what it takes for the future or for older than 7 days."""
        if not is_metas(verdict) or (date := date_of(answer.headers)) is None:
            return
        self._time.heard(date)
        now = self._time.clock.reading().system
        if abs(ahead_ms := now - date) > _CLOCK_ALARM_MS:
            way = f"{abs(ahead_ms) // 1000} s {'ahead of' if ahead_ms > 0 else 'behind'}"
            self._alerts.raised("clock", self.target.pixel, f"this machine's clock is {way} Meta's; set it by NTP", now)
        else:
            self._alerts.over("clock", now, self.target.pixel)

    async def _judge(self, claim: Claim, came: tuple[Verdict, Report]) -> None:
        verdict, report = came
        match verdict.kind:
            case Kind.SENT:
                await self._on_sent(claim, report)
            case Kind.SHORT:
                await self._relieved(await self._register.short(claim, report))
            case Kind.REFUSED:
                await self._on_refused(claim, verdict, report)
            case Kind.TOO_BIG | Kind.WALLED if len(claim.events) > 1:
                self._limit = max(1, len(claim.events) // 2)
                await self._register.again(claim, self._now(), verdict, report)
            case Kind.BLOCKED:
                await self._register.again(claim, self._now(), verdict, report)
                await self._stop_for(reason_of(verdict))
            case _:
                await self._on_fault(claim, verdict, report)

    async def _on_sent(self, claim: Claim, report: Report) -> None:
        await self._register.sent(claim, report)
        self._limit = min(self._meta.batch_max, self._limit * 2)  # after a 413 the batches grow again
        self._lone_code = None
        await self._relieved(len(claim.events))

    async def _on_refused(self, claim: Claim, verdict: Verdict, report: Report) -> None:
        if len(claim.events) > 1:
            return await self._isolate(claim, verdict, report)
        await self._register.closed(claim, report)
        if self._is_the_call(verdict):
            await self._accuse_the_call(claim.ids, verdict)
        else:
            await self._reject(claim.ids, verdict)
            await self._relieved(0)

    def _is_the_call(self, verdict: Verdict) -> bool:
        """Two alone in a row by one code that names no fault of their own fields, and nothing taken in between."""
        before, own = self._lone_code, is_events_own(verdict.code, verdict.subcode)
        self._lone_code = None if own else verdict.code
        return not own and before == verdict.code

    async def _reject(self, ids: list[int], verdict: Verdict) -> None:
        await self._register.rejected(ids, verdict)
        for _ in ids:
            self._alerts.refused(self.target.pixel, self._now())

    async def _accuse_the_call(self, ids: list[int], verdict: Verdict) -> None:
        await self._register.back(ids, reason_of(verdict))
        await self._stop_for(reason_of(verdict))

    async def _isolate(self, claim: Claim, verdict: Verdict, report: Report) -> None:
        """Find the events at fault; the others are delivered in the same round."""
        await self._register.closed(claim, report)
        search = Isolation(claim.ids, verdict.index)
        suspects = Suspects(len(claim.events))
        while search and not self._is_interrupted(search) and not suspects.accuse_the_call:
            await self._ask_part(search, suspects)
        if suspects.verdict is not None:
            await self._judge_suspects(suspects, suspects.verdict, finished=not search)
        await self._register.back(search.rest(), "in a refused batch")

    def _is_interrupted(self, search: Isolation[int]) -> bool:
        return self._block.on or self._stopping or search.requests >= _ISOLATION_BUDGET

    async def _judge_suspects(self, suspects: Suspects, verdict: Verdict, *, finished: bool) -> None:
        if suspects.accuse_the_call:
            await self._accuse_the_call(suspects.ids, verdict)
        elif finished:
            await self._reject(suspects.ids, verdict)
        else:
            await self._register.back(suspects.ids, reason_of(verdict))

    async def _ask_part(self, search: Isolation[int], suspects: Suspects) -> None:
        """Ask as the rows stand by now: between two requests nothing is under way, and anything may have changed."""
        part = await self._register.opened(asked := search.take())
        search.only(left := part.ids if part is not None else [])
        suspects.without(len(asked) - len(left))
        if part is None:
            return
        verdict, report = await self._send(part)
        if verdict.kind is Kind.REFUSED:
            await self._register.closed(part, report)
            if search.refused(verdict.index):
                await self._on_guilty(part, verdict, suspects)
            return
        await self._judge(part, (verdict, report))
        if verdict.kind is Kind.SENT or verdict.kind is Kind.SHORT:
            search.taken()
            suspects.cleared()
        else:
            search.divided() if verdict.kind in (Kind.TOO_BIG, Kind.WALLED) else search.postponed()
            await asyncio.sleep(self._pacing.closed_for(self._ticks()) / 1000)

    async def _on_guilty(self, part: Claim, verdict: Verdict, suspects: Suspects) -> None:
        if is_events_own(verdict.code, verdict.subcode):
            await self._reject(part.ids, verdict)
            suspects.cleared()
        else:
            suspects.add(part.ids, verdict)

    # -- faults

    async def _on_fault(self, claim: Claim, verdict: Verdict, report: Report) -> None:
        """Meta, the way to it, or our pace: the pixel waits, and so do the events."""
        now, ticks = self._now(), self._ticks()
        if verdict.kind is Kind.THROTTLED:
            self._stats.throttled += 1
        state = self._pacing.fault(verdict, ticks, self._dice())
        until = now + self._pacing.closed_for(ticks)
        lone = lone_wait_ms(claim.events[0].attempts, self._backoff) if verdict.kind is Kind.WALLED else 0
        await self._register.again(claim, max(until, now + lone), verdict, report)
        if state is not None:
            await self._mark(state, until=until, reason=verdict.message)
            log.warning("delivery is slowed", pixel=self.target.pixel, reason=verdict.message, code=verdict.code)
            self._alerts.raised(state, self.target.pixel, verdict.message, now)

    async def _stop_for(self, reason: str) -> None:
        """The call, the app, the token or the version: the queue stops, keeps its events and is probed now and then."""
        now, anew = self._now(), not self._block.on
        if anew:
            self._blocked_since = now
        until = now + self._block.put(self._ticks())
        health = PixelHealth("blocked", self._blocked_since, until, reason, self.target.way_hash)
        await self._register.mark(health)
        if anew:
            log.error("delivery is blocked", pixel=self.target.pixel, reason=reason)
        first = await self._desk.ask(lambda: self._outbox.first_deadline(self.number))
        self._alerts.raised("blocked", self.target.pixel, reason, now, deadline=first)

    async def _unblock(self) -> None:
        self._block.lift()
        self._pacing.forget()
        await self._mark("open")
        log.info("delivery resumes", pixel=self.target.pixel)
        self._alerts.cleared(self.target.pixel, self._now())
        self.wake()

    async def _relieved(self, events: int) -> None:
        """Meta answered as it should."""
        if self._block.on:
            await self._unblock()
        elif self._pacing.success(self._ticks(), events):
            await self._mark("open")
            self._alerts.cleared(self.target.pixel, self._now())
            self.wake()

    async def _mark(self, state: str, *, until: int | None = None, reason: str | None = None) -> None:
        await self._register.mark(PixelHealth(state, self._now(), until, reason, None))
