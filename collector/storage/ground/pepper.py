"""Is this the key that named the database's rows? Matching, erasure and public ids stand and fall with it.

The key (pepper) lies outside the database. Lost or swapped, everything would go on without a word: no order would find
its click, no erasure a person. So the database keeps a hash by which it knows its key, and a process that finds another
one, or none, beside rows does not start. Asked by processes with apsw and by those with aiosqlite: neither is imported.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from msgspec import Struct

from collector.core.keyed import PEPPER_BYTES, KeyedHash
from collector.errors import StorageError, why

# max() instead of EXISTS: a look-up, and no walk through the table in the plan.
WITNESS_SQL: Final = """
SELECT (SELECT value FROM pepper_check WHERE id = 1),
       coalesce((SELECT max(id) FROM click), (SELECT max(id) FROM conversion), (SELECT max(store) FROM identity_link))
       IS NOT NULL"""

_LOST: Final = (
    "If it is lost for good, these rows can be matched, erased and named no more: set an empty [storage] data_dir and "
    "make new API keys; `collector courier` on the old one still delivers what waits there"
)

_SHARED: Final = (
    "All machines over one database have one key: copy it from another of them, or from the backup (mode 600). If it "
    "is lost for good, these rows can be matched, erased and named no more: begin with an empty database, and new keys"
)


class Witness(Struct, frozen=True):
    """What a database says of its key: the check value it knows, and whether any of its rows carries names."""

    check: bytes | None
    named: bool
    shared: bool = False  # by several machines, which have one key


def path_of(data_dir: str | Path, pepper_file: str) -> Path:
    """Where the key lies; `pepper_file` as in [privacy], empty for the data directory's own."""
    return Path(pepper_file) if pepper_file else Path(data_dir) / "pepper.key"


def check_value(pepper: bytes) -> bytes:
    """32 bytes by which a database knows its key, and from which nothing follows about it."""
    return KeyedHash(pepper).subkey("pepper check")


def read(path: Path) -> bytes | None:
    """The key's bytes; None where there is no such file. StorageError when it is no key, or others can read it."""
    try:
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_mode & (stat.S_IRWXG | stat.S_IRWXO) and not _is_credential(path, os.environ):
                raise StorageError(f"[privacy] pepper_file: {str(path)!r} is readable by others; run chmod 600 on it")
            pepper = file.read(PEPPER_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StorageError(f"[privacy] pepper_file: cannot read {str(path)!r}: {why(error, path)}") from error
    if len(pepper) != PEPPER_BYTES:
        size = f"{len(pepper)}" if len(pepper) < PEPPER_BYTES else f"more than {PEPPER_BYTES}"
        raise StorageError(
            f"[privacy] pepper_file: {str(path)!r} has {size} bytes and a key has {PEPPER_BYTES}; "
            f"put the key back from the backup. {_LOST}"
        )
    return pepper


def make(path: Path) -> bytes:
    """A fresh key, or the one that another process made at the same moment."""
    try:
        _make(path)
    except OSError as error:
        raise StorageError(f"[privacy] pepper_file: cannot write {str(path)!r}: {why(error, path.parent)}") from error
    made = read(path)
    if made is None:
        raise StorageError(f"[privacy] pepper_file: {str(path)!r} was made and is gone again")
    return made


def _make(path: Path) -> None:
    """Whole or not at all: a crash or a full disk leaves no half key behind, and of two processes one wins."""
    fd, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # 0600
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(secrets.token_bytes(PEPPER_BYTES))
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(name, path)
    finally:
        os.unlink(name)


def refuse_stranger(path: Path, pepper: bytes | None, witness: Witness) -> None:
    """StorageError when rows were named and `pepper` (None: there is none at `path`) is not the key that named them."""
    if not witness.named:
        return
    if pepper is None:
        mend = f"put it back from the backup (mode 600), or point pepper_file to where it is. {_LOST}"
        raise StorageError(
            f"[privacy] pepper_file: there is no {str(path)!r}, the key by which this database's rows are named; "
            f"{_SHARED if witness.shared else mend}"
        )
    if witness.check is not None and witness.check != check_value(pepper):
        mend = f"put the right one back from the same backup as the database. {_LOST}"
        raise StorageError(
            f"[privacy] pepper_file: {str(path)!r} is not the key by which this database's rows are named; "
            f"{_SHARED if witness.shared else mend}"
        )


def _is_credential(path: Path, env: Mapping[str, str]) -> bool:
    """One of systemd's, which its directory guards: its group bits are the mask of an access list."""
    folder = env.get("CREDENTIALS_DIRECTORY")
    return bool(folder) and os.path.realpath(path).startswith(os.path.realpath(folder or "") + os.sep)
