"""How has a pixel fared lately, and when may it be asked again? Holds the values of core/retry.py for one queue.

Every moment here is of a clock that only runs (ms): one that is set, forward or back, shortens and lengthens no wait.
"""

from __future__ import annotations

from collections import deque

from collector.core.capi.verdicts import Kind, Verdict
from collector.core.retry import Backoff, Breaker, Pace, after_fault, after_success, recovered, slowed

# No wait of ours is longer: Retry-After counts up to an hour, and a tenth of jitter. A longer one is a clock set back.
LONGEST_MS = 2 * 3_600_000
_RATE_WINDOW_MS = 10_000
# Events a second that one connection reaches at Meta's usual 600 ms; a quiet shop's own rate says nothing about limits.
_ASSUMED_RATE = 1_600.0


class Pacing:
    """A pixel's breaker and pace."""

    def __init__(self, terms: Backoff) -> None:
        self._terms = terms
        self.breaker = Breaker()
        self.pace = Pace()
        self._paced_until = 0
        self._sent: deque[tuple[int, int]] = deque()
        self._told: str | None = None

    def closed_for(self, now: int) -> int:
        """Milliseconds until the next request may go out."""
        return max(0, self.breaker.until - now, self._paced_until - now)

    def fault(self, verdict: Verdict, now: int, dice: float) -> str | None:
        """Take note of a failed request; the pixel's new state when a person should hear of it."""
        asked = self._terms.cap_ms if verdict.slow else verdict.wait_ms
        self.breaker = after_fault(self.breaker, now, dice, self._terms, asked_ms=asked)
        if verdict.kind is Kind.THROTTLED:
            self.pace = slowed(self.pace, self._rate(now), now)
        state = "failing" if self.breaker.open else "throttled" if verdict.kind is Kind.THROTTLED else None
        if state is None or state == self._told:
            return None
        self._told = state
        return state

    def success(self, now: int, events: int) -> bool:
        """Take note of an answer; True when it ends a state that `fault` gave. The pace outlasts it."""
        told, self._told = self._told, None
        self.breaker = after_success(self.breaker)
        self.pace = recovered(self.pace, now)
        self._sent.append((now, events))
        self._forget_before(now - _RATE_WINDOW_MS)
        if self.pace.per_second is not None:
            self._paced_until = now + int(events / self.pace.per_second * 1000)
        return told is not None

    def forget(self) -> None:
        """Start anew."""
        self.breaker, self.pace, self._paced_until, self._told = Breaker(), Pace(), 0, None

    def _rate(self, now: int) -> float:
        self._forget_before(now - _RATE_WINDOW_MS)
        return max(_ASSUMED_RATE, sum(n for _, n in self._sent) / (_RATE_WINDOW_MS / 1000))

    def _forget_before(self, moment: int) -> None:
        while self._sent and self._sent[0][0] < moment:
            self._sent.popleft()
