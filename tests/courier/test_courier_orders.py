"""Orders through the whole program: from the API to Meta's simulator, held, released, dropped, sent once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from collector.core.capi.event_id import derive
from tests.kit.courier_kit import wait_until
from tests.kit.program import SOURCE, Serving, request
from tests.kit.simulators.graph import GraphSimulator

CONFIG = """
[storage]
data_dir = "data"
[meta]
graph_url = "{url}"
batch_wait_seconds = {{ purchase = 0.2, other = 0.2 }}
[[store]]
id = "on_order"
domains = ["shop.example"]
currency = "USD"
country = "US"
[[store.pixel]]
id = "123456789012345"
access_token = "secret-token"
[[store.pixel]]
id = "123456789012346"
access_token = "secret-token"
events = ["Lead"]
[[store]]
id = "on_paid"
domains = ["paid.example"]
send_purchase_on = "paid"
[[store.pixel]]
id = "123456789012347"
access_token = "secret-token"
"""
CHROME = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36"
)
FBCLID = "IwAR0abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKLMNOPQRSTUV"


class Shop:
    """A running collector with a store's keys, and Meta behind it."""

    def __init__(self, serving: Serving, graph: GraphSimulator) -> None:
        self.graph = graph
        self._serving = serving
        self._base = serving.ready()["edge"]
        self.secret = self._key("--kind", "secret")
        self.page = self._key("--kind", "publishable", "--store", "on_order")
        assert wait_until(self._is_known, 60)  # a new key is taken within seconds

    def _key(self, *args: str) -> str:
        return str(
            json.loads(self._serving.run("keys", "create", "--config", "collector.toml", "--json", *args))["key"]
        )

    def _is_known(self) -> bool:
        beside = {"type": "click"}
        answers = [
            request(f"{self._base}/v1/track/click", json.dumps(beside).encode(), self._headers(key))
            for key in (self.secret, self.page)
        ]
        return all(answer["error"]["code"] != "unauthorized" for answer in answers)

    def _headers(self, key: str | None, **more: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {key or self.secret}", "Content-Type": "application/json", **more}

    def post(self, path: str, body: dict[str, Any], *, key: str | None = None, **headers: str) -> dict[str, Any]:
        url = f"{self._base}/v1/track/{path}"
        answer = request(url, json.dumps(body).encode(), self._headers(key, **headers))
        assert answer["success"], answer
        return dict(answer["data"])

    def order(self, number: str, *, store: str = "on_order", **more: Any) -> dict[str, Any]:
        fixed = {"storeId": store, "eventType": "Purchase", "orderId": number, "eventValue": 10.5, "currency": "usd"}
        body = {**fixed, "customerData": {"email": "John_Smith@gmail.com"}, "userAgent": "Mozilla/5.0", **more}
        return self.post("conversion", {k: v for k, v in body.items() if v is not None})

    def state(self, conversion: str) -> tuple[str, str | None]:
        found = request(f"{self._base}/v1/conversions/{conversion}", None, self._headers(None))["data"]
        return found["capiStatus"], found.get("capiReason") or next(
            (d.get("reason") for d in found.get("deliveries", ()) if d.get("reason")), None
        )

    def becomes(self, conversion: str, state: str) -> bool:
        return wait_until(lambda: self.state(conversion)[0] == state, 10, 0.05)

    def seen(self, event_id: str) -> int:
        """How often Meta has taken the event, over all pixels."""
        return sum(counts[event_id] for counts in list(self.graph.accepted.values()))


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    folder: Path = tmp_path_factory.mktemp("shop")
    with GraphSimulator(token="secret-token") as graph:
        config = folder / "collector.toml"
        config.write_text(CONFIG.format(url=graph.url))
        config.chmod(0o600)
        serving = Serving(SOURCE, folder, "--config", "collector.toml")
        try:
            yield Shop(serving, graph)
        finally:
            serving.end()


def test_an_order_arrives_hashed_enriched_and_once(shop: Shop) -> None:
    click = {"fbclid": FBCLID, "storeId": "on_order", "landingPage": "https://shop.example/p", "visitorId": "v1"}
    shop.post("click", {**click, "ipAddress": "93.184.216.7:443", "userAgent": "Mozilla/5.0 (iPhone)"})
    customer = {"email": "John_Smith@gmail.com", "phone": "(650)555-1212", "firstName": "Mary", "country": "US"}
    data = shop.order("1001", visitorId="v1", userAgent=None, customerData=customer)
    assert data["eventId"] == derive("on_order", "Purchase", "1001")
    assert shop.becomes(data["conversionId"], "sent")
    [event] = [e for e in shop.graph.events if e["event_id"] == data["eventId"]]
    user = event["user_data"]
    assert user["em"] == ["62a14e44f765419d10fea99367361a727c12365e2520f32218d505ed9aa0f62f"]
    assert user["ph"] == ["e323ec626319ca94ee8bff2e4c87cf613be6ea19919ed1364124e16807ab3176"]
    assert user["country"] == [sha256(b"us").hexdigest()]
    assert user["fbc"].endswith(f".{FBCLID}")
    assert (user["client_ip_address"], user["client_user_agent"]) == ("93.184.216.7", "Mozilla/5.0 (iPhone)")
    assert event["custom_data"]["value"] == 10.5
    again = shop.order("1001", visitorId="v1")
    assert (again["conversionId"], again["duplicate"]) == (data["conversionId"], True)
    other = shop.order("1002")
    assert shop.becomes(other["conversionId"], "sent")
    assert shop.seen(data["eventId"]) == 1


def test_a_store_that_sends_on_payment_holds_releases_and_never_repeats(shop: Shop) -> None:
    data = shop.order("2001", store="on_paid", orderStatus="pending")
    conversion = data["conversionId"]
    assert data["capiStatus"] == "held"
    assert "paid" in str(shop.state(conversion)[1])
    shop.order("2001", store="on_paid", orderStatus="paid")
    assert shop.becomes(conversion, "sent")
    shop.order("2001", store="on_paid", orderStatus="refunded")
    shop.order("2001", store="on_paid", orderStatus="paid")
    marker = shop.order("2002", store="on_paid", orderStatus="paid")
    assert shop.becomes(marker["conversionId"], "sent")
    assert shop.state(conversion)[0] == "sent"
    assert shop.seen(data["eventId"]) == 1


def test_a_cancelled_order_is_dropped_with_the_reason(shop: Shop) -> None:
    data = shop.order("2003", store="on_paid", orderStatus="pending")
    shop.order("2003", store="on_paid", orderStatus="cancelled")
    assert shop.state(data["conversionId"])[0] == "skipped"
    assert "cancelled" in str(shop.state(data["conversionId"])[1])
    assert shop.seen(data["eventId"]) == 0


def test_consent_holds_releases_and_forbids(shop: Shop) -> None:
    held = shop.order("3001", consent={"marketing": "pending"})
    denied = shop.order("3002", consent={"marketing": "denied"})
    assert (held["capiStatus"], denied["capiStatus"]) == ("held", "skipped")
    shop.order("3001", consent={"marketing": "granted"})
    assert shop.becomes(held["conversionId"], "sent")
    taken_back = shop.order("3003", consent={"marketing": "pending"})
    shop.order("3003", consent={"marketing": "denied"})
    assert shop.state(taken_back["conversionId"])[0] == "skipped"
    assert shop.seen(denied["eventId"]) == shop.seen(taken_back["eventId"]) == 0


def test_a_purchase_that_only_a_page_tells_waits_for_the_server(shop: Shop) -> None:
    body = {"storeId": "on_order", "eventType": "Purchase", "orderId": "4001", "eventValue": 10.5, "currency": "USD"}
    browser = {"Origin": "https://shop.example", "User-Agent": CHROME, "Accept-Language": "en"}
    told = shop.post("event", {**body, "fbp": "fb.1.1700000000000.1"}, key=shop.page, **browser)
    assert told["capiStatus"] == "held"
    shop.order("4001")
    assert wait_until(lambda: shop.seen(derive("on_order", "Purchase", "4001")) == 1, 60)


def test_what_says_too_little_goes_out_once_it_says_more(shop: Shop) -> None:
    poor = shop.order("5001", customerData=None)
    assert poor["capiStatus"] == "rejected"
    assert "too little" in str(shop.state(poor["conversionId"])[1])
    shop.order("5001")
    assert shop.becomes(poor["conversionId"], "sent")
    assert shop.seen(poor["eventId"]) == 1


def test_a_pixels_allow_list(shop: Shop) -> None:
    lead = {"storeId": "on_order", "eventType": "Lead", "customerData": {"email": "a@b.c"}}
    data = shop.post("event", lead)
    assert shop.becomes(data["conversionId"], "sent")
    pixels = {pixel for pixel, counts in shop.graph.accepted.items() if data["eventId"] in counts}
    assert pixels == {"123456789012345", "123456789012346"}
    assert not any(event["event_name"] == "Purchase" for event in shop.graph.events if event["pixel"].endswith("6"))


def test_a_caller_may_wait_for_metas_answer(shop: Shop) -> None:
    fixed = {"storeId": "on_order", "eventType": "Purchase", "eventValue": 1, "currency": "USD"}
    body = {**fixed, "orderId": "6001", "customerData": {"email": "a@b.c"}}
    data = shop.post("conversion", body, Prefer="wait=8")
    assert (data["capiSent"], data["capiStatus"]) == (True, "sent")


def test_a_caller_may_wait_under_an_idempotency_key_and_a_replay_says_the_same(shop: Shop) -> None:
    fixed = {"storeId": "on_order", "eventType": "Purchase", "eventValue": 1, "currency": "USD"}
    body = {**fixed, "orderId": "6002", "customerData": {"email": "a@b.c"}}
    headers = {"Prefer": "wait=8", "Idempotency-Key": "6002"}
    first = shop.post("conversion", body, **headers)
    assert (first["capiSent"], first["capiStatus"]) == (True, "sent")
    assert shop.post("conversion", body, **headers) == first
    assert shop.post("conversion", body, **{"Idempotency-Key": "6002"}) == first
    assert shop.seen(first["eventId"]) == 1


def test_who_waits_in_vain_gets_the_answer_that_is_remembered(shop: Shop) -> None:
    fixed = {"storeId": "on_paid", "eventType": "Purchase", "eventValue": 1, "currency": "USD"}
    body = {**fixed, "orderId": "6003", "customerData": {"email": "a@b.c"}}
    headers = {"Prefer": "wait=1", "Idempotency-Key": "6003"}
    first = shop.post("conversion", body, **headers)
    assert first["capiStatus"] == "held"
    assert shop.post("conversion", body, **headers) == first
