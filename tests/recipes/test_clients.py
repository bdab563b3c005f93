"""Clients written for the tracking API, `requests` and `axios`, against the whole collector with its Meta on a socket.

The installed package always; the built binary with `-m binary`.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.kit.clients import Client, Reply, axios, by_requests
from tests.kit.harness import (
    BINARY,
    CLOSED,
    ORIGIN,
    OTHER,
    PIXEL,
    STORE,
    TOKEN,
    Door,
    GraphSimulator,
    Installation,
    eventually,
)

FBCLID = "IwAR3k8QJX9mGvT7wZpLdYbNc2VfHs5RtEuKoA1iMxPqWjCzDyBnSgFhUl"
AGENT = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5"
ADDRESS = "93.184.216.34"
ERROR_KEYS = {"code", "message", "requestId"}


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def when(seconds_ago: float = 0.0) -> str:
    moment = datetime.fromtimestamp(time.time() - seconds_ago, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


class Shop(NamedTuple):
    """A collector, a client, and what Meta got."""

    door: Door
    client: Client
    graph: GraphSimulator
    keys: dict[str, str]

    def ask(self, method: str, path: str, data: Any = None, key: str | None = "secret", **headers: str) -> Reply:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        if key is not None:
            given["Authorization"] = f"Bearer {self.keys.get(key, key)}"
        return self.client(method, self.door.url + path, headers=given, data=data)

    def post(self, path: str, data: Any, key: str | None = "secret", **headers: str) -> Reply:
        return self.ask("POST", f"/v1/track/{path}", data, key, **headers)

    def at_meta(self, order_id: str) -> dict[str, Any]:
        """The event of this order as Meta accepted it."""

        def found() -> list[dict[str, Any]]:
            return [e for e in self.graph.events if e.get("custom_data", {}).get("order_id") == order_id]

        events: list[dict[str, Any]] = eventually(found)
        assert len(events) == 1, events
        return events[0]


@pytest.fixture(scope="module", params=["package", pytest.param("binary", marks=pytest.mark.binary)])
def installation(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Door, GraphSimulator, dict[str, str]]]:
    command = [str(Path(sys.executable).parent / "collector")] if request.param == "package" else [str(BINARY)]
    with GraphSimulator(token=TOKEN) as graph:
        place = Installation(tmp_path_factory.mktemp("installed"), graph.url, command=command)
        keys = {
            "secret": place.make_key(),
            "page": place.make_key("publishable"),
            "every": place.make_key(store=None),
            "other": place.make_key(store=OTHER),
        }
        with place.serve() as door:
            yield door, graph, keys


@pytest.fixture(scope="module", params=["requests", "axios"])
def client(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    if request.param == "requests":
        yield by_requests
        return
    with axios(tmp_path_factory.mktemp("node")) as by_axios:
        yield by_axios


@pytest.fixture
def shop(installation: Any, client: Client) -> Shop:
    door, graph, keys = installation
    return Shop(door, client, graph, keys)


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """Different in each test: stores, simulator and database are shared."""
    return sha(request.node.name)[:12]


def click(**more: Any) -> dict[str, Any]:
    return {
        "fbclid": FBCLID,
        "storeId": STORE,
        "landingPage": "https://mystore.com/products/shoes?utm_source=facebook",
    } | more


def order(name: str, **more: Any) -> dict[str, Any]:
    amount = {"orderId": name, "eventValue": 99.99, "currency": "USD"}
    return {"storeId": STORE, "eventType": "Purchase"} | amount | more


def test_the_click_of_the_example_gets_exactly_the_answer(shop: Shop, name: str) -> None:
    fbclid, clicked = FBCLID + name, when(60)
    body = click(
        fbclid=fbclid,
        referrer="https://www.facebook.com/",
        ipAddress=ADDRESS,
        userAgent=AGENT,
        timestamp=clicked,
    )
    reply = shop.post("click", body)
    assert reply.status == 200
    assert re.fullmatch(r"click_[0-9a-z]+", reply.data["data"]["clickId"])
    click_id = reply.data["data"]["clickId"]
    data = {"clickId": click_id, "fbclid": fbclid, "tracked": True, "timestamp": clicked}
    assert reply.data == {"success": True, "data": data}
    assert reply.headers["content-type"] == "application/json"
    again = shop.post("click", body)
    assert again.data == {"success": True, "data": data | {"duplicate": True}}


def test_the_order_of_the_example_is_attributed_and_reaches_meta_whole(shop: Shop, name: str) -> None:
    fbclid, clicked, ordered = FBCLID + name, when(5400), when()
    first_seen = int(datetime.fromisoformat(clicked).timestamp()) * 1000
    landing = "https://mystore.com/products/shoes?utm_source=facebook"
    stored = shop.post(
        "click",
        click(
            fbclid=fbclid,
            landingPage=landing,
            ipAddress=ADDRESS,
            userAgent=AGENT,
            timestamp=clicked,
            visitorId=f"visitor-{name}",
            fbp="fb.1.1795000000000.1234567890",
        ),
    )
    body = order(
        name,
        customerData={
            "email": " Customer@Example.COM ",
            "phone": "+1 (415) 555-0100",
            "firstName": "Jane",
            "lastName": "Doe",
            "city": "San Francisco",
            "state": "CA",
            "country": "US",
            "zipCode": "94107-1234",
        },
        fbclid=fbclid,
        products=[{"productId": "SKU-1", "name": "Shoes", "price": 49.995, "quantity": 2, "category": "Footwear"}],
        timestamp=ordered,
    )
    reply = shop.post("conversion", body, Prefer="wait=10")
    assert reply.status == 200
    data = reply.data["data"]
    assert re.fullmatch(r"conv_[0-9a-z]+", data["conversionId"])
    documented = {k: data[k] for k in ("eventType", "attributed", "capiSent", "capiStatus", "timestamp")}
    assert (reply.data["success"], documented) == (
        True,
        {"eventType": "Purchase", "attributed": True, "capiSent": True, "capiStatus": "sent", "timestamp": ordered},
    )
    given = data["attributedTo"]
    assert (given["clickId"], given["fbclid"], given["method"]) == (stored.data["data"]["clickId"], fbclid, "fbclid")
    assert 90 <= given["confidenceScore"] <= 99
    assert isinstance(given["confidenceScore"], int)
    assert 5398 <= given["clickAgeSeconds"] <= 5402
    assert all({"signal", "bits"} <= set(item) for item in given["evidence"])
    event = shop.at_meta(name)
    user = event["user_data"]
    hashed = {
        "em": "customer@example.com",
        "ph": "14155550100",
        "fn": "jane",
        "ln": "doe",
        "ct": "sanfrancisco",
        "st": "ca",
        "country": "us",
        "zp": "94107",
    }
    assert {key: user[key] for key in hashed} == {key: [sha(value)] for key, value in hashed.items()}
    assert user["fbc"] == f"fb.1.{first_seen}.{fbclid}", "the click's own id and its first sighting"
    assert user["fbp"] == "fb.1.1795000000000.1234567890"
    assert (user["client_ip_address"], user["client_user_agent"]) == (ADDRESS, AGENT)
    assert event["event_source_url"] == landing
    assert (event["event_name"], event["action_source"], event["event_id"]) == ("Purchase", "website", data["eventId"])
    assert event["custom_data"]["value"] == 99.99
    assert event["custom_data"]["currency"] == "USD"
    assert event["custom_data"]["contents"][0]["id"] == "SKU-1"
    assert not re.search(r"(?i)customer@|jane|555-0100|4155550100", str(event)), "no plain personal data"


def test_an_inferred_order_is_not_enriched(shop: Shop, name: str) -> None:
    address = f"185.{int(name[:2], 16)}.{int(name[2:4], 16)}.7"
    body = click(fbclid=FBCLID + name, ipAddress=address, userAgent=AGENT, timestamp=when(60))
    assert shop.post("click", body).status == 200
    reply = shop.post(
        "conversion",
        order(name, ipAddress=address, userAgent=AGENT, customerData={"email": f"{name}@example.com"}),
        Prefer="wait=10",
    )
    assert reply.data["data"]["capiStatus"] == "sent"
    assert "fbc" not in shop.at_meta(name)["user_data"], "an inferred click id is not a click id"


def test_without_prefer_the_answer_is_immediate(shop: Shop, name: str) -> None:
    data = shop.post("conversion", order(name, customerData={"email": f"{name}@example.com"})).data["data"]
    assert (data["capiSent"], data["capiStatus"], data["attributed"], data["attributedTo"]) == (
        False,
        "queued",
        False,
        None,
    )
    assert data["reason"] == "no_candidate"


def test_waiting_ends_when_its_time_is_over(shop: Shop, name: str) -> None:
    shop.graph.faults("503")
    try:
        began = time.monotonic()
        body = order(name, customerData={"email": f"{name}@example.com"})
        data = shop.post("conversion", body, Prefer="respond-async, wait=1").data["data"]
        assert data["capiStatus"] in ("queued", "retrying")
        assert 0.9 < time.monotonic() - began < 9.0  # 10 s would be the longest wait of all
    finally:
        shop.graph.faults()
    assert shop.at_meta(name)


def test_an_order_again_is_the_first_one(shop: Shop, name: str) -> None:
    first = shop.post("conversion", order(name, customerData={"email": f"{name}@example.com"}))
    again = shop.post("conversion", order(name, customerData={"email": f"{name}@example.com"}))
    assert "duplicate" not in first.data["data"]
    assert again.data["data"]["duplicate"] is True
    same = ("conversionId", "eventId", "eventType", "timestamp", "attributed")
    assert {k: again.data["data"][k] for k in same} == {k: first.data["data"][k] for k in same}
    shop.at_meta(name)
    time.sleep(0.5)
    shop.at_meta(name)


def test_another_amount_is_a_conflict_unless_the_status_explains_it(shop: Shop, name: str) -> None:
    assert shop.post("conversion", order(name)).status == 200
    for change in ({"eventValue": 100}, {"currency": "EUR"}):
        refused = shop.post("conversion", order(name) | change)
        assert (refused.status, refused.data["error"]["code"]) == (409, "order_conflict")
    explained = shop.post("conversion", order(name, eventValue=50, orderStatus="updated"))
    assert (explained.status, explained.data["data"]["duplicate"]) == (200, True)
    refunded = shop.post("conversion", order(name, eventValue=50, orderStatus="refunded"))
    assert refunded.status == 200


def test_what_was_absent_is_merged_until_it_is_sent(shop: Shop, name: str) -> None:
    shop.graph.faults("503")
    try:
        shop.post("conversion", order(name, customerData={"email": f"{name}@example.com"}))
        richer = order(name, customerData={"phone": "+14155550100", "lastName": "Doe"}, fbp="fb.1.1795000000000.77")
        assert shop.post("conversion", richer).data["data"]["duplicate"] is True
    finally:
        shop.graph.faults()
    user = shop.at_meta(name)["user_data"]
    assert user["em"] == [sha(f"{name}@example.com")]
    assert user["ph"] == [sha("14155550100")]
    assert user["ln"] == [sha("doe")]
    assert user["fbp"] == "fb.1.1795000000000.77"


def test_an_idempotency_key_gives_the_first_answer_again(shop: Shop, name: str) -> None:
    body = order(name)
    first = shop.post("conversion", body, Idempotency_Key=name)
    again = shop.post("conversion", body, Idempotency_Key=name)
    assert again.data == first.data
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    conflict = shop.post("conversion", body | {"eventValue": 1}, Idempotency_Key=name)
    assert (conflict.status, conflict.data["error"]["code"]) == (409, "idempotency_conflict")


def test_a_batch_as_array_and_as_lines(shop: Shop, name: str) -> None:
    items = [
        {"type": "click", **click(fbclid=f"{FBCLID}{name}", visitorId=name)},
        {"type": "conversion", **order(name, visitorId=name)},
        {"type": "event", "storeId": STORE, "eventType": "Lead", "visitorId": name},
        {"type": "click", **click(fbclid="undefined")},
        {"type": "conversion", **order(name + "x", currency="XYZ")},
    ]
    array = shop.post("batch", items)
    lines = shop.post("batch", "\n".join(map(json.dumps, items)) + "\n", Content_Type="application/x-ndjson")
    for reply, repeated in ((array, False), (lines, True)):
        assert reply.status == 200
        results = reply.data["data"]["results"]
        assert [one["success"] for one in results] == [True, True, True, False, False]
        assert results[0]["data"]["fbclid"] == FBCLID + name
        assert results[1]["data"]["attributedTo"]["clickId"] == results[0]["data"]["clickId"]
        assert [one["error"]["code"] for one in results[3:]] == ["invalid_fbclid", "invalid_currency"]
        assert [one["data"].get("duplicate", False) for one in results[:2]] == [repeated] * 2
        assert set(results[3]["error"]) == ERROR_KEYS | {"field"}


def test_the_states_are_read_back(shop: Shop, name: str) -> None:
    clicked = shop.post("click", click(fbclid=FBCLID + name, visitorId=name)).data["data"]
    body = order(name, visitorId=name, customerData={"email": f"{name}@example.com"})
    posted = shop.post("conversion", body, Prefer="wait=10").data["data"]
    state = shop.ask("GET", f"/v1/conversions/{posted['conversionId']}").data["data"]
    assert {k: state[k] for k in posted} == posted
    assert [one["pixel"] for one in state["deliveries"]] == [PIXEL]
    assert (state["deliveries"][0]["status"], state["deliveries"][0]["attempts"]) == ("sent", 1)
    assert state["attempts"][0]["traceId"]
    assert state["attempts"][0]["httpStatus"] == 200
    seen = shop.ask("GET", f"/v1/clicks/{clicked['clickId']}").data["data"]
    assert {k: seen[k] for k in clicked} == clicked
    assert seen["conversions"] == [posted["conversionId"]]
    hidden = shop.ask("GET", f"/v1/conversions/{posted['conversionId']}", key="other")
    assert (hidden.status, hidden.data["error"]["code"]) == (404, "not_found")


def test_a_late_click_gives_the_order_a_newer_answer(shop: Shop, name: str) -> None:
    posted = shop.post("conversion", order(name, visitorId=name)).data["data"]
    assert posted["attributed"] is False
    clicked = shop.post("click", click(fbclid=FBCLID + name, visitorId=name, timestamp=when(60))).data["data"]
    state = shop.ask("GET", f"/v1/conversions/{posted['conversionId']}").data["data"]
    assert state["attributedTo"]["clickId"] == clicked["clickId"]
    assert state["revision"] == 1


def test_a_page_posts_with_its_key_from_its_own_origin(shop: Shop, name: str) -> None:
    page = {"Origin": ORIGIN, "User_Agent": AGENT}
    assert shop.post("click", click(fbclid=FBCLID + name), "page", **page).status == 200
    strange = shop.post("click", click(), "page", Origin="https://evil.example")
    assert (strange.status, strange.data["error"]["code"]) == (403, "origin_not_allowed")
    assert shop.post("batch", [], "page", **page).data["error"]["code"] == "forbidden"
    read = shop.ask("GET", "/v1/clicks/click_x", key="page", **page)
    assert (read.status, read.data["error"]["code"]) == (403, "forbidden")


def test_a_purchase_by_a_page_alone_is_held_until_a_server_confirms_it(shop: Shop, name: str) -> None:
    page = {"Origin": ORIGIN, "User_Agent": AGENT}
    body = order(name, customerData={"email": f"{name}@example.com"})
    held = shop.post("conversion", body, "page", **page).data["data"]
    assert held["capiStatus"] == "held"
    own = order(name, customerData={"email": f"own-{name}@example.com"})
    confirmed = shop.post("conversion", own, Prefer="wait=10").data["data"]
    assert (confirmed["duplicate"], confirmed["capiStatus"]) == (True, "sent")
    assert shop.at_meta(name)["user_data"]["em"] == [sha(f"own-{name}@example.com")]  # the server's word of the person


class Refusal(NamedTuple):
    path: str
    body: Any
    status: int
    code: str
    field: str | None = None
    key: str | None = "secret"
    headers: dict[str, str] = {}


FORM = {"Content_Type": "application/x-www-form-urlencoded"}
BIG = [{"type": "click", "fbclid": "x" * 1_100_000}]
REFUSALS = {
    "no fbclid": Refusal("click", {"storeId": STORE}, 400, "missing_required_field", "fbclid"),
    "bad fbclid": Refusal("click", click(fbclid="null"), 400, "invalid_fbclid", "fbclid"),
    "currency": Refusal("conversion", order("r", currency="DOLLAR"), 400, "invalid_currency", "currency"),
    "field": Refusal("conversion", order("r", eventValue=-1), 400, "invalid_field", "eventValue"),
    "json": Refusal("click", "{", 400, "invalid_json", headers={"Content_Type": "application/json"}),
    "no key": Refusal("click", click(), 401, "unauthorized", key=None),
    "wrong key": Refusal("click", click(), 401, "unauthorized", key="sk_wrong"),
    "other store": Refusal("click", click(), 403, "forbidden", "storeId", key="other"),
    "origin": Refusal("click", click(), 403, "origin_not_allowed", None, "page", {"Origin": "https://evil.example"}),
    "unknown store": Refusal("click", click(storeId="nobody"), 404, "store_not_found", "storeId", "every"),
    "closed store": Refusal("click", click(storeId=CLOSED), 404, "store_not_found", "storeId", "every"),
    "path": Refusal("nothing", click(), 404, "not_found"),
    "too large": Refusal("batch", BIG, 413, "payload_too_large"),
    "form": Refusal("click", "a=b", 415, "unsupported_media_type", headers=FORM),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_every_refusal_has_the_one_shape(shop: Shop, case: str) -> None:
    path, body, status, code, field, key, headers = REFUSALS[case]
    reply = shop.post(path, body, key, **headers)
    assert (reply.status, reply.data["success"], reply.data["error"]["code"]) == (status, False, code)
    assert set(reply.data) == {"success", "error"}
    assert set(reply.data["error"]) == ERROR_KEYS | ({"field"} if field else set())
    assert reply.data["error"].get("field") == field
    if status == 401:
        assert reply.headers["www-authenticate"].startswith("Bearer")


def test_a_wrong_method_is_405(shop: Shop) -> None:
    reply = shop.ask("GET", "/v1/track/click")
    assert (reply.status, reply.data["error"]["code"], reply.headers["allow"]) == (405, "method_not_allowed", "POST")


def test_unknown_fields_are_ignored_and_named(shop: Shop, name: str) -> None:
    reply = shop.post("click", click(fbclid=FBCLID + name, campaign="x", customer={"a": 1}))
    assert reply.status == 200
    assert set(reply.headers["collector-ignored-fields"].split(", ")) == {"campaign", "customer"}
