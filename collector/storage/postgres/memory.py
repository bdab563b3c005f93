"""What a group knows of the database, and what it changes there.

Its verbs run without waiting, over what is known. What is not known yet is noted as a question; all questions of all
operations are asked at once (questions.py), and the operations are done anew, from the beginning, until none is left.
So look-ups are per group, however many its orders: one round trip for a proof, two for an inference. What the
operations change is collected meanwhile and written in one statement at the end (writing.py).

A row is changed only when it is locked: not locked yet is a question too, so it is read after it is locked, and no
answer rests on what somebody else is about to change. A new row is assumed to be new; where its unique key is taken
when it is written, all is rolled back and done again with that known (`Clash`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, Final

from msgspec import Struct

from collector.core import flags
from collector.exchange.rows import ClickRow, ConversionRow
from collector.storage.postgres.ids import Ids
from collector.storage.rules.tables import CLICKS, CONVERSIONS, Table

Question = tuple[Any, ...]  # its kind, then what is asked
NOBODY: Final = 0  # in the place of a sighting's visitor
RECOVERED: Final = 1  # likewise: of a click that is known from an fbc alone


class Missing(Exception):
    """An operation cannot go on before its questions are answered."""


class Clash(Exception):
    """Somebody else has made a row of this name meanwhile. `questions`: what to ask before it is tried again."""

    def __init__(self, questions: Iterable[Question]) -> None:
        super().__init__("a name is taken")
        self.questions = list(questions)


class Item(Struct):
    """An event for one pixel, as the outbox has it."""

    id: int
    store: int
    conversion: int
    pixel: int
    state: int
    lane: int
    created: int
    due: int
    deadline: int
    attempts: int
    doubts: int
    doubt_at: int | None
    settled: int | None
    request: int | None
    test_code: str | None
    reason: str | None
    body: bytes | None
    before: Decimal | None = None  # what Meta has of the order if it takes what is under way (sent_before)
    looked: bool = False  # that was looked at once though it is not known

    @property
    def never_left(self) -> bool:
        """Held since it was queued: a restore doubts all that is open, and what nobody has sent yet is no copy."""
        return self.state == 2 and self.attempts == 0


class Changes:
    """What one run of the operations has changed; what is written of it is in writing.py."""

    def __init__(self) -> None:
        self.rows: dict[Table, dict[int, Any]] = {CLICKS: {}, CONVERSIONS: {}}  # as they are now
        self.new: dict[Table, set[int]] = {CLICKS: set(), CONVERSIONS: set()}
        self.under: dict[tuple[str, str, int, int], list[int]] = defaultdict(list)  # table, key, store, name
        self.sightings: dict[tuple[int, int, int], int] = {}  # store, fbclid, visitor -> click; new
        self.moved: dict[tuple[int, int, int], int] = {}  # likewise, of names that led to another click
        self.unseen: list[tuple[int, int, int]] = []  # names that are given up
        self.networks: dict[int, tuple[int, str | None, str | None] | None] = {}  # click -> store, address, agent
        self.hours: dict[tuple[int, int], int] = defaultdict(int)  # store, hour -> clicks
        self.agents: dict[tuple[int, int, int], int] = defaultdict(int)  # store, day, user agent -> clicks
        self.orders: dict[tuple[int, int, int], list[int]] = {}  # store, kind, hour -> proven, unproven, all
        self.links: dict[tuple[int, int, int, int], tuple[Any, ...] | None] = {}  # store, kind, value, visitor
        self.unlinked: list[tuple[int, int]] = []  # store, visitor: all that was seen with him
        self.carried: dict[tuple[int, int, int, int], bool] = {}  # store, conversion, kind, value; False: no more
        self.bare: set[tuple[int, int, int]] = set()  # store, conversion, least kind: what it carried goes
        self.items: dict[int, Item] = {}  # of the outbox, as they are now
        self.added: dict[int, list[int]] = defaultdict(list)  # conversion -> new items
        self.unsent: set[int] = set()  # items whose note of what was under way goes
        self.notices: dict[int, tuple[int, int, int]] = {}  # conversion -> store, revision, now
        self.unproven: dict[int, tuple[int, int]] = {}  # conversion -> store, time
        self.reopened: dict[int, tuple[int, bool]] = {}  # conversion -> store, and whether its time may be over
        self.unweighed: dict[int, int] = {}  # conversion -> store
        self.unlooked: dict[int, ClickRow | ConversionRow] = {}  # note -> a stored row as it was before
        self.called: dict[tuple[int, int, int], int] = {}  # store, name, conversion -> is it a number
        self.listed: list[tuple[Any, ...]] = []  # orders that a person should look at
        self.answers: dict[int, tuple[bytes, int, int, bytes]] = {}  # under an Idempotency-Key
        self.reworded: list[tuple[int, bytes, bytes]] = []
        self.event_names: dict[tuple[int, str], bool] = {}
        self.deliveries: dict[bytes, tuple[Any, ...]] = {}  # of shops, by their id
        self.booked: dict[tuple[int, int], tuple[Any, ...]] = {}  # store, conversion: an order in the shop's own list
        self.book: dict[tuple[int, int], tuple[Any, ...]] = {}  # store, name: likewise, a new one
        self.settled: set[tuple[int, int]] = set()  # store, name: in that list until its order was known
        self.seen: list[tuple[int, int, int]] = []  # store, conversion, by which way
        self.read: set[int] = set()  # rows of the inbox
        self.requests: list[tuple[Any, ...]] = []  # of platforms, for a person
        self.erased: list[tuple[int, int, int]] = []  # store, name, when


class Memory:
    """Of one group. `begin` starts a run of its operations."""

    def __init__(
        self,
        ids: Ids,
        edge: int,
        now: int,
        sketches: dict[tuple[int, int], bytearray],
        places: Mapping[tuple[int, str], int],
    ) -> None:
        """`sketches`: of the visitors that this edge has seen, by store and day; it only grows, and is shared.

        `places`: the numbers of those that are known, by store and name; what is learnt is in `self.places`.
        """
        self.edge, self.now = edge, now
        self.sketches = sketches
        self.known_places, self.places = places, dict[tuple[int, str], int]()
        self.landed: dict[int, tuple[bytes, str]] = {}  # of clicks: a body, and the name of its place
        self.sketched: set[tuple[int, int]] = set()  # store, day: somebody new was seen, in whichever run
        self.answers: dict[Question, Any] = {}
        self.asked: dict[Question, None] = {}
        self.stored: dict[Table, dict[int, Any]] = {CLICKS: {}, CONVERSIONS: {}}
        self.networks: dict[int, tuple[str | None, str | None]] = {}  # of stored clicks
        self.locked: set[tuple[Table, int]] = set()
        self.adrift: set[tuple[int, int, int]] = set()  # names of clicks that are there no more
        self._ids = ids
        self.given: list[int] = []
        self._next = 0
        self.begin()

    def begin(self) -> None:
        """A run of the operations begins; nothing is changed yet."""
        self.changes = Changes()
        self.asked = {}
        self._next = 0
        self.news: list[tuple[int, int]] = []  # store and value: its link to a visitor is new
        self.changed_clicks: list[tuple[ClickRow | None, ClickRow]] = []  # before and now
        self.changed_orders: list[tuple[ConversionRow | None, ConversionRow]] = []

    def next_id(self) -> int:
        """An id for a new row; the same in each run."""
        if self._next == len(self.given):
            self.given.append(self._ids.next(self.now))
        self._next += 1
        return self.given[self._next - 1]

    # -- questions

    def ask(self, question: Question, default: Any) -> Any:
        """The answer; `default` while it is not known, and this run counts for nothing but its questions."""
        found = self.answers.get(question, self)
        if found is self:
            self.asked[question] = None
            return default
        return found

    def must(self, question: Question) -> Any:
        """The answer; Missing while it is not known."""
        found = self.answers.get(question, self)
        if found is self:
            self.asked[question] = None
            raise Missing
        return found

    def take(self, table: Table, rows: Iterable[Any], *, locked: bool = False) -> list[int]:
        """Know these stored rows; their ids. What is locked is not overwritten by what was read beside it."""
        stored, ids = self.stored[table], []
        for row in rows:
            if locked or (table, row.id) not in self.locked:
                stored[row.id] = row
            if locked:
                self.locked.add((table, row.id))
            ids.append(row.id)
        return ids

    def forget_unlocked(self) -> list[Question]:
        """Forget what was read before a conversion was locked; what is to be asked anew.

        Of two that match one order anew, the last to come must have read most.
        """
        for table, rows in self.stored.items():
            self.stored[table] = {i: row for i, row in rows.items() if (table, i) in self.locked}
        again = [question for question in self.answers if question[0] not in ("sighting", "outbox")]
        for question in again:
            del self.answers[question]
        return again

    # -- rows

    def row(self, table: Table, row_id: int) -> Any:
        """The row as it is now, None where there is none; Missing while that is not known."""
        if (changed := self.changes.rows[table].get(row_id)) is not None:
            return changed
        if (stored := self.stored[table].get(row_id)) is not None:
            return stored
        self.must(("row", table.name, row_id))
        return self.stored[table].get(row_id)

    def rows(self, table: Table, ids: Iterable[int]) -> list[Any]:
        """As `row`, of those that are there; all that are not known are asked for at once."""
        found, missing = [], False
        for row_id in ids:
            try:
                found.append(self.row(table, row_id))
            except Missing:
                missing = True
        if missing:
            raise Missing
        return [row for row in found if row is not None]

    def append(self, table: Table, row: Any) -> None:
        """Have a new row."""
        self.changes.new[table].add(row.id)
        self._put(table, row)

    def change(self, table: Table, row: Any) -> None:
        """Have a row as it has become. A stored one must be locked first."""
        if row.id not in self.changes.new[table] and (table, row.id) not in self.locked:
            self.asked["lock", table.name, row.store, row.id] = None
        self._put(table, row)

    def note(self, before: ClickRow | ConversionRow) -> None:
        """A stored row has changed: whoever takes over from a keeper that ends before its look must know of it."""
        self.changes.unlooked[self.next_id()] = before

    def _put(self, table: Table, row: Any) -> None:
        self.changes.rows[table][row.id] = row
        for key in table.keys:
            if (name := key.of(row)) is not None:
                ids = self.changes.under[table.name, key.name, row.store, name]
                if row.id not in ids:
                    ids.append(row.id)

    def find(self, table: Table, key: str, store: int, name: int, since: int, limit: int) -> list[int]:
        """At most `limit` ids under a name, the newest first, with what this group has made and changed."""
        stored = self.ask(("find", table.name, key, store, name, since, limit), ())
        own = self.changes.under.get((table.name, key, store, name), ())
        changed = self.changes.rows[table]
        if not changed:
            return list(stored)
        of = _OF[table, key]
        kept = [i for i in stored if i not in changed]
        now = [i for i in own if of(changed[i]) == name and changed[i].received >= since]
        return sorted({*kept, *now}, reverse=True)[:limit]

    def place_of(self, store: int, name: str) -> int:
        """The number of a place; 0 where it has none, or is not known."""
        number = self.known_places.get((store, name))
        return self.places.get((store, name), 0) if number is None else number

    def store_of(self, conversion: int) -> int:
        """Whose order it is."""
        row = self.row(CONVERSIONS, conversion)
        return int(row.store) if row is not None else 0


_OF: Final = {(table, key.name): key.of for table in (CLICKS, CONVERSIONS) for key in table.keys}


def visitor_of(click: ClickRow) -> int:
    """In which place of its fbclid a click is known again."""
    return RECOVERED if click.flags & flags.RECOVERED else click.visitor_k or NOBODY
