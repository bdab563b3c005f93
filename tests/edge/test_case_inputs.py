"""What a door is sent on a bad day: every input of the reports has its answer, and none is a fault of ours."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kit.case_inputs import Input, beacons, clicks, orders
from tests.kit.edge_process import Edge, running


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    with running(tmp_path_factory.mktemp("cases")) as edge:
        yield edge


def misses(edge: Edge, inputs: Iterator[Input]) -> list[str]:
    found = []
    for one in inputs:
        answer = edge.ask("POST", one.path, one.body, "secret" if one.by_server else None, one.headers)
        right = answer.status < 500 if one.is_taken is None else (answer.status < 300) == one.is_taken
        if not right or answer.status >= 500:
            found.append(f"{one.what}: {answer.status} {answer.data[-200:]!r}")
    return found


def test_F1_a_poor_field_costs_no_order(edge: Edge) -> None:
    assert misses(edge, orders("a")) == []


def test_F1_a_poor_part_costs_no_beacon(edge: Edge) -> None:
    assert misses(edge, beacons()) == []


def test_F2_a_poor_field_costs_no_click(edge: Edge) -> None:
    assert misses(edge, clicks()) == []


@pytest.mark.slow
def test_the_check_sees_an_order_that_is_lost(edge: Edge) -> None:
    """Control: the same inputs at a door that takes none of them."""
    lost = (one._replace(path="/v1/track/click") for one in orders("b"))
    assert len(misses(edge, lost)) > 100
