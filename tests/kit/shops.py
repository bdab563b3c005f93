# ruff: noqa: E501 (cases are read as one line each)
"""Shops that do not exist: their orders in each platform's shape, and their signatures."""

from __future__ import annotations

import hashlib
import hmac
import html
import json
from base64 import b64encode
from typing import Any, NamedTuple

from collector.config import StoreConfig, WebhookConfig
from tests.kit.edge_process import PIXEL

SECRETS = {"shopify": "hush_shopify", "woocommerce": 'a & <b> "c"', "stripe": "whsec_hush", "paddle": "pdl_hush"}
OWN = "own hush"
# A platform of this test's own invention, by configuration alone.
KIOSK = WebhookConfig(
    name="kiosk",
    secret=OWN,
    signature={
        "header": "X-Kiosk-Proof",
        "format": "sha256={signature}",
        "signed": "{id}/{timestamp}/{body}",
        "timestamp_header": "X-Kiosk-Time",
        "id_header": "X-Kiosk-Id",
    },
    topic="header:X-Kiosk-Event",
    delivery="header:X-Kiosk-Id",
    order="$.payload.sale",
    topics={"sale.made": "", "sale.undone": "cancelled"},
    fields={
        "orderId": "ref",
        "statusAt": "changed | time",
        "eventValue": "cents | minor",
        "currency": "money",
        "email": ["buyer.mail", "$.account.mail"],
        "products": {"each": "items[*]", "productId": "{kind}-{no}", "price": "cost", "quantity": "n"},
    },
    marks="extra[key={}].value",
    status={"from": "state", "paid": ["settled"], "pending": ["open"], "refunded": ["returned"]},
)
STORE = StoreConfig(
    id="store_abc123",
    name="Shop",
    domains=["shop.example"],
    currency="USD",
    country="US",
    pixel=[PIXEL],
    webhook_secrets={name: SECRETS[name] for name in ("shopify", "woocommerce", "stripe")},
    webhook=[WebhookConfig(name="paddle", preset="paddle", secret=SECRETS["paddle"]), KIOSK],
)
# Messages of Shopify that hold no whole order, as its documentation shows them.
SHOPIFY_BARE: dict[str, dict[str, Any]] = {
    "orders/delete": {"id": 820982911946154508},
    "customers/redact": {
        "shop_id": 954889,
        "shop_domain": "shop.example",
        "customer": {"id": 191167, "email": "john@example.com", "phone": "555-625-1199"},
        "orders_to_redact": [299938],
    },
    "customers/data_request": {
        "shop_id": 954889,
        "shop_domain": "shop.example",
        "orders_requested": [299938],
        "customer": {"id": 191167, "email": "john@example.com", "phone": "555-625-1199"},
        "data_request": {"id": 9999},
    },
    "shop/redact": {"shop_id": 954889, "shop_domain": "shop.example"},
    "app/uninstalled": {
        "id": 548380009,
        "name": "Super Toys",
        "email": "super@example.com",
        "domain": None,
        "currency": "USD",
        "shop_owner": "John Smith",
        "plan_name": "enterprise",
        "myshopify_domain": None,
    },
}
AGENT = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 Version/18.5 Mobile/15E148 Safari/604.1"
FBP = "fb.1.1790000000000.1029384756"
FBCLID = "IwAR0madeUpClickIdForTestsOnly_0123456789abcdefgh"


class Message(NamedTuple):
    """A webhook as its sender posts it."""

    name: str
    headers: dict[str, str]
    body: bytes


def shopify(topic: str = "orders/paid", /, delivery: str = "d-1", **changes: Any) -> Message:
    """A Shopify order's message."""
    order = {
        "id": 5120034455821,
        "admin_graphql_api_id": "gid://shopify/Order/5120034455821",
        "name": "#1017",
        "order_number": 1017,
        "source_name": "web",
        "test": False,
        "created_at": "2026-11-20T09:14:07+01:00",
        "updated_at": "2026-11-20T09:14:31+01:00",
        "cancelled_at": None,
        "financial_status": "paid",
        "currency": "EUR",
        "total_price": "118.90",
        "current_total_price": "118.90",
        "current_subtotal_price": "113.95",
        "current_total_tax": "18.98",
        "taxes_included": True,
        "email": "ada@example.com",
        "browser_ip": "203.0.113.57",
        "client_details": {"browser_ip": "203.0.113.57", "user_agent": AGENT},
        "landing_site": f"/p?fbclid={FBCLID}",
        "note_attributes": [{"name": "_fbp", "value": FBP}, {"name": "gift", "value": "yes"}],
        "tags": "",
        "customer": {"id": 778899},
        "billing_address": {
            "first_name": "Ада",
            "last_name": "Ковальова",
            "country_code": "DE",
            "phone": "0221 5550134",
        },
        "line_items": [
            {
                "variant_id": 4411,
                "product_id": 83,
                "sku": "S",
                "title": "Scarf",
                "price": "59.95",
                "current_quantity": 1,
            },
            {"variant_id": 4412, "title": "Mug", "price": "30.00", "current_quantity": 0, "quantity": 1},
            {"variant_id": 4413, "title": "Card", "price": "10.00", "quantity": 1, "gift_card": True},
        ],
    } | changes
    return signed("shopify", order, {"X-Shopify-Topic": topic, "X-Shopify-Webhook-Id": delivery})


def woocommerce(topic: str = "order.updated", /, delivery: str = "d-1", **changes: Any) -> Message:
    """A WooCommerce order's message."""
    order = {
        "id": 31877,
        "number": "10452",
        "status": "processing",
        "created_via": "checkout",
        "currency": "PLN",
        "date_created_gmt": "2026-11-21T17:05:40",
        "date_modified_gmt": "2026-11-21T17:06:02",
        "date_paid_gmt": "2026-11-21T17:06:01",
        "total": "248.70",
        "customer_id": 0,
        "customer_user_agent": AGENT,
        "billing": {"first_name": "Zoë", "email": "zoe@example.com", "country": "PL", "phone": ""},
        "meta_data": [
            {"id": 1, "key": "_wc_order_attribution_session_entry", "value": f"https://shop.example/?fbclid={FBCLID}"},
            {"id": 2, "key": "pys_fb_cookie", "value": json.dumps({"fbp": FBP})},
            {"id": 3, "key": "_collector_visitor", "value": "v_2f6c1a0be94d4c55"},
        ],
        "line_items": [
            {"name": "A &amp; B", "product_id": 5, "variation_id": 7, "sku": "K", "price": 76, "quantity": 2},
            {"name": "Bag", "product_id": 6, "variation_id": 0, "sku": "", "price": 38, "quantity": 1},
        ],
        "refunds": [],
    } | changes
    return signed("woocommerce", order, {"X-WC-Webhook-Topic": topic, "X-WC-Webhook-Delivery-ID": delivery})


def stripe(type_: str = "checkout.session.completed", /, at: int = 0, event: str = "evt_1", **changes: Any) -> Message:
    """A Stripe event about a session, or about whatever `changes` make of it; signed at `at` (s)."""
    about = {
        "id": "cs_1",
        "mode": "payment",
        "payment_status": "paid",
        "created": 1795248000,
        "amount_total": 4800,
        "currency": "jpy",
        "payment_intent": "pi_1",
        "customer_details": {"email": "haruto@example.jp", "name": "Haruto Mori", "address": {"country": "JP"}},
        "metadata": {"fbp": FBP, "client_ip": "203.0.113.99"},
    } | changes
    body = {"id": event, "type": type_, "created": 1795248003, "livemode": True, "data": {"object": about}}
    return signed("stripe", body, {}, at)


def paddle(type_: str = "transaction.completed", /, at: int = 0, event: str = "evt_1", **changes: Any) -> Message:
    """A Paddle event about a transaction, or about whatever `changes` make of it; signed at `at` (s)."""
    about = {
        "id": "txn_1",
        "status": "completed",
        "origin": "web",
        "currency_code": "USD",
        "customer_id": "ctm_1",
        "billed_at": "2026-11-22T11:20:10Z",
        "custom_data": {"orderId": "P-1", "fbp": FBP},
        "details": {"totals": {"total": "5950", "grand_total": "5950", "currency_code": "USD"}},
        "items": [{"price": {"id": "pri_1", "product_id": "pro_1"}, "quantity": 1}],
    } | changes
    body = {"event_id": event, "event_type": type_, "occurred_at": "2026-11-22T11:20:18.552Z", "data": about}
    return signed("paddle", body, {}, at)


def kiosk(topic: str = "sale.made", /, at: int = 0, delivery: str = "k1", **changes: Any) -> Message:
    """A message of the platform that nobody foresaw."""
    sale = {
        "ref": "K-1",
        "changed": 1795248003,
        "cents": 1999,
        "money": "eur",
        "state": "settled",
        "items": [{"kind": "hat", "no": 3, "cost": "19.99", "n": 1}],
        "extra": [{"key": "_fbp", "value": FBP}],
    } | changes
    body = {"payload": {"sale": sale}, "account": {"mail": "kim@example.com"}}
    return signed("kiosk", body, {"X-Kiosk-Event": topic, "X-Kiosk-Id": delivery}, at)


def signed(name: str, body: Any, headers: dict[str, str], at: int = 0) -> Message:
    """The message with its signature."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Message(name, headers | signature(name, raw, at, headers), raw)


def signature(name: str, raw: bytes, at: int, headers: dict[str, str]) -> dict[str, str]:
    """What each platform puts into its headers."""
    if name == "shopify":
        return {"X-Shopify-Hmac-Sha256": b64encode(digest(SECRETS[name], raw)).decode()}
    if name == "woocommerce":  # as the plugin does: with the decoded form of what was typed
        return {"X-WC-Webhook-Signature": b64encode(digest(html.unescape(SECRETS[name]), raw)).decode()}
    if name == "stripe":
        return {"Stripe-Signature": f"t={at},v1={digest(SECRETS[name], b'%d.' % at + raw).hex()}"}
    if name == "paddle":
        return {"Paddle-Signature": f"ts={at};h1={digest(SECRETS[name], b'%d:' % at + raw).hex()}"}
    over = f"{headers['X-Kiosk-Id']}/{at}/".encode() + raw
    return {"X-Kiosk-Time": str(at), "X-Kiosk-Proof": f"sha256={digest(OWN, over).hex()}"}


def digest(secret: str, raw: bytes) -> bytes:
    return hmac.new(secret.encode(), raw, hashlib.sha256).digest()
