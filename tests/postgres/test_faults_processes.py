"""A keeper or a courier is killed, or stands still, under a load from outside: nothing acknowledged is lost.

Where a keeper is caught is seen in the server, not asked of the keeper: a trigger of the test holds its statement,
the keeper is stopped, the statement goes on. FAULT_ROUNDS=100 pytest -m faults_postgres is what a release takes.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.kit.harness import PIXEL, STORE, Door, Installation, eventually
from tests.kit.load import Load
from tests.kit.machines import CLEAN, ROUNDS, Asking, Retelling, Trap, audit, goes_on, loaded, sittings
from tests.kit.postgres import Database
from tests.kit.simulators.graph import GraphSimulator
from tests.postgres.test_serve import click, installation, order, taken

pytestmark = [pytest.mark.slow, pytest.mark.faults_postgres]
NOWHERE = "http://127.0.0.1:9"
_OVER = "UPDATE edge SET until = 0 WHERE owner LIKE '%:{}:%'"  # as after 30 s


@pytest.fixture
def pepper(tmp_path: Path) -> Path:
    return tmp_path / "pepper.key"


def test_a_keeper_is_killed_between_statement_and_commit(database: Database, tmp_path: Path, pepper: Path) -> None:
    """Orders are told twice; the second time changes a row, which takes a transaction of several statements."""
    shop = installation(tmp_path / "one", NOWHERE, database.dsn, "none", pepper)
    loads, states = killed_held(shop, database, Retelling, "UPDATE conversion")
    assert sum(len(load.paid) for load in loads if isinstance(load, Retelling)) >= ROUNDS
    assert "idle in transaction" in states, states
    assert audit(database.node, database.name, pepper, *loads) == CLEAN


def test_a_keeper_is_killed_between_commit_and_answer(database: Database, tmp_path: Path, pepper: Path) -> None:
    shop = installation(tmp_path / "one", NOWHERE, database.dsn, "none", pepper)
    loads, states = killed_held(shop, database, None, "INSERT conversion", "INSERT sighting")
    assert "idle" in states, states
    assert sum(load.repeats for load in loads) > 0, "what was committed and not answered is recognised"
    assert audit(database.node, database.name, pepper, *loads) == CLEAN


def killed_held(
    shop: Installation, database: Database, made: Callable[[str, str], Load] | None, *places: str
) -> tuple[list[Load], list[str]]:
    """Kill a keeper in each round, held at one of the places; the loads, and how its transactions stood."""
    loads, states = [], []
    shop.make_key()  # which makes the tables as well
    with Trap(database, *places) as trap:
        for rounds in sittings():
            with loaded(shop, made, rounds.start << 32) as (door, load):
                loads.append(load)
                for _ in rounds:
                    goes_on(load)
                    states += kill_held(trap, door)
                goes_on(load)
    return loads, states


def kill_held(trap: Trap, door: Door) -> list[str]:
    """Kill the keeper where its statement is done and it has not heard; how its transaction stood."""
    server, keeper = trap.hold()
    state = trap.state(server)
    os.kill(keeper, signal.SIGKILL)
    assert eventually(lambda: door.serving.children().get("keeper", keeper) != keeper, 60)
    return [state]


def test_keepers_are_killed_between_commit_and_look(database: Database, tmp_path: Path, pepper: Path) -> None:
    """An order and its click, each by its own machine, at one moment: neither has seen the other. Then both die."""
    shops = [installation(tmp_path / name, NOWHERE, database.dsn, "none", pepper) for name in ("one", "two")]
    key = shops[0].make_key()
    with Trap(database, "INSERT conversion", "INSERT sighting") as trap:
        for rounds in sittings():
            with ExitStack() as stack:
                doors = [stack.enter_context(shop.serve()) for shop in shops]
                pool = stack.enter_context(ThreadPoolExecutor(2))
                for number in rounds:
                    attributed_at_last(trap, doors, key, pool, 1000 * number)
        assert database.sql("SELECT count(*) FROM click") == database.sql("SELECT count(*) FROM conversion")


def attributed_at_last(trap: Trap, doors: list[Door], key: str, pool: ThreadPoolExecutor, first: int) -> None:
    told: list[Future[dict[str, Any]]] = []
    seen: dict[int, int] = {}
    for number in range(first, first + 20):
        trap.set()
        told = [pool.submit(taken, doors[0], "click", click(number), key)]
        told += [pool.submit(taken, doors[1], "conversion", order(number), key)]
        seen = trap.stop(2)
        if seen:
            break
        for one in told:
            one.result()
    assert eventually(lambda: all(trap.state(server) == "idle" for server in seen), 60)
    missed = "SELECT count(*) FROM conversion WHERE click IS NULL"
    for keeper in seen.values():
        os.kill(keeper, signal.SIGKILL)
    assert trap.value(missed) >= 1, "control: neither saw the other"
    for keeper in seen.values():
        trap.execute(_OVER.format(keeper))
    assert [one.result()["success"] for one in told] == [True, True]
    assert eventually(lambda: trap.value(missed) == 0, 90)


def test_a_courier_is_killed_with_a_request_under_way(database: Database, tmp_path: Path, pepper: Path) -> None:
    with GraphSimulator() as graph, Asking(database.node, database.name) as asking:
        shop = installation(tmp_path / "one", graph.url, database.dsn, "none", pepper)
        key = shop.make_key()
        for rounds in sittings():
            send_killed(shop, key, graph, asking, rounds)
        assert asking.value("SELECT count(*) FROM outbox") == ROUNDS
        assert len(graph.accepted[PIXEL]) == ROUNDS


def send_killed(shop: Installation, key: str, graph: GraphSimulator, asking: Asking, rounds: range) -> None:
    with shop.serve() as door:
        for number in rounds:
            graph.faults({"name": "slow", "seconds": 60.0, "times": 1}, pixel=PIXEL)
            taken(door, "conversion", {**order(number), "customerData": {"email": "a@example.com"}}, key)
            assert eventually(lambda n=number: graph.state.requests[f"{PIXEL}:slow"] == n + 1, 90)
            killed = door.serving.children()["courier"]
            os.kill(killed, signal.SIGKILL)
            asking.execute("UPDATE pixel_lease SET until = 0")  # as after a minute
            asking.execute("DELETE FROM courier")
            assert eventually(lambda n=number: len(graph.accepted.get(PIXEL, ())) == n + 1, 90)
        assert eventually(lambda: asking.value("SELECT count(*) FROM outbox WHERE state <> 10") == 0, 60)


def test_a_keeper_stands_still_for_longer_than_its_lease(database: Database, tmp_path: Path, pepper: Path) -> None:
    """Another takes over what it had not looked through; when it wakes, it writes under another number."""
    shops = [installation(tmp_path / name, NOWHERE, database.dsn, "none", pepper) for name in ("one", "two")]
    key = shops[0].make_key()
    with ExitStack() as stack:
        doors = [stack.enter_context(shop.serve()) for shop in shops]
        loads = [Load(door.url, key, STORE, 2) for door in doors]
        loads[1]._numbers = iter(range(1 << 40, 1 << 41))  # type: ignore[assignment]  # others than the first's
        for load in loads:
            stack.enter_context(load.running())
        trap = stack.enter_context(Trap(database, "INSERT conversion", "INSERT sighting"))
        for _ in range(max(1, ROUNDS // 10)):
            goes_on(*loads)
            stopped = stop_keeper(trap, doors[0])
            mine = f"FROM edge WHERE owner LIKE '%:{stopped}:%'"
            number = trap.value(f"SELECT max(number) {mine} AND until > now_ms()")
            assert eventually(lambda n=number: is_given_up(trap, n), 120)
            goes_on(loads[1])
            os.kill(stopped, signal.SIGCONT)
            goes_on(*loads)
            assert trap.value(f"SELECT count(*) {mine} AND number <> $1 AND until > now_ms()", number) == 1
    assert loads[0].faults == loads[1].faults == []
    assert audit(database.node, database.name, pepper, *loads) == CLEAN


def stop_keeper(trap: Trap, door: Door) -> int:
    """With a statement of its own under way, which then goes on without it."""
    keeper = door.serving.children()["keeper"]
    for _ in range(20):
        _, held = trap.hold()
        if held == keeper:
            return keeper
        os.kill(held, signal.SIGCONT)
    raise AssertionError("it was never caught")


def is_given_up(trap: Trap, number: int) -> bool:
    """Whether an edge's number is over, and all that it has left is looked through."""
    return bool(trap.value("SELECT NOT open FROM edge WHERE number = $1", number))
