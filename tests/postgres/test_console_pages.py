"""Every kind of page over PostgreSQL says what it says over SQLite: a month in trouble, moved as `migrate` moves it."""

from __future__ import annotations

import difflib
import re
import shutil
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import requests
from msgspec import structs

from collector.config import Config
from collector.console.metrics import OF_FILE, OF_SERVER
from collector.storage.moving.move import move
from tests.kit import console_world
from tests.kit.console_process import ConsoleProcess, within_a_day
from tests.kit.console_world import DEEPER, PAGES, SHOPS, World, shared_links
from tests.kit.postgres import Database

# What is of one engine, not of what happened.
OF_ENGINE = ("/system", "/metrics")
ALONE = tuple(start + name for name in OF_FILE | OF_SERVER for start in ("", "# HELP ", "# TYPE "))


def moved(world: World, folder: Path, database: Database) -> Config:
    """The world over PostgreSQL, with what a move leaves behind because it is of one machine."""
    folder.mkdir()
    world.db.execute("UPDATE click SET fbclid_k = id, visitor_k = id")  # they were all one
    world.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for name in ("pepper.key", "collector.db", "audit.log"):
        if (world.folder / name).exists():
            shutil.copy2(world.folder / name, folder / name)
    storage = structs.replace(
        world.config.storage, data_dir=str(folder), engine="postgres", dsn=database.dsn, standby="none"
    )
    config = structs.replace(world.config, storage=storage)
    move(config, resume=False, dry_run=False)
    with closing(sqlite3.connect(world.folder / "collector.db")) as db:
        for process, at, body in db.execute("SELECT process, at, body FROM heartbeat"):
            database.sql(f"INSERT INTO heartbeat VALUES ('{process}', {at}, '{body.decode()}')")
        database.sql("DELETE FROM truth_sum; DELETE FROM truth_new")
        for store, day, purchase, label, n in db.execute("SELECT * FROM truth_sum"):
            text = label.replace("\x1f", "' || chr(31) || '")
            database.sql(f"INSERT INTO truth_sum VALUES ({store}, {day}, {bool(purchase)}, '{text}', {n})")
    return config


def plain(text: str) -> str:
    """A page without its ages."""
    return re.sub(r"\b\d+ (s|min|h|d)\b", "some time", text)


def followed(config: Config, begin: list[str]) -> dict[str, requests.Response]:
    with ConsoleProcess(config) as console:
        found = console.kinds(begin)
    assert console.ending == (0, "no apsw")
    return found


def samples(answer: requests.Response) -> set[str]:
    """Lines of figures, without those that grow older, and names with their types and help."""
    ages = ("collector_heartbeat_age", "collector_outbox_oldest", "collector_database_bytes")
    return {line for line in answer.text.splitlines() if not line.removeprefix("# HELP ").startswith(ages)}


@pytest.mark.slow
@pytest.mark.parametrize("state", [console_world.empty, console_world.trouble])
def test_every_kind_of_page_says_the_same(database: Database, tmp_path: Path, state: Callable[..., World]) -> None:
    world = state(tmp_path / "file", int(time.time() * 1000), clicks=150)
    begin = [*(f"{path}?range=28" for path in PAGES), *DEEPER.values(), *shared_links(world.folder)]
    begin += ["/find?id=1001", "/metrics"]
    config = moved(world, tmp_path / "server", database)
    file, server = within_a_day(lambda: (followed(world.config, begin), followed(config, begin)), *SHOPS.values())
    world.db.close()
    differing: dict[str, Any] = {}
    for path, here in file.items():
        there = server[path]
        if there.status_code != here.status_code:
            differing[path] = (there.status_code, here.status_code)
        elif not path.startswith(OF_ENGINE) and plain(there.text) != plain(here.text):
            one, other = plain(here.text).split("<"), plain(there.text).split("<")
            differing[path] = list(difflib.unified_diff(one, other, n=0, lineterm=""))[:12]
    assert differing == {}
    assert len(file) > 20
    assert "/metrics" in file
    of_file, of_server = samples(file["/metrics"]), samples(server["/metrics"])
    assert any(line.startswith("collector_server_connections ") for line in of_server)
    assert {line for line in of_server ^ of_file if not line.startswith(ALONE)} == set()
