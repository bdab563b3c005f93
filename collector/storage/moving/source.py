"""The SQLite file that is moved: read in slices, held by nobody else meanwhile, and marked at the end."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any, Final

import apsw

from collector.config import Config
from collector.core import flags
from collector.errors import StorageError
from collector.storage.ground import moved, pepper
from collector.storage.ground.database import immediate, open_existing
from collector.storage.moving.tables import COMPARED, PARTS, Part, values_for
from collector.storage.rules.visitors import REGISTERS, place_of

_DAY_MS: Final = 86_400_000
_IN_FLIGHT: Final = "SELECT count(*) FROM request WHERE outcome = 'in_flight'"
_VERSION: Final = "PRAGMA data_version"  # another one after any commit of another connection
_SEEN: Final = f"""
SELECT store, ts / {_DAY_MS}, coalesce(visitor_k, fbclid_k) FROM click
 WHERE flags & {flags.UNCOUNTED} = 0 AND coalesce(visitor_k, fbclid_k) IS NOT NULL"""

Counts = dict[tuple[str, int], int]  # of rows, by table and store


class Source:
    """A file's rows. StorageError where it is not fit to be moved."""

    def __init__(self, config: Config) -> None:
        self._db: apsw.Connection = open_existing(config.storage, moving=True)
        self._version = self._one(_VERSION)
        self._refuse_another_key(config)
        if (requests := self._one(_IN_FLIGHT)) > 0:
            raise StorageError(
                f"{requests} requests to Meta are in flight, or were cut off: start the collector over this data_dir "
                "once more, let its courier close them, stop it, and move then"
            )

    def _refuse_another_key(self, config: Config) -> None:
        path = pepper.path_of(config.storage.data_dir, config.privacy.pepper_file)
        check, named = self._db.execute(pepper.WITNESS_SQL).get
        pepper.refuse_stranger(path, pepper.read(path), pepper.Witness(check, bool(named)))

    def _one(self, sql: str) -> int:
        return int(self._db.execute(sql).get)

    @property
    def mark(self) -> moved.Mark | None:
        return moved.mark(self._db)

    def begin(self, now: int) -> None:
        moved.begin(self._db, now)

    def finish(self, began: int, now: int) -> None:
        """Mark the file as moved; StorageError where a command has written to it, or opened it to write, meanwhile."""
        with immediate(self._db):
            if self._one(_VERSION) != self._version or not moved.finish(self._db, began, now):
                raise StorageError(
                    "the SQLite file was opened for other work while it was moved, and may have changed; "
                    "begin again with an empty database"
                )

    def slice(self, part: Part, after: tuple[Any, ...] | None, rows: int) -> tuple[list[Any], tuple[Any, ...] | None]:
        """The next rows behind a key as the target takes them, and the key of the last; none: there are no more."""
        sql = part.slice_sql.format(where=part.behind if after else "", rows=rows)
        found = self._db.execute(sql, after or ()).fetchall()
        width = len(part.columns)
        return [values_for(part, row) for row in found], found[-1][width:] if found else None

    def counts(self) -> Counts:
        """Rows of each table and store."""
        return {
            (part.table, store): n
            for part in PARTS
            for store, n in self._db.execute(part.counted_in_source)
        }  # fmt: skip

    def sketches(self) -> Iterator[tuple[int, int, bytes]]:
        """Store, day, and the registers of the visitors that it saw."""
        registers: defaultdict[tuple[int, int], bytearray] = defaultdict(lambda: bytearray(REGISTERS))
        for store, day, visitor in self._db.execute(_SEEN):
            register, rank = place_of(visitor)
            sketch = registers[store, day]
            sketch[register] = max(sketch[register], rank)
        yield from ((store, day, bytes(sketch)) for (store, day), sketch in sorted(registers.items()))

    def conversions(self, after: int, rows: int) -> list[tuple[Any, ...]]:
        """What was decided of the next conversions behind an id."""
        sql = f"SELECT {', '.join(COMPARED)} FROM conversion WHERE id > ? ORDER BY id LIMIT ?"
        return self._db.execute(sql, (after, rows)).fetchall()

    def close(self) -> None:
        self._db.close()
