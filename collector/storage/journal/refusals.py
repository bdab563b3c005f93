"""What the API refused of the merchant's own servers, one by one, for the console: bounded, gone with an erasure."""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Iterable
from functools import partial
from itertools import count
from typing import Final

import apsw

MOST_OF_A_CODE: Final = 500  # a flood of one leaves the others where they are; there are 18 codes
_DAYS: Final = 30
_DAY_MS: Final = 86_400_000
# An edge tells what it refused within half a second, and a writer may be held up by a disk meanwhile.
_QUIET_S: Final = 30.0
_ONE: Final = "INSERT INTO refusal (at, code, field, called) VALUES (?, ?, ?, ?)"
_OLD: Final = "DELETE FROM refusal WHERE at < ?"
_BEYOND: Final = f"""DELETE FROM refusal WHERE code = ?1 AND id <=
 (SELECT id FROM refusal WHERE code = ?1 ORDER BY id DESC LIMIT 1 OFFSET {MOST_OF_A_CODE})"""

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

    def write(self, db: apsw.Connection, now: int) -> None:
        """Write what waits and take out what is old (`now`: ms), inside the caller's transaction."""
        rows = sorted(row for rows in self._waiting.values() for row in rows)
        db.executemany(_ONE, [(now, *one) for _, one in rows])
        db.executemany(_BEYOND, [(code,) for code in self._waiting])
        db.execute(_OLD, (now - _DAYS * _DAY_MS,))

    def written(self) -> None:
        """What was written is on disk."""
        self._waiting.clear()


def _unnamed(told: Told) -> Told:
    return told[0], told[1], ""
