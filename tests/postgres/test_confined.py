"""D7 over PostgreSQL: keeper and console reach their server; no keeper listens, neither starts a program."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import msgspec

from collector.config import Config, StorageConfig
from tests.kit import postgres
from tests.kit.program import ROOT
from tests.process.test_confine import needs_landlock, needs_seccomp

pytestmark = [needs_landlock, needs_seccomp]

PROGRAM = """
import asyncio, json, os, socket, sys
import msgspec
from collector.config import Config
from collector.exchange.clock import Clock
from collector.process import hardening
from collector.process.confine import confine
from collector.storage.postgres.keeping import Keeping
from collector.storage.reports import chosen
from collector.storage.reports.questions import STORES

config = msgspec.json.decode(sys.argv[1], type=Config)
hardening.harden()
assert confine(sys.argv[3], config).told() == {"files": "kept", "calls": "kept"}

def tried(work):
    try: work()
    except Exception as error: return type(error).__name__
    return "done"

def opened():
    if sys.argv[3] == "keeper":
        Keeping(config, Clock()).close()
    else:
        asyncio.run(chosen.of_console(config)[0].rows(STORES))

print(json.dumps({
    "open": tried(opened),
    "start": tried(lambda: os.execv(sys.executable, [sys.executable, "-c", "0"])),
    "listen": tried(lambda: socket.create_server(("127.0.0.1", 0))),
    "read": tried(lambda: open(sys.argv[2])),
    "name": tried(lambda: socket.getaddrinfo("localhost", 80)),
}))
"""


def attempts(config: Config, outside: Path, part: str = "keeper") -> dict[str, str]:
    code = [sys.executable, "-c", PROGRAM, msgspec.json.encode(config).decode(), str(outside), part]
    done = subprocess.run(code, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_a_keeper_opens_its_database_and_neither_listens_nor_reads_elsewhere(
    database: postgres.Database, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("x")
    (tmp_path / "data").mkdir()
    storage = StorageConfig(engine="postgres", dsn=database.dsn, standby="none", data_dir=str(tmp_path / "data"))
    assert attempts(Config(storage=storage), tmp_path / "secret") == {
        "open": "done",
        "start": "PermissionError",
        "listen": "PermissionError",
        "read": "PermissionError",
        "name": "done",
    }


def test_control_the_keeper_of_sqlite_reaches_nobody(database: postgres.Database, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    storage = StorageConfig(engine="sqlite", dsn=database.dsn, standby="none", data_dir=str(tmp_path / "data"))
    assert attempts(Config(storage=storage), tmp_path)["open"] == "Away"


def test_a_console_asks_its_database_and_serves(database: postgres.Database, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    (tmp_path / "data").mkdir()
    storage = StorageConfig(engine="postgres", dsn=database.dsn, standby="none", data_dir=str(tmp_path / "data"))
    assert attempts(Config(storage=storage), tmp_path / "secret", "console") == {
        "open": "NoSchema",
        "start": "PermissionError",
        "listen": "done",
        "read": "PermissionError",
        "name": "done",
    }
    sqlite = StorageConfig(engine="sqlite", data_dir=str(tmp_path / "data"))
    assert attempts(Config(storage=sqlite), tmp_path, "console")["name"] != "done", "control"
