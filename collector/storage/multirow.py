"""Many rows in few statements: each step of one releases the interpreter's lock, and taking it again costs more."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

import apsw

_MOST = 64  # rows of a statement; more are no cheaper, and SQLite's statement cache takes no text over 16 KB


def write(db: apsw.Connection, verb: str, rows: Sequence[Sequence[Any]], tail: str = "") -> None:
    """`verb` ("INSERT INTO t") VALUES all rows, in their order, `tail` (an ON CONFLICT clause) after them."""
    position = 0
    while position < len(rows):
        count = min(1 << ((len(rows) - position).bit_length() - 1), _MOST)
        chunk = rows[position : position + count]
        db.execute(_statement(verb, len(chunk[0]), count, tail), list(chain.from_iterable(chunk)))
        position += count


@lru_cache(maxsize=256)
def _statement(verb: str, width: int, count: int, tail: str) -> str:
    one = f"({', '.join('?' * width)})"
    return f"{verb} VALUES {', '.join([one] * count)} {tail}"
