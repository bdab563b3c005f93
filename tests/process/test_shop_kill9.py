"""A shop's webhooks while every process is killed: what was answered 200 is stored, the rest comes once by the pull.

An hour of the shop is a round: orders placed, paid, refunded and cancelled, their webhooks lost, doubled and swapped,
and one process killed between receipt and answer. KILL_ROUNDS=720 is a month of hours.
"""

from __future__ import annotations

import csv
import io
import json
import os
import random
import select
import signal
import socket
import textwrap
import time
from collections import defaultdict
from collections.abc import Iterator
from decimal import Decimal
from functools import partial
from pathlib import Path

import pytest

from tests.courier.test_shop_month import COLUMNS, Truth
from tests.kit import shops as made
from tests.kit.harness import PIXEL, ROOT, STORE, TOKEN, Door, GraphSimulator, Installation, wait_until
from tests.kit.program import Serving, free_port
from tests.kit.shop_server import CLIENT, ShopServer, serving, unreliable
from tests.process.test_kill9 import EARLY_ANSWER

pytestmark = pytest.mark.slow
ROLES = ("edge", "keeper", "courier", "supervisor")

FIRST = 7_770_000
HOUR_MS = 3_600_000
RECENT = 400  # orders that may be given back


class Shop:
    """The shop's side: its orders, what it told, and what was answered."""

    an_hour = 4  # orders in it

    def __init__(self, server: ShopServer, dice: random.Random) -> None:
        self.server, self.dice = server, dice
        self.truth: dict[int, Truth] = {}
        self.worth: dict[int, set[Decimal]] = defaultdict(set)  # while it was paid
        self.acknowledged: set[int] = set()
        self.told = 0
        # Past the 60 s that the pull leaves to the shop; and each hour after the one before.
        self.now = int(time.time() * 1000) - 5 * 24 * HOUR_MS

    def hour(self) -> list[tuple[int, made.Message]]:
        """An hour's webhooks as they arrive."""
        told = []
        self.begin_hour()
        for _ in range(self.an_hour):
            one = Truth(
                FIRST + len(self.truth), self.now, self.now, "pending", Decimal(self.dice.randrange(500, 9_000)) / 100
            )
            self.truth[one.number] = one
            told.append((one.number, one.webhook()))
            told.append((one.number, self.change(one, "voided" if self.dice.random() < 0.1 else "paid")))
        recent = list(self.truth.values())[-RECENT:]
        for one in [t for t in recent if t.status == "paid" and self.dice.random() < 0.03]:
            one.total = (one.total / 2).quantize(Decimal("0.01"))
            told.append((one.number, self.change(one, "partially_refunded")))
        return unreliable(told, self.dice, lost=0.2, doubled=0.1, swapped=0.3)

    def begin_hour(self) -> None:
        self.now += HOUR_MS // 10

    def moment(self, one: Truth) -> int:
        """When a change happens, in ms."""
        self.now += 1_000
        return self.now

    def change(self, one: Truth, status: str) -> made.Message:
        one.changed, one.status, one.cancelled = self.moment(one), status, status == "voided"
        if not one.cancelled:
            self.worth[one.number].add(one.total)
        with self.server.lock:
            self.server.orders[str(one.number)] = one.graph()
        return one.webhook()

    def tell(self, port: int, messages: list[tuple[int, made.Message]], kill: partial[None]) -> None:
        """Post them all at once, kill, and hear what was answered."""
        sockets = []
        for number, message in messages:
            lines = [
                f"POST /v1/webhooks/shopify/{STORE} HTTP/1.1",
                "Host: edge.test",
                f"Content-Length: {len(message.body)}",
                *(f"{name}: {value}" for name, value in message.headers.items()),
            ]
            sock = socket.create_connection(("127.0.0.1", port), timeout=10)
            sock.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + message.body)
            sockets.append((number, sock))
        self.told += len(sockets)
        if self.dice.random() < 0.5:
            time.sleep(self.dice.uniform(0, 0.02))
        else:  # between the first answer and the others
            select.select([sock for _, sock in sockets], [], [], 10.0)
        kill()
        for number, sock in sockets:
            with sock:
                try:
                    answer = sock.recv(65536)
                except OSError:
                    answer = b""
            assert not answer or answer[9:12] in (b"200", b"503"), answer
            if answer.startswith(b"HTTP/1.1 200"):
                self.acknowledged.add(number)

    def export(self, path: Path) -> None:
        out = io.StringIO()
        csv.writer(out).writerows([COLUMNS, *(t.row() for t in self.truth.values())])
        path.write_text(out.getvalue())


class Place(Installation):
    """With the shop's secret, and its API once the storm is over."""

    def __init__(self, folder: Path, graph: str, shop: str) -> None:
        super().__init__(folder, graph, wait=0.0)
        (folder / "app.secret").write_text(CLIENT[1])
        text = self.config.read_text()
        more = f'send_purchase_on = "paid"\n[store.webhook_secrets]\nshopify = "{made.SECRETS["shopify"]}"\n[store.shop]\nplatform = "shopify"\nurl = "{shop}"\nclient_id = "{CLIENT[0]}"\nclient_secret_file = "app.secret"\npull_minutes = 0\n'  # fmt: skip  # noqa: E501
        self.config.write_text(text.replace("[[store.pixel]]", f"{more}[[store.pixel]]", 1))

    def pull_from_now_on(self) -> None:
        self.config.write_text(self.config.read_text().replace("pull_minutes = 0", "pull_minutes = 1"))

    def known(self) -> set[int]:
        return {int(called) for (called,) in self.rows("SELECT called FROM shop_order")}


def replaced(one: Serving, role: str, pid: int) -> bool:
    return one.children().get(role, pid) != pid


def is_ready(door: Door) -> bool:
    try:
        return bool(door.get("/readyz").status_code == 200)
    except OSError:  # requests' own errors are
        return False


def storm(place: Place, shop: Shop, rounds: int, **env: str) -> None:
    """Rounds of webhooks, a process killed in each; then all of it ends well."""
    port = free_port()
    env |= {"COLLECTOR_EDGE__LISTEN": f"127.0.0.1:{port}"}
    door = Door(place.start(**env))
    for n in range(rounds):
        role = ROLES[n % len(ROLES)]
        children = door.serving.children()
        if role != "supervisor":
            shop.tell(port, shop.hour(), partial(os.kill, children[role], signal.SIGKILL))
            assert wait_until(partial(replaced, door.serving, role, children[role]), 60)
        else:
            shop.tell(port, shop.hour(), partial(os.kill, door.serving.process.pid, signal.SIGKILL))
            door.serving.process.wait()
            door = Door(place.start(**env))
        assert wait_until(partial(is_ready, door), 60)
    assert door.serving.stop() == 0


@pytest.fixture(scope="module")
def graph() -> Iterator[GraphSimulator]:
    with GraphSimulator(token=TOKEN) as graph:
        yield graph


def dice() -> random.Random:
    return random.Random(int(os.environ.get("KILL_SEED", "4")))


def test_10_4_what_was_acknowledged_is_stored_and_the_rest_comes_once_by_the_pull(
    tmp_path: Path, graph: GraphSimulator
) -> None:
    with serving(ShopServer()) as server:
        place, shop = Place(tmp_path, graph.url, server.url), Shop(server, dice())
        storm(place, shop, int(os.environ.get("KILL_ROUNDS", "20")))
        assert shop.acknowledged <= place.known()
        assert place.known() < shop.truth.keys(), "control: something was lost on the way"
        place.pull_from_now_on()
        with place.serve() as door:
            assert wait_until(lambda: place.known() == shop.truth.keys(), 60)
            waiting = "SELECT count(*) FROM outbox WHERE settled IS NULL"
            assert wait_until(
                lambda: place.rows(waiting) == place.rows("SELECT count(*) FROM shop_inbox") == [(0,)], 60
            )
            shop.export(tmp_path / "export.csv")
            told = json.loads(place.run("reconcile", str(tmp_path / "export.csv"), "--store", STORE, "--json"))
            assert door.get("/readyz").status_code == 200
        orders = len(shop.truth)
        assert (told["orders"], told["accuracy"], told["valueDiffers"], told["missing"]) == (orders, 100.0, 0, [])
    paid = [t for t in shop.truth.values() if not t.cancelled]
    assert len(graph.accepted[PIXEL]) == len(paid), "one event id for each order that does not end"
    for event in graph.events:
        data = event["custom_data"]
        assert Decimal(str(data["value"])) in shop.worth[int(data["order_id"])], "what it was worth while it was paid"
    print(f"{shop.told} webhooks, {len(shop.acknowledged)} of {orders} orders acknowledged, {len(paid)} sent")


def test_10_4_control_a_keeper_that_answers_before_its_commit_is_found(tmp_path: Path, graph: GraphSimulator) -> None:
    (tmp_path / "planted").mkdir()
    (tmp_path / "planted" / "sitecustomize.py").write_text(textwrap.dedent(EARLY_ANSWER))
    with serving(ShopServer()) as server:
        place, shop = Place(tmp_path, graph.url, server.url), Shop(server, dice())
        for _ in range(5):
            port = free_port()
            env = {"COLLECTOR_EDGE__LISTEN": f"127.0.0.1:{port}", "PYTHONPATH": f"{tmp_path / 'planted'}:{ROOT}"}
            door = Door(place.start(**env))
            shop.tell(port, shop.hour(), partial(os.kill, door.serving.children()["keeper"], signal.SIGKILL))
            door.serving.end()
        assert shop.acknowledged - place.known(), "the control must lose what it acknowledged"
