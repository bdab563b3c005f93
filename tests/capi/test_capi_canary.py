"""Canaries through the running program: nothing of a person in clear reaches Meta, the log or the disk."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from collector.core import clickid, intake
from collector.core.capi import identifiers
from collector.core.capi.payload import Profile, build_event
from collector.core.capi.states import CapiState
from collector.core.consent import Decision
from collector.core.events import ConversionBody, Enrichment
from collector.core.intake import Caller
from collector.core.wire import decode_conversion
from tests.kit.harness import ORIGIN, PIXEL, STORE, GraphSimulator, Installation, eventually
from tests.kit.simulators.graph_rules import judge

FIRST = "Zebedee Quillon Ottoline Peregrine Ludmila Xanthe Wilfrieda Ignatius Philomena Balthazar".split()
LAST = "Quackenbush Featherstone Oberholzer Vandersloot Hinterleitner Przybylski Ravenscroft Thistlewood".split()
AGENT = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36"
)


class Canary:
    """One person, known by words that occur nowhere else."""

    def __init__(self, n: int) -> None:
        self.first = f"{FIRST[n % len(FIRST)]}"
        self.last = f"{LAST[n // len(FIRST) % len(LAST)]}{chr(97 + n % 26)}{chr(97 + n // 26)}"
        self.email = f"canary{n:04d}@{self.last.lower()}.example"
        self.phone = f"+1 415 2{n:02d} 8{n:03d}"[:15].replace("  ", " ")
        self.digits = "".join(filter(str.isdigit, self.phone))

    @property
    def name(self) -> str:
        return f"{self.first} {self.last}"

    def traces(self) -> list[bytes]:
        """What may be found nowhere, in lower case."""
        return [
            self.email.split("@")[0].encode(),
            self.last.lower().encode(),
            self.digits[-10:].encode(),
            self.phone[3:].encode(),
        ]

    def order(self, n: int) -> dict[str, Any]:
        """Planted in every field that is not an id of the shop's own."""
        mixed = [self.email, self.phone, self.name, self.digits]
        odd = mixed[n % 4].replace("+", "%2B")
        query = f"email={self.email}&tel={self.digits}&name={self.name.replace(' ', '+')}&x={odd}"
        return {
            "storeId": STORE,
            "eventType": "Purchase",
            "orderId": f"c-{n}",
            "eventValue": 10 + n,
            "currency": "USD",
            "userAgent": AGENT,
            "ipAddress": "81.2.69.142",
            "eventSourceUrl": f"https://mystore.com/thanks?{query}",
            "referrer": f"https://mystore.com/cart?{query}",
            "firstTouch": f"https://mystore.com/?{query}",
            "lastTouch": f"https://mystore.com/{self.name.replace(' ', '-')}?{query}",
            "visitorId": self.email,
            "eventId": f"ev-{n}-{self.email}",
            "products": [
                {"productId": "A", "name": f"Mug for {self.name}", "category": self.email, "quantity": 1, "price": 5}
            ],
            "customerData": {
                "email": self.email,
                "phone": self.phone,
                "firstName": self.first,
                "lastName": self.last,
                "externalId": self.email,
                "city": "Austin",
                "country": "US",
            },
            "customData": {
                "email": self.email,
                "billing_email": self.email,
                "customer_name": self.name,
                "phone_number": self.phone,
                "user_data": {"em": self.email, "fn": self.first, "ln": self.last},
                "note": f"from {self.name}",
                "emails": [self.email, self.email.upper()],
                "deep": {"a": [{"b": f"call {self.phone}"}, {"c": self.digits}]},
                "contact": {"whoever": self.name},
                self.email: 1,
                "content_name": f"for {self.email}",
                "search_string": self.name,
                "Vorname": self.first,
                "engraved": self.last.upper(),
                "colour": "red",
                "contents": [{"id": "A", "title": self.name, "quantity": 1}],
            },
        }

    def beacon(self, n: int) -> dict[str, Any]:
        """The same by a page: in addresses, data, the name of an event, and whom `identify` was told of."""
        order = self.order(n)
        page, before = order["eventSourceUrl"], order["referrer"]
        seen = {"at": 1, "u": page, "r": before, "d": order["customData"], "h": order["customerData"]}
        events = [{**seen, "t": name, "i": f"b-{n}-{name}"} for name in ("PageView", "Lead", f"Told {self.email}")]
        touch = [1, order["lastTouch"]]
        return {"s": STORE, "n": 2, "f": touch, "l": touch, "e": events}


CANARIES = [Canary(n) for n in range(200)]


def found_in(places: dict[str, bytes]) -> list[tuple[str, bytes]]:
    low = {place: content.lower() for place, content in places.items()}
    return [
        (place, trace) for c in CANARIES for trace in c.traces() for place, content in low.items() if trace in content
    ]


@pytest.mark.slow
def test_no_canary_reaches_meta_the_log_or_the_disk(tmp_path: Path) -> None:
    with GraphSimulator() as graph:
        shop = Installation(tmp_path, graph.url)
        key = shop.make_key()
        with shop.serve() as door:
            for n, canary in enumerate(CANARIES):
                answer = door.post("/v1/track/conversion", canary.order(n), key)
                assert answer.status_code == 200, answer.text
                assert "customData.email" in answer.headers["Collector-Ignored-Fields"]
                refused = door.post("/v1/track/event", {**canary.order(n), "eventType": f"Told {canary.email}"}, key)
                assert refused.status_code == 400
                seen = door.post("/c", canary.beacon(n), None, Origin=ORIGIN, User_Agent=AGENT)
                assert (seen.status_code, seen.headers["Collector-Reason"]) == (204, "invalid_field")
            assert eventually(lambda: len(graph.events) >= 2 * len(CANARIES))
            files = {str(path): path.read_bytes() for path in shop.data.rglob("*") if path.is_file()}
        logs = {str(p): p.read_bytes() for p in tmp_path.rglob("*") if p.is_file() and shop.data not in p.parents}
        assert len(files) > 1
        assert any(b"edge" in content for content in logs.values())
        sends = msgspec.json.encode(graph.events)
        assert found_in({**files, **logs, "graph": sends}) == []
        assert sends.count(b'"colour":"red"') >= 2 * len(CANARIES)
        assert found_in({"control": repr([c.order(n) for n, c in enumerate(CANARIES)]).encode()}), "the check can see"
    shop.end()


def mixed(dice: random.Random, n: int) -> dict[str, Any]:
    """An event as one of the recipes sends it: server, WooCommerce, Shopify, a page, PHP, GTM; odd ones among them."""
    kind = dice.choice(
        ["Purchase"] * 3 + ["AddToCart", "ViewContent", "Lead", "Search", "InitiateCheckout", "Level Up"]
    )
    country, phone = dice.choice(
        [
            ("US", "650 555 12"),
            ("DE", "49151234567"),
            ("Nederland", "06123456"),
            ("United Kingdom (UK)", "0791112345"),
            ("xx", "0612345"),
            (None, "+336123456"),
            ("日本", "0901234567"),
        ]
    )
    customer: Any = {
        "email": dice.choice([f"jo{n}@example.com", f"Jo <jo{n}@example.com>", "undefined", "", [f"jo{n}@x.de", None]]),
        "phone": dice.choice([f"{phone}{n % 100:02d}", "null", 16505551212]),
        "firstName": dice.choice(["Ana María", "O'Brien", "null", "李"]),
        "lastName": dice.choice(["García Márquez", "N/A"]),
        "country": country,
        "state": dice.choice(["Ontario", "CA", "Bayern", None]),
        "city": dice.choice(["Paris", "n.a."]),
        "zipCode": dice.choice([94035, "M1 1AE", "undefined"]),
        "externalId": dice.choice([0, n + 1, "null", str(n)]),
        "dateOfBirth": dice.choice(["1997-02-16 00:00:00", "31/02/1990", 19970216, None]),
        "gender": dice.choice(["Mr", "x"]),
    }
    return {
        "storeId": STORE,
        "eventType": kind,
        "orderId": f"o-{n}" if kind == "Purchase" else None,
        "eventId": f"e-{n}",
        "eventValue": dice.choice([49.9, 0, 12, 49.899999999999999]),
        "currency": dice.choice(["USD", "eur", " GBP "]),
        "customerData": dice.choice([customer, customer, customer, []]),
        "userAgent": dice.choice([AGENT, "okhttp/4", None]),
        "ipAddress": dice.choice(["81.2.69.142", "10.0.0.1", "81.2.69.142, 10.0.0.1", "2002:5102:458e::1", "x", None]),
        "eventSourceUrl": dice.choice(
            ["https://mystore.com/thanks?a=1&email=jo@example.com", "/cart", "http://localhost/", ""]
        ),
        "referrer": dice.choice(["https://l.facebook.com/", "android-app://x", None]),
        "fbp": dice.choice(["fb.1.1700000000000.123456789", "fb.1.1700000000000.1.ZZ", "x", None]),
        "fbc": dice.choice([f"fb.1.{NOW - 9000}.IwAR{n}abcdefghijklmnop", f"fb.1.{NOW}.undefined", "fb", None]),
        "products": dice.choice(
            [[{"productId": n, "quantity": dice.choice([1, 1.5, "2", 0]), "price": "19,99"}], {}, None]
        ),
        "customData": dice.choice(
            [
                {"contents": [{"id": n, "quantity": "x"}, {}], "value": "1"},
                {"content_ids": n, "num_items": 1.5},
                [],
                None,
                {"customer": {"email": "jo@example.com"}, "predicted_ltv": "high", "content_type": "Product"},
                {"value": -0.0, "currency": "euros", "search_string": 501, "delivery_category": "drone"},
            ]
        ),
    }


NOW = 1_790_000_000_000


def sent_or_why(body: ConversionBody) -> str | None:
    """None where Meta takes what leaves, or nothing leaves for the event's own sake; else Meta's reason."""
    checked = intake.check_event(
        body, Caller(secret=True), Decision("granted", False), NOW, None, "US", "https://mystore.com/"
    )
    built = build_event(checked.event, Enrichment(), Profile(url="https://mystore.com/"))
    if built.state is CapiState.REJECTED:
        return None if "too little about the person" in (built.refused or "") else built.refused
    refusal = judge([msgspec.json.decode(built.payload)], NOW / 1000)
    return refusal and refusal.message


@pytest.mark.parametrize("many", [1_500, pytest.param(50_000, marks=pytest.mark.slow)])
def test_of_mixed_traffic_nothing_is_refused_for_a_reason_of_ours(many: int) -> None:
    dice = random.Random(11)
    for n in range(many):
        event = mixed(dice, n)
        body, _ = decode_conversion(msgspec.json.encode(event))
        assert sent_or_why(body) is None, event


def test_control_of_mixed_traffic_that_is_sent_as_it_came_some_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clickid, "is_fbc", lambda value: True)
    monkeypatch.setattr(identifiers, "usable_fbc", lambda fbc, event_ms: fbc)
    with pytest.raises(AssertionError):
        test_of_mixed_traffic_nothing_is_refused_for_a_reason_of_ours(100)


def _is_kept(event: dict[str, Any]) -> bool:
    """A program's page view, and an order that brings nothing, are stored and never sent."""
    purchase = event["eventType"] == "Purchase"
    return event["eventValue"] == 0 if purchase else event["userAgent"] == "okhttp/4"


DAY = int(os.environ.get("MIXED_EVENTS", "5000"))


@pytest.mark.slow
def test_of_a_days_traffic_over_the_socket_meta_refuses_nothing(tmp_path: Path) -> None:
    """Through the running program; what names nobody is not sent at all, and says so."""
    dice, now = random.Random(12), int(time.time() * 1000)
    events = [{"type": "conversion", **mixed(dice, n)} for n in range(DAY)]
    for event in events:  # the click ids of today
        event["fbc"] = event["fbc"] and event["fbc"].replace(str(NOW)[:6], str(now - 60_000)[:6])
    kept = sum(_is_kept(event) for event in events)
    with GraphSimulator() as graph:
        shop = Installation(tmp_path, graph.url)
        key = shop.make_key()
        with shop.serve() as door:
            for first in range(0, DAY, 500):
                answer = door.post("/v1/track/batch", events[first : first + 500], key)
                assert answer.status_code == 200, answer.text
                refused = [one for one in answer.json()["data"]["results"] if not one["success"]]
                assert refused == []
            assert eventually(lambda: not shop.rows("SELECT 1 FROM outbox WHERE settled IS NULL LIMIT 1"), 600, 0.5)
        reasons = dict(shop.rows("SELECT reason, count(*) FROM outbox WHERE state = ? GROUP BY 1", CapiState.REJECTED))
        sent = shop.rows("SELECT count(*) FROM outbox WHERE state = ?", CapiState.SENT)[0][0]
        assert graph.state.requests[f"{PIXEL}:refused"] == 0
        assert len(graph.accepted[PIXEL]) == sent == DAY - kept - sum(reasons.values())
        assert all("too little about the person" in reason for reason in reasons), reasons
        assert sent > DAY / 2
    shop.end()
