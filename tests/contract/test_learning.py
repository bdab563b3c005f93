"""A night's lesson over either engine: the same model of the same events; over PostgreSQL, by one courier at a time."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from threading import Event
from typing import Any

import msgspec
import pytest
from msgspec import structs

from collector import cli
from collector.core.matching import Model
from collector.errors import StorageError, Unavailable
from collector.storage import delivery, engine
from collector.storage.learning import models
from collector.storage.postgres.duties import Duties
from collector.storage.postgres.learning import PostgresPast
from tests.kit.courier_kit import wait_until
from tests.kit.journal_kit import DAY, HOUR, MINUTE, NOW, STORE, Kit, click, config_for, order
from tests.kit.journal_kits import PostgresKit, config_over
from tests.kit.postgres import Database
from tests.kit.program import ROOT

AGENTS = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_4 like Mac OS X) Safari/604.1",
    "Mozilla/5.0 (Windows NT 10.0) Chrome/126",
)
START = NOW - 20 * DAY
_decode = msgspec.msgpack.Decoder(Model).decode


def device(n: int) -> dict[str, str]:
    """The first six share an address."""
    address = 1 if n < 6 else n
    return {"ipAddress": f"93.184.{address}.34", "userAgent": f"{AGENTS[n % 2]} x{n % 5}", "fingerprint": f"{n:064x}"}


def tell(kit: Kit, first: int = 0, count: int = 20) -> None:
    """Clicks, and orders: some known by the person, some by the device alone, some from nowhere; a renewal; a bot."""
    for n in range(first, first + count):
        kit.now = START + n * 20 * MINUTE
        browser = {"visitorId": f"v{n}", "fbp": f"fb.1.{kit.now - n * HOUR}.{n + 10**9}"}
        bodies = [click(f"IwAR{n:010}", kit.now, **browser, **device(n))]
        person = {"customerData": {"email": f"jo{n}@example.com"}}
        if n % 3 == 0:
            bodies.append({"storeId": STORE, "eventType": "Lead", "at": kit.now + MINUTE, **browser, **person})
        kit.submit([kit.operation(body) for body in bodies])
        kit.now += 4 * MINUTE
        bought = [order(f"o{n}", kit.now, **device(n), **(person if n % 3 == 0 else {}))]
        if n % 8 == 0:
            bought.append(order(f"r{n}", kit.now + 1, renewalOf=f"o{n}"))
        kit.submit([kit.operation(body) for body in bought])
        kit.submit([kit.operation(order(f"x{n}", kit.now, ipAddress=f"20.1.{n}.9", userAgent=AGENTS[0]))])


def sqlite_kit(database: Database, folder: Path) -> Kit:
    """With the other's key of names."""
    config = config_over(database, folder)
    return Kit(folder, START, structs.replace(config, storage=config_for(folder / "file").storage))


def a_night(kit: Kit, now: int) -> dict[str, Model]:
    kit.fold()
    with closing(delivery.opened(kit.config)) as side:
        return side.night(now)


def stored(kit: Kit) -> list[Model]:
    return [_decode(body) for (body,) in kit.rows("SELECT body FROM model ORDER BY created")]


def alike(model: Model) -> Model:
    """But for the number of the last row that it has learnt from, which is the engine's own."""
    assert model.through > 0
    return structs.replace(model, through=0)


def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where there are far more clicks and orders than a night reads: samples, and the newest rows."""
    for name, most in (("_SAMPLE", 7), ("_DECOYS", 3)):
        monkeypatch.setattr(f"collector.storage.verbs.learning.{name}", most)
    for room in ("learning.learning", "postgres.learning"):
        for name, most in (("MOST_ROWS", 31), ("MOST_HITS", 23), ("SLICE", 5)):
            monkeypatch.setattr(f"collector.storage.{room}.{name}", most)


@pytest.mark.slow
@pytest.mark.parametrize("much", [True, False], ids=["much", "all"])
def test_the_same_events_teach_both_engines_the_same(
    much: bool, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if much:
        few(monkeypatch)
    with sqlite_kit(database, tmp_path) as here, PostgresKit(database, tmp_path, START) as there:
        found = []
        for kit in (here, there):
            tell(kit, 0, 14 if much else 20)
            nights = [a_night(kit, START + 3 * DAY)]
            tell(
                kit, 24 * 15 * 3, 8 if much else 16
            )  # fifteen days later: decoys of the first orders meet their clicks
            nights.append(a_night(kit, START + 15 * DAY + 28 * HOUR))
            figures = kit.rows(
                "SELECT name, CAST(sum(n) AS bigint) FROM counter WHERE name LIKE 'decoy%' GROUP BY 1 ORDER BY 1"
            )
            found.append(([alike(night[STORE]) for night in nights], list(map(alike, stored(kit))), figures))
    assert msgspec.msgpack.encode(found[0]) == msgspec.msgpack.encode(found[1])
    model = found[0][0][1]
    assert model.counts["dec:all"] > 0
    if not much:
        assert model.labels > 4
        assert model.networks, "and its addresses are known"
        assert model.crowds


@pytest.fixture(params=["sqlite", "postgres"])
def kit(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Kit]:
    database: Database | None = request.getfixturevalue("database") if request.param == "postgres" else None
    with PostgresKit(database, tmp_path, START) if database is not None else Kit(tmp_path, START) as kit:
        tell(kit, 0, 6)
        kit.fold()
        yield kit


def test_a_night_is_once_a_day_and_what_is_in_force_answers(kit: Kit) -> None:
    with closing(delivery.opened(kit.config)) as side:
        assert side.night(START + DAY - HOUR) == {}
        assert [model.version for model in side.night(START + 2 * DAY).values()] == ["fs.2"]
        for hours in (0, 23, 24):
            assert side.night(START + 2 * DAY + hours * HOUR) == {}, "nothing new, no new version"
    assert kit.rows("SELECT count(*) FROM counter WHERE name = 'night'") == [(2,)]
    kit.now = START + 2 * DAY
    if isinstance(kit, PostgresKit):
        kit.journal._models_at = kit.journal._learn_at = 0.0
        kit.journal.rest()
    else:
        kit.transaction.conversions.take_models(models.in_force(kit.journal._db))
    (taken,) = kit.post(order("late", kit.now, **device(1)))
    assert taken.state.match.model == "fs.2"


def test_a_lesson_is_taken_at_once(kit: Kit) -> None:
    """By the events' own time: the last of them is what time it is."""
    kit.now = START + 3 * DAY
    kit.submit([kit.operation(order("last", kit.now, **device(3)))])
    kit.fold()
    assert engine.learn(kit.config, NOW, "another") == {}
    assert [model.labels for model in engine.learn(kit.config, NOW, STORE).values()] == [2]
    assert engine.learn(kit.config, NOW) == {}


# -- PostgreSQL alone: several couriers


@pytest.fixture
def shared(database: Database, tmp_path: Path) -> Iterator[PostgresKit]:
    with PostgresKit(database, tmp_path, START) as kit:
        tell(kit, 0, 6)
        yield kit


@pytest.mark.parametrize(
    "leased", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["leased", "control: everybody learns"]
)
def test_of_two_couriers_one_learns(leased: bool, shared: PostgresKit, monkeypatch: pytest.MonkeyPatch) -> None:
    first, both, keep, taught = Event(), Event(), PostgresPast.keep, list[str]()

    def slowly(past: PostgresPast, model: Model, *rest: Any) -> None:
        taught.append(model.version)
        (both if first.is_set() else first).set()
        assert both.wait(60)
        keep(past, model, *rest)

    monkeypatch.setattr(PostgresPast, "keep", slowly)
    if not leased:
        monkeypatch.setattr(Duties, "take", lambda *_: True)
        monkeypatch.setattr(Duties, "require", _nothing)
    with (
        closing(delivery.opened(shared.config)) as one,
        closing(delivery.opened(shared.config)) as other,
        ThreadPoolExecutor(1) as thread,
    ):
        night = thread.submit(one.night, START + 2 * DAY)
        assert first.wait(60)
        if leased:
            assert other.night(START + 2 * DAY) == {}
            with pytest.raises(StorageError, match="another process is learning"):
                engine.learn(shared.config, NOW)
            both.set()
        else:
            assert other.night(START + 2 * DAY).keys() == {STORE}
        assert night.result().keys() == {STORE}
        assert other.night(START + 2 * DAY) == {}, "the day has had its night"
    assert taught == ["fs.2"] * (1 if leased else 2)


async def _nothing(*_: object) -> None:
    """Nobody asks whose duty it is."""


DYING = """
import sys, msgspec
from collector.config import Config
from collector.storage import delivery
from collector.storage.postgres.learning import PostgresPast
def keep(*_):
    print("learnt", flush=True)
    sys.stdin.read()
PostgresPast.keep = keep
delivery.opened(msgspec.json.decode(sys.argv[1], type=Config)).night(int(sys.argv[2]))
"""


@pytest.mark.slow
def test_a_courier_killed_at_it_is_succeeded(shared: PostgresKit) -> None:
    given = (msgspec.json.encode(shared.config).decode(), str(START + 2 * DAY))
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", DYING, *given], stdin=pipe, stdout=pipe, cwd=ROOT) as killed:
        assert killed.stdout is not None
        assert killed.stdout.readline() == b"learnt\n"
        killed.send_signal(signal.SIGKILL)
    with closing(delivery.opened(shared.config)) as side:
        assert side.night(START + 2 * DAY) == {}, "control: it is not known to be dead until its minute is over"
        shared.database.sql("UPDATE duty SET until = 0")
        assert side.night(START + 2 * DAY).keys() == {STORE}
    assert shared.rows("SELECT owner FROM duty") == [("",)]


def test_what_a_courier_learns_that_stood_still_is_not_kept(
    shared: PostgresKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep = PostgresPast.keep

    def late(past: PostgresPast, *given: Any) -> None:
        shared.database.sql("UPDATE duty SET owner = 'another', until = until + 60000, epoch = epoch + 1")
        keep(past, *given)

    monkeypatch.setattr(PostgresPast, "keep", late)
    with closing(delivery.opened(shared.config)) as side, pytest.raises(Unavailable, match="done by another courier"):
        side.night(START + 2 * DAY)
    assert shared.rows("SELECT count(*) FROM model") == [(0,)]
    assert shared.rows("SELECT owner FROM duty") == [("another",)], "nor does it give away what is not its own"


def test_a_duty_is_renewed_while_its_holder_lives(shared: PostgresKit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("collector.storage.postgres.duties._RENEW_S", 0.01)
    with closing(delivery.opened(shared.config)) as side:
        duties = side._duties  # type: ignore[attr-defined]
        assert duties.take("a")
        shared.database.sql("UPDATE duty SET until = until - 50000")
        before = shared.rows("SELECT until FROM duty")
        assert wait_until(lambda: shared.rows("SELECT until FROM duty") > before)
    assert shared.rows("SELECT owner, until FROM duty") == [("", 0)], "who ends in order keeps nobody waiting"


def test_the_command_learns(shared: PostgresKit, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shared.now = START + 3 * DAY
    shared.submit([shared.operation(order("last", shared.now, **device(3)))])
    path = tmp_path / "collector.toml"
    path.write_text(
        f'[storage]\nengine = "postgres"\ndsn = "{shared.database.dsn}"\nstandby = "none"\ndata_dir = "data"\n'
        f'[privacy]\npepper_file = "{tmp_path}/pepper.key"\n[meta]\nmode = "off"\n[[store]]\nid = "{STORE}"\n'
    )
    path.chmod(0o600)
    for learnt in (True, False):
        assert cli.main(["learn", "--config", str(path), "--json"]) == 0
        assert [one["learnt"] for one in json.loads(capsys.readouterr().out)] == [learnt]
