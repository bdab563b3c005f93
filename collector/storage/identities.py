"""Who is who, one hop: an identity value seen with a visitor leads to that visitor's clicks, and no further."""

from __future__ import annotations

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

_NAMES: Final = {number: kind for kind, number in _KINDS.items()}

_FIND: Final = (
    "SELECT visitor_k FROM identity_link WHERE store = ? AND kind = ? AND key = ? ORDER BY last_ts DESC LIMIT ?"
)
_KNOWN: Final = "SELECT 1 FROM identity_link WHERE store = ? AND kind = ? AND key = ? AND visitor_k = ?"
_COUNT_VISITORS: Final = "SELECT count(*) FROM identity_link WHERE store = ? AND kind = ? AND key = ?"
_COUNT_VALUES: Final = "SELECT count(*) FROM identity_link WHERE store = ? AND visitor_k = ? AND kind = ? AND key <> ?"
_LINK: Final = (
    "INSERT INTO identity_link VALUES (?, ?, ?, ?, ?) "
    "ON CONFLICT DO UPDATE SET last_ts = max(last_ts, excluded.last_ts)"
)
_TRIM: Final = (
    "DELETE FROM identity_link WHERE store = ?1 AND kind = ?2 AND key = ?3 AND visitor_k NOT IN "
    "(SELECT visitor_k FROM identity_link WHERE store = ?1 AND kind = ?2 AND key = ?3 ORDER BY last_ts DESC LIMIT ?4)"
)

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
    found: dict[int, Identity] = {}
    for kind, key in keys:
        rows: list[tuple[int]] = db.execute(  # type: ignore[assignment]
            _FIND, (store, _KINDS[kind], key, MOST_VISITORS + 1)
        ).fetchall()
        if len(rows) <= MOST_VISITORS:
            for row in rows:
                found.setdefault(row[0], kind)
    return found


def link(db: apsw.Connection, store: int, keys: Keys, visitor: int | None, ts: int) -> list[int]:
    """Remember that these values were seen with this visitor; the values whose link is new.

    A visitor with many values is a shared device and no person: it gets no more of them.
    """
    new: list[int] = []
    if visitor is None:
        return new
    for kind, key in keys:
        number = _KINDS[kind]
        if db.execute(_COUNT_VALUES, (store, visitor, number, key)).get < MOST_VALUES:
            if db.execute(_KNOWN, (store, number, key, visitor)).get is None:
                new.append(key)
            db.execute(_LINK, (store, number, key, visitor, ts))
            if db.execute(_COUNT_VISITORS, (store, number, key)).get > MOST_VISITORS + 1:
                db.execute(_TRIM, (store, number, key, MOST_VISITORS + 1))
    return new


def carry(db: apsw.Connection, conversion: int, keys: Keys) -> None:
    """Remember which values a conversion carries."""
    for kind, key in keys:
        db.execute("INSERT OR IGNORE INTO conversion_identity VALUES (?, ?, ?)", (conversion, _KINDS[kind], key))


def keys_in(db: apsw.Connection, conversion: int) -> Keys:
    """The values that a conversion carries, the strongest kind first."""
    rows = db.execute("SELECT kind, key FROM conversion_identity WHERE conversion = ? ORDER BY kind", (conversion,))
    return [(_NAMES[kind], key) for kind, key in rows]


def conversions_with(db: apsw.Connection, key: int, most: int) -> list[int]:
    """The newest conversions that carry a value."""
    rows = db.execute(
        "SELECT DISTINCT conversion FROM conversion_identity WHERE key = ? ORDER BY conversion DESC LIMIT ?",
        (key, most),
    )
    return [row[0] for row in rows]


def values_of(db: apsw.Connection, store: int, visitor: int) -> list[int]:
    """The identity values that were seen with a visitor."""
    rows = db.execute("SELECT key FROM identity_link WHERE store = ? AND visitor_k = ? LIMIT ?", (store, visitor, 20))
    return [row[0] for row in rows]
