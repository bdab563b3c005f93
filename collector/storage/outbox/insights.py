"""What the ad account said, written down page by page: the courier's, over a connection of its own.

A reading is numbered. Its rows replace those of the same day and ad as they come; once it is whole, what it did not
bring again of its days goes, and the days count as known. One that is cut off leaves every row true as of some reading.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Final, cast

import apsw

from collector.core.insights import Account, AdDay, day_number
from collector.storage.ground.database import immediate
from collector.storage.rules.insights import Reading

_ROW: Final = """
INSERT INTO insight (account, day, ad, currency, reading, spend, impressions, clicks, link_clicks, purchases,
                     purchase_units) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT DO UPDATE SET reading = excluded.reading, spend = excluded.spend, impressions = excluded.impressions,
       clicks = excluded.clicks, link_clicks = excluded.link_clicks, purchases = excluded.purchases,
       purchase_units = excluded.purchase_units"""
_AD: Final = "INSERT OR REPLACE INTO insight_ad VALUES (?, ?, ?, ?, ?, ?, ?)"
_BEGIN: Final = """
INSERT INTO insight_account (account, reading, unread) VALUES (?, 1, 0)
    ON CONFLICT DO UPDATE SET reading = reading + 1 RETURNING reading"""
_DONE: Final = """
UPDATE insight_account SET currency = ?, timezone = ?, since = CASE WHEN until >= ? - 1 THEN min(since, ?) ELSE ? END,
       until = ?, at = ?, unread = ?, fault = NULL, fault_at = NULL WHERE account = ?"""
_FAILED: Final = "UPDATE insight_account SET fault = ?, fault_at = coalesce(fault_at, ?) WHERE account = ?"
_STATE: Final = "SELECT at, fault, fault_at FROM insight_account WHERE account = ?"


class InsightBook:
    """One ad account's figures."""

    def __init__(self, db: apsw.Connection, account: str) -> None:
        self._db, self._account = db, account

    def state(self) -> Reading:
        """How the last readings went."""
        row = self._db.execute(_STATE, (self._account,)).fetchone()
        return Reading(*cast("tuple[int | None, str | None, int | None]", row)) if row else Reading()

    def account(self) -> Account:
        """The account's currency and zone, as they were last told."""
        row = self._db.execute("SELECT currency, timezone FROM insight_account WHERE account = ?", (self._account,))
        return Account(*cast("tuple[str | None, str | None]", row.fetchone() or (None, None)))

    def begin(self) -> int:
        """The number of a new reading."""
        return cast(int, self._db.execute(_BEGIN, (self._account,)).get)

    def put(self, reading: int, rows: Sequence[AdDay]) -> None:
        """A page's rows, in one transaction."""
        with immediate(self._db):
            self._db.executemany(_AD, {row.ad.ad: (self._account, *row.ad) for row in rows}.values())
            self._db.executemany(
                _ROW, [(self._account, row.day, row.ad.ad, row.currency, reading, *row[3:]) for row in rows]
            )

    def done(
        self, reading: int, account: Account, days: tuple[date, date], now: int, *, unread: int, keep_days: int
    ) -> None:
        """The reading is whole: its days say what Meta says now, and what is older than `keep_days` goes."""
        since, until = (day_number(day) for day in days)
        with immediate(self._db):
            gone = "DELETE FROM insight WHERE account = ? AND day BETWEEN ? AND ? AND reading <> ?"
            self._db.execute(gone, (self._account, since, until, reading))
            self._db.execute("DELETE FROM insight WHERE account = ? AND day < ?", (self._account, until - keep_days))
            self._db.execute(_DONE, (*account, since, since, since, until, now, unread, self._account))

    def failed(self, fault: str, now: int) -> None:
        """The account could not be read; its figures stay."""
        self._db.execute(_FAILED, (fault, now, self._account))
