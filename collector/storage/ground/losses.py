"""Is what was acknowledged still there, and is the newest part of the database whole? Asked whenever it is opened."""

from __future__ import annotations

import secrets
import time
from pathlib import Path
from typing import Any, Final

import apsw
import msgspec

from collector.core.capi.states import CapiState
from collector.core.events import StoredClick, StoredEvent
from collector.core.flags import WITHDRAWN
from collector.core.matching import Match
from collector.storage.ground import acknowledged, damage
from collector.storage.ground.damage import Missing

_HEAD_ROWS: Final = 2_000  # of each table are read after a crash: more than the log can have held of the newest
_CHECK_S: Final = 0.5  # that a quick_check of the whole file may take: some 300 MB; a larger file's head is read anyway
_MOST_EVER: Final = 1 << 40  # rows: whoever counts or folds up to a damaged number would not end
_STEPS: Final = 10_000
_encode = msgspec.msgpack.Encoder().encode

_CLICK_SHELL: Final = """
INSERT OR IGNORE INTO click (id, store, ts, last_ts, received, ua_class, flags, body)
VALUES (?1, 0, ?2, ?2, ?2, 0, ?3, ?4)"""
_NEVER_GIVEN: Final = "INSERT INTO total VALUES (?, ?) ON CONFLICT DO UPDATE SET n = n + excluded.n"
_CONVERSION_SHELL: Final = """
INSERT OR IGNORE INTO conversion (id, store, ts, received, event_type, ua_class, flags, capi, body, match)
VALUES (?1, 0, ?2, ?2, 'lost', 0, ?3, ?4, ?5, ?6)"""


def examine(db: apsw.Connection, path: Path) -> None:
    """Notice what of the acknowledged is missing, and write it down (damage.tell).

    Afterwards the next row ids are higher than any that was ever given: an empty row stands in the place of the last
    one lost, so that no public id names two events.
    """
    notes = acknowledged.read(path.parent)  # before the rows are asked: what is noted is on disk by then
    gone = _missing_rows(db, path, notes[acknowledged.EDGE])
    pages = sum(_missing_pages(db, path, note) for note in notes)
    if not gone and not pages:
        return
    damage.tell(path.parent, damage.missing(path, gone))
    # The index may know what is gone: for a database of another identity it is made anew (index.py).
    db.pragma("application_id", secrets.randbelow((1 << 31) - 1) + 1)
    for missing in gone:
        stand_in(db, missing)


def _missing_rows(db: apsw.Connection, path: Path, noted: acknowledged.Noted) -> list[Missing]:
    found = []
    for table, number in noted.rows():
        newest = int(db.execute(f"SELECT coalesce(max(id), 0) FROM {table}").get)
        if newest > _MOST_EVER:
            raise damage.of_file(path, f"the newest row of {table} has a number that was never given")
        if newest < number:
            found.append(Missing(table, newest, number))
    return found


def _missing_pages(db: apsw.Connection, path: Path, noted: acknowledged.Noted) -> int:
    """Pages that the log had when a commit was acknowledged, and has no more though it was not begun anew since."""
    wal = path.with_name(path.name + "-wal")
    if not noted.salts or acknowledged.salts_of(wal) != noted.salts:
        return 0
    pages, _ = db.wal_checkpoint("main", apsw.SQLITE_CHECKPOINT_NOOP)
    # None at all: it is just being begun anew.
    if pages <= 0 or acknowledged.salts_of(wal) != noted.salts:
        return 0
    return max(0, noted.pages - pages)


def stand_in(db: apsw.Connection, missing: Missing) -> None:
    """An empty row where the last lost one was, as of the newest that is left; `status` counts none of the numbers."""
    _put_shell(db, missing)
    db.execute(_NEVER_GIVEN, (f"never.{missing.table}.{missing.acknowledged}", missing.acknowledged - missing.newest))


def _put_shell(db: apsw.Connection, missing: Missing) -> None:
    at = db.execute(f"SELECT coalesce(max(received), 0) FROM {missing.table} WHERE id = ?", (missing.newest,)).get
    if missing.table == "click":
        body = _encode(StoredClick(fbclid="", landing_page="", marketing="denied"))
        db.execute(_CLICK_SHELL, (missing.acknowledged, at, WITHDRAWN, body))
        return
    event = _encode(StoredEvent(event_type="lost", event_id="", ts=at, received=at, marketing="denied"))
    match = _encode(Match(attributed=False, model="", reason="consent"))
    skipped = int(CapiState.SKIPPED)
    db.execute(_CONVERSION_SHELL, (missing.acknowledged, at, WITHDRAWN, skipped, event, match))


def check(db: apsw.Connection, path: Path) -> None:
    """After a crash: Damaged when the newest rows cannot be read, or SQLite's own quick_check finds a fault.

    Half a second at most for the whole file; at 10⁷ rows the newest of each table are read all the same (milliseconds).
    """
    try:
        _read_heads(db)
        fault = _quick_check(db)
    except (apsw.CorruptError, apsw.NotADBError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise damage.of_file(path, _text(error)) from error
    if fault is not None:
        raise damage.of_file(path, fault)


def _text(error: Exception) -> str:
    """SQLite's own words; of another error its type only: its text may hold a row's bytes."""
    return str(error) if isinstance(error, apsw.Error) else f"a stored row cannot be decoded: {type(error).__name__}"


_BODIES: Final[dict[str, Any]] = {
    "click": msgspec.msgpack.Decoder(StoredClick).decode,
    "conversion": msgspec.msgpack.Decoder(StoredEvent).decode,
}


def _read_heads(db: apsw.Connection) -> None:
    """Every value of the newest rows, whose numbers must fall from one to the next."""
    for table, bare in db.execute("SELECT name, wr FROM pragma_table_list WHERE schema = 'main' AND type = 'table'"):
        if bare or str(table).startswith("sqlite_"):
            continue
        before, decode = None, _BODIES.get(str(table))
        columns = "rowid, body" if decode else "rowid, *"
        for row in db.execute(f"SELECT {columns} FROM {table} ORDER BY rowid DESC LIMIT {_HEAD_ROWS}"):
            if before is not None and row[0] >= before:
                raise apsw.CorruptError(f"rows of {table} are out of order")
            before = row[0]
            if decode:
                decode(row[1])


def _quick_check(db: apsw.Connection) -> str | None:
    """The first fault that SQLite finds within `_CHECK_S`; None when it finds none in that time."""
    until = time.monotonic() + _CHECK_S
    db.set_progress_handler(lambda: time.monotonic() > until, _STEPS)
    try:
        found = db.execute("PRAGMA quick_check(1)").get
    except apsw.InterruptError:
        return None
    finally:
        db.set_progress_handler(None)
    return None if found == "ok" else str(found).partition("\n")[0]
