"""Heaps in which nothing fits, over the fast lane and over the application: an answer for each, and none is ours (5xx).

And what a page's beacon left out is named (F3), as an order's is.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.kit.edge_process import Edge, running
from tests.kit.raw_http import Answer

PAGE = {
    "Origin": "https://shop.example",
    "Content-Type": "text/plain;charset=UTF-8",
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:127.0) Gecko/20100101 Firefox/127.0",
}
BAD: list[Any] = [
    None, True, -1, 1.5, 1e308, 10**30, 10**400, "", "x", "\0", "\ud800", "a" * 5000, "NaN", "sNaN", "1_000", "٣", [],
    {}, [[]], {"a": {"b": [1]}}, [None], {"email": {"x": 1}}, {"": ""}, {"\ud800": 1}, {"a": 10**400}, 2**63, -(2**63),
    "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2026-13-45T99:99:99Z", "http://[::1", "javascript:1",
]  # fmt: skip
OF_EVENT = ("t", "i", "at", "u", "r", "d", "h")
OF_BEACON = ("k", "n", "c", "f", "l", "v", "w", "x")
OF_ORDER = (
    "eventType orderId eventValue currency timestamp customerData products customData consent eventId visitorId fbc "
    "fbp fbclid ipAddress userAgent eventSourceUrl referrer actionSource orderStatus statusAt renewalOf test clickId "
    "fingerprint fingerprintVersion firstTouch lastTouch"
).split()


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    with running(tmp_path_factory.mktemp("heaps")) as running_edge:
        yield running_edge


def spoilt(dice: Random, fields: Any, share: float) -> dict[str, Any]:
    return {name: dice.choice(BAD) for name in fields if dice.random() < share}


def heaps(seed: int) -> Iterator[tuple[str, Any]]:
    """A beacon, a batch and an order with every kind of bad part, or of nothing else."""
    dice = Random(seed)
    share = dice.choice([0.2, 1.0])
    events = [dice.choice([spoilt(dice, OF_EVENT, share), dice.choice(BAD)]) for _ in range(dice.choice([1, 4, 20]))]
    yield "/c", {"s": "store_abc123", "n": 1} | spoilt(dice, OF_BEACON, share) | {"e": events}
    order = {"storeId": "store_abc123", "eventType": "Purchase", "orderId": "o", "eventValue": 1, "currency": "USD"}
    orders = [order | spoilt(dice, OF_ORDER, share) for _ in range(4)]
    yield "/v1/track/batch", [*orders, dice.choice(BAD)]
    yield "/v1/track/conversion", order | spoilt(dice, OF_ORDER[4:], share)


@pytest.mark.parametrize("seed", range(30))
def test_a_heap_in_which_nothing_fits_is_answered_and_the_answer_is_no_fault_of_ours(edge: Edge, seed: int) -> None:
    for path, body in heaps(seed):
        told, raw = (PAGE, None) if path == "/c" else ({"Content-Type": "application/json"}, "secret")
        lane = edge.ask("POST", path, json.dumps(body).encode(), raw, told)
        application = edge.ask("POST", path, json.dumps(body).encode(), raw, told | {"Cookie": "_fbc=\xff; _fbp="})
        for answer in (lane, application):
            assert 200 <= answer.status < 500, (path, body, answer.data)


@pytest.mark.parametrize(
    "never",
    ["0001-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00", "0000-12-31T10:00:00Z", "1900-01-01T00:00:00Z",
     "1969-12-31T23:59:59.999Z", "1970-01-01T00:59:59+01:00"],
)  # fmt: skip
def test_F1_a_time_before_all_times_is_none_and_is_named(edge: Edge, never: str) -> None:
    """Go and .NET print 0001 for "no time": an order with one was stored, and answered with 500 for ever."""
    body = {"storeId": "store_abc123", "eventType": "Purchase", "orderId": f"time {never}", "eventValue": 1}
    answer = edge.post("/v1/track/conversion", body | {"currency": "USD", "timestamp": never, "statusAt": never})
    assert answer.status == 200
    assert ignored(answer) == ["timestamp", "statusAt"]


def ignored(answer: Answer) -> list[str]:
    lines = answer.data.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
    told = [line.partition(": ")[2] for line in lines if line.lower().startswith("collector-ignored-fields:")]
    return told[0].split(", ") if told else []


def beacon(edge: Edge, **parts: Any) -> Answer:
    view = {"t": "Lead", "at": 1, "u": "https://shop.example/", "d": {}}
    event = view | parts.pop("event", {})
    return edge.ask("POST", "/c", json.dumps({"s": "store_abc123", "n": 2, "e": [event], **parts}).encode(), None, PAGE)


@pytest.mark.parametrize(
    ("parts", "names"),
    [
        ({}, []),
        ({"f": [1, "https://shop.example/"], "l": None, "v": "", "k": None}, []),
        ({"f": {"no": 1}, "v": ["short", 1]}, ["f", "v"]),
        ({"n": -5, "l": [1, 7]}, ["n", "l"]),
        ({"c": "perhaps"}, []),  # held for consent: nothing of it is kept, and that is its reason
        ({"event": {"i": {"no": 1}, "r": 7}}, ["e[0].i", "e[0].r"]),
        ({"event": {"d": "text"}}, ["e[0].d"]),
        ({"event": {"h": {"email": {"no": 1}, "phone": "+16505551212"}}}, ["customerData.email"]),
        ({"event": {"d": {"big": 10**30, "value": 5, "currency": "USD"}}}, ["customData.big"]),
        ({"event": {"h": {"shoeSize": 43}}}, ["customerData.shoeSize"]),
    ],
)
def test_F3_what_a_beacon_left_out_is_named(edge: Edge, parts: dict[str, Any], names: list[str]) -> None:
    answer = beacon(edge, **parts)
    assert answer.status == 204
    assert ignored(answer) == names


def test_F3_control_without_its_names_the_answer_says_nothing(tmp_path: Path) -> None:
    silent = "from collector.core import said; said._unread = lambda *told: []"
    with running(tmp_path, patch=silent) as edge:
        assert ignored(beacon(edge, f={"no": 1})) == []
