"""How a stored event's rows in the outbox follow its state: queued, held, released, enriched, dropped."""

from __future__ import annotations

from collections import deque

import apsw

from collector.core.capi import gate, payload
from collector.core.capi.payload import BuiltEvent
from collector.core.capi.states import CapiState
from collector.core.events import Enrichment, StoredEvent
from collector.storage import outbox
from collector.storage.outbox import OutboxRow
from collector.storage.stores import Store

Figures = deque[tuple[int, str]]  # daily figures of a store to add one to


class Queueing:
    """Owned by the writer thread; works inside its transaction. New rows are written by `flush`."""

    def __init__(self, db: apsw.Connection, figures: Figures) -> None:
        self._db = db
        self._figures = figures
        self._rows: list[OutboxRow] = []

    def flush(self) -> None:
        """Write the new rows into the open transaction."""
        if self._rows:
            outbox.insert(self._db, self._rows)
            self._rows = []

    def forget(self) -> None:
        """Drop what is not written: the transaction is rolled back."""
        self._rows = []

    def _build(self, store: Store, event: StoredEvent, enrichment: Enrichment) -> BuiltEvent:
        """The event as Meta takes it; what had to be left out is counted by name."""
        built = payload.build_event(event, enrichment, store.profile)
        self._figures.extend((store.number, f"left_out.{name}") for name in built.dropped)
        return built

    def queue(self, event_id: int, store: Store, event: StoredEvent, enrichment: Enrichment, now: int) -> CapiState:
        """One outbox row per pixel that takes the event; the state that the event has by it."""
        pixels = [p for p in store.pixels if p.takes(event.event_type)]
        verdict = gate.decide(event, store.terms, len(pixels) or int(store.dry_run))
        if verdict.state in (CapiState.DISABLED, CapiState.SKIPPED):
            return verdict.state
        if not pixels:
            return CapiState.DRY_RUN if verdict.state is CapiState.QUEUED else verdict.state
        built = self._build(store, event, enrichment)
        self._figures.extend((store.number, f"missing.{name}") for name in built.missing)
        wait = store.purchase_wait if event.event_type == "Purchase" else store.other_wait
        rows = [
            outbox.row(
                event_id,
                pixel.number,
                event.event_type,
                built,
                now=now,
                wait_seconds=wait,
                held=(verdict.state, verdict.reason) if verdict.state is not CapiState.QUEUED else None,
                test_code=event.test_event_code,
            )
            for pixel in pixels
        ]
        self._rows += rows
        return CapiState(rows[0].state)

    def requeue(self, event_id: int, store: Store, event: StoredEvent, enrichment: Enrichment, now: int) -> CapiState:
        """Bring what is not settled yet in line with the order's new state."""
        self.flush()
        delivery = outbox.delivery_of(self._db, event_id)
        if delivery is None:
            return self.queue(event_id, store, event, enrichment, now)
        pixels = [p for p in store.pixels if p.takes(event.event_type)]
        verdict = gate.decide(event, store.terms, len(pixels))
        if verdict.state is CapiState.SKIPPED:
            outbox.drop(self._db, event_id, now=now, reason=verdict.reason or "", state=CapiState.SKIPPED)
            return CapiState.SKIPPED
        built = self._build(store, event, enrichment)
        if built.refused is None:
            payloads = {p.number: built.payload for p in pixels}
            outbox.merge(self._db, event_id, payloads)
            outbox.revive(self._db, event_id, payloads, now=now, deadline=built.deadline)
        if verdict.state is CapiState.HELD:
            outbox.hold(self._db, event_id, reason=verdict.reason or "")
        else:
            outbox.release(self._db, event_id, now=now)
        after = outbox.delivery_of(self._db, event_id)
        return after.state if after else verdict.state

    def enrich(self, event_id: int, store: Store, event: StoredEvent, enrichment: Enrichment, now: int) -> None:
        """Give what is not settled yet what its click adds by now; what was sent is never sent again.

        What only a click made sendable is refused when it has lost the click.
        """
        self.flush()
        built = self._build(store, event, enrichment)
        state = gate.decide(event, store.terms, len(store.pixels)).state
        if built.refused is None:
            payloads = {pixel.number: built.payload for pixel in store.pixels}
            outbox.merge(self._db, event_id, payloads)
            if state is CapiState.QUEUED:
                outbox.revive(self._db, event_id, payloads, now=event.received, deadline=built.deadline)
        elif state in (CapiState.QUEUED, CapiState.HELD):
            outbox.drop(self._db, event_id, now=now, reason=built.refused, state=built.state)
