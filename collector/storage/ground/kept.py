"""What does a row count as? The functions that the kept sums (click_sum, sale_sum …) call, and their rebuild.

Triggers keep the sums in the transaction of every change, so nobody can forget to. What the keeper's group stores anew
it adds in one step: clicks at the group's end (ClickSums), events some moments later (NewEvents). Each connection of
ours has the functions that read a row's encoded body. They never raise: a row that cannot be read counts as nothing
known.
"""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
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


class _Summing(threading.local):
    click_by_click = True


_summing: Final = _Summing()


def click_by_click() -> int:
    """1 where a click's own insert adds it to the sums; 0 inside `counting`."""
    return int(_summing.click_by_click)


class NewEvents:
    """Has new events counted some moments after they are stored, all of them at once (migration 0027).

    Owned by the thread that writes `db`. What it remembers is a hint: which events are counted, the database says.
    """

    def __init__(self, db: apsw.Connection) -> None:
        self._db = db
        self._since: float | None = None

    @property
    def waited(self) -> float:
        """Seconds since the first that was put off; 0 where all are counted."""
        return 0.0 if self._since is None else time.monotonic() - self._since

    def put_off(self, last: int) -> None:
        """Conversions above `last` are about to be inserted, in this transaction: the triggers pass them by."""
        if self._since is None:
            self._db.execute(_PUT_OFF, (last,))
            self._since = time.monotonic()

    def count(self) -> None:
        """Add those that were put off to the sums, as they stand by now; in a transaction, and then `settle`."""
        _count_new(self._db)

    def settle(self) -> None:
        """They are counted on disk."""
        self._since = None


def _count_new(db: apsw.Connection) -> None:
    through = db.execute(_THROUGH).get
    if through != _ALL:
        db.execute("UPDATE counted SET through = ?", (_ALL,))
        for statement in _NEW:
            db.execute(statement, (through,))


class ClickSums:
    """Adds clicks to the sums in one step, as the trigger would one by one. Owned by the thread that writes `db`."""

    def __init__(self, db: apsw.Connection) -> None:
        self._db = db
        self._places: dict[tuple[int, str], int] = {}  # ids that are found or made; nobody takes a place away

    @contextmanager
    def counting(self, rows: Sequence[ClickRow]) -> Iterator[None]:
        """Add `rows`, which the block inserts, in the same transaction."""
        _summing.click_by_click = False
        try:
            yield
        finally:
            _summing.click_by_click = True
        self._count(rows)

    def forget(self) -> None:
        """The transaction is rolled back: a place that it made is none."""
        self._places = {}

    def _count(self, rows: Sequence[ClickRow]) -> None:
        found: Counter[tuple[int, int, str, str]] = Counter()
        for _, store, ts, _, _, _, _, _, _, _, _, _, bits, body in rows:
            if store > 0:
                found[
                    store, ts // QUARTER_MS, "" if bits & _NOWHERE else click_place(body), click_apart(bits, body)
                ] += 1
        place = self._place
        sums = [(store, quarter, place(store, name), apart, n) for (store, quarter, name, apart), n in found.items()]
        multirow.write(self._db, "INSERT INTO click_sum", sums, _MORE)

    def _place(self, store: int, name: str) -> int:
        if not name:
            return 0
        number = self._places.get((store, name))
        if number is None:
            number = self._db.execute(_PLACE, (store, name)).get
        if number is None:
            self._db.execute(_NEW_PLACE, (store, store, name))
            number = self._db.execute(_PLACE, (store, name)).get
        if number is not None:
            self._places[store, name] = number
        return number or 0


_ALL: Final = (1 << 63) - 1
_THROUGH: Final = "SELECT through FROM counted"
_PUT_OFF: Final = "UPDATE counted SET through = min(through, ?)"
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
    "click_by_click": (click_by_click, 0),
}


def know(db: apsw.Connection) -> apsw.Connection:
    """Give a connection the functions; innocuous, for triggers may call no others where the schema is not trusted."""
    for name, (function, arguments) in FUNCTIONS.items():
        same = function is not click_by_click
        db.create_scalar_function(name, function, arguments, deterministic=same, flags=apsw.SQLITE_INNOCUOUS)
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


def recount_if_due(db: apsw.Connection) -> None:
    """Count everything anew where a migration has asked for that; once. And what a keeper that is gone had put off."""
    if not db.execute("SELECT 1 FROM recount").get and db.execute(_THROUGH).get == _ALL:
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
        log.failed("new events could not be added to the sums", error)


def rebuild(db: apsw.Connection) -> None:
    """Count everything anew, inside the caller's transaction; refusals have no rows to be counted from, and stay."""
    db.execute(_PLACES)
    db.execute(_CAUSES, (0,))
    for table, rows in RECOUNT.items():
        db.execute(f"DELETE FROM {table}")
        db.execute(f"INSERT INTO {table} {rows}")
