"""How common values are in a store: clicks per hour, user agents per day, distinct visitors per day.

Kept in memory by the writer thread, one increment per click; the fold keeps the same sums in the index database
(index.py), from which they are read at start. Every figure depends on the set of clicks alone, whatever their order,
and ends with the hour or the day that is asked for: an order looked at again days later has the figures of its time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from itertools import repeat

import apsw

from collector.core.flags import UNCOUNTED
from collector.exchange.rows import ClickRow
from collector.storage.index.sums import SUM_DAYS
from collector.storage.rules.visitors import RANK_MASK, REGISTERS, SKETCH_BITS, SKETCH_RANK_BITS, Union, place_of

_HOUR_MS = 3_600_000
_DAY_MS = 24 * _HOUR_MS
_DAYS = 30  # the conversion's day and those before it
_MOST_UNIONS = 100  # 1 KB each: today's, those of the orders that are matched a last time, and a backfill's
_MOST_WAITING = 2_000  # as many as a group has: an order never waits for more
_MANY = 256  # clicks of one store and hour side by side, after which it pays to look for the lowest register
_ANY = 1 << SKETCH_RANK_BITS
_FOLDED_SKETCH = "SELECT register, rank FROM visitor_sketch WHERE store = ? AND day = ?"


class Frequencies:
    """Sums per store; owned by the writer thread."""

    def __init__(self) -> None:
        self._hours: dict[int, dict[int, int]] = defaultdict(lambda: defaultdict(int))
        self._days: dict[int, dict[int, int]] = defaultdict(lambda: defaultdict(int))  # their sums
        self._agents: dict[tuple[int, int], dict[int, int]] = defaultdict(lambda: defaultdict(int))
        self._sketches: dict[tuple[int, int], bytearray] = {}
        # Of a busy day's visitors, only those whose upper bits are below this raise a register.
        self._useful: dict[tuple[int, int], int] = {}
        self._unions: dict[int, dict[int, Union]] = defaultdict(dict)  # by store and last day
        self._waiting: list[ClickRow] = []  # added, not yet counted

    def load(self, db: apsw.Connection) -> None:
        """Read the folded sums; the tail's rows are added one by one after it."""
        for store, hour, n in db.execute("SELECT store, hour, n FROM click_hour"):
            self._hours[store][hour] += n
            self._days[store][hour // 24] += n
        since = db.execute("SELECT coalesce(max(day), 0) FROM ua_day").get - SUM_DAYS
        for store, day, ua, n in db.execute("SELECT store, day, ua_k, n FROM ua_day WHERE day > ?", (since,)):
            self._agents[store, day][ua] += n
        sketches = db.execute("SELECT store, day, register, rank FROM visitor_sketch WHERE day > ?", (since,))
        for store, day, register, rank in sketches:
            self._sketch(store, day)[register] = rank

    def _sketch(self, store: int, day: int) -> bytearray:
        sketch = self._sketches.get((store, day))
        if sketch is None:
            sketch = self._sketches[store, day] = bytearray(REGISTERS)
            self._forget(store, day - SUM_DAYS)
        return sketch

    def _forget(self, store: int, before: int) -> None:
        """Drop a store's days that no order asks for any more; once a day."""
        for known in (self._sketches, self._agents, self._useful):
            for key in [key for key in known if key[0] == store and key[1] <= before]:
                del known[key]

    def add(self, row: ClickRow) -> None:
        """As `extend`, for one click."""
        self.extend((row,))

    def extend(self, rows: Iterable[ClickRow]) -> None:
        """Count clicks, but those that stand apart (flags.py); with others, when somebody asks or many wait."""
        self._waiting += rows
        if len(self._waiting) >= _MOST_WAITING:
            self._count()

    def _count(self) -> None:
        """Count what waits: side by side, rows of one store and hour cost a third of what each costs alone."""
        rows, self._waiting = self._waiting, []
        counted_store, hour, first, end, n, useful = 0, 0, 0, 0, 0, 0
        for row in rows:
            _, store, ts, _, _, fbclid_k, visitor_k, _, _, ua_k, _, _, bits, _ = row
            if bits & UNCOUNTED:
                continue
            if store != counted_store or not first <= ts < end:
                self._count_hour(counted_store, hour, n)
                counted_store, hour, n = store, ts // _HOUR_MS, 0
                first, end = hour * _HOUR_MS, (hour + 1) * _HOUR_MS
                day = hour // 24
                agents, sketch = self._agents[store, day], self._sketch(store, day)
                useful = self._useful.get((store, day), _ANY)
            n += 1
            if ua_k is not None:
                agents[ua_k] += 1
            visitor = visitor_k if visitor_k is not None else fbclid_k
            if visitor is not None and visitor >> SKETCH_BITS & RANK_MASK < useful:
                self._sight(sketch, store, day, *place_of(visitor))
        self._count_hour(counted_store, hour, n)

    def _count_hour(self, store: int, hour: int, n: int) -> None:
        if n:
            day = hour // 24
            self._hours[store][hour] += n
            self._days[store][day] += n
            if n >= _MANY:
                lowest = min(self._sketches[store, day])
                self._useful[store, day] = 1 << max(SKETCH_RANK_BITS - lowest, 0)

    def _sight(self, sketch: bytearray, store: int, day: int, register: int, rank: int) -> None:
        """Have the day's sketch, and the unions that it is in, know of a visitor."""
        if sketch[register] < rank:
            sketch[register] = rank
            for last, union in self._unions[store].items():
                if 0 <= last - day < _DAYS:
                    union.raise_to(register, rank)

    def remove(self, row: ClickRow) -> None:
        """Take back a click whose transaction was rolled back. The sketch keeps its visitor: it is an estimate."""
        if not row.flags & UNCOUNTED:
            self._hours[row.store][row.ts // _HOUR_MS] -= 1
            self._days[row.store][row.ts // _DAY_MS] -= 1
            if row.ua_k is not None:
                self._agents[row.store, row.ts // _DAY_MS][row.ua_k] -= 1

    def resketch(self, store: int, day: int, db: apsw.Connection, rows: Iterable[ClickRow]) -> None:
        """Make a day's sketch anew: from the index (`db`) and from the rows that it may lack."""
        self._count()
        if (store, day) not in self._sketches:
            return
        sketch = self._sketches[store, day] = bytearray(REGISTERS)
        self._useful.pop((store, day), None)
        self._unions.pop(store, None)
        for register, rank in db.execute(_FOLDED_SKETCH, (store, day)):
            sketch[register] = rank
        for row in rows:
            if row.store == store and row.ts // _DAY_MS == day and not row.flags & UNCOUNTED:
                visitor = row.visitor_k if row.visitor_k is not None else row.fbclid_k
                if visitor is not None:
                    self._sight(sketch, store, day, *place_of(visitor))

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
        """(clicks with this user agent, clicks of any) in the last days through that of `ts`."""
        self._count()
        end = ts // _DAY_MS + 1
        agents, same = self._agents, 0
        for day in range(end - _DAYS, end):
            clicks = agents.get((store, day))
            if clicks is not None:
                same += clicks.get(ua, 0)
        days = self._days.get(store)
        return same, _sum(days, end - _DAYS, end) if days else 0

    def visitors(self, store: int, ts: int) -> float:
        """Distinct visitors in the last days through that of `ts`, about ±3 % (HyperLogLog, 1,024 registers)."""
        self._count()
        day, unions = ts // _DAY_MS, self._unions[store]
        union = unions.get(day)
        if union is None:
            if len(unions) >= _MOST_UNIONS:
                del unions[next(iter(unions))]
            days = [s for d in range(day - _DAYS + 1, day + 1) if (s := self._sketches.get((store, d))) is not None]
            union = unions[day] = Union(days)
        return union.visitors()


def _sum(counts: dict[int, int], first: int, end: int) -> int:
    return sum(map(counts.get, range(first, end), repeat(0)))
