"""The real edge among hostile clients: forged addresses, held connections, hidden requests, a log that says nothing."""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import apsw
import pytest

from collector.storage.ground import kept
from tests.edge.test_error_shape import CLICK, FROM_SHOP, ORDER
from tests.guard.test_hostile import SMUGGLED
from tests.kit.edge_process import Edge, refused_at_last, running
from tests.kit.raw_http import Answer, connect, eventually, exchange, get, post

BROWSER = {"User-Agent": "Mozilla/5.0 (Windows NT 10.0; Win64; x64) Gecko/20100101 Firefox/128.0"}
VISITOR = "9.9.9.9"
PROXIES = ["127.0.0.1/32", "10.0.0.0/8"]


# -- whose address is it


@pytest.fixture(scope="module", params=[[], PROXIES], ids=["no proxies", "behind proxies"])
def placed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Edge, bool]]:
    with running(tmp_path_factory.mktemp("edge"), trusted_proxies=request.param) as edge:
        yield edge, bool(request.param)


FORWARDED = {
    f"X-Forwarded-For: {VISITOR}": VISITOR,
    f"X-Forwarded-For: 6.6.6.6, {VISITOR}": VISITOR,
    f"X-Forwarded-For: 6.6.6.6, {VISITOR}, 10.1.2.3": VISITOR,
    f"X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: {VISITOR}": VISITOR,
    f"X-Forwarded-For: {VISITOR}:4711": VISITOR,
    f"x-FORWARDED-for:    ::ffff:{VISITOR}   ": VISITOR,
    "X-Forwarded-For: [2606:4700::1111]:443": "2606:4700::1111",
    "X-Forwarded-For: 6.6.6.6, nonsense": None,
    "X-Forwarded-For: 6.6.6.6, 10.0.0.1, unknown": None,
    "X-Forwarded-For: 6.6.6.6,": None,
    "X-Forwarded-For: ": None,
    "X-Forwarded-For: " + ", ".join(["6.6.6.6"] + ["10.0.0.1"] * 10): None,
    f"X-Real-IP: {VISITOR}": VISITOR,
    f"X-Real-IP: 6.6.6.6\r\nX-Forwarded-For: {VISITOR}": VISITOR,
    "Forwarded: for=6.6.6.6": None,
    "True-Client-IP: 6.6.6.6": None,
    "Client-IP: 6.6.6.6\r\nX-Client-IP: 6.6.6.6\r\nX-Originating-IP: 6.6.6.6": None,
    "X_Forwarded_For: 6.6.6.6": None,
}


@pytest.mark.parametrize("lines", FORWARDED)
def test_no_header_forges_the_visitors_address(placed: tuple[Edge, bool], lines: str) -> None:
    """Behind trusted proxies the first untrusted hop counts; without them the connection alone (loopback: not kept)."""
    edge, proxied = placed
    body = json.dumps(CLICK | {"visitorId": f"{time.monotonic_ns()}"}).encode()
    key = f"Authorization: Bearer {edge.keys['page']}\r\nOrigin: https://shop.example\r\nConnection: close\r\n"
    agent = "User-Agent: Mozilla/5.0 (Windows NT 10.0) Firefox/128.0\r\nContent-Type: application/json\r\n"
    answer = exchange(edge.port, post(body, f"{key}{agent}{lines}\r\n".encode(), "/v1/track/click"))
    assert answer.status == 200, answer.data
    kept = last_address(edge)
    assert kept == (FORWARDED[lines] if proxied else None)


def rows(edge: Edge, sql: str) -> list[Any]:
    with contextlib.closing(kept.know(apsw.Connection(str(edge.log.parent / "data" / "collector.db")))) as db:
        return db.execute(sql).fetchall()


def last_address(edge: Edge) -> str | None:
    """The address that was kept of the newest click; a private one is of no use and not kept."""
    ((found,),) = rows(edge, "SELECT ip FROM click LEFT JOIN click_network USING (id) ORDER BY id DESC LIMIT 1")
    return found if isinstance(found, str) else None


def test_a_forged_address_does_not_escape_the_rate_of_the_true_one(tmp_path: Path) -> None:
    with running(tmp_path, trusted_proxies=PROXIES, rate_limit_address_per_second=3) as edge:
        assert refused_at_last(lambda number: ask_as(edge, f"6.6.6.{number}, {VISITOR}"))
        assert ask_as(edge, "8.8.8.8").status == 200, "control: another visitor is not held to it"


def test_a_network_of_ipv6_has_one_rate(tmp_path: Path) -> None:
    with running(tmp_path, trusted_proxies=PROXIES, rate_limit_address_per_second=3) as edge:
        assert refused_at_last(lambda number: ask_as(edge, f"2606:4700::{number + 1:x}"))
        assert ask_as(edge, "2606:4700:0:1::1").status == 200, "control: the next network"


def ask_as(edge: Edge, forwarded: str) -> Answer:
    return edge.post("/v1/track/click", CLICK, "page", FROM_SHOP | BROWSER | {"X-Forwarded-For": forwarded})


# -- held, flooded, smuggled


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    with running(tmp_path_factory.mktemp("edge")) as edge:
        yield edge


@pytest.mark.parametrize("name", SMUGGLED)
def test_the_real_edge_refuses_what_could_be_read_in_two_ways(edge: Edge, name: str) -> None:
    answer = exchange(edge.port, SMUGGLED[name], half_close=True)
    assert (answer.statuses, answer.closed) == ([400], True)


@pytest.mark.parametrize("count", [2_000, pytest.param(11_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("trusted", [[], PROXIES], ids=["one address", "behind proxies"])
def test_idle_and_slow_connections_do_not_keep_clicks_out(tmp_path: Path, count: int, trusted: list[str]) -> None:
    """Without trusted proxies the limit per address takes from the idle connections, not from the next click."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with running(tmp_path, trusted_proxies=trusted) as edge, contextlib.ExitStack() as stack:
        for number in range(count):
            sock = stack.enter_context(connect(edge.port))
            if number % 11 == 0:
                sock.sendall(b"POST /v1/track/click HTTP/1.1\r\nHost: t\r\nContent-Length: 100\r\n\r\n{")
        assert [edge.post("/v1/track/click", CLICK).status for _ in range(50)] == [200] * 50
        if count > 10_000:
            assert eventually(lambda: len(os.listdir(f"/proc/{edge.pid}/fd")) < 50, 60.0), "they are gone after 12 s"


def test_sigterm_answers_what_is_whole_and_waits_for_nobody_else(tmp_path: Path) -> None:
    """Idle, half-sent and slow connections do not hold the end up; who waits for Meta hears what is known now."""
    patient = "import collector.edge.track as t; t.MOST_WAIT_SECONDS = 90"
    with running(tmp_path, patient, mode="live") as edge, contextlib.ExitStack() as stack:
        starts = [b"", b"POST /v1/tr", b"POST /v1/track/click HTTP/1.1\r\nHost: t\r\nContent-Length: 99\r\n\r\n{"]
        for start in starts:
            stack.enter_context(connect(edge.port)).sendall(start)
        person = {"customerData": {"email": "a@b.example"}, "userAgent": BROWSER["User-Agent"]}
        waiting = stack.enter_context(ThreadPoolExecutor(1))
        asked = waiting.submit(edge.post, "/v1/track/conversion", ORDER | person, headers={"Prefer": "wait=90"})
        assert eventually(lambda: rows(edge, "SELECT 1 FROM conversion"))
        os.kill(edge.pid, signal.SIGTERM)
        answer = asked.result(timeout=60)
        assert (answer.status, answer.body["data"]["capiStatus"]) == (200, "queued")
        assert eventually(lambda: Path(f"/proc/{edge.pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z", 30.0)


def test_an_answer_never_goes_to_another_request(edge: Edge) -> None:
    """Pipelined on one connection, with a wait in front: each answer carries its own request's click id."""
    ids = [f"IwAR{number:020d}" for number in range(8)]
    head = f"Authorization: Bearer {edge.keys['secret']}\r\nContent-Type: application/json\r\n".encode()
    requests = [post(json.dumps(CLICK | {"fbclid": one}).encode(), head, "/v1/track/click") for one in ids]
    answer = exchange(edge.port, b"".join(requests) + get("/healthz", b"Connection: close\r\n"))
    assert answer.statuses == [200] * 9
    assert re.findall(rb'"fbclid":"(\w+)"', answer.data) == [one.encode() for one in ids]


# -- what the log may not say

CANARIES = {
    "email": "canary.person@secret-mail.example",
    "phone": "+15550199123",
    "address": "9.9.8.7",
    "agent": "CanaryAgent/7.7",
    "name": "Canarius",
    "fbclid": "IwAR0CanaryCanaryCanaryCanary",
    "query": "canaryquery",
    "cookie": "canarycookie",
    "order": "canary-order-1",
}


def test_neither_log_nor_command_line_says_who_came(tmp_path: Path) -> None:
    """Requests of every kind, failing ones and crashes too, full of one person's data: none of it is written there."""
    patch = (
        "from collector.edge import prepare; P = prepare.naming.prepare; "
        "prepare.naming.prepare = lambda *a, **k: P(*a, **k) if a[3].event.order_id != 'crash' else {}[str(a[3])]"
    )
    with running(tmp_path, patch, trusted_proxies=["127.0.0.1/32"]) as edge:
        for number in range(60):
            send_canaries(edge, number)
        command_line = Path(f"/proc/{edge.pid}/cmdline").read_text()
    log = edge.log.read_text() + command_line  # all of it: the process has ended
    assert "KeyError" in log, "control: the crashes were logged"
    hits = [name for name, canary in CANARIES.items() if canary.lower() in log.lower()]
    hits += [name for name, key in edge.keys.items() if key in log]
    assert hits == [], log[:2000]


def send_canaries(edge: Edge, number: int) -> None:
    person = {"email": CANARIES["email"], "phone": CANARIES["phone"], "firstName": CANARIES["name"]}
    order = ORDER | {"orderId": CANARIES["order"] if number % 2 else "crash", "customerData": person}
    order |= {"ipAddress": CANARIES["address"], "userAgent": CANARIES["agent"], "fbclid": CANARIES["fbclid"]}
    headers = {
        "User-Agent": CANARIES["agent"],
        "Cookie": f"_cv={CANARIES['cookie']}",
        "Referer": "https://shop.example/",
    }
    headers |= {"X-Forwarded-For": CANARIES["address"]}
    path = f"/v1/track/conversion?q={CANARIES['query']}&e={CANARIES['email']}"
    match number % 6:
        case 0 | 1:
            edge.post(path, order, headers=headers)
        case 2:
            edge.post(path, json.dumps(order).encode()[:-5], headers=headers)
        case 3:
            edge.post(path, order | {"eventValue": CANARIES["email"]}, "sk_" + CANARIES["query"], headers)
        case 4:
            edge.get(f"/v1/clicks/{CANARIES['email']}?{CANARIES['query']}", headers=headers)
        case 5:
            exchange(edge.port, f"GET /{CANARIES['email']} HTTP/1.1\r\nX: {CANARIES['phone']}\r\n\r\n".encode(), 1.0)


# -- where it may not go


def test_the_edge_imports_nothing_that_calls_out() -> None:
    """The edge makes no outgoing connection: no HTTP client is even loaded in its process."""
    program = "import sys, collector.edge.app; print([m for m in sys.modules if m in set(sys.argv[1:])])"
    clients = ["httpx", "httpcore", "requests", "urllib3", "aiohttp", "sqlite3", "aiosqlite", "smtplib", "ftplib"]
    done = subprocess.run([sys.executable, "-c", program, *clients], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
