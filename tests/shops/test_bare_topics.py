"""S1, S2: nobody signs the header that names a topic, so what a message may do is judged by its own members."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from collector.config import ShopConfig, StoreConfig, WebhookConfig
from collector.config_loader import shops
from collector.core.shops.order import Ignored, Request, ShopOrder, read
from tests.journal.test_shop_orders import Shop, message
from tests.kit import shops as made
from tests.kit.journal_kit import DAY

PLAIN = shops.hooks(StoreConfig(id="s", webhook_secrets={"shopify": ["x"], "woocommerce": ["x"]}))
SHOPIFY, WOOCOMMERCE = PLAIN["shopify"], PLAIN["woocommerce"]
ALWAYS_AN_AMOUNT = {"eventValue": ["current_total_price", "total_price", "=0"], "currency": ["currency", "=EUR"]}
NEVER_AN_AMOUNT = {"eventValue": "nowhere"}
ORDER = json.loads(made.shopify().body)
FOREIGN = {
    "an order": ORDER,
    "an order without its amounts": ORDER | dict.fromkeys(("total_price", "current_total_price", "currency")),
    "a refund": {"id": 5, "order_id": 7, "transactions": [{"id": 1, "amount": "41.94", "kind": "refund"}]},
    "a customer": {"id": 7, "email": "ada@example.com", "phone": "+15551234", "orders_count": 0},
    "a product": {"id": 7, "title": "Scarf", "variants": []},
    "nothing": {},
}


def mapped(fields: dict[str, Any], shop: ShopConfig | None = None) -> shops.Hook:
    own = WebhookConfig(name="shopify", preset="shopify", secret=["x"], fields=fields)
    return shops.hooks(StoreConfig(id="s", webhook=[own], shop=shop or ShopConfig()))["shopify"]


HOOKS = {
    "as it comes": SHOPIFY,
    "an amount in everything": mapped(ALWAYS_AN_AMOUNT),
    "an amount in nothing": mapped(NEVER_AN_AMOUNT),
    "orders by their names": mapped({}, ShopConfig(order_key="name")),
    "goods in the buyer's money": mapped({}, ShopConfig(value="goods", money="presentment")),
}


def outcome(hook: shops.Hook, topic: str, body: Any) -> ShopOrder | Ignored | Request:
    headers = {"x-shopify-topic": topic, "x-wc-webhook-topic": topic}
    return read(hook.platform, hook.terms, "s", headers, json.dumps(body).encode()).outcome


@pytest.fixture(params=HOOKS)
def hook(request: pytest.FixtureRequest) -> shops.Hook:
    return HOOKS[request.param]


@pytest.mark.parametrize("more", [{}, {"admin_graphql_api_id": "gid://shopify/X/1", "updated_at": "2026-11-20"}])
def test_S1_a_message_does_what_its_own_topic_says_and_nothing_under_another(
    hook: shops.Hook, more: dict[str, str]
) -> None:
    """Whatever the shop's owner maps, and whatever Shopify adds."""
    assert made.SHOPIFY_BARE.keys() == hook.platform.bare.keys()
    for told, body in made.SHOPIFY_BARE.items():
        for topic in made.SHOPIFY_BARE:
            came = outcome(hook, topic, body | more)
            assert (came == Ignored("other_topic")) == (topic != told), (told, topic, came)
    gone = outcome(hook, "orders/delete", {"id": 820982911946154508, **more})
    assert isinstance(gone, ShopOrder)
    assert (gone.ends, gone.body.order_id, gone.body.event_value) == (True, "820982911946154508", None)


@pytest.mark.parametrize("empty", [[], None])
def test_P1_P2_a_request_that_names_no_order_is_one(empty: object) -> None:
    for topic, member in (("customers/redact", "orders_to_redact"), ("customers/data_request", "orders_requested")):
        asked = outcome(SHOPIFY, topic, made.SHOPIFY_BARE[topic] | {member: empty})
        assert isinstance(asked, Request)
        assert (asked.external_id, asked.orders) == ("191167", ())


@pytest.mark.parametrize("what", FOREIGN)
def test_S1_what_tells_of_something_else_ends_no_order_and_asks_nothing(hook: shops.Hook, what: str) -> None:
    for topic in made.SHOPIFY_BARE:
        assert outcome(hook, topic, FOREIGN[what]) == Ignored("other_topic"), topic


def test_S2_of_a_deleted_woocommerce_order_its_id_is_told() -> None:
    gone = outcome(WOOCOMMERCE, "order.deleted", {"id": 727})
    assert isinstance(gone, ShopOrder)
    assert gone.ends
    whole = json.loads(made.woocommerce().body)
    customer, product = {"id": 727, "email": "zoe@example.com"}, {"id": 727, "name": "Bag", "sku": "K"}
    for other in (whole, whole | {"total": None}, customer, product):
        assert outcome(WOOCOMMERCE, "order.deleted", other) == Ignored("other_topic")


def test_S1_control_where_the_header_is_believed() -> None:
    believing = msgspec.structs.replace(SHOPIFY, platform=msgspec.structs.replace(SHOPIFY.platform, bare={}))
    asked = outcome(believing, "customers/redact", made.SHOPIFY_BARE["customers/data_request"])
    assert isinstance(asked, Request)
    assert (asked.kind, asked.external_id) == ("redact", "191167")


@pytest.mark.parametrize("key", ["id", "order_number", "name"])
def test_O9_a_deletion_finds_its_order_by_whatever_its_owner_calls_it(tmp_path: Path, key: Any) -> None:
    shop = Shop(tmp_path, shop=ShopConfig(order_key=key))
    order = message(9_000_001, "paid")
    taken = shop.tell(order)
    shop.kit.now += DAY
    gone = made.signed("shopify", {"id": 9_000_001}, order.headers | {"X-Shopify-Topic": "orders/delete"})
    assert shop.tell(gone).conversion == taken.conversion is not None
    assert shop.kit.rows("SELECT count(*) FROM conversion") == [(1,)]
    assert shop.kit.rows("SELECT status FROM shop_order") == [("cancelled",)]
    shop.kit.close()
