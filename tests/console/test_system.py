"""The System page says what doctor says, and what the processes, the disk and the audit tell."""

from __future__ import annotations

import asyncio
import html
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec import structs

from collector.config import BackupConfig, EdgeConfig
from collector.console.bar import Asked
from collector.console.shell import Desk
from collector.console.system import system
from collector.console.today import today
from collector.storage.ground import audit
from collector.storage.ground.schema import newest_schema
from collector.storage.reports import commands, judged
from collector.storage.reports.reader import Reader
from tests.kit import console_world
from tests.kit.console_store import NOW
from tests.kit.console_world import World


def text(page: bytes) -> str:
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page.decode())))


@pytest.mark.parametrize("state", [console_world.empty, console_world.month, console_world.trouble])
async def test_its_lines_are_doctors_own(tmp_path: Path, state: Callable[..., World]) -> None:
    world = state(tmp_path, NOW, clicks=200)
    async with Reader(tmp_path / "collector.db") as reader:
        page = text((await system(Desk(world.config, reader, lambda: NOW), Asked())).content)
    facts = await asyncio.to_thread(commands.health, world.config, NOW)
    found = list(judged.judge(facts, world.config, NOW))
    world.db.close()
    assert found
    assert [one.what for one in found if one.what not in page] == []
    assert [one.mend for one in found if one.mend and one.mend not in page] == []


async def test_versions_disk_backups_clock_proxies_and_who_did_what(tmp_path: Path) -> None:
    world = console_world.trouble(tmp_path, NOW, clicks=100)
    audit.note(tmp_path, "keys revoke", NOW - 60_000, id="key_<b>")
    config = structs.replace(
        world.config,
        backup=BackupConfig(dir="/backups", every_hours=6, keep=14),
        edge=EdgeConfig(trusted_proxies=["10.0.0.1/32"], public_url="https://t.shop.example"),
    )
    async with Reader(tmp_path / "collector.db") as reader:
        whole = (await system(Desk(config, reader, lambda: NOW), Asked())).content
    world.db.close()
    page = text(whole)
    assert f"Database's schema {newest_schema()} " in page
    assert "Free 2.1 GB Full in 3 days" in page
    assert "each 6 h, 14 are kept" in page
    assert "9 d ago" in page
    assert "10.0.0.1/32" in page
    assert "https://t.shop.example" in page
    assert "Asia/Kolkata" in page
    assert "keys revoke id key_<b>" in page  # as text
    assert b"key_<b>" not in whole
    assert (
        page.index("keys revoke") < page.index("reload settings [alerts] backlog_minutes") < page.index("keys create")
    )


async def test_a_disk_that_fills_and_a_backup_that_is_old_stand_on_top_of_system_and_today(tmp_path: Path) -> None:
    world = console_world.trouble(tmp_path, NOW, clicks=60)
    said = []
    async with Reader(tmp_path / "collector.db") as reader:
        for backup in (BackupConfig(dir="/backups", every_hours=24), BackupConfig(dir="/backups", every_hours=24 * 7)):
            desk = Desk(structs.replace(world.config, backup=backup), reader, lambda: NOW)
            pages = [(await page(desk, Asked())).content for page in (system, today)]
            said += map(text, pages)
            assert b'[privacy] has the days of each kind. <a href="/system">System</a>' in pages[1]
            assert b"of each kind. <a" not in pages[0]  # who is there already is not led there
    world.db.close()
    for page in said:
        assert "The disk will be full in about 3 days at the last day's pace: 2002 MB are free" in page
    assert ["The newest backup is 9 d old." in page for page in said] == [True, True, False, False]
    assert "Act: 3 things need you." in said[1]
    assert "The keeper has been silent for 4 h: no click and no order is stored." in said[1]


async def test_a_disk_with_room_is_not_spoken_of(tmp_path: Path) -> None:
    world = console_world.month(tmp_path, NOW, clicks=60)
    async with Reader(tmp_path / "collector.db") as reader:
        page = text((await today(Desk(world.config, reader, lambda: NOW), Asked())).content)
    world.db.close()
    assert "disk" not in page
