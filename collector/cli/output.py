"""How a command answers: JSON for programs, aligned columns for people, both on stdout or in a file."""

from __future__ import annotations

import contextlib
import datetime
import io
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO

import msgspec

from collector.errors import CollectorError, why
from collector.process import hardening


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


@contextmanager
def private_file(name: str) -> Iterator[BinaryIO]:
    """The file appears under its name when it is whole; only its owner can read it."""
    hardening.harden()
    partial = f"{name}.partial"
    try:
        with open(partial, "wb") as out:
            os.fchmod(out.fileno(), 0o600)  # one that a crash left here may be open to others
            yield out
            out.flush()
            os.fsync(out.fileno())
        os.replace(partial, name)
    except OSError as error:
        raise CollectorError(f"cannot write {name}: {why(error, name)}") from None
