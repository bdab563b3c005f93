"""How the sums (click_sum, sale_sum …) are kept: the functions that triggers call, and the rebuild.

Triggers keep the sums in the transaction of every change, so nobody can forget to. What the keeper's groups store anew
it adds some moments later, in one step (NewRows). Each connection of ours has the functions that read a row's encoded
body (rules/counted.py).
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

import apsw

from collector import telemetry
from collector.exchange.rows import ClickRow
from collector.storage.ground import multirow
from collector.storage.rules import counted
from collector.storage.rules.counted import NOWHERE, QUARTER_MS, click_apart, click_place

log = telemetry.logger("storage")


class NewRows:
    """Has new clicks and events counted some moments after they are stored, all at once (migrations 0027, 0028).

    Owned by the thread that writes `db`. What it remembers is a hint: which rows are counted, the database says.
    """

    def __init__(self, db: apsw.Connection) -> None:
        self._db = db
        self._since: float | None = None
        self._events = False  # some were put off
        self._after: int | None = None  # likewise clicks: those above it, of which `_found` is the sum
        self._found: Counter[tuple[int, int, int, str]] = Counter()
        self._places: dict[tuple[int, str], int] = {}  # ids that are found or made; nobody takes a place away

    @property
    def waited(self) -> float:
        """Seconds since the first that was put off; 0 where all are counted."""
        return 0.0 if self._since is None else time.monotonic() - self._since

    def put_off_events(self, last: int) -> None:
        """Conversions above `last` are about to be inserted, in this transaction: the triggers pass them by."""
        if not self._events:
            self._db.execute(_PUT_OFF, (last,))
            self._events = True
            self._since = self._since or time.monotonic()

    def put_off_clicks(self, rows: Sequence[ClickRow]) -> None:
        """As `put_off_events`, of these clicks, the first first. Their places are made at once."""
        if self._after is None:
            self._after = rows[0].id - 1
            self._db.execute(_PUT_OFF_CLICKS, (self._after,))
            self._since = self._since or time.monotonic()
        found, place = self._found, self._place
        for _, store, ts, _, _, _, _, _, _, _, _, _, bits, body in rows:
            if store > 0:
                where = 0 if bits & NOWHERE else place(store, click_place(body))
                found[store, ts // QUARTER_MS, where, click_apart(bits, body)] += 1

    def count(self) -> None:
        """Add what was put off to the sums, events as they stand by now; in a transaction, and then `settle`."""
        if self._after is not None and self._db.execute(_CLICKS_ARE, (_ALL, self._after)).get is not None:
            sums = [(*key, n) for key, n in self._found.items()]
            multirow.write(self._db, "INSERT INTO click_sum", sums, _MORE)
        _count_new(self._db)

    def settle(self) -> None:
        """They are counted on disk."""
        self._since, self._events, self._after = None, False, None
        self._found.clear()

    def forget(self) -> None:
        """The transaction is rolled back: a place that it made is none, and clicks are counted by their rows."""
        self._places = {}
        if self._after is not None:
            self._after = -1

    def _place(self, store: int, name: str) -> int:
        number = self._places.get((store, name))
        if number is None:
            number = self._db.execute(_PLACE, (store, name)).get
        if number is None:
            self._db.execute(_NEW_PLACE, (store, store, name))
            number = self._db.execute(_PLACE, (store, name)).get
        if number is not None:
            self._places[store, name] = number
        return number or 0


def _count_new(db: apsw.Connection) -> None:
    """Whatever was put off, by its rows."""
    marks = db.execute("SELECT through, clicks FROM counted").fetchone()
    assert marks is not None, "the schema has its row"
    if marks == (_ALL, _ALL):
        return
    db.execute("UPDATE counted SET through = ?1, clicks = ?1, changed = 0", (_ALL,))
    for statements, mark in zip((_NEW, _NEW_CLICKS), marks, strict=True):
        for statement in statements if mark != _ALL else ():
            db.execute(statement, (mark,))


_ALL: Final = (1 << 63) - 1
_ANY_PUT_OFF: Final = f"SELECT EXISTS (SELECT 1 FROM counted WHERE through < {_ALL} OR clicks < {_ALL})"
_PUT_OFF: Final = "UPDATE counted SET through = min(through, ?)"
_PUT_OFF_CLICKS: Final = "UPDATE counted SET clicks = min(clicks, ?)"
_CLICKS_ARE: Final = "UPDATE counted SET clicks = ? WHERE clicks = ? AND NOT changed RETURNING id"
_MORE: Final = "ON CONFLICT DO UPDATE SET n = n + excluded.n"
_PLACE: Final = "SELECT id FROM place WHERE store = ? AND name = ?"
_NEW_PLACE: Final = """INSERT OR IGNORE INTO place (store, number, name)
VALUES (?, coalesce((SELECT max(number) FROM place WHERE store = ?), 0) + 1, ?)"""

FUNCTIONS: Final[dict[str, tuple[Callable[..., str | int | None], int]]] = {
    "event_name_of": (counted.event_name_of, 1),
    "event_currency": (counted.event_currency, 1),
    "event_units": (counted.event_units, 1),
    "event_ended": (counted.event_ended, 1),
    "counts_otherwise": (counted.counts_otherwise, 4),
    "match_tier": (counted.match_tier, 1),
    "match_label": (counted.match_label, 2),
    "click_place": (click_place, 1),
    "click_apart": (click_apart, 2),
    "cause_name": (counted.cause_name, 1),
    "wait_step": (counted.wait_step, 1),
}


def know(db: apsw.Connection) -> apsw.Connection:
    """Give a connection the functions; innocuous, for triggers may call no others where the schema is not trusted."""
    for name, (function, arguments) in FUNCTIONS.items():
        db.create_scalar_function(name, function, arguments, deterministic=True, flags=apsw.SQLITE_INNOCUOUS)
    return db


_PLACES: Final = """
INSERT OR IGNORE INTO place (store, number, name)
SELECT store, base + row_number() OVER (PARTITION BY store ORDER BY first), name FROM (
  SELECT store, click_place(body) AS name, min(id) AS first,
         coalesce((SELECT max(number) FROM place p WHERE p.store = k.store), 0) AS base
    FROM click k WHERE store > 0 AND flags & 287 = 0 GROUP BY 1, 2) n
 WHERE NOT EXISTS (SELECT 1 FROM place p WHERE p.store = n.store AND p.name = n.name)"""
_CAUSES: Final = """
INSERT OR IGNORE INTO cause (name)
SELECT DISTINCT cause_name(reason) FROM outbox WHERE conversion > ? AND reason IS NOT NULL
   AND cause_name(reason) NOT IN (SELECT name FROM cause)
 LIMIT max(0, 2000 - (SELECT coalesce(max(id), 0) FROM cause))"""
# In two parts, for sum() refuses what passes 64 bits. The triggers' + goes on as a float, and no order is refused.
_UNITS: Final = "sum(units / 1000000) * 1000000 + sum(units % 1000000)"
RECOUNT: Final = {
    "click_sum": "SELECT store, quarter, place, apart, count(*) FROM click_row GROUP BY 1, 2, 3, 4",
    "sale_sum": "SELECT store, event, quarter, currency, place, tier, count(*), "
    f"{_UNITS}, sum(reversed) FROM sale_row GROUP BY 1, 2, 3, 4, 5, 6",
    "truth_sum": "SELECT store, day, purchase, label, count(*) FROM truth_row GROUP BY 1, 2, 3, 4",
    "delivery_sum": "SELECT store, event, quarter, sale, pixel, state, doubt, cause, count(*) FROM delivery_row "
    "GROUP BY 1, 2, 3, 4, 5, 6, 7, 8",
    "wait_sum": "SELECT pixel, quarter, step, count(*) FROM wait_row GROUP BY 1, 2, 3",
    # Sums of the sums above, which come before them.
    "click_day": "SELECT store, quarter / 96, place, apart, sum(n) FROM click_sum GROUP BY 1, 2, 3, 4 HAVING sum(n)",
    "click_quarter": "SELECT store, quarter, sum(n) FROM click_sum WHERE apart = '' GROUP BY 1, 2 HAVING sum(n)",
    "sale_day": "SELECT store, event, quarter / 96, currency, place, tier, sum(n), "
    f"{_UNITS}, sum(reversed) FROM sale_sum GROUP BY 1, 2, 3, 4, 5, 6 HAVING sum(n)",
    "sale_quarter": "SELECT store, event, quarter, currency, tier, sum(n), "
    f"{_UNITS}, sum(reversed) FROM sale_sum GROUP BY 1, 2, 3, 4, 5 HAVING sum(n)",
}
_NEW: Final = (
    _CAUSES,
    f"INSERT INTO sale_sum {RECOUNT['sale_sum'].replace('sale_row', 'sale_row WHERE id > ?')} {_MORE}, "
    "units = units + excluded.units, reversed = reversed + excluded.reversed",
    f"INSERT INTO delivery_sum {RECOUNT['delivery_sum'].replace('_row', '_row WHERE conversion > ?')} {_MORE}",
)
_NEW_CLICKS: Final = (f"INSERT INTO click_sum {RECOUNT['click_sum'].replace('_row', '_row WHERE id > ?')} {_MORE}",)


def recount_if_due(db: apsw.Connection) -> None:
    """Count everything anew where a migration has asked for that; once. And what a keeper that is gone had put off."""
    if not db.execute("SELECT 1 FROM recount").get and not db.execute(_ANY_PUT_OFF).get:
        return
    try:
        db.execute("BEGIN IMMEDIATE")
        if db.execute("SELECT 1 FROM recount").get:  # another process may have been first
            rebuild(db)
            db.execute("DELETE FROM recount")
        _count_new(db)
        db.execute("COMMIT")
    except BaseException as error:
        if db.in_transaction:
            db.execute("ROLLBACK")
        # What is put off stays so: on a full or locked disk, of all, nobody is kept from opening the database for it.
        if not isinstance(error, apsw.Error) or db.execute("SELECT 1 FROM recount").get:
            raise
        log.failed("new rows could not be added to the sums", error)


def rebuild(db: apsw.Connection) -> None:
    """Count everything anew, inside the caller's transaction; refusals have no rows to be counted from, and stay."""
    db.execute(_PLACES)
    db.execute(_CAUSES, (0,))
    for table, rows in RECOUNT.items():
        db.execute(f"DELETE FROM {table}")
        db.execute(f"INSERT INTO {table} {rows}")
