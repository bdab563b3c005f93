"""Days and hours of delivery under a clock that the test turns: the age limit, dead tokens, clocks that jump."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from collector.storage.ground.clock import Kept
from tests.kit.courier_kit import Bench, CourierThread, bench, config_for, now_ms, wait_until
from tests.kit.simulators.graph import GraphSimulator

MINUTE = 60_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR


class Clock:
    """The time of courier and Meta alike, in ms."""

    def __init__(self) -> None:
        self.now = now_ms()

    def __call__(self) -> int:
        return self.now

    def seconds(self) -> float:
        return self.now / 1000


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def graph(clock: Clock) -> Iterator[GraphSimulator]:
    with GraphSimulator(token="secret-token") as simulator:
        simulator.state.clock = clock.seconds
        yield simulator


def wake(courier: CourierThread) -> None:
    """The clock has been turned: look again."""
    courier.call(courier.courier._wake)


@pytest.mark.parametrize(("age", "state"), [(6 * DAY + 23 * HOUR, "sent"), (7 * DAY, "expired"), (8 * DAY, "expired")])
def test_what_waited_too_long_expires_and_no_batch_is_refused_for_age(
    age: int, state: str, clock: Clock, graph: GraphSimulator, tmp_path: Path
) -> None:
    config = config_for(tmp_path, graph.url)
    with bench(config) as edge:
        edge.put(20, created=clock.now - age, received=clock.now - age)
        edge.put(20, first=101, created=clock.now - HOUR)
        with CourierThread(config, clock=clock, ticks=clock):
            assert wait_until(lambda: edge.open() == 0)
        expected = {"sent": 40} if state == "sent" else {"sent": 20, "expired": 20}
        assert edge.states() == expected
        assert graph.state.requests["111:refused"] == 0


def test_D4_a_dead_token_is_tried_after_1_2_4_to_30_minutes_and_nothing_is_lost(
    clock: Clock, graph: GraphSimulator, tmp_path: Path
) -> None:
    graph.faults("190")
    config = config_for(tmp_path, graph.url)
    with bench(config) as edge, CourierThread(config, clock=clock, ticks=clock) as courier:
        edge.put(50, created=clock.now - 1_000)
        for tried, minutes in enumerate((1, 2, 4, 8, 16, 30, 30), 1):
            due = clock.now + minutes * MINUTE
            assert wait_until(lambda due=due: edge.rows("SELECT until FROM pixel_state") == [(due,)]), minutes
            clock.now = due - 1
            for _ in range(3):
                wake(courier)
                courier.ask(asyncio.sleep(0.01))
            assert graph.state.requests["111:190"] == tried
            clock.now = due
            wake(courier)
        assert wait_until(lambda: edge.rows("SELECT until FROM pixel_state") == [(clock.now + 30 * MINUTE,)])
        assert edge.open() == 50
        graph.faults()
        clock.now += 30 * MINUTE
        wake(courier)
        assert wait_until(lambda: edge.states() == {"sent": 50})
        assert set(graph.accepted["111"].values()) == {1}


def test_retry_after_is_kept_to(clock: Clock, graph: GraphSimulator, tmp_path: Path) -> None:
    graph.faults({"name": "429", "times": 1, "headers": {"Retry-After": "7"}})
    config = config_for(tmp_path, graph.url)
    with bench(config) as edge, CourierThread(config, clock=clock, ticks=clock) as courier:
        edge.put(3, created=clock.now - 1_000)
        assert wait_until(lambda: edge.rows("SELECT 1 FROM pixel_state WHERE state = 'throttled'"))
        ((due,),) = edge.rows("SELECT until FROM pixel_state")
        assert clock.now + 7_000 <= due <= clock.now + 8_000
        clock.now = due - 1
        for _ in range(3):
            wake(courier)
            courier.ask(asyncio.sleep(0.01))
        assert graph.state.events == 0
        clock.now = due
        wake(courier)
        assert wait_until(lambda: edge.states() == {"sent": 3})


def blocked(edge: Bench) -> bool:
    return bool(edge.rows("SELECT 1 FROM pixel_state WHERE state = 'blocked'"))


class SetClock:
    """This machine's clock, set wrong by `ahead` ms."""

    def __init__(self) -> None:
        self.ahead = 0

    def __call__(self) -> int:
        return now_ms() + self.ahead


def told_of(courier: CourierThread, edge: Bench) -> tuple[bool, bool]:
    """Whether the alert `clock` stands, and whether the mark that `status` reads says since when it is held."""
    courier.ask(courier.courier._house._keep_time())
    kept = Kept(edge.db).read()
    return ("clock", "") in courier.courier._house._alerts._standing, bool(kept and kept.held_since)


@pytest.mark.parametrize("jump", [HOUR, 8 * DAY, 800 * DAY])
def test_C2_held_time_is_told_until_the_clock_is_right(jump: int, tmp_path: Path) -> None:
    """The control is the clock before it was set wrong, and once it is right."""
    clock = SetClock()
    with GraphSimulator() as graph:
        config = config_for(tmp_path, graph.url)
        with bench(config) as edge, CourierThread(config, clock=clock) as courier:
            assert told_of(courier, edge) == (False, False)
            clock.ahead = jump
            assert told_of(courier, edge) == (True, True)
            clock.ahead = 0
            assert told_of(courier, edge) == (False, False)


@pytest.mark.parametrize("jump", [-365 * DAY, -HOUR, HOUR, 8 * DAY, 60 * DAY, 800 * DAY])
def test_C1_a_clock_that_is_set_during_a_backoff_strands_nothing_and_ends_nothing(jump: int, tmp_path: Path) -> None:
    clock = SetClock()
    with GraphSimulator() as graph:  # Meta's clock is right
        graph.faults("503")
        config = config_for(tmp_path, graph.url)
        with bench(config) as edge, CourierThread(config, clock=clock) as courier:
            edge.put(10, created=now_ms() - 6 * DAY)
            assert wait_until(lambda: graph.state.requests["111:503"] >= 1)
            clock.ahead = jump
            house = courier.courier._house
            courier.ask(house._keep_time())
            courier.ask(house._expire())
            courier.ask(house._cut())
            assert edge.open() == 10
            graph.faults()
            assert wait_until(lambda: edge.states() == {"sent": 10}, 60)
            times = [event["event_time"] for event in graph.events]
            assert all(abs(at * 1000 - (now_ms() - 6 * DAY)) < HOUR for at in times)
