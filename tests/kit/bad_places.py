"""Sound installations that are spoilt in one way each: what disks, people, shells and other programs do to them."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final, NamedTuple

from collector.config import StorageConfig
from collector.storage.ground import backup
from collector.storage.ground.database import open_database
from tests.kit.forked import CLOSED, How
from tests.kit.journal_kit import NOW, STORE, Kit, click, config_for, order

NOBODY: Final = 65534
ANY: Final = frozenset({0, 1, 2, 3, 4})
USAGE: Final = frozenset({2})
CONFIG: Final = f"""\
[edge]
listen = "127.0.0.1:0"
[console]
listen = "127.0.0.1:0"
[storage]
data_dir = "data"
reserve_mb = 1
[meta]
mode = "dry_run"
graph_url = "http://127.0.0.1:9"
[[store]]
id = "{STORE}"
domains = ["mystore.invalid"]
currency = "USD"
country = "US"
[[store.pixel]]
id = "123456789012345"
access_token_file = "meta.token"
"""
ORDERS: Final = (
    "storeId,orderId,eventType,eventValue,currency,timestamp\n"
    f"{STORE},1001,Purchase,9.5,USD,2026-09-20T10:00:00Z\n{STORE},,Purchase,5,USD,2026-09-20T10:00:00Z\n"
)


class Case(NamedTuple):
    """A folder with a sound installation, to be spoilt."""

    folder: Path

    @property
    def config(self) -> Path:
        return self.folder / "collector.toml"

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def database(self) -> Path:
        return self.data / "collector.db"

    @property
    def orders(self) -> Path:
        return self.folder / "orders.csv"

    def add(self, text: str, section: str = "") -> None:
        """At the end, or right below a section's head."""
        was = self.config.read_text()
        self.config.write_text(was.replace(section, section + text) if section else was + text)


class Condition(NamedTuple):
    """`codes`: with which a command that takes a configuration may end; `disk`: it takes one of its own, and root."""

    plant: Callable[[Case], object] = lambda case: None
    how: How = How()
    codes: frozenset[int] = ANY
    disk: bool = False


def make_sound(folder: Path) -> None:
    """An installation with a click, an order, a key and a token; files for commands that read one."""
    (folder / "collector.toml").write_text(CONFIG)
    (folder / "orders.csv").write_text(ORDERS)
    (folder / "meta.token").write_text("EAAtoken")
    (folder / "meta.token").chmod(0o600)
    (folder / "data").mkdir(mode=0o700)
    with Kit(folder / "data", config=config_for(folder / "data")) as kit:
        kit.post(click("IwARaBcDeFgHiJkLmNoPqRsTuV1", visitorId="v1"), order("1001", visitorId="v1"))
        backup.backup(kit.config, folder / "backup.tar", NOW)


def _config(content: bytes) -> Condition:
    return Condition(lambda case: case.config.write_bytes(content), codes=USAGE)


def _added(text: str, section: str = "") -> Condition:
    return Condition(lambda case: case.add(text, section), codes=USAGE)


def _told(name: str, value: str) -> Condition:
    return Condition(how=How(environment={name: value}), codes=USAGE)


def _files(spoil: Callable[[Path], object]) -> Condition:
    """Of what a command is given to read."""
    return Condition(lambda case: [spoil(path) for path in (case.orders, case.folder / "backup.tar")])


def _flip(case: Case, at: float) -> None:
    data = bytearray(case.database.read_bytes())
    begin = int(len(data) * at)
    data[begin : begin + 200] = b"\xa5" * 200
    case.database.write_bytes(data)


def _cut(case: Case, share: float) -> None:
    os.truncate(case.database, int(case.database.stat().st_size * share))


def _pragma(case: Case, text: str) -> None:
    with closing(open_database(StorageConfig(data_dir=str(case.data)))) as db:
        db.execute(f"PRAGMA {text}")


def _folder_for(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.mkdir()


def _give(path: Path, owner: int, mode: int) -> None:
    """The file, or the folder and all in it."""
    for one in (path, *path.rglob("*")):
        os.chown(one, owner, owner)
    path.chmod(mode)


def _dead_socket(case: Case) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(case.data / "keeper.sock"))


def _fill(case: Case) -> None:
    free = os.statvfs(case.folder).f_bavail * os.statvfs(case.folder).f_frsize
    with (case.folder / "filler").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, free)


def _read_only(case: Case) -> None:
    subprocess.run(["mount", "-o", "remount,ro", case.folder], check=True)


OF_THE_CONFIGURATION: Final = {
    "no configuration": Condition(lambda c: c.config.unlink(), codes=USAGE),
    "a folder for a configuration": Condition(lambda c: _folder_for(c.config), codes=USAGE),
    "an empty configuration": Condition(lambda c: c.config.write_text("")),
    "no TOML": _added("\n[[[\n"),
    "a binary configuration": _config(bytes(range(256))),
    "half a character": _config(b'[edge]\nlisten = "\xc3"\n'),
    "UTF-16": _config(CONFIG.encode("utf-16")),
    "an unknown key": _added("\n[edgy]\n"),
    "a wrong type": _added("\n[matching]\nwindow_days = 'seven'\n"),
    "a number past its bound": _added("\n[matching]\nwindow_days = 100000\n"),
    "a table for a value": _added("\n[matching.window_days]\n"),
    "a configuration of a megabyte": Condition(lambda c: c.add("\n# " + "x" * (1 << 20))),
    "a link that leads to itself": Condition(lambda c: (c.config.unlink(), c.config.symlink_to(c.config)), codes=USAGE),
    "no token file": Condition(lambda c: (c.folder / "meta.token").unlink()),
    "a folder for a token": Condition(lambda c: _folder_for(c.folder / "meta.token")),
    "a token that is none": Condition(lambda c: (c.folder / "meta.token").write_bytes(b"\xff\0\n\nEAA")),
    "no certificate": Condition(lambda c: c.add('\ntls_cert = "none.pem"\ntls_key = "none.key"', "[edge]")),
    "a certificate that is none": Condition(
        lambda c: (c.add('\ntls_cert = "orders.csv"\ntls_key = "orders.csv"', "[edge]"), c.orders.chmod(0o600))
    ),
    "a word of the environment": _told("COLLECTOR_MATCHING__WINDOW_DAYS", "seven"),
    "an index of the environment that is none": _told("COLLECTOR_STORE__\u00b2__ID", "store_abc123"),
    "bytes in the environment": _told("COLLECTOR_EDGE__PUBLIC_URL", "\udcff"),
    "a setting of the environment that is none": _told("COLLECTOR_MATCHING__WINDOW_DAY", "7"),
}
OF_THE_DATA: Final = {
    "no data directory": Condition(lambda c: shutil.rmtree(c.data)),
    "a file for a data directory": Condition(lambda c: (shutil.rmtree(c.data), c.data.write_text("x"))),
    "an empty data directory": Condition(lambda c: (shutil.rmtree(c.data), c.data.mkdir())),
    "no database": Condition(lambda c: c.database.unlink()),
    "an empty database": Condition(lambda c: c.database.write_bytes(b"")),
    "a database that is none": Condition(lambda c: c.database.write_bytes(b"hello " * 5000)),
    "a database of zeros": Condition(lambda c: c.database.write_bytes(b"\0" * 65536)),
    "a folder for a database": Condition(lambda c: _folder_for(c.database)),
    "half a database": Condition(lambda c: _cut(c, 0.5)),
    "a hundredth of a database": Condition(lambda c: _cut(c, 0.01)),
    "a damaged head": Condition(lambda c: _flip(c, 0.0)),
    "a damaged schema": Condition(lambda c: _flip(c, 0.01)),
    "a damaged middle": Condition(lambda c: _flip(c, 0.5)),
    "a newer schema": Condition(lambda c: _pragma(c, "user_version = 9999")),
    "no key": Condition(lambda c: (c.data / "pepper.key").unlink()),
    "half a key": Condition(lambda c: (c.data / "pepper.key").write_bytes(b"x")),
    "a folder for a key": Condition(lambda c: _folder_for(c.data / "pepper.key")),
    "a damaged index": Condition(lambda c: (c.data / "index.db").write_bytes(b"no index" * 999)),
    "a note of damage": Condition(lambda c: (c.data / "damage").write_text("12 clicks are gone")),
    "a folder for an audit": Condition(lambda c: _folder_for(c.data / "audit.log")),
    "a keeper's socket that nobody has": Condition(_dead_socket),
    "a file for a keeper's socket": Condition(lambda c: (c.data / "keeper.sock").write_text("x")),
    "a folder for a lock": Condition(lambda c: _folder_for(c.data / "lock")),
}
OF_A_FILE: Final = {
    "no file": _files(Path.unlink),
    "a folder for a file": _files(_folder_for),
    "an empty file": _files(lambda path: path.write_bytes(b"")),
    "a binary file": _files(lambda path: path.write_bytes(bytes(range(256)) * 99)),
    "a file of UTF-16": _files(lambda path: path.write_text(ORDERS, encoding="utf-16")),
    "a file of one endless line": _files(lambda path: path.write_bytes(b"x" * (3 << 20))),
    "half a file": _files(lambda path: os.truncate(path, path.stat().st_size // 2)),
    "a file where a folder is to be made": Condition(lambda c: (c.folder / "new").write_text("x")),
}
OF_THE_PROCESS: Final = {
    "a broken pipe": Condition(how=How(stdout="|", whole=True)),
    "a full device": Condition(how=How(stdout="/dev/full", whole=True)),
    "no standard output": Condition(how=How(stdout=CLOSED)),
    "no standard input": Condition(how=How(stdin=CLOSED)),
    "no standard error": Condition(how=How(stderr=CLOSED)),
    "no more files": Condition(how=How(open_files=12)),
    "a folder that is gone": Condition(how=How(folder="gone")),
    "no temporary folder": Condition(how=How(environment={"TMPDIR": "/nonexistent", "HOME": "/nonexistent"})),
}
OF_PEOPLE: Final = {
    "another's configuration": Condition(lambda c: c.config.chmod(0o600), How(user=NOBODY), USAGE),
    "another's data": Condition(lambda c: c.data.chmod(0o700), How(user=NOBODY)),
    "data that may only be read": Condition(
        lambda c: (c.data.chmod(0o755), [one.chmod(0o644) for one in c.data.iterdir()]), How(user=NOBODY)
    ),
    "a database of another owner": Condition(
        lambda c: (_give(c.folder, NOBODY, 0o755), os.chown(c.database, 0, 0), c.database.chmod(0o600)),
        How(user=NOBODY),
    ),
    "root, in another's data": Condition(lambda c: _give(c.folder, NOBODY, 0o755)),
}
OF_THE_DISK: Final = {
    "a full disk": Condition(_fill, disk=True),
    "a disk that may only be read": Condition(_read_only, disk=True),
}
CONDITIONS: Final = {
    **OF_THE_CONFIGURATION, **OF_THE_DATA, **OF_A_FILE, **OF_THE_PROCESS, **OF_PEOPLE, **OF_THE_DISK
}  # fmt: skip
