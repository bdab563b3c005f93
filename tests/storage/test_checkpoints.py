"""D6: the write-ahead log is kept short, for all behind a damaged byte of it is lost; a reader in the way is told."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from collector.storage.ground import acknowledged
from collector.storage.ground.checkpoints import Checkpointer
from collector.storage.reports import commands
from tests.kit.harness import wait_until
from tests.kit.journal_kit import NOW, Kit, click

MOST = 4 * 1024 * 1024
HOLD = """
import sys, apsw
db = apsw.Connection(sys.argv[1], flags=apsw.SQLITE_OPEN_READONLY)
db.execute("BEGIN")
db.execute("SELECT count(*) FROM click").fetchall()
print("reading", flush=True)
sys.stdin.read()
"""


def wal(folder: Path) -> int:
    return (folder / acknowledged.WAL).stat().st_size


def longest(kit: Kit, folder: Path, groups: int = 60) -> int:
    """Bytes of the log at most, under a load without a pause."""
    most = 0
    for group in range(groups):
        kit.submit([kit.operation(click(f"IwARshort{group}x{n:09}", visitorId=f"v{n}")) for n in range(500)])
        most = max(most, wal(folder))
    return most


def test_D6_the_log_stays_short_under_load_and_is_nothing_while_idle(tmp_path: Path) -> None:
    with Kit(tmp_path) as kit:
        assert longest(kit, tmp_path) <= MOST
        assert wait_until(lambda: wal(tmp_path) == 0, 20)


def test_without_the_checkpointer_it_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Checkpointer, "_step", lambda self, db, *, idle: None)
    with Kit(tmp_path) as kit:
        assert longest(kit, tmp_path) > MOST


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Somebody else's reader, in the middle of its transaction."""
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as reader:
        assert reader.stdin is not None
        assert reader.stdout is not None
        assert reader.stdout.readline() == "reading\n"
        yield
        reader.stdin.close()


def test_D6_a_reader_in_the_way_is_told_and_holds_up_no_event(tmp_path: Path) -> None:
    with Kit(tmp_path) as kit:
        kit.post(click("IwARbefore"))
        with reading(tmp_path / "collector.db"):
            assert longest(kit, tmp_path, 20) > 0
            checkpointer = kit.journal._checkpointer
            assert wait_until(lambda: checkpointer.oldest_reader() >= 1, 20)
            kit.transaction.beat()
            told = commands.status(kit.config, NOW)
            assert told.oldest_reader_seconds >= 1
            assert told.wal_bytes == wal(tmp_path) > 0
        assert wait_until(lambda: wal(tmp_path) == 0, 20)
        assert wait_until(lambda: checkpointer.oldest_reader() == 0, 20)
