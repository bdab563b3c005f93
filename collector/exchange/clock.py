"""How does a process read the clocks, and what does an event's time of receipt rest on?"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from collector.core import trusted
from collector.core.trusted import TOLERANCE_MS, Mark, Reading

_SET_MS: Final = 1_000  # a clock that is slewed by NTP gains 8 ms in a quarter of a minute
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


def system_ms() -> int:
    """The system's clock."""
    return time.time_ns() // 1_000_000


def boot_ms() -> int:
    """The boot-time clock: nobody sets it, and it runs on while the machine sleeps."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000


def boot_id() -> str:
    """The name of this run of the kernel; empty where it is hidden."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""


class SignOfLife:
    """When a process wrote its last one. Who reads it compares it with the system's clock alone."""

    def __init__(self) -> None:
        self._last: Reading | None = None

    def written(self, at: Reading) -> None:
        self._last = at

    def is_due(self, now: Reading, after_s: float) -> bool:
        """Whether there was none for so long, or the system's clock was set since, by which it looks as old."""
        if self._last is None:
            return True
        passed = now.boot - self._last.boot
        return not 0 <= passed < after_s * 1000 or abs(now.system - self._last.system - passed) >= _SET_MS


class Clock:
    """The clocks as one process asks them, again and again; calling it gives an event's time of receipt (ms).

    Between two refreshes (every few seconds) the system's clock is compared with the boot-time clock alone.
    """

    def __init__(self, system: Callable[[], int] = system_ms, boot: Callable[[], int] = boot_ms) -> None:
        self._system, self._boot = system, boot
        self._boot_id = boot_id()
        # A mark, the reading that it rests on, and a receipt's shift against the system's clock: one value, since one
        # thread takes it and others ask.
        self._basis: tuple[Mark | None, Reading, int] = (None, self.reading(), 0)

    def reading(self) -> Reading:
        """All clocks now."""
        return Reading(self._system(), self._boot(), self._boot_id)

    def take(self, mark: Mark | None) -> None:
        """Rest on this mark; None: on the system's clock, as long as nothing is known."""
        now = self.reading()
        mark = mark and trusted.carried(mark, now)
        self._basis = (mark, now, 0 if mark is None else trusted.receipt(mark, now) - now.system)

    @property
    def mark(self) -> Mark | None:
        """What it rests on, for another process's clock."""
        return self._basis[0]

    def __call__(self) -> int:
        _, base, shift = self._basis
        system, passed = self._system(), self._boot() - base.boot
        if -TOLERANCE_MS < system - base.system - passed < TOLERANCE_MS:
            return system + shift
        return base.system + shift + passed  # the system's clock was set since

    def horizon(self) -> int:
        """What claims to be later than this has a clock that is wrong (C2)."""
        return self.trusted() + TOLERANCE_MS

    def trusted(self) -> int:
        """The now of whatever cannot be undone."""
        now, mark = self.reading(), self._basis[0]
        return now.system if mark is None else trusted.trusted(trusted.carried(mark, now), now)
