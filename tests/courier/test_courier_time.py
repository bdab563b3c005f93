"""Days and hours of delivery under a clock that the test turns: the age limit, dead tokens, clocks that jump."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.courier_kit import Bench, CourierThread, bench, config_for, now_ms, wait_until
from tests.kit.simulators.graph import GraphSimulator

HOUR = 3_600_000
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
        assert wait_until(lambda: blocked(edge))
        first = graph.state.requests["111:190"]
        for _ in range(60):  # an hour, minute by minute
            clock.now += 60_000
            wake(courier)
            time.sleep(0.02)
        probes = graph.state.requests["111:190"] - first
        assert 4 <= probes <= 5  # after 1, 3, 7, 15 and 31 minutes, and a request that was on its way
        assert edge.states() == {"retrying": 50} or edge.open() == 50
        graph.faults()
        clock.now += 30 * 60_000
        wake(courier)
        assert wait_until(lambda: edge.states() == {"sent": 50})
        assert set(graph.accepted["111"].values()) == {1}


def blocked(edge: Bench) -> bool:
    return bool(edge.rows("SELECT 1 FROM pixel_state WHERE state = 'blocked'"))


class SetClock:
    """This machine's clock, set wrong by `ahead` ms."""

    def __init__(self) -> None:
        self.ahead = 0

    def __call__(self) -> int:
        return now_ms() + self.ahead


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
            assert wait_until(lambda: edge.states() == {"sent": 10}, 20)
            times = [event["event_time"] for event in graph.events]
            assert all(abs(at * 1000 - (now_ms() - 6 * DAY)) < HOUR for at in times)
