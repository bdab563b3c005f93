"""What does a row count as? The functions that the kept sums (click_sum, sale_sum …) call, and their rebuild.

Triggers keep the sums in the transaction of every change, so nobody can forget to. What the keeper's groups store anew
it adds some moments later, in one step (NewRows). Each connection of ours has the functions that read a row's encoded
body. They never raise: a row that cannot be read counts as nothing
known.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from decimal import ROUND_HALF_UP, Decimal
from functools import lru_cache
from typing import Final

import apsw
import msgspec

from collector import telemetry
from collector.core import flags, statuses
from collector.core.calibration import logit
from collector.core.event_names import STANDARD
from collector.core.events import StoredClick
from collector.core.landing import labels_of
from collector.core.learning import BIN, is_order
from collector.core.matching.shapes import Label
from collector.exchange.rows import ClickRow
from collector.storage.ground import multirow

log = telemetry.logger("storage")

QUARTER_MS: Final = 900_000  # the days of every time zone begin at a quarter of an hour
UNITS: Final = 10_000  # of a currency's unit: no currency has more than four decimals
_MOST_UNITS: Final = Decimal(10) ** 15
SEPARATOR: Final = "\x1f"
CUSTOM: Final = "(custom)"
_CAUSE_MAX: Final = 160
_APART: Final = (
    (flags.BOT, "bot"),
    (flags.PREFETCH, "prefetch"),
    (flags.DENIED, "denied"),
    (flags.WITHDRAWN, "withdrawn"),
    (flags.PENDING, "pending"),
    (flags.TEST, "test"),
)
_ANY_APART: Final = sum(bit for bit, _ in _APART)


class _Sold(msgspec.Struct):
    value: Decimal | None = None
    currency: str | None = None
    order_status: str | None = None


class _Judged(msgspec.Struct):
    attributed: bool = False
    deterministic: bool = False


class _Taught(msgspec.Struct):
    method: str | None = None
    label: Label | None = None


class _Landed(msgspec.Struct, array_like=True):
    """The first fields of StoredClick."""

    fbclid: str
    landing_page: str


_sold: Final = msgspec.msgpack.Decoder(_Sold).decode
_judged: Final = msgspec.msgpack.Decoder(_Judged).decode
_taught: Final = msgspec.msgpack.Decoder(_Taught).decode
_click: Final = msgspec.msgpack.Decoder(StoredClick).decode
_landed: Final = msgspec.msgpack.Decoder(_Landed).decode


# A trigger asks several things of one row, one after the other: its body is decoded once.
@lru_cache(maxsize=64)
def _read_sold(body: bytes) -> _Sold:
    try:
        return _sold(body)
    except msgspec.MsgspecError:
        return _Sold()


def event_name_of(event_type: str) -> str:
    """A standard name; custom ones are their callers' words, and any number of them."""
    return event_type if event_type in STANDARD else CUSTOM


def event_currency(body: bytes) -> str:
    """The currency of an order's value; empty where it has none."""
    sold = _read_sold(body)
    return sold.currency or "" if sold.value is not None else ""


def event_units(body: bytes) -> int:
    """The value in ten-thousandths; 0 where the order brings nothing any more."""
    sold = _read_sold(body)
    if sold.value is None or not sold.value.is_finite() or statuses.has_ended(sold.order_status):
        return 0
    return int(min((sold.value * UNITS).to_integral_value(ROUND_HALF_UP), _MOST_UNITS))


def event_ended(body: bytes) -> int:
    """1 for an order that was refunded, cancelled or never paid."""
    return int(statuses.has_ended(_read_sold(body).order_status))


@lru_cache(maxsize=4)  # it is asked before a change and after it
def counts_otherwise(old: bytes, new: bytes, match: bytes, new_match: bytes) -> int:
    """1 where an order's change changes a sum: its value, currency or end, or how sure its attribution is."""
    return int((old != new and _figures(old) != _figures(new)) or match_tier(match) != match_tier(new_match))


def _figures(body: bytes) -> tuple[Decimal | None, str | None, bool]:
    sold = _read_sold(body)
    return sold.value, sold.currency, statuses.has_ended(sold.order_status)


def match_tier(match: bytes) -> int:
    """How sure the attribution is: 2 proven, 1 likely, 0 none."""
    try:
        judged = _judged(match)
    except msgspec.MsgspecError:
        return 0
    return int(judged.attributed) * (1 + int(judged.deterministic))


@lru_cache(maxsize=64)
def match_label(match: bytes, event_type: str) -> str | None:
    """What a proof taught: kind, method, stated log odds in steps, 1 if it came true; None where it teaches nothing."""
    try:
        taught = _taught(match)
    except msgspec.MsgspecError:
        return None
    label = taught.label
    if label is None or not is_order(event_type, purchases=False):
        return None
    if label.kind == "device":
        told = None if label.contradicted is None else ("device", taught.method or "", "0", not label.contradicted)
    else:
        step = round(logit(label.stated) / BIN) if label.stated > 0 else -1000
        told = (label.kind, "", str(step), label.right)
    return told and SEPARATOR.join((*told[:3], str(int(told[3]))))


@lru_cache(maxsize=64)
def click_place(body: bytes) -> str:
    """Source, campaign, ad set and ad of a click's landing page."""
    try:
        return SEPARATOR.join(labels_of(_landed(body).landing_page))
    except msgspec.MsgspecError:
        return SEPARATOR * 3


def click_apart(marks: int, body: bytes) -> str:
    """Why a click is kept apart: a crawler's name, `prefetch`, `denied` …; empty for a person's."""
    if not marks & _ANY_APART:
        return ""
    kind = next(word for bit, word in _APART if marks & bit)
    if kind != "bot":
        return kind
    try:
        return f"bot{SEPARATOR}{_click(body).bot or 'crawler'}"
    except msgspec.MsgspecError:
        return f"bot{SEPARATOR}crawler"


def cause_name(reason: str | None) -> str | None:
    """A reason with its figures blotted out, so that one cause is one line."""
    return "".join("#" if c.isdigit() else c for c in reason)[:_CAUSE_MAX] if reason else None


def wait_step(ms: int) -> int:
    """A wait in eighths of a doubling of a millisecond: nine percent apart, from 1 ms to weeks in 250 steps."""
    return round(8 * math.log2(max(ms, 1)))


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
                where = 0 if bits & _NOWHERE else place(store, click_place(body))
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
_NOWHERE: Final = 287  # not a person's with consent: the mask of click_row and its triggers
_MORE: Final = "ON CONFLICT DO UPDATE SET n = n + excluded.n"
_PLACE: Final = "SELECT id FROM place WHERE store = ? AND name = ?"
_NEW_PLACE: Final = """INSERT OR IGNORE INTO place (store, number, name)
VALUES (?, coalesce((SELECT max(number) FROM place WHERE store = ?), 0) + 1, ?)"""

FUNCTIONS: Final[dict[str, tuple[Callable[..., str | int | None], int]]] = {
    "event_name_of": (event_name_of, 1),
    "event_currency": (event_currency, 1),
    "event_units": (event_units, 1),
    "event_ended": (event_ended, 1),
    "counts_otherwise": (counts_otherwise, 4),
    "match_tier": (match_tier, 1),
    "match_label": (match_label, 2),
    "click_place": (click_place, 1),
    "click_apart": (click_apart, 2),
    "cause_name": (cause_name, 1),
    "wait_step": (wait_step, 1),
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
