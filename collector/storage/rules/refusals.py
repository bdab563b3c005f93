"""What the API refused of the merchant's own servers, one by one, for the console: bounded, gone with an erasure."""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Iterable
from functools import partial
from itertools import count
from typing import Final

MOST_OF_A_CODE: Final = 500  # a flood of one leaves the others where they are; there are 18 codes
KEPT_DAYS: Final = 30
# An edge tells what it refused within half a second, and a writer may be held up by a disk meanwhile.
_QUIET_S: Final = 30.0

Told = tuple[str, str, str]  # code, field, order's number


class Refusals:
    """What is not written yet, the newest of each code. Owned by the writer's thread."""

    def __init__(self) -> None:
        self._waiting: dict[str, deque[tuple[int, Told]]] = defaultdict(partial(deque, maxlen=MOST_OF_A_CODE))
        self._numbers = count()
        self._quiet_until = 0.0

    def add(self, told: Iterable[Told]) -> None:
        """Keep what an edge told; just after an erasure without orders' numbers, which may be from before it."""
        quiet = time.monotonic() < self._quiet_until
        for one in told:
            self._waiting[one[0]].append((next(self._numbers), _unnamed(one) if quiet else one))

    def forget_numbers(self) -> None:
        """Somebody was erased: whose a refused order was, nobody can tell."""
        self._quiet_until = time.monotonic() + _QUIET_S
        for rows in self._waiting.values():
            unnamed = [(number, _unnamed(one)) for number, one in rows]
            rows.clear()
            rows.extend(unnamed)

    def waiting(self) -> list[Told]:
        """What is to be written, in the order of its coming."""
        return [told for _, told in sorted(row for rows in self._waiting.values() for row in rows)]

    def written(self) -> None:
        """What was written is on disk."""
        self._waiting.clear()


def _unnamed(told: Told) -> Told:
    return told[0], told[1], ""
