"""A PostgreSQL that cannot be relied on is refused with a sentence that names the setting, and never the dsn."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from msgspec import structs

from collector.config import StorageConfig
from collector.errors import SchemaTooNew, StorageError
from collector.storage.ground.schema import scripts
from collector.storage.postgres import examining, faults, migrating
from collector.storage.postgres.database import Database
from collector.storage.postgres.opening import opened
from tests.kit import postgres
from tests.kit.postgres import USER, Node
from tests.kit.program import free_port

LOCAL = "all all trust"


def storage(dsn: str, **more: Any) -> StorageConfig:
    return StorageConfig(**{"engine": "postgres", "dsn": dsn, "standby": "none", **more})


def refusal(config: StorageConfig, *, takes: bool = False) -> str:
    """What is said of a database that cannot be opened."""

    async def tried() -> None:
        database, _ = await opened(config, "test", takes=takes)
        await database.close()

    with pytest.raises(StorageError) as refused:
        asyncio.run(tried())
    assert "secret" not in str(refused.value)
    return str(refused.value)


def inside(config: StorageConfig, asked: Callable[[Database], Awaitable[Any]]) -> Any:
    """The answer of a question to an open database."""

    async def run() -> Any:
        database, _ = await opened(config, "test")
        try:
            return await asked(database)
        finally:
            await database.close()

    return asyncio.run(run())


def test_an_empty_database_gets_the_schema_once_however_many_start_together(database: postgres.Database) -> None:
    async def all_at_once() -> None:
        for one, _ in await asyncio.gather(*(opened(storage(database.dsn), f"test {n}") for n in range(4))):
            await one.close()

    asyncio.run(all_at_once())
    assert database.sql("SELECT version FROM schema_version") == str(len(scripts(migrating.FOLDER)))
    weeks = database.sql("SELECT relname FROM pg_class WHERE relname ~ '^click_[0-9]+$'").split()
    assert len(weeks) == 6  # the week before, the present one, four ahead


def test_a_newer_schema_is_refused(database: postgres.Database) -> None:
    inside(storage(database.dsn), lambda one: one.close())
    database.sql("UPDATE schema_version SET version = 999")
    with pytest.raises(SchemaTooNew, match="schema 999, this release knows"):
        inside(storage(database.dsn), lambda one: one.close())


def test_a_script_that_fails_leaves_nothing_of_the_others(
    database: postgres.Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "0001.sql").write_text("CREATE TABLE fine (a int)")
    (tmp_path / "0002.sql").write_text("CREATE TABLE broken (")
    monkeypatch.setattr(migrating, "scripts", lambda _: sorted(tmp_path.iterdir()))
    assert "42601" in refusal(storage(database.dsn))
    assert database.sql("SELECT count(*) FROM pg_class WHERE relname IN ('fine', 'schema_version')") == "0"


def test_a_wrong_database_user_port_or_host(postgres_server: Node, database: postgres.Database) -> None:
    port, free = postgres_server.port, free_port()
    at = f"127.0.0.1:{port}"
    assert refusal(storage(postgres_server.dsn("none_such"))) == (
        f'[storage] dsn: {at} has no database "none_such"; create it: CREATE DATABASE none_such OWNER {USER}'
    )
    said = refusal(storage(postgres_server.dsn(database.name, "nobody:secret")))
    assert said == f'[storage] dsn: {at} refused user "nobody": role "nobody" does not exist'
    said = refusal(storage(f"postgresql://u@127.0.0.1:{free}/d"))
    assert said == f"[storage] dsn: 127.0.0.1:{free} cannot be reached: Connection refused"
    assert refusal(storage("postgresql://u@db.invalid/d")).startswith(
        "[storage] dsn: db.invalid:5432 cannot be reached: "
    )


def test_the_next_host_is_asked(database: postgres.Database) -> None:
    dead = free_port()
    dsn = database.dsn.replace("@", f"@127.0.0.1:{dead},")
    assert inside(storage(dsn), lambda one: one.close()) is None
    both = database.dsn.replace(f":{database.node.port}/", f":{dead},127.0.0.1:{free_port()}/")
    assert refusal(storage(both)).count("cannot be reached") == 2


def test_a_wrong_password_and_a_server_without_tls(database: postgres.Database) -> None:
    node = database.node
    hba = node.data / "pg_hba.conf"
    before = hba.read_text()
    hba.write_text(f"host {database.name} {USER} 127.0.0.1/32 scram-sha-256\n{before}")
    node.reload()
    try:
        dsn = node.dsn(database.name, f"{USER}:wrong-secret")
        assert postgres._once(lambda: "password" in _tried(storage(dsn)))
        at = f"127.0.0.1:{node.port}"
        assert refusal(storage(dsn)) == f'[storage] dsn: {at} refused user "{USER}": password authentication failed'
        right = node.dsn(database.name, f"{USER}:secret")
        assert inside(storage(right), lambda one: one.close()) is None
        said = refusal(storage(f"{right}?sslmode=require"))
        assert said == f"[storage] dsn: no TLS with {at}: the server has none; see sslmode"
    finally:
        hba.write_text(before)
        node.reload()


def _tried(config: StorageConfig) -> str:
    try:
        inside(config, lambda one: one.close())
    except StorageError as error:
        return str(error)
    return ""


def test_the_plain_words_of_a_certificate_that_nobody_knows() -> None:
    error = ssl.SSLCertVerificationError(1, "x")
    error.verify_message = "self-signed certificate"
    said = str(faults.of_connecting(error, "dsn", "postgresql://u@db1/d", ("db1", 5432)))
    assert said == "[storage] dsn: no TLS with db1:5432: its certificate is not trusted: self-signed certificate"


def test_a_user_who_may_make_no_tables(postgres_server: Node) -> None:
    postgres_server.sql("CREATE DATABASE foreign_one")
    try:
        said = refusal(storage(postgres_server.dsn("foreign_one")))
        assert said == (
            f'[storage] dsn: user "{USER}" may make no tables in "foreign_one": '
            f"ALTER DATABASE foreign_one OWNER TO {USER}"
        )
    finally:
        postgres_server.sql("DROP DATABASE foreign_one WITH (FORCE)")


def test_a_database_in_another_encoding(postgres_server: Node) -> None:
    postgres_server.sql(f"CREATE DATABASE latin OWNER {USER} ENCODING 'LATIN1' TEMPLATE template0")
    try:
        assert "encoding is LATIN1" in refusal(storage(postgres_server.dsn("latin")))
    finally:
        postgres_server.sql("DROP DATABASE latin WITH (FORCE)")


def test_a_read_only_server(database: postgres.Database) -> None:
    database.sql(f"ALTER ROLE {USER} IN DATABASE {database.name} SET default_transaction_read_only = on")
    said = refusal(storage(database.dsn))
    assert said == (
        f"no host of [storage] dsn takes writes: 127.0.0.1:{database.node.port} is read-only; "
        "name the primary there, or promote one: SELECT pg_promote()"
    )


def test_a_standby_is_promoted_only_where_the_primary_is_away() -> None:
    """A primary that has no connection left is no reason to."""
    dsn, hosts = "postgresql://u@db1,db2/d", [("db1", 5432), ("db2", 5432)]
    standby = faults.ReadOnly("db2:5432 is read-only")
    away, full = (
        faults.no_host([faults.of_connecting(error, "dsn", dsn, hosts[0]), standby])
        for error in (ConnectionRefusedError(111, "x"), asyncpg.TooManyConnectionsError("x"))
    )
    assert str(away) == (
        "no host of [storage] dsn takes writes: db1:5432 cannot be reached: Connection refused; db2:5432 is read-only; "
        "where the primary is gone for good, promote another: SELECT pg_promote()"
    )
    assert str(full) == (
        "no host of [storage] dsn takes writes: 53300: db1:5432 takes no more connections; "
        "lower [storage] pool or raise max_connections; db2:5432 is read-only"
    )


def test_something_else_that_answers(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as door:
        thread = threading.Thread(target=_garbled, args=(door,), daemon=True)
        thread.start()
        port = door.getsockname()[1]
        said = refusal(storage(f"postgresql://u@127.0.0.1:{port}/d?sslmode=disable"))
    assert said == f"[storage] dsn: what answers at 127.0.0.1:{port} is no PostgreSQL"


def _garbled(door: socket.socket) -> None:
    """A login that is granted, and then a message of a length that there is none of."""
    caller, _ = door.accept()
    with caller:
        caller.recv(4096)
        caller.sendall(b"R\0\0\0\x08\0\0\0\0Z\xff\xff\xff\xff" + b"x" * 99)
        caller.recv(1)


def test_what_no_setting_of_the_server_is(database: postgres.Database) -> None:
    said = refusal(storage(f"{database.dsn}?funny=s3cret"))
    assert said == (
        f'[storage] dsn: 127.0.0.1:{database.node.port} does not take what it sets behind "?" (42704); '
        "take out what is no setting of PostgreSQL"
    )


def test_a_pooler_that_takes_no_settings() -> None:
    error = asyncpg.ProtocolViolationError("unsupported startup parameter: lock_timeout")
    said = str(faults.of_connecting(error, "dsn", "postgresql://u@db1/d", ("db1", 6432)))
    assert said == "[storage] dsn: db1:6432 speaks as a pooler does (08P01); name PostgreSQL itself"


def test_names_that_sql_would_not_read() -> None:
    error = asyncpg.InvalidCatalogNameError("x")
    said = str(faults.of_connecting(error, "dsn", "postgresql://u-1@db1/My%20%22shop%22", ("db1", 5432)))
    assert said.endswith('create it: CREATE DATABASE "My ""shop""" OWNER "u-1"')


def test_a_search_path_to_nowhere(database: postgres.Database) -> None:
    database.sql(f"ALTER ROLE {USER} IN DATABASE {database.name} SET search_path = nowhere")
    assert "search_path" in refusal(storage(database.dsn))


def test_advisory_locks_without_effect(database: postgres.Database) -> None:
    """As a server answers that has them by name alone."""
    database.sql("CREATE SCHEMA fake")
    database.sql("CREATE FUNCTION fake.pg_try_advisory_lock(bigint) RETURNS boolean LANGUAGE sql RETURN true")
    database.sql("GRANT USAGE ON SCHEMA fake TO PUBLIC")
    database.sql(f"ALTER ROLE {USER} IN DATABASE {database.name} SET search_path = fake, pg_catalog, public")
    assert "advisory locks have no effect" in refusal(storage(database.dsn))


def test_connections_used_up_at_the_start(database: postgres.Database) -> None:
    database.sql(f"ALTER DATABASE {database.name} CONNECTION LIMIT 1")
    said = refusal(storage(database.dsn))
    at = f"127.0.0.1:{database.node.port}"
    assert said == f"53300: {at} takes no more connections; lower [storage] pool or raise max_connections"


def test_no_standby_is_attached(database: postgres.Database) -> None:
    asked = storage(database.dsn, standby="required")
    at = f"127.0.0.1:{database.node.port}"
    assert refusal(asked, takes=True) == (
        f"[storage] standby: no synchronous standby is attached to {at} (synchronous_standby_names is empty); "
        'attach one, or set standby = "warn"'
    )
    assert inside(asked, lambda one: one.close()) is None  # a command reads all the same
    assert inside(storage(database.dsn, standby="warn"), lambda one: one.close()) is None


def test_a_user_who_may_not_see_standbys(postgres_server: Node, database: postgres.Database) -> None:
    postgres_server.sql(f"REVOKE pg_read_all_stats FROM {USER}")
    try:
        assert "GRANT pg_read_all_stats" in refusal(storage(database.dsn, standby="required"), takes=True)
    finally:
        postgres_server.sql(f"GRANT pg_read_all_stats TO {USER}")


FACTS = examining.Facts("db1:5432", 15, "PostgreSQL 15.3 on x", "UTF8", "s1", True, 1, 0)


@pytest.mark.parametrize(
    ("version", "release", "product"),
    [
        ("PostgreSQL 14.9 (Debian) on x86_64", 14, "PostgreSQL 14.9"),
        ("CockroachDB CCL v23.1.11 (x86_64-pc-linux-gnu)", 13, "CockroachDB CCL v23.1.11"),
    ],
)
def test_another_product_is_named(version: str, release: int, product: str) -> None:
    stranger = structs.replace(FACTS, version=version, release=release)
    with pytest.raises(StorageError) as refused:
        examining.refuse_stranger(stranger, storage("postgresql://u@db1/d"))
    assert str(refused.value) == f"[storage] dsn: db1:5432 is {product}; PostgreSQL 15 or newer is needed"


def test_clocks_apart_are_told_and_then_refused() -> None:
    config = storage("postgresql://u@db1/d")
    assert examining.clocks_apart(structs.replace(FACTS, ahead_ms=900)) is None
    assert examining.clocks_apart(structs.replace(FACTS, ahead_ms=-5_000)) == (
        "the clock of db1:5432 is 5 s behind this machine's"
    )
    examining.refuse_stranger(structs.replace(FACTS, ahead_ms=59_000), config)
    with pytest.raises(StorageError, match="61 s ahead of this machine's; set them right"):
        examining.refuse_stranger(structs.replace(FACTS, ahead_ms=61_000), config)


def test_a_server_of_now_is_not_apart_from_us(database: postgres.Database) -> None:
    async def ahead(one: Database) -> int:
        async with one.connection() as connection:
            return (await examining.facts(connection)).ahead_ms

    before = time.time()
    apart = inside(storage(database.dsn), ahead)
    assert abs(apart) <= (time.time() - before) * 1000
