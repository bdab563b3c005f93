"""`collector migrate`: an SQLite installation comes into PostgreSQL whole, once, whatever breaks in between."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import asyncpg
import msgspec
import pytest

from collector import cli
from collector.config import StorageConfig
from collector.config_loader import load
from collector.errors import StorageError
from collector.storage.ground import kept, lock
from collector.storage.ground.database import DATABASE, open_database
from collector.storage.ground.keys import Keys
from collector.storage.moving.move import move
from collector.storage.moving.source import Source
from collector.storage.moving.tables import DERIVED, PARTS, values_for
from collector.storage.moving.target import Target
from collector.storage.postgres.opening import opened
from collector.storage.rules.visitors import Union
from tests.kit import postgres
from tests.kit.journal_kit import HOUR, NOW, PIXEL, STORE, Kit, click, order

ROWS = 3  # in one slice: every table has several
CLICKS, ORDERS = 40, 12
ROOT = Path(__file__).parents[2]
BESIDE: dict[str, tuple[Any, ...]] = {  # of what is kept beside events, a row each
    "insight_ad": ("act_1", "ad", "n", "s", "n", "c", "n"),
    "insight": ("act_1", 20_000, "ad", "USD", 3, 12_345, 10, 9, 8, 2, 98_000_000),
    "insight_account": ("act_1", 3, "USD", "Europe/Berlin", 19_973, 20_000, NOW, 0, None, None),
    "share": ("sh_1", STORE, "2026-09-01", "2026-09-02", "Purchase", NOW, NOW + HOUR, None),
    "weekly_sent": (NOW, "letter", NOW, 1),
    "refusal": (7, NOW, "invalid_field", "currency", "A-1"),
    "shop_pull": (STORE, NOW - HOUR, NOW, NOW, "HTTP 500"),
    "renamed": (1, 3),
}
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def config(tmp_path: Path, database: postgres.Database) -> str:
    path = tmp_path / "collector.toml"
    path.write_text(
        f'[storage]\nengine = "postgres"\ndsn = "{database.dsn}"\nstandby = "none"\ndata_dir = "{tmp_path}/data"\n'
        f'[meta]\nmode = "off"\n[[store]]\nid = "{STORE}"\n[[store.pixel]]\nid = "{PIXEL}"\n'
    )
    path.chmod(0o600)
    _fill(tmp_path / "data")
    return str(path)


def _fill(folder: Path) -> None:
    """Clicks with and without visitors, one click id with several; orders with proof and without; a key."""
    with Kit(folder) as kit:
        for n in range(CLICKS):
            visitor = {"visitorId": f"v_{n}"} if n % 4 else {}
            network = {"ipAddress": f"203.0.113.{n}", "userAgent": f"Agent/{n % 3}"}
            kit.post(click(f"fb_click_{n % 30:04}", NOW - 2 * HOUR + n, **visitor, **network))
        for n in range(ORDERS):
            proof = {"fbclid": f"fb_click_{n:04}"} if n % 3 else {"ipAddress": f"203.0.113.{n}"}
            person = {"customerData": {"email": f"jo{n}@example.com"}, "visitorId": f"v_{n}"}
            kit.post(order(f"order-{n}", NOW - HOUR + n, **proof, **person))
        storage = kit.config.storage
    with closing(open_database(storage)) as db:
        Keys(db).create(None, "secret", NOW)
        for table, row in BESIDE.items():
            db.execute(f"INSERT OR REPLACE INTO {table} VALUES ({', '.join('?' * len(row))})", row)


@pytest.fixture
def run(config: str, capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*words: str) -> tuple[int, str, str]:
        code = cli.main([*words, "--config", config])
        out = capsys.readouterr()
        return code, out.out, out.err

    return run


def _file(config: str, *, writes: bool = False) -> apsw.Connection:
    flags = apsw.SQLITE_OPEN_READWRITE if writes else apsw.SQLITE_OPEN_READONLY
    return kept.know(apsw.Connection(str(Path(load(config, {}).storage.data_dir) / DATABASE), flags=flags))


def _here(config: str) -> dict[str, list[Any]]:
    """Every row as the target is to have it."""
    with closing(_file(config)) as db:
        return {
            part.table: [
                values_for(part, row) for row in db.execute(part.slice_sql.format(where="", rows=-1)).fetchall()
            ]
            for part in PARTS
        }


async def _rows(config: str) -> dict[str, list[Any]]:
    connection = await asyncpg.connect(load(config, {}).storage.dsn)
    try:
        return {
            part.table: [
                tuple(row)
                for row in await connection.fetch(
                    f"SELECT {', '.join(part.columns)} FROM {part.table} ORDER BY"
                    f" {', '.join(name.removeprefix('t.') for name in part.key)}"
                )
            ]
            for part in PARTS
        }
    finally:
        await connection.close()


def _refuse_difference(config: str) -> None:
    """As many, and the same, of every table."""
    here, there = _here(config), asyncio.run(_rows(config))
    came = {name: n for name, _, n in there["total"] if name.startswith("came.")}
    assert came == {"came.click": max(row[0] for row in here["click"]), "came.conversion": len(here["conversion"])}
    there["total"] = [row for row in there["total"] if row[0] not in came]
    for part in PARTS:
        assert sorted(here[part.table], key=repr) == sorted(there[part.table], key=repr), part.table
    filled = {table for table, rows in here.items() if rows}
    assert {
        "click",
        "click_network",
        "conversion",
        "identity_link",
        "outbox",
        "api_key",
        "order_hour",
        *BESIDE,
    } <= filled


def _indexes(database: postgres.Database) -> set[str]:
    tables = "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'"
    ours = "relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')"
    names = f"SELECT relname || relkind::text FROM pg_class WHERE {ours}"
    return {*database.sql(tables).split("\n"), *database.sql(names).split("\n")}


def _broken_off(config: str, after: int) -> int:
    """kill -9 of a move in its nth slice; how it ended."""
    script = (
        "import os, sys\nfrom collector.config_loader import load\nfrom collector.storage.moving.move import move\n"
        "left = [int(sys.argv[2])]\n"
        "def show(rows):\n    left[0] -= 1\n    left[0] or os.kill(os.getpid(), 9)\n"
        f"move(load(sys.argv[1], {{}}), resume='resume' in sys.argv, dry_run=False, show=show, slice_rows={ROWS})\n"
    )
    return subprocess.run([sys.executable, "-c", script, config, str(after)], cwd=ROOT, timeout=120).returncode


def _slices(config: str) -> int:
    """In how many slices all rows are copied: of each table one more that finds nothing."""
    return sum(-(-len(rows) // ROWS) + 1 for rows in _here(config).values())


def test_whatever_sqlite_keeps_is_moved_made_anew_or_told(config: str) -> None:
    with closing(_file(config)) as db:
        tables = {name for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    moved = [part.table for part in PARTS]
    assert sorted([*moved, *(tables & DERIVED)]) == sorted(tables)


def test_everything_is_there_and_the_file_is_marked(run: Run, config: str, database: postgres.Database) -> None:
    code, out, _ = run("migrate", "--to", "postgres", "--json")
    assert code == 0
    receipt = json.loads(out)
    _refuse_difference(config)
    assert receipt["rows"]["click"] == CLICKS
    assert receipt["compared"] == ORDERS
    assert database.sql("SELECT count(*) FROM sighting") == str(CLICKS)
    assert database.sql("SELECT count(DISTINCT id) FROM sighting") == str(CLICKS)
    assert database.sql("SELECT sum(n) FROM click_hour") == database.sql("SELECT sum(n) FROM ua_day") == str(CLICKS)
    registers = database.sql("SELECT encode(registers, 'hex') FROM visitor_sketch")
    assert Union([bytes.fromhex(registers)]).visitors() == pytest.approx(CLICKS, rel=0.15)
    assert database.sql("SELECT nextval(pg_get_serial_sequence('store', 'id'))") == "2"
    assert '"action":"migrate"' in (Path(load(config, {}).storage.data_dir) / "audit.log").read_text()
    code, _, err = run("migrate", "--to", "postgres")
    assert code == 3
    assert "was moved already" in err
    code, out, _ = run("keys", "list", "--json")
    assert code == 0
    assert len(json.loads(out)) == 1


@pytest.mark.slow
def test_a_moved_file_takes_nothing_more(run: Run, config: str) -> None:
    run("migrate", "--to", "postgres")
    own = Path(config).with_name("sqlite.toml")
    own.write_text(
        "".join(
            line
            for line in Path(config).read_text().splitlines(keepends=True)
            if not line.startswith(("engine", "dsn", "standby"))
        )
    )
    for words in (["serve"], ["keys", "create", "--kind", "secret"]):
        command = [sys.executable, "-m", "collector", *words, "--config", str(own)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
        assert done.returncode == 3
        assert "moved to PostgreSQL on 20" in done.stderr
        assert 'set engine = "postgres"' in done.stderr


def test_the_schema_is_as_a_new_databases(config: str, database: postgres.Database) -> None:
    move(load(config, {}), resume=False, dry_run=False, slice_rows=ROWS)
    other = postgres.make_database(database.node, f"{database.name}_new")
    try:
        asyncio.run(_opened(msgspec.structs.replace(load(config, {}).storage, dsn=other.dsn)))
        assert _indexes(database) == _indexes(other)
    finally:
        database.node.sql(f"DROP DATABASE {other.name} WITH (FORCE)")


async def _opened(storage: StorageConfig) -> None:
    database, _ = await opened(storage, "test")
    await database.close()


@pytest.mark.parametrize("part", [0.0, 0.1, 0.35, 0.7, 0.99])
def test_killed_and_gone_on_with(part: float, run: Run, config: str) -> None:
    before = max(1, int(_slices(config) * part))
    assert _broken_off(config, before) == -9
    code, _, err = run("keys", "list")
    assert code == 3
    assert "collector migrate --to postgres --resume" in err
    code, _, err = run("migrate", "--to", "postgres")
    assert code == 3
    assert "--resume goes on with it" in err
    move(load(config, {}), resume=True, dry_run=False, slice_rows=ROWS)
    _refuse_difference(config)


@pytest.mark.parametrize("step", ["attach", "index", "derive", "counts", "finish"])
def test_broken_off_behind_the_rows(step: str, config: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before each of the steps that follow the copying, and in their midst."""
    with monkeypatch.context() as patch:
        patch.setattr(Target, step, _fails)
        with pytest.raises(ZeroDivisionError):
            move(load(config, {}), resume=False, dry_run=False)
    move(load(config, {}), resume=True, dry_run=False)
    _refuse_difference(config)


async def _fails(*_: object) -> None:
    raise ZeroDivisionError


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("UPDATE conversion SET confidence = 7 WHERE id = 5", "conversion row 5 differs"),
        ("UPDATE conversion SET click = 39 WHERE id = 2", "conversion row 2 differs"),
        ("UPDATE conversion SET capi = 11 WHERE id = 12", "conversion row 12 differs"),
        ("UPDATE conversion SET revision = 3 WHERE id = 1", "conversion row 1 differs"),
        ("UPDATE conversion SET id = 13 WHERE id = 12", "conversion row 12 differs"),
        ("DELETE FROM click_network WHERE id = 3", f'"click_network" of store 1 has {CLICKS} rows here'),
        ("INSERT INTO attempt VALUES (1, 1)", '"attempt" of store 0 has 0 rows here and 1 in PostgreSQL'),
    ],
)
def test_a_row_that_is_another_one_is_noticed(
    statement: str, said: str, config: str, database: postgres.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def counts(target: Target) -> Any:
        database.sql(statement)
        return await true(target)

    true = Target.counts
    monkeypatch.setattr(Target, "counts", counts)
    with pytest.raises(StorageError, match=said):
        move(load(config, {}), resume=False, dry_run=False)
    with closing(_file(config)) as db:
        assert db.execute("SELECT done FROM moved").get is None


def test_a_rehearsal_writes_nothing(run: Run, config: str, database: postgres.Database) -> None:
    code, out, _ = run("migrate", "--to", "postgres", "--dry-run")
    assert code == 0
    assert "nothing: --dry-run" in out
    assert database.sql("SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace") == "0"
    with closing(_file(config)) as db:
        assert db.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'moved'").get == 0


def test_a_move_that_was_given_up_is_not_gone_on_with(config: str) -> None:
    assert _broken_off(config, 5) == -9
    sqlite = msgspec.structs.replace(load(config, {}).storage, engine="sqlite")
    open_database(sqlite).close()
    with pytest.raises(StorageError, match="was used since that move was begun"):
        move(load(config, {}), resume=True, dry_run=False)


def test_a_file_that_is_used_meanwhile_is_not_marked(config: str) -> None:
    sqlite = msgspec.structs.replace(load(config, {}).storage, engine="sqlite")
    with pytest.raises(StorageError, match="opened for other work while it was moved"):
        move(load(config, {}), resume=False, dry_run=False, show=lambda _: open_database(sqlite).close())


@pytest.mark.parametrize(
    "sql", ["DELETE FROM click WHERE id = 3", "UPDATE api_key SET revoked = 5", "UPDATE conversion SET revision = 9"]
)
def test_what_a_command_writes_that_had_it_open_before_is_not_lost(config: str, sql: str) -> None:
    """An erasure that has searched for minutes, say: what it then takes out must not live on in PostgreSQL."""
    storage = load(config, {}).storage
    with closing(open_database(storage)) as opened_before:
        written: list[int] = []

        def show(_: int) -> None:
            if not written:
                opened_before.execute(sql)
                written.append(opened_before.changes())

        with pytest.raises(StorageError, match=r"other work|differs|rows here"):
            move(load(config, {}), resume=False, dry_run=False, show=show, slice_rows=10**6)
        assert written[0] > 0
    with closing(_file(config)) as db:
        assert db.execute("SELECT done FROM moved").get is None, "the file is not marked"


def test_what_takes_the_server_long_is_done_before_the_file_is_marked(
    config: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After it, neither engine could be used while it failed."""
    done: list[str] = []
    analyse, finish = Target.analyse, Source.finish

    async def analysed(target: Target) -> None:
        await analyse(target)
        done.append("analysed")

    def finished(source: Source, began: int, now: int) -> None:
        finish(source, began, now)
        done.append("marked")

    monkeypatch.setattr(Target, "analyse", analysed)
    monkeypatch.setattr(Source, "finish", finished)
    move(load(config, {}), resume=False, dry_run=False)
    assert done == ["analysed", "marked"]


@pytest.mark.parametrize("words", [(), ("--dry-run",)])
def test_what_is_refused_before_anything_is_written(words: tuple[str, ...], run: Run, config: str) -> None:
    migrate = ("migrate", "--to", "postgres", *words)
    with closing(_file(config, writes=True)) as db:
        db.execute("INSERT INTO request (pixel, at, events, outcome) VALUES (1, 1, 1, 'in_flight')")
    code, _, err = run(*migrate)
    assert code == 3
    assert "1 requests to Meta are in flight" in err
    with closing(_file(config, writes=True)) as db:
        db.execute("DELETE FROM request")
    key = Path(load(config, {}).storage.data_dir) / "pepper.key"
    right = key.read_bytes()
    key.write_bytes(bytes(len(right)))
    code, _, err = run(*migrate)
    assert code == 3
    assert "pepper_file" in err
    key.write_bytes(right)
    assert run("migrate", "--to", "postgres", "--dry-run")[0] == 0


def test_another_installations_database_is_refused(run: Run, config: str, database: postgres.Database) -> None:
    asyncio.run(_opened(load(config, {}).storage))
    database.sql("INSERT INTO store (name) VALUES ('another')")
    for words in ((), ("--dry-run",)):
        code, _, err = run("migrate", "--to", "postgres", *words)
        assert code == 3
        assert '"store" has rows' in err


def test_nothing_to_resume(run: Run) -> None:
    code, _, err = run("migrate", "--to", "postgres", "--resume")
    assert code == 3
    assert "nothing to resume" in err


def test_beside_a_running_collector_it_does_not_begin(config: str, monkeypatch: pytest.MonkeyPatch) -> None:
    held = lock.hold(load(config, {}).storage.data_dir)
    try:
        with pytest.raises(StorageError, match="is in use by the collector"):
            move(load(config, {}), resume=False, dry_run=False)
    finally:
        os.close(held)
