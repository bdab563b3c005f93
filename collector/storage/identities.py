"""Who is who, one hop: an identity value seen with a visitor leads to that visitor's clicks, and no further."""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache
from typing import Any, Final

import apsw
from msgspec import Struct

from collector.core import canonical
from collector.core.events import CustomerData
from collector.core.keyed import KeyedHash
from collector.core.matching.shapes import OPEN_MS, Identity
from collector.storage import multirow

# Beyond these a value is a shop's own, a till's or a placeholder, and no person's (matching.md 1.2).
MOST_VISITORS: Final = 20
MOST_VALUES: Final = 3
KINDS: Final[dict[Identity, int]] = {"external_id": 1, "email": 2, "phone": 3, "email_weak": 4}

_GAINED: Final = 0  # in the place of a kind: not who the person is, but a further key by which a late click finds it
_RENEWS: Final = -1  # likewise: the name of the order whose answer a renewal inherits
_NAMES: Final = {number: kind for kind, number in KINDS.items()}

# One statement for all of a customer's values: each statement costs 5 µs and a hand-over of the interpreter's lock.
# A value has few visitors: _trim.
_VISITORS: Final = "SELECT {n}, visitor_k, first_ts FROM identity_link WHERE store = ? AND kind = ? AND key = ?"
_HELD: Final = "SELECT -1, key, kind FROM identity_link WHERE store = ? AND visitor_k = ?"
_LED_TO: Final = (
    "SELECT conversion FROM conversion_identity WHERE key = ? AND kind = ? ORDER BY conversion DESC LIMIT {n}"
)
_ANY_CARRIED: Final = "SELECT -2, EXISTS (SELECT 1 FROM conversion_identity WHERE key IN ({marks})), 0"
# Limits are in the text: SQLite prepares a statement anew for each value that a limit is bound to (10 µs).
_MOST_CONVERSIONS: Final = 32
_CARRYING: Final = (
    f"SELECT conversion FROM conversion_identity WHERE key = ? ORDER BY conversion DESC LIMIT {_MOST_CONVERSIONS}"
)
_VALUES: Final = "SELECT key FROM identity_link WHERE store = ? AND visitor_k = ? LIMIT 20"
_KEYS: Final = "SELECT kind, key FROM conversion_identity WHERE conversion = ? AND kind > 0 ORDER BY kind"
_SEEN: Final = (
    "ON CONFLICT DO UPDATE SET last_ts = max(last_ts, excluded.last_ts), first_ts = min(first_ts, excluded.first_ts)"
)
_TRIM: Final = (
    "DELETE FROM identity_link WHERE store = ?1 AND kind = ?2 AND key = ?3 AND visitor_k NOT IN "
    "(SELECT visitor_k FROM identity_link WHERE store = ?1 AND kind = ?2 AND key = ?3 ORDER BY last_ts DESC LIMIT ?4)"
)
_UNLINK: Final = (
    "DELETE FROM identity_link WHERE store = ?1 AND visitor_k = ?2 "
    "AND (kind, key) IN (SELECT kind, key FROM conversion_identity WHERE conversion = ?3)"
)


@lru_cache(maxsize=64)
def _question(keys: int, visited: bool) -> str:
    """What `Identities.known` asks of so many values, in one statement."""
    parts = [_VISITORS.replace("{n}", str(n)) for n in range(keys)]
    if visited:
        parts += [_HELD, _ANY_CARRIED.replace("{marks}", ", ".join("?" * keys))]
    return " UNION ALL ".join(parts)


Keys = list[tuple[Identity, int]]


def keys_of(names: KeyedHash, store: int, customer: CustomerData | None, country: str) -> Keys:
    """Keyed names of what a customer's data says, the strongest kind first; placeholders are left out."""
    if customer is None:
        return []
    region = (customer.country if customer.country and len(customer.country) == 2 else None) or country or None
    forms: list[tuple[Identity, str | None]] = []
    forms += [("external_id", canonical.external_id(v)) for v in _many(customer.external_id)]
    for address in _many(customer.email):
        if strict := canonical.email(str(address)):
            forms += [("email", strict), ("email_weak", canonical.base_of(strict))]
    forms += [("phone", canonical.phone(str(v), region)) for v in _many(customer.phone)]
    return [(kind, names.name(store, kind, form)) for kind, form in forms if form]


def _many(value: str | int | list[str] | None) -> list[str | int]:
    if value is None:
        return []
    return list(value) if isinstance(value, list) else [value]


class Known(Struct, gc=False):
    """What the journal knows of the values that an event carries, and of the visitor who brought it."""

    store: int
    keys: Keys
    visitor: int | None
    seen: list[dict[int, int]]  # the visitors of each value, and when (event time, ms) each was first seen with it
    held: set[tuple[int, int]]  # the visitor's values, as (kind, key)
    carried: bool  # some earlier conversion carries one of the values

    def visitors(self, ts: int) -> dict[int, Identity]:
        """Visitors one hop away, with the strongest kind of link; a value with too many visitors proves nothing.

        As of 96 hours after `ts` (ms): who signs in later changes no earlier answer, whatever arrives first.
        """
        found: dict[int, Identity] = {}
        for (kind, _), seen in zip(self.keys, self.seen, strict=True):
            visitors = [visitor for visitor, first in seen.items() if first <= ts + OPEN_MS]
            if len(visitors) <= MOST_VISITORS:
                for visitor in visitors:
                    found.setdefault(visitor, kind)
        return found


class Identities:
    """Owned by the writer thread. What is linked and carried is findable at once and written by `flush`."""

    def __init__(self, db: apsw.Connection) -> None:
        self._db = db
        self._links: list[tuple[int, int, int, int, int, int]] = []
        self._carried: list[tuple[int, int, int]] = []
        self._unwritten: set[int] = set()  # the values, visitors and conversions among them

    def known(self, store: int, keys: Keys, visitor: int | None) -> Known:
        """What is known so far; `visitor` None: of the values alone."""
        if not keys:
            return Known(store, keys, visitor, [], set(), False)
        self._write_what_names({key for _, key in keys} | {visitor})
        bound = [item for kind, key in keys for item in (store, KINDS[kind], key)]
        if visitor is not None:
            bound += [store, visitor, *(key for _, key in keys)]
        known = Known(store, keys, visitor, [{} for _ in keys], set(), False)
        rows: Any = self._db.execute(_question(len(keys), visitor is not None), bound)
        for place, value, more in rows:
            if place >= 0:
                known.seen[place][value] = more
            elif place == -1:
                known.held.add((more, value))
            else:
                known.carried = bool(value)
        return known

    def link(self, known: Known, ts: int) -> set[int]:
        """Remember that the values were seen with the visitor; earlier conversions for which that is new.

        A visitor with many values is a shared device and no person: it gets no more of them.
        """
        store, visitor, held = known.store, known.visitor, known.held
        if visitor is None:
            return set()
        new = []
        for (kind, key), visitors in zip(known.keys, known.seen, strict=True):
            number = KINDS[kind]
            if sum(k == number and v != key for k, v in held) < MOST_VALUES:
                self._links.append((store, number, key, visitor, ts, ts))
                self._unwritten.update((key, visitor))
                if (number, key) not in held:
                    held.add((number, key))
                    new.append(key)
                    if len(visitors) > MOST_VISITORS:
                        self._trim(store, number, key)
        return self._carrying(new) if known.carried else set()

    def _trim(self, store: int, number: int, key: int) -> None:
        """Keep only so many visitors of a value as show that it has too many."""
        self.flush()
        self._db.execute(_TRIM, (store, number, key, MOST_VISITORS + 1))

    def carry(self, conversion: int, keys: Keys) -> None:
        """Remember which values a conversion carries."""
        for kind, key in keys:
            self._carried.append((conversion, KINDS[kind], key))
            self._unwritten.update((conversion, key))

    def gain(self, conversion: int, names: Collection[int]) -> None:
        """Remember keys that a merge gave to a conversion: the index has only those with which it was folded."""
        for name in names:
            self._carried.append((conversion, _GAINED, name))
            self._unwritten.update((conversion, name))

    def drop(self, conversion: int, store: int, visitor: int | None) -> None:
        """Forget what a conversion carries, and that its visitor was seen with it."""
        self.flush()
        self._db.execute(_UNLINK, (store, visitor, conversion))
        self._db.execute("DELETE FROM conversion_identity WHERE conversion = ?", (conversion,))

    def gained_by(self, name: int, most: int) -> set[int]:
        """At most `most` conversions to which a merge gave this key, the newest."""
        return self._led_to(name, _GAINED, most)

    def renew(self, conversion: int, first: int) -> None:
        """Remember that a conversion inherits the answer of the order of this name."""
        self._carried.append((conversion, _RENEWS, first))
        self._unwritten.update((conversion, first))

    def renewals_of(self, first: int, most: int) -> set[int]:
        """At most `most` conversions that inherit the answer of the order of this name, the newest."""
        return self._led_to(first, _RENEWS, most)

    def _led_to(self, name: int, kind: int, most: int) -> set[int]:
        self._write_what_names({name})
        return {row[0] for row in self._db.execute(_LED_TO.format(n=most), (name, kind))}

    def beyond_values(self) -> tuple[bool, bool]:
        """Whether there is any such key, and any renewal; most stores post an order once. Reads the whole table."""
        kinds = {row[0] for row in self._db.execute("SELECT DISTINCT kind FROM conversion_identity WHERE kind <= 0")}
        return _GAINED in kinds, _RENEWS in kinds

    def keys_in(self, conversion: int) -> Keys:
        """The values that a conversion carries, the strongest kind first."""
        self._write_what_names({conversion})
        return [(_NAMES[kind], key) for kind, key in self._db.execute(_KEYS, (conversion,))]

    def conversions_with(self, keys: Collection[int]) -> set[int]:
        """The newest conversions that carry one of the values, some of each."""
        self._write_what_names(keys)
        return self._carrying(keys)

    def _carrying(self, keys: Collection[int]) -> set[int]:
        return {row[0] for key in keys for row in self._db.execute(_CARRYING, (key,))}

    def values_of(self, store: int, visitor: int) -> list[int]:
        """The identity values that were seen with a visitor."""
        self._write_what_names({visitor})
        return [row[0] for row in self._db.execute(_VALUES, (store, visitor))]

    def _write_what_names(self, asked: Collection[int | None]) -> None:
        """Before a question about these values, visitors or conversions."""
        if not self._unwritten.isdisjoint(asked):
            self.flush()

    def flush(self) -> None:
        """Write what was linked and carried into the open transaction."""
        if self._carried:
            multirow.write(self._db, "INSERT OR IGNORE INTO conversion_identity", self._carried)
        if self._links:
            multirow.write(self._db, "INSERT INTO identity_link", self._links, _SEEN)
        self.forget()

    def forget(self) -> None:
        """Drop what is not written: the transaction is rolled back, or it is written."""
        self._links, self._carried = [], []
        self._unwritten = set()
