"""D1: what the head tells is judged before the body, and the bytes of all bodies are bounded and given back."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import re
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from collector.config import Config, EdgeConfig
from collector.core.addresses import Networks
from collector.edge.door import Door
from collector.exchange.keys import ApiKey, digest
from collector.guard.bodies import BURST_BYTES, Bodies, BodyLimits, Loads, trim_soon
from collector.guard.gate import Gate, GuardLimits
from collector.guard.refusals import BODY_TOO_LARGE, OVERLOADED
from tests.edge.test_error_shape import CLICK, FROM_SHOP, assert_error
from tests.guard.test_hostile import resident_mb
from tests.kit.edge_process import Edge, running
from tests.kit.program import SOURCE, Serving
from tests.kit.raw_http import LOOPBACK, Answer, connect, eventually, exchange, get, post, read_to_end, serve

PAGE = 65_536
CHUNK = b"4000\r\n" + b"x" * 0x4000 + b"\r\n"
IN_CHUNKS = b"POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n"
JSON = b"Content-Type: application/json\r\n"


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    with running(tmp_path_factory.mktemp("edge"), max_connections_per_address=5_000) as edge:
        yield edge


def head(path: str, *lines: bytes) -> bytes:
    return b"\r\n".join([f"POST {path} HTTP/1.1".encode(), b"Host: t", JSON.strip(), *lines, b"", b""])


def bearer(edge: Edge, name: str) -> bytes:
    return f"Authorization: Bearer {edge.keys.get(name, name)}".encode()


# -- before the body


def judged(edge: Edge) -> dict[str, tuple[bytes, int]]:
    """Heads whose body never comes, and the status that each is due at once."""
    small, large = b"Content-Length: 100", b"Content-Length: 1000000"
    return {
        "unknown key": (head("/v1/track/click", bearer(edge, "sk_nobody"), small), 401),
        "no bearer": (head("/v1/track/click", b"Authorization: Basic YTpi", small), 401),
        "batch without a key": (head("/v1/track/batch", small), 401),
        "batch by a page": (head("/v1/track/batch", bearer(edge, "page"), small), 403),
        "secret in the query": (head(f"/v1/track/click?key={edge.keys['secret']}", small), 401),
        "media type": (head("/v1/track/click", small).replace(b"application/json", b"text/html"), 415),
        "coding": (head("/v1/track/click", bearer(edge, "secret"), b"Content-Encoding: gzip", small), 415),
        "method": (head("/healthz", small), 405),
        "path": (head("/nothing", small), 404),
        "large without a key": (head("/v1/track/click", large), 413),
        "large by a page": (head("/v1/track/event", bearer(edge, "page"), large), 413),
        "large beacon": (head("/c", large), 413),
        "one byte over a page's": (head("/v1/track/click", b"Content-Length: 65537"), 413),
        "larger than any": (head("/v1/track/batch", bearer(edge, "secret"), b"Content-Length: 99999999"), 413),
        "a 413 instead of 100": (head("/v1/track/click", b"Expect: 100-continue", large), 413),
    }


def test_D1_the_head_is_judged_before_a_byte_of_the_body_is_read(edge: Edge) -> None:
    for name, (request, status) in judged(edge).items():
        answer = exchange(edge.port, request)
        assert answer.statuses == [status], (name, answer.data)
        assert answer.closed, name
        assert b"\r\nconnection: close\r\n" in answer.data, name


def test_D1_control_a_head_without_fault_waits_for_its_body(edge: Edge) -> None:
    for key in ("secret", "page"):
        with connect(edge.port) as sock:
            sock.sendall(head("/v1/track/click", bearer(edge, key), b"Content-Length: 100"))
            assert read_to_end(sock, 0.5).data == b""


@pytest.mark.parametrize("path", ["/v1/track/click", "/v1/track/event", "/c"])
def test_D1_in_chunks_a_body_without_a_secret_key_stops_at_64_kib(edge: Edge, path: str) -> None:
    with connect(edge.port) as sock, contextlib.suppress(ConnectionError):
        sock.sendall(head(path, b"Transfer-Encoding: chunked"))
        for _ in range(200):  # never ended: the refusal comes before it is whole
            sock.sendall(b"4000\r\n" + b"x" * 0x4000 + b"\r\n")
    answer = exchange(
        edge.port, head(path, b"Transfer-Encoding: chunked") + (b"4000\r\n" + b"x" * 0x4000 + b"\r\n") * 8
    )
    assert_error(answer, 413, "payload_too_large")


def test_D1_a_secret_key_may_send_a_large_body(edge: Edge) -> None:
    """Control of the 64 KiB; in one piece, in small ones, in chunks."""
    batch = json.dumps([{"type": "click", **CLICK, "visitorId": f"v{n}"} for n in range(900)]).encode()
    assert len(batch) > PAGE
    assert edge.post("/v1/track/batch", batch).status == 200
    with connect(edge.port) as sock:
        lines = bearer(edge, "secret"), b"Transfer-Encoding: chunked", b"Connection: close"
        sock.sendall(head("/v1/track/batch", *lines))
        for start in range(0, len(batch), 10_000):
            piece = batch[start : start + 10_000]
            sock.sendall(b"%x\r\n%b\r\n" % (len(piece), piece))
        sock.sendall(b"0\r\n\r\n")
        assert read_to_end(sock).status == 200


def test_D1_a_page_may_send_64_kib(edge: Edge) -> None:
    body = json.dumps(CLICK | {"referrer": "https://shop.example/"}).encode()
    full = body[:-1] + b" " * (PAGE - len(body)) + b"}"
    assert len(full) == PAGE
    agent = {"User-Agent": "Mozilla/5.0 (Windows NT 10.0) Firefox/128.0"}
    assert edge.post("/v1/track/click", full, "page", FROM_SHOP | agent).status == 200


# -- bytes in flight


def test_D1_the_count_by_address_and_in_all() -> None:
    bodies = Bodies(BodyLimits(in_all=100, of_address=20, of_vouched_address=50), lambda: None)
    assert bodies.take("a", 20, vouched=False)
    assert not bodies.take("a", 1, vouched=False)
    assert bodies.take("a", 30, vouched=True), "who holds a key has more room"
    assert not bodies.take("a", 1, vouched=True)
    assert bodies.take(None, 50, vouched=False), "nobody's: only the sum counts"
    assert not bodies.take("b", 1, vouched=True)
    bodies.give(None, 50)
    bodies.give("a", 50)
    assert (bodies.total, bodies.by_address) == (0, {})


def test_D1_memory_is_given_back_once_after_a_burst() -> None:
    calls: list[int] = []
    bodies = Bodies(BodyLimits(), lambda: calls.append(1))
    for _ in range(1000):
        bodies.take(None, PAGE, vouched=False)
    for _ in range(1000):
        bodies.give(None, PAGE)
    assert calls == [1]
    bodies.take(None, BURST_BYTES, vouched=False)
    bodies.give(None, BURST_BYTES)
    assert calls == [1], "control: no burst, no trim"


async def test_D1_bursts_that_end_side_by_side_give_memory_back_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    monkeypatch.setattr("collector.guard.bodies.trim", lambda: calls.append(1))
    monkeypatch.setattr("collector.guard.bodies._due", 0.0)
    monkeypatch.setattr("collector.guard.bodies.TRIM_SECONDS", 0.0)
    trim_soon()
    await asyncio.sleep(0.01)
    monkeypatch.setattr("collector.guard.bodies._due", math.inf)
    trim_soon()
    await asyncio.sleep(0.01)
    assert calls == [1]


def test_D1_the_key_is_asked_for_only_where_it_matters() -> None:
    asked: list[str] = []

    def allowance(scope: object) -> int:
        asked.append("asked")
        return 1_000_000

    bodies = Bodies(BodyLimits(of_address=3 * PAGE), lambda: None)
    loads = Loads(lambda _: bodies, "a", lambda _: None, allowance)
    for _ in range(3):
        loads.begin({})
        assert loads.take(PAGE) is None
    assert asked == []
    loads.begin({})
    assert loads.take(1) is None
    assert asked == ["asked"], "the address is full: now it matters"
    loads.drop()
    assert bodies.total == 0


def test_D1_of_a_body_that_is_too_large_no_more_is_kept_than_it_may_have() -> None:
    """A read holds up to 256 KiB: a thousand of them, before the application ran, took an edge to 168 MB."""
    bodies = Bodies(BodyLimits(), lambda: None)
    loads = Loads(lambda _: bodies, "a", lambda _: None, lambda _: PAGE)
    loads.begin({})
    assert loads.take(4 * PAGE) is BODY_TOO_LARGE
    assert (loads.size, bodies.total) == (PAGE, PAGE)
    with serve(GuardLimits(), allowance=lambda _: PAGE) as served:
        answer = exchange(served.port, IN_CHUNKS + b"30000\r\n" + b"x" * 0x30000 + b"\r\n")
        assert (answer.status, served.app.longest) == (413, PAGE + 1), "the application sees that it is too large"


@pytest.mark.parametrize("most", [4096, PAGE, 1_048_576])
def test_D1_the_guard_knows_who_holds_a_secret_key_however_little_a_body_may_have(most: int) -> None:
    keys = {
        digest(presented): ApiKey("", b"", kind, None, 0, None)
        for presented, kind in (("sk_shop", "secret"), ("pk_page", "publishable"))
    }
    config = Config(edge=EdgeConfig(max_body_bytes=most))
    nobody: Any = None
    door = Door(config, cast("Any", SimpleNamespace(key=keys.get)), nobody, nobody, nobody, nobody)
    allowed = {
        presented: door.allowance({"headers": [(b"authorization", b"Bearer " + presented)] if presented else []})
        for presented in (b"sk_shop", b"pk_page", b"sk_other", b"")
    }
    assert allowed.pop(b"sk_shop") == max(most, PAGE + 1)
    assert set(allowed.values()) == {min(most, PAGE)}


def test_D1_strangers_leave_room_for_who_holds_a_key() -> None:
    bodies = Bodies(BodyLimits(in_all=10 * PAGE, of_strangers=8 * PAGE), lambda: None)
    strangers = Loads(lambda _: bodies, None, lambda _: None, lambda _: PAGE)
    shop = Loads(lambda _: bodies, None, lambda _: None, lambda _: 1_000_000)
    told = []
    for _ in range(9):
        strangers.begin({})
        told.append(strangers.take(PAGE))
    assert told == [None] * 8 + [OVERLOADED]
    shop.begin({})
    assert [shop.take(PAGE), shop.take(PAGE), shop.take(1)] == [None, None, OVERLOADED]


def test_D1_a_stranger_stops_at_the_page_and_at_his_address() -> None:
    bodies = Bodies(BodyLimits(of_address=2 * PAGE), lambda: None)
    loads = Loads(lambda _: bodies, "a", lambda _: None, lambda _: PAGE)
    loads.begin({})
    assert loads.take(PAGE) is None
    assert loads.take(1) is BODY_TOO_LARGE
    loads.begin({})
    assert loads.take(PAGE) is None
    loads.begin({})
    assert loads.take(1) is OVERLOADED
    loads.answered()
    assert loads.take(1) is None, "an answered request frees its room"


def test_D1_a_proxys_large_body_is_its_callers() -> None:
    bodies = Bodies(BodyLimits(of_address=PAGE), lambda: None)
    for visitor, refusal in (("9.9.9.9", None), ("9.9.9.9", OVERLOADED), ("8.8.8.8", None), (None, None)):
        loads = Loads(lambda _: bodies, None, lambda _, who=visitor: who, lambda _: PAGE)  # type: ignore[misc]
        loads.begin({})
        assert [loads.take(PAGE // 2) or loads.take(PAGE // 2)] == [refusal]


FLOOD = GuardLimits(bodies=BodyLimits(in_all=10 * PAGE, of_address=4 * PAGE), body_seconds=3.0)


@pytest.mark.parametrize(("trusted", "fit"), [([], 4), (["127.0.0.1/32"], 10)])
def test_D1_beyond_the_budget_it_is_503_and_all_is_free_afterwards(trusted: list[str], fit: int) -> None:
    with serve(FLOOD, LOOPBACK if trusted else type(LOOPBACK)(), allowance=lambda _: PAGE) as served:
        with contextlib.ExitStack() as stack:
            held = [stack.enter_context(connect(served.port)) for _ in range(fit)]
            for sock in held:
                sock.sendall(post(b"x" * (PAGE + 1), path="/a")[:-1])
            assert eventually(lambda: served.gate.bodies.total == fit * PAGE)
            answer = exchange(served.port, post(b"x" * 1000))
            assert (answer.status, answer.body["error"]["code"]) == (503, "overloaded")
            assert b"retry-after: 1" in answer.data
        assert eventually(lambda: served.gate.bodies.total == 0)
        assert served.gate.bodies.by_address == {}
        assert exchange(served.port, post(b"x" * 1000, b"Connection: close\r\n")).status == 200, "control: room again"


def test_D1_every_end_of_a_request_gives_its_bytes_back() -> None:
    with serve(
        GuardLimits(header_seconds=0.3, body_seconds=0.3, linger_seconds=0.3), allowance=lambda _: PAGE
    ) as served:
        for data in (
            post(b"x" * 1000, b"Connection: close\r\n"),
            post(b"x" * 1000)[:-5],
            post(b"x" * 5) * 3 + b"BROKEN\x00\r\n\r\n",
            post(b"x" * 100_000),
            post(b"x" * 1000, path="/refuse"),
            b"POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\nzz\r\n",
            post(b"x", path="/wait/0.1")
            + b"POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\nzz\r\n",
        ):
            exchange(served.port, data, 2.0)
        for data in (post(b"x" * 1000)[:-5], post(b"x" * 9, path="/wait/0.2")):
            sock = connect(served.port)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")  # a reset
            sock.sendall(data)
            sock.close()
        assert eventually(lambda: served.gate.bodies.total == 0), served.gate.bodies.total
        assert served.gate.bodies.by_address == {}


def holding(
    port: int, count: int, announced: bool, measured: Callable[[], float], stack: contextlib.ExitStack,
    enough: float = math.inf,
) -> float:  # fmt: skip
    """So many connections send 1 MB each without a key, and hold what they sent; the peak of what is measured.

    They push until nothing has been taken for two seconds, or until it is enough.
    """
    start = head("/v1/track/click", b"Content-Length: 1000000" if announced else b"Transfer-Encoding: chunked")
    piece = b"x" * 65_536 if announced else b"ffff\r\n" + b"x" * 0xFFFF + b"\r\n"
    whole = memoryview(start + piece * 15)  # never the last of them
    unsent = dict.fromkeys((stack.enter_context(connect(port)) for _ in range(count)), whole)
    for sock in unsent:
        sock.setblocking(False)
    taken, peak = time.monotonic(), 0.0
    while peak <= enough and time.monotonic() - taken < 2.0:
        for sock, left in unsent.items():
            if sent := push(sock, left[:PAGE]):
                unsent[sock], taken = left[sent:], time.monotonic()
        peak = max(peak, measured())
    return peak


MOST_MB = 150


@pytest.mark.slow
@pytest.mark.parametrize("announced", [True, False], ids=["with a length", "in chunks"])
@pytest.mark.parametrize("trusted", ["[]", '["127.0.0.1/32"]'], ids=["one address", "a trusted proxy"])
def test_D1_a_thousand_held_bodies_cost_little_and_the_memory_comes_back(
    tmp_path: Path, trusted: str, announced: bool
) -> None:
    """1,024 connections, each with 1 MB and no key, all held open; the edge of the real program."""
    limits = {"COLLECTOR_EDGE__MAX_CONNECTIONS_PER_ADDRESS": "5000", "COLLECTOR_EDGE__TRUSTED_PROXIES": trusted}
    serving = Serving(SOURCE, tmp_path, **limits)
    try:
        port = int(serving.ready()["edge"].rpartition(":")[2])
        edge = serving.children()["edge"]
        assert [answer["success"] for answer in serving.pasted()] == [True, True]
        before = resident_mb(edge)
        with contextlib.ExitStack() as stack:
            peak = holding(port, 1024, announced, lambda: resident_mb(edge), stack)
            assert peak < MOST_MB
            assert exchange(port, get("/healthz", b"Connection: close\r\n")).status == 200
        assert eventually(lambda: resident_mb(edge) < before + 15, 60.0), (before, peak, resident_mb(edge))
        print(f"MB before {before:.0f}, at most {peak:.0f}, after {resident_mb(edge):.0f}")
        assert [answer["success"] for answer in serving.pasted()] == [True, True]
    finally:
        serving.end()


UNBOUNDED = (
    "from collector.edge.door import Door; from collector.guard.bodies import Loads; "
    "Loads.take = lambda self, count: None; Door._most_bytes = lambda self, key: 1 << 40"
)


@pytest.mark.slow
def test_D1_control_without_the_bounds_a_fifth_of_them_costs_more(tmp_path: Path) -> None:
    with running(tmp_path, patch=UNBOUNDED, max_connections_per_address=5_000) as edge, contextlib.ExitStack() as stack:
        assert holding(edge.port, 205, True, lambda: resident_mb(edge.pid), stack, MOST_MB + 50) > MOST_MB + 50


def push(sock: socket.socket, data: memoryview) -> int:
    try:
        return sock.send(data)
    except (BlockingIOError, ConnectionError):  # full, or refused
        return 0


# -- what it is called


NAMES = {
    "f0e1d2c3-4b5a-6978-8796-a5b4c3d2e1f0": True,
    "0123456789abcdef0123456789abcdef": True,
    "Root=1-67891233-abcdef012345678912345678": True,
    "230b030023ae2822-SJC": True,
    "a/b+c:d._=-": True,
    "x" * 64: True,
    "x" * 65: False,
    "": False,
    "a b": False,
    "a@b.example": False,
    "a,b": False,
    "<script>": False,
    'a"b': False,
    "é": False,
    "%0d%0aSet-Cookie:a": False,
}


@pytest.mark.parametrize("given", NAMES)
def test_every_answer_carries_a_request_id_and_the_callers_where_it_is_sane(edge: Edge, given: str) -> None:
    headers = {"X-Request-Id": given}
    for answer in (
        edge.post("/v1/track/click", CLICK, headers=headers),
        edge.post("/v1/track/click", {}, headers=headers),
        edge.post("/v1/track/click", CLICK, None, headers),
        edge.get("/nothing", headers=headers),
        edge.get("/healthz", headers=headers),
        edge.get("/c.gif?s=nobody", headers=headers),
        edge.get("/c.js", headers=headers),
        edge.get("/c.000000000000.js", headers=headers),
        edge.ask("OPTIONS", "/c", b"", None, headers),
        edge.ask("HEAD", "/healthz", b"", None, headers),
        edge.get("/" + "a" * 9000, headers=headers),
    ):
        name = request_id_of(answer)
        assert (name == given) == NAMES[given], answer.data
        assert NAMES[given] or re.fullmatch(r"req_[0-9a-f]{16}", name)
        if answer.status >= 400 and b"req" in answer.data and answer.data.endswith(b"}"):
            assert answer.body["error"]["requestId"] == name


def request_id_of(answer: Answer) -> str:
    found = re.findall(rb"\r\nrequest-id: ([^\r]*)\r\n", answer.data)
    assert len(found) == 1, answer.data
    return str(found[0].decode())


def test_names_differ_and_the_guards_answers_have_one_too(edge: Edge) -> None:
    refused = [exchange(edge.port, data) for data in (b"NONSENSE\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"GET /" * 9000)]
    names = [request_id_of(answer) for answer in [*refused, *(edge.get("/healthz") for _ in range(5))]]
    assert len(set(names)) == len(names)
    assert [answer.body["error"]["requestId"] for answer in refused] == names[:3]


def test_pages_may_read_the_name(edge: Edge) -> None:
    answer = edge.post("/v1/track/click", CLICK, headers=FROM_SHOP)
    assert b"Request-Id" in re.findall(rb"access-control-expose-headers: ([^\r]*)", answer.data)[0]


# -- D8: a store without domains


@pytest.fixture(scope="module")
def without_domains(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    """`store_abc123` takes any page that has its key; `store_other` has its domain."""
    patch = (
        "from msgspec import structs; "
        "config = structs.replace(config, store=[structs.replace(config.store[0], domains=[]), *config.store[1:]])"
    )
    with running(tmp_path_factory.mktemp("edge"), patch) as edge:
        yield edge


def opened(answer: Answer) -> bool:
    return b"access-control-allow-origin: " in answer.data


def test_D8_a_store_without_domains_opens_nothing_without_its_key(without_domains: Edge) -> None:
    edge, page = without_domains, {"Origin": "https://any.example", "User-Agent": "Mozilla/5.0 (X11) Firefox/128.0"}
    beacon = {"s": "store_abc123", "e": []}
    for headers in (page, page | {"Origin": "http://edge.test"}, {"Origin": "null"}, {}):
        refused = edge.post("/c", beacon, None, headers)
        assert (refused.status, opened(refused)) == (403, False), headers
    for key in ("pk_nobody", edge.keys["page"]):
        known = key == edge.keys["page"]
        answer = edge.post("/c", beacon | {"k": key}, None, page)
        assert (answer.status < 300, opened(answer)) == (known, known), answer.data


def test_D8_only_that_stores_requests_are_opened_to_any_page(without_domains: Edge) -> None:
    edge, page = without_domains, {"Origin": "https://any.example"}
    assert opened(edge.post("/v1/track/click", CLICK, "page", page))
    assert opened(edge.post("/v1/track/click", CLICK | {"key": edge.keys["page"]}, None, page))
    assert not opened(edge.post("/v1/track/click", CLICK, None, page))
    assert not opened(edge.post("/v1/track/click", CLICK | {"storeId": "store_other"}, "other", page))
    assert not opened(edge.get("/v1/clicks/click_x", None, page))
    assert not opened(edge.get("/healthz", None, page))
    assert not opened(edge.post("/v1/track/click", CLICK, "page", {"Origin": "null"}))
    assert opened(edge.ask("OPTIONS", "/v1/track/click", b"", None, page)), "a preflight has no key yet"
    assert not opened(edge.ask("OPTIONS", "/healthz", b"", None, page))
    assert opened(edge.get("/healthz", None, {"Origin": "https://www.other.example"})), "control: a store's own page"


def test_D8_control_where_every_store_has_domains_a_preflight_of_strangers_is_told_nothing(edge: Edge) -> None:
    assert not opened(edge.ask("OPTIONS", "/v1/track/click", b"", None, {"Origin": "https://any.example"}))
    assert opened(edge.ask("OPTIONS", "/v1/track/click", b"", None, FROM_SHOP))


@pytest.mark.parametrize(("aside", "counted"), [(b"/v1/webhooks/", 0), (b"", 200_000)])
def test_R11_a_webhooks_body_has_a_budget_of_its_own(aside: bytes, counted: int) -> None:
    """The second case is the control: without it, shops and pages would shut each other out."""
    gate = Gate(GuardLimits(aside=aside), Networks())
    loads = Loads(gate.bodies_of, "a", lambda _: None, lambda _: 4_194_304)
    loads.begin({"raw_path": b"/v1/webhooks/shopify/s1"})
    assert loads.take(200_000) is None
    assert (gate.bodies.total, gate.aside_bodies.total) == (counted, 200_000 - counted)
    loads.begin({"raw_path": b"/v1/track/click"})
    assert loads.take(100) is None
    assert gate.bodies.total == counted + 100
    loads.drop()
    assert (gate.bodies.total, gate.aside_bodies.total) == (0, 0)
