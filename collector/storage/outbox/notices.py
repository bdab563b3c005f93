"""Answers that changed after they were given: the keeper notes them with the change, the courier tells the shop."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final, cast

import apsw
import msgspec
from msgspec import Struct

from collector.config import Config
from collector.core.events import StoredEvent
from collector.core.ids import PublicIds
from collector.core.keyed import KeyedHash
from collector.storage.ground.database import immediate, load_pepper

# Beyond it a shop that could not be reached asks GET /v1/conversions instead.
KEPT_MS: Final = 7 * 86_400_000
_NOTE: Final = (
    "INSERT INTO notice VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET revision = excluded.revision, at = excluded.at"
)
_PENDING: Final = """
SELECT n.conversion, n.revision, c.revision, s.name, c.event_type, c.click, c.confidence, c.method, c.body
  FROM notice n JOIN conversion c ON c.id = n.conversion JOIN store s ON s.id = c.store
 ORDER BY n.at, n.conversion LIMIT ?"""


class Revision(Struct, frozen=True, rename="camel"):
    """What the shop is told of one conversion; the rest is at GET /v1/conversions/{conversionId}. Nothing personal."""

    conversion_id: str
    store_id: str
    event_type: str
    order_id: str | None
    revision: int
    attributed: bool
    click_id: str | None
    confidence_score: int | None
    method: str | None


Noted = tuple[int, int, Revision]  # conversion, the revision that was noted, and what is told: the newest


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
        found = [_noted(public, row) for row in self._db.execute(_PENDING, (limit,))]
        with immediate(self._db):
            self._db.execute("DELETE FROM notice WHERE at < ?", (now - KEPT_MS,))
            self._db.execute("DELETE FROM notice WHERE conversion NOT IN (SELECT id FROM conversion)")
        return found

    def told(self, noted: Iterable[Noted]) -> None:
        """These were taken; one that changed again meanwhile stays."""
        with immediate(self._db):
            sql = "DELETE FROM notice WHERE conversion = ? AND revision = ?"
            self._db.executemany(sql, [one[:2] for one in noted])

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


def _noted(public: PublicIds, row: tuple[object, ...]) -> Noted:
    conversion, noted, revision, store, event_type, click, confidence, method, body = cast(
        "tuple[int, int, int, str, str, int | None, int | None, str | None, bytes]", row
    )
    return (
        conversion,
        noted,
        Revision(
            conversion_id=public.public("conv", conversion),
            store_id=store,
            event_type=event_type,
            order_id=msgspec.msgpack.decode(body, type=StoredEvent).order_id,
            revision=revision,
            attributed=method is not None,
            click_id=public.public("click", click) if click is not None else None,
            confidence_score=confidence,
            method=method,
        ),
    )
