"""What is looked up by which key: the two append-only tables, their rows as tuples, and their index tables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Final

from collector.core.flags import INELIGIBLE, UNCOUNTED
from collector.exchange.rows import ClickRow, ConversionRow

PLACE: Final = "(ts, coalesce(dedup_k, 0))"


# Rows per bucket of an index key: a merge of some thousand rows writes into the pages of the newest bucket only
# (measured: append-only with deferred indexes 61,000-72,000 rows/s at 10^6-10^7 rows, four live indexes 6,700-2,700).
BUCKET: Final = 200_000


@dataclass(frozen=True, slots=True)
class Key:
    """One way to look rows up: an index table `(k, id[, tag])`."""

    name: str
    sql: str  # the 64-bit name, as an expression over the row's columns
    of: Callable[[Any], int | None]  # the same of a row in memory; None: the row is not under this key
    # Carries 16 bits of the visitor and the minute of the click, so that distinct visitors before a moment can be
    # counted, and later clicks passed over, from the index alone.
    tagged: bool = False
    eligible_only: bool = False  # bots and refused clicks are left out


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """An append-only table and its keys; compared by identity, since it is a key of dictionaries on the hot path."""

    name: str
    row: type[ClickRow] | type[ConversionRow]
    keys: tuple[Key, ...]

    @property
    def columns(self) -> str:
        return ", ".join(self.row._fields)

    def index_table(self, key: str) -> str:
        return f"{self.name}_{key}"

    def names(self, row: ClickRow | ConversionRow) -> tuple[int | None, ...]:
        """The row's names in the order of the keys."""
        return tuple(key.of(row) for key in self.keys)


def _ip(row: ClickRow) -> int | None:
    return None if row.flags & INELIGIBLE else row.ip_k


def _ip_and_ua(row: ClickRow) -> int | None:
    ip, ua = row.ip_k, row.ua_k
    return None if ip is None or ua is None or row.flags & INELIGIBLE else ip ^ ua


def _fp(row: ClickRow) -> int | None:
    return None if row.flags & INELIGIBLE else row.fp_k


def _plain(name: str) -> Key:
    """A key that is a column."""
    column = f"{name}_k"
    return Key(name, column, attrgetter(column))


# XOR in SQLite's arithmetic: exact for every pair of signed 64-bit integers.
_IP_AND_UA: Final = "((ip_k | ua_k) - (ip_k & ua_k))"
VISITOR_TAG: Final = "coalesce(visitor_k, fbclid_k, id) & 65535"
MINUTE_MS: Final = 60_000
ELIGIBLE: Final = f"flags & {INELIGIBLE} = 0"
COUNTED: Final = f"flags & {UNCOUNTED} = 0"

CLICKS: Final = Table(
    "click",
    ClickRow,
    (
        _plain("fbclid"),
        _plain("visitor"),
        _plain("fbp"),
        Key("ip", "ip_k", _ip, tagged=True, eligible_only=True),
        Key("ip_ua", _IP_AND_UA, _ip_and_ua, tagged=True, eligible_only=True),
        Key("fp", "fp_k", _fp, tagged=True, eligible_only=True),
    ),
)
CONVERSIONS: Final = Table(
    "conversion",
    ConversionRow,
    tuple(_plain(name) for name in ("dedup", "fbclid", "visitor", "fbp", "ip", "fp")),
)


def click_tag(row: ClickRow) -> int:
    """16 bits that tell one visitor's clicks from another's; as VISITOR_TAG in SQL."""
    if row.visitor_k is not None:
        return row.visitor_k & 0xFFFF
    return (row.fbclid_k if row.fbclid_k is not None else row.id) & 0xFFFF
