"""What is known to be wrong with the database, in one sentence, for every process and command.

A loss of acknowledged rows is written down in a file beside the database, for it is noticed once: afterwards the
database is whole again, only shorter. Until a person says `collector damage accept`, commands refuse (exit 3), so that
no export, report or replay passes for complete, and /readyz says why; events are taken on meanwhile.

This module imports no SQLite: the console's process has another copy than the keeper's, and neither may see the other.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from collector.errors import Damaged, StorageError

NAME: Final = "damage"
MEND: Final = (
    "stop the collector and put a backup of the data directory in its place, "
    "or recover what can be read with `sqlite3 collector.db .recover`"
)
_DAMAGED: Final = {"CorruptError", "NotADBError", "SQLITE_CORRUPT", "SQLITE_NOTADB"}
_UNREADABLE: Final = {"IOError", "CantOpenError", "FullError", "ReadOnlyError", "BusyError", "LockedError"}


def told(data_dir: Path) -> str | None:
    """The sentence of a loss that nobody has accepted yet."""
    try:
        return (data_dir / NAME).read_text(encoding="utf-8").strip() or None
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        return f"{data_dir / NAME} cannot be read ({type(error).__name__}); it tells of a loss of acknowledged events"


def tell(data_dir: Path, sentence: str) -> None:
    """Write a loss down, on disk when this returns; a former one that nobody has accepted stays beside it."""
    before = told(data_dir)
    text = sentence if before in (None, sentence) else f"{before}; {sentence}"
    partial = data_dir / f".{NAME}.{os.getpid()}"
    with open(partial, "w", encoding="utf-8") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, data_dir / NAME)
    folder = os.open(data_dir, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def forget(data_dir: Path) -> None:
    """A person goes on without what is missing."""
    with contextlib.suppress(FileNotFoundError):
        (data_dir / NAME).unlink()


def refuse(data_dir: Path) -> None:
    """Raise Damaged when a loss is known that nobody has accepted."""
    if (sentence := told(data_dir)) is not None:
        raise Damaged(sentence)


class Missing(NamedTuple):
    """Rows of a table that were acknowledged and are gone: those after `newest`, up to `acknowledged`."""

    table: str
    newest: int
    acknowledged: int


def missing(path: Path, rows: list[Missing]) -> str:
    """The sentence of a loss: of rows, or without any of changes to older ones."""
    what = [f"{m.acknowledged - m.newest} {m.table}s (rows {m.newest + 1} to {m.acknowledged})" for m in rows]
    return (
        f"{path} has lost {' and '.join(what) or 'the last changes of older rows'}, which were acknowledged: its "
        "write-ahead log was damaged; put a backup in its place, or go on without them by `collector damage accept`"
    )


def of_file(path: Path | str, what: str) -> Damaged:
    """The database file itself is damaged."""
    return Damaged(f"{path} is damaged ({what}): {MEND}")


@contextlib.contextmanager
def explaining(path: Path) -> Iterator[None]:
    """What tells of damage inside becomes Damaged; a lock or a full disk passes as it is, for it may be over soon."""
    try:
        yield
    except Exception as error:
        told = explained(error, path)
        if isinstance(error, StorageError) or not isinstance(told, Damaged):
            raise
        raise told from error


def explained(error: BaseException, path: Path | str) -> StorageError | None:
    """What an error of either SQLite, or of a stored row that cannot be decoded, says to people; None: it is no such.

    Judged by name, so that neither copy of SQLite is imported for it.
    """
    if isinstance(error, StorageError):
        return error
    if isinstance(error, BaseExceptionGroup):
        return next((told for one in error.exceptions if (told := explained(one, path)) is not None), None)
    name = getattr(error, "sqlite_errorname", "") or type(error).__name__
    known = type(error).__module__.partition(".")[0] in ("apsw", "sqlite3")
    if known and any(name.startswith(one) for one in _DAMAGED):
        return of_file(path, str(error))
    if isinstance(error, msgspec.DecodeError | UnicodeDecodeError):
        return of_file(path, f"a stored row cannot be decoded: {type(error).__name__}")
    if known and (name in _UNREADABLE or name.startswith("SQLITE_")):
        return StorageError(f"{path} cannot be used: {error}")
    return None
