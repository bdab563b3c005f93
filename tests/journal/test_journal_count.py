"""Row 52: a click is given to every conversion of its visitor, or to the first alone, as the store says."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path

import pytest
from msgspec.structs import replace

from collector.exchange.operations import Again, Withdraw
from tests.kit.journal_kit import HOUR, NOW, STORE, Kit, click, config_for, order


def attributed(folder: Path, count: str, sequence: tuple[str, ...]) -> dict[str, bool]:
    config = config_for(folder)
    config = replace(config, store=[replace(config.store[0], count=count)])
    bodies = {
        "click": click("IwARone", NOW - 5 * HOUR, visitorId="v1"),
        "first": order("first", NOW - 4 * HOUR, visitorId="v1"),
        "second": order("second", NOW - 3 * HOUR, visitorId="v1"),
        "view": {"storeId": STORE, "eventType": "ViewContent", "at": NOW - 4 * HOUR - 1, "visitorId": "v1"},
    }
    with Kit(folder, config=config) as kit:
        results = {name: kit.post(bodies[name])[0] for name in sequence}
        return {name: kit.state(results[name].state.row.id).match.attributed for name in ("first", "second")}


def test_52_every_conversion_by_default(tmp_path: Path) -> None:
    assert attributed(tmp_path, "every", ("click", "first", "second")) == {"first": True, "second": True}


@pytest.mark.parametrize("sequence", list(itertools.permutations(("click", "first", "second"))))
def test_52_the_first_alone_whatever_arrives_first(tmp_path: Path, sequence: tuple[str, ...]) -> None:
    assert attributed(tmp_path, "one", sequence) == {"first": True, "second": False}


@pytest.mark.parametrize("named", [("early", "late"), ("late", "early")])
@pytest.mark.parametrize("told", [(), ("click",)])
def test_52_a_click_that_an_fbc_names_is_given_once_too(
    tmp_path: Path, named: tuple[str, ...], told: tuple[str, ...]
) -> None:
    config = config_for(tmp_path)
    config = replace(config, store=[replace(config.store[0], count="one")])
    fbc = f"fb.1.{NOW - 5 * HOUR}.IwARone"
    bodies = {"early": order("early", NOW - 4 * HOUR, fbc=fbc), "late": order("late", NOW - 3 * HOUR, fbc=fbc)}
    with Kit(tmp_path, config=config) as kit:
        kit.post(*(click("IwARone", NOW - 5 * HOUR) for _ in told))
        results = {name: kit.post(bodies[name])[0].state.row.id for name in named}
        assert kit.state(results["early"]).match.attributed
        assert not kit.state(results["late"]).match.attributed


def of_one_moment(folder: Path, names: tuple[str, str]) -> set[str]:
    config = config_for(folder)
    with Kit(folder, config=replace(config, store=[replace(config.store[0], count="one")])) as kit:
        kit.post(click("IwARone", NOW - HOUR, visitorId="v1"))
        results = {name: kit.post(order(name, visitorId="v1"))[0].state.row.id for name in names}
        kit.submit([Again(row_id) for row_id in results.values()])
        return {name for name, row_id in results.items() if kit.state(row_id).match.attributed}


def test_52_of_two_orders_of_one_moment_the_same_has_the_click_whatever_arrives_first(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    won = of_one_moment(first, ("a", "b"))
    second.mkdir()
    shutil.copy(first / "pepper.key", second)  # the same names in both
    assert len(won) == 1
    assert of_one_moment(second, ("b", "a")) == won


def test_52_the_click_of_an_order_that_is_withdrawn_goes_to_the_next(tmp_path: Path) -> None:
    config = config_for(tmp_path)
    with Kit(tmp_path, config=replace(config, store=[replace(config.store[0], count="one")])) as kit:
        kit.post(click("IwARone", NOW - 5 * HOUR, visitorId="v1"))
        first, second = kit.post(
            order("first", NOW - 4 * HOUR, visitorId="v2", fbclid="IwARone"),
            order("second", NOW - 3 * HOUR, visitorId="v1"),
        )
        assert (first.state.match.attributed, second.state.match.attributed) == (True, False)
        kit.submit([Withdraw(1, "v2", kit.journal.names.name(1, "visitor", "v2"))])
        states = [kit.state(result.state.row.id).match.attributed for result in (first, second)]
        assert states == [False, True]


def test_52_a_page_view_takes_no_orders_click(tmp_path: Path) -> None:
    assert attributed(tmp_path, "one", ("click", "view", "first", "second"))["first"]
