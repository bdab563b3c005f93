"""The command line: one program, its commands; process/endings.py has its exit codes."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module

from collector.cli.output import Unwritable, forget_stdout, open_streams, own_stdout
from collector.cli.parser import build_parser
from collector.process.endings import FAILED, REFUSED, STORE, USAGE, ended, exit_code

__all__ = ["FAILED", "REFUSED", "STORE", "USAGE", "exit_code", "main"]


def texts_of(words: Sequence[str], env: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """All that is told to us, by its name."""
    yield from ((f"word {number}", word) for number, word in enumerate(words, start=1))
    for name, value in env.items():
        if name.startswith("COLLECTOR_"):
            yield ascii(name), name + value


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. Data goes to stdout, everything else to stderr."""
    open_streams()
    parser = build_parser()
    parser.refuse_bytes(texts_of(sys.argv[1:] if argv is None else argv, os.environ))
    args = parser.parse_args(argv)
    module, _, function = args.run.partition(":")

    def run() -> int:
        try:
            if module != "serve":
                own_stdout()
            code = int(getattr(import_module(f"collector.cli.{module}"), function)(args))
            if sys.stdout is not None:
                sys.stdout.flush()
        except BrokenPipeError:  # `collector export … | head`
            forget_stdout()
            return FAILED
        except Unwritable:
            forget_stdout()
            raise
        return code

    return ended(run, again=module == "serve")
