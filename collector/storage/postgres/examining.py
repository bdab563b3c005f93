"""Is it a server that we may rely on? Asked by each process at its start; what changes is asked again and again."""

from __future__ import annotations

import secrets
import time
from typing import Final

from msgspec import Struct

from collector.config import StorageConfig
from collector.config_loader.engines import database_of
from collector.errors import StorageError
from collector.storage.postgres.connecting import Connection

OLDEST: Final = 15
_WARN_MS, _REFUSE_MS = 1_000, 60_000  # by which the clocks of this machine and of the server may differ
_FACTS: Final = """
SELECT current_setting('server_version_num')::int / 10000 AS release, version() AS version,
       current_setting('server_encoding') AS encoding, pg_is_in_recovery() AS standby,
       current_setting('synchronous_standby_names') AS wanted,
       pg_has_role(current_user, 'pg_read_all_stats', 'USAGE') AS sees,
       (SELECT count(*) FROM pg_stat_replication WHERE sync_state IN ('sync', 'quorum')) AS attached,
       (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now"""


class Facts(Struct, frozen=True):
    """What a server says of itself. `ahead_ms`: its clock against this machine's; `attached`: synchronous standbys."""

    at: str
    release: int
    version: str
    encoding: str
    standbys_wanted: str
    sees_standbys: bool
    attached: int
    ahead_ms: int


async def facts(connection: Connection) -> Facts:
    """Ask it, in one round trip."""
    before = time.time_ns()
    row = await connection.fetchrow(_FACTS)
    here = (before + time.time_ns()) // 2_000_000
    return Facts(
        connection.at,
        row["release"],
        row["version"],
        row["encoding"],
        row["wanted"],
        row["sees"],
        row["attached"],
        row["now"] - here,
    )


def refuse_stranger(found: Facts, storage: StorageConfig) -> None:
    """StorageError for a server on which our promises would not hold."""
    if not found.version.startswith("PostgreSQL ") or found.release < OLDEST:
        product = found.version.partition(" (")[0].partition(" on ")[0][:80]
        raise StorageError(f"[storage] dsn: {found.at} is {product}; PostgreSQL {OLDEST} or newer is needed")
    if found.encoding != "UTF8":
        name = database_of(storage.dsn)
        mend = f"CREATE DATABASE {name} ENCODING 'UTF8' TEMPLATE template0"
        raise StorageError(f"[storage] dsn: the database's encoding is {found.encoding}; make it anew: {mend}")
    if abs(found.ahead_ms) > _REFUSE_MS:
        raise StorageError(f"{clocks_apart(found)}; set them right (NTP) and start again")


def clocks_apart(found: Facts) -> str | None:
    """A sentence where the two clocks differ by more than a second."""
    if abs(found.ahead_ms) <= _WARN_MS:
        return None
    side = "ahead of" if found.ahead_ms > 0 else "behind"
    return f"the clock of {found.at} is {abs(found.ahead_ms) / 1000:.0f} s {side} this machine's"


def no_standby(found: Facts) -> str | None:
    """A sentence where a commit would be on one disk alone, or nobody may know."""
    if not found.sees_standbys:
        return (
            f"[storage] standby: the user may not see whether a standby is attached to {found.at}: "
            'GRANT pg_read_all_stats to it, or set standby = "none"'
        )
    if found.attached and found.standbys_wanted:
        return None
    names = "empty" if not found.standbys_wanted else f"'{found.standbys_wanted}'"
    return (
        f"[storage] standby: no synchronous standby is attached to {found.at} (synchronous_standby_names is {names}); "
        'attach one, or set standby = "warn"'
    )


async def refuse_fake_locks(one: Connection, other: Connection) -> None:
    """StorageError where two sessions both get one advisory lock, or where they are one session behind a pool."""
    key = secrets.randbits(62)
    try:
        first = await one.fetchval("SELECT pg_try_advisory_lock($1)", key)
        second = await other.fetchval("SELECT pg_try_advisory_lock($1)", key)
    finally:
        await one.execute("SELECT pg_advisory_unlock_all()")
        await other.execute("SELECT pg_advisory_unlock_all()")
    if not first or second:
        raise StorageError(
            f"[storage] dsn: advisory locks have no effect at {one.at}: two sessions got one; "
            "PostgreSQL itself is needed, without a pooler between"
        )
