"""How common values are in a store: clicks per hour, user agents per week, distinct visitors per week.

Kept in memory by the writer thread, one increment per click; the fold keeps the same sums in the index database
(index.py), from which they are read at start. Every figure depends on the set of clicks alone, whatever their order.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import repeat
from math import log

import apsw

from collector.core.flags import INELIGIBLE
from collector.storage.index import SKETCH_BITS, SKETCH_RANK_BITS
from collector.storage.subjects import ClickRow

_HOUR_MS = 3_600_000
_DAY_MS = 24 * _HOUR_MS
_WEEK_MS = 7 * 86_400_000
_LATEST_WEEKS = 14  # an event may be told 90 days late
_WEEKS = 5  # the conversion's week and the four before it: at least the last 28 days
_REGISTERS = 1 << SKETCH_BITS
_ALPHA = 0.7213 / (1 + 1.079 / _REGISTERS)  # HyperLogLog's bias correction for m >= 128 (Flajolet 2007)
_MOST_WAITING = 2_000  # as many as a group has: an order never waits for more
_RANK_MASK = (1 << SKETCH_RANK_BITS) - 1


class Frequencies:
    """Sums per store; owned by the writer thread."""

    def __init__(self) -> None:
        self._hours: dict[int, dict[int, int]] = defaultdict(lambda: defaultdict(int))
        self._days: dict[int, dict[int, int]] = defaultdict(lambda: defaultdict(int))  # their sums
        self._agents: dict[tuple[int, int], dict[int, int]] = defaultdict(lambda: defaultdict(int))
        self._sketches: dict[tuple[int, int], bytearray] = {}
        self._visitors: dict[tuple[int, int], float] = {}  # estimates, until a register changes
        self._waiting: list[ClickRow] = []  # added, not yet counted

    def load(self, db: apsw.Connection) -> None:
        """Read the folded sums; the tail's rows are added one by one after it."""
        for store, hour, n in db.execute("SELECT store, hour, n FROM click_hour"):
            self._hours[store][hour] += n
            self._days[store][hour // 24] += n
        newest = db.execute("SELECT coalesce(max(week), 0) FROM ua_week").get
        for store, week, ua, n in db.execute(
            "SELECT store, week, ua_k, n FROM ua_week WHERE week > ?", (newest - _WEEKS - _LATEST_WEEKS,)
        ):
            self._agents[store, week][ua] += n
        for store, week, register, rank in db.execute("SELECT store, week, register, rank FROM visitor_sketch"):
            self._sketch(store, week)[register] = rank

    def _sketch(self, store: int, week: int) -> bytearray:
        sketch = self._sketches.get((store, week))
        if sketch is None:
            sketch = self._sketches[store, week] = bytearray(_REGISTERS)
        return sketch

    def add(self, row: ClickRow) -> None:
        """Count one click, unless it may not be a candidate; with others, when somebody asks or many wait."""
        self._waiting.append(row)
        if len(self._waiting) >= _MOST_WAITING:
            self._count()

    def _count(self) -> None:
        """Count what waits: side by side, rows of one store and hour cost a third of what each costs alone."""
        rows, self._waiting = self._waiting, []
        counted_store, first, end = None, 0, 0
        for row in rows:
            _, store, ts, _, _, fbclid_k, visitor_k, _, _, ua_k, _, _, bits, _ = row
            if bits & INELIGIBLE:
                continue
            if store != counted_store or not first <= ts < end:
                counted_store, hour, week = store, ts // _HOUR_MS, ts // _WEEK_MS
                first, end = hour * _HOUR_MS, (hour + 1) * _HOUR_MS
                day, hours, days = hour // 24, self._hours[store], self._days[store]
                agents, sketch = self._agents[store, week], self._sketch(store, week)
            hours[hour] += 1
            days[day] += 1
            if ua_k is not None:
                agents[ua_k] += 1
            visitor = visitor_k if visitor_k is not None else fbclid_k
            if visitor is not None:
                rank = SKETCH_RANK_BITS + 1 - ((visitor >> SKETCH_BITS & _RANK_MASK) | 1).bit_length()
                register = visitor & (_REGISTERS - 1)
                if sketch[register] < rank:
                    sketch[register] = rank
                    self._visitors.clear()

    def remove(self, row: ClickRow) -> None:
        """Take back a click whose transaction was rolled back. The sketch keeps its visitor: it is an estimate."""
        if not row.flags & INELIGIBLE:
            self._hours[row.store][row.ts // _HOUR_MS] -= 1
            self._days[row.store][row.ts // _DAY_MS] -= 1
            if row.ua_k is not None:
                self._agents[row.store, row.ts // _WEEK_MS][row.ua_k] -= 1

    def clicks_between(self, store: int, since: int, until: int) -> int:
        """Eligible clicks of the hours that touch [since, until] (ms)."""
        self._count()
        hours = self._hours.get(store)
        if not hours:
            return 0
        first, end = since // _HOUR_MS, until // _HOUR_MS + 1
        day, last_day = -(-first // 24), end // 24  # whole days within: 7 look-ups where hours would be 168
        if day > last_day:
            return _sum(hours, first, end)
        days = self._days[store]
        return _sum(hours, first, day * 24) + _sum(days, day, last_day) + _sum(hours, last_day * 24, end)

    def agent_clicks(self, store: int, ua: int, ts: int) -> tuple[int, int]:
        """(clicks with this user agent, clicks of any) in the last weeks before `ts`."""
        self._count()
        week = ts // _WEEK_MS
        same = sum(self._agents[store, w].get(ua, 0) for w in self._weeks_of(store, week))
        return same, self.clicks_between(store, (week - _WEEKS + 1) * _WEEK_MS, (week + 1) * _WEEK_MS - 1)

    def _weeks_of(self, store: int, week: int) -> list[int]:
        return [w for w in range(week - _WEEKS + 1, week + 1) if (store, w) in self._agents]

    def visitors(self, store: int, ts: int) -> float:
        """Distinct visitors in the last weeks before `ts`, about ±3 % (HyperLogLog, 1,024 registers)."""
        self._count()
        week = ts // _WEEK_MS
        known = self._visitors.get((store, week))
        if known is None:
            known = self._visitors[store, week] = self._estimate(store, week)
        return known

    def _estimate(self, store: int, week: int) -> float:
        sketches = [s for w in range(week - _WEEKS + 1, week + 1) if (s := self._sketches.get((store, w))) is not None]
        if not sketches:
            return 0.0
        ranks = sketches[0] if len(sketches) == 1 else bytes(map(max, *sketches))
        zeros = ranks.count(0)
        estimate = _ALPHA * _REGISTERS * _REGISTERS / sum(_POWERS[r] for r in ranks)
        if estimate <= 2.5 * _REGISTERS and zeros:  # linear counting for small sets
            return _REGISTERS * log(_REGISTERS / zeros)
        return estimate


def _sum(counts: dict[int, int], first: int, end: int) -> int:
    return sum(map(counts.get, range(first, end), repeat(0)))


_POWERS = [2.0**-rank for rank in range(SKETCH_RANK_BITS + 2)]
