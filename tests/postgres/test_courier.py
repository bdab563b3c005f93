"""The courier over PostgreSQL, against Meta's simulator: alone, two beside each other, killed, too late."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from collector.storage.postgres import leases
from tests.kit import engines
from tests.kit.courier_kit import CourierThread, courier_process, wait_until
from tests.kit.engines import Postgres, postgres_config, put, states
from tests.kit.postgres import Database
from tests.kit.simulators.graph import GraphSimulator

EVENTS = 300


@pytest.fixture
def graph() -> Iterator[GraphSimulator]:
    with GraphSimulator() as made:
        yield made


@pytest.fixture
def keeper(tmp_path: Path, database: Database) -> Iterator[Postgres]:
    """Who queues events; it leases nothing."""
    with engines.postgres(tmp_path / "keeper", database) as made:
        made.box.release()
        yield made


def ids(first: int = 1, count: int = EVENTS) -> set[str]:
    return {f"e{n}" for n in range(first, first + count)}


def owners(keeper: Postgres) -> list[str]:
    return [owner for (owner,) in keeper.rows("SELECT owner FROM pixel_lease WHERE until > now_ms() ORDER BY pixel")]


def test_what_is_queued_is_delivered_once_and_settled(
    tmp_path: Path, keeper: Postgres, database: Database, graph: GraphSimulator
) -> None:
    with CourierThread(postgres_config(tmp_path, database, graph.url)):
        put(keeper, EVENTS)
        put(keeper, EVENTS, first=1_001, pixel="222", name="Lead")
        assert wait_until(lambda: states(keeper) == {"sent": 2 * EVENTS})
    assert {pixel: set(graph.accepted[pixel]) for pixel in graph.accepted} == {"111": ids(), "222": ids(1_001)}
    assert {n for pixel in graph.accepted.values() for n in pixel.values()} == {1}
    assert owners(keeper) == [], "who leaves in order keeps nothing"
    assert keeper.rows("SELECT count(*) FROM outbox_payload") == [(0,)]


@pytest.mark.parametrize("mode", ["500", "502_html", "partial", "reset_after"])
def test_a_failing_meta_is_asked_again_until_all_is_settled(
    mode: str, tmp_path: Path, keeper: Postgres, database: Database, graph: GraphSimulator
) -> None:
    graph.faults({"name": mode, "times": 2}, pixel="111")
    with CourierThread(postgres_config(tmp_path, database, graph.url, timeout_seconds=30.0)):
        put(keeper, EVENTS)
        assert wait_until(lambda: states(keeper) == {"sent": EVENTS})
    assert graph.accepted["111"].keys() == ids()


@pytest.mark.slow
def test_two_couriers_share_the_pixels_and_send_nothing_twice(
    tmp_path: Path, keeper: Postgres, database: Database, graph: GraphSimulator
) -> None:
    first, second = (postgres_config(tmp_path / name, database, graph.url) for name in ("first", "second"))
    with CourierThread(first), CourierThread(second):
        assert wait_until(lambda: len(set(owners(keeper))) == 2)
        for number in range(10):
            put(keeper, 30, first=1 + 30 * number)
            put(keeper, 30, first=1_001 + 30 * number, pixel="222")
        assert wait_until(lambda: states(keeper) == {"sent": 600})
    assert {pixel: set(graph.accepted[pixel]) for pixel in graph.accepted} == {"111": ids(), "222": ids(1_001)}
    assert {n for pixel in graph.accepted.values() for n in pixel.values()} == {1}


def test_a_courier_killed_in_flight_is_succeeded_with_the_same_event_ids(
    tmp_path: Path, keeper: Postgres, database: Database, graph: GraphSimulator
) -> None:
    graph.faults({"name": "slow", "seconds": 90.0, "times": 1}, pixel="111")
    config = postgres_config(tmp_path, database, graph.url, timeout_seconds=90.0)
    put(keeper, 20)
    with courier_process(config) as killed:
        assert wait_until(lambda: graph.state.requests["111:slow"] == 1)
        killed.send_signal(signal.SIGKILL)
    flying = keeper.rows("SELECT events FROM request WHERE outcome = 'in_flight'")
    assert len(owners(keeper)) == 2, "control: it is not known to be dead until its minute is over"
    keeper.execute("UPDATE pixel_lease SET until = 0")
    keeper.execute("DELETE FROM courier")
    with CourierThread(config):
        assert wait_until(lambda: states(keeper) == {"sent": 20})
    assert flying == [(20,)]
    assert graph.accepted["111"].keys() == ids(1, 20)
    assert keeper.rows("SELECT sum(n) FROM counter WHERE name = 'ambiguous'") == [(20,)]


@pytest.mark.parametrize("kept", [True, False], ids=["kept", "control: leases are believed for ever"])
def test_a_courier_that_stood_still_settles_nothing_of_a_pixel_that_went_on(
    kept: bool,
    tmp_path: Path,
    keeper: Postgres,
    database: Database,
    graph: GraphSimulator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Meta has answered it; before it writes that down, another has taken the pixel and its events over."""
    answered, moved, holds = Event(), Event(), leases.holds

    async def late(*asked: Any) -> bool:
        answered.set()
        while not moved.is_set():
            await asyncio.sleep(0.01)
        return await holds(*asked) if kept else True

    monkeypatch.setattr(leases, "holds", late)
    put(keeper, 20)
    with CourierThread(postgres_config(tmp_path, database, graph.url)):
        assert answered.wait(60)
        keeper.execute("UPDATE pixel_lease SET owner = 'another', until = now_ms() + 600000, epoch = epoch + 1")
        keeper.execute("UPDATE outbox SET state = 1, due = 1, reason = 'interrupted'")
        moved.set()
        assert wait_until(lambda: states(keeper) == {"retrying": 20} if kept else states(keeper) == {"sent": 20})
    assert states(keeper) == ({"retrying": 20} if kept else {"sent": 20})
