"""What is wrong with files, disk and limits? Each check looks at one thing and says what it saw."""

from __future__ import annotations

import os
import resource
import shutil
import stat
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from typing import Final

from collector import certificate
from collector.cli.installing.units import BACKUPS
from collector.config import Config
from collector.core import certificates, filling
from collector.core.capi import versions
from collector.errors import CollectorError, StorageError, user
from collector.storage.ground import copies, damage, pepper
from collector.storage.reports.findings import Finding, fail, ok, warn

_MB: Final = 1 << 20
_HOUR_MS: Final = 3_600_000
_TIMERS_HOURS: Final = 24.0  # collector-backup.timer, which `install` writes where [backup] dir is empty
_FILES_WARN: Final = 4096  # a quarter is kept for ourselves; what is left serves a busy shop's visitors


def of_settings(config: Config) -> Iterator[Finding]:
    """What the settings themselves say."""
    if config.meta.mode != "live":
        yield warn("mode", f"[meta] mode is {config.meta.mode}: nothing is sent to Meta", 'set [meta] mode = "live"')
    else:
        yield ok("mode", "live")
    if (doubt := versions.warning(config.meta.api_version, datetime.now(UTC).date())) is not None:
        yield warn("graph.version", doubt, "set [meta] api_version to the newest, or leave it out")
    for store in config.store:
        for pixel in store.pixel if store.active else []:
            if pixel.test_event_code:
                until = pixel.test_event_code_expires
                yield warn(
                    "pixel.test_code",
                    f"pixel {pixel.id} sends all its events as tests until {until}",
                    "take test_event_code out of the configuration once you have seen them in Events Manager",
                )
        if store.active and not store.pixel:
            yield warn("store.pixel", f"store {store.id} has no pixel: its events go nowhere", "add [[store.pixel]]")
        if store.active and not store.currency:
            yield warn("store.currency", f"store {store.id} has no currency for its reports", 'add currency = "USD"')
        if store.active and not store.country:
            yield warn(
                "store.country",
                f"store {store.id} has no country: phone numbers without a country code are not sent",
                'add country = "US"',
            )
    if not config.edge.public_url:
        yield warn(
            "public_url",
            "[edge] public_url is not set, so the door cannot be looked at from outside",
            'add public_url, for example "https://shop.example/m"',
        )


def of_files(config: Config) -> Iterator[Finding]:
    """Data directory, its database and its key; nothing else where there is none yet."""
    folder = Path(config.storage.data_dir)
    path = folder / "collector.db"
    try:
        there = path.is_file()
        status = folder.stat() if folder.exists() else None
    except PermissionError:
        yield fail("data_dir.owner", f"{folder} cannot be looked into as {user(os.geteuid())}", _as_owner("its owner"))
        return
    if status is None or not there:
        yield warn("data_dir", f"no database at {path}", "start it: collector serve; or name the right --data-dir")
        return
    yield ok("data_dir", str(folder))
    yield from _owner(folder, status, path.stat())
    if status.st_mode & (stat.S_IRWXO | stat.S_IWGRP):
        yield warn("data_dir.mode", f"{folder} is open to others", f"chmod 700 {folder}")
    if path.stat().st_mode & stat.S_IRWXO:
        yield fail("database.mode", f"{path} can be read by anybody", f"chmod 600 {path}")
    if (lost := damage.told(folder)) is not None:
        yield fail("damage", lost, "collector damage show; then a backup, or collector damage accept")


def _owner(folder: Path, outer: os.stat_result, inner: os.stat_result) -> Iterator[Finding]:
    if outer.st_uid != inner.st_uid:
        owner = user(outer.st_uid)
        yield fail(
            "data_dir.owner",
            f"{folder} belongs to {owner}, and its database to {user(inner.st_uid)}",
            f"chown -R {owner} {folder}",
        )
    elif not os.access(folder, os.W_OK):
        yield fail(
            "data_dir.owner", f"{folder} cannot be written by {user(os.geteuid())}", _as_owner(user(outer.st_uid))
        )


def _as_owner(owner: str) -> str:
    return f"run this as {owner}"


def of_key(config: Config, witness: pepper.Witness) -> Iterator[Finding]:
    """The key of names: there, private, and the one that named the rows."""
    path = pepper.path_of(config.storage.data_dir, config.privacy.pepper_file)
    try:
        pepper.refuse_stranger(path, pepper.read(path), witness)
    except StorageError as error:
        place = "another machine" if witness.shared else "the backup that the database is from"
        yield fail("pepper", str(error), f"put the key back from {place}, chmod 600")
    else:
        yield ok("pepper", f"{path} is the key of this database")


def of_disk(config: Config, bytes_a_day: int) -> Iterator[Finding]:
    """Free space, and when it will be gone at the last day's pace."""
    folder = Path(config.storage.data_dir)
    if not folder.exists():
        return
    free, reserve = shutil.disk_usage(folder).free, config.storage.reserve_mb * _MB
    seen = f"{free // _MB} MB free at {folder}"
    if free < reserve:
        yield fail("disk.free", f"{seen}, and below {reserve // _MB} MB posts are refused", "make room on this disk")
    elif free < filling.RESERVES_WARN * reserve:
        yield warn("disk.free", f"{seen}; below {reserve // _MB} MB posts are refused", "make room on this disk")
    else:
        yield ok("disk.free", seen)
    if (days := filling.days_left(free, reserve, bytes_a_day)) is not None and days < filling.DAYS_WARN:
        yield warn(
            "disk.days",
            f"full in about {days} days at {bytes_a_day // _MB} MB a day",
            "make room, or lower [privacy] click_days",
        )


def of_certificate(config: Config) -> Iterator[Finding]:
    """The edge's own, where it speaks TLS itself; `outside` looks at the one that visitors meet."""
    pair = certificate.of(config.edge)
    if pair is None:
        return
    valid, now = certificate.valid_of(pair), now_ms()
    doubt = certificates.doubt(valid, now)
    mend = "renew it; SIGHUP (systemctl reload collector) takes it at once, else it is taken within the hour"
    if doubt is None:
        yield ok(
            "certificate",
            f"{config.edge.tls_cert} is good until {datetime.fromtimestamp(valid.ends / 1000, UTC):%Y-%m-%d}",
        )
    elif valid.begins <= now < valid.ends:
        yield warn("certificate.expiry", f"{config.edge.tls_cert}: {doubt}", mend)
    else:
        yield fail("certificate.expiry", f"{config.edge.tls_cert}: {doubt}", mend)


def of_backups(config: Config, now: int) -> Iterator[Finding]:
    """Is there one, and is it younger than two of its intervals?"""
    folder, hours, log = _kept_in(config)
    if not folder:
        yield warn("backup", "no backups are made", 'set [backup] dir = "…", on another disk, or run collector backup')
        return
    newest = copies.newest_ms(Path(folder))
    if newest is None:
        yield fail("backup", f"no backup in {folder}", f"look in {log} for why there is none")
    elif now - newest > 2 * hours * _HOUR_MS:
        age = (now - newest) // _HOUR_MS
        yield fail("backup.age", f"the newest backup is {age} hours old", f"look in {log} for why")
    else:
        yield ok("backup", f"the newest is of {datetime.fromtimestamp(newest / 1000, UTC):%Y-%m-%d %H:%M} UTC")
    if os.path.exists(folder) and _same_disk(folder, config.storage.data_dir):
        yield warn("backup.disk", "backups lie on the database's own disk", "set [backup] dir to another disk")


def _kept_in(config: Config) -> tuple[str, float, str]:
    """Where backups are, every how many hours one is made, and where it is said why not; "" where none are made."""
    if not config.backup.dir and os.access(BACKUPS, os.R_OK | os.X_OK):
        return BACKUPS, _TIMERS_HOURS, "journalctl -u collector-backup"
    return config.backup.dir, config.backup.every_hours, "the courier's log"


def of_newest_backup(config: Config) -> Iterator[Finding]:
    """Would it come back? Unpacked and looked through as a restore does; the live database is not touched."""
    folder, _, _ = _kept_in(config)
    found = copies.newest(Path(folder)) if folder else None
    if found is None:
        return
    path, _ = found
    with ProcessPoolExecutor(1, mp_context=get_context("fork")) as other:
        fault, rows = other.submit(_proven, config, path).result()
    if fault is not None:
        yield fail("backup.damaged", f"{path}: {fault}", "make another one now: collector backup; look at that disk")
    else:
        yield ok("backup.proven", f"{path.name} is whole: {rows} clicks, conversions and events")


def _proven(config: Config, path: Path) -> tuple[str | None, int]:
    """In a process of its own, as the other copy of SQLite is not loaded here: what is wrong, and the rows."""
    try:
        rows = import_module("collector.storage.ground.backup").prove(config, path).rows
    except CollectorError as error:
        return str(error), 0
    return None, sum(rows.get(table, 0) for table in ("click", "conversion"))


def _same_disk(one: str, other: str) -> bool:
    return os.path.exists(other) and os.stat(one).st_dev == os.stat(other).st_dev


def of_limits() -> Iterator[Finding]:
    """How many files the edge may have open: each visitor's connection is one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < _FILES_WARN:
        yield warn("files.limit", f"{hard} open files at most", "LimitNOFILE=65536 in the unit, or ulimit -n 65536")
    else:
        yield ok("files.limit", "enough open files")


def now_ms() -> int:
    return time.time_ns() // 1_000_000
