"""An event's rows for Meta, and what Meta has of an order: over what a group knows (storage/verbs/ports.py).

The rows are locked before they are read, and what is in flight is read after that: a courier that claims locks them
first too, so nothing changes between its look and its request.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from msgspec import structs

from collector.core import refunds, statuses
from collector.core.capi import payload
from collector.core.capi.states import CapiState
from collector.core.events import GivenBack, StoredEvent
from collector.exchange.stores import Store
from collector.storage.postgres.memory import Item, Memory
from collector.storage.rules.deliveries import Delivery, OutboxRow, standing_of
from collector.storage.rules.tables import CONVERSIONS
from collector.storage.verbs.ports import Landed

LONG_MS: Final = 86_400_000  # so long a pixel in doubt holds up what another is to be told
_GIVEN_UP: Final = (CapiState.REJECTED, CapiState.EXPIRED, CapiState.DRY_RUN)


class Deliveries:
    """The outbox."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    def of(self, conversion: int) -> list[Item]:
        """Its rows as they are now, in order."""
        changes = self._memory.changes
        items: dict[int, Item] = {}
        if conversion not in changes.new[CONVERSIONS]:
            store = self._memory.store_of(conversion)
            items = {item.id: item for item in self._memory.ask(("outbox", store, conversion), ())}
        items |= {number: changes.items[number] for number in items if number in changes.items}
        items |= {number: changes.items[number] for number in changes.added.get(conversion, ())}
        return [item for _, item in sorted(items.items()) if item.conversion == conversion]

    def _keep(self, item: Item, **changed: object) -> None:
        self._memory.changes.items[item.id] = structs.replace(item, **changed)

    def _each(self, conversion: int, wanted: Callable[[Item], object]) -> list[Item]:
        return [item for item in self.of(conversion) if wanted(item)]

    def insert(self, rows: Sequence[OutboxRow]) -> None:
        """Queue the rows in order."""
        memory = self._memory
        for row in rows:
            number, store = memory.next_id(), memory.store_of(row.conversion)
            settled = None if row.state <= CapiState.HELD else row.created
            place = (row.conversion, row.pixel, row.state, row.lane, row.created, row.due, row.deadline)
            item = Item(
                number, store, *place, 0, 0, None, settled, None, row.test_code, row.reason, row.payload or None
            )
            memory.changes.items[number] = item
            memory.changes.added[row.conversion].append(number)

    def delivery_of(self, conversion: int) -> Delivery | None:
        """How the event stands at this moment; None when it has no row."""
        return standing_of([(item.state, item.reason) for item in self.of(conversion)])

    def merge(self, conversion: int, payloads: Mapping[int, bytes], deadline: int) -> None:
        """Give what is not settled its richer payload, by pixel number, and its time."""
        for item in self._each(conversion, lambda i: i.settled is None and (i.doubt_at is None or i.never_left)):
            self._keep(item, deadline=deadline)
        for pixel, body in payloads.items():
            for item in self._each(conversion, lambda i, pixel=pixel: i.pixel == pixel):  # type: ignore[misc]
                if item.settled is None or (item.state in _GIVEN_UP and item.body is not None):
                    self._write(item, body)

    def _write(self, item: Item, body: bytes, **changed: object) -> None:
        """Give a row its payload. What Meta may have stays as it went out: of two with one id it keeps the first."""
        if not item.never_left and (item.doubt_at is not None or item.before is not None):
            before = None if item.before is None else str(item.before)
            body = payload.as_sent(body, item.body, before)
        self._keep(item, body=body, **changed)

    def revive(self, conversion: int, payloads: Mapping[int, bytes], *, now: int, due: int, deadline: int) -> None:
        """Queue what was given up before Meta took it and may go out now (O3)."""

        def given_up(item: Item) -> bool:
            expired = item.state == CapiState.EXPIRED and item.doubts == 0 and deadline > now
            refused = item.state == CapiState.REJECTED and item.attempts == 0
            return refused or item.state == CapiState.SKIPPED or expired

        for item in self._each(conversion, given_up):
            if item.pixel in payloads:
                queued = {"state": 0, "settled": None, "reason": None, "due": due, "deadline": deadline}
                self._write(structs.replace(item, **queued), payloads[item.pixel])

    def release(self, conversion: int, *, now: int) -> None:
        """Let held events go out at the next batch."""
        for item in self._each(conversion, lambda i: i.state == CapiState.HELD and i.settled is None):
            self._keep(item, state=0, reason=None, due=now)

    def hold(self, conversion: int, *, reason: str) -> None:
        """Keep queued events back; what is held in doubt keeps its body."""
        for item in self._each(conversion, lambda i: i.state < CapiState.HELD and i.settled is None):
            attempts = max(item.attempts, int(item.doubt_at is not None))
            self._keep(item, state=int(CapiState.HELD), reason=reason, attempts=attempts)

    def hand_over(self, conversion: int, heir: int) -> None:
        """Make one conversion's deliveries another's, whatever has become of them: both are one event to Meta."""
        for item in self.of(conversion):
            self._keep(item, conversion=heir)
            self._memory.changes.added[heir].append(item.id)

    def drop(
        self,
        conversion: int,
        *,
        now: int,
        reason: str,
        state: CapiState = CapiState.SKIPPED,
        but_at_meta: bool = False,
    ) -> None:
        """Never send what is not settled yet, and forget its payload.

        `but_at_meta`: what Meta may have goes on, so that it is known whether it has.
        """
        for item in self.of(conversion):
            if but_at_meta and (item.doubt_at is not None or item.before is not None):
                continue
            if item.settled is None:
                self._keep(item, state=int(state), settled=now, reason=reason, body=None)
            elif item.state in _GIVEN_UP and item.body is not None:
                self._keep(item, body=None)


class Refunds:
    """What Meta has of an order, and which of its refunds it is to be told."""

    def __init__(self, memory: Memory, deliveries: Deliveries) -> None:
        self._memory, self._deliveries = memory, deliveries

    def pixels(self, order: int) -> frozenset[int]:
        """Those that have the order's Purchase."""
        return frozenset(item.pixel for item in self._deliveries.of(order) if item.state == CapiState.SENT)

    def _open(self, order: int) -> list[Item]:
        return [item for item in self._deliveries.of(order) if item.state != CapiState.SENT]

    def _flying(self, items: Iterable[Item]) -> set[int]:
        """Those that are in a request at this moment."""
        return {item.id for item in items if self._memory.ask(("flying", item.pixel, item.id), False)}

    def note_sent(self, order: int, before: StoredEvent, after: StoredEvent) -> None:
        """Remember what Meta may have of an order whose state changes: what is under way, or went out in doubt."""
        if _state(before) == _state(after) or before.value is None:
            return
        waiting = self._open(order)
        doubted = {item.id for item in waiting if item.doubt_at is not None and not item.never_left}
        flying = self._flying(item for item in waiting if self._is_stored(item))
        for item in waiting:
            if item.id in doubted | flying and item.before is None:
                self._deliveries._keep(item, before=before.value, looked=False)

    def _is_stored(self, item: Item) -> bool:
        """Whether a courier can have seen it."""
        return ("outbox", item.store, item.conversion) in self._memory.answers

    def landed(self, now: int, order: int | None = None) -> list[Landed]:
        """What was noted of an order and is known by now, forgotten with that."""
        assert order is not None
        noted = [item for item in self._deliveries.of(order) if item.before is not None]
        found = [item for item in noted if self._is_over(item, now)]
        flying = self._flying(found) if found else set()
        over = [item for item in found if item.id not in flying]
        for item in over:
            if item.state != CapiState.SENT and item.doubt_at is not None:
                self._deliveries._keep(item, looked=True)
            else:
                self._deliveries._keep(item, before=None)
                self._memory.changes.unsent.add(item.id)
        return [Landed(order, item.before if item.state == CapiState.SENT else None) for item in over]

    @staticmethod
    def _is_over(item: Item, now: int) -> bool:
        if item.state == CapiState.SENT or item.doubt_at is None:
            return True
        return not item.looked and (
            item.state in (CapiState.REJECTED, CapiState.EXPIRED) or item.doubt_at <= now - LONG_MS
        )

    def due(self, order: int, store: Store, event: StoredEvent, now: int) -> tuple[StoredEvent, list[GivenBack]]:
        """The order, and those of its refunds that Meta is to be told of; nothing while Meta may have it or not."""
        wanted = store.config.shop.refund_event and event.event_type == "Purchase" and event.refund_of is None
        if not wanted or not event.rank or self._is_open(order, now):
            return event, []
        has = event.value if event.sent_value is None else event.sent_value
        known, due = refunds.told(event, has if self.pixels(order) else None, now)
        return (structs.replace(event, refunds=known) if known != event.refunds else event), due

    def _is_open(self, order: int, now: int) -> bool:
        """Whether the order is under way, or waits for its repeat in doubt."""
        waiting, sent = self._open(order), self.pixels(order)
        in_doubt = [item for item in waiting if item.settled is None and item.doubt_at is not None]
        if any(not sent or (item.doubt_at or 0) > now - LONG_MS for item in in_doubt):
            return True
        return bool(self._flying(item for item in waiting if self._is_stored(item)))


def _state(event: StoredEvent) -> tuple[object, ...]:
    """What counts of it: a payment changes nothing of what Meta is told."""
    ended = statuses.has_ended(event.order_status)
    return event.value, event.currency, ended, event.refunds, event.products, event.custom_data
