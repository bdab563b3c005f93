"""Made-up messages of each platform as they come off the wire: signed as they say, and each the order that it tells."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import Struct

from collector.config import StoreConfig, WebhookConfig
from collector.config_loader import shops
from collector.config_loader.shops import Hook
from collector.core.shops import order, signature
from collector.core.shops.order import Read, Request, ShopOrder
from collector.core.shops.signature import Refused

EXAMPLES = Path(__file__).parent / "examples"


class Signed(Struct):
    """A message, and what it was signed with; `at`: when (s)."""

    secret: str
    headers: dict[str, str]
    file: str = ""
    body: str = ""
    at: int = 0

    @property
    def raw(self) -> bytes:
        return (EXAMPLES / self.file).read_bytes() if self.file else self.body.encode()

    @property
    def preset(self) -> str:
        marks = {"Shopify": "shopify", "WC-": "woocommerce", "Stripe": "stripe", "Paddle": "paddle"}
        named = " ".join(self.headers)
        return next((preset for mark, preset in marks.items() if mark in named), "standard_webhooks")

    def hook(self, secret: str | None = None) -> Hook:
        own: dict[str, Any] = {"topic": "type", "topics": {"x": ""}, "fields": dict.fromkeys(FIELDS, "a")}
        more = own if self.preset == "standard_webhooks" else {}
        webhook = WebhookConfig(name="it", preset=self.preset, secret=secret or self.secret, **more)
        return shops.hooks(StoreConfig(id="s", webhook=[webhook]))["it"]

    def holds(self, raw: bytes, headers: dict[str, str], hook: Hook | None = None) -> bool:
        hook = hook or self.hook()
        pairs = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        claimed = signature.claim(hook.scheme, pairs, self.at)
        return not isinstance(claimed, Refused) and signature.is_signed(hook.scheme, hook.keys, claimed, raw)

    def read(self) -> Read:
        headers = {name.lower(): value for name, value in self.headers.items()}
        return order.read(self.hook().platform, self.hook().terms, "s", headers, self.raw)


FIELDS = ("orderId", "statusAt", "eventValue", "currency")
ALL = msgspec.json.decode((EXAMPLES / "signatures.json").read_bytes(), type=list[Signed])
TOLD = {
    "shopify-orders-paid.json": ("6120034455821", "118.90", "EUR", "paid"),
    "shopify-orders-updated-refund.json": ("6120034455821", "88.90", "EUR", "partially_refunded"),
    "shopify-orders-create-redacted.json": ("6120034455999", "25.00", "EUR", "paid"),
    "shopify-orders-create-test.json": ("820982911946154508", "227.00", "EUR", "paid"),
    "woocommerce-order-updated.json": ("31877", "248.70", "PLN", "paid"),
    "woocommerce-order-cod.json": ("31877", "248.70", "PLN", "pending"),
    "woocommerce-order-partial-refund.json": ("31877", "150.30", "PLN", "partially_refunded"),
    "stripe-checkout-session-completed.json": ("A-5007", "4800", "JPY", "paid"),
    "stripe-charge-refunded.json": ("A-5007", "3600", "JPY", "partially_refunded"),
    "stripe-invoice-paid-renewal.json": ("in_1SyntheticInvoice", "29.00", "USD", "paid"),
    "paddle-transaction-completed.json": ("P-301", "59.50", "USD", "paid"),
}


@pytest.mark.parametrize("one", ALL, ids=lambda one: one.file or one.preset)
def test_10_1_every_example_and_both_vectors_hold_and_nothing_beside_them(one: Signed) -> None:
    assert one.holds(one.raw, one.headers)
    for at in range(0, len(one.raw), max(1, len(one.raw) // 40)):
        assert not one.holds(one.raw[:at] + bytes([one.raw[at] ^ 1]) + one.raw[at + 1 :], one.headers), at
    assert not one.holds(one.raw + b" ", one.headers)
    assert not one.holds(one.raw[:-1], one.headers)
    (name,) = [name for name in one.headers if name.lower().endswith(("signature", "sha256"))]
    proof = one.headers[name]
    for at in range(len(proof) - 44, len(proof), 4):
        other = "B" if proof[at] != "B" else "C"
        assert not one.holds(one.raw, one.headers | {name: proof[:at] + other + proof[at + 1 :]}), at
    secret = "whsec_" + "A" * 32 if one.preset == "standard_webhooks" else "another"
    assert not one.holds(one.raw, one.headers, one.hook(secret))


def test_10_1_control_with_the_comparison_off_a_changed_byte_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hmac.compare_digest", lambda *_: True)
    with pytest.raises(AssertionError):
        test_10_1_every_example_and_both_vectors_hold_and_nothing_beside_them(ALL[0])


@pytest.mark.parametrize("one", [one for one in ALL if one.file in TOLD], ids=lambda one: one.file)
def test_each_example_is_the_order_that_it_tells(one: Signed) -> None:
    told = one.read().outcome
    assert isinstance(told, ShopOrder)
    body = told.body
    assert (body.order_id, str(body.event_value), body.currency, body.order_status) == TOLD[one.file]
    assert told.left_out == ()


def test_P1_the_example_of_an_erasure_names_the_customer_and_his_order() -> None:
    (one,) = [one for one in ALL if one.file == "shopify-customers-redact.json"]
    told = one.read().outcome
    assert isinstance(told, Request)
    assert (told.kind, told.external_id, told.orders) == ("redact", "7788990011223", ("6120034455821",))


def test_L6_the_example_of_the_pull_is_the_webhooks_order() -> None:
    """It has a line and some attributes less."""
    (one,) = [one for one in ALL if one.file == "shopify-orders-paid.json"]
    page = msgspec.json.decode((EXAMPLES / "shopify-graphql-orders.json").read_bytes())
    hook = shops.pulled(StoreConfig(id="s"), "shopify_pull")
    nodes = [msgspec.json.encode(node) for node in page["data"]["orders"]["nodes"]]
    pulled, told = order.read(hook.platform, hook.terms, "s", {}, nodes[0]).outcome, one.read().outcome
    assert isinstance(told, ShopOrder)
    assert isinstance(pulled, ShopOrder)
    for name in ("order_id", "event_value", "currency", "customer_data", "fbp", "fbclid", "ip_address", "timestamp"):
        assert getattr(pulled.body, name) == getattr(told.body, name), name
    assert pulled.names == told.names
    assert pulled.body.products == told.body.products[:1]
