"""What does the courier keep in order: checkpoints, wiped payloads, retention in small slices, signs of life?

It has a connection of its own, so that a slice never makes a batch wait. Each verb is one short transaction and says
how many rows it took; 0 means that nothing is left to do. Deleting costs as much as writing, so slices are small.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Final, cast

import apsw
import msgspec

from collector.core import filling
from collector.core.retention import Cuts
from collector.storage.ground.database import immediate
from collector.storage.rules.network import without_network

SLICE: Final = 500
_LONG_LOG: Final = 1024  # pages: 4 MiB, which the keeper lets it reach only while a reader is in the way

_WIPE_SQL: Final = """
SELECT p.id, o.settled IS NOT NULL AND (o.state IN (10, 13) OR o.settled < :dead)
  FROM outbox_payload p LEFT JOIN outbox o ON o.id = p.id WHERE p.id > :after ORDER BY p.id LIMIT :limit"""
_OLD_CONVERSIONS_SQL: Final = "SELECT id FROM conversion WHERE id < ? AND received < ? ORDER BY id LIMIT ?"
_IDENTITY_SQL: Final = """
SELECT store, kind, key, visitor_k, last_ts FROM identity_link
 WHERE (store, kind, key, visitor_k) > (?, ?, ?, ?) ORDER BY store, kind, key, visitor_k LIMIT ?"""
_BEAT_SQL: Final = """
INSERT INTO heartbeat (process, at, body) VALUES (?, ?, ?)
    ON CONFLICT (process) DO UPDATE SET at = excluded.at, body = excluded.body"""
_DAY_MS: Final = 86_400_000
_ENDS_SQL: Final = "SELECT (SELECT min(id) FROM {0}), (SELECT max(id) FROM {0})"
_BACKLOG_SQL: Final = """
SELECT state, count(*), min(id) FROM outbox WHERE pixel = ? AND settled IS NULL GROUP BY state"""


class Upkeep:
    """Housekeeping on one connection; used from one thread."""

    def __init__(self, db: apsw.Connection) -> None:
        self._db = db
        self._payload_after = 0
        self._network_after = 0
        self._identity_after: tuple[int, int, int, int] = (-(1 << 62), 0, 0, 0)

    # -- signs of life

    def beat(self, process: str, now: int, figures: dict[str, Any]) -> None:
        """Say that the process lives, with its figures."""
        with immediate(self._db):
            self._db.execute(_BEAT_SQL, (process, now, msgspec.json.encode(figures)))

    def backlog(self, pixel: int) -> dict[str, int]:
        """Waiting events by state, and when the oldest was made (ms; 0 with an empty queue)."""
        counts = {0: 0, 1: 0, 2: 0}
        oldest = 0
        for state, n, first in cast("Iterator[tuple[int, int, int]]", self._db.execute(_BACKLOG_SQL, (pixel,))):
            counts[state] = n
            if state < 2:
                created = cast(int, self._db.execute("SELECT created FROM outbox WHERE id = ?", (first,)).get)
                oldest = min(oldest or created, created)
        return {"queued": counts[0], "retrying": counts[1], "held": counts[2], "oldest": oldest}

    def growth(self, now: int, cut: int) -> int:
        """Bytes by which the database grows in a day; `cut` (ms): what is older is deleted."""
        size = cast(int, self._db.execute("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size").get)
        today = kept = 0
        oldest = now
        for table in ("click", "conversion"):
            first, last = cast("tuple[int | None, int]", self._db.execute(_ENDS_SQL.format(table)).fetchone())
            if first is not None:
                kept += last - first + 1
                received = f"SELECT received FROM {table} WHERE id = ?"
                oldest = min(oldest, cast(int, self._db.execute(received, (first,)).get))
                if cast(int, self._db.execute(received, (last,)).get) >= now - _DAY_MS:
                    today += last - max(first, self._first_since(table, "received", now - _DAY_MS)) + 1
        return filling.growth(size, today, kept, oldest, cut)

    def checkpoint(self) -> None:
        """Where the keeper does not keep the log short, move its pages into the file as far as nobody is disturbed."""
        with contextlib.suppress(apsw.BusyError):  # somebody else is at it
            pages, _ = self._db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_NOOP)
            if pages > _LONG_LOG:
                self._db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)

    # -- forgetting

    def wipe_payloads(self, dead_before: int, limit: int = SLICE) -> int:
        """Forget the bytes of what Meta has, of what is never sent, and of old dead letters; wraps around."""
        bind = {"dead": dead_before, "after": self._payload_after, "limit": limit}
        rows = cast("list[tuple[int, int | None]]", self._db.execute(_WIPE_SQL, bind).fetchall())
        if not rows:
            self._payload_after = 0
            return 0
        self._payload_after = rows[-1][0]
        gone = [(number,) for number, over in rows if over or over is None]
        if gone:
            with immediate(self._db):
                self._db.executemany("DELETE FROM outbox_payload WHERE id = ?", gone)
        return len(gone)

    @property
    def wiping(self) -> bool:
        """Whether the last slice was not the end of a round."""
        return self._payload_after > 0

    def cut(self, cuts: Cuts, limit: int = SLICE) -> int:
        """One slice of every kind that is past its time; 0 when nothing is."""
        return (
            self._cut_idempotency(cuts, limit)
            + self._cut_network(cuts, limit)
            + self._cut_conversion_network(cuts, limit)
            + self._cut_clicks(cuts, limit)
            + self._cut_conversions(cuts, limit)
            + self._cut_identities(cuts, limit)
            + self._cut_counters(cuts)
            + self._cut_erased(cuts, limit)
        )

    def _change(self, sql: str, bind: tuple[Any, ...]) -> int:
        with immediate(self._db):
            self._db.execute(sql, bind)
            return self._db.changes()

    def _cut_idempotency(self, cuts: Cuts, limit: int) -> int:
        some = "SELECT key_k FROM idempotency WHERE expires < ? LIMIT ?"
        if self._db.execute(some, (cuts.idempotency, 1)).get is None:
            return 0
        return self._change(f"DELETE FROM idempotency WHERE key_k IN ({some})", (cuts.idempotency, limit))

    def _cut_network(self, cuts: Cuts, limit: int) -> int:
        border = self._first_since("click", "received", cuts.network)
        some = "SELECT id FROM click_network WHERE id < ? ORDER BY id LIMIT ?"
        if self._db.execute(some, (border, 1)).get is None:
            return 0
        return self._change(f"DELETE FROM click_network WHERE id IN ({some})", (border, limit))

    def _cut_conversion_network(self, cuts: Cuts, limit: int) -> int:
        """Take raw address and user agent out of old conversions; each is looked at once per process."""
        border = self._first_since("conversion", "received", cuts.network)
        sql = "SELECT id, body FROM conversion WHERE id > ? AND id < ? ORDER BY id LIMIT ?"
        rows = self._db.execute(sql, (self._network_after, border, limit)).fetchall()
        if not rows:
            return 0
        self._network_after = cast(int, rows[-1][0])
        found = [(without_network(cast(bytes, body)), number) for number, body in rows]
        changed = [pair for pair in found if pair[0] is not None]
        if changed:
            with immediate(self._db):
                self._db.executemany("UPDATE conversion SET body = ? WHERE id = ?", changed)
        return len(rows)

    def _cut_clicks(self, cuts: Cuts, limit: int) -> int:
        border = self._first_since("click", "received", cuts.clicks)
        some = "SELECT id FROM click WHERE id < ? AND last_ts < ? ORDER BY id LIMIT ?"
        if self._db.execute(some, (border, cuts.clicks, 1)).get is None:
            return 0
        return self._change(f"DELETE FROM click WHERE id IN ({some})", (border, cuts.clicks, limit))

    def _cut_conversions(self, cuts: Cuts, limit: int) -> int:
        """Old conversions with all that was said about their delivery."""
        border = self._first_since("conversion", "received", cuts.conversions)
        ids = self._db.execute(_OLD_CONVERSIONS_SQL, (border, cuts.conversions, limit)).fetchall()
        if not ids:
            return 0
        with immediate(self._db):
            for table, key in (("outbox_payload", "id"), ("attempt", "outbox")):
                mine = "SELECT id FROM outbox WHERE conversion = ?"
                self._db.executemany(f"DELETE FROM {table} WHERE {key} IN ({mine})", ids)
            self._db.executemany("DELETE FROM outbox WHERE conversion = ?", ids)
            self._db.executemany("DELETE FROM conversion_identity WHERE conversion = ?", ids)
            self._db.executemany("DELETE FROM conversion WHERE id = ?", ids)
            old = "SELECT id FROM request WHERE at < ? ORDER BY id LIMIT ?"
            self._db.execute(f"DELETE FROM request WHERE id IN ({old})", (cuts.conversions, limit))
        return len(ids)

    def _cut_identities(self, cuts: Cuts, limit: int) -> int:
        rows = self._db.execute(_IDENTITY_SQL, (*self._identity_after, limit)).fetchall()
        if not rows:
            self._identity_after = (-(1 << 62), 0, 0, 0)
            return 0
        self._identity_after = cast("tuple[int, int, int, int]", rows[-1][:4])
        gone = [row[:4] for row in rows if cast(int, row[4]) < cuts.identities]
        if gone:
            sql = "DELETE FROM identity_link WHERE store = ? AND kind = ? AND key = ? AND visitor_k = ?"
            with immediate(self._db):
                self._db.executemany(sql, gone)
        return len(gone)

    def _cut_counters(self, cuts: Cuts) -> int:
        if self._db.execute("SELECT 1 FROM counter WHERE day < ? LIMIT 1", (cuts.counter_day,)).get is None:
            return 0
        return self._change("DELETE FROM counter WHERE day < ?", (cuts.counter_day,))

    def _cut_erased(self, cuts: Cuts, limit: int) -> int:
        """Names of the erased, when all that they could keep out is past its time too; the newest stays for its id."""
        old = "SELECT id FROM erased WHERE at < ? AND id < (SELECT max(id) FROM erased) LIMIT ?"
        if self._db.execute(old, (cuts.conversions, 1)).get is None:
            return 0
        return self._change(f"DELETE FROM erased WHERE id IN ({old})", (cuts.conversions, limit))

    def _first_since(self, table: str, column: str, moment: int) -> int:
        """The first row number whose time is not before `moment`; by halving, for rows come in order of receipt.

        At most the newest row's: it is kept whatever its age, since the next id is one more than it.
        """
        top = cast("int | None", self._db.execute(f"SELECT max(id) FROM {table}").get)
        if top is None:
            return 0
        low, high = 0, top
        while low < high:
            middle = (low + high) // 2
            sql = f"SELECT id, {column} FROM {table} WHERE id >= ? ORDER BY id LIMIT 1"
            row = cast("tuple[int, int] | None", self._db.execute(sql, (middle,)).fetchone())
            if row is None or row[1] >= moment:
                high = middle
            else:
                low = row[0] + 1
        return low
