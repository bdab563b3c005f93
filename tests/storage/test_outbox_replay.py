"""Dead letters: what goes back into the queue, what cannot and why; the commands around it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from collector.cli import main
from collector.cli.replay import since_of
from collector.core.capi.states import CapiState
from collector.errors import ConfigError
from collector.storage.outbox.dispatch import Outbox, Report
from tests.kit.courier_kit import Bench, CourierThread, bench, config_for, now_ms, wait_until
from tests.kit.simulators.graph import GraphSimulator

ALL = tuple(CapiState)
DAY = 86_400_000


@pytest.fixture
def edge(tmp_path: Path) -> Iterator[Bench]:
    with bench(config_for(tmp_path / "data", "http://127.0.0.1:1")) as made:
        yield made


def settle_each(edge: Bench, *states: CapiState) -> None:
    """One event per state, in order."""
    edge.put(len(states))
    box = Outbox(edge.db, "test")
    claim = box.claim_fresh(1, 1000, now_ms() + 1_000, 30_000)
    assert claim is not None
    box.close_request(claim, Report(outcome="refused"))
    for event, state in zip(claim.events, states, strict=True):
        if state > CapiState.HELD:
            box.settle([event.id], state, now_ms(), reason="Meta's words")


@pytest.mark.parametrize(("text", "ago"), [("2d", 2 * DAY), ("12h", DAY // 2), ("30m", 1_800_000)])
def test_since_in_peoples_words(text: str, ago: int) -> None:
    assert since_of(text, 10 * DAY) == 10 * DAY - ago


def test_since_as_a_time_or_nonsense() -> None:
    assert since_of("1970-01-02T00:00:00Z", 0) == DAY
    assert since_of("1970-01-02", 0) == DAY
    with pytest.raises(ConfigError):
        since_of("yesterday", 0)


CONFIG = """[meta]
graph_url = "{url}"
[storage]
data_dir = "{data}"
[[store]]
id = "store_a"
domains = ["shop.example"]
[[store.pixel]]
id = "123456789012345"
access_token = "secret-token"
"""


def write_config(tmp_path: Path, url: str) -> Path:
    path = tmp_path / "collector.toml"
    path.write_text(CONFIG.format(url=url, data=tmp_path / "data"))
    path.chmod(0o600)
    return path


def test_the_command_replays_beside_a_running_courier(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with GraphSimulator() as graph:
        path = write_config(tmp_path, graph.url)
        config = config_for(tmp_path / "data", graph.url)
        with bench(config) as edge:
            settle_each(edge, CapiState.REJECTED, CapiState.REJECTED)
            with CourierThread(config):
                assert main(["replay", "--status", "rejected", "--config", str(path), "--json"]) == 0
                answer = json.loads(capsys.readouterr().out)
                assert (answer["queued"], answer["refused"]) == (2, 0)
                assert wait_until(lambda: edge.states() == {"sent": 2})
                assert graph.accepted["111"].keys() == {"e1", "e2"}


def test_send_test_prints_metas_answer_word_for_word(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with GraphSimulator(token="secret-token") as graph:
        path = write_config(tmp_path, graph.url)
        assert main(["send-test", "--code", "TEST1", "--config", str(path)]) == 0
        assert '{"events_received":1,"messages":[],"fbtrace_id":"AbCdEfGh"}' in capsys.readouterr().out
        assert graph.state.heads[0]["test_event_code"] == "TEST1"
        graph.state.token = "another"
        assert main(["send-test", "--code", "TEST1", "--config", str(path)]) == 4
        assert "Session has expired" in capsys.readouterr().out
        assert main(["send-test", "--config", str(path)]) == 2
