"""The owners' pages, step by step on the running program: check, ping or test message, first order, Meta, report."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from collector.core import times
from tests.kit import shops as made
from tests.kit.edge_process import Edge
from tests.kit.harness import PIXEL, STORE, TOKEN, GraphSimulator, Installation, wait_until
from tests.shops.test_shop_pages import BLOCKS, PLATFORMS, orders

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def graph() -> Iterator[GraphSimulator]:
    with GraphSimulator(token=TOKEN) as graph:
        yield graph


class Page(Installation):
    """What a page has its reader write, beside the addresses that every installation has."""

    def __init__(self, folder: Path, graph: str, platform: str) -> None:
        super().__init__(folder, graph, wait=0.0)
        written = BLOCKS[platform].replace("\n   ", "\n")
        for name in re.findall(r'"([\w.-]+\.secret)"', written):
            (folder / name).write_text(made.SECRETS[platform])
            (folder / name).chmod(0o600)
        self.config.write_text(self.config.read_text().partition("[[store]]")[0] + written)


def first_order(platform: str) -> made.Message:
    """The platform's first order, placed just now."""
    now = time.time_ns() // 1_000_000
    at, naive = times.text(now), times.text(now)[:-1]
    if platform == "shopify":
        one = made.shopify(created_at=at, processed_at=at, updated_at=at)
        return one._replace(headers=one.headers | {"X-Shopify-Shop-Domain": "mystore.myshopify.com"})
    if platform == "woocommerce":
        return made.woocommerce(date_created_gmt=naive, date_modified_gmt=naive, date_paid_gmt=naive)
    if platform == "stripe":
        return made.stripe(at=now // 1000, created=now // 1000)
    body = json.loads(orders(now // 1000)["paddle"].body)
    body["occurred_at"] = body["data"]["created_at"] = at
    body["data"]["custom_data"] = {"fbp": made.FBP, "client_ip": "203.0.113.9", "user_agent": made.AGENT}
    return made.signed("paddle", body, {}, now // 1000)


@pytest.mark.parametrize("platform", PLATFORMS)
def test_a_page_leads_to_the_first_delivered_order(platform: str, tmp_path: Path, graph: GraphSimulator) -> None:
    page = Page(tmp_path, graph.url, platform)
    page.run("config", "check")
    sent = graph.accepted.get(PIXEL, {})
    before = len(sent)
    with page.serve() as door:
        edge = Edge(int(door.url.rpartition(":")[2]), 0, {}, tmp_path)
        path = f"/v1/webhooks/{platform}/{STORE}"
        if platform == "woocommerce":
            form = {"Content-Type": "application/x-www-form-urlencoded"}
            assert edge.post(path, b"webhook_id=3", None, form).body["data"]["topic"] == "ping"
        order = first_order(platform)
        if platform == "shopify":
            trial = edge.post(path, order.body, None, order.headers | {"X-Shopify-Test": "true"})
            assert trial.body["data"]["ignored"] == "test_notification"
        assert edge.post(path, order.body + b" ", None, order.headers).status == 401, "control: another body"
        assert "conversionId" in edge.post(path, order.body, None, order.headers).body["data"]

        def lines() -> Any:
            return json.loads(page.run("report", "reconcile", "--since", "1d", "--json"))

        assert wait_until(lambda: [line["sent"] for line in lines()] == [1], 40), lines()
        assert len(graph.accepted[PIXEL]) == before + 1

        def told() -> Any:
            (shop,) = json.loads(page.run("status", "--json"))["shops"]
            return shop

        (hook,) = [one for one in told()["webhooks"] if one["name"] == platform]
        assert hook["url"].endswith(path)
        assert hook["lastOrder"]
        assert wait_until(lambda: told()["refused7"] == {"signature_invalid": 1}, 60)
        assert (told()["lastPing"] is not None) == (platform == "woocommerce")
