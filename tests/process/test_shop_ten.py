"""The last of the ten tests that decide it, in the running program with its Meta: 10.6, 10.8, 10.9."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from collector.core import times
from tests.courier.test_shop_month import COLUMNS
from tests.kit import shops as made
from tests.kit.harness import PIXEL, STORE, TOKEN, Door, GraphSimulator, Installation, eventually, wait_until
from tests.kit.shop_server import CLIENT, ShopServer, graph_order, serving

pytestmark = pytest.mark.slow
DAY_MS = 86_400_000
FIRST = 6_660_000
KIOSK = """
[[store.webhook]]
name = "kiosk"
secret = "own hush"
signature = {header = "X-Kiosk-Proof", format = "sha256={signature}", encoding = "hex", signed = "{id}/{timestamp}/{body}", timestamp_header = "X-Kiosk-Time", id_header = "X-Kiosk-Id"}
topic = "header:X-Kiosk-Event"
order = "$.payload.sale"
topics = {"sale.made" = ""}
marks = "extra[key={}].value"
[store.webhook.fields]
orderId = "ref"
statusAt = "changed | time"
eventValue = "cents | minor"
currency = "money"
email = ["buyer.mail", "$.account.mail"]
products = {each = "items[*]", productId = "{kind}-{no}", price = "cost", quantity = "n"}
[store.webhook.status]
from = "state"
paid = ["settled"]
"""  # noqa: E501


@pytest.fixture
def graph() -> Iterator[GraphSimulator]:
    with GraphSimulator(token=TOKEN) as graph:
        yield graph


class Place(Installation):
    """With webhooks of Shopify and of a platform that nobody foresaw, and with Shopify's API."""

    def __init__(self, folder: Path, graph: str, shop: str = "") -> None:
        super().__init__(folder, graph, wait=0.0)
        pulled = f'platform = "shopify"\nurl = "{shop}"\nclient_id = "{CLIENT[0]}"\nclient_secret = "{CLIENT[1]}"\npull_minutes = 1\n'  # fmt: skip  # noqa: E501
        more = f'[store.webhook_secrets]\nshopify = "{made.SECRETS["shopify"]}"\n[store.shop]\n{pulled if shop else ""}{KIOSK}'  # fmt: skip  # noqa: E501
        self.config.write_text(self.config.read_text().replace("[[store.pixel]]", f"{more}[[store.pixel]]", 1))
        self.config.chmod(0o600)


def send(door: Door, message: made.Message) -> dict[str, Any]:
    answer = requests.post(
        f"{door.url}/v1/webhooks/{message.name}/{STORE}", data=message.body, headers=message.headers, timeout=30
    )
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()["data"]
    return found


def order(number: int, at: int, /, topic: str = "orders/paid", **changes: Any) -> made.Message:
    when = dict.fromkeys(("created_at", "processed_at", "updated_at"), times.text(at))
    named = {"id": number, "admin_graphql_api_id": f"gid://shopify/Order/{number}", "name": f"#{number}"}
    return made.shopify(topic, f"d{number}-{topic}", **named | when | {"order_number": number} | changes)


def consent(word: str) -> dict[str, Any]:
    return {"note_attributes": [{"name": "_consent", "value": word}]}


def test_10_9_a_platform_of_this_tests_own_invention_is_a_sent_purchase(tmp_path: Path, graph: GraphSimulator) -> None:
    now = int(time.time())
    with Place(tmp_path, graph.url).serve() as door:
        taken = send(door, made.kiosk(at=now, changed=now))
        assert "conversionId" in taken
        assert send(door, made.kiosk("sale.seen", at=now, delivery="k2"))["ignored"] == "unknown_topic"  # the control
        (event,) = eventually(lambda: list(graph.events))
    assert (event["event_name"], event["custom_data"]["value"], event["custom_data"]["currency"]) == (
        "Purchase",
        19.99,
        "EUR",
    )
    assert event["custom_data"]["contents"] == [{"id": "hat-3", "quantity": 1, "item_price": 19.99}]
    assert event["user_data"]["fbp"] == made.FBP
    assert event["user_data"]["em"]


def test_10_6_each_class_once_and_the_sums_agree_with_what_meta_saw(tmp_path: Path, graph: GraphSimulator) -> None:
    now = int(time.time() * 1000) - 60_000
    place = Place(tmp_path, graph.url)
    with place.serve() as door:
        send(door, order(FIRST, now))
        assert eventually(lambda: graph.accepted.get(PIXEL)), "sent"
        graph.state.plan({"pixel": "*", "modes": [{"name": "503", "times": 10_000}]})
        for number, changes in {1: {}, 2: consent("pending"), 3: {"source_name": "pos"}, 4: consent("denied")}.items():
            send(door, order(FIRST + number, now, **changes))
        send(door, order(FIRST + 5, now - 9 * DAY_MS))
        out = io.StringIO()
        known_by_file = [f"#{FIRST + 6}", "paid", "EUR", "10.00", times.text(now), "", "0.00", str(FIRST + 6), "web"]
        csv.writer(out).writerows([COLUMNS, known_by_file])
        (tmp_path / "export.csv").write_text(out.getvalue())
        place.run("reconcile", str(tmp_path / "export.csv"), "--store", STORE)
        told = [one for one in json.loads(place.run("report", "reconcile", "--json")) if one["store"] == STORE]
        names = ("sent", "waiting", "held", "ignored", "failed", "missing")
        classes = {name: sum(line[name] for line in told) for name in names}
        assert classes == {"sent": 1, "waiting": 1, "held": 1, "ignored": 2, "failed": 1, "missing": 1}
        assert sum(line["orders"] for line in told) == sum(classes.values())
        assert sum(graph.accepted[PIXEL].values()) == classes["sent"], "what Meta saw"
        assert {line["pixel"] for line in told} == {PIXEL}


def redacted(number: int) -> made.Message:
    asked = {"customer": {"id": 778899, "email": "ada@example.com"}, "orders_to_redact": [number]}
    return made.signed("shopify", asked, {"X-Shopify-Topic": "customers/redact", "X-Shopify-Webhook-Id": "r"})


def test_10_8_after_an_erasure_neither_a_webhook_nor_the_pull_brings_anything_back(
    tmp_path: Path, graph: GraphSimulator
) -> None:
    now = int(time.time() * 1000) - 120_000
    bob = {"email": "bob@example.com", "customer": {"id": 5}, "billing_address": None, "note_attributes": []}
    with serving(ShopServer()) as server:
        place = Place(tmp_path, graph.url, server.url)
        with place.serve() as door:
            send(door, order(FIRST, now))
            send(door, order(FIRST + 1, now, **bob))
            assert send(door, redacted(FIRST))["ignored"] == "redact"
            ((request,),) = place.rows("SELECT id FROM shop_request")
            place.run("requests", "run", request, "--yes")
            late = order(FIRST, now + 50_000, "orders/updated", financial_status="refunded")
            assert send(door, late)["ignored"] == "erased"
        server.orders = {str(n): graph_order(n, now, now + 55_000) for n in (FIRST, FIRST + 2)}
        with place.serve():  # pulls at once
            called = "SELECT called FROM shop_order ORDER BY called"
            assert wait_until(lambda: (str(FIRST + 2),) in place.rows(called), 60), "the control: another's is pulled"
            assert wait_until(lambda: place.rows("SELECT count(*) FROM shop_inbox") == [(0,)], 60)
            assert place.rows(called) == [(str(FIRST + 1),), (str(FIRST + 2),)]
            orders = {event["custom_data"]["order_id"] for event in graph.events}
            assert eventually(lambda: len({e["custom_data"]["order_id"] for e in graph.events}) >= 2), orders
    assert sum(graph.accepted[PIXEL].values()) <= 3
