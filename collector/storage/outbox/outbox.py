"""What does the keeper put into the outbox, and change there, inside its own transaction?

Every function takes the caller's connection and neither begins nor commits. The courier's verbs are in dispatch.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import apsw
from msgspec import Struct

from collector.core.capi.payload import BuiltEvent
from collector.core.capi.states import CapiState, combine
from collector.storage.ground import multirow

PURCHASE_LANE: Final = 0
OTHER_LANE: Final = 1
# An event may wait so much of the configured time for company; the rest is for noticing it and for the request.
_WAIT_SHARE: Final = 0.75

_MERGE_SQL: Final = """
INSERT OR REPLACE INTO outbox_payload (id, body)
SELECT id, :body FROM outbox WHERE conversion = :conversion AND pixel = :pixel AND settled IS NULL"""
_RELEASE_SQL: Final = """
UPDATE outbox SET state = 0, reason = NULL, due = :due
 WHERE conversion = :conversion AND state = 2 AND settled IS NULL"""
# Refused before it ever went out, expired or dropped: Meta is not known to have taken any of these. What was dropped in
# doubt is for the courier to judge, as every repeat is; what expired in doubt stays so.
_REVIVE_SQL: Final = """
UPDATE outbox SET state = 0, settled = NULL, reason = NULL, due = :due, deadline = :deadline
 WHERE conversion = :conversion AND pixel = :pixel
   AND (state = 11 AND attempts = 0 OR state = 13 OR state = 12 AND doubts = 0 AND :deadline > :now)
 RETURNING id"""
_DEADLINE_SQL: Final = "UPDATE outbox SET deadline = :deadline WHERE conversion = :conversion AND settled IS NULL"
_HAND_OVER_SQL: Final = "UPDATE outbox SET conversion = :heir WHERE conversion = :conversion"
_HOLD_SQL: Final = """
UPDATE outbox SET state = 2, reason = :reason WHERE conversion = :conversion AND state < 2 AND settled IS NULL"""
_WIPE_SQL: Final = """
DELETE FROM outbox_payload WHERE id IN (SELECT id FROM outbox WHERE conversion = :conversion AND settled IS NULL)"""
_DROP_SQL: Final = """
UPDATE outbox SET state = :state, settled = :now, reason = :reason
 WHERE conversion = :conversion AND settled IS NULL"""
_STATE_SQL: Final = "SELECT state, reason FROM outbox WHERE conversion = ?"


class OutboxRow(Struct, frozen=True):
    """One event for one pixel. `payload` is the encoded event, empty where there is nothing to send."""

    conversion: int
    pixel: int
    state: int
    lane: int
    created: int
    due: int
    deadline: int
    payload: bytes
    reason: str | None = None
    test_code: str | None = None


class Delivery(Struct, frozen=True):
    """How an event stands over all its pixels; `reason` is the first one that a row states."""

    state: CapiState
    reason: str | None


def lane_of(event_type: str) -> int:
    """Purchases first."""
    return PURCHASE_LANE if event_type == "Purchase" else OTHER_LANE


def due_at(now: int, wait_seconds: float) -> int:
    """The moment (ms) at which a queued event goes out with whatever company it has."""
    return now + int(wait_seconds * 1000 * _WAIT_SHARE)


def row(
    conversion: int,
    pixel: int,
    event_type: str,
    built: BuiltEvent,
    *,
    now: int,
    wait_seconds: float,
    held: tuple[CapiState, str | None] | None = None,
    unconfirmed: bool = False,
    test_code: str | None = None,
) -> OutboxRow:
    """The outbox row of a built event. `held` is the gate's answer when that is not QUEUED (core/capi/gate.py).

    An `unconfirmed` one is held though Meta would refuse it: nobody knows yet whether there is anything to send (T6).
    """
    state, reason = built.state, built.refused
    if held is not None and (built.refused is None or unconfirmed):
        state, reason = held
    due = due_at(now, wait_seconds)
    return OutboxRow(
        conversion, pixel, int(state), lane_of(event_type), now, due, built.deadline, built.payload, reason, test_code
    )


def insert(db: apsw.Connection, rows: Sequence[OutboxRow]) -> None:
    """Queue the rows in order; they are on disk when the caller's transaction is."""
    last: Any = db.execute("SELECT max(id) FROM outbox").get
    numbered = list(enumerate(rows, start=(last or 0) + 1))
    multirow.write(db, "INSERT INTO outbox", [_values(number, item) for number, item in numbered])
    payloads = [(number, item.payload) for number, item in numbered if item.payload]
    multirow.write(db, "INSERT INTO outbox_payload", payloads)


def _values(number: int, item: OutboxRow) -> tuple[int | str | None, ...]:
    """The row in the order of the table's columns."""
    settled = None if item.state <= CapiState.HELD else item.created
    return (
        number,
        item.conversion,
        item.pixel,
        item.state,
        item.lane,
        item.created,
        item.due,
        item.deadline,
        0,  # attempts
        0,  # doubts
        None,  # doubt_at
        settled,
        None,  # request
        item.test_code,
        item.reason,
    )


def merge(db: apsw.Connection, conversion: int, payloads: Mapping[int, bytes], deadline: int) -> int:
    """Give the rows that are not settled their richer payload, by pixel number, and their time; how many took it."""
    db.execute(_DEADLINE_SQL, {"conversion": conversion, "deadline": deadline})
    changed = 0
    for pixel, body in payloads.items():
        db.execute(_MERGE_SQL, {"body": body, "conversion": conversion, "pixel": pixel})
        changed += db.changes()
    return changed


def revive(
    db: apsw.Connection, conversion: int, payloads: Mapping[int, bytes], *, now: int, due: int, deadline: int
) -> int:
    """Queue what was given up before Meta took it and may go out now (O3); how many there were.

    What was in flight when it was dropped may still become SENT, and then is sent no second time.
    """
    revived = 0
    for pixel, body in payloads.items():
        bind = {"conversion": conversion, "pixel": pixel, "due": due, "deadline": deadline, "now": now}
        for (number,) in db.execute(_REVIVE_SQL, bind).fetchall():
            db.execute("INSERT OR REPLACE INTO outbox_payload (id, body) VALUES (?, ?)", (number, body))
            revived += 1
    return revived


def release(db: apsw.Connection, conversion: int, *, now: int) -> int:
    """Let held events go out at the next batch; how many there were. One past its deadline expires in the courier."""
    db.execute(_RELEASE_SQL, {"conversion": conversion, "due": now})
    return db.changes()


def hold(db: apsw.Connection, conversion: int, *, reason: str) -> int:
    """Keep queued events back until `release` or `drop`; how many there were."""
    db.execute(_HOLD_SQL, {"conversion": conversion, "reason": reason})
    return db.changes()


def hand_over(db: apsw.Connection, conversion: int, heir: int) -> None:
    """Make one conversion's deliveries another's, whatever has become of them: both are one event to Meta."""
    db.execute(_HAND_OVER_SQL, {"conversion": conversion, "heir": heir})


def drop(db: apsw.Connection, conversion: int, *, now: int, reason: str, state: CapiState = CapiState.SKIPPED) -> int:
    """Never send what is not settled yet, and forget its payload; how many there were.

    What is in flight at this moment may still become SENT: the row then says what is true.
    """
    db.execute(_WIPE_SQL, {"conversion": conversion})
    db.execute(_DROP_SQL, {"conversion": conversion, "now": now, "reason": reason, "state": int(state)})
    return db.changes()


def delivery_of(db: apsw.Connection, conversion: int) -> Delivery | None:
    """How the event stands at this moment; None when it has no row (it was never meant to go out)."""
    rows: list[tuple[int, str | None]] = db.execute(_STATE_SQL, (conversion,)).fetchall()  # type: ignore[assignment]
    if not rows:
        return None
    return Delivery(combine(state for state, _ in rows), next((reason for _, reason in rows if reason), None))
