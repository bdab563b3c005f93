"""Which stored clicks could a conversion have come from, and how common are its values: tail and index as one."""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterable, Iterator, Sequence
from heapq import merge
from itertools import islice
from pathlib import Path
from typing import Any

import apsw

from collector.config import StorageConfig
from collector.core.flags import UNCONFIRMED, UNCOUNTED
from collector.core.matching import Query, Statistics
from collector.exchange.rows import ClickRow, ConversionRow
from collector.storage.index import changing
from collector.storage.index.frequency import Frequencies
from collector.storage.index.index import IndexReader
from collector.storage.index.origins import Origins
from collector.storage.index.tail import Tail
from collector.storage.rules.matched import AHEAD_MS, MOST_CANDIDATES, PER_KEY, PER_VISITOR
from collector.storage.rules.tables import CLICKS, CONVERSIONS, MINUTE_MS, PLACE, Table, click_tag
from collector.storage.verbs.ports import Named

_DAY_MS = 86_400_000
_VISITORS_COUNTED = 256  # entries read to count a value's visitors; beyond it the count is extrapolated
_PASSED_OVER = 2_048  # entries read of a value, those of later clicks among them
_FREQUENCY_DAYS = 30
_FEW = 1_000  # rows of the tail: a millisecond
_MOST_TOUCHED = 100_000  # far more than change in the second until the folder follows
_FAR = 1 << 62
_NAME_BY = {key.name: key.of for key in CLICKS.keys}
_SHARED = tuple((key, ClickRow._fields.index(f"{key}_k") - 1) for key in ("fbclid", "visitor", "fbp", "ip", "fp"))


class Lookup:
    """Owned by the writer thread; sees the rows of the open transaction through the tail."""

    def __init__(self, db: apsw.Connection, data_dir: Path, config: StorageConfig, horizon: int = _FAR) -> None:
        """`horizon` (ms): no event clock goes beyond it. What claims to be later moves none (C2)."""
        self._db = db
        self.horizon = horizon
        self.index = IndexReader(data_dir, config)
        self.clicks: Tail[ClickRow] = Tail(CLICKS)
        self.conversions: Tail[ConversionRow] = Tail(CONVERSIONS)
        self.unwritten: dict[int, ConversionRow] = {}  # conversions of the open transaction, until they are written
        self.frequencies = Frequencies()
        self.origins = Origins(db)
        self.last = {CLICKS: 0, CONVERSIONS: 0}  # the highest row id that the tail knows of
        self._indexed_until = {CLICKS: 0, CONVERSIONS: 0}  # what was received (ms) later is in the tail alone
        self._begun_after = 0  # clicks above it were appended in the open transaction
        # Clicks that changed after they were stored, as they are now: the index may still have them as they were.
        self._touched: Tail[ClickRow] = Tail(CLICKS)
        self._changing: list[tuple[ClickRow, ClickRow]] = []  # those of the open transaction, before and after
        # The latest event time (ms) of each store: of anything in it, and of its conversions. late.py moves both on.
        self.latest: dict[int, int] = {}
        self.latest_conversion: dict[int, int] = {}
        self._load()

    def _load(self) -> None:
        """Sums and watermarks of one moment, then every row above them."""
        with self.index.connection() as snapshot:
            self.frequencies.load(snapshot)
            for table in (CLICKS, CONVERSIONS):
                self.last[table] = self._refresh(table)
            self._load_changes(changing.followed(snapshot))
        self._catch_up()

    def _load_changes(self, followed: int) -> None:
        """Take over what the index has not followed yet: an earlier life ended before its folder came to it."""
        for before, now in changing.noted(self._db, followed):
            if now.id <= self.last[CLICKS]:
                self._touch(now)
                self.frequencies.remove(before)
                self.frequencies.add(now)

    def _refresh(self, table: Table) -> int:
        """Learn how far the index has come by now: its watermark."""
        self.index.refresh(table)
        through = self.index.watermark(table)
        newest = self._db.execute(
            f"SELECT received FROM {table.name} WHERE id <= ? ORDER BY id DESC LIMIT 1", (through,)
        )
        received = newest.get
        self._indexed_until[table] = received + AHEAD_MS if isinstance(received, int) else 0
        return through

    def _catch_up(self) -> None:
        """Take the rows into the tail that an earlier life appended and the index does not hold yet."""
        for table in (CLICKS, CONVERSIONS):
            select = f"SELECT {table.columns} FROM {table.name} WHERE id > ? ORDER BY id"
            for values in self._db.execute(select, (self.last[table],)):
                row = table.row._make(values)
                self.last[table] = row.id
                self.advance(self.latest, row.store, row.ts)
                if isinstance(row, ClickRow):
                    self.clicks.add(row)
                    self.frequencies.add(row)
                else:
                    self.advance(self.latest_conversion, row.store, row.ts)
                    self.conversions.add(row)

    def advance(self, clock: dict[int, int], store: int, ts: int) -> bool:
        """Move a store's event clock on to `ts`; whether it moved."""
        if clock.get(store, 0) < ts <= self.horizon:
            clock[store] = ts
            return True
        return False

    def append_clicks(self, rows: list[ClickRow]) -> None:
        """Make rows that the open transaction appends findable; their ids follow one another."""
        self.last[CLICKS] = rows[-1].id
        self.clicks.extend(rows)
        self.frequencies.extend(rows)

    def begin(self, horizon: int) -> None:
        """A transaction begins: what is appended from here on is new; `horizon` as above."""
        self.horizon = horizon
        self._begun_after = self.last[CLICKS]

    def is_new(self, click_id: int) -> bool:
        """Whether the click was appended in the open transaction."""
        return click_id > self._begun_after

    def confirm(self, click_id: int) -> bool:
        """Whether this click is on disk as the tail has it: retention may have deleted it, an erasure changed it.

        If not, the tail takes over what is there, and the caller asks again.
        """
        held = self.clicks.get(click_id)
        if held is None or self.is_new(click_id):
            return True
        row = next(map(ClickRow._make, _select(self._db, CLICKS, [click_id])), None)
        if row == held:
            return True
        if row is None:
            self.clicks.discard(click_id)
        else:
            self.clicks.replace(row)
        return False

    def folded(self) -> None:
        """Drop from memory what the index has by now."""
        for table in (CLICKS, CONVERSIONS):
            self.tail_of(table).drop_through(self._refresh(table))

    def changed(self, before: ClickRow, after: ClickRow) -> None:
        """Have a stored click as the open transaction makes it, and count it so."""
        self.clicks.replace(after)
        if before._replace(last_ts=0, body=b"") != after._replace(last_ts=0, body=b""):
            changing.note(self._db, before)
            self.frequencies.remove(before)
            self.frequencies.add(after)
            self._changing.append((before, after))
            self._touch(after)
            self._resketch(before, after)
        else:
            self._touched.replace(after)

    def _resketch(self, before: ClickRow, after: ClickRow) -> None:
        """Count a small shop's visitors without a click that is counted no more, as after a restart.

        Among many one visitor makes no difference to the estimate, and counting anew would take long.
        """
        uncounted = after.flags & UNCOUNTED and not before.flags & UNCOUNTED
        if uncounted and len(self.clicks) <= _FEW and before.id > self.index.watermark(CLICKS):
            day = before.ts // _DAY_MS
            self.frequencies.resketch(before.store, day, self.index.connection(), self.clicks.rows())

    def _touch(self, row: ClickRow) -> None:
        if self._touched.get(row.id) is not None:
            self._touched.replace(row, undo=False)
        else:
            self._touched.add(row)
            self._touched.trim(_MOST_TOUCHED)

    def evict(self, names: Iterable[int]) -> None:
        """Have in memory what is on disk of the rows under these names: another process took them away, or their keys.

        Between transactions, or before the open one has done anything.
        """
        for name in names:
            for key in ("visitor", "fbp", "fbclid"):
                self._reread(self.clicks, CLICKS, key, name)
                self._reread(self._touched, CLICKS, key, name)
            for key in ("dedup", "visitor", "fbp", "fbclid"):
                self._reread(self.conversions, CONVERSIONS, key, name)

    def _reread(self, tail: Tail[Any], table: Table, key: str, name: int) -> None:
        ids = tail.find(key, name, _PASSED_OVER)
        found = {row[0]: row for row in map(table.row._make, _select(self._db, table, ids))}
        for row_id in ids:
            if row_id in found:
                tail.replace(found[row_id], undo=False)
            else:
                tail.discard(row_id)

    def retract(self, last: dict[Table, int]) -> None:
        """Undo the open transaction: forget rows above `last`, give back what was replaced, take the sums back."""
        self.origins.forget()
        for before, after in reversed(self._changing):
            self.frequencies.remove(after)
            self.frequencies.add(before)
            self._touch(before)
        self._changing = []
        self._touched.retract_after(last[CLICKS])
        for row in self.clicks.retract_after(last[CLICKS]):
            self.frequencies.remove(row)
        self.conversions.retract_after(last[CONVERSIONS])
        self.last.update(last)

    def settle(self) -> None:
        """The open transaction is on disk."""
        self.clicks.settle()
        self.conversions.settle()
        self._touched.settle()
        self._changing = []
        self.origins.settle()

    def close(self) -> None:
        self.index.close()

    def tail_of(self, table: Table) -> Tail[ClickRow] | Tail[ConversionRow]:
        return self.clicks if table is CLICKS else self.conversions

    def find(self, table: Table, key: str, name: int, since: int, limit: int = PER_KEY, *, store: int = 0) -> list[int]:
        """At most `limit` ids under `name` received at `since` (ms) or later, newest arrivals first."""
        found = self.tail_of(table).find(key, name, limit)
        if len(found) < limit and since <= self._indexed_until[table]:
            seen = set(found)
            folded = self.index.find(table, key, name, since, limit)
            if table is CLICKS and self._touched:
                same = [i for i in folded if self._touched.get(i) is None]
                folded = sorted({*same, *self._touched.find(key, name, limit)}, reverse=True)
            found += [i for i in folded if i not in seen]
        return found[:limit]

    def names_met(self, clicks: Sequence[tuple[Any, ...]], since: int) -> set[int] | None:
        """Names of new clicks (their columns after id) by which a conversion can be found that is of `since` or later.

        None where that takes a look into the index.
        """
        if since <= self._indexed_until[CONVERSIONS]:
            return None
        names = {key: {row[column] for row in clicks} - {None} for key, column in _SHARED}
        return set().union(*(self.conversions.among(key, asked) for key, asked in names.items()))

    def click_rows(self, ids: set[int]) -> list[ClickRow]:
        """The rows of these clicks, from memory or from disk."""
        return _rows(self._db, self.clicks, ids)

    def conversion_rows(self, ids: set[int]) -> list[ConversionRow]:
        """The rows of these conversions, as they are on disk: the courier wipes them."""
        new = [self.unwritten[i] for i in sorted(ids) if i in self.unwritten]
        ids = ids.difference(self.unwritten) if new else ids
        return [*map(ConversionRow._make, _select(self._db, CONVERSIONS, ids)), *new]

    def rows_of(self, store: int, ids: set[int]) -> list[ClickRow]:
        """Those of the clicks that are the store's, the newest if they are too many."""
        rows = [row for row in self.click_rows(ids) if row.store == store]
        if len(rows) > MOST_CANDIDATES:
            rows = sorted(rows, key=lambda row: (row.ts, row.fbclid_k or 0), reverse=True)[:MOST_CANDIDATES]
        return rows

    def named(self, query: Query, click_ms: int, *, store: int = 0) -> Named:
        """The clicks that the conversion's identifiers name."""
        since = query.ts - click_ms - AHEAD_MS
        ids: set[int] = set() if query.click_id is None else {query.click_id}
        whole = True
        for key, name in (
            ("fbclid", query.fbclid_k),
            ("fbclid", query.fbc_k),
            ("visitor", query.visitor_k),
            ("fbp", query.fbp_k),
        ):
            if name is not None:
                found = self.find(CLICKS, key, name, since)
                whole = whole and len(found) < PER_KEY
                ids.update(found)
        own = bool(ids)
        for visitor in query.identity_visitors:
            if visitor != query.visitor_k:
                found = self.find(CLICKS, "visitor", visitor, since, PER_VISITOR)
                whole = whole and len(found) < PER_VISITOR
                ids.update(found)
        return Named(ids, own, whole and len(ids) <= MOST_CANDIDATES)

    def alike(self, query: Query, window_ms: int, *, store: int = 0) -> set[int]:
        """Clicks from the conversion's address or device."""
        since = query.ts - window_ms - AHEAD_MS
        ids: set[int] = set()
        if query.ip_k is not None:
            if query.ua_k is not None:
                ids.update(self._near("ip_ua", query.ip_k ^ query.ua_k, since, query.ts))
            ids.update(self._near("ip", query.ip_k, since, query.ts))
        if query.fp_k is not None:
            ids.update(self._near("fp", query.fp_k, since, query.ts))
        return ids

    def taken(self, ids: set[int], query: Query, kind: str, *, store: int = 0) -> frozenset[int]:
        """Clicks that an earlier conversion of the same kind has: earlier in event time, whatever arrived first."""
        marks = ", ".join("?" * len(ids))
        sql = f"SELECT click FROM conversion WHERE click IN ({marks}) AND event_type = ? AND {PLACE} < (?, ?)"
        sql += f" AND flags & {UNCONFIRMED} = 0"  # what only a page says holds no click (T6)
        own = (query.ts, query.rank)
        written = {row[0] for row in self._db.execute(sql, (*ids, kind, *own))}
        new = self.unwritten.values()
        sold = [r for r in new if r.event_type == kind and r.place < own and not r.flags & UNCONFIRMED]
        return frozenset(written | {r.click for r in sold if r.click in ids})

    def network(self, click: int) -> tuple[str | None, str | None]:
        """Raw address and user agent of a click, while they are kept."""
        row: Any = self._db.execute("SELECT ip, user_agent FROM click_network WHERE id = ?", (click,)).fetchone()
        return row or (None, None)

    def _near(self, key: str, name: int, since: int, until: int) -> list[int]:
        """As `find`, of clicks made by `until` (ms): an order matched again days later finds what it found then."""
        found = [row.id for row in self._newest(key, name, until, PER_KEY)]
        if len(found) < PER_KEY and since <= self._indexed_until[CLICKS]:
            last = until // MINUTE_MS
            entries = self._indexed(key, name, since)
            seen = set(found)
            earlier = (row_id for row_id, _, minute in entries if minute <= last and row_id not in seen)
            found += islice(earlier, PER_KEY - len(found))
        return found

    def _indexed(self, key: str, name: int, since: int) -> Iterator[tuple[int, int, int]]:
        """Entries of the index, of clicks as they are now: (id, the visitor's tag, minute), newest first."""
        entries = self.index.find_tagged(key, name, since, _PASSED_OVER)
        if not self._touched:
            return entries
        rows = [row for i in self._touched.find(key, name, _PASSED_OVER) if (row := self._touched.get(i)) is not None]
        own = sorted(
            ((row.id, click_tag(row), row.ts // MINUTE_MS) for row in rows if _NAME_BY[key](row) == name), reverse=True
        )
        return merge(own, (entry for entry in entries if self._touched.get(entry[0]) is None), reverse=True)

    def _newest(self, key: str, name: int, until: int, limit: int, since: int = 0) -> list[ClickRow]:
        """At most `limit` rows of the tail under `name`, of clicks in [since, until] (ms, to the minute)."""
        first, last = since // MINUTE_MS, until // MINUTE_MS
        ids = self.clicks.find(key, name, limit)
        rows = [row for i in ids if (row := self.clicks.get(i)) is not None]
        kept = [row for row in rows if first <= row.ts // MINUTE_MS <= last]
        if len(kept) == len(rows) or len(ids) < limit:
            return kept
        rows = [row for i in self.clicks.find(key, name, _PASSED_OVER) if (row := self.clicks.get(i)) is not None]
        return [row for row in rows if first <= row.ts // MINUTE_MS <= last][:limit]

    def statistics(self, store: int, query: Query, window_ms: int) -> Statistics:
        """How common the conversion's values are in its store."""
        frequencies = self.frequencies
        visitors = frequencies.visitors(store, query.ts)
        on_ua = 0.0
        if query.ua_k is not None:
            same, every = frequencies.agent_clicks(store, query.ua_k, query.ts)
            on_ua = visitors * same / every if every else 0.0
        return Statistics(
            **self.origins.of(store, query.kind, query.ts, window_ms),
            clicks_in_window=frequencies.clicks_between(store, query.ts - window_ms, query.ts),
            visitors=visitors,
            visitors_on_ip=min(self._visitors_on("ip", query.ip_k, query.ts), visitors),
            visitors_on_ua=on_ua,
            visitors_on_fp=min(self._visitors_on("fp", query.fp_k, query.ts), visitors),
        )

    def _visitors_on(self, key: str, name: int | None, ts: int) -> float:
        """Distinct visitors on a value in the 30 days before `ts`; extrapolated where they are too many to read."""
        if name is None:
            return 0.0
        since = ts - _FREQUENCY_DAYS * _DAY_MS
        entries = {row.id: click_tag(row) for row in self._newest(key, name, ts, _VISITORS_COUNTED, since)}
        if len(entries) < _VISITORS_COUNTED:
            first, last = since // MINUTE_MS, ts // MINUTE_MS
            passed: list[tuple[int, int]] = []
            for row_id, tag, minute in self._indexed(key, name, since - AHEAD_MS):
                if first <= minute <= last:
                    entries[row_id] = tag
                    if len(entries) >= _VISITORS_COUNTED:
                        break
                else:
                    passed.append((row_id, tag))
            else:
                if len(passed) > _PASSED_OVER - _VISITORS_COUNTED:  # so hot that its past is out of reach: as it is now
                    entries.update(passed)
        if len(entries) < _VISITORS_COUNTED:
            return float(len(set(entries.values())))
        newest = sorted(entries, reverse=True)[:_VISITORS_COUNTED]
        spanned = max(newest[0] - newest[-1], 1)
        covered = max(newest[0] - self.index.first_id(CLICKS, since), spanned)
        return len({entries[i] for i in newest}) * covered / spanned


def _rows(db: apsw.Connection, tail: Tail[ClickRow], ids: set[int]) -> list[ClickRow]:
    rows: list[ClickRow] = []
    missing = []
    for row_id in ids:
        row = tail.get(row_id)
        if row is not None:
            rows.append(row)
        else:
            missing.append(row_id)
    if missing:
        rows.extend(map(ClickRow._make, _select(db, CLICKS, missing)))
    return rows


def _select(db: apsw.Connection, table: Table, ids: Collection[int]) -> Iterable[tuple[Any, ...]]:
    if not ids:
        return ()
    if len(ids) == 1:  # nearly always, and in half the time
        return db.execute(f"SELECT {table.columns} FROM {table.name} WHERE id = ?", tuple(ids))
    select = f"SELECT {table.columns} FROM {table.name} WHERE id IN (SELECT value FROM carray(?))"
    return db.execute(select, (apsw.carray(memoryview(array("q", ids))),))
