"""Whether the disk has room: a full one refuses posts, and recovers by itself."""

from __future__ import annotations

import time
from pathlib import Path

from collector import telemetry
from collector.config import Config
from collector.storage.ground.database import Ballast

log = telemetry.logger("storage")

_CHECK_S = 0.25


class Space:
    """Whether the disk has room; keeps a reserve so that the mend of a full disk is possible."""

    def __init__(self, data_dir: Path, config: Config) -> None:
        self._ballast = Ballast(data_dir, config.storage)
        self._checked = 0.0
        self.refusing = False
        self._ballast.keep()

    def check(self) -> None:
        if time.monotonic() - self._checked < _CHECK_S:
            return
        self._checked = time.monotonic()
        if self.refusing:
            self.refusing = not self._ballast.regained()
        elif self._ballast.low():
            log.error("the disk is nearly full: refusing posts")
            self.refusing = True

    def low(self) -> bool:
        """Whether posts are refused, or ought to be."""
        return self.refusing or self._ballast.low()

    def full(self) -> None:
        """The disk refused a write: refuse posts and free the ballast."""
        log.error("the disk is full: refusing posts")
        self.refusing = True
        self._ballast.release()
