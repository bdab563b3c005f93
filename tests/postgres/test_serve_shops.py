"""Two machines over one PostgreSQL and a shop: webhooks at either, one of them killed, an erasure, the pull, Meta."""

from __future__ import annotations

import json
import random
import signal
from decimal import Decimal
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.courier.test_shop_watch import asked
from tests.kit import postgres
from tests.kit.harness import PIXEL, STORE, TOKEN, Door, eventually
from tests.kit.shop_server import ShopServer, serving
from tests.kit.simulators.graph import GraphSimulator
from tests.process.test_shop_kill9 import Place, Shop

WITHIN_S = 180.0  # the second courier asks four times a minute whether the first still lives


def place(folder: Path, graph: str, shop: str, database: postgres.Database, pepper: Path) -> Place:
    folder.mkdir()
    made = Place(folder, graph, shop)
    own = f'[storage]\nengine = "postgres"\ndsn = "{database.dsn}"\nstandby = "none"\n'
    text = made.config.read_text().replace("[storage]\n", own)
    made.config.write_text(f'{text}\n[privacy]\npepper_file = "{pepper}"\n')
    made.config.chmod(0o600)
    return made


def port_of(door: Door) -> int:
    return int(urlsplit(door.url).port or 0)


def nothing() -> None:
    """Nobody is killed."""


@pytest.mark.slow
def test_a_shop_is_whole_over_two_machines_of_which_one_dies(database: postgres.Database, tmp_path: Path) -> None:
    def rows(sql: str) -> list[str]:
        return database.sql(sql).split()

    with GraphSimulator(token=TOKEN) as graph, serving(ShopServer()) as server:
        pepper, shop = tmp_path / "pepper.key", Shop(server, random.Random(4))
        one, two = (place(tmp_path / name, graph.url, server.url, database, pepper) for name in ("one", "two"))
        with one.serve() as first, two.serve() as second:
            for hour in range(4):
                shop.tell(port_of((first, second)[hour % 2]), shop.hour(), partial(nothing))
            assert len(shop.acknowledged) > 0
            forgotten = next(number for number in sorted(shop.acknowledged) if shop.truth[number].status == "paid")
            assert eventually(lambda: rows("SELECT 1 FROM duty WHERE name = 'shops'"), WITHIN_S)
            redact(second, forgotten)
            kill = partial(first.serving.process.send_signal, signal.SIGKILL)
            shop.tell(port_of(first), shop.hour(), kill)
            database.sql("UPDATE duty SET until = 0")  # as after a minute
            shop.tell(port_of(second), shop.hour(), partial(nothing))
            assert eventually(lambda: rows("SELECT 1 FROM shop_request WHERE done IS NOT NULL"), WITHIN_S)
            shop.truth.pop(forgotten)
            two.pull_from_now_on()
            second.serving.process.send_signal(signal.SIGHUP)
            wanted = {str(number) for number in shop.truth}
            assert eventually(lambda: set(rows("SELECT called FROM shop_order")) == wanted, WITHIN_S)
            waiting = "SELECT (SELECT count(*) FROM outbox WHERE settled IS NULL) + (SELECT count(*) FROM shop_inbox)"
            assert eventually(lambda: rows(waiting) == ["0"], WITHIN_S)
            shop.export(tmp_path / "export.csv")
            told = json.loads(two.run("reconcile", str(tmp_path / "export.csv"), "--store", STORE, "--json"))
            assert second.serving.stop() == 0
    assert (told["orders"], told["accuracy"], told["missing"]) == (len(wanted), 100.0, [])
    sent = {event["custom_data"]["order_id"] for event in graph.events}
    paid = {str(t.number) for t in shop.truth.values() if not t.cancelled}
    assert paid <= sent <= paid | {str(forgotten)}
    assert len(graph.accepted[PIXEL]) == len(sent), "one event id for each order"
    for event in graph.events:
        number, value = int(event["custom_data"]["order_id"]), Decimal(str(event["custom_data"]["value"]))
        assert value in shop.worth[number], "what it was worth while it was paid"


def redact(door: Door, number: int) -> None:
    """The platform asks to have the order's customer erased."""
    customer = {"id": number, "email": f"buyer{number}@example.com", "phone": None}
    message = asked("customers/redact", {"customer": customer, "orders_to_redact": [number]})
    answer = door.session.post(
        f"{door.url}/v1/webhooks/shopify/{STORE}", data=message.body, headers=message.headers, timeout=60
    )
    assert answer.status_code == 200
