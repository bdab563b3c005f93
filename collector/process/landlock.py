"""Which files may a process of ours touch? A rule set that the kernel keeps for it (landlock(7), Linux 5.13).

It holds for the thread that asks and all that it starts, so it is asked for before there is a second thread. What is
open already stays open. Programs that the process starts inherit it, and nothing takes it off.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import stat
import sys
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

# The same numbers on every architecture.
_CREATE, _ADD, _RESTRICT = 444, 445, 446
_VERSION: Final = 1  # flag of _CREATE
_PATH_BENEATH: Final = 1

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_REMOVE, _MAKE = 0b11 << 4, 0b1111111 << 6  # directories and files; devices, directories, files, sockets, pipes, links
_REFER, _TRUNCATE, _IOCTL = 1 << 13, 1 << 14, 1 << 15
_SINCE: Final = {2: _REFER, 3: _TRUNCATE, 5: _IOCTL}  # the version of the interface that brought a right
_FIRST: Final = (1 << 13) - 1
_OF_FILES: Final = EXECUTE | WRITE_FILE | READ_FILE | _TRUNCATE | _IOCTL  # the others are rights over directories
_READ: Final = READ_FILE | READ_DIR
_WRITE: Final = WRITE_FILE | _REMOVE | _MAKE | _REFER | _TRUNCATE
_SCOPES_SINCE, _SCOPES = 6, 0b11  # abstract Unix sockets, signals: none to a process outside


class Files(NamedTuple):
    """What may be touched, with all that lies below it; what is not there is left out.

    `read` None: everything may be read, and `write` alone is kept. `names`: folders of which the names may be read.
    """

    read: tuple[str, ...] | None
    write: tuple[str, ...] = ()
    execute: tuple[str, ...] = ()
    names: tuple[str, ...] = ()


class _Ruleset(ctypes.Structure):
    _fields_ = (("fs", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32))


def allow_only(files: Files) -> str | None:
    """Keep this thread, and all that it starts, to these files; None, or why the kernel cannot.

    Needs PR_SET_NO_NEW_PRIVS (hardening.py).
    """
    version = supported()
    if version < 1:
        return (
            "forbidden here: a container's filter, or a service's"
            if version == -errno.EPERM
            else "the kernel has no Landlock"
        )
    handled = _handled(version, files)
    with _ruleset(version, handled) as ruleset:
        if ruleset < 0:
            return os.strerror(ctypes.get_errno())
        for rights, paths in _rules(files):
            for path in paths:
                _add(ruleset, path, rights & handled)
        if _call(_RESTRICT, ruleset, 0) != 0:
            return os.strerror(ctypes.get_errno())
    return None


def supported() -> int:
    """The version of the kernel's interface; below 1 there is none, and it is the fault's number, negative."""
    if sys.platform != "linux":
        return -errno.ENOSYS
    version = int(_call(_CREATE, None, 0, _VERSION))
    return version if version >= 0 else -ctypes.get_errno()


def _handled(version: int, files: Files) -> int:
    known = _FIRST
    for since, right in _SINCE.items():
        known |= right if version >= since else 0
    return known if files.read is not None else known & (_WRITE | EXECUTE)


def _rules(files: Files) -> Iterable[tuple[int, tuple[str, ...]]]:
    return (
        (_READ, files.read or ()),
        (_READ | _WRITE | _IOCTL, files.write),
        (READ_FILE | EXECUTE, files.execute),
        (READ_DIR, files.names),
    )


@contextlib.contextmanager
def _ruleset(version: int, handled: int) -> Any:
    scoped = version >= _SCOPES_SINCE
    attributes = _Ruleset(handled, 0, _SCOPES if scoped else 0)
    size = ctypes.sizeof(attributes) if scoped else 8
    fd = int(_call(_CREATE, ctypes.byref(attributes), size, 0))
    try:
        yield fd
    finally:
        if fd >= 0:
            os.close(fd)


def _add(ruleset: int, path: str, rights: int) -> None:
    with contextlib.suppress(OSError):  # not there: nothing to allow
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            wanted = rights if stat.S_ISDIR(os.fstat(fd).st_mode) else rights & _OF_FILES
            rule = _PathBeneath(wanted, fd)
            if _call(_ADD, ruleset, _PATH_BENEATH, ctypes.byref(rule), 0) != 0:
                raise OSError(ctypes.get_errno(), path)
        finally:
            os.close(fd)


def _call(number: int, *given: Any) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    return int(libc.syscall(ctypes.c_long(number), *(ctypes.c_long(g) if isinstance(g, int) else g for g in given)))
