"""TLS under the guard: the same deadlines, budgets and answers, and nothing for who does not speak it.

Each attack has its control: uvicorn's own TLS, which holds what the guard ends.
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
from msgspec import structs

from collector import certificate
from collector.certificate import Pair
from collector.guard.gate import GuardLimits
from collector.guard.protocol import make_protocol
from collector.guard.tls import secured
from tests.kit.authority import Authority
from tests.kit.raw_http import UNTRUSTED, Served, connect, eventually, exchange, get, post, read_to_end, serve, trickle

# As in test_guard.py: only what is about time has short deadlines.
PATIENT = GuardLimits(header_seconds=90, body_seconds=90, idle_seconds=90, write_seconds=90, linger_seconds=90)
QUICK = structs.replace(PATIENT, header_seconds=0.3, body_seconds=0.4, write_seconds=0.5, linger_seconds=0.5)
FEW = structs.replace(PATIENT, connections=16, connections_per_address=2)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def pair(authority: Authority) -> Pair:
    given = authority.give("shop")
    return Pair(given.cert.read_bytes(), given.key.read_bytes())


@contextlib.contextmanager
def serving(limits: GuardLimits, pair: Pair) -> Iterator[Served]:
    protocol = make_protocol(limits, UNTRUSTED)
    made = secured(protocol, certificate.context_of(pair))
    made.gate = protocol.gate  # type: ignore[attr-defined]
    with serve(limits, protocol=made) as server:
        yield server


@pytest.fixture(scope="module")
def served(pair: Pair) -> Iterator[Served]:
    with serving(PATIENT, pair) as server:
        yield server


@pytest.fixture(scope="module")
def quick(pair: Pair) -> Iterator[Served]:
    with serving(QUICK, pair) as server:
        yield server


@pytest.fixture
def trust(authority: Authority) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(authority.root))


class Driven:
    """A client whose records are made and sent one by one."""

    def __init__(self, sock: socket.socket, trust: ssl.SSLContext) -> None:
        self.sock, self.incoming, self.outgoing = sock, ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = trust.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")

    def shake(self, step: int = 65_536) -> None:
        """Hands, in pieces of so many bytes."""
        while True:
            try:
                self.tls.do_handshake()
                return self.send(step)
            except ssl.SSLWantReadError:
                self.send(step)
                self.incoming.write(self.sock.recv(65_536))

    def send(self, step: int = 65_536) -> None:
        said = self.outgoing.read()
        for at in range(0, len(said), step):
            self.sock.sendall(said[at : at + step])


@contextlib.contextmanager
def client(port: int, trust: ssl.SSLContext) -> Iterator[ssl.SSLSocket]:
    """An end without close_notify is an error to it, as to a careful client."""
    with (
        connect(port) as plain,
        trust.wrap_socket(plain, server_hostname="localhost", suppress_ragged_eofs=False) as sock,
    ):
        yield sock


def test_requests_of_one_connection_are_answered_and_its_end_is_told(served, trust):
    with client(served.port, trust) as sock:
        assert sock.version() in ("TLSv1.2", "TLSv1.3")
        for n in range(3):
            sock.sendall(post(b"x" * 60_000, path=f"/{n}"))
            assert sock.recv(65536).startswith(b"HTTP/1.1 200 OK")
        sock.sendall(get("/last", b"Connection: close\r\n"))
        answer = read_to_end(sock)
    assert answer.closed
    assert answer.data.endswith(b"/last")
    assert served.app.seen[-1][0] == "/last"


def test_requests_in_one_piece_are_answered_in_order(served, trust):
    with client(served.port, trust) as sock:
        sock.sendall(get("/a") + get("/b") + get("/c", b"Connection: close\r\n"))
        assert read_to_end(sock).statuses == [200, 200, 200]
    assert [seen[0] for seen in served.app.seen[-3:]] == ["/a", "/b", "/c"]


def test_bytes_one_by_one_make_the_same_request(served, trust):
    with connect(served.port) as sock:
        driven = Driven(sock, trust)
        driven.shake(1)
        driven.tls.write(get("/bytes", b"Connection: close\r\n"))
        driven.send(1)
        assert eventually(lambda: served.app.seen[-1][0] == "/bytes")


def test_a_large_answer_comes_whole(pair, trust):
    with serving(GuardLimits(), pair) as patient, client(patient.port, trust) as sock:
        sock.sendall(get("/big", b"Connection: close\r\n"))
        count, into = 0, bytearray(65_536)
        while got := sock.recv_into(into):
            count += got
    assert count > 64_000_000


@pytest.mark.parametrize("said", [b"", b"\x16\x03\x01\x02\x00\x01"], ids=["nothing", "half a hello"])
def test_who_does_not_shake_hands_in_time_is_closed(quick, said):
    answer = exchange(quick.port, said)
    assert (answer.closed, answer.data) == (True, b"")
    assert answer.seconds > 0.29


def test_trickled_hands_gain_no_time(quick):
    answer = trickle(quick.port, b"\x16\x03\x01\x02\x00", b"\x01", every=0.05)
    assert answer.closed


def test_without_the_guard_half_a_hello_is_held(authority):
    given = authority.give("plain-uvicorn")
    config = uvicorn.Config(_nothing, ssl_certfile=str(given.cert), ssl_keyfile=str(given.key), log_level="critical")
    with _running(config) as port:
        assert not exchange(port, b"\x16\x03\x01\x02\x00\x01", 1.0).closed


async def _nothing(scope, receive, send):
    """Nobody gets here."""


@contextlib.contextmanager
def _running(config: uvicorn.Config) -> Iterator[int]:
    config.lifespan = "off"
    config.timeout_graceful_shutdown = 1
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        assert eventually(lambda: server.started)
        yield listener.getsockname()[1]
        server.force_exit = server.should_exit = True
        thread.join(10)


@pytest.mark.parametrize(
    "said",
    [
        get("/"),
        post(b"{}", path="/v1/track/click"),
        b"GET / HTTP/1.0\r\n\r\n",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        os.urandom(64),
        b"\x16\x03\x01\xff\xff" + bytes(65535),
        b"\x80\x2e\x01\x00\x02" + bytes(44),
    ],
    ids=["GET", "POST", "1.0", "PROXY", "ssh", "noise", "huge", "SSLv2"],
)
def test_who_speaks_no_tls_gets_no_answer(served, said):
    before = len(served.app.seen)
    answer = exchange(served.port, said)
    assert answer.closed
    assert b"HTTP" not in answer.data
    assert len(answer.data) <= 7  # TLS's own alert, or nothing
    assert len(served.app.seen) == before


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
def test_old_versions_of_tls_are_refused(served, trust):
    trust.minimum_version = ssl.TLSVersion.TLSv1
    trust.maximum_version = ssl.TLSVersion.TLSv1_1
    trust.set_ciphers("DEFAULT:@SECLEVEL=0")
    with pytest.raises((ssl.SSLError, ConnectionError)), client(served.port, trust):
        pass


def test_a_record_that_was_changed_on_the_way_ends_the_connection(served, trust):
    before = len(served.app.seen)
    with connect(served.port) as sock:
        driven = Driven(sock, trust)
        driven.shake()
        driven.tls.write(get("/changed"))
        record = bytearray(driven.outgoing.read())
        record[-1] ^= 1
        sock.sendall(record)
        assert read_to_end(sock).closed
    assert len(served.app.seen) == before


def test_a_slow_body_is_answered_408(quick, trust):
    with client(quick.port, trust) as sock:
        sock.sendall(b"POST /slow HTTP/1.1\r\nHost: t\r\nContent-Length: 1000\r\n\r\nabc")
        answer = read_to_end(sock)
    assert (answer.status, answer.closed) == (408, True)


def test_a_client_that_has_said_all_gets_its_answer(served, trust):
    """close_notify after the request, as `openssl s_client` and old clients say it."""
    with connect(served.port) as sock:
        driven = Driven(sock, trust)
        driven.shake()
        driven.tls.write(get("/wait/0.05"))
        with contextlib.suppress(ssl.SSLWantReadError):
            driven.tls.unwrap()
        driven.send()
        sock.shutdown(socket.SHUT_WR)
        driven.incoming.write(read_to_end(sock).data)
        assert driven.tls.read(65_536).startswith(b"HTTP/1.1 200")


def test_who_is_one_too_many_is_told_so_in_tls(pair, trust):
    with serving(FEW, pair) as server, contextlib.ExitStack() as held:
        for _ in range(2):
            sock = held.enter_context(client(server.port, trust))
            sock.sendall(get("/held"))
        assert eventually(lambda: server.app.holding == 2)
        with client(server.port, trust) as sock:
            answer = read_to_end(sock)
        server.app.release.set()
    assert answer.status in (429, 503)
    assert answer.body["error"]["code"]


def test_a_silent_client_counts_from_its_first_moment_and_costs_no_tls(quick):
    before = len(quick.gate.unproven)
    with connect(quick.port):
        assert eventually(lambda: len(quick.gate.unproven) > before)
    assert eventually(lambda: len(quick.gate.unproven) <= before)


def test_a_client_that_vanishes_between_its_hands_leaves_nothing(served, trust):
    for _ in range(20):
        with connect(served.port) as sock:
            sock.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
    assert eventually(lambda: len(served.gate.unproven) == 0, 2.0)
    with client(served.port, trust) as sock:
        sock.sendall(get("/after", b"Connection: close\r\n"))
        assert read_to_end(sock).status == 200


def test_the_clock_of_the_files_own_kind(authority: Authority, tmp_path: Path):
    given = authority.give("dated", begins="20240229120000Z", ends="20610101000000Z")
    valid = certificate.valid_of(Pair(given.cert.read_bytes(), given.key.read_bytes()))
    assert time.strftime("%Y-%m-%d %H", time.gmtime(valid.begins / 1000)) == "2024-02-29 12"
    assert time.strftime("%Y-%m-%d %H", time.gmtime(valid.ends / 1000)) == "2061-01-01 00"  # GeneralizedTime
