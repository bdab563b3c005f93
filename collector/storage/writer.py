"""One thread owns every transaction of the edge: what waits together is committed together.

While one group is on its way to the disk the next one gathers, so there is no timer and no added delay: alone, a
request pays one fsync; under load, all who wait share it. Nobody is answered before the COMMIT has returned.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any, Protocol

import apsw

from collector import telemetry
from collector.errors import StorageError

log = telemetry.logger("writer")

# Rows per group: enough to make the fsync small change (a group of 200 stores as much a second as one of 1,000), few
# enough that the first in line does not wait for the last, and that no group makes the write-ahead log long.
MOST_ROWS = 500
_LAST_ANSWERS_S = 0.3
_SOON_S = 0.01
# Faults of the disk or the file are everybody's; any other one may be one operation's own.
_DISK_FAULTS = (
    StorageError,
    apsw.FullError,
    apsw.IOError,
    apsw.BusyError,
    apsw.LockedError,
    apsw.CorruptError,
    apsw.NotADBError,
    apsw.ReadOnlyError,
    apsw.CantOpenError,
    apsw.NoMemError,
)


def _end_process() -> None:
    """Let the last answers out, then end at once: the supervisor starts a process that opens the files anew."""
    threading.Event().wait(_LAST_ANSWERS_S)
    os._exit(1)


class Transaction(Protocol):
    """What the writer drives; every method is called on its thread.

    `distrusted`: the disk failed a write or a sync though it has room. What the kernel dropped then, a repeated fsync
    on the same file does not report (Rebello et al., USENIX ATC 2020), so nothing more may be acknowledged on it.
    Or the index is damaged: the next start builds it anew.
    """

    distrusted: bool

    def begin(self) -> None: ...
    def apply(self, operations: Sequence[Any]) -> list[Any]:
        """Do operations inside the open transaction: a result of each; an ApiError is one, not a failure of all."""
        ...

    def commit(self) -> None:
        """Return once the group is on disk."""
        ...

    def rollback(self) -> None: ...
    def idle(self) -> bool:
        """Between groups: upkeep that must not delay an answer. True: there is more of it, so call again soon."""
        ...


class _Submission:
    __slots__ = ("future", "operations", "results")

    def __init__(self, operations: Sequence[Any], future: asyncio.Future[list[Any]]) -> None:
        self.operations = operations
        self.future = future
        self.results: list[Any] | BaseException = []


class GroupWriter:
    """Takes operations from the event loop, commits them in groups on its own thread, answers the loop."""

    def __init__(
        self, transaction: Transaction, loop: asyncio.AbstractEventLoop, give_up: Callable[[], None] = _end_process
    ) -> None:
        """`give_up` is called once the connection can no longer be trusted, after everybody was answered."""
        self._transaction = transaction
        self._loop = loop
        self._give_up = give_up
        self._waiting: deque[_Submission] = deque()
        self._work = threading.Event()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self._thread.start()

    def submit(self, operations: Sequence[Any]) -> asyncio.Future[list[Any]]:
        """A future of one result per operation, done when they are on disk; ApiError results are values in the list.

        Raises StorageError through the future when nothing of it was stored. Cancelling the waiter does not undo it.
        """
        future: asyncio.Future[list[Any]] = self._loop.create_future()
        if self._closing:
            future.set_exception(StorageError("shutting down"))
            return future
        self._waiting.append(_Submission(operations, future))
        if not self._work.is_set():  # set, the writer has not looked yet and will see this one too
            self._work.set()
        return future

    def close(self) -> None:
        """Commit what waits, then end the thread."""
        self._closing = True
        self._work.set()
        self._thread.join()

    def _run(self) -> None:
        more = False
        while True:
            self._work.wait(timeout=_SOON_S if more else 1.0)
            self._work.clear()
            while self._waiting:
                self._commit(self._gather())
                self._rest()  # also under a load that never lets the queue run empty
                if self._transaction.distrusted:
                    self._give_up()
                    return
            more = self._rest()
            if self._transaction.distrusted:
                self._give_up()
                return
            if self._closing and not self._waiting:
                return

    def _rest(self) -> bool:
        """Upkeep; should it fail, the thread lives on: without it every request would wait for ever."""
        try:
            return self._transaction.idle()
        except Exception as error:
            log.failed("upkeep failed", error)
            return False

    def _gather(self) -> list[_Submission]:
        group: list[_Submission] = []
        rows = 0
        while self._waiting and rows < MOST_ROWS:
            submission = self._waiting.popleft()
            group.append(submission)
            rows += len(submission.operations)
        return group

    def _commit(self, group: list[_Submission]) -> None:
        try:
            self._attempt(group)
        except _DISK_FAULTS as error:
            log.failed("storage refused a group", error, count=len(group))
            for submission in group:
                submission.results = StorageError("the event could not be stored")
        except Exception as error:
            # A defect in one operation must not take its neighbours with it: each submission gets its own transaction.
            log.failed("a group failed; its members are tried one by one", error, count=len(group))
            for submission in group:
                self._alone(submission)
        self._loop.call_soon_threadsafe(_answer, group)

    def _attempt(self, group: list[_Submission]) -> None:
        transaction = self._transaction
        try:
            transaction.begin()  # within: what it began before it failed would forbid every later transaction
            results = iter(transaction.apply([operation for s in group for operation in s.operations]))
            for submission in group:
                submission.results = list(islice(results, len(submission.operations)))
            transaction.commit()
        except BaseException:
            transaction.rollback()
            raise

    def _alone(self, submission: _Submission) -> None:
        try:
            self._attempt([submission])
        except (StorageError, apsw.Error):
            submission.results = StorageError("the event could not be stored")
        except Exception as error:
            log.failed("an operation failed", error)
            submission.results = error


def _answer(group: list[_Submission]) -> None:
    """On the loop's thread: wake everyone whose group is on disk."""
    for submission in group:
        if submission.future.done():
            continue
        if isinstance(submission.results, BaseException):
            submission.future.set_exception(submission.results)
        else:
            submission.future.set_result(submission.results)
