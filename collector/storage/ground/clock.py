"""Where is the mark kept that the trusted now rests on (core/trusted.py), and how does a process read the clocks?

One row, written by the courier every few seconds and by `collector clock accept`; read by every process.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, cast

import apsw
import msgspec

from collector.core import trusted
from collector.core.trusted import TOLERANCE_MS, Mark, Reading, State
from collector.storage.ground.database import immediate

_READ: Final = "SELECT body FROM clock WHERE id = 1"
_WRITE: Final = "INSERT INTO clock VALUES (1, ?) ON CONFLICT DO UPDATE SET body = excluded.body"
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


class Kept:
    """The row, over one connection."""

    def __init__(self, db: apsw.Connection) -> None:
        self._db = db

    def read(self) -> State | None:
        """What is kept; None in a database that has not been delivered from yet."""
        body = cast("bytes | None", self._db.execute(_READ).get)
        return msgspec.json.decode(body, type=State) if body is not None else None

    def change(self, change: Callable[[State | None], State]) -> None:
        """Keep what `change` makes of it, in one transaction."""
        with immediate(self._db):
            self._db.execute(_WRITE, (msgspec.json.encode(change(self.read())),))

    def accept(self, now: Reading) -> None:
        """A person says that the system's clock is right; a running collector sees it within seconds."""
        mark = trusted.accepted(now)
        self.change(lambda before: State(mark, now.system, acceptances=before.acceptances + 1 if before else 1))


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

    def refresh(self, db: apsw.Connection) -> None:
        """Look at what the courier has kept."""
        state = Kept(db).read()
        self.take(None if state is None else state.mark)

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
