"""What was answered under an Idempotency-Key, and is answered again for a day?"""

from __future__ import annotations

from typing import Any

import apsw

from collector.core.ids import PublicIds
from collector.errors import ApiError
from collector.exchange.operations import Answered, Once, Reworded
from collector.storage.rules.answers import IDEMPOTENCY_MS, rendered


class Answers:
    """Owned by the writer thread; an answer is kept in the transaction of what it tells of."""

    def __init__(self, db: apsw.Connection, public: PublicIds) -> None:
        self._db = db
        self._public = public

    def known(self, once: Once, now: int) -> Answered | None:
        """The first answer under this key. Raises ApiError where it was given to another body."""
        found = self._db.execute(
            "SELECT body_hash, status, answer FROM idempotency WHERE key_k = ? AND expires > ?", (once.key_k, now)
        ).fetchone()
        if found is None:
            return None
        if found[0] != once.body_hash:
            raise ApiError("idempotency_conflict", "this Idempotency-Key was used with another body")
        return Answered(found[1], found[2], True)

    def keep(self, once: Once, results: list[Any], now: int) -> Answered:
        status, answer = 200, rendered(once, results, self._public)
        self._db.execute(
            "INSERT OR REPLACE INTO idempotency VALUES (?, ?, ?, ?, ?)",
            (once.key_k, once.body_hash, now + IDEMPOTENCY_MS, status, answer),
        )
        return Answered(status, answer, False, results)

    def reword(self, told: Reworded) -> None:
        """What is answered from now on: its caller waited for Meta, and was told more."""
        self._db.execute(
            "UPDATE idempotency SET answer = ? WHERE key_k = ? AND body_hash = ?",
            (told.answer, told.key_k, told.body_hash),
        )
