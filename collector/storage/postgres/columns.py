"""The columns of an answer, and the rows that they are: one form for all questions, so one statement has them all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from collector.exchange.rows import ClickRow, ConversionRow

# Every answer has these columns: which part, which of its questions, numbers, two texts, two pieces of bytes.
NUMBERS: Final = "NULL::text, NULL::text, NULL::bytea, NULL::bytea"
_C: Final = (
    "c.id, c.store::bigint, c.ts, c.last_ts, c.received, c.fbclid_k, c.visitor_k, c.fbp_k, c.ip_k, c.ua_k, c.fp_k"
)
_CLICK: Final = f"ARRAY[{_C}, c.ua_class, c.flags::bigint]"
_V: Final = (
    "v.id, v.store::bigint, v.ts, v.received, v.dedup_k, v.fbclid_k, v.visitor_k, v.fbp_k, v.ip_k, v.ua_k, v.fp_k"
)
_CONVERSION: Final = (
    f"ARRAY[{_V}, v.ua_class, v.flags::bigint, v.click, v.confidence::bigint, v.revision::bigint, v.capi::bigint]"
)
CLICK_COLUMNS: Final = f"{_CLICK}, k.ip, k.user_agent, c.body, NULL::bytea"
BARE_CLICK: Final = f"{_CLICK}, NULL::text, NULL::text, c.body, NULL::bytea"
CONVERSION_COLUMNS: Final = f"{_CONVERSION}, v.event_type, v.method, v.body, v.match"
NETWORK: Final = "LEFT JOIN click_network k ON k.id = c.id AND k.store = c.store"

_encode: Final = msgspec.msgpack.Encoder().encode


def noted(note: int, row: ClickRow | ConversionRow) -> tuple[int, int, bool, int, bytes]:
    """A row of `unlooked`: what a row was known by, without its bodies."""
    of_click = isinstance(row, ClickRow)
    bare = row._replace(body=b"") if isinstance(row, ClickRow) else row._replace(body=b"", match=b"")
    return note, row.store, of_click, row.id, _encode(bare)


def click_of(numbers: Sequence[Any], body: bytes) -> ClickRow:
    """A click's row of an answer."""
    return ClickRow._make((*numbers, body))


def conversion_of(
    numbers: Sequence[Any], event_type: str, method: str | None, body: bytes, match: bytes
) -> ConversionRow:
    """A conversion's row of an answer."""
    ids, keys, rest = numbers[:4], numbers[4:14], numbers[14:]
    confidence, revision, capi = rest
    return ConversionRow._make((*ids, event_type, *keys, confidence, method, revision, capi, body, match))
