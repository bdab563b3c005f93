"""An Upgrade beside a body is ignored, as RFC 9110 7.8 allows: the request is answered as it stands.

Java's HttpClient asks for h2c with every request in clear text, and llhttp takes such a request to have no body.
"""

from __future__ import annotations

import json
import random
import socket
import time
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from msgspec import structs

from collector.guard.gate import GuardLimits
from collector.guard.protocol import GuardedProtocol, make_protocol
from tests.kit.raw_http import UNTRUSTED, Answer, Served, connect, exchange, get, post, read_to_end, serve

# As in test_guard.py: only what is about time has short deadlines.
PATIENT = GuardLimits(header_seconds=90, body_seconds=90, idle_seconds=90, write_seconds=90, linger_seconds=90)
QUICK = structs.replace(PATIENT, body_seconds=0.5, header_seconds=0.5)
KINDS = [b"h2c", b"websocket", b"TLS/1.0", b"h2c, websocket", b"HTTP/2.0", b"x" * 200]
# What java.net.http sends, and the spellings of others.
ASKING = [
    b"Connection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABk\r\nUpgrade: %b\r\n",
    b"connection: upgrade\r\nupgrade: %b\r\n",
    b"UPGRADE: %b\r\nCONNECTION: keep-alive, UPGRADE\r\n",
    b"Upgrade:   %b  \r\nConnection: Upgrade\r\nUpgrade: second\r\n",
]
CLOSE = get("/last", b"Connection: close\r\n")
CHUNKED = b"Host: t\r\nTransfer-Encoding: chunked\r\n%b\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nT: u\r\n\r\n"


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serve(PATIENT) as server:
        yield server


@pytest.fixture
def quick() -> Iterator[Served]:
    with serve(QUICK) as server:
        yield server


def bodies(served: Served, since: int) -> list[tuple[str, bytes]]:
    return [(path, body) for path, body, _ in served.app.seen[since:]]


@pytest.mark.parametrize("asking", ASKING)
@pytest.mark.parametrize("kind", KINDS)
def test_a_body_with_its_length_or_in_chunks_arrives(served: Served, kind: bytes, asking: bytes) -> None:
    before, extra = len(served.app.seen), asking % kind
    stream = post(b"12345", extra, "/length") + b"POST /chunks HTTP/1.1\r\n" + CHUNKED % extra + get("/none", extra)
    assert exchange(served.port, stream + CLOSE).statuses == [200] * 4
    assert bodies(served, before) == [("/length", b"12345"), ("/chunks", b"abcde"), ("/none", b""), ("/last", b"")]


def test_the_application_sees_no_upgrade_and_every_other_header(served: Served) -> None:
    others = b"X-A:  b \r\nX-A: c\r\nX-B:\r\nX-Latin: \xe9\r\nConnection: close\r\n"
    exchange(served.port, post(b"1", others + b"Upgrade: h2c\r\nConnection: upgrade\r\n"))
    exchange(served.port, post(b"1", others + b"Connection: upgrade\r\n"))
    upgraded, plain = (seen[2] for seen in served.app.seen[-2:])
    assert upgraded == plain
    assert (b"x-latin", b"\xe9") in plain


def test_any_split_of_a_stream_with_upgrades_gives_the_same_answers(served: Served) -> None:
    kinds = [
        post(b"12345", ASKING[0] % b"h2c", "/a"),
        b"POST /b HTTP/1.1\r\n" + CHUNKED % (ASKING[1] % b"websocket"),
        post(b"x" * 9000, ASKING[2] % b"TLS/1.0", "/c"),
        get("/d", ASKING[3] % b"h2c"),
        post(b"plain", path="/e"),
    ]
    expected = {"/a": b"12345", "/b": b"abcde", "/c": b"x" * 9000, "/d": b"", "/e": b"plain", "/last": b""}
    for seed in range(40):
        dice, before = random.Random(seed), len(served.app.seen)
        stream = [dice.choice(kinds) for _ in range(dice.randrange(1, 9))]
        data = b"".join(stream) + CLOSE
        cuts = sorted({0, len(data), *(dice.randrange(len(data)) for _ in range(dice.choice([0, 1, 3, 12])))})
        with connect(served.port) as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for start, end in pairwise(cuts):
                sock.sendall(data[start:end])
                time.sleep(dice.choice([0, 0.001]))
            answer = read_to_end(sock)
        assert answer.statuses == [200] * (len(stream) + 1), (seed, cuts)
        assert bodies(served, before) == [
            (path, expected[path]) for path in [*(one.split()[1].decode() for one in stream), "/last"]
        ]


def test_one_byte_at_a_time(served: Served) -> None:
    before = len(served.app.seen)
    with connect(served.port) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in post(b"12345", ASKING[1] % b"h2c", "/bytes") + CLOSE:
            sock.sendall(bytes([byte]))
        assert read_to_end(sock).statuses == [200, 200]
    assert bodies(served, before) == [("/bytes", b"12345"), ("/last", b"")]


def test_a_body_that_stays_away_is_408_and_reaches_nobody(quick: Served) -> None:
    before = len(quick.app.seen)
    for data in (
        post(b"12345", ASKING[0] % b"h2c")[:-2],
        (b"POST / HTTP/1.1\r\n" + CHUNKED % (ASKING[0] % b"h2c"))[:-5],
    ):
        answer = exchange(quick.port, data)
        assert (answer.statuses, answer.closed) == ([408], True)
    assert quick.app.seen[before:] == []


def test_who_expects_to_be_told_is_told_to_continue(served: Served) -> None:
    head = (
        b"POST /ask HTTP/1.1\r\nHost: t\r\nContent-Length: 2\r\nExpect: 100-continue\r\n" + ASKING[0] % b"h2c" + b"\r\n"
    )
    with connect(served.port) as sock:
        sock.sendall(head)
        assert sock.recv(4096) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(b"ok" + CLOSE)
        assert read_to_end(sock).statuses == [200, 200]
    assert ("/ask", b"ok") in bodies(served, 0)


def test_a_request_of_http_1_0_is_answered_too(served: Served) -> None:
    data = b"POST /old HTTP/1.0\r\nContent-Length: 2\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\nok"
    assert exchange(served.port, data).statuses == [200]
    assert bodies(served, 0)[-1] == ("/old", b"ok")


def test_what_hides_behind_an_upgrade_is_still_refused(served: Served) -> None:
    """The guard's budgets and its framing hold for such a request as for any other."""
    extra = ASKING[1] % b"h2c"
    for data, status in (
        (post(b"1", extra + b"Transfer-Encoding: chunked\r\n"), 400),
        (post(b"1", extra + b"Transfer-Encoding: gzip\r\n"), 400),
        (post(b"1", extra + b"Host: u\r\n"), 400),
        (post(b"1", extra + b"X: " + b"a" * 40_000 + b"\r\n"), 431),
        (post(b"1", extra + b"Y: z\r\n" * 120), 431),
        (get("/" + "a" * 9000, extra), 414),
        (b"CONNECT evil:443 HTTP/1.1\r\nHost: evil:443\r\n" + extra + b"\r\n", 400),
    ):
        before = len(served.app.seen)
        answer = exchange(served.port, data + get("/smuggled"))
        assert (answer.statuses, answer.closed) == ([status], True)
        assert served.app.seen[before:] == []


def test_bytes_of_another_protocol_end_the_connection_after_the_answer(served: Served) -> None:
    answer = exchange(served.port, get("/up", ASKING[1] % b"websocket") + b"\x81\x05hello")
    assert (answer.statuses, answer.closed) == ([200], True)


def test_a_pipeline_of_upgrades_is_bounded(served: Served) -> None:
    before = len(served.app.seen)
    answer = exchange(served.port, get("/wait/0.05") + post(b"1", ASKING[1] % b"h2c") * 500)
    assert answer.closed
    assert set(answer.statuses) == {200}
    assert len(served.app.seen) - before < 50


def test_control_where_the_upgrade_stands_the_body_is_lost() -> None:
    """As it was: the parser stops before the body, and what came of it is answered."""

    class Stopping(GuardedProtocol):
        def _parse(self, data: bytes) -> None:
            self.parser.feed_data(data)

    made: Any = make_protocol(QUICK, UNTRUSTED)
    stopping = type("Stopping", (Stopping,), {"limits": made.limits, "gate": made.gate})
    with serve(QUICK, protocol=stopping) as served:
        try:
            answer: Answer = exchange(served.port, post(b"12345", ASKING[0] % b"h2c", "/a"), 1.0)
        except json.JSONDecodeError:
            return
        assert ("/a", b"12345") not in bodies(served, 0), answer.data
