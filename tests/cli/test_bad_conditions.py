"""Every command under every bad condition: one sentence or two, an exit code of the contract, never a traceback."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from collector.cli.parser import COMMANDS, build_parser
from collector.config import StorageConfig
from collector.storage.ground.database import load_pepper, open_database
from tests.kit.program import ROOT

pytestmark = pytest.mark.slow

# What each command is called with; {…} are places of the case. Those that run on until they are told to end have none.
WORDS: Final = {
    "config check": "", "config show": "", "keys create": "--kind secret", "keys list": "", "keys revoke": "key_none",
    "status": "--json", "explain": "conv_0123456789abcdefghijklmnopqrst", "learn": "", "replay": "--status rejected",
    "export": "clicks", "backup": "{folder}/copy.tar", "report attribution": "", "report reconcile": "",
    "reconcile": "{folder}/orders.csv", "requests list": "", "requests run": "req_none", "requests dismiss": "req_none",
    "erase": "--email jo@example.com --yes", "export-person": "--email jo@example.com", "audit": "",
    "import": "{folder}/orders.csv", "damage show": "", "damage accept": "", "clock show": "", "clock accept": "",
    "doctor": "", "send-test": "--code TEST1", "install": "--dry-run",
}  # fmt: skip
NOT_ASKED: Final = {
    "serve", "edge", "keeper", "courier", "console", "tail",  # run on
    "init", "config hash-password", "restore", "bench", "completion", "version", "metrics",  # take no configuration
}  # fmt: skip


class Case(NamedTuple):
    """A folder with a sound installation, to be spoilt."""

    folder: Path

    @property
    def config(self) -> Path:
        return self.folder / "collector.toml"

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def database(self) -> Path:
        return self.data / "collector.db"

    def add(self, text: str) -> None:
        self.config.write_text(self.config.read_text() + text)


def _write(name: str, content: bytes) -> Callable[[Case], object]:
    return lambda case: (case.folder / name).write_bytes(content)


def _cut(case: Case, share: float) -> None:
    size = case.database.stat().st_size
    with case.database.open("r+b") as file:
        file.truncate(int(size * share))


def _flip(case: Case, at: float) -> None:
    data = bytearray(case.database.read_bytes())
    begin = int(len(data) * at)
    data[begin : begin + 200] = b"\xa5" * 200
    case.database.write_bytes(data)


def _replace_with_folder(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.mkdir()


CONDITIONS: Final[dict[str, Callable[[Case], object]]] = {
    "no configuration": lambda c: c.config.unlink(),
    "a folder for a configuration": lambda c: _replace_with_folder(c.config),
    "an empty configuration": lambda c: c.config.write_text(""),
    "no TOML": lambda c: c.add("\n[[[\n"),
    "a binary configuration": _write("collector.toml", bytes(range(256))),
    "half a character": _write("collector.toml", b'[edge]\nlisten = "\xc3"\n'),
    "an unknown key": lambda c: c.add("\n[edgy]\n"),
    "a wrong type": lambda c: c.add("\n[matching]\nwindow_days = 'seven'\n"),
    "a number past its bound": lambda c: c.add("\n[matching]\nwindow_days = 100000\n"),
    "a configuration of a megabyte": lambda c: c.add("\n# " + "x" * (1 << 20)),
    "a link that leads to itself": lambda c: (c.config.unlink(), c.config.symlink_to(c.config)),
    "no data directory": lambda c: shutil.rmtree(c.data),
    "a file for a data directory": lambda c: (shutil.rmtree(c.data), c.data.write_text("x")),
    "an empty data directory": lambda c: (shutil.rmtree(c.data), c.data.mkdir()),
    "no database": lambda c: c.database.unlink(),
    "an empty database": lambda c: c.database.write_bytes(b""),
    "a database that is none": lambda c: c.database.write_bytes(b"hello " * 5000),
    "a database of zeros": lambda c: c.database.write_bytes(b"\0" * 65536),
    "a folder for a database": lambda c: _replace_with_folder(c.database),
    "half a database": lambda c: _cut(c, 0.5),
    "a hundredth of a database": lambda c: _cut(c, 0.01),
    "a damaged head": lambda c: _flip(c, 0.0),
    "a damaged schema": lambda c: _flip(c, 0.01),
    "a damaged middle": lambda c: _flip(c, 0.5),
    "a newer schema": lambda c: _pragma(c, "user_version = 9999"),
    "no key": lambda c: (c.data / "pepper.key").unlink(),
    "half a key": lambda c: (c.data / "pepper.key").write_bytes(b"x"),
    "a folder for a key": lambda c: _replace_with_folder(c.data / "pepper.key"),
    "a damaged index": lambda c: (c.data / "index.db").write_bytes(b"no index" * 999),
    "a note of damage": lambda c: (c.data / "damage").write_text("12 clicks are gone"),
    "a folder for an audit": lambda c: _replace_with_folder(c.data / "audit.log"),
    "a broken pipe": lambda c: None,
    "a full device": lambda c: None,
    "no more files": lambda c: None,
}


def _pragma(case: Case, text: str) -> None:
    with closing(open_database(StorageConfig(data_dir=str(case.data)))) as db:
        db.execute(f"PRAGMA {text}")


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sound")
    (folder / "collector.toml").write_text(
        '[storage]\ndata_dir = "data"\n[meta]\nmode = "dry_run"\n[[store]]\nid = "store_abc123"\n'
        'domains = ["a.invalid"]\ncurrency = "USD"\ncountry = "US"\n'
    )
    (folder / "orders.csv").write_text("orderId,eventType,eventValue\n1,Purchase,5\n")
    with closing(open_database(StorageConfig(data_dir=str(folder / "data")))) as db:
        load_pepper(db, folder / "data", "")
        db.execute("INSERT INTO store (name) VALUES ('store_abc123')")
    return folder


def _limited() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (12, 12))


def _run(condition: str, case: Case, name: str) -> tuple[int, str, str]:
    words = [*name.split(), *WORDS[name].format(folder=case.folder).split(), "--config", str(case.config)]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("COLLECTOR_")} | {"PYTHONPATH": str(ROOT)}
    out = subprocess.PIPE
    if condition == "a full device":
        out = os.open("/dev/full", os.O_WRONLY)
    elif condition == "a broken pipe":
        reader, out = os.pipe()
        os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "collector", *words],
            stdout=out, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, cwd=case.folder, env=environment, timeout=120,
            preexec_fn=_limited if condition == "no more files" else None, text=True,
        )  # fmt: skip
    finally:
        if out != subprocess.PIPE:
            os.close(out)
    return done.returncode, done.stdout or "", done.stderr


def test_every_command_is_tried_or_named() -> None:
    assert {command.name for command in COMMANDS} == WORDS.keys() | NOT_ASKED
    for name, words in WORDS.items():
        build_parser().parse_args([*name.split(), *words.format(folder="f").split(), "--config", "c"])
    assert len(CONDITIONS) >= 30


@pytest.mark.parametrize("condition", CONDITIONS)
def test_a_bad_condition_is_a_sentence_and_a_code(condition: str, sound: Path, tmp_path: Path) -> None:
    faults = []
    for number, name in enumerate(WORDS):
        folder = tmp_path / str(number)
        shutil.copytree(sound, folder)
        case = Case(folder)
        CONDITIONS[condition](case)
        started = time.monotonic()
        code, _, err = _run(condition, case, name)
        if code not in (0, 1, 2, 3, 4):
            faults.append(f"{name}: exit {code}: {err[-300:]}")
        if "Traceback" in err or ", line " in err or "fault of the collector" in err:
            faults.append(f"{name}: a traceback: {err[-600:]}")
        if code and not err.strip() and condition != "a broken pipe" and name != "doctor":
            faults.append(f"{name}: exit {code} and not a word")
        assert time.monotonic() - started < 120
        shutil.rmtree(folder)
    assert not faults, "\n".join(faults)
