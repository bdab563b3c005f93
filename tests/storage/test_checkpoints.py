"""D6: the write-ahead log is kept short, for all behind a damaged byte of it is lost; a reader in the way is told."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from collector.storage.ground import acknowledged
from collector.storage.ground.acknowledged import Ledger
from collector.storage.ground.checkpoints import Checkpointer
from collector.storage.ground.database import DATABASE, connect, open_database
from collector.storage.reports import commands
from tests.kit.harness import wait_until
from tests.kit.journal_kit import NOW, Kit, click, config_for

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
        assert wait_until(lambda: wal(tmp_path) == 0, 60)


def test_without_the_checkpointer_it_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Checkpointer, "_step", lambda self, db, *, idle: None)
    with Kit(tmp_path) as kit:
        assert longest(kit, tmp_path) > MOST


def begins_anew(folder: Path) -> bool:
    """Whether the log does so after a copy during which something was committed."""
    storage = config_for(folder).storage
    with closing(open_database(storage)) as db, closing(connect(folder / DATABASE, storage)) as copier:
        checkpointer = Checkpointer(storage, folder, Ledger(folder, acknowledged.EDGE))
        checkpointer.watch(db)

        def begin() -> None:
            checkpointer.make_way()
            db.execute("BEGIN IMMEDIATE")

        def commit() -> int:
            db.execute("INSERT INTO heartbeat VALUES (hex(randomblob(8)), 1, zeroblob(100000))")
            db.execute("COMMIT")
            return acknowledged.salts_of(folder / acknowledged.WAL)

        begin()
        while (before := commit()) and checkpointer._grown < checkpointer._most:
            begin()
        begin()
        checkpointer._step(copier, idle=False)
        assert commit() == before, "a group that has begun adds to the log"
        begin()
        return commit() != before


def test_D6_a_log_that_is_added_to_while_it_is_copied_begins_anew_with_the_next_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert begins_anew(tmp_path / "data")
    monkeypatch.setattr(Checkpointer, "_finish", lambda self: None)
    assert not begins_anew(tmp_path / "control")


def test_what_is_copied_is_synced_before_a_group_copies_the_last_pages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[bool] = []
    sync = Checkpointer._sync
    monkeypatch.setattr(Checkpointer, "_sync", lambda self: (synced.append(self._nearly), sync(self)))
    assert begins_anew(tmp_path)
    assert synced == [False]


def locks_on(path: Path) -> set[str]:
    """Locks of this process, as the kernel tells them."""
    own, inode = f" {os.getpid()} ", f":{path.stat().st_ino} "
    lines = Path("/proc/locks").read_text().splitlines()
    return {line.partition(":")[2] for line in lines if own in line and inode in line}


def test_a_sync_leaves_the_locks_of_those_who_have_the_file_open(tmp_path: Path) -> None:
    storage = config_for(tmp_path).storage
    with closing(open_database(storage)) as db:
        db.execute("BEGIN; SELECT count(*) FROM click").fetchall()
        if not (before := locks_on(tmp_path / DATABASE)):
            pytest.skip("this kernel tells of no locks")
        checkpointer = Checkpointer(storage, tmp_path, Ledger(tmp_path, acknowledged.EDGE))
        for _ in range(2):
            checkpointer._sync()
        assert locks_on(tmp_path / DATABASE) == before
        checkpointer.stop()
        assert locks_on(tmp_path / DATABASE) == before, "an ended thread's file stays open"
        checkpointer.close()
        assert locks_on(tmp_path / DATABASE) == set(), "the control: they go with any descriptor"


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
            assert wait_until(lambda: checkpointer.oldest_reader() >= 1, 60)
            kit.transaction.beat()
            told = commands.status(kit.config, NOW)
            assert told.oldest_reader_seconds >= 1
            assert told.wal_bytes == wal(tmp_path) > 0
        assert wait_until(lambda: wal(tmp_path) == 0, 60)
        assert wait_until(lambda: checkpointer.oldest_reader() == 0, 60)


def test_D6_readers_of_whom_each_begins_before_the_last_has_ended_are_told_and_then_out_of_the_way(
    tmp_path: Path,
) -> None:
    storage = config_for(tmp_path).storage
    file = tmp_path / DATABASE
    with closing(open_database(storage)) as db, closing(connect(file, storage)) as copier:
        copier.set_busy_timeout(1)
        checkpointer = Checkpointer(storage, tmp_path, Ledger(tmp_path, acknowledged.EDGE))
        checkpointer.watch(db)
        ours, theirs = (connect(file, storage, readonly=True) for _ in range(2))

        def group() -> None:
            checkpointer.make_way()
            db.execute("BEGIN IMMEDIATE")
            db.execute("INSERT INTO heartbeat VALUES (hex(randomblob(8)), 1, zeroblob(100000))")
            db.execute("COMMIT")

        def emptied() -> bool:
            if checkpointer._grown >= checkpointer._most:
                checkpointer._guarded(lambda: checkpointer._step(copier, idle=False))
            return checkpointer.oldest_reader() == 0

        group()
        for _ in range(100):
            ours.execute("BEGIN; SELECT count(*) FROM heartbeat").fetchall()
            if theirs.in_transaction:
                theirs.execute("COMMIT")
            group()
            ours, theirs = theirs, ours
            if not emptied():
                break
        assert checkpointer.oldest_reader() > 0
        theirs.execute("COMMIT")
        group()
        assert emptied()
        before = acknowledged.salts_of(tmp_path / acknowledged.WAL)
        group()
        assert acknowledged.salts_of(tmp_path / acknowledged.WAL) != before
