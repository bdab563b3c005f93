"""What is known of one click or conversion at this moment: reads beside the writer, also while the disk is full."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw
import msgspec
from msgspec import Struct

from collector.config import StorageConfig
from collector.core.capi.states import CapiState, name_of
from collector.core.events import StoredClick, StoredEvent
from collector.core.matching import Match
from collector.exchange import clicks
from collector.exchange.rows import ClickRow, ConversionRow
from collector.exchange.states import Attempt, Delivery, EventState
from collector.storage.ground.database import DATABASE, connect
from collector.storage.outbox import outbox
from collector.storage.rules.tables import CLICKS, CONVERSIONS

_decode_event = msgspec.msgpack.Decoder(StoredEvent).decode
_decode_match = msgspec.msgpack.Decoder(Match).decode


class _Note(Struct):
    note_of: int | None = None


_decode_note = msgspec.msgpack.Decoder(_Note).decode

_ATTEMPTS = """
SELECT p.name, r.at, r.outcome, r.http_status, r.code, r.subcode, r.trace_id, r.message
  FROM outbox o JOIN pixel p ON p.id = o.pixel
  JOIN request r ON r.id = o.request OR r.id IN (SELECT request FROM attempt WHERE outbox = o.id)
 WHERE o.conversion = ? ORDER BY r.at, r.id"""
_DELIVERIES = """
SELECT p.name, o.state, o.reason, o.attempts, o.settled FROM outbox o JOIN pixel p ON p.id = o.pixel
 WHERE o.conversion = ? ORDER BY o.id"""
_CONVERSION = f"SELECT {CONVERSIONS.columns} FROM conversion WHERE id = ? AND store > 0"  # 0: an erased one's shell
_CLICK = f"SELECT {CLICKS.columns} FROM click WHERE id = ? AND store > 0"
_BODY = ConversionRow._fields.index("body")
_OF_CLICK = "SELECT id FROM conversion WHERE click = ? ORDER BY id LIMIT 100"


def event_state(db: apsw.Connection, row: ConversionRow) -> EventState:
    """What is known of a stored event at this moment."""
    found = _decode_match(row.match)
    delivery = outbox.delivery_of(db, row.id)
    return EventState(
        row,
        _decode_event(row.body),
        found,
        delivery.state if delivery else CapiState(row.capi),
        delivery.reason if delivery else None,
        click_body(db, found.click) if found.click is not None else None,
    )


def click_body(db: apsw.Connection, click_id: int) -> StoredClick | None:
    """The body of a committed click."""
    row = click_row(db, click_id)
    return clicks.read(row) if row else None


def click_row(db: apsw.Connection, click_id: int) -> ClickRow | None:
    row = db.execute(_CLICK, (click_id,)).fetchone()
    return ClickRow._make(row) if row else None


class Reader:
    """A read-only connection of its own; use it from one thread at a time."""

    def __init__(self, data_dir: Path, config: StorageConfig) -> None:
        self._db = connect(data_dir / DATABASE, config, readonly=True)

    def close(self) -> None:
        self._db.close()

    @contextmanager
    def _snapshot(self) -> Iterator[apsw.Connection]:
        """All reads inside see one moment."""
        self._db.execute("BEGIN")
        try:
            yield self._db
        finally:
            self._db.execute("ROLLBACK")

    def conversion(self, row_id: int) -> tuple[EventState, list[Delivery], list[Attempt]] | None:
        """A conversion with its deliveries and every attempt, oldest first; None when there is none.

        What a page told of an order is asked for the order, once a server or shop has told that.
        """
        with self._snapshot() as db:
            row = db.execute(_CONVERSION, (row_id,)).fetchone()
            if row is None:
                return None
            if order := _decode_note(row[_BODY]).note_of:
                row, row_id = db.execute(_CONVERSION, (order,)).fetchone() or row, order
            deliveries = [
                Delivery(pixel, name_of(state), reason, attempts, settled)
                for pixel, state, reason, attempts, settled in db.execute(_DELIVERIES, (row_id,))
            ]
            attempts = [Attempt(*values) for values in db.execute(_ATTEMPTS, (row_id,))]
            return event_state(db, ConversionRow._make(row)), deliveries, attempts

    def state(self, row_id: int) -> CapiState | None:
        """How a conversion's delivery stands; None when it has no outbox row."""
        delivery = outbox.delivery_of(self._db, row_id)
        return delivery.state if delivery else None

    def click(self, row_id: int) -> tuple[ClickRow, list[int]] | None:
        """A click and the conversions that it was given."""
        with self._snapshot() as db:
            row = click_row(db, row_id)
            return (row, [r[0] for r in db.execute(_OF_CLICK, (row_id,))]) if row else None
