"""The month again, beside `export`: its rows are the generator's, and every sum of a page is a sum of these rows."""

from __future__ import annotations

import asyncio
import re
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator
from decimal import Decimal
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import msgspec
import pytest

from collector.console import campaigns, delivery, left_out, order, today, trust
from collector.console.bar import Asked
from collector.console.shell import Desk
from collector.console.words import span
from collector.core import times
from collector.storage.reports import commands
from collector.storage.reports.export import export
from collector.storage.reports.reader import Reader
from tests.console.test_console_month import _text, _tiles
from tests.kit import console_world
from tests.kit.console_store import IDS, NOW
from tests.kit.console_world import DEAD, NAMES, PIXELS, SHOPS, World

Rows = list[dict[str, Any]]
# What `export` calls a state, in the words of the order bar.
_STATES = {"sent": "sent", "held": "held", "expired": "expired", "rejected": "refused by Meta"}
_STATES |= {"skipped": "left out on purpose", "queued": "waiting", "retrying": "waiting"}
_read = msgspec.json.Decoder(dict[str, Any], float_hook=Decimal).decode


class Exported(NamedTuple):
    desk: Desk
    world: World
    clicks: Rows
    orders: Rows  # purchases that are no tests
    deliveries: Rows

    def within(self, rows: Rows, shop: str, at: str = "timestamp") -> Rows:
        """A shop's rows of the last 28 days of its calendar."""
        since, until = self.world.days(shop)
        return [row for row in rows if row["storeId"] == shop and since <= (times.parse(row[at]) or 0) < until]


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    world = console_world.trouble(tmp_path_factory.mktemp("month"), NOW, clicks=700)
    yield world
    world.db.close()


async def _rows(reader: Reader, what: Any) -> Rows:
    data = [chunk.data async for chunk in export(reader, IDS, what, "ndjson")]
    return [_read(line) for line in b"".join(data).splitlines()]


async def _exported(world: World) -> list[Rows]:
    async with Reader(world.folder / "collector.db") as reader:
        return [await _rows(reader, what) for what in ("clicks", "conversions", "deliveries")]


@pytest.fixture(scope="module")
def exported(generated: World) -> list[Rows]:
    return asyncio.run(_exported(generated))


@pytest.fixture
async def month(generated: World, exported: list[Rows]) -> AsyncIterator[Exported]:
    clicks, told, deliveries = exported
    orders = [row for row in told if row["eventType"] == "Purchase" and not row["test"]]
    async with Reader(generated.folder / "collector.db") as reader:
        yield Exported(Desk(generated.config, reader, lambda: NOW), generated, clicks, orders, deliveries)


def _second(ms: int) -> int:
    """As the export tells a moment."""
    return ms // 1000 * 1000


def _percent(n: int, whole: int) -> str:
    share = 100 * n / whole
    return f"{share:.0f} %" if share >= 10 or not n else f"{share:.1f} %"


def _campaigns(month: Exported) -> dict[str, str]:
    return {click["clickId"]: click["campaign"] for click in month.clicks}


async def test_the_exported_orders_are_the_generators_row_by_row(month: Exported) -> None:
    named = _campaigns(month)
    exported = Counter(
        (
            *(row["storeId"], times.parse(row["timestamp"]), row["eventValue"], row["currency"], row["conversionId"]),
            *(named[row["clickId"]] if row["clickId"] else None, row["orderStatus"] in DEAD),
        )
        for row in month.orders
    )
    assert exported == Counter(
        (
            *(sold.shop, _second(sold.ts), sold.value, sold.currency, IDS.public("conv", sold.conversion)),
            *(sold.campaign, sold.reversed),
        )
        for sold in month.world.sold
    )
    assert month.world.renewals > 10  # and the month holds what is hard
    assert {sold.state for sold in month.world.sold} == set("sent held expired refused waiting".split()) | {
        "on purpose"
    }
    assert any(sold.reversed for sold in month.world.sold)


async def test_the_exported_clicks_are_the_generators_row_by_row(month: Exported) -> None:
    why = {"denied": "consent", "pending": "consent", "bot": "bot", "prefetch": "prefetch", "": None}
    exported = Counter(
        (row["storeId"], times.parse(row["timestamp"]), row["campaign"], row["reason"]) for row in month.clicks
    )
    assert exported == Counter((shop, _second(at), name, why[apart]) for shop, at, name, apart in month.world.clicks)


@pytest.mark.parametrize("shop", SHOPS)
async def test_today_and_trust_are_sums_of_what_is_exported(month: Exported, shop: str) -> None:
    own, asked = month.within(month.orders, shop), Asked(shop=shop, range="28")
    answer = (await today.today(month.desk, asked)).content
    page, tiles = _text(answer), _tiles(answer)
    value = sum(row["eventValue"] for row in own if row["orderStatus"] not in DEAD)
    clicks = sum(row["tracked"] for row in month.within(month.clicks, shop))
    assert tiles["Orders"] == str(len(own))
    assert tiles["Revenue"] == f"{own[0]['currency']} {value:,.2f}"
    assert tiles["Clicks"] == str(clicks)
    assert tiles["Per 100 clicks"] == f"{100 * len(own) / clicks:.1f}"
    assert f"{sum(row['attributed'] for row in own)} of {len(own)}" in page
    sure = _text((await trust.trust_page(month.desk, asked)).content)
    proven = sum(row["attributed"] and row["attributedTo"]["method"] == "visitor_id" for row in own)
    assert f"proven {proven} " in sure
    assert f"none {sum(not row['attributed'] for row in own)} " in sure


@pytest.mark.parametrize("shop", SHOPS)
async def test_the_order_bar_and_delivery_are_sums_of_what_is_exported(month: Exported, shop: str) -> None:
    ids = {row["conversionId"] for row in month.within(month.orders, shop)}
    states = Counter(_STATES[row["status"]] for row in month.deliveries if row["conversionId"] in ids)
    asked = Asked(shop=shop, range="28")
    page = _text((await today.today(month.desk, asked)).content)
    plot = _text((await delivery.delivery_page(month.desk, asked, "")).content).partition("How each pixel")[2]
    for state, n in states.items():
        assert f"{state} {n} " in page, state
        if state not in ("held", "left out on purpose"):
            assert f" {state.removesuffix(' by Meta')} {n} " in plot, state
    assert states.total() == len(ids)


def _new_share(world: World, rows: Rows) -> str:
    """Of these orders' customers, how many the generator had never sold to before."""
    seen, new = set[int](), dict[str, bool]()
    for sold in sorted(world.sold, key=lambda one: one.conversion):
        if sold.customer:
            new[IDS.public("conv", sold.conversion)] = sold.customer not in seen
            seen.add(sold.customer)
    known = [new[row["conversionId"]] for row in rows if row["conversionId"] in new]
    return _percent(sum(known), len(known)) if known else "–"


@pytest.mark.parametrize("shop", SHOPS)
async def test_campaigns_and_left_out_are_sums_of_what_is_exported(month: Exported, shop: str) -> None:
    named, asked = _campaigns(month), Asked(shop=shop, range="28", compare="none")
    page = _text((await campaigns.campaigns(month.desk, asked, "campaign", "")).content)
    clicks = month.within(month.clicks, shop)
    people = Counter(row["campaign"] for row in clicks if row["tracked"])
    orders: dict[str, Rows] = defaultdict(list)
    for row in month.within(month.orders, shop):
        orders[named.get(row["clickId"], "")].append(row)
    for name, n in people.items():
        sold = orders[name]
        value = sum((row["eventValue"] for row in sold if row["orderStatus"] not in DEAD), Decimal(0))
        proven = sum(row["attributedTo"]["method"] == "visitor_id" for row in sold)
        money = f"{sold[0]['currency']} {value:,.2f}" if sold else "–"
        said = f"{name} {n} {len(sold)} {money} {_percent(len(sold), n)} "
        assert said in page, said
        if sold:
            after = span(median(row["attributedTo"]["clickAgeSeconds"] for row in sold))
            tail = f"{after} {_new_share(month.world, sold)} "
            assert f"{said}{_percent(proven, len(sold))} {tail}" in page, (said, tail)
    out = _text((await left_out.left_out(month.desk, asked)).content)
    assert f"{len(clicks) - people.total()} of {len(clicks)} clicks" in out


async def test_the_exported_waits_are_what_delivery_says(month: Exported) -> None:
    """How long events waited for Meta, those of its outage among them. The page's steps are nine percent apart."""
    for shop in SHOPS:
        sent = [row for row in month.within(month.deliveries, shop, "createdAt") if row["status"] == "sent"]
        waited = sorted((times.parse(row["settledAt"]) or 0) - (times.parse(row["createdAt"]) or 0) for row in sent)
        page = _text((await delivery.delivery_page(month.desk, Asked(shop=shop, range="28"), "")).content)
        said = re.search(r"half ([\d.]+) s 95 of 100 ([\d.]+) (s|min|h)", page)
        assert said is not None
        most = float(said[2]) * {"s": 1, "min": 60, "h": 3600}[said[3]]
        # The export tells seconds: each end of a wait may be one off.
        assert float(said[1]) == pytest.approx(waited[len(waited) // 2] / 1000, rel=0.06, abs=1)
        assert most == pytest.approx(waited[_place(0.95, len(waited))] / 1000, rel=0.06, abs=1)


def _place(share: float, n: int) -> int:
    """The first of `n` values that this share of them does not exceed."""
    return next(i for i in range(n) if i + 1 >= share * n)


async def test_the_outage_held_orders_up_and_lost_none(month: Exported) -> None:
    since, until = month.world.outage
    hurt = [row for row in month.deliveries if since <= (times.parse(row["createdAt"]) or 0) < until]
    late = [row for row in hurt if row["status"] == "sent" and (times.parse(row["settledAt"]) or 0) >= until]
    assert late
    page = _text((await order.order_page(month.desk, late[0]["conversionId"])).content)
    assert "Meta has it" in page


async def test_a_dead_token_is_told_alike_by_today_delivery_status_and_export(month: Exported) -> None:
    waiting = [row for row in month.deliveries if row["status"] in ("queued", "retrying")]
    assert {row["pixel"] for row in waiting} == {PIXELS["store_demo"]}
    told = await asyncio.to_thread(commands.status, month.world.config, NOW)
    assert sum(queue.events for queue in told.queue if queue.state in ("queued", "retrying")) == len(waiting)
    asked = Asked(shop="store_demo", range="28")
    page = _text((await today.today(month.desk, asked)).content)
    assert f"{NAMES['store_demo']}: Meta refuses the token. {len(waiting)} events wait." in page
    plot = _text((await delivery.delivery_page(month.desk, asked, "")).content)
    assert f"{NAMES['store_demo']} {PIXELS['store_demo']} blocked refused" in plot
    other = _text((await today.today(month.desk, Asked(shop="store_zurich", range="28"))).content)
    assert "Meta refuses the token" not in other  # the control: another shop's token is fine


async def test_a_renewal_is_an_order_that_says_whom_it_inherits_from(month: Exported) -> None:
    named = next(row for row in month.orders if row["orderId"].startswith("renewal-"))
    page = _text((await order.order_page(month.desk, named["conversionId"])).content)
    assert "Renewal of an earlier order" in page


async def test_the_control_a_row_too_many_or_another_value_is_seen(month: Exported, tmp_path: Path) -> None:
    """An order that no figure holds, told to `export` alone: the comparison fails."""
    month.orders.append(month.orders[0])
    with pytest.raises(AssertionError):
        await test_the_exported_orders_are_the_generators_row_by_row(month)
    month.orders[-1] = {**month.orders.pop(), "eventValue": Decimal("0.01")}
    with pytest.raises(AssertionError):
        await test_the_exported_orders_are_the_generators_row_by_row(month)
