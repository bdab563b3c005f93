"""A 200 means on disk: every process is killed under load, and what was acknowledged is there afterwards, once.

The control is a writer that answers before its COMMIT: the same check must find its losses.
"""

from __future__ import annotations

import os
import random
import signal
import textwrap
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import msgspec
import pytest

from tests.kit.harness import (
    BINARY,
    PIXEL,
    ROOT,
    SOURCE,
    STORE,
    TOKEN,
    Door,
    GraphSimulator,
    Installation,
    alive,
    wait_until,
)
from tests.kit.load import Audit, Load, audit
from tests.kit.program import Serving, free_port

SENT = 10
CLEAN = Audit(lost=[], twice=[], renamed=[], without_delivery=[], integrity="ok")
ROLES = ("supervisor", "keeper", "edge", "courier", "console")
EARLY_ANSWER = """
    import sys
    if "keeper" in sys.orig_argv:
        import time
        from collector.keeper import app
        from collector.storage.journal import journal, writer

        class Early(writer.GroupWriter):
            def _attempt(self, group):
                transaction, commit = self._transaction, self._transaction.commit

                def late():
                    keepers[0]._answer(group)
                    time.sleep(0.1)  # most of the time, so most kills meet it
                    commit()

                transaction.commit = late
                try:
                    super()._attempt(group)
                finally:
                    del transaction.commit

        keepers = []
        made = app.Keeper.__init__
        app.Keeper.__init__ = lambda self, *given: (made(self, *given), keepers.append(self))[0]
        journal.GroupWriter = Early
"""


@pytest.fixture(scope="module")
def graph() -> Iterator[GraphSimulator]:
    with GraphSimulator(token=TOKEN) as graph:
        yield graph


@pytest.fixture
def dice() -> random.Random:
    seed = int(os.environ.get("KILL_SEED", "9"))
    return random.Random(seed)


def kill_rounds(place: Installation, victims: list[str], dice: random.Random, **env: str) -> Load:
    """Kill the victims one after the other under load, each once the collector answers again; then end it well."""
    key = place.make_key()
    env |= {"COLLECTOR_EDGE__LISTEN": f"127.0.0.1:{free_port()}"}  # the clients know one address, also after a kill
    door = Door(place.start(**env))
    load = Load(door.url, key, STORE)
    with load.running():
        for victim in victims:
            before = load.acknowledged
            assert wait_until(lambda b=before: load.acknowledged > b + 30, 60), (victim, load.answers, load.faults[:3])
            time.sleep(dice.uniform(0, 0.25))
            children = door.serving.children()
            if victim != "supervisor":
                os.kill(children[victim], signal.SIGKILL)
                assert wait_until(partial(replaced, door.serving, victim, children[victim]), 60)
                continue
            door.serving.process.kill()
            door.serving.process.wait()
            assert wait_until(lambda c=children: not any(map(alive, c.values())), 60), "an orphan"
            door = Door(place.start(**env))
        before = load.acknowledged
        assert wait_until(lambda: load.acknowledged > before + 30, 60), load.answers
    waiting = "SELECT count(*) FROM outbox WHERE settled IS NULL"
    assert wait_until(lambda: place.rows(waiting) == [(0,)], 60), "the courier drains the queue"
    assert door.serving.stop() == 0
    return load


def replaced(serving: Serving, role: str, pid: int) -> bool:
    return serving.children().get(role, pid) != pid


def check(place: Installation, load: Load, graph: GraphSimulator) -> None:
    assert load.faults == []
    assert audit(place.data, load) == CLEAN
    assert event_ids(place) <= set(graph.accepted[PIXEL]), "each order reached Meta"
    assert {row[0] for row in place.rows("SELECT state FROM outbox")} == {SENT}


def event_ids(place: Installation) -> set[str]:
    return {msgspec.msgpack.decode(body)["event_id"] for (body,) in place.rows("SELECT body FROM conversion")}


@pytest.mark.slow
def test_each_process_killed_under_load(tmp_path: Path, graph: GraphSimulator, dice: random.Random) -> None:
    place = Installation(tmp_path, graph.url)
    load = kill_rounds(place, ["edge", "keeper", "courier", "console", "supervisor", "keeper"], dice)
    check(place, load, graph)


@pytest.mark.slow
@pytest.mark.parametrize("command", ["source", pytest.param("binary", marks=pytest.mark.binary)])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_hundred_kills(
    tmp_path: Path, graph: GraphSimulator, dice: random.Random, command: str, workers: int
) -> None:
    """Half with one edge, half with two, ten of each by the binary; KILL_ROUNDS=1000 before a release."""
    rounds = int(os.environ.get("KILL_ROUNDS", "40" if command == "source" else "10"))
    victims = [*ROLES, *(dice.choice(ROLES) for _ in range(rounds - len(ROLES)))]
    program = SOURCE if command == "source" else [str(BINARY)]
    place = Installation(tmp_path, graph.url, command=program, edge=f"workers = {workers}")
    load = kill_rounds(place, victims, dice)
    check(place, load, graph)
    print(f"{len(victims)} kills: {load.acknowledged} acknowledged, {load.repeats} of them posted twice, 0 lost")


@pytest.mark.slow
def test_the_check_finds_a_writer_that_answers_before_its_commit(
    tmp_path: Path, graph: GraphSimulator, dice: random.Random
) -> None:
    (tmp_path / "planted").mkdir()
    (tmp_path / "planted" / "sitecustomize.py").write_text(textwrap.dedent(EARLY_ANSWER))
    place = Installation(tmp_path, graph.url)
    load = kill_rounds(place, ["keeper"] * 4, dice, PYTHONPATH=f"{tmp_path / 'planted'}:{ROOT}")
    assert audit(place.data, load).lost, "the control must lose what it acknowledged"
