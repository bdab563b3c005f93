"""What was acknowledged, noted outside the write-ahead log, so that what the log loses is noticed.

SQLite ends the log at the first frame whose checksum is wrong, and says nothing: one flipped bit took 17,000 of 25,000
acknowledged clicks with it, integrity "ok" (measured). So whoever commits notes afterwards, in a small file beside the
database, the highest row ids and how far the log reached (its salts, its pages): one pwrite of a microsecond, no fsync.

What that can notice: after the end of the process by whatever means, each missing row and each missing page of the log.
After a power cut as much as the file system had written of the note by then: it is synced with every checkpoint and
every few seconds, and what is older than a checkpoint is in the database file itself. What it cannot notice: that a log
was taken away whole (deleted, or its header damaged) which held changes of older rows and no new row.
"""

from __future__ import annotations

import contextlib
import os
import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from collector import telemetry
from collector.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Callable

    import apsw

NAME: Final = "acknowledged"
WAL: Final = "collector.db-wal"
EDGE, COURIER = 0, 1  # who notes: each has a record of its own

_RECORD: Final = struct.Struct("<qqQIIi")  # click, conversion, salts, pages, alive, checksum
_SLOT: Final = 64  # bytes from one record to the next; within one sector, so that a record is written whole
_SALTS: Final = struct.Struct("<Q")
_SALTS_AT: Final = 16  # in the log's header (sqlite.org/fileformat2.html#walformat)

log = telemetry.logger("storage")


class Noted(NamedTuple):
    """A record: the highest row ids on disk, and that the log with these salts had so many pages."""

    click: int = 0
    conversion: int = 0
    salts: int = 0
    pages: int = 0
    alive: bool = False  # whoever noted this has not ended in order

    def rows(self) -> tuple[tuple[str, int], ...]:
        """Tables with the highest row id that each must have."""
        return ("click", self.click), ("conversion", self.conversion)


def read(data_dir: Path) -> list[Noted]:
    """The records of edge and courier; an absent, foreign or half written one says nothing."""
    try:
        raw = (data_dir / NAME).read_bytes()
    except OSError:
        return [Noted(), Noted()]
    return [_decode(raw[at : at + _RECORD.size]) for at in (EDGE * _SLOT, COURIER * _SLOT)]


def _decode(raw: bytes) -> Noted:
    if len(raw) != _RECORD.size:
        return Noted()
    click, conversion, salts, pages, alive, checksum = _RECORD.unpack(raw)
    if checksum != _checksum(raw[:-4]):
        return Noted()
    return Noted(click, conversion, salts, pages, bool(alive))


def _checksum(raw: bytes) -> int:
    return zlib.crc32(raw) - (1 << 31)  # of zeros it is not zero, so an empty slot is no record


def salts_of(wal: Path) -> int:
    """The salts in the log's header, as one number; 0 without a header. SQLite holds no lock on this file."""
    try:
        with open(wal, "rb") as file:
            return _salts(file.fileno())
    except OSError:
        return 0


def _salts(fd: int) -> int:
    """0 also where it cannot be read: it is asked after a COMMIT, which stands whatever becomes of the note."""
    try:
        raw = os.pread(fd, _SALTS.size, _SALTS_AT)
    except OSError:
        return 0
    return int(_SALTS.unpack(raw)[0]) if len(raw) == _SALTS.size else 0


class Ledger:
    """The record of this process; used by the thread that commits."""

    def __init__(self, data_dir: Path, slot: int) -> None:
        """For a database that is open in WAL mode; StorageError where the note cannot be opened."""
        try:
            self._fd = os.open(data_dir / NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self._wal = os.open(data_dir / WAL, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise StorageError(f"[storage] data_dir: cannot open {error.filename}: {error.strerror}") from error
        self._at = slot * _SLOT
        self._silent = False
        self._reached = (0, 0)  # salts and pages
        before = read(data_dir)[slot]
        self.crashed = before.alive  # whoever noted last has not ended in order
        self.noted = before._replace(alive=True, salts=0, pages=0)

    def attach(self, db: apsw.Connection, after: Callable[[int], None] = lambda pages: None) -> None:
        """Know how far the log reaches after each commit of this connection, which then checkpoints no more by itself.

        `after` is called with the log's pages. While a transaction holds the write lock nobody begins the log anew, so
        the number of pages belongs to the salts when these are the same before the commit and after it; else nothing
        is known of it until the next one.
        """
        before = 0

        def committing() -> bool:
            nonlocal before
            before = _salts(self._wal)
            return False

        def committed(db: apsw.Connection, name: str, pages: int) -> int:
            salts = _salts(self._wal)
            self._reached = (salts, pages) if salts == before else (0, 0)
            after(pages)
            return 0

        db.set_commit_hook(committing)
        db.set_wal_hook(committed)

    def note(self, click: int, conversion: int) -> None:
        """These ids are on disk, and with them the log as far as it reached; called after the COMMIT, never before."""
        self.noted = Noted(click, conversion, *self._reached, True)
        self._write()

    def _write(self) -> None:
        raw = _RECORD.pack(*self.noted, 0)[:-4]
        try:
            os.pwrite(self._fd, raw + struct.pack("<i", _checksum(raw)), self._at)
        except OSError as error:  # a full disk: the rows are stored, only a later loss of them would go unnoticed
            if not self._silent:
                log.failed("what was acknowledged could not be noted", error)
            self._silent = True

    def sync(self) -> None:
        """Have the note outlive a power cut."""
        with contextlib.suppress(OSError):
            os.fdatasync(self._fd)

    def close(self) -> None:
        """The process ends in order."""
        self.noted = self.noted._replace(alive=False)
        self._write()
        self.sync()
        os.close(self._fd)
        os.close(self._wal)
