"""Who is meant by an e-mail address, a phone number, a customer id, a visitor or an order: all rows of one person.

One hop, as in matching (identities.py): the value that was given leads to the orders that carry it and to the visitors
that were seen with it; those lead to their clicks and events. A value with too many visitors is a shop's own, so nobody
is followed from it. An order on one of these devices that carries somebody else's value of the same kind is that
person's.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from hashlib import sha256
from typing import Any, Final, cast

import apsw
from msgspec import Struct

from collector.core.capi.phones import e164_digits
from collector.core.events import CustomerData
from collector.core.keyed import KeyedHash
from collector.core.matching.proofs import ENRICHING
from collector.errors import CollectorError
from collector.storage import identities
from collector.storage.index import IndexReader
from collector.storage.subjects import CLICKS, CONVERSIONS, ClickRow, ConversionRow, Subject

_MOST: Final = 1_000_000  # rows of one name
_WEAK: Final = identities.KINDS["email_weak"]  # of a mailbox, whatever its +tag: of several people, maybe
_VISITORS: Final = "SELECT visitor_k FROM identity_link WHERE store = ? AND kind = ? AND key = ?"
_CARRYING: Final = "SELECT conversion FROM conversion_identity WHERE key = ? AND kind = ?"
_CARRIED: Final = "SELECT kind, key FROM conversion_identity WHERE conversion = ? AND kind > 0"


class Nameless(CollectorError):
    """No row is named by this value: it is a placeholder, or no such value at all."""


class Asked(Struct, frozen=True):
    """Who is meant: by one of these, as a person would write it. An order means whoever placed it."""

    email: str | None = None
    phone: str | None = None
    external_id: str | None = None
    visitor: str | None = None
    order: str | None = None


class Person(Struct):
    """What a store keeps of one person."""

    keys: set[tuple[int, int]]  # (kind, key) of the values
    visitors: set[int]
    clicks: dict[int, ClickRow]
    conversions: dict[int, ConversionRow]
    shared: int = 0


class Finder:
    """Over the main database and an index that is up to date with it."""

    def __init__(self, db: apsw.Connection, reader: IndexReader, names: KeyedHash) -> None:
        self._db = db
        self._reader = reader
        self._names = names

    def find(self, store: int, country: str, asked: Asked, types: Collection[str]) -> Person:
        """The person in one store; `types`: event types under which an order may have been told.

        Raises Nameless where no row can be named by what was given.
        """
        person = Person(set(), set(), {}, {})
        person.keys = self._keys(store, country, asked)
        if asked.visitor is not None:
            person.visitors.add(self._names.name(store, "visitor", asked.visitor))
        if asked.order is not None:
            self._take_order(store, asked.order, types, person)
        elif asked.visitor is None and not person.keys:
            raise Nameless(
                "nothing is ever named by this value, so nothing can be found by it; try --order or --visitor"
            )
        self._follow(store, person, {kind for kind, _ in person.keys}, by_order=asked.order is not None)
        return person

    def _keys(self, store: int, country: str, asked: Asked) -> set[tuple[int, int]]:
        """The value's names: of its own form, and of the SHA-256 that a caller may have sent in its place."""
        customer = CustomerData(
            email=_both(asked.email, asked.email and asked.email.strip().lower()),
            phone=_both(asked.phone, asked.phone and e164_digits(asked.phone, country.lower() or None)),
            external_id=_both(asked.external_id, asked.external_id and asked.external_id.strip()),
        )
        found = identities.keys_of(self._names, store, customer, country)
        return {(identities.KINDS[kind], key) for kind, key in found if identities.KINDS[kind] != _WEAK}

    def _take_order(self, store: int, order: str, types: Collection[str], person: Person) -> None:
        for event_type in types:
            name = self._names.name(store, "once", f"{event_type}\0o{order}")
            for row in self.conversions(store, self._reader.find(CONVERSIONS, "dedup", name, 0, _MOST)):
                if row.dedup_k == name:
                    person.conversions[row.id] = row
        for row in person.conversions.values():
            person.keys |= {(kind, key) for kind, key in self.carried(row.id) if kind != _WEAK}
            if row.visitor_k is not None:
                person.visitors.add(row.visitor_k)

    def _follow(self, store: int, person: Person, kinds: set[int], *, by_order: bool) -> None:
        """One hop: from the values to their orders and visitors, from the visitors to their clicks and events."""
        for kind, key in person.keys:
            visitors = {row[0] for row in self._db.execute(_VISITORS, (store, kind, key))}
            carrying = self.conversions(store, [row[0] for row in self._db.execute(_CARRYING, (key, kind))])
            visitors |= {row.visitor_k for row in carrying if row.visitor_k is not None}
            shared = len(visitors) > identities.MOST_VISITORS
            person.shared += shared
            if not shared:
                person.visitors |= visitors
            if not shared or not by_order:  # a till's own address on an order leads to no other one
                person.conversions |= {row.id: row for row in carrying}
        for visitor in person.visitors:
            for row in self.conversions(store, self._reader.find(CONVERSIONS, "visitor", visitor, 0, _MOST)):
                if row.visitor_k == visitor and not self._is_anothers(row, person, kinds):
                    person.conversions[row.id] = row
            self._take_clicks(store, person, "visitor", visitor)
        for row in list(person.conversions.values()):
            if row.fbp_k is not None and row.visitor_k in {None, *person.visitors}:
                self._take_clicks(store, person, "fbp", row.fbp_k)
            if row.click is not None and row.method in ENRICHING:
                for click in self.clicks(store, [row.click]):
                    if click.visitor_k is None or click.visitor_k in person.visitors:
                        person.clicks[click.id] = click

    def _is_anothers(self, row: ConversionRow, person: Person, kinds: set[int]) -> bool:
        """Whether an event on the person's device carries another value of the kind by which the person is known."""
        carried = {(kind, key) for kind, key in self.carried(row.id) if kind in kinds}
        return bool(carried) and not carried & person.keys

    def clicks_under(self, store: int, key: str, name: int) -> list[ClickRow]:
        """The store's clicks whose fbclid, visitor or `_fbp` (`key`) has this name."""
        rows = self.clicks(store, self._reader.find(CLICKS, key, name, 0, _MOST))
        return [row for row in rows if getattr(row, f"{key}_k") == name]

    def _take_clicks(self, store: int, person: Person, key: str, name: int) -> None:
        """The clicks under a name, but those of a visitor who is known to be somebody else."""
        for row in self.clicks_under(store, key, name):
            if row.visitor_k in {None, *person.visitors}:
                person.clicks[row.id] = row

    def carried(self, conversion: int) -> set[tuple[int, int]]:
        """(kind, key) of the values that a conversion carries."""
        return set(cast("Iterable[tuple[int, int]]", self._db.execute(_CARRIED, (conversion,))))

    def clicks(self, store: int, ids: Collection[int]) -> list[ClickRow]:
        return [row for row in map(ClickRow._make, self._rows(CLICKS, ids)) if row.store == store]

    def conversions(self, store: int, ids: Collection[int]) -> list[ConversionRow]:
        return [row for row in map(ConversionRow._make, self._rows(CONVERSIONS, ids)) if row.store == store]

    def _rows(self, subject: Subject, ids: Collection[int]) -> Iterable[Any]:
        sql = f"SELECT {subject.columns} FROM {subject.table} WHERE id = ?"
        return [row for i in ids for row in self._db.execute(sql, (i,))]


def _both(value: str | None, normal: str | None) -> list[str] | None:
    if value is None:
        return None
    return [value, sha256(normal.encode()).hexdigest()] if normal else [value]
