"""How rows are named to people: public ids and store names, without opening the database for writing."""

from __future__ import annotations

from pathlib import Path

from collector.config import Config
from collector.core.ids import PublicIds
from collector.core.keyed import PEPPER_BYTES, KeyedHash
from collector.errors import StorageError
from collector.storage.reports.reader import NoStore


def public_ids(config: Config) -> PublicIds:
    """The installation's public ids; NoStore when its key is not there (no edge has started yet)."""
    return PublicIds(keyed_hash(config).subkey("public ids"))


def keyed_hash(config: Config) -> KeyedHash:
    """The installation's keyed hash, for looking up a value that is kept only as its name."""
    path = Path(config.privacy.pepper_file or Path(config.storage.data_dir) / "pepper.key")
    try:
        pepper = path.read_bytes()
    except FileNotFoundError as error:
        raise NoStore(f"no key at {path}; start the edge (collector serve) first") from error
    except OSError as error:
        raise StorageError(f"[privacy] pepper_file: cannot read {str(path)!r}: {error.strerror}") from error
    if len(pepper) != PEPPER_BYTES:
        raise StorageError(f"[privacy] pepper_file: {str(path)!r} has {len(pepper)} bytes, expected {PEPPER_BYTES}")
    return KeyedHash(pepper)
