"""What does one connection know, when is its time over, and how does it end? protocol.py says how it is read.

    FRESH ──byte──▶ HEADERS ──▶ BODY ──▶ WORKING ──answered──▶ IDLE ──byte──▶ HEADERS …
      5 s             5 s       10 s+      (app)                60 s
      └ close         └ 408     └ 408                           └ close          any fault ──▶ LEAVING (2 s) ──▶ gone

- A timer never moves while requests flow: it looks every few seconds where the connection stands.
- A refused client is answered in the contract's shape, then listened to for 2 s more without reading what it says:
  closing with unread bytes would reset the connection, and the client would never see why.
- What was asked before a fault on the same connection is answered first: nothing that was stored is answered by a 400.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol, cast

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from collector.core.addresses import Networks
from collector.guard import names, refusals
from collector.guard.bodies import Allowance, Loads, Scope
from collector.guard.exit import Exit
from collector.guard.gate import Gate, GuardLimits
from collector.guard.refusals import Refusal

if TYPE_CHECKING:
    from collector.guard.protocol import GuardedProtocol

FRESH: Final = 0  # connected, no byte yet
HEADERS: Final = 1  # a request has begun
BODY: Final = 2  # its headers are complete
WORKING: Final = 3  # it is complete, the application owes the answer
IDLE: Final = 4  # answered, kept alive
LEAVING: Final = 5  # refused or closing: whatever still comes is thrown away

# A body may take longer than its 10 s when it really flows: a second more for each 64 KiB.
BODY_BYTES_PER_SECOND: Final = 65_536
# What a client that was refused may still send us within the linger.
LINGER_BYTES: Final = 8 * 1024 * 1024


class Shortcut(Protocol):
    """Answers plain requests without the application."""

    def take(self, connection: GuardedProtocol, data: bytes) -> bool:
        """Whether `data`, at the start of a message, is one whole request that it answers by `answer_directly`."""


class Connection(HttpToolsProtocol):
    """One connection's state, its timer and its ends."""

    limits: ClassVar[GuardLimits] = GuardLimits()
    gate: ClassVar[Gate] = Gate(limits, Networks())
    allowance: ClassVar[Allowance | None] = None
    shortcut: ClassVar[Shortcut | None] = None

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.raw: asyncio.Transport = None  # type: ignore[assignment]
        self.exit: Exit = None  # type: ignore[assignment]
        self.phase = FRESH
        self.since = 0.0  # when the phase began; 0: to be set once the bytes at hand are parsed
        self.chunk = 0  # bytes of the read being parsed
        self.fed = 0  # bytes since this request began, at most
        self.body = 0  # bytes of its body
        self.loads: Loads = None  # type: ignore[assignment]
        self.drained = 0  # bytes thrown away while leaving
        self.fault = refusals.BAD_REQUEST  # what a failure of the parser means
        self.deaf = False  # nothing more is read from this client
        self.running: RequestResponseCycle | None = None
        self.stuck_since = 0.0  # when the client stopped taking our bytes
        self.timer: asyncio.TimerHandle | None = None
        self.address: str | None = None
        self.counted = False
        self.told = False
        self.ending = False  # the server ends: what is owed is answered, and no more is taken
        self.unproven = True  # no request was completed yet
        self.direct = False  # the shortcut owes an answer
        self.later = bytearray()  # what came meanwhile

    @property
    def waiting(self) -> bool:
        """Whether nothing is owed on this connection, so that it may be given up."""
        return not self._owes_an_answer()

    def _owes_an_answer(self) -> bool:
        """Whether a whole request is at work; one whose body is still coming does not count."""
        running = self.running
        return self.direct or (running is not None and not running.response_complete and not self._is_early())

    def _is_early(self) -> bool:
        """Whether the body of the request at work is still coming."""
        return self.phase == BODY and self.cycle is self.running

    def drop(self) -> None:
        """End the connection at once, whatever is unsent."""
        self.deaf = True
        self.phase = LEAVING
        self.raw.abort()

    # -- leaving

    def _close(self) -> None:
        """What the cycle's `transport.close()` does: at once, or after a linger where the client is still sending."""
        if self.phase == BODY and not self.raw.is_closing():
            self._leave(b"")
            return
        self.deaf = True
        self.phase = LEAVING
        self.since = self.loop.time()
        self.raw.close()

    def _answer_and_end(self) -> None:
        """Nothing more is read; what is being worked on is answered, and then the connection ends."""
        self.deaf = True
        if self.direct:
            return
        last = self.pipeline[0][0] if self.pipeline else self.running
        if last is not None and not last.response_complete:
            last.keep_alive = False
            self.phase = WORKING
        else:
            self._close()

    def _fail(self, refusal: Refusal) -> None:
        """End on `refusal`; what was asked before it is answered in its stead, and no later request is begun."""
        broken = self.cycle if self.phase == BODY else None
        self.deaf = True
        self.gate.refusals[refusal.status_code] += 1
        if broken is not None and self.pipeline and self.pipeline[0][0] is broken:
            self.pipeline.popleft()
            self.loads.taken_back()
        elif broken is not None and broken is self.running:
            self._interrupt(broken, refusal)
            return
        if self.running is not None and not self.running.response_complete:
            self._answer_and_end()
        else:
            self._leave(self._answer(refusal))

    def _interrupt(self, cycle: RequestResponseCycle, refusal: Refusal) -> None:
        """The request at work will never be whole: its application sees a disconnect, its client the refusal."""
        if cycle.response_started:
            self.drop()
            return
        cycle.disconnected = True
        cycle.body = bytearray()
        self.loads.drop()
        cycle.message_event.set()
        self._leave(self._answer(refusal))

    def _leave(self, answer: bytes) -> None:
        self.deaf = True
        self.phase = LEAVING
        self.since = self.loop.time()
        if self.raw.is_closing():
            return
        self.flow.resume_reading()
        self.exit.flush()
        self.raw.write(answer)
        self.raw.write_eof()
        self._arm(self.limits.linger_seconds)

    def _turn_away(self, refusal: Refusal) -> None:
        self.gate.refusals[refusal.status_code] += 1
        self.told = self.gate.may_tell()
        if not self.told:
            self.drop()
            return
        self._leave(self._answer(refusal))

    def _throw_away(self, count: int) -> None:
        self.drained += count
        if self.drained > LINGER_BYTES:
            self.drop()

    def _name(self) -> str:
        """What the request that is being answered is called."""
        return names.request_id(cast(Scope, self.running.scope)) if self.running is not None else names.new_request_id()

    def _answer(self, refusal: Refusal) -> bytes:
        name = names.request_id(cast(Scope, self.scope)) if self.scope is not None else names.new_request_id()
        return refusals.rendered(refusal, name, self.server_state.default_headers)

    # -- the one timer

    def _arm(self, seconds: float) -> None:
        if self.timer is not None:
            self.timer.cancel()
        self.timer = self.loop.call_later(seconds, self._tick)

    def _tick(self) -> None:
        now = self.loop.time()
        if self.flow.read_paused:
            self.since = now  # the application holds the client up, not the client us
        left = self._seconds_left(now)
        if left <= 0:
            self._expire()
        elif not self.raw.is_closing() or self.raw.get_write_buffer_size():
            # Never further than the shortest deadline: the phase may change in between.
            self._arm(min(left, self.limits.header_seconds))

    def _seconds_left(self, now: float) -> float:
        limits, phase = self.limits, self.phase
        if self.flow.write_paused:
            return self.stuck_since + limits.write_seconds - now
        if phase <= HEADERS:
            return self.since + limits.header_seconds - now
        if phase == BODY:
            return self.since + limits.body_seconds + self.body / BODY_BYTES_PER_SECOND - now
        if phase == IDLE:
            patience = limits.header_seconds if self.gate.crowded else limits.idle_seconds
            return self.since + patience - now
        if phase == LEAVING:
            return self.since + (limits.write_seconds if self.raw.is_closing() else limits.linger_seconds) - now
        return limits.header_seconds

    def _expire(self) -> None:
        if self.flow.write_paused or self.phase == LEAVING or self.raw.get_write_buffer_size():
            self.drop()
        elif HEADERS <= self.phase <= BODY:
            self._fail(refusals.TIMED_OUT)
            if self.phase != LEAVING:
                self._arm(self.limits.header_seconds)
        else:
            self._close()
