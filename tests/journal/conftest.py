"""Journals of these tests lie in memory where there is room: a disk's syncs would be half of their time."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

MEMORY = Path("/dev/shm")
ROOM_BYTES = 2**30  # containers often have 64 MB of it


def _has_room() -> bool:
    try:
        found = os.statvfs(MEMORY)
    except OSError:
        return False
    return found.f_bavail * found.f_frsize > ROOM_BYTES and not found.f_flag & os.ST_RDONLY


@pytest.fixture
def tmp_path(tmp_path: Path) -> Iterator[Path]:
    if not _has_room():
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=MEMORY, prefix="collector-test-", ignore_cleanup_errors=True) as made:
        yield Path(made)
