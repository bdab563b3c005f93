"""Upkeep of PostgreSQL alone: weeks, what came from SQLite, counters of many edges, several couriers at once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from collector.core.retention import cuts
from collector.errors import StorageError
from collector.storage.postgres import folding, ids
from collector.storage.postgres.upkeep import PostgresUpkeep
from tests.contract.test_upkeep import NOW, PRIVACY, before, click, conversion, left, sweep
from tests.kit import engines
from tests.kit.courier_kit import now_ms
from tests.kit.engines import Postgres, put
from tests.kit.harness import eventually
from tests.kit.postgres import Database

OF_CLICKS = "relation = 'click'::regclass AND mode = 'AccessExclusiveLock'"


@pytest.fixture
def here(tmp_path: Path, database: Database) -> Iterator[Postgres]:
    with engines.postgres(tmp_path, database) as made:
        yield made


def weeks(here: Postgres) -> int:
    return len(here.rows("SELECT 1 FROM pg_inherits WHERE inhparent = 'click'::regclass"))


def test_a_week_is_dropped_whole_once_nobody_is_known_by_its_clicks(here: Postgres) -> None:
    click(here, 1, 200)
    click(here, 2, 20)
    for n, days in ((1, 200), (2, 20)):
        number, at = here.number(n, before(days)), before(days)
        here.execute(f"INSERT INTO sighting VALUES (1, {n}, 0, {number}, {at})")
    made = weeks(here)
    sweep(here, 1)
    assert here.rows("SELECT fbclid_k FROM sighting") == [(2,)]
    assert left(here, "click", "ua_class") == [2]
    assert weeks(here) < made


def test_nothing_else_is_done_while_no_click_can_be_written(here: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    """A week that goes keeps every click out until the end of its transaction."""
    locked: list[int] = []

    async def watches(*given: Any) -> int:
        connection = next(one for one in given if hasattr(one, "fetchval"))
        locked.append(await connection.fetchval(f"SELECT count(*) FROM pg_locks WHERE {OF_CLICKS}"))
        return 0

    monkeypatch.setattr(PostgresUpkeep, "_identities", watches)
    monkeypatch.setattr(folding, "sweep", watches)
    conversion(here, 1, 500)
    click(here, 1, 200)
    sweep(here)
    assert not left(here, "click", "ua_class")
    assert set(locked) == {0}


def test_a_click_that_changes_while_its_week_goes_leaves_nothing_in_the_sums(here: Postgres) -> None:
    click(here, 1, 200)

    def cut() -> None:
        with suppress(StorageError):  # a busy machine: it was not waited for any longer
            here.upkeep.cut(cuts(PRIVACY, NOW))

    with here.changing("UPDATE click SET apart = 'denied' WHERE ua_class = 1"):
        cutting = threading.Thread(target=cut)
        cutting.start()
        eventually(
            lambda: not cutting.is_alive() or here.rows(f"SELECT 1 FROM pg_locks WHERE {OF_CLICKS} AND NOT granted")
        )
    cutting.join()
    sweep(here)
    assert not left(here, "click", "ua_class")
    assert here.rows("SELECT n FROM click_new") == []


def test_of_a_shops_troubles_the_newest_are_kept(here: Postgres) -> None:
    here.execute("INSERT INTO shop_note SELECT 1, 'value_differs', n::text, n, n FROM generate_series(1, 130) n")
    sweep(here, 20)
    assert here.rows("SELECT count(*), min(at) FROM shop_note") == [(100, 31)]


def test_what_came_from_sqlite_is_judged_by_its_own_times_and_not_by_its_ids(here: Postgres) -> None:
    for n, days in enumerate([200, 80, 6], 1):
        click(here, n, days, number=n)
    for n, days in enumerate([500, 80, 6], 1):
        conversion(here, n, days, number=n)
    sweep(here)
    assert left(here, "click", "ua_class") == left(here, "conversion", "ua_class") == [2, 3]
    assert left(here, "click_network", "user_agent") == [3]
    assert [bool(body.count(b"203.0.113.1")) for (body,) in here.rows("SELECT body FROM conversion ORDER BY id")] == [
        False,
        True,
    ]


def test_what_hangs_on_an_order_goes_with_it(here: Postgres) -> None:
    for n, days in ((1, 500), (2, 80)):
        conversion(here, n, days)
        number = here.number(n, before(days))
        here.execute(f"INSERT INTO order_name VALUES (1, {n}, {number}, 0)")
        here.execute(f"INSERT INTO sent_before (store, conversion, outbox, value) VALUES (1, {number}, {n}, '1')")
        here.execute(f"INSERT INTO shop_note VALUES (1, 'value_differs', '{n}', {number}, 1)")
    sweep(here)
    assert left(here, "order_name", "name") == left(here, "sent_before", "outbox") == [2]
    assert left(here, "shop_note", "called") == [2]


def test_figures_go_when_no_event_asks_for_them_any_more(here: Postgres) -> None:
    for day in (19_800, 19_990):
        here.execute(f"INSERT INTO click_hour (store, hour, edge, n) VALUES (1, {day * 24}, 1, 1)")
        here.execute(f"INSERT INTO ua_day (store, day, ua_k, edge, n) VALUES (1, {day}, 1, 1, 1)")
        at = f"{day}::bigint * 86400000"
        here.execute(f"INSERT INTO shop_delivery VALUES ('\\x{day:04x}', {at} + 864000000, 1, 'w', 't', NULL, NULL)")
    sweep(here)
    assert here.rows("SELECT hour / 24 FROM click_hour UNION ALL SELECT day FROM ua_day") == [(19_990,), (19_990,)]
    assert here.rows("SELECT count(*) FROM shop_delivery") == [(1,)]


def test_counters_of_days_that_are_over_are_folded_and_add_up_to_the_same(here: Postgres) -> None:
    for edge, day, n in ((1, 19_998, 3), (2, 19_998, 4), (0, 19_998, 5), (1, 20_000, 1), (2, 20_000, 1)):
        here.execute(f"INSERT INTO counter VALUES ({day}, 1, 'x', {edge}, {n})")
    sweep(here)
    assert here.rows("SELECT day, edge, n FROM counter ORDER BY day, edge") == [
        (19_998, 0, 12),
        (20_000, 1, 1),
        (20_000, 2, 1),
    ]


def test_one_courier_at_a_time_does_what_concerns_all(here: Postgres) -> None:
    here.add("idempotency", key_k=1, body_hash=b"", expires=1, status=200, answer=b"")
    with here.changing("SELECT pg_advisory_xact_lock(hashtext('collector upkeep'))"):
        assert here.upkeep.cut(cuts(PRIVACY, NOW)) == 0
    assert here.upkeep.cut(cuts(PRIVACY, NOW)) == 1


def test_a_payload_is_not_wiped_under_whoever_brings_its_event_back(here: Postgres) -> None:
    put(here, 2)
    here.execute("UPDATE outbox SET state = 13, settled = 1")
    with here.changing("UPDATE outbox SET state = 0, settled = NULL WHERE conversion = 1"):
        assert here.upkeep.wipe_payloads(now_ms()) == 1
    assert here.rows("SELECT o.conversion FROM outbox_payload p JOIN outbox o ON o.id = p.id") == [(1,)]


def test_the_weeks_to_come_are_there(here: Postgres) -> None:
    sweep(here)
    later = ids.first_of(NOW + 28 * 86_400_000)
    here.execute(f"INSERT INTO click_network VALUES ({later}, 1, NULL, NULL)")
    assert here.rows("SELECT id FROM click_network") == [(later,)]
