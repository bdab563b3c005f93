"""`collector tail` and the audit: everything that happens is told once, as it comes, and nothing of a person."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from collector.cli import main
from collector.config import StorageConfig
from collector.core.ids import PublicIds
from collector.errors import StorageError
from collector.storage.ground import audit
from collector.storage.ground.database import open_database
from collector.storage.reports import live
from collector.storage.reports.live import KINDS, Follower
from collector.storage.reports.reader import Reader
from tests.kit.console_store import IDS, NOW, PIXEL, add_click, add_conversion, add_request, make_store
from tests.kit.journal_kit import Kit, click, order

REFUSED = "INSERT INTO refusal_sum VALUES (?, 'invalid_json', ?) ON CONFLICT DO UPDATE SET n = n + excluded.n"


def follower(reader: Reader, **over: Any) -> Follower:
    return Follower(reader, IDS, **{"store": None, "pixels": [], "kinds": set(KINDS), **over})


async def test_everything_is_told_once_as_it_comes(tmp_path: Path) -> None:
    db = make_store(tmp_path, clicks=20, conversions=20)
    async with Reader(tmp_path / "collector.db") as reader:
        tail = follower(reader)
        await tail.begin(NOW, 0)
        assert await tail.step(NOW) == []
        add_click(db, NOW, campaign="autumn-sale")
        add_conversion(db, NOW, order="one")
        add_conversion(db, NOW, kind="PageView")
        add_conversion(db, NOW, kind="Lead")
        add_request(db, NOW, outcome="sent")
        db.execute(REFUSED, (NOW // 900_000, 3))
        audit.note(tmp_path, "reload", NOW, settings="[log] level")
        audit.note(tmp_path, "keys create", NOW)
        told = await tail.step(NOW)
        assert sorted(item["kind"] for item in told) == sorted(KINDS)
        assert next(item for item in told if item["kind"] == "refusal")["n"] == 3
        assert next(item for item in told if item["kind"] == "click")["campaign"] == "autumn-sale"
        assert await tail.step(NOW) == []
        db.execute(REFUSED, (NOW // 900_000, 2))
        assert [item["n"] for item in await tail.step(NOW)] == [2]


async def test_a_request_in_flight_is_told_when_it_is_over_whatever_came_after_it(tmp_path: Path) -> None:
    db = make_store(tmp_path, clicks=0, conversions=0)
    async with Reader(tmp_path / "collector.db") as reader:
        tail = follower(reader)
        await tail.begin(NOW, 0)
        flying = add_request(db, NOW, outcome="in_flight")
        add_request(db, NOW + 1, outcome="sent")
        assert [item["outcome"] for item in await tail.step(NOW)] == ["sent"]
        assert await tail.step(NOW) == []
        db.execute("UPDATE request SET outcome = 'refused' WHERE id = ?", (flying,))
        assert [item["outcome"] for item in await tail.step(NOW)] == ["refused"]
        assert await tail.step(NOW) == []


async def test_a_burst_comes_in_pages_and_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "_PAGE", 7)
    db = make_store(tmp_path, clicks=0, conversions=0)
    async with Reader(tmp_path / "collector.db") as reader:
        tail = follower(reader)
        await tail.begin(NOW, 0)
        for n in range(20):
            add_click(db, NOW + n)
        told = [len(await tail.step(NOW)) for _ in range(4)]
    assert told == [7, 7, 6, 0]


async def test_filters_leave_out_other_stores_pixels_and_kinds(tmp_path: Path) -> None:
    db = make_store(tmp_path, clicks=0, conversions=0)
    async with Reader(tmp_path / "collector.db") as reader:
        of_store = follower(reader, store="store_zurich", pixels=["987654321098765"])
        of_kind = follower(reader, kinds={"order"})
        for tail in (of_store, of_kind):
            await tail.begin(NOW, 0)
        add_click(db, NOW, store=1)
        add_click(db, NOW, store=2)
        add_conversion(db, NOW, store=1)
        add_request(db, NOW)
        add_request(db, NOW, pixel=2)
        db.execute(REFUSED, (NOW // 900_000, 3))
        assert [(i["kind"], i.get("store", i.get("pixel"))) for i in await of_store.step(NOW)] == [
            ("click", "store_zurich"),
            ("attempt", "987654321098765"),
        ]
        assert [item["kind"] for item in await of_kind.step(NOW)] == ["order"]
    assert PIXEL


PERSON = {
    "visitorId": "visitor-of-jane",
    "ipAddress": "93.184.216.34",
    "userAgent": "Mozilla/5.0 (X11) Firefox/127.0",
    "fbp": "fb.1.1700000000000.123456789",
}


def test_nothing_of_a_person_is_told(tmp_path: Path) -> None:
    named = "https://mystore.com/jane/?utm_source=fb"
    with Kit(tmp_path) as kit:
        kit.post(click("IwARofJane0000", NOW, landingPage=named, **PERSON))
        kit.post(order("J1001", NOW, customerData={"email": "jo@example.com"}, **PERSON))
        kit.post(order("J1002", NOW, eventType="what jane did"))
        data_dir, names = kit.journal.data_dir, kit.journal.names

    async def told() -> str:
        async with Reader(data_dir / "collector.db") as reader:
            tail = Follower(reader, PublicIds(names.subkey("public ids")), store=None, pixels=[], kinds=set(KINDS))
            await tail.begin(NOW, 100)
            return json.dumps(await tail.step(NOW), default=str)

    text = asyncio.run(told())
    assert text.count('"kind"') == 3
    said = [*PERSON.values(), "IwAR", "J1001", "example.com", "jane", "fb.1"]
    assert [value for value in said if value in text] == []


def test_the_command_follows_until_ctrl_c(tmp_path: Path) -> None:
    db = make_store(tmp_path, now=int(time.time() * 1000), clicks=3, conversions=0)
    command = [sys.executable, "-m", "collector", "tail", "--data-dir", str(tmp_path), "--kind", "click", "--json"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as tail:
        assert tail.stdout is not None
        first = [json.loads(tail.stdout.readline())["id"] for _ in range(3)]
        add_click(db, int(time.time() * 1000))
        assert json.loads(tail.stdout.readline())["id"] not in first
        tail.send_signal(signal.SIGINT)
        rest, err = tail.communicate(timeout=30)
    assert (tail.returncode, rest, err) == (0, "", "")


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., int]:
    with closing(open_database(StorageConfig(data_dir=str(tmp_path)))) as db:
        db.execute("INSERT INTO store (name) VALUES ('store_abc123')")
    return lambda *words: main([*words, "--data-dir", str(tmp_path)])


def test_who_did_what_is_kept_and_shown(
    run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("keys", "create", "--kind", "secret") == 0
    assert run("erase", "--email", "jo@example.com", "--yes") == 0
    assert run("export-person", "--email", "jo@example.com") == 0
    assert run("replay", "--status", "rejected") == 0
    assert run("clock", "accept") == 0
    assert run("erase", "--email", "jo@example.com", "--dry-run") == 0
    assert run("replay", "--status", "rejected", "--dry-run") == 0
    capsys.readouterr()
    assert run("audit", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    did = [entry["action"] for entry in told]
    assert did == ["keys create", "erase", "export-person", "replay", "clock accept"]
    assert told[1]["about"] == {"by": "email", "store": None}
    assert told[0]["who"]
    path = tmp_path / audit.NAME
    assert b"example.com" not in path.read_bytes()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert run("audit") == 0
    assert "keys create" in capsys.readouterr().out


def test_what_cannot_be_noted_is_not_done(
    run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / audit.NAME).mkdir()
    assert run("keys", "create", "--kind", "secret") == 3
    assert "nothing was done" in capsys.readouterr().err
    assert run("keys", "list", "--json") == 0
    assert json.loads(capsys.readouterr().out) == []


def test_a_half_written_line_is_left_out_and_the_next_is_whole(tmp_path: Path) -> None:
    audit.note(tmp_path, "reload", NOW)
    with (tmp_path / audit.NAME).open("ab") as file:
        file.write(b'{"at": "20')
    assert [e.action for e in audit.read(tmp_path)[0]] == ["reload"]
    audit.note(tmp_path, "restore", NOW)
    assert [e.action for e in audit.read(tmp_path)[0]] == ["reload", "restore"]


def test_the_log_is_begun_anew_when_it_is_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "_MOST_BYTES", 100)
    for n in range(4):
        audit.note(tmp_path, f"act {n}", NOW)
    assert (tmp_path / f"{audit.NAME}.1").exists()
    assert audit.read(tmp_path)[0][-1].action == "act 3"
    with pytest.raises(StorageError):
        audit.note(tmp_path / "nowhere", "reload", NOW)
