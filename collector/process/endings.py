"""With which code does a process end, and what does it say of the error that ended it?

0 done    1 failed    2 usage or configuration    3 the store (disk) cannot be used    4 Meta refused
"""

from __future__ import annotations

import errno
import sys
import traceback
from collections.abc import Callable
from typing import Final

from collector.errors import CollectorError, ConfigError, Damaged, StorageError, why
from collector.storage.ground.damage import explained

FAILED, USAGE, STORE, REFUSED = 1, 2, 3, 4
# Of a file whose name the library kept to itself, or of no file at all.
_REFUSALS: Final = frozenset(
    getattr(errno, name) for name in "EMFILE ENFILE ENOMEM EAGAIN ENOSPC EDQUOT EROFS EIO EACCES EPERM".split()
)
ISSUES: Final = "this is a fault of the collector; please report it with the lines above"


def ended(run: Callable[[], int], *, again: bool) -> int:
    """The exit code of `run`; what ended it is told on stderr. `again`: a supervisor may start it once more."""
    try:
        return run()
    except CollectorError as error:
        print(error, file=sys.stderr)
        return exit_code(error)
    except KeyboardInterrupt:
        return FAILED
    except Exception as error:
        if (told := explained(error, "the database")) is not None:
            print(told, file=sys.stderr)
            # A process that its supervisor may start again: a lock or a full disk is over by then, damage is not.
            return FAILED if again and not isinstance(told, Damaged) else STORE
        if (said := _of_the_machine(error)) is not None:
            print(said, file=sys.stderr)
            return FAILED
        # The text of an unexpected exception may hold a row's personal data; its type and place do not.
        name = str(error) if isinstance(error, ImportError) else ""
        print("".join(traceback.format_tb(error.__traceback__)), type(error).__qualname__, name, file=sys.stderr)
        print(ISSUES, file=sys.stderr)
        return FAILED


def _of_the_machine(error: Exception) -> str | None:
    """What the system refused, which is a state of the machine and no row of anybody's; None: it is no such."""
    if not isinstance(error, OSError):
        return None
    if error.filename:
        return f"{error.filename}: {why(error, error.filename)}"
    return f"the system refuses: {error.strerror}" if error.errno in _REFUSALS else None


def exit_code(error: CollectorError) -> int:
    if isinstance(error, ConfigError):
        return USAGE
    return STORE if isinstance(error, StorageError) else FAILED
