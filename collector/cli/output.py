"""How a command answers: JSON for programs, aligned columns for people, both on stdout or in a file."""

from __future__ import annotations

import contextlib
import datetime
import errno
import io
import os
import stat
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import msgspec

from collector.cli.installing.units import BACKUPS
from collector.config_loader.layers import files_named
from collector.errors import CollectorError, ConfigError, why
from collector.process import hardening

if TYPE_CHECKING:
    from collector.config import Config


class Unwritable(CollectorError):
    """Standard output takes nothing any more: a full device, a closed descriptor."""


class _Stdout(io.FileIO):
    """Standard output, whose faults are told apart from those of any other file."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data) or 0
        except BrokenPipeError:
            raise
        except OSError as error:
            raise Unwritable(f"cannot write to standard output: {error.strerror}") from None


def open_streams() -> None:
    """Let no file or socket of ours become a standard stream that was closed (`>&-`): libuv ends the process for it.

    `sys.stdout` stays None: what goes nowhere is no answer (`own_stdout`).
    """
    for number, mode in ((0, os.O_RDONLY), (1, os.O_WRONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, mode), True)  # the lowest that is free: this one
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115  until the end
    if sys.stderr is None:  # or print() would tell of faults on stdout
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115


def own_stdout() -> None:
    """Have every fault of standard output be an Unwritable; Unwritable where it is closed."""
    out = sys.stdout
    if out is None:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  until the end
        raise Unwritable("cannot write to standard output: it is closed")
    if sys.__stdout__ is not None and out is sys.__stdout__:  # not where a test listens
        out.flush()
        raw = _Stdout(out.fileno(), "w", closefd=False)
        sys.stdout = io.TextIOWrapper(io.BufferedWriter(raw), out.encoding, out.errors, line_buffering=out.isatty())


def forget_stdout() -> None:
    """What is still to be written goes nowhere: the interpreter would tell of it once more at its end."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def print_json(value: Any) -> None:
    """One JSON document and a newline."""
    sys.stdout.write(msgspec.json.encode(value).decode() + "\n")


def print_table(rows: Sequence[Sequence[Any]], head: Sequence[str] = ()) -> None:
    """Columns as wide as their widest cell; nothing for an empty table but its head."""
    lines = [[str(cell) for cell in row] for row in ([head, *rows] if head else rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))] if lines else []
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def timestamp(ms: int | None) -> str | None:
    """RFC 3339 in UTC, to the second."""
    if ms is None:
        return None
    at = datetime.datetime.fromtimestamp(ms // 1000, datetime.UTC)
    return at.isoformat().replace("+00:00", "Z")


def refuse_ours(option: str, name: str, config: Config, *read: str) -> None:
    """End where an output would take the place of a file of the collector's, of a backup, or of one that is read."""
    path = os.path.realpath(name)
    if os.path.isdir(path):
        raise ConfigError([f"{option}: {name} is a folder; name a file in it"])
    ours = (config.path, config.privacy.pepper_file, config.edge.tls_cert, config.edge.tls_key)
    backups = map(str, Path(config.backup.dir or BACKUPS).glob("*.tar"))
    files = (*filter(None, ours), *files_named(config.path, os.environ), *backups, *read)
    if any(_is_same(path, one) for one in files) or _lies_in(config.storage.data_dir, path):
        raise ConfigError([f"{option}: {name} is in use by the collector and is not overwritten; name another file"])


def _is_same(path: str, other: str) -> bool:
    """Also by another name: a link, hard or soft."""
    try:
        return os.path.samefile(path, other)
    except OSError:
        return path == os.path.realpath(other)


def _lies_in(folder: str, path: str) -> bool:
    """Whether the file is there already, also by another name of its own (a hard link) or of the folder (a mount)."""
    if not os.path.exists(path):
        return False
    there = (os.path.join(here, name) for here, _, names in os.walk(folder) for name in names)
    return any(_is_same(str(parent), folder) for parent in Path(path).parents) or any(_is_same(path, o) for o in there)


@contextmanager
def private_file(name: str) -> Iterator[BinaryIO]:
    """The file appears under its name when it is whole; only its owner can read it. A device or pipe is written to."""
    hardening.harden()
    try:
        with open(name, "ab") if is_special(name) else _whole(os.path.realpath(name)) as out:  # a link stays
            yield out
    except OSError as error:
        raise CollectorError(f"cannot write {name}: {why(error, name)}") from None


@contextmanager
def _whole(path: str) -> Iterator[BinaryIO]:
    """A file beside it that takes its place when all is written, and is gone where that fails."""
    if os.path.isdir(path):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    unfinished = f"{path}.partial"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(unfinished)  # a crash's, open to others perhaps, or a link that leads elsewhere
    with open(unfinished, "xb") as out:
        try:
            os.fchmod(out.fileno(), 0o600)
            yield out
            out.flush()
            os.fsync(out.fileno())
            os.replace(unfinished, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(unfinished)
            raise


def is_special(name: str) -> bool:
    """Whether what is there is written to as it is: a device, a pipe, a standard stream (/dev/stdout, also of a file).

    A new file in its place would be the system's loss: root may do that in /dev.
    """
    try:
        found = os.stat(name)
    except OSError:
        return False
    return not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)) or any(map(partial(_is_fd, found), (1, 2)))


def _is_fd(found: os.stat_result, fd: int) -> bool:
    try:
        return os.path.samestat(found, os.fstat(fd))
    except OSError:
        return False
