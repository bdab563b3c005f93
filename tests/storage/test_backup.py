"""One file holds the installation: made beside the writer, verified, and put back so that nothing is counted twice."""

from __future__ import annotations

import shutil
import tarfile
from contextlib import closing
from pathlib import Path

import apsw
import msgspec
import pytest

from collector.config import BackupConfig, Config
from collector.core.retry import DOUBT_WINDOW_MS, may_resend
from collector.courier.copies import Copies
from collector.errors import CollectorError, StorageError
from collector.storage.ground import backup as backups
from collector.storage.ground import copies as copies_of
from collector.storage.ground import database
from collector.storage.ground.database import open_database
from collector.storage.ground.schema import newest_schema
from collector.storage.reports import commands
from tests.kit.journal_kit import DAY, HOUR, NOW, Kit, click, config_for, order


@pytest.fixture
def kept(tmp_path: Path) -> tuple[Path, Config]:
    """A backup of a journal with a click and two orders, made while the journal was open; and its configuration."""
    with Kit(tmp_path / "data") as kit:
        kit.post(click("IwARaBcDeFgHiJkLmNoPqRsTuV1", visitorId="v1"), order("1", visitorId="v1"), order("2"))
        path, manifest = backups.backup(kit.config, tmp_path, NOW)
        kit.post(order("3"))  # the writer goes on
    assert manifest.rows["conversion"] == 2
    return path, config_for(tmp_path / "again")


def rows(config: Config, sql: str) -> list[tuple[object, ...]]:
    with closing(apsw.Connection(f"{config.storage.data_dir}/collector.db")) as db:
        return list(db.execute(sql))


def test_a_restored_installation_knows_its_orders_and_takes_new_ones(kept):
    path, config = kept
    backups.restore(config, path, NOW)
    with Kit(Path(config.storage.data_dir), NOW + HOUR) as kit:
        (again,) = kit.post(order("1", visitorId="v1"))
        (new,) = kit.post(order("9", NOW + HOUR))
    assert again.duplicate
    assert not new.duplicate


def test_all_that_waited_is_in_doubt_since_the_backup(kept):
    path, config = kept
    done = backups.restore(config, path, NOW + DAY)
    doubts = rows(config, "SELECT doubt_at, doubts FROM outbox WHERE settled IS NULL")
    assert done.doubtful == len(doubts) == 1  # the other order tells of nobody and is skipped
    assert doubts == [(NOW, 1)]
    assert may_resend(NOW, NOW + HOUR)
    assert not may_resend(NOW, NOW + DOUBT_WINDOW_MS)


def test_control_without_doubt_accounting_all_would_go_out_again(kept, monkeypatch):
    path, config = kept
    monkeypatch.setattr(backups, "_IN_DOUBT", "UPDATE outbox SET doubts = doubts + 0 WHERE settled IS NULL AND ? > 0")
    backups.restore(config, path, NOW + DAY)
    assert rows(config, "SELECT doubt_at FROM outbox WHERE settled IS NULL") == [(None,)]


def test_no_id_that_was_given_after_the_backup_is_given_again(kept, tmp_path):
    path, config = kept
    lost = rows(config_for(tmp_path / "data"), "SELECT max(id) FROM conversion")[0][0]
    backups.restore(config, path, NOW + DAY)
    with Kit(Path(config.storage.data_dir), NOW + 2 * DAY) as kit:
        kit.post(order("9", NOW + DAY))
    assert rows(config, "SELECT max(id) FROM conversion")[0][0] > lost


def test_the_numbers_that_a_restore_skips_are_counted_as_no_rows(kept, tmp_path):
    path, config = kept
    backups.restore(config, path, NOW + DAY)
    again, second = config_for(tmp_path / "second"), tmp_path / "second.tar"
    with Kit(Path(config.storage.data_dir), NOW + 2 * DAY) as kit:
        kit.post(order("9", NOW + DAY))
        backups.backup(config, second, NOW + 2 * DAY)
    backups.restore(again, second, NOW + 3 * DAY)
    for place, orders in ((config, 3), (again, 3)):
        found = commands.status(place, NOW + 3 * DAY)
        assert (found.total_clicks, found.total_conversions) == (1, orders)
        assert rows(place, "SELECT max(id) FROM click")[0][0] > 1  # the control: the numbers are higher


@pytest.mark.parametrize("what", ["collector.db", "pepper.key", "other"])
def test_a_restore_goes_into_an_empty_place_alone(kept, what):
    path, config = kept
    folder = Path(config.storage.data_dir)
    folder.mkdir()
    (folder / what).write_text("mine")
    if what == "pepper.key":
        (folder / "more").write_text("mine")
    with pytest.raises(StorageError, match="not empty"):
        backups.restore(config, path, NOW)
    assert (folder / what).read_text() == "mine"


def test_a_restore_that_was_cut_off_can_be_tried_again(kept, monkeypatch):
    path, config = kept

    def cut(*_: object) -> None:
        raise KeyboardInterrupt

    for step in ("_unpack", "_check", "_make_safe"):
        with monkeypatch.context() as patch:
            patch.setattr(backups, step, cut)
            with pytest.raises(KeyboardInterrupt):
                backups.restore(config, path, NOW)
    with monkeypatch.context() as patch:
        patch.setattr(backups.os, "rename", cut)  # the key is there, the database is not
        with pytest.raises(KeyboardInterrupt):
            backups.restore(config, path, NOW)
    backups.restore(config, path, NOW)
    assert rows(config, "SELECT count(*) FROM outbox") == [(2,)]


@pytest.mark.parametrize("at", [0.3, 0.6, 0.9])
def test_a_damaged_backup_is_refused_and_leaves_nothing(kept, at):
    path, config = kept
    raw = bytearray(path.read_bytes())
    raw[int(len(raw) * at)] ^= 0x55
    path.write_bytes(raw)
    with pytest.raises((CollectorError, StorageError)):
        backups.restore(config, path, NOW)
    assert not (Path(config.storage.data_dir) / "collector.db").exists()


@pytest.mark.parametrize("name", ["../outside", "/etc/outside", "collector.db.link"])
def test_an_archive_with_anything_else_is_refused(kept, tmp_path, name):
    _, config = kept
    path = tmp_path / "bad.tar"
    with tarfile.open(path, "w") as tar:
        tar.addfile(tarfile.TarInfo(name))
    with pytest.raises(CollectorError, match="no backup"):
        backups.restore(config, path, NOW)


@pytest.mark.parametrize("content", [b"", b"x" * 2000, b"\0" * 10240])
def test_what_is_no_archive_is_refused_in_a_sentence(kept, tmp_path, content):
    _, config = kept
    (tmp_path / "bad.tar").write_bytes(content)
    with pytest.raises(CollectorError, match=r"bad\.tar"):
        backups.restore(config, tmp_path / "bad.tar", NOW)


def test_a_backup_of_a_newer_release_is_refused(kept, tmp_path, monkeypatch):
    path, config = kept
    monkeypatch.setattr(backups, "newest_schema", lambda: 1)
    with pytest.raises(StorageError, match="newer"):
        backups.restore(config, path, NOW)


def test_a_backup_never_overwrites(kept, tmp_path):
    path, _ = kept
    before = path.read_bytes()
    with pytest.raises(StorageError, match="not overwritten"):
        backups.backup(config_for(tmp_path / "data"), path, NOW)
    assert path.read_bytes() == before


def test_too_little_room_is_said_before_anything_is_written(kept, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(9, 9, 9))
    with pytest.raises(StorageError, match="make room"):
        backups.backup(config_for(tmp_path / "data"), tmp_path / "b.tar", NOW)
    assert not list(tmp_path.glob("b.tar"))


class Told:
    """Stands in for the alerts."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def raised(self, kind: str, pixel: str, text: str, now: int) -> None:
        self.texts.append(text)

    def over(self, kind: str, now: int) -> None:
        self.texts.append("over")


async def test_backups_are_made_when_due_and_so_many_are_kept(kept, tmp_path):
    folder, told = tmp_path / "copies", Told()
    config = msgspec.structs.replace(
        config_for(tmp_path / "data"), backup=BackupConfig(dir=str(folder), every_hours=1.0, keep=2)
    )
    copies = Copies(config, told)
    for now in (NOW, NOW + HOUR // 2, NOW + HOUR, NOW + 2 * HOUR, NOW + 5 * HOUR):
        await copies.step(now)
    made = [copies_of.newest_ms(folder), len(list(folder.iterdir()))]
    assert made == [(NOW + 5 * HOUR) // 1000 * 1000, 2]
    copies.close()
    later = Copies(config, told)  # a restart neither skips nor repeats one
    await later.step(NOW + 5 * HOUR + 1000)
    assert len(list(folder.iterdir())) == 2
    later.close()


async def test_a_backup_that_fails_is_told_and_tried_again(kept, tmp_path):
    told = Told()
    place = tmp_path / "file"
    place.write_text("no folder")
    config = msgspec.structs.replace(config_for(tmp_path / "data"), backup=BackupConfig(dir=str(place)))
    copies = Copies(config, told)
    await copies.step(NOW)
    await copies.step(NOW + 1000)  # not at once again
    assert len(told.texts) == 1
    place.unlink()
    await copies.step(NOW + HOUR)
    assert told.texts[-1] == "over"
    copies.close()


def older(tmp_path: Path) -> Config:
    """A database of the last schema but one."""
    config = config_for(tmp_path / "old")
    with closing(open_database(config.storage)) as db:
        db.execute("CREATE TABLE witness_of_the_old (x)")
        db.pragma("user_version", newest_schema() - 1)
    return config


def test_before_a_migration_the_database_is_copied_beside_itself(tmp_path, monkeypatch):
    config = older(tmp_path)
    copy = Path(config.storage.data_dir) / f"collector.db.before-{newest_schema()}"
    monkeypatch.setattr(database, "migrate", lambda *_: None)
    open_database(config.storage).close()
    with closing(apsw.Connection(str(copy))) as db:
        assert db.pragma("user_version") == newest_schema() - 1
        assert db.execute("SELECT count(*) FROM witness_of_the_old").get == 0
    assert copy.stat().st_mode & 0o777 == 0o600


def test_no_migration_begins_without_room_for_the_copy(tmp_path, monkeypatch):
    config = older(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(9, 9, 9))
    with pytest.raises(StorageError, match="make room"):
        open_database(config.storage)


def test_a_new_database_and_one_of_today_are_not_copied(tmp_path):
    config = config_for(tmp_path / "new")
    for _ in range(2):
        open_database(config.storage).close()
    assert not list((tmp_path / "new").glob("*.before-*"))
