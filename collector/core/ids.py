"""Public ids: a row number that outsiders can neither read, guess nor forge.

A public id is 128 bits: a 64-bit tag (keyed hash of kind and row number) and the row number masked by a hash of the
tag (a synthetic-IV construction, RFC 5297's idea). It needs no index of its own: the id opens to its row.
"""

from __future__ import annotations

from hashlib import blake2b

# Crockford's base 32: no I, L, O, U.
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS = [a + b for a in _ALPHABET for b in _ALPHABET]
_VALUE = {c: i for i, c in enumerate(_ALPHABET)}
_LENGTH = 26


class PublicIds:
    """Turns row numbers into public ids and back, under one installation's key (32 bytes)."""

    __slots__ = ("_mask", "_tags")

    def __init__(self, key: bytes) -> None:
        self._mask = blake2b(b"mask", digest_size=8, key=key)
        self._tags = {p: blake2b(p.encode(), digest_size=8, key=key) for p in ("click", "conv")}

    def _masked(self, tag: bytes) -> int:
        h = self._mask.copy()
        h.update(tag)
        return int.from_bytes(h.digest(), "big")

    def public(self, prefix: str, row: int) -> str:
        """`click` and 7 -> `click_` and 26 characters; the same row always has the same id."""
        h = self._tags[prefix].copy()
        h.update(row.to_bytes(8, "big"))
        tag = h.digest()
        number = int.from_bytes(tag, "big") << 64 | (self._masked(tag) ^ row)
        # 130 bits: thirteen pairs of five-bit digits.
        pairs = _PAIRS
        return f"{prefix}_" + "".join([pairs[(number >> shift) & 1023] for shift in range(120, -1, -10)])

    def row(self, prefix: str, text: str) -> int | None:
        """The row number of a public id of this kind, None for anything else."""
        digits = text.removeprefix(f"{prefix}_")
        if len(digits) != _LENGTH or len(digits) == len(text):
            return None
        number = 0
        for c in digits.upper():
            value = _VALUE.get(c)
            if value is None:
                return None
            number = number << 5 | value
        if number >> 128:
            return None
        tag = (number >> 64).to_bytes(8, "big")
        row = (number & 0xFFFFFFFFFFFFFFFF) ^ self._masked(tag)
        return row if row < 1 << 63 and self.public(prefix, row) == f"{prefix}_{digits.upper()}" else None
