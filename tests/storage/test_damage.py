"""D6: damage is noticed. A byte of the write-ahead log flips after a kill -9, and all behind it is gone in silence.

The control is a note of what was acknowledged that says nothing: the same check must fail.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import NamedTuple

import apsw
import pytest

from collector.errors import Damaged, StorageError
from collector.exchange.operations import Submission
from collector.storage.ground import acknowledged, damage, database
from collector.storage.ground.checkpoints import Checkpointer
from collector.storage.ground.kept import know
from tests.kit.far_sqlite import FarConnection
from tests.kit.harness import ROOT, STORE, Door, GraphSimulator, Installation, wait_until
from tests.kit.journal_kit import Kit, click, config_for, order
from tests.kit.program import alive

WAL, NOTE = "collector.db-wal", acknowledged.NAME
# Acknowledges clicks, orders and changes of older rows, says how many, and dies of a kill -9.
CHILD = """
import json, os, signal, sys
from pathlib import Path
import msgspec
from tests.kit.journal_kit import NOW, Kit, click, config_for, order
config = config_for(Path(sys.argv[1]))
storage = msgspec.structs.replace(config.storage, checkpoint_pages=1_000_000)  # all of it stays in the log
kit = Kit(Path(sys.argv[1]), config=msgspec.structs.replace(config, storage=storage))
for number in range(0, 200, 4):
    kit.post(*(click(f"IwARdamage{n:09}", visitorId=f"v{n}") for n in range(number, number + 4)))
    kit.post(order(f"order-{number}"))
    kit.post(click(f"IwARdamage{number:09}", visitorId=f"v{number}", at=NOW + 100_000))
print(json.dumps(kit.rows("SELECT (SELECT max(id) FROM click), (SELECT max(id) FROM conversion)")[0]), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


class Left(NamedTuple):
    """What a killed process left on the disk, and what it had acknowledged."""

    folder: Path
    clicks: int
    conversions: int


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Left:
    folder = tmp_path_factory.mktemp("left") / "data"
    command = [sys.executable, "-c", CHILD, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert (folder / WAL).stat().st_size > 300_000
    return Left(folder, *json.loads(done.stdout))


def flipped(path: Path, at: int, bit: int = 1) -> None:
    with open(path, "r+b") as file:
        file.seek(at)
        (byte,) = file.read(1)
        file.seek(at)
        file.write(bytes([byte ^ bit]))


class State(NamedTuple):
    """What the database holds, apart from the shell in the place of what is lost."""

    clicks: int
    conversions: int
    seen_again: int


def state(folder: Path) -> State:
    with closing(know(apsw.Connection(str(folder / "collector.db")))) as db:
        sql = """
SELECT (SELECT count(*) FROM click WHERE store > 0), (SELECT count(*) FROM conversion WHERE store > 0),
       (SELECT count(*) FROM click WHERE last_ts > ts)"""
        return State(*db.execute(sql).fetchone())


def assert_noticed(left: Left, tmp_path: Path, dice: random.Random, rounds: int) -> int:
    """Flip a byte anywhere in the log, so often: what is missing is told, and nothing else; how often something was."""
    whole, lost = State(left.clicks, left.conversions, 50), 0
    for number in range(rounds):
        folder = tmp_path / str(number)
        shutil.copytree(left.folder, folder)
        flipped(folder / WAL, dice.randrange((folder / WAL).stat().st_size), 1 << dice.randrange(8))
        database.open_database(config_for(folder).storage).close()
        there = state(folder)
        lost += there != whole
        assert (damage.told(folder) is not None) == (there != whole), (number, there, damage.told(folder))
    return lost


def test_D6_each_loss_of_the_log_is_noticed_and_nothing_else_is(left: Left, tmp_path: Path) -> None:
    assert assert_noticed(left, tmp_path, random.Random(int(os.environ.get("DAMAGE_SEED", "6"))), 20) >= 10


def test_without_the_note_the_check_fails(left: Left, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acknowledged, "read", lambda folder: [acknowledged.Noted()] * 2)
    with pytest.raises(AssertionError):
        assert_noticed(left, tmp_path, random.Random(6), 20)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def zeroed(path: Path) -> None:
    with open(path, "r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(bytes(4096))


def header(path: Path) -> None:
    flipped(path, 9)


@pytest.mark.parametrize("harm", [Path.unlink, cut, zeroed, header, lambda path: os.truncate(path, 0)])
def test_D6_a_log_that_is_gone_cut_zeroed_or_headless(left: Left, tmp_path: Path, harm: Callable[[Path], None]) -> None:
    folder = tmp_path / "data"
    shutil.copytree(left.folder, folder)
    harm(folder / WAL)
    database.open_database(config_for(folder).storage).close()
    assert damage.told(folder) is not None
    with pytest.raises(Damaged, match="damage accept"):
        database.open_existing(config_for(folder).storage)


def test_a_kill_alone_and_an_orderly_end_tell_nothing(left: Left, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    shutil.copytree(left.folder, folder)
    for _ in range(3):
        with Kit(folder) as kit:
            assert kit.journal.damage is None
            kit.post(click("IwARafterwards"), order("afterwards"))
    assert damage.told(folder) is None


@pytest.mark.parametrize("raw", [b"", b"x" * 128, bytes(128), bytes(10)])
def test_a_foreign_note_tells_nothing(left: Left, tmp_path: Path, raw: bytes) -> None:
    folder = tmp_path / "data"
    shutil.copytree(left.folder, folder)
    (folder / NOTE).write_bytes(raw)
    database.open_database(config_for(folder).storage).close()
    assert damage.told(folder) is None


def test_no_number_is_given_twice_after_a_loss(left: Left, tmp_path: Path) -> None:
    """The public id of a lost click must never open another one."""
    folder = tmp_path / "data"
    shutil.copytree(left.folder, folder)
    flipped(folder / WAL, (folder / WAL).stat().st_size // 2)
    with Kit(folder) as kit:
        taken = kit.post(click("IwARnext"), order("next"))
        assert (taken[0].id, taken[1].state.row.id) == (left.clicks + 1, left.conversions + 1)
        assert kit.journal.damage is not None
        (again,) = kit.post(click("IwARdamage000000000", visitorId="v0"))
        assert again.duplicate, "what is left is found"


@pytest.fixture(scope="module")
def graph():
    with GraphSimulator(token="EAA" + "simulator" * 6) as graph:
        yield graph


@pytest.mark.slow
def test_D6_a_merchants_way_from_a_loss_to_going_on(tmp_path: Path, graph: GraphSimulator) -> None:
    place = Installation(tmp_path, graph.url)
    key = place.make_key()
    door = Door(place.start())
    # Who reads keeps the log from being folded back, or there would be nothing to lose by the time of the kill.
    with FarConnection(f"file:{place.data}/collector.db?mode=ro", uri=True, isolation_level=None) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM click")
        for number in range(40):
            body = {"fbclid": f"IwARway{number:09}", "storeId": STORE, "landingPage": "https://mystore.com/"}
            assert door.post("/v1/track/click", body, key).status_code == 200
        children = door.serving.children().values()
        for pid in [door.serving.process.pid, *children]:  # the supervisor first: it would start others
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        door.serving.process.wait()
        assert wait_until(lambda: not any(alive(pid) for pid in children), 60)
        flipped(place.data / WAL, (place.data / WAL).stat().st_size * 3 // 4)
    stored = ["status"], ["export", "clicks"], ["keys", "list"], ["damage", "show"], ["report", "attribution"]
    for command in stored:
        assert refused(place, *command)
    with place.serve() as door:
        answer = door.get("/readyz")
        assert (answer.status_code, "damage accept" in answer.text) == (503, True)
        body = {"fbclid": "IwARgoeson", "storeId": STORE, "landingPage": "https://mystore.com/"}
        assert door.post("/v1/track/click", body, key).status_code == 200, "what comes now is not lost as well"
        for command in stored:
            assert refused(place, *command)
        assert "has lost" in place.run("damage", "accept")
        place.run("damage", "show")
        assert len(place.run("export", "clicks").splitlines()) < 40
        assert wait_ready(door)


def wait_ready(door: Door) -> bool:
    return wait_until(lambda: door.get("/readyz").status_code == 200, 20)


def refused(place: Installation, *command: str) -> bool:
    """One sentence on stderr, nothing on stdout, exit 3."""
    whole = [*place.command, *command, "--config", str(place.config)]
    done = subprocess.run(whole, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (3, ""), (command, done.stderr)
    assert len(done.stderr.splitlines()) == 1, done.stderr
    return "has lost" in done.stderr


def on_a_damaged_index(folder: Path, monkeypatch: pytest.MonkeyPatch, starts: int = 2) -> None:
    """Orders are matched by it or the process ends; the next start has built it anew, and matches."""
    for _ in range(starts):
        with Kit(folder) as kit:
            try:
                results = kit.post(*(order(f"again-{n}", visitorId=f"v{n}") for n in range(0, 200, 20)))
                results += kit.post(*(click(f"IwARdamage{n:09}", visitorId=f"v{n}") for n in range(0, 200, 20)))
            except StorageError:
                continue
        if not kit.ended:
            assert all(r.state.match.attributed if hasattr(r, "state") else r.duplicate for r in results)
            return
    raise AssertionError("the index was not built anew")


@pytest.fixture(scope="module")
def folded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("folded") / "data"
    with Kit(folder) as kit:
        kit.submit([kit.operation(click(f"IwARdamage{n:09}", visitorId=f"v{n}")) for n in range(1200)])
        kit.fold()
    return folder


def test_D6_a_damaged_index_is_built_anew(folded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pages = (folded / "index.db").stat().st_size // 8192
    for page in range(0, pages, 3):
        folder = tmp_path / str(page)
        shutil.copytree(folded, folder)
        with open(folder / "index.db", "r+b") as file:
            file.seek(page * 8192)
            file.write(bytes(8192))
        on_a_damaged_index(folder, monkeypatch)
        shutil.rmtree(folder)


def test_D6_a_page_that_is_damaged_while_it_runs_is_told(folded: Path, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    shutil.copytree(folded, folder)
    with closing(know(apsw.Connection(str(folder / "collector.db")))) as db:
        (root,) = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'outbox'").fetchone()
    with Kit(folder) as kit:
        assert kit.journal.damage is None
        # Not by open(): that would drop SQLite's locks in this process.
        harm = f"f = open({str(folder / 'collector.db')!r}, 'r+b'); f.seek({(root - 1) * 4096}); f.write(bytes(4096))"
        subprocess.run([sys.executable, "-c", harm], check=True)
        (refused,) = kit.submit_together([[kit.operation(order("unlucky"))]])
        assert isinstance(refused, StorageError)
        assert kit.journal.damage is not None
        assert "is damaged" in kit.journal.damage
        assert not hasattr(kit.post(click("IwARlucky"))[0], "code"), "what does not meet the page goes on"


def test_a_log_that_is_begun_anew_beside_a_commit_is_no_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between a commit and its note another process emptied the log and wrote the first page of the next one."""
    monkeypatch.setattr(Checkpointer, "_step", lambda self, db, *, idle: None)
    with Kit(tmp_path) as kit:
        kit.post(*(click(f"IwARanew{n}") for n in range(20)))
        with closing(database.connect(tmp_path / "collector.db", kit.config.storage)) as other:
            salts, asked = acknowledged._salts, []

            def begun_anew(fd: int) -> int:
                asked.append(fd)
                if len(asked) == 2:  # after the commit
                    other.wal_checkpoint("main", apsw.SQLITE_CHECKPOINT_RESTART)
                    other.execute("INSERT INTO total VALUES ('other', 1)")
                return salts(fd)

            monkeypatch.setattr(acknowledged, "_salts", begun_anew)
            kit.journal.commit(deque([Submission([kit.operation(click("IwARbeside"))])]))
            monkeypatch.undo()
            assert len(asked) == 2
            database.open_database(kit.config.storage).close()
            assert damage.told(tmp_path) is None
            kit.post(click("IwARnext"))
            assert acknowledged.read(tmp_path)[acknowledged.EDGE].pages > 0, "the next commit is known again"
