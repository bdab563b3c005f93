"""What each operation of a group does, over what the group knows: the verbs of both engines with PostgreSQL's ports."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import groupby
from typing import Any, Final

import msgspec
from msgspec import Struct

from collector import telemetry
from collector.core.events import StoredEvent
from collector.core.flags import BOT, DENIED, WITHDRAWN
from collector.core.ids import PublicIds
from collector.core.keyed import KeyedHash
from collector.core.matching import Model
from collector.core.matching.proofs import ENRICHING
from collector.core.matching.shapes import OPEN_MS
from collector.errors import ApiError
from collector.exchange.clicks import ClickResult, NewClick, read
from collector.exchange.naming import NewEvent, told_of
from collector.exchange.operations import (
    Again,
    Answered,
    Once,
    Operation,
    Remember,
    Reworded,
    ShopTold,
    Submission,
    Withdraw,
)
from collector.exchange.rows import ClickRow, ConversionRow
from collector.exchange.states import EventResult
from collector.exchange.stores import Store
from collector.storage.postgres.clicks import Clicks
from collector.storage.postgres.deliveries import Deliveries, Refunds
from collector.storage.postgres.finding import ConversionRows, Lookup
from collector.storage.postgres.identities import EventNames, Identities, OrderNames, SharedIds, Tellings
from collector.storage.postgres.memory import Memory, Missing
from collector.storage.postgres.shops import Shops
from collector.storage.rules.answers import IDEMPOTENCY_MS, rendered
from collector.storage.rules.erased import admit, admit_event, or_raise
from collector.storage.rules.tables import CONVERSIONS
from collector.storage.verbs.conversions import Conversions
from collector.storage.verbs.ports import Parts
from collector.storage.verbs.queueing import Figures
from collector.storage.verbs.relations import Relations
from collector.storage.verbs.remembered import recall
from collector.storage.verbs.withdrawals import Withdrawals

log = telemetry.logger("storage")
_decode_event = msgspec.msgpack.Decoder(StoredEvent).decode

MOST_ROWS: Final = 500
MOST_ORDERS: Final = 64  # of one transaction: it holds locks while it matches
NOT_MATCHED: Final = BOT | DENIED | WITHDRAWN
_MOST_AT_ONCE: Final = 2_000  # matches that follow from one answer


class Known(Struct):
    """What a keeper knows of all its groups, and learns anew now and then."""

    names: KeyedHash
    public: PublicIds
    stores: Mapping[int, Store]
    click_ms: int
    erased: dict[int, int]
    models: Mapping[int, Model]
    event_names: dict[tuple[int, str], bool]
    clocks: dict[int, int]  # of each store: the latest event time (ms) of anything in it
    shared_told: dict[int, int]
    renamed: bool = False  # orders carry names that release 0.2 gave to people's values


class Group:
    """The verbs over a memory; made anew for each run."""

    def __init__(self, known: Known, memory: Memory, figures: Figures) -> None:
        self._known, self.memory = known, memory
        lookup, deliveries = Lookup(memory), Deliveries(memory)
        self.lookup = lookup
        self._erased = {**known.erased} if known.erased else {}  # with those of this group
        named = {store.config.id: store for store in known.stores.values()}
        self.shops = Shops(memory, named, self._erased)
        self.clicks = Clicks(memory, known.click_ms)
        self.identities = Identities(memory, renamed=known.renamed)
        parts = Parts(
            lookup=lookup,
            clicks=self.clicks,
            rows=ConversionRows(memory, deliveries),
            outbox=deliveries,
            identities=self.identities,
            refunds=Refunds(memory, deliveries),
            order_names=OrderNames(memory, lookup, figures),
            tellings=Tellings(memory),
            shared=SharedIds(memory, known.names, known.shared_told),
            event_names=EventNames(memory, known.event_names),
            models=known.models,
        )
        self.conversions = Conversions(known.names, parts, figures)
        self.relations = Relations(parts, self.conversions)
        self.withdrawals = Withdrawals(parts, self.conversions, self._rematch, known.stores)

    # -- operations

    def apply(self, operations: Sequence[Operation]) -> list[Any]:
        """A result of each; an ApiError is one. What is Missing is asked for, and the results count for nothing."""
        results: list[Any] = []
        for kind, run in groupby(operations, type):
            if kind is NewClick:
                results += self._clicks(list(run))  # type: ignore[arg-type]  # by their kind
            else:
                results += [self._outcome(operation) for operation in run]
        return results

    def _clicks(self, clicks: list[NewClick]) -> list[ClickResult | ApiError]:
        if not self._erased:
            return list(self.clicks.append(clicks))
        admitted = [admit(self._erased, click) for click in clicks]
        return [one if isinstance(one, ApiError) else self.clicks.append([one])[0] for one in admitted]

    def _outcome(self, operation: Operation) -> Any:
        asked = len(self.memory.asked)
        try:
            return self._one(operation)
        except ApiError as error:
            return error
        except Missing:
            return None
        except Exception:
            if len(self.memory.asked) > asked:  # it rested on what is not known yet
                return None
            raise

    def _one(self, operation: Operation) -> Any:
        match operation:
            case NewEvent():
                return self._event(operation)
            case Once():
                return self._once(operation)
            case Reworded():
                self.memory.changes.reworded.append((operation.key_k, operation.body_hash, operation.answer))
                return None
            case Again():
                return self._again(operation.conversion)
            case Remember():
                return recall(self.lookup, operation)
            case ShopTold():
                return self.shops.take(operation, self._admitted, self._told)
            case Withdraw():
                return self.withdrawals.take(operation, self.memory.now)
        raise TypeError(f"not an operation: {type(operation).__name__}")

    def _admitted(self, new: NewEvent) -> NewEvent:
        return or_raise(admit_event(self._erased, new)) if self._erased else new

    def _told(self, told: ShopTold, new: NewEvent) -> EventResult | None:
        taken = self.conversions.take_shop(told, new, self.memory.now)
        if taken is not None:
            self.after(new.event.ts, taken)
        return taken

    def _event(self, new: NewEvent) -> EventResult:
        new = self._admitted(new)
        taken = self.conversions.take(new, self.memory.now)
        self.after(new.event.ts, taken)
        return taken

    def after(self, ts: int, taken: EventResult) -> None:
        """What waits for its last match, and what is to be looked at after the commit. `ts`: as told."""
        row = taken.state.row
        if not taken.duplicate or (taken.before is not None and taken.before.ts != row.ts):
            self.keep(row)
        if not taken.duplicate or taken.before is not None:
            self.memory.changed_orders.append((taken.before, row))
        if taken.before is not None:
            self.memory.changes.reopened[row.id] = (row.store, False)
            if row.id not in self.memory.changes.new[CONVERSIONS]:
                self.memory.note(taken.before)

    def weigh_again(self, row: ConversionRow, store: Store) -> None:
        """Have what pages told of an order weighed against it, as far as its own name leads to them."""
        event = _decode_event(row.body)
        told = told_of(self._known.names, store.number, event, None, ())
        if told is not None:
            self.conversions.weighing.tellings.weigh_again(told, store=store.number)

    def keep(self, row: ConversionRow) -> None:
        """Remember to match an open conversion a last time, if no proof names it."""
        if row.method not in ENRICHING and not row.flags & NOT_MATCHED and not self.is_past(row):
            self.memory.changes.unproven[row.id] = (row.store, row.ts)

    def is_past(self, row: ConversionRow) -> bool:
        return self._known.clocks.get(row.store, 0) - row.ts > OPEN_MS

    def is_open(self, row: ConversionRow) -> bool:
        """A proved one by the clock, any other until its last match."""
        if row.method in ENRICHING:
            return not self.is_past(row)
        if row.id in self.memory.changes.unproven:
            return True
        return bool(self.memory.ask(("waits", row.store, row.ts, row.id), 0))

    def _once(self, once: Once) -> Answered:
        memory = self.memory
        known = memory.changes.answers.get(once.key_k) or memory.must(("answer", once.key_k))
        if known is not None and known[1] > memory.now:
            body_hash, _, status, answer = known
            if body_hash != once.body_hash:
                raise ApiError("idempotency_conflict", "this Idempotency-Key was used with another body")
            return Answered(status, answer, True)
        asked = len(memory.asked)
        results = self.apply([item.operation for item in once.items if not isinstance(item, bytes)])
        if len(memory.asked) > asked:
            raise Missing
        answer = rendered(once, results, self._known.public)
        memory.changes.answers[once.key_k] = (once.body_hash, memory.now + IDEMPOTENCY_MS, 200, answer)
        return Answered(200, answer, False, results)

    def _again(self, conversion: int) -> None:
        for row in self.lookup.conversion_rows({conversion}):
            if row.store in self._known.stores and row.method not in ENRICHING and self.is_open(row):
                self.match([row])

    # -- matching anew

    def match(self, rows: Sequence[ConversionRow], *, most: int = _MOST_AT_ONCE) -> None:
        """Match these anew, the earliest first; what rests on a changed answer is re-opened."""
        for row in sorted(rows, key=lambda row: (row.place, row.id))[:most]:
            if (store := self._known.stores.get(row.store)) is not None:
                with suppress(Missing):  # the others' questions are asked with its own
                    self._match(row, store)

    def _match(self, row: ConversionRow, store: Store) -> None:
        asked = len(self.memory.asked)
        try:
            changed = self.conversions.reconsider(row, store, self.memory.now)
        except Missing:
            raise
        except Exception as error:
            if len(self.memory.asked) == asked:  # a defect of ours must not hold up all others
                log.failed("an order could not be matched anew", error)
            return
        if changed is not None:
            self.keep(changed)
            self.reopen(self.relations.resting_on(row, changed, store), row.store)

    def reopen(self, ids: set[int], store: int, since: int = 0) -> None:
        """Have those matched anew that are of `since` (ms, event time) or later, and still open."""
        for row in self.lookup.conversion_rows(ids):
            if row.store == store and row.ts >= since and self.is_open(row):
                self.memory.changes.reopened.setdefault(row.id, (store, False))

    def _rematch(self, rows: dict[int, ConversionRow], left: list[ConversionRow], store: int, now: int) -> None:
        """Have these matched anew though their time may be over: what they were given was taken back."""
        known = self._known.stores.get(store)
        if known is None:
            return
        for row in rows.values():
            self.memory.changes.reopened[row.id] = (store, True)
        if known.config.count == "one":
            heirs = {i for row in left for i in self.relations.heirs(row)} - rows.keys()
            self.reopen(heirs, store)

    def fbclid_in(self, store: int, row: ClickRow) -> int:
        """The name of a click's id in another store."""
        return self._known.names.name(store, "fbclid", read(row).fbclid)


def gather(waiting: deque[Submission]) -> list[Submission]:
    """Take the next group off `waiting`."""
    group: list[Submission] = []
    rows = orders = 0
    while waiting and rows < MOST_ROWS and orders < MOST_ORDERS:
        group.append(waiting.popleft())
        rows += len(group[-1].operations)
        orders += sum(not isinstance(one, NewClick) for one in group[-1].operations)
    return group
