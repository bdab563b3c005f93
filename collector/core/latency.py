"""How long did it take: counts by bucket and their sum, which only grow, as running totals by name."""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

# Seconds: from what one fsync of a good disk takes to what a caller gives up at.
BOUNDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_KIND: Final = "latency"
_SUM: Final = "latency_us"


class Latency:
    """One kind of duration of one process. Observing costs a search among thirteen numbers."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._counts = [0] * (len(BOUNDS) + 1)
        self._seconds = 0.0

    def observe(self, seconds: float) -> None:
        self._counts[bisect_left(BOUNDS, seconds)] += 1
        self._seconds += seconds

    def totals(self) -> dict[str, int]:
        """`latency.NAME.BUCKET` -> how many; `latency_us.NAME` -> microseconds of all; as they are since the start."""
        named = {f"{_KIND}.{self._name}.{i}": n for i, n in enumerate(self._counts) if n}
        return {**named, f"{_SUM}.{self._name}": int(self._seconds * 1e6)} if named else {}

    def taken(self) -> dict[str, int]:
        """What has come since the last call."""
        told, self._counts, self._seconds = self.totals(), [0] * (len(BOUNDS) + 1), 0.0
        return told


class Histogram:
    """The counts of a name, read back from totals: cumulative, as Prometheus has them."""

    def __init__(self, name: str, totals: dict[str, int]) -> None:
        self.counts = [totals.get(f"{_KIND}.{name}.{i}", 0) for i in range(len(BOUNDS) + 1)]
        self.seconds = totals.get(f"{_SUM}.{name}", 0) / 1e6

    def cumulative(self) -> list[tuple[str, int]]:
        """Upper bound and how many were at most so long; the last is `+Inf`."""
        out, sum_ = [], 0
        for bound, n in zip((*map(str, BOUNDS), "+Inf"), self.counts, strict=True):
            sum_ += n
            out.append((bound, sum_))
        return out
