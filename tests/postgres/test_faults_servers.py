"""A server of the database dies or stands still under a load from outside: nothing acknowledged is lost, or doubled.

FAULT_ROUNDS=100 pytest -m faults_postgres is what a release takes. Controls: what a 200 rests on is taken away, and the
same audit finds what is lost by it.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.kit import postgres
from tests.kit.harness import Installation, eventually
from tests.kit.load import Load
from tests.kit.machines import CLEAN, ROUNDS, Asking, audit, goes_on, loaded
from tests.kit.postgres import make_database
from tests.postgres.test_serve import click, installation, post, taken

pytestmark = [pytest.mark.slow, pytest.mark.faults_postgres]
SHOP = "shop"
_IN_SYNC_WAIT = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND datname = 'shop'"


def machine(folder: Path, dsn: str, standby: str, patience: float = 20) -> tuple[Installation, Path]:
    """One machine, and the file of its names."""
    pepper = folder / "pepper.key"
    shop = installation(folder / "one", "http://127.0.0.1:9", dsn, standby, pepper)
    text = shop.config.read_text().replace("group_timeout_seconds = 20", f"group_timeout_seconds = {patience}")
    shop.config.write_text(text)
    return shop, pepper


def test_the_primary_is_killed_and_the_standby_promoted(tmp_path: Path) -> None:
    with postgres.pair() as both:
        make_database(both.primary, SHOP)
        shop, pepper = machine(tmp_path, both.dsn(SHOP), "warn")
        with loaded(shop) as (_, load):
            for _ in range(ROUNDS):
                goes_on(load)
                both.fail_over()
                goes_on(load)
                both.rejoin()
            goes_on(load)
        assert audit(both.primary, SHOP, pepper, load) == CLEAN


def test_control_a_standby_that_no_commit_waits_for_lacks_what_was_acknowledged(tmp_path: Path) -> None:
    with postgres.pair() as both:
        make_database(both.primary, SHOP)
        both.primary.configure("synchronous_standby_names = ''\n")
        both.primary.reload()
        shop, pepper = machine(tmp_path, both.dsn(SHOP), "none")
        with loaded(shop) as (_, load):
            goes_on(load)
            both.standby.pause()
            goes_on(load, by=200)
            both.primary.kill()
            both.standby.kill()  # or it would read on what the sockets hold
            both.standby.start()
            both.standby.promote()
            goes_on(load)
        found = audit(both.standby, SHOP, pepper, load)
        assert len(found.lost) > 100
        assert (found.twice, found.renamed) == ([], [])


def test_a_lone_server_is_killed_and_started_again(tmp_path: Path) -> None:
    with postgres.server() as node:
        made = make_database(node, SHOP)
        shop, pepper = machine(tmp_path, made.dsn, "none")
        with loaded(shop) as (_, load):
            for _ in range(ROUNDS):
                goes_on(load)
                node.kill()
                node.start()
            goes_on(load)
        assert audit(node, SHOP, pepper, load) == CLEAN


def test_while_the_standby_stands_still_nothing_is_acknowledged(tmp_path: Path) -> None:
    with postgres.pair() as both:
        make_database(both.primary, SHOP)
        shop, pepper = machine(tmp_path, both.dsn(SHOP), "warn", patience=0.5)
        with loaded(shop) as (_, load):
            for _ in range(ROUNDS):
                goes_on(load)
                both.standby.pause()
                refused(load, 1)
                acknowledged = load.acknowledged
                refused(load, 3)
                assert load.acknowledged == acknowledged
                both.standby.resume()
            goes_on(load)
        assert audit(both.primary, SHOP, pepper, load) == CLEAN


def refused(load: Load, more: int) -> None:
    """Return once so many more were answered 503."""
    before = load.answers[503]
    assert eventually(lambda: load.answers[503] >= before + more, 120), load.answers


def test_a_commit_whose_wait_for_the_standby_is_cancelled_is_not_acknowledged(tmp_path: Path) -> None:
    """The server then answers as if all were well, with a warning: the row is on one disk."""
    with postgres.pair() as both:
        make_database(both.primary, SHOP)
        shop, _ = machine(tmp_path, both.dsn(SHOP), "warn", patience=60)
        key = shop.make_key()
        with shop.serve() as door, Asking(both.primary, SHOP) as asking, ThreadPoolExecutor(1) as pool:
            on_one_disk = 0
            for number in range(ROUNDS):
                both.standby.pause()
                answer = pool.submit(post, door, "click", click(number), key)
                cancel_until_answered(asking, answer.done)
                both.standby.resume()
                assert answer.result()[0] == 503
                on_one_disk += asking.value("SELECT count(*) FROM click") > number
                assert taken(door, "click", click(number), key)["success"]
            assert on_one_disk > 0, "a commit was cancelled, and not only a sign of life before it"
            assert asking.value("SELECT count(*) FROM click") == ROUNDS


def cancel_until_answered(asking: Asking, answered: Callable[[], bool]) -> None:
    """Whatever of the keeper's waits for the standby is cancelled."""

    def cancelled() -> bool:
        for (pid,) in asking.rows(_IN_SYNC_WAIT):
            asking.rows("SELECT pg_cancel_backend($1)", pid)
        return answered()

    assert eventually(cancelled, 60)
