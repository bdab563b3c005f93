"""One connection: the hosts are asked in turn until one takes writes, and it promises what we rely on."""

from __future__ import annotations

from typing import Any, Final

import asyncpg
from asyncpg.exceptions import PostgresLogMessage

from collector.config import StorageConfig
from collector.config_loader.engines import Host, hosts_of
from collector.errors import StorageError
from collector.storage.postgres import faults

_CONNECT_S: Final = 3.0
_STATEMENTS: Final = 200  # prepared once for each connection
# A commit returns when the standbys have it, whatever the server's own default; nobody holds a lock for long.
_PROMISES: Final = {
    "synchronous_commit": "on",
    "idle_in_transaction_session_timeout": "5s",
    "lock_timeout": "2s",
    "timezone": "UTC",
    "client_encoding": "UTF8",
}


class Connection(asyncpg.Connection):  # type: ignore[misc]  # its stubs say Any
    """asyncpg's, which knows where it leads and what the server has warned of since it was asked."""

    __slots__ = ("at", "warned")

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.at = ""
        self.warned: list[str] = []
        self.add_log_listener(_listen)


def _listen(connection: Connection, message: PostgresLogMessage) -> None:
    if message.severity_en == "WARNING":
        connection.warned.append(message.sqlstate or "")


async def connect(storage: StorageConfig, name: str, first: int = 0) -> tuple[Connection, int]:
    """A connection to the host that takes writes, and which one it is; the search begins with host `first`.

    `name`: whose it is, for the server's list. StorageError says of each host why not.
    """
    hosts = hosts_of(storage.dsn)
    problems: list[StorageError] = []
    for step in range(len(hosts)):
        number = (first + step) % len(hosts)
        try:
            return await _connect_to(storage, hosts[number], name), number
        except StorageError as problem:
            problems.append(problem)
    raise faults.no_host(problems)


async def _connect_to(storage: StorageConfig, host: Host, name: str) -> Connection:
    try:
        found: Connection = await asyncpg.connect(
            storage.dsn,
            host=host[0],
            port=host[1],
            timeout=_CONNECT_S,
            statement_cache_size=_STATEMENTS,
            connection_class=Connection,
            server_settings={**_PROMISES, "application_name": name},
        )
    except (*faults.REFUSALS, ValueError) as error:
        raise faults.of_connecting(error, storage, host) from error
    found.at = faults.named(host)
    try:
        writes = await found.fetchval("SELECT current_setting('transaction_read_only') = 'off'")
    except faults.REFUSALS as error:
        found.terminate()
        raise faults.of_connecting(error, storage, host) from error
    if not writes:
        found.terminate()
        raise faults.ReadOnly(f"{found.at} is read-only")
    return found
