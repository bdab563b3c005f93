"""Who is meant by an e-mail address, a phone number, a customer id, a visitor or an order: all rows of one person.

One hop, as in matching (identities.py): the value that was given leads to the orders that carry it and to the visitors
that were seen with it; those lead to their clicks and events.

    a value that many share (a shop's own, a till's)    leads to the orders that carry it and to no visitor
    a visitor whom a server told of with the value      is followed always
    a visitor of whom a page alone said so              is followed for the oldest 20 of them
    a value that was only found on the order given      leads to the orders of the same person: whose strongest value
                                                        of a kind that both carry is the same one
    an order on the person's device                     is somebody else's if its strongest such value is another one
"""

from __future__ import annotations

from collections.abc import Collection
from hashlib import sha256
from typing import Final, Protocol

import msgspec
from msgspec import Struct

from collector.core.capi.phones import e164_digits
from collector.core.events import CustomerData
from collector.core.flags import UNCONFIRMED
from collector.core.keyed import KeyedHash
from collector.core.matching.links import MOST_VISITORS, Link, apart, kept, too_many
from collector.core.matching.proofs import ENRICHING
from collector.errors import CollectorError
from collector.exchange.naming import KINDS, keys_of
from collector.exchange.rows import ClickRow, ConversionRow

_STRICT: Final = (KINDS["external_id"], KINDS["email"], KINDS["phone"])  # the strongest first; no base of a mailbox
GAINED: Final = 0  # in the place of a kind: a key that a merge gave to the order
RENEWS: Final = -1  # likewise: the name of the order whose answer it inherits
_EVER: Final = 1 << 62

Value = tuple[int, int]  # kind and keyed name


class Looking(Protocol):
    """What an engine finds of a store's rows. A name of another store is never the same."""

    def clicks(self, store: int, ids: Collection[int]) -> list[ClickRow]: ...
    def conversions(self, store: int, ids: Collection[int]) -> list[ConversionRow]: ...
    def clicks_under(self, store: int, key: str, name: int) -> list[ClickRow]:
        """Those whose fbclid, visitor or `_fbp` (`key`) has this name."""
        ...

    def conversions_under(self, store: int, key: str, name: int) -> list[ConversionRow]:
        """Those whose name of the order (`dedup`), visitor or `_fbp` is this one."""
        ...

    def carrying(self, store: int, value: Value) -> list[ConversionRow]:
        """The conversions that carry a value; its kind may be GAINED or RENEWS."""
        ...

    def carried(self, store: int, conversion: int) -> set[Value]:
        """The values that a conversion carries, bases of mailboxes too."""
        ...

    def called(self, store: int, name: int) -> list[ConversionRow]:
        """At most two orders that a shop calls so beside their own name."""
        ...

    def links(self, store: int, value: Value) -> list[Link]:
        """The visitors that a value was seen with."""
        ...


class _OfOrder(Struct):
    refund_of: int | None = None


class Nameless(CollectorError):
    """No row is named by this value: it is a placeholder, or no such value at all."""


class Asked(Struct, frozen=True):
    """Who is meant: by one of these, as a person would write it. An order means whoever placed it."""

    email: str | None = None
    phone: str | None = None
    external_id: str | None = None
    visitor: str | None = None
    order: str | None = None
    request: str | None = None  # of a platform, which counts the orders that go for it

    @property
    def by_value(self) -> bool:
        return self.visitor is None and self.order is None


class Person(Struct):
    """What a store keeps of one person."""

    store: int
    given: set[Value]  # the values that were given
    values: set[Value] = set()  # those, and what the order given carries
    visitors: set[int] = set()
    clicks: dict[int, ClickRow] = {}
    conversions: dict[int, ConversionRow] = {}
    others: dict[int, ConversionRow] = {}  # somebody else's, on one of the person's devices
    shared: set[Value] = set()  # values that many share
    links: int = 0  # of a value with a visitor
    unread: list[int] = []  # of the shop's inbox, its rows
    sent: int = 0  # events that Meta has, or may have
    not_sent: int = 0

    @property
    def own_values(self) -> set[Value]:
        """What was given; else the strongest that the order carries, unless many share it."""
        if self.given or not self.values:
            return self.given
        strongest = min(kind for kind, _ in self.values)
        return {value for value in self.values - self.shared if value[0] == strongest}


class Finder:
    """Over what an engine finds."""

    def __init__(self, looking: Looking, names: KeyedHash) -> None:
        self._looking = looking
        self._names = names

    def values(self, store: int, country: str, asked: Asked) -> set[Value]:
        """The names of the value that was given: of its own form, and of its SHA-256, which may have come instead."""
        customer = CustomerData(
            email=_both(asked.email, asked.email and asked.email.strip().lower()),
            phone=_both(asked.phone, asked.phone and e164_digits(asked.phone, country.lower() or None)),
            external_id=_both(asked.external_id, asked.external_id and asked.external_id.strip()),
        )
        named = keys_of(self._names, store, customer, country)
        found = {(KINDS[kind], key) for kind, key in named.keys if KINDS[kind] in _STRICT}
        return found | {(kind, named.former[key]) for kind, key in found if key in named.former}

    def find(self, store: int, country: str, asked: Asked, types: Collection[str]) -> Person:
        """The person in one store; `types`: event types under which an order may have been told."""
        person = Person(store, self.values(store, country, asked))
        person.values = set(person.given)
        if asked.visitor is not None:
            person.visitors = {self._names.name(store, "visitor", asked.visitor)}
        if asked.order is not None:
            self._take_order(store, asked.order, types, person)
        for value in sorted(person.values):
            self._follow(store, value, person)
        self._take_devices(store, person)
        self._take_refunds(store, person)
        return person

    def _take_order(self, store: int, order: str, types: Collection[str], person: Person) -> None:
        for event_type in types:
            name = self._names.name(store, "once", f"{event_type}\0o{order}")
            own = self._looking.conversions_under(store, "dedup", name)
            for row in own or self._otherwise_named(store, name):
                person.conversions[row.id] = row
                person.values |= self.strict(row)
                if row.visitor_k is not None:
                    person.visitors.add(row.visitor_k)

    def _take_refunds(self, store: int, person: Person) -> None:
        """What told Meta of refunds of the person's orders."""
        for order in list(person.conversions.values()):
            inheriting = [] if order.dedup_k is None else self._looking.carrying(store, (RENEWS, order.dedup_k))
            for row in inheriting:
                if msgspec.msgpack.decode(row.body, type=_OfOrder).refund_of == order.id:
                    person.conversions[row.id] = row

    def _otherwise_named(self, store: int, name: int) -> list[ConversionRow]:
        """The order that a shop calls so beside its own name; none where it calls several so."""
        found = self._looking.called(store, name)
        return found if len(found) == 1 else []

    def _follow(self, store: int, value: Value, person: Person) -> None:
        """From a value to the orders that carry it and, unless many share it, to the visitors seen with it."""
        kind, _ = value
        carrying = self._looking.carrying(store, value)
        sure, said = self._links(store, value, carrying)
        visitors = {link.visitor for link in (*sure, *kept(said)[:MOST_VISITORS])}
        if too_many(sure, said) or self._is_beside_many(value, carrying):
            person.shared.add(value)
        if value in person.given:
            person.conversions |= {row.id: row for row in carrying}
            person.visitors |= visitors if value not in person.shared else set()
        elif value not in person.shared:
            own = [row for row in carrying if not self._is_anothers(row, person)]
            person.conversions |= {row.id: row for row in own}
            if kind == min(k for k, _ in person.values):  # the strongest that the order carries
                person.visitors |= visitors
            else:
                person.visitors |= {row.visitor_k for row in own if row.visitor_k is not None}

    def _links(self, store: int, value: Value, carrying: list[ConversionRow]) -> tuple[list[Link], list[Link]]:
        """The value's visitors, confirmed and claimed; of old orders too, whose links retention may have taken."""
        found = {link.visitor: link for link in self._looking.links(store, value)}
        for row in carrying:
            if row.visitor_k is not None and row.visitor_k not in found:
                found[row.visitor_k] = Link(row.visitor_k, row.ts, row.ts if _is_told(row) else None)
        return apart(found.values(), _EVER)

    def _is_beside_many(self, value: Value, carrying: list[ConversionRow]) -> bool:
        """Whether servers told the value with more values of another kind than a person has."""
        beside: dict[int, set[int]] = {}
        for row in filter(_is_told, carrying):
            for kind, key in self.strict(row):
                beside.setdefault(kind, set()).add(key)
                if kind != value[0] and len(beside[kind]) > MOST_VISITORS:
                    return True
        return False

    def _is_anothers(self, row: ConversionRow, person: Person) -> bool:
        """Whether the strongest value of a kind that this event and the person both have is not the person's."""
        carried = self.strict(row)
        for kind in _STRICT:
            theirs, here = ({key for k, key in values if k == kind} for values in (person.values, carried))
            if theirs and here:
                return theirs.isdisjoint(here)
        return False

    def _take_devices(self, store: int, person: Person) -> None:
        """The clicks and events of the person's visitors, and of their browsers by `_fbp` where no visitor was told."""
        own = {None, *person.visitors}
        for visitor in person.visitors:
            self._take(store, person, "visitor", visitor, own)
        for row in list(person.conversions.values()):
            if row.click is not None and row.method in ENRICHING:
                person.clicks |= {c.id: c for c in self._looking.clicks(store, [row.click]) if c.visitor_k in own}
        seen = [(row.visitor_k, row.fbp_k) for row in person.conversions.values()]
        seen += [(row.visitor_k, row.fbp_k) for row in person.clicks.values()]
        for fbp in {fbp for visitor, fbp in seen if fbp is not None and visitor in own}:
            self._take(store, person, "fbp", fbp, own)

    def _take(self, store: int, person: Person, key: str, name: int, own: set[int | None]) -> None:
        """What stands under a name, but for a visitor who is known to be somebody else."""
        found = self._looking.clicks_under(store, key, name)
        person.clicks |= {row.id: row for row in found if row.visitor_k in own}
        rows = self._looking.conversions_under(store, key, name) + self._looking.carrying(store, (GAINED, name))
        for row in {row.id: row for row in rows}.values():
            if getattr(row, f"{key}_k") == name and row.visitor_k in own and row.id not in person.conversions:
                kind = person.others if self._is_anothers(row, person) else person.conversions
                kind[row.id] = row

    def strict(self, row: ConversionRow) -> set[Value]:
        """The values that a conversion carries, without bases of mailboxes, which several people may share."""
        return {(kind, key) for kind, key in self._looking.carried(row.store, row.id) if kind in _STRICT}


def _is_told(row: ConversionRow) -> bool:
    """Whether a server told of it, as far as its row says."""
    return row.event_type == "Purchase" and not row.flags & UNCONFIRMED


def _both(value: str | None, normal: str | None) -> list[str] | None:
    if value is None:
        return None
    return [value, sha256(normal.encode()).hexdigest()] if normal else [value]
