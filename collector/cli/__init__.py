"""The command line: one program, its commands, its exit codes.

0 done    1 failed    2 usage or configuration    3 the store (disk) cannot be used    4 Meta refused
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from typing import Final

from collector.cli.output import Unwritable, forget_stdout, own_stdout
from collector.cli.parser import build_parser
from collector.errors import CollectorError, ConfigError, Damaged, StorageError
from collector.storage.ground.damage import explained  # by its name: the command `damage` is a module beside this one

FAILED, USAGE, STORE, REFUSED = 1, 2, 3, 4
ISSUES: Final = "this is a fault of the collector; please report it with the lines above"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. Data goes to stdout, everything else to stderr."""
    args = build_parser().parse_args(argv)
    module, _, function = args.run.partition(":")
    try:
        if module != "serve":
            own_stdout()
        code: int = getattr(import_module(f"collector.cli.{module}"), function)(args)
        sys.stdout.flush()
    except BrokenPipeError:  # `collector export … | head`
        forget_stdout()
        return FAILED
    except CollectorError as error:
        if isinstance(error, Unwritable):
            forget_stdout()
        print(error, file=sys.stderr)
        return exit_code(error)
    except KeyboardInterrupt:
        return FAILED
    except Exception as error:
        if (told := explained(error, "the database")) is not None:
            print(told, file=sys.stderr)
            # A process that its supervisor may start again: a lock or a full disk is over by then, damage is not.
            return FAILED if module == "serve" and not isinstance(told, Damaged) else STORE
        # The text of an unexpected exception may hold a row's personal data; its type and place do not.
        name = str(error) if isinstance(error, ImportError) else ""
        print("".join(traceback.format_tb(error.__traceback__)), type(error).__qualname__, name, file=sys.stderr)
        print(ISSUES, file=sys.stderr)
        return FAILED
    return code


def exit_code(error: CollectorError) -> int:
    if isinstance(error, ConfigError):
        return USAGE
    return STORE if isinstance(error, StorageError) else FAILED
