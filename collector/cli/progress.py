"""How far a command is: one line on a terminal's stderr, nothing where nobody looks."""

from __future__ import annotations

import sys
import time
from typing import Final

WIDTH: Final = 30  # characters
_EVERY_SECONDS: Final = 0.1
_QUIET_SECONDS: Final = 1.0  # what is over sooner shows nothing


class Bar:
    """Of `whole` units; what is counted beside them is told as `noun`."""

    def __init__(self, whole: int, noun: str) -> None:
        self._whole, self._noun = whole, noun
        self._shown = False
        self._next = time.monotonic() + _QUIET_SECONDS

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        if self._shown:
            print(file=sys.stderr)

    def show(self, done: float, count: int) -> None:
        if sys.stderr.isatty() and time.monotonic() >= self._next:
            share = min(1.0, done / self._whole) if self._whole else 1.0
            bar = f"[{'#' * int(share * WIDTH):<{WIDTH}}] {share:4.0%}  {count} {self._noun}"
            print(f"\r{bar}", end="", file=sys.stderr, flush=True)
            self._shown, self._next = True, time.monotonic() + _EVERY_SECONDS
