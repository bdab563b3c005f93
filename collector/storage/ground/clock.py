"""Where is the mark kept that the trusted now rests on (core/trusted.py), and how does a process read the clocks?

One row, written by the courier every few seconds and by `collector clock accept`; read by every process.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, cast

import apsw
import msgspec

from collector.core import trusted
from collector.core.trusted import Reading, State
from collector.exchange.clock import Clock
from collector.storage.ground.database import immediate

_READ: Final = "SELECT body FROM clock WHERE id = 1"
_WRITE: Final = "INSERT INTO clock VALUES (1, ?) ON CONFLICT DO UPDATE SET body = excluded.body"


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
        self.change(lambda before: trusted.acceptance(before, now))


def refresh(clock: Clock, db: apsw.Connection) -> None:
    """Have a process's clock rest on what the courier has kept."""
    state = Kept(db).read()
    clock.take(None if state is None else state.mark)
