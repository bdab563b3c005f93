"""How common values are in a store, as the index database keeps it: the sums that frequency.py counts in memory.

A fold adds its clicks, which lie in `temp.folding_click`; all of it can be rebuilt from the main database.
"""

from __future__ import annotations

from typing import Final

import apsw

from collector.core.flags import UNCOUNTED
from collector.exchange.rows import ClickRow
from collector.storage.ground.database import immediate
from collector.storage.rules.tables import COUNTED
from collector.storage.rules.visitors import SKETCH_BITS, SKETCH_RANK_BITS

SUM_DAYS: Final = 122  # an event may be told 90 days late, and its figures go back 30 days
_HOUR_MS: Final = 3_600_000
_DAY_MS: Final = 86_400_000
_REGISTERS: Final = 1 << SKETCH_BITS

# HyperLogLog registers (Flajolet 2007), kept by SQL: `v` names a visitor, `u` is the upper part of it, and a register
# holds the position of the first set bit of the smallest `u` that it saw.
_VISITORS: Final = f"SELECT store, ts, coalesce(visitor_k, fbclid_k) AS v FROM temp.folding_click WHERE {COUNTED}"
_REGISTER: Final = f"v & {_REGISTERS - 1}"
_UPPER: Final = f"(v >> {SKETCH_BITS} & {(1 << SKETCH_RANK_BITS) - 1})"
_RANK: Final = f"{SKETCH_RANK_BITS} - CAST(floor(log2(u | 1)) AS INTEGER)"
_HIGHER: Final = "ON CONFLICT DO UPDATE SET rank = max(rank, excluded.rank)"
_MORE: Final = "ON CONFLICT DO UPDATE SET n = n + excluded.n"

_OF_ANY_DAY: Final = (
    f"INSERT INTO main.click_hour SELECT store, ts / {_HOUR_MS}, count(*) FROM temp.folding_click "
    f"WHERE {COUNTED} GROUP BY 1, 2 {_MORE}",
    f"INSERT INTO main.ua_day SELECT store, ts / {_DAY_MS}, ua_k, count(*) FROM temp.folding_click "
    f"WHERE ua_k IS NOT NULL AND {COUNTED} GROUP BY 1, 2, 3 {_MORE}",
    f"INSERT INTO main.visitor_sketch SELECT store, day, register, {_RANK} FROM ("
    f"SELECT store, ts / {_DAY_MS} AS day, {_REGISTER} AS register, min({_UPPER}) AS u FROM ({_VISITORS}) "
    f"WHERE v IS NOT NULL GROUP BY 1, 2, 3) WHERE true {_HIGHER}",
)
_OF_HOUR: Final = (
    "INSERT INTO main.click_hour SELECT ?1, ?2, count(*) FROM temp.folding_click "
    f"WHERE ts >= ?3 AND ts < ?4 AND {COUNTED} HAVING count(*) {_MORE}"
)
_OF_DAY: Final = (
    "INSERT INTO main.ua_day SELECT ?1, ?2, ua_k, count(*) FROM temp.folding_click "
    f"WHERE ua_k IS NOT NULL AND {COUNTED} GROUP BY 3 {_MORE}"
)
_SKETCH_OF_DAY: Final = (
    f"INSERT INTO main.visitor_sketch SELECT ?1, ?2, register, {_RANK} FROM ("
    f"SELECT {_REGISTER} AS register, min({_UPPER}) AS u FROM ({_VISITORS}) WHERE {_UPPER} < ?3 GROUP BY 1) "
    f"WHERE true {_HIGHER}"
)
_LOWEST: Final = "SELECT min(rank), count(*) FROM main.visitor_sketch WHERE store = ? AND day = ?"

_ADD_HOUR: Final = f"INSERT INTO main.click_hour VALUES (?, ?, ?) {_MORE}"
_ADD_AGENT: Final = f"INSERT INTO main.ua_day VALUES (?, ?, ?, ?) {_MORE}"
_ADD_VISITOR: Final = (
    f"INSERT INTO main.visitor_sketch SELECT ?1, ?2, {_REGISTER}, {_RANK} "
    f"FROM (SELECT v, {_UPPER} AS u FROM (SELECT ?3 AS v)) WHERE true {_HIGHER}"
)


def add_folding(db: apsw.Connection) -> None:
    """Add the clicks that are being folded, inside the fold's transaction."""
    span: tuple[int, int, int, int] | None = db.execute(
        "SELECT min(store), max(store), min(ts), max(ts) FROM temp.folding_click HAVING count(*)"
    ).fetchone()
    if span is None:
        return
    store, last_store, first, last = span
    if store == last_store and first // _DAY_MS == last // _DAY_MS:
        _add_day(db, store, first, last)
    else:
        for statement in _OF_ANY_DAY:
            db.execute(statement)


def _add_day(db: apsw.Connection, store: int, first: int, last: int) -> None:
    """A busy shop's fold lies within a day: with less to sort by, that costs half."""
    day = first // _DAY_MS
    for hour in range(first // _HOUR_MS, last // _HOUR_MS + 1):
        db.execute(_OF_HOUR, (store, hour, hour * _HOUR_MS, (hour + 1) * _HOUR_MS))
    db.execute(_OF_DAY, (store, day))
    lowest, registers = db.execute(_LOWEST, (store, day)).fetchone() or (0, 0)
    # Once each register has seen somebody, only what would raise the lowest of them can change any.
    useful = SKETCH_RANK_BITS - (int(lowest) if registers == _REGISTERS else 0)
    db.execute(_SKETCH_OF_DAY, (store, day, 1 << max(useful, 0)))


def move(db: apsw.Connection, before: ClickRow, after: ClickRow) -> None:
    """Count a folded click as it is now. The sketch keeps its visitor under the old day too: it is an estimate."""
    for row, n in ((before, -1), (after, 1)):
        if not row.flags & UNCOUNTED:
            db.execute(_ADD_HOUR, (row.store, row.ts // _HOUR_MS, n))
            if row.ua_k is not None:
                db.execute(_ADD_AGENT, (row.store, row.ts // _DAY_MS, row.ua_k, n))
    visitor = after.visitor_k if after.visitor_k is not None else after.fbclid_k
    if visitor is not None and not after.flags & UNCOUNTED:
        db.execute(_ADD_VISITOR, (after.store, after.ts // _DAY_MS, visitor))


def purge(db: apsw.Connection, most: int) -> int:
    """Take out at most `most` rows per store and sum of days that no order asks for any more; how many went."""
    gone = 0
    for (store,) in db.execute("SELECT id FROM source.store").fetchall():
        for table, value in (("ua_day", "ua_k"), ("visitor_sketch", "register")):
            newest = db.execute(f"SELECT max(day) FROM main.{table} WHERE store = ?", (store,)).get
            old = f"SELECT store, day, {value} FROM main.{table} WHERE store = ? AND day <= ? LIMIT ?"
            bind = (store, (newest or 0) - SUM_DAYS)
            if db.execute(old, (*bind, 1)).get is not None:
                with immediate(db):
                    db.execute(f"DELETE FROM main.{table} WHERE (store, day, {value}) IN ({old})", (*bind, most))
                    gone += db.changes()
    return gone
