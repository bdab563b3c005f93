"""What the courier asks of whichever engine keeps the events: its verbs, and the opening of one (`[storage] engine`).

Every verb is one transaction, asked from a thread that may wait; what passes by itself (a full disk, a lock, a database
that is being failed over) is told by `is_temporary`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec

from collector.config import Config
from collector.core.capi.states import CapiState
from collector.core.insights import Account, AdDay
from collector.core.matching import Model
from collector.core.retention import Cuts
from collector.core.trusted import State
from collector.storage.ground import damage
from collector.storage.ground.acknowledged import COURIER, Ledger
from collector.storage.ground.clock import Kept as SqliteKept
from collector.storage.ground.commits import Commits as SqliteCommits
from collector.storage.ground.database import DATABASE, connect, open_database, prepare_data_dir
from collector.storage.learning import learning
from collector.storage.outbox.dispatch import Outbox as SqliteOutbox
from collector.storage.outbox.insights import InsightBook as SqliteInsights
from collector.storage.outbox.notices import Notices as SqliteNotices
from collector.storage.outbox.upkeep import Upkeep as SqliteUpkeep
from collector.storage.outbox.weekly import WeeklyBook as SqliteWeekly
from collector.storage.reports.questions import Asking, Questions
from collector.storage.rules.insights import Reading
from collector.storage.rules.noticed import Noted
from collector.storage.rules.pulled import Found, Pulled
from collector.storage.rules.sending import Claim, PixelHealth, Report
from collector.storage.shops.health import ShopFigures
from collector.storage.shops.inbox import Inbox as SqliteInbox
from collector.storage.shops.requests import Requests as SqliteRequests
from collector.storage.verbs.requests import Requests
from collector.storage.verbs.shop_health import Figures

_CACHE_MB: Final = 2
OTHERS_S: Final = 15.0  # until it is asked again whether the courier that does something still lives


class Outbox(Protocol):
    """What waits for Meta. Times are ms."""

    @property
    def lease_ms(self) -> int: ...
    def lease(self, now: int) -> dict[str, int]: ...
    def release(self) -> None: ...
    def is_sending(self, pixel: int) -> bool: ...
    def pixels(self) -> dict[str, int]: ...
    def next_due(self, pixel: int) -> int | None: ...
    def first_deadline(self, pixel: int) -> int | None: ...
    def claim_fresh(
        self, pixel: int, limit: int, now: int, lease_ms: int, *, trusted: int | None = None
    ) -> Claim | None: ...
    def claim_backlog(
        self, pixel: int, limit: int, now: int, lease_ms: int, *, trusted: int | None = None
    ) -> Claim | None: ...
    def open_request(
        self, pixel: int, ids: Sequence[int], now: int, lease_ms: int, *, trusted: int
    ) -> Claim | None: ...
    def land(self, ids: Sequence[int]) -> None: ...
    def close_request(self, claim: Claim, report: Report) -> None: ...
    def close_sent(self, claim: Claim, report: Report, now: int) -> None: ...
    def close_rehearsed(self, claim: Claim, now: int) -> None: ...
    def close_again(
        self, claim: Claim, report: Report, now: int, due: int, *, reason: str | None, doubt: bool
    ) -> None: ...
    def close_short(self, claim: Claim, report: Report, now: int) -> int: ...
    def settle(self, ids: Sequence[int], state: CapiState, now: int, *, reason: str | None = None) -> None: ...
    def requeue(self, ids: Sequence[int], due: int, *, reason: str | None, doubt_at: int | None = None) -> None: ...
    def expire(self, pixel: int, now: int, limit: int = 1000) -> int: ...
    def pull_forward(self, pixel: int, now: int, horizon_ms: int) -> int: ...
    def take_over(self, now: int) -> int: ...
    def health(self, pixel: int) -> PixelHealth: ...
    def mark(self, pixel: int, health: PixelHealth) -> None: ...


class Upkeep(Protocol):
    """What is kept in order beside delivery: each verb one slice, 0 where nothing is left."""

    @property
    def wiping(self) -> bool: ...
    def beat(self, process: str, now: int, figures: dict[str, Any]) -> None: ...
    def backlog(self, pixel: int) -> dict[str, int]: ...
    def growth(self, now: int, cut: int) -> int: ...
    def checkpoint(self) -> None: ...
    def wipe_payloads(self, dead_before: int) -> int: ...
    def cut(self, cuts: Cuts) -> int: ...


class Kept(Protocol):
    """The mark of the trusted now."""

    def read(self) -> State | None: ...
    def change(self, change: Callable[[State | None], State]) -> None: ...


class Commits(Protocol):
    """Has anybody committed since it was asked last?"""

    def happened(self) -> bool: ...


class Notices(Protocol):
    """Answers that changed after they were given."""

    def pending(self, now: int, limit: int) -> list[Noted]: ...
    def told(self, these: Iterable[Noted]) -> None: ...
    def drop_all(self) -> None: ...


class Inbox(Protocol):
    """What pulls have found, until an edge has read it."""

    def waiting(self) -> int:
        """How many rows nobody has read."""
        ...

    def put(self, store: str, seen: int, found: Iterable[Found], pulled: Pulled | None = None) -> None:
        """Put orders in and move the watermark, in one transaction."""
        ...

    def pulled(self, store: str) -> Pulled | None:
        """How far the shop was pulled; None: never."""
        ...


class InsightBook(Protocol):
    """One ad account's figures. A reading is numbered."""

    def state(self) -> Reading:
        """How the last readings went."""
        ...

    def account(self) -> Account:
        """The account's currency and zone, as they were last told."""
        ...

    def begin(self) -> int:
        """The number of a new reading."""
        ...

    def put(self, reading: int, rows: Sequence[AdDay]) -> None:
        """A page's rows, in one transaction."""
        ...

    def done(
        self, reading: int, account: Account, days: tuple[date, date], now: int, *, unread: int, keep_days: int
    ) -> None:
        """The reading is whole: its days say what Meta says now, and what is older than `keep_days` goes."""
        ...

    def failed(self, fault: str, now: int) -> None:
        """The account could not be read; its figures stay."""
        ...


class WeeklyBook(Protocol):
    """Which week's report has gone out by which way; `due` in ms."""

    def claim(self, due: int, channel: str, now: int) -> bool:
        """Whether nobody has sent it yet; from now on somebody has."""
        ...

    def sent(self, due: int, channel: str) -> None:
        """It was taken."""
        ...

    def release(self, due: int, channel: str) -> None:
        """It was not, and may be tried again."""
        ...

    def unknown(self) -> list[str]:
        """The ways of which nobody knows whether a former courier's report arrived; told once."""
        ...


class Books(Protocol):
    """What is kept for the work beside events, each for a thread of its own, open until `close`."""

    @property
    def inbox(self) -> Inbox: ...
    @property
    def requests(self) -> Requests: ...
    @property
    def shop_figures(self) -> Figures: ...
    @property
    def weekly(self) -> WeeklyBook: ...
    def insights(self, account: str) -> InsightBook: ...
    def asking(self, thread: ThreadPoolExecutor) -> Questions:
        """What reports are asked of, from this thread."""
        ...

    def takes(self, duty: str) -> bool:
        """Whether this courier does it, from now until it ends: one of all does."""
        ...

    def close(self) -> None: ...


class Side(Protocol):
    """A courier's side of an engine, open until `close`: the outbox for one thread, upkeep and notices for another."""

    @property
    def outbox(self) -> Outbox: ...
    @property
    def upkeep(self) -> Upkeep: ...
    @property
    def kept(self) -> Kept: ...
    @property
    def commits(self) -> Commits: ...
    @property
    def notices(self) -> Notices: ...
    def night(self, now: int) -> dict[str, Model]: ...
    def loss(self) -> str | None: ...
    def books(self) -> Books: ...
    def close(self) -> None: ...


class SqliteSide:
    """Connections of the courier's own to the file in the data directory."""

    def __init__(self, config: Config) -> None:
        self._config = config
        folder = Path(config.storage.data_dir)
        self._db = open_database(config.storage)
        self._ledger = ledger = Ledger(folder, COURIER)  # a settling that the log loses is noticed too
        ledger.attach(self._db, lambda _: ledger.note(0, 0))
        self._spare = connect(folder / DATABASE, config.storage)
        self.commits = SqliteCommits(connect(folder / DATABASE, config.storage))
        self.outbox = SqliteOutbox(self._db, owner=f"courier-{os.getpid()}")
        self.upkeep = SqliteUpkeep(self._spare)
        self.kept = SqliteKept(self._spare)
        self.notices = SqliteNotices(self._spare, config)

    def close(self) -> None:
        """Close every connection."""
        self.commits.close()
        self._spare.close()
        self._db.close()
        self._ledger.close()

    def night(self, now: int) -> dict[str, Model]:
        """What a day has taught, once a day."""
        return learning.night_if_due(self._spare, self._config, now)

    def books(self) -> Books:
        """On a connection of their own."""
        return SqliteBooks(self._config)

    def loss(self) -> str | None:
        """The sentence of a loss that nobody has accepted yet."""
        return damage.told(Path(self._config.storage.data_dir))


class SqliteBooks:
    """Over one connection."""

    def __init__(self, config: Config) -> None:
        storage = msgspec.structs.replace(config.storage, cache_mb=_CACHE_MB)
        self._db = db = connect(Path(storage.data_dir) / DATABASE, storage)
        self.inbox, self.requests, self.shop_figures = SqliteInbox(db), SqliteRequests(db), ShopFigures(db)
        self.weekly = SqliteWeekly(db)

    def insights(self, account: str) -> SqliteInsights:
        return SqliteInsights(self._db, account)

    def asking(self, thread: ThreadPoolExecutor) -> Asking:
        return Asking(lambda sql, params: self._db.execute(sql, params).fetchall(), thread)

    def takes(self, duty: str) -> bool:
        """Always: there is one courier."""
        return True

    def close(self) -> None:
        self._db.close()


def is_alone(config: Config) -> bool:
    """Whether one courier at a time may work on it."""
    return config.storage.engine == "sqlite"


def opened(config: Config) -> Side:
    """The courier's side of the engine that is configured."""
    if config.storage.engine == "postgres":
        from collector.storage.postgres.delivering import PostgresSide

        prepare_data_dir(config.storage)
        return PostgresSide(config)
    return SqliteSide(config)
