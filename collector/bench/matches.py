"""How long does the writer work on one order, at so many stored clicks."""

from __future__ import annotations

import contextlib
import itertools
import time
from statistics import quantiles
from typing import Any, Final

import msgspec
from msgspec import Struct

from collector.bench import people
from collector.bench.storing import names_of, now_ms
from collector.config import Config
from collector.core import intake
from collector.core.consent import Decision
from collector.core.events import ConversionBody
from collector.core.ids import PublicIds
from collector.core.intake import Caller
from collector.exchange import naming
from collector.exchange.clock import Clock
from collector.exchange.naming import NewEvent
from collector.exchange.stores import Store
from collector.storage.ground import database, stores
from collector.storage.ground.acknowledged import EDGE, Ledger
from collector.storage.journal.transaction import GroupTransaction
from collector.storage.verbs.attribution import Attribution

KINDS: Final = ("proved", "inferred", "organic", "hottest")
_GROUP: Final = 64
_numbers: Final = itertools.count(1)


class Spent(Struct, frozen=True):
    """Milliseconds of the writer per order of one kind: finding and judging the clicks, and all of its work."""

    kind: str
    orders: int
    attributed: int
    match_p50: float
    match_p99: float
    all_p50: float
    all_p99: float


class Matching(Struct, frozen=True):
    """`per_second`: orders of the first three kinds in turn, in groups, each group on disk."""

    clicks: int
    per_second: float
    kinds: list[Spent]


def measure(config: Config, stored: int, orders: int) -> Matching:
    """Judge `orders` of each kind, warm, by visitors of the last days, and store as many; then all kinds in turn."""
    data_dir = database.prepare_data_dir(config.storage)
    with contextlib.closing(database.open_database(config.storage)) as db:
        known = stores.load(db, config)
        store, names = known[people.STORE], names_of(db, config)
        public = PublicIds(names.subkey("public ids"))
        writer = GroupTransaction(db, config, data_dir, names, known, Ledger(data_dir, EDGE), Clock())
        attribution = writer.conversions.attribution

        def made(kind: str, count: int) -> list[NewEvent]:
            recent = max(1, stored // 14)
            numbers = [next(_numbers) for _ in range(count)]
            return [
                order_of(people.order(n, max(1, stored - n * 7919 % recent), kind), names, public, store)
                for n in numbers
            ]

        kinds = []
        for kind in KINDS:
            _store(writer, made(kind, orders))  # warm: at 10⁷ clicks a quarter leaves half the pages unread
            judged, found = _judge(writer, attribution, store, made(kind, orders))
            kinds.append(_spent(kind, judged, _store(writer, made(kind, orders)), found))
        mix = [order for three in zip(*(made(kind, orders) for kind in KINDS[:3]), strict=True) for order in three]
        began = time.perf_counter()
        _store(writer, mix)
        rate = len(mix) / (time.perf_counter() - began)
        writer.lookup.close()
        return Matching(stored, rate, kinds)


def order_of(body: dict[str, Any], names: Any, public: PublicIds, store: Store) -> NewEvent:
    """What the edge makes of an order's body."""
    typed = msgspec.convert(body, ConversionBody, strict=False)
    caller, granted = Caller(secret=True, address="127.0.0.1"), Decision("granted", False)
    checked = intake.check_event(typed, caller, granted, now_ms(), None, store.config.country)
    return naming.prepare(names, public, store, checked, "full")


def _judge(
    writer: GroupTransaction, attribution: Attribution, store: Store, orders: list[NewEvent]
) -> tuple[list[float], int]:
    """Milliseconds to find and judge each order's clicks, and how many had one; nothing is stored."""
    spent, attributed = [], 0
    writer.begin()
    for order in orders:
        began = time.perf_counter_ns()
        known = writer.conversions.identities.known(store.number, order.identities, order.query.visitor_k)
        meant = known.people(order.event.ts, order.witness(order.query.visitor_k))
        found, _, _ = attribution.of(store, order.query, meant, order.event, now_ms())
        spent.append((time.perf_counter_ns() - began) / 1e6)
        attributed += found.attributed
    writer.rollback()
    return spent, attributed


def _store(writer: GroupTransaction, orders: list[NewEvent]) -> list[float]:
    """Milliseconds of the writer per order, its share of writing its group's rows included; each group on disk."""
    spent = []
    for first in range(0, len(orders), _GROUP):
        group, applied = orders[first : first + _GROUP], []
        writer.begin()
        for order in group:
            began = time.perf_counter_ns()
            writer.apply([order])
            applied.append((time.perf_counter_ns() - began) / 1e6)
        began = time.perf_counter_ns()
        writer.conversions.flush()
        share = (time.perf_counter_ns() - began) / 1e6 / len(group)
        spent += [ms + share for ms in applied]
        writer.commit()
    return spent


def _spent(kind: str, judged: list[float], stored: list[float], attributed: int) -> Spent:
    match, whole = quantiles(judged, n=100), quantiles(stored, n=100)
    return Spent(kind, len(judged), attributed, match[49], match[98], whole[49], whole[98])
