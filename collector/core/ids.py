"""Public ids: a row number that outsiders can neither read, guess nor forge.

A public id is 128 bits: a 64-bit tag (a keyed hash of kind and row number) and the row number masked by a hash of the
tag (a synthetic-IV construction, RFC 5297's idea). It needs no index of its own: the id opens to its row.
"""

from __future__ import annotations

from hashlib import blake2b
from struct import Struct

_LENGTH = 32
_TAG_BYTES = 8
_number = Struct(">Q")
_pack, _unpack = _number.pack, _number.unpack
_TAGS = 8  # one hash of 64 bytes gives the tags of eight rows in sequence: a batch's ids take half the time


class PublicIds:
    """Turns row numbers into public ids and back, under one installation's key (32 bytes)."""

    __slots__ = ("_bases", "_blocks", "_mask")

    def __init__(self, key: bytes) -> None:
        self._mask = blake2b(b"mask", digest_size=_TAG_BYTES, key=key)
        self._bases = {p: blake2b(p.encode(), digest_size=_TAG_BYTES * _TAGS, key=key) for p in ("click", "conv")}
        self._blocks: dict[str, tuple[int, list[bytes]]] = dict.fromkeys(self._bases, (-1, []))  # the last of each kind

    def _mask_of(self, tag: bytes) -> int:
        h = self._mask.copy()
        h.update(tag)
        (mask,) = _unpack(h.digest())
        return mask  # type: ignore[no-any-return]  # a struct's format is not typed

    def _tag_of(self, prefix: str, row: int) -> bytes:
        block = row // _TAGS
        known, tags = self._blocks[prefix]
        if known != block:
            h = self._bases[prefix].copy()
            h.update(_pack(block))
            digest = h.digest()
            tags = [digest[i : i + _TAG_BYTES] for i in range(0, len(digest), _TAG_BYTES)]
            self._blocks[prefix] = block, tags  # at one stroke, since threads share an instance
        return tags[row % _TAGS]

    def public(self, prefix: str, row: int) -> str:
        """`click` and 7 -> `click_` and 32 hexadecimal characters; the same row always has the same id."""
        block, tags = self._blocks[prefix]
        tag = tags[row % _TAGS] if row // _TAGS == block else self._tag_of(prefix, row)
        return f"{prefix}_{(tag + _pack(self._mask_of(tag) ^ row)).hex()}"

    def row(self, prefix: str, text: str) -> int | None:
        """The row number of a public id of this kind, None for anything else."""
        digits = text.removeprefix(f"{prefix}_")
        if len(digits) != _LENGTH or len(digits) == len(text):
            return None
        try:
            number = bytes.fromhex(digits)
        except ValueError:
            return None
        tag = number[:_TAG_BYTES]
        row = int.from_bytes(number[_TAG_BYTES:], "big") ^ self._mask_of(tag)
        return row if self._tag_of(prefix, row) == tag else None
