"""One file that holds the whole installation: made beside a running collector, verified, put back into an empty place.

    a snapshot (VACUUM INTO) ─▶ integrity_check, counts ─▶ collector.db, pepper.key, manifest.json in a .tar ─▶ its name

Nothing has its final name before it is whole and on disk. After a restore every event that waited is in doubt: the
installation may have sent it after the backup. So it is sent again, with the same id, while Meta would see that it is
the same, and not later (core/retry.py). And row numbers go on beyond any that may have been given meanwhile, since
ids that shops and Meta know are made of them.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from hashlib import file_digest
from io import BytesIO
from pathlib import Path
from typing import Final

import apsw
import msgspec
from msgspec import Struct

import collector
from collector.config import Config, StorageConfig
from collector.errors import CollectorError, StorageError, why
from collector.storage.ground import copies, damage, losses, pepper
from collector.storage.ground.damage import Missing
from collector.storage.ground.database import DATABASE, connect, immediate, prepare_data_dir
from collector.storage.ground.schema import newest_schema

PEPPER: Final = "pepper.key"
MANIFEST: Final = "manifest.json"
TABLES: Final = ("click", "conversion", "outbox", "identity_link", "api_key")
_GROWING: Final = ("click", "conversion", "outbox")
_PARTS: Final = frozenset({DATABASE, PEPPER, MANIFEST})
_DAY_MS: Final = 86_400_000
_MOST_MANIFEST: Final = 1 << 20  # bytes
_SPARE: Final = 16 << 20  # bytes that a copy leaves free on its disk
_IN_DOUBT: Final = """
UPDATE outbox SET doubts = doubts + 1, doubt_at = coalesce(doubt_at, ?)
 WHERE settled IS NULL"""


class Manifest(Struct, frozen=True, kw_only=True):
    """What a backup says of itself."""

    version: str  # of the program
    schema: int
    at: int  # ms, before the snapshot: what is sent later may be unknown to it
    database_bytes: int
    database_sha256: str
    rows: dict[str, int]


class Restored(Struct, frozen=True, kw_only=True):
    """What a restore has put back."""

    manifest: Manifest
    doubtful: int  # events that waited, and that Meta may have by now


def backup(config: Config, to: Path, now: int) -> tuple[Path, Manifest]:
    """Write a backup to `to`, in a folder under a name of its time (ms); on disk and verified when this returns.

    StorageError when the store cannot be read or the copy not be written; an existing file is never overwritten.
    """
    path = to / copies.name_of(now) if to.is_dir() else to
    if path.exists():
        raise StorageError(f"{path} is there already and is not overwritten; name another file")
    source = Path(config.storage.data_dir) / DATABASE
    damage.refuse(source.parent)
    key = pepper.read(pepper.path_of(config.storage.data_dir, config.privacy.pepper_file))
    if key is None:
        raise StorageError(f"there is no pepper.key beside {source}: no collector has started here yet")
    with _writing(path.parent) as folder:
        manifest = _snapshot(source, folder / DATABASE, config.storage, now)
        _pack(folder, key, manifest, path)
    return path, manifest


@contextlib.contextmanager
def _writing(parent: Path) -> Iterator[Path]:
    """A folder beside the final file, gone afterwards."""
    try:
        with tempfile.TemporaryDirectory(prefix=".collector-", dir=parent) as folder:
            yield Path(folder)
    except OSError as error:
        raise StorageError(f"cannot write in {parent}: {why(error, parent)}") from error


def snapshot(source: Path, target: Path, storage: StorageConfig) -> dict[str, int]:
    """Copy a database as it stands at one moment, on disk and verified; the copy's rows by table."""
    _refuse_too_little_room(source, target.parent, 1)
    with contextlib.closing(connect(source, storage, readonly=True)) as db:
        least = {table: _newest(db, table) for table in _GROWING if _has(db, table)}
        db.execute("VACUUM INTO ?", (str(target),))
    _sync(target)
    rows = verified(target, storage)
    with contextlib.closing(_frozen(target)) as copy:
        if lost := [table for table, number in least.items() if _newest(copy, table) < number]:
            raise StorageError(f"the copy of {source} lacks rows of {', '.join(lost)}; nothing was kept")
    return rows


def _snapshot(source: Path, target: Path, storage: StorageConfig, now: int) -> Manifest:
    if not source.is_file():
        raise StorageError(f"[storage] data_dir: no database at {source}; start the edge (collector serve) first")
    _refuse_too_little_room(source, target.parent, 2)
    rows = snapshot(source, target, storage)
    with contextlib.closing(_frozen(target)) as copy:
        schema = int(copy.pragma("user_version"))
    return Manifest(
        version=collector.__version__,
        schema=schema,
        at=now,
        database_bytes=target.stat().st_size,
        database_sha256=_digest(target),
        rows=rows,
    )


def _refuse_too_little_room(source: Path, folder: Path, times: int) -> None:
    needed, free = source.stat().st_size * times + _SPARE, shutil.disk_usage(folder).free
    if free < needed:
        raise StorageError(f"{folder} has {free >> 20} MB free, and a copy takes {needed >> 20} MB; make room")


def verified(path: Path, storage: StorageConfig) -> dict[str, int]:
    """The copy's rows by table; Damaged where SQLite finds a fault in it."""
    with damage.explaining(path), contextlib.closing(_frozen(path)) as db:
        found = db.execute("PRAGMA integrity_check(1)").get
        if found != "ok":
            raise damage.of_file(path, str(found).partition("\n")[0])
        return {table: int(db.execute(f"SELECT count(*) FROM {table}").get) for table in TABLES if _has(db, table)}


def _frozen(path: Path) -> apsw.Connection:
    """A file that nobody writes: no log is made beside it."""
    flags = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
    return apsw.Connection(path.absolute().as_uri() + "?immutable=1", flags=flags)


def _has(db: apsw.Connection, table: str) -> bool:
    return db.execute("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?", (table,)).get is not None


def _newest(db: apsw.Connection, table: str) -> int:
    return int(db.execute(f"SELECT coalesce(max(id), 0) FROM {table}").get)


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return file_digest(file, "sha256").hexdigest()


def _pack(folder: Path, key: bytes, manifest: Manifest, path: Path) -> None:
    partial = folder / "backup.tar"
    with open(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
        with tarfile.open(fileobj=file, mode="w") as tar:
            _add(tar, MANIFEST, msgspec.json.encode(manifest))
            _add(tar, PEPPER, key)
            tar.add(folder / DATABASE, DATABASE, filter=_private)
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(partial, path)  # fails where somebody was there first, as a rename would not
    except FileExistsError:
        raise StorageError(f"{path} is there already and is not overwritten; name another file") from None
    _sync(path.parent)


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(_private(info), BytesIO(data))


def _private(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.mode, info.uid, info.gid, info.uname, info.gname = 0o600, 0, 0, "", ""
    return info


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def prove(config: Config, file: Path) -> Manifest:
    """Unpack a backup beside itself and look at all of it, as a restore would; CollectorError says what is wrong."""
    with _writing(file.parent) as work:
        manifest = _unpack(file, work)
        _check(work, manifest, config)
    return manifest


# -- and back


def restore(config: Config, file: Path, now: int) -> Restored:
    """Put a backup into the data directory, which must be empty and unused: the caller holds its lock.

    All is verified before anything has its name; the database gets its own last, so that a restore that is cut off
    leaves no half installation, and can be tried again.
    """
    folder = prepare_data_dir(config.storage)
    key_path = pepper.path_of(folder, config.privacy.pepper_file)
    _refuse_what_is_there(folder, key_path)
    work = Path(tempfile.mkdtemp(prefix=".restore-", dir=folder))
    try:
        manifest = _unpack(file, work)
        _check(work, manifest, config)
        doubtful = _make_safe(work / DATABASE, manifest, config.storage, now)
        os.chmod(work / PEPPER, 0o600)
        shutil.move(work / PEPPER, key_path)
        _sync(key_path.parent)
        os.rename(work / DATABASE, folder / DATABASE)
        _sync(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return Restored(manifest=manifest, doubtful=doubtful)


_OURS: Final = ("lock", "keeper.lock", "courier.lock", "keeper.sock", "audit.log", "audit.log.1")


def _refuse_what_is_there(folder: Path, key: Path) -> None:
    for left in folder.glob(".restore-*"):  # of a restore that was cut off
        shutil.rmtree(left, ignore_errors=True)
    there = sorted(path.name for path in folder.iterdir() if path.name not in _OURS)
    if there == [PEPPER] and not (folder / DATABASE).exists():
        key.unlink(missing_ok=True)  # likewise: the key comes first
        return
    if there:
        raise StorageError(f"{folder} is not empty (it has {there[0]}); name another --data-dir, or move it away")
    if key.exists():
        raise StorageError(f"[privacy] pepper_file: {key} is there already and is not overwritten; move it away")


def _unpack(file: Path, work: Path) -> Manifest:
    """The three parts, and nothing else that an archive may hold, wherever it says that it would go."""
    try:
        _refuse_too_little_room(file, work, 2)
        with tarfile.open(file, "r:") as tar:
            for info in tar:
                if info.name not in _PARTS or not info.isfile():
                    raise CollectorError(f"{file} is no backup of a collector: it has {info.name!r}")
                if (part := tar.extractfile(info)) is not None:
                    with open(work / info.name, "xb") as out:
                        shutil.copyfileobj(part, out, 1 << 20)
                        out.flush()
                        os.fsync(out.fileno())
        if (work / MANIFEST).stat().st_size > _MOST_MANIFEST:
            raise CollectorError(f"{file} is no backup of a collector")
        return msgspec.json.decode((work / MANIFEST).read_bytes(), type=Manifest)
    except (tarfile.TarError, msgspec.DecodeError, EOFError) as error:
        raise CollectorError(f"{file} is no backup of a collector, or is damaged ({type(error).__name__})") from error
    except OSError as error:
        raise CollectorError(f"cannot read {file}: {why(error, file)}") from error


def _check(work: Path, manifest: Manifest, config: Config) -> None:
    path = work / DATABASE
    if not path.is_file() or not (work / PEPPER).is_file() or _digest(path) != manifest.database_sha256:
        raise CollectorError("the backup is damaged: its database is not the one that was backed up; take another one")
    if manifest.schema > newest_schema():
        raise StorageError(f"the backup is of release {manifest.version}; restore it with that one or a newer one")
    if verified(path, config.storage) != manifest.rows:
        raise CollectorError("the backup is damaged: its counts are not those of its manifest; take another one")


def _make_safe(path: Path, manifest: Manifest, storage: StorageConfig, now: int) -> int:
    """Doubt for all that waits, and row numbers beyond any given after the backup; how many events are in doubt."""
    with contextlib.closing(connect(path, storage)) as db:
        with immediate(db):
            db.execute(_IN_DOUBT, (manifest.at,))
            doubtful = int(db.changes())
        for table in ("click", "conversion"):
            newest = _newest(db, table)
            losses.stand_in(db, Missing(table, newest, newest + _given_since(db, table, newest, manifest.at, now)))
        db.pragma("journal_mode", "delete")  # all in the one file, which is about to move
    _sync(path)
    return doubtful


def _given_since(db: apsw.Connection, table: str, newest: int, at: int, now: int) -> int:
    """A safe guess at the row numbers given since `at`: four times the last day's, for each day that has begun."""
    last = db.execute(f"SELECT received FROM {table} WHERE id = ?", (newest,)).get or at
    low, high = 0, newest
    while low < high:  # rows come in order of receipt
        middle = (low + high) // 2
        row = db.execute(f"SELECT received FROM {table} WHERE id >= ? ORDER BY id LIMIT 1", (middle,)).get
        low, high = (middle + 1, high) if row is not None and row < last - _DAY_MS else (low, middle)
    days = max(0, now - at) // _DAY_MS + 1
    return 10_000 + 4 * (newest - low + 1) * days
