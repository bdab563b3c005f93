"""The nights of an installation over PostgreSQL: what they read (`storage/verbs/learning.py`), by one at a time.

Ids are sparse here, so a sample is taken by place in their order: of the same events it is the one that SQLite takes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Final, Literal, TypeVar

import msgspec

from collector.config import Config
from collector.core import flags
from collector.core.keyed import KeyedHash
from collector.core.matching import Candidate, Model, Policy, Query, Statistics
from collector.errors import CollectorError, StorageError
from collector.exchange.rows import ClickRow
from collector.storage.postgres import edges, peppers, questions
from collector.storage.postgres.connecting import Connection
from collector.storage.postgres.duties import Duties
from collector.storage.postgres.finding import Lookup
from collector.storage.postgres.ids import Ids
from collector.storage.postgres.memory import Memory, Missing
from collector.storage.postgres.threaded import Threaded
from collector.storage.rules.tables import CLICKS, ELIGIBLE, VISITOR_TAG, click_tag
from collector.storage.verbs.learning import (
    DAY_MS,
    LATEST,
    MOST_NEIGHBOURS,
    MOST_ROWS,
    NEIGHBOURS_MS,
    SETTLED_MS,
    SLICE,
    Stored,
    Until,
    lean,
    models_of,
    query_of,
    spread,
    stood,
)
from collector.storage.verbs.sightings import MOST_HITS, Seen, address_of

T = TypeVar("T")
DUTY: Final = "learning"
MOST_SAMPLED: Final = 1_000_000  # rows of which a sample is taken: of more, the newest
_SECONDS: Final = 120.0  # that a question may take
_AT_ONCE: Final = 20  # orders whose clicks are looked for together
_MOST_WAVES: Final = 40

_STORES: Final = "SELECT id, name FROM store ORDER BY id"
_DUE: Final = (
    f"SELECT max(day::bigint * {DAY_MS} + n) FROM counter WHERE store = 0 AND name = 'night'",
    "SELECT max(created) FROM model",
    "SELECT received FROM conversion ORDER BY id LIMIT 1",
)
_KEEP_NIGHT: Final = """
INSERT INTO counter (day, store, name, edge, n) VALUES ($1, 0, 'night', 0, $2)
    ON CONFLICT (day, store, name, edge) DO UPDATE SET n = excluded.n"""
_LATEST: Final = f"SELECT max(ts) FROM (SELECT ts FROM conversion WHERE store = $1 ORDER BY id DESC LIMIT {LATEST}) n"
_NEWEST: Final = "SELECT body FROM model WHERE store = $1 ORDER BY created DESC LIMIT 1"
_BEHIND: Final = "SELECT id FROM {} WHERE id <= $1 ORDER BY id DESC OFFSET $2 LIMIT 1"
_ROWS: Final = f"""
SELECT id, store, ts, event_type, flags, match FROM conversion
 WHERE id > $1 AND id <= $2 AND store = $3 AND flags & {flags.NO_SALE} = 0 ORDER BY id LIMIT {SLICE}"""
_TOLD: Final = "SELECT ts FROM conversion WHERE id <= $1 ORDER BY id DESC LIMIT 1"
_SHOWN: Final = f"visitor_k IS NOT NULL AND ip_k IS NOT NULL AND flags & {flags.INELIGIBLE} = 0"
_SEEN: Final = {
    "click": f"""
SELECT c.id, ts, visitor_k, ip_k, n.ip FROM click c LEFT JOIN click_network n ON n.id = c.id AND n.store = c.store
 WHERE c.id > $1 AND c.store = $2 AND {_SHOWN} ORDER BY c.id LIMIT {SLICE}""",
    "conversion": f"""
SELECT id, ts, visitor_k, ip_k, body FROM conversion
 WHERE id > $1 AND store = $2 AND {_SHOWN} ORDER BY id LIMIT {SLICE}""",
}
_OF: Final = f"(SELECT id FROM {{}} WHERE id >= $1 AND id < $2 ORDER BY id DESC LIMIT {MOST_SAMPLED}) n"
_HOW_MANY: Final = f"SELECT count(*) FROM {_OF}"
_AT: Final = f"""
SELECT id FROM (SELECT id, row_number() OVER (ORDER BY id) - 1 AS place FROM {_OF}) p WHERE place = ANY($3::bigint[])"""
_CLICKS: Final = f"SELECT {CLICKS.columns} FROM click WHERE id = ANY($1::bigint[]) AND store = $2 AND {ELIGIBLE}"
_NEIGHBOURS: Final = f"""
SELECT count(DISTINCT c.tag) FILTER (WHERE c.tag <> q.tag)
  FROM unnest($2::bigint[], $3::bigint[], $4::bigint[]) WITH ORDINALITY q (ip, since, tag, n)
  LEFT JOIN LATERAL (SELECT {VISITOR_TAG} AS tag FROM click c
                      WHERE c.store = $1 AND c.ip_k = q.ip AND c.received >= q.since AND {ELIGIBLE}
                      ORDER BY c.received DESC LIMIT {MOST_NEIGHBOURS}) c ON true
 GROUP BY q.n ORDER BY q.n"""
_NETWORKS: Final = """
SELECT n.ip FROM unnest($2::bigint[]) WITH ORDINALITY q (id, n)
  LEFT JOIN click_network n ON n.id = q.id AND n.store = $1 ORDER BY q.n"""
_ORDERS: Final = """
SELECT ts, visitor_k, fbp_k, ip_k, ua_k, fp_k, ua_class, flags, body
  FROM unnest($2::bigint[]) WITH ORDINALITY q (id, n) JOIN conversion c ON c.id = q.id AND c.store = $1 ORDER BY q.n"""
_SOME: Final = """
SELECT id, store, ts, event_type, flags, match FROM conversion WHERE id = ANY($1::bigint[]) ORDER BY id"""
_LEAN: Final = "UPDATE model SET body = $3 WHERE store = $1 AND version = $2"
_SAVE: Final = """
INSERT INTO model (store, version, created, body) VALUES ($1, $2, $3, $4)
    ON CONFLICT (store, version) DO UPDATE SET created = excluded.created, body = excluded.body"""
_COUNT: Final = """
INSERT INTO counter (day, store, name, edge, n) VALUES ($1, $2, $3, 0, $4)
    ON CONFLICT (day, store, name, edge) DO UPDATE SET n = counter.n + excluded.n"""
_decode = msgspec.msgpack.Decoder(Model).decode


def due(threaded: Threaded, now: int) -> bool:
    """Whether a day has passed since the last night, or since the first conversion of a new installation."""
    for sql in _DUE:
        last: int | None = threaded.ask(lambda c, sql=sql: c.fetchval(sql))  # type: ignore[misc]
        if last is not None:
            return now - last >= DAY_MS
    return False


def night_if_due(threaded: Threaded, duties: Duties, config: Config, now: int) -> dict[str, Model]:
    """Once a day, by one courier: learn for every store; the new models by store id.

    One that ends in the middle leaves the rest to the next: a store that has its lesson has nothing new.
    """
    if not due(threaded, now) or not duties.take(DUTY):
        return {}
    try:
        if not due(threaded, now):  # another was at it
            return {}
        found = _learn_all(threaded, duties, config, now, lambda _: Until(now, now - SETTLED_MS, "received"), None)
        threaded.ask(lambda c: _fenced(c, duties, _KEEP_NIGHT, *divmod(now, DAY_MS)))
        return found
    finally:
        duties.give(DUTY)


def at_once(config: Config, now: int, store: str | None) -> dict[str, Model]:
    """As a night, for all stores or one, whenever it is asked for: each store's own events tell what time it is.

    StorageError where a courier, or another command, learns at this moment.
    """
    with Threaded(config.storage, "collector learn") as threaded:
        duties = Duties(threaded, edges.owner_name())
        if not duties.take(DUTY):
            raise StorageError("another process is learning at this moment; try again in a minute")

        def until(number: int) -> Until:
            latest = threaded.ask(lambda c: c.fetchval(_LATEST, number)) or 0
            return Until(latest, latest - SETTLED_MS, "ts")

        try:
            return _learn_all(threaded, duties, config, now, until, store)
        finally:
            duties.give(DUTY)


def _learn_all(
    threaded: Threaded, duties: Duties, config: Config, now: int, until: Callable[[int], Until], only: str | None
) -> dict[str, Model]:
    stores = [(row["id"], row["name"]) for row in threaded.ask(lambda c: c.fetch(_STORES))]
    past = partial(PostgresPast, threaded, duties)
    return models_of(stores, config, _names(threaded, config), past, until, now, only)


def _names(threaded: Threaded, config: Config) -> KeyedHash | None:
    """The key of names; where it cannot be read, a night learns nothing of networks."""
    try:
        return KeyedHash(threaded.ask(lambda c: peppers.load(c, config)))
    except CollectorError:
        return None


async def _fenced(c: Connection, duties: Duties, sql: str, *given: Any) -> None:
    await duties.require(c, DUTY)
    await c.execute(sql, *given)


class PostgresPast:
    """One store's rows: each question is a transaction of its own."""

    def __init__(self, threaded: Threaded, duties: Duties, store: int, until: Until) -> None:
        self._threaded, self._duties, self._store, self._until = threaded, duties, store, until

    def _fetch(self, sql: str, *given: Any) -> list[Any]:
        rows: list[Any] = self._threaded.ask(lambda c: c.fetch(sql, *given), _SECONDS)
        return rows

    def newest(self) -> Model | None:
        rows = self._fetch(_NEWEST, self._store)
        return _decode(rows[0]["body"]) if rows else None

    def settled(self, after: int) -> tuple[int, Iterator[list[Stored]]]:
        last = self._threaded.ask(lambda c: self._first(c, "conversion", self._until.settled), _SECONDS) - 1
        behind = self._behind("conversion", last, MOST_ROWS)
        return last, self._slices(max(after, behind), last)

    def _behind(self, table: str, last: int, rows: int) -> int:
        """The id of the row behind so many that end at `last`; 0 where there are fewer."""
        found = self._fetch(_BEHIND.format(table), last, rows)
        return int(found[0]["id"]) if found else 0

    def _slices(self, after: int, last: int) -> Iterator[list[Stored]]:
        while rows := [Stored(*row) for row in self._fetch(_ROWS, after, last, self._store)]:
            yield rows
            after = rows[-1].id

    def told(self, through: int) -> int:
        rows = self._fetch(_TOLD, through)
        return int(rows[0]["ts"]) if rows else 0

    def seen(self, table: Literal["click", "conversion"]) -> Iterator[Seen]:
        after = self._behind(table, (1 << 63) - 1, MOST_HITS)
        while rows := self._fetch(_SEEN[table], after, self._store):
            for _, ts, visitor, address, raw in rows:
                yield Seen(ts, visitor, address, raw if table == "click" else address_of(raw))
            after = rows[-1]["id"]

    def clicks(self, since: int, most: int) -> list[ClickRow]:
        async def sampled(c: Connection) -> list[int]:
            last = await c.fetchval("SELECT max(id) FROM click") or 0
            return await _places(c, "click", min(await self._first(c, "click", since), last), last + 1, most)

        ids = self._threaded.ask(sampled, _SECONDS)
        return [ClickRow(*row) for row in self._fetch(_CLICKS, ids, self._store)]

    def neighbours(self, clicks: Sequence[ClickRow]) -> list[int]:
        somewhere = [c for c in clicks if c.ip_k is not None]
        columns = zip(*((c.ip_k, c.received - NEIGHBOURS_MS, click_tag(c)) for c in somewhere), strict=True)
        counts = iter(self._fetch(_NEIGHBOURS, self._store, *columns) if somewhere else ())
        return [-1 if c.ip_k is None else next(counts)["count"] for c in clicks]

    def networks(self, clicks: Sequence[ClickRow]) -> list[str | None]:
        return [row["ip"] for row in self._fetch(_NETWORKS, self._store, [c.id for c in clicks])]

    def orders(self, ids: Sequence[int]) -> list[Query]:
        return [query_of(row) for row in self._fetch(_ORDERS, self._store, list(ids))]

    def some(self, since: int, until: int, most: int) -> Iterator[Stored]:
        async def sampled(c: Connection) -> list[int]:
            first, last = [await self._first(c, "conversion", moment) for moment in (since, until)]
            return await _places(c, "conversion", first, last, most)

        ids = self._threaded.ask(sampled, _SECONDS)
        yield from (Stored(*row) for row in self._fetch(_SOME, ids))

    def stood(self, queries: Sequence[Query], policy: Policy) -> list[tuple[list[Candidate], Statistics]]:
        found: list[tuple[list[Candidate], Statistics]] = []
        for first in range(0, len(queries), _AT_ONCE):
            found += self._known(self._stood(queries[first : first + _AT_ONCE], policy))
        return found

    def _stood(
        self, queries: Sequence[Query], policy: Policy
    ) -> Callable[[Lookup], list[tuple[list[Candidate], Statistics]]]:
        def work(lookup: Lookup) -> list[tuple[list[Candidate], Statistics]]:
            found = []
            for query in queries:
                try:
                    found.append(stood(lookup, self._store, query, policy))
                except Missing:
                    continue
            return found

        return work

    def statistics(self, ts: int, window_ms: int) -> Statistics:
        return self._known(lambda lookup: lookup.statistics(self._store, Query(ts=ts), window_ms))

    def _known(self, work: Callable[[Lookup], T]) -> T:
        """What `work` gives once it knows all that it asks."""

        async def answered(c: Connection) -> T:
            memory = Memory(Ids(0), 0, 0, {}, {})
            for _ in range(_MOST_WAVES):
                memory.begin()
                found = work(Lookup(memory))
                if not memory.asked:
                    return found
                await questions.answer(c, memory, list(memory.asked))
            raise RuntimeError("a night's questions come to no end")

        return self._threaded.ask(answered, _SECONDS)

    def keep(self, model: Model, figures: Sequence[tuple[str, int]], day: int) -> None:
        async def write(c: Connection) -> None:
            await self._duties.require(c, DUTY)
            body = await c.fetchval(_NEWEST, self._store)
            if body is not None:
                before = lean(_decode(body))
                await c.execute(_LEAN, self._store, before.version, msgspec.msgpack.encode(before))
            await c.execute(_SAVE, self._store, model.version, model.created, msgspec.msgpack.encode(model))
            await c.executemany(_COUNT, [(day, self._store, name, n) for name, n in figures])

        self._threaded.ask(write)

    async def _first(self, c: Connection, table: str, moment: int) -> int:
        """The lowest id from which on all are of `moment` or later, by halving: ids rise with receipt."""
        low, high = 0, (await c.fetchval(f"SELECT max(id) FROM {table}") or 0) + 1
        sql = f"SELECT id, {self._until.clock} FROM {table} WHERE id >= $1 ORDER BY id LIMIT 1"
        while low < high:
            middle = (low + high) // 2
            row = await c.fetchrow(sql, middle)
            if row is None or row[1] >= moment:
                high = middle
            else:
                low = row["id"] + 1
        return low


async def _places(c: Connection, table: str, first: int, end: int, most: int) -> list[int]:
    """At most so many ids, evenly spread over the rows from `first` until before `end`."""
    rows = await c.fetchval(_HOW_MANY.format(table), first, end)
    places = spread(most, 0, rows - 1) if rows else []
    return [row["id"] for row in await c.fetch(_AT.format(table), first, end, places)] if places else []
