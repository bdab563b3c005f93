# ruff: noqa: E501 (cases are read as one line each)
"""M3, R3, R7 at every field of every platform, over the socket: whatever stands there is an order, or has a reason."""

from __future__ import annotations

import gzip
import json
import os
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from collector.config import ShopConfig, WebhookConfig
from tests.edge.test_webhooks import SHOP_STORE
from tests.kit import shops as made
from tests.kit.edge_process import Edge, running
from tests.kit.program import below
from tests.kit.raw_http import Answer, exchange
from tests.kit.shops import OWN, STORE, Message
from tests.shops.test_shop_mapping import places, put

# With every converter, and a template.
PLAIN = WebhookConfig(
    name="plain",
    secret=OWN,
    signature={"header": "X-Plain", "signed": "{body}"},
    topic="$.type",
    order="$.data",
    topics={"paid": "paid", "gave_back": "refund:"},
    fields={
        "orderId": "id",
        "statusAt": "$.at",
        "eventValue": "total",
        "currency": "currency",
        "email": "buyer.email",
        "timestamp": "t | naive_utc",
        "eventSourceUrl": "u | url",
        "fbclid": "u | query:fbclid",
        "city": "j | json:a.b",
        "externalId": "g | gid",
        "renewal": "r",
        "refunded": "back[*] | abs | sum",
        "refundId": "id",
        "refundAmount": "total",
        "products": {"each": "lines[*]", "productId": "{a}_{b}", "price": "p", "quantity": "q", "name": "n | unescape"},
    },
    marks="meta[key={}].value",
)
ORDER = {
    "id": "S-1",
    "total": "12.50",
    "currency": "EUR",
    "buyer": {"email": "a@b.example"},
    "t": "2026-11-22T11:20:18",
    "u": f"/p?fbclid={made.FBCLID}",
    "j": '{"a": {"b": "Köln"}}',
    "g": "gid://x/Customer/5",
    "r": None,
    "back": ["-1.00"],
    "lines": [{"a": "x", "b": 2, "p": "1.0", "q": 1, "n": "A &amp; B"}],
    "meta": [{"key": "_fbp", "value": made.FBP}, {"key": "_consent", "value": "granted"}],
}
SHOP = structs.replace(STORE, webhook=[*STORE.webhook, PLAIN], shop=ShopConfig(refund_event="Refund"))
RAW = [
    *["null", "true", "0", "-0.0", "1.5", "1e400", "-1e400", "1E999999999", "9" * 400, "9" * 5000, "0." + "1" * 300, "NaN", "18446744073709551616", "-9223372036854775809"],
    *['""', '" "', '"\\u0000"', '"a\\u0000b"', '"\\ud800"', '"' + "x" * 70_000 + '"', '"' + "9" * 600 + '"', '"1e999"', '"NaN"', '"Infinity"', '"-5"', '"0x10"', '"1_000"', '"\\u0661\\u0662"'],
    *["[]", "{}", "[[]]", "[{}]", "[null]", '{"a": 1}', "[" * 500 + "]" * 500, '{"a":' * 500 + "1" + "}" * 500],
    *['"2026-13-45T99:99:99Z"', '"0000-00-00T00:00:00"', '"9999-12-31T23:59:59.999999999Z"', '"0001-01-01T00:00:00+23:59"', "99999999999999"],
    *['"https://%00%ff/ @:[::1"', '"http://[::1"', '"javascript:alert(1)"', '"//"', '"%ZZ%"', '"&#x110000;&#0;&#xD800;"', '"{\\"a\\":"', '"fb.1.99999999999999999999.1"', '"\\u202e\\u200b\\ufeff"'],
]  # fmt: skip


def plain(kind: str) -> Message:
    return made.Message("plain", {}, json.dumps({"type": kind, "at": "2026-11-22T11:20:18Z", "data": ORDER}).encode())


def all_messages() -> list[Message]:
    """One of each platform and kind."""
    customer = {"id": 5, "email": "q@w.example", "phone": "+4922155501"}
    adjusted = {
        "id": "adj_1",
        "transaction_id": "txn_1",
        "action": "refund",
        "status": "approved",
        "totals": {"total": "100"},
    }
    charge = {"amount": 10, "amount_refunded": 5, "refunds": {"data": [{"id": "re_1", "amount": 5, "created": 1}]}}
    refund = {
        "id": 9,
        "created_at": "2026-11-20T10:14:31+01:00",
        "transactions": [{"kind": "refund", "amount": "3.00", "currency": "EUR"}],
    }
    return [
        made.shopify("orders/updated", refunds=[refund], financial_status="partially_refunded"),
        made.shopify("orders/delete"),
        made.signed("shopify", {"customer": customer, "orders_to_redact": [1, 2]}, {"X-Shopify-Topic": "customers/redact"}),
        made.woocommerce(refunds=[{"id": 4, "total": "-3.00"}]),
        made.stripe(),
        made.stripe("charge.refunded", **charge),
        made.stripe("invoice.paid", amount_paid=5, billing_reason="subscription_cycle"),
        made.paddle(),
        made.paddle("adjustment.updated", **adjusted),
        made.kiosk(),
        plain("paid"),
        plain("gave_back"),
    ]  # fmt: skip


def again(message: Message, raw: bytes, **headers: str) -> bytes:
    """The request with this body, signed anew."""
    kept = {name: value for name, value in message.headers.items() if "Hmac" not in name and "ignature" not in name}
    if message.name == "plain":
        proof = {"X-Plain": made.digest(OWN, raw).hex()}
    else:
        proof = made.signature(message.name, raw, int(time.time()), kept)
    lines = [f"POST /v1/webhooks/{message.name}/{SHOP_STORE} HTTP/1.1", "Host: t", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in (kept | proof | headers).items()]
    return "\r\n".join([*lines, f"Content-Length: {len(raw)}"]).encode("latin-1") + b"\r\n\r\n" + raw


def bodies(message: Message, step: int) -> Iterator[bytes]:
    """With every value at each place (every `step`th of them), keys that come twice, and other ways to write it."""
    tree, mark = json.loads(message.body), "\x01here\x01"
    number = 0
    for nth, place in enumerate(places(tree)):
        text = json.dumps(put(tree, place, mark))
        for raw in RAW:
            number += 1
            if (number + nth) % step == 0:
                yield text.replace(json.dumps(mark), raw).encode()
        if place and isinstance(place[-1], str):
            key = json.dumps(place[-1])
            yield message.body.replace(f"{key}:".encode(), f"{key}: {RAW[number % len(RAW)]}, {key}:".encode(), 1)
    for coding in ("utf-16", "utf-32", "latin-1", "cp1251", "utf-8-sig", "utf-7"):
        yield message.body.decode().encode(coding, "replace")
    yield from (gzip.compress(message.body), zlib.compress(message.body), message.body[:-1], message.body * 2)
    yield from (b"\xff" * 1_000, b"[" * 100_000, b'{"a":' * 100_000, b" " * 300_000, message.body + b" " * 300_000)


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    with running(tmp_path_factory.mktemp("fields"), stores=[SHOP]) as edge:
        yield edge


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(all_messages())))
def test_M3_R3_whatever_stands_at_a_field_the_answer_is_200(edge: Edge, number: int) -> None:
    message, pids = all_messages()[number], below(edge.pid)
    for raw in bodies(message, int(os.environ.get("FIELD_STEP", "29"))):
        answer = exchange(edge.port, again(message, raw), 20.0)
        assert answer.status == 200, (message.name, raw[:300], answer.data[:300])
    assert below(edge.pid) == pids
    assert "crashed" not in edge.log.read_text()


@pytest.mark.slow
def test_M3_control_a_field_that_breaks_its_reader_is_seen(tmp_path: Path) -> None:
    crash = "from collector.core.shops import order as o; R = o.read; o.read = lambda *a: R(*a) if b'13-45' not in a[4] else 1 // 0"
    with running(tmp_path, crash, stores=[SHOP]) as edge, pytest.raises(AssertionError):
        test_M3_R3_whatever_stands_at_a_field_the_answer_is_200(edge, 0)


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "x", "gzip, identity"])
def test_R7_a_coding_is_415_whatever_is_in_it(edge: Edge, coding: str) -> None:
    def ask(raw: bytes) -> Answer:
        return exchange(edge.port, again(made.shopify(), raw, **{"Content-Encoding": coding}), 10.0)

    for raw in (gzip.compress(b"{}"), b"", made.shopify().body):
        assert ask(raw).status == 415


def told(answer: Answer) -> Any:
    return answer.body["data"]


@pytest.mark.parametrize("charset", ["utf-8", "utf-16", "latin-1", "none-such", '"', ""])
def test_R1_a_charset_that_the_head_names_changes_nothing(edge: Edge, charset: str) -> None:
    asked = again(made.shopify(), made.shopify().body, **{"Content-Type": f"application/json; charset={charset}"})
    assert "conversionId" in told(exchange(edge.port, asked, 10.0))
