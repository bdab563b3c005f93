"""What a page is answered tells it what it told, and nothing of what others know: over HTTP, and by the work done."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.journal.test_tellers import JO, SAFARI, STRANGER, page, server, weighed
from tests.kit.edge_process import Edge, running
from tests.kit.journal_kit import Kit, order

ORDER = {"storeId": "store_abc123", "eventType": "Purchase", "eventValue": 49.9, "currency": "USD"}
BROWSER = {"Origin": "https://shop.example", "User-Agent": SAFARI, "Accept-Language": "en"}
TOLD = {"conversionId", "eventType", "capiStatus", "eventId", "timestamp", "capiReason"}


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    for_ever = "import collector.edge.track as t; t.MOST_WAIT_SECONDS = 600"  # no answer comes to who waits
    with running(tmp_path_factory.mktemp("answers"), for_ever, mode="live", trusted_proxies=["127.0.0.1"]) as edge:
        yield edge


def by_page(edge: Edge, number: str, address: str = "45.83.12.7", **more: Any) -> Any:
    headers = BROWSER | {"X-Forwarded-For": address} | more.pop("headers", {})
    return edge.post("/v1/track/conversion", ORDER | {"orderId": number} | more, "page", headers)


def by_server(edge: Edge, number: str, **more: Any) -> Any:
    return edge.post("/v1/track/conversion", ORDER | {"orderId": number} | JO | more)


def test_T4_a_page_is_answered_the_same_whether_the_order_exists_or_not(edge: Edge) -> None:
    assert by_server(edge, "exists", visitorId="v1", eventValue=7, eventId="own").status == 200
    found = by_page(edge, "exists", visitorId="v1").body["data"]
    missing = by_page(edge, "missing", visitorId="v1").body["data"]
    assert found.keys() == missing.keys() == TOLD
    for name in ("eventType", "capiStatus", "capiReason"):
        assert found[name] == missing[name]
    assert found["eventId"] != "own"
    again = by_page(edge, "exists", visitorId="v1").body["data"]
    assert again.keys() == TOLD
    assert again["conversionId"] == found["conversionId"]  # its own telling
    other = by_page(edge, "exists", "45.83.12.8", visitorId="v2", eventValue=1, currency="EUR")
    assert (other.status, other.body["data"].keys()) == (200, TOLD)  # nobody else's conflict
    assert other.body["data"]["conversionId"] not in (found["conversionId"], missing["conversionId"])


def test_T4_the_control_a_server_is_told_all(edge: Edge) -> None:
    by_server(edge, "told")
    again = by_server(edge, "told").body["data"]
    assert again["duplicate"]
    assert "attributed" in again
    assert by_server(edge, "told", eventValue=1).body["error"]["code"] == "order_conflict"


def test_T4_a_pages_other_events_are_answered_alike_and_nobody_waits_for_meta(edge: Edge) -> None:
    body = {"storeId": "store_abc123", "eventType": "ViewContent", "eventId": "seen-1"} | JO
    first = edge.post("/v1/track/event", body, "page", BROWSER | {"Prefer": "wait=600"})
    data = first.body["data"]
    assert (data["capiStatus"], data["eventId"]) == ("queued", "seen-1")
    assert data.keys() == TOLD - {"capiReason"}
    again = edge.post("/v1/track/event", body, "page", BROWSER).body["data"]
    assert again | {"timestamp": data["timestamp"]} == data  # each is dated by its own arrival, known or not


def test_T6_every_answer_that_is_not_on_its_way_says_why(edge: Edge) -> None:
    held = by_page(edge, "held").body["data"]
    assert (held["capiStatus"], held["capiReason"]) == ("held", "unconfirmed: only a page has told us of this order")
    refused = by_page(edge, "refused", consent={"marketing": "denied"}).body["data"]
    assert (refused["capiStatus"], refused["capiReason"]) == ("skipped", "consent denied")
    for number, more, status in (
        ("poor", {"customerData": None}, "rejected"),
        ("old", {"timestamp": "2025-01-31T06:00:00Z"}, "expired"),
        ("over", {"orderStatus": "cancelled"}, "skipped"),
        ("free", {"eventValue": 0}, "skipped"),
    ):
        data = by_server(edge, number, **more).body["data"]
        assert data["capiStatus"] == status
        assert data["capiReason"]


def test_a_pages_conversion_is_read_as_the_order_once_a_server_has_told_it(edge: Edge) -> None:
    told = by_page(edge, "alias").body["data"]["conversionId"]
    assert edge.get(f"/v1/conversions/{told}").body["data"]["capiStatus"] == "held"
    data = by_server(edge, "alias", eventValue=12).body["data"]
    read = edge.get(f"/v1/conversions/{told}").body["data"]
    assert (read["conversionId"], read["capiStatus"]) == (data["conversionId"], "queued")
    assert edge.get(f"/v1/conversions/{told}", "page").status == 403


def test_T7_nobody_occupies_anothers_idempotency_key(edge: Edge) -> None:
    key = {"headers": {"Idempotency-Key": "order-77"}}
    first = by_page(edge, "77", visitorId="v1", **key)
    for address, visitor in (("45.83.12.8", "v1"), ("45.83.12.7", "v2")):
        other = by_page(edge, "78", address, visitorId=visitor, **key)
        assert (other.status, other.body["data"]["conversionId"] == first.body["data"]["conversionId"]) == (200, False)
    again = by_page(edge, "77", visitorId="v1", **key)
    assert again.body == first.body
    assert b"idempotent-replayed" in again.data.lower()
    assert by_page(edge, "78", visitorId="v1", **key).body["error"]["code"] == "idempotency_conflict"  # the control


AGENTS = [
    "okhttp/4.12.0",
    "Stripe/1.0 (+https://stripe.com/docs/webhooks)",
    "WordPress/6.5; https://mystore.com",
    "Apache-HttpClient/4.5.14 (Java/17)",
    "axios/1.6.8",
    "node-fetch",
    "Python/3.11 aiohttp/3.9.1",
    "Go-http-client/2.0",
    "Shopify-Captain-Hook",
    "curl/8.5.0",
    "python-requests/2.31.0",
    "Googlebot/2.1 (+http://www.google.com/bot.html)",
    "Wget/1.21",
    "libwww-perl/6.67",
    "python-httpx/0.25",
    "got (https://github.com/sindresorhus/got)",
    "facebookexternalhit/1.1",
    "Zapier",
]


@pytest.mark.parametrize("agent", AGENTS)
def test_L5_an_order_is_a_sale_whoever_carried_it(edge: Edge, agent: str) -> None:
    answer = by_server(edge, f"agent {AGENTS.index(agent)}", userAgent=agent)
    assert answer.body["data"]["capiStatus"] == "queued"
    assert b"collector-ignored-fields: userAgent" in answer.data
    step = edge.post("/v1/track/event", ORDER | {"eventType": "ViewContent", "userAgent": agent})
    assert step.body["data"]["capiStatus"] == "skipped"  # the control: a hit is no sale


# Rules switched off, of the running program: what a page is answered (T4), whose its Idempotency-Key is (T7), what is
# an order (L5).
OFF = (
    "from collector.core import intake; from collector.edge import door; "
    "from collector.exchange import prepared, responses; "
    "prepared.PreparedEvent._told = lambda self, result, public: "
    "responses.conversion_data(result.state, public, duplicate=result.duplicate); "
    "asked = door.Asked; "
    "door.Asked = lambda key, path, body, idempotency, wait, page=None: asked(key, path, body, idempotency, wait); "
    "intake.is_order = lambda body: False"
)


@pytest.mark.slow
def test_T4_T7_L5_with_the_rules_off_the_checks_fail(tmp_path: Path) -> None:
    with running(tmp_path, patch=OFF, mode="live", trusted_proxies=["127.0.0.1"]) as edge:
        for check in (
            lambda: test_T4_a_page_is_answered_the_same_whether_the_order_exists_or_not(edge),
            lambda: test_T7_nobody_occupies_anothers_idempotency_key(edge),
            lambda: test_L5_an_order_is_a_sale_whoever_carried_it(edge, AGENTS[0]),
        ):
            with pytest.raises((AssertionError, KeyError)):
                check()


@pytest.mark.parametrize("agent", ["Mozilla/5.0 (Windows NT 10.0) Chrome/142.0.0.0", "GuzzleHttp/7", "CFNetwork/1490"])
def test_L5_a_buyers_agent_stays(edge: Edge, agent: str) -> None:
    answer = by_server(edge, f"person {agent[:5]}", userAgent=agent)
    assert (answer.body["data"]["capiStatus"], b"userAgent" in answer.data) == ("queued", False)


NO_ORDERS = [
    "undefined",
    "   ",
    "null",
    "NaN",
    "None",
    "0",
    0,
    "-",
    "N/A",
    "false",
    "[object Object]",
    "{{order_id}}",
    "",
]


@pytest.mark.parametrize("number", [*NO_ORDERS, " Undefined ", "NULL", "${orderId}", "<%= id %>", "\t", "nan"])
def test_L3_what_stands_for_no_order_is_none(edge: Edge, number: Any) -> None:
    for key, headers in (("secret", {}), ("page", BROWSER)):
        answer = edge.post("/v1/track/conversion", ORDER | {"orderId": number}, key, headers)
        assert (answer.status, answer.body["error"]["code"]) == (400, "missing_required_field")
        assert answer.body["error"]["field"] == "orderId"


@pytest.mark.parametrize("number", [" o-1 ", "o-1\n", "\to-1"])
def test_L3_an_order_id_is_trimmed(edge: Edge, number: str) -> None:
    first = by_server(edge, "o-1").body["data"]
    assert by_server(edge, number).body["data"]["conversionId"] == first["conversionId"]
    assert by_server(edge, "o-1x").body["data"]["conversionId"] != first["conversionId"]


@pytest.mark.parametrize(
    "value",
    ["49.899999999999999", "49.9000000000000021316282072803005576133728027343750", "4.99e1", "49.90", "49.895"],
)
def test_L2_php_writes_the_same_amount_otherwise(edge: Edge, value: str) -> None:
    number = f"php {value}"
    assert by_page(edge, number).body["data"]["capiStatus"] == "held"
    assert by_server(edge, number).body["data"]["capiStatus"] == "queued"
    raw = json.dumps(ORDER | {"orderId": number, "eventValue": "X"}).replace('"X"', value).encode()
    assert edge.post("/v1/track/conversion", raw).body["data"]["duplicate"]


@pytest.mark.parametrize("word", ["processing", "on-hold", "PAID", "Cancelled", "authorized", "partially_paid"])
def test_L1_any_platforms_word_is_taken(edge: Edge, word: str) -> None:
    answer = by_server(edge, f"word {word}", orderStatus=word)
    assert (answer.status, b"collector-ignored-fields" in answer.data) == (200, False)
    unknown = by_server(edge, f"odd {word}", orderStatus=f"{word}!?")
    assert (unknown.status, b"collector-ignored-fields: orderStatus" in unknown.data) == (200, True)


@pytest.mark.parametrize("at", ["yesterday", "2026-13-01T00:00:00Z", "2099-01-01T00:00:00Z", "1790000000"])
def test_a_time_of_the_status_that_is_none_or_lies_ahead_is_left_out(edge: Edge, at: str) -> None:
    answer = by_server(edge, f"since {at}", orderStatus="paid", statusAt=at)
    assert (answer.status, b"collector-ignored-fields: statusAt" in answer.data) == (200, True)


# -- the same amount of work


def test_T4_a_pages_telling_is_the_same_work_whether_the_order_exists_or_not(tmp_path: Path) -> None:
    with Kit(tmp_path) as kit:
        server(kit, "exists", visitorId="v1", **JO)
        page(kit, order("before", visitorId="v1"), STRANGER)  # what is prepared once
        weighed(kit)
        done: list[str] = []

        def work(number: str) -> list[str]:
            done.clear()
            page(kit, order(number, visitorId="v1"), STRANGER)
            answered = list(done)
            weighed(kit)
            return answered

        kit.transaction._db.exec_trace = lambda cursor, sql, bindings: done.append(sql) is None
        missing, found = work("missing"), work("exists")
        kit.transaction._db.exec_trace = None
    assert missing
    assert _own(found) == _own(missing)


def _own(statements: list[str]) -> list[str]:
    """Up to the commit, before which nobody is answered."""
    return statements[: next(n for n, sql in enumerate(statements) if sql == "COMMIT") + 1]
