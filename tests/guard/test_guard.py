"""The guard: every way of holding a connection ends, and what is well meant is never hurt.

Timers are scaled down (they are the guard's data); each attack has its control, the same server without the guard.
"""

from __future__ import annotations

import contextlib
import random
import resource
import socket
import threading
import time
from collections.abc import Iterator
from itertools import pairwise

import pytest
from msgspec import structs

from collector.core.addresses import parse_networks
from collector.errors import ConfigError
from collector.guard.gate import BURST_CONNECTIONS, LEAST_SPARE_FILES, Gate, GuardLimits, share_of_files
from collector.guard.refusals import OVERLOADED, TOO_MANY_FROM_ADDRESS
from tests.kit.raw_http import (
    LOOPBACK,
    UNTRUSTED,
    Served,
    connect,
    eventually,
    exchange,
    get,
    post,
    read_to_end,
    serve,
    trickle,
)

# What is not the subject of a test is far beyond its patience of 30 s: what ends in time was ended by the right timer,
# and no machine that stands still for a second has its requests ended by a wrong one.
PATIENT = GuardLimits(header_seconds=90, body_seconds=90, idle_seconds=90, write_seconds=90, linger_seconds=90)
QUICK = structs.replace(PATIENT, header_seconds=0.3, body_seconds=0.4, write_seconds=0.5, linger_seconds=0.5)
EARLY = 0.01  # timers of the loop may fire by so much too soon


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serve(PATIENT) as server:
        yield server


@pytest.fixture(scope="module")
def quick() -> Iterator[Served]:
    with serve(QUICK) as server:
        yield server


@pytest.fixture(scope="module")
def unguarded() -> Iterator[Served]:
    with serve() as server:
        yield server


# -- time


def test_a_connection_that_never_speaks_is_closed_without_a_word(quick: Served) -> None:
    answer = exchange(quick.port, b"")
    assert answer.closed
    assert answer.data == b""
    assert answer.seconds > 0.3 - EARLY


@pytest.mark.parametrize("part", [b"G", b"GET / HT", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nHost: t\r\nA: b\r\n"])
def test_half_a_header_is_answered_408(quick: Served, part: bytes) -> None:
    answer = exchange(quick.port, part)
    assert (answer.status, answer.closed) == (408, True)
    assert answer.seconds > 0.3 - EARLY


def test_a_trickled_header_gains_no_time(quick: Served) -> None:
    answer = trickle(quick.port, b"GET / HTTP/1.1\r\nHost: t\r\nX: ", b"a", every=0.05)
    assert (answer.status, answer.closed) == (408, True)


def test_a_slow_body_is_answered_408_and_never_reaches_the_application(quick: Served) -> None:
    before, broken = len(quick.app.seen), quick.app.broken
    start = b"POST /slow HTTP/1.1\r\nHost: t\r\nContent-Length: 1000\r\n\r\n"
    answer = trickle(quick.port, start, b"a", every=0.05)
    assert (answer.status, answer.closed) == (408, True)
    assert eventually(lambda: quick.app.broken == broken + 1)
    assert len(quick.app.seen) == before


def test_a_large_body_that_flows_may_take_longer() -> None:
    """1 MB in 1.2 s, three times the body's time: 64 KiB buy a second."""
    with serve(QUICK) as served, connect(served.port) as sock:
        start = b"POST /flows HTTP/1.1\r\nHost: t\r\nContent-Length: 1000000\r\nConnection: close\r\n\r\n"
        for number in range(10):
            sock.sendall((start if number == 0 else b"") + b"x" * 100_000)
            time.sleep(0.12)
        assert read_to_end(sock).status == 200
        assert len(served.app.seen[0][1]) == 1_000_000


def test_an_application_that_takes_its_time_is_not_the_clients_fault(quick: Served) -> None:
    answer = exchange(quick.port, get("/wait/1.2", b"Connection: close\r\n"))
    assert (answer.status, answer.seconds > 1.1) == (200, True)


def test_a_kept_connection_outlives_the_header_time(quick: Served) -> None:
    with connect(quick.port) as sock:
        for _ in range(3):
            sock.sendall(get())
            assert sock.recv(4096).startswith(b"HTTP/1.1 200")
            time.sleep(0.4)


def test_a_kept_connection_ends_idle() -> None:
    with serve(structs.replace(QUICK, idle_seconds=0.5)) as served:
        answer = exchange(served.port, get())
    assert (answer.status, answer.closed) == (200, True)
    assert answer.seconds > 0.5 - EARLY


def test_the_second_request_of_a_connection_has_deadlines_too(quick: Served) -> None:
    with connect(quick.port) as sock:
        sock.sendall(get())
        assert sock.recv(4096).startswith(b"HTTP/1.1 200")
        time.sleep(0.2)
        sock.sendall(b"POST / HTTP/1.1\r\n")
        answer = read_to_end(sock)
    assert (answer.status, answer.closed) == (408, True)


def test_a_client_that_does_not_read_its_answer_is_dropped() -> None:
    """Long before it would be for idling: the time counts from when it stopped taking bytes."""
    limits = GuardLimits(header_seconds=0.3, write_seconds=0.5, idle_seconds=90.0)
    with serve(limits) as served, socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect(("127.0.0.1", served.port))
        sock.sendall(get("/big"))
        assert eventually(lambda: len(served.app.seen) == 1)
        assert eventually(lambda: served.gate.total == 0)


@pytest.mark.parametrize(
    ("start", "piece"),
    [
        (b"", b""),
        (b"GET / HTTP/1.1\r\nX: ", b"a"),
        (b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 9999\r\n\r\n", b"a"),
    ],
)
def test_control_without_the_guard_these_are_held(unguarded: Served, start: bytes, piece: bytes) -> None:
    assert not trickle(unguarded.port, start, piece, every=0.1, patience=1.0).closed


# -- size


@pytest.mark.parametrize("size", [33_000, 100_000, 500_000, 5_000_000])
def test_a_large_header_is_431(served: Served, size: int) -> None:
    answer = exchange(served.port, get(extra=b"X: " + b"a" * size + b"\r\n"))
    assert (answer.status, answer.closed) == (431, True)
    assert answer.body["error"]["code"] == "headers_too_large"


def test_a_header_without_end_is_431_and_not_collected(served: Served) -> None:
    answer = exchange(served.port, b"GET / HTTP/1.1\r\nHost: t\r\nX: " + b"a" * 100_000)
    assert (answer.status, answer.closed) == (431, True)


@pytest.mark.parametrize("count", [101, 2_000, 50_000])
def test_many_headers_are_431(served: Served, count: int) -> None:
    answer = exchange(
        served.port, get(extra=b"".join(b"X-%d: y\r\n" % number for number in range(count - 1)) + b"A: b\r\n")
    )
    assert (answer.status, answer.closed) == (431, True)


def test_the_largest_allowed_header_passes_in_pieces_too(served: Served) -> None:
    request = get(extra=b"X: " + b"a" * 32_000 + b"\r\n" + b"Y: z\r\n" * 97 + b"Connection: close\r\n")
    assert exchange(served.port, request).status == 200
    with connect(served.port) as sock:
        for start in range(0, len(request), 5000):
            sock.sendall(request[start : start + 5000])
            time.sleep(0.01)
        assert read_to_end(sock).status == 200


def test_a_long_target_is_414(served: Served) -> None:
    assert exchange(served.port, get("/" + "a" * 8_192)).status == 414
    assert exchange(served.port, get("/" + "a" * 8_000, b"Connection: close\r\n")).status == 200


def test_budgets_hold_for_every_request_of_a_connection(served: Served) -> None:
    answer = exchange(served.port, get() + get(extra=b"X: " + b"a" * 100_000 + b"\r\n"))
    assert answer.status == 200, "the first request is answered, the second never"
    assert answer.statuses == [200]
    assert answer.closed


def test_control_without_the_guard_a_header_of_5_mb_passes(unguarded: Served) -> None:
    request = get(extra=b"X: " + b"a" * 5_000_000 + b"\r\nConnection: close\r\n")
    assert exchange(unguarded.port, request).status == 200


CHUNKED = b"POST /c HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"


def test_trailers_do_not_become_headers(served: Served) -> None:
    answer = exchange(served.port, CHUNKED + b"1\r\na\r\n0\r\nAuthorization: Bearer sk_forged\r\n\r\n")
    assert answer.status == 200
    names = [name for name, _ in served.app.seen[-1][2]]
    assert b"authorization" not in names


def test_endless_chunk_extensions_and_trailers_end(served: Served) -> None:
    assert exchange(served.port, CHUNKED + b"1;" + b"e" * 700_000).status == 400
    assert exchange(served.port, CHUNKED + b"1\r\na\r\n0\r\n" + b"T: u\r\n" * 200).status == 400


def test_chunks_of_one_byte_pass(served: Served) -> None:
    answer = exchange(served.port, CHUNKED + b"1\r\na\r\n" * 30_000 + b"0\r\n\r\n")
    assert answer.status == 200
    assert len(served.app.seen[-1][1]) == 30_000


# -- the shape of refusals, and what else is owed


def test_a_refusal_has_the_contracts_shape(served: Served) -> None:
    answer = exchange(served.port, b"NONSENSE\r\n\r\n")
    head = answer.data.partition(b"\r\n\r\n")[0].lower()
    assert answer.status == 400
    assert b"content-type: application/json" in head
    assert b"connection: close" in head
    assert answer.body["success"] is False
    assert answer.body["error"]["code"] == "bad_request"
    assert answer.body["error"]["requestId"].startswith("req_")


def test_a_refused_client_that_is_still_sending_reads_why(served: Served) -> None:
    """Closing with unread bytes would reset the connection: most clients report that and never read the answer."""
    for _ in range(10):
        with connect(served.port) as sock:
            sock.sendall(post(b"x" * 3_000_000, path="/refuse"))
            assert read_to_end(sock).status == 413


def test_the_application_hears_at_once_that_a_request_was_refused() -> None:
    with serve(structs.replace(QUICK, linger_seconds=90)) as served, connect(served.port) as sock:
        sock.sendall(b"POST /slow HTTP/1.1\r\nHost: t\r\nContent-Length: 9\r\n\r\nx")
        assert read_to_end(sock).status == 408
        assert eventually(lambda: served.app.broken == 1)
        with pytest.raises(ConnectionError):  # what is thrown away is bounded too
            sock.sendall(b"x" * 100_000_000)


def test_an_answer_before_the_body_says_that_the_connection_ends(served: Served) -> None:
    """A client that is not told would send its next request on it, and lose that."""
    head = b"POST /refuse HTTP/1.1\r\nHost: t\r\nContent-Length: 9\r\n\r\n"
    answer = exchange(served.port, head)
    assert (answer.status, answer.closed) == (413, True)
    assert b"\r\nconnection: close\r\n" in answer.data
    with connect(served.port) as sock:
        sock.sendall(post(b"x" * 9, path="/refuse"))
        assert b"connection: close" not in sock.recv(4096), "control: a body that is here ends nothing"


def test_a_client_that_asks_first_is_told_to_continue(served: Served) -> None:
    head = b"POST /ask HTTP/1.1\r\nHost: t\r\nContent-Length: 2\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n"
    with connect(served.port) as sock:
        sock.sendall(head)
        assert sock.recv(4096) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(b"ok")
        assert read_to_end(sock).status == 200


def test_ten_gigabytes_announced_are_not_listened_to(served: Served) -> None:
    start = b"POST /refuse HTTP/1.1\r\nHost: t\r\nContent-Length: 10000000000\r\n\r\n"
    answer = trickle(served.port, start, b"x" * 65_536, every=0.001)
    assert answer.status == 413
    assert answer.closed


def test_a_client_that_half_closes_gets_its_answer(served: Served) -> None:
    assert exchange(served.port, get("/wait/0.2"), half_close=True).status == 200
    request = get("/wait/0.2", b"Connection: close\r\n")
    assert exchange(served.port, request, half_close=True).status == 200


def test_pipelined_requests_are_answered_in_order(served: Served) -> None:
    answer = exchange(served.port, get("/wait/0.1") + get("/two") + get("/three", b"Connection: close\r\n"))
    assert answer.statuses == [200, 200, 200]
    assert answer.data.index(b"/wait") < answer.data.index(b"/two") < answer.data.index(b"/three")


def test_any_split_of_a_stream_gives_the_same_answers(served: Served) -> None:
    """Requests of every kind in one stream, cut anywhere: the guard's states follow the parser's, not the reads."""
    chunked = b"Host: t\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nT: u\r\n\r\n"
    kinds = [get("/a"), post(b"12345", path="/b"), b"POST /c HTTP/1.1\r\n" + chunked, post(b"", path="/d")]
    for seed in range(40):
        dice, before = random.Random(seed), len(served.app.seen)
        stream = [dice.choice(kinds) for _ in range(dice.randrange(1, 9))]
        data = b"".join(stream) + get("/last", b"Connection: close\r\n")
        cuts = sorted({0, len(data), *(dice.randrange(len(data)) for _ in range(dice.choice([0, 1, 3, 12])))})
        with connect(served.port) as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for start, end in pairwise(cuts):
                sock.sendall(data[start:end])
                time.sleep(dice.choice([0, 0.001]))
            answer = read_to_end(sock)
        assert answer.statuses == [200] * (len(stream) + 1), (seed, cuts)
        bodies = [(path, body) for path, body, _ in served.app.seen[before:]]
        expected = {"/a": b"", "/b": b"12345", "/c": b"abcde", "/d": b"", "/last": b""}
        assert bodies == [(path, expected[path]) for path, _ in bodies]
        assert [path for path, _ in bodies] == [one.split()[1].decode() for one in stream] + ["/last"]


def test_what_was_asked_before_a_fault_is_answered_and_nothing_after_it(served: Served) -> None:
    before = len(served.app.seen)
    answer = exchange(served.port, get("/wait/0.1") + b"BROKEN\x00\r\n\r\n" + get("/after"))
    assert answer.statuses == [200]
    assert answer.closed
    assert [path for path, _, _ in served.app.seen[before:]] == ["/wait/0.1"]


def test_a_fault_in_a_pipelined_body_takes_back_only_its_own_request(served: Served) -> None:
    before = len(served.app.seen)
    answer = exchange(served.port, get("/wait/0.1") + get("/second") + CHUNKED + b"zz\r\n")
    assert answer.statuses == [200, 200]
    assert answer.closed
    assert [path for path, _, _ in served.app.seen[before:]] == ["/wait/0.1", "/second"]


def test_a_pipeline_is_bounded(served: Served) -> None:
    before = len(served.app.seen)
    answer = exchange(served.port, get("/wait/0.05") + get() * 5_000)
    assert answer.closed
    assert set(answer.statuses) == {200}
    assert len(served.app.seen) - before < 50


def test_nothing_is_processed_after_connection_close(served: Served) -> None:
    before = len(served.app.seen)
    answer = exchange(served.port, get("/last", b"Connection: close\r\n") + get("/smuggled"))
    assert answer.statuses == [200]
    assert [path for path, _, _ in served.app.seen[before:]] == ["/last"]


# -- how many


def wait_for(count: int, gate: Gate) -> None:
    assert eventually(lambda: gate.total == count), gate.total


@contextlib.contextmanager
def held(port: int, count: int, start: bytes = b"", source: str = "127.0.0.1") -> Iterator[list[socket.socket]]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(connect(port, source)) for _ in range(count)]
        for sock in sockets:
            sock.sendall(start)
        yield sockets


FEW = structs.replace(PATIENT, connections=20, connections_per_address=5)


def test_idle_connections_of_an_address_give_way_to_its_next_request() -> None:
    with serve(FEW) as served, held(served.port, 5) as sockets:
        wait_for(5, served.gate)
        assert exchange(served.port, get(extra=b"Connection: close\r\n")).status == 200
        assert read_to_end(sockets[0]).closed, "the oldest had to go"
        assert not read_to_end(sockets[1], 0.1).closed


def test_an_address_whose_connections_all_work_is_refused_429() -> None:
    with serve(FEW) as served, held(served.port, 5, get("/held")) as sockets:
        assert eventually(lambda: served.app.holding == 5)
        answer = exchange(served.port, get())
        assert (answer.status, answer.body["error"]["code"]) == (429, "rate_limit_exceeded")
        assert b"retry-after: 1" in answer.data
        assert exchange(served.port, b"").status == 429
        served.app.release.set()
        assert all(sock.recv(4096).startswith(b"HTTP/1.1 200") for sock in sockets), "none of them is hurt"


def test_trusted_proxies_have_no_limit_per_address() -> None:
    with serve(FEW, LOOPBACK) as served, held(served.port, 15, get("/held")):
        assert eventually(lambda: served.app.holding == 15)
        assert exchange(served.port, get(extra=b"Connection: close\r\n")).status == 200
        served.app.release.set()


def test_a_full_house_of_idle_connections_lets_the_next_request_in() -> None:
    with serve(FEW, LOOPBACK) as served, held(served.port, 40):
        wait_for(20, served.gate)
        assert exchange(served.port, get(extra=b"Connection: close\r\n")).status == 200


def test_a_full_house_at_work_answers_503_with_retry_after() -> None:
    with serve(FEW, LOOPBACK) as served, held(served.port, 20, get("/held")):
        assert eventually(lambda: served.app.holding == 20)
        answer = exchange(served.port, get())
        assert (answer.status, answer.body["error"]["code"]) == (503, "overloaded")
        assert b"retry-after: 1" in answer.data
        served.app.release.set()


def test_every_connection_is_forgotten_at_its_end() -> None:
    with serve(structs.replace(QUICK, idle_seconds=0.5)) as served:
        with held(served.port, 50), held(served.port, 50, get()), held(served.port, 20, b"BAD\r\n\r\n"):
            pass
        exchange(served.port, post(b"x" * 100_000, path="/refuse"))
        wait_for(0, served.gate)
        assert (served.gate.by_address, len(served.gate.unproven), served.gate.told) == ({}, 0, 0)


class Guest:
    """A connection as the gate sees it."""

    def __init__(self, *, waiting: bool) -> None:
        self.address: str | None = None
        self.counted = False
        self.waiting = waiting
        self.dropped = False

    def drop(self) -> None:
        self.dropped = True


def test_a_64_of_ipv6_is_one_address_and_a_mapped_peer_is_its_ipv4() -> None:
    gate = Gate(GuardLimits(connections_per_address=2), UNTRUSTED)
    for tail in (1, 2):
        assert gate.admit(Guest(waiting=False), f"2001:db8:1:2::{tail}") is None
    assert gate.admit(Guest(waiting=False), "2001:db8:1:2:ffff::9") is TOO_MANY_FROM_ADDRESS
    assert gate.admit(Guest(waiting=False), "2001:db8:1:3::1") is None
    trusting = Gate(GuardLimits(connections_per_address=1), parse_networks(["10.0.0.0/8"]))
    assert all(trusting.admit(Guest(waiting=False), "::ffff:10.0.0.1") is None for _ in range(3))


def test_D1_memory_is_given_back_once_after_a_burst_of_connections() -> None:
    calls: list[int] = []
    gate = Gate(GuardLimits(), UNTRUSTED, give_back=lambda: calls.append(1))
    for count in (BURST_CONNECTIONS, BURST_CONNECTIONS - 1):  # and the control
        guests = [Guest(waiting=False) for _ in range(count)]
        assert [gate.admit(guest, "192.0.2.1") for guest in guests] == [None] * count
        for guest in guests:
            gate.leave(guest)
    assert calls == [1]


def test_a_unix_socket_has_no_address_to_count() -> None:
    gate = Gate(GuardLimits(connections_per_address=1), UNTRUSTED)
    assert all(gate.admit(Guest(waiting=False), None) is None for _ in range(3))


def test_the_gate_never_gives_up_a_connection_at_work() -> None:
    gate = Gate(GuardLimits(connections_per_address=3, connections=3), UNTRUSTED)
    guests = [Guest(waiting=waiting) for waiting in (False, True, False)]
    assert [gate.admit(guest, "192.0.2.1") for guest in guests] == [None] * 3
    assert gate.admit(Guest(waiting=False), "192.0.2.1") is None
    assert [guest.dropped for guest in guests] == [False, True, False]
    assert gate.admit(Guest(waiting=True), "192.0.2.1") is TOO_MANY_FROM_ADDRESS
    gate.unproven.clear()
    assert gate.admit(Guest(waiting=True), "192.0.2.2") is OVERLOADED


@pytest.mark.parametrize(
    ("soft", "hard", "wanted", "fits", "raised"),
    [
        (1024, 65_536, 16_000, 16_000, 17_280),
        (1024, 4_096, 16_000, 2_816, 4_096),
        (65_536, 65_536, 16_000, 16_000, None),
        (1024, resource.RLIM_INFINITY, 16_000, 16_000, 17_280),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, 16_000, 16_000, None),
        (1024, 1_280, 16_000, 704, 1_280),
        (256, 1_024, 16_000, 512, 1_024),
        (256, 256, 16_000, 128, None),
        (65, 65, 16_000, 9, None),
    ],
)
def test_D2_no_more_connections_than_there_are_files(
    monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, wanted: int, fits: int, raised: int | None
) -> None:
    calls: list[int] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: calls.append(limits[0]))
    share = share_of_files(wanted)
    assert share.connections == fits
    assert share.connections + share.told + LEAST_SPARE_FILES <= share.files
    assert calls == ([raised] if raised else [])


@pytest.mark.parametrize("files", [64, 20])
def test_D2_with_too_few_files_it_says_so(monkeypatch: pytest.MonkeyPatch, files: int) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (files, files))
    with pytest.raises(ConfigError, match=f"may open {files} files.*LimitNOFILE"):
        share_of_files(16_000)


def test_from_three_quarters_on_it_is_crowded() -> None:
    """Idle connections are then kept no longer than fresh ones."""
    gate = Gate(GuardLimits(connections=8), UNTRUSTED)
    assert [(gate.admit(Guest(waiting=True), None), gate.crowded)[1] for _ in range(8)] == [False] * 6 + [True] * 2


def test_leaving_twice_counts_once() -> None:
    gate, guest = Gate(GuardLimits(), UNTRUSTED), Guest(waiting=True)
    gate.admit(guest, "192.0.2.1")
    gate.leave(guest)
    gate.leave(guest)
    assert (gate.total, gate.by_address) == (0, {})


def test_many_who_come_and_go_at_once_are_all_answered(served: Served) -> None:
    """No request is lost to the guard's bookkeeping when many come and go at once."""
    statuses: list[int] = []

    def ask() -> None:
        statuses.extend(exchange(served.port, get(extra=b"Connection: close\r\n")).status for _ in range(10))

    threads = [threading.Thread(target=ask) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [200] * 200
