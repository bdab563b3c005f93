"""What the ad account said and which week's report has gone out (as `storage/outbox/insights.py` and `weekly.py`)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any, Final

from collector.core.insights import Account, AdDay, day_number
from collector.storage.postgres.connecting import Connection
from collector.storage.postgres.duties import Duties
from collector.storage.postgres.threaded import Threaded
from collector.storage.rules.insights import Reading

INSIGHTS: Final = "insights"
WEEKLY: Final = "weekly"
_KEPT_MS: Final = 90 * 86_400_000
_ROW: Final = """
INSERT INTO insight (account, day, ad, currency, reading, spend, impressions, clicks, link_clicks, purchases,
                     purchase_units) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
    ON CONFLICT (account, day, ad, currency) DO UPDATE SET reading = excluded.reading, spend = excluded.spend,
       impressions = excluded.impressions, clicks = excluded.clicks, link_clicks = excluded.link_clicks,
       purchases = excluded.purchases, purchase_units = excluded.purchase_units"""
_AD: Final = """
INSERT INTO insight_ad (account, ad, ad_name, adset, adset_name, campaign, campaign_name)
VALUES ($1, $2, $3, $4, $5, $6, $7)
    ON CONFLICT (account, ad) DO UPDATE SET ad_name = excluded.ad_name, adset = excluded.adset,
       adset_name = excluded.adset_name, campaign = excluded.campaign, campaign_name = excluded.campaign_name"""
_BEGIN: Final = """
INSERT INTO insight_account AS a (account, reading, unread) VALUES ($1, 1, 0)
    ON CONFLICT (account) DO UPDATE SET reading = a.reading + 1 RETURNING reading"""
_GONE: Final = "DELETE FROM insight WHERE account = $1 AND day BETWEEN $2 AND $3 AND reading <> $4"
_OLD: Final = "DELETE FROM insight WHERE account = $1 AND day < $2"
_DONE: Final = """
UPDATE insight_account SET currency = $2, timezone = $3,
       since = CASE WHEN until >= $4::int - 1 THEN least(since, $4) ELSE $4 END,
       until = $5, at = $6, unread = $7, fault = NULL, fault_at = NULL WHERE account = $1"""
_FAILED: Final = "UPDATE insight_account SET fault = $2, fault_at = coalesce(fault_at, $3) WHERE account = $1"
_STATE: Final = "SELECT at, fault, fault_at FROM insight_account WHERE account = $1"
_ACCOUNT: Final = "SELECT currency, timezone FROM insight_account WHERE account = $1"
_FORGET: Final = "DELETE FROM weekly_sent WHERE due < $1"
_CLAIM: Final = "INSERT INTO weekly_sent (due, channel, at, done) VALUES ($1, $2, $3, 0) ON CONFLICT DO NOTHING"
_SENT: Final = "UPDATE weekly_sent SET done = 1 WHERE due = $1 AND channel = $2"
_RELEASE: Final = "DELETE FROM weekly_sent WHERE due = $1 AND channel = $2"
_UNKNOWN: Final = "UPDATE weekly_sent SET done = 1 WHERE done = 0 RETURNING channel"


class _Written:
    """What is written only while the duty is ours."""

    def __init__(self, threaded: Threaded, duties: Duties, duty: str) -> None:
        self._ask, self._duties, self._duty = threaded.ask, duties, duty

    async def _require(self, c: Connection) -> None:
        await self._duties.require(c, self._duty)

    def _execute(self, sql: str, *given: Any) -> str:
        async def write(c: Connection) -> str:
            await self._require(c)
            return str(await c.execute(sql, *given))

        return self._ask(write)


class PostgresInsights(_Written):
    """One ad account's figures."""

    def __init__(self, threaded: Threaded, duties: Duties, account: str) -> None:
        super().__init__(threaded, duties, INSIGHTS)
        self._account = account

    def state(self) -> Reading:
        """How the last readings went."""
        row = self._ask(lambda c: c.fetchrow(_STATE, self._account))
        return Reading(*row) if row is not None else Reading()

    def account(self) -> Account:
        """The account's currency and zone, as they were last told."""
        row = self._ask(lambda c: c.fetchrow(_ACCOUNT, self._account))
        return Account(*row) if row is not None else Account(None, None)

    def begin(self) -> int:
        """The number of a new reading."""

        async def write(c: Connection) -> int:
            await self._require(c)
            return int(await c.fetchval(_BEGIN, self._account))

        return self._ask(write)

    def put(self, reading: int, rows: Sequence[AdDay]) -> None:
        """A page's rows, in one transaction."""
        ads = {row.ad.ad: (self._account, *map(_storable, row.ad)) for row in rows}
        days = [
            (self._account, row.day, _storable(row.ad.ad), _storable(row.currency), reading, *row[3:]) for row in rows
        ]

        async def write(c: Connection) -> None:
            await self._require(c)
            await c.executemany(_AD, list(ads.values()))
            await c.executemany(_ROW, days)

        self._ask(write)

    def done(
        self, reading: int, account: Account, days: tuple[date, date], now: int, *, unread: int, keep_days: int
    ) -> None:
        """The reading is whole: its days say what Meta says now, and what is older than `keep_days` goes."""
        since, until = (day_number(day) for day in days)

        async def write(c: Connection) -> None:
            await self._require(c)
            await c.execute(_GONE, self._account, since, until, reading)
            await c.execute(_OLD, self._account, until - keep_days)
            await c.execute(_DONE, self._account, *account, since, until, now, unread)

        self._ask(write)

    def failed(self, fault: str, now: int) -> None:
        """The account could not be read; its figures stay."""
        self._execute(_FAILED, self._account, _storable(fault), now)


def _storable(text: str) -> str:
    """PostgreSQL's text holds no NUL and no half of a character."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


class PostgresWeekly(_Written):
    """Which week's report has gone out by which way."""

    def __init__(self, threaded: Threaded, duties: Duties) -> None:
        super().__init__(threaded, duties, WEEKLY)

    def claim(self, due: int, channel: str, now: int) -> bool:
        """Whether nobody has sent it yet; from now on somebody has."""
        self._execute(_FORGET, due - _KEPT_MS)
        return self._execute(_CLAIM, due, channel, now) == "INSERT 0 1"

    def sent(self, due: int, channel: str) -> None:
        """It was taken."""
        self._execute(_SENT, due, channel)

    def release(self, due: int, channel: str) -> None:
        """It was not, and may be tried again."""
        self._execute(_RELEASE, due, channel)

    def unknown(self) -> list[str]:
        """The ways of which nobody knows whether a former courier's report arrived; told once."""

        async def write(c: Connection) -> list[str]:
            await self._require(c)
            return [row["channel"] for row in await c.fetch(_UNKNOWN)]

        return self._ask(write)
