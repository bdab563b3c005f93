"""One process owns every transaction: what waits together is committed together.

While one group is on its way to the disk the next one gathers in the sockets of those who ask (keeper/app.py), so there
is no timer and no added delay: alone, a request pays one fsync; under load, all who wait share it. Nobody is answered
before the COMMIT has returned. One thread does it all: two would fight for the interpreter's lock (measured: two thirds
of a writer's time under load were spent waiting for it).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import islice
from typing import Any, Protocol

import apsw

from collector import telemetry
from collector.errors import StorageError
from collector.exchange.operations import Submission

log = telemetry.logger("writer")

# Rows per group: enough to make the fsync small change (a group of 200 stores as much a second as one of 1,000), few
# enough that the first in line does not wait for the last, and that no group makes the write-ahead log long.
MOST_ROWS = 500
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


class GroupWriter:
    """Commits submissions in groups. Not for several threads."""

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    @property
    def distrusted(self) -> bool:
        """Whether nothing more may be acknowledged by this process."""
        return self._transaction.distrusted

    def commit(self, waiting: deque[Submission]) -> Sequence[Submission]:
        """Take the next group off `waiting` and return it once it is on disk, each submission with its results.

        A result is a value, an ApiError too. A submission of which nothing was stored has an exception instead of
        results: StorageError where the disk refused it, its own defect otherwise.
        """
        group = _gather(waiting)
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
        return group

    def rest(self) -> bool:
        """Upkeep between groups; whether there is more of it. Should it fail, the process lives on."""
        try:
            return self._transaction.idle()
        except Exception as error:
            log.failed("upkeep failed", error)
            return False

    def _attempt(self, group: Sequence[Submission]) -> None:
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

    def _alone(self, submission: Submission) -> None:
        try:
            self._attempt([submission])
        except (StorageError, apsw.Error):
            submission.results = StorageError("the event could not be stored")
        except Exception as error:
            log.failed("an operation failed", error)
            submission.results = error


def _gather(waiting: deque[Submission]) -> Sequence[Submission]:
    group: list[Submission] = []
    rows = 0
    while waiting and rows < MOST_ROWS:
        group.append(waiting.popleft())
        rows += len(group[-1].operations)
    return group
