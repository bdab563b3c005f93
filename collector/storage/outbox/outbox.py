"""What does the keeper put into the outbox, and change there, inside its own transaction?

Every function takes the caller's connection and neither begins nor commits. The courier's verbs are in dispatch.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Concatenate, Final, NamedTuple, ParamSpec, TypeVar

import apsw

from collector.core.capi import payload
from collector.core.capi.states import CapiState
from collector.storage.ground import multirow
from collector.storage.rules.deliveries import Delivery, OutboxRow, standing_of, values_of

_MERGED_SQL: Final = """
SELECT id FROM outbox WHERE conversion = :conversion AND pixel = :pixel
   AND (settled IS NULL OR state IN (11, 12, 14) AND id IN (SELECT id FROM outbox_payload))"""
_WRITE_SQL: Final = "INSERT OR REPLACE INTO outbox_payload (id, body) VALUES (?, ?)"
# Held since it was queued: a restore doubts all that is open, and what nobody has sent yet is no copy of what went.
NEVER_LEFT: Final = "(state = 2 AND attempts = 0)"
# What Meta may have of a delivery: its bytes, if they are still here, and its value, if the order's is another by now.
_MAY_HAVE_SQL: Final = f"""
SELECT p.body, b.value FROM outbox o
  LEFT JOIN outbox_payload p ON p.id = o.id LEFT JOIN sent_before b ON b.outbox = o.id
 WHERE o.id = ? AND NOT {NEVER_LEFT} AND (o.doubt_at IS NOT NULL OR b.value IS NOT NULL)"""
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
_DEADLINE_SQL: Final = f"""
UPDATE outbox SET deadline = :deadline
 WHERE conversion = :conversion AND settled IS NULL AND (doubt_at IS NULL OR {NEVER_LEFT})"""
_HAND_OVER_SQL: Final = (
    "UPDATE outbox SET conversion = :heir WHERE conversion = :conversion",
    "UPDATE sent_before SET conversion = :heir WHERE conversion = :conversion",
)
# What is held in doubt keeps its body: Meta may have it, though a restore forgot the attempt.
_HOLD_SQL: Final = """
UPDATE outbox SET state = 2, reason = :reason, attempts = max(attempts, doubt_at IS NOT NULL)
 WHERE conversion = :conversion AND state < 2 AND settled IS NULL"""
_WIPE_SQL: Final = """
DELETE FROM outbox_payload WHERE id IN
 (SELECT id FROM outbox WHERE conversion = :conversion AND (settled IS NULL OR state IN (11, 12, 14)){})"""
_DROP_SQL: Final = """
UPDATE outbox SET state = :state, settled = :now, reason = :reason
 WHERE conversion = :conversion AND settled IS NULL"""
_NOT_AT_META: Final = " AND doubt_at IS NULL AND id NOT IN (SELECT outbox FROM sent_before)"
_STATE_SQL: Final = "SELECT state, reason FROM outbox WHERE conversion = ?"
_ROWS_SQL: Final = """
SELECT id, pixel, state, reason, attempts, doubt_at, settled, deadline,
       EXISTS (SELECT 1 FROM sent_before WHERE outbox = outbox.id)
  FROM outbox WHERE conversion = ?"""


def insert(db: apsw.Connection, rows: Sequence[OutboxRow]) -> None:
    """Queue the rows in order; they are on disk when the caller's transaction is."""
    last: Any = db.execute("SELECT max(id) FROM outbox").get
    numbered = list(enumerate(rows, start=(last or 0) + 1))
    multirow.write(db, "INSERT INTO outbox", [values_of(number, item) for number, item in numbered])
    payloads = [(number, item.payload) for number, item in numbered if item.payload]
    multirow.write(db, "INSERT INTO outbox_payload", payloads)


def merge(db: apsw.Connection, conversion: int, payloads: Mapping[int, bytes], deadline: int) -> int:
    """Give the rows that are not settled their richer payload, by pixel number, and their time; how many took it."""
    db.execute(_DEADLINE_SQL, {"conversion": conversion, "deadline": deadline})
    changed = 0
    for pixel, body in payloads.items():
        rows: Any = db.execute(_MERGED_SQL, {"conversion": conversion, "pixel": pixel}).fetchall()
        for (number,) in rows:
            _write(db, number, body)
            changed += 1
    return changed


def _write(db: apsw.Connection, number: int, body: bytes) -> None:
    """Give a row its payload. What Meta may have of it stays as it went out: of two with one id it keeps the first."""
    may_have: Any = db.execute(_MAY_HAVE_SQL, (number,)).fetchone()
    db.execute(_WRITE_SQL, (number, payload.as_sent(body, *may_have) if may_have is not None else body))


def revive(
    db: apsw.Connection, conversion: int, payloads: Mapping[int, bytes], *, now: int, due: int, deadline: int
) -> int:
    """Queue what was given up before Meta took it and may go out now (O3); how many there were.

    What was in flight when it was dropped may still become SENT, and then is sent no second time.
    """
    revived = 0
    for pixel, body in payloads.items():
        bind = {"conversion": conversion, "pixel": pixel, "due": due, "deadline": deadline, "now": now}
        rows: Any = db.execute(_REVIVE_SQL, bind).fetchall()
        for (number,) in rows:
            _write(db, number, body)
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
    for statement in _HAND_OVER_SQL:
        db.execute(statement, {"conversion": conversion, "heir": heir})


def drop(
    db: apsw.Connection,
    conversion: int,
    *,
    now: int,
    reason: str,
    state: CapiState = CapiState.SKIPPED,
    but_at_meta: bool = False,
) -> int:
    """Never send what is not settled yet, and forget its payload; how many there were.

    What is in flight at this moment may still become SENT: the row then says what is true. `but_at_meta`: what Meta may
    have goes on, so that it is known whether it has.
    """
    bind = {"conversion": conversion, "now": now, "reason": reason, "state": int(state)}
    but = _NOT_AT_META if but_at_meta else ""
    db.execute(_WIPE_SQL.format(but), {"conversion": conversion})
    db.execute(_DROP_SQL + but, bind)
    return db.changes()


def delivery_of(db: apsw.Connection, conversion: int) -> Delivery | None:
    """How the event stands at this moment; None when it has no row (it was never meant to go out)."""
    rows: list[tuple[int, str | None]] = db.execute(_STATE_SQL, (conversion,)).fetchall()  # type: ignore[assignment]
    return standing_of(rows)


P = ParamSpec("P")
R = TypeVar("R")


class Row(NamedTuple):
    """A row of an order, as far as these verbs ask. `went`: sent_before says what Meta may have of it."""

    id: int
    pixel: int
    state: int
    reason: str | None
    attempts: int
    doubt_at: int | None
    settled: int | None
    deadline: int
    went: int

    @property
    def is_plain(self) -> bool:
        """Whether only its payload may be another by now, and Meta has none: it waits; or it is over for good."""
        open_or_over = self.doubt_at is None and not self.went if self.settled is None else self.state in (10, 13)
        return open_or_over and self.state not in (11, 12, 14)


class Bound:
    """These verbs over the writer's connection (storage/verbs/ports.py: Outbox).

    An order that is told again asks its rows a dozen small questions, and nearly always changes no more than the
    payload of one that waits. So they are read once, and again only after a change. `forget`: a transaction begins.
    """

    def __init__(self, db: apsw.Connection) -> None:
        self._db = db
        self._known: tuple[int, list[Row], Delivery | None] | None = None
        self.insert = self._changing(insert)
        self.hold = self._changing(hold)
        self.hand_over = self._changing(hand_over)
        self.drop = self._changing(drop)
        self._merge = self._changing(merge)
        self._revive = self._changing(revive)
        self._release = self._changing(release)

    def _changing(self, verb: Callable[Concatenate[apsw.Connection, P], R]) -> Callable[P, R]:
        def changing(*args: P.args, **named: P.kwargs) -> R:
            self.forget()
            return verb(self._db, *args, **named)

        return changing

    def forget(self) -> None:
        """What is known of rows holds no longer."""
        self._known = None

    def _of(self, conversion: int) -> tuple[int, list[Row], Delivery | None]:
        if self._known is None or self._known[0] != conversion:
            asked: Any = self._db.execute(_ROWS_SQL, (conversion,)).fetchall()
            rows = [Row(*values) for values in asked]
            self._known = conversion, rows, standing_of([(row.state, row.reason) for row in rows])
        return self._known

    def rows_of(self, conversion: int) -> list[Row]:
        return self._of(conversion)[1]

    def delivery_of(self, conversion: int) -> Delivery | None:
        return self._of(conversion)[2]

    def merge(self, conversion: int, payloads: Mapping[int, bytes], deadline: int) -> int:
        rows = self.rows_of(conversion)
        if not all(row.is_plain for row in rows):
            return self._merge(conversion, payloads, deadline)
        waiting = [row for row in rows if row.settled is None]
        if any(row.deadline != deadline for row in waiting):
            self._db.execute(_DEADLINE_SQL, {"conversion": conversion, "deadline": deadline})
            self.forget()
        richer = [(row.id, payloads[row.pixel]) for row in waiting if row.pixel in payloads]
        for one in richer:
            self._db.execute(_WRITE_SQL, one)
        return len(richer)

    def revive(self, conversion: int, payloads: Mapping[int, bytes], *, now: int, due: int, deadline: int) -> int:
        if all(row.state not in (11, 12, 13) for row in self.rows_of(conversion)):
            return 0
        return self._revive(conversion, payloads, now=now, due=due, deadline=deadline)

    def release(self, conversion: int, *, now: int) -> int:
        held = any(row.state == 2 for row in self.rows_of(conversion))
        return self._release(conversion, now=now) if held else 0
