"""The edge's end of its connection to the keeper: operations go out once a turn of the loop, answers wake who waits.

While the keeper is away nothing is acknowledged. What was sent and not answered is a StorageError at once (it may be on
disk or not); what was not sent yet waits for the next keeper, PATIENCE_SECONDS at most.
"""

from __future__ import annotations

import asyncio
import socket
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from itertools import takewhile
from typing import Any, Final, cast

from collector import release, telemetry
from collector.core import refused
from collector.core.ids import PublicIds
from collector.core.keyed import KeyedHash
from collector.core.latency import Latency
from collector.core.wire import printable
from collector.errors import ApiError, CollectorError, StorageError
from collector.exchange import frames, links
from collector.exchange.clock import Clock
from collector.exchange.frames import (
    Found,
    FoundClick,
    FoundConversion,
    FoundInbox,
    Frames,
    Question,
    Submitted,
    ToKeeper,
)
from collector.exchange.keys import ApiKey
from collector.exchange.operations import Operation
from collector.exchange.shops import Waiting
from collector.exchange.stores import Store

log = telemetry.logger("edge")

PATIENCE_SECONDS: Final = 5.0
_TICK_SECONDS: Final = 0.5
MOST_REFUSED: Final = 50  # of each code are told one by one each tick (100 a second); all are counted
_MOST_UNSENT: Final = 20_000  # operations that wait for the next keeper
_MANY: Final = 256  # operations that are sent whatever is under way
_AWAY: Final = "the keeper is away"

Answered = Callable[[Any], None]  # takes the list of results, or the exception of all


class Keeper:
    """What the edge knows as the keeper does, and its verbs. All methods belong to the loop's thread."""

    stores: dict[str, Store]
    names: KeyedHash
    public: PublicIds

    def __init__(self, control: socket.socket) -> None:
        """`control`: where connections are asked for and come from (exchange/links.py)."""
        self._control = control
        self.clock = Clock()
        self._loop = asyncio.get_running_loop()
        self._greeted: asyncio.Future[None] = self._loop.create_future()
        self._connection: _Connection | None = None
        self._number = 0
        self._pending: dict[int, tuple[Answered, float]] = {}  # whom to tell, and since when (loop time, s) he waits
        self._unsent: list[Submitted] = []
        self._unsent_operations = 0
        self._questions: list[Question] = []
        self._scheduled = False
        self._under_way = 0  # the last submission that was sent and is not answered
        self._figures: Counter[tuple[int, str]] = Counter()
        self._refused: list[tuple[str, str, str]] = []  # code, field, order's number
        self._refused_of: Counter[str] = Counter()  # how many of them have this code
        self._totals: Callable[[], Mapping[str, int]] = dict
        self._told: Mapping[str, int] = {}
        self._latency = Latency("answer")
        self._keys: dict[bytes, ApiKey] = {}
        self._erased: set[int] = set()
        self._state = frames.State([], [], False, False, None, None)
        self._opening: deque[asyncio.Task[Any]] = deque(maxlen=4)
        self._closed = False
        self.inbox_filled = asyncio.Event()  # orders that a pull or a file has found may wait; whoever looks clears it
        control.setblocking(False)
        self._loop.add_reader(control, self._given)
        self._ticking = self._loop.call_later(_TICK_SECONDS, self._tick)
        links.ask(control)

    async def greeted(self, totals: Callable[[], Mapping[str, int]] = dict) -> None:
        """Return once the keeper has said what this edge must know.

        `totals`: running figures of this process, by name, which only grow; what came to them is added to the
        installation's, and a crash may lose a second of it.
        """
        self._totals = totals
        await self._greeted

    # -- verbs -----------------------------------------------------------------------------------------------------

    def submit(self, operations: Sequence[Operation]) -> asyncio.Future[list[Any]]:
        """One result per operation, once all of them are on disk; an ApiError is a result.

        Raises StorageError through the future when nothing of it is acknowledged. Cancelling does not undo it.
        """
        future: asyncio.Future[list[Any]] = self._loop.create_future()
        self.send(operations, lambda results: _settle(future, results))
        return future

    def send(self, operations: Sequence[Operation], answered: Answered) -> None:
        """As `submit`, calling `answered` with the list of results or with the exception."""
        if self._closed or self._unsent_operations > _MOST_UNSENT:
            answered(StorageError(_AWAY))
            return
        self._number += 1
        self._pending[self._number] = answered, self._loop.time()
        self._unsent.append(Submitted(self._number, [frames.asking(operation) for operation in operations]))
        self._unsent_operations += len(operations)
        self._schedule()

    async def conversion(self, row_id: int) -> FoundConversion | None:
        """What is known of a conversion by now; StorageError while nobody can tell."""
        return cast(FoundConversion | None, await self._ask("conversion", row_id))

    async def click(self, row_id: int) -> FoundClick | None:
        """What is known of a click by now; StorageError while nobody can tell."""
        return cast(FoundClick | None, await self._ask("click", row_id))

    async def inbox(self) -> list[Waiting]:
        """The oldest orders that a pull or a file has found; StorageError while nobody can tell."""
        found = cast(FoundInbox | None, await self._ask("inbox", 0))
        return found.rows if found is not None else []

    def _ask(self, kind: Any, row_id: int) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = self._loop.create_future()
        self._number += 1
        self._pending[self._number] = (lambda answer: _settle(future, answer)), self._loop.time()
        self._questions.append(Question(self._number, kind, row_id))
        self._schedule()
        return future

    def count(self, store: int, name: str) -> None:
        """Add one to a daily figure of a store; a crash may lose a second of them."""
        self._figures[store, name] += 1

    def refuse(self, kind: str, error: ApiError, own: bytes | None = None) -> None:
        """Count a refusal; of the merchant's own, the keeper is told the field and the order's number as well.

        `own`: the body, of what came with a secret key in force or a shop's signature. What a stranger or a page sends
        is only counted: it would be his text that the merchant reads, and his flood that takes the merchant's place.
        """
        self.count(0, f"{kind}.{error.code}")
        if own is None or self._refused_of[error.code] >= MOST_REFUSED:
            return
        self._refused_of[error.code] += 1
        order = refused.number_in(own) if error.order is None else error.order
        heard = self._connection is not None  # of an erasure meanwhile
        self._refused.append((error.code, printable(error.field or ""), order if heard else ""))

    def _forget_numbers(self) -> None:
        """Somebody was erased, or may have been: whose a refused order was, nobody can tell."""
        self._refused = [(code, field, "") for code, field, _ in self._refused]

    # -- what the keeper said --------------------------------------------------------------------------------------

    def key(self, hashed: bytes) -> ApiKey | None:
        """The key in force with this digest; what `keys create` and `keys revoke` did is seen within seconds."""
        return self._keys.get(hashed)

    def is_erased(self, name: int) -> bool:
        """Whether this keyed name (of a visitor, say) belonged to somebody who was erased."""
        return name in self._erased

    @property
    def refusing(self) -> bool:
        """Whether the disk is too full to take anything."""
        return self._state.refusing

    @property
    def damage(self) -> str | None:
        """What is lost or damaged, in a sentence with the mend, until it is mended or accepted."""
        return self._state.damage

    @property
    def able(self) -> bool:
        """Whether an event could be stored now, as far as is known."""
        return self._connection is not None and self._state.able

    # -- the connection --------------------------------------------------------------------------------------------

    def _given(self) -> None:
        end = links.take(self._control)
        if not isinstance(end, socket.socket):  # the supervisor is gone, and process/handover.py ends this process
            self._loop.remove_reader(self._control)
            return
        self._opening.append(self._loop.create_task(self._open(end)))

    async def _open(self, end: socket.socket) -> None:
        try:
            await self._loop.create_unix_connection(lambda: _Connection(self), sock=end)
        except OSError as error:
            log.failed("the keeper could not be reached", error)

    def connected(self, connection: _Connection) -> None:
        """A connection is there; an older one is used no more."""
        before, self._connection = self._connection, connection
        if before is not None:
            self._fail_sent()
            before.transport.close()
        if self._greeted.done():
            log.info("the keeper is back")
            self._schedule()

    def lost(self, connection: _Connection) -> None:
        """A connection has ended: the keeper died, or ends."""
        if self._closed or connection is not self._connection:
            return
        self._connection = None
        self._fail_sent()
        links.ask(self._control)

    def _fail_sent(self) -> None:
        self._under_way = 0
        self._forget_numbers()
        unsent = {one.number for one in self._unsent} | {one.number for one in self._questions}
        sent = [number for number in self._pending if number not in unsent]
        log.warning("the keeper is away", count=len(sent))
        for number in sent:
            self._pending.pop(number)[0](StorageError(_AWAY))

    def heard(self, told: frames.ToEdge) -> None:
        """Take a frame of the keeper's."""
        if told.hello is not None:
            self._take_hello(told.hello)
        if told.state is not None:
            self._take_state(told.state, anew=told.hello is not None)
        if told.committed:
            self._take_committed(told.committed)
        for found in told.found:
            if (waiting := self._pending.pop(found.number, None)) is not None:
                waiting[0](_answer_of(found))
        if told.hello is not None and not self._greeted.done():
            self._greeted.set_result(None)

    def _take_committed(self, committed: list[frames.Committed]) -> None:
        """Answer who waits, but first let the keeper have what has gathered: it works on that meanwhile."""
        if committed[-1].number == self._under_way:
            self._under_way = 0
            self._flush()
        now = self._loop.time()
        for one in committed:
            if (waiting := self._pending.pop(one.number, None)) is not None:
                answered, since = waiting
                self._latency.observe(now - since)
                answered(_results_of(one))

    def _take_hello(self, hello: frames.Hello) -> None:
        if hello.release != release.name():
            error = CollectorError("the keeper is of another release; this edge ends, to be started anew")
            if not self._greeted.done():
                self._greeted.set_exception(error)
            raise error
        if not self._greeted.done():
            self.stores = hello.stores
            self.names = KeyedHash(hello.pepper)
            self.public = PublicIds(self.names.subkey("public ids"))

    def _take_state(self, state: frames.State, *, anew: bool) -> None:
        if anew or state.inbox != self._state.inbox:
            self.inbox_filled.set()
        self._state = state
        self.clock.take(state.mark)
        self._keys = {key.hash: key for key in state.keys}
        if anew:
            self._erased = set()
        if anew or state.erased:
            self._forget_numbers()
        self._erased.update(state.erased)

    # -- turns -----------------------------------------------------------------------------------------------------

    def _schedule(self) -> None:
        """One frame for all that this turn of the loop asks for.

        While the keeper has operations of ours, more of them gather until it has answered, as Nagle's segments do: a
        group costs it the same however small it is.
        """
        if self._scheduled or self._connection is None:
            return
        if not self._under_way or self._questions or self._unsent_operations >= _MANY:
            self._scheduled = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._scheduled = False
        if self._connection is None or not (self._unsent or self._questions):
            return
        self._connection.transport.write(frames.frame(ToKeeper(self._unsent, self._questions)))
        if self._unsent:
            self._under_way = self._unsent[-1].number
        self._unsent, self._questions, self._unsent_operations = [], [], 0

    def _tick(self) -> None:
        """Tell the figures; answer those who have waited too long."""
        self._ticking = self._loop.call_later(_TICK_SECONDS, self._tick)
        self._tell_figures()
        if self._connection is None:
            links.ask(self._control)
        self._give_up(self._loop.time() - PATIENCE_SECONDS)

    def _give_up(self, before: float) -> None:
        late = list(takewhile(lambda number: self._pending[number][1] < before, self._pending))  # the oldest first
        if not late:
            return
        gone = set(late)
        self._unsent = [one for one in self._unsent if one.number not in gone]
        self._questions = [one for one in self._questions if one.number not in gone]
        self._unsent_operations = sum(len(one.operations) for one in self._unsent)
        log.warning("the keeper does not answer", count=len(late))
        for number in late:
            self._pending.pop(number)[0](StorageError("the keeper does not answer"))

    def _tell_figures(self) -> None:
        if self._connection is None:
            return
        totals = {**self._totals(), **self._latency.totals()}
        grown = {name: n - self._told.get(name, 0) for name, n in totals.items() if n > self._told.get(name, 0)}
        if grown or self._figures:
            figures = [(store, name, n) for (store, name), n in self._figures.items()]
            told = ToKeeper(figures=figures, totals=grown, refused=self._refused)
            self._connection.transport.write(frames.frame(told))
            self._told = totals
            self._figures.clear()
            self._refused = []
            self._refused_of.clear()

    def close(self) -> None:
        """Tell the last figures and close the connection; nothing is taken any more."""
        self._flush()
        self._tell_figures()
        self._closed = True
        self._ticking.cancel()
        self._loop.remove_reader(self._control)
        if self._connection is not None:
            self._connection.transport.close()


class _Connection(asyncio.Protocol):
    """One connection to one keeper."""

    transport: asyncio.WriteTransport

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper
        self._frames = Frames()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.WriteTransport, transport)
        self._keeper.connected(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._keeper.lost(self)

    def data_received(self, data: bytes) -> None:
        for content in self._frames.feed(data):
            self._keeper.heard(frames.decode_to_edge(content))


def _settle(future: asyncio.Future[Any], answer: Any) -> None:
    if future.done():
        return
    if isinstance(answer, Exception):
        future.set_exception(answer)
    else:
        future.set_result(answer)


def _results_of(one: frames.Committed) -> list[Any] | Exception:
    if one.fault == "storage":
        return StorageError("the event could not be stored")
    if one.fault == "defect":
        return RuntimeError("an operation failed; the keeper's log says why")
    return [frames.value_of(result) for result in one.results]


def _answer_of(found: Found) -> Any:
    return StorageError("the row could not be read") if found.fault else found.answer
