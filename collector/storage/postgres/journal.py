"""The keeper's door to PostgreSQL: groups in one transaction each, and what follows them.

questions of all operations ─▶ the operations over the answers ─▶ more questions? ─▶ one statement writes ─▶ answers
                                         ▲─────────────────────────────┘                     └─▶ the look, in `rest`
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Final, TypeVar

import msgspec

from collector import telemetry
from collector.config import Config
from collector.core.matching import Model
from collector.core.matching.shapes import OPEN_MS
from collector.errors import StorageError
from collector.exchange import clicks as exchanged
from collector.exchange.clock import Clock
from collector.exchange.naming import NewEvent
from collector.exchange.operations import Submission
from collector.exchange.rows import ClickRow
from collector.exchange.shops import Waiting
from collector.exchange.states import Attempt, Delivery, EventState
from collector.exchange.stores import Store
from collector.storage.postgres import clocks, counting, edges, faults, looking, partitions, questions, single, writing
from collector.storage.postgres.connecting import Connection
from collector.storage.postgres.group import Group, Known, gather
from collector.storage.postgres.keeping import Keeping
from collector.storage.postgres.locking import LOCKING
from collector.storage.postgres.memory import Clash, Memory, Missing, Question
from collector.storage.verbs.queueing import Figures

log = telemetry.logger("storage")
T = TypeVar("T")

_TRIES: Final = 4
_MOST_WAVES: Final = 40
_DAY_MS: Final = 86_400_000
_MODELS_S: Final = 60.0
_LEFT_S: Final = 5.0
_SILENT_MS: Final = 7 * _DAY_MS  # of a store that has told nothing for so long no event time will come to an end
_MODELS: Final = """
SELECT m.store, m.body FROM model m WHERE m.created = (SELECT max(created) FROM model WHERE store = m.store)"""
_decode_model = msgspec.msgpack.Decoder(Model).decode
_RENAMED: Final = "SELECT EXISTS (SELECT 1 FROM renamed WHERE conversion >= (SELECT min(id) FROM conversion))"
_BEGUN: Final = "UPDATE edge SET looked = $3 WHERE number = $1 AND owner = $2"


class PostgresJournal(Keeping):
    """All methods belong to one thread."""

    def __init__(self, config: Config, clock: Clock) -> None:
        """Open it; StorageError says why it cannot be used."""
        self._sketches: dict[tuple[int, int], bytearray] = {}
        self._places: dict[tuple[int, str], int] = {}  # by store and name; nobody takes a place away
        self._looks: deque[looking.Stored | looking.Left] = deque()
        self._clocks: dict[int, int] = {}  # of each store: the latest event time (ms) of anything in it
        self._heard: dict[int, int] = {}  # when (ms, our clock) a store last told anything
        self._week, self._models_at, self._left_at = -1, 0.0, 0.0
        self._known: Known | None = None
        super().__init__(config, clock)

    def start(self) -> None:
        """Learn what is there, and note from which id on nothing is looked through."""
        self._stores: dict[int, Store] = {store.number: store for store in self.stores.values()}
        click_ms = self._config.matching.click_days * _DAY_MS
        given = (self.names, self.public, self._stores, click_ms, self.erased)
        self._known = Known(*given, {}, {}, self._clocks, {})
        with faults.as_storage_errors():
            self._run(self._begin())

    async def _begin(self) -> None:
        self.edge.looked = self.edge.ids.next(self.clock())
        async with self._database.connection() as connection:
            await connection.execute(_BEGUN, self.edge.number, self.edge.owner, self.edge.looked)
            rows = await connection.fetch("SELECT store, name, by_page FROM event_name")
            self.known.event_names.update({(store, name): bool(by_page) for store, name, by_page in rows})
            self.known.renamed = await connection.fetchval(_RENAMED)
            for store, ts in await clocks.newest(connection, self._stores):
                self._hear(store, ts)
        await self._learn()

    @property
    def known(self) -> Known:
        """What all groups know; there since `start`."""
        assert self._known is not None
        return self._known

    async def _learn(self) -> None:
        await super()._learn()
        if self._known is None:
            return
        async with self._database.connection() as connection:
            for store, ts, heard in await clocks.told(connection):
                self._hear(store, ts)
                self._heard[store] = max(heard, self._heard.get(store, 0))
            if time.monotonic() - self._models_at >= _MODELS_S:
                self._models_at = time.monotonic()
                self.known.models = {store: _decode_model(body) for store, body in await connection.fetch(_MODELS)}
            if await connection.fetchval("SELECT EXISTS (SELECT 1 FROM shop_inbox)"):
                self.waiting += 1

    def _hear(self, store: int, ts: int) -> None:
        self._clocks[store] = max(ts, self._clocks.get(store, 0))

    async def _write_figures(self, connection: Connection) -> tuple[Counter[tuple[int, str]], Counter[str]]:
        heard = [(store, self._clocks[store], self._heard[store]) for store in self._clocks if store in self._heard]
        await clocks.save(connection, self.edge.number, heard)
        return await super()._write_figures(connection)

    async def _beat(self) -> None:
        number = self.edge.number
        await super()._beat()
        if self.edge.number != number:
            self._sketches.clear()  # the rows of another number are another's

    # -- groups

    def commit(self, waiting: deque[Submission]) -> Sequence[Submission]:
        """Take the next group off `waiting` and return it once it is safe, each submission with its results."""
        group = gather(waiting)
        try:
            with faults.as_storage_errors():
                self._run(self._commit(group))
        except StorageError as error:
            self.unable(error)
            for submission in group:
                submission.results = StorageError("the event could not be stored")
        return group

    async def _commit(self, group: Sequence[Submission]) -> None:
        self.refuse_unfit()
        try:
            results = iter(await self._done([o for s in group for o in s.operations]))
            for submission in group:
                submission.results = [next(results) for _ in submission.operations]
            self.able = True
        except (StorageError, *faults.LOST):
            raise
        except Exception as error:
            log.failed("a group failed; its members are tried one by one", error, count=len(group))
            for submission in group:
                await self._alone(submission)

    async def _alone(self, submission: Submission) -> None:
        try:
            with faults.as_storage_errors():
                submission.results = await self._done(submission.operations)
        except StorageError as error:
            log.failed("storage refused an operation", error)
            submission.results = StorageError("the event could not be stored")
        except Exception as error:
            log.failed("an operation failed", error)
            submission.results = error

    async def _done(self, operations: Sequence[Any]) -> list[Any]:
        """The results, once all is on disk."""
        results: list[Any] = []

        def work(group: Group) -> None:
            results[:] = group.apply(operations)

        memory = await self._apply(work)
        self._advance(operations)
        stored = looking.Stored(memory)
        if stored:
            self._looks.append(stored)
        return results

    async def _apply(self, work: Callable[[Group], None]) -> Memory:
        """Do `work` over what is known, as often as it takes to know all; write what it changed."""
        ask: Sequence[Question] = ()
        for last in (*(False,) * (_TRIES - 1), True):
            figures: Figures = deque(maxlen=100_000)
            try:
                memory = await self._try(work, ask, figures)
            except (Clash, *faults.AGAIN) as error:
                if last:
                    raise
                ask = error.questions if isinstance(error, Clash) else ask
                continue
            came = {f"came.{table.name}": len(numbers) for table, numbers in memory.changes.new.items() if numbers}
            self.count([(store, name, 1) for store, name in figures], came)
            self.known.event_names.update(memory.changes.event_names)
            self._places.update(memory.places)
            # Other keepers learn it within a second.
            self.erased.update({name: at for _, name, at in memory.changes.erased})
            return memory
        raise AssertionError

    async def _try(self, work: Callable[[Group], None], ask: Sequence[Question], figures: Figures) -> Memory:
        memory = self._memory()
        self._once(work, memory, figures)
        asked = [*ask, *memory.asked]
        if not _locks(asked):
            async with self._database.connection() as connection:
                asked = await self._ask(connection, work, memory, figures, asked)
            if not asked and not counting.to_follow(memory):
                if writing.changed(memory):
                    async with self._database.statement() as connection:
                        await writing.write(connection, memory)
                return memory
        async with self._database.transaction() as connection:
            await self._whole(connection, work, memory, figures, asked)
        return memory

    async def _whole(
        self,
        connection: Connection,
        work: Callable[[Group], None],
        memory: Memory,
        figures: Figures,
        asked: list[Question] | None = None,
    ) -> None:
        """Inside a transaction."""
        if asked is None:
            self._once(work, memory, figures)
            asked = list(memory.asked)
        for _ in range(_MOST_WAVES):
            if not asked:
                break
            await questions.answer(connection, memory, asked)
            self._once(work, memory, figures)
            asked = list(memory.asked)
        if asked:
            raise RuntimeError("a group's questions come to no end")
        await writing.write(connection, memory)

    async def _ask(
        self,
        connection: Connection,
        work: Callable[[Group], None],
        memory: Memory,
        figures: Figures,
        asked: list[Question],
    ) -> list[Question]:
        """Answer questions that need no lock; what is left to be asked."""
        for _ in range(_MOST_WAVES):
            if not asked or _locks(asked):
                return asked
            await questions.answer(connection, memory, asked)
            self._once(work, memory, figures)
            asked = list(memory.asked)
        raise RuntimeError("a group's questions come to no end")

    def _memory(self) -> Memory:
        return Memory(self.edge.ids, self.edge.number, self.clock(), self._sketches, self._places)

    def _once(self, work: Callable[[Group], None], memory: Memory, figures: Figures) -> None:
        memory.begin()
        figures.clear()
        group = Group(self.known, memory, figures)
        try:
            work(group)
            group.conversions.flush()
        except Exception as error:
            if not memory.asked:  # else it rested on what is not known yet
                raise
            if not isinstance(error, Missing):
                log.debug("an operation is done anew", error=type(error).__name__)

    def _advance(self, operations: Iterable[Any]) -> None:
        """Move the stores' event clocks on."""
        now, horizon = self.clock(), self.clock.horizon()
        for operation in operations:
            if isinstance(operation, NewEvent):
                store, ts = operation.store.number, operation.event.ts
            elif isinstance(operation, exchanged.NewClick):
                store, ts = operation.row[0], operation.row[1]
            else:
                continue
            self._heard[store] = now
            if ts <= horizon:
                self._hear(store, ts)

    # -- between groups

    def rest(self) -> bool:
        """The looks, what waits to be matched, upkeep; whether there is more of it."""
        try:
            with faults.as_storage_errors():
                return self._run(self._rest())
        except StorageError as error:
            self.unable(error)
        except Exception as error:
            log.failed("upkeep failed", error)
        return False

    async def _rest(self) -> bool:
        await self.keep_up()
        if not self.edge.may_write:
            return False
        await self._have_weeks()
        while self._looks:
            await self._look(self._looks[0])
            self._looks.popleft()
        self.edge.looked = self.edge.ids.next(self.clock())
        more = await self._do_waiting()
        if time.monotonic() - self._left_at >= _LEFT_S:
            self._left_at = time.monotonic()
            await self._land()
            await self._take_over()
        return more

    async def _do_waiting(self) -> bool:
        """What waits, in whichever table; whether any did. As it is asked after each group, one question asks it."""
        over = {store: self._over(store) for store in self._stores}
        async with self._database.connection() as connection:
            due = await connection.fetchrow(looking.DUE, list(over), list(over.values()))
        more = due[0] and await self._waiting("reopened", looking.REOPENED, looking.match_waiting)
        more |= due[1] and await self._waiting("unweighed", looking.UNWEIGHED, self._weigh)
        for store in due[2]:
            more |= await self._last_matches(store, over[store])
        return bool(more)

    def _weigh(self, waiting: dict[int, bool]) -> Callable[[Group], None]:
        return looking.weigh(waiting, self._stores)

    async def _land(self) -> None:
        """See what became of orders that changed while a request with them was under way."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(looking.LANDED, self.clock() - _DAY_MS)
        if rows:
            await self._apply(looking.land([number for _, number in rows], self._stores))

    async def _take_over(self) -> None:
        """Look through what an edge that ended without a word has stored and not looked through."""
        async with self._database.transaction() as connection:
            left = await edges.take_over(connection, self._owner)
        if left is None:
            return
        number, looked = left
        async with self._database.connection() as connection:
            for some in await looking.left_by(connection, number, looked):
                self._looks.append(some)
        while self._looks:
            await self._look(self._looks[0])
            self._looks.popleft()
        async with self._database.transaction() as connection:
            await edges.done(connection, number, self._owner)

    async def _have_weeks(self) -> None:
        week = self.clock() // (7 * _DAY_MS)
        if week != self._week:
            async with self._database.transaction() as connection:
                await partitions.ahead(connection, self.clock())
            self._week = week

    async def _look(self, stored: looking.Stored | looking.Left) -> None:
        async with self._database.connection() as connection:
            changed = await looking.look(connection, stored, self._memory)
        await self._apply(looking.Look(stored, changed, self._stores, self._clocks))

    async def _waiting(self, table: str, take: str, work: Callable[[dict[int, bool]], Callable[[Group], None]]) -> bool:
        """Do some of what waits in a table; whether there was any."""
        memory, figures = self._memory(), deque[tuple[int, str]](maxlen=100_000)
        async with self._database.transaction() as connection:
            rows = await connection.fetch(take)
            if not rows:
                return False
            await self._whole(connection, work({number: anyway for _, number, anyway in rows}), memory, figures)
            stores, numbers = {store for store, *_ in rows}, [number for _, number, _ in rows]
            await connection.execute(looking.DONE.format(table), list(stores), numbers)
        self._after(memory, figures)
        return True

    def _over(self, store: int) -> int:
        """Before which event time (ms) a store's orders are past their last match."""
        silent = self.clock.trusted() - self._heard.get(store, self.clock.trusted()) > _SILENT_MS
        return 1 << 62 if silent else self._clocks.get(store, 0) - OPEN_MS

    async def _last_matches(self, store: int, over: int) -> bool:
        memory, figures = self._memory(), deque[tuple[int, str]](maxlen=100_000)
        async with self._database.transaction() as connection:
            rows = await connection.fetch(looking.OVER, store, over)
            if not rows:
                return False
            numbers = {number for _, number, _ in rows}
            await self._whole(connection, looking.match_last(numbers), memory, figures)
            await connection.execute(looking.DONE_AT, store, [ts for *_, ts in rows], list(numbers))
        self._after(memory, figures)
        return True

    def _after(self, memory: Memory, figures: Figures) -> None:
        self.count([(store, name, 1) for store, name in figures], {})
        stored = looking.Stored(memory)
        if stored:
            self._looks.append(stored)

    def _all_looked(self) -> bool:
        return not self._looks

    # -- questions of one row

    def conversion(self, row_id: int) -> tuple[EventState, list[Delivery], list[Attempt]] | None:
        """A committed conversion with its deliveries and every attempt; None when there is none."""
        with faults.as_storage_errors():
            return self._run(self._asked(single.known, row_id))

    def click(self, row_id: int) -> tuple[ClickRow, list[int]] | None:
        """A committed click and the conversions that it was given."""
        with faults.as_storage_errors():
            return self._run(self._asked(single.with_orders, row_id))

    def inbox(self) -> list[Waiting]:
        """The oldest orders that a pull or a file has found."""
        with faults.as_storage_errors():
            return self._run(self._asked(single.inbox))

    async def _asked(self, question: Callable[..., Awaitable[T]], *given: Any) -> T:
        async with self._database.connection() as connection:
            return await question(connection, *given)


def _locks(asked: Iterable[Question]) -> bool:
    return any(question[0] in LOCKING for question in asked)
