"""The running program over PostgreSQL while something fails: 503, a reason in the log, and on without a restart."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.kit import postgres
from tests.kit.harness import Door, eventually
from tests.kit.postgres import USER, make_database
from tests.postgres.test_serve import click, installation, order, post, taken

pytestmark = pytest.mark.slow


def refused_at_last(door: Door, first: int, key: str) -> int:
    """The number of the first click from `first` on that is answered 503; those before it were taken."""
    for number in range(first, first + 10_000):
        code, answer = post(door, "click", click(number), key)
        if code == 503:
            assert answer["error"]["code"] == "storage_unavailable"
            return number
        assert code == 200
    raise AssertionError("all was taken")


def test_without_its_standby_nothing_is_taken_and_with_it_all_is_again(tmp_path: Path) -> None:
    with postgres.pair() as both:
        made = make_database(both.primary, "shop")
        shop = installation(tmp_path / "one", "http://127.0.0.1:9", made.dsn, "required")
        shop.config.write_text(
            shop.config.read_text().replace("group_timeout_seconds = 20", "group_timeout_seconds = 2")
        )
        key = shop.make_key()
        with shop.serve() as door:
            taken(door, "click", click(0), key)
            both.standby.kill()
            refused = refused_at_last(door, 1, key)
            assert eventually(lambda: door.get("/readyz").status_code == 503, 60)
            told = "no synchronous standby is attached to"
            assert eventually(lambda: told in door.serving.stderr, 60)
            both.standby.start()
            assert taken(door, "click", click(refused), key)["success"]
            assert eventually(lambda: door.get("/readyz").status_code == 200, 60)
            assert made.sql("SELECT count(*) FROM click") == str(refused + 1)


def test_a_keeper_that_is_killed_is_another_one_with_another_number(
    database: postgres.Database, tmp_path: Path
) -> None:
    shop = installation(tmp_path / "one", "http://127.0.0.1:9", database.dsn, "none")
    key = shop.make_key()
    with shop.serve() as door:
        for number in range(5):
            taken(door, "click", click(number), key)
            os.kill(door.serving.children()["keeper"], signal.SIGKILL)
            assert taken(door, "conversion", order(number), key)["data"]["attributed"]
        assert database.sql("SELECT count(*) FROM click") == "5"
        assert int(database.sql("SELECT count(*) FROM edge WHERE open")) >= 1
        assert "started again" in door.serving.stderr


def test_connections_that_are_used_up_are_a_reason_and_pass(database: postgres.Database, tmp_path: Path) -> None:
    shop = installation(tmp_path / "one", "http://127.0.0.1:9", database.dsn, "none")
    key = shop.make_key()
    with shop.serve() as door:
        taken(door, "click", click(0), key)
        database.sql(f"ALTER DATABASE {database.name} CONNECTION LIMIT 0")
        ours = f"FROM pg_stat_activity WHERE datname = '{database.name}' AND usename = '{USER}'"
        database.sql(f"SELECT pg_terminate_backend(pid) {ours}")
        refused = refused_at_last(door, 1, key)
        assert eventually(lambda: "takes no more connections" in door.serving.stderr, 60)
        database.sql(f"ALTER DATABASE {database.name} CONNECTION LIMIT -1")
        assert taken(door, "click", click(refused), key)["success"]


def test_a_new_dsn_is_taken_by_a_reload(database: postgres.Database, tmp_path: Path) -> None:
    shop = installation(tmp_path / "one", "http://127.0.0.1:9", database.dsn, "none")
    key = shop.make_key()
    with shop.serve() as door:
        taken(door, "click", click(0), key)
        before = door.serving.children()["keeper"]
        text = shop.config.read_text().replace(database.dsn, f"{database.dsn}?application_name=x")
        shop.config.write_text(text)
        door.serving.process.send_signal(signal.SIGHUP)
        assert eventually(lambda: door.serving.children().get("keeper", before) != before, 60)
        assert taken(door, "conversion", order(0), key)["data"]["attributed"]
        assert "setting=storage.dsn" in door.serving.stderr
        assert database.dsn not in door.serving.stderr
