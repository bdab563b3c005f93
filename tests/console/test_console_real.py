"""The console and the reading commands over what a running edge has really written; from source and from the binary."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from tests.kit.program import BINARY, SOURCE, Serving
from tests.kit.raw_http import eventually

ORDERS = 30


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=["source", pytest.param("binary", marks=pytest.mark.binary)])
def serving(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    command = SOURCE if request.param == "source" else [str(BINARY)]
    running = Serving(command, tmp_path_factory.mktemp("run"))
    yield running
    running.end()


@pytest.fixture(scope="module")
def answers(serving: Serving) -> list[dict[str, Any]]:
    """The API's answers to some clicks and orders."""
    edge = serving.ready()["edge"]
    deadline = time.monotonic() + 60
    while not (key := re.search(r"sk_\w+", serving.stdout)):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    items = [
        {
            "type": "click",
            "storeId": "store_demo",
            "fbclid": f"IwAR{i:060d}",
            "landingPage": f"https://shop.example/?utm_source=facebook&utm_campaign=spring-{i % 2}",
            "visitorId": f"visitor-{i}",
        }
        for i in range(ORDERS)
    ]
    items += [
        {
            "type": "conversion",
            "storeId": "store_demo",
            "eventType": "Purchase",
            "orderId": f"=order-{i}",
            "eventValue": 10.5,
            "currency": "USD",
            **({"visitorId": f"visitor-{i}"} if i % 3 else {}),
        }
        for i in range(ORDERS)
    ]
    answer = requests.post(
        f"{edge}/v1/track/batch", json=items, headers={"Authorization": f"Bearer {key[0]}"}, timeout=20
    )
    assert answer.status_code == 200, answer.text
    told = f"20 of {ORDERS}"  # new events are in the sums a moment later
    assert eventually(lambda: told in _console(serving, "/").text)
    return [item["data"] for item in answer.json()["data"]["results"]]


def _console(serving: Serving, path: str, **params: str) -> requests.Response:
    return requests.get(serving.ready()["console"] + path, params=params, timeout=10)


def test_the_pages_agree_with_the_apis_answers(serving: Serving, answers: list[dict[str, Any]]) -> None:
    attributed = [a for a in answers[ORDERS:] if a["attributed"]]
    assert len(attributed) == 20
    overview = _console(serving, "/").text
    assert f"20 of {ORDERS}" in overview
    assert "67 %" in overview
    assert "USD 315.00" in overview
    metrics = _console(serving, "/metrics").text
    assert f"collector_clicks_total {ORDERS}\n" in metrics
    assert 'collector_conversions_kept{store="store_demo",event_type="Purchase",attributed="true"} 20\n' in metrics
    campaigns = _console(serving, "/campaigns").text
    assert "spring-0" in campaigns
    assert "spring-1" in campaigns
    for path in ("/events", "/delivery", "/trust", "/signals", "/live", "/system", "/left-out", "/orders"):
        assert _console(serving, path).status_code == 200, path


def test_a_conversions_page_names_the_click_that_the_api_named(serving: Serving, answers: list[dict[str, Any]]) -> None:
    answer = next(a for a in answers[ORDERS:] if a["attributed"])
    page = _console(serving, f"/conversions/{answer['conversionId']}").text
    assert answer["attributedTo"]["clickId"] in page
    assert f"{answer['attributedTo']['confidenceScore']} of 100" in page
    assert _console(serving, f"/clicks/{answer['attributedTo']['clickId']}").status_code == 200


def test_an_order_is_found_by_its_own_id(serving: Serving, answers: list[dict[str, Any]]) -> None:
    found = _console(serving, "/find", id="=order-7")
    assert found.status_code == 200
    assert found.url.endswith(f"/conversions/{answers[ORDERS + 7]['conversionId']}")  # the order itself, at once
    assert _console(serving, "/find", id="=order-77").status_code == 404


def test_the_commands_agree_with_the_apis_answers(serving: Serving, answers: list[dict[str, Any]]) -> None:
    exported = [json.loads(line) for line in serving.run("export", "conversions").splitlines()]
    assert {row["conversionId"] for row in exported} == {a["conversionId"] for a in answers[ORDERS:]}
    assert {row["orderId"] for row in exported} == {f"=order-{i}" for i in range(ORDERS)}
    assert "'=order-3" in serving.run("export", "conversions", "--format", "csv")
    clicks = [json.loads(line) for line in serving.run("export", "clicks").splitlines()]
    assert {row["clickId"] for row in clicks} == {a["clickId"] for a in answers[:ORDERS]}
    status = json.loads(serving.run("status", "--json"))
    assert (status["today"]["purchases"], status["today"]["attributed"]) == (ORDERS, 20)
    for name in (answers[ORDERS + 1]["conversionId"], "=order-1"):
        why = json.loads(serving.run("explain", name, "--json"))
        assert why["conversionId"] == answers[ORDERS + 1]["conversionId"]
        assert why["clickId"] == answers[ORDERS + 1]["attributedTo"]["clickId"]
    report = json.loads(serving.run("report", "attribution", "--json"))
    assert report["orders"] == ORDERS
    assert (
        sum(line["value"] if isinstance(line["value"], float) else float(line["value"]) for line in report["lines"])
        == 315
    )


def test_deliveries_are_exported_once_they_are_over(serving: Serving, answers: list[dict[str, Any]]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        rows = [json.loads(line) for line in serving.run("export", "deliveries").splitlines()]
        if all(row["status"] == "dry_run" or row["settledAt"] for row in rows):
            break
        time.sleep(0.5)
    assert len(rows) == ORDERS
    # An order without anything to know a person by is refused before it is sent, with the reason.
    assert {row["status"] for row in rows} <= {"dry_run", "rejected"}
    assert all(row["reason"] for row in rows if row["status"] == "rejected")
