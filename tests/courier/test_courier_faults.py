"""The fault matrix: each way in which Meta fails, alone and mixed, with poison inside; and a kill -9 in the middle.

Every event ends in the right state; each accepted event reached Meta at least once and, outside the counted
ambiguities, exactly once; the queue of another pixel is not delayed. The tables stand in the tests' output.
"""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.kit.courier_kit import CourierThread, bench, config_for, courier_process, heeds, now_ms, wait_until
from tests.kit.simulators.graph import ANSWERS, GraphSimulator, graph_process

# Where nothing of a refused or unreached request can have been taken, a repetition must not show at Meta.
CLEAR = ["429", "429_bare", "500", "code_1", "code_2", "code_4", "code_17", "code_32", "code_613", "code_80004"]
CLEAR += ["21009", "is_transient", "413", "403_html", "404_html", "301"]
DOUBTFUL = [
    "500_empty",
    "502_html",
    "503",
    "reset_before",
    "reset_after",
    "slow",
    "200_html",
    "200_empty",
    "partial",
    "bomb",
]
STOPPING = ["190", "190_400", "100_33", "200_permission", "10"]
STOPPING += ["2635", "2500", "12", "5", "101", "300", "506", "960", "proof"]
SICK, HEALTHY = "111", "222"
EVENTS, POISON = 200, 120


def test_every_mode_of_the_simulator_is_in_the_matrix() -> None:
    assert set(ANSWERS) <= {*CLEAR, *DOUBTFUL, *STOPPING, "105"}


@pytest.mark.parametrize("mode", [*CLEAR, *DOUBTFUL])
def test_a_fault_alone(mode: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with GraphSimulator() as graph:
        # A busy machine must not make the healthy pixel's answers late too.
        patience = 1.0 if mode == "slow" else 30.0
        config = config_for(tmp_path, graph.url, SICK, HEALTHY, timeout_seconds=patience)
        graph.faults({"name": mode, "times": 3, "seconds": 2.0}, pixel=SICK)
        with bench(config) as edge, CourierThread(config):
            started = now_ms()
            edge.put(EVENTS, poison=lambda n: n == POISON)
            edge.put(EVENTS, first=10_001, pixel=HEALTHY)
            assert wait_until(lambda: len(graph.accepted.get(HEALTHY, ())) == EVENTS)
            other_ms = now_ms() - started
            assert wait_until(lambda: edge.open() == 0)
            took_ms = now_ms() - started
            accepted, ambiguous = graph.accepted[SICK], edge.counter("ambiguous")
            again = sum(n - 1 for n in accepted.values())
            with capsys.disabled():
                print(f"\n{mode:14} settled {took_ms:5} ms, other pixel {other_ms:4} ms", end="")
                print(f", ambiguous {ambiguous:4}, twice {again:4}", end=" ")
            assert edge.states(SICK) == {"sent": EVENTS - 1, "rejected": 1}
            assert accepted.keys() == {f"e{n}" for n in range(1, EVENTS + 1)} - {f"e{POISON}"}
            assert again <= ambiguous
            assert ambiguous == 0 or mode in DOUBTFUL
            assert set(graph.accepted[HEALTHY].values()) == {1}


def test_a_meta_that_does_not_answer_for_one_pixel_delays_no_other(tmp_path: Path) -> None:
    """The healthy pixel has everything while the sick one's first request still waits for its answer."""
    with GraphSimulator() as graph:
        config = config_for(tmp_path, graph.url, SICK, HEALTHY, timeout_seconds=30.0)
        graph.faults({"name": "slow", "seconds": 30.0}, pixel=SICK)
        with bench(config) as edge, courier_process(config) as courier:
            edge.put(EVENTS)
            assert wait_until(lambda: graph.state.requests[f"{SICK}:slow"] == 1)
            edge.put(EVENTS, first=10_001, pixel=HEALTHY)
            assert wait_until(lambda: len(graph.accepted.get(HEALTHY, ())) == EVENTS, 25)
            assert graph.state.requests[f"{SICK}:slow"] == 1
            courier.kill()


@pytest.mark.parametrize("mode", STOPPING)
def test_a_fault_that_stops_the_queue(mode: str, tmp_path: Path) -> None:
    with GraphSimulator() as graph:
        config = config_for(tmp_path, graph.url, SICK, HEALTHY, timeout_seconds=30.0)
        graph.faults(mode, pixel=SICK)
        with bench(config) as edge, CourierThread(config) as courier:
            edge.put(EVENTS, poison=lambda n: n == POISON)
            edge.put(EVENTS, first=10_001, pixel=HEALTHY)
            assert wait_until(lambda: edge.states(HEALTHY) == {"sent": EVENTS})
            assert wait_until(lambda: bool(edge.rows("SELECT 1 FROM pixel_state WHERE state = 'blocked'")))
            assert not edge.states(SICK).keys() & {"rejected", "expired", "sent"}
            asked = graph.state.requests[f"{SICK}:{mode}"]
            time.sleep(0.5)
            assert graph.state.requests[f"{SICK}:{mode}"] == asked  # it does not knock
            graph.faults(pixel=SICK)
            courier.new_token(SICK, "another-token")
            assert wait_until(lambda: edge.states(SICK) == {"sent": EVENTS - 1, "rejected": 1})
            assert set(graph.accepted[SICK].values()) == {1}
            assert edge.counter("ambiguous") == 0


_LOST = "SELECT total(events) FROM request WHERE outcome = 'lost' AND pixel = (SELECT id FROM pixel WHERE name = ?)"


def mixed(total: int, tmp_path: Path, *, kill: bool = False, seed: int = 1) -> dict[str, Any]:
    """Faults at random on one pixel, 1 % poison on both; the outcome after everything is settled."""
    modes = [{"name": m, "seconds": 0.8} for m in (*CLEAR, *DOUBTFUL) if m != "413"] + [{"name": "413"}]
    poison = {n for n in range(1, total + 1) if n % 100 == 37}
    with graph_process(name_index=seed % 2 == 0) as graph:
        config = config_for(tmp_path, graph.url, SICK, HEALTHY, timeout_seconds=0.4, retry_max_seconds=0.2)
        graph.faults(*modes, pixel=SICK, rate=0.3, seed=seed)
        with bench(config) as edge:
            child = courier_process(config)
            started = time.monotonic()
            for first in range(1, total + 1, 1000):
                count = min(1000, total + 1 - first)
                edge.put(count, first=first, poison=poison.__contains__)
                edge.put(count, first=first, pixel=HEALTHY)
            kills = 0
            while edge.open():
                if kill and kills < 5 and len(graph.ask("counts")["accepted"].get(SICK, ())) > total * (kills + 1) // 8:
                    child.kill()
                    child.wait(10)
                    child = courier_process(config)
                    kills += 1
                assert child.poll() is None, "the courier ended by itself"
                assert time.monotonic() - started < 60 + total / 100, (edge.states(SICK), edge.states(HEALTHY))
                time.sleep(0.05)
            seconds = time.monotonic() - started
            assert wait_until(lambda: heeds(child.pid, signal.SIGTERM), 60)  # the last one may have come just now
            child.terminate()
            assert child.wait(15) == 0
            counts = graph.ask("counts")
            times = graph.ask("times")
            return {
                "seconds": seconds,
                "states": {pixel: edge.states(pixel) for pixel in (SICK, HEALTHY)},
                "accepted": {pixel: Counter(counts["accepted"][pixel]) for pixel in (SICK, HEALTHY)},
                "requests": counts["requests"],
                "ambiguous": edge.counter("ambiguous"),
                "healthy_lost": edge.rows(_LOST, HEALTHY)[0][0],
                "healthy_seconds": max(times[HEALTHY]) - min(times[HEALTHY]),
                "poison": poison,
                "kills": kills,
            }


def check(total: int, result: dict[str, Any]) -> None:
    clean = {f"e{n}" for n in range(1, total + 1)} - {f"e{n}" for n in result["poison"]}
    assert result["states"][SICK] == {"sent": len(clean), "rejected": len(result["poison"])}
    assert result["states"][HEALTHY] == {"sent": total}
    assert result["accepted"][SICK].keys() == clean
    assert result["accepted"][HEALTHY].keys() == {f"e{n}" for n in range(1, total + 1)}
    again = sum(n - 1 for pixel in (SICK, HEALTHY) for n in result["accepted"][pixel].values())
    assert again <= result["ambiguous"]


def table(total: int, result: dict[str, Any]) -> str:
    again = {p: sum(n - 1 for n in result["accepted"][p].values()) for p in (SICK, HEALTHY)}
    lines = [
        f"{total} events a pixel, {len(result['poison'])} of the first one's poisoned, {result['kills']} kills",
        f"settled in {result['seconds']:.1f} s; the healthy pixel in {result['healthy_seconds']:.1f} s",
        f"ambiguous {result['ambiguous']}, seen twice by Meta {again[SICK]} and {again[HEALTHY]}",
        "requests: " + ", ".join(f"{k} {v}" for k, v in sorted(result["requests"].items())),
    ]
    return "\n" + "\n".join(lines)


@pytest.mark.slow
def test_faults_mixed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = mixed(5_000, tmp_path)
    with capsys.disabled():
        print(table(5_000, result))
    check(5_000, result)
    again = sum(n - 1 for n in result["accepted"][HEALTHY].values())
    assert again <= result["healthy_lost"]  # events whose answer came too late: a machine may stand still for that long
    assert result["healthy_seconds"] < result["seconds"]


@pytest.mark.slow
def test_faults_mixed_and_kill_9_in_the_middle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = mixed(5_000, tmp_path, kill=True, seed=2)
    with capsys.disabled():
        print(table(5_000, result))
    assert result["kills"] > 0
    check(5_000, result)


@pytest.mark.long
@pytest.mark.parametrize(("kill", "seed"), [(False, 1), (True, 2)])
def test_the_whole_matrix(kill: bool, seed: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = mixed(50_000, tmp_path, kill=kill, seed=seed)
    with capsys.disabled():
        print(table(50_000, result))
    check(50_000, result)


def kill_at_receipt(times: int, tmp_path: Path) -> tuple[int, int]:
    """Kill the courier each time Meta has its request in hands; the events missing at the end, and the doubts."""
    with GraphSimulator() as graph:
        graph.faults({"name": "slow", "seconds": 0.5})
        config = config_for(tmp_path, graph.url)
        with bench(config) as edge:
            for turn in range(times):
                edge.put(3, first=1 + 3 * turn)
                seen = graph.state.events
                child = courier_process(config)
                assert wait_until(lambda seen=seen: graph.state.events > seen, 60, 0.005)
                child.kill()
                child.wait(10)
            graph.faults()
            with CourierThread(config):
                assert wait_until(lambda: edge.open() == 0)
            assert edge.states() == {"sent": 3 * times}
            again = sum(n - 1 for n in graph.accepted["111"].values())
            assert again <= edge.counter("ambiguous")
            return 3 * times - len(graph.accepted["111"]), edge.counter("ambiguous")


@pytest.mark.slow
def test_a_kill_between_metas_receipt_and_the_settle_is_counted_and_loses_nothing(tmp_path: Path) -> None:
    missing, doubts = kill_at_receipt(3, tmp_path)
    assert (missing, doubts) == (0, 3 + 6 + 9)


@pytest.mark.slow
def test_many_kills_at_metas_receipt(tmp_path: Path) -> None:
    assert kill_at_receipt(int(os.environ.get("RECEIPT_KILLS", "40")), tmp_path)[0] == 0


def test_the_control_a_lost_settle_is_seen_as_a_second_delivery(tmp_path: Path) -> None:
    """The matrix rests on the simulator's counts: a courier that forgets what it settled must show in them."""
    with GraphSimulator() as graph:
        config = config_for(tmp_path, graph.url)
        with bench(config) as edge, CourierThread(config):
            edge.put(10)
            kept = edge.rows("SELECT id, body FROM outbox_payload WHERE id = 3")
            assert wait_until(lambda: edge.states() == {"sent": 10})
            edge.db.execute("INSERT OR REPLACE INTO outbox_payload (id, body) VALUES (?, ?)", kept[0])
            edge.db.execute("UPDATE outbox SET state = 0, settled = NULL WHERE id = 3")
            assert wait_until(lambda: graph.accepted["111"]["e3"] == 2)
            assert sum(n - 1 for n in graph.accepted["111"].values()) > edge.counter("ambiguous") == 0
