"""How many distinct visitors: a sketch of 1,024 registers (HyperLogLog, Flajolet 2007), about ±3 %."""

from __future__ import annotations

from collections.abc import Sequence
from math import log
from typing import Final

SKETCH_BITS: Final = 10
SKETCH_RANK_BITS: Final = 52
REGISTERS: Final = 1 << SKETCH_BITS
RANK_MASK: Final = (1 << SKETCH_RANK_BITS) - 1
_ALPHA: Final = 0.7213 / (1 + 1.079 / REGISTERS)  # the bias correction for m >= 128
_MOST_RANK: Final = SKETCH_RANK_BITS + 1
_POWERS: Final = [1 << _MOST_RANK - rank for rank in range(_MOST_RANK + 1)]  # 2^-rank, as integers: no rounding


class Union:
    """The registers of a store's last days as one sketch, kept up to date click by click."""

    __slots__ = ("_registers", "_sum")

    def __init__(self, sketches: Sequence[bytes | bytearray]) -> None:
        self._registers = bytearray(map(max, bytes(REGISTERS), *sketches)) if sketches else bytearray(REGISTERS)
        self._sum = sum(map(_POWERS.__getitem__, self._registers))

    def raise_to(self, register: int, rank: int) -> None:
        before = self._registers[register]
        if rank > before:
            self._registers[register] = rank
            self._sum += _POWERS[rank] - _POWERS[before]

    def visitors(self) -> float:
        zeros = self._registers.count(0)
        estimate = _ALPHA * REGISTERS * REGISTERS / (self._sum / _POWERS[0])
        if estimate <= 2.5 * REGISTERS and zeros:  # linear counting for small sets
            return REGISTERS * log(REGISTERS / zeros)
        return estimate


def place_of(visitor: int) -> tuple[int, int]:
    """A visitor's register, and the rank to which it raises that."""
    upper = visitor >> SKETCH_BITS & RANK_MASK
    return visitor & (REGISTERS - 1), _MOST_RANK - (upper | 1).bit_length()
