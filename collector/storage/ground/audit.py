"""Who did what: keys made and revoked, erasures, exports of a person, replays, restores, reloads, releases.

`audit.log` has a line of JSON for each, written before it is done, so that nothing is done without its line. A file and
not a table: the supervisor has no database, and what happened before a database was lost is wanted most. No personal
data is in it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from msgspec import DecodeError, Struct, json

from collector.core import times
from collector.errors import StorageError, user, why

NAME: Final = "audit.log"
_TAIL_BYTES: Final = 64 << 10
_MOST_BYTES: Final = 16 << 20  # some 100,000 lines; what is older is in audit.log.1


class Entry(Struct, frozen=True):
    """One line. `who`: the user, and by whom where sudo says it; `about`: which key, how many, which settings."""

    at: str
    who: str
    action: str
    about: dict[str, Any] = {}


def note(data_dir: str | Path, action: str, now: int, **about: Any) -> None:
    """Add a line, on disk when this returns; StorageError where that cannot be, and then nothing should be done."""
    path = Path(data_dir) / NAME
    line = json.encode(Entry(times.text(now), _who(), action, about)) + b"\n"
    try:
        if path.exists() and path.stat().st_size > _MOST_BYTES:
            os.replace(path, path.with_name(f"{NAME}.1"))
        fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, line if _is_whole(fd) else b"\n" + line)
            os.fsync(fd)
        finally:
            os.close(fd)
    except OSError as error:
        raise StorageError(f"{path} cannot be written, so nothing was done: {why(error, path)}") from None


def _is_whole(fd: int) -> bool:
    """Whether the last line ends: a power cut may have left half of one."""
    size = os.fstat(fd).st_size
    return size == 0 or os.pread(fd, 1, size - 1) == b"\n"


def read(data_dir: str | Path, after: int = 0) -> tuple[list[Entry], int]:
    """The whole lines behind so many bytes, and where they end; from the beginning where the file was begun anew."""
    path = Path(data_dir) / NAME
    try:
        data = path.read_bytes()
    except OSError:
        return [], 0
    start = after if after <= len(data) else 0
    end = data.rfind(b"\n") + 1
    return list(_entries(data[start:end])), max(start, end)


def newest(data_dir: str | Path) -> list[Entry]:
    """The last lines, oldest first: what the last 64 KiB hold."""
    path = Path(data_dir) / NAME
    try:
        return read(data_dir, max(0, path.stat().st_size - _TAIL_BYTES))[0]
    except OSError:
        return []


def _entries(data: bytes) -> Iterator[Entry]:
    for line in data.splitlines():
        try:
            yield json.decode(line, type=Entry)
        except DecodeError:  # cut off by a power cut
            continue


def _who() -> str:
    name, behind = user(os.getuid()), os.environ.get("SUDO_USER", "")
    return f"{name} (sudo: {behind[:64]})" if behind else name
