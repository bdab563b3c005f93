"""The simulator refuses what Meta refuses: the control behind every delivery test."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.kit.simulators.graph import GraphSimulator

EMAIL = "62a14e44f765419d10fea99367361a727c12365e2520f32218d505ed9aa0f62f"


@pytest.fixture(scope="module")
def graph() -> Iterator[GraphSimulator]:
    with GraphSimulator() as simulator:
        yield simulator


def good(**more: Any) -> dict[str, Any]:
    event: dict[str, Any] = {
        "event_name": "Purchase",
        "event_time": int(time.time()) - 5,
        "event_id": "e",
        "action_source": "website",
        "event_source_url": "https://shop.example/",
        "user_data": {"em": [EMAIL], "client_user_agent": "Mozilla/5.0"},
        "custom_data": {"value": 1.5, "currency": "EUR"},
    }
    return {**event, **more}


def post(graph: GraphSimulator, *events: Any, token: str = "t", **top: Any) -> tuple[int, dict[str, Any]]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    answer = httpx.post(
        f"{graph.url}/v26.0/1/events", json={"data": list(events), **top}, headers=headers, trust_env=False
    )
    return answer.status_code, answer.json()


def test_a_good_batch_is_taken(graph: GraphSimulator) -> None:
    assert post(graph, good(), good()) == (200, {"events_received": 2, "messages": [], "fbtrace_id": "AbCdEfGh"})


NOW = int(time.time())
BAD = [
    ({"event_time": NOW - 8 * 86_400}, 2804003),
    ({"event_time": NOW + 3_600}, 2804004),
    ({"user_data": {"em": ["john@gmail.com"]}}, 2804019),
    ({"user_data": {"em": EMAIL.upper()}}, 2804019),
    ({"user_data": {"em": [EMAIL], "click_id": "x"}}, 2804019),
    ({"user_data": {"client_user_agent": "x", "country": [EMAIL]}}, 2804050),
    ({"user_data": {"fn": [EMAIL], "ge": [EMAIL]}}, 2804050),
    ({"user_data": {"em": [EMAIL], "fbc": "fb.1.x.y"}}, 2804001),
    ({"user_data": {"em": [EMAIL], "fbc": f"fb.1.{(NOW - 91 * 86_400) * 1000}.abc"}}, 2804001),
    ({"user_data": {"em": [EMAIL], "client_ip_address": "203.0.113.1:80"}}, 2804019),
    ({"custom_data": {"currency": "EUR"}}, 2804009),
    ({"custom_data": {"value": 1}}, 2804010),
    ({"event_name": "Lead", "custom_data": {"value": 1}}, 2804023),
    ({"custom_data": {"value": 1, "currency": "EUR", "contents": [{"quantity": 1}]}}, 2804008),
    ({"action_source": "pigeon"}, 2804019),
    ({"action_source": "app"}, 2804043),
    ({"colour": "red"}, 2804019),
    ({"data_processing_options": ["GDPR"]}, 2804030),
    ({"data_processing_options": ["LDU"]}, 2804030),
    ({"event_name": "x" * 51}, 2804019),
    ({"event_id": 7}, 2804019),
    ({"event_source_url": "/thanks"}, 2804019),
    ({"event_source_url": "https://shop.example/?email=jo@example.com"}, 2804019),
    ({"referrer_url": 1}, 2804019),
    ({"user_data": {"em": [EMAIL], "external_id": [""]}}, 2804019),
    ({"user_data": {"em": ["e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"]}}, 2804019),
    ({"user_data": {"em": [EMAIL], "fbp": "fb.1.1700000000000.123.ZZ"}}, 2804019),
    ({"user_data": {"em": [EMAIL], "client_ip_address": "10.0.0.1"}}, 2804019),
    ({"user_data": {"em": [EMAIL], "client_user_agent": 1}}, 2804019),
    ({"user_data": {"em": [EMAIL], "lead_id": "x"}}, 2804036),
    ({"custom_data": {"value": "1", "currency": "EUR"}}, 2804009),
    ({"custom_data": {"value": -0.0, "currency": "EUR"}}, 2804019),
    ({"custom_data": {"value": 1, "currency": "EUR", "contents": [{"id": 1}]}}, 2804008),
    ({"custom_data": {"value": 1, "currency": "EUR", "contents": [{"id": "A", "quantity": "x"}]}}, 2804008),
    ({"custom_data": {"value": 1, "currency": "EUR", "content_ids": "A"}}, 2804019),
    ({"custom_data": {"value": 1, "currency": "EUR", "content_type": "gadget"}}, 2804019),
    ({"custom_data": {"value": 1, "currency": "EUR", "num_items": 1.5}}, 2804019),
    ({"custom_data": {"value": 1, "currency": "EUR", "order_id": 7}}, 2804019),
    ({"custom_data": {"value": 1, "currency": "EUR", "note": {"deep": ["jo@example.com"]}}}, 2804019),
]


@pytest.mark.parametrize(("change", "subcode"), BAD)
def test_one_bad_event_refuses_the_whole_batch(graph: GraphSimulator, change: dict[str, Any], subcode: int) -> None:
    before = graph.state.events
    status, body = post(graph, good(), good(**change))
    assert (status, body["error"]["code"], body["error"]["error_subcode"]) == (400, 100, subcode)
    assert graph.state.events == before


def test_an_unexpected_key_is_named_with_the_events_index(graph: GraphSimulator) -> None:
    _, body = post(graph, good(), good(user_data={"em": [EMAIL], "click_id": "x"}))
    assert body["error"]["message"] == "Unexpected key \"click_id\" on param \"$['data'][1]['user_data']\""


def test_tokens_sizes_and_keys(graph: GraphSimulator) -> None:
    assert post(graph, good(), token="")[1]["error"]["code"] == 104
    assert post(graph, *[good()] * 1001)[0] == 400
    assert post(graph)[0] == 400
    assert post(graph, good(), surprise=1)[0] == 400
    assert post(graph, good(), test_event_code="TEST1")[0] == 200
    in_url = httpx.post(f"{graph.url}/v26.0/1/events?access_token=t", json={"data": [good()]}, trust_env=False)
    assert in_url.status_code == 400
