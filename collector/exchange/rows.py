"""The rows of the two append-only tables, as tuples."""

from __future__ import annotations

from typing import NamedTuple


class ClickRow(NamedTuple):
    """A row of `click`; the columns are told in the schema."""

    id: int
    store: int
    ts: int
    last_ts: int
    received: int
    fbclid_k: int | None
    visitor_k: int | None
    fbp_k: int | None
    ip_k: int | None
    ua_k: int | None
    fp_k: int | None
    ua_class: int
    flags: int
    body: bytes


class ConversionRow(NamedTuple):
    """A row of `conversion`; the columns are told in the schema."""

    id: int
    store: int
    ts: int
    received: int
    event_type: str
    dedup_k: int | None
    fbclid_k: int | None
    visitor_k: int | None
    fbp_k: int | None
    ip_k: int | None
    ua_k: int | None
    fp_k: int | None
    ua_class: int
    flags: int
    click: int | None
    confidence: int | None
    method: str | None
    revision: int
    capi: int
    body: bytes
    match: bytes

    @property
    def place(self) -> tuple[int, int]:
        """Where it comes among others: by time, and at one moment by what does not depend on arrival; as PLACE."""
        return (self.ts, self.dedup_k or 0)
