"""What may a process of ours not do? Limits that it sets on itself before it opens anything."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import stat
import sys
from collections.abc import Iterator

# linux/prctl.h
PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_NO_NEW_PRIVS = 38

WANTED_FILES = 65_536  # open connections and files: 10,000 idle clients must not starve the rest


def harden() -> None:
    """Private files, no core dump (it would hold tokens and personal data), no new privileges, enough descriptors."""
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _raise_file_limit()
    _prctl(PR_SET_NO_NEW_PRIVS, 1)


def hide_memory() -> None:
    """Let no other process of the same user read this one's memory or environment: it holds Meta tokens."""
    _prctl(PR_SET_DUMPABLE, 0)


@contextlib.contextmanager
def for_the_owner(folder: str) -> Iterator[None]:
    """What root makes in somebody's data directory is that one's: the service could not open root's own files."""
    there = os.path.abspath(folder)
    while not os.path.exists(there):
        there = os.path.dirname(there)
    owner = os.stat(there)
    try:
        yield
    finally:
        if os.geteuid() == 0 and owner.st_uid != 0:
            _give(folder, owner)


def _give(folder: str, owner: os.stat_result) -> None:
    """The folder and root's files in it, but for links, which could lead to anything."""
    for path in (folder, *(entry.path for entry in os.scandir(folder))):
        found = os.lstat(path)
        own = stat.S_ISDIR(found.st_mode) or (stat.S_ISREG(found.st_mode) and found.st_nlink == 1)
        if found.st_uid == 0 and own:
            os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)


def die_with_parent() -> None:
    """Ask for SIGTERM when the parent dies, however it dies."""
    _prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def die_with_bootloader() -> None:
    """A one-file binary is two processes; killing the visible one must not leave the real server running."""
    unpacked = getattr(sys, "_MEIPASS", None)
    if unpacked is None or str(unpacked).startswith(os.path.dirname(sys.executable) + os.sep):
        return  # from source, or a folder build: the parent is somebody else's
    parent = os.getppid()
    die_with_parent()
    if os.getppid() != parent:  # it died in between
        os.kill(os.getpid(), signal.SIGTERM)


def _raise_file_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = WANTED_FILES if hard == resource.RLIM_INFINITY else min(WANTED_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _prctl(option: int, value: int) -> None:
    """Linux only; elsewhere the supervisor's own watch remains."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)
