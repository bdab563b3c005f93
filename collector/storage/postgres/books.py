"""What couriers keep beside events: what pulls have found, what platforms ask, what is counted of a shop's word.

Whatever one courier alone does is written under its duty, or not at all (`duties.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

from collector.config import Config
from collector.errors import StorageError
from collector.storage.postgres.connecting import Connection
from collector.storage.postgres.duties import Duties
from collector.storage.postgres.insights import PostgresInsights, PostgresWeekly
from collector.storage.postgres.threaded import Threaded
from collector.storage.postgres.told import SQL
from collector.storage.rules.pulled import Found, Pulled
from collector.storage.verbs.requests import COLUMNS, ShopRequest, receipt_of, request_of
from collector.storage.verbs.shop_health import FINE

_SECONDS: Final = 60.0  # that a report's question may take
_WAITING: Final = "SELECT count(*) FROM shop_inbox"
_PUT: Final = "INSERT INTO shop_inbox (store, platform, topic, seen, body) VALUES ($1, $2, $3, $4, $5)"
_PULLED: Final = """
INSERT INTO shop_pull (store, since, watermark, at, fault) VALUES ($1, $2, $3, $4, $5)
    ON CONFLICT (store) DO UPDATE SET watermark = excluded.watermark, at = excluded.at, fault = excluded.fault"""
_HOW_FAR: Final = "SELECT since, watermark, at, fault FROM shop_pull WHERE store = $1"
_REQUESTS: Final = f"SELECT {COLUMNS} FROM shop_request ORDER BY at, id"
# What went before a courier ended in the middle of it was counted as it went.
_FINISH: Final = """
UPDATE shop_request SET asked = $2, done = $3,
       found = CASE WHEN $4::int IS NOT NULL THEN greatest($4, coalesce(found, 0)) END
 WHERE id = $1 AND done IS NULL"""
_STORE: Final = "SELECT id FROM store WHERE name = $1"
_COUNTED: Final = "SELECT coalesce(sum(n), 0)::bigint FROM counter WHERE store = $1 AND name = $2 AND day >= $3"
_MISSED: Final = """
SELECT count(*) FROM shop_order s JOIN store t ON t.id = s.store JOIN shop_pull p ON p.store = t.name
 WHERE s.store = $1 AND s.ts > $2 AND s.ts > p.since + $3 AND s.seen & 3 = 2 AND s.first > s.ts + 900000"""
_TOLD: Final = """
SELECT count(*), max(at), max(conversion) FROM shop_delivery WHERE store = $1 AND conversion IS NOT NULL"""
_PURCHASED: Final = """
SELECT EXISTS (SELECT 1 FROM conversion
                WHERE id > $2 AND store = $1 AND event_type = 'Purchase' AND received > $3)"""
_STOOD: Final = f"""
SELECT count(*), count(*) FILTER (WHERE coalesce(o.state, c.capi) IN ({", ".join(map(str, FINE))})
                                     OR (s.conversion IS NULL AND s.reason IS NOT NULL))
  FROM shop_order s LEFT JOIN conversion c ON c.id = s.conversion AND c.store = s.store
  LEFT JOIN outbox o ON o.conversion = s.conversion AND o.store = s.store
 WHERE s.store = $1 AND s.ts >= $2 AND s.ts < $3"""


class PostgresBooks:
    """Of one courier; asked from any thread."""

    def __init__(self, threaded: Threaded, duties: Duties) -> None:
        self._threaded, self._duties = threaded, duties
        self.inbox = PostgresInbox(threaded, duties)
        self.requests = PostgresRequests(threaded)
        self.shop_figures = ShopFigures(threaded)
        self.weekly = PostgresWeekly(threaded, duties)

    def takes(self, duty: str) -> bool:
        """Whether this courier does it, for as long as it lives: one of all does."""
        return self._duties.take(duty)

    def insights(self, account: str) -> PostgresInsights:
        return PostgresInsights(self._threaded, self._duties, account)

    def asking(self, thread: ThreadPoolExecutor) -> Told:
        return Told(self._threaded, thread)

    def close(self) -> None:
        """The connections are the courier's."""


class Told:
    """What reports ask, in this engine's own words (`told`), from a thread."""

    def __init__(self, threaded: Threaded, thread: ThreadPoolExecutor) -> None:
        self._ask, self._thread = threaded.ask, thread

    async def rows(self, sql: str, *params: object) -> list[tuple[Any, ...]]:
        """Every row of one question; StorageError where it has no words here."""
        if (text := SQL.get(getattr(sql, "name", ""))) is None:
            raise StorageError("a report asks what PostgreSQL has no words for")
        bound = (*getattr(sql, "given", ()), *params)
        asked = partial(self._ask, lambda c: c.fetch(text, *bound), _SECONDS)
        return [tuple(row) for row in await asyncio.get_running_loop().run_in_executor(self._thread, asked)]

    async def one(self, sql: str, *params: object) -> tuple[Any, ...] | None:
        """The first row, or None."""
        found = await self.rows(sql, *params)
        return found[0] if found else None


class PostgresInbox:
    def __init__(self, threaded: Threaded, duties: Duties) -> None:
        self._ask, self._duties = threaded.ask, duties

    def waiting(self) -> int:
        """How many rows nobody has read."""
        return int(self._ask(lambda c: c.fetchval(_WAITING)))

    def put(self, store: str, seen: int, found: Iterable[Found], pulled: Pulled | None = None) -> None:
        """Put orders in and move the watermark, in one transaction, if the shop is still this courier's to pull."""
        rows = [(store, one.platform, one.topic, seen, one.body) for one in found]

        async def write(c: Connection) -> None:
            if pulled is not None:
                await self._duties.require(c, f"pull {store}")
                await c.execute(_PULLED, store, pulled.since, pulled.watermark, pulled.at, pulled.fault)
            await c.executemany(_PUT, rows)

        self._ask(write)

    def pulled(self, store: str) -> Pulled | None:
        """How far the shop was pulled; None: never."""
        row = self._ask(lambda c: c.fetchrow(_HOW_FAR, store))
        return Pulled(*row) if row is not None else None


class PostgresRequests:
    def __init__(self, threaded: Threaded) -> None:
        self._ask = threaded.ask

    def all(self) -> list[ShopRequest]:
        """Every request, the newest last."""
        return [request_of(row) for row in self._ask(lambda c: c.fetch(_REQUESTS))]

    def finish(self, request: ShopRequest, now: int, found: int | None) -> None:
        """Strip a request to its receipt; the first that does it has the last word."""
        self._ask(lambda c: c.execute(_FINISH, request.id, receipt_of(request), now, found))


@contextmanager
def opened_requests(config: Config) -> Iterator[PostgresRequests]:
    """For a command."""
    with Threaded(config.storage, "collector requests") as threaded:
        yield PostgresRequests(threaded)


class ShopFigures:
    """`storage/verbs/shop_health.py: Figures`."""

    def __init__(self, threaded: Threaded) -> None:
        self._ask = threaded.ask

    def number(self, store: str) -> int | None:
        found: int | None = self._value(_STORE, store)
        return found

    def counted(self, name: str, store: int, day: int) -> int:
        return int(self._value(_COUNTED, store, name, day))

    def missed(self, store: int, since: int, first_pull: int) -> int:
        return int(self._value(_MISSED, store, since, first_pull))

    def told(self, store: int) -> tuple[int, int | None, int | None]:
        row = self._ask(lambda c: c.fetchrow(_TOLD, store))
        return row[0], row[1], row[2]

    def purchased(self, store: int, after: int, since: int) -> bool:
        return bool(self._value(_PURCHASED, store, after, since))

    def stood(self, store: int, since: int, until: int) -> tuple[int, int]:
        row = self._ask(lambda c: c.fetchrow(_STOOD, store, since, until))
        return row[0], row[1]

    def _value(self, sql: str, *given: Any) -> Any:
        return self._ask(lambda c: c.fetchval(sql, *given))
