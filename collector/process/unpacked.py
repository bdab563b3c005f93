"""What becomes of the folder that a one-file binary unpacks itself into?

A kill -9 leaves it (50 MB), so the next start clears it. A folder in use is marked by a lock, held by the supervisor
and its children; one whose lock is free is nobody's.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import sys
from pathlib import Path

NAME = "collector.lock"
PATTERN = "_MEI*"  # how PyInstaller's bootloader names them


def hold() -> int | None:
    """Mark our own folder as in use and clear those that crashed instances left; None where nothing was unpacked."""
    own = getattr(sys, "_MEIPASS", None)
    if own is None or not Path(own).name.startswith("_MEI"):
        return None
    with contextlib.suppress(OSError):  # a full disk or somebody else's folder is no reason not to start
        fd = os.open(Path(own) / NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(fd, fcntl.LOCK_SH)
        clear(Path(own).parent, Path(own))
        return fd
    return None


def clear(parent: Path, own: Path) -> None:
    """Remove the folders of this user that carry our mark and that nobody holds."""
    for folder in parent.glob(PATTERN):
        with contextlib.suppress(OSError):
            if folder != own and _is_ours(folder) and _is_free(folder / NAME):
                shutil.rmtree(folder, ignore_errors=True)


def _is_ours(folder: Path) -> bool:
    """A real directory of this user's, not a link that somebody else put into a shared /tmp."""
    status = folder.lstat()
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()


def _is_free(lock: Path) -> bool:
    fd = os.open(lock, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(fd)
    return True


def foreign_environment() -> dict[str, str]:
    """The environment for a program that is not ours: the bootloader points the linker at our own libraries."""
    env = dict(os.environ)
    before = env.pop("LD_LIBRARY_PATH_ORIG", None)
    if getattr(sys, "frozen", False):
        env.pop("LD_LIBRARY_PATH", None)
    return env if before is None else {**env, "LD_LIBRARY_PATH": before}
