"""What a keeper holds in PostgreSQL beside its events: a number, a sign of life, keys, figures, what every edge knows.

The keeper's thread asks as it asks SQLite's journal: each call runs this one's own event loop until the answer is
there. Between two calls nothing of it runs.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Coroutine, Iterable, Mapping
from typing import Any, Final, TypeVar

from collector.config import Config
from collector.core.ids import PublicIds
from collector.core.keyed import KeyedHash
from collector.errors import StorageError, Unavailable
from collector.exchange.clock import Clock
from collector.exchange.keys import ApiKey
from collector.exchange.stores import Store
from collector.storage.postgres import edges, examining, keys, partitions, peppers, refusals, stores
from collector.storage.postgres.connecting import Connection
from collector.storage.postgres.edges import Edge
from collector.storage.postgres.faults import as_storage_errors
from collector.storage.postgres.opening import opened
from collector.storage.rules.refusals import Refusals
from collector.telemetry import logger

log = logger("storage")
T = TypeVar("T")
_LEARN_S: Final = 1.0
_BEAT_S: Final = 5.0
_EXAMINE_S: Final = 60.0
_SAID_AGAIN_S: Final = 60.0
_MOST_SAID: Final = 32
_DAY_MS: Final = 86_400_000
_QUARTER_MS: Final = 900_000
_REFUSED: Final = ("refused.", "refused_item.")  # requests, and items of batches
_ERASED: Final = "SELECT name, at FROM erased WHERE at > $1 ORDER BY at, id"
_STILL_HIDDEN_MS: Final = 600_000  # so long an erasure may take to become visible after its moment
_COUNT: Final = """
INSERT INTO counter (day, store, name, edge, n) SELECT $1, store, name, $2, n
  FROM unnest($3::int[], $4::text[], $5::bigint[]) AS t (store, name, n) ORDER BY store, name
    ON CONFLICT (day, store, name, edge) DO UPDATE SET n = counter.n + excluded.n"""
_TOTAL: Final = """
INSERT INTO total (name, edge, n) SELECT name, $1, n FROM unnest($2::text[], $3::bigint[]) AS t (name, n) ORDER BY name
    ON CONFLICT (name, edge) DO UPDATE SET n = total.n + excluded.n"""
_REFUSAL: Final = """
INSERT INTO refusal_sum (quarter, code, edge, n)
SELECT $1, code, $2, sum(n) FROM unnest($3::text[], $4::bigint[]) AS t (code, n) GROUP BY code ORDER BY code
    ON CONFLICT (quarter, code, edge) DO UPDATE SET n = refusal_sum.n + excluded.n"""


class Keeping:
    """Opened by its constructor; StorageError says why it cannot be used."""

    def __init__(self, config: Config, clock: Clock) -> None:
        self.clock = clock
        self._config = config
        self._owner = edges.owner_name()
        self._loop = _new_loop()
        self.erased: dict[int, int] = {}
        self.keys: dict[bytes, ApiKey] = {}
        self.refusing, self.able = False, True
        self.distrusted, self.damage, self.waiting = False, None, 0
        self._daily: Counter[tuple[int, str]] = Counter()
        self._grown: Counter[str] = Counter()
        self._refusals = Refusals()
        self._said: dict[str, float] = {}
        self._lacking: str | None = None  # no standby is attached, and one is required
        self._learn_at = self._beat_at = self._examine_at = 0.0
        try:
            with as_storage_errors():
                self._run(self._open())
        except BaseException:
            self._loop.close()
            raise

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._loop.run_until_complete(work)

    async def _open(self) -> None:
        self._database, _ = await opened(self._config.storage, f"collector keeper {self._owner}", takes=True)
        async with self._database.transaction() as connection:
            self.names = KeyedHash(await peppers.load(connection, self._config))
            self.stores: dict[str, Store] = await stores.load(connection, self._config)
            self.edge: Edge = await edges.take(connection, self._owner)
        self.public = PublicIds(self.names.subkey("public ids"))
        await self._learn()

    def count(
        self,
        figures: Iterable[tuple[int, str, int]],
        totals: Mapping[str, int],
        refused: Iterable[tuple[str, str, str]] = (),
    ) -> None:
        """Add to daily figures (store, name, by how many) and to running ones; a crash may lose seconds of them."""
        for store, name, n in figures:
            self._daily[store, name] += n
        self._grown.update(totals)
        self._refusals.add(refused)

    async def keep_up(self) -> None:
        """What is due by now: what commands have changed, a sign of life with the figures, a look at the server."""
        now = time.monotonic()
        if now - self._learn_at >= _LEARN_S:
            await self._learn()
            self._learn_at = now
        if now - self._beat_at >= _BEAT_S:
            if self._config.storage.standby == "required":
                await self._require_a_standby()
            await self._beat()
            self._beat_at = now
            self._able_again()
        if now - self._examine_at >= _EXAMINE_S:
            await self._examine()
            self._examine_at = now

    def unable(self, error: StorageError) -> None:
        """Nothing can be stored for now; the log says why, each reason once a minute."""
        self.able, said, now = False, str(error), time.monotonic()
        if now - self._said.get(said, -_SAID_AGAIN_S) >= _SAID_AGAIN_S:
            self._said = {**self._said, said: now} if len(self._said) < _MOST_SAID else {said: now}
            log.error("PostgreSQL cannot be used", reason=said)

    def _able_again(self) -> None:
        if not self.able:
            log.info("PostgreSQL can be used again")
        self.able, self._said = True, {}

    def refuse_unfit(self) -> None:
        """Unavailable where what is committed now would not be safe, or not be ours."""
        if not self.edge.may_write:
            raise Unavailable("the lease of this edge's number is over")
        if self._lacking is not None:
            raise Unavailable(self._lacking)

    async def _learn(self) -> None:
        async with self._database.connection() as connection:
            self.keys = {key.hash: key for key in await keys.list_keys(connection) if key.revoked is None}
            since = max(self.erased.values(), default=_STILL_HIDDEN_MS) - _STILL_HIDDEN_MS
            erased = dict(await connection.fetch(_ERASED, since))
        if self._learn_at and erased.keys() - self.erased.keys():
            self._refusals.forget_numbers()
        self.erased.update({name: at for name, at in erased.items() if name not in self.erased})

    async def _beat(self) -> None:
        """Renew the number, or take another one where it is over; write the figures."""
        async with self._database.transaction() as connection:
            renewed = await self.edge.beat(connection, self._living())
            daily, grown = await self._write_figures(connection)
        self._refusals.written()
        self._daily -= daily
        self._grown -= grown
        if not renewed:
            async with self._database.transaction() as connection:
                self.edge = await edges.take(connection, self._owner)
            log.error("the lease of this edge's number was over; it has another one")

    def _living(self) -> dict[str, Any]:
        return {}

    async def _write_figures(self, connection: Connection) -> tuple[Counter[tuple[int, str]], Counter[str]]:
        """What was written; it is no more to be counted once this is committed."""
        daily, grown, edge, now = Counter(self._daily), Counter(self._grown), self.edge.number, self.clock()
        totals = Counter(grown)
        for (_, name), n in daily.items():
            totals[name] += n
        if daily:
            named = [store for store, _ in daily], [name for _, name in daily], list(daily.values())
            await connection.execute(_COUNT, now // _DAY_MS, edge, *named)
        if totals:
            await connection.execute(_TOTAL, edge, list(totals), list(totals.values()))
        refused = [(name.partition(".")[2], n) for name, n in totals.items() if name.startswith(_REFUSED)]
        if refused:
            codes, counts = [code for code, _ in refused], [n for _, n in refused]
            await connection.execute(_REFUSAL, now // _QUARTER_MS, edge, codes, counts)
        if told := self._refusals.waiting():
            await refusals.write(connection, told, now)
        return daily, grown

    async def _require_a_standby(self) -> None:
        async with self._database.connection() as connection:
            self._lacking = examining.no_standby(await examining.facts(connection))
        if self._lacking is not None:
            raise Unavailable(self._lacking)

    async def _examine(self) -> None:
        """Compare the clocks, and have the weeks that are to come."""
        async with self._database.transaction() as connection:
            found = await examining.facts(connection)
            await partitions.ahead(connection, self.clock())
        if (doubt := examining.clocks_apart(found)) is not None:
            log.warning(doubt)

    def close(self) -> None:
        """Write the last figures, give the number back, let go."""
        try:
            with as_storage_errors():
                self._run(self._leave())
        except StorageError as error:
            log.failed(str(error), error)
        finally:
            self._run(self._database.close())
            self._loop.close()

    async def _leave(self) -> None:
        async with self._database.transaction() as connection:
            await self._write_figures(connection)
            await self.edge.leave(connection, all_looked=self._all_looked())

    def _all_looked(self) -> bool:
        """Whether nothing that this edge has committed is still to be looked through."""
        return True


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()
