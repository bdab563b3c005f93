"""A transaction of PostgreSQL is acknowledged when its standby has it, and never else."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import asyncpg
import pytest

from collector.config import StorageConfig
from collector.errors import StorageError, Unavailable
from collector.storage.postgres import faults
from collector.storage.postgres.database import Database
from tests.kit import postgres
from tests.kit.postgres import Pair, make_database

ADD = "INSERT INTO row VALUES ($1)"


def storage(dsn: str, **more: Any) -> StorageConfig:
    return StorageConfig(**{"engine": "postgres", "dsn": dsn, **more})


@pytest.fixture
def one(database: postgres.Database) -> postgres.Database:
    """A database with a table of ours in it."""
    with_table(database)
    return database


def with_table(database: postgres.Database) -> None:
    database.sql("CREATE TABLE row (id int PRIMARY KEY); ALTER TABLE row OWNER TO collector")


@pytest.fixture
def doubled(postgres_pair: Pair, request: pytest.FixtureRequest) -> Iterator[postgres.Database]:
    """The same, with a synchronous standby; which is awake at the end."""
    name = f"both_{abs(hash(request.node.name))}"
    made = make_database(postgres_pair.primary, name)
    with_table(made)
    yield made
    postgres_pair.standby.resume()
    postgres_pair.primary.sql(f"DROP DATABASE {name} WITH (FORCE)")


async def added(database: Database, number: int) -> None:
    async with database.transaction() as connection:
        await connection.execute(ADD, number)


def ids(database: postgres.Database) -> str:
    return database.sql("SELECT string_agg(id::text, ',' ORDER BY id) FROM row")


async def test_a_transaction_is_whole_or_not_there(one: postgres.Database) -> None:
    database = Database(storage(one.dsn), "test")
    await added(database, 1)

    async def work(connection: Any) -> None:
        await connection.execute(ADD, 2)
        await connection.execute(ADD, 1)

    with pytest.raises(asyncpg.UniqueViolationError):
        await database.attempt(work)
    await added(database, 3)
    assert ids(one) == "1,3"
    await database.close()


async def test_what_was_promised_of_each_connection(one: postgres.Database) -> None:
    database = Database(storage(one.dsn), "a test's")
    async with database.connection() as connection:
        asked = "SELECT current_setting(unnest($1::text[]))"
        names = ["synchronous_commit", "idle_in_transaction_session_timeout", "lock_timeout", "application_name"]
        found = [row[0] for row in await connection.fetch(asked, names)]
    assert found == ["on", "5s", "2s", "a test's"]
    await database.close()


async def test_no_more_connections_than_the_pool_has(one: postgres.Database) -> None:
    database = Database(storage(one.dsn, pool=2), "few")
    most = 0

    async def ask() -> None:
        nonlocal most
        async with database.connection() as connection:
            counted = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'few'"
            most = max(most, await connection.fetchval(counted))

    await asyncio.gather(*(ask() for _ in range(12)))
    assert 1 <= most <= 2
    await database.close()


async def test_a_serialization_failure_is_tried_again_three_times(one: postgres.Database) -> None:
    database, tries = Database(storage(one.dsn), "test"), 0

    async def work(connection: Any) -> int:
        nonlocal tries
        tries += 1
        await connection.execute(ADD, tries)
        if tries < enough:
            await connection.execute("DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '40001'; END $$")
        return tries

    enough = 4
    assert await database.attempt(work) == 4
    enough = 100
    with pytest.raises(Unavailable, match="40001"):
        await database.attempt(work)
    assert tries == 8
    assert ids(one) == "4"
    await database.close()


async def test_an_answer_that_is_cut_off_in_the_middle_is_a_lost_connection(one: postgres.Database) -> None:
    """The server was killed while it answered: asyncpg calls that its own fault, and the courier ended of it."""
    database = Database(storage(one.dsn), "test")
    with pytest.raises(Unavailable, match="was lost"):
        async with database.transaction():
            raise asyncpg.InternalClientError("cannot switch to state 15; another operation (2) is in progress")
    await added(database, 1)
    assert ids(one) == "1"
    await database.close()


async def test_a_lock_that_others_hold_is_not_waited_for_without_end(one: postgres.Database) -> None:
    database, other = Database(storage(one.dsn, group_timeout_seconds=60), "test"), await asyncpg.connect(one.dsn)
    await added(database, 1)
    await other.execute("BEGIN; UPDATE row SET id = 2 WHERE id = 1")

    async def work(connection: Any) -> None:
        await connection.execute("UPDATE row SET id = 3 WHERE id = 1")

    with pytest.raises(Unavailable, match="55P03"), faults.as_storage_errors():
        await database.attempt(work)
    await other.close()
    assert ids(one) == "1"
    await database.close()


async def test_a_server_that_ends_is_a_failure_and_the_next_transaction_goes_to_the_new_one(
    one: postgres.Database,
) -> None:
    database = Database(storage(one.dsn), "killed")
    await added(database, 1)

    async def work(connection: Any) -> None:
        await connection.execute(ADD, 2)
        one.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'killed'")
        await connection.execute(ADD, 3)

    with pytest.raises(Unavailable, match="was lost, or gave no answer in time"):
        await database.attempt(work)
    await added(database, 4)
    assert ids(one) == "1,4"
    await database.close()


async def test_a_commit_that_no_standby_confirms_is_cut_and_not_acknowledged(
    postgres_pair: Pair, doubled: postgres.Database
) -> None:
    """It is on one disk: whoever repeats it is recognised."""
    patient = Database(storage(doubled.dsn, group_timeout_seconds=60), "test")
    database = Database(storage(doubled.dsn, group_timeout_seconds=1), "test")
    await added(patient, 1)
    postgres_pair.standby.pause()
    with pytest.raises(Unavailable, match="gave no answer in time"):
        await added(database, 2)
    postgres_pair.standby.resume()
    with pytest.raises(asyncpg.UniqueViolationError):
        await until_it_is_taken(patient, 2)
    await database.close()
    await patient.close()


async def cancelled(postgres_pair: Pair, doubled: postgres.Database) -> None:
    """A commit whose wait for the standby somebody cancels at the server."""
    database = Database(storage(doubled.dsn, group_timeout_seconds=60), "test")
    waiting = "FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
    await added(database, 1)
    postgres_pair.standby.pause()
    commit = asyncio.create_task(added(database, 2))
    cancel = f"SELECT count(pg_cancel_backend(pid)) {waiting}"
    while not commit.done():
        await asyncio.to_thread(doubled.sql, cancel)
    await database.close()
    await commit


async def test_a_commit_whose_wait_is_cancelled_is_not_acknowledged(
    postgres_pair: Pair, doubled: postgres.Database
) -> None:
    with pytest.raises(Unavailable, match="warned of a commit"):
        await cancelled(postgres_pair, doubled)


async def test_control_without_a_look_at_warnings_it_would_be_acknowledged(
    postgres_pair: Pair, doubled: postgres.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Database, "_refuse_a_warning", staticmethod(lambda _: None))
    await cancelled(postgres_pair, doubled)


@pytest.mark.slow
async def test_the_primary_is_killed_and_its_standby_takes_over_without_a_restart_of_ours() -> None:
    with postgres.pair() as both:
        made = make_database(both.primary, "shop")
        with_table(made)
        database = Database(storage(both.dsn("shop"), group_timeout_seconds=60), "test")
        await added(database, 1)
        both.primary.kill()
        with pytest.raises(Unavailable):
            await added(database, 2)
        both.standby.promote()
        await until_it_is_taken(database, 3)
        assert both.standby.sql("SELECT string_agg(id::text, ',' ORDER BY id) FROM row", "shop") == "1,3"
        await database.close()


async def until_it_is_taken(database: Database, number: int) -> None:
    """As a tag does: sent again until it is answered."""
    for _ in range(600):
        try:
            return await added(database, number)
        except (StorageError, asyncpg.LockNotAvailableError):
            await asyncio.sleep(0.1)
    raise AssertionError("no host takes it")
