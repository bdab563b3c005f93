"""Requests with random damage, byte by byte: the real edge answers each, never with 5xx, and logs no crash."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.edge.test_error_shape import CLICK, ORDER
from tests.kit.edge_process import Edge, running
from tests.kit.raw_http import exchange

RICH_CLICK = CLICK | {"timestamp": "2026-11-22T10:00:00Z", "fbc": "fb.1.1780000000000.IwAR0a", "consent": {"ldu": True}}
PERSON = {"email": "a@b.example", "phone": "+1 650 555 1234", "dateOfBirth": "1990-01-01", "country": "US"}
RICH_ORDER = ORDER | {
    "customerData": PERSON,
    "products": [{"productId": 1, "price": 1.5, "quantity": 2}],
    "customData": {"a": [1, 2]},
    "fbp": "fb.1.1780000000000.123",
    "ipAddress": "9.9.9.9",
    "userAgent": "Mozilla/5.0 (Windows NT 10.0)",
}
PAGE = "https://shop.example/?fbclid=IwAR0abcdefghij"
SAID = {"t": "PageView", "u": PAGE, "at": 1_790_000_000_000, "d": {"value": 1, "currency": "USD"}, "h": PERSON}
BEACON = {"s": "store_abc123", "n": 1_790_000_000_000, "e": [SAID], "f": [1_790_000_000_000, PAGE]}
COOKIES = "Cookie: _cv=abc; _fbp=fb.1.1780000000000.123; _fbc=fb.1.1780000000000.IwAR0abcdef\r\n"
# What parsers, SQLite, dates and headers have stumbled over.
PIECES = [
    *(b"\x00", b"\\u0000", b"\\ud800", b"null", b"-1", b"1e999", b"9" * 400, b"NaN", b"[", b"]", b"{", b"}", b'"'),
    *(b"\xff", b"\r\n", b"%00", b"%ff", b"true", b"\\", b",", b":", b"", b"0", b"9223372036854775808", b"'", b"[::1"),
    *(b"\xe2\x80\xae", "١".encode(), b"fb.1.1.a", b"::1", b"2026-13-45T99:99:99Z", b"0001-01-01T00:00:00+23:59"),
]


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    with running(tmp_path_factory.mktemp("edge"), trusted_proxies=["127.0.0.1/32"]) as edge:
        yield edge


def good_requests(edge: Edge) -> list[tuple[bytes, bytes]]:
    """Head up to the length, and body."""
    server = f"Authorization: Bearer {edge.keys['secret']}\r\n"
    page = f"Origin: https://shop.example\r\nUser-Agent: Mozilla/5.0 Firefox/128.0\r\n{COOKIES}"
    keyed = f"Authorization: Bearer {edge.keys['page']}\r\n{page}"
    pixel = "/c.gif?s=store_abc123&u=https%3A%2F%2Fshop.example%2F%3Ffbclid%3DIwAR0abc"
    return [
        made("POST /v1/track/click", RICH_CLICK, server),
        made("POST /v1/track/click", CLICK, keyed),
        made("POST /v1/track/conversion", RICH_ORDER, server),
        made("POST /v1/track/event", RICH_ORDER | {"eventType": "Lead"}, keyed),
        made("POST /v1/track/batch", [{"type": "click"} | CLICK, {"type": "event"} | RICH_ORDER], server),
        made("POST /c", BEACON, page),
        made(f"GET {pixel}", {}, page),
    ]


def made(line: str, body: object, headers: str) -> tuple[bytes, bytes]:
    lines = f"{line} HTTP/1.1\r\nHost: t\r\n{headers}Content-Type: application/json\r\n"
    return f"{lines}Connection: close\r\nContent-Length: ".encode(), json.dumps(body).encode()


def damage(data: bytes, times: int, dice: random.Random) -> bytes:
    """Pieces put in, bytes changed, parts doubled or taken out."""
    raw = bytearray(data)
    for _ in range(times):
        at, luck = dice.randrange(len(raw)), dice.random()
        if luck < 0.5:
            raw[at : at + dice.choice([0, 1, 1, 3, 8])] = dice.choice(PIECES)
        elif luck < 0.7:
            raw[at] = dice.randrange(256)
        elif luck < 0.85:
            start = dice.randrange(len(raw))
            raw[at:at] = raw[start : start + dice.randrange(1, 30)]
        else:
            del raw[at : at + dice.randrange(1, 20)]
        raw = raw or bytearray(b"x")
    return bytes(raw)


def damaged(edge: Edge, dice: random.Random) -> bytes:
    """Mostly the body, so that it is read at all; at times the whole request."""
    head, body = dice.choice(good_requests(edge))
    if dice.random() < 0.85:
        body = damage(body, dice.choice([1, 1, 1, 2, 4]), dice)
        return head + str(len(body)).encode() + b"\r\n\r\n" + body
    return damage(head + str(len(body)).encode() + b"\r\n\r\n" + body, 2, dice)


@pytest.mark.parametrize("count", [400, pytest.param(8_000, marks=pytest.mark.slow)])
def test_no_damage_makes_the_edge_fail(edge: Edge, count: int) -> None:
    dice, seen = random.Random(count), Counter[int]()
    for _ in range(count):
        raw = damaged(edge, dice)
        answer = exchange(edge.port, raw, 5.0, half_close=True)
        assert answer.closed, raw
        assert all(status < 500 for status in answer.statuses), raw
        seen.update(answer.statuses)
    assert seen[200] > count // 20, "control: not everything is refused at the door"
    assert "crashed" not in edge.log.read_text()
