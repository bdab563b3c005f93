"""How a stored event's rows in the outbox follow its state: queued, held, released, enriched, dropped."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection

from collector.core import refunds
from collector.core.capi import payload
from collector.core.capi.gate import Gate
from collector.core.capi.payload import BuiltEvent
from collector.core.capi.states import CapiState
from collector.core.events import Enrichment, StoredEvent
from collector.exchange.stores import Store, decide
from collector.storage.rules.deliveries import OutboxRow, as_of_payment, row_of
from collector.storage.verbs.ports import Outbox

Figures = deque[tuple[int, str]]  # daily figures of a store to add one to


class Queueing:
    """Owned by the writer thread; works inside its transaction. New rows are written by `flush`."""

    def __init__(self, outbox: Outbox, figures: Figures) -> None:
        self._outbox = outbox
        self._figures = figures
        self._rows: list[OutboxRow] = []

    def flush(self) -> None:
        """Write the new rows into the open transaction."""
        if self._rows:
            self._outbox.insert(self._rows)
            self._rows = []

    def forget(self) -> None:
        """Drop what is not written: the transaction is rolled back."""
        self._rows = []

    def _build(self, store: Store, event: StoredEvent, enrichment: Enrichment, now: int) -> BuiltEvent:
        """The event as Meta takes it; what had to be left out is counted by name."""
        built = payload.build_event(as_of_payment(event, store, now), enrichment, store.profile)
        self._figures.extend((store.number, f"left_out.{name}") for name in built.dropped)
        return built

    def queue(
        self,
        event_id: int,
        store: Store,
        event: StoredEvent,
        enrichment: Enrichment,
        now: int,
        *,
        note: bool = False,
        only: Collection[int] | None = None,
    ) -> Gate:
        """One outbox row per pixel that takes the event; the state that the event has by it, and why.

        `note`: none, and the state that it would have had. `only`: for these pixels, by their numbers.
        """
        pixels = [p for p in store.pixels if p.takes(event.event_type) and (only is None or p.number in only)]
        verdict = decide(event, store)
        if verdict.state not in (CapiState.QUEUED, CapiState.HELD) or not pixels:
            return verdict
        built = self._build(store, event, enrichment, now)
        self._figures.extend((store.number, f"missing.{name}") for name in built.missing)
        wait = store.purchase_wait if event.event_type == "Purchase" else store.other_wait
        rows = [
            row_of(
                event_id,
                pixel.number,
                event.event_type,
                built,
                now=now,
                wait_seconds=wait,
                held=(verdict.state, verdict.reason) if verdict.state is not CapiState.QUEUED else None,
                unconfirmed=event.unconfirmed,
                test_code=event.test_event_code,
            )
            for pixel in pixels
        ]
        self._rows += [] if note else rows
        return Gate(CapiState(rows[0].state), rows[0].reason)

    def requeue(self, event_id: int, store: Store, event: StoredEvent, enrichment: Enrichment, now: int) -> Gate:
        """Bring what Meta has not taken yet in line with the order's new state; what was given up goes out again."""
        self.flush()
        delivery = self._outbox.delivery_of(event_id)
        if delivery is None:
            return self.queue(event_id, store, event, enrichment, now)
        pixels = [p for p in store.pixels if p.takes(event.event_type)]
        verdict = decide(event, store)
        if verdict.state is CapiState.SKIPPED:
            reason, goes_on = verdict.reason or "", refunds.is_told(event, store.config.shop.refund_event)
            self._outbox.drop(event_id, now=now, reason=reason, but_at_meta=goes_on)
            return self._standing(event_id, verdict)
        built = self._build(store, event, enrichment, now)
        if built.refused is None:
            payloads = {p.number: built.payload for p in pixels}
            self._outbox.merge(event_id, payloads, built.deadline)
            self._outbox.revive(event_id, payloads, now=now, due=now, deadline=built.deadline)
        if verdict.state is CapiState.HELD:
            self._outbox.hold(event_id, reason=verdict.reason or "")
        elif built.refused is None:
            self._outbox.release(event_id, now=now)
        else:
            self._outbox.drop(event_id, now=now, reason=built.refused, state=built.state)
        return self._standing(event_id, verdict)

    def _standing(self, event_id: int, verdict: Gate) -> Gate:
        after = self._outbox.delivery_of(event_id)
        return Gate(after.state, after.reason) if after else verdict

    def enrich(self, event_id: int, store: Store, event: StoredEvent, enrichment: Enrichment, now: int) -> None:
        """Give what is not settled yet what its click adds by now; what was sent is never sent again.

        What only a click made sendable is refused when it has lost the click.
        """
        self.flush()
        built = self._build(store, event, enrichment, now)
        state = decide(event, store).state
        if built.refused is None:
            payloads = {pixel.number: built.payload for pixel in store.pixels}
            self._outbox.merge(event_id, payloads, built.deadline)
            if state is CapiState.QUEUED:
                self._outbox.revive(event_id, payloads, now=now, due=event.received, deadline=built.deadline)
        elif state is CapiState.QUEUED or (state is CapiState.HELD and not event.unconfirmed):
            self._outbox.drop(event_id, now=now, reason=built.refused, state=built.state)
