"""One order: what was done on the way to it, and, where nothing was sent, that nothing was and why."""

from __future__ import annotations

import html
import re
import sqlite3
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from collector.console import events, order
from collector.console.shell import Desk
from collector.core.capi.states import CapiState
from collector.core.events import Fact, GivenBack, StoredEvent
from collector.core.flags import TEST
from collector.core.matching.shapes import Match
from collector.storage.reports import conversions
from collector.storage.reports.reader import Reader
from tests.kit.console_process import make_config
from tests.kit.console_store import HOUR_MS, IDS, NOW, add_click, add_conversion, add_outbox, make_store

CLICKED = NOW - 5 * HOUR_MS


class Shop(NamedTuple):
    db: sqlite3.Connection
    desk: Desk

    def event(self, kind: str, at: int, click: int, *, visitor: str = "", page: str = "", marks: int = 0) -> int:
        """An event of a visitor, matched with a click."""
        match = Match(attributed=True, model="default.1", click=click, click_ts=CLICKED, confidence=98)
        row = add_conversion(self.db, at, order=f"{kind}-{at}", kind=kind, match=match, marks=marks)
        ((body,),) = self.db.execute("SELECT body FROM conversion WHERE id = ?", (row,))
        event = msgspec.msgpack.decode(body, type=StoredEvent)
        mine = msgspec.structs.replace(event, visitor_id=visitor or None, fbp=None, event_source_url=page or None)
        self.db.execute("UPDATE conversion SET body = ? WHERE id = ?", (msgspec.msgpack.encode(mine), row))
        return row

    async def page(self, row: int) -> str:
        found = (await order.order_page(self.desk, IDS.public("conv", row))).content.decode()
        return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", found)))


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    db = make_store(tmp_path, clicks=0, conversions=0)
    async with Reader(tmp_path / "collector.db") as reader:
        yield Shop(db, Desk(make_config(tmp_path), reader, lambda: NOW))
    db.close()


async def test_the_way_from_the_click_to_the_order_is_told_page_by_page(shop: Shop) -> None:
    click = add_click(shop.db, CLICKED)
    shop.event("PageView", CLICKED + 60_000, click, visitor="v-1", page="https://shop.example/sale?email=a%40b.example")
    cart = shop.event("AddToCart", CLICKED + 120_000, click, visitor="v-1", page="https://shop.example/lamp")
    shop.event("AddToCart", CLICKED + 130_000, click, visitor="v-2", page="https://shop.example/chair")
    shop.event("AddToCart", CLICKED + 140_000, click, visitor="v-1", page="https://shop.example/tried", marks=TEST)
    row = shop.event("Purchase", CLICKED + HOUR_MS, click, visitor="v-1")
    shop.event("AddToCart", CLICKED + 2 * HOUR_MS, click, visitor="v-1", page="https://shop.example/next-time")
    page = await shop.page(row)
    way = page.partition("Time line")[2].partition("Why this click")[0]
    told = ["Click that it is credited to", "Page seen", "shop.example/sale", "Put into the cart", "shop.example/lamp"]
    places = [way.index(words) for words in [*told, "Order placed"]]
    assert places == sorted(places)
    assert "email" not in way  # an address is told without its query
    for others in ("chair", "next-time", "tried"):  # another visitor of a shared link; later; a test
        assert others not in page, others
    assert IDS.public("conv", cart) in (await order.order_page(shop.desk, IDS.public("conv", row))).content.decode()


async def test_of_a_long_way_the_last_steps_are_told_and_the_others_counted(shop: Shop) -> None:
    click = add_click(shop.db, CLICKED)
    for n in range(40):
        shop.event("PageView", CLICKED + n * 1000, click, visitor="v-1", page=f"https://shop.example/p{n}")
    page = await shop.page(shop.event("Purchase", CLICKED + HOUR_MS, click, visitor="v-1"))
    assert page.count("Page seen") == 12
    assert "28 more on the shop's pages before" in page
    assert "shop.example/p39" in page


async def test_what_came_after_the_order_hides_nothing_of_the_way_to_it(shop: Shop) -> None:
    click = add_click(shop.db, CLICKED)
    shop.event("AddToCart", CLICKED + 60_000, click, visitor="v-1", page="https://shop.example/lamp")
    row = shop.event("Purchase", CLICKED + HOUR_MS, click, visitor="v-1")
    for n in range(201):
        shop.event("PageView", CLICKED + HOUR_MS + (n + 1) * 1000, click, visitor="v-1", page="https://shop.example/")
    page = await shop.page(row)
    assert "shop.example/lamp" in page
    assert "Page seen" not in page


def _crowd(shop: Shop, click: int, many: int) -> int:
    """An order with one page of its own before those of as many others, who came by the same shared link."""
    shop.event("AddToCart", CLICKED + 1000, click, visitor="v-1", page="https://shop.example/lamp")
    for n in range(many):
        shop.event("PageView", CLICKED + 2000 + n, click, visitor=f"o-{n}", page="https://shop.example/")
    return shop.event("Purchase", CLICKED + HOUR_MS, click, visitor="v-1")


@pytest.mark.parametrize("page", [3, 4, 5, 11, 200])
async def test_a_step_is_found_behind_a_crowds(shop: Shop, monkeypatch: pytest.MonkeyPatch, page: int) -> None:
    monkeypatch.setattr(conversions, "STEPS_SQL", conversions.STEPS_SQL.replace("LIMIT 200", f"LIMIT {page}"))
    monkeypatch.setattr(conversions, "_STEPS_PAGE", page)
    row = _crowd(shop, add_click(shop.db, CLICKED), 11)
    told = await shop.page(row)
    assert "shop.example/lamp" in told
    assert "too many came by this click" not in told


async def test_steps_that_are_not_looked_for_are_said_to_be_perhaps_there(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversions, "STEPS_SQL", conversions.STEPS_SQL.replace("LIMIT 200", "LIMIT 5"))
    monkeypatch.setattr(conversions, "_STEPS_PAGE", 5)
    monkeypatch.setattr(conversions, "_STEPS_MOST", 10)
    click = add_click(shop.db, CLICKED)
    told = await shop.page(_crowd(shop, click, 11))
    assert "shop.example/lamp" not in told
    assert "There may be more on the shop's pages before: too many came by this click to read them all" in told


@pytest.mark.parametrize(("many", "said"), [(1, "Refunds 1 "), (99, "Refunds 99 "), (100, "no more are kept"), (0, "")])
@pytest.mark.parametrize("alone", [False, True])
async def test_an_order_with_as_many_refunds_as_are_kept_says_that_there_may_be_more(
    shop: Shop, many: int, said: str, alone: bool
) -> None:
    row = add_conversion(shop.db, NOW - HOUR_MS, order="web-1")
    ((body,),) = shop.db.execute("SELECT body FROM conversion WHERE id = ?", (row,))
    event = msgspec.msgpack.decode(body, type=StoredEvent)
    one_by_one = [Fact(2, NOW, refund=f"r-{n}", less=Decimal(1)) for n in range(many)] if alone else []
    named = [] if alone else [GivenBack(f"r-{n}", NOW, Decimal(1)) for n in range(many)]
    mine = msgspec.structs.replace(event, refunds=named, told=one_by_one)
    shop.db.execute("UPDATE conversion SET body = ? WHERE id = ?", (msgspec.msgpack.encode(mine), row))
    page = await shop.page(row)
    assert said in page
    assert ("no more are kept of one order" in page) == (many == 100)
    assert ("Refunds" in page) == bool(many)


YEAR_MS = 365 * 24 * HOUR_MS  # NOW is in September 2026


@pytest.mark.parametrize(
    ("at", "placed"),
    [
        (NOW - HOUR_MS, "Placed Mon 21 Sep 13:13 Received Mon 21 Sep 13:13"),
        (NOW - YEAR_MS, "Placed Sun 21 Sep 2025 14:13 Received Sun 21 Sep 2025 14:13"),
        (NOW - 2 * YEAR_MS, "Placed Sat 21 Sep 2024 14:13"),
        (1_767_225_600_000 - 1, "Placed Wed 31 Dec 2025 23:59"),
        (1_767_225_600_000, "Placed Thu 1 Jan 00:00"),
        (NOW + YEAR_MS, "Placed Tue 21 Sep 2027 14:13"),
    ],
)
async def test_an_order_of_another_year_says_which(shop: Shop, at: int, placed: str) -> None:
    assert placed in await shop.page(add_conversion(shop.db, at, order="web-1"))


async def test_an_order_without_a_click_has_no_way_to_it(shop: Shop) -> None:
    page = await shop.page(add_conversion(shop.db, NOW - HOUR_MS, order="web-1"))
    assert "Page seen" not in page


@pytest.mark.parametrize(
    ("state", "reason", "said"),
    [
        (CapiState.SKIPPED, "consent denied", "left out on purpose (the person does not allow it)"),
        (CapiState.EXPIRED, "waited longer than Meta takes (7 days after the event)", "too late for Meta"),
        (CapiState.DISABLED, None, "not sent"),
    ],
)
async def test_what_was_never_sent_says_so_and_why_instead_of_fields(
    shop: Shop, state: CapiState, reason: str | None, said: str
) -> None:
    row = add_conversion(shop.db, NOW - HOUR_MS, order="web-1", capi=state)
    if state != CapiState.DISABLED:
        add_outbox(shop.db, row, int(state), NOW - HOUR_MS, settled=NOW, reason=reason)
    page = await shop.page(row)
    assert f"Nothing was sent to Meta: {said}" in page
    assert "not known" not in page.partition("What Meta")[2].partition("The order")[0]


async def test_the_control_what_was_sent_is_told_field_by_field(shop: Shop) -> None:
    row = add_conversion(shop.db, NOW - HOUR_MS, order="web-1")
    add_outbox(shop.db, row, int(CapiState.SENT), NOW - HOUR_MS, settled=NOW)
    page = await shop.page(row)
    assert "Nothing was sent" not in page
    assert "Order number order_id web-1" in page


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("utm_campaign=Spring+sale&utm_id=120212&adset_id=7&ad_id=9", "Campaign Spring sale (120212) › 7 › 9"),
        ("utm_campaign=Spring+sale", "Campaign Spring sale Clicked"),
        ("utm_id=120212", "Campaign 120212 Clicked"),
        ("utm_campaign=120212&utm_id=120212", "Campaign 120212 Clicked"),
        ("utm_id=%3Cb%3E1&utm_campaign=%3Ci%3Ex", "Campaign <i>x (<b>1) Clicked"),
        ("", "Campaign – Clicked"),
    ],
)
async def test_a_click_names_its_campaign_and_metas_id_beside_it(shop: Shop, query: str, said: str) -> None:
    row = add_click(shop.db, CLICKED, landing_page=f"https://shop.example/p?{query}")
    found = (await events.click(shop.desk, IDS.public("click", row))).content.decode()
    assert said in html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", found)))
