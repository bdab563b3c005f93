"""The fast lane answers as the application does, header for header, and takes nothing that is not plain."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from collector.exchange.keys import digest
from collector.storage.ground import keys
from collector.storage.ground.database import open_database
from tests.edge.test_error_shape import CLICK, ORDER
from tests.kit import shops as made
from tests.kit.edge_process import CLOSED, OTHER, Edge, configuration, running
from tests.kit.raw_http import PATIENCE_SECONDS, connect, eventually
from tests.kit.shops import Message

TOLD = (
    "from collector.edge.lane import Lane as L; B = L._begin; "
    "L._begin = lambda *a: (print('taken', file=sys.stderr, flush=True), B(*a))[1]"
)
NEVER = "from collector.edge.lane import Lane as L; L.take = lambda *a: False"


class Pair(NamedTuple):
    """Two edges that differ in this alone: the second one has no lane."""

    lane: Edge
    plain: Edge

    def taken(self) -> int:
        """How many requests the lane has taken."""
        return self.lane.log.read_text().count("taken\n")


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    stores = [made.STORE, OTHER, CLOSED]
    with (
        running(tmp_path_factory.mktemp("lane"), TOLD, stores=stores) as lane,
        running(tmp_path_factory.mktemp("app"), NEVER, stores=stores) as app,
    ):
        yield Pair(lane, app)


def head(edge: Edge, length: int, *, path: str = "/v1/track/click", extra: str = "", key: str = "secret") -> bytes:
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: edge.test",
        f"Authorization: Bearer {edge.keys.get(key, key)}",
        "Content-Type: application/json",
        f"Content-Length: {length}",
    ]
    return ("\r\n".join(lines) + "\r\n" + extra + "\r\n").encode("latin-1")


def request(edge: Edge, body: Any, **more: Any) -> bytes:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return head(edge, len(raw), **more) + raw


def answer(sock: socket.socket, patience: float = PATIENCE_SECONDS) -> bytes:
    """One answer, by its own length; what came until the end or the patience is over."""
    data, until = b"", time.monotonic() + patience
    while (left := until - time.monotonic()) > 0:
        at = data.find(b"\r\n\r\n")
        if at >= 0:
            length = re.search(rb"content-length: (\d+)", data[:at])
            if length is None or len(data) >= at + 4 + int(length[1]):
                return data
        sock.settimeout(left)
        try:
            piece = sock.recv(65536)
        except (TimeoutError, ConnectionError):
            break
        if not piece:
            break
        data += piece
    return data


def exchange(edge: Edge, raw: bytes, patience: float = PATIENCE_SECONDS) -> bytes:
    with connect(edge.port) as sock:
        sock.sendall(raw)
        return answer(sock, patience)


IDS = re.compile(rb"(click|conv|req)_[0-9a-f]+|\d{4}-\d\d-\d\dT[\d:.]+Z|\"(r|t)\";|eventId\":\"[0-9a-z_]+")


def shape(data: bytes) -> bytes:
    """An answer without what no two edges share: ids and times."""
    return re.sub(rb"content-length: \d+", b"content-length: n", IDS.sub(b"*", data))


ITEMS = [{"type": "click"} | CLICK, {"type": "conversion"} | ORDER, {"type": "event"}, 7]
# What the lane takes: good requests, and bad ones that the contract has a word for.
PLAIN: dict[str, Any] = {
    "click": {"body": CLICK},
    "conversion": {"body": ORDER, "path": "/v1/track/conversion"},
    "event": {"body": ORDER | {"eventType": "Lead"}, "path": "/v1/track/event"},
    "batch": {"body": ITEMS, "path": "/v1/track/batch"},
    "empty batch": {"body": [], "path": "/v1/track/batch"},
    "unknown fields": {"body": CLICK | {"colour": "red"}},
    "its own name": {"body": CLICK, "extra": "X-Request-Id: order-77\r\n"},
    "a name that is none": {"body": CLICK, "extra": "X-Request-Id: a b\r\n"},
    "broken JSON": {"body": b'{"storeId":'},
    "no body": {"body": b""},
    "no store": {"body": {k: v for k, v in CLICK.items() if k != "storeId"}},
    "another store": {"body": CLICK | {"storeId": "store_other"}},
    "no fbclid": {"body": {k: v for k, v in CLICK.items() if k != "fbclid"}},
    "keep-alive": {"body": CLICK, "extra": "Connection: keep-alive\r\n"},
}
# What goes to the application, whatever its answer is.
ODD: dict[str, Any] = {
    "a page's key": {"body": CLICK, "key": "page", "extra": "Origin: https://shop.example\r\n"},
    "an unknown key": {"body": CLICK, "key": "sk_nobody"},
    "an Origin": {"body": CLICK, "extra": "Origin: https://shop.example\r\n"},
    "a query": {"body": CLICK, "path": "/v1/track/click?key=pk_x"},
    "another path": {"body": CLICK, "path": "/v1/track/clicks"},
    "a double slash": {"body": CLICK, "path": "//v1/track/click"},
    "close": {"body": CLICK, "extra": "Connection: close\r\n"},
    "an Upgrade": {"body": CLICK, "extra": "Connection: Upgrade\r\nUpgrade: h2c\r\n"},
    "an idempotency key": {"body": CLICK, "extra": "Idempotency-Key: one\r\n"},
    "a coding": {"body": CLICK, "extra": "Content-Encoding: gzip\r\n"},
    "two lengths": {"body": CLICK, "extra": "Content-Length: 5\r\n"},
    "two hosts": {"body": CLICK, "extra": "Host: other.test\r\n"},
    "two keys": {"body": CLICK, "extra": "Authorization: Bearer sk_x\r\n"},
    "a folded line": {"body": CLICK, "extra": "X-A: b\r\n c\r\n"},
    "a blank before the colon": {"body": CLICK, "extra": "X-A : b\r\n"},
    "a NUL": {"body": CLICK, "extra": "X-A: \0\r\n"},
    "a bare line feed": {"body": CLICK, "extra": "X-A: b\nX-B: c\r\n"},
    "too many headers": {"body": CLICK, "extra": "".join(f"X-{n}: 1\r\n" for n in range(120))},
}


@pytest.mark.parametrize("name", PLAIN)
def test_what_the_lane_takes_it_answers_as_the_application_does(pair: Pair, name: str) -> None:
    for _ in range(2):  # with its plan made, and remembered
        before = pair.taken()
        ours = exchange(pair.lane, request(pair.lane, **PLAIN[name]))
        assert ours.startswith(b"HTTP/1.1 ")
        assert shape(ours) == shape(exchange(pair.plain, request(pair.plain, **PLAIN[name])))
        assert eventually(lambda b=before: pair.taken() == b + 1, 5), "control: it was the lane"


@pytest.mark.parametrize("name", ODD)
def test_what_is_not_plain_reaches_the_application_as_it_came(pair: Pair, name: str) -> None:
    before = pair.taken()
    ours = exchange(pair.lane, request(pair.lane, **ODD[name]))
    assert shape(ours) == shape(exchange(pair.plain, request(pair.plain, **ODD[name])))
    assert pair.taken() == before


def webhook(message: Message, *, version: str = "1.1", store: str = made.STORE.id, **extra: str) -> bytes:
    lines = [
        f"POST /v1/webhooks/{message.name}/{store} HTTP/{version}",
        "Host: edge.test",
        f"Content-Length: {len(message.body)}",
        *(f"{name}: {value}" for name, value in (message.headers | extra).items()),
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + message.body


REDACTED = {"customer": {"id": 5}, "orders_to_redact": [9]}
# What is signed, whatever it is good for, and the same once more; signed anew when sent: that lasts five minutes.
SIGNED = {
    "shopify": made.shopify(),
    "woocommerce": made.woocommerce(),
    "stripe": made.stripe(),
    "by configuration": made.kiosk(),
    "an unknown topic": made.shopify("products/create"),
    "a till's": made.shopify(id=5, source_name="pos"),
    "no value": made.shopify(id=6, current_total_price=None, total_price=None),
    "a bad currency": made.shopify(id=7, currency="EURO"),
    "wrong types": made.shopify(id=8, line_items="none", customer=[1], client_details=7),
    "no JSON": made.signed("shopify", b"[", {"X-Shopify-Topic": "orders/paid"}),
    "no body": made.signed("shopify", b"", {"X-Shopify-Topic": "orders/paid"}),
    "a request": made.signed("shopify", REDACTED, {"X-Shopify-Topic": "customers/redact"}),
}
UNSIGNED = {
    "wrong": webhook(made.shopify()._replace(body=made.shopify().body + b" ")),
    "missing": webhook(Message("shopify", {}, b"{}")),
    "malformed": webhook(Message("shopify", {"X-Shopify-Hmac-Sha256": "x"}, b"{}")),
    "stale": webhook(made.stripe(at=1)),
    "another store": webhook(made.shopify(), store="store_none"),
    "no such webhook": webhook(made.shopify()._replace(name="shoppify")),
    "HTTP/1.0": webhook(made.shopify(), version="1.0"),
    "a ping": webhook(Message("woocommerce", {"Content-Type": "application/x-www-form-urlencoded"}, b"webhook_id=3")),
    "a coding": webhook(made.shopify(), **{"Content-Encoding": "gzip"}),
    "larger than a page's": webhook(made.shopify(note="x" * 70_000)),
}


@pytest.mark.parametrize("name", SIGNED)
def test_a_signed_webhook_is_answered_as_the_application_does(pair: Pair, name: str) -> None:
    for _ in range(2):
        message = SIGNED[name]
        fresh = made.signature(message.name, message.body, int(time.time()), message.headers)
        before, raw = pair.taken(), webhook(message._replace(headers=message.headers | fresh))
        ours = exchange(pair.lane, raw)
        assert ours.startswith(b"HTTP/1.1 200")
        assert shape(ours) == shape(exchange(pair.plain, raw))
        assert eventually(lambda b=before: pair.taken() == b + 1, 5), "control: it was the lane"


@pytest.mark.parametrize("name", UNSIGNED)
def test_a_webhook_that_is_not_plainly_signed_reaches_the_application(pair: Pair, name: str) -> None:
    before = pair.taken()
    assert shape(exchange(pair.lane, UNSIGNED[name])) == shape(exchange(pair.plain, UNSIGNED[name]))
    assert pair.taken() == before


@pytest.mark.parametrize(
    "change",
    [
        (b"POST ", b"post "),
        (b"HTTP/1.1", b"HTTP/1.0"),
        (b"HTTP/1.1", b"HTTP/1.2"),
        (b"Content-Length: ", b"Content-Length: 00"),
        (b"Content-Length: ", b"Content-Length: +"),
        (b"Content-Length: ", b"Content-Length: 0x"),
        (b"Host: edge.test", b"Host: edge test"),
        (b"Host: edge.test\r\n", b""),
        (b"Authorization: Bearer ", b"Authorization: bearer  "),
        (b"Authorization: Bearer ", b"Authorization: Basic "),
        (b"Content-Type: application/json", b"Content-Type: text/html"),
        (b"Content-Type: application/json", b"Content-Type: application/x-ndjson"),
        (b"\r\nHost", b"\nHost"),
    ],
    ids=lambda change: change[1].decode().strip() or "nothing",
)
def test_a_head_that_differs_by_a_byte_is_judged_anew(pair: Pair, change: tuple[bytes, bytes]) -> None:
    good = request(pair.lane, CLICK)
    assert exchange(pair.lane, good).startswith(b"HTTP/1.1 200")
    ours = exchange(pair.lane, good.replace(*change, 1))
    plain = exchange(pair.plain, request(pair.plain, CLICK).replace(*change, 1))
    assert shape(ours) == shape(plain)


def test_a_request_cut_at_any_byte_is_answered_as_the_whole_one(pair: Pair) -> None:
    whole = request(pair.lane, CLICK | {"fbclid": "IwAR0cutcutcutcutcutcut"})
    expected = None
    for at in range(1, len(whole), 7):
        with connect(pair.lane.port) as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.sendall(whole[:at])
            sock.sendall(whole[at:])
            got = shape(answer(sock)).replace(b'"duplicate":true', b"").replace(b",}", b"}")
        expected = expected or got
        assert got.partition(b"\r\n\r\n")[0] == expected.partition(b"\r\n\r\n")[0], at


def test_requests_in_a_pipeline_are_answered_in_their_order(pair: Pair) -> None:
    names = [f"order-{n}" for n in range(6)]
    raw = [request(pair.lane, CLICK, extra=f"X-Request-Id: {name}\r\n") for name in names]
    with connect(pair.lane.port) as sock:
        sock.sendall(raw[0])
        sock.sendall(b"".join(raw[1:3]))
        for one in raw[3:]:
            sock.sendall(one)
        data, until = b"", time.monotonic() + 10
        while data.count(b"request-id") < len(names) and time.monotonic() < until:
            sock.settimeout(5)
            data += sock.recv(65536)
    assert [name.decode() for name in re.findall(rb"request-id: (\S+)", data)] == names


def test_a_revoked_key_opens_nothing_whatever_its_head_opened_before(pair: Pair) -> None:
    raw = request(pair.lane, CLICK, key="every")
    assert exchange(pair.lane, raw).startswith(b"HTTP/1.1 200")
    with contextlib.closing(open_database(configuration(pair.lane.log.parent / "data").storage)) as db:
        ids = {key.id for key in keys.list_keys(db) if key.hash == digest(pair.lane.keys["every"])}
        assert all(keys.revoke(db, one, 1) for one in ids)
    assert eventually(lambda: exchange(pair.lane, raw).startswith(b"HTTP/1.1 401"), 60)


def test_a_client_that_leaves_before_its_answer_harms_nobody(pair: Pair) -> None:
    for number in range(20):
        with connect(pair.lane.port) as sock:
            sock.sendall(request(pair.lane, CLICK | {"fbclid": f"IwAR0gonegonegone{number:04}"}))
    assert exchange(pair.lane, request(pair.lane, CLICK)).startswith(b"HTTP/1.1 200")
