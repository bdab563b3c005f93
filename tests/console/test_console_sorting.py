"""Orders are sorted by time, value, confidence or state: by the address, page after page, each order once."""

from __future__ import annotations

import html
import itertools
import re
import sqlite3
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit

import pytest

from collector.console import orders
from collector.console.bar import Asked, Unknown
from collector.console.shell import Desk
from collector.core.capi.states import CapiState
from collector.core.matching.shapes import Match
from collector.storage.reports import purchases
from collector.storage.reports.purchases import Order
from collector.storage.reports.reader import Reader
from tests.kit.console_process import make_config
from tests.kit.console_store import HOUR_MS, NOW, add_conversion, add_outbox, make_store

DAYS = Asked(range="28")
STATES = (CapiState.SENT, CapiState.QUEUED, CapiState.HELD, CapiState.REJECTED, CapiState.EXPIRED, CapiState.SKIPPED)
SORTS = [f"{by}{up}" for by in orders.SORTS for up in ("", "-up")]


class Shop(NamedTuple):
    db: sqlite3.Connection
    desk: Desk

    async def page(self, sort: str, after: str = "", **filters: str) -> str:
        return (await orders.orders(self.desk, DAYS, orders.Filters(**filters), after, sort)).content.decode()

    async def told(self, sort: str, **filters: str) -> list[str]:
        """The orders' numbers on all pages."""
        found, after = list[str](), ""
        for _ in range(30):
            text = await self.page(sort, after, **filters)
            found += re.findall(r'c-order"><a href="[^"]+">([^<]+)<', text)
            older = re.search(r'<a href="([^"]+)">(?:Older|Next)</a>', text)
            if older is None:
                return found
            after = parse_qs(urlsplit(html.unescape(older[1])).query)["after"][0]
        raise AssertionError("the pages have no end")

    async def kept(self) -> list[Order]:
        span = (await orders.read(self.desk, DAYS)).span
        return [order async for order in purchases.orders(self.desk.reader, span)]


@pytest.fixture
async def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Shop]:
    """Thirty orders of two shops in two currencies, many of them alike, on pages of four."""
    monkeypatch.setattr(orders, "_SHOWN", 4)
    db = make_store(tmp_path, clicks=0, conversions=0)
    for n in range(30):
        sure = (0, 98, 84)[n % 3]
        match = Match(
            attributed=bool(sure),
            deterministic=sure == 98,
            confidence=sure,
            model="default.1",
            click=9 if sure else None,
        )
        value = None if n == 7 else Decimal(("10", "9.5", "1E+2", "9.50", "100")[n % 5])
        at, state = NOW - n // 2 * HOUR_MS, STATES[n % 6]
        currency, store = ("USD", 1) if n % 4 else ("CHF", 2)
        row = add_conversion(db, at, order=f"o-{n:02}", value=value, currency=currency, store=store, match=match)
        add_outbox(db, row, int(state), at, settled=None if state in (0, 2) else at)
    async with Reader(tmp_path / "collector.db") as reader:
        yield Shop(db, Desk(make_config(tmp_path), reader, lambda: NOW))
    db.close()


def _wanted(sort: str, kept: list[Order]) -> list[str]:
    """The same by plain rules: within what is alike, the newest first; what has no value, last."""
    places = ["sent", "waiting", "held", "refused", "expired", "on purpose"]
    order_of = {CapiState(s): n for n, s in enumerate((10, 0, 2, 13, 11, 12))}
    assert len(places) == len(order_of)
    by, sign = sort.removesuffix("-up"), 1 if sort.endswith("-up") else -1
    newest = sorted(kept, key=lambda o: (-o.ts, -o.id))
    if by == "time":
        return [o.number for o in (newest if sign < 0 else newest[::-1])]
    if by == "value":
        ranked = sorted(newest, key=lambda o: (o.value is None, o.currency, sign * (o.value or 0)))
    elif by == "confidence":
        ranked = sorted(newest, key=lambda o: sign * (1000 * o.tier + (o.confidence or 0)))
    else:
        ranked = sorted(newest, key=lambda o: sign * order_of[CapiState(o.state)])
    return [o.number for o in ranked]


@pytest.mark.parametrize("sort", SORTS)
async def test_every_order_stands_once_in_the_order_that_was_asked_for(shop: Shop, sort: str) -> None:
    found = await shop.told(sort)
    assert len(found) == 30
    assert found == _wanted(sort, await shop.kept())


async def test_the_control_a_sort_that_compares_currencies_is_noticed(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = orders.Sort.key
    monkeypatch.setattr(orders.Sort, "key", lambda self, order: key(self, order)._replace(currency=""))
    assert await shop.told("value") != _wanted("value", await shop.kept())


@pytest.mark.parametrize("sort", SORTS)
async def test_a_sorted_list_keeps_its_filters(shop: Shop, sort: str) -> None:
    found = await shop.told(sort, sure="proven")
    kept = [order for order in await shop.kept() if order.tier == 2]
    assert found == _wanted(sort, kept)
    assert len(found) == 10


async def test_orders_that_come_between_two_pages_hide_and_repeat_none(shop: Shop) -> None:
    first = await shop.page("value")
    after = parse_qs(urlsplit(html.unescape(re.findall(r'<a href="([^"]+)">Next</a>', first)[0])).query)["after"][0]
    shown = re.findall(r'c-order"><a href="[^"]+">([^<]+)<', first)
    for n in range(9):
        add_conversion(shop.db, NOW - n, order=f"new-{n}", value=Decimal(10_000), currency="CHF", store=2)
    second = re.findall(r'c-order"><a href="[^"]+">([^<]+)<', await shop.page("value", after))
    assert [*shown, *second] == _wanted("value", await shop.kept())[9:17]


async def test_the_heads_are_links_and_say_how_the_list_is_sorted(shop: Shop) -> None:
    text = await shop.page("value")
    heads = dict(re.findall(r'aria-sort="(\w+)"><a href="[^"]*">(\w[\w ]*)<', text))
    assert heads == {"descending": "Value", "none": "Click known"}
    assert text.count('aria-sort="none"') == 3
    assert 'sort=value-up">Value' in text
    assert 'sort=value">Value' in await shop.page("value-up")
    assert 'sort=time-up">Time' in await shop.page("")


async def test_how_many_are_sorted_is_said_where_not_all_are(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Sorted are the newest" not in await shop.page("value")
    monkeypatch.setattr(orders, "_LOOKED_THROUGH", 30)
    assert "Sorted are the newest" not in await shop.page("state")
    monkeypatch.setattr(orders, "_LOOKED_THROUGH", 29)
    assert "Sorted are the newest 29 orders of these days" in await shop.page("state")
    assert "Sorted are the newest" not in await shop.page("time-up")


@pytest.mark.parametrize("sort", ["", "value"])
async def test_long_words_make_a_page_shorter_and_hide_no_order(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, sort: str
) -> None:
    monkeypatch.setattr(orders, "_SHOWN", 50)
    text = "слово " * 80  # Meta's reasons come in the language of the ad account
    shop.db.execute("UPDATE outbox SET reason = ? || id", (text,))
    assert len((await shop.page(sort)).encode()) < 60_000
    assert 0 < (await shop.page(sort)).count("c-order") < 30
    assert await shop.told(sort) == _wanted(sort or "time", await shop.kept())
    monkeypatch.setattr(orders, "_ROOM_BYTES", 1_000_000)  # the control
    assert (await shop.page(sort)).count("c-order") == 30


@pytest.mark.parametrize("sort", ["price", "value-", "-up", "-up-up", "Value", "value-up-up", "'", "time_up"])
async def test_a_sort_that_there_is_not_is_told(shop: Shop, sort: str) -> None:
    with pytest.raises(Unknown, match="There is no sort by"):
        await shop.page(sort)


@pytest.mark.parametrize(
    "after",
    ["1-2", "0_EUR_1_2", "2_EUR_1_2_3", "0_eur_1_2_3", "0_EUR_NaN_2_3", "0_EUR_1e9_2_3", "0_EUR_1_2_3 ", "٠_EUR_1_2_3"],
)
async def test_a_page_that_is_none_is_told(shop: Shop, after: str) -> None:
    with pytest.raises(Unknown, match="cannot be read"):
        await shop.page("value", after)


def test_a_place_in_the_list_is_read_back_from_the_address() -> None:
    numbers = [Decimal(text) for text in ("0", "-0.00", "1E+2", "-99999999999999.99", "0.0001")]
    for last, code, number in itertools.product((False, True), ("", "EUR"), numbers):
        key = orders.Key(last, code, number, -NOW, -7)
        assert orders.Key.read(str(key)) == key
