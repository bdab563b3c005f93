"""A stranger with a page, a forged Origin and the key that every page shows does his worst, beside a shop's real day.

He knows the numbers of real orders, also of those to come, and the e-mails of real people, and tells whatever he likes:
orders, refusals, who somebody is, clicks. Afterwards every order that the shop's server told is stored, right in value
and state, attributed as on the same day without him, and queued for Meta once.

COLLECTOR_STRANGER_SECONDS: how long the long form goes on, at 95 of his requests a second (45; 600 are ten minutes).
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from statistics import median
from typing import Any, NamedTuple
from urllib.parse import urlencode

import msgspec
import pytest

from collector.core import flags
from collector.core.capi.event_id import derive
from collector.core.events import StoredEvent
from collector.core.intake import Caller
from collector.core.orders import Rank
from tests.journal.test_tellers import SAFARI
from tests.kit.edge_process import Edge, running

LONG_SECONDS = float(os.environ.get("COLLECTOR_STRANGER_SECONDS", "45"))
PER_SECOND = 95
STORE = "store_abc123"
LIVES = ("paid", "pending paid", "pending cancelled", "pending cancelled completed")
MOST_CLAIMED = 75
UNPROVEN = (None, "probabilistic")
DOUBT = 2  # points of confidence that others at the same addresses may cost an order, but never its click or method
STATES = {"paid": "paid", "pending": "pending", "cancelled": "cancelled", "completed": "paid"}
NAMES = ("Purchase", "purchase", "Lead", "AddToCart", "PageView", "InitiateCheckout")


class Customer(NamedTuple):
    """Somebody who buys once, and how the shop's server knows him."""

    number: int

    @property
    def order(self) -> str:
        return f"S-{1000 + self.number}"

    @property
    def email(self) -> str:
        return f"person{self.number}@example.com"

    @property
    def visitor(self) -> str:
        return f"visitor-{self.number:08}"

    @property
    def address(self) -> str:
        return f"81.2.{self.number // 200}.{1 + self.number % 200}"

    @property
    def fbclid(self) -> str:
        return f"IwAR{self.number:024}"


class Stored(NamedTuple):
    """What is to be right of an order."""

    value: str
    status: str | None
    visitor: str | None
    fbclid: str | None
    confidence: int | None
    method: str | None
    deliveries: tuple[int, ...]
    people: tuple[str, ...]


class Shop:
    """A day of honest traffic over HTTP, always the same."""

    def __init__(self, edge: Edge, customers: int) -> None:
        self.edge = edge
        self.customers = [Customer(n) for n in range(customers)]
        self.clicks: dict[str, str] = {}

    def day(self) -> Iterator[Customer]:
        """Each customer's click, order and what becomes of it; yields between them."""
        for one in self.customers:
            self._server("click", self._click(one))
            yield one
            if one.number % 3 == 0:  # the page tells of the order as well, mostly first
                self.page(one.address, self._told_by_page(one))
            yield one
            for status in self.statuses(one):
                key = {"Idempotency-Key": f"{one.order}-{status}"} if one.number % 2 else {}
                self._server("conversion", self._order(one, status), key)
                yield one

    def statuses(self, one: Customer) -> list[str]:
        return [["paid"], ["pending", "paid"], ["pending", "cancelled"], ["pending", "cancelled", "completed"]][
            one.number % 4
        ]

    def value(self, one: Customer) -> float:
        return 20 + one.number + 0.5

    def _click(self, one: Customer) -> dict[str, Any]:
        known = {"visitorId": one.visitor} if one.number % 5 else {}
        page = "https://shop.example/?utm_source=facebook"
        return {"fbclid": one.fbclid, "landingPage": page, "ipAddress": one.address, "userAgent": SAFARI, **known}

    def _order(self, one: Customer, status: str) -> dict[str, Any]:
        proof = ({"visitorId": one.visitor}, {"fbclid": one.fbclid}, {"visitorId": one.visitor}, {})[one.number % 4]
        amount = {"eventType": "Purchase", "eventValue": self.value(one), "currency": "USD", "orderStatus": status}
        who = {"customerData": {"email": one.email}, "ipAddress": one.address, "userAgent": SAFARI}
        return {"orderId": one.order, **amount, **who, **proof}

    def _told_by_page(self, one: Customer) -> dict[str, Any]:
        amount = {"eventType": "Purchase", "eventValue": self.value(one), "currency": "USD"}
        return {"orderId": one.order, **amount, "visitorId": one.visitor, "customerData": {"email": one.email}}

    def _server(self, verb: str, body: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        answer = self.edge.post(f"/v1/track/{verb}", {"storeId": STORE} | body, headers=headers)
        assert answer.status == 200, answer.data
        assert b"idempotent-replayed" not in answer.data.lower(), "nobody has used its key"

    def page(self, address: str, body: dict[str, Any]) -> Any:
        headers = {"Origin": "https://shop.example", "User-Agent": SAFARI, "X-Forwarded-For": address}
        return self.edge.post("/v1/track/event", {"storeId": STORE} | body, "page", headers)

    def order(self, one: Customer, number: str) -> None:
        """One more paid order of a customer, told by the server."""
        self._server("conversion", self._order(one, "paid") | {"orderId": number})

    def orders(self, database: Path) -> dict[str, Stored]:
        """Every order that the server told, as it is stored now."""
        with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as db:
            clicks = {i: msgspec.msgpack.decode(body)[0] for i, body in db.execute("SELECT id, body FROM click")}
            asked = "SELECT id, flags, click, confidence, method, body FROM conversion WHERE event_type = 'Purchase'"
            rows = db.execute(asked).fetchall()
            found = {}
            for row_id, marks, click, confidence, method, body in rows:
                event = msgspec.msgpack.decode(body, type=StoredEvent)
                if event.rank == Rank.PAGE or marks & flags.UNCONFIRMED:
                    continue
                assert event.order_id not in found, "one order, one row"
                states = db.execute("SELECT state FROM outbox WHERE conversion = ? ORDER BY id", (row_id,))
                found[event.order_id or ""] = Stored(
                    str(event.value),
                    event.order_status,
                    event.visitor_id,
                    clicks.get(click),
                    confidence,
                    method,
                    tuple(state for (state,) in states),
                    tuple(event.user_data.get("em", ())),
                )
        return found


class Stranger:
    """One who knows the numbers and the people; every request is another address and another lie."""

    def __init__(self, shop: Shop, seed: int) -> None:
        self._shop = shop
        self._dice = Random(seed)
        self.asked = 0
        self.answers: dict[int, int] = {}

    def strike(self) -> None:
        dice = self._dice
        doors = [
            self._order,
            self._order,
            self._beacon,
            self._click,
            self._twin,
            self._pixel,
            self._closed,
            self._named,
        ]
        answer = dice.choice(doors)(dice.choice(self._shop.customers))
        self.asked += 1
        self.answers[answer.status] = self.answers.get(answer.status, 0) + 1

    def claim(self) -> None:
        """One beacon that says that its visitor is somebody of the shop's customers."""
        assert self._beacon(self._dice.choice(self._shop.customers)).status < 500
        self.asked += 1

    def _address(self) -> str:
        return f"45.{self._dice.randint(80, 90)}.{self._dice.randint(1, 250)}.{self._dice.randint(1, 250)}"

    def _any(self, *values: Any) -> Any:
        return self._dice.choice(values)

    def _lies(self, one: Customer) -> dict[str, Any]:
        other = self._dice.choice(self._shop.customers)
        told = {
            "eventValue": self._any(0.01, 0, 1e9, 3, -1, "x"),
            "currency": self._any("USD", "EUR", "JPY", "?"),
            "orderStatus": self._any("cancelled", "refunded", "paid", "pending", "failed", "!"),
            "statusAt": self._any("2099-01-01T00:00:00Z", "2020-01-01T00:00:00Z", "?"),
            "consent": self._any({"marketing": "denied"}, {"marketing": "granted"}, []),
            "visitorId": self._any("stranger-0001", f"stranger-{self._dice.randint(0, 999):04}", ""),
            "fbp": self._any("fb.1.1789000000000.66666", "?"),
            "fbclid": self._any("IwARstranger0000000000001", "?"),
            "clickId": self._any("click_" + "0" * 32, "?"),
            "customerData": {"email": self._any(one.email, other.email, "me@stranger.example")},
            "ipAddress": one.address,
            "eventId": self._any(one.order, other.order, "x"),
            "renewalOf": other.order,
            "test": self._any(True, "yes"),
            "timestamp": self._any("2026-01-01T00:00:00Z", "?"),
            "userAgent": self._any(SAFARI, "curl/8", ""),
        }
        return {name: value for name, value in told.items() if self._dice.random() < 0.5}

    def _order(self, one: Customer) -> Any:
        body = {"eventType": self._any(*NAMES), "orderId": self._any(one.order, f" {one.order} ")}
        honest = {"eventValue": self._any(0.01, 5000), "currency": "USD"}
        return self._shop.page(self._address(), honest | self._lies(one) | body)

    def _twin(self, one: Customer) -> Any:
        """An order number that looks like a real one, and ids by which orders and events are known to us."""
        near = self._any(
            "\u200b{}", "{}\ufeff", "{} ", "{}\u0301", "\uff33-{}", "{}\u0000", "{}\\u0000v", "o{}", "e{}"
        ).format
        event = self._any("Purchase", "purchase\u200b", "PURCHASE", "Lead", "Subscribe")
        derived = derive(STORE, "Purchase", one.order)
        body = {
            "eventType": event,
            "orderId": near(one.order),
            "eventId": self._any(derived, f"o{one.order}", one.order),
        }
        return self._shop.page(self._address(), {"eventValue": 0.01, "currency": "USD"} | self._lies(one) | body)

    def _pixel(self, one: Customer) -> Any:
        said = {"s": STORE, "t": "Purchase", "order_id": one.order, "value": "0.01", "currency": "USD", "c": "denied"}
        some = {name: value for name, value in said.items() if name == "s" or self._dice.random() < 0.8}
        headers = {"Referer": "https://shop.example/", "User-Agent": SAFARI, "X-Forwarded-For": self._address()}
        return self._shop.edge.get(f"/c.gif?{urlencode(some)}", None, headers)

    def _closed(self, one: Customer) -> Any:
        """Doors that are none of a page's."""
        told = {"storeId": STORE, "eventType": "Purchase", "orderId": one.order, "eventValue": 1, "currency": "USD"}
        batch = [{"type": "conversion", **told}, {"type": "event", **told, "orderStatus": "cancelled"}]
        headers = {"Origin": "https://shop.example", "User-Agent": SAFARI, "X-Forwarded-For": one.address}
        signed = {
            "X-Shopify-Topic": "orders/cancelled",
            "X-Shopify-Hmac-Sha256": "AAAA",
            "X-WC-Webhook-Signature": "AAAA",
        }
        path, body, key, more = self._any(
            ("/v1/track/batch", batch, "page", {}),
            ("/v1/track/batch", batch, None, {}),
            (f"/v1/webhooks/shopify/{STORE}", {"id": one.order, **told}, None, signed),
            (f"/v1/webhooks/woocommerce/{STORE}", {"id": one.order, **told}, "page", signed),
            ("/v1/track/conversion", told, "sk_" + "0" * 40, {}),
            ("/v1/track/conversion", told | {"storeId": "store_other"}, "page", {}),
            ("/v1/track/conversion?key=page", told, None, {"X-HTTP-Method-Override": "DELETE"}),
        )
        for found in (f"/v1/conversions/conv_{'0' * 32}", f"/v1/clicks/click_{'0' * 32}"):
            assert self._shop.edge.get(found, "page").status == 403
        answer = self._shop.edge.post(path, body, key, headers | more)
        assert answer.status >= 400, (path, answer.data)
        return answer

    def _named(self, one: Customer) -> Any:
        """The server's own Idempotency-Key, and words that no body has."""
        key = f"{one.order}-{self._any('paid', 'pending', 'cancelled', 'completed')}"
        headers = {
            "Origin": "https://shop.example",
            "User-Agent": SAFARI,
            "X-Forwarded-For": self._any(self._address(), "1.1.1.9"),
        }
        body = {"storeId": STORE, "eventType": "Purchase", "orderId": one.order, "eventValue": 0.02, "currency": "USD"}
        believed = {"rank": 2, "secret": True, "shop": True, "unconfirmed": False, "noteOf": 1, "told": [], "k": "sk_1"}
        path = self._any("/v1/track/conversion", "/v1/track/event", "/c")
        told = self._shop.edge.post(path, body | believed, "page", headers | {"Idempotency-Key": key})
        assert told.status != 200 or not {"attributed", "attributedTo", "duplicate"} & told.body["data"].keys()
        return told

    def _beacon(self, one: Customer) -> Any:
        said = {"value": 0.01, "currency": "USD", "order_id": one.order}
        event = {"t": self._any(*NAMES), "u": "https://shop.example/", "at": 1, "d": said, "h": {"email": one.email}}
        body = {"s": STORE, "n": 2, "e": [event]} | self._any({}, {"c": "denied"}, {"x": 1}, {"c": "granted"})
        headers = {
            "Origin": "https://shop.example",
            "User-Agent": SAFARI,
            "X-Forwarded-For": self._address(),
            "Content-Type": "text/plain",
            "Cookie": f"_cv=AAECAwQFBgcICQoLDA0{self._dice.randint(100, 999)}",
        }
        return self._shop.edge.ask("POST", "/c", json.dumps(body).encode(), None, headers)

    def _click(self, one: Customer) -> Any:
        fbclid = self._any("IwARstranger0000000000001", f"IwARstranger{self._dice.randint(0, 10**9):013}")
        body = {
            "storeId": STORE,
            "fbclid": fbclid,
            "landingPage": "https://shop.example/",
            "visitorId": "stranger-0001",
        }
        headers = {"Origin": "https://shop.example", "User-Agent": SAFARI, "X-Forwarded-For": self._address()}
        return self._shop.edge.post("/v1/track/click", body | self._any({}, {"test": True}), "page", headers)


def day(folder: Path, customers: int, strikes: int, patch: str = "") -> dict[str, Stored]:
    """The shop's day, with so many of the stranger's requests between two of the shop's."""
    folder.mkdir()
    with running(folder, patch=patch, mode="live", trusted_proxies=["127.0.0.1"]) as edge:
        shop = Shop(edge, customers)
        stranger = Stranger(shop, 3)
        for _ in shop.day():
            for _ in range(strikes):
                stranger.strike()
        _settled(folder / "data" / "collector.db")
        found = shop.orders(folder / "data" / "collector.db")
    assert not [status for status in stranger.answers if status >= 500], stranger.answers
    assert found.keys() == {one.order for one in shop.customers}, "every order of the server is stored"
    for one in shop.customers:
        stored, last = found[one.order], shop.statuses(one)[-1]
        assert (float(stored.value), stored.status) == (shop.value(one), STATES[last]), one
        assert stored.deliveries == ((13,) if last == "cancelled" else (0,)), one  # skipped, or queued once
        assert len(stored.people) == 1, one
    return found


def _settled(database: Path) -> None:
    """Until what pages told has been weighed against the orders."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as db:
            if db.execute("SELECT count(*) FROM unweighed").fetchone() == (0,):
                return
        threading.Event().wait(0.05)
    raise AssertionError("pages' tellings are not weighed")


def compared(alone: dict[str, Stored], beside: dict[str, Stored]) -> None:
    """The same orders; but what was never proven, somebody's claim to be a person may outweigh, at 75 at most (P1)."""
    assert sum(one.method not in UNPROVEN for one in alone.values()) > len(alone) / 2
    for number, order in alone.items():
        other = beside[number]
        if order.method in UNPROVEN and (other.confidence or 0) <= MOST_CLAIMED:
            other = other._replace(fbclid=order.fbclid, confidence=order.confidence, method=order.method)
        elif abs((other.confidence or 0) - (order.confidence or 0)) <= DOUBT:
            other = other._replace(confidence=order.confidence)
        assert other == order, number


def test_a_stranger_changes_no_order_that_the_server_tells(tmp_path: Path) -> None:
    compared(day(tmp_path / "alone", 12, 0), day(tmp_path / "beside", 12, 2))


BELIEVED = (
    "from collector.core import intake, orders; intake.Caller.rank = property(lambda self: orders.Rank.SERVER); "
    "intake._leave_out = lambda *a: None"
)


def test_the_control_a_stranger_who_ranks_as_a_server_spoils_orders(tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        compared(day(tmp_path / "alone", 4, 0), day(tmp_path / "beside", 4, 3, patch=BELIEVED))


@pytest.mark.slow
def test_a_stranger_at_95_requests_a_second_for_ten_minutes(tmp_path: Path) -> None:
    customers = max(24, int(LONG_SECONDS))
    alone = day(tmp_path / "alone", customers, 0)
    (tmp_path / "beside").mkdir()
    with running(tmp_path / "beside", mode="live", trusted_proxies=["127.0.0.1"]) as edge:
        shop, over = Shop(edge, customers), threading.Event()
        stranger = Stranger(shop, 5)
        striking = threading.Thread(target=_strike, args=(stranger, over))
        striking.start()
        began = time.monotonic()
        for steps, _ in enumerate(shop.day(), start=1):  # spread over the time
            over.wait(max(0.0, began + LONG_SECONDS * steps / (customers * 4) - time.monotonic()))
        over.wait(max(0.0, began + LONG_SECONDS - time.monotonic()))
        over.set()
        striking.join()
        _settled(tmp_path / "beside" / "data" / "collector.db")
        beside = shop.orders(tmp_path / "beside" / "data" / "collector.db")
    print(f"{stranger.asked} requests of the stranger, answered {stranger.answers}")
    assert not [status for status in stranger.answers if status >= 500]
    compared(alone, beside)


def _strike(stranger: Stranger, over: threading.Event) -> None:
    began = time.monotonic()
    while not over.wait(max(0.0, began + stranger.asked / PER_SECOND - time.monotonic())):
        stranger.strike()


TURNS, ORDERS_A_TURN = 8, 60
HOLDS_THE_LOOP = (
    "from collector.edge.collect import Collect; beacon = Collect.beacon; "
    "Collect.beacon = lambda self, request: (time.sleep(0.05), beacon(self, request))[1]"
)


def slowed(folder: Path, patch: str = "") -> float:
    """By how much his beacons raise the median of a server's order: turns with and without him, side by side."""
    spent: dict[bool, list[float]] = {True: [], False: []}
    with running(folder, patch=patch, mode="live", trusted_proxies=["127.0.0.1"]) as edge:
        shop = Shop(edge, 40)
        for _ in shop.day():
            pass  # real people, whom his beacons claim to be
        stranger = Stranger(shop, 7)
        for turn in range(2 * TURNS):
            beside, over = turn % 2 == 1, threading.Event()
            striking = threading.Thread(target=_beacons, args=(stranger, over))
            if beside:
                striking.start()
            for number in range(ORDERS_A_TURN):
                began = time.perf_counter()
                shop.order(shop.customers[number % 40], f"T-{turn}-{number}")
                spent[beside].append(time.perf_counter() - began)
                over.wait(0.02)
            over.set()
            if beside:
                striking.join()
    assert stranger.asked > TURNS * 50
    return median(spent[True]) / median(spent[False])


def _beacons(stranger: Stranger, over: threading.Event) -> None:
    began, before = time.monotonic(), stranger.asked
    while not over.wait(max(0.0, began + (stranger.asked - before) / PER_SECOND - time.monotonic())):
        stranger.claim()


@pytest.mark.slow
def test_P4_a_strangers_95_beacons_a_second_leave_others_within_three_times(tmp_path: Path) -> None:
    ratio = slowed(tmp_path)
    print(f"the median of an order is {ratio:.2f} times as long beside him")
    assert ratio <= 3


@pytest.mark.slow
def test_P4_control_a_beacon_that_holds_the_loop_is_seen(tmp_path: Path) -> None:
    assert slowed(tmp_path, patch=HOLDS_THE_LOOP) > 3


def test_what_ranks_is_the_caller() -> None:
    assert (Caller(secret=True).rank, Caller(secret=False).rank) == (Rank.SERVER, Rank.PAGE)
