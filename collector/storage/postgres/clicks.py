"""The verb for clicks: append, or recognise one that is here already; over what a group knows.

A click is stored at once, as new: whether its name is taken, the write itself tells (rule of the constraint), and only
then somebody asks by whom.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from collector.core import flags
from collector.core.events import StoredClick
from collector.exchange.clicks import ClickResult, NewClick
from collector.exchange.rows import ClickRow
from collector.storage.postgres.counting import FULL, place_question
from collector.storage.postgres.memory import Memory, visitor_of
from collector.storage.rules.click_reports import LAST_SEEN_STEP_MS, REFUSED, united
from collector.storage.rules.matched import PER_KEY
from collector.storage.rules.tables import CLICKS
from collector.storage.rules.visitors import REGISTERS, place_of

_HOUR_MS: Final = 3_600_000
_DAY_MS: Final = 86_400_000
_decode = msgspec.msgpack.Decoder(StoredClick).decode
Network = tuple[str | None, str | None]


class Clicks:
    """Over what a group knows."""

    def __init__(self, memory: Memory, click_ms: int) -> None:
        self._memory = memory
        self._click_ms = click_ms

    def append(self, clicks: Sequence[NewClick]) -> list[ClickResult]:
        """Store each click, unless the same visitor's same click is here from the last `click_days`."""
        return [self._one(click) for click in clicks]

    def _one(self, click: NewClick) -> ClickResult:
        row = ClickRow(0, *click.row)
        name = (row.store, row.fbclid_k or 0, visitor_of(row))
        known = self._known(name)
        if known is None:
            return self._new(row, click, name)
        if self._is_same(known, click):
            return self._seen_again(known, click)
        same = self._apart(row, click)  # the name is that of the visitor's click in another window
        return self._seen_again(same, click) if same is not None else self._new(row, click, name, instead=known)

    def _apart(self, row: ClickRow, click: NewClick) -> ClickRow | None:
        """The same click among all of its id, the earliest."""
        memory, recovered = self._memory, row.flags & flags.RECOVERED
        ids = memory.find(CLICKS, "fbclid", row.store, row.fbclid_k or 0, 0, PER_KEY)
        rows: list[ClickRow] = memory.rows(CLICKS, ids)
        same = [r for r in rows if r.flags & flags.RECOVERED == recovered and self._is_same(r, click)]
        return min(same, key=lambda r: (r.ts, r.id)) if same else None

    def _known(self, name: tuple[int, int, int]) -> ClickRow | None:
        """The click of this name, locked."""
        memory = self._memory
        number = memory.changes.sightings.get(name) or memory.changes.moved.get(name)
        if number is None:
            number = memory.answers.get(("sighting", *name))
        return memory.row(CLICKS, number) if number is not None else None

    def _is_same(self, row: ClickRow, click: NewClick) -> bool:
        """A name is a hash: the values are compared in full; and the windows of both must meet."""
        stored = _decode(row.body)
        same = stored.fbclid == click.fbclid and stored.visitor_id == click.visitor
        return same and abs(row.ts - click.row[1]) <= self._click_ms

    def _new(
        self, row: ClickRow, click: NewClick, name: tuple[int, int, int], *, instead: ClickRow | None = None
    ) -> ClickResult:
        memory = self._memory
        row = row._replace(id=memory.next_id())
        if instead is None and name not in memory.adrift:
            memory.changes.sightings[name] = row.id
        elif instead is None or instead.ts < row.ts:
            memory.changes.moved[name] = row.id
        else:  # told late, of before the one that has the name
            memory.changes.sightings[name[0], name[1], row.id] = row.id
        memory.append(CLICKS, row)
        self._place(row)
        if click.network != (None, None):
            memory.changes.networks[row.id] = (row.store, *click.network)
        self._count(row, 1)
        memory.changed_clicks.append((None, row))
        return ClickResult(row.id, row.ts, False)

    def _seen_again(self, row: ClickRow, click: NewClick) -> ClickResult:
        """One click however often it is reported: its window starts at the first sighting, the last one is kept."""
        ts = click.row[1]
        first, last = min(row.ts, ts), max(row.last_ts, ts)
        both = row if click.row[4:] == row[5:] else united(row, ClickRow(row.id, *click.row))
        if both != row:
            self._unite_networks(both, click.network, earlier=ts < row.ts)
        if both != row or first < row.ts or last >= row.last_ts + LAST_SEEN_STEP_MS:
            self._change(row, both._replace(ts=first, last_ts=last))
        return ClickResult(row.id, first, True, row if both != row else None)

    def _change(self, row: ClickRow, changed: ClickRow) -> None:
        self._memory.change(CLICKS, changed)
        self._place(changed)
        if row._replace(last_ts=0, body=b"") != changed._replace(last_ts=0, body=b""):
            self._count(row, -1)
            self._count(changed, 1)
            self._memory.changed_clicks.append((row, changed))
            if row.id not in self._memory.changes.new[CLICKS]:
                self._memory.note(row)

    def _place(self, row: ClickRow) -> None:
        """Have the number of its place known."""
        question, known = place_question(self._memory, row), self._memory.known_places
        if question[1:] not in known and (row.store, FULL) not in known:
            self._memory.ask(question, 0)

    def _unite_networks(self, row: ClickRow, network: Network, *, earlier: bool) -> None:
        networks = self._memory.changes.networks
        if row.flags & REFUSED:
            networks[row.id] = None
        elif network != (None, None):
            own = networks.get(row.id)
            kept: Network = own[1:] if own is not None else self._memory.networks.get(row.id, (None, None))
            one, other = (network, kept) if earlier else (kept, network)
            ip, agent = (a if a is not None else b for a, b in zip(one, other, strict=True))
            networks[row.id] = (row.store, ip, agent)

    def _count(self, row: ClickRow, n: int) -> None:
        """How common its values are in its store (storage/index/frequency.py counts the same)."""
        if row.flags & flags.UNCOUNTED:
            return
        changes, day = self._memory.changes, row.ts // _DAY_MS
        changes.hours[row.store, row.ts // _HOUR_MS] += n
        if row.ua_k is not None:
            changes.agents[row.store, day, row.ua_k] += n
        visitor = row.visitor_k if row.visitor_k is not None else row.fbclid_k
        if n > 0 and visitor is not None:
            self._see(row.store, day, visitor)

    def _see(self, store: int, day: int, visitor: int) -> None:
        sketches = self._memory.sketches
        sketch = sketches.get((store, day))
        if sketch is None:
            known = self._memory.ask(("sketch", store, day, self._memory.edge), b"")
            sketch = bytearray(known or bytes(REGISTERS))
            if ("sketch", store, day, self._memory.edge) in self._memory.answers:
                sketches[store, day] = sketch
        register, rank = place_of(visitor)
        if sketch[register] < rank:
            sketch[register] = rank
            self._memory.sketched.add((store, day))

    def withdraw(self, row: ClickRow, changed: ClickRow) -> None:
        """Keep a stored click without its visitor, and nothing of his network."""
        memory = self._memory
        name = (row.store, row.fbclid_k or 0, visitor_of(row))
        if memory.changes.sightings.pop(name, None) is None:
            memory.changes.unseen.append(name)
        memory.changes.sightings[row.store, row.fbclid_k or 0, row.id] = row.id
        memory.changes.networks[row.id] = None
        self._change(row, changed)

    def flush(self) -> None:
        """All is written at the end."""
