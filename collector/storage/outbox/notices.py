"""Answers that changed after they were given: the keeper notes them with the change, the courier tells the shop."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

import apsw

from collector.config import Config
from collector.core.ids import PublicIds
from collector.core.keyed import KeyedHash
from collector.storage.ground.database import immediate, load_pepper
from collector.storage.rules.noticed import KEPT_MS, Noted, noted

_NOTE: Final = (
    "INSERT INTO notice VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET revision = excluded.revision, at = excluded.at"
)
_PENDING: Final = """
SELECT n.conversion, n.revision, c.revision, s.name, c.event_type, c.click, c.confidence, c.method, c.body
  FROM notice n JOIN conversion c ON c.id = n.conversion JOIN store s ON s.id = c.store
 ORDER BY n.at, n.conversion LIMIT ?"""


def note(db: apsw.Connection, conversion: int, revision: int, now: int) -> None:
    """Have the shop told of a conversion's new revision, in the transaction that makes it."""
    db.execute(_NOTE, (conversion, revision, now))


class Notices:
    """The courier's side, over a connection of its own."""

    def __init__(self, db: apsw.Connection, config: Config) -> None:
        self._db = db
        self._config = config
        self._public: PublicIds | None = None

    def pending(self, now: int, limit: int) -> list[Noted]:
        """The oldest of what is to be told; what is older than KEPT_MS, or gone, is dropped.

        StorageError when the key of names is lost: the courier needs it for nothing else, and delivers without it.
        """
        if self._none():
            return []
        public = self._ids()
        found = [noted(public, row) for row in self._db.execute(_PENDING, (limit,))]
        with immediate(self._db):
            self._db.execute("DELETE FROM notice WHERE at < ?", (now - KEPT_MS,))
            self._db.execute("DELETE FROM notice WHERE conversion NOT IN (SELECT id FROM conversion)")
        return found

    def told(self, these: Iterable[Noted]) -> None:
        """These were taken; one that changed again meanwhile stays."""
        with immediate(self._db):
            sql = "DELETE FROM notice WHERE conversion = ? AND revision = ?"
            self._db.executemany(sql, [one[:2] for one in these])

    def drop_all(self) -> None:
        """Nobody wants to be told. (The keeper does not know that: the address is a secret that it does not hold.)"""
        if not self._none():
            with immediate(self._db):
                self._db.execute("DELETE FROM notice")

    def _none(self) -> bool:
        return self._db.execute("SELECT 1 FROM notice LIMIT 1").get is None

    def _ids(self) -> PublicIds:
        if self._public is None:
            data_dir, file = Path(self._config.storage.data_dir), self._config.privacy.pepper_file
            self._public = PublicIds(KeyedHash(load_pepper(self._db, data_dir, file)).subkey("public ids"))
        return self._public
