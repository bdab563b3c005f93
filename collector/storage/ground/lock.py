"""Who may use this data directory? One `serve` at a time: a lock of its own, held until the last child is gone."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time

from collector.errors import StorageError, why

NAME = "lock"
WRITER = "keeper.lock"  # of a keeper alone: edges, courier and console may be beside it, another keeper may not
LEAVING_SECONDS = 12.0  # a drain, or the children of a killed supervisor, hold the lock a little longer
STEP_SECONDS = 0.05


def hold(data_dir: str, *, shared: bool = False, name: str = NAME) -> int:
    """A descriptor that holds the lock while it, or a copy in a child, is open; StorageError when another has it.

    `shared` is for one process alone (`collector courier`), of which several may run beside each other but none beside
    a `serve`. The file is not the database: closing a descriptor of that would drop SQLite's own locks.
    """
    fd = _open(data_dir, name)
    deadline = time.monotonic() + LEAVING_SECONDS
    while not _try(fd, shared=shared):
        if (holder := _holder(fd)) is not None or time.monotonic() > deadline:
            os.close(fd)
            by = f" by the collector with process id {holder}" if holder else ""
            raise StorageError(f"{data_dir} is in use{by}; stop it first, or choose another --data-dir")
        time.sleep(STEP_SECONDS)
    with contextlib.suppress(OSError):  # a full disk: the number is for the sentence above, the lock is the kernel's
        os.ftruncate(fd, 0)
        os.pwrite(fd, str(os.getpid()).encode(), 0)
    return fd


def leaving(fd: int) -> None:
    """The holder drains: whoever starts now waits for the end instead of refusing."""
    os.ftruncate(fd, 0)


def _open(data_dir: str, name: str) -> int:
    try:
        os.makedirs(data_dir, mode=0o700, exist_ok=True)
        return os.open(os.path.join(data_dir, name), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StorageError(f"cannot use the data directory {data_dir}: {why(error, data_dir)}") from None


def _try(fd: int, *, shared: bool) -> bool:
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        return True
    return False


def _holder(fd: int) -> int | None:
    """The process that took the lock and means to keep it; None while it drains, or only its children are left."""
    text = os.pread(fd, 20, 0)
    if not text.isdigit():
        return None
    try:
        os.kill(int(text), 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return int(text)
