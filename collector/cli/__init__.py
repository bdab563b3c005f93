"""The command line: one program, its commands; process/endings.py has its exit codes."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module

from collector.cli.output import Unwritable, forget_stdout, own_stdout
from collector.cli.parser import build_parser
from collector.process.endings import FAILED, REFUSED, STORE, USAGE, ended, exit_code

__all__ = ["FAILED", "REFUSED", "STORE", "USAGE", "exit_code", "main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. Data goes to stdout, everything else to stderr."""
    args = build_parser().parse_args(argv)
    module, _, function = args.run.partition(":")

    def run() -> int:
        try:
            if module != "serve":
                own_stdout()
            code = int(getattr(import_module(f"collector.cli.{module}"), function)(args))
            sys.stdout.flush()
        except BrokenPipeError:  # `collector export … | head`
            forget_stdout()
            return FAILED
        except Unwritable:
            forget_stdout()
            raise
        return code

    return ended(run, again=module == "serve")
