"""Row ids, made by each edge: 41 bits of milliseconds since 1970, 10 of the edge's number, 12 of a counter.

So they lie in time order, they say to which partition a row belongs, and they stay above every id of SQLite's.
"""

from __future__ import annotations

from typing import Final

EDGES: Final = 1 << 10
SQLITE: Final = 1 << 40  # below it lie the ids of rows that were brought from SQLite (click_sqlite)
_COUNTS: Final = 1 << 12
_EDGE_SHIFT, _MS_SHIFT = 12, 22


class Ids:
    """The ids of one edge; each is greater than the one before, also where the clock is set back."""

    __slots__ = ("_edge", "_last")

    def __init__(self, edge: int) -> None:
        """`edge`: its number, which nobody else has now."""
        self._edge = edge << _EDGE_SHIFT
        self._last = 0

    def next(self, now: int) -> int:
        """An id of this moment (ms); of a later one where this one has given all of its 4,096."""
        first = now << _MS_SHIFT | self._edge
        following = self._last + 1
        if following % _COUNTS == 0:
            following = (ms_of(self._last) + 1) << _MS_SHIFT | self._edge
        self._last = max(first, following)
        return self._last


def first_of(ms: int) -> int:
    """The lowest id of a moment: what is below it is older."""
    return ms << _MS_SHIFT


def ms_of(row: int) -> int:
    """When an id was made."""
    return row >> _MS_SHIFT


def edge_of(row: int) -> int:
    """The number of the edge that made it."""
    return row >> _EDGE_SHIFT & (EDGES - 1)
