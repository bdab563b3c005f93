"""What is written of a request and its events: statements in a transaction that holds the pixel's lease."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec import structs

from collector.core.capi.states import CapiState
from collector.storage.postgres.connecting import Connection
from collector.storage.rules.sending import AMBIGUOUS, INTERRUPTED, Claim, Report

_DAY_MS: Final = 86_400_000
# Nothing where it is closed already: a commit whose answer was lost is repeated.
_CLOSE: Final = """
UPDATE request SET outcome = $2, http_status = $3, code = $4, subcode = $5, trace_id = $6, message = $7, took_ms = $8,
       ids = NULL
 WHERE id = $1 AND outcome = 'in_flight' RETURNING id"""
_EARLIER: Final = """
INSERT INTO attempt (outbox, request)
SELECT id, request FROM outbox WHERE id = ANY($1::bigint[]) AND request IS NOT NULL AND request <> $2
    ON CONFLICT DO NOTHING"""
_TRIED: Final = "UPDATE outbox SET attempts = attempts + 1, request = $1 WHERE id = ANY($2::bigint[])"
_SETTLE: Final = """
UPDATE outbox SET state = $1, settled = $2, attempts = attempts + $3, request = coalesce($4, request), reason = $5
 WHERE (settled IS NULL OR $1 = 10) AND id = ANY(ARRAY(SELECT unnest($6::bigint[])))"""
_WIPE: Final = "DELETE FROM outbox_payload WHERE id = ANY(ARRAY(SELECT unnest($1::bigint[])))"
_REQUEUE: Final = """
UPDATE outbox SET state = 1, due = $1, reason = $2, doubt_at = coalesce(doubt_at, $3),
       doubts = doubts + ($3::bigint IS NOT NULL)::int
 WHERE settled IS NULL AND state < 2 AND id = ANY($4::bigint[])"""
_DOUBT_STOPPED: Final = """
UPDATE outbox SET doubt_at = coalesce(doubt_at, $1), doubts = doubts + 1
 WHERE state IN (2, 13) AND id = ANY($2::bigint[])"""
_CUT_OFF: Final = """
WITH cut AS (SELECT id, at, ids FROM request WHERE pixel = ANY($1::bigint[]) AND outcome = 'in_flight' FOR UPDATE),
closed AS (UPDATE request r SET outcome = 'interrupted', message = $2, ids = NULL FROM cut WHERE r.id = cut.id)
SELECT id, at, ids FROM cut ORDER BY id"""
_NEVER_SENT: Final = """
UPDATE request r SET outcome = 'interrupted', ids = NULL
  FROM unnest($1::bigint[], $2::bigint[]) AS mine (pixel, epoch)
 WHERE r.pixel = mine.pixel AND r.epoch = mine.epoch AND r.outcome = 'in_flight' AND r.id <> ALL($3::bigint[])"""
_COUNT: Final = """
INSERT INTO counter (edge, day, store, name, n) VALUES (0, $1, 0, $2, $3)
    ON CONFLICT (day, store, name, edge) DO UPDATE SET n = counter.n + excluded.n"""


def plain(text: str | None) -> str | None:
    """What Meta said, without what PostgreSQL's text does not take: NUL and halves of letters."""
    return text and text.replace("\0", "").encode(errors="replace").decode()


async def close(c: Connection, claim: Claim, report: Report) -> bool:
    """Write down what came of the request; False when that was done before."""
    said = (plain(one) if isinstance(one, str) else one for one in structs.astuple(report))
    if await c.fetchval(_CLOSE, claim.request, *said) is None:
        return False
    if any(event.attempts for event in claim.events):
        await c.execute(_EARLIER, claim.ids, claim.request)
    return True


async def tried(c: Connection, request: int, ids: Sequence[int]) -> None:
    """Another attempt of these events."""
    await c.execute(_TRIED, request, ids)


async def settle(
    c: Connection,
    ids: Sequence[int],
    state: CapiState,
    now: int,
    *,
    reason: str | None = None,
    request: int | None = None,
    attempts: int = 0,
) -> None:
    """The last word on these events; only that Meta has one comes after another, and then its bytes are forgotten."""
    if ids:
        await c.execute(_SETTLE, int(state), now, attempts, request, plain(reason), ids)
        if state is CapiState.SENT:
            await c.execute(_WIPE, ids)


async def requeue(
    c: Connection, ids: Sequence[int], due: int, *, reason: str | None, doubt_at: int | None = None
) -> None:
    """Try these again, not before `due`. `doubt_at`: Meta may have taken them in an attempt at that time."""
    if ids:
        await c.execute(_REQUEUE, due, plain(reason), doubt_at, ids)
        if doubt_at is not None:
            await c.execute(_DOUBT_STOPPED, doubt_at, ids)


async def take_over(c: Connection, pixels: Sequence[int], now: int) -> int:
    """Requeue what a former owner of these pixels had in flight; how many events are in doubt because of that."""
    doubtful = 0
    for request, at, ids in await c.fetch(_CUT_OFF, pixels, INTERRUPTED):
        await c.execute(_EARLIER, ids, request)
        await tried(c, request, ids)
        await requeue(c, ids, now, reason="interrupted", doubt_at=at)
        doubtful += len(ids)
    if doubtful:
        await count(c, AMBIGUOUS, doubtful, now)
    return doubtful


async def forget_unsent(c: Connection, epochs: dict[int, int], open_requests: Sequence[int]) -> None:
    """Requests of ours whose COMMIT was never answered: nobody has sent them, and their events were claimed anew."""
    await c.execute(_NEVER_SENT, list(epochs), list(epochs.values()), open_requests)


async def count(c: Connection, name: str, n: int, now: int) -> None:
    """Add to the day's running count `name` of the installation."""
    await c.execute(_COUNT, now // _DAY_MS, name, n)
