"""The nights of an installation on SQLite: what they read of the file and its index (`storage/verbs/learning.py`).

On a connection of its own, in slices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal, cast

import apsw

from collector.config import Config
from collector.core import flags
from collector.core.keyed import KeyedHash
from collector.core.matching import Candidate, Model, Policy, Query, Statistics
from collector.errors import CollectorError, StorageError
from collector.exchange.rows import ClickRow
from collector.storage.ground.database import INDEX, immediate, load_pepper
from collector.storage.index.index import unfolded
from collector.storage.index.lookup import Lookup
from collector.storage.learning import models
from collector.storage.rules.tables import CLICKS, click_tag
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
    models_of,
    query_of,
    spread,
    stood,
)
from collector.storage.verbs.sightings import MOST_HITS, Seen, address_of

MOST_UNFOLDED: Final = 200_000  # rows that a night holds in memory, 0.5 KB each: some seconds of the fullest load
_LATEST: Final = f"SELECT max(ts) FROM (SELECT ts FROM conversion WHERE store = ?1 ORDER BY id DESC LIMIT {LATEST})"
_STORED: Final = "SELECT id, store, ts, event_type, flags, match FROM conversion"
_ROWS: Final = f"{_STORED} WHERE id > ? AND id <= ? AND store = ? AND flags & {flags.NO_SALE} = 0 ORDER BY id"
_ORDER: Final = "SELECT ts, visitor_k, fbp_k, ip_k, ua_k, fp_k, ua_class, flags, body FROM conversion WHERE id = ?"
_TOLD: Final = "SELECT ts FROM conversion WHERE id <= ? ORDER BY id DESC LIMIT 1"
_SHOWN: Final = f"visitor_k IS NOT NULL AND ip_k IS NOT NULL AND flags & {flags.INELIGIBLE} = 0"
_SEEN: Final = {
    "click": f"""
SELECT c.ts, c.visitor_k, c.ip_k, n.ip FROM click c LEFT JOIN click_network n ON n.id = c.id
 WHERE c.id > ? AND c.id <= ? AND c.store = ? AND {_SHOWN}""",
    "conversion": f"""
SELECT ts, visitor_k, ip_k, body FROM conversion WHERE id > ? AND id <= ? AND store = ? AND {_SHOWN}""",
}
_COUNT: Final = "INSERT INTO counter VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET n = n + excluded.n"
# When a night was, whatever it found: its day, and the millisecond of it in place of a count.
_NIGHT: Final = f"SELECT max(day * {DAY_MS} + n) FROM counter WHERE store = 0 AND name = 'night'"
_KEEP_NIGHT: Final = "INSERT OR REPLACE INTO counter VALUES (?, 0, 'night', ?)"


def due(db: apsw.Connection, now: int) -> bool:
    """Whether a day has passed since the last night, or since the first conversion of a new installation."""
    for sql in (_NIGHT, "SELECT max(created) FROM model", "SELECT received FROM conversion ORDER BY id LIMIT 1"):
        last = cast("int | None", db.execute(sql).get)
        if last is not None:
            return now - last >= DAY_MS
    return False


def night_if_due(db: apsw.Connection, config: Config, now: int) -> dict[str, Model]:
    """`night`, once a day: one that taught nothing was a night as well."""
    return night(db, config, now) if due(db, now) else {}


def night(db: apsw.Connection, config: Config, now: int, settled_ms: int = SETTLED_MS) -> dict[str, Model]:
    """Learn for every store; the new models by store id. A store without new conversions keeps its model."""
    data_dir = Path(config.storage.data_dir)  # the keeper may be building the index anew
    if not (data_dir / INDEX).exists() or unfolded(db, data_dir, config.storage) > MOST_UNFOLDED:
        return {}
    found = _learn_all(db, config, now, lambda number: Until(now, now - settled_ms, "received"), None)
    with immediate(db):
        db.execute(_KEEP_NIGHT, divmod(now, DAY_MS))
    return found


def at_once(db: apsw.Connection, config: Config, now: int, store: str | None) -> dict[str, Model]:
    """As `night`, for all stores or one, whenever it is asked for: each store's own events tell what time it is.

    StorageError where the index lacks much: the rows that it lacks would be held in memory.
    """
    if (lacking := unfolded(db, Path(config.storage.data_dir), config.storage)) > MOST_UNFOLDED:
        raise StorageError(f"the index lacks {lacking} rows: start the collector, which builds it, and learn then")

    def until(number: int) -> Until:
        latest = cast("int | None", db.execute(_LATEST, (number,)).get) or 0
        return Until(latest, latest - SETTLED_MS, "ts")

    return _learn_all(db, config, now, until, store)


def _learn_all(
    db: apsw.Connection, config: Config, now: int, until: Callable[[int], Until], only: str | None
) -> dict[str, Model]:
    stores = cast("list[tuple[int, str]]", db.execute("SELECT id, name FROM store").fetchall())
    lookup = Lookup(db, Path(config.storage.data_dir), config.storage)
    try:
        past = partial(SqlitePast, db, lookup)
        return models_of(stores, config, _names(db, config), past, until, now, only)
    finally:
        lookup.close()


def _names(db: apsw.Connection, config: Config) -> KeyedHash | None:
    """The key of names; a courier on another machine has none, and its nights learn nothing of networks."""
    try:
        return KeyedHash(load_pepper(db, Path(config.storage.data_dir), config.privacy.pepper_file))
    except CollectorError:
        return None


class SqlitePast:
    """One store's rows; ids are dense."""

    def __init__(self, db: apsw.Connection, lookup: Lookup, store: int, until: Until) -> None:
        self._db, self._lookup, self._store, self._until = db, lookup, store, until

    def newest(self) -> Model | None:
        return models.newest(self._db, self._store)

    def settled(self, after: int) -> tuple[int, Iterator[list[Stored]]]:
        last = self._first("conversion", self._until.settled) - 1
        return last, self._slices(max(after, last - MOST_ROWS), last)

    def _slices(self, first: int, last: int) -> Iterator[list[Stored]]:
        for start in range(first, last, SLICE):
            rows = self._db.execute(_ROWS, (start, min(start + SLICE, last), self._store)).fetchall()
            yield [Stored(*row) for row in cast("list[Any]", rows)]

    def told(self, through: int) -> int:
        return cast("int | None", self._db.execute(_TOLD, (through,)).get) or 0

    def seen(self, table: Literal["click", "conversion"]) -> Iterator[Seen]:
        last: Any = self._db.execute(f"SELECT coalesce(max(id), 0) FROM {table}").get
        for start in range(max(0, last - MOST_HITS), last, SLICE):
            rows: Any = self._db.execute(_SEEN[table], (start, min(start + SLICE, last), self._store))
            for ts, visitor, address, raw in rows:
                yield Seen(ts, visitor, address, raw if table == "click" else address_of(raw))

    def clicks(self, since: int, most: int) -> list[ClickRow]:
        last = self._lookup.last[CLICKS]
        first = max(1, min(self._first("click", since), last))
        wanted = set(spread(most, first, last)) if last else set()
        rows = self._lookup.click_rows(wanted)
        return [row for row in rows if row.store == self._store and not row.flags & flags.INELIGIBLE]

    def neighbours(self, clicks: Sequence[ClickRow]) -> list[int]:
        return [self._neighbours(click) for click in clicks]

    def _neighbours(self, click: ClickRow) -> int:
        if click.ip_k is None:
            return -1
        since = click.received - NEIGHBOURS_MS
        found = self._lookup.index.find_tagged("ip", click.ip_k, since, MOST_NEIGHBOURS)
        return len({tag for _, tag, _ in found} - {click_tag(click)})

    def networks(self, clicks: Sequence[ClickRow]) -> list[str | None]:
        return [self._lookup.network(click.id)[0] for click in clicks]

    def orders(self, ids: Sequence[int]) -> list[Query]:
        rows = (self._db.execute(_ORDER, (row_id,)).fetchone() for row_id in ids)
        return [query_of(row) for row in rows if row is not None]

    def some(self, since: int, until: int, most: int) -> Iterator[Stored]:
        first, last = (self._first("conversion", moment) for moment in (since, until))
        for row_id in spread(most, first, last - 1) if last > first else []:
            row = cast("Any", self._db.execute(f"{_STORED} WHERE id = ?", (row_id,)).fetchone())
            if row is not None:
                yield Stored(*row)

    def stood(self, queries: Sequence[Query], policy: Policy) -> list[tuple[list[Candidate], Statistics]]:
        return [stood(self._lookup, self._store, query, policy) for query in queries]

    def statistics(self, ts: int, window_ms: int) -> Statistics:
        return self._lookup.statistics(self._store, Query(ts=ts), window_ms)

    def keep(self, model: Model, figures: Sequence[tuple[str, int]], day: int) -> None:
        with immediate(self._db):
            models.save(self._db, self._store, model)
            self._db.executemany(_COUNT, [(day, self._store, name, n) for name, n in figures])

    def _first(self, table: str, moment: int) -> int:
        """The first row whose time is `moment` or later, by halving: rows come in the order of receipt."""
        low, high = 0, cast("int | None", self._db.execute(f"SELECT max(id) FROM {table}").get) or 0
        high += 1
        sql = f"SELECT id, {self._until.clock} FROM {table} WHERE id >= ? ORDER BY id LIMIT 1"
        while low < high:
            middle = (low + high) // 2
            row: Any = self._db.execute(sql, (middle,)).fetchone()
            if row is None or row[1] >= moment:
                high = middle
            else:
                low = row[0] + 1
        return low
