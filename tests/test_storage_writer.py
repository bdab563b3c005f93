"""The group writer by itself: order of commit and answer, upkeep under a load that never ends, cancelled waiters."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import apsw
import pytest

from collector.errors import ApiError, StorageError
from collector.storage.writer import MOST_ROWS, GroupWriter


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
        time.sleep(0.001)
        self.notes.append(list(self.open))
        self.committed += len(self.open)

    def rollback(self) -> None:
        self.open = []

    def idle(self) -> bool:
        self.idles += 1
        return False


async def test_an_answer_comes_after_its_commit() -> None:
    notebook = Notebook()
    writer = GroupWriter(notebook, asyncio.get_running_loop())
    try:
        for number in range(20):
            results = await writer.submit([number])
            assert results == [("did", number)]
            assert number in notebook.notes[-1]
    finally:
        writer.close()


async def test_what_waits_together_is_committed_together_and_in_order() -> None:
    notebook = Notebook()
    writer = GroupWriter(notebook, asyncio.get_running_loop())
    try:
        answers = await asyncio.gather(*(writer.submit([number]) for number in range(500)))
        assert [result for (result,) in answers] == [("did", number) for number in range(500)]
        assert [one for group in notebook.notes for one in group] == list(range(500))
        assert len(notebook.notes) < 50, "one fsync for many"
    finally:
        writer.close()


async def test_a_group_is_bounded() -> None:
    notebook = Notebook()
    writer = GroupWriter(notebook, asyncio.get_running_loop())
    try:
        await asyncio.gather(*(writer.submit(range(500)) for _ in range(20)))
        assert max(map(len, notebook.notes)) <= MOST_ROWS + 500
    finally:
        writer.close()


async def test_upkeep_runs_under_a_load_that_never_lets_the_queue_run_empty() -> None:
    """Otherwise a revoked key stays in force, and the tail grows, for as long as the load lasts."""
    notebook = Notebook()
    writer = GroupWriter(notebook, asyncio.get_running_loop())
    end = time.monotonic() + 0.5

    async def client() -> None:
        while time.monotonic() < end:
            await asyncio.gather(*(writer.submit([0]) for _ in range(50)))

    try:
        writer.submit(range(10))
        await asyncio.gather(*(client() for _ in range(8)))
        assert notebook.idles > 20
    finally:
        writer.close()


async def test_cancelling_a_waiter_neither_undoes_nor_harms() -> None:
    notebook = Notebook()
    writer = GroupWriter(notebook, asyncio.get_running_loop())
    try:
        gone, staying = writer.submit(["gone"]), writer.submit(["staying"])
        gone.cancel()
        assert await staying == [("did", "staying")]
        assert "gone" in [one for group in notebook.notes for one in group]
    finally:
        writer.close()


async def test_a_refusal_is_a_result_and_a_defect_is_its_own() -> None:
    notebook = Notebook()
    writer = GroupWriter(notebook, asyncio.get_running_loop())
    try:
        refusal = ApiError("order_conflict", "no")
        mixed = writer.submit(["a", refusal, "b"])
        broken = writer.submit(["c", KeyError("x")])
        disk = writer.submit(["d"])
        assert await mixed == [("did", "a"), refusal, ("did", "b")]
        with pytest.raises(KeyError):
            await broken
        assert await disk == [("did", "d")]
        assert "c" not in [one for group in notebook.notes for one in group], "whole or not at all"
    finally:
        writer.close()


async def test_a_fault_of_the_disk_is_everybodys() -> None:
    notebook = Notebook()
    writer = GroupWriter(notebook, asyncio.get_running_loop())
    try:
        waiting = [writer.submit([one]) for one in ("a", StorageError("full"), "b")]
        answers = await asyncio.gather(*waiting, return_exceptions=True)
        assert any(isinstance(one, StorageError) for one in answers)
        stored = [one for group in notebook.notes for one in group]
        for one, answer in zip(("a", "b"), (answers[0], answers[2]), strict=True):
            assert isinstance(answer, StorageError) == (one not in stored)
    finally:
        writer.close()


async def test_after_closing_nothing_is_taken() -> None:
    writer = GroupWriter(Notebook(), asyncio.get_running_loop())
    writer.close()
    with pytest.raises(StorageError):
        await writer.submit(["late"])


async def test_a_disk_that_cannot_be_trusted_ends_the_process_after_its_answers() -> None:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()

    class Failing(Notebook):
        def commit(self) -> None:
            self.distrusted = True
            raise apsw.IOError("disk I/O error")

    writer = GroupWriter(Failing(), loop, give_up=lambda: loop.call_soon_threadsafe(ended.set))  # type: ignore[arg-type]
    with pytest.raises(StorageError):
        await writer.submit(["a"])
    await asyncio.wait_for(ended.wait(), 5)
