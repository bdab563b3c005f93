"""How a group's verbs find rows by their keys, and learn how common a value is: Finding and Rows of verbs/ports.py."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from collector.core.capi.states import CapiState
from collector.core.events import StoredEvent
from collector.core.flags import INELIGIBLE, UNCONFIRMED
from collector.core.matching import Match, Query, Statistics
from collector.exchange import clicks
from collector.exchange.rows import ClickRow, ConversionRow
from collector.exchange.states import EventState
from collector.storage.postgres.ids import ms_of
from collector.storage.postgres.memory import Memory, Missing
from collector.storage.rules.matched import AHEAD_MS, MOST_CANDIDATES, PER_KEY, PER_VISITOR
from collector.storage.rules.origins import ALL, Place, place_of
from collector.storage.rules.tables import CLICKS, CONVERSIONS, Table
from collector.storage.rules.visitors import Union
from collector.storage.verbs.ports import Named, Outbox

MINUTE_MS: Final = 60_000
HOUR_MS: Final = 3_600_000
DAY_MS: Final = 24 * HOUR_MS
DAYS: Final = 30  # the conversion's day and those before it, in figures
VISITORS_COUNTED: Final = 256  # clicks read to count a value's visitors; beyond it the count is extrapolated
_decode_event = msgspec.msgpack.Decoder(StoredEvent).decode
_decode_match = msgspec.msgpack.Decoder(Match).decode
_KEYS: Final[dict[str, Callable[[ClickRow], int | None]]] = {
    "ip": lambda row: row.ip_k,
    "ip_ua": lambda row: None if row.ip_k is None or row.ua_k is None else row.ip_k ^ row.ua_k,
    "fp": lambda row: row.fp_k,
}


class Lookup:
    """Over what a group knows."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    def find(self, table: Table, key: str, name: int, since: int, limit: int = PER_KEY, *, store: int = 0) -> list[int]:
        """At most `limit` ids under the store's `name` received at `since` (ms) or later, newest arrivals first."""
        return self._memory.find(table, key, store, name, since, limit)

    def click_rows(self, ids: set[int]) -> list[ClickRow]:
        """The rows of these clicks."""
        return self._memory.rows(CLICKS, sorted(ids))

    def conversion_rows(self, ids: set[int]) -> list[ConversionRow]:
        """The rows of these conversions."""
        return self._memory.rows(CONVERSIONS, sorted(ids))

    def rows_of(self, store: int, ids: set[int]) -> list[ClickRow]:
        """Those of the clicks that are the store's, the newest if they are too many."""
        rows = [row for row in self.click_rows(ids) if row.store == store]
        if len(rows) > MOST_CANDIDATES:
            rows = sorted(rows, key=lambda row: (row.ts, row.fbclid_k or 0), reverse=True)[:MOST_CANDIDATES]
        return rows

    def named(self, query: Query, click_ms: int, *, store: int = 0) -> Named:
        """The clicks that the conversion's identifiers name; Missing until all of them are known."""
        before, since = len(self._memory.asked), query.ts - click_ms - AHEAD_MS
        ids: set[int] = set() if query.click_id is None else {query.click_id}
        whole = True
        for key, name in (
            ("fbclid", query.fbclid_k),
            ("fbclid", query.fbc_k),
            ("visitor", query.visitor_k),
            ("fbp", query.fbp_k),
        ):
            if name is not None:
                found = self.find(CLICKS, key, name, since, store=store)
                whole = whole and len(found) < PER_KEY
                ids.update(found)
        own = bool(ids)
        for visitor in query.identity_visitors:
            if visitor != query.visitor_k:
                found = self.find(CLICKS, "visitor", visitor, since, PER_VISITOR, store=store)
                whole = whole and len(found) < PER_VISITOR
                ids.update(found)
        if len(self._memory.asked) > before:
            raise Missing
        return Named(ids, own, whole and len(ids) <= MOST_CANDIDATES)

    def alike(self, query: Query, window_ms: int, *, store: int = 0) -> set[int]:
        """Clicks from the conversion's address or device; what their frequencies need is asked with them."""
        before, since = len(self._memory.asked), query.ts - window_ms - AHEAD_MS
        ids: set[int] = set()
        if query.ip_k is not None:
            if query.ua_k is not None:
                ids.update(self._near("ip_ua", query.ip_k ^ query.ua_k, since, query.ts, store))
            ids.update(self._near("ip", query.ip_k, since, query.ts, store))
        if query.fp_k is not None:
            ids.update(self._near("fp", query.fp_k, since, query.ts, store))
        if len(self._memory.asked) > before:
            self.statistics(store, query, window_ms)
            raise Missing
        return ids

    def _near(self, key: str, name: int, since: int, until: int, store: int) -> list[int]:
        """As `find`, of eligible clicks made by `until` (ms): an order matched again later finds what it found then."""
        last = until // MINUTE_MS
        stored = self._memory.ask(("near", key, store, name, since, last), ())
        return self._with_own(stored, key, store, name, since, 0, last)[:PER_KEY]

    def _with_own(
        self, stored: Iterable[int], key: str, store: int, name: int, since: int, first: int, last: int
    ) -> list[int]:
        """Stored ids with the group's own eligible clicks of the minutes from `first` to `last`, the newest first."""
        changed, of = self._memory.changes.rows[CLICKS], _KEYS[key]
        own = [
            row.id
            for row in changed.values()
            if row.store == store
            and not row.flags & INELIGIBLE
            and of(row) == name
            and row.received >= since
            and first <= row.ts // MINUTE_MS <= last
        ]
        return sorted({*(i for i in stored if i not in changed), *own}, reverse=True)

    def statistics(self, store: int, query: Query, window_ms: int) -> Statistics:
        """How common the conversion's values are in its store."""
        visitors, ts = self._visitors(store, query.ts // DAY_MS), query.ts
        on_ua = 0.0
        if query.ua_k is not None:
            same, every = self._agent(store, query.ua_k, ts // DAY_MS + 1)
            on_ua = visitors * same / every if every else 0.0
        return Statistics(
            **self._origins(store, query.kind, ts // HOUR_MS, window_ms),
            clicks_in_window=self._hours(store, (ts - window_ms) // HOUR_MS, ts // HOUR_MS + 1),
            visitors=visitors,
            visitors_on_ip=min(self._visitors_on("ip", query.ip_k, store, ts), visitors),
            visitors_on_ua=on_ua,
            visitors_on_fp=min(self._visitors_on("fp", query.fp_k, store, ts), visitors),
        )

    def _visitors(self, store: int, day: int) -> float:
        """Distinct visitors of the last days through this one (storage/rules/visitors.py)."""
        sketches = list(self._memory.ask(("sketches", store, day), ()))
        own = self._memory.sketches
        sketches += [own[store, d] for d in range(day - DAYS + 1, day + 1) if (store, d) in own]
        return Union(sketches).visitors()

    def _hours(self, store: int, first: int, end: int) -> int:
        stored: int = self._memory.ask(("hours", store, first, end), 0)
        own = self._memory.changes.hours
        return stored + sum(n for (s, hour), n in own.items() if s == store and first <= hour < end)

    def _agent(self, store: int, agent: int, end: int) -> tuple[int, int]:
        """Clicks with this user agent, and of any, in the days before `end`."""
        first, own = end - DAYS, self._memory.changes.agents
        stored = self._memory.ask(("agent", store, agent, first, end), 0)
        same = stored + sum(n for (s, day, a), n in own.items() if (s, a) == (store, agent) and first <= day < end)
        return same, self._hours(store, first * 24, end * 24)

    def _visitors_on(self, key: str, name: int | None, store: int, ts: int) -> float:
        """Distinct visitors on a value in the 30 days before `ts`; extrapolated where they are too many to read."""
        if name is None:
            return 0.0
        since = ts - DAYS * DAY_MS
        first, last = since // MINUTE_MS, ts // MINUTE_MS
        stored: dict[int, int] = self._memory.ask(("on", key, store, name, first, last), {})
        newest = self._with_own(stored, key, store, name, 0, first, last)[:VISITORS_COUNTED]
        changed = self._memory.changes.rows[CLICKS]
        people = {_person(changed[i]) if i in changed else stored[i] for i in newest}
        if len(newest) < VISITORS_COUNTED:
            return float(len(people))
        spanned = max(ms_of(newest[0]) - ms_of(newest[-1]), 1)
        covered = max(ms_of(newest[0]) - max(since, 0), spanned)
        return len(people) * covered / spanned

    def _origins(self, store: int, kind: int, end: int, window_ms: int) -> dict[str, float]:
        """Its part of Statistics: of the 30 days, and of the window, before the hour."""
        month, window = end - DAYS * 24, end - window_ms // HOUR_MS
        proven, unproven, orders = self._memory.ask(("origins", store, kind, month, window, end), (0, 0, 0))
        for (s, k, hour), own in self._memory.changes.orders.items():
            if (s, k) == (store, kind) and hour < end:
                proven += own[0] if hour >= month else 0
                unproven += own[1] if hour >= month else 0
                orders += own[2] if hour >= window else 0
        return {"proven": proven, "unproven": unproven, "orders_in_window": orders}

    def taken(self, ids: set[int], query: Query, kind: str, *, store: int = 0) -> frozenset[int]:
        """Those of the clicks that an earlier conversion of the kind has."""
        own, known = (query.ts, query.rank), holders(self._memory, store, ids)
        return frozenset(
            row.click
            for row in known
            if row.click is not None and row.event_type == kind and row.place < own and not row.flags & UNCONFIRMED
        )

    def network(self, click: int) -> tuple[str | None, str | None]:
        """Raw address and user agent of a click, while they are kept."""
        if click in self._memory.changes.networks:
            kept = self._memory.changes.networks[click]
            return (None, None) if kept is None else kept[1:]
        return self._memory.networks.get(click, (None, None))

    def is_new(self, click: int) -> bool:
        """Whether somebody must write the click first; here nobody has to."""
        return False

    def confirm(self, click: int) -> bool:
        """Whether the click is stored as it was found."""
        return True


def _person(row: ClickRow) -> int:
    """Who clicked, as far as the row tells."""
    if row.visitor_k is not None:
        return row.visitor_k
    return row.id if row.fbclid_k is None else row.fbclid_k


def holders(memory: Memory, store: int, clicks_: Iterable[int]) -> list[ConversionRow]:
    """Conversions that have one of the clicks, the newest of each; Missing until all are known."""
    before = len(memory.asked)
    ids = {i for click in clicks_ for i in memory.ask(("holders", store, click), ())}
    if len(memory.asked) > before:
        raise Missing
    changed = memory.changes.rows[CONVERSIONS]
    wanted = set(clicks_)
    own = {row.id for row in changed.values() if row.store == store and row.click in wanted}
    rows: list[ConversionRow] = memory.rows(CONVERSIONS, sorted(ids | own, reverse=True))
    return [row for row in rows if row.click in wanted]


class ConversionRows:
    """How conversions are written."""

    def __init__(self, memory: Memory, outbox: Outbox) -> None:
        self._memory = memory
        self._outbox = outbox

    def next_id(self) -> int:
        return self._memory.next_id()

    def append(self, row: ConversionRow) -> None:
        """Have a new row, which can be found at once."""
        self._memory.append(CONVERSIONS, row)

    def update(self, row: ConversionRow) -> None:
        """Store what a row has become."""
        self._memory.change(CONVERSIONS, row)

    def lost(self, row: ConversionRow, kept: Iterable[str]) -> None:
        """Its keys are columns: a row is found by what it has."""

    def counted(self, before: tuple[ConversionRow, StoredEvent] | None, row: ConversionRow, event: StoredEvent) -> None:
        """Have it count among the store's orders by the hour."""
        old, new = place_of(*before) if before is not None else None, place_of(row, event)
        if old != new:
            self._count(old, -1)
            self._count(new, 1)

    def _count(self, place: Place | None, n: int) -> None:
        if place is not None:
            (store, kind), hour, proof = place
            counts = self._memory.changes.orders.setdefault((store, kind, hour), [0, 0, 0])
            counts[ALL] += n
            if proof != ALL:
                counts[proof] += n

    def revised(self, conversion: int, revision: int, now: int) -> None:
        """Have the shop told of a new revision."""
        store = self._memory.store_of(conversion)
        self._memory.changes.notices[conversion] = (store, revision, now)

    def state_of(self, row: ConversionRow) -> EventState:
        """What is known of it at this moment."""
        found = _decode_match(row.match)
        delivery = self._outbox.delivery_of(row.id)
        click = self._memory.row(CLICKS, found.click) if found.click is not None else None
        return EventState(
            row,
            _decode_event(row.body),
            found,
            delivery.state if delivery else CapiState(row.capi),
            delivery.reason if delivery else None,
            clicks.read(click) if click is not None else None,
        )

    def given(self, click: int, *, store: int = 0) -> list[int]:
        """The newest conversions that have the click."""
        return [row.id for row in holders(self._memory, store, [click])][:PER_KEY]

    def credited(self, clicks: list[int], most: int, *, store: int = 0) -> set[int]:
        """At most `most` conversions that have one of the clicks, the newest."""
        return {row.id for row in holders(self._memory, store, clicks)[:most]}

    def later(self, row: ConversionRow) -> list[int]:
        """Those of its kind that have its click and come after it."""
        return [other.id for other in self._rivals(row) if other.place > row.place]

    def earlier(self, row: ConversionRow) -> bool:
        """Whether one of its kind has its click and comes before it."""
        return any(other.place < row.place for other in self._rivals(row))

    def _rivals(self, row: ConversionRow) -> list[ConversionRow]:
        found = holders(self._memory, row.store, [row.click]) if row.click is not None else []
        return [r for r in found if r.event_type == row.event_type and not r.flags & UNCONFIRMED]

    def inferable(self, conversions: list[int], ts: int) -> set[int]:
        """Those of which a click of `ts` on the same address or device may be the cause: neither proved nor earlier."""
        rows = self._memory.rows(CONVERSIONS, conversions)
        return {row.id for row in rows if row.ts >= ts and row.method in (None, "probabilistic")}

    def flush(self) -> None:
        """All is written at the end."""

    def forget(self) -> None:
        """A run that is undone leaves nothing."""
