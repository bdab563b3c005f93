"""The disk watch: when the disk will be full, told before it is, and over when it is over."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import apsw
import pytest
from msgspec import structs

from collector.config import AlertsConfig, BackupConfig
from collector.core import filling
from collector.courier import disk as disks
from collector.courier.alerts import Alerts
from collector.courier.disk import Disk
from collector.storage.ground.database import connect
from collector.storage.outbox.upkeep import Upkeep
from tests.kit.journal_kit import DAY, NOW, Kit, click, order

MB, GB = 1 << 20, 1 << 30


@pytest.mark.parametrize(
    ("free", "a_day", "days", "told"),
    [
        (100 * GB, 100 * MB, 1023, None),
        (100 * GB, 0, None, None),
        (2 * GB, 200 * MB, 9, "in about 9 days"),
        (100 * MB, 200 * MB, 0, "in about 0 days"),
        (100 * MB, 0, None, "nearly full"),
    ],
)
def test_when_it_is_full_is_told_two_weeks_before(free: int, a_day: int, days: int | None, told: str | None) -> None:
    assert filling.days_left(free, 64 * MB, a_day) == days
    said = filling.warning(free, 64 * MB, days)
    assert said is None if told is None else told in (said or "")


def test_a_database_whose_retention_cuts_as_much_as_comes_does_not_grow() -> None:
    assert filling.growth(GB, 100, 1000, oldest_ms=NOW - 50 * DAY, cut_ms=NOW - 90 * DAY) == GB // 10
    assert filling.growth(GB, 100, 1000, oldest_ms=NOW - 90 * DAY, cut_ms=NOW - 90 * DAY) == 0
    assert filling.growth(GB, 0, 0, oldest_ms=NOW, cut_ms=NOW - 90 * DAY) == 0


@pytest.fixture
def kit(tmp_path: Path) -> Iterator[Kit]:
    with Kit(tmp_path, now=NOW - 9 * DAY) as kit:
        for n in range(60):
            kit.post(click(f"IwARold{n:08d}", kit.now))
        kit.now = NOW
        for n in range(30):
            kit.post(click(f"IwARnew{n:08d}", kit.now), order(f"N{n}", kit.now))
        yield kit


@pytest.fixture
def db(kit: Kit) -> Iterator[apsw.Connection]:
    with closing(connect(kit.journal.data_dir / "collector.db", kit.config.storage)) as db:
        yield db


def test_growth_is_the_last_days_share_of_the_file(kit: Kit, db: apsw.Connection) -> None:
    size = db.execute("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size").get
    count = "SELECT (SELECT count(*) FROM click WHERE received >= ?1) + (SELECT count(*) FROM conversion)"
    today = db.execute(count, (NOW - DAY,)).get
    assert 60 <= today < 120
    assert Upkeep(db).growth(NOW, NOW - 90 * DAY) == size * today // 120
    assert Upkeep(db).growth(NOW + 2 * DAY, NOW - 90 * DAY) == 0
    assert Upkeep(db).growth(NOW, NOW - 9 * DAY) == 0


def test_the_alert_is_raised_and_cleared_and_the_figures_tell(
    kit: Kit, db: apsw.Connection, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "backups").mkdir()
    (tmp_path / "backups/collector-20260921T060000Z.tar").touch()
    config = structs.replace(kit.config, backup=BackupConfig(dir=str(tmp_path / "backups")))
    alerts = Alerts(AlertsConfig())
    watch = Disk(config, Upkeep(db), alerts)
    for free, kinds in ((3 * MB, {("disk", "")}), (10_000 * GB, set())):
        monkeypatch.setattr(disks.shutil, "disk_usage", lambda _, free=free: type("Usage", (), {"free": free}))
        watch.tell(watch.look(NOW), NOW)
        assert alerts._standing == kinds
        assert watch.figures["diskFreeBytes"] == free
    assert watch.figures["newestBackupAt"] // 1000 == 1789970400
    assert watch.figures["diskDays"] > 1000
