"""A power cut: what was acknowledged is there after it, because each group is synced before its answer.

The cut is ext4's own: a file system on a loop device is shut down without flushing its log (as xfstests' godown
does), so that what was not synced is gone. It takes root. The control is durability = "normal", which must lose.
"""

from __future__ import annotations

import fcntl
import os
import random
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import apsw
import pytest

from tests.kit.harness import ROOT

SHUTDOWN = 0x8004587D  # EXT4_IOC_SHUTDOWN
WITHOUT_LOG_FLUSH = struct.pack("I", 2)
WRITER = """
import sys
from pathlib import Path
import msgspec
from tests.kit.journal_kit import Kit, click, config_for
folder, durability = Path(sys.argv[1]), sys.argv[2]
config = config_for(folder)
config = msgspec.structs.replace(config, storage=msgspec.structs.replace(config.storage, durability=durability))
with Kit(folder, config=config) as kit:
    first = kit.rows("SELECT coalesce(max(id), 0) FROM click")[0][0]
    for number in range(first, 10**9, 20):
        results = kit.submit([kit.operation(click(f"IwARpower{n:09}")) for n in range(number, number + 20)])
        print(results[-1].id, flush=True)
"""


class Disk(NamedTuple):
    image: Path
    folder: Path

    def mount(self) -> None:
        subprocess.run(["mount", "-o", "loop", str(self.image), str(self.folder)], check=True, capture_output=True)

    def unmount(self) -> None:
        for _ in range(50):
            if subprocess.run(["umount", str(self.folder)], capture_output=True).returncode == 0:
                return
            time.sleep(0.05)
        raise AssertionError("the file system stays busy")

    def cut(self) -> None:
        fd = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.ioctl(fd, SHUTDOWN, WITHOUT_LOG_FLUSH)
        finally:
            os.close(fd)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    disk = Disk(tmp_path / "image", tmp_path / "disk")
    disk.folder.mkdir()
    with open(disk.image, "wb") as file:
        file.truncate(1024 * 1024 * 1024)  # sparse: 220 cuts store some 150 MB
    try:
        subprocess.run(["mkfs.ext4", "-q", "-F", str(disk.image)], check=True, capture_output=True)
        disk.mount()
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no ext4 on a loop device here: {error}")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk.folder)], capture_output=True)


def cuts(disk: Disk, durability: str, count: int, dice: random.Random) -> tuple[int, int]:
    """Cut the power so often under load; how many rows were acknowledged, and how many of them were lost."""
    acknowledged = lost = 0
    for _ in range(count):
        before = highest(disk)
        last = until_cut(disk, durability, 0.3 + dice.random() * 0.4)
        disk.unmount()
        disk.mount()
        after = highest(disk)
        acknowledged += max(0, last - before)
        lost += max(0, last - after)
    return acknowledged, lost


def until_cut(disk: Disk, durability: str, seconds: float) -> int:
    """The last row that the writer has said to be stored when the power went."""
    command = [sys.executable, "-c", WRITER, str(disk.folder / "data"), durability]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT, text=True) as writer:
        assert writer.stdout is not None
        assert writer.stderr is not None
        said = writer.stdout.readline()
        assert said, f"the writer did not start: {writer.stderr.read()}"
        time.sleep(seconds)
        writer.send_signal(signal.SIGSTOP)  # what it has said by now is what a client could have heard
        disk.cut()
        writer.kill()
        lines = [said, *writer.stdout.readlines()]
    return int([line for line in lines if line.endswith("\n")][-1])


def highest(disk: Disk) -> int:
    """The last row on the disk, whose rows are whole and without a gap."""
    path = disk.folder / "data" / "collector.db"
    if not path.exists():
        return 0
    db = apsw.Connection(str(path))
    try:
        if not db.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'click'").get:
            return 0
        assert db.execute("PRAGMA quick_check").get == "ok"
        rows, last = db.execute("SELECT count(*), coalesce(max(id), 0) FROM click").fetchone()
        assert rows == last
        return int(last)
    finally:
        db.close()


@pytest.mark.slow
def test_a_power_cut_loses_nothing_that_was_acknowledged(disk: Disk) -> None:
    acknowledged, lost = cuts(disk, "full", int(os.environ.get("POWER_CUTS", "10")), random.Random(3))
    assert acknowledged > 1000
    assert lost == 0
    print(f"{acknowledged} acknowledged, {lost} lost")


@pytest.mark.slow
def test_without_syncing_it_does(disk: Disk) -> None:
    """The control: the same cuts, and no sync at each commit."""
    acknowledged, lost = cuts(disk, "normal", 5, random.Random(3))
    assert acknowledged > 1000
    assert lost > 0
