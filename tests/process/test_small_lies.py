"""What a person is told at the start, of keys, and of whose files they are; with the real program."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.program import ROOT, SOURCE, Serving, wait_until

NOBODY = 65534
CONFIG = """
[meta]
mode = "dry_run"
[[store]]
id = "store_abc123"
domains = ["shop.example"]
[[store.pixel]]
id = "123456789012345"
"""


@pytest.fixture
def start() -> Iterator[object]:
    started: list[Serving] = []

    def begin(tmp: Path, *args: str) -> Serving:
        started.append(Serving(SOURCE, tmp, *args))
        return started[-1]

    yield begin
    for one in started:
        one.end()


@pytest.mark.slow
def test_the_demo_shows_keys_once_and_says_how_to_make_others(start, tmp_path):
    first = start(tmp_path)
    first.ready()
    assert first.stderr.startswith("Collector 0."), "the first line comes before anything is made"
    assert "starts a demo" in first.stderr.splitlines()[0]
    assert wait_until(lambda: "curl " in first.stdout, 60)
    assert ("sk_" in first.stdout, "pk_" in first.stdout) == (True, True)
    assert first.stop() == 0
    second = start(tmp_path)
    second.ready()
    assert wait_until(lambda: "keys create" in second.stdout, 60)
    assert ("sk_" in second.stdout, "curl" in second.stdout) == (False, False)
    line = next(line.split()[1:] for line in second.stdout.splitlines() if line.strip().startswith("collector keys"))
    assert "sk_" in second.run(*line), "the line works as it stands"
    assert len(second.run("keys", "list", "--json").split('"id"')) == 1 + 3


def test_with_a_file_the_first_line_says_mode_pixels_and_console_and_a_reload_what_changed(start, tmp_path):
    (tmp_path / "collector.toml").write_text(CONFIG)
    serving = start(tmp_path, "--config", "collector.toml")
    serving.ready()
    first = serving.stderr.splitlines()[0]
    assert "mode dry_run, pixels 123456789012345, console http://127.0.0.1:" in first
    assert "sk_" not in serving.stdout
    (tmp_path / "collector.toml").write_text(CONFIG.replace("shop.example", "other.example"))
    serving.process.send_signal(signal.SIGHUP)
    told = "new settings are in force  setting=store.store_abc123.domains"
    assert wait_until(lambda: told in serving.stderr, 60), serving.stderr
    assert "other.example" not in serving.stderr


def test_without_a_file_no_database_is_made_for_a_key(tmp_path):
    command = [*SOURCE, "keys", "create", "--store", "store_demo", "--kind", "secret"]
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert (done.returncode, "collector-data" in done.stderr) == (3, True), done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, who makes a key for the service's own user")
@pytest.mark.parametrize("there", [True, False], ids=["the folder is there", "only its parent"])
def test_what_root_makes_belongs_to_the_folders_owner(there):
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    try:
        (folder / "collector.toml").write_text(CONFIG)
        data = folder / "collector-data"
        if there:
            data.mkdir()
            (data / "link").symlink_to("/etc/passwd")
        os.chown(data if there else folder, NOBODY, NOBODY)
        command = [*SOURCE, "keys", "create", "--config", str(folder / "collector.toml"), "--store", "store_abc123"]
        subprocess.run([*command, "--kind", "secret"], env=environment(), cwd="/", check=True, capture_output=True)
        assert {path.lstat().st_uid for path in data.iterdir() if not path.is_symlink()} == {NOBODY}
        assert (data.stat().st_uid, os.stat("/etc/passwd").st_uid) == (NOBODY, 0)
        assert (data / "collector.db").is_file()
    finally:
        shutil.rmtree(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to run as somebody else")
def test_a_wrong_user_is_told_whose_folder_it_is():
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    try:
        folder.chmod(0o755)
        (folder / "data").mkdir(mode=0o700)
        program = textwrap.dedent(
            f"""
            import os, sys
            from collector.config import StorageConfig
            from collector.errors import StorageError
            from collector.storage.ground import lock
            from collector.storage.ground.database import prepare_data_dir
            os.setuid({NOBODY})
            for work in (lock.hold, lambda folder: prepare_data_dir(StorageConfig(data_dir=folder))):
                try:
                    work(sys.argv[1])
                except StorageError as error:
                    print(error)
            """
        )
        done = subprocess.run(
            [sys.executable, "-c", program, str(folder / "data")], cwd=ROOT, capture_output=True, text=True
        )
        told = f"{folder / 'data'} belongs to root (mode 0700), and this runs as nobody"
        assert done.stdout.count(told) == 2, done.stdout + done.stderr
    finally:
        shutil.rmtree(folder)


def environment() -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("COLLECTOR_")}
    return {**clean, "PYTHONPATH": str(ROOT)}
