"""How is what came of a request written down? Each verb is one transaction, repeated until the disk takes it."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from collector.core.capi.states import CapiState
from collector.core.capi.verdicts import Verdict
from collector.courier.desk import Desk
from collector.exchange.clock import Clock
from collector.storage.rules.sending import Claim, PixelHealth, Report


class Stats(Struct):
    """Running figures of one process, for its heartbeat."""

    sent: int = 0
    requests: int = 0
    refused: int = 0
    retried: int = 0
    ambiguous: int = 0
    throttled: int = 0


class Register:
    """One pixel's side of the outbox."""

    def __init__(self, number: int, desk: Desk, stats: Stats, clock: Clock, lease_ms: int) -> None:
        self._number = number
        self._desk = desk
        self._outbox = desk.outbox
        self._stats = stats
        self._now = clock
        self._lease_ms = lease_ms

    async def opened(self, ids: Sequence[int]) -> Claim | None:
        """What is left by now of a part of a batch that is about to be sent again."""

        def write() -> Claim | None:
            return self._outbox.open_request(
                self._number, ids, self._now(), self._lease_ms, trusted=self._now.trusted()
            )

        return await self._desk.insist(write)

    async def closed(self, claim: Claim, report: Report) -> None:
        """The request is over; what becomes of its events is said elsewhere."""
        await self._desk.insist(lambda: self._outbox.close_request(claim, report))

    async def rehearsed(self, claim: Claim) -> None:
        """Dry run: the payload stays as the record of what would have been sent."""
        await self._desk.insist(lambda: self._outbox.close_rehearsed(claim, self._now()))

    async def sent(self, claim: Claim, report: Report) -> None:
        """Meta took them all."""
        now = self._now()
        await self._desk.insist(lambda: self._outbox.close_sent(claim, report, now))
        self._stats.sent += len(claim.events)

    async def short(self, claim: Claim, report: Report) -> int:
        """Meta counted fewer: once more, then taken as sent. Gives how many were taken as sent."""
        now = self._now()
        taken = await self._desk.insist(lambda: self._outbox.close_short(claim, report, now))
        self._stats.ambiguous += len(claim.events) - taken
        self._stats.sent += taken
        return taken

    async def rejected(self, ids: Sequence[int], verdict: Verdict) -> None:
        """Meta refuses these for what they are: kept with Meta's own words, for replay."""
        reason, now = reason_of(verdict), self._now()
        await self._desk.insist(lambda: self._outbox.settle(ids, CapiState.REJECTED, now, reason=reason))
        self._stats.refused += len(ids)

    async def again(self, claim: Claim, due: int, verdict: Verdict, report: Report) -> None:
        """These go once more, not before `due`."""
        now, reason = self._now(), reason_of(verdict)
        await self._desk.insist(
            lambda: self._outbox.close_again(claim, report, now, due, reason=reason, doubt=verdict.doubt)
        )
        self._stats.retried += len(claim.events)
        if verdict.doubt:
            self._stats.ambiguous += len(claim.events)

    async def back(self, ids: Sequence[int], reason: str) -> None:
        """These were not judged: they wait as before."""
        if ids:
            await self._desk.insist(lambda: self._outbox.requeue(ids, self._now(), reason=reason))

    async def mark(self, health: PixelHealth) -> None:
        """How the pixel's queue stands."""
        await self._desk.insist(lambda: self._outbox.mark(self._number, health))


def reason_of(verdict: Verdict) -> str:
    """Meta's words with its code."""
    code = f"{verdict.code}" if verdict.code is not None else ""
    code += f"/{verdict.subcode}" if verdict.subcode is not None else ""
    return f"{verdict.message} (Meta {code})" if code else verdict.message
