"""What PostgreSQL, or the way to it, refuses: a sentence for people that says where and what to do, and no secret.

A server's own words are told only where they cannot hold a row's values: of everything else, its code.
"""

from __future__ import annotations

import os
import re
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import asyncpg
from asyncpg import exceptions as pg
from asyncpg.pgproto import pgproto

from collector.config_loader.engines import Host, database_of, user_of
from collector.errors import StorageError, Unavailable

STRANGE: Final = (pgproto.BufferError, pg.InternalClientError)  # none of its answers, or half of one
REFUSALS: Final = (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, *STRANGE)  # OSError: timeouts and TLS too
LOST: Final = (
    *(pg.PostgresConnectionError, pg.AdminShutdownError, pg.CrashShutdownError, pg.InterfaceError, OSError),
    *STRANGE,
)
# Classes of SQLSTATE: connection, rolled back, no resources, not in that state, an operator, the system.
_PASSING: Final = ("08", "40", "53", "55", "57", "58")
AGAIN: Final = (pg.SerializationError, pg.DeadlockDetectedError)  # the same transaction may succeed at once


class ReadOnly(Unavailable):
    """The server takes no writes: a standby, or one that was set so."""


class Away(Unavailable):
    """Nobody answers there."""


def named(host: Host) -> str:
    """`db1:5432`."""
    name, port = host
    return f"[{name}]:{port}" if ":" in name else f"{name}:{port}"


def in_sql(name: str) -> str:
    """`shop`, `"My shop"`: as it is written in a statement."""
    if re.fullmatch(r"[a-z_][a-z0-9_]*", name):
        return name
    return '"' + name.replace('"', '""') + '"'


def of_connecting(error: Exception, setting: str, dsn: str, host: Host) -> StorageError:
    """Why a host of this setting cannot be used."""
    at, user, database = named(host), user_of(dsn), database_of(dsn)
    match error:
        case pg.InvalidAuthorizationSpecificationError():
            why = (error.message or "").partition(" for user ")[0]
            return StorageError(f'[storage] {setting}: {at} refused user "{user}": {why}')
        case pg.InvalidCatalogNameError():
            mend = f"CREATE DATABASE {in_sql(database)} OWNER {in_sql(user)}"
            return StorageError(f'[storage] {setting}: {at} has no database "{database}"; create it: {mend}')
        case pg.UndefinedObjectError() | pg.InvalidParameterValueError() | pg.CantChangeRuntimeParamError():
            why = f'{at} does not take what it sets behind "?" ({error.sqlstate})'
            return StorageError(f"[storage] {setting}: {why}; take out what is no setting of PostgreSQL")
        case pg.ProtocolViolationError():
            return StorageError(f"[storage] {setting}: {at} speaks as a pooler does (08P01); name PostgreSQL itself")
        case ssl.SSLError():
            return StorageError(f"[storage] {setting}: no TLS with {at}: {_plain(error)}")
        case ConnectionError() if "SSL" in str(error):
            return StorageError(f"[storage] {setting}: no TLS with {at}: the server has none; see sslmode")
        case pgproto.BufferError() | pg.InternalClientError():
            return StorageError(f"[storage] {setting}: what answers at {at} is no PostgreSQL")
        case pg.ClientConfigurationError() | ValueError():
            return StorageError(f"[storage] {setting}: it cannot be understood, or names a file that cannot be read")
        case FileNotFoundError() if not host[0].startswith("/"):
            files = "sslrootcert, sslcert, sslkey"
            return StorageError(f"[storage] {setting}: it names a file that is not there; see {files}")
        case TimeoutError():
            return Away(f"[storage] {setting}: {at} does not answer")
        case OSError():
            return Away(f"[storage] {setting}: {at} cannot be reached: {_plain(error)}")
    return explained(error, at)


def explained(error: Exception, at: str = "the server") -> StorageError:
    """Why a question was not answered; `at`: of whom it was asked. Unavailable: it passes by itself."""
    match error:
        case pg.TooManyConnectionsError():
            return Unavailable(f"53300: {at} takes no more connections; lower [storage] pool or raise max_connections")
        case pg.DiskFullError():
            return Unavailable(f"53100: the disk of {at} is full")
        case pg.ReadOnlySQLTransactionError():
            return ReadOnly("no host of [storage] dsn takes writes")
        case pg.CannotConnectNowError():
            return Unavailable(f"{at} takes no connections now: it starts, stops or recovers")
        case pg.LockNotAvailableError():
            return Unavailable("55P03: a row or table stayed locked by others")
        case pg.InvalidSchemaNameError():
            return StorageError(f"3F000: the search_path at {at} names no schema that is there; set it to public")
        case pg.InsufficientPrivilegeError():
            return StorageError(f"[storage] dsn: 42501: {at} refuses the user a right; let it own its database")
        case pg.PostgresError() if (error.sqlstate or "")[:2] in _PASSING:
            return Unavailable(f"{at} refused a statement for now: {error.sqlstate} {type(error).__name__}")
        case pg.PostgresError():
            return StorageError(f"{at} refused a statement: {error.sqlstate} {type(error).__name__}")
        case pg.InterfaceError() | pg.InternalClientError() | pgproto.BufferError() | OSError():
            return Unavailable(f"the connection to {at} was lost")
    return StorageError(f"{at} could not be asked: {type(error).__name__}")


def no_host(problems: list[StorageError], setting: str = "dsn") -> StorageError:
    """Why none of the hosts can be used."""
    named_once = f"[storage] {setting}: "
    others = "; ".join(str(problem).removeprefix(named_once) for problem in problems)
    if any(isinstance(problem, ReadOnly) for problem in problems):
        return ReadOnly(f"no host of [storage] {setting} takes writes: {others}{_mend(problems)}")
    if len(problems) == 1:
        return problems[0]
    said = named_once + others
    return Unavailable(said) if any(isinstance(one, Unavailable) for one in problems) else StorageError(said)


def _mend(problems: list[StorageError]) -> str:
    """Standbys alone, or standbys beside who is away; what else a host says has its own mend."""
    if all(isinstance(problem, ReadOnly) for problem in problems):
        return "; name the primary there, or promote one: SELECT pg_promote()"
    if all(isinstance(problem, ReadOnly | Away) for problem in problems):
        return "; where the primary is gone for good, promote another: SELECT pg_promote()"
    return ""


@contextmanager
def as_storage_errors(at: str = "the server") -> Iterator[None]:
    """At the room's doors: what the driver raises becomes a StorageError."""
    try:
        yield
    except REFUSALS as error:
        raise explained(error, at) from error


def _plain(error: OSError) -> str:
    """The system's words, without numbers and places in its source."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message}"
    if isinstance(error, ssl.SSLError | socket.gaierror) or not error.errno:
        return (error.strerror or type(error).__name__).partition(" (_ssl.c")[0]
    return os.strerror(error.errno)  # asyncio has words of its own
