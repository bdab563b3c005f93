"""The newest purchases of a span: by their own time, each store's own, and no more of them read than are told."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import pytest

from collector.storage.reports import purchases
from collector.storage.reports.kept import Span
from collector.storage.reports.reader import Reader
from tests.kit.console_store import DAY_MS, HOUR_MS, NOW, add_click, add_conversion, make_store

WEEK = Span((1,), NOW - 7 * DAY_MS, NOW + 1)
SMALL_SHOP = WEEK._replace(stores=(2,))


class Shop(NamedTuple):
    db: sqlite3.Connection
    reader: Reader

    def order(self, at: int, customer: int, *, store: int = 1, marks: int = 0, kind: str = "Purchase") -> int:
        """An order with a click that names a customer."""
        (n,) = self.db.execute("SELECT count(*) FROM conversion").fetchone()
        click = add_click(self.db, at - HOUR_MS, store=store)
        row = add_conversion(self.db, at, store=store, click=click, order=f"o-{n}", marks=marks, kind=kind)
        self.db.execute("INSERT INTO conversion_identity VALUES (?, 2, ?)", (row, customer))
        return row

    async def new(self, span: Span = WEEK) -> list[bool | None]:
        return [way.new for way in await purchases.newest_ways(self.reader, span)]


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    db = make_store(tmp_path, clicks=0, conversions=0)
    async with Reader(tmp_path / "collector.db") as reader:
        yield Shop(db, reader)
    db.close()


def many(db: sqlite3.Connection, n: int, *, store: int, newest: int, seen: itertools.count[int]) -> None:
    """So many unattributed purchases, one a second, of before `newest` (ms)."""
    add_conversion(db, newest, store=store, order=f"many-{next(seen)}")
    names = [row[1] for row in db.execute("PRAGMA table_info(conversion)") if row[1] not in ("id", "ts", "dedup_k")]
    columns = ", ".join(names)
    db.execute(
        f"""WITH RECURSIVE k (n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM k WHERE n < ?)
            INSERT INTO conversion (ts, {columns}) SELECT c.ts - 1000 * k.n, {columns}
              FROM k JOIN conversion c ON c.id = (SELECT max(id) FROM conversion)""",
        (n - 1,),
    )


async def test_history_that_is_imported_later_makes_its_customer_no_new_one(shop: Shop) -> None:
    shop.order(NOW - HOUR_MS, 1)
    shop.order(NOW - 300 * DAY_MS, 1)
    assert await shop.new() == [False]


async def test_the_earlier_order_is_the_new_customers_whichever_came_in_first(shop: Shop) -> None:
    shop.order(NOW - HOUR_MS, 1)
    shop.order(NOW - 2 * HOUR_MS, 1)
    assert await shop.new() == [False, True]  # newest first
    shop.order(NOW - 4 * HOUR_MS, 2)
    shop.order(NOW - 3 * HOUR_MS, 2)
    assert await shop.new() == [False, True, False, True]


async def test_of_one_moment_the_first_row_is_the_first_order(shop: Shop) -> None:
    shop.order(NOW - HOUR_MS, 1)
    shop.order(NOW - HOUR_MS, 1)
    assert sorted(await shop.new(), key=bool) == [False, True]


async def test_the_control_what_is_no_earlier_sale_of_the_shop_to_this_customer_leaves_him_new(shop: Shop) -> None:
    shop.order(NOW - HOUR_MS, 1)
    shop.order(NOW - DAY_MS, 2)  # another customer
    shop.order(NOW - 30 * DAY_MS, 1, store=2)
    shop.order(NOW - 30 * DAY_MS, 1, marks=16)
    shop.order(NOW - 30 * DAY_MS, 1, kind="Lead")
    assert await shop.new() == [True, True]


async def test_a_small_shop_is_told_of_beside_a_large_one(shop: Shop) -> None:
    shop.order(NOW - 5 * DAY_MS, 1, store=2)
    shop.order(NOW - 4 * DAY_MS, 1, store=2)
    many(shop.db, 12_000, store=1, newest=NOW, seen=itertools.count())
    assert await shop.new(SMALL_SHOP) == [False, True]
    assert await purchases.lags(shop.reader, SMALL_SHOP) == [HOUR_MS, HOUR_MS]
    assert await shop.new() == []


async def test_pages_of_orders_give_each_once_newest_first_of_several_stores(shop: Shop) -> None:
    seen = itertools.count()
    many(shop.db, 250, store=1, newest=NOW, seen=seen)
    many(shop.db, 250, store=2, newest=NOW, seen=seen)  # of the same moments
    span = WEEK._replace(stores=(1, 2))
    keys = [(one.ts, one.id) async for one in purchases.orders(shop.reader, span)]
    assert len(keys) == 500
    assert keys == sorted(set(keys), reverse=True)
    assert [(one.ts, one.id) async for one in purchases.orders(shop.reader, span, keys[219])] == keys[220:]
    assert [one async for one in purchases.orders(shop.reader, span._replace(stores=()))] == []


@pytest.mark.parametrize("stores", [(1,), (2,), (1, 2), (1, 2, 3, 4, 5), tuple(range(1, 101))])
async def test_an_index_serves_each_store_and_nothing_is_sorted(shop: Shop, stores: tuple[int, ...]) -> None:
    sql = f"EXPLAIN QUERY PLAN SELECT id FROM {purchases.newest_sql(WEEK._replace(stores=stores))}"
    steps = [row[3] for row in shop.db.execute(sql)]
    searches = [step for step in steps if step.startswith("SEARCH")]
    assert searches == ["SEARCH conversion USING INDEX conversion_purchase (store=? AND ts>? AND ts<?)"] * len(stores)
    assert not [step for step in steps if "TEMP B-TREE" in step or step.startswith("SCAN conversion")]


async def test_more_stores_than_can_be_merged_are_read_all_the_same(shop: Shop) -> None:
    shop.order(NOW - HOUR_MS, 1, store=2)
    assert await shop.new(WEEK._replace(stores=tuple(range(1, 1001)))) == [True]


def steps_of(db: sqlite3.Connection, sql: str) -> int:
    """How many hundreds of SQLite's own steps a question takes: no clock is asked."""
    taken = itertools.count()
    db.set_progress_handler(lambda: next(taken) < 0, 100)
    db.execute(sql).fetchall()
    db.set_progress_handler(None, 0)
    return next(taken)


@pytest.mark.parametrize("question", [purchases._WAYS_SQL, purchases._LAGS_SQL], ids=["ways", "lags"])
async def test_what_is_read_does_not_grow_with_the_orders_that_no_click_led_to(shop: Shop, question: str) -> None:
    seen, took = itertools.count(), []
    for n in range(3):
        many(shop.db, 1000, store=1, newest=NOW - n * HOUR_MS, seen=seen)
        took.append(steps_of(shop.db, question.format(purchases.newest_sql(WEEK, 500))))
    assert took[0] > 10
    assert max(took) - min(took) <= 1
    # The control: without the bound it does.
    assert steps_of(shop.db, question.format(purchases.newest_sql(WEEK, 1 << 40))) > 4 * took[0]
