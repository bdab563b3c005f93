"""Has anybody committed? On a connection of its own: asking waits for no other question, and costs two microseconds."""

from __future__ import annotations

from typing import cast

import apsw


class Commits:
    """Not for several threads. `db` is closed with it."""

    def __init__(self, db: apsw.Connection) -> None:
        self._db = db
        self._seen = -1

    def happened(self) -> bool:
        """Whether another connection has committed since the last call; True for the first."""
        version = int(cast(int, self._db.pragma("data_version")))
        seen, self._seen = self._seen, version
        return version != seen

    def close(self) -> None:
        self._db.close()
