"""Refusals one by one, in SQLite."""

from __future__ import annotations

from typing import Final

import apsw

from collector.storage.rules import refusals
from collector.storage.rules.refusals import KEPT_DAYS, MOST_OF_A_CODE

_DAY_MS: Final = 86_400_000
_ONE: Final = "INSERT INTO refusal (at, code, field, called) VALUES (?, ?, ?, ?)"
_OLD: Final = "DELETE FROM refusal WHERE at < ?"
_BEYOND: Final = f"""DELETE FROM refusal WHERE code = ?1 AND id <=
 (SELECT id FROM refusal WHERE code = ?1 ORDER BY id DESC LIMIT 1 OFFSET {MOST_OF_A_CODE})"""


class Refusals(refusals.Refusals):
    """Owned by the writer's thread."""

    def write(self, db: apsw.Connection, now: int) -> None:
        """Write what waits and take out what is old (`now`: ms), inside the caller's transaction."""
        told = self.waiting()
        db.executemany(_ONE, [(now, *one) for one in told])
        db.executemany(_BEYOND, [(code,) for code in sorted({one[0] for one in told})])
        db.execute(_OLD, (now - KEPT_DAYS * _DAY_MS,))
