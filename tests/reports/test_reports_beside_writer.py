"""Readers in a process of their own take nothing from the writer: two copies of SQLite on one file, and a kill -9."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from collector.storage.reports import commands
from collector.storage.reports.reader import Reader
from tests.kit.console_process import make_config
from tests.kit.console_store import make_store

WRITER = """
import apsw, sys
db = apsw.Connection(sys.argv[1]); db.set_busy_timeout(5000)
db.execute("PRAGMA synchronous=FULL")
i = int(sys.argv[2])
while True:
    i += 1
    db.execute("INSERT INTO counter VALUES (?, 0, 'acknowledged', 1)", (i,))
    print(i, flush=True)
    if i % 200 == 0:
        db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
"""
COUNT = """
import apsw, sys
db = apsw.Connection(sys.argv[1])
print(db.execute("SELECT count(*) FROM counter").get, db.execute("PRAGMA integrity_check").get)
"""


@pytest.mark.slow
async def test_nothing_acknowledged_is_lost_beside_busy_readers(tmp_path: Path) -> None:
    make_store(tmp_path, clicks=2000, conversions=500).close()
    path, acknowledged = tmp_path / "collector.db", 0
    for _ in range(4):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), str(acknowledged)], stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout is not None
        lines = [writer.stdout.readline()]
        until = time.monotonic() + 2
        while time.monotonic() < until:  # a reader that comes and goes is the dangerous one
            async with Reader(path) as reader:
                await reader.rows("SELECT count(*), max(day) FROM counter")
        os.kill(writer.pid, signal.SIGKILL)
        lines += [line for line in writer.stdout.read().splitlines(keepends=True) if line.endswith("\n")]
        writer.wait()
        acknowledged = int(lines[-1])
        counted = subprocess.run([sys.executable, "-c", COUNT, str(path)], capture_output=True, text=True, check=True)
        rows, verdict = counted.stdout.split()
        assert verdict == "ok"
        assert acknowledged <= int(rows) <= acknowledged + 1
        acknowledged = int(rows)
    assert acknowledged > 100


@pytest.mark.slow
def test_an_export_of_many_rows_takes_the_memory_of_one_page(tmp_path: Path) -> None:
    make_store(tmp_path, clicks=120_000, conversions=0).close()
    child = f"""
import resource, sys, pathlib
from tests.kit.console_process import make_config
from collector.storage.reports import commands
class Null:
    def write(self, data): pass
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before = []
rows = commands.export(make_config(pathlib.Path({str(tmp_path)!r})), "clicks", "csv", Null(),
                       progress=lambda n, done: before.append(peak()) if n == 5000 else None)
print(rows, peak() - before[0])
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", child], capture_output=True, text=True, check=True, env=environment)
    rows, grown_kb = map(int, done.stdout.split())
    assert rows == 120_000
    assert grown_kb < 4096  # ten thousand rows held would already be more


def test_a_report_beside_a_writer_sees_only_what_is_committed(tmp_path: Path) -> None:
    db = make_store(tmp_path, clicks=10, conversions=0)
    db.execute("BEGIN IMMEDIATE")
    db.execute("DELETE FROM click")
    assert commands.status(make_config(tmp_path), 1_790_000_000_000).total_clicks == 10
    db.execute("COMMIT")
    assert commands.status(make_config(tmp_path), 1_790_000_000_000).total_clicks == 0
