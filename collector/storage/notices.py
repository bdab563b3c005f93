"""Answers that changed after they were given: the edge notes them with the change, the courier tells the shop."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, cast

import apsw
import msgspec
from msgspec import Struct

from collector.core.events import StoredEvent
from collector.core.ids import PublicIds
from collector.storage.database import immediate

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


def pending(db: apsw.Connection, public: Callable[[], PublicIds], now: int, limit: int) -> list[Noted]:
    """The oldest of what is to be told; what is older than KEPT_MS, or gone, is dropped.

    `public` is asked when there is something: whatever it raises comes out.
    """
    if db.execute("SELECT 1 FROM notice LIMIT 1").get is None:
        return []
    ids = public()
    found = [_noted(ids, row) for row in db.execute(_PENDING, (limit,))]
    with immediate(db):
        db.execute("DELETE FROM notice WHERE at < ?", (now - KEPT_MS,))
        db.execute("DELETE FROM notice WHERE conversion NOT IN (SELECT id FROM conversion)")
    return found


def drop_all(db: apsw.Connection) -> None:
    """Nobody wants to be told. (The edge does not know that: the address is a secret that it does not hold.)"""
    if db.execute("SELECT 1 FROM notice LIMIT 1").get is not None:
        with immediate(db):
            db.execute("DELETE FROM notice")


def told(db: apsw.Connection, noted: Iterable[Noted]) -> None:
    """These were taken; one that changed again meanwhile stays."""
    with immediate(db):
        db.executemany("DELETE FROM notice WHERE conversion = ? AND revision = ?", [one[:2] for one in noted])


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
