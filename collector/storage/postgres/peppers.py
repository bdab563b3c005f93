"""Is the key of names the one by which this database's rows are named? All machines have the same file."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from collector.config import Config
from collector.errors import StorageError, why
from collector.storage.ground import pepper
from collector.storage.postgres.connecting import Connection

_CHECK: Final = "SELECT value FROM pepper_check"
_KNOW: Final = "INSERT INTO pepper_check (value) VALUES ($1) ON CONFLICT DO NOTHING"


async def load(connection: Connection, config: Config) -> bytes:
    """The key; made where neither a file nor a row is there. StorageError where it is another one, or is gone."""
    path = pepper.path_of(Path(config.storage.data_dir), config.privacy.pepper_file)
    key = pepper.read(path)
    pepper.refuse_stranger(path, key, await _witness(connection))
    if key is None:
        key = _made(path)
    await connection.execute(_KNOW, pepper.check_value(key))
    pepper.refuse_stranger(path, key, await _witness(connection))  # another machine may have been first
    return key


def _made(path: Path) -> bytes:
    folder = path.parent
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"[privacy] pepper_file: cannot make {str(folder)!r}: {why(error, folder)}") from error
    return pepper.make(path)


async def _witness(connection: Connection) -> pepper.Witness:
    check = await connection.fetchval(_CHECK)
    return pepper.Witness(check, named=check is not None, shared=True)
