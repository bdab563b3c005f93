"""The journal in this process, driven as the keeper drives it: bodies in, results out, a clock that the test owns."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from collector.config import Config, MatchingConfig, MetaConfig, PixelConfig, StorageConfig, StoreConfig
from collector.core.consent import Decision
from collector.core.events import ClickBody, ConversionBody
from collector.core.intake import Caller, check_click, check_event
from collector.errors import ApiError
from collector.exchange import clicks, naming
from collector.exchange.clock import Clock
from collector.exchange.operations import Submission
from collector.exchange.states import EventState
from collector.storage.journal.journal import Journal
from collector.storage.journal.reader import Reader

NOW = 1_790_000_000_000  # 2026-09-21T14:13:20Z
STORE = "store_abc123"
PIXEL = "123456789012345"
SERVER = Caller(secret=True)
GRANTED = Decision("granted", False)
MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000


def config_for(folder: Path, **matching: Any) -> Config:
    pixel = PixelConfig(id=PIXEL, access_token="token")
    return Config(
        storage=StorageConfig(data_dir=str(folder), reserve_mb=1, cache_mb=4),
        meta=MetaConfig(graph_url="http://127.0.0.1:9"),
        matching=MatchingConfig(**matching),
        store=[StoreConfig(id=STORE, domains=["mystore.com"], currency="USD", country="US", pixel=[pixel])],
    )


def click(fbclid: str, at: int = NOW, **more: Any) -> dict[str, Any]:
    """A click's body; `at` in ms."""
    return {"fbclid": fbclid, "storeId": STORE, "landingPage": "https://mystore.com/p?utm=a", "at": at, **more}


def order(order_id: str, at: int = NOW, **more: Any) -> dict[str, Any]:
    """A Purchase's body; `at` in ms."""
    amount = {"eventValue": 9.5, "currency": "USD"}
    return {"storeId": STORE, "eventType": "Purchase", "orderId": order_id, "at": at, **amount, **more}


class KitClock(Clock):
    """Stands where the kit's `now` stands, and lets a test tell events long before their time."""

    def horizon(self) -> int:
        return self() + 3_650 * DAY


class Kit:
    """The keeper's journal over a folder. `now` is its clock."""

    def __init__(
        self, folder: Path, now: int = NOW, config: Config | None = None, clock: type[Clock] = KitClock
    ) -> None:
        self.config = config or config_for(folder)
        self.now = now
        self.ended = False
        self.journal = Journal(self.config, clock(lambda: self.now, lambda: self.now))
        self.journal.start()
        self.reader = Reader(self.journal.data_dir, self.config.storage)

    def __enter__(self) -> Kit:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.reader.close()
        self.journal.close()

    @property
    def transaction(self) -> Any:
        """The writer's side, for looking and for planting faults; do not touch it while a submission is under way."""
        return self.journal._transaction

    def operation(self, body: dict[str, Any], caller: Caller = SERVER, decision: Decision = GRANTED) -> Any:
        """What the edge makes of a body."""
        body = dict(body)
        at = body.pop("at", None)
        kind = ClickBody if "fbclid" in body and "eventType" not in body else ConversionBody
        decoded = msgspec.convert(body, kind, strict=False)
        store = self.journal.stores[decoded.store_id]
        names = self.journal.names
        if isinstance(decoded, ClickBody):
            checked = check_click(decoded, caller, decision, self.now, None)
            checked.ts = at or checked.ts
            return clicks.prepare(names, store.number, checked, self.config.privacy.store_ip)
        event = check_event(decoded, caller, decision, self.now, None, store.config.country)
        event.event.ts = at or event.event.ts
        rule = self.config.privacy.store_ip
        return naming.prepare(names, self.journal.public, store, event, rule, caller.address)

    def submit(self, operations: Sequence[Any]) -> list[Any]:
        """The results of one submission, as its edge gets them."""
        (results,) = self.submit_together([operations])
        if isinstance(results, Exception):
            raise results
        return list(results)

    def submit_together(self, submissions: Sequence[Sequence[Any]]) -> list[Any]:
        """Several requests' submissions that wait at the same moment; an exception is its submission's result."""
        waiting = deque(Submission(operations) for operations in submissions)
        answered: list[Submission] = []
        while waiting:
            answered += self.journal.commit(waiting)
        if not self.journal.distrusted:
            if self.transaction.new_rows.waited:
                self.transaction.new_rows._since = 0.0  # so long ago that they are due
            self.journal.rest()
            self.match_again()
        if self.journal.distrusted:
            self.give_up()
        return [submission.results for submission in answered]

    def match_again(self) -> None:
        """All that is re-opened is matched now, for which no answer waits; without the rests between the steps."""
        while self.transaction.late.reopened and not self.journal.distrusted:
            self.transaction._last_matches_at = 0.0
            self.journal.rest()

    def give_up(self) -> None:
        """What the keeper's process does once it may acknowledge nothing more: it ends, and here this is noted."""
        self.ended = True

    def post(self, *bodies: dict[str, Any]) -> list[Any]:
        """One request per body, one after the other; ApiErrors are results."""
        results = []
        for body in bodies:
            try:
                results += self.submit([self.operation(body)])
            except ApiError as error:
                results.append(error)
        return results

    def state(self, row_id: int) -> EventState:
        """A conversion as the GET shows it."""
        found = self.reader.conversion(row_id)
        assert found is not None
        return found[0]

    def rows(self, sql: str, *bind: Any) -> list[Any]:
        return self.reader._db.execute(sql, bind).fetchall()

    def execute(self, sql: str, *bind: Any) -> None:
        """What somebody else has written."""
        self.transaction._db.execute(sql, bind)

    def fold(self) -> None:
        """Fold everything now, as the folder does in large steps, and let the writer see it."""
        from collector.storage.index import index

        db = index.open_index(self.journal.data_dir, self.config.storage)
        try:
            index.follow(db)
            for table in (index.CLICKS, index.CONVERSIONS):
                while index.watermark(db, table) != index.fold(db, table, 20_000):
                    pass
        finally:
            db.close()
        self.transaction.folded.set()
        self.journal.rest()
