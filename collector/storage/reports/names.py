"""How rows are named to people: public ids and store names, without opening the database for writing."""

from __future__ import annotations

from typing import Final

from collector.config import Config
from collector.core.ids import PublicIds
from collector.core.keyed import KeyedHash
from collector.errors import NoStore
from collector.storage.ground import pepper
from collector.storage.reports.questions import Reading, named

WITNESS_SQL: Final = named("witness of the key", pepper.WITNESS_SQL)


async def public_ids(reader: Reading, config: Config) -> PublicIds:
    """The installation's public ids; raises as `keyed_hash` does."""
    return PublicIds((await keyed_hash(reader, config)).subkey("public ids"))


async def keyed_hash(reader: Reading, config: Config) -> KeyedHash:
    """The installation's keyed hash, for looking up a value that is kept only as its name.

    NoStore when no edge has started yet; StorageError when the key is not the one that named the rows.
    """
    path = pepper.path_of(config.storage.data_dir, config.privacy.pepper_file)
    key, row = pepper.read(path), await reader.one(WITNESS_SQL)
    if row is not None:
        pepper.refuse_stranger(path, key, pepper.Witness(row[0], bool(row[1])))
    if key is None:
        raise NoStore(f"no key at {path}; start the edge (collector serve) first")
    return KeyedHash(key)
