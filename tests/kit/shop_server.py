"""A shop that does not exist, on a real socket: its orders, its webhooks that get lost, repeated and swapped, its API.

The API pages, throttles and fails as the real ones do (Shopify's GraphQL, WooCommerce's REST), as `faults` says.
"""

from __future__ import annotations

import json
import random
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from collector.core import times

Fault = tuple[int, dict[str, str], bytes]  # status, headers, body
CLIENT = ("client-1", "hush-client")
TOKEN_S = 3600


def graph_order(number: int, at: int, changed: int, **changes: Any) -> dict[str, Any]:
    """A Shopify order in the shape of the GraphQL API; times in ms."""
    money = {"shopMoney": {"amount": "118.9", "currencyCode": "EUR"}}
    return {
        "id": f"gid://shopify/Order/{number}",
        "name": f"#{number % 100_000}",
        "createdAt": times.text(at),
        "processedAt": times.text(at),
        "updatedAt": times.text(changed),
        "cancelledAt": None,
        "test": False,
        "sourceName": "web",
        "displayFinancialStatus": "PAID",
        "email": f"buyer{number}@example.com",
        "phone": None,
        "clientIp": "203.0.113.57",
        "customAttributes": [],
        "currentTotalPriceSet": money,
        "customer": {"id": f"gid://shopify/Customer/{number}"},
        "billingAddress": {"firstName": "Mara", "lastName": "Lindqvist", "countryCodeV2": "DE"},
        "lineItems": {"nodes": []},
    } | changes


class ShopServer:
    """The shop's state; `faults` are answered in place of what is asked, one each, the first first."""

    def __init__(self, page: int = 50) -> None:
        self.orders: dict[str, dict[str, Any]] = {}
        self.faults: deque[Fault | Callable[[dict[str, Any]], Fault]] = deque()
        self.page = page
        self.asked: list[str] = []
        self.tokens = 0
        self.token_works = True
        self.sorts_by_change = True
        self.url = ""
        self.lock = threading.Lock()

    def shopify(self, asked: dict[str, Any], token: str) -> Fault:
        """Shopify's GraphQL: orders by the time of their change."""
        if not self.token_works or token != f"token-{self.tokens}":
            return 401, {}, b'{"errors": "[API] Invalid API key or access token"}'
        query, after = asked["variables"]["q"], asked["variables"].get("after")
        since, until = (part.split("'")[1] for part in query.split(" "))
        found = [o for o in self.orders.values() if since <= o["updatedAt"] < until]
        found.sort(key=lambda o: (o["updatedAt"], o["id"]))
        begin = int(after or 0)
        nodes, more = found[begin : begin + self.page], begin + self.page < len(found)
        info = {"hasNextPage": more, "endCursor": str(begin + self.page)}
        return 200, {}, json.dumps({"data": {"orders": {"nodes": nodes, "pageInfo": info}}}).encode()

    def woocommerce(self, query: dict[str, list[str]]) -> Fault:
        """WooCommerce's REST v3."""
        if query["orderby"][0] == "modified" and not self.sorts_by_change:
            return 400, {}, b'{"code": "rest_invalid_param"}'
        found = [o for o in self.orders.values() if o["date_modified_gmt"] > query["modified_after"][0]]
        found.sort(key=lambda o: (o["date_modified_gmt"], o["id"]))
        size, number = int(query["per_page"][0]), int(query["page"][0])
        return 200, {}, json.dumps(found[(number - 1) * size : number * size]).encode()

    def stripe(self, query: dict[str, list[str]]) -> Fault:
        """Stripe's events, the newest first."""
        since, until = int(query["created[gte]"][0]), int(query["created[lt]"][0])
        found = [o for o in self.orders.values() if since <= o["created"] < until]
        found.sort(key=lambda o: (-o["created"], o["id"]))
        after = query.get("starting_after", [""])[0]
        begin = next((n + 1 for n, o in enumerate(found) if o["id"] == after), 0)
        page = found[begin : begin + self.page]
        return 200, {}, json.dumps({"data": page, "has_more": begin + self.page < len(found)}).encode()

    def answer(self, method: str, target: str, headers: Any, body: bytes) -> Fault:
        """What the shop answers."""
        with self.lock:
            path, query = urlsplit(target).path, parse_qs(urlsplit(target).query)
            self.asked.append(path)
            if self.faults and path != "/admin/oauth/access_token":
                fault = self.faults.popleft()
                return fault if isinstance(fault, tuple) else fault(json.loads(body or b"{}"))
            if path == "/admin/oauth/access_token":
                form = parse_qs(body.decode())
                if (form["client_id"][0], form["client_secret"][0]) != CLIENT or not self.token_works:
                    return 401, {}, b"{}"
                self.tokens += 1
                told = {"access_token": f"token-{self.tokens}", "scope": "read_orders", "expires_in": TOKEN_S}
                return 200, {}, json.dumps(told).encode()
            if path.endswith("/graphql.json"):
                return self.shopify(json.loads(body), headers["X-Shopify-Access-Token"])
            if path == "/v1/events":
                return self.stripe(query)
            return self.woocommerce(query)


THROTTLED: Fault = (
    200,
    {},
    json.dumps(
        {
            "errors": [{"message": "Throttled", "extensions": {"code": "THROTTLED"}}],
            "extensions": {
                "cost": {
                    "requestedQueryCost": 62,
                    "throttleStatus": {"maximumAvailable": 2000.0, "currentlyAvailable": 12, "restoreRate": 1000.0},
                }
            },
        }
    ).encode(),
)
HALF: Fault = (200, {}, b'{"data": {"orders": {"nodes": [{"id": "gid://')


@contextmanager
def serving(shop: ShopServer) -> Iterator[ShopServer]:
    """The shop on a socket of its own."""

    class Handler(BaseHTTPRequestHandler):
        def _take(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, headers, answer = shop.answer(self.command, self.path, self.headers, body)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_GET = do_POST = _take  # noqa: N815

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    shop.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield shop
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def unreliable(messages: list[Any], dice: random.Random, *, lost: float, doubled: float, swapped: float) -> list[Any]:
    """Webhooks as they arrive: some lost, some twice, some before an earlier one."""
    kept = [m for m in messages if dice.random() >= lost]
    kept = [m for one in kept for m in ([one, one] if dice.random() < doubled else [one])]
    for n in range(len(kept) - 1):
        if dice.random() < swapped:
            other = min(n + dice.randrange(1, 20), len(kept) - 1)
            kept[n], kept[other] = kept[other], kept[n]
    return kept
