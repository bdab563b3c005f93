"""A month of a shop with one kill -9 an hour, in the running program: at its end all is true, to the cent.

Webhooks lost, doubled and swapped; refunds and edits; the shop's API refuses its key for six hours; two restarts; in
each hour one process is killed between receipt and answer; the pull finds what is missing. An hour is a round of a few
seconds. MONTH_ORDERS=5000 is a month of 715 hours.
"""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections import defaultdict, deque
from collections.abc import Iterator
from decimal import Decimal
from functools import partial
from pathlib import Path

import pytest

from tests.courier.test_shop_month import Truth
from tests.kit import shops as made
from tests.kit.harness import PIXEL, STORE, TOKEN, Door, GraphSimulator, wait_until
from tests.kit.program import free_port
from tests.kit.shop_server import ShopServer, serving
from tests.process.test_shop_kill9 import Place, Shop, is_ready, replaced

pytestmark = pytest.mark.slow
ORDERS = int(os.environ.get("MONTH_ORDERS", "50"))
AN_HOUR = 7
ROLES = ("edge", "keeper", "courier")
BEHIND_MS = 100_000  # the shop's clock: the pull leaves the last minute to the shop


class Month(Shop):
    """With refunds that have a name, edits, and a shop's clock that goes with ours."""

    an_hour = AN_HOUR

    def __init__(self, server: ShopServer, dice: random.Random) -> None:
        super().__init__(server, dice)
        self.edits: dict[int, list[Decimal]] = defaultdict(list)
        self.had: dict[int, Decimal] = {}

    def begin_hour(self) -> None:
        self.now = int(time.time() * 1000) - BEHIND_MS

    def moment(self, one: Truth) -> int:
        """A second after the order's last change at the least: shops tell no fractions."""
        return max(self.now, one.changed + 1_000)

    def change(self, one: Truth, status: str) -> made.Message:
        """What is given back is a refund or an edit."""
        had, self.had[one.number] = self.had.get(one.number, one.total), one.total
        if status == "partially_refunded" and self.dice.random() < 0.3:
            self.edits[one.number].append(had - one.total)
            status = "paid"
        elif status == "partially_refunded":
            one.refunds = [*one.refunds, (one.number * 100 + len(one.refunds), had - one.total, self.now)]
        return super().change(one, status)


class Hours(Place):
    """Refunds are told, and the pull is on from the start."""

    def __init__(self, folder: Path, graph: str, shop: str) -> None:
        super().__init__(folder, graph, shop)
        text = self.config.read_text()
        self.config.write_text(text.replace("pull_minutes = 0", 'refund_event = "Refund"\npull_minutes = 1'))

    def without_pull(self) -> None:
        self.config.write_text(self.config.read_text().replace("pull_minutes = 1", "pull_minutes = 0"))

    @property
    def is_quiet(self) -> bool:
        counts = ("outbox WHERE settled IS NULL", "shop_inbox", "sent_before")
        return all(self.rows(f"SELECT count(*) FROM {one}") == [(0,)] for one in counts)


def month(place: Hours, shop: Month, hours: int) -> None:
    """Hour by hour, one kill in each; two restarts, and six hours in which the shop refuses our key."""
    port = free_port()
    env = {"COLLECTOR_EDGE__LISTEN": f"127.0.0.1:{port}"}
    door = Door(place.start(**env))
    outage = range(hours // 2, hours // 2 + 6)
    for n in range(hours):
        shop.server.token_works = n not in outage
        role = ROLES[n % len(ROLES)]
        pid = door.serving.children()[role]
        shop.tell(port, shop.hour(), partial(os.kill, pid, signal.SIGKILL))
        assert wait_until(partial(replaced, door.serving, role, pid), 60)
        assert wait_until(partial(is_ready, door), 60)
        if n in (hours // 3, 2 * hours // 3):
            assert door.serving.stop() == 0
            door = Door(place.start(**env))
    shop.server.token_works = True
    assert door.serving.stop() == 0


def told_meta(graph: GraphSimulator) -> tuple[dict[int, set[Decimal]], dict[int, dict[str, Decimal]]]:
    """By order: the values that its Purchase came with, and its refunds by their event ids."""
    purchases: dict[int, set[Decimal]] = defaultdict(set)
    refunds: dict[int, dict[str, Decimal]] = defaultdict(dict)
    for event in graph.events:
        data, number = event["custom_data"], int(event["custom_data"]["order_id"])
        value = Decimal(str(data["value"]))
        if event["event_name"] == "Purchase":
            purchases[number].add(value)
        else:
            assert refunds[number].setdefault(event["event_id"], value) == value
    return purchases, refunds


def check(place: Hours, shop: Month, graph: GraphSimulator, folder: Path) -> None:
    orders = len(shop.truth)
    shop.export(folder / "export.csv")
    told = json.loads(place.run("reconcile", str(folder / "export.csv"), "--store", STORE, "--json"))
    assert (told["orders"], told["accuracy"], told["valueDiffers"], told["missing"]) == (orders, 100.0, 0, [])
    assert shop.acknowledged <= place.known() == shop.truth.keys()
    paid = {t.number: t for t in shop.truth.values() if not t.cancelled}
    purchases, refunds = told_meta(graph)
    assert purchases.keys() == paid.keys(), "one Purchase of each order that does not end, and of no other"
    assert len(graph.accepted[PIXEL]) == len(paid) + sum(map(len, refunds.values())), "no order under two ids"
    for number, order in paid.items():
        back = sum(refunds[number].values(), Decimal(0))
        edits = shop.edits[number]
        stays = {order.total + sum(edits[n:], Decimal(0)) for n in range(len(edits) + 1)}  # Meta is told of no edit
        assert purchases[number] <= shop.worth[number], "what it was worth while it was paid"
        assert {value - back for value in purchases[number]} & stays, (number, purchases[number], back, stays)
    sent = place.rows("SELECT conversion, count(*) FROM outbox GROUP BY 1 HAVING count(*) > 1")
    assert sent == [], "one delivery of each event"
    print(f"{shop.told} webhooks, {len(shop.acknowledged)} of {orders} orders acknowledged, {len(paid)} sent, "
          f"{sum(map(len, refunds.values()))} refunds")  # fmt: skip


@pytest.fixture
def graph() -> Iterator[GraphSimulator]:
    with GraphSimulator(token=TOKEN) as graph:
        graph.state.last = deque()  # all of them
        yield graph


def whole(folder: Path, graph: GraphSimulator, orders: int, *, pulled: bool = True) -> None:
    with serving(ShopServer()) as server:
        place, shop = (
            Hours(folder, graph.url, server.url),
            Month(server, random.Random(int(os.environ.get("KILL_SEED", "5")))),
        )
        if not pulled:
            place.without_pull()
        try:
            month(place, shop, -(-orders // AN_HOUR))
            with place.serve():
                if pulled:
                    assert wait_until(lambda: place.known() == shop.truth.keys(), 60)
                    assert wait_until(lambda: place.is_quiet, 60)
        finally:
            place.end()
        check(place, shop, graph, folder)


def test_a_month_with_a_kill_an_hour_is_true_to_the_cent(tmp_path: Path, graph: GraphSimulator) -> None:
    whole(tmp_path, graph, ORDERS)


def test_control_without_the_pull_the_month_is_not_true(tmp_path: Path, graph: GraphSimulator) -> None:
    with pytest.raises(AssertionError):
        whole(tmp_path, graph, 14, pulled=False)
