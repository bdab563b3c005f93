"""How does a door survive slow, greedy and lying clients: uvicorn's httptools protocol with deadlines and budgets.

Plain uvicorn holds an idle, a half-sent and a trickling connection for ever, and httptools takes a header of 5 MB
(measured). One lazy timer per connection, and one look at each request's headers, end that (connection.py has the
phases, the timer, and how a connection ends):

- Bodies are counted while they come (bodies.py): one that nobody vouches for ends at a page's size.
- An Upgrade is ignored (RFC 9110 7.8): a request that asks for one is parsed again without it.
- An address that holds too many connections loses its oldest waiting one, so that a flood of idle connections never
  shuts out the next request; only when all of them are at work is a new one refused.
"""

from __future__ import annotations

import asyncio
from typing import Final, cast

import httptools
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from collector.core.addresses import Networks
from collector.guard import refusals
from collector.guard.bodies import Allowance, Loads, Scope
from collector.guard.connection import BODY, FRESH, HEADERS, IDLE, LEAVING, WORKING, Connection, Shortcut
from collector.guard.exit import Exit, ending
from collector.guard.framing import fault_in, head_without_upgrade
from collector.guard.gate import Counts, Gate, GuardLimits

# Chunk sizes, extensions and trailers of a chunked body: 6 bytes for each of the body's (chunks of one byte), and this.
CHUNK_OVERHEAD_BYTES: Final = 524_288
# Requests of a pipeline that wait for their turn: each costs 3 KB, and one read could hold 14,000 of them.
MAX_PIPELINED: Final = 16


class _Refused(Exception):
    """Leaves the parser from within a callback; the refusal is in `GuardedProtocol.fault`."""


class GuardedProtocol(Connection):
    """One connection. `make_protocol` gives the class its limits and its gate."""

    # -- the connection's life

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.raw = transport
        self.exit = Exit(transport, self._close, self.loop.call_soon, self._is_early, self._name)
        self.transport = cast(asyncio.Transport, self.exit)
        self.since = self.loop.time()
        self._arm(self.limits.header_seconds)
        refusal = self.gate.admit(self, self.client[0] if self.client else None)
        if refusal is not None:
            self._turn_away(refusal)
        self.loads = Loads(self.gate.bodies_of, self.address, self.gate.caller, type(self).allowance)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.timer is not None:
            self.timer.cancel()
        self.gate.leave(self)
        self.loads.drop()
        if self.told:
            self.gate.told -= 1
        self.deaf = True
        self.phase = LEAVING
        super().connection_lost(exc)
        self.exit.forget()

    def eof_received(self) -> bool:  # type: ignore[override]
        """A client that has said all it wants to say still gets its answer (`shutdown(SHUT_WR)`, old `nc`)."""
        if self.phase == LEAVING or not self._owes_an_answer():
            return False
        self._answer_and_end()
        return True

    def data_received(self, data: bytes) -> None:
        if self.deaf:
            self._throw_away(len(data))
            return
        if self.direct:
            self._keep_for_later(data)
            return
        if self.shortcut is not None and self._between_messages() and self.shortcut.take(self, data):
            return
        self.chunk = len(data)
        self.fed += self.chunk
        try:
            self._parse(data)
        except httptools.HttpParserError:
            self._fail(self.fault)
        if HEADERS <= self.phase <= BODY:
            self._look_at_unfinished()

    def _parse(self, data: bytes) -> None:
        """Feed the parser; one that stops for an Upgrade gives way to another that never saw it."""
        while True:
            try:
                self.parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as stopped:
                data = data[stopped.args[0] :]
                head = head_without_upgrade(self.parser, self.url, self.headers)
                self.parser = httptools.HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's own
                self.parser.feed_data(head)

    def _look_at_unfinished(self) -> None:
        """A request that did not come in one piece: start its clock, hold its budget."""
        if not self.since:
            self.since = self.loop.time()
        if self.phase == HEADERS:
            if self.fed > self.limits.header_bytes + self.limits.target_bytes:
                self._fail(refusals.HEADERS_TOO_LARGE)
        elif self.fed - 7 * self.body > CHUNK_OVERHEAD_BYTES or len(self.headers) > self.limits.headers:
            self._fail(refusals.BAD_REQUEST)

    # -- the shortcut

    def _between_messages(self) -> bool:
        """Whether the next byte begins a message and nothing is owed, so that an answer cannot overtake another."""
        return self.phase in (IDLE, FRESH) and not self.flow.write_paused

    def begin_directly(self) -> None:
        """The shortcut has taken a whole request; what comes next waits until `answer_directly`."""
        self.direct = True
        self.phase = WORKING
        self._prove()

    def answer_directly(self, head: bytes, body: bytes) -> None:
        """Answer the request that the shortcut took."""
        self.direct = False
        if self.raw.is_closing() or self.phase == LEAVING:
            return
        self.server_state.total_requests += 1
        if self.deaf or self.ending:
            self.raw.write(ending(head) + body)
            self._close()
            return
        self.raw.write(head + body)
        self.phase = IDLE
        self.since = self.loop.time()
        if self.later:
            data, self.later = bytes(self.later), bytearray()
            self.flow.resume_reading()
            self.data_received(data)

    def _keep_for_later(self, data: bytes) -> None:
        self.later += data
        if len(self.later) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()

    # -- the parser's callbacks

    def on_message_begin(self) -> None:
        if self.deaf or len(self.pipeline) >= MAX_PIPELINED:
            self.fault = refusals.BAD_REQUEST if self.phase != BODY else refusals.BODY_TOO_LARGE
            raise _Refused
        self.phase = HEADERS
        self.since = 0.0
        self.fed = self.chunk
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        fault = fault_in(self.parser.get_http_version(), self.url, self.headers, self.fed, self.limits)
        if fault is not None:
            self.fault = fault
            raise _Refused
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                raise _Refused
            return  # the same head comes again without its Upgrade (_parse)
        super().on_headers_complete()
        if not self.pipeline:
            self.running = self.cycle
        self.loads.begin(cast(Scope, self.scope))
        self.headers = []  # trailers land here, not among the headers that the application trusts
        self.phase = BODY
        self.since = 0.0
        self.body = 0

    def on_body(self, body: bytes) -> None:
        """As uvicorn's, counting; an Upgrade is never asked about, there is none."""
        self.body += len(body)
        cycle = self.cycle
        if cycle.response_complete or self.deaf:
            return
        before = self.loads.size
        refusal = self.loads.take(len(body))
        if refusal is not None and refusal is not refusals.BODY_TOO_LARGE:
            self.fault = refusal
            raise _Refused
        if refusal is None:
            cycle.body += body
        else:
            # The application has one byte too much, and refuses before we do: a page may read its answer, and what a
            # shop could not tell is counted. No more is kept: on a busy machine one read holds 256 KiB of a flood.
            cycle.body += body[: self.loads.size - before + 1]
            self.deaf = True
            cycle.message_event.set()
            self.loop.call_soon(self._refuse, cycle)
            return
        if len(cycle.body) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()
        cycle.message_event.set()

    def _refuse(self, cycle: RequestResponseCycle) -> None:
        if self.phase == BODY and not cycle.response_complete:
            self._fail(refusals.BODY_TOO_LARGE)

    def on_message_complete(self) -> None:
        if self.phase != BODY or self.deaf:
            return
        self.phase = WORKING
        self.cycle.more_body = False
        self.cycle.message_event.set()
        if not self.cycle.keep_alive:
            self.deaf = True  # RFC 9112 9.6: after "close" nothing more is processed
        self._prove()

    def _prove(self) -> None:
        if self.unproven:
            self.unproven = False
            self.gate.unproven.pop(self, None)

    # -- the application's side

    def on_response_complete(self) -> None:
        """As uvicorn's, with our own keep-alive clock, and without reading on a body that nobody wants any more."""
        self.server_state.total_requests += 1
        self.loads.answered()
        if self.running is not None and self.running.body:
            self.running.body = bytearray()  # it was never asked for
        if self.raw.is_closing() or self.phase == LEAVING:
            return
        self.flow.resume_reading()
        if self.pipeline:
            self.running, app = self.pipeline.pop()
            self._start_asgi_task(self.running, app)
        elif self.phase == WORKING:
            self.phase = IDLE
            self.since = self.loop.time()
        elif self.phase == BODY and self.cycle.response_complete:
            self._leave(b"")

    def shutdown(self) -> None:
        """The server ends: whole requests are answered; a body still coming has a moment more, then 503."""
        self.ending = True
        if not self.direct:
            super().shutdown()
        self.loop.call_later(self.limits.farewell_seconds, self._end_unfinished)

    def _end_unfinished(self) -> None:
        if HEADERS <= self.phase <= BODY:
            self._fail(refusals.OVERLOADED)

    def pause_writing(self) -> None:
        super().pause_writing()
        self.stuck_since = self.loop.time()


def make_protocol(
    limits: GuardLimits,
    trusted: Networks,
    refusals: Counts | None = None,
    allowance: Allowance | None = None,
    shortcut: Shortcut | None = None,
) -> type[GuardedProtocol]:
    """The protocol class for `uvicorn.Config(http=…)`: one gate for all its connections, so one call per server.

    `refusals` counts what the guard refuses, by HTTP status. `allowance` says how many bytes the body of a request may
    have that has passed a page's size; without it there is no such limit. `shortcut` is asked before the application.
    """
    gate = Gate(limits, trusted, refusals)
    held = staticmethod(allowance) if allowance is not None else None
    return type(
        "GuardedDoor", (GuardedProtocol,), {"limits": limits, "gate": gate, "allowance": held, "shortcut": shortcut}
    )
