"""Who is who, one hop: an identity value seen with a visitor leads to that visitor's clicks, and no further."""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache
from typing import Final

import apsw

from collector.core import canonical
from collector.core.events import CustomerData
from collector.core.keyed import KeyedHash
from collector.core.matching.shapes import Identity

# Beyond these a value is a shop's own, a till's or a placeholder, and no person's (matching.md 1.2).
MOST_VISITORS: Final = 20
MOST_VALUES: Final = 3
_KINDS: Final[dict[Identity, int]] = {"external_id": 1, "email": 2, "phone": 3, "email_weak": 4}

_GAINED: Final = 0  # in the place of a kind: not who the person is, but a further key by which a late click finds it
_NAMES: Final = {number: kind for kind, number in _KINDS.items()}

# One statement for all of a customer's values: each statement costs 5 µs and a hand-over of the interpreter's lock.
_FIND: Final = "SELECT {n}, visitor_k FROM identity_link WHERE store = ? AND kind = ? AND key = ?"  # few: _trim
_COUNT_VISITORS: Final = "SELECT {n}, count(*) FROM identity_link WHERE store = ? AND kind = ? AND key = ?"
_CARRYING: Final = (
    "SELECT * FROM (SELECT conversion FROM conversion_identity WHERE key = ? ORDER BY conversion DESC LIMIT ?)"
)
_HELD: Final = "SELECT kind, key FROM identity_link WHERE store = ? AND visitor_k = ?"
_LINK: Final = (
    "INSERT INTO identity_link VALUES (?, ?, ?, ?, ?) "
    "ON CONFLICT DO UPDATE SET last_ts = max(last_ts, excluded.last_ts)"
)
_TRIM: Final = (
    "DELETE FROM identity_link WHERE store = ?1 AND kind = ?2 AND key = ?3 AND visitor_k NOT IN "
    "(SELECT visitor_k FROM identity_link WHERE store = ?1 AND kind = ?2 AND key = ?3 ORDER BY last_ts DESC LIMIT ?4)"
)
_CARRY: Final = "INSERT OR IGNORE INTO conversion_identity VALUES (?, ?, ?)"


@lru_cache(maxsize=64)
def _each(one: str, count: int) -> str:
    """`one` statement for each of `count` values, `{n}` being the value's place."""
    return " UNION ALL ".join(one.replace("{n}", str(n)) for n in range(count))


Keys = list[tuple[Identity, int]]


def keys_of(names: KeyedHash, store: int, customer: CustomerData | None, country: str) -> Keys:
    """Keyed names of what a customer's data says, the strongest kind first; placeholders are left out."""
    if customer is None:
        return []
    region = (customer.country if customer.country and len(customer.country) == 2 else None) or country or None
    forms: list[tuple[Identity, str | None]] = []
    forms += [("external_id", canonical.external_id(v)) for v in _many(customer.external_id)]
    for address in _many(customer.email):
        forms.append(("email", canonical.email(str(address))))
        forms.append(("email_weak", canonical.email_base(str(address))))
    forms += [("phone", canonical.phone(str(v), region)) for v in _many(customer.phone)]
    return [(kind, names.name(store, kind, form)) for kind, form in forms if form]


def _many(value: str | int | list[str] | None) -> list[str | int]:
    if value is None:
        return []
    return list(value) if isinstance(value, list) else [value]


def visitors_of(db: apsw.Connection, store: int, keys: Keys) -> dict[int, Identity]:
    """Visitors one hop away, with the strongest kind of link to each; a value with too many visitors proves nothing."""
    bound = [item for kind, key in keys for item in (store, _KINDS[kind], key)]
    seen: list[list[int]] = [[] for _ in keys]
    found_rows: list[tuple[int, int]] = db.execute(_each(_FIND, len(keys)), bound).fetchall()  # type: ignore[assignment]
    for place, visitor in found_rows:
        seen[place].append(visitor)
    found: dict[int, Identity] = {}
    for (kind, _), visitors in zip(keys, seen, strict=True):
        if len(visitors) <= MOST_VISITORS:
            for visitor in visitors:
                found.setdefault(visitor, kind)
    return found


def link(db: apsw.Connection, store: int, keys: Keys, visitor: int | None, ts: int) -> list[int]:
    """Remember that these values were seen with this visitor; the values whose link is new.

    A visitor with many values is a shared device and no person: it gets no more of them.
    """
    if visitor is None or not keys:
        return []
    held: set[tuple[int, int]] = set(db.execute(_HELD, (store, visitor)))
    links, new = [], []
    for kind, key in keys:
        number = _KINDS[kind]
        if sum(k == number and v != key for k, v in held) < MOST_VALUES:
            links.append((store, number, key, visitor, ts))
            if (number, key) not in held:
                held.add((number, key))
                new.append((number, key))
    db.executemany(_LINK, links)
    _trim(db, store, new)
    return [key for _, key in new]


def _trim(db: apsw.Connection, store: int, values: list[tuple[int, int]]) -> None:
    """Keep only so many visitors of a value as show that it has too many."""
    if not values:
        return
    bound = [item for number, key in values for item in (store, number, key)]
    counts: list[tuple[int, int]] = db.execute(_each(_COUNT_VISITORS, len(values)), bound).fetchall()  # type: ignore[assignment]
    for place, visitors in counts:
        if visitors > MOST_VISITORS + 1:
            db.execute(_TRIM, (store, *values[place], MOST_VISITORS + 1))


def carry(db: apsw.Connection, conversion: int, keys: Keys) -> None:
    """Remember which values a conversion carries."""
    db.executemany(_CARRY, [(conversion, _KINDS[kind], key) for kind, key in keys])


def gain(db: apsw.Connection, conversion: int, names: Collection[int]) -> None:
    """Remember keys that a merge gave to a conversion: the index has only those with which it was folded."""
    db.executemany(_CARRY, [(conversion, _GAINED, name) for name in names])


def any_gained(db: apsw.Connection) -> bool:
    """Whether there is any such key; most stores post an order once."""
    return bool(db.execute("SELECT EXISTS (SELECT 1 FROM conversion_identity WHERE kind = ?)", (_GAINED,)).get)


def keys_in(db: apsw.Connection, conversion: int) -> Keys:
    """The values that a conversion carries, the strongest kind first."""
    rows = db.execute(
        "SELECT kind, key FROM conversion_identity WHERE conversion = ? AND kind > 0 ORDER BY kind", (conversion,)
    )
    return [(_NAMES[kind], key) for kind, key in rows]


def conversions_with(db: apsw.Connection, keys: Collection[int], most: int) -> set[int]:
    """The newest conversions that carry one of the values, at most `most` for each."""
    if not keys:
        return set()
    return {row[0] for row in db.execute(_each(_CARRYING, len(keys)), [item for key in keys for item in (key, most)])}


def values_of(db: apsw.Connection, store: int, visitor: int) -> list[int]:
    """The identity values that were seen with a visitor."""
    rows = db.execute("SELECT key FROM identity_link WHERE store = ? AND visitor_k = ? LIMIT ?", (store, visitor, 20))
    return [row[0] for row in rows]
