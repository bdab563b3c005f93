"""The key of all names: kept apart from the rows it names, and never replaced beside them, by whatever process."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import requests

from collector.errors import StorageError
from collector.exchange.clock import Clock
from collector.storage.ground.database import load_pepper, open_database
from collector.storage.journal.journal import Journal
from tests.kit.console_process import ConsoleProcess, make_config
from tests.kit.journal_kit import Kit, click, config_for

ROOT = Path(__file__).parents[2]
CONFIG = """
[edge]
listen = "127.0.0.1:0"
[console]
listen = "127.0.0.1:0"
[storage]
data_dir = "{data}"
reserve_mb = 1
[meta]
mode = "dry_run"
[[store]]
id = "store_abc123"
"""
COMMANDS = (["serve"], ["keeper"], ["replay"], ["explain", "conv_1"], ["explain", "order-1"], ["export", "clicks"])


def remove(key: Path) -> None:
    key.unlink()


def swap(key: Path) -> None:
    key.write_bytes(b"x" * 32)


def shorten(key: Path) -> None:
    key.write_bytes(b"x" * 31)


def lengthen(key: Path) -> None:
    key.write_bytes(key.read_bytes() + b"\n")


DAMAGE = (remove, swap, shorten, lengthen)


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    """A data directory with one click, named by its key."""
    data = tmp_path / "data"
    with Kit(data) as kit:
        kit.post(click("IwAR0one"))
    return data


def run(data: Path, *command: str) -> subprocess.CompletedProcess[str]:
    config = data.parent / "collector.toml"
    config.write_text(CONFIG.format(data=data))
    return subprocess.run(
        [sys.executable, "-m", "collector", *command, "--config", str(config)],
        capture_output=True,
        text=True,
        timeout=30,
        cwd=ROOT,
    )


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_no_command_takes_another_key_than_the_one_that_named_the_rows(
    filled: Path, damage: Callable[[Path], None], command: list[str]
) -> None:
    key = filled / "pepper.key"
    damage(key)
    before = key.read_bytes() if key.exists() else None
    done = run(filled, *command)
    assert done.returncode == 3, done.stderr
    assert str(key) in done.stderr
    assert "from the backup" in done.stderr or "from the same backup" in done.stderr
    assert "lost for good" in done.stderr
    assert "Traceback" not in done.stderr
    assert (key.read_bytes() if key.exists() else None) == before


def test_the_key_put_back_goes_on_with_the_same_names(filled: Path) -> None:
    key = filled / "pepper.key"
    kept = key.read_bytes()
    key.unlink()
    with pytest.raises(StorageError, match="there is no"):
        Journal(config_for(filled), Clock(lambda: 0, lambda: 0))
    key.write_bytes(kept)
    key.chmod(0o600)
    with Kit(filled) as kit:
        (again,) = kit.post(click("IwAR0one"))
    assert again.duplicate


def test_the_console_says_so_on_its_pages(filled: Path) -> None:
    swap(filled / "pepper.key")
    with ConsoleProcess(make_config(filled)) as console:
        answer = requests.get(f"http://127.0.0.1:{console.port}/events", timeout=10)
    assert answer.status_code == 503
    assert "is not the key by which" in answer.text


def test_the_courier_alone_still_delivers_without_the_key(filled: Path) -> None:
    """What waits is encoded already: no name is needed, and the way out that the message names is open."""
    remove(filled / "pepper.key")
    config = filled.parent / "collector.toml"
    config.write_text(CONFIG.format(data=filled))
    command = [sys.executable, "-m", "collector", "courier", "--config", str(config)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT) as courier:
        assert courier.stderr is not None
        assert "ready\n" in iter(courier.stderr.readline, "")
        courier.terminate()
        assert courier.wait(15) == 0


def test_an_empty_database_takes_any_key(tmp_path: Path) -> None:
    """`keys create` comes before any key, and who loses one before the first event has lost nothing."""
    config = config_for(tmp_path)
    open_database(config.storage).close()
    names = []
    for _ in range(2):
        Journal(config, Clock(lambda: 0, lambda: 0)).close()
        names.append((tmp_path / "pepper.key").read_bytes())
        (tmp_path / "pepper.key").unlink()
    assert names[0] != names[1]


def test_a_key_that_came_before_its_check_is_taken(filled: Path) -> None:
    """A database of before the check has none: the key at hand becomes the known one."""
    config = config_for(filled)
    db = open_database(config.storage)
    db.execute("DELETE FROM pepper_check")
    load_pepper(db, filled, "")
    swap(filled / "pepper.key")
    with pytest.raises(StorageError, match="is not the key"):
        load_pepper(db, filled, "")
    db.close()


def test_edges_that_start_at_once_have_one_key(tmp_path: Path) -> None:
    config = config_for(tmp_path)
    open_database(config.storage).close()
    found: list[bytes] = []

    def start() -> None:
        db = open_database(config.storage)
        found.append(load_pepper(db, tmp_path, ""))
        db.close()

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1


def test_the_check_tells_nothing_of_the_key(filled: Path) -> None:
    key = (filled / "pepper.key").read_bytes()
    db = open_database(config_for(filled).storage)
    check = db.execute("SELECT value FROM pepper_check").get
    db.close()
    assert len(check) == 32
    assert key not in (filled / "collector.db").read_bytes()


def test_a_key_that_others_can_read_is_refused_unless_systemd_guards_it(
    filled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (filled / "pepper.key").chmod(0o440)
    with pytest.raises(StorageError, match="chmod 600"):
        Journal(config_for(filled), Clock(lambda: 0, lambda: 0))
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(filled))
    Journal(config_for(filled), Clock(lambda: 0, lambda: 0)).close()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_key_that_cannot_be_read_is_named(filled: Path) -> None:
    (filled / "pepper.key").chmod(0)
    with pytest.raises(StorageError, match="cannot read"):
        Journal(config_for(filled), Clock(lambda: 0, lambda: 0))


def test_a_folder_in_the_keys_place_is_named(filled: Path) -> None:
    (filled / "pepper.key").unlink()
    (filled / "pepper.key").mkdir()
    with pytest.raises(StorageError, match="cannot read"):
        Journal(config_for(filled), Clock(lambda: 0, lambda: 0))
