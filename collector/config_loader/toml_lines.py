"""On which line does each key of a TOML file stand? (tomllib does not say.)

A scanner beside tomllib, which has already accepted the text: it follows headers, keys, brackets and long strings.
What it does not know (a key inside an inline table) is reported at the line of the key around it.
"""

from __future__ import annotations

import re

from collector.config_loader.faults import Path

_PART = r"""(?:[A-Za-z0-9_-]+|"(?:[^"\\]|\\.)*"|'[^']*')"""
_DOTTED = rf"{_PART}(?:\s*\.\s*{_PART})*"
_ARRAY = re.compile(rf"^\s*\[\[\s*({_DOTTED})\s*\]\]")
_TABLE = re.compile(rf"^\s*\[\s*({_DOTTED})\s*\]")
_KEY = re.compile(rf"^\s*({_DOTTED})\s*=\s*(.*)$")
_STRINGS = re.compile(r'"(?:[^"\\]|\\.)*"|\'[^\']*\'|#.*$')


def line_numbers(text: str) -> dict[Path, int]:
    """Line (from 1) of every table header and key."""
    scan = _Scan()
    for number, line in enumerate(text.splitlines(), 1):
        scan.line(number, line)
    return scan.lines


def _parts(dotted: str) -> list[str]:
    return [part.strip("\"'") for part in re.findall(_PART, dotted)]


class _Scan:
    """Where the scanner stands: the table it is in, and what it is in the middle of."""

    def __init__(self) -> None:
        self.lines: dict[Path, int] = {}
        self.counts: dict[Path, int] = {}
        self.table: Path = ()
        self.depth = 0  # of brackets in a value that goes over several lines
        self.quote = ""  # the closing mark of a long string that goes over several lines

    def line(self, number: int, line: str) -> None:
        if self.quote or self.depth:
            self._value(line)
        elif found := _ARRAY.match(line):
            self.table = self._resolve(_parts(found[1]), array=True)
            self.lines[self.table] = number
        elif found := _TABLE.match(line):
            self.table = self._resolve(_parts(found[1]), array=False)
            self.lines[self.table] = number
        elif found := _KEY.match(line):
            self.lines[self.table + tuple(_parts(found[1]))] = number
            self._value(found[2])

    def _resolve(self, parts: list[str], *, array: bool) -> Path:
        path: Path = ()
        for part in parts[:-1]:
            path = self._current((*path, part))
        path = (*path, parts[-1])
        if not array:
            return self._current(path)
        self.counts[path] = self.counts.get(path, -1) + 1
        return self._current(path)

    def _current(self, path: Path) -> Path:
        return (*path, self.counts[path]) if path in self.counts else path

    def _value(self, rest: str) -> None:
        if self.quote:
            _, closed, rest = rest.partition(self.quote)
            if not closed:
                return
            self.quote = ""
        for mark in ('"""', "'''"):
            before, opened, after = rest.partition(mark)
            if opened and "#" not in before:
                self.quote = mark
                self._value(after)
                return
        bare = _STRINGS.sub("", rest)
        self.depth += bare.count("[") + bare.count("{") - bare.count("]") - bare.count("}")
