"""Prefer: wait beside an Idempotency-Key: Meta's word in the first answer, and the same answer to every replay."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from collector.core.capi.states import CapiState
from collector.core.events import ConversionBody
from collector.edge.keeper import Keeper
from collector.edge.prepare import Preparer
from collector.edge.track import Asked, Tracker
from collector.errors import StorageError
from collector.exchange.clock import Clock
from collector.exchange.keys import ApiKey
from collector.exchange.operations import Reworded
from collector.exchange.responses import Answer
from collector.storage.ground.database import open_database
from tests.kit.journal_kit import NOW, SERVER, STORE, config_for, order
from tests.kit.keeper_thread import keeping

KEY = ApiKey("key_1", b"", "secret", None, 0, None)
AGENT = {"userAgent": "Mozilla/5.0", "customerData": {"email": "a@b.c"}}


class Desk:
    """One edge's verbs in this process, over a keeper in a thread; `settle` is the courier."""

    def __init__(self, folder: Path) -> None:
        self.config = config_for(folder)
        self.loop = asyncio.new_event_loop()
        self.around = ExitStack()
        control = self.around.enter_context(keeping(self.config, Clock(lambda: NOW, lambda: NOW)))
        self.keeper = self.loop.run_until_complete(self.connected(control))
        self.tracker = Tracker(self.keeper)
        known = self.keeper
        self.preparer = Preparer(self.config, known.stores, known.names, known.public, lambda: NOW, known.count)

    async def connected(self, control: socket.socket) -> Keeper:
        keeper = Keeper(control)
        await keeper.greeted()
        return keeper

    def close(self) -> None:
        self.loop.call_soon(self.keeper.close)
        self.loop.run_until_complete(asyncio.sleep(0.05))
        self.around.close()
        self.loop.close()

    async def post(self, name: str, wait: float) -> dict[str, Any]:
        """The `data` of one order's answer, under its own name as the Idempotency-Key."""
        body = order(name, **AGENT)
        body.pop("at")
        decoded = msgspec.convert(body, ConversionBody, strict=False)
        prepared = self.preparer.event(decoded, SERVER, self.keeper.stores[STORE])
        answer: Answer = await self.tracker.one(prepared, Asked(KEY, "/", name.encode(), name.encode(), wait))
        return dict(json.loads(answer.body)["data"])

    async def stored(self, db: Any, table: str) -> None:
        while not db.execute(f"SELECT 1 FROM {table}").fetchall():
            await asyncio.sleep(0.01)

    async def settle(self) -> None:
        with closing(open_database(self.config.storage)) as db:
            await self.stored(db, "outbox")
            db.execute("UPDATE outbox SET state = ?, settled = 1", (int(CapiState.SENT),))

    def run(self, *doing: Any) -> list[Any]:
        async def together() -> list[Any]:
            return list(await asyncio.wait_for(asyncio.gather(*doing), 15))

        return self.loop.run_until_complete(together())


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with closing(Desk(tmp_path)) as desk:
        yield desk


def test_the_first_answer_waits_and_is_what_a_replay_is_given(desk: Desk) -> None:
    first, _ = desk.run(desk.post("A", 10), desk.settle())
    assert first["capiStatus"] == "sent"
    assert desk.run(desk.post("A", 10)) == desk.run(desk.post("A", 0)) == [first]


def test_who_does_not_wait_is_answered_at_once_and_a_replay_repeats_that(desk: Desk) -> None:
    (first,) = desk.run(desk.post("A", 0))
    assert first["capiStatus"] == "queued"
    desk.run(desk.settle())
    assert desk.run(desk.post("A", 10)) == [first]


def test_a_process_that_ends_while_somebody_waits_has_remembered_an_answer(tmp_path: Path) -> None:
    """Effects and answer are one transaction: the retry of a caller who heard nothing does nothing twice."""
    with closing(Desk(tmp_path)) as before:

        async def cut_off() -> None:
            waiting = asyncio.ensure_future(before.post("A", 10))
            with closing(open_database(before.config.storage)) as db:
                await before.stored(db, "idempotency")
            waiting.cancel()

        before.run(cut_off())
    with closing(Desk(tmp_path)) as after:
        (replayed,) = after.run(after.post("A", 0))
        assert replayed["capiStatus"] == "queued"
        assert "duplicate" not in replayed
        with closing(open_database(after.config.storage)) as db:
            assert db.execute("SELECT count(*) FROM conversion").get == 1


def test_an_answer_that_cannot_be_remembered_is_not_given(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    submit = desk.keeper.submit

    def full(operations: Any) -> Any:
        if isinstance(operations[0], Reworded):
            raise StorageError("the disk is full")
        return submit(operations)

    monkeypatch.setattr(desk.keeper, "submit", full)
    first, _ = desk.run(desk.post("A", 10), desk.settle())
    assert first["capiStatus"] == "queued"
    assert desk.run(desk.post("A", 0)) == [first]
