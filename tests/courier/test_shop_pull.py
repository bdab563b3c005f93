# ruff: noqa: E501 (cases are read as one line each)
"""L1-L6: what webhooks missed comes by the pull, once, whatever the shop's API does; against a shop on a real socket."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest

from collector.config import AlertsConfig, ShopConfig, StoreConfig, WebhookConfig
from collector.config_loader import shops
from collector.core import times
from collector.core.shops import order as shop_order
from collector.courier.alerts import Alerts
from collector.courier.shops import pull
from collector.courier.shops.http import ShopClient, Trouble, seconds
from collector.courier.shops.pull import Puller
from collector.exchange.shops import Waiting
from collector.storage.delivery import SqliteBooks
from tests.journal.test_shop_orders import Shop
from tests.kit import shops as made
from tests.kit.journal_kit import DAY, HOUR, MINUTE, NOW, STORE
from tests.kit.shop_server import CLIENT, HALF, THROTTLED, Fault, ShopServer, graph_order, serving, unreliable

FIRST = 7_770_000


@pytest.fixture
def server() -> Iterator[ShopServer]:
    with serving(ShopServer(page=7)) as one:
        yield one


class Pull:
    """A puller over a journal's own database, and what an edge makes of what it finds."""

    def __init__(self, folder: Path, server: ShopServer, **shop: Any) -> None:
        keys = {"platform": "shopify", "client_id": CLIENT[0], "client_secret": CLIENT[1]} | shop
        self.terms = ShopConfig(url=server.url, **keys)
        self.shop = Shop(folder, shop=self.terms)
        self.store: StoreConfig = self.shop.kit.config.store[0]
        self.alerts = Alerts(AlertsConfig(webhook_url="http://127.0.0.1:9/"))
        self.thread = ThreadPoolExecutor(1)
        self.books = SqliteBooks(self.shop.kit.config)
        self.db, self.inbox = self.books._db, self.books.inbox

    def close(self) -> None:
        self.thread.shutdown()
        self.books.close()
        self.shop.kit.close()

    def pull(self, times_: int = 1) -> list[float]:
        """Pull so often; how long each would wait for the next."""

        async def all_of_them() -> list[float]:
            puller = Puller(self.store, self.books, self.alerts, lambda: self.shop.kit.now, self.thread)
            found = [await puller.once() for _ in range(times_)]
            await puller._client.close()
            return found

        return asyncio.run(all_of_them())

    def take(self) -> list[Any]:
        """What an edge makes of the inbox: what came of each row."""
        taken: list[Any] = []
        while rows := self.shop.kit.journal.inbox():
            taken += [self._one(row) for row in rows]
        return taken

    def _one(self, row: Waiting) -> Any:
        found: list[Any] = []

        async def submit(operations: Any) -> list[Any]:
            found.extend(self.shop.kit.submit(list(operations)))
            return found

        webhooks = self.shop.webhooks
        webhooks._keeper.submit = submit  # type: ignore[method-assign]
        asyncio.run(webhooks._found(row))
        return found[-1]

    def called(self) -> list[str]:
        return [row[0] for row in self.shop.kit.rows("SELECT called FROM shop_order ORDER BY called")]

    def alerted(self) -> list[str]:
        return [kind for kind, _ in sorted(self.alerts._standing)]


@pytest.fixture
def make(tmp_path: Path, server: ShopServer) -> Iterator[Callable[..., Pull]]:
    made_: list[Pull] = []

    def one(**shop: Any) -> Pull:
        made_.append(Pull(tmp_path, server, **shop))
        return made_[-1]

    yield one
    for each in made_:
        each.close()


def fill(server: ShopServer, n: int, since: int = NOW - DAY, step: int = MINUTE) -> list[str]:
    """So many orders, one each minute; their ids."""
    for i in range(n):
        at = since + i * step
        server.orders[f"{FIRST + i}"] = graph_order(FIRST + i, at, at)
    return sorted(str(FIRST + i) for i in range(n))


def test_L1_every_order_comes_page_by_page_and_once(make: Any, server: ShopServer) -> None:
    wanted, one = fill(server, 30), make()
    assert one.pull() == [900.0]
    assert all(taken.conversion is not None for taken in one.take())
    assert one.called() == wanted
    one.shop.kit.now += HOUR
    one.pull()
    one.take()
    assert one.shop.kit.rows("SELECT count(*) FROM conversion") == [(30,)]
    assert one.shop.kit.rows("SELECT DISTINCT seen FROM shop_order") == [(2,)]


def test_L1_the_watermark_moves_with_its_orders_and_looks_ten_minutes_back(make: Any, server: ShopServer) -> None:
    one = make()
    one.pull()
    assert one.inbox.pulled(STORE).watermark == NOW - MINUTE
    late = NOW - 8 * MINUTE  # changed before the watermark, seen by the API only now
    server.orders["9"] = graph_order(9_999, late, late)
    one.shop.kit.now += 15 * MINUTE
    one.pull()
    one.take()
    assert one.called() == ["9999"]


def test_L1_a_pull_that_ends_in_the_middle_loses_nothing(make: Any, server: ShopServer) -> None:
    wanted, one = fill(server, 30), make()
    fine = lambda asked: server.shopify(asked, f"token-{server.tokens}")  # noqa: E731
    server.faults.extend([fine, fine, HALF])
    assert one.pull()[0] <= 1.0
    assert 0 < len(one.take()) < 30
    one.pull()
    one.take()
    assert one.called() == wanted


FAULTS: list[Fault] = [(429, {"Retry-After": "0"}, b""), (500, {}, b"oops"), (503, {}, b""), HALF, (200, {}, b"<html>"), (302, {"Location": "http://127.0.0.1:1/"}, b""), (200, {}, b"[]"), THROTTLED, (200, {}, b'{"errors": []}')]  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_L5_whatever_the_api_answers_the_next_pull_brings_all(make: Any, server: ShopServer, fault: Fault) -> None:
    wanted, one = fill(server, 10), make()
    server.faults.append(fault)
    one.pull(2)
    one.take()
    assert one.called() == wanted
    assert one.alerted() == []


def test_L5_a_refused_key_is_an_alert_and_tried_hourly(make: Any, server: ShopServer) -> None:
    wanted, one = fill(server, 3), make()
    server.token_works = False
    assert one.pull() == [3600.0]
    assert one.alerted() == ["shop_auth"]
    server.token_works = True
    one.pull()
    one.take()
    assert one.called() == wanted


def test_L5_three_failures_in_a_row_are_an_alert(make: Any, server: ShopServer) -> None:
    one = make()
    server.faults.extend([(500, {}, b"")] * 3)
    waits = one.pull(3)
    assert waits[0] <= 1
    assert waits[2] <= 4
    assert one.alerted() == ["shop_pull"]


def test_L5_an_answer_over_32_MiB_is_given_up(make: Any, server: ShopServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("collector.courier.shops.http.LARGEST", 2_000)
    fill(server, 10)
    one = make()
    one.pull()
    assert one.take() == []


@pytest.mark.parametrize(
    ("text", "expected"), [("7", 7.0), ("-1", 0.0), ("1e9", 3600.0), ("nan", None), ("Wed, 21 Oct", None), ("", None)]
)
def test_retry_after(text: str, expected: float | None) -> None:
    assert seconds(text) == expected


def test_a_token_that_ends_is_fetched_again(make: Any, server: ShopServer) -> None:
    wanted, one = fill(server, 3), make()
    one.pull()
    server.tokens += 1  # the former does not work any more
    server.orders["8"] = graph_order(FIRST + 8, NOW - 2 * MINUTE, NOW - 2 * MINUTE)
    one.pull(2)
    one.take()
    assert one.called() == sorted([*wanted, str(FIRST + 8)])


def woo(number: int, changed: int) -> dict[str, Any]:
    body = json.loads(made.woocommerce(id=number, number=str(number)).body)
    return body | {"date_modified_gmt": times.text(changed)[:-1], "date_created_gmt": times.text(changed)[:-1]}


@pytest.mark.parametrize("step", [0, 300, 40_000])
@pytest.mark.parametrize("by_change", [True, False])
def test_L3_woocommerce_also_where_a_page_shares_a_second(
    make: Any, server: ShopServer, step: int, by_change: bool
) -> None:
    one = make(platform="woocommerce", consumer_key="ck", consumer_secret="cs", client_id="", client_secret="")
    server.sorts_by_change = by_change
    for i in range(250):
        server.orders[str(i)] = woo(FIRST + i, NOW - DAY + i * step)
    one.pull()
    one.take()
    assert len(one.called()) == 250


def test_L3_rows_that_move_while_one_reads_are_not_passed_over(make: Any, server: ShopServer) -> None:
    """Once a page is given, ten of its orders change: all behind them move up, some from a page yet to come."""
    one = make(platform="woocommerce", consumer_key="ck", consumer_secret="cs", client_id="", client_secret="")
    for i in range(250):
        server.orders[str(i)] = woo(FIRST + i, NOW - DAY + i * 40_000)
    given = server.woocommerce

    def moving(query: dict[str, list[str]]) -> Fault:
        answer = given(query)
        for i in list(server.orders)[:10] if len(server.asked) == 1 else ():
            server.orders[i] = woo(FIRST + int(i), NOW - 2 * MINUTE)
        return answer

    server.woocommerce = moving  # type: ignore[method-assign]
    one.pull()
    one.take()
    assert len(one.called()) == 250


def test_L4_stripes_events(make: Any, server: ShopServer) -> None:
    one = make(platform="stripe", restricted_key="rk", client_id="", client_secret="")
    for i in range(20):
        event = json.loads(made.stripe(event=f"evt_{i}", id=f"cs_{i}", payment_intent=f"pi_{i}").body)
        server.orders[str(i)] = event | {"created": (NOW - DAY) // 1000 + i}
    one.pull()
    one.take()
    assert one.shop.kit.rows("SELECT count(*) FROM conversion") == [(20,)]
    assert one.inbox.pulled(STORE).watermark == NOW - MINUTE


def test_L6_a_pulled_order_is_what_its_webhook_tells(make: Any) -> None:
    """But for the user agent, which Shopify's API lacks."""
    one = make()
    at = {"created_at": "2026-11-20T09:14:07+01:00", "updated_at": "2026-11-20T09:14:31+01:00"}
    webhook = made.shopify(
        id=FIRST,
        admin_graphql_api_id=f"gid://shopify/Order/{FIRST}",
        processed_at="2026-11-20T09:14:05+01:00",
        client_details={},
        line_items=[],
        **at,
    )
    pulled = graph_order(FIRST, 0, 0, name="#1017", createdAt="2026-11-20T08:14:07Z", processedAt="2026-11-20T08:14:05Z", updatedAt="2026-11-20T08:14:31Z", email="ada@example.com",
                         customer={"id": "gid://shopify/Customer/778899"}, customAttributes=[{"key": "_fbp", "value": made.FBP}],
                         customerJourneySummary={"lastVisit": {"landingPage": f"/p?fbclid={made.FBCLID}"}},
                         billingAddress={"firstName": "Ада", "lastName": "Ковальова", "countryCodeV2": "DE", "phone": "0221 5550134"})  # fmt: skip

    hook, other = shops.hooks(one.store)["shopify"], shops.pulled(one.store, "shopify_pull")
    told = shop_order.read(
        hook.platform, hook.terms, STORE, {"x-shopify-topic": "orders/updated"}, webhook.body
    ).outcome
    found = shop_order.read(other.platform, other.terms, STORE, {}, json.dumps(pulled).encode()).outcome
    assert isinstance(told, shop_order.ShopOrder)
    assert isinstance(found, shop_order.ShopOrder)
    one_, two = msgspec.to_builtins(told.body), msgspec.to_builtins(found.body)
    for body in (one_, two):  # the same moments, money and words, written otherwise
        for key in ("timestamp", "statusAt"):
            body[key] = times.parse(body[key])
        body["orderStatus"] = body["orderStatus"].lower()
        body["eventValue"] = str(float(body["eventValue"]))
    assert one_ == two


def test_10_5_an_unreliable_shop_is_complete_after_one_pull(make: Any, server: ShopServer) -> None:
    """20 % lost, 10 % doubled, 30 % swapped, an API that is throttled and fails: 100 %, and none is doubled."""
    dice, one, messages = random.Random(7), make(), []
    for i in range(120):
        at = NOW - DAY + i * MINUTE
        ids = {
            "id": FIRST + i,
            "admin_graphql_api_id": f"gid://shopify/Order/{FIRST + i}",
            "name": f"#{(FIRST + i) % 100_000}",
            "order_number": (FIRST + i) % 100_000,
            "email": f"buyer{FIRST + i}@example.com",
        }
        for minutes, status in ((0, "pending"), (2, "paid")):
            changed = times.text(at + minutes * MINUTE)
            messages.append(
                made.shopify(
                    "orders/updated",
                    **ids,
                    financial_status=status,
                    created_at=times.text(at),
                    processed_at=times.text(at),
                    updated_at=changed,
                )
            )
        server.orders[str(i)] = graph_order(FIRST + i, at, at + 2 * MINUTE)
    for message in unreliable(messages, dice, lost=0.2, doubled=0.1, swapped=0.3):
        one.shop.tell(message)
    before = len(one.called())
    assert before < 120  # control: webhooks alone are not enough
    server.faults.extend([THROTTLED, (429, {"Retry-After": "0"}, b""), (500, {}, b""), HALF])
    one.pull(5)
    one.take()
    assert len(one.called()) == 120
    rows = one.shop.kit.rows("SELECT count(*), count(DISTINCT conversion) FROM outbox")
    assert rows == [(120, 120)]
    assert one.shop.kit.rows("SELECT DISTINCT status FROM shop_order") == [("paid",)]


def test_control_without_the_overlap_a_late_order_is_lost(
    make: Any, server: ShopServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pull, "_OVERLAP_MS", 0)
    with pytest.raises(AssertionError):
        test_L1_the_watermark_moves_with_its_orders_and_looks_ten_minutes_back(make, server)


def test_L5_nothing_is_followed_and_no_key_is_in_an_address(server: ShopServer) -> None:
    server.faults.append((302, {"Location": server.url}, b""))

    async def ask() -> None:
        client = ShopClient(server.url)
        try:
            await client.ask("GET", "/x")
        finally:
            await client.close()

    with pytest.raises(Trouble, match="redirects"):
        asyncio.run(ask())
    assert server.asked == ["/x"]


def test_L6_what_the_owner_changes_in_a_preset_holds_for_the_pull_too(make: Any, server: ShopServer) -> None:
    own = WebhookConfig(
        name="mine",
        preset="woocommerce",
        secret="x",
        topics={"order.created": ""},
        fields={"externalId": "meta_data[key=crm].value"},
        channels={"till": "ignore"},
    )
    order = json.loads(made.woocommerce(meta_data=[{"key": "crm", "value": "C-9"}]).body)
    headers = {"x-wc-webhook-topic": "order.updated"}
    for webhooks, customer in (([own], "C-9"), ([], None)):  # without it, the control
        store = StoreConfig(id=STORE, webhook=webhooks)
        hook = shops.pulled(store, "woocommerce")
        for via, kind in (("checkout", shop_order.ShopOrder), ("till", shop_order.Ignored if webhooks else None)):
            body = json.dumps(order | {"created_via": via}).encode()
            found = shop_order.read(hook.platform, hook.terms, STORE, headers, body).outcome
            assert isinstance(found, kind or shop_order.ShopOrder)
            if isinstance(found, shop_order.ShopOrder):
                assert found.body.customer_data is not None
                assert found.body.customer_data.external_id == customer


def test_L4_a_topic_that_the_owner_takes_is_pulled_as_well() -> None:
    own = WebhookConfig(name="stripe", preset="stripe", secret="x", topics={"payment_intent.succeeded": "paid"})
    for webhooks, topics in (([own], ["payment_intent.succeeded"]), ([], list(shops.preset("stripe")["topics"]))):
        store = StoreConfig(id=STORE, webhook=webhooks)
        assert shops.taken(shops.pulled(store, "stripe")) == topics


def stuck(server: ShopServer, platform: str) -> Callable[..., Any]:
    """A shop behind a cache that knows no parameters: the first page, whatever is asked."""
    first = getattr(server, platform)
    answers: list[Any] = []

    def same(*asked: Any) -> Any:
        if not answers:
            answers.append(first(*asked))
        return answers[0]

    return same


@pytest.mark.parametrize("platform", ["shopify", "woocommerce", "stripe"])
def test_L5_a_shop_that_gives_one_page_for_ever_is_a_failure_and_no_loop(
    make: Any, server: ShopServer, platform: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if platform == "shopify":
        fill(server, 20)
        one = make()
    elif platform == "stripe":
        one = make(platform=platform, restricted_key="rk", client_id="", client_secret="")
        event = json.loads(made.stripe().body)
        server.orders = {str(n): event | {"id": f"evt_{n}", "created": (NOW - DAY) // 1000 + n} for n in range(20)}
    else:
        one = make(platform=platform, consumer_key="ck", consumer_secret="cs", client_id="", client_secret="")
        server.orders = {str(n): {"id": n, "date_modified_gmt": times.text(NOW - DAY)[:-1]} for n in range(120)}
    assert one.pull() == [900.0], "the control: as it should be"
    one.db.execute("DELETE FROM shop_pull")
    monkeypatch.setattr(server, platform, stuck(server, platform))
    (wait,) = one.pull()
    assert wait < 2.0
    assert len(server.asked) < 20


@pytest.mark.parametrize("odd", [None, {}, {"updatedAt": None}, {"updatedAt": 7}, [], "x"])
def test_L5_one_odd_order_holds_up_no_other(make: Any, server: ShopServer, odd: Any) -> None:
    names = fill(server, 6)
    plain = server.shopify

    def shopify(asked: Any, token: str) -> Fault:
        status, headers, body = plain(asked, token)
        page = json.loads(body)
        if status == 200:
            page["data"]["orders"]["nodes"].append(odd)
        return status, headers, json.dumps(page).encode()

    server.shopify = shopify  # type: ignore[method-assign]
    one = make()
    assert one.pull() == [900.0]
    one.take()
    assert one.called() == names
