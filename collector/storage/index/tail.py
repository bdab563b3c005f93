"""The newest rows, searchable in memory until the index has them.

Appending to an index on disk would cost each acknowledged insert random pages. Rows are therefore acknowledged on the
append-only table alone and kept here, in generations, until the fold (index.py) has written their keys in one sorted
step; then whole generations are dropped. At start the tail is read back from the table.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Generic, TypeVar

from collector.exchange.rows import ClickRow, ConversionRow
from collector.storage.rules.tables import Key, Table

GENERATION = 10_000  # rows, or as many more as the last group brought

R = TypeVar("R", ClickRow, ConversionRow)


Ids = int | list[int]  # under one name: nearly always a single one, and a list for each would take long to make


class _Generation(Generic[R]):
    """Rows are named for a key when somebody first looks by it: most are folded before, and naming takes time."""

    __slots__ = ("_by_name", "_keys", "_named", "_order", "rows")

    def __init__(self, keys: tuple[Key, ...]) -> None:
        self.rows: dict[int, R] = {}
        self._order: list[R] = []  # as they came
        self._keys = keys
        self._by_name: list[dict[int | None, Ids]] = [{} for _ in keys]
        self._named = [0] * len(keys)  # how many of them are in by_name

    def extend(self, rows: Sequence[R]) -> None:
        self.rows.update({row[0]: row for row in rows})  # its id; the attribute takes three times as long
        self._order += rows

    def find(self, position: int, name: int) -> Sequence[int]:
        """The ids under a name of the key at this position, in their order."""
        ids = self._under(position).get(name, ())
        return (ids,) if isinstance(ids, int) else ids

    def among(self, position: int, names: set[int]) -> set[int]:
        """Those of the names under which there was ever something."""
        return names & self._under(position).keys()

    def names(self, position: int) -> list[int]:
        """Every name of the key at this position."""
        return [name for name in self._under(position) if name is not None]

    def _under(self, position: int) -> dict[int | None, Ids]:
        """For the key at this position the ids under each name; None may stand for rows that have none."""
        by_name, done = self._by_name[position], self._named[position]
        if done < len(self._order):
            rows = self._order[done:]
            self._named[position] = len(self._order)
            names = list(map(self._keys[position].of, rows))
            fresh: dict[int | None, Ids] = dict(zip(names, [row[0] for row in rows], strict=True))
            if len(fresh) == len(names) and by_name.keys().isdisjoint(fresh):
                by_name.update(fresh)  # the usual case for what names one click, in a quarter of the time
            else:
                for name, row in zip(names, rows, strict=True):
                    if name is not None:
                        _put(by_name, name, row[0])
        return by_name

    def rename(self, old: R, row: R) -> None:
        """Have a row that is here already under its new names."""
        for position, key in enumerate(self._keys):
            before, name = key.of(old), key.of(row)
            if before != name:
                self._unname(position, before, row.id)
                if name is not None and row.id not in self.find(position, name):
                    _put(self._under(position), name, row.id)

    def remove(self, row_id: int) -> R:
        """Forget a row."""
        row = self.rows.pop(row_id)
        for position, key in enumerate(self._keys):
            self._unname(position, key.of(row), row_id)
        return row

    def _unname(self, position: int, name: int | None, row_id: int) -> None:
        if name is not None and row_id in (ids := self.find(position, name)):
            self._under(position)[name] = [i for i in ids if i != row_id]


def _put(by_name: dict[int | None, Ids], name: int, row_id: int) -> None:
    ids = by_name.get(name)
    if ids is None:
        by_name[name] = row_id
    elif isinstance(ids, int):
        by_name[name] = sorted((ids, row_id))
    else:
        insort(ids, row_id)


class Tail(Generic[R]):
    """Rows by id and by each of a table's keys; owned by the writer thread."""

    def __init__(self, table: Table) -> None:
        self._keys = table.keys
        self._order = {key.name: i for i, key in enumerate(table.keys)}
        self._generations: list[_Generation[R]] = [_Generation(self._keys)]
        self._replaced: dict[int, R] = {}  # rows that the open transaction changed, as they were before it

    def __len__(self) -> int:
        return sum(len(g.rows) for g in self._generations)

    def add(self, row: R) -> None:
        """As `extend`, for one row."""
        self.extend((row,))

    def extend(self, rows: Sequence[R]) -> None:
        """Make rows findable; ids only grow."""
        current = self._generations[-1]
        if len(current.rows) >= GENERATION:
            current = _Generation(self._keys)
            self._generations.append(current)
        current.extend(rows)

    def replace(self, row: R, *, undo: bool = True) -> None:
        """Put a changed row (same id) in the place of the old one, if it is still here; its new names find it.

        `undo`: a rollback gives the old one back.
        """
        for generation in reversed(self._generations):
            old = generation.rows.get(row.id)
            if old is not None:
                if undo:
                    self._replaced.setdefault(row.id, old)
                generation.rows[row.id] = row
                generation.rename(old, row)
                return

    def trim(self, most: int) -> None:
        """Forget the oldest generations above so many rows."""
        while len(self) > most and len(self._generations) > 1:
            del self._generations[0]

    def discard(self, row_id: int) -> None:
        """Forget a row that is no longer on disk."""
        for generation in self._generations:
            if row_id in generation.rows:
                generation.remove(row_id)

    def settle(self) -> None:
        """What was replaced is on disk."""
        self._replaced.clear()

    def get(self, row_id: int) -> R | None:
        for generation in reversed(self._generations):
            row = generation.rows.get(row_id)
            if row is not None:
                return row
        return None

    def rows(self) -> Iterator[R]:
        """Every row, the oldest first."""
        return chain.from_iterable(generation.rows.values() for generation in self._generations)

    def names_of(self, key: str) -> list[int]:
        """Every name under which a row can be found by `key`."""
        return [name for g in self._generations for name in g.names(self._order[key])]

    def among(self, key: str, names: set[int]) -> set[int]:
        """Those of the names by which some row can be found, or could."""
        position = self._order[key]
        return set().union(*(generation.among(position, names) for generation in self._generations))

    def find(self, key: str, name: int, limit: int) -> list[int]:
        """At most `limit` ids under `name`, newest first."""
        found: list[int] = []
        position = self._order[key]
        for generation in reversed(self._generations):
            if ids := generation.find(position, name):
                found.extend(ids[: -limit - 1 : -1])
                if len(found) >= limit:
                    return found[:limit]
        return found

    def drop_through(self, watermark: int) -> None:
        """Forget the generations whose every row the index has."""
        kept: list[_Generation[R]] = [
            g for g in self._generations[:-1] if g.rows and next(reversed(g.rows)) > watermark
        ]
        last = self._generations[-1]
        if last.rows and next(reversed(last.rows)) <= watermark:
            last = _Generation(self._keys)
        kept.append(last)
        self._generations = kept

    def retract_after(self, last_id: int) -> list[R]:
        """Undo a transaction that was rolled back: forget rows above `last_id`, give back what was replaced.

        The rows forgotten, as they were added.
        """
        forgotten: list[R] = []
        for generation in self._generations:
            for row_id in [i for i in reversed(generation.rows) if i > last_id]:
                row = generation.remove(row_id)
                forgotten.append(self._replaced.pop(row_id, row))
        self._generations = [g for g in self._generations[:-1] if g.rows] + self._generations[-1:]
        before, self._replaced = self._replaced, {}
        for row in before.values():
            self.replace(row)
        self._replaced.clear()
        return forgotten
