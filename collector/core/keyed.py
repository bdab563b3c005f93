"""Keyed hashes: what a value is called where it must be compared but not kept.

BLAKE2b with a key that lives outside the database (the pepper), one sub-key per purpose. A 64-bit name collides about
n²/2⁶⁵ times: 3·10⁻⁴ expected at 10⁸ values, so whoever needs certainty compares the full value as well.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from struct import Struct

PEPPER_BYTES = 32
_unpack = Struct(">q").unpack  # a third less than int.from_bytes with its keyword


class KeyedHash:
    """Names for values of one store and one kind; the same value in another store has another name."""

    __slots__ = ("_bases", "_pepper")

    def __init__(self, pepper: bytes) -> None:
        if len(pepper) != PEPPER_BYTES:
            raise ValueError(f"a pepper has {PEPPER_BYTES} bytes, not {len(pepper)}")
        self._pepper = pepper
        self._bases: dict[tuple[int, str], blake2b] = {}

    @property
    def pepper(self) -> bytes:
        """The key itself, for another process that gives the same names."""
        return self._pepper

    def __repr__(self) -> str:
        return "KeyedHash(…)"

    def _base(self, store: int, kind: str) -> blake2b:
        base = self._bases.get((store, kind))
        if base is None:
            base = blake2b(f"{store}\0{kind}\0".encode(), digest_size=8, key=self._pepper)
            self._bases[store, kind] = base
        return base

    def name(self, store: int, kind: str, value: str) -> int:
        """The signed 64-bit name of `value`; SQLite stores it in eight bytes."""
        base = self._bases.get((store, kind)) or self._base(store, kind)
        h = base.copy()
        h.update(value.encode())
        (name,) = _unpack(h.digest())
        return name  # type: ignore[no-any-return]  # a struct's format is not typed

    def namer(self, store: int, kind: str) -> Callable[[str], int]:
        """As `name`, for one store and kind: three quarters of the time where many values are named."""
        copy, unpack = self._base(store, kind).copy, _unpack

        def name(value: str) -> int:
            h = copy()
            h.update(value.encode())
            (name,) = unpack(h.digest())
            return name  # type: ignore[no-any-return]  # a struct's format is not typed

        return name

    def optional(self, store: int, kind: str, value: str | None) -> int | None:
        """As `name`, and None for an absent value."""
        return self.name(store, kind, value) if value else None

    def subkey(self, purpose: str) -> bytes:
        """32 bytes for another use of the pepper, unrelated to every other purpose."""
        return blake2b(purpose.encode(), digest_size=32, key=self._pepper, person=b"collector.sub").digest()
