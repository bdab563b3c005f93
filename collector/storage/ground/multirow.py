"""Many rows in few statements: each step of one releases the interpreter's lock, and taking it again costs more."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

import apsw

_MOST = 500  # rows of a statement
_MOST_BYTES = 16_000  # apsw keeps a prepared statement of at most 16,384 bytes


def write(db: apsw.Connection, verb: str, rows: Sequence[Sequence[Any]], tail: str = "") -> None:
    """`verb` ("INSERT INTO t") VALUES all rows, in their order, `tail` (an ON CONFLICT clause) after them."""
    if not rows:
        return
    position, width = 0, len(rows[0])
    most = min(_MOST, _MOST_BYTES // (2 * width + 2))
    while position < len(rows):
        left = len(rows) - position
        count = most if left >= most else 1 << (left.bit_length() - 1)  # few different statements
        chunk = rows[position : position + count]
        db.execute(_statement(verb, width, count, tail), list(chain.from_iterable(chunk)))
        position += count


@lru_cache(maxsize=256)
def _statement(verb: str, width: int, count: int, tail: str) -> str:
    one = f"({','.join('?' * width)})"
    return f"{verb} VALUES {','.join([one] * count)} {tail}"
