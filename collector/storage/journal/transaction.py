"""The writer's side of the journal: what each operation does inside the open transaction of its group."""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any

import apsw
import msgspec

from collector import telemetry
from collector.config import Config
from collector.core.ids import PublicIds
from collector.core.keyed import KeyedHash
from collector.errors import ApiError, StorageError
from collector.exchange.clicks import ClickResult, NewClick
from collector.exchange.clock import Clock, SignOfLife
from collector.exchange.keys import ApiKey
from collector.exchange.naming import NewEvent
from collector.exchange.operations import Again, Answered, Once, Operation, Remember, Reworded, ShopTold, Withdraw
from collector.exchange.stores import Store
from collector.storage.ground import clock as clocks
from collector.storage.ground import damage, database, kept, keys
from collector.storage.ground.acknowledged import Ledger
from collector.storage.ground.commits import Commits
from collector.storage.ground.space import Space
from collector.storage.index import index
from collector.storage.index.lookup import Lookup
from collector.storage.journal.answers import Answers
from collector.storage.journal.clicks import Clicks
from collector.storage.journal.late import Late
from collector.storage.journal.parts import parts_of
from collector.storage.journal.refusals import Refusals
from collector.storage.journal.shops import Shops
from collector.storage.journal.tellings import Tellings
from collector.storage.learning import models
from collector.storage.outbox.outbox import Bound
from collector.storage.people.erased import Erased
from collector.storage.rules.counted import QUARTER_MS
from collector.storage.rules.erased import or_raise
from collector.storage.rules.tables import CLICKS, CONVERSIONS
from collector.storage.verbs.conversions import Conversions
from collector.storage.verbs.queueing import Figures
from collector.storage.verbs.relations import Relations
from collector.storage.verbs.remembered import recall
from collector.storage.verbs.withdrawals import Withdrawals

log = telemetry.logger("storage")

FOLD_ROWS = 10_000  # fold each second when the tail has so many: smaller steps cost more per row
FOLD_AT_ONCE = 50_000  # fold now, in one step: a row costs a quarter less than at 10,000; more only takes memory
_REFUSED = ("refused.", "refused_item.")  # requests, and items of batches
_KEYS_CHECK_S = 1.0
_MODELS_CHECK_S = 60.0
_DAY_MS = 86_400_000
_BEAT_S = 5.0
_CALM_BEAT_S = 15.0  # where there is nothing new to say
_COUNT_S = 0.25  # that a new row is in no sum
_LAST_MATCHES = 16  # per step: 5 ms, which somebody may wait for
_REST = 9  # times a step's length
_COUNT = "INSERT INTO counter VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET n = n + excluded.n"
_TOTAL = "INSERT INTO total VALUES (?, ?) ON CONFLICT DO UPDATE SET n = n + excluded.n"
_REFUSAL = "INSERT INTO refusal_sum VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET n = n + excluded.n"


class GroupTransaction:
    """The writer's side: begins, applies, commits; notices a full disk and revoked keys between groups."""

    def __init__(
        self,
        db: apsw.Connection,
        config: Config,
        data_dir: Path,
        names: KeyedHash,
        known: Mapping[str, Store],
        ledger: Ledger,
        clock: Clock,
    ) -> None:
        self._db = db
        self._clock = clock
        self._ledger = ledger
        self._data_dir = data_dir
        self._config = config.storage
        self._lost: str | None = damage.told(data_dir)
        self._harm: str | None = None
        self._now = 0
        self.lookup = Lookup(db, data_dir, config.storage, clock.horizon())
        self.new_rows = kept.NewRows(db)
        self.clicks = Clicks(db, self.lookup, config.matching.click_days * _DAY_MS, self.new_rows)
        self.clicks.learn(self.lookup.clicks.names_of("fbclid"))
        self.figures: Figures = deque(maxlen=100_000)  # daily figures to add one to
        self.daily: Counter[tuple[int, str]] = Counter()  # those, and the edges', that are not in the database yet
        self.grown: Counter[str] = Counter()  # likewise of the installation's running figures
        self.refusals = Refusals()
        numbered = self._numbered = {store.number: store for store in known.values()}
        self.tellings = Tellings(db)
        self._outbox = Bound(db)
        parts = parts_of(db, names, self.lookup, self.clicks, self.figures, self.tellings, self.new_rows, self._outbox)
        self.conversions = Conversions(names, parts, self.figures)
        self.answers = Answers(db, PublicIds(names.subkey("public ids")))
        relations = Relations(parts, self.conversions)
        self.late = Late(db, names, self.lookup, self.conversions, self.clicks, relations, numbered)
        self.withdrawals = Withdrawals(parts, self.conversions, self.late.rematch, numbered)
        self.erased = Erased(db)
        self.erased.refresh()
        self.shops = Shops(db, self.conversions, self.late, self.erased, self._heed_erasures)
        self.make_way: Callable[[], None] = lambda: None  # waits while the log is too long for another group
        self.oldest_reader: Callable[[], float] = float  # seconds, of readers that hold up the log
        self.keys: dict[bytes, ApiKey] = {}
        self._keys_at = self._beat_at = self._last_matches_at = 0.0
        self._others = Commits(db)
        self._behind = True  # another process has written what is not learnt yet
        self.inbox = 0  # how often another process was seen to have written while orders waited in the shops' inbox
        self._models_at = time.monotonic()
        self._space = Space(data_dir, config)
        self._committed = dict(self.lookup.last)
        ledger.note(self._committed[CLICKS], self._committed[CONVERSIONS])
        self.distrusted = False
        self.folded = threading.Event()
        self.learned: list[Sequence[int]] = []  # names for the duplicate filter, from the folder's thread
        self.all_learned = threading.Event()
        self.wants_fold = threading.Event()
        self._sign = SignOfLife()
        self._life: dict[str, int | bool] = {}  # as it was written last
        self._stored = True  # a group since then
        self.broken = False  # the last write failed; each sign of life tries again

    @property
    def refusing(self) -> bool:
        return self._space.refusing

    @property
    def damage(self) -> str | None:
        """What is lost and not yet accepted, or what makes the file unusable."""
        return self._harm or self._lost

    def notice(self, error: BaseException) -> None:
        """A damaged index is built anew by the next start; a damaged page of the database is told until then.

        Any thread may call it. What does not meet the page goes on.
        """
        if not isinstance(error, apsw.CorruptError | apsw.NotADBError) or self._harm or self.distrusted:
            return
        if index.condemn_if_damaged(self._data_dir, self._config):
            self.distrusted = True
            return
        self._harm = str(damage.of_file(self._data_dir / database.DATABASE, str(error)))
        log.error(self._harm)

    def refuse(self) -> None:
        """Take nothing until there is room again."""
        self._space.full()

    def begin(self) -> None:
        self._space.check()
        if self._space.refusing:
            raise StorageError("the disk is full")
        self.make_way()
        self._now = self._clock()
        self._db.execute("BEGIN IMMEDIATE")
        self.lookup.begin(self._clock.horizon())
        self._outbox.forget()
        self._heed_erasures()
        self.late.mark()

    def _heed_erasures(self) -> None:
        if erased := self.erased.refresh():
            self.lookup.evict(erased)
            self.refusals.forget_numbers()

    def apply(self, operations: Sequence[Operation]) -> list[Any]:
        results: list[Any] = []
        for kind, run in groupby(operations, type):  # side by side clicks cost half
            if kind is NewClick:
                clicks: list[NewClick] = list(run)  # type: ignore[arg-type]  # by their kind
                results += self._admitted(clicks) if self.erased else self._clicks(clicks)
            else:
                results += [self._outcome(operation) for operation in run]
        return results

    def _clicks(self, clicks: list[NewClick]) -> list[ClickResult]:
        results = self.clicks.append(clicks)
        self.late.after_clicks(clicks, results, self._now)
        return results

    def _admitted(self, clicks: list[NewClick]) -> list[ClickResult | ApiError]:
        """As `_clicks`, where somebody was erased: what is word of them is refused, each in its place."""
        admitted = [self.erased.admit(click) for click in clicks]
        results = iter(self._clicks([click for click in admitted if not isinstance(click, ApiError)]))
        return [one if isinstance(one, ApiError) else next(results) for one in admitted]

    def _outcome(self, operation: Operation) -> Any:
        """The operation's result, or the ApiError that it is answered with."""
        try:
            return self._one(operation)
        except ApiError as error:
            return error

    def _one(self, operation: Operation) -> Any:
        if type(operation) is NewEvent:
            if self.erased:
                operation = or_raise(self.erased.admit_event(operation))
            taken = self.conversions.take(operation, self._now)
            self.late.after_event(operation.store, operation.event.ts, taken, self._now)
            return taken
        if type(operation) is Once:
            return self._once(operation)
        return self._seldom(operation)

    def _seldom(self, operation: Operation) -> Any:
        match operation:
            case Again():
                self.late.again(operation.conversion, self._now)
                return None
            case Reworded():
                self.answers.reword(operation)
                return None
            case Remember():
                return recall(self.lookup, operation)
            case ShopTold():
                return self.shops.take(operation, self._now)
            case Withdraw():
                return self.withdrawals.take(operation, self._now)
        raise TypeError(f"not an operation: {type(operation).__name__}")

    def _once(self, operation: Once) -> Answered:
        known = self.answers.known(operation, self._now)
        if known is not None:
            return known
        results = self.apply([item.operation for item in operation.items if not isinstance(item, bytes)])
        return self.answers.keep(operation, results, self._now)

    def commit(self) -> None:
        syncing = False
        try:
            self.clicks.flush()
            self.conversions.flush()
            self.late.flush()
            syncing = True
            self._db.execute("COMMIT")
        except apsw.Error as error:
            self.broken = True
            if isinstance(error, apsw.FullError):
                self._space.full()
            elif syncing and isinstance(error, apsw.IOError) and not self._space.low():
                log.error("the disk failed a commit: starting anew")
                self.distrusted = True
            raise
        self.broken, self._stored = False, True
        last = self._committed = dict(self.lookup.last)
        self._ledger.note(last[CLICKS], last[CONVERSIONS])
        self.late.mark()
        self.lookup.settle()

    def rollback(self) -> None:
        if (error := sys.exception()) is not None:  # what it is called for, whichever step met it
            self.notice(error)
        self.clicks.forget()
        self.new_rows.forget()
        self.conversions.forget()
        self.late.forget()
        self.lookup.retract(self._committed)
        try:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
        except apsw.Error as error:
            log.failed("a rollback failed", error)

    def idle(self) -> bool:
        """Upkeep between groups; whether there is more to do at once."""
        if self.folded.is_set():
            self.folded.clear()
            self.lookup.folded()
        if self.learned:  # one piece (10 ms): somebody may be waiting
            self.clicks.learn(self.learned.pop())
        if self.all_learned.is_set() and not self.learned:
            self.clicks.filtered = True
        if len(self.lookup.clicks) >= FOLD_AT_ONCE or len(self.lookup.conversions) >= FOLD_AT_ONCE:
            self.wants_fold.set()
        self.refresh_keys()
        if time.monotonic() - self._models_at >= _MODELS_CHECK_S:
            self._models_at = time.monotonic()
            self.conversions.take_models(models.in_force(self._db))
        self._space.check()
        if not self._space.refusing and time.monotonic() - self._beat_at >= _BEAT_S:
            self._beat_at = time.monotonic()
            if self._has_news():
                self.beat()
            clocks.refresh(self._clock, self._db)
            self.late.look_around(self._clock.trusted())
            if self._db.execute("SELECT 1 FROM sent_before LIMIT 1").get is not None:
                self._land()
        due = self.late.due or self.late.reopened or self.tellings.waiting
        if due and not self._space.refusing and time.monotonic() >= self._last_matches_at:
            self._last_matches()
        if self.new_rows.waited >= _COUNT_S and not self._space.refusing:
            self.count()
        waiting = self.learned or self.late.reopened or self.tellings.waiting or self.new_rows.waited
        return bool(waiting) or not self.clicks.filtered

    def count(self) -> None:
        """Add to the sums what was put off."""
        with self._step():
            self.new_rows.count()
        self.new_rows.settle()

    def end(self) -> None:
        """Write the last figures, and count what was put off; where that fails, whoever opens the file next does it."""
        self.beat()
        try:
            self.count()
        except (apsw.Error, StorageError) as error:  # the latter: the disk is full
            log.failed("new rows could not be added to the sums", error)

    def _last_matches(self) -> None:
        """Match anew a few of what is re-opened, give a few their last match, weigh pages' tellings.

        For a tenth of this thread's time at most.
        """
        started = time.monotonic()
        try:
            with self._step():
                self.late.again_some(self._now, _LAST_MATCHES)
                self.late.finish(self._clock.trusted(), _LAST_MATCHES)
                self._weigh(_LAST_MATCHES)
        finally:
            ended = time.monotonic()
            self._last_matches_at = ended + _REST * (ended - started)

    def _land(self) -> None:
        """See what became of orders that changed while a request with them was under way."""
        with self._step():
            over = sorted(self.conversions.refunds.landed(self._now), key=lambda one: one.value is not None)
            landed = {one.conversion: one for one in over}
            for row in self.lookup.conversion_rows(set(landed)):
                if (store := self._numbered.get(row.store)) is not None:
                    self.conversions.land(landed[row.id], store, row, self._now)

    @contextmanager
    def _step(self) -> Iterator[None]:
        """A transaction of upkeep's own."""
        try:
            self.begin()
            yield
            self.commit()
        except BaseException:
            self.rollback()
            raise

    def _weigh(self, most: int) -> None:
        for row in self.lookup.conversion_rows(set(self.tellings.unweighed(most))):
            store = self._numbered.get(row.store)
            if store is not None and (taken := self.conversions.weigh(row, store, self._now)) is not None:
                self.late.after_event(store, taken.state.event.ts, taken, self._now)

    def _living(self) -> dict[str, int | bool]:
        """What the sign of life says."""
        return {
            "tailRows": len(self.lookup.clicks),
            "filtered": self.clicks.filtered,
            "oldestReaderSeconds": int(self.oldest_reader()),
        }

    def _has_news(self) -> bool:
        """Whether there is something to write down, or nothing was for so long that the process seems dead."""
        news = self._stored or self.broken or self.figures or self.daily or self.grown or self._living() != self._life
        return bool(news) or self._sign.is_due(self._clock.reading(), _CALM_BEAT_S - 1)

    def beat(self) -> None:
        """Write the figures and a sign of life; a disk that refuses it refuses posts too, until it takes one again."""
        self.daily.update(self.figures.popleft() for _ in range(len(self.figures)))
        now, grown = self._clock(), Counter(self.grown)
        for (_, name), n in self.daily.items():
            grown[name] += n
        life, reading = self._living(), self._clock.reading()
        try:
            with database.immediate(self._db):
                self._db.execute(
                    "INSERT OR REPLACE INTO heartbeat VALUES ('keeper', ?, ?)",
                    (reading.system, msgspec.json.encode(life)),
                )
                self.late.save()
                self._db.executemany(_COUNT, [(now // _DAY_MS, s, name, n) for (s, name), n in self.daily.items()])
                self._db.executemany(_TOTAL, [(name, n) for name, n in grown.items() if n])
                refused = [(name.partition(".")[2], n) for name, n in grown.items() if n and name.startswith(_REFUSED)]
                self._db.executemany(_REFUSAL, [(now // QUARTER_MS, code, n) for code, n in refused])
                self._heed_erasures()  # one that is not on disk yet empties what is written here by itself
                self.refusals.write(self._db, now)
            self.broken = self._stored = False
            self._life = life
            self._sign.written(reading)
            self.grown.clear()
            self.daily.clear()
            self.refusals.written()
        except apsw.FullError:
            self._space.full()
        except apsw.Error as error:
            self.broken = True
            self.notice(error)
            log.failed("a sign of life could not be written", error)

    def refresh_keys(self, *, force: bool = False) -> None:
        """Learn what other processes have done: keys, erasures, orders that wait, losses that a person accepts."""
        if not force and time.monotonic() - self._keys_at < _KEYS_CHECK_S:
            return
        self._keys_at = time.monotonic()
        self._lost = damage.told(self._data_dir)
        self._behind |= self._others.happened() or force
        if self._behind:
            self._heed_erasures()  # before the next group: pages are asked for their cookies ahead of it
            self.keys = {key.hash: key for key in keys.list_keys(self._db) if key.revoked is None}
            self.inbox += self._db.execute("SELECT 1 FROM shop_inbox LIMIT 1").get is not None
            self._behind = False
