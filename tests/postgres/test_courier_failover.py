"""The primary dies under a running courier: it goes on with the standby, without a restart, and nothing is lost."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from tests.kit import engines, postgres
from tests.kit.courier_kit import CourierThread, wait_until
from tests.kit.engines import postgres_config, put, states
from tests.kit.simulators.graph import GraphSimulator

EVENTS = 40


@pytest.mark.slow
def test_a_courier_goes_on_with_the_standby_and_loses_nothing(tmp_path: Path) -> None:
    with postgres.pair() as both, GraphSimulator() as graph:
        database = postgres.make_database(both.primary, "failover")
        database.dsn = both.dsn("failover")
        config = postgres_config(tmp_path / "courier", database, graph.url)
        config = msgspec.structs.replace(config, storage=msgspec.structs.replace(config.storage, standby="required"))
        with engines.postgres(tmp_path / "keeper", database) as keeper:
            keeper.box.release()
            with CourierThread(config) as courier:
                put(keeper, EVENTS)
                assert wait_until(lambda: states(keeper) == {"sent": EVENTS})
                graph.faults({"name": "slow", "seconds": 1.0, "times": 1}, pixel="111")
                put(keeper, EVENTS, first=1_001)
                assert wait_until(lambda: graph.state.requests["111:slow"] == 1)
                both.primary.kill()
                both.standby.promote()
                assert wait_until(lambda: asked(keeper) == {"sent": 2 * EVENTS})
                put(keeper, EVENTS, first=2_001)
                assert wait_until(lambda: asked(keeper) == {"sent": 3 * EVENTS})
                assert courier._thread.is_alive()
        assert len(graph.accepted["111"]) == 3 * EVENTS


def asked(keeper: engines.Postgres) -> dict[str, int]:
    """The states, once somebody takes questions again."""
    try:
        return dict(states(keeper))
    except Exception:
        return {}


@pytest.mark.slow
def test_a_courier_ends_in_order_while_its_database_is_away(tmp_path: Path) -> None:
    with postgres.server() as node, GraphSimulator() as graph:
        database = postgres.make_database(node, "away")
        with engines.postgres(tmp_path / "keeper", database) as keeper:
            keeper.box.release()
            with CourierThread(postgres_config(tmp_path / "courier", database, graph.url)) as courier:
                put(keeper, EVENTS)
                assert wait_until(lambda: states(keeper) == {"sent": EVENTS})
                node.kill()
                assert wait_until(lambda: bool(courier.courier._queues))
        assert not courier._thread.is_alive()
