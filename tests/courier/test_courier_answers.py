"""D4: Graph's answer is hostile. Only an event's own refusal kills an event; nothing in an answer ends the courier."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from collector.config import AlertsConfig
from collector.core.capi import verdicts
from collector.core.capi.verdicts import Answer, Kind, classify
from collector.courier import deliver
from collector.courier.alerts import Alert, Alerts
from collector.storage.outbox.dispatch import Outbox, Report
from tests.kit.courier_kit import (
    Bench,
    CourierThread,
    bench,
    config_for,
    courier_process,
    heeds,
    now_ms,
    wait_until,
)
from tests.kit.simulators.graph import ANSWERS, GraphSimulator

EVENTS = 300
WORKERS = 4  # so many requests may be on their way when the first answer comes


def blocked(edge: Bench) -> bool:
    return bool(edge.rows("SELECT 1 FROM pixel_state WHERE state = 'blocked'"))


SLOW = [pytest.param(mode, marks=pytest.mark.slow) for mode in ("12", "5", "101", "300", "506", "960")]


@pytest.mark.parametrize("mode", ["2635", "2500", "proof", *SLOW])
def test_D4_orders_wait_where_the_call_is_at_fault_and_go_out_when_graph_is_well(mode: str, tmp_path: Path) -> None:
    with GraphSimulator() as graph:
        graph.faults(mode)
        config = config_for(tmp_path, graph.url, batch_max=100)
        with bench(config) as edge:
            edge.put(EVENTS)
            child = courier_process(config)
            try:
                assert wait_until(lambda: blocked(edge))
                assert wait_until(lambda: heeds(child.pid, signal.SIGHUP))
                # Those that were on their way when the first answer came have their answers too.
                assert wait_until(lambda: not edge.rows("SELECT 1 FROM request WHERE outcome = 'in_flight'"))
                assert edge.open() == EVENTS
                asked = graph.state.requests[f"111:{mode}"]
                assert asked <= WORKERS
                child.send_signal(signal.SIGHUP)  # nothing was mended, and nothing is lost by asking
                assert wait_until(lambda: graph.state.requests[f"111:{mode}"] == asked + 1)
                graph.faults()
                child.send_signal(signal.SIGHUP)  # no setting has changed: it was mended at Meta
                assert wait_until(lambda: edge.states() == {"sent": EVENTS})
                assert set(graph.accepted["111"].values()) == {1}
            finally:
                child.terminate()
                assert child.wait(10) == 0


def test_the_control_a_courier_that_takes_any_code_for_the_events_fault_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verdicts, "judges_an_event", lambda code, subcode: True)
    monkeypatch.setattr(deliver, "is_events_own", lambda code, subcode: True)
    with GraphSimulator() as graph:
        graph.faults("2635")
        config = config_for(tmp_path, graph.url)
        with bench(config) as edge, CourierThread(config):
            edge.put(5)
            assert wait_until(lambda: edge.states() == {"rejected": 5})


@pytest.mark.parametrize("events", [2, 3, 40])
def test_D4_a_code_that_refuses_every_event_of_a_batch_alone_is_the_calls(events: int, tmp_path: Path) -> None:
    with GraphSimulator() as graph:
        graph.faults("105")
        config = config_for(tmp_path, graph.url)
        with bench(config) as edge:
            edge.put(events)  # before there is a courier, or it would take them in several batches
            with CourierThread(config) as courier:
                assert wait_until(lambda: blocked(edge))
                # All are kept; of those that were put last some were not yet due when the first were refused.
                assert edge.states().keys() <= {"retrying", "queued"}
                assert edge.open() == events
                assert graph.state.requests["111:105"] <= 1 + 2 * events.bit_length() + 3
                graph.faults()
                courier.call(courier.courier.reload)
                assert wait_until(lambda: edge.states() == {"sent": events})


def test_D4_of_single_orders_the_second_in_a_row_accuses_the_call(tmp_path: Path) -> None:
    with GraphSimulator() as graph:
        graph.faults("105")
        config = config_for(tmp_path, graph.url)
        with bench(config) as edge, CourierThread(config):
            edge.put(1)
            assert wait_until(lambda: edge.states() == {"rejected": 1})
            edge.put(1, first=2)
            assert wait_until(lambda: blocked(edge))
            assert edge.states() == {"rejected": 1, "retrying": 1}


WALLED = 3


@pytest.mark.parametrize("status", [406, *(pytest.param(n, marks=pytest.mark.slow) for n in (400, 403, 404, 422))])
def test_D4_a_firewall_that_refuses_one_events_body_keeps_no_other_from_meta(status: int, tmp_path: Path) -> None:
    with GraphSimulator() as graph:
        graph.faults({"name": "wall", "word": f'"e{WALLED}"', "status": status})
        config = config_for(tmp_path, graph.url)
        with bench(config) as edge, CourierThread(config):
            edge.put(40)
            assert wait_until(lambda: edge.states() == {"sent": 39, "retrying": 1})
            assert graph.accepted["111"].keys() == {f"e{n}" for n in range(1, 41) if n != WALLED}
            graph.faults()
            assert wait_until(lambda: edge.states() == {"sent": 40})
            assert set(graph.accepted["111"].values()) == {1}


def test_D4_the_control_a_heap_that_goes_again_whole_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verdicts, "_NOT_FOR_A_BODY", frozenset(range(400, 500)))
    with GraphSimulator() as graph:
        graph.faults({"name": "wall", "word": f'"e{WALLED}"', "status": 406})
        config = config_for(tmp_path, graph.url)
        with bench(config) as edge, CourierThread(config):
            edge.put(8)  # no more than one probe takes
            assert wait_until(lambda: graph.state.requests["111:wall"] >= 4)
            assert edge.open() == 8


def test_D4_a_413_for_a_single_event_is_no_judgement_of_it(tmp_path: Path) -> None:
    with GraphSimulator() as graph:
        graph.faults("413")
        config = config_for(tmp_path, graph.url)
        with bench(config) as edge, CourierThread(config):
            edge.put(4)
            assert wait_until(lambda: graph.state.requests["111:413"] >= 6)
            assert edge.open() == 4
            graph.faults()
            assert wait_until(lambda: edge.states() == {"sent": 4})


def test_D4_another_version_or_address_is_tried_at_once(tmp_path: Path) -> None:
    with GraphSimulator() as graph:
        graph.faults("2635")
        config = config_for(tmp_path, graph.url)
        with bench(config) as edge, CourierThread(config) as courier:
            edge.put(3)
            assert wait_until(lambda: blocked(edge))
            graph.faults()
            queue = courier.courier._queues["111"]
            courier.call(lambda: queue.retarget(msgspec.structs.replace(queue.target, base=f"{graph.url}/v27.0")))
            assert wait_until(lambda: edge.states() == {"sent": 3})


def test_a_blocked_queue_is_told_with_the_moment_by_which_its_first_event_must_go() -> None:
    alerts = Alerts(AlertsConfig(webhook_url="http://127.0.0.1:1/"))
    alerts.raised("blocked", "111", "m", 0, deadline=1_792_567_680_000)
    alert: Alert = alerts._queue.get_nowait()
    assert alert.deadline == "2026-10-21T07:28:00Z"
    assert "must reach Meta by 2026-10-21T07:28:00Z" in alert.text


# -- anything at all for an answer

NUMBERS = st.integers() | st.sampled_from([100, 105, 190, 2_804_019, 2**31, 2**63, 2**64, -1]) | st.floats()
ANYTHING = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(max_size=50),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
FIELDS = (
    "message",
    "type",
    "code",
    "error_subcode",
    "is_transient",
    "error_user_title",
    "error_user_msg",
    "fbtrace_id",
)
ERRORS = st.fixed_dictionaries({}, optional=dict.fromkeys(FIELDS, ANYTHING)).map(lambda fields: {"error": fields})
CODED = st.fixed_dictionaries({"code": NUMBERS, "error_subcode": NUMBERS, "message": st.text()}).map(
    lambda fields: {"error": fields}
)


def encoded(value: Any) -> bytes:
    try:
        return msgspec.json.encode(value)
    except (msgspec.MsgspecError, ValueError, UnicodeEncodeError):  # what JSON cannot hold
        return repr(value).encode(errors="replace")


@pytest.fixture(scope="module")
def claimed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Outbox, Any]]:
    """An event in flight on a real file, to write answers down for."""
    with bench(config_for(tmp_path_factory.mktemp("fuzz"), "http://127.0.0.1:1")) as edge:
        edge.put(1, created=now_ms() - 10_000)
        outbox = Outbox(edge.db, "test")
        yield outbox, outbox.claim_fresh(1, 10, now_ms(), 60_000)


def write_down(claimed: tuple[Outbox, Any], answer: Answer) -> Kind:
    outbox, claim = claimed
    verdict = classify(answer, 1)
    names = ("http_status", "code", "subcode", "trace_id", "message")
    outbox.close_request(claim, Report(outcome=verdict.kind, **{name: getattr(verdict, name) for name in names}))
    if verdict.kind is Kind.REFUSED:
        assert verdict.code == 105 or (verdict.code == 100 and 2_804_000 <= (verdict.subcode or 0) < 2_804_100)
    return verdict.kind


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=ERRORS | CODED | ANYTHING, status=st.integers(200, 599))
def test_D4_any_answer_is_judged_and_can_be_written_down(claimed: tuple[Outbox, Any], value: Any, status: int) -> None:
    write_down(claimed, Answer(status=status, body=encoded(value)))


@pytest.mark.parametrize("number", [2**63, 2**64 - 1, -(2**63) - 1])
def test_the_control_a_number_without_bounds_ends_the_writing(
    number: int, claimed: tuple[Outbox, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = Answer(status=400, body=f'{{"error":{{"code":100,"error_subcode":{number}}}}}'.encode())
    write_down(claimed, answer)
    monkeypatch.setattr(verdicts, "_int32", lambda value: value if isinstance(value, int) else None)
    with pytest.raises(OverflowError):
        write_down(claimed, answer)


class Ticks:
    def __init__(self) -> None:
        self.now = 0
        self.passed = 0.0  # when half an hour was let pass the last time, by the real clock

    def __call__(self) -> int:
        return self.now


def odd_answers(seed: int, count: int) -> list[tuple[int, bytes]]:
    """Answers as nobody would send them, without a success and without an event's own refusal among them."""
    dice = random.Random(seed)
    odd: list[Any] = [None, True, -1, 2**31, 2**63, 2**70, 1.5, "", "190", "x" * 9_000, [], {}, [[[]]], {"code": 100}]
    found: list[tuple[int, bytes]] = []
    for _ in range(count):
        error = {name: dice.choice(odd) for name in FIELDS if dice.random() < 0.7}
        body = dice.choice([{"error": error}, error, {"error": [error]}, [error], {"error": dice.choice(odd)}])
        text = msgspec.json.encode(body) if dice.random() < 0.9 else dice.randbytes(dice.randrange(200))
        found.append((dice.choice([400, 401, 403, 404, 418, 500, 503]), text))
    return found


def test_D4_a_courier_outlives_every_odd_answer_and_rejects_nothing_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = Ticks()
    with GraphSimulator() as graph:
        config = config_for(tmp_path, graph.url, retry_max_seconds=0.05)
        monkeypatch.setitem(ANSWERS, "odd", (400, b"{}"))
        graph.faults("odd")
        with bench(config) as edge, CourierThread(config, ticks=ticks) as courier:
            edge.put(5)
            for answer in odd_answers(1, 40):
                ANSWERS["odd"] = answer
                seen, ticks.passed = graph.state.requests["111:odd"], 0.0
                assert wait_until(lambda seen=seen: asked(courier, ticks, graph) > seen, 60), answer
                assert edge.open() == 5, answer
            graph.faults()
            assert wait_until(lambda: asked(courier, ticks, graph) and edge.states() == {"sent": 5})


def test_D4_the_one_probe_of_a_queue_takes_from_every_lane(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker of the fresh lane often wakes first: it must not spend the only probe on a lane without events."""
    ticks = Ticks()
    monkeypatch.setattr(deliver, "_ROLES", (("fresh",),))
    with GraphSimulator() as graph:
        config = config_for(tmp_path, graph.url)
        graph.faults("190")
        with bench(config) as edge, CourierThread(config, ticks=ticks) as courier:
            edge.put(5)
            assert wait_until(lambda: blocked(edge) and edge.states() == {"retrying": 5})
            graph.faults()
            ticks.now += 31 * 60_000
            courier.call(courier.courier._wake)
            assert wait_until(lambda: edge.states()["sent"] == 1, 60)


def asked(courier: CourierThread, ticks: Ticks, graph: GraphSimulator) -> int:
    """The odd answers given, after half an hour has passed for the courier: once a second, or the events grow old."""
    if time.monotonic() - ticks.passed > 1.0:
        ticks.passed = time.monotonic()
        ticks.now += 31 * 60_000
        courier.call(courier.courier._wake)
    return graph.state.requests["111:odd"]
