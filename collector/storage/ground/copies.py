"""Which backups are there? Named by their time; asked by every process, so no SQLite is imported."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

_NAME: Final = "collector-{}.tar"  # so that names sort by age
_PATTERN: Final = "collector-[0-9]*Z.tar"
_STAMP: Final = "%Y%m%dT%H%M%SZ"


def name_of(now: int) -> str:
    """What a backup of this time (ms) is called."""
    return _NAME.format(datetime.fromtimestamp(now / 1000, UTC).strftime(_STAMP))


def newest_ms(folder: Path) -> int | None:
    """When the newest backup that was named by its time was made (ms); None where there is none."""
    found = newest(folder)
    return found[1] if found else None


def newest(folder: Path) -> tuple[Path, int] | None:
    """The newest backup that was named by its time, and when it was made (ms); None where there is none."""
    for path in sorted(folder.glob(_PATTERN), reverse=True):
        with contextlib.suppress(ValueError):
            at = datetime.strptime(path.stem.partition("-")[2], _STAMP).replace(tzinfo=UTC)
            return path, int(at.timestamp() * 1000)
    return None


def thin(folder: Path, keep: int) -> list[Path]:
    """Delete all but the `keep` newest backups that were named by their time; those that went."""
    gone = sorted(folder.glob(_PATTERN))[:-keep]
    for path in gone:
        path.unlink()
    return gone
