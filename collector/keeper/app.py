"""The keeper process: takes the edges' frames, commits what waits in groups, answers once it is on disk.

    wait for frames ─▶ commit one group ─▶ answer each edge with one frame ─▶ questions ─▶ a little upkeep ─┐
          ▲─────────────────────────────────────────────────────────────────────────────────────────────────┘

One thread, so that nothing fights the writer for the interpreter's lock; what comes meanwhile waits in the sockets and
is the next group.
"""

from __future__ import annotations

import gc
import os
import selectors
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Final

from collector import release, telemetry
from collector.config import Config
from collector.core.latency import Latency
from collector.exchange import frames, links
from collector.exchange.clock import Clock
from collector.exchange.frames import (
    Committed,
    Found,
    FoundClick,
    FoundConversion,
    FoundInbox,
    Hello,
    Operations,
    Question,
    State,
    ToEdge,
)
from collector.exchange.operations import Operation, Submission
from collector.keeper.link import Link
from collector.storage import engine
from collector.storage.engine import Journal

log = telemetry.logger("keeper")

_SOON_S: Final = 0.01
_IDLE_S: Final = 1.0
_LAST_ANSWERS_S: Final = 1.0
_GC_THRESHOLDS: Final = (10_000, 20, 100)  # allocations, then passes of the younger generation; usual: 700, 10, 10


class _Request(Submission):
    """A submission, and whom to answer."""

    __slots__ = ("link", "number")

    def __init__(self, link: Link, number: int, operations: list[Operation]) -> None:
        super().__init__(operations)
        self.link, self.number = link, number


class Keeper:
    """Serves the edges whose connections come over `control`, until `end` is called."""

    def __init__(self, journal: Journal, control: socket.socket) -> None:
        self._journal = journal
        self._control = control
        self._operations = Operations({s.number: s for s in journal.stores.values()}, journal.public)
        self._selector = selectors.DefaultSelector()
        self._links: set[Link] = set()
        self._waiting: deque[Submission] = deque()
        self._questions: deque[tuple[Link, Question]] = deque()
        self._told: tuple[object, ...] = ()
        self._erased = 0  # how many names every edge knows
        self._commits = Latency("commit")
        self._ending = False
        self._leaving = False
        self._woken, self._wake = os.pipe()
        os.set_blocking(self._woken, False)
        self._selector.register(control, selectors.EVENT_READ, self._new_link)
        self._selector.register(self._woken, selectors.EVENT_READ, lambda: os.read(self._woken, 64))

    def end(self) -> None:
        """Have `serve` answer what has come by now and return; any thread may call it."""
        self._ending = True
        os.write(self._wake, b"\0")

    def end_when_left(self) -> None:
        """Have `serve` return once no edge is left; a signal's handler may call it.

        A service manager's SIGTERM comes to every process at once, and the edges still need their answers.
        """
        self._leaving = True
        os.write(self._wake, b"\0")

    def serve(self) -> None:
        """Commit and answer, until `end`; what was acknowledged is on disk."""
        more = False
        while not (self._ending or (self._leaving and not self._links)):
            self._hear(0.0 if self._waiting or self._questions else _SOON_S if more else _IDLE_S)
            more = self._turn()
        self._hear(0.0)
        while self._waiting or self._questions:
            self._turn()
        for link in list(self._links):
            link.drain(_LAST_ANSWERS_S)
            self._drop(link)
        self._selector.close()

    def _turn(self) -> bool:
        """One group, a few questions, some upkeep; whether there is more upkeep."""
        if self._waiting:
            started = time.perf_counter()
            group = self._journal.commit(self._waiting)
            self._commits.observe(time.perf_counter() - started)
            self._journal.count((), self._commits.taken())
            self._tell_state()  # before the answers: who has one may ask at once whether there could be another
            self._answer(group)
        for _ in range(min(len(self._questions), 16)):
            link, question = self._questions.popleft()
            link.send(frames.frame(ToEdge(found=[self._found(question)])))
        more = not self._journal.distrusted and self._journal.rest()
        if self._journal.distrusted:
            self._give_up()
        self._tell_state()
        return more

    def _hear(self, seconds: float) -> None:
        for key, _ in self._selector.select(seconds):
            key.data()

    # -- edges -----------------------------------------------------------------------------------------------------

    def _new_link(self) -> None:
        end = links.take(self._control)
        if end == "end":
            self.end()
            return
        if end is None:  # the supervisor is gone, and process/handover.py ends this process
            self._selector.unregister(self._control)
            return
        link = Link(end, self._selector, self._heard, self._drop)
        self._links.add(link)
        hello = Hello(release.name(), self._journal.stores, self._journal.names.pepper)
        link.send(frames.frame(ToEdge(hello=hello, state=self._state(self._journal.erased))))

    def _drop(self, link: Link) -> None:
        """The edge is gone; what it asked for is done all the same, and nobody is told."""
        self._links.discard(link)
        link.close()

    def _heard(self, link: Link, content: bytes) -> None:
        asked = frames.decode_to_keeper(content)
        for one in asked.submitted:
            try:
                operations = [self._operations.of(asking) for asking in one.operations]
            except KeyError as error:  # its settings are older than ours: it is about to be replaced
                log.failed("an edge asks for a store that is not configured any more", error)
                link.send(frames.frame(ToEdge([Committed(one.number, [], "defect")])))
                continue
            self._waiting.append(_Request(link, one.number, operations))
        self._questions.extend((link, question) for question in asked.questions)
        if asked.figures or asked.totals:
            self._journal.count(asked.figures, asked.totals, asked.refused)

    def _answer(self, group: Iterable[Submission]) -> None:
        """One frame to each edge that has something in the group."""
        answers: dict[Link, list[Committed]] = {}
        for request in group:
            assert isinstance(request, _Request)
            answers.setdefault(request.link, []).append(frames.committed(request.number, request.results))
        for link, committed in answers.items():
            link.send(frames.frame(ToEdge(committed)))

    def _found(self, question: Question) -> Found:
        try:
            return Found(question.number, self._look_up(question))
        except Exception as error:
            log.failed("a question could not be answered", error)
            return Found(question.number, None, True)

    def _look_up(self, question: Question) -> FoundConversion | FoundClick | FoundInbox | None:
        if question.kind == "inbox":
            return FoundInbox(self._journal.inbox())
        if question.kind == "click":
            click = self._journal.click(question.row)
            return FoundClick(*click) if click else None
        conversion = self._journal.conversion(question.row)
        return FoundConversion(*conversion) if conversion else None

    # -- what every edge knows -------------------------------------------------------------------------------------

    def _state(self, erased: Iterable[int]) -> State:
        journal = self._journal
        return State(
            list(journal.keys.values()),
            list(erased),
            journal.refusing,
            journal.able,
            journal.damage,
            journal.clock.mark,
            journal.waiting,
        )

    def _tell_state(self) -> None:
        """Tell every edge when something of it has changed."""
        journal = self._journal
        erased, mark = len(journal.erased), journal.clock.mark
        now = (journal.keys, erased, journal.refusing, journal.able, journal.damage, mark, journal.waiting)
        if now == self._told:
            return
        content = frames.frame(ToEdge(state=self._state(islice(journal.erased, self._erased, None))))
        self._told, self._erased = now, len(journal.erased)
        for link in list(self._links):
            link.send(content)

    def _give_up(self) -> None:
        """Let the last answers out, then end at once: the supervisor starts a process that opens the files anew."""
        for link in list(self._links):
            link.drain(_LAST_ANSWERS_S)
        os._exit(1)


def run(
    config: Config,
    control: socket.socket,
    ready: Callable[[], None],
    open_journal: Callable[[Config, Clock], Journal] = engine.journal,
) -> int:
    """Keep until SIGTERM; the exit code. `control`: where the supervisor sends the edges' connections."""
    journal = open_journal(config, Clock())
    keeper = Keeper(journal, control)
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: keeper.end_when_left())
    journal.start()
    _spare_the_collector()
    ready()
    try:
        keeper.serve()
    finally:
        journal.close()
    return 0


def _spare_the_collector() -> None:
    """Let Python look for cyclic garbage a tenth as often, and never at what lives as long as the process.

    Operations leave hardly any cycles, while the tail keeps many long-lived rows: at the usual thresholds the search
    took a tenth of the writer's time under load (perf).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)
