"""Who is who, one hop: an identity value seen with a visitor leads to that visitor's clicks, and no further."""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterable
from functools import lru_cache
from typing import Any, Final

import apsw

from collector.core.matching.links import Link, kept
from collector.core.matching.shapes import Identity
from collector.exchange.naming import KINDS, Keys, Witness
from collector.storage.ground import multirow
from collector.storage.rules.linking import Known, linked_by

_GAINED: Final = 0  # in the place of a kind: not who the person is, but a further key by which a late click finds it
_RENEWS: Final = -1  # likewise: the name of the order whose answer a renewal inherits
_NAMES: Final = {number: kind for kind, number in KINDS.items()}

# One statement for all of a customer's values: each statement costs 5 µs and a hand-over of the interpreter's lock.
# A value has few visitors: _trim.
_VISITORS: Final = (
    "SELECT {n}, visitor_k, first_ts, confirmed_ts, source FROM identity_link WHERE store = ? AND kind = ? AND key = ?"
)
_HELD: Final = (  # without the hint SQLite walks the whole store, for the index does not cover confirmed_ts
    "SELECT -1, key, kind, confirmed_ts, 0 FROM identity_link INDEXED BY identity_link_visitor "
    "WHERE store = ? AND visitor_k = ?"
)
_LED_TO: Final = (
    "SELECT conversion FROM conversion_identity WHERE key = ? AND kind = ? ORDER BY conversion DESC LIMIT {n}"
)
_ANY_CARRIED: Final = "SELECT -2, EXISTS (SELECT 1 FROM conversion_identity WHERE key IN ({marks})), 0, 0, 0"
# Limits are in the text: SQLite prepares a statement anew for each value that a limit is bound to (10 µs).
_MOST_CONVERSIONS: Final = 32
_CARRYING: Final = (
    f"SELECT conversion FROM conversion_identity WHERE key = ? ORDER BY conversion DESC LIMIT {_MOST_CONVERSIONS}"
)
_VALUES: Final = "SELECT key FROM identity_link WHERE store = ? AND visitor_k = ? LIMIT 20"
_SEEN_WITH_ANY: Final = (
    "SELECT DISTINCT visitor_k FROM identity_link WHERE store = ? AND visitor_k IN (SELECT value FROM carray(?))"
)
_KEYS: Final = "SELECT kind, key FROM conversion_identity WHERE conversion = ? AND kind > 0 ORDER BY kind"
_SEEN: Final = """
ON CONFLICT DO UPDATE SET last_ts = max(last_ts, excluded.last_ts),
   source = CASE WHEN excluded.first_ts < first_ts THEN excluded.source ELSE source END,
   first_ts = min(first_ts, excluded.first_ts),
   confirmed_ts = coalesce(min(confirmed_ts, excluded.confirmed_ts), confirmed_ts, excluded.confirmed_ts)"""
_LINKS: Final = (
    "SELECT visitor_k, first_ts, confirmed_ts, source FROM identity_link WHERE store = ? AND kind = ? AND key = ?"
)
# Whether there may be names of before: until the last conversion that has one is past retention.
_RENAMED: Final = "SELECT EXISTS (SELECT 1 FROM renamed WHERE conversion >= (SELECT min(id) FROM conversion))"
_INSERT_LINKS: Final = (
    "INSERT INTO identity_link (store, kind, key, visitor_k, last_ts, first_ts, confirmed_ts, source)"
)
_DROP: Final = "DELETE FROM identity_link WHERE store = ? AND kind = ? AND key = ? AND visitor_k = ?"
_UNLINK: Final = (
    "DELETE FROM identity_link WHERE store = ?1 AND visitor_k = ?2 "
    "AND (kind, key) IN (SELECT kind, key FROM conversion_identity WHERE conversion = ?3)"
)


@lru_cache(maxsize=64)
def _question(places: tuple[int, ...], visited: bool) -> str:
    """What `Identities.known` asks of values, in one statement; a value in two places of the text has two names."""
    parts = [_VISITORS.replace("{n}", str(n)) for n in places]
    if visited:
        parts += [_HELD, _ANY_CARRIED.replace("{marks}", ", ".join("?" * len(places)))]
    return " UNION ALL ".join(parts)


def links_of(db: apsw.Connection, store: int, number: int, key: int) -> list[Link]:
    """The visitors that a value was seen with."""
    rows: Any = db.execute(_LINKS, (store, number, key)).fetchall()
    return [Link(*row) for row in rows]


class Identities:
    """Owned by the writer thread. What is linked and carried is findable at once and written by `flush`."""

    def __init__(self, db: apsw.Connection) -> None:
        self._db = db
        self._links: list[tuple[int, int, int, int, int, int, int | None, int]] = []
        self._carried: list[tuple[int, int, int]] = []
        self._unwritten: set[int] = set()  # the values, visitors and conversions among them
        self._renamed = bool(db.execute(_RENAMED).get)

    def known(self, store: int, keys: Keys, visitor: int | None, former: dict[int, int] | None = None) -> Known:
        """What is known so far; `visitor` None: of the values alone."""
        if not keys:
            return Known(store, keys, visitor, [], {}, False)
        old = former if former and self._renamed else {}
        self._write_what_names({key for _, key in keys} | {visitor})
        asked = [*enumerate(keys), *((n, (kind, old[key])) for n, (kind, key) in enumerate(keys) if key in old)]
        bound = [item for _, (kind, key) in asked for item in (store, KINDS[kind], key)]
        if visitor is not None:
            bound += [store, visitor, *(key for _, (_, key) in asked)]
        known = Known(store, keys, visitor, [[] for _ in keys], {}, False, old)
        rows: Any = self._db.execute(_question(tuple(n for n, _ in asked), visitor is not None), bound)
        for place, value, more, confirmed_ts, source in rows:
            if place >= 0:
                known.seen[place].append(Link(value, more, confirmed_ts, source))
            elif place == -1:
                known.held[more, value] = confirmed_ts is not None
            else:
                known.carried = bool(value)
        if old:
            known.take_over()
        return known

    def link(self, known: Known, ts: int, witness: Witness) -> set[int]:
        """Remember that the values were seen with the visitor; earlier conversions for which that may be news.

        A visitor with many values is a shared device and no person: it gets no more of them; claims never take the
        place of what a server tells. A value that leads nowhere, since too many share it, is no news.
        """
        if known.visitor is None:
            return set()
        news = [
            key
            for (kind, key), links in zip(known.keys, known.seen, strict=True)
            if self._link(known, kind, key, links, ts, witness)
        ]
        return self._carrying_few(news) if known.carried else set()

    def _link(self, known: Known, kind: Identity, key: int, links: list[Link], ts: int, witness: Witness) -> bool:
        """Whether an answer may change by it."""
        linked = linked_by(known, kind, key, links, witness)
        if linked is None:
            return False
        number, visitor, confirmed = KINDS[kind], known.visitor, (kind, key) in witness.keys
        assert visitor is not None
        self._links.append((known.store, number, key, visitor, ts, ts, ts if confirmed else None, witness.source))
        self._unwritten.update((key, visitor))
        known.held[number, key] = confirmed or known.held.get((number, key), False)
        if linked.crowded:
            self._trim(known.store, number, key)
        return linked.news

    def _trim(self, store: int, number: int, key: int) -> None:
        """Keep only so many visitors of a value as show that it has too many."""
        self.flush()
        links = links_of(self._db, store, number, key)
        worth = {link.visitor for link in kept(links)}
        gone = [(store, number, key, link.visitor) for link in links if link.visitor not in worth]
        self._db.executemany(_DROP, gone)

    def carry(self, conversion: int, keys: Iterable[tuple[Identity, int]], *, store: int = 0) -> None:
        """Remember which values a conversion carries."""
        for kind, key in keys:
            self._carried.append((conversion, KINDS[kind], key))
            self._unwritten.update((conversion, key))

    def gain(self, conversion: int, names: Collection[int], *, store: int = 0) -> None:
        """Remember keys that a merge gave to a conversion: the index has only those with which it was folded."""
        for name in names:
            self._carried.append((conversion, _GAINED, name))
            self._unwritten.update((conversion, name))

    def drop(self, conversion: int, store: int, visitor: int | None) -> None:
        """Forget what a conversion carries, and that its visitor was seen with it."""
        self.flush()
        self._db.execute(_UNLINK, (store, visitor, conversion))
        self._db.execute("DELETE FROM conversion_identity WHERE conversion = ?", (conversion,))

    def forget_visitor(self, store: int, visitor: int) -> None:
        """Forget with which values a visitor was seen."""
        self.flush()
        self._db.execute("DELETE FROM identity_link WHERE store = ? AND visitor_k = ?", (store, visitor))

    def forget_gained(self, conversion: int) -> None:
        """Forget the keys that a merge gave to a conversion."""
        self.flush()
        self._db.execute("DELETE FROM conversion_identity WHERE conversion = ? AND kind = 0", (conversion,))

    def gained_by(self, name: int, most: int, *, store: int = 0) -> set[int]:
        """At most `most` conversions to which a merge gave this key, the newest."""
        return self._led_to(name, _GAINED, most)

    def renew(self, conversion: int, first: int, *, store: int = 0) -> None:
        """Remember that a conversion inherits the answer of the order of this name."""
        self._carried.append((conversion, _RENEWS, first))
        self._unwritten.update((conversion, first))

    def renewals_of(self, first: int, most: int, *, store: int = 0) -> set[int]:
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

    def conversions_with(self, keys: Collection[int], *, store: int = 0) -> set[int]:
        """The newest conversions that carry one of the values, some of each."""
        self._write_what_names(keys)
        return self._carrying(keys)

    def _carrying(self, keys: Collection[int]) -> set[int]:
        return {row[0] for key in keys for row in self._db.execute(_CARRYING, (key,))}

    def _carrying_few(self, keys: Collection[int]) -> set[int]:
        """As `_carrying`, of values that few conversions carry: a till's re-opens nothing (P4)."""
        found = [self._carrying([key]) for key in keys]
        return set().union(*(some for some in found if len(some) < _MOST_CONVERSIONS))

    def values_of(self, store: int, visitor: int) -> list[int]:
        """The identity values that were seen with a visitor."""
        self._write_what_names({visitor})
        return [row[0] for row in self._db.execute(_VALUES, (store, visitor))]

    def visitors_among(self, store: int, visitors: Collection[int]) -> set[int]:
        """Those of the visitors that were seen with an identity value."""
        if not visitors:  # an empty carray is refused
            return set()
        self._write_what_names(visitors)
        asked = apsw.carray(memoryview(array("q", visitors)))
        return {row[0] for row in self._db.execute(_SEEN_WITH_ANY, (store, asked))}

    def _write_what_names(self, asked: Collection[int | None]) -> None:
        """Before a question about these values, visitors or conversions."""
        if not self._unwritten.isdisjoint(asked):
            self.flush()

    def flush(self) -> None:
        """Write what was linked and carried into the open transaction."""
        if self._carried:
            multirow.write(self._db, "INSERT OR IGNORE INTO conversion_identity", self._carried)
        if self._links:
            multirow.write(self._db, _INSERT_LINKS, self._links, _SEEN)
        self.forget()

    def forget(self) -> None:
        """Drop what is not written: the transaction is rolled back, or it is written."""
        self._links, self._carried = [], []
        self._unwritten = set()
