"""How much may one caller ask for: token buckets in a bounded map.

The bucket is kept as one number per key, the generic cell rate algorithm (ITU-T I.371): the moment at which the bucket
would be full again. Taking costs O(1) whatever the rate, and a full bucket is the same as no entry, so the entries
that are forgotten first are the ones that say least. Each edge process counts for itself.
"""

from __future__ import annotations

from collections import OrderedDict
from math import ceil
from typing import Final, NamedTuple

# 1 M addresses in a flood must not cost memory: 50,000 entries are about 12 MB.
MAX_KEYS: Final = 50_000
# A burst of twice the rate: a page that loads sends several events at once.
BURST_FACTOR: Final = 2


class Verdict(NamedTuple):
    """What a bucket says: `remaining` whole units, `retry_after` seconds until this cost fits (0 when allowed)."""

    allowed: bool
    remaining: int
    retry_after: float
    policy: str
    quota: int
    window: int

    def headers(self) -> list[tuple[bytes, bytes]]:
        """`RateLimit` and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers-11), `Retry-After` on a refusal."""
        seconds = max(1, ceil(self.retry_after)) if not self.allowed else self.window
        headers = [
            (
                b"ratelimit-policy",
                f'"{self.policy}";q={self.quota};w={self.window}'.encode(),
            ),
            (b"ratelimit", f'"{self.policy}";r={self.remaining};t={seconds}'.encode()),
        ]
        return headers if self.allowed else [*headers, (b"retry-after", str(seconds).encode())]


class TokenBuckets:
    """One bucket per key: `rate` per second, `burst` (`BURST_FACTOR` times the rate) at once; rate 0 means no limit.

    `name` is the policy's in the headers. Of more than `max_keys` the one longest unused is forgotten.
    """

    __slots__ = (
        "_full_at",
        "_unlimited",
        "_whole_s",
        "burst",
        "max_keys",
        "name",
        "rate",
        "window",
    )

    def __init__(self, name: str, rate: float, max_keys: int = MAX_KEYS, burst: int | None = None) -> None:
        self.name = name
        self.rate = rate
        self.burst = burst or max(1, int(rate * BURST_FACTOR))
        self._whole_s = self.burst / rate if rate else 0.0  # that an empty bucket takes to be full
        self.window = max(1, ceil(self._whole_s))
        self.max_keys = max_keys
        self._full_at: OrderedDict[str, float] = OrderedDict()
        self._unlimited = Verdict(True, self.burst, 0.0, name, self.burst, self.window)

    def __len__(self) -> int:
        return len(self._full_at)

    def take(self, key: str, now: float, cost: int = 1) -> Verdict:
        """As `spend`, with all that the bucket then says."""
        wait = self.spend(key, now, cost)
        if not self.rate:
            return self._unlimited
        whole = max(0, int((now - self._full_at[key]) * self.rate + self.burst + 1e-6))
        return Verdict(not wait, whole, wait, self.name, self.burst, self.window)

    def spend(self, key: str, now: float, cost: int = 1) -> float:
        """Take `cost` units from `key`'s bucket; 0, or seconds until they fit. `now`: of a clock that never goes back.

        A refusal takes nothing. A cost above the burst counts as the whole burst: it would never fit otherwise.
        Should the clock go back all the same, nobody waits longer than for an empty bucket.
        """
        if not self.rate:
            return 0.0
        empty = now + self._whole_s
        full_at = self._full_at.get(key, now)
        full_at = now if full_at < now else empty if full_at > empty else full_at
        after = full_at + (cost if cost < self.burst else self.burst) / self.rate
        if after - empty > 1e-9:  # the sum of many 1/rate is off by a few ulp
            self._remember(key, full_at)  # who is refused stays known: a flood of others must not pardon it
            return after - empty
        self._remember(key, after)
        return 0.0

    def _remember(self, key: str, full_at: float) -> None:
        self._full_at[key] = full_at
        self._full_at.move_to_end(key)
        if len(self._full_at) > self.max_keys:
            self._full_at.popitem(last=False)
