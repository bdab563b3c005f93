"""D6: a database file that is damaged is one sentence and exit 3 of every command that meets the damage.

Never a traceback, never a shorter answer, never a command that does not end.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import apsw
import pytest

from collector.cli import main
from collector.storage.ground.acknowledged import EDGE, WAL, Ledger
from tests.kit.journal_kit import NOW, Kit, click, config_for, order
from tests.kit.program import SOURCE, Serving
from tests.storage.test_damage import flipped

PAGE = 4096
CONFIG = """
[storage]
data_dir = "{data}"
reserve_mb = 1
[meta]
mode = "live"
graph_url = "http://127.0.0.1:9"
[[store]]
id = "store_abc123"
domains = ["mystore.com"]
[[store.pixel]]
id = "123456789012345"
access_token = "token"
"""
COMMANDS: dict[str, list[str]] = {
    name: name.split()
    for name in (
        "status",
        "export clicks",
        "export conversions --format csv",
        "export deliveries",
        "explain order-7",
        "report attribution --since 3650d --json",
        "keys list",
        "keys create --kind secret",
        "erase --visitor v7 --yes --json",
        "erase --order order-9 --dry-run",
        "replay --status queued --dry-run",
        "damage show",
    )
}
# Their answers must be the healthy database's, byte for byte, where they do answer.
WRITING = {"keys create --kind secret", "erase --visitor v7 --yes --json"}
EXACT = {"export clicks", "export conversions --format csv", "export deliveries", "explain order-7", "keys list"}


class Ended(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("healthy")
    data = folder / "data"
    with Kit(data, config=config_for(data)) as kit:
        for first in range(0, 600, 100):
            numbers = range(first, first + 100)
            kit.submit([kit.operation(click(f"IwARhealthy{n:09}", at=NOW - n, visitorId=f"v{n}")) for n in numbers])
            kit.submit([kit.operation(order(f"order-{n}", visitorId=f"v{n}")) for n in numbers[:30]])
        kit.fold()
    (folder / "collector.toml").write_text(CONFIG.format(data=data))
    (folder / "collector.toml").chmod(0o600)
    return folder


def copy_of(healthy: Path, folder: Path) -> Path:
    shutil.copytree(healthy, folder)
    (folder / "collector.toml").write_text(CONFIG.format(data=folder / "data"))
    return folder


def run(folder: Path, command: list[str]) -> Ended:
    """The command in a process of its own, forked so that it starts at once; SIGALRM ends one that does not end."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        pid = os.fork()
        if pid == 0:
            try:
                signal.signal(signal.SIGALRM, signal.SIG_DFL)
                signal.alarm(20)
                os.dup2(out.fileno(), 1)
                os.dup2(err.fileno(), 2)
                sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
                code = main([*command, "--config", str(folder / "collector.toml")])
                sys.stdout.flush()
                sys.stderr.flush()
            except BaseException as error:
                os.write(2, f"Traceback: {error!r}".encode())
                code = 99
            os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        return Ended(code, _text(out), _text(err))


def _text(file: tempfile._TemporaryFileWrapper[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")


def assert_told(ended: Ended, name: str) -> None:
    assert ended.code == 3, (name, ended)
    assert "Traceback" not in ended.err, (name, ended.err)
    assert len(ended.err.splitlines()) == 1, (name, ended.err)
    assert "sqlite3 collector.db .recover" in ended.err or "damage accept" in ended.err, (name, ended.err)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def garbage(path: Path) -> None:
    path.write_bytes(b"no database" * 3000)


def half(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2 // PAGE * PAGE)


def torn(path: Path) -> None:
    os.truncate(path, path.stat().st_size - PAGE // 2)


def headless(path: Path) -> None:
    flipped(path, 3)


def nameless(path: Path) -> None:
    """The schema's page."""
    zero(path, 0, 100)


def zero(path: Path, page: int, skip: int = 0) -> None:
    with open(path, "r+b") as file:
        file.seek(page * PAGE + skip)
        file.write(bytes(PAGE - skip))


def pages_of(path: Path, table: str) -> list[int]:
    """The pages of a table's rows, from 0."""
    with closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)) as db:
        (root,) = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (table,)).fetchone()
        return [int(root) - 1]


def root_of(table: str) -> Callable[[Path], None]:
    def harm(path: Path) -> None:
        for page in pages_of(path, table):
            zero(path, page)

    harm.__name__ = f"root of {table}"
    return harm


HARMS = [
    half,
    root_of("click"),
    *(pytest.param(harm, marks=pytest.mark.slow) for harm in (empty, garbage, torn, headless, nameless)),
    *(pytest.param(root_of(table), marks=pytest.mark.slow) for table in ("conversion", "outbox")),
]


@pytest.mark.parametrize("harm", HARMS, ids=lambda harm: harm.__name__)
def test_D6_a_damaged_file_is_one_sentence_and_exit_3(healthy: Path, tmp_path: Path, harm: Callable) -> None:
    for number, (name, command) in enumerate(COMMANDS.items()):
        folder = copy_of(healthy, tmp_path / str(number))
        harm(folder / "data" / "collector.db")
        assert_told(run(folder, command), name)
        shutil.rmtree(folder)


def test_what_needs_no_database_answers_beside_a_damaged_one(healthy: Path, tmp_path: Path) -> None:
    folder = copy_of(healthy, tmp_path / "copy")
    garbage(folder / "data" / "collector.db")
    assert run(folder, ["config", "check"]).code == 0
    sent = run(folder, ["send-test", "--code", "TEST1"])
    assert (sent.code, "refused" in sent.out.lower() or "connect" in sent.out.lower()) == (4, True), sent


def assert_whole_or_told(healthy: Path, tmp_path: Path, dice: random.Random, rounds: int) -> int:
    """Flip a bit anywhere: each command answers as of the healthy database, or refuses; how often one refused."""
    right = {name: _comparable(run(healthy, COMMANDS[name]).out) for name in EXACT}
    refused = 0
    for number in range(rounds):
        folder = copy_of(healthy, tmp_path / str(number))
        path = folder / "data" / "collector.db"
        at = dice.randrange(path.stat().st_size)
        flipped(path, at, 1 << dice.randrange(8))
        for name in sorted(dice.sample(sorted(COMMANDS), 4), key=WRITING.__contains__):
            ended = run(folder, COMMANDS[name])
            assert ended.code in (0, 3) or (ended.code == 1 and "Traceback" not in ended.err), (at, name, ended)
            if ended.code == 3:
                refused += 1
                assert_told(ended, name)
            elif name in EXACT and ended.code == 0:
                assert _comparable(ended.out)[0] == right[name][0], (at, name)
        shutil.rmtree(folder)
    return refused


def _comparable(out: str) -> tuple[int, str]:
    """Lines, and the text: a bit within a stored text changes the text, which SQLite has no checksum against."""
    return len(out.splitlines()), re.sub(r"\d{4}-\d\d-\d\dT[0-9:.]+Z", "", out)


def test_D6_a_flipped_bit_shortens_no_answer(healthy: Path, tmp_path: Path) -> None:
    assert_whole_or_told(healthy, tmp_path, random.Random(int(os.environ.get("DAMAGE_SEED", "11"))), 5)


@pytest.mark.long
def test_D6_three_hundred_flipped_bits(healthy: Path, tmp_path: Path) -> None:
    assert assert_whole_or_told(healthy, tmp_path, random.Random(12), 300) > 5


@pytest.mark.slow
@pytest.mark.parametrize("harm", [garbage, half, headless, root_of("conversion")], ids=lambda harm: harm.__name__)
def test_D6_serve_ends_with_one_sentence_on_a_damaged_file(healthy: Path, tmp_path: Path, harm: Callable) -> None:
    folder = copy_of(healthy, tmp_path / "copy")
    harm(folder / "data" / "collector.db")
    (folder / "data" / WAL).touch()
    Ledger(folder / "data", EDGE).note(600, 180)  # as after a crash
    serving = Serving(SOURCE, tmp_path, "--config", str(folder / "collector.toml"))
    assert serving.process.wait(60) == 3, serving.stderr
    assert "collector.db is damaged" in serving.stderr
    assert "Traceback" not in serving.stderr
