"""What arrives late: a click, or a link between a person and a visitor, may change the answer of an earlier conversion.

The final answer must not depend on the order of arrival, nor on whether somebody looked. So what becomes known re-opens
the conversions that share a key with it, for 96 hours of event time: once a store has seen an event that much later
than a conversion, the conversion's answer stands. An order's answer is its renewals' too, and where a click is given
once, it says who else may have the click: so a changed answer re-opens those. Nothing is sent a second time; what was
not sent yet goes out with what the click adds.

Nothing of that is done inside the group that answers (P4): what is re-opened waits in `reopened`, and `again_some`
matches a few at a time between groups, under the budget that the last matches have. A value that leads to more
conversions than a person has re-opens none.

An inference also depends on clicks that share no key with it: they say how common its values are. Therefore a
conversion that no proof names is matched a last time when its 96 hours end, and is closed by that match. Figures end at
the conversion's own time (frequency.py, lookup.py), so in a store whose events arrive in order the last match finds
what the first one found.

What this cannot give: an event that arrives more than 96 hours late by its store's clock changes nothing that is
closed. The figures of user agents and of visitors go by the day, so the confidence of an inference is the same for
every order of arrival in which nothing is later than 72 hours, and may differ by a rounding beyond. And where a bound
cuts (32 clicks per key, 3 identity values per visitor), what arrived decides which are kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from heapq import heappop, heappush
from typing import Any, Final, cast

import apsw

from collector.core.flags import BOT, DENIED, WITHDRAWN
from collector.core.keyed import KeyedHash
from collector.core.matching.proofs import ENRICHING
from collector.core.matching.shapes import OPEN_MS
from collector.errors import StorageError
from collector.exchange.clicks import ClickResult, NewClick
from collector.exchange.rows import ConversionRow
from collector.exchange.states import EventResult
from collector.exchange.stores import Store
from collector.storage.ground import multirow
from collector.storage.index.lookup import Lookup
from collector.storage.journal.clicks import Clicks
from collector.storage.journal.reopened import Reopened
from collector.storage.people.identities import Identities
from collector.storage.rules.matched import AHEAD_MS
from collector.storage.rules.tables import CONVERSIONS
from collector.storage.verbs.conversions import Conversions
from collector.storage.verbs.relations import MOST, SKEW_MS, Relations

# A store that has told nothing for so long (by our clock) has fallen silent: its event time will not come to an end.
SILENT_MS: Final = 7 * 86_400_000
_MOST_AT_ONCE: Final = 2_000  # matches that follow from one event; 0.3 ms each
_NEVER: Final = 1 << 62
_SEVERAL: Final = 4  # clicks, from which on they are looked at together
_NOT_MATCHED: Final = BOT | DENIED | WITHDRAWN
_CLOCKS: Final = "SELECT store, ts, conversion_ts, heard FROM event_clock"
# A crash may have lost the last seconds of the clocks.
_RECENT: Final = (
    "SELECT store, max(ts) FROM (SELECT store, ts FROM conversion ORDER BY id DESC LIMIT 1000) GROUP BY store"
)
_SAVE: Final = """
INSERT INTO event_clock VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET ts = max(ts, excluded.ts),
       conversion_ts = max(conversion_ts, excluded.conversion_ts), heard = max(heard, excluded.heard)"""
_OVER: Final = "SELECT ts, conversion FROM unproven WHERE store = ? AND ts < ? ORDER BY ts, conversion LIMIT ?"
_FIRST: Final = "SELECT min(ts) FROM unproven WHERE store = ?"
_KNOWN: Final = "SELECT 1 FROM unproven WHERE store = ? AND ts = ? AND conversion = ?"
_DONE: Final = "DELETE FROM unproven WHERE store = ? AND ts = ? AND conversion = ?"


class Late:
    """Owned by the writer thread; keeps each store's event clock, and the conversions that are still to be matched."""

    def __init__(
        self,
        db: apsw.Connection,
        names: KeyedHash,
        lookup: Lookup,
        conversions: Conversions,
        clicks: Clicks,
        relations: Relations,
        stores: Mapping[int, Store],
    ) -> None:
        self._db = db
        self._names = names
        self._lookup = lookup
        self._conversions = conversions
        self._identities = cast(Identities, conversions.identities)  # this engine's
        self._clicks = clicks
        self._relations = relations
        self._stores = stores
        self._siblings = {number: store.siblings for number, store in stores.items() if store.siblings}
        self._clock = lookup.latest
        self._conversion_clock = lookup.latest_conversion
        self._heard: dict[int, int] = {}
        self._saved: set[tuple[int, int, int, int]] = set()  # rows of event_clock, as they were last written
        self._first: dict[int, int] = {}  # a store's earliest conversion that waits for its last match
        self._due: set[int] = set()  # stores that may have one whose time is over
        self._kept: dict[int, tuple[int, int, int]] = {}  # of the open transaction, not yet written
        self.reopened = Reopened(db)
        self._hopeless: set[int] = set()  # conversions whose match failed by a defect of ours
        self._before: tuple[dict[int, int], dict[int, int]] = ({}, {})
        self._due_before: set[int] = set()
        self._load()
        self.mark()

    def _load(self) -> None:
        for store, ts, conversion_ts, heard in self._db.execute(_CLOCKS):
            self._lookup.advance(self._clock, store, ts)
            self._lookup.advance(self._conversion_clock, store, conversion_ts)
            self._heard[store] = heard
        for store, ts in self._db.execute(_RECENT):
            self._lookup.advance(self._clock, store, ts)
            self._lookup.advance(self._conversion_clock, store, ts)

        self.reopened.add(self._lookup.conversion_rows(self.reopened.left()))

    def after_clicks(self, clicks: Sequence[NewClick], results: Sequence[ClickResult], now: int) -> None:
        """Re-open what clicks that were just stored may have caused. Usually this is one comparison for each."""
        for store in {click.row[0] for click in clicks}:
            self._heard[store] = now
            self._advance(store, max(click.row[1] for click in clicks if click.row[0] == store))
        ordered = {store: ts + SKEW_MS for store, ts in self._conversion_clock.items()}
        for click, result in self._causes(clicks, results, ordered) if ordered else ():
            store, before, ts = click.row[0], result.before, _told_at(click, result)
            for row in self._lookup.click_rows({result.id}):
                former = self._relations.sharing(before) if before is not None else set()
                self._reopen(self._relations.sharing(row) | former, store, ts - SKEW_MS)
        for click, result in zip(clicks, results, strict=True) if self._siblings else ():
            if not result.duplicate:
                self._reopen_siblings(click)

    def _causes(
        self, clicks: Sequence[NewClick], results: Sequence[ClickResult], ordered: dict[int, int]
    ) -> list[tuple[NewClick, ClickResult]]:
        """Those of the clicks that may have caused an order of before `ordered`, of each store.

        In a shop that sells, every click is as early as some order; that nearly all are strangers is seen at once.
        """
        early = [
            (click, result)
            for click, result in zip(clicks, results, strict=True)
            if _told_at(click, result) <= ordered.get(click.row[0], 0)
        ]
        new = [click.row for click, result in early if not result.duplicate]
        if len(new) < _SEVERAL or self._conversions.gained:
            return early
        met = self._lookup.names_met(new, min(row[1] for row in new) - SKEW_MS)
        if met is None:
            return early
        for store in {row[0] for row in new}:
            visitors = {row[5] for row in new if row[0] == store} - {None}
            met |= self._identities.visitors_among(store, visitors)
        return [(c, result) for c, result in early if result.duplicate or not met.isdisjoint(c.row[4:10])]

    def _reopen_siblings(self, click: NewClick) -> None:
        """Match anew what carries the click's id in other stores on its domain: whenever it was made, it is not theirs.

        At most 32 of each store at once; the others follow by their last match.
        """
        for store in self._siblings.get(click.row[0], ()):
            name = self._names.name(store, "fbclid", click.fbclid)
            since = self._clock.get(store, 0) - OPEN_MS - AHEAD_MS
            ids = set(self._lookup.find(CONVERSIONS, "fbclid", name, since, MOST))
            if self._conversions.gained:
                ids |= self._conversions.identities.conversions_with([name])
            self._reopen(ids, store)

    def after_event(self, known: Store, ts: int, taken: EventResult, now: int) -> None:
        """Move the clocks, and re-open what a new link between a person and a visitor may change. `ts`: as told."""
        store, row = known.number, taken.state.row
        self._heard[store] = now
        self._advance(store, ts)
        self._lookup.advance(self._conversion_clock, store, ts)
        if not taken.duplicate or (taken.before is not None and taken.before.ts != row.ts):
            self._keep(row)
        related, self._conversions.related = self._conversions.related, set()
        self._reopen(related | self._relations.resting_on(taken.before, row, known), store)

    def again(self, conversion: int, now: int) -> None:
        """Look at one conversion again, while it is open: its values may have become more common or rarer.

        One that a proof names only if it waits for that anyhow.
        """
        for row in self._lookup.conversion_rows({conversion}):
            known = self._stores.get(row.store)
            if known is not None and (row.method not in ENRICHING or self.reopened.holds(row.id)):
                self._match_all(self._open({row.id}, known), known, now)

    def rematch(self, rows: dict[int, ConversionRow], left: list[ConversionRow], store: int, now: int) -> None:
        """Match these of one store anew though their time may be over: what they were given was taken back.

        `left`: conversions that have lost their answer, as they were before.
        """
        known = self._stores.get(store)
        if known is None:
            return
        if known.config.count == "one":
            heirs = {i for row in left for i in self._relations.heirs(row)} - rows.keys()
            rows = rows | {row.id: row for row in self._open(heirs, known)}
        self._match_all(rows.values(), known, now)

    # -- the last match

    @property
    def due(self) -> bool:
        """Whether `finish` may have something to do."""
        return bool(self._due)

    def finish(self, now: int, most: int) -> None:
        """Match at most `most` conversions whose 96 hours are over a last time, and close them; inside a transaction.

        What a crash or a full disk undoes is done by a later call.
        """
        for store in sorted(self._due):
            found: list[Any] = self._db.execute(_OVER, (store, self._over(store, now), most)).fetchall()
            for ts, conversion in found:
                self._last(store, ts, conversion, now)
                self._kept.pop(conversion, None)
                self._db.execute(_DONE, (store, ts, conversion))
            most -= len(found)
            if most <= 0:
                return
            self._due.discard(store)
            self._see(store, now)

    def _last(self, store: int, ts: int, conversion: int, now: int) -> None:
        for row in self._lookup.conversion_rows({conversion}):
            if (row.store, row.ts) != (store, ts) or row.method in ENRICHING or row.id in self._hopeless:
                continue  # an id that was given again, or proof came meanwhile
            self._one_more(row, store, now)

    def look_around(self, now: int) -> None:
        """What a restart or silence made due."""
        for store in self._stores:
            self._see(store, now)

    def _see(self, store: int, now: int) -> None:
        first = self._db.execute(_FIRST, (store,)).get
        self._first[store] = _NEVER if first is None else first
        if self._first[store] < self._over(store, now):
            self._due.add(store)

    def _over(self, store: int, now: int) -> int:
        """The moment (ms) before which a conversion's time is over."""
        if now - self._heard.get(store, now) > SILENT_MS:
            return _NEVER
        return self._clock.get(store, 0) - OPEN_MS

    # -- what is written

    def mark(self) -> None:
        """What is known now is on disk: `forget` comes back to it."""
        self._before = (dict(self._clock), dict(self._conversion_clock))
        self._due_before = set(self._due)
        self.reopened.settle()

    def flush(self) -> None:
        """Write into the open transaction what waits for its last match, and what is re-opened."""
        self.reopened.flush()
        if self._kept:
            multirow.write(self._db, "INSERT OR IGNORE INTO unproven", list(self._kept.values()))
            self._kept = {}

    def forget(self) -> None:
        """The transaction is rolled back: what was not stored has not moved a clock."""
        self._kept = {}
        self.reopened.forget()
        for clock, before in zip((self._clock, self._conversion_clock), self._before, strict=True):
            clock.clear()
            clock.update(before)
        self._due |= self._due_before

    def save(self) -> None:
        """Write down how far the clocks have come, inside a transaction of its own; every few seconds will do."""
        rows = {
            (store, self._clock.get(store, 0), self._conversion_clock.get(store, 0), heard)
            for store, heard in self._heard.items()
        }
        self._db.executemany(_SAVE, sorted(rows - self._saved))
        self._lookup.origins.purge()
        self._saved = rows

    def _advance(self, store: int, ts: int) -> None:
        if (
            self._lookup.advance(self._clock, store, ts)
            and ts - self._first.get(store, _NEVER) > OPEN_MS
            and store in self._stores
        ):
            self._due.add(store)

    def _keep(self, row: ConversionRow) -> None:
        """Remember to match an open conversion a last time, if no proof names it."""
        if row.method in ENRICHING or row.flags & _NOT_MATCHED or self._is_past(row):
            return
        self._kept[row.id] = (row.store, row.ts, row.id)
        self._first[row.store] = min(row.ts, self._first.get(row.store, _NEVER))

    # -- what may change

    def _reopen(self, ids: set[int], store: int, since: int = 0) -> None:
        """Have those of the conversions matched anew that are of `since` (ms, event time) or later, and still open."""
        known = self._stores.get(store)
        if known is not None and ids and (ids := self.reopened.new(ids)):
            self.reopened.add(self._open(ids, known, since))

    def again_some(self, now: int, most: int) -> None:
        """Match at most `most` of what is re-opened; what rests on a changed answer is re-opened. In a transaction."""
        for _ in range(min(most, len(self.reopened))):
            _, conversion, store = self.reopened.take()
            for row in self._lookup.conversion_rows({conversion} - self._hopeless):
                self._one_more(row, store, now)

    def _one_more(self, row: ConversionRow, store: int, now: int) -> None:
        try:
            self._reopen(self._match(row, self._stores[store], now), store)
        except (apsw.Error, StorageError):
            raise
        except Exception:
            self._hopeless.add(row.id)  # the caller undoes this step; the next one passes it over
            raise

    def _open(self, ids: set[int], known: Store, since: int = 0) -> list[ConversionRow]:
        rows = self._lookup.conversion_rows(ids) if ids else []
        return [row for row in rows if row.store == known.number and row.ts >= since and self._is_open(row)]

    def _match_all(self, rows: Iterable[ConversionRow], known: Store, now: int) -> None:
        """Match these anew, and then the open ones that rest on a changed answer.

        The earliest first: an answer rests on earlier ones, which stand by then.
        """
        queue = sorted((row.place, row.id, row) for row in rows)
        waiting = {row_id for _, row_id, _ in queue}
        for _ in range(_MOST_AT_ONCE):
            if not queue:
                return
            *_, row = heappop(queue)
            waiting.discard(row.id)
            for follower in self._open(self._match(row, known, now) - waiting, known):
                heappush(queue, (follower.place, follower.id, follower))
                waiting.add(follower.id)

    def _match(self, row: ConversionRow, known: Store, now: int) -> set[int]:
        """Match a conversion anew; those that rest on its answer, if that changed."""
        self._clicks.flush()
        changed = self._conversions.reconsider(row, known, now)
        if changed is None:
            return set()
        self._keep(changed)
        return self._relations.resting_on(row, changed, known)

    def _is_open(self, row: ConversionRow) -> bool:
        """A proved one by the clock, any other until its last match, which follows within moments."""
        if row.method in ENRICHING:
            return not self._is_past(row)
        return row.id in self._kept or self._db.execute(_KNOWN, (row.store, row.ts, row.id)).get is not None

    def _is_past(self, row: ConversionRow) -> bool:
        return self._clock.get(row.store, 0) - row.ts > OPEN_MS


def _told_at(click: NewClick, result: ClickResult) -> int:
    """What completes a click, or refuses it, changes what it is to orders since its first sighting."""
    ts: int = click.row[1] if result.before is None else result.ts
    return ts
