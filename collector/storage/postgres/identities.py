"""Who is who, one hop, and under which names events are found: over what a group knows (storage/verbs/ports.py)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any, Final

from collector import telemetry
from collector.core.event_names import STANDARD
from collector.core.events import StoredEvent
from collector.core.keyed import KeyedHash
from collector.core.matching.links import Link, kept
from collector.core.matching.shapes import Identity
from collector.exchange.naming import KINDS, Keys, NewEvent, Told, Witness
from collector.exchange.rows import ConversionRow
from collector.storage.postgres.memory import Memory
from collector.storage.rules.linking import Known, linked_by
from collector.storage.rules.tables import CONVERSIONS
from collector.storage.rules.weighed import MOST_LOOKED_AT
from collector.storage.verbs import order_names
from collector.storage.verbs.ports import Finding
from collector.storage.verbs.queueing import Figures

log = telemetry.logger("storage")

GAINED: Final = 0  # in the place of a kind: a further key by which a conversion is found
RENEWS: Final = -1  # the name of the order whose answer a renewal inherits
TOLD: Final = -2  # under which name a page told of an order
CALLED: Final = -3  # the event id that its teller gave an order
MOST_CONVERSIONS: Final = 32  # of a value
MOST_BY_PAGES: Final = 64  # custom event names of a store
_DAY_MS: Final = 86_400_000
_NAMES: Final = {number: kind for kind, number in KINDS.items()}


def carrying(memory: Memory, store: int, key: int, most: int = MOST_CONVERSIONS) -> list[tuple[int, int]]:
    """Conversions that carry a value, and as what; the newest first."""
    changes = memory.changes
    stored = memory.ask(("carrying", store, key, most), ())
    found = [(c, k) for c, k in stored if _is_carried(memory, store, c, k, key)]
    own = {(c, k) for (s, c, k, v), there in changes.carried.items() if there and (s, v) == (store, key)}
    return sorted({*found, *own}, reverse=True)[:most] if own else found


def _is_carried(memory: Memory, store: int, conversion: int, kind: int, key: int) -> bool:
    known = memory.changes.carried.get((store, conversion, kind, key))
    if known is not None:
        return known
    return not any(s == store and c == conversion and kind >= least for s, c, least in memory.changes.bare)


def carried_by(memory: Memory, conversion: int) -> list[tuple[int, int]]:
    """What a conversion carries, as (kind, value)."""
    store, changes = memory.store_of(conversion), memory.changes
    stored: Sequence[Any] = ()
    if conversion not in changes.new[CONVERSIONS]:
        stored = memory.ask(("carried", store, conversion), ())
    own = {(k, v) for (s, c, k, v), there in changes.carried.items() if there and c == conversion}
    return sorted({(k, v) for k, v in stored if _is_carried(memory, store, conversion, k, v)} | own)


class Identities:
    """Over what a group knows."""

    def __init__(self, memory: Memory, *, renamed: bool) -> None:
        """`renamed`: values are also known by former names."""
        self._memory, self._renamed = memory, renamed

    def known(self, store: int, keys: Keys, visitor: int | None, former: dict[int, int] | None = None) -> Known:
        """What is known so far; `visitor` None: of the values alone."""
        if not keys:
            return Known(store, keys, visitor, [], {}, False)
        old = former if former and self._renamed else {}
        seen = [
            [link for name in (key, old.get(key)) if name is not None for link in self._links(store, KINDS[kind], name)]
            for kind, key in keys
        ]
        held: dict[tuple[int, int], bool] = {}
        if visitor is not None:
            for kind, key, confirmed in self._held(store, visitor):
                held[kind, key] = confirmed
        known = Known(store, keys, visitor, seen, held, False, old)
        if old:
            known.take_over()
        return known

    def _links(self, store: int, kind: int, key: int) -> list[Link]:
        """The visitors that a value was seen with."""
        memory = self._memory
        links = {row[0]: Link(*row) for row in memory.ask(("links", store, kind, key), ())}
        for (s, k, v, visitor), link in memory.changes.links.items():
            if (s, k, v) == (store, kind, key):
                if link is None:
                    links.pop(visitor, None)
                else:
                    links[visitor] = _seen(visitor, links.get(visitor), link)
        gone = {visitor for s, visitor in memory.changes.unlinked if s == store}
        return [link for visitor, link in links.items() if visitor not in gone]

    def _held(self, store: int, visitor: int) -> list[tuple[int, int, bool]]:
        """The values that a visitor was seen with, and whether a server told of both."""
        memory = self._memory
        if (store, visitor) in memory.changes.unlinked:
            return []
        held = {(k, v): sure for k, v, sure in memory.ask(("held", store, visitor), ())}
        for (s, k, v, other), link in memory.changes.links.items():
            if (s, other) == (store, visitor):
                if link is None:
                    held.pop((k, v), None)
                else:
                    held[k, v] = held.get((k, v), False) or link[2] is not None
        return [(k, v, sure) for (k, v), sure in held.items()]

    def link(self, known: Known, ts: int, witness: Witness) -> set[int]:
        """Remember that the values were seen with the visitor; whose answers may change by it is asked later."""
        if known.visitor is None:
            return set()
        for (kind, key), links in zip(known.keys, known.seen, strict=True):
            linked = linked_by(known, kind, key, links, witness)
            if linked is None:
                continue
            number, confirmed = KINDS[kind], (kind, key) in witness.keys
            self._keep(known.store, number, key, known.visitor, ts, ts if confirmed else None, witness.source)
            known.held[number, key] = confirmed or known.held.get((number, key), False)
            if linked.crowded:
                self._trim(known.store, number, key)
            if linked.news:
                self._memory.news.append((known.store, key))
        return set()

    def _keep(self, store: int, kind: int, key: int, visitor: int, ts: int, confirmed: int | None, source: int) -> None:
        links, place = self._memory.changes.links, (store, kind, key, visitor)
        before = links.get(place)
        new = (ts, ts, confirmed, source)  # last, first, confirmed, source
        if before is not None:
            first = new if ts < before[1] else before
            sure = [at for at in (before[2], confirmed) if at is not None]
            new = (max(ts, before[0]), first[1], min(sure) if sure else None, first[3])
        links[place] = new

    def _trim(self, store: int, kind: int, key: int) -> None:
        """Keep only so many visitors of a value as show that it has too many."""
        links = self._links(store, kind, key)
        worth = {link.visitor for link in kept(links)}
        for link in links:
            if link.visitor not in worth:
                self._memory.changes.links[store, kind, key, link.visitor] = None

    def carry(self, conversion: int, keys: Iterable[tuple[Identity, int]], *, store: int = 0) -> None:
        """Remember which values a conversion carries."""
        for kind, key in keys:
            self._memory.changes.carried[store, conversion, KINDS[kind], key] = True

    def gain(self, conversion: int, names: Collection[int], *, store: int = 0) -> None:
        """Remember further keys by which a conversion is found."""
        for name in names:
            self._memory.changes.carried[store, conversion, GAINED, name] = True

    def renew(self, conversion: int, first: int, *, store: int = 0) -> None:
        """Remember that a conversion inherits the answer of the order of this name."""
        self._memory.changes.carried[store, conversion, RENEWS, first] = True

    def drop(self, conversion: int, store: int, visitor: int | None) -> None:
        """Forget what a conversion carries, and that its visitor was seen with it."""
        changes = self._memory.changes
        for kind, key in carried_by(self._memory, conversion):
            changes.carried.pop((store, conversion, kind, key), None)
            if visitor is not None and kind > 0:
                changes.links[store, kind, key, visitor] = None
        changes.bare.add((store, conversion, -9))

    def forget_visitor(self, store: int, visitor: int) -> None:
        """Forget with which values a visitor was seen."""
        changes = self._memory.changes
        changes.unlinked.append((store, visitor))
        for place in [place for place in changes.links if (place[0], place[3]) == (store, visitor)]:
            changes.links[place] = None

    def forget_gained(self, conversion: int) -> None:
        """Forget the keys that a merge gave to a conversion."""
        store = self._memory.store_of(conversion)
        for kind, key in carried_by(self._memory, conversion):
            if kind == GAINED:
                self._memory.changes.carried[store, conversion, kind, key] = False

    def keys_in(self, conversion: int) -> Keys:
        """The values that a conversion carries, the strongest kind first."""
        return [(_NAMES[kind], key) for kind, key in carried_by(self._memory, conversion) if kind > 0]

    def gained_by(self, name: int, most: int, *, store: int = 0) -> set[int]:
        """At most `most` conversions to which a merge gave this key, the newest."""
        return {c for c, kind in carrying(self._memory, store, name, most) if kind == GAINED}

    def renewals_of(self, first: int, most: int, *, store: int = 0) -> set[int]:
        """At most `most` conversions that inherit the answer of the order of this name, the newest."""
        return {c for c, kind in carrying(self._memory, store, first, most) if kind == RENEWS}

    def conversions_with(self, keys: Collection[int], *, store: int = 0) -> set[int]:
        """The newest conversions that carry one of the values, some of each."""
        return {c for key in keys for c, _ in carrying(self._memory, store, key)}

    def carrying_few(self, store: int, key: int) -> set[int]:
        """As `conversions_with`, of a value that few carry: a till's re-opens nothing (P4)."""
        found = {c for c, _ in carrying(self._memory, store, key)}
        return found if len(found) < MOST_CONVERSIONS else set()

    def values_of(self, store: int, visitor: int) -> list[int]:
        """The identity values that were seen with a visitor."""
        return [key for _, key, _ in self._held(store, visitor)][:20]

    def beyond_values(self) -> tuple[bool, bool]:
        """Another edge may have made some just now."""
        return True, True

    def flush(self) -> None:
        """All is written at the end."""

    def forget(self) -> None:
        """A run that is undone leaves nothing."""


def _seen(visitor: int, before: Link | None, link: tuple[Any, ...]) -> Link:
    """A link with what is new of it: last, first, confirmed, source."""
    _, first, confirmed, source = link
    if before is None:
        return Link(visitor, first, confirmed, source)
    sure = [at for at in (before.confirmed_ts, confirmed) if at is not None]
    earlier = first < before.first_ts
    return Link(
        visitor,
        first if earlier else before.first_ts,
        min(sure) if sure else None,
        source if earlier else before.source,
    )


class Tellings:
    """Under which names pages told of orders."""

    any = True  # another edge may have been told just now

    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    def keep(self, conversion: int, told: Told, *, store: int = 0) -> None:
        """Have a page's telling found from its order's side, and weighed against it soon."""
        for name in told.names:
            self._memory.changes.carried[store, conversion, TOLD, name] = True
        self._memory.changes.unweighed[conversion] = store

    def of(self, names: Collection[int], *, store: int = 0) -> set[int]:
        """Page tellings (conversions) under these names, the first ones."""
        return {i for name in names for i in self._under(store, name)}

    def _under(self, store: int, name: int) -> list[int]:
        changes = self._memory.changes
        stored = [
            c for c in self._memory.ask(("told", store, name), ()) if _is_carried(self._memory, store, c, TOLD, name)
        ]
        own = {c for (s, c, k, v), there in changes.carried.items() if there and (s, k, v) == (store, TOLD, name)}
        return sorted({*stored, *own})[:MOST_LOOKED_AT]

    def names_of(self, conversion: int) -> set[int]:
        """The names under which a page told."""
        return {key for kind, key in carried_by(self._memory, conversion) if kind == TOLD}

    def weigh_again(self, told: Told, *, store: int = 0) -> bool:
        """Have what pages told under these names weighed against its order, which is known by them now; any?"""
        found = self.of(told.names, store=store)
        self._memory.changes.unweighed.update(dict.fromkeys(found, store))
        return bool(found)

    def flush(self) -> None:
        """All is written at the end."""

    def forget(self) -> None:
        """A run that is undone leaves nothing."""


class SharedIds:
    """Two orders under one event id: both are sent, and Meta keeps one of the two. So the shop is told."""

    def __init__(self, memory: Memory, names: KeyedHash, told: dict[int, int]) -> None:
        """`told`: the day on which the log last named a store."""
        self._memory, self._names, self._told = memory, names, told

    def other(self, conversion: int, new: NewEvent, now: int) -> int | None:
        """Another order (a conversion) that was told with this one's event id, if there is one."""
        if new.own_event_id is None:
            return None
        store = new.store.number
        name = self._names.name(store, "event id", f"{new.event.event_type}\0{new.own_event_id}")
        found = [c for c, kind in carrying(self._memory, store, name, MOST_CONVERSIONS) if kind == CALLED]
        self._memory.changes.carried[store, conversion, CALLED, name] = True
        if not found:
            return None
        if self._told.get(store) != now // _DAY_MS:
            self._told[store] = now // _DAY_MS
            log.warning("two orders have one eventId: Meta counts one of them; `collector explain` names both")
        return min(found)


class EventNames:
    """A store's custom event names; `known`: those that are stored, by store, and whether pages alone told them."""

    def __init__(self, memory: Memory, known: dict[tuple[int, str], bool]) -> None:
        self._memory, self._known = memory, known

    def tell(self, store: int, name: str, *, by_page: bool) -> None:
        """Keep a name; of those that only pages tell, the first 64 of a store."""
        if name in STANDARD:
            return
        known = {**self._known, **self._memory.changes.event_names}
        by_pages_alone = known.get((store, name))
        if by_pages_alone is False or (by_pages_alone and by_page):
            return
        if by_page and sum(alone for (s, _), alone in known.items() if s == store) >= MOST_BY_PAGES:
            return
        self._memory.changes.event_names[store, name] = by_page

    def forget(self) -> None:
        """A run that is undone leaves nothing."""


class OrderNames(order_names.OrderNames):
    """Which order is meant by a name that is not its own (O8)."""

    any = True  # another edge may have been told just now

    def __init__(self, memory: Memory, lookup: Finding, figures: Figures) -> None:
        super().__init__(lookup, figures)
        self._memory = memory

    def keep(self, conversion: int, names: Collection[int], numbers: Collection[int], *, store: int = 0) -> None:
        called = self._memory.changes.called
        called.update({(store, name, conversion): 0 for name in names})
        called.update({(store, name, conversion): 1 for name in numbers if (store, name, conversion) not in called})

    def forget(self) -> None:
        """A run that is undone leaves nothing."""

    def _rows(self, store: int, names: Iterable[int], *, number: int) -> list[ConversionRow]:
        own = self._memory.changes.called
        found = {i for name in names for i, n in self._memory.ask(("called", store, name), ()) if n == number}
        wanted = set(names)
        found |= {i for (s, name, i), n in own.items() if s == store and name in wanted and n == number}
        return sorted(self._lookup.conversion_rows(found))

    def _has_told(self, webhook: str, conversion: int) -> bool:
        store = self._memory.store_of(conversion)
        return webhook in self._memory.ask(("webhooks", store, conversion), ())

    def _list(self, store: int, kind: str, event: StoredEvent, held_against: ConversionRow) -> None:
        row = (store, kind, event.order_id or "", held_against.id, event.received)
        self._memory.changes.listed.append(row)
