"""What is looked up by which key: the two append-only tables, their rows as tuples, and their index tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from collector.core.flags import INELIGIBLE

ClickRow = tuple[Any, ...]
ConversionRow = tuple[Any, ...]

# Rows per bucket of an index key: a merge of some thousand rows writes into the pages of the newest bucket only
# (measured: append-only with deferred indexes 61,000-72,000 rows/s at 10^6-10^7 rows, four live indexes 6,700-2,700).
BUCKET: Final = 200_000

CLICK_COLUMNS: Final = (
    "id store ts last_ts received fbclid_k visitor_k fbp_k ip_k ua_k fp_k ua_class flags body".split()
)
CONVERSION_COLUMNS: Final = (
    "id store ts received event_type dedup_k fbclid_k visitor_k fbp_k ip_k ua_k fp_k ua_class flags "
    "click confidence method revision capi body match".split()
)


@dataclass(frozen=True, slots=True)
class Key:
    """One way to look rows up: an index table `(k, id[, tag])`."""

    name: str
    sql: str  # the 64-bit name, as an expression over the row's columns
    tagged: bool = False  # carries 16 bits of the visitor, so that distinct visitors can be counted from the index alone
    eligible_only: bool = False  # bots and refused clicks are left out


@dataclass(frozen=True, slots=True)
class Subject:
    """An append-only table and its keys."""

    table: str
    columns: tuple[str, ...]
    keys: tuple[Key, ...]

    def index_table(self, key: str) -> str:
        return f"{self.table}_{key}"


# XOR in SQLite's arithmetic: exact for every pair of signed 64-bit integers.
_IP_AND_UA: Final = "((ip_k | ua_k) - (ip_k & ua_k))"
VISITOR_TAG: Final = "coalesce(visitor_k, fbclid_k, id) & 65535"
ELIGIBLE: Final = f"flags & {INELIGIBLE} = 0"

CLICKS: Final = Subject(
    "click",
    tuple(CLICK_COLUMNS),
    (
        Key("fbclid", "fbclid_k"),
        Key("visitor", "visitor_k"),
        Key("fbp", "fbp_k"),
        Key("ip", "ip_k", tagged=True, eligible_only=True),
        Key("ip_ua", _IP_AND_UA, eligible_only=True),
        Key("fp", "fp_k", tagged=True, eligible_only=True),
    ),
)
CONVERSIONS: Final = Subject(
    "conversion",
    tuple(CONVERSION_COLUMNS),
    (
        Key("dedup", "dedup_k"),
        Key("fbclid", "fbclid_k"),
        Key("visitor", "visitor_k"),
        Key("fbp", "fbp_k"),
        Key("ip", "ip_k"),
        Key("fp", "fp_k"),
    ),
)


def click_names(row: ClickRow) -> tuple[int | None, ...]:
    """The row's names in the order of CLICKS.keys."""
    ip, ua = row[8], row[9]
    if row[12] & INELIGIBLE:
        return (row[5], row[6], row[7], None, None, None)
    return (row[5], row[6], row[7], ip, ip ^ ua if ip is not None and ua is not None else None, row[10])


def click_tag(row: ClickRow) -> int:
    """16 bits that tell one visitor's clicks from another's; as VISITOR_TAG in SQL."""
    for i in (6, 5, 0):
        if row[i] is not None:
            return int(row[i]) & 0xFFFF
    return 0


def conversion_names(row: ConversionRow) -> tuple[int | None, ...]:
    """The row's names in the order of CONVERSIONS.keys."""
    return (row[5], row[6], row[7], row[8], row[9], row[11])
