"""The group writer by itself: order of commit and answer, whose fault a fault is."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

import apsw

from collector.errors import ApiError, StorageError
from collector.exchange.operations import Submission
from collector.storage.journal.writer import MOST_ROWS, GroupWriter


class Notebook:
    """A transaction that writes down what is asked of it."""

    distrusted = False

    def __init__(self) -> None:
        self.notes: list[Any] = []
        self.idles = 0
        self.committed = 0
        self.open: list[Any] = []

    def begin(self) -> None:
        self.open = []

    def apply(self, operations: Sequence[Any]) -> list[Any]:
        return [self._one(operation) for operation in operations]

    def _one(self, operation: Any) -> Any:
        if isinstance(operation, ApiError):
            return operation
        if isinstance(operation, Exception):
            raise operation
        self.open.append(operation)
        return ("did", operation)

    def commit(self) -> None:
        self.notes.append(list(self.open))
        self.committed += len(self.open)

    def rollback(self) -> None:
        self.open = []

    def idle(self) -> bool:
        self.idles += 1
        return False


def committed(writer: GroupWriter, *submissions: Sequence[Any]) -> list[Any]:
    """What became of submissions that wait at the same moment, group after group."""
    waiting = deque(Submission(operations) for operations in submissions)
    done: list[Submission] = []
    while waiting:
        done += writer.commit(waiting)
    return [submission.results for submission in done]


def test_an_answer_comes_after_its_commit() -> None:
    notebook = Notebook()
    writer = GroupWriter(notebook)
    for number in range(20):
        assert committed(writer, [number]) == [[("did", number)]]
        assert number in notebook.notes[-1]


def test_what_waits_together_is_committed_together_and_in_order() -> None:
    notebook = Notebook()
    answers = committed(GroupWriter(notebook), *([number] for number in range(500)))
    assert [result for (result,) in answers] == [("did", number) for number in range(500)]
    assert notebook.notes == [list(range(500))], "one fsync for all"


def test_a_group_is_bounded() -> None:
    notebook = Notebook()
    committed(GroupWriter(notebook), *(range(500) for _ in range(20)))
    assert len(notebook.notes) > 1
    assert max(map(len, notebook.notes)) <= MOST_ROWS + 500


def test_a_refusal_is_a_result_and_a_defect_is_its_own() -> None:
    notebook = Notebook()
    refusal = ApiError("order_conflict", "no")
    mixed, broken, disk = committed(GroupWriter(notebook), ["a", refusal, "b"], ["c", KeyError("x")], ["d"])
    assert mixed == [("did", "a"), refusal, ("did", "b")]
    assert isinstance(broken, KeyError)
    assert disk == [("did", "d")]
    assert "c" not in [one for group in notebook.notes for one in group], "whole or not at all"


def test_a_fault_of_the_disk_is_everybodys() -> None:
    notebook = Notebook()
    answers = committed(GroupWriter(notebook), ["a"], [StorageError("full")], ["b"])
    assert all(isinstance(one, StorageError) for one in answers)
    assert notebook.notes == []


def test_upkeep_that_fails_does_not_end_the_writer() -> None:
    class Failing(Notebook):
        def idle(self) -> bool:
            raise RuntimeError("upkeep")

    writer = GroupWriter(Failing())
    assert writer.rest() is False
    assert committed(writer, ["a"]) == [[("did", "a")]]


def test_a_disk_that_cannot_be_trusted_is_said_so() -> None:
    class Failing(Notebook):
        def commit(self) -> None:
            self.distrusted = True
            raise apsw.IOError("disk I/O error")

    writer = GroupWriter(Failing())
    assert not writer.distrusted
    (answer,) = committed(writer, ["a"])
    assert isinstance(answer, StorageError)
    assert writer.distrusted
