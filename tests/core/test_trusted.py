"""C1, C2: what time is believed, as pure rules; and what rests on it in the journal and in the courier."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from collector.core import trusted
from collector.core.trusted import Mark, Reading
from collector.courier.timekeeper import Timekeeper
from collector.exchange.clock import Clock
from collector.storage.ground.clock import Kept
from tests.kit.courier_kit import CourierThread, bench, config_for, now_ms, wait_until
from tests.kit.journal_kit import DAY, HOUR, MINUTE, NOW, Kit, click, order
from tests.kit.simulators.graph import GraphSimulator

BOOT = "one-run"


def after(passed: int, *, ahead: int = 0, boot_id: str = BOOT) -> Reading:
    """The clocks `passed` ms after NOW by the boot-time clock, the system's `ahead` of the truth."""
    return Reading(NOW + passed + ahead, 1_000 + passed, boot_id)


START = trusted.first(after(0))
JUMPS = [HOUR, 8 * DAY, 60 * DAY, 800 * DAY]


def at(mark: Mark, now: Reading) -> tuple[int, int, int]:
    """Trusted, receipt, held, each against the truth."""
    mark = trusted.carried(mark, now)
    true = NOW + now.boot - 1_000
    return trusted.trusted(mark, now) - true, trusted.receipt(mark, now) - true, trusted.held_ms(mark, now)


@pytest.mark.parametrize("ahead", JUMPS)
def test_C1_a_jump_ahead_is_held_whatever_its_size(ahead: int) -> None:
    for hours in (0, 1, 5):
        ends, given_, held = at(START, after(hours * HOUR, ahead=ahead))
        assert 0 <= ends <= hours * 2 * MINUTE  # two minutes of slack an hour
        assert 0 <= given_ <= hours * 2 * MINUTE
        assert held > 0
    assert at(START, after(HOUR)) == (0, 0, 0)  # set right again


def test_the_control_one_clock_alone_would_be_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trusted, "trusted", lambda mark, now: now.system)
    assert at(START, after(0, ahead=8 * DAY))[0] == 8 * DAY


def test_C1_in_steps_and_back_nothing_is_gained() -> None:
    mark = START
    for hour, ahead in enumerate([0, 8 * DAY, 60 * DAY, 800 * DAY, 8 * DAY, 0, -HOUR, 60 * DAY, 0]):
        now = after(hour * HOUR, ahead=ahead)
        mark = trusted.carried(mark, now)
        assert trusted.trusted(mark, now) <= NOW + hour * HOUR + hour * 2 * MINUTE
    assert trusted.held_ms(mark, after(8 * HOUR)) == 0


@pytest.mark.parametrize("ahead", JUMPS)
def test_C1_over_a_restart_the_boot_time_clock_tells_how_long_it_was(ahead: int) -> None:
    assert at(START, after(3 * DAY, ahead=ahead))[0] <= 3 * 48 * MINUTE
    assert at(START, after(3 * DAY))[:2] == (0, 0)  # three days off, and the clock says so


def test_C1_over_a_reboot_the_system_alone_ends_nothing_and_yet_dates_what_arrives() -> None:
    now = Reading(NOW + 3 * DAY, 5, "another-run")
    mark = trusted.carried(START, now)
    assert trusted.trusted(mark, now) == NOW  # the file's newest evidence
    assert trusted.receipt(mark, now) == now.system
    assert trusted.held_ms(mark, now) == 3 * DAY
    later = Reading(now.system + 800 * DAY, 5 + HOUR, "another-run")  # and then it jumps as well
    assert trusted.receipt(trusted.carried(mark, later), later) <= now.system + HOUR + 2 * MINUTE


@pytest.mark.parametrize("ahead", [8 * DAY, -8 * DAY, 800 * DAY])
def test_C1_metas_clock_is_believed_where_it_contradicts_ours(ahead: int) -> None:
    now = after(0, ahead=ahead)
    mark = replace(trusted.first(now), date=NOW)  # a new database, made while the clock was wrong
    assert trusted.receipt(mark, now) == NOW
    assert trusted.trusted(mark, now) == min(NOW, now.system)
    assert trusted.is_doubtful(mark, now)


def test_C1_two_witnesses_that_agree_for_an_hour_end_the_hold(tmp_path: Path) -> None:
    system, boot = [NOW], [1_000]
    with bench(config_for(tmp_path, "http://127.0.0.1:1")) as edge:
        kept = Kept(edge.db)
        keeper = Timekeeper(kept, lambda: system[0], lambda: boot[0])
        keeper._mark = replace(keeper._mark, boot_id="an earlier run")  # the machine was off for three days
        system[0] += 3 * DAY
        told: list[str] = []
        keeper.step(told.append)
        keeper.heard(NOW - 800 * DAY)  # one answer alone is believed in nothing
        assert keeper.is_disputed
        assert not keeper.knows_metas
        keeper.heard(system[0])
        keeper.heard(system[0])
        assert "collector clock accept" in told[0]
        for minutes in range(0, 60, 10):
            keeper.step(told.append)
            assert keeper.clock.trusted() < system[0] - 2 * DAY, minutes
            system[0] += 10 * MINUTE
            boot[0] += 10 * MINUTE
        keeper.step(told.append)
        assert keeper.clock.trusted() == system[0]
        assert not keeper.is_doubtful
        assert len(told) == 1


def test_C1_a_person_may_say_that_the_clock_is_right_and_it_outlives_a_restart(tmp_path: Path) -> None:
    system, boot = [NOW], [1_000]
    with bench(config_for(tmp_path, "http://127.0.0.1:1")) as edge:
        keeper = Timekeeper(Kept(edge.db), lambda: system[0], lambda: boot[0])
        keeper.heard(NOW)  # also where Meta says otherwise
        keeper.heard(NOW)
        system[0] += 8 * DAY
        keeper.step(lambda text: None)
        assert keeper.clock.trusted() == NOW
        Kept(edge.db).accept(keeper.clock.reading())
        for one in (keeper, Timekeeper(Kept(edge.db), lambda: system[0], lambda: boot[0])):
            one.step(lambda text: None)
            assert one.clock.trusted() == one.clock() == system[0]
        system[0] += 60 * DAY  # the next jump is held as the first was
        keeper.step(lambda text: None)
        assert keeper.clock.trusted() == system[0] - 60 * DAY


@given(st.lists(st.tuples(st.integers(0, 10 * HOUR), st.integers(-900 * DAY, 900 * DAY)), max_size=20))
def test_C1_whatever_the_clock_does_the_trusted_now_never_passes_the_truth_by_more_than_the_slack(
    steps: list[tuple[int, int]],
) -> None:
    mark, passed = START, 0
    for wait, ahead in steps:
        passed += wait
        now = after(passed, ahead=ahead)
        mark = trusted.carried(mark, now)
        assert trusted.trusted(mark, now) <= NOW + passed + passed // 30
        assert abs(trusted.receipt(mark, now) - NOW - passed) <= passed // 30 + trusted.TOLERANCE_MS


def test_a_clock_that_is_set_between_two_looks_moves_no_receipt(tmp_path: Path) -> None:
    system, boot = [NOW], [1_000]
    clock = Clock(lambda: system[0], lambda: boot[0])
    clock.take(trusted.first(clock.reading()))
    for ahead in (8 * DAY, -8 * DAY, 0):
        boot[0] += MINUTE
        system[0] = NOW + boot[0] - 1_000 + ahead
        assert clock() == NOW + boot[0] - 1_000
    assert clock.trusted() == clock()


# -- what rests on it


class TurnedClock(Clock):
    """The kit's clock with the rule on: no event clock beyond the trusted now and ten minutes."""


@pytest.mark.parametrize("rule_is_on", [True, False])
def test_C2_event_clocks_ignore_what_claims_to_be_later_than_the_trusted_now(rule_is_on: bool, tmp_path: Path) -> None:
    """The control: with the rule off, one click of a wrong clock ends the time of every order before it."""
    kind: dict[str, Any] = {"clock": TurnedClock} if rule_is_on else {}
    with Kit(tmp_path, **kind) as kit:
        kit.post(order("1"))
        kit.post(click("IwARahead00000", NOW + 97 * HOUR))
        kit.submit([])
        clock = kit.transaction.lookup.latest[1]
        assert (clock == NOW) is rule_is_on


class Wrong:
    def __init__(self) -> None:
        self.ahead = 0

    def __call__(self) -> int:
        return now_ms() + self.ahead


def test_C1_an_event_that_one_clock_calls_too_old_is_kept_and_hinders_no_other(tmp_path: Path) -> None:
    with GraphSimulator() as graph:
        config = config_for(tmp_path, graph.url)
        with bench(config) as edge:
            edge.put(1, created=now_ms() - 6 * DAY)
            Timekeeper(Kept(edge.db), lambda: now_ms() - 3 * DAY, lambda: 1 << 50)  # before the machine was off
            with CourierThread(config) as courier:  # three days later, by the system's clock alone
                courier.ask(courier.courier._house._expire())
                edge.put(1, first=2)
                assert wait_until(lambda: edge.states()["sent"] >= 1)
                assert edge.rows("SELECT id FROM outbox WHERE state IN (11, 12)") == []


def test_D4_a_refusal_for_its_time_judges_no_event_while_our_clock_is_in_doubt(tmp_path: Path) -> None:
    """Meta's clock is right, ours was 8 days ahead before the database was made: nothing tells but Meta's answer."""
    wrong = Wrong()
    wrong.ahead = 8 * DAY
    with GraphSimulator() as graph:
        graph.state.date = True
        config = config_for(tmp_path, graph.url)
        with bench(config) as edge:
            edge.put(3, created=now_ms() + 8 * DAY, received=now_ms() + 8 * DAY)
            with CourierThread(config, clock=wrong):
                assert wait_until(lambda: edge.states() == {"sent": 3})
        assert graph.state.requests["111:refused"] >= 1
        assert all(abs(event["event_time"] * 1000 - now_ms()) < MINUTE for event in graph.events)
