"""A shop's webhooks at the pace of a sale's first minutes, clicks beside them, and one order of 1,500 lines."""

from __future__ import annotations

import hashlib
import hmac
import time
from base64 import b64encode
from collections.abc import Iterator
from itertools import count
from statistics import median
from typing import Any, Final

import msgspec
from msgspec import Struct

from collector.bench import paced, people
from collector.bench.children import Child, apart, children_seconds, cpu_seconds, tree_seconds
from collector.bench.paced import Load, Paced
from collector.bench.servers import SHOP_SECRET, Address
from collector.core import times
from collector.errors import CollectorError

PER_SECOND: Final = 2_000
CLICKS_PER_SECOND: Final = 200  # beside them: enough for a p99 within seconds
TOPICS: Final = ("orders/create", "orders/paid", "orders/updated")  # what one sale has Shopify send
_LARGE_LINES: Final = 1_500
_LARGE_BYTES: Final = 2_300_000
_encode: Final = msgspec.json.Encoder().encode
_numbers: Final = count(1)


class Hooked(Struct, frozen=True):
    """Webhooks at a pace, and what each costs of a processor (µs); clicks alone and beside them; a large order."""

    asked: int
    size: int  # bytes of a body
    webhooks: Paced
    loop_us: float
    others_us: float
    keeper_us: float
    alone: Paced
    beside: Paced
    p99_ratio: float  # of the clicks, the median over rounds
    large_bytes: int
    large_ms: float
    large_cpu_ms: float  # of the edge and its keeper: other work on the machine does not change it


def order(n: int, topic: str, at: str) -> dict[str, Any]:
    """An order as Shopify tells it, about 4 KB."""
    address = {
        "first_name": "Mara",
        "last_name": f"Lindqvist{n}",
        "address1": "Aachener Straße 12",
        "city": "Köln",
        "zip": "50674",
        "province_code": None,
        "country_code": "DE",
        "phone": f"0221 5{n % 1_000_000:06d}",
    }
    money = {"shop_money": {"amount": "118.90", "currency_code": "EUR"}, "presentment_money": None}
    return {
        "id": 6_000_000_000_000 + n,
        "admin_graphql_api_id": f"gid://shopify/Order/{6_000_000_000_000 + n}",
        "name": f"#{1000 + n}",
        "order_number": 1000 + n,
        "source_name": "web",
        "test": False,
        "created_at": at,
        "processed_at": at,
        "updated_at": at,
        "cancelled_at": None,
        "financial_status": "pending" if topic == TOPICS[0] else "paid",
        "fulfillment_status": None if topic != TOPICS[2] else "fulfilled",
        "currency": "EUR",
        "total_price": "118.90",
        "total_price_set": money,
        "current_total_price": "118.90",
        "current_total_price_set": money,
        "email": f"mara.{n}@example.com",
        "contact_email": f"mara.{n}@example.com",
        "phone": None,
        "buyer_accepts_marketing": True,
        "browser_ip": people.address(n),
        "client_details": {"browser_ip": people.address(n), "user_agent": people.agent(n), "session_hash": None},
        "landing_site": f"/p/{n % 997}?utm_source=facebook&utm_campaign=c{n % 31}&fbclid={people.fbclid(n)}",
        "referring_site": "https://m.facebook.com/",
        "note_attributes": [{"name": "_fbp", "value": f"fb.1.1700000000000.{n:010d}"}, {"name": "gift", "value": "no"}],
        "note": "Please ring twice. " * 15,
        "tags": "",
        "customer": {"id": 7_000_000 + n, "email": f"mara.{n}@example.com", "default_address": address},
        "billing_address": address,
        "shipping_address": address,
        "line_items": [line(number, money) for number in range(4)],
        "refunds": [],
    }


def line(number: int, money: Any) -> dict[str, Any]:
    return {
        "id": 8_000_000 + number,
        "variant_id": 4411 + number,
        "product_id": 83,
        "sku": f"SCARF-{number}",
        "title": "Woven scarf, midnight blue",
        "variant_title": "One size",
        "vendor": "Example",
        "price": "59.45",
        "price_set": money,
        "quantity": 1,
        "current_quantity": 1,
        "gift_card": False,
        "properties": [],
        "tax_lines": [{"title": "VAT", "rate": 0.19, "price": "9.49", "price_set": money}],
    }


def request(n: int, topic: str, body: bytes) -> bytes:
    """The webhook as it goes on the wire."""
    proof = b64encode(hmac.new(SHOP_SECRET.encode(), body, hashlib.sha256).digest()).decode()
    head = (
        f"POST /v1/webhooks/shopify/{people.STORE} HTTP/1.1\r\nHost: bench.test\r\nContent-Type: application/json\r\n"
        f"X-Shopify-Topic: {topic}\r\nX-Shopify-Webhook-Id: {n}-{topic}\r\nX-Shopify-Hmac-Sha256: {proof}\r\n"
        f"User-Agent: Shopify-Captain-Hook\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def _now() -> str:
    return times.text(time.time_ns() // 1_000_000)


def _webhooks(count: int) -> list[bytes]:
    """Each order is told three times, as a sale is."""
    at = _now()
    made: list[bytes] = []
    while len(made) < count:
        n = next(_numbers)
        made += [request(n, topic, _encode(order(n, topic, at))) for topic in TOPICS]
    return made[:count]


def _clicks(count: int, key: str) -> Iterator[bytes]:
    for _ in range(count):
        body = _encode(people.click(next(_numbers)))
        head = (
            f"POST /v1/track/click HTTP/1.1\r\nHost: bench.test\r\nAuthorization: Bearer {key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        yield head.encode() + body


def measure(edge: Child, rounds: int, seconds: float) -> Hooked:
    """Clicks alone and beside webhooks, in turn."""
    address: Address = edge.said
    runs = []
    _loaded(edge, address, seconds / 2, hooked=True)  # warm
    for _ in range(rounds):
        (alone,), _ = _loaded(edge, address, seconds, hooked=False)
        (beside, hooks), spent = _loaded(edge, address, seconds, hooked=True)
        runs.append((alone, beside, hooks, spent))
    alone, beside, hooks, spent = sorted(runs, key=lambda run: run[2].rate)[len(runs) // 2]
    large = request(0, TOPICS[0], _large())
    ones = [_one(edge) for _ in range(2 * rounds + 1)]
    return Hooked(
        asked=PER_SECOND,
        size=len(_encode(order(1, TOPICS[0], _now()))),
        webhooks=hooks,
        loop_us=spent[0],
        others_us=spent[1],
        keeper_us=spent[2],
        alone=alone,
        beside=beside,
        p99_ratio=median(run[1].p99_ms / run[0].p99_ms for run in runs),
        large_bytes=len(large),
        large_ms=median(took for took, _ in ones),
        large_cpu_ms=median(spent for _, spent in ones),
    )


def _loaded(edge: Child, address: Address, seconds: float, *, hooked: bool) -> tuple[list[Paced], list[float]]:
    """What came of it, and µs of the loop, of other threads and of the keeper for each webhook."""
    clicks = Load(list(_clicks(round(CLICKS_PER_SECOND * seconds), address.key)), CLICKS_PER_SECOND)
    hooks = [Load(_webhooks(round(PER_SECOND * seconds)), PER_SECOND)] if hooked else []
    before, kept = cpu_seconds(edge.pid), children_seconds(edge.pid)
    done = apart(paced.run, address.port, seconds, [clicks, *hooks])
    after = cpu_seconds(edge.pid)
    share = 1e6 / max(1, sum(len(load.requests) for load in hooks))
    spent = [share * (b - a) for a, b in zip([*before, *[0.0] * len(after)], after, strict=False)]
    kept = children_seconds(edge.pid) - kept
    return done, [spent[0] if spent else 0.0, sum(spent[1:]), share * kept]


def _large() -> bytes:
    """An order of 1,500 lines, as large as Shopify makes it."""
    n = next(_numbers)
    whole = order(n, TOPICS[0], _now())
    whole["line_items"] = [line(number, whole["total_price_set"]) for number in range(_LARGE_LINES)]
    whole["note"] = ""
    whole["note"] = "." * max(0, _LARGE_BYTES - len(_encode(whole)))
    return _encode(whole)


def _one(edge: Child) -> tuple[float, float]:
    """Milliseconds until a large order is answered, and of processor time that it takes."""
    body = _large()
    before = tree_seconds(edge.pid)
    (done,) = apart(paced.run, edge.said.port, 1.0, [Load([request(next(_numbers), TOPICS[0], body)], 1.0)])
    spent = tree_seconds(edge.pid) - before
    if done.failed:
        raise CollectorError("an order of 1,500 lines was refused")
    return float(done.p50_ms), 1000 * spent
