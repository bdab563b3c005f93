"""The courier against Meta's simulator on a real socket: what arrives, what stops a queue, what resumes it."""

from __future__ import annotations

import fcntl
import signal
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import apsw
import msgspec
import pytest

from collector.config import AlertsConfig, BatchWait, PixelConfig, StoreConfig
from collector.courier import app
from collector.errors import StorageError
from collector.storage.ground import damage
from tests.kit.courier_kit import Bench, CourierThread, bench, config_for, courier_process, now_ms, wait_until
from tests.kit.hooks import hook
from tests.kit.program import free_port
from tests.kit.simulators.graph import ANSWERS, GraphSimulator


@pytest.fixture
def graph() -> Iterator[GraphSimulator]:
    with GraphSimulator(token="secret-token") as simulator:
        yield simulator


def test_a_batch_arrives_as_metas_rules_want_it(graph: GraphSimulator, tmp_path: Path) -> None:
    config = config_for(tmp_path, graph.url)
    with bench(config) as edge, CourierThread(config):
        edge.put(50)
        assert wait_until(lambda: edge.open() == 0)
        assert edge.states() == {"sent": 50}
        assert graph.accepted["111"].keys() == {f"e{n}" for n in range(1, 51)}
        assert set(graph.accepted["111"].values()) == {1}
        assert graph.events[0]["user_data"]["em"] != ["a@b.c"]
        assert edge.rows("SELECT DISTINCT http_status, trace_id, events, outcome FROM request") == [
            (200, "AbCdEfGh", 50, "sent")
        ]
        wait_until(lambda: edge.rows("SELECT count(*) FROM outbox_payload") == [(0,)])
        assert edge.rows("SELECT count(*) FROM outbox_payload") == [(0,)]


def test_a_purchase_leaves_within_a_second_and_the_rest_within_fifteen(graph: GraphSimulator, tmp_path: Path) -> None:
    config = config_for(tmp_path, graph.url, batch_wait_seconds=BatchWait())
    with bench(config) as edge, CourierThread(config):
        put_with_wait(edge, 1, "PageView", 600.0)
        put_with_wait(edge, 2, "Purchase", 1.0)
        assert wait_until(lambda: edge.open() == 0)  # of its own the page view would leave after 450 s
        assert graph.state.requests["111:ok"] == 1  # the page view kept it company


def put_with_wait(edge: Bench, number: int, name: str, seconds: float) -> None:
    edge.put(1, first=number, name=name)
    due = int(seconds * 1000 * 0.75) - 75
    edge.db.execute("UPDATE outbox SET due = due + ? WHERE conversion = ?", (due, number))


def test_the_token_is_in_the_header_and_the_proof_in_the_body(tmp_path: Path) -> None:
    with GraphSimulator(token="secret-token", app_secret="app-secret") as graph:
        config = config_for(tmp_path, graph.url, app_secret="app-secret")
        with bench(config) as edge, CourierThread(config):
            edge.put(1)
            assert wait_until(lambda: edge.states()["sent"] == 1)


def test_a_test_code_is_sent_until_it_expires(graph: GraphSimulator, tmp_path: Path) -> None:
    config = config_for(tmp_path, graph.url)
    pixels = [
        PixelConfig(
            id="111", access_token="secret-token", test_event_code="TEST1", test_event_code_expires="2999-01-01"
        ),
        PixelConfig(
            id="222", access_token="secret-token", test_event_code="TEST2", test_event_code_expires="2020-01-01"
        ),
    ]
    config = msgspec.structs.replace(config, store=[StoreConfig(id="store_a", pixel=pixels)])
    with bench(config) as edge, CourierThread(config):
        edge.put(1)
        edge.put(1, first=2, pixel="222")
        assert wait_until(lambda: edge.open() == 0)
        codes = {head["pixel"]: head["test_event_code"] for head in graph.state.heads}
        assert codes == {"111": "TEST1", "222": None}


def test_poison_is_rejected_with_metas_words_and_the_rest_is_delivered(graph: GraphSimulator, tmp_path: Path) -> None:
    graph.state.name_index = False
    config = config_for(tmp_path, graph.url)
    with bench(config) as edge, CourierThread(config):
        edge.put(1000, poison=lambda n: n == 700)
        assert wait_until(lambda: edge.open() == 0)
        assert edge.states() == {"sent": 999, "rejected": 1}
        assert set(graph.accepted["111"].values()) == {1}
        requests = sum(graph.state.requests[f"111:{k}"] for k in ("ok",))
        assert requests <= 1 + 20  # the batch, then at most 2·log2(1000)
        [(reason, attempts)] = edge.rows("SELECT reason, attempts FROM outbox WHERE state = 11")
        assert "2804019" in reason
        assert attempts == edge.rows("SELECT count(*) FROM attempt WHERE outbox = 700")[0][0] + 1


def test_a_dead_token_stops_one_queue_keeps_its_events_and_spares_the_other(tmp_path: Path) -> None:
    with GraphSimulator() as graph:
        graph.faults("190", pixel="111")
        config = config_for(tmp_path, graph.url, "111", "222")
        with bench(config) as edge, CourierThread(config) as courier:
            edge.put(10)
            edge.put(10, first=101, pixel="222")
            assert wait_until(lambda: edge.states("222") == {"sent": 10})
            assert wait_until(lambda: bool(edge.rows("SELECT 1 FROM pixel_state WHERE state = 'blocked'")))
            seen = graph.state.requests["111:190"]
            assert not wait_until(lambda: graph.state.requests["111:190"] > seen, 1.0)
            assert edge.states("111")["retrying"] == 10
            graph.faults(pixel="111")
            courier.new_token("111", "new-token")
            assert wait_until(lambda: edge.states("111") == {"sent": 10})
            assert edge.rows("SELECT DISTINCT state FROM pixel_state") == [("open",)]


@pytest.mark.parametrize("by_signal", [True, False])
def test_a_new_token_in_the_file_resumes_a_blocked_queue(by_signal: bool, tmp_path: Path) -> None:
    with GraphSimulator(token="good-token") as graph:
        (tmp_path / "meta.token").write_text("dead-token\n")
        (tmp_path / "meta.token").chmod(0o600)
        path = tmp_path / "collector.toml"
        path.write_text(
            f"""[storage]
data_dir = "{tmp_path}/data"
[meta]
graph_url = "{graph.url}"
[[store]]
id = "store_a"
domains = ["shop.example"]
[[store.pixel]]
id = "123456789012345"
access_token_file = "meta.token"
"""
        )
        config = config_for(tmp_path / "data", graph.url, "123456789012345", token="dead-token")
        config = msgspec.structs.replace(config, path=str(path))
        with bench(config) as edge:
            child = courier_process(config)
            try:
                edge.put(5, pixel="123456789012345")
                assert wait_until(lambda: bool(edge.rows("SELECT 1 FROM pixel_state WHERE state = 'blocked'")))
                assert edge.states() == {"retrying": 5}
                (tmp_path / "meta.token").write_text("good-token\n")
                if by_signal:
                    child.send_signal(signal.SIGHUP)
                assert wait_until(lambda: edge.states() == {"sent": 5})
            finally:
                child.terminate()
                assert child.wait(10) == 0


def test_D4_a_block_outlives_a_restart_which_tries_one_event(graph: GraphSimulator, tmp_path: Path) -> None:
    config = config_for(tmp_path, graph.url, token="dead-token")
    with bench(config) as edge:
        edge.put(3)
        with CourierThread(config):
            assert wait_until(lambda: bool(edge.rows("SELECT 1 FROM pixel_state WHERE state = 'blocked'")))
        seen = sum(graph.state.requests.values())
        with CourierThread(config):
            assert wait_until(lambda: sum(graph.state.requests.values()) == seen + 1)
            assert not wait_until(lambda: sum(graph.state.requests.values()) > seen + 1, 1.0)
            assert edge.rows("SELECT state FROM pixel_state") == [("blocked",)]
        with CourierThread(config_for(tmp_path, graph.url)):
            assert wait_until(lambda: edge.states() == {"sent": 3})


def test_without_a_token_the_queue_waits_and_says_so(graph: GraphSimulator, tmp_path: Path) -> None:
    config = config_for(tmp_path, graph.url, token="")
    with bench(config) as edge, CourierThread(config):
        edge.put(2)
        assert wait_until(lambda: bool(edge.rows("SELECT 1 FROM pixel_state WHERE state = 'blocked'")))
        assert edge.rows("SELECT reason FROM pixel_state") == [("no access token in the configuration",)]
        assert edge.rows("SELECT sum(attempts) FROM outbox") == [(0,)]


def test_a_dry_run_sends_nothing_and_keeps_what_it_would_have_sent(graph: GraphSimulator, tmp_path: Path) -> None:
    config = config_for(tmp_path, graph.url, mode="dry_run", token="")
    with bench(config) as edge, CourierThread(config):
        edge.put(3)
        assert wait_until(lambda: edge.states() == {"dry_run": 3})
        assert not graph.state.requests
        assert edge.rows("SELECT count(*) FROM outbox_payload") == [(3,)]


def test_fresh_purchases_overtake_a_backlog(tmp_path: Path) -> None:
    with GraphSimulator() as graph:
        config = config_for(tmp_path, graph.url, batch_max=20)
        graph.faults({"name": "slow", "seconds": 0.1}, pixel="111")  # every request takes a tenth of a second
        with bench(config) as edge:
            edge.put(2000, created=now_ms() - 6 * 3_600_000)
            with CourierThread(config):
                assert wait_until(lambda: len(graph.accepted.get("111", ())) > 100)
                edge.put(1, first=9_001)
                assert wait_until(lambda: "e9001" in graph.accepted["111"])
                assert edge.open() > 500  # the backlog is far from empty
                assert wait_until(lambda: edge.open() == 0)
                assert set(graph.accepted["111"].values()) == {1}


def test_nothing_is_sent_twice_where_the_connection_never_came_about(tmp_path: Path) -> None:
    port = free_port()
    config = config_for(tmp_path, f"http://127.0.0.1:{port}")
    with bench(config) as edge:
        with CourierThread(config):
            edge.put(5)
            assert wait_until(lambda: edge.rows("SELECT count(*) FROM request WHERE outcome = 'unreached'")[0][0] > 2)
        assert edge.counter("ambiguous") == 0
        with GraphSimulator(port=port) as graph, CourierThread(config):
            assert wait_until(lambda: edge.states() == {"sent": 5})
            assert set(graph.accepted["111"].values()) == {1}


def test_a_name_that_does_not_resolve_is_retried(tmp_path: Path) -> None:
    config = config_for(tmp_path, "http://graph.invalid")
    with bench(config) as edge, CourierThread(config):
        edge.put(1)
        assert wait_until(lambda: edge.rows("SELECT outcome FROM request")[:1] == [("unreached",)])
        assert edge.states() == {"retrying": 1}


def test_a_certificate_that_is_not_metas_is_not_talked_to(tmp_path: Path) -> None:
    pem = tmp_path / "pair.pem"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=graph.example -keyout - -out -".split()
    try:
        made = subprocess.run(command, capture_output=True, check=True, timeout=60).stdout
    except FileNotFoundError:
        pytest.skip("no openssl here")
    pem.write_bytes(made)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(pem)
    with GraphSimulator(tls=tls) as graph:
        config = config_for(tmp_path / "data", graph.url)
        with bench(config) as edge, CourierThread(config):
            edge.put(1)
            assert wait_until(lambda: edge.rows("SELECT outcome FROM request")[:1] == [("unreached",)])
            assert not graph.accepted
            assert edge.counter("ambiguous") == 0


def test_sigterm_settles_the_request_in_flight_and_exits_0(tmp_path: Path) -> None:
    with GraphSimulator() as graph:
        graph.faults({"name": "slow", "seconds": 1.0})
        config = config_for(tmp_path, graph.url)
        with bench(config) as edge:
            edge.put(10)
            child = courier_process(config)
            assert wait_until(lambda: bool(graph.accepted))
            child.terminate()
            assert child.wait(10) == 0
            assert edge.states() == {"sent": 10}
            assert edge.rows("SELECT outcome FROM request") == [("sent",)]


@pytest.mark.slow
def test_sigterm_does_not_wait_for_a_meta_that_does_not_answer(tmp_path: Path) -> None:
    with GraphSimulator() as graph:
        graph.faults({"name": "slow", "seconds": 60})
        config = config_for(tmp_path, graph.url, timeout_seconds=30.0)
        with bench(config) as edge:
            edge.put(10)
            child = courier_process(config)
            assert wait_until(lambda: bool(graph.accepted))
            child.terminate()
            assert child.wait(10) == 0
            assert edge.rows("SELECT outcome FROM request") == [("in_flight",)]
            graph.faults()
            with CourierThread(config):  # the next one asks again, and counts the doubt
                assert wait_until(lambda: edge.states() == {"sent": 10})
            assert edge.counter("ambiguous") == 10


def test_a_second_courier_on_the_same_data_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = config_for(tmp_path, "http://127.0.0.1:1")
    monkeypatch.setattr(app, "LOCK_PATIENCE_S", 0.1)
    with bench(config), open(tmp_path / app.LOCK, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert app.run(config) == 3


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (apsw.BusyError("database is locked"), 1),
        (apsw.LockedError("database table is locked"), 1),
        (apsw.CorruptError("malformed"), 3),
        (apsw.CantOpenError("unable to open"), 3),
    ],
    ids=lambda one: type(one).__name__ if isinstance(one, Exception) else str(one),
)
@pytest.mark.parametrize("explained", [False, True], ids=["as it is", "as a cause"])
def test_a_courier_that_finds_the_database_locked_at_start_is_to_be_tried_again(
    fault: Exception, code: int, explained: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The keeper may count its sums anew for minutes after an upgrade: 1 is tried again, 3 is not."""

    def locked(_: object) -> None:
        if explained:
            raise StorageError("it cannot be used") from fault
        raise fault

    monkeypatch.setattr(app, "OPEN_PATIENCE_S", -1.0)
    monkeypatch.setattr("collector.storage.delivery.open_database", locked)
    assert app.run(config_for(tmp_path, "http://127.0.0.1:1")) == code


def test_an_alert_is_posted_once_and_holds_no_personal_data(tmp_path: Path) -> None:
    with GraphSimulator(token="other") as graph, hook() as (url, received):
        config = msgspec.structs.replace(config_for(tmp_path, graph.url), alerts=AlertsConfig(webhook_url=url))
        with bench(config) as edge, CourierThread(config):
            edge.put(3)
            assert wait_until(lambda: bool(received))
            alert = msgspec.json.decode(received[0])
            assert (alert["kind"], alert["pixel"]) == ("blocked", "111")
            assert "190" in alert["text"]
            assert b"secret-token" not in received[0]


def test_D6_a_loss_is_an_alert_and_its_acceptance_ends_it(tmp_path: Path) -> None:
    with GraphSimulator() as graph, hook() as (url, received):
        config = msgspec.structs.replace(config_for(tmp_path, graph.url), alerts=AlertsConfig(webhook_url=url))
        with bench(config), CourierThread(config) as courier:
            watch = courier.courier._house.watch
            courier.ask(watch())
            assert received == []  # the control
            damage.tell(tmp_path, "12 clicks (rows 4 to 15) were acknowledged and are gone")
            courier.ask(watch())
            courier.ask(watch())
            damage.forget(tmp_path)
            courier.ask(watch())
            assert wait_until(lambda: len(received) >= 2)
            told = [msgspec.json.decode(body) for body in received]
    assert [(one["kind"], one["state"]) for one in told] == [("damage", "raised"), ("damage", "cleared")]
    assert "12 clicks" in told[0]["text"]


def test_the_last_heartbeat_tells_what_was_sent(graph: GraphSimulator, tmp_path: Path) -> None:
    config = config_for(tmp_path, graph.url)
    with bench(config) as edge:
        with CourierThread(config):
            edge.put(5)
            assert wait_until(lambda: edge.states() == {"sent": 5})
        [(body,)] = edge.rows("SELECT body FROM heartbeat WHERE process = 'courier'")
        figures = msgspec.json.decode(body)
        assert figures["sent"] == 5
        assert figures["queues"]["111"] == {"queued": 0, "retrying": 0, "held": 0, "oldest": 0}


def test_a_token_that_meta_repeats_reaches_neither_log_nor_database(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    secret = "EAABsbCS1iHgBAKdeadbeef"
    body = {"error": {"message": f"Malformed access token {secret}", "code": 190, "type": "OAuthException"}}
    with GraphSimulator() as graph, pytest.MonkeyPatch.context() as patch:
        patch.setitem(ANSWERS, "190", (400, msgspec.json.encode(body)))
        graph.faults("190")
        config = config_for(tmp_path, graph.url, token=secret)
        with bench(config) as edge, CourierThread(config):
            edge.put(1)
            assert wait_until(lambda: bool(edge.rows("SELECT 1 FROM pixel_state WHERE state = 'blocked'")))
            stored = edge.rows("SELECT message FROM request") + edge.rows("SELECT reason FROM pixel_state")
            assert all("(token)" in text for (text,) in stored)
        assert secret not in "".join(capfd.readouterr())
        for file in tmp_path.iterdir():
            assert secret.encode() not in file.read_bytes()


def test_a_machine_whose_clock_is_wrong_is_told(tmp_path: Path) -> None:
    with GraphSimulator() as graph:
        graph.faults({"name": "ok", "times": 1, "headers": {"Date": "Wed, 21 Oct 2020 07:28:00 GMT"}})
        config = config_for(tmp_path, graph.url)
        with bench(config) as edge, CourierThread(config) as courier:
            edge.put(1)
            assert wait_until(lambda: edge.states() == {"sent": 1})
            assert ("clock", "111") in courier.courier._queues["111"]._alerts._standing
            graph.faults()
            graph.state.date = True  # it has been set right
            edge.put(1, first=2)
            assert wait_until(lambda: edge.states() == {"sent": 2})
            assert ("clock", "111") not in courier.courier._queues["111"]._alerts._standing
