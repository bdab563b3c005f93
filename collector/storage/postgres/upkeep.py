"""What is kept in order on PostgreSQL: weeks made and dropped, payloads wiped, retention in slices, counters folded.

Each verb is one short transaction and says how many rows it took. Of several couriers one at a time does what concerns
all: who finds another at it does nothing.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from collector.core.retention import Cuts
from collector.core.times import AHEAD_MS
from collector.storage.postgres import folding, ids, partitions
from collector.storage.postgres.connecting import Connection
from collector.storage.postgres.threaded import Threaded
from collector.storage.rules.network import without_network

SLICE: Final = 500
_FOLDED: Final = 5_000
_MOST_FOLDED: Final = 40_000
_SWEEP_S: Final = 60.0  # that it may take to look through all sums
_UNPLACED: Final = 5_000  # each slice looks through those of the week before it
_FORGOTTEN: Final = 20_000  # sums of a week
_QUARTER_MS: Final = 900_000
_DAY_MS: Final = 86_400_000
_ALONE: Final = "SELECT pg_try_advisory_xact_lock(hashtext('collector upkeep'))"
_BEAT: Final = """
INSERT INTO heartbeat (process, at, body) VALUES ($1, $2, $3)
    ON CONFLICT (process) DO UPDATE SET at = excluded.at, body = excluded.body"""
_SILENT: Final = "DELETE FROM heartbeat WHERE at < $1"
_BACKLOG: Final = """
SELECT state, count(*) AS n, min(created) AS first FROM outbox WHERE pixel = $1 AND settled IS NULL GROUP BY state"""

_PAYLOADS: Final = "SELECT id FROM outbox_payload WHERE id > $1 ORDER BY id LIMIT $2"
# Locked, for whoever brings one back to life writes its payload anew.
_OVER: Final = """
SELECT id FROM outbox WHERE id = ANY($1::bigint[]) AND settled IS NOT NULL AND (state IN (10, 13) OR settled < $2)
   FOR UPDATE SKIP LOCKED"""
_WIPE: Final = "DELETE FROM outbox_payload WHERE id = ANY($1::bigint[])"

_CUT_IDEMPOTENCY: Final = """
DELETE FROM idempotency WHERE key_k IN (SELECT key_k FROM idempotency WHERE expires < $1 LIMIT $2)"""
# What came from SQLite keeps its ids, which tell no time.
_CUT_NETWORK: Final = """
DELETE FROM click_network WHERE id IN (
    (SELECT id FROM click_network WHERE id >= $3 AND id < $1 ORDER BY id LIMIT $2)
    UNION ALL (SELECT n.id FROM click_network_sqlite n LEFT JOIN click_sqlite c ON c.id = n.id
                WHERE c.id IS NULL OR c.received < $4 ORDER BY n.id LIMIT $2))"""
_BODIES: Final = """
SELECT id, store, received, body FROM conversion WHERE id > $1 AND id < $2 ORDER BY id LIMIT $3 FOR UPDATE"""
_BARE: Final = "UPDATE conversion SET body = $3 WHERE id = $1 AND store = $2"
# Through the whole table, whose triggers keep the sums.
_CUT_SQLITES: Final = """
DELETE FROM click WHERE id < $3 AND id IN (SELECT id FROM click_sqlite WHERE last_ts < $1 ORDER BY id LIMIT $2)"""
# Orders of clicks that are about to go count at no place any more.
_UNPLACE: Final = """
UPDATE conversion SET place = 0 WHERE (id, store) IN (
    SELECT id, store FROM conversion
     WHERE store = ANY(ARRAY(SELECT id FROM store)) AND click >= $1 AND click < $2 AND place <> 0 LIMIT $3)"""
_WAIT_A_LITTLE: Final = "SET LOCAL lock_timeout = '1s'"  # every click waits behind it
_CUT_SIGHTINGS: Final = """
DELETE FROM sighting WHERE (store, fbclid_k, visitor_k) IN (
    SELECT store, fbclid_k, visitor_k FROM sighting WHERE ts < $1 AND id < $2 LIMIT $3)"""
_OLD: Final = """
SELECT id FROM conversion WHERE id < $1 AND received < $2 ORDER BY id LIMIT $3 FOR UPDATE SKIP LOCKED"""
# Ids are one sequence over all stores: the stores are named for the indexes that begin with them.
_OUTBOX_OF: Final = """
SELECT id FROM outbox WHERE conversion = ANY($1::bigint[]) AND store = ANY(ARRAY(SELECT id FROM store))"""
_WITH_CONVERSION: Final = (
    *(
        f"DELETE FROM {table} WHERE conversion = ANY($1::bigint[]) AND store = ANY(ARRAY(SELECT id FROM store))"
        for table in (
            "conversion_identity",
            "unweighed",
            "reopened",
            "notice",
            "order_name",
            "sent_before",
            "shop_note",
            "shop_order",
            "outbox",
        )
    ),
    "DELETE FROM conversion WHERE id = ANY($1::bigint[])",
)
_WITH_OUTBOX: Final = (
    "DELETE FROM outbox_payload WHERE id = ANY($1::bigint[])",
    "DELETE FROM attempt WHERE outbox = ANY($1::bigint[])",
)
_CUT_REQUESTS: Final = """
DELETE FROM request WHERE id IN (
    SELECT id FROM request WHERE at < $1 AND outcome <> 'in_flight' ORDER BY id LIMIT $2)"""
_IDENTITIES: Final = """
SELECT store, kind, key, visitor_k, last_ts FROM identity_link
 WHERE (store, kind, key, visitor_k) > ($1, $2, $3, $4) ORDER BY store, kind, key, visitor_k LIMIT $5"""
_CUT_IDENTITY: Final = """
DELETE FROM identity_link WHERE store = $1 AND kind = $2 AND key = $3 AND visitor_k = $4 AND last_ts < $5"""
_CUT_COUNTERS: Final = "DELETE FROM counter WHERE day < $1"
# The days that are over, in the rows of edge 0; who adds to one later makes a row that is folded the next time.
_FOLD: Final = """
WITH gone AS (DELETE FROM counter WHERE day < $1 AND edge <> 0 RETURNING day, store, name, n)
INSERT INTO counter (day, store, name, edge, n) SELECT day, store, name, 0, sum(n) FROM gone GROUP BY day, store, name
    ON CONFLICT (day, store, name, edge) DO UPDATE SET n = counter.n + excluded.n"""
_MOST_NOTES: Final = 100  # of a kind and store
_CUT_NOTES: Final = f"""
DELETE FROM shop_note WHERE (store, kind, called) IN (
    SELECT store, kind, called FROM (
        SELECT store, kind, called, row_number() OVER (PARTITION BY store, kind ORDER BY at DESC, called) AS n
          FROM shop_note) AS notes WHERE n > {_MOST_NOTES} LIMIT $1)"""
_DELIVERY_MS: Final = 8 * _DAY_MS  # that a shop's delivery is known for (D1)
_CUT_DELIVERIES: Final = "DELETE FROM shop_delivery WHERE id IN (SELECT id FROM shop_delivery WHERE at < $1 LIMIT $2)"
_FIGURE_DAYS: Final = 122  # an event may be told 90 days late, and its figures go back 30 days
_CUT_FIGURES: Final = (
    ("DELETE FROM click_hour WHERE hour < $1", 24),
    ("DELETE FROM order_hour WHERE hour < $1", 24),
    ("DELETE FROM ua_day WHERE day < $1", 1),
    ("DELETE FROM visitor_sketch WHERE day < $1", 1),
)
_CUT_ERASED: Final = "DELETE FROM erased WHERE id IN (SELECT id FROM erased WHERE at < $1 LIMIT $2)"
_FIRST_IDENTITY: Final = (-(1 << 31), 0, 0, 0)


class PostgresUpkeep:
    """Asked from one thread."""

    def __init__(self, threaded: Threaded) -> None:
        self._ask = threaded.ask
        self._host = socket.gethostname()
        self._payload_after = 0
        self._network_after = 0
        self._identity_after = _FIRST_IDENTITY
        self._is_swept = True

    # -- signs of life

    def beat(self, process: str, now: int, figures: dict[str, Any]) -> None:
        """Say that the process lives, with its figures; who was silent for a day is forgotten."""

        async def write(c: Connection) -> None:
            await c.execute(_BEAT, f"{process}@{self._host}", now, msgspec.json.encode(figures))
            await c.execute(_SILENT, now - _DAY_MS)

        self._ask(write)

    def backlog(self, pixel: int) -> dict[str, int]:
        """Waiting events by state, and when the oldest was made (ms; 0 with an empty queue)."""
        found = {row["state"]: row for row in self._ask(lambda c: c.fetch(_BACKLOG, pixel))}
        counts = {state: found[state]["n"] if state in found else 0 for state in (0, 1, 2)}
        oldest = min((found[state]["first"] for state in (0, 1) if state in found), default=0)
        return {"queued": counts[0], "retrying": counts[1], "held": counts[2], "oldest": oldest}

    def growth(self, now: int, cut: int) -> int:
        """Nothing on this machine's disk grows: the server's is the server's."""
        return 0

    def checkpoint(self) -> None:
        """The log is the server's own; but what is new is folded into the sums."""
        most = _FOLDED
        while self._ask(lambda c: folding.fold(c, most)) >= most:  # noqa: B023  asked at once
            most = min(2 * most, _MOST_FOLDED)  # whoever has let much come about scans the less for it

    # -- forgetting

    def wipe_payloads(self, dead_before: int, limit: int = SLICE) -> int:
        """Forget the bytes of what is never sent and of old dead letters; wraps around. What is sent has none."""

        async def wipe(c: Connection) -> tuple[int, int]:
            numbers = [row["id"] for row in await c.fetch(_PAYLOADS, self._payload_after, limit)]
            over = [row["id"] for row in await c.fetch(_OVER, numbers, dead_before)] if numbers else []
            if over:
                await c.execute(_WIPE, over)
            return numbers[-1] if numbers else 0, len(over)

        self._payload_after, gone = self._ask(wipe)
        return gone

    @property
    def wiping(self) -> bool:
        """Whether the last slice was not the end of a round."""
        return self._payload_after > 0

    def cut(self, cuts: Cuts, limit: int = SLICE) -> int:
        """One slice of every kind that is past its time; 0 when nothing is, or another courier is at it.

        Weeks go in a transaction of their own: until it ends, nobody can read or write any click.
        """

        async def cut(c: Connection) -> int:
            if not await c.fetchval(_ALONE):
                return 0
            await partitions.ahead(c, cuts.idempotency)
            return sum([await one(c, cuts, limit) for one in self._kinds()])

        gone = self._ask(cut) + self._ask(lambda c: _weeks(c, cuts.clicks, limit))
        if not gone and not self._is_swept:
            self._ask(lambda c: folding.sweep(c, cuts.conversions // _QUARTER_MS), _SWEEP_S)
            self._is_swept = True
        return gone

    def _kinds(self) -> Sequence[Any]:
        return (_small, _sqlites, self._network_of_conversions, self._conversions, self._identities)

    async def _network_of_conversions(self, c: Connection, cuts: Cuts, limit: int) -> int:
        """Take raw address and user agent out of old conversions; each is looked at once per process."""
        rows = await c.fetch(_BODIES, self._network_after, ids.first_of(cuts.network), limit)
        old = [row for row in rows if row["received"] < cuts.network]
        if old == rows and rows:
            self._network_after = rows[-1]["id"]
        found = [(row["id"], row["store"], without_network(row["body"])) for row in old]
        await c.executemany(_BARE, [one for one in found if one[2] is not None])
        return len(rows) if old == rows else 0

    async def _conversions(self, c: Connection, cuts: Cuts, limit: int) -> int:
        gone = await _conversions(c, cuts, limit)
        self._is_swept &= not gone
        return gone

    async def _identities(self, c: Connection, cuts: Cuts, limit: int) -> int:
        rows = await c.fetch(_IDENTITIES, *self._identity_after, limit)
        self._identity_after = tuple(rows[-1])[:4] if rows else _FIRST_IDENTITY
        gone = [tuple(row)[:4] for row in rows if row["last_ts"] < cuts.identities]
        await c.executemany(_CUT_IDENTITY, [(*row, cuts.identities) for row in gone])
        return len(gone)


async def _small(c: Connection, cuts: Cuts, limit: int) -> int:
    said = [
        await c.execute(_CUT_IDEMPOTENCY, cuts.idempotency, limit),
        await c.execute(_CUT_NETWORK, ids.first_of(cuts.network), limit, ids.SQLITE, cuts.network),
        await c.execute(_CUT_COUNTERS, cuts.counter_day),
        await c.execute(_CUT_ERASED, cuts.conversions, limit),
        await c.execute(_CUT_NOTES, limit),
        await c.execute(_CUT_DELIVERIES, cuts.idempotency - _DELIVERY_MS, limit),
    ]
    oldest = cuts.idempotency // _DAY_MS - _FIGURE_DAYS
    said += [await c.execute(sql, oldest * a_day) for sql, a_day in _CUT_FIGURES]
    await c.execute(_FOLD, cuts.idempotency // _DAY_MS)
    return sum(map(_count, said))


async def _sqlites(c: Connection, cuts: Cuts, limit: int) -> int:
    """Clicks of SQLite go row by row."""
    return _count(await c.execute(_CUT_SQLITES, cuts.clicks, limit, ids.SQLITE))


async def _weeks(c: Connection, cut: int, limit: int) -> int:
    """A week goes whole, once all of it is past its time (`cut`: ms) and nobody is known by it."""
    if not await c.fetchval(_ALONE):
        return 0
    _, _, border = next(partitions.weeks(cut))  # the first id of the week that is still needed
    gone = _count(await c.execute(_CUT_SIGHTINGS, ids.ms_of(border) + AHEAD_MS, border, limit))
    return gone or await _drop_weeks(c, cut)


async def _drop_weeks(c: Connection, cut: int) -> int:
    """Whole weeks, once their orders count elsewhere; how many rows were changed, or weeks given up."""
    ended = await partitions.ended(c, "click", cut)
    for part in ended:
        first, after = partitions.bounds(part)
        changed = _count(await c.execute(_UNPLACE, first, after, _UNPLACED))
        if changed := changed or await folding.forget_week(c, partitions.week_named(part), _FORGOTTEN):
            return changed
    await c.execute(_WAIT_A_LITTLE)
    dropped = await partitions.drop_before(c, cut)
    if ended:
        await folding.forget_late(c, [partitions.week_named(part) for part in ended])
    return len(dropped)


async def _conversions(c: Connection, cuts: Cuts, limit: int) -> int:
    """Old conversions with all that was said about their delivery."""
    old = [row["id"] for row in await c.fetch(_OLD, ids.first_of(cuts.conversions), cuts.conversions, limit)]
    if not old:
        return 0
    outbox = [row["id"] for row in await c.fetch(_OUTBOX_OF, old)]
    for sql in _WITH_OUTBOX:
        await c.execute(sql, outbox)
    for sql in _WITH_CONVERSION:
        await c.execute(sql, old)
    await c.execute(_CUT_REQUESTS, cuts.conversions, limit)
    return len(old)


def _count(said: str) -> int:
    """`DELETE 3`."""
    return int(said.rpartition(" ")[2])
