"""One connection: the hosts are asked in turn until one takes writes, and it promises what we rely on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

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


# A question of a reader changes nothing, and ends by itself. Compiling one costs more than those that are short take;
# planned once for all spans, one of 90 days took 1.5 s instead of 0.05.
_READING: Final = {"default_transaction_read_only": "on", "jit": "off", "plan_cache_mode": "force_custom_plan"}


class Way(NamedTuple):
    """Where connections lead, and what for. `setting`: of [storage], for sentences; `settings`: of the session.

    `reads`: a question that nobody waits for any more is cancelled; nothing else may be, as nobody cancels a commit.
    """

    setting: str
    dsn: str
    fit: str = "SELECT current_setting('transaction_read_only') = 'off'"  # whether a host will do; empty: any will
    settings: Mapping[str, str] = {}
    reads: bool = False


def writing(storage: StorageConfig) -> Way:
    """To the host that takes writes."""
    return Way("dsn", storage.dsn)


def reading(storage: StorageConfig, seconds: float, *, aside: bool) -> Way:
    """For questions that take so long at most. `aside`: to any host of read_dsn; else to the primary."""
    settings = {**_READING, "statement_timeout": str(round(seconds * 1000))}
    if aside:
        return Way("read_dsn", storage.read_dsn, "", settings, reads=True)
    return Way("dsn", storage.dsn, "SELECT NOT pg_is_in_recovery()", settings, reads=True)


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


async def connect(way: Way, name: str, first: int = 0) -> tuple[Connection, int]:
    """A connection to a host that is fit, and which one it is; the search begins with host `first`.

    `name`: whose it is, for the server's list. StorageError says of each host why not.
    """
    hosts = hosts_of(way.dsn)
    problems: list[StorageError] = []
    for step in range(len(hosts)):
        number = (first + step) % len(hosts)
        try:
            return await _connect_to(way, hosts[number], name), number
        except StorageError as problem:
            problems.append(problem)
    raise faults.no_host(problems, way.setting)


async def _connect_to(way: Way, host: Host, name: str) -> Connection:
    try:
        found: Connection = await asyncpg.connect(
            way.dsn,
            host=host[0],
            port=host[1],
            timeout=_CONNECT_S,
            statement_cache_size=_STATEMENTS,
            connection_class=Connection,
            server_settings={**_PROMISES, **way.settings, "application_name": name},
        )
    except (*faults.REFUSALS, ValueError) as error:
        raise faults.of_connecting(error, way.setting, way.dsn, host) from error
    found.at = faults.named(host)
    try:
        fit = not way.fit or await found.fetchval(way.fit)
    except faults.REFUSALS as error:
        found.terminate()
        raise faults.of_connecting(error, way.setting, way.dsn, host) from error
    if not fit:
        found.terminate()
        raise faults.ReadOnly(f"{found.at} is read-only")
    return found
