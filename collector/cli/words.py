"""What is said of words that are no command or option: one sentence, with the nearest that is one."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from typing import Any, NoReturn

USAGE = 2


class Parser(argparse.ArgumentParser):
    """argparse's, whose errors are a sentence instead of every choice there is; without a command it prints its help.

    argparse stays because it starts soonest: collector/README.md has the figures.
    """

    def __init__(self, *given: Any, **named: Any) -> None:
        named.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(*given, **{**named, "allow_abbrev": False})

    def error(self, message: str) -> NoReturn:
        end = " See" if message.endswith("?") else "; see"
        self.exit(USAGE, f"{self.prog}: {message}{end} {self.prog} --help\n")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        words = list(sys.argv[1:] if args is None else args)
        if not words and self._subparsers is not None and self.get_default("run") is None:
            self.print_help()
            self.exit(0)
        found, left = super().parse_known_args(words, namespace)
        if left and self._subparsers is None:
            self._refuse(left)
        return found, left

    def refuse_bytes(self, told: Iterable[tuple[str, str]]) -> None:
        """End where a text, told with its name, came as bytes that are no UTF-8: no database takes it later.

        By its name only: it may be a token or a person's address.
        """
        for name, text in told:
            try:
                text.encode()
            except UnicodeEncodeError:
                self.error(f"{name} is no text of UTF-8")

    def _refuse(self, left: list[str]) -> NoReturn:
        word = left[0].partition("=")[0]
        if not word.startswith("-"):
            self.error(f"'{word}' is one word too many")
        known = [option for action in self._actions for option in action.option_strings]
        self.error(f"no option {word}{nearest(word, known)}")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is None or value in action.choices:
            return
        choices = [str(choice) for choice in action.choices]
        if isinstance(action, argparse._SubParsersAction):
            self.error(f"no command '{value}'{nearest(str(value), self._commands(action))}")
        name = "/".join(action.option_strings) or str(action.metavar or action.dest)
        self.error(f"{name}: '{value}' is none of {', '.join(choices)}{nearest(str(value), choices)}")

    def _commands(self, action: argparse._SubParsersAction[Any]) -> Iterable[str]:
        """Every command by the words that are typed after this parser's own, and a group's also by its last word."""
        for name, parser in action.choices.items():
            yield name
            inner = [one for one in parser._actions if isinstance(one, argparse._SubParsersAction)]
            yield from (f"{name} {command}" for one in inner for command in one.choices)


def nearest(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'serve'?`, or nothing where nothing is near."""
    import difflib  # only when there is something to suggest

    whole = list(known)
    names = {**{name.rpartition(" ")[2]: name for name in reversed(whole)}, **{name: name for name in whole}}
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    return f"; did you mean '{names[close[0]]}'?" if close else ""
