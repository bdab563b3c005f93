"""How the database file is opened, checked, migrated and kept recoverable on a full disk."""

from __future__ import annotations

import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw

from collector.config import StorageConfig
from collector.errors import Damaged, SchemaTooNew, StorageError, why
from collector.storage.ground import damage, kept, losses, moved, pepper
from collector.storage.ground.schema import newest_schema, scripts
from collector.telemetry import logger

log = logger("storage")

DATABASE = "collector.db"
INDEX = "index.db"

# The WAL-reset bug corrupts a file when two connections write or checkpoint at once; fixed in 3.51.3
# (sqlite.org/wal.html).
_OLDEST_SQLITE = (3, 51, 3)
_BUSY_MS = 5_000
_JOURNAL_LIMIT = 4 * 1024 * 1024  # bytes of the log's file once it is begun anew; all behind a damaged byte is lost
_DERIVABLE_JOURNAL_LIMIT = 64 * 1024 * 1024
# A group of eight clicks changes six pages, of eight orders fifty: of 8 KiB they made the log, and how often it is
# emptied, 1.7 and 1.6 times as long, at the same time on a processor (measured). A database of before keeps its own.
_PAGE_SIZE = 4096
_DERIVABLE_PAGE_SIZE = 8192  # many rows in each step
CHECKPOINT_PAGE = 8192  # bytes: what [storage] checkpoint_pages counts
# File systems where WAL's shared memory does not work (sqlite.org/wal.html): NFS, SMB, CIFS, 9p; FUSE is allowed.
_COPY_SPARE_BYTES = 64 << 20  # that the copy before a migration leaves free
_NETWORK_FILESYSTEMS = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ncpfs"}


def check_library() -> None:
    """Refuse an SQLite with the WAL-reset bug."""
    version = tuple(int(part) for part in apsw.sqlite_lib_version().split("."))
    if version < _OLDEST_SQLITE:
        raise StorageError(
            f"apsw carries SQLite {apsw.sqlite_lib_version()}, which can corrupt a database in WAL mode; "
            "install apsw 3.51.3 or newer"
        )


def prepare_data_dir(config: StorageConfig) -> Path:
    """The data directory, made if absent, private to its owner; StorageError says what is wrong with it."""
    path = Path(config.data_dir)
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"[storage] data_dir: cannot make {str(path)!r}: {why(error, path)}") from error
    if not os.access(path, os.W_OK | os.X_OK):
        denied = PermissionError(0, "not writable")
        raise StorageError(f"[storage] data_dir: {why(denied, path)}")
    if (kind := _filesystem_of(path)) in _NETWORK_FILESYSTEMS:
        raise StorageError(f"[storage] data_dir: {str(path)!r} is on {kind}; SQLite's WAL needs a local disk")
    return path


def _filesystem_of(path: Path) -> str:
    """The type of the file system that holds `path`, from /proc/mounts; empty where that cannot be read."""
    try:
        mounts = Path("/proc/self/mounts").read_text(encoding="utf-8")
    except OSError:
        return ""
    target = str(path.resolve())
    best, kind = "", ""
    for line in mounts.splitlines():
        _, mount, fstype, *_ = line.split(" ")
        if (target == mount or target.startswith(mount.rstrip("/") + "/")) and len(mount) >= len(best):
            best, kind = mount, fstype
    return kind


def load_pepper(db: apsw.Connection, data_dir: Path, pepper_file: str) -> bytes:
    """The installation's key, made at first use; it lives outside the database, readable by its owner only.

    StorageError when rows of `db` were named by another key, or by one that is not there any more.
    """
    path = pepper.path_of(data_dir, pepper_file)
    key, witness = pepper.read(path), _witness(db)
    pepper.refuse_stranger(path, key, witness)
    if key is None:
        key = pepper.make(path)
    if witness.check != pepper.check_value(key):
        _be_known(db, path, key)
    return key


def _witness(db: apsw.Connection) -> pepper.Witness:
    check, named = db.execute(pepper.WITNESS_SQL).get
    return pepper.Witness(check, bool(named))


def _be_known(db: apsw.Connection, path: Path, key: bytes) -> None:
    """Let the database know its key, unless another process gave it another one meanwhile."""
    try:
        with immediate(db):
            pepper.refuse_stranger(path, key, _witness(db))
            db.execute("INSERT OR REPLACE INTO pepper_check VALUES (1, ?)", (pepper.check_value(key),))
    except apsw.Error as error:
        raise StorageError(f"[storage] data_dir: {DATABASE} cannot be written: {error}") from error


def connect(
    path: str | Path, config: StorageConfig, *, derivable: bool = False, readonly: bool = False
) -> apsw.Connection:
    """A connection with the house's settings; `derivable` for a database that can be rebuilt (no fsync per commit).

    Raises StorageError with a sentence for people when the file cannot be used.
    """
    check_library()
    flags = apsw.SQLITE_OPEN_READONLY if readonly else apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
    flags |= apsw.SQLITE_OPEN_URI  # the index attaches the journal as file:…?mode=ro
    try:
        db = apsw.Connection(str(path), flags=flags)
        db.set_busy_timeout(_BUSY_MS)
        kept.know(db)
        _configure(db, config, derivable=derivable, readonly=readonly)
    except (apsw.CorruptError, apsw.NotADBError) as error:
        raise damage.of_file(path, str(error)) from error
    except apsw.Error as error:
        raise StorageError(f"[storage] data_dir: SQLite cannot open {Path(path).name}: {error}") from error
    return db


def _configure(db: apsw.Connection, config: StorageConfig, *, derivable: bool, readonly: bool) -> None:
    db.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
    db.pragma("trusted_schema", 0)
    db.pragma("cell_size_check", 1)
    db.pragma("foreign_keys", 1)
    db.pragma("cache_size", -1024 * config.cache_mb)
    db.pragma("temp_store", 2)
    if readonly:
        return
    db.pragma("page_size", _DERIVABLE_PAGE_SIZE if derivable else _PAGE_SIZE)
    if db.pragma("journal_mode", "wal") != "wal":
        raise apsw.CantOpenError("WAL mode is refused by this file system")
    full = config.durability == "full" and not derivable
    db.pragma("synchronous", "FULL" if full else "NORMAL")
    db.pragma("journal_size_limit", _DERIVABLE_JOURNAL_LIMIT if derivable else _JOURNAL_LIMIT)
    db.pragma("wal_autocheckpoint", checkpoint_pages(db, config))
    # Erased rows must not linger in free pages of a file (measured: OFF left every marker in the main one, and a tenth
    # of the erased keys between the cells of the index).
    db.pragma("secure_delete", 1)


def plan_once(db: apsw.Connection) -> apsw.Connection:
    """Have statements planned without a look at what is bound to them, so that each is prepared once.

    Else SQLite prepares a statement with a bound range anew for every value (STAT4), 30 µs each (measured). Not for
    reports: a partial index serves a bound value only when that is looked at.
    """
    db.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)
    return db


def checkpoint_pages(db: apsw.Connection, config: StorageConfig) -> int:
    """Pages of this database's own size in the log before it is folded into the file."""
    return config.checkpoint_pages * CHECKPOINT_PAGE // int(db.pragma("page_size"))


@contextmanager
def immediate(db: apsw.Connection) -> Iterator[None]:
    """One write transaction, begun as such: an upgraded read transaction gets BUSY_SNAPSHOT at once (measured)."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def open_database(config: StorageConfig, *, migrations: str = "migrations", moving: bool = False) -> apsw.Connection:
    """The main database, ready at the newest schema; what it has lost is told (losses.py).

    StorageError for one whose rows are in PostgreSQL, unless this is to move them.
    """
    path = prepare_data_dir(config) / DATABASE
    db = connect(path, config)
    with damage.explaining(path):
        _copy_before_migrating(db, path, migrations)
        migrate(db, migrations)
        kept.recount_if_due(db)
        _be_somebody(db)
        if not moving:
            moved.refuse(db)
        losses.examine(db, path)
    return db


def _copy_before_migrating(db: apsw.Connection, path: Path, migrations: str) -> None:
    """An older database is copied beside itself first; StorageError where there is no room for that.

    A file of the copy's name, even an empty one, is taken for a copy: of several processes that start at once, and of a
    person who has another one.
    """
    version = db.pragma("user_version")
    copy = path.with_name(f"{path.name}.before-{newest_schema(migrations)}")
    if not 0 < version < newest_schema(migrations) or copy.exists():
        return
    needed, free = path.stat().st_size + _COPY_SPARE_BYTES, shutil.disk_usage(path.parent).free
    if free < needed:
        raise StorageError(
            f"{path} has schema {version} and is copied before it is migrated, which takes {needed >> 20} MB and "
            f"{free >> 20} are free; make room, or where you have a backup of it: touch {copy}"
        )
    part = copy.with_name(f"{copy.name}.{os.getpid()}")
    part.unlink(missing_ok=True)
    db.execute("VACUUM INTO ?", (str(part),))
    os.chmod(part, 0o600)
    os.replace(part, copy)
    log.warning("the database was copied before its migration", path=str(copy), migration=newest_schema(migrations))


def _be_somebody(db: apsw.Connection) -> None:
    """Give a database its random identity, by which index.py knows which journal an index belongs to."""
    if db.pragma("application_id") == 0:
        with immediate(db):
            if db.pragma("application_id") == 0:
                db.pragma("application_id", secrets.randbelow((1 << 31) - 1) + 1)


def is_there(path: Path) -> bool:
    """Whether there is a database; StorageError where nobody may look."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise StorageError(f"[storage] data_dir: {path}: {why(error, path)}") from None


def open_existing(config: StorageConfig, *, accepting: bool = False, moving: bool = False) -> apsw.Connection:
    """As `open_database`, for a command that makes none: in a mistyped directory it would leave an empty one.

    Damaged when something is missing that nobody has accepted, unless this is to accept it.
    """
    path = Path(config.data_dir) / DATABASE
    if not is_there(path):
        raise StorageError(f"[storage] data_dir: no database at {path}; start the edge (collector serve) first")
    db = open_database(config, moving=moving)
    try:
        losses.check(db, path)
        if not accepting:
            damage.refuse(path.parent)
    except Damaged:
        db.close()
        raise
    return db


def migrate(db: apsw.Connection, folder: str) -> None:
    """Bring `db` to the newest schema of `storage/<folder>/*.sql`, one transaction each; safe beside others."""
    files = scripts(folder)
    version = db.pragma("user_version")
    if version > len(files):
        raise SchemaTooNew(f"the database has schema {version}, this release knows {len(files)}; run the newer release")
    for number, entry in enumerate(files[version:], start=version + 1):
        _apply(db, number, entry.read_text(encoding="utf-8"))


def _apply(db: apsw.Connection, number: int, script: str) -> None:
    try:
        db.execute("BEGIN IMMEDIATE")
        if db.pragma("user_version") < number:  # another process may have been first
            db.execute(script)
            db.pragma("user_version", number)
        db.execute("COMMIT")
    except apsw.Error as error:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise StorageError(f"migration {number} failed and was undone: {error}") from error


_OPENING_BYTES = 1 << 20  # two databases' shared memory files (32 KB each), their logs and what a start writes


class Ballast:
    """A file that is given up when the disk is full: even a DELETE needs a few pages, so it makes the mend possible.

    Below the reserve (`reserve_mb`, or a sixteenth of a small disk) nothing is accepted any more.
    """

    def __init__(self, data_dir: Path, config: StorageConfig) -> None:
        self._path = data_dir / "ballast"
        self._dir = data_dir
        disk = os.statvfs(data_dir)
        self._size = min(config.reserve_mb * 1024 * 1024, disk.f_blocks * disk.f_frsize // 16)

    def free_bytes(self) -> int:
        """Bytes that this user may still write on the disk."""
        s = os.statvfs(self._dir)
        return s.f_bavail * s.f_frsize

    def low(self) -> bool:
        """Whether less than the reserve is free."""
        return self.free_bytes() < self._size

    def regained(self) -> bool:
        """Whether there is room again, with a quarter more than the reserve; takes the ballast up again."""
        missing = 0 if self._path.exists() else self._size
        if self.free_bytes() < missing + self._size * 5 // 4:
            return False
        self.keep()
        return True

    def keep(self) -> None:
        """Have the ballast on disk if there is room for it beside the reserve."""
        if self._path.exists() or self.free_bytes() < 2 * self._size:
            return
        try:
            with open(self._path, "wb") as file:
                os.posix_fallocate(file.fileno(), 0, self._size)
        except OSError:
            self.release()

    def make_room(self) -> bool:
        """Give the ballast up where a database could not even be opened; whether that was so."""
        if self.free_bytes() >= _OPENING_BYTES:
            return False
        self.release()
        return True

    def release(self) -> bool:
        """Give the ballast up; True when there was one."""
        try:
            self._path.unlink()
        except FileNotFoundError:
            return False
        return True
