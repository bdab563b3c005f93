"""When is a queue that waits for a person tried again? After 1, 2, 4 … 30 minutes, and at once when asked to (D4)."""

from __future__ import annotations

from collector.core.retry import probe_wait_ms


class Block:
    """Whether a queue is blocked, since when, and how long until its next probe; in ms of a clock that only runs."""

    def __init__(self) -> None:
        self.on = False
        self._tried_since = 0
        self._probe_at = 0
        self._asked = False  # since the last probe went out

    def put(self, now: int) -> int:
        """The queue is blocked, or still is after a probe; how long until the next probe."""
        if not self.on:
            self.on, self._tried_since = True, now
        wait = 0 if self._asked else probe_wait_ms(now - self._tried_since)
        self._probe_at = now + wait
        return wait

    def try_now(self, now: int) -> None:
        """Something may have been mended: the next probe is due, and the waits begin anew."""
        self._asked = True
        self._tried_since = self._probe_at = now

    def probing(self) -> None:
        """A probe goes out; whoever asks from now on wants another one."""
        self._asked = False

    def lift(self) -> None:
        """The queue moves again."""
        self.on = False

    def closed_for(self, now: int) -> int:
        """Milliseconds until the next probe."""
        return max(0, self._probe_at - now)
