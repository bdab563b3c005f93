"""Dead letters put back into the queue, as storage/outbox/replay.py has it, here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, Final

from collector.config import StorageConfig
from collector.core.capi.states import CapiState, name_of
from collector.storage.postgres.commanded import asked
from collector.storage.postgres.connecting import Connection
from collector.storage.rules.replays import Replayed, why_not

_SLICE: Final = 500
_FIND: Final = """
SELECT o.id, o.conversion, o.state, o.deadline, p.id IS NOT NULL AS kept, o.reason, x.name AS pixel
  FROM outbox o LEFT JOIN outbox_payload p ON p.id = o.id AND p.store = o.store JOIN pixel x ON x.id = o.pixel
 WHERE o.id > $1 AND o.state = $2 AND o.settled >= $3
   AND ($4::text IS NULL OR o.store = (SELECT id FROM store WHERE name = $4))
 ORDER BY o.id LIMIT $5"""
# Locked in the order in which couriers and keepers lock them; a doubt is forgotten, as a person has decided.
_QUEUE: Final = """
WITH again AS (SELECT id, store FROM outbox WHERE id = ANY($1::bigint[]) AND settled IS NOT NULL AND state = $2
                ORDER BY id FOR UPDATE)
UPDATE outbox o SET state = 0, settled = NULL, reason = NULL, due = $3, doubt_at = NULL
  FROM again WHERE o.id = again.id AND o.store = again.store"""


def replay(
    storage: StorageConfig,
    states: Sequence[CapiState],
    *,
    now: int,
    store: str | None = None,
    since: int = 0,
    dry_run: bool = False,
) -> Iterator[Replayed]:
    """Put settled events of these states back, event by event; `dry_run` only says what would happen. Times in ms."""
    for state in states:
        after: int | None = 0
        while after is not None:
            which = (int(state), since, store)
            question = partial(_slice, which=which, after=after, now=now, dry_run=dry_run)
            answers, after = asked(storage, question, changes=not dry_run)
            yield from answers


async def _slice(
    connection: Connection, *, which: tuple[int, int, str | None], after: int, now: int, dry_run: bool
) -> tuple[list[Replayed], int | None]:
    """What comes after the row `after`, and the last row of it; None where there is no more."""
    state, since, store = which
    rows = await connection.fetch(_FIND, after, state, since, store, _SLICE)
    answers = [Replayed(row["conversion"], row["pixel"], name_of(state), _refused(row, now)) for row in rows]
    again = [row["id"] for row, answer in zip(rows, answers, strict=True) if answer.refused is None]
    if again and not dry_run:
        await connection.execute(_QUEUE, again, state, now)
    return answers, rows[-1]["id"] if len(rows) == _SLICE else None


def _refused(row: Any, now: int) -> str | None:
    return why_not(row["state"], row["deadline"], row["kept"], row["reason"], now)
