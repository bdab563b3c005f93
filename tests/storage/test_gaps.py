"""What SQLite leaves between a page's pointers and its cells is overwritten, beside readers and writers."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import apsw
import pytest

from collector.config import StorageConfig
from collector.storage.ground import gaps
from collector.storage.ground.database import connect, immediate

ERASED, KEPT, WRITTEN = b"erased--", b"kept----", b"written-"

A_FEW = "DELETE FROM a WHERE substr(name, 2, 1) < x'10'"  # of every page


def names(mark: bytes, seed: int) -> Iterator[bytes]:
    dice = random.Random(seed)
    while True:
        yield dice.randbytes(8) + mark + dice.randbytes(dice.randrange(40))


@pytest.fixture(scope="module")
def shared_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table whose pages were shared out again and again, and of which every third row was erased."""
    path = tmp_path_factory.mktemp("gaps") / "a.db"
    with closing(opened(path)) as db:
        db.execute("CREATE TABLE a (name BLOB PRIMARY KEY) STRICT, WITHOUT ROWID")
        erased, kept = names(ERASED, 1), names(KEPT, 2)
        for _ in range(30):
            with immediate(db):
                db.executemany("INSERT INTO a VALUES (?)", [(next(erased),) for _ in range(100)])
                db.executemany("INSERT INTO a VALUES (?)", [(next(kept),) for _ in range(200)])
        db.execute("DELETE FROM a WHERE substr(name, 9, 8) = ?", (ERASED,))
    return path


@pytest.fixture
def path(shared_out: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(shared_out, tmp_path))


def opened(path: Path) -> apsw.Connection:
    return connect(path, StorageConfig(data_dir=str(path.parent)))


def left(path: Path) -> int:
    """How often the erased is in the files, as anybody with the disk could read them."""
    return sum(file.read_bytes().count(ERASED) for file in path.parent.iterdir())


def test_control_secure_delete_alone_leaves_copies(path: Path) -> None:
    assert left(path) > 0


def test_nothing_is_left_and_every_row_is_there(path: Path) -> None:
    with closing(opened(path)) as db:
        before = db.execute("SELECT name FROM a").fetchall()
        assert gaps.overwrite(db, path)
        assert left(path) == 0
        assert db.execute("SELECT name FROM a").fetchall() == before
        assert db.execute("PRAGMA integrity_check").get == "ok"


def overwritten_while_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody reads every page just before the write lock is taken, and writes into some just after."""
    with closing(opened(path)) as writer, closing(opened(path)) as db:
        emptied, calls = gaps.empty, iter(range(9))

        def empty(db: apsw.Connection) -> bool:
            done = next(calls) > 1 or emptied(db)  # the last one would have all caches let go
            writer.execute("SELECT count(*), max(name) FROM a").fetchall()
            return done

        monkeypatch.setattr(gaps, "empty", empty)
        assert gaps.overwrite(db, path)
        writer.execute(A_FEW)
        assert emptied(db)


def test_who_has_a_page_in_its_cache_does_not_write_the_gap_back(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    overwritten_while_read(path, monkeypatch)
    assert left(path) == 0


def test_control_a_cache_that_is_not_told_does(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gaps, "_let_caches_go", lambda _db: None)
    overwritten_while_read(path, monkeypatch)
    assert left(path) > 0


def test_beside_a_busy_writer_nothing_of_its_is_lost(path: Path) -> None:
    """It commits between any two steps; what it was told is stored is there in the end."""
    written, over = list[bytes](), threading.Event()

    def write() -> None:
        with closing(opened(path)) as writer:
            for name in names(WRITTEN, 3):
                if over.is_set() and len(written) > 50:
                    return
                writer.execute("INSERT INTO a VALUES (?)", (name,))
                written.append(name)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        with closing(opened(path)) as db:
            while not gaps.overwrite(db, path):
                pass
    finally:
        over.set()
        thread.join()
    assert left(path) == 0
    with closing(opened(path)) as db:
        found = db.execute("SELECT name FROM a WHERE substr(name, 9, 8) = ?", (WRITTEN,)).fetchall()
        assert {name for (name,) in found} == set(written)
        assert db.execute("PRAGMA integrity_check").get == "ok"


def test_a_reader_of_before_makes_it_say_so(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gaps.time, "sleep", lambda _s: None)
    with closing(opened(path)) as reader, closing(opened(path)) as db:
        db.execute("INSERT INTO a VALUES (x'00')")
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM a").fetchall()
        db.execute("INSERT INTO a VALUES (x'01')")
        monkeypatch.setattr(gaps, "_PATIENCE_MS", 1)
        assert not gaps.overwrite(db, path)


def test_the_locks_of_this_process_stay(path: Path) -> None:
    """Another process that opens and closes the file still sees that somebody has it: the log stays."""
    with closing(opened(path)) as db:
        assert gaps.overwrite(db, path)
        db.execute("INSERT INTO a VALUES (x'02')")
        code = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute('SELECT count(*) FROM a').fetchone()"
        subprocess.run([sys.executable, "-c", code, path], check=True)
        assert path.with_name("a.db-wal").stat().st_size > 0


def test_the_pointer_maps_of_a_file_with_auto_vacuum_are_no_trees_pages(tmp_path: Path) -> None:
    """We make no such file; a merchant's own tool may, and an erasure must not break it."""
    path = tmp_path / "a.db"
    with closing(apsw.Connection(str(path))) as db:
        db.pragma("auto_vacuum", 1)
        db.pragma("journal_mode", "wal")
        db.execute("CREATE TABLE a (name BLOB)")
        with immediate(db):
            db.executemany("INSERT INTO a VALUES (?)", ((bytes([n % 251]) * 1_000,) for n in range(8_000)))
    with closing(opened(path)) as db:
        assert gaps.overwrite(db, path)
    with closing(apsw.Connection(str(path))) as db:
        assert db.pragma("auto_vacuum") == 1
        assert db.pragma("integrity_check") == "ok"
