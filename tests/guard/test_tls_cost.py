# ruff: noqa: F811 (fixtures)
"""What a client of TLS costs without saying anything: new keys for ever (D1), and the room of its largest read."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import socket
import ssl
from collections.abc import Iterator
from ctypes.util import find_library
from typing import Any

import pytest

from collector import certificate
from collector.certificate import Pair
from collector.guard import tls
from collector.guard.tls import Secured
from tests.guard.test_tls import authority, pair, serving, trust  # noqa: F401
from tests.kit.raw_http import Served, connect, get, post

QUIET = 0  # the client takes new keys itself
ASKING = 1  # and has the server take new ones, too
FLOOD = 200_000  # KeyUpdates: 5 MB


class Raw:
    """A client by the system's own OpenSSL, which can do what Python's `ssl` cannot."""

    def __init__(self, sock: socket.socket, lib: ctypes.CDLL) -> None:
        self.sock, self.lib = sock, lib
        self.context = ctypes.c_void_p(lib.SSL_CTX_new(ctypes.c_void_p(lib.TLS_client_method())))
        self.tls = ctypes.c_void_p(lib.SSL_new(self.context))
        lib.SSL_set_fd(self.tls, sock.fileno())

    def shake(self) -> bool:
        return bool(self.lib.SSL_do_handshake(self.tls) == 1)

    def take_new_keys(self, kind: int) -> bool:
        return self.lib.SSL_key_update(self.tls, kind) == 1 and self.shake()

    def ask(self, path: str) -> bytes:
        said, into = get(path), ctypes.create_string_buffer(65_536)
        assert self.lib.SSL_write(self.tls, said, len(said)) == len(said)
        count = self.lib.SSL_read(self.tls, into, len(into))
        return into.raw[: max(count, 0)]

    def write(self, data: bytes) -> bool:
        return bool(self.lib.SSL_write(self.tls, data, len(data)) == len(data))

    def free(self) -> None:
        self.lib.SSL_free(self.tls)
        self.lib.SSL_CTX_free(self.context)


@pytest.fixture(scope="module")
def openssl() -> ctypes.CDLL:
    name = find_library("ssl")
    if name is None:
        pytest.skip("needs the system's libssl")
    lib = ctypes.CDLL(name)
    lib.TLS_client_method.restype = lib.SSL_CTX_new.restype = lib.SSL_new.restype = ctypes.c_void_p
    return lib


@pytest.fixture
def served(pair: Pair) -> Iterator[Served]:
    from collector.guard.gate import GuardLimits

    with serving(GuardLimits(header_seconds=60.0, body_seconds=60.0), pair) as server:
        yield server


@contextlib.contextmanager
def raw(served: Served, openssl: ctypes.CDLL) -> Iterator[Raw]:
    with connect(served.port) as sock:
        sock.settimeout(None)  # OpenSSL takes the descriptor as it is
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        one = Raw(sock, openssl)
        openssl.SSL_set_connect_state(one.tls)
        assert one.shake()
        yield one
        one.free()


def updates_until_cut(one: Raw, kind: int, most: int) -> int:
    for n in range(most):
        if not one.take_new_keys(kind):
            return n
    return most


@pytest.mark.parametrize("kind", [QUIET, ASKING], ids=["quiet", "asking"])
@pytest.mark.parametrize("before", ["", "/first"], ids=["before a request", "after one"])
def test_D1_who_takes_new_keys_for_ever_is_cut_off(
    served: Served, openssl: ctypes.CDLL, kind: int, before: str
) -> None:
    with raw(served, openssl) as one:
        assert not before or one.ask(before).startswith(b"HTTP/1.1 200")
        assert updates_until_cut(one, kind, FLOOD) < FLOOD
    with raw(served, openssl) as other:
        assert other.ask("/other").startswith(b"HTTP/1.1 200")


def test_D1_between_the_bytes_of_a_body_too(served: Served, openssl: ctypes.CDLL) -> None:
    """Or a byte of data now and then would pay for all of them."""
    with raw(served, openssl) as one:
        assert one.write(b"POST /slow HTTP/1.1\r\nHost: t\r\nContent-Length: 100000\r\n\r\n")
        sent = 0
        while one.write(b"x") and updates_until_cut(one, QUIET, 40) == 40:
            sent += 1
            assert sent < FLOOD // 40


def test_D1_control_without_the_bound_all_of_them_are_taken(
    served: Served, openssl: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls, "_MOST_BARREN", 1 << 40)
    with raw(served, openssl) as one:
        assert updates_until_cut(one, QUIET, 20_000) == 20_000
        assert one.ask("/after").startswith(b"HTTP/1.1 200")


def test_D1_who_takes_new_keys_now_and_then_is_served(served: Served, openssl: ctypes.CDLL) -> None:
    with raw(served, openssl) as one:
        for n in range(100):
            assert one.take_new_keys(n % 2)
            assert one.ask(f"/{n}").startswith(b"HTTP/1.1 200")


def test_D1_a_client_that_sends_byte_by_byte_is_served(served: Served, openssl: ctypes.CDLL) -> None:
    body = post(b"x" * 5_000, path="/bytes")
    with raw(served, openssl) as one:
        assert all(one.write(body[at : at + 1]) for at in range(len(body)))
        assert one.ask("/after").startswith(b"HTTP/1.1 200")


def test_hands_are_shaken_once(served: Served, openssl: ctypes.CDLL) -> None:
    """TLS 1.2's renegotiation costs the server more than the client."""
    with connect(served.port) as sock:
        sock.settimeout(None)
        one = Raw(sock, openssl)
        openssl.SSL_ctrl(one.tls, 124, ctypes.c_long(0x0303), None)  # SSL_CTRL_SET_MAX_PROTO_VERSION
        openssl.SSL_set_connect_state(one.tls)
        assert one.shake()
        assert openssl.SSL_version(one.tls) == 0x0303
        assert one.ask("/before").startswith(b"HTTP/1.1 200")
        openssl.SSL_renegotiate(one.tls)
        assert not one.shake()
        one.free()


# -- the room of a read

CONNECTIONS, READ = 40, 245_760


class Nowhere(asyncio.Transport):
    """A socket that keeps what is written to it."""

    def __init__(self) -> None:
        self.written = b""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default


class Above(asyncio.Protocol):
    """Counts what it is told."""

    def __init__(self) -> None:
        self.count = 0

    def data_received(self, data: bytes) -> None:
        self.count += len(data)


class Malloc(ctypes.Structure):
    """glibc's `struct mallinfo2`."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()
    )


def in_use() -> int:
    """Bytes that the C library has given out: OpenSSL's are among them, Python's small objects are not."""
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallinfo2"):
        pytest.skip("needs glibc 2.33")
    libc.mallinfo2.restype = Malloc
    gc.collect()
    found = libc.mallinfo2()
    return int(found.uordblks + found.hblkhd)


def shaken(pair: Pair, trust: ssl.SSLContext) -> tuple[Secured, Above, ssl.SSLObject, ssl.MemoryBIO]:
    """A connection whose client and server have shaken hands."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client, below, above = trust.wrap_bio(incoming, outgoing, server_hostname="localhost"), Nowhere(), Above()
    one = Secured(certificate.context_of(pair), above)
    one.connection_made(below)
    while not one._shaken:
        with contextlib.suppress(ssl.SSLWantReadError):
            client.do_handshake()
        one.data_received(outgoing.read())
        incoming.write(below.written)
        below.written = b""
    return one, above, client, outgoing


def left_by_a_large_read(pair: Pair, trust: ssl.SSLContext) -> int:
    """Bytes that an idle connection keeps of what came in one read."""
    idle = [shaken(pair, trust) for _ in range(CONNECTIONS)]
    before = in_use()
    for one, above, client, outgoing in idle:
        client.write(b"x" * READ)
        one.data_received(outgoing.read())
        assert above.count == READ
        outgoing.read()
    idle = [(one, above, None, None) for one, above, *_ in idle]  # type: ignore[misc]
    return (in_use() - before) // CONNECTIONS


def test_D1_an_idle_connection_keeps_no_room_of_its_largest_read(
    pair: Pair,
    trust: ssl.SSLContext,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert left_by_a_large_read(pair, trust) < READ // 4
    monkeypatch.setattr(tls, "_PLAIN", READ * 2)
    assert left_by_a_large_read(pair, trust) > READ // 2, "control: fed at once"
