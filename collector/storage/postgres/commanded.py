"""A command's one question: the database opened, asked in a transaction, closed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from collector.config import StorageConfig
from collector.storage.postgres.connecting import Connection
from collector.storage.postgres.faults import as_storage_errors
from collector.storage.postgres.opening import opened

T = TypeVar("T")


def asked(storage: StorageConfig, question: Callable[[Connection], Awaitable[T]], *, changes: bool = False) -> T:
    """The answer; StorageError says why there is none.

    `changes`: it writes, so it is not asked where no standby would have it: a commit that nobody confirms may be done.
    """

    async def run() -> T:
        database, _ = await opened(storage, "collector command", takes=changes)
        try:
            return await database.attempt(question)
        finally:
            await database.close()

    with as_storage_errors():
        return asyncio.run(run())
