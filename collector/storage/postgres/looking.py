"""The look after the commit, and what else is matched anew between groups.

Two transactions that run at once do not see each other. So after its commit every group asks once more, of a new
moment, what shares a key with what it stored: clicks for orders, orders for clicks, links, pages' tellings. Whichever
of two committed last sees both. It costs no lock and no answer waits for it; done twice, it does no harm.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any, Final

from msgspec import Struct

from collector.core.matching.proofs import ENRICHING
from collector.core.matching.shapes import OPEN_MS
from collector.exchange.rows import ClickRow, ConversionRow
from collector.exchange.stores import Store
from collector.storage.postgres import single
from collector.storage.postgres.connecting import Connection
from collector.storage.postgres.group import Group
from collector.storage.postgres.memory import Memory, Question
from collector.storage.postgres.questions import answer
from collector.storage.rules.matched import AHEAD_MS
from collector.storage.rules.tables import CLICKS, CONVERSIONS
from collector.storage.verbs.relations import MOST, SKEW_MS

_PIECE: Final = 200  # clicks
AT_ONCE: Final = 16  # of what waits, in one transaction: other edges' groups may wait for its locks
_COMPARED: Final = ("links", "told", "called")
_TAKE: Final = """
SELECT {columns} FROM {table} ORDER BY conversion LIMIT {most} FOR UPDATE SKIP LOCKED"""
REOPENED: Final = _TAKE.format(columns="store, conversion, anyway", table="reopened", most=AT_ONCE)
UNWEIGHED: Final = _TAKE.format(columns="store, conversion, false", table="unweighed", most=AT_ONCE)
DUE: Final = """
SELECT EXISTS (SELECT 1 FROM reopened), EXISTS (SELECT 1 FROM unweighed), ARRAY(
       SELECT t.store FROM unnest($1::int[], $2::bigint[]) t (store, over)
        WHERE EXISTS (SELECT 1 FROM unproven u WHERE u.store = t.store AND u.ts < t.over))"""
OVER: Final = f"""
SELECT store, conversion, ts FROM unproven WHERE store = $1 AND ts < $2 ORDER BY ts, conversion
 LIMIT {AT_ONCE} FOR UPDATE SKIP LOCKED"""
LANDED: Final = """
SELECT DISTINCT b.store, b.conversion FROM sent_before b LEFT JOIN outbox o ON o.id = b.outbox AND o.store = b.store
 WHERE o.state = 10 OR o.id IS NOT NULL AND o.doubt_at IS NULL
    OR NOT b.looked AND (o.state IN (11, 12) OR o.doubt_at <= $1) LIMIT 16"""
DONE: Final = "DELETE FROM {} WHERE store = ANY($1::int[]) AND conversion = ANY($2::bigint[])"
DONE_AT: Final = "DELETE FROM unproven WHERE store = $1 AND ts = ANY($2::bigint[]) AND conversion = ANY($3::bigint[])"


class Stored:
    """What a group has committed, as far as its look must know it."""

    def __init__(self, memory: Memory) -> None:
        self.clicks = memory.changed_clicks
        self.orders = memory.changed_orders
        self.news = memory.news
        self.first = min(memory.given, default=0)
        self._own = memory.changes
        self._answers = memory.answers if self.orders else {}
        self._rows = {table: dict(rows) for table, rows in memory.stored.items()} if self.orders else {}

    def __bool__(self) -> bool:
        return bool(self.clicks or self.orders or self.news)

    def questions(self) -> list[Question]:
        """What its orders were judged by."""
        return [q for q in self._answers if q[0] in _COMPARED or q[0] == "near" or q[:2] == ("find", "click")]

    def differs(self, question: Question, now: Memory) -> bool:
        """Whether that is answered otherwise by now, by somebody else's doing."""
        before, after = self._answers[question], now.answers[question]
        if question[0] == "links":
            return bool(({row[0] for row in after} ^ {row[0] for row in before}) - self._own_links(question))
        if question[0] in ("told", "called"):
            return bool({str(one) for one in after} - {str(one) for one in before} - self._own_numbers())
        own = self._own.rows[CLICKS]
        if set(before) - set(after) - own.keys():  # somebody has withdrawn
            return True
        return any(i not in own and _known_by(now.stored[CLICKS][i]) != self._was(i) for i in after)

    def told_meanwhile(self, question: Question, now: Memory) -> set[tuple[int, int]]:
        """Pages' tellings (store, conversion) of its orders that somebody else has stored since it asked."""
        if question[0] != "told":
            return set()
        others = set(now.answers[question]) - set(self._answers[question]) - {row.id for _, row in self.orders}
        return {(question[1], number) for number in others}

    def _was(self, click: int) -> Any:
        row = self._rows[CLICKS].get(click)
        return _known_by(row) if row is not None else None

    def _own_links(self, question: Question) -> set[int]:
        return {place[3] for place in self._own.links if place[:3] == question[1:]}

    def _own_numbers(self) -> set[str]:
        return {str(row.id) for _, row in self.orders}


class Left:
    """What another edge has committed and not looked through, as its rows are now.

    Which of the links of its orders were new then nobody knows: all may be.
    """

    def __init__(self, clicks: single.Clicks, orders: single.Orders, news: list[tuple[int, int]]) -> None:
        self.clicks, self.orders, self.news = clicks, orders, news


async def left_by(connection: Connection, edge: int, looked: int) -> list[Left]:
    """All that an edge has stored or changed from this id on, in pieces."""
    clicks, orders = await single.of_edge(connection, edge, looked)
    found = [Left(clicks[n : n + _PIECE], [], []) for n in range(0, len(clicks), _PIECE)]
    for n in range(0, len(orders), MOST):
        some = orders[n : n + MOST]
        found.append(Left([], some, await single.carried(connection, some)))
    return found


def _known_by(row: ClickRow) -> tuple[Any, ...]:
    """What a match asks of a click."""
    return row._replace(last_ts=0, body=b"")


class Changed(Struct, frozen=True):
    """What became another while a group was written: its orders, if to be judged again; pages' word of them."""

    orders: frozenset[int] = frozenset()
    told: frozenset[tuple[int, int]] = frozenset()  # store, conversion


async def look(connection: Connection, stored: Stored | Left, made: Callable[[], Memory]) -> Changed:
    """Whether what a group's orders were judged by is another by now."""
    every = frozenset(row.id for _, row in stored.orders)
    if isinstance(stored, Left):
        return Changed(every)
    asked = stored.questions()
    if not asked:
        return Changed()
    now = made()
    await answer(connection, now, asked)
    differs = any(stored.differs(question, now) for question in asked)
    told = frozenset(one for question in asked for one in stored.told_meanwhile(question, now))
    return Changed(every if differs else frozenset(), told)


class Look:
    """What must be matched anew after a group, over a memory of a moment after its commit."""

    def __init__(
        self, stored: Stored | Left, changed: Changed, stores: dict[int, Store], clocks: dict[int, int]
    ) -> None:
        self._stored, self._again, self._told = stored, changed.orders, changed.told
        self._stores, self._clocks = stores, clocks
        self._siblings = {number: store.siblings for number, store in stores.items() if store.siblings}

    def __call__(self, group: Group) -> None:
        """Have it done now, and what rests on it soon."""
        wanted: dict[int, int] = {}  # conversion -> not before (ms)
        for before, row in self._stored.clicks:
            self._of_click(group, before, row, wanted)
        for store, key in self._stored.news:
            wanted |= dict.fromkeys(group.identities.carrying_few(store, key), 0)
        group.memory.changes.unweighed.update({number: store for store, number in self._told})
        for before_order, order in self._stored.orders:
            if (known := self._stores.get(order.store)) is not None:
                wanted |= dict.fromkeys(group.relations.resting_on(before_order, order, known), 0)
                if isinstance(self._stored, Left):
                    group.weigh_again(order, known)
        found = [
            row
            for row in group.lookup.conversion_rows(set(wanted) | self._again)
            if row.ts >= wanted.get(row.id, 0) and (row.id in self._again or group.is_open(row))
        ]
        group.match(found[:MOST])
        for later in found[MOST:]:
            group.memory.changes.reopened[later.id] = (later.store, False)

    def _of_click(self, group: Group, before: ClickRow | None, row: ClickRow, wanted: dict[int, int]) -> None:
        newest = group.memory.ask(("newest", row.store), 0)
        ts = row.ts
        if ts <= newest + SKEW_MS:
            ids = group.relations.sharing(row) | (group.relations.sharing(before) if before is not None else set())
            for number in ids:
                wanted.setdefault(number, ts - SKEW_MS)
        if before is None:
            wanted |= dict.fromkeys(self._of_siblings(group, row), 0)

    def _of_siblings(self, group: Group, row: ClickRow) -> Iterable[int]:
        """What carries the click's id in other stores on its domain: whenever it was made, it is not theirs."""
        for store in self._siblings.get(row.store, ()):
            name = group.fbclid_in(store, row)
            since = self._clocks.get(store, 0) - OPEN_MS - AHEAD_MS
            yield from group.lookup.find(CONVERSIONS, "fbclid", name, since, MOST, store=store)
            yield from group.identities.conversions_with([name], store=store)


def match_waiting(waiting: dict[int, bool]) -> Callable[[Group], None]:
    """Have these matched anew, if they are still open or must be `anyway`."""

    def work(group: Group) -> None:
        rows: list[ConversionRow] = group.lookup.conversion_rows(set(waiting))
        group.match([row for row in rows if waiting[row.id] or group.is_open(row)])

    return work


def match_last(waiting: set[int]) -> Callable[[Group], None]:
    """Match these a last time, unless proof came meanwhile."""

    def work(group: Group) -> None:
        rows: list[ConversionRow] = group.lookup.conversion_rows(waiting)
        group.match([row for row in rows if row.method not in ENRICHING])
        for number in waiting:
            group.memory.changes.unproven.pop(number, None)

    return work


def weigh(waiting: Collection[int], stores: dict[int, Store]) -> Callable[[Group], None]:
    """Weigh pages' tellings against what a server or shop told of the same orders."""

    def work(group: Group) -> None:
        for row in group.lookup.conversion_rows(set(waiting)):
            store = stores.get(row.store)
            taken = group.conversions.weigh(row, store, group.memory.now) if store is not None else None
            if taken is not None:
                group.after(taken.state.event.ts, taken)

    return work


def land(orders: list[int], stores: dict[int, Store]) -> Callable[[Group], None]:
    """Write down what Meta has of these orders, as far as it is known by now, or send what they are by now."""

    def work(group: Group) -> None:
        for row in group.lookup.conversion_rows(set(orders)):
            store = stores.get(row.store)
            for one in group.conversions.refunds.landed(group.memory.now, row.id) if store is not None else ():
                assert store is not None
                group.conversions.land(one, store, row, group.memory.now)

    return work
