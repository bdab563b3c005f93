"""Every error has one shape and its own code, whatever raised it: on the real edge, over a real socket."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from collector.errors import STATUS_OF
from tests.kit.edge_process import Edge, refused_at_last, running
from tests.kit.raw_http import Answer, exchange, get, trickle

CLICK = {"fbclid": "IwAR0abcdefghijklmnop", "storeId": "store_abc123", "landingPage": "https://shop.example/?utm=a"}
ORDER = {"storeId": "store_abc123", "eventType": "Purchase", "orderId": "1", "eventValue": 1, "currency": "USD"}
FROM_SHOP = {"Origin": "https://shop.example"}


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    with running(tmp_path_factory.mktemp("edge")) as edge:
        yield edge


def assert_error(answer: Answer, status: int, code: str, field: str | None = None) -> dict[str, Any]:
    """The one shape, to the letter."""
    assert answer.status == status, answer.data
    assert b"content-type: application/json" in answer.data.partition(b"\r\n\r\n")[0].lower()
    body = answer.body
    assert list(body) == ["success", "error"]
    assert body["success"] is False
    error: dict[str, Any] = body["error"]
    assert set(error) == {"code", "message", "requestId"} | ({"field"} if field else set()), error
    assert (error["code"], error.get("field")) == (code, field)
    assert re.fullmatch(r"req_[0-9a-f]{16}", error["requestId"])
    assert error["message"]
    return error


def click(**change: Any) -> dict[str, Any]:
    return {name: value for name, value in (CLICK | change).items() if value is not ...}


def order(**change: Any) -> dict[str, Any]:
    return {name: value for name, value in (ORDER | change).items() if value is not ...}


OLD_FBC = "fb.1.1500000000000.IwAR0abcdefghijklmnop"
Case = tuple[Callable[[Edge], Answer], int, str, str | None]


def posted(path: str, body: Any, key: str | None = "secret", headers: dict[str, str] | None = None) -> Any:
    return lambda edge: edge.post(f"/v1/track/{path}", body, key, headers)


CASES: dict[str, Case] = {
    "click without fbclid": (posted("click", click(fbclid=...)), 400, "missing_required_field", "fbclid"),
    "click with an empty fbclid": (posted("click", click(fbclid="")), 400, "missing_required_field", "fbclid"),
    "click with a null fbclid": (posted("click", click(fbclid=None)), 400, "missing_required_field", "fbclid"),
    "click without store": (posted("click", click(storeId=...)), 400, "missing_required_field", "storeId"),
    "click with an empty store": (posted("click", click(storeId="")), 400, "missing_required_field", "storeId"),
    "click without page": (posted("click", click(landingPage=...)), 400, "missing_required_field", "landingPage"),
    "order without id": (posted("conversion", order(orderId=...)), 400, "missing_required_field", "orderId"),
    "order without value": (posted("conversion", order(eventValue=...)), 400, "missing_required_field", "eventValue"),
    "order without currency": (posted("conversion", order(currency=...)), 400, "missing_required_field", "currency"),
    "event without type": (posted("event", order(eventType=...)), 400, "missing_required_field", "eventType"),
    "malformed fbclid": (posted("click", click(fbclid="a b<>")), 400, "invalid_fbclid", "fbclid"),
    "placeholder": (posted("click", click(fbclid="undefined")), 400, "invalid_fbclid", "fbclid"),
    "old fbc": (posted("click", click(fbc=OLD_FBC)), 400, "invalid_fbclid", "fbc"),
    "currency": (posted("conversion", order(currency="XYZ")), 400, "invalid_currency", "currency"),
    "negative value": (posted("conversion", order(eventValue=-1)), 400, "invalid_field", "eventValue"),
    "value as text": (posted("conversion", order(eventValue="1.00")), 400, "invalid_field", "eventValue"),
    "long type": (posted("conversion", order(eventType="x" * 51)), 400, "invalid_field", "eventType"),
    "page": (posted("click", click(landingPage="javascript:alert(1)")), 400, "invalid_field", "landingPage"),
    "broken json": (posted("click", b'{"fbclid":'), 400, "invalid_json", None),
    "empty body": (posted("click", b""), 400, "invalid_json", None),
    "not an object": (posted("click", b"[1]"), 400, "invalid_json", None),
    "batch of an object": (posted("batch", b"{}"), 400, "invalid_json", None),
    "nested too deep": (posted("conversion", b"[" * 5000), 400, "invalid_json", None),
    "no key": (posted("click", CLICK, None), 401, "unauthorized", None),
    "unknown key": (posted("click", CLICK, "sk_unknown"), 401, "unauthorized", None),
    "no bearer": (posted("click", CLICK, None, {"Authorization": "Basic YTpi"}), 401, "unauthorized", None),
    "secret key in the query": (
        lambda edge: edge.post(f"/v1/track/click?key={edge.keys['secret']}", CLICK, None),
        401,
        "unauthorized",
        None,
    ),
    "secret key in the body": (
        lambda edge: edge.post("/v1/track/click", click(key=edge.keys["secret"]), None),
        401,
        "unauthorized",
        None,
    ),
    "another store's key": (posted("click", CLICK, "other"), 403, "forbidden", "storeId"),
    "a page's key for a batch": (posted("batch", [], "page", FROM_SHOP), 403, "forbidden", None),
    "a page's key to read": (lambda edge: edge.get("/v1/clicks/click_x", "page"), 403, "forbidden", None),
    "a stranger's page": (
        posted("click", CLICK, "page", {"Origin": "https://evil.example"}),
        403,
        "origin_not_allowed",
        None,
    ),
    "a null origin": (posted("click", CLICK, "page", {"Origin": "null"}), 403, "origin_not_allowed", None),
    "a look-alike": (
        posted("click", CLICK, "page", {"Origin": "https://shop.example.evil.example"}),
        403,
        "origin_not_allowed",
        None,
    ),
    "unknown store": (posted("click", click(storeId="nobody"), "every"), 404, "store_not_found", "storeId"),
    "inactive store": (posted("click", click(storeId="store_closed"), "every"), 404, "store_not_found", "storeId"),
    "unknown path": (lambda edge: edge.get("/nothing/here"), 404, "not_found", None),
    "path traversal": (lambda edge: edge.get("/../../etc/passwd"), 404, "not_found", None),
    "encoded traversal": (lambda edge: edge.get("/%2e%2e/%2e%2e/etc/passwd"), 404, "not_found", None),
    "unknown conversion": (lambda edge: edge.get("/v1/conversions/conv_none"), 404, "not_found", None),
    "conversion with a foreign id": (
        lambda edge: edge.get("/v1/conversions/" + "conv_" + "0" * 32),
        404,
        "not_found",
        None,
    ),
    "deeper than a click": (lambda edge: edge.get("/v1/clicks/a/b"), 404, "not_found", None),
    "GET of a post": (lambda edge: edge.get("/v1/track/click"), 405, "method_not_allowed", None),
    "POST of a get": (lambda edge: edge.post("/healthz", b""), 405, "method_not_allowed", None),
    "DELETE": (lambda edge: edge.ask("DELETE", "/v1/clicks/x", b"", "secret", {}), 405, "method_not_allowed", None),
    "PUT of the document": (
        lambda edge: edge.ask("PUT", "/openapi.json", b"", None, {}),
        405,
        "method_not_allowed",
        None,
    ),
    "too large": (posted("batch", b"[" + b" " * 1_048_576 + b"]"), 413, "payload_too_large", None),
    "too large for a page": (
        posted("click", click(referrer="x" * 70_000), "page", FROM_SHOP),
        413,
        "payload_too_large",
        None,
    ),
    "too many items": (posted("batch", [{}] * 1001), 413, "payload_too_large", None),
    "chunked and too large": (
        lambda edge: exchange(
            edge.port,
            b"POST /v1/track/click HTTP/1.1\r\nHost: t\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
            + (b"ffff\r\n" + b" " * 65_535 + b"\r\n") * 20
            + b"0\r\n\r\n",
        ),
        413,
        "payload_too_large",
        None,
    ),
    "form": (
        posted("click", b"fbclid=a", "secret", {"Content-Type": "application/x-www-form-urlencoded"}),
        415,
        "unsupported_media_type",
        None,
    ),
    "multipart": (
        posted("click", b"--a", "secret", {"Content-Type": "multipart/form-data; boundary=a"}),
        415,
        "unsupported_media_type",
        None,
    ),
    "gzip": (
        posted("click", b"\x1f\x8b\x08\x00", "secret", {"Content-Encoding": "gzip"}),
        415,
        "unsupported_media_type",
        None,
    ),
    "two encodings": (
        posted("click", b"{}", "secret", {"Content-Encoding": "identity, br"}),
        415,
        "unsupported_media_type",
        None,
    ),
    "long idempotency key": (
        posted("click", CLICK, "secret", {"Idempotency-Key": "k" * 256}),
        400,
        "invalid_field",
        None,
    ),
    "header too large": (
        lambda edge: edge.get("/healthz", None, {"X": "a" * 40_000}),
        431,
        "headers_too_large",
        None,
    ),
    "target too long": (lambda edge: edge.get("/" + "a" * 9000, None), 414, "target_too_long", None),
    "no http": (lambda edge: exchange(edge.port, b"hello\r\n\r\n"), 400, "bad_request", None),
    "two hosts": (lambda edge: exchange(edge.port, get(extra=b"Host: u\r\n")), 400, "bad_request", None),
}


@pytest.mark.parametrize("name", CASES)
def test_every_error_has_the_one_shape(edge: Edge, name: str) -> None:
    ask, status, code, field = CASES[name]
    answer = ask(edge)
    error = assert_error(answer, status, code, field)
    assert not re.search(r"Traceback|\.py\b|site-packages|sk_|pk_", json.dumps(error)), "neither traces nor secrets"


def test_unauthorized_says_how_to_authenticate(edge: Edge) -> None:
    assert b'www-authenticate: Bearer realm="collector"' in edge.post("/v1/track/click", CLICK, None).data


def test_a_wrong_media_type_is_told_the_right_one(edge: Edge) -> None:
    """What `curl -d` sends unless it is told otherwise."""
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    message = edge.post("/v1/track/click", CLICK, headers=form).body["error"]["message"]
    assert message.endswith("Content-Type: application/json")
    batch = edge.post("/v1/track/batch", [], headers=form).body["error"]["message"]
    assert batch.endswith("application/json or application/x-ndjson")


def test_method_not_allowed_says_which(edge: Edge) -> None:
    assert b"\r\nallow: POST" in edge.get("/v1/track/click").data


def test_an_order_with_another_value_is_a_conflict(edge: Edge) -> None:
    assert edge.post("/v1/track/conversion", order(orderId="conflict")).status == 200
    answer = edge.post("/v1/track/conversion", order(orderId="conflict", eventValue=2))
    assert_error(answer, 409, "order_conflict", answer.body["error"].get("field"))


def test_an_idempotency_key_with_another_body_is_a_conflict(edge: Edge) -> None:
    headers = {"Idempotency-Key": "once"}
    first = edge.post("/v1/track/click", click(visitorId="v1"), headers=headers)
    again = edge.post("/v1/track/click", click(visitorId="v1"), headers=headers)
    assert (first.status, again.body) == (200, first.body)
    assert b"idempotent-replayed: true" in again.data
    assert_error(edge.post("/v1/track/click", click(visitorId="v2"), headers=headers), 409, "idempotency_conflict")


@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": "told"}], ids=str)
def test_what_was_ignored_and_why_a_click_is_unused_is_told(edge: Edge, headers: dict[str, str]) -> None:
    body = click(visitorId="told", userAgent="curl/8.5.0", colour="red")
    for _ in range(2):  # the second time as a duplicate, or replayed
        told = edge.post("/v1/track/click", body, headers=headers).data
        assert b"\r\ncollector-reason: " in told
        assert b"\r\ncollector-ignored-fields: colour" in told


@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": "batch"}], ids=str)
def test_what_was_ignored_in_a_batch_is_told(edge: Edge, headers: dict[str, str]) -> None:
    items = [click(type="click", visitorId="b", size=1), click(type="click", colour="red"), {"type": "click"}]
    told = edge.post("/v1/track/batch", items, headers=headers).data
    assert b"\r\ncollector-ignored-fields: size, colour\r\n" in told


def test_in_a_batch_each_error_has_the_shape_too(edge: Edge) -> None:
    items = [
        click(type="click", visitorId="batch"),
        click(type="click", fbclid="a b"),
        {"type": "other"},
        {"type": "conversion"},
        7,
        click(type="click", storeId="nobody"),
    ]
    answer = edge.post("/v1/track/batch", items)
    assert answer.status == 200
    results = answer.body["data"]["results"]
    assert [one["success"] for one in results] == [True, False, False, False, False, False]
    codes = [one["error"]["code"] for one in results[1:]]
    assert codes[0] == "invalid_fbclid"
    assert codes[2] == "missing_required_field"
    assert codes[4] == "store_not_found"
    assert all(re.fullmatch(r"req_[0-9a-f]{16}", one["error"]["requestId"]) for one in results[1:])


def test_a_rate_that_is_exceeded_is_429_with_its_headers(tmp_path: Path) -> None:
    with running(tmp_path, rate_limit_key_per_second=5, rate_limit_address_per_second=3) as edge:
        by_key = refused_at_last(lambda _: edge.post("/v1/track/click", CLICK))
        assert_error(by_key, 429, "rate_limit_exceeded")
        head = by_key.data.lower()
        assert b"\r\nretry-after: 1" in head
        assert b'\r\nratelimit-policy: "key";q=10;w=2' in head
        assert b'\r\nratelimit: "key";r=0;t=1' in head
        assert refused_at_last(lambda _: edge.post("/v1/track/click", CLICK, "sk_guess")), "guesses, by the address"
        assert refused_at_last(lambda _: edge.post("/v1/track/click", b"{", None)), "and what does not decode"
        assert edge.get("/healthz", None).status == 200


def test_a_slow_request_is_408_and_stores_nothing(edge: Edge) -> None:
    line = json.dumps(click(type="click", visitorId="half")).encode() + b"\n"
    start = (
        b"POST /v1/track/batch HTTP/1.1\r\nHost: t\r\nContent-Type: application/x-ndjson\r\nContent-Length: 9999\r\n"
        b"Authorization: Bearer " + edge.keys["secret"].encode() + b"\r\n\r\n" + line * 3
    )
    answer = exchange(edge.port, start, half_close=True)
    assert answer.statuses in ([], [400]), "half a batch, well formed line by line, is no batch"
    again = edge.post("/v1/track/click", click(visitorId="half"))
    assert "duplicate" not in again.body["data"], "none of its lines was stored"


@pytest.mark.slow
def test_a_trickled_request_is_408(edge: Edge) -> None:
    start = b"POST /v1/track/click HTTP/1.1\r\nHost: t\r\nContent-Length: 9999\r\n\r\n{"
    answer = trickle(edge.port, start, b" ", every=0.5, patience=60)
    assert_error(answer, 408, "request_timeout")


def test_a_crash_is_a_500_that_says_nothing(tmp_path: Path) -> None:
    patch = "from collector.edge import track; track.clicks.prepare = lambda *_: 1 / {}['jane@shop.example sk_live_x']"
    with running(tmp_path, patch) as edge:
        error = assert_error(edge.post("/v1/track/click", CLICK), 500, "internal_error")
        assert "jane" not in json.dumps(error)
        assert "division" not in json.dumps(error)
        log = edge.log.read_text()
        assert "KeyError" in log, "the log has its type and place"
        assert error["requestId"] in log
        assert "jane" not in log
        assert edge.get("/healthz", None).status == 200


def test_the_whole_table_is_covered() -> None:
    seen = {code for _, _, code, _ in CASES.values()}
    elsewhere = {"order_conflict", "idempotency_conflict", "rate_limit_exceeded", "internal_error"}
    assert set(STATUS_OF) - seen - elsewhere == {"storage_unavailable"}, "which test_hostile_store.py has"


def test_an_answer_before_the_body_was_read_says_that_the_connection_ends(edge: Edge) -> None:
    for headers in ("Content-Length: 2000000", "Content-Length: 9\r\nContent-Encoding: gzip"):
        answer = exchange(edge.port, f"POST /v1/track/click HTTP/1.1\r\nHost: t\r\n{headers}\r\n\r\n".encode())
        assert answer.status in (413, 415)
        assert b"\r\nconnection: close" in answer.data.lower()
