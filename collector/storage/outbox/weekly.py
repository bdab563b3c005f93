"""Which week's report has gone out by which way: claimed before it is sent, taken back where it could not be."""

from __future__ import annotations

from typing import Final, cast

import apsw

_KEPT_MS: Final = 90 * 86_400_000


class WeeklyBook:
    """Over a connection of its thread's own."""

    def __init__(self, db: apsw.Connection) -> None:
        self._db = db

    def claim(self, due: int, channel: str, now: int) -> bool:
        """Whether nobody has sent it yet; from now on somebody has."""
        self._db.execute("DELETE FROM weekly_sent WHERE due < ?", (due - _KEPT_MS,))
        sql = "INSERT INTO weekly_sent VALUES (?, ?, ?, 0) ON CONFLICT DO NOTHING"
        self._db.execute(sql, (due, channel, now))
        return self._db.changes() > 0

    def sent(self, due: int, channel: str) -> None:
        """It was taken."""
        self._db.execute("UPDATE weekly_sent SET done = 1 WHERE due = ? AND channel = ?", (due, channel))

    def release(self, due: int, channel: str) -> None:
        """It was not, and may be tried again."""
        self._db.execute("DELETE FROM weekly_sent WHERE due = ? AND channel = ?", (due, channel))

    def unknown(self) -> list[str]:
        """The ways of which nobody knows whether a former courier's report arrived; told once."""
        rows = self._db.execute("UPDATE weekly_sent SET done = 1 WHERE done = 0 RETURNING channel").fetchall()
        return [cast(str, channel) for (channel,) in rows]
