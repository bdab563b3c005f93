"""Public ids: a row number that outsiders can neither read, guess nor forge.

A public id is 128 bits: a 64-bit tag (keyed hash of kind and row number) and the row number masked by a hash of the
tag (a synthetic-IV construction, RFC 5297's idea). It needs no index of its own: the id opens to its row.
"""

from __future__ import annotations

from hashlib import blake2b

_LENGTH = 32


class PublicIds:
    """Turns row numbers into public ids and back, under one installation's key (32 bytes)."""

    __slots__ = ("_mask", "_tags")

    def __init__(self, key: bytes) -> None:
        self._mask = blake2b(b"mask", digest_size=8, key=key)
        self._tags = {p: blake2b(p.encode(), digest_size=8, key=key) for p in ("click", "conv")}

    def _mask_of(self, tag: bytes) -> int:
        h = self._mask.copy()
        h.update(tag)
        return int.from_bytes(h.digest(), "big")

    def _tag_of(self, prefix: str, row: int) -> bytes:
        h = self._tags[prefix].copy()
        h.update(row.to_bytes(8, "big"))
        return h.digest()

    def public(self, prefix: str, row: int) -> str:
        """`click` and 7 -> `click_` and 32 hexadecimal characters; the same row always has the same id."""
        tag = self._tag_of(prefix, row)
        return f"{prefix}_{tag.hex()}{self._mask_of(tag) ^ row:016x}"

    def row(self, prefix: str, text: str) -> int | None:
        """The row number of a public id of this kind, None for anything else."""
        digits = text.removeprefix(f"{prefix}_")
        if len(digits) != _LENGTH or len(digits) == len(text):
            return None
        try:
            number = bytes.fromhex(digits)
        except ValueError:
            return None
        tag = number[:8]
        row = int.from_bytes(number[8:], "big") ^ self._mask_of(tag)
        return row if self._tag_of(prefix, row) == tag else None
