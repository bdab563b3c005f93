"""What the verbs ask of an engine. Each method works inside the transaction of a group, and sees what it did so far.

An engine has its own SQL for them; `tests/contract` asks both the same.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import NamedTuple, Protocol

from msgspec import Struct

from collector.core.capi.states import CapiState
from collector.core.events import GivenBack, StoredEvent
from collector.core.matching import Model, Query, Statistics
from collector.core.matching.shapes import Identity
from collector.exchange.clicks import ClickResult, NewClick
from collector.exchange.naming import Keys, NewEvent, Told, Witness
from collector.exchange.rows import ClickRow, ConversionRow
from collector.exchange.states import EventState
from collector.exchange.stores import Store
from collector.storage.rules.deliveries import Delivery, OutboxRow
from collector.storage.rules.linking import Known
from collector.storage.rules.matched import PER_KEY
from collector.storage.rules.tables import Table


class Named(NamedTuple):
    """Ids of clicks; whether the conversion's own identifiers name one of them; whether these are all there are."""

    ids: set[int]
    own: bool
    whole: bool


class Finding(Protocol):
    """How rows are found by a key, and how common a value is."""

    def find(self, table: Table, key: str, name: int, since: int, limit: int = PER_KEY, *, store: int = 0) -> list[int]:
        """At most `limit` ids under the store's `name` received at `since` (ms) or later, newest arrivals first."""
        ...

    def click_rows(self, ids: set[int]) -> list[ClickRow]: ...
    def conversion_rows(self, ids: set[int]) -> list[ConversionRow]: ...
    def rows_of(self, store: int, ids: set[int]) -> list[ClickRow]:
        """Those of the clicks that are the store's, the newest if they are too many."""
        ...

    def named(self, query: Query, click_ms: int, *, store: int = 0) -> Named:
        """The clicks that the conversion's identifiers name."""
        ...

    def alike(self, query: Query, window_ms: int, *, store: int = 0) -> set[int]:
        """Clicks from the conversion's address or device."""
        ...

    def statistics(self, store: int, query: Query, window_ms: int) -> Statistics:
        """How common the conversion's values are in its store."""
        ...

    def taken(self, ids: set[int], query: Query, kind: str, *, store: int = 0) -> frozenset[int]:
        """Those of the clicks that an earlier conversion of the kind has: earlier in event time, whatever came first.

        What only a page says holds no click (T6).
        """
        ...

    def network(self, click: int) -> tuple[str | None, str | None]:
        """Raw address and user agent of a click, while they are kept."""
        ...

    def is_new(self, click: int) -> bool:
        """Whether the click was appended in the open transaction."""
        ...

    def confirm(self, click: int) -> bool:
        """Whether the click is stored as it was found; if not, the caller asks again."""
        ...


class Appending(Protocol):
    """The verb for clicks, as far as orders need it."""

    def append(self, clicks: Sequence[NewClick]) -> list[ClickResult]: ...
    def withdraw(self, row: ClickRow, changed: ClickRow) -> None:
        """Keep a stored click without its visitor, and nothing of his network."""
        ...

    def flush(self) -> None: ...


class Rows(Protocol):
    """How conversions are written. What is appended can be found at once."""

    def next_id(self) -> int: ...
    def append(self, row: ConversionRow) -> None: ...
    def update(self, row: ConversionRow) -> None: ...
    def lost(self, row: ConversionRow, kept: Iterable[str]) -> None:
        """The row, as it was until now, is found no more by its keys, but for those that are `kept`."""
        ...

    def counted(self, before: tuple[ConversionRow, StoredEvent] | None, row: ConversionRow, event: StoredEvent) -> None:
        """Have it count among the store's orders by the hour as it is now (storage/rules/origins.py)."""
        ...

    def revised(self, conversion: int, revision: int, now: int) -> None:
        """Have the shop told of a new revision."""
        ...

    def state_of(self, row: ConversionRow) -> EventState:
        """What is known of a stored event at this moment."""
        ...

    def given(self, click: int, *, store: int = 0) -> list[int]:
        """The newest conversions that have the click."""
        ...

    def credited(self, clicks: list[int], most: int, *, store: int = 0) -> set[int]:
        """At most `most` conversions that have one of the clicks, the newest."""
        ...

    def later(self, row: ConversionRow) -> list[int]:
        """Those of its kind that have its click and come after it; what only a page says holds no click (T6)."""
        ...

    def earlier(self, row: ConversionRow) -> bool:
        """Whether one of its kind has its click and comes before it."""
        ...

    def inferable(self, conversions: list[int], ts: int) -> set[int]:
        """Those of which a click of `ts` on the same address or device may be the cause: neither proved nor earlier.

        One click at a hot address would match 32 conversions anew for nothing.
        """
        ...

    def flush(self) -> None: ...
    def forget(self) -> None: ...


class Outbox(Protocol):
    """An event's rows for Meta. Each changes what is not settled; the numbers are of rows that changed."""

    def insert(self, rows: Sequence[OutboxRow]) -> None: ...
    def delivery_of(self, conversion: int) -> Delivery | None: ...
    def merge(self, conversion: int, payloads: Mapping[int, bytes], deadline: int) -> object: ...
    def revive(
        self, conversion: int, payloads: Mapping[int, bytes], *, now: int, due: int, deadline: int
    ) -> object: ...
    def release(self, conversion: int, *, now: int) -> object: ...
    def hold(self, conversion: int, *, reason: str) -> object: ...
    def hand_over(self, conversion: int, heir: int) -> None: ...
    def drop(
        self,
        conversion: int,
        *,
        now: int,
        reason: str,
        state: CapiState = CapiState.SKIPPED,
        but_at_meta: bool = False,
    ) -> object: ...


class Identities(Protocol):
    """Who is who, one hop: values that were seen with visitors, and which conversions carry them."""

    def known(self, store: int, keys: Keys, visitor: int | None, former: dict[int, int] | None = None) -> Known: ...
    def link(self, known: Known, ts: int, witness: Witness) -> set[int]:
        """Remember that the values were seen with the visitor; earlier conversions for which that may be news."""
        ...

    def carry(self, conversion: int, keys: Iterable[tuple[Identity, int]], *, store: int = 0) -> None: ...
    def gain(self, conversion: int, names: Collection[int], *, store: int = 0) -> None:
        """Remember further keys by which a conversion is found."""
        ...

    def renew(self, conversion: int, first: int, *, store: int = 0) -> None:
        """Remember that a conversion inherits the answer of the order of this name."""
        ...

    def drop(self, conversion: int, store: int, visitor: int | None) -> None:
        """Forget what a conversion carries, and that its visitor was seen with it."""
        ...

    def keys_in(self, conversion: int) -> Keys: ...
    def gained_by(self, name: int, most: int, *, store: int = 0) -> set[int]:
        """At most `most` conversions to which a merge gave this key, the newest."""
        ...

    def renewals_of(self, first: int, most: int, *, store: int = 0) -> set[int]:
        """At most `most` conversions that inherit the answer of the order of this name, the newest."""
        ...

    def conversions_with(self, keys: Collection[int], *, store: int = 0) -> set[int]:
        """The newest conversions that carry one of the values, some of each."""
        ...

    def values_of(self, store: int, visitor: int) -> list[int]:
        """The identity values that were seen with a visitor."""
        ...

    def forget_visitor(self, store: int, visitor: int) -> None:
        """Forget with which values a visitor was seen."""
        ...

    def forget_gained(self, conversion: int) -> None:
        """Forget the keys that a merge gave to a conversion."""
        ...

    def beyond_values(self) -> tuple[bool, bool]:
        """Whether any conversion may have gained a key, and whether any renews another."""
        ...

    def flush(self) -> None: ...
    def forget(self) -> None: ...


class Landed(Struct, frozen=True):
    """It is known by now what Meta has of an order whose state has changed. `value`: of it; None: nothing."""

    conversion: int
    value: Decimal | None


class Refunds(Protocol):
    """What Meta has of an order, and which of its refunds it is to be told."""

    def pixels(self, order: int) -> frozenset[int]: ...
    def note_sent(self, order: int, before: StoredEvent, after: StoredEvent) -> None: ...
    def landed(self, now: int, order: int | None = None) -> list[Landed]: ...
    def due(self, order: int, store: Store, event: StoredEvent, now: int) -> tuple[StoredEvent, list[GivenBack]]: ...


class OrderNames(Protocol):
    """Which order is meant by a name that is not its own (O8)."""

    any: bool

    def order(
        self,
        store: int,
        event: StoredEvent,
        own: int | None,
        names: Sequence[int] = (),
        numbers: Sequence[int] = (),
        webhook: str | None = None,
    ) -> ConversionRow | None: ...
    def note(self, store: int, kind: str, event: StoredEvent, held_against: ConversionRow) -> None: ...
    def keep(self, conversion: int, names: Collection[int], numbers: Collection[int], *, store: int = 0) -> None: ...
    def forget(self) -> None: ...


class Tellings(Protocol):
    """Under which names pages told of orders."""

    any: bool

    def keep(self, conversion: int, told: Told, *, store: int = 0) -> None: ...
    def of(self, names: Collection[int], *, store: int = 0) -> set[int]: ...
    def names_of(self, conversion: int) -> set[int]: ...
    def weigh_again(self, told: Told, *, store: int = 0) -> bool: ...
    def flush(self) -> None: ...
    def forget(self) -> None: ...


class SharedIds(Protocol):
    """Two orders under one event id."""

    def other(self, conversion: int, new: NewEvent, now: int) -> int | None: ...


class EventNames(Protocol):
    """A store's custom event names."""

    def tell(self, store: int, name: str, *, by_page: bool) -> None: ...
    def forget(self) -> None: ...


class Parts(Struct, frozen=True):
    """What conversions are kept with, of one engine."""

    lookup: Finding
    clicks: Appending
    rows: Rows
    outbox: Outbox
    identities: Identities
    refunds: Refunds
    order_names: OrderNames
    tellings: Tellings
    shared: SharedIds
    event_names: EventNames
    models: Mapping[int, Model]
