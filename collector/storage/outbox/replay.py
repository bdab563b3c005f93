"""Dead letters put back into the queue, with the same event ids: in slices of short transactions beside a courier.

What Meta would refuse, or what must not be sent at all, is told with its reason (rules/replays.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, cast

import apsw

from collector.core.capi.states import CapiState, name_of
from collector.storage.ground.database import immediate
from collector.storage.rules.replays import Replayed, why_not

_SLICE: Final = 500

_FIND_SQL: Final = """
SELECT o.id, o.conversion, o.state, o.deadline, o.reason, p.id IS NOT NULL, x.name
  FROM outbox o LEFT JOIN outbox_payload p ON p.id = o.id JOIN pixel x ON x.id = o.pixel
 WHERE o.id > :after AND o.state = :state AND o.settled >= :since
   AND (:store IS NULL OR o.conversion IN
        (SELECT c.id FROM conversion c JOIN store s ON s.id = c.store WHERE c.id = o.conversion AND s.name = :store))
 ORDER BY o.id LIMIT :limit"""
# A doubt is forgotten: whoever replays an event by hand has decided that it shall be sent again.
_QUEUE_SQL: Final = """
UPDATE outbox SET state = 0, settled = NULL, reason = NULL, due = ?, doubt_at = NULL
 WHERE id = ? AND settled IS NOT NULL AND state = ?"""


def replay(
    db: apsw.Connection,
    states: Sequence[CapiState],
    *,
    now: int,
    store: str | None = None,
    since: int = 0,
    dry_run: bool = False,
) -> Iterator[Replayed]:
    """Put settled events of these states back, event by event; `dry_run` only says what would happen. Times in ms."""
    for state in states:
        after = 0
        while rows := _find(db, state, store, since, after):
            after = rows[-1][0]
            answers = [
                (number, Replayed(conversion, pixel, name_of(was), why_not(was, deadline, bool(kept), reason, now)))
                for number, conversion, was, deadline, reason, kept, pixel in rows
            ]
            if not dry_run:
                _queue(db, [(now, number, int(state)) for number, answer in answers if answer.refused is None])
            yield from (answer for _, answer in answers)


def _find(db: apsw.Connection, state: CapiState, store: str | None, since: int, after: int) -> list[tuple[Any, ...]]:
    bind = {"after": after, "state": int(state), "since": since, "store": store, "limit": _SLICE}
    return cast("list[tuple[Any, ...]]", db.execute(_FIND_SQL, bind).fetchall())


def _queue(db: apsw.Connection, rows: list[tuple[int, int, int]]) -> None:
    if not rows:
        return
    with immediate(db):
        db.executemany(_QUEUE_SQL, rows)
