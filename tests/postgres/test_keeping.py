"""A keeper's number, its ids, what it learns and counts; the weeks of clicks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.config import Config, PixelConfig, StorageConfig, StoreConfig
from collector.errors import StorageError, Unavailable
from collector.exchange.clock import Clock
from collector.storage.postgres import edges, ids, partitions
from collector.storage.postgres.ids import Ids
from collector.storage.postgres.keeping import Keeping
from tests.kit import postgres
from tests.kit.postgres import Pair, make_database
from tests.kit.program import free_port

NOW = 1_796_000_000_000
WEEK = 7 * 86_400_000


def config_of(dsn: str, folder: Path, *shops: str, standby: str = "none") -> Config:
    stores = [StoreConfig(id=shop, pixel=[PixelConfig(id=f"12345{shop}")]) for shop in shops or ("a",)]
    storage = StorageConfig(engine="postgres", dsn=dsn, standby=standby, data_dir=str(folder))
    return Config(storage=storage, store=stores)


@pytest.fixture
def config(database: postgres.Database, tmp_path: Path) -> Config:
    return config_of(database.dsn, tmp_path, "a", "b")


@pytest.fixture
def keeper(config: Config) -> Iterator[Keeping]:
    made = Keeping(config, Clock())
    yield made
    made.close()


def kept_up(keeper: Keeping) -> None:
    keeper._learn_at = keeper._beat_at = keeper._examine_at = 0.0
    keeper._run(keeper.keep_up())


# -- ids ---------------------------------------------------------------------------------------------------------------


@given(st.integers(0, ids.EDGES - 1), st.lists(st.integers(NOW - 5, NOW + 5), min_size=1, max_size=50))
def test_ids_grow_name_their_edge_and_their_moment_whatever_the_clock_does(edge: int, clock: list[int]) -> None:
    made = Ids(edge)
    given_out = [made.next(now) for now in clock]
    assert given_out == sorted(set(given_out))
    assert {ids.edge_of(one) for one in given_out} == {edge}
    assert all(ids.ms_of(one) >= now for one, now in zip(given_out, clock, strict=True))
    assert all(0 < one < 1 << 63 for one in given_out)


@pytest.mark.parametrize("edge", [0, 1023])
def test_more_ids_than_a_moment_has_are_of_the_next_one(edge: int) -> None:
    made = Ids(edge)
    given_out = [made.next(NOW) for _ in range(10_000)]
    assert len(set(given_out)) == 10_000
    assert {ids.edge_of(one) for one in given_out} == {edge}
    assert ids.ms_of(given_out[-1]) == NOW + 2


# -- the lease ---------------------------------------------------------------------------------------------------------


def test_two_keepers_have_two_numbers_and_the_same_stores(keeper: Keeping, config: Config) -> None:
    other = Keeping(config, Clock())
    assert other.edge.number != keeper.edge.number
    assert {s.number for s in other.stores.values()} == {s.number for s in keeper.stores.values()}
    other.close()


def test_a_number_that_was_given_back_rests_the_longest(keeper: Keeping, config: Config) -> None:
    seen = set()
    for _ in range(3):
        other = Keeping(config, Clock())
        seen.add(other.edge.number)
        other.close()
    assert len(seen) == 3


def test_a_lease_that_is_over_is_seen_and_another_number_is_taken(keeper: Keeping, database: postgres.Database) -> None:
    first = keeper.edge.number
    database.sql("UPDATE edge SET until = now_ms() - 1 WHERE open")
    kept_up(keeper)
    assert keeper.edge.number != first
    assert keeper.edge.may_write
    assert database.sql(f"SELECT open FROM edge WHERE number = {first}") == "t"  # somebody is to look through its rows


def test_who_cannot_renew_for_half_a_minute_may_not_write(keeper: Keeping, monkeypatch: pytest.MonkeyPatch) -> None:
    now = edges.time.monotonic()
    keeper.refuse_unfit()
    monkeypatch.setattr(edges.time, "monotonic", lambda: now + edges.LEASE_S + 1)
    with pytest.raises(Unavailable, match="the lease of this edge's number is over"):
        keeper.refuse_unfit()


def test_what_an_edge_has_left_is_taken_over_by_one_and_then_free_again(
    keeper: Keeping, config: Config, database: postgres.Database
) -> None:
    dead = Keeping(config, Clock())
    dead.edge.looked = 77
    kept_up(dead)
    dead._run(dead._database.close())
    number = dead.edge.number
    database.sql(f"UPDATE edge SET until = now_ms() - 1 WHERE number = {number}")

    async def take_over() -> tuple[int, int] | None:
        async with keeper._database.transaction() as connection:
            return await edges.take_over(connection, "me")

    async def done() -> None:
        async with keeper._database.transaction() as connection:
            await edges.done(connection, number, "me")

    assert keeper._run(take_over()) == (number, 77)
    assert keeper._run(take_over()) is None
    keeper._run(done())
    assert database.sql(f"SELECT open FROM edge WHERE number = {number}") == "f"


# -- what every edge knows, what is counted ----------------------------------------------------------------------------


def test_figures_of_two_edges_are_rows_of_their_own_and_nothing_is_counted_twice(
    keeper: Keeping, config: Config, database: postgres.Database
) -> None:
    other = Keeping(config, Clock())
    for one in (keeper, other):
        one.count([(1, "bot", 2), (1, "bot", 1)], {"refused.forbidden": 4})
        kept_up(one)
        kept_up(one)
    other.close()
    assert database.sql("SELECT count(*), sum(n) FROM counter WHERE name = 'bot'") == "2|6"
    assert database.sql("SELECT name, sum(n) FROM total GROUP BY 1 ORDER BY 1") == "bot|6\nrefused.forbidden|8"
    assert database.sql("SELECT code, sum(n) FROM refusal_sum GROUP BY 1") == "forbidden|8"


def test_the_last_figures_are_written_at_the_end(config: Config, database: postgres.Database) -> None:
    keeper = Keeping(config, Clock())
    keeper.count([(0, "late", 5)], {})
    keeper.close()
    assert database.sql("SELECT n FROM counter") == "5"


def test_figures_that_could_not_be_written_are_written_later(keeper: Keeping, database: postgres.Database) -> None:
    keeper.count([(1, "kept", 3)], {})
    database.sql("ALTER TABLE counter RENAME TO away")
    with pytest.raises(Exception, match="counter"):
        kept_up(keeper)
    database.sql("ALTER TABLE away RENAME TO counter")
    kept_up(keeper)
    assert database.sql("SELECT n FROM counter") == "3"


def test_an_erasure_is_learnt_also_where_it_becomes_visible_late(keeper: Keeping, database: postgres.Database) -> None:
    database.sql(f"INSERT INTO erased (store, name, at) VALUES (1, 11, {NOW})")
    kept_up(keeper)
    database.sql(f"INSERT INTO erased (store, name, at) VALUES (1, 10, {NOW - 60_000})")
    kept_up(keeper)
    assert keeper.erased == {11: NOW, 10: NOW - 60_000}


def test_a_standby_that_is_required_and_gone_is_a_failure(postgres_pair: Pair, tmp_path: Path) -> None:
    made = make_database(postgres_pair.primary, "keeping")
    keeper = Keeping(config_of(made.dsn, tmp_path, standby="required"), Clock())
    kept_up(keeper)
    try:
        made.sql("ALTER SYSTEM SET synchronous_standby_names = ''")
        postgres_pair.primary.reload()
        with pytest.raises(Unavailable, match="no synchronous standby is attached"):
            until_it_fails(keeper)
        with pytest.raises(Unavailable, match="no synchronous standby is attached"):
            keeper.refuse_unfit()
    finally:
        made.sql("ALTER SYSTEM RESET synchronous_standby_names")
        postgres_pair.primary.reload()
        keeper.close()
        postgres_pair.primary.sql("DROP DATABASE keeping WITH (FORCE)")


def until_it_fails(keeper: Keeping) -> None:
    """A reload of the server is not at once."""
    for _ in range(1000):
        kept_up(keeper)


# -- weeks -----------------------------------------------------------------------------------------------------------


def test_each_moment_has_one_week_and_its_ids_are_in_it() -> None:
    for now in (NOW, NOW + WEEK // 3, 1_767_225_600_000, 1_772_323_200_000):
        found = list(partitions.weeks(now))
        assert [after for _, _, after in found[:-1]] == [first for _, first, _ in found[1:]]
        assert found[1][1] <= ids.first_of(now) < found[1][2]


def test_weeks_are_made_ahead_and_given_up_whole(keeper: Keeping, database: postgres.Database) -> None:
    async def at(now: int) -> list[str]:
        async with keeper._database.transaction() as connection:
            await partitions.ahead(connection, now)
            return await partitions.drop_before(connection, now - WEEK)

    later = NOW + 20 * WEEK
    assert keeper._run(at(NOW)) == []
    dropped = keeper._run(at(later))
    assert {name.rpartition("_")[0] for name in dropped} == {"click", "click_network"}
    left = database.sql("SELECT count(*) FROM pg_class WHERE relname ~ '^click_[0-9]+$'")
    assert int(left) == 6
    database.sql(f"INSERT INTO click_network VALUES ({ids.first_of(later)}, 1, 'x', 'y'), (7, 1, 'x', 'y')")


def test_a_database_that_is_away_at_the_start_is_a_sentence(tmp_path: Path) -> None:
    config = config_of(f"postgresql://u@127.0.0.1:{free_port()}/d", tmp_path)
    with pytest.raises(StorageError, match="cannot be reached"):
        Keeping(config, Clock())
