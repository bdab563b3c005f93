"""Names of unknown fields are the caller's text: in a header of the answer they begin no line of their own."""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from collector.edge import track
from tests.kit.edge_process import Edge, running

CLICK = {"storeId": "store_abc123", "fbclid": "IwAR0aBcDeFgHiJkLmNoPqRsTuVwXyZ", "landingPage": "https://shop.example/"}
ORDER = {"storeId": "store_abc123", "eventType": "Purchase", "orderId": "n-1", "eventValue": 5, "currency": "USD"}
BEACON = {"s": "store_abc123", "e": [{"t": "Lead", "i": "n-1", "at": 1, "u": "https://shop.example/"}]}
ODD = [
    "x\r\nSet-Cookie: a=b",
    "x\n\nbody",
    "\x01",
    "\x07\x1f\x7f",
    "\x85\u2028\u2029",
    "ÿ\ud7ff",
    "\t",
    "a" * 5_000,
    ", ,",
]


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    with running(tmp_path_factory.mktemp("edge")) as edge:
        yield edge


def answer(edge: Edge, path: str, body: Any, **headers: str) -> tuple[int, list[tuple[str, str]]]:
    connection = http.client.HTTPConnection("127.0.0.1", edge.port, timeout=20)
    given = {"Content-Type": "application/json", "Authorization": f"Bearer {edge.keys['secret']}", **headers}
    connection.request("POST", path, json.dumps(body), given)
    got = connection.getresponse()
    got.read()
    connection.close()
    return got.status, got.getheaders()


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("plain", [True, False], ids=["fast lane", "application"])
def test_an_odd_name_is_answered_and_begins_no_header(edge: Edge, name: str, plain: bool) -> None:
    bodies = [("click", {**CLICK, name: 1}), ("conversion", {**ORDER, name: 1})]
    bodies += [("conversion", {**ORDER, field: {name: -3778}}) for field in ("customerData", "customData")]
    bodies += [("conversion", {**ORDER, "products": [{"productId": "1", name: []}]})]
    bodies += [
        ("batch", [{"type": "click", **CLICK, name: 1}, {"type": "conversion", **ORDER, "customerData": {name: {}}}])
    ]
    for path, body in bodies:
        key = {} if plain else {"Idempotency-Key": f"{ODD.index(name)}.{bodies.index((path, body))}"}
        status, headers = answer(edge, f"/v1/track/{path}", body, **key)
        assert status == 200, (path, name)
        assert "Set-Cookie" not in dict(headers)
        assert len(dict(headers).get("collector-ignored-fields", "")) < 1_100


@pytest.mark.parametrize("name", ODD)
def test_an_odd_name_in_a_beacon_is_answered(edge: Edge, name: str) -> None:
    event = {"t": "Lead", "i": "n-1", "at": 1, "u": "https://shop.example/"}
    events: list[dict[str, Any]] = [
        {name: 1},
        {"h": {name: -3778}},
        {"d": {name: [None]}},
        {"d": {"contents": [{name: 1}]}},
    ]
    for body in [{**BEACON, name: 1}, *({**BEACON, "e": [event | more]} for more in events)]:
        status, headers = answer(edge, "/c", body, Origin="https://shop.example")
        assert status == 204
        assert "Set-Cookie" not in dict(headers)


def test_the_control_a_line_end_in_a_name_would_be_one_in_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    assert b"\n" not in track.ignored_header(["x\r\ny"])[0][1]
    monkeypatch.setattr(track, "_NO_HEADER", re.compile(r"(?!)"))
    assert b"\n" in track.ignored_header(["x\r\ny"])[0][1]
