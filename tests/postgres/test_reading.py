"""Where the console reads: in time, changing nothing, at a standby; while that one is gone, at the primary."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from msgspec import structs

from collector.config import StorageConfig
from collector.errors import StorageError, TooSlow
from collector.storage.postgres import reading
from collector.storage.postgres.reading import PostgresReader, of_console
from collector.storage.postgres.told import SQL
from collector.storage.reports.questions import named
from tests.kit.harness import eventually
from tests.kit.postgres import Database, Node, Pair, make_database

OURS = "pg_stat_activity WHERE application_name = 'collector console' AND datname = current_database()"
WHERE = named("where", "")
# Long at a standby alone, over rows that are there when it begins.
LONG = named("long", "")
SLOW = named("slow", "")
WORDS = {
    "where": "SELECT pg_is_in_recovery(), current_setting('transaction_read_only')",
    "long": "SELECT pg_is_in_recovery(), (SELECT count(*) FROM row),"
    " CASE WHEN pg_is_in_recovery() THEN pg_sleep(90)::text END",
    "slow": "SELECT pg_sleep(90)::text",
}


@pytest.fixture(autouse=True)
def words(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, sql in WORDS.items():
        monkeypatch.setitem(SQL, name, sql)
    monkeypatch.setattr(reading, "_AWAY_S", 0.0)  # it is looked for at once


def storage(dsn: str, read_dsn: str = "", **more: Any) -> StorageConfig:
    return StorageConfig(engine="postgres", dsn=dsn, read_dsn=read_dsn, standby="none", **more)


@asynccontextmanager
async def reader(config: StorageConfig, seconds: float = 60.0) -> AsyncIterator[PostgresReader]:
    """A console's first."""
    pages, counting = of_console(config, seconds, seconds)
    try:
        yield pages
    finally:
        await pages.close()
        await counting.close()


async def test_a_console_changes_nothing_and_asks_only_what_it_has_words_for(database: Database) -> None:
    async with reader(storage(database.dsn)) as one:
        assert await one.rows(WHERE) == [(False, "on")]
        with pytest.raises(KeyError):
            await one.rows("SELECT 1")
        with pytest.raises(StorageError, match="no schema yet"):
            await one.rows(named("stores", ""))


@pytest.mark.slow
async def test_a_slow_question_is_given_up_and_its_connection_is_kept(database: Database) -> None:
    async with reader(storage(database.dsn), 2.5) as one:
        await one.rows(WHERE)
        with pytest.raises(TooSlow, match=r"the question took longer than 2\.5 s and was given up"):
            await one.rows(SLOW)
        assert await one.rows(WHERE) == [(False, "on")]
        seen = f"SELECT count(*) FROM {OURS}"
        assert database.sql(f"{seen} AND state <> 'idle'") == "0"
        assert database.sql(seen) == "1"


async def test_a_console_uses_no_more_connections_than_its_pool_has(database: Database) -> None:
    """Both of its readers together, however many pages are asked for at once."""
    pages, counting = of_console(storage(database.dsn, pool=3), 60, 60)
    seen = named("seen", "")
    SQL["seen"] = f"SELECT count(*), pg_sleep(0.05)::text FROM {OURS}"
    try:
        found = await asyncio.gather(*(one.rows(seen) for one in (pages, counting) * 10))
        assert max(n for ((n, _),) in found) == 3
    finally:
        del SQL["seen"]
        await pages.close()
        await counting.close()


async def test_a_question_that_nobody_waits_for_is_given_up_by_the_server_too(database: Database) -> None:
    """Or whoever loads a slow page again and again would hold one connection more each time."""
    async with reader(storage(database.dsn, pool=3)) as one:
        busy = f"SELECT count(*) FROM {OURS} AND query LIKE '%pg_sleep%' AND state = 'active'"
        for _ in range(5):
            asked = asyncio.ensure_future(one.rows(SLOW))
            assert await asyncio.to_thread(eventually, lambda: database.sql(busy) == "1", 60)
            asked.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asked
            assert await asyncio.to_thread(eventually, lambda: database.sql(busy) == "0", 60)
        assert await one.rows(WHERE) == [(False, "on")]
        assert database.sql(f"SELECT count(*) FROM {OURS}") == "1"


async def test_a_connection_that_ended_while_it_was_idle_is_no_fault(database: Database) -> None:
    async with reader(storage(database.dsn)) as one:
        await one.rows(WHERE)
        assert database.sql(f"SELECT pg_terminate_backend(pid) FROM {OURS}") == "t"
        assert await one.rows(WHERE) == [(False, "on")]


@pytest.fixture
def doubled(postgres_pair: Pair, request: pytest.FixtureRequest) -> Iterator[Database]:
    """A database with a standby, which is awake at the end."""
    name = f"read_{abs(hash(request.node.name))}"
    made = make_database(postgres_pair.primary, name)
    made.sql("CREATE TABLE row (id int); ALTER TABLE row OWNER TO collector; INSERT INTO row VALUES (1)")
    assert eventually(lambda: has_rows(postgres_pair.standby, name), 60)
    yield made
    postgres_pair.standby.resume()
    if postgres_pair.standby.process is None:
        postgres_pair.standby.start()
    postgres_pair.primary.sql(f"DROP DATABASE {name} WITH (FORCE)")


def has_rows(node: Node, name: str) -> bool:
    try:
        return node.sql("SELECT count(*) FROM row", name) == "1"
    except AssertionError:
        return False


def aside(pair: Pair, database: Database) -> StorageConfig:
    return storage(database.dsn, pair.standby.dsn(database.name))


async def reads_there(one: PostgresReader) -> None:
    """At the standby again, within a minute."""
    async with asyncio.timeout(60):
        while await one.rows(WHERE) != [(True, "on")]:
            await asyncio.sleep(0.05)


@pytest.mark.slow
async def test_it_reads_at_the_standby_and_says_so(postgres_pair: Pair, doubled: Database) -> None:
    async with reader(aside(postgres_pair, doubled)) as one:
        assert await one.rows(WHERE) == [(True, "on")]
        server = (await one.held()).server
        assert server is not None
        assert server.primary == f"127.0.0.1:{postgres_pair.primary.port}"
        assert server.reads is not None
        assert (server.reads.at, server.reads.standby) == (f"127.0.0.1:{postgres_pair.standby.port}", True)


@pytest.mark.slow
async def test_what_the_standby_cancels_for_its_recovery_is_asked_at_the_primary(
    postgres_pair: Pair, doubled: Database
) -> None:
    standby = postgres_pair.standby
    standby.configure("max_standby_streaming_delay = 0\nhot_standby_feedback = off\n")
    standby.reload()
    ended = threading.Event()

    def conflict() -> None:
        """Once it runs: rows that it may see are taken away, and the standby cannot go on without ending it."""
        running = f"SELECT count(*) FROM {OURS} AND state = 'active'"
        while not ended.is_set():
            if standby.sql(running, doubled.name) != "0":
                doubled.sql("INSERT INTO row SELECT generate_series(1, 100); DELETE FROM row WHERE id > 1")
                doubled.sql("VACUUM row")
            ended.wait(0.1)

    async with reader(aside(postgres_pair, doubled), 80) as one:
        thread = threading.Thread(target=conflict)
        thread.start()
        try:
            found = await one.rows(LONG)
        finally:
            ended.set()
            await asyncio.to_thread(thread.join)
        assert found[0][0] is False
        assert "conflict with recovery" in standby.log()
        assert await one.rows(WHERE) == [(True, "on")], "it is there all the same"


@pytest.mark.slow
async def test_a_standby_that_is_gone_is_said_once_and_found_again(
    postgres_pair: Pair, doubled: Database, caplog: pytest.LogCaptureFixture
) -> None:
    standby = postgres_pair.standby
    postgres_pair.primary.sql("ALTER SYSTEM SET synchronous_standby_names = ''")
    postgres_pair.primary.reload()
    async with reader(aside(postgres_pair, doubled)) as one:
        assert await one.rows(WHERE) == [(True, "on")]
        standby.kill()
        for _ in range(3):
            assert await one.rows(WHERE) == [(False, "on")]
        said = [record for record in caplog.records if "read_dsn names cannot be asked" in record.message]
        assert len(said) == 1
        server = (await one.held()).server
        assert server is not None
        assert server.reads is not None
        assert "cannot be reached" in (server.reads.problem or "")
        standby.start()
        await reads_there(one)


@pytest.mark.slow
async def test_a_standby_that_stands_still_keeps_nobody(postgres_pair: Pair, doubled: Database) -> None:
    async with reader(aside(postgres_pair, doubled), 5.0) as one:
        assert await one.rows(WHERE) == [(True, "on")]
        postgres_pair.standby.pause()
        assert await one.rows(WHERE) == [(False, "on")]
        assert await one.rows(WHERE) == [(False, "on")]
        postgres_pair.standby.resume()
        await reads_there(one)


@pytest.mark.slow
async def test_without_a_primary_the_standby_tells_all_but_how_the_server_stands(
    postgres_pair: Pair, doubled: Database
) -> None:
    config = structs.replace(aside(postgres_pair, doubled), dsn="postgresql://collector@127.0.0.1:9/nothing")
    async with reader(config) as one:
        assert await one.rows(WHERE) == [(True, "on")]
        held = await one.held()
        assert held.server is None
        assert "[storage] dsn: 127.0.0.1:9 cannot be reached" in (held.problem or "")
        assert held.bytes > 0
