"""The console's password, sessions, and the limits of its log-in."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
from base64 import b64encode
from collections.abc import Iterator
from hashlib import scrypt
from pathlib import Path

import pytest
import requests
from httpx import ASGITransport, AsyncClient
from msgspec import structs

from collector.config import EdgeConfig
from collector.console import app
from collector.console.auth import Attempts, Sessions, hash_password, verify_password
from collector.console.shell import Desk
from collector.storage.reports.reader import Reader
from tests.kit.console_process import ConsoleProcess, make_config
from tests.kit.console_store import NOW, make_store
from tests.kit.raw_http import connect, exchange

Answer = requests.Response
HOUR = 3_600_000
CHEAP = "scrypt$10$8$1${}${}".format(
    b64encode(b"s" * 16).decode(),
    b64encode(scrypt("pässword".encode(), salt=b"s" * 16, n=1024, r=8, p=1, dklen=32)).decode(),
)


@pytest.fixture
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsoleProcess]:
    data_dir = tmp_path_factory.mktemp("data")
    make_store(data_dir, clicks=5, conversions=2).close()
    with ConsoleProcess(make_config(data_dir, password_hash=CHEAP)) as running:
        yield running


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsoleProcess]:
    """For tests that do not guess: attempts are counted for the whole process."""
    data_dir = tmp_path_factory.mktemp("data")
    make_store(data_dir, clicks=5, conversions=2).close()
    with ConsoleProcess(make_config(data_dir, password_hash=CHEAP)) as running:
        yield running


def _form(page: str) -> str:
    found = re.search(r'name="form" value="([0-9a-f]+)"', page)
    assert found is not None
    return found[1]


def _log_in(
    console: ConsoleProcess, browser: requests.Session, password: str = "pässword", **headers: str
) -> requests.Response:
    form = _form(browser.get(console.url("/login"), timeout=10).text)
    return browser.post(
        console.url("/login"),
        data={"password": password, "form": form},
        headers=headers,
        timeout=10,
        allow_redirects=False,
    )


def test_a_hash_is_made_of_a_password_and_knows_it_again() -> None:
    stored = hash_password("correct horse")
    assert stored.startswith("scrypt$17$8$1$")
    assert verify_password("correct horse", stored)
    assert not verify_password("correct hors", stored)
    assert hash_password("correct horse") != stored  # salted


def test_nothing_is_shown_without_the_password(closed: ConsoleProcess) -> None:
    for path in ("/", "/events", "/delivery", "/campaigns", "/nothing"):
        answer = closed.get(path, allow_redirects=False)
        assert (answer.status_code, answer.headers["location"]) == (303, "/login"), path
    assert closed.get("/metrics").status_code == 401
    assert closed.get("/healthz").status_code == 200


def test_the_password_opens_a_session_and_log_out_ends_it(closed: ConsoleProcess) -> None:
    browser = requests.Session()
    answer = _log_in(closed, browser)
    assert answer.status_code == 303
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    page = browser.get(closed.url("/"), timeout=10)
    assert page.status_code == 200
    kept = browser.cookies["collector_console"]
    form = _form(page.text)
    assert browser.post(closed.url("/logout"), data={"form": "0" * 48}, timeout=10).status_code == 403
    assert (
        browser.post(closed.url("/logout"), data={"form": form}, timeout=10, allow_redirects=False).status_code == 303
    )
    answer = closed.get("/", cookies={"collector_console": kept}, allow_redirects=False)
    assert answer.status_code == 303  # the old cookie is worth nothing


@pytest.mark.parametrize("by_the_clock", [False, True])  # True: the control
async def test_a_clock_that_is_set_ends_no_log_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by_the_clock: bool
) -> None:
    make_store(tmp_path, clicks=5, conversions=2).close()
    clock = itertools.count(NOW, 1000 * HOUR).__next__
    if by_the_clock:
        monkeypatch.setattr(app, "boot_ms", clock)
    async with Reader(tmp_path / "collector.db") as reader:
        console = app.create_app(Desk(make_config(tmp_path, password_hash=CHEAP), reader, clock))
        transport = ASGITransport(app=console)
        async with AsyncClient(transport=transport, base_url="http://127.0.0.1:8081", timeout=None) as browser:
            form = _form((await browser.get("/login")).text)
            assert (await browser.post("/login", data={"password": "pässword", "form": form})).status_code == 303
            assert (await browser.get("/left-out")).status_code == (303 if by_the_clock else 200)


def test_the_cookie_is_secure_behind_a_proxy_with_tls(closed: ConsoleProcess) -> None:
    assert (
        "secure" in _log_in(closed, requests.Session(), **{"X-Forwarded-Proto": "https"}).headers["set-cookie"].lower()
    )


def test_a_wrong_password_a_foreign_form_and_a_foreign_site_are_refused(console: ConsoleProcess) -> None:
    assert _log_in(console, requests.Session(), "wrong").status_code == 401
    browser = requests.Session()
    browser.get(console.url("/login"), timeout=10)
    login, data = console.url("/login"), {"password": "pässword", "form": "0" * 48}
    assert browser.post(login, data=data, timeout=10).status_code == 403
    assert _log_in(console, requests.Session(), Origin="https://evil.example").status_code == 403
    assert _log_in(console, requests.Session(), **{"Sec-Fetch-Site": "cross-site"}).status_code == 403
    own = f"http://127.0.0.1:{console.port}"
    assert _log_in(console, requests.Session(), Origin=own, **{"Sec-Fetch-Site": "same-origin"}).status_code == 303


def test_guessing_is_slowed_to_five_a_minute(console: ConsoleProcess) -> None:
    codes = [_log_in(console, requests.Session(), f"guess {i}").status_code for i in range(6)]
    assert codes == [401] * 5 + [429]
    assert _log_in(console, requests.Session()).status_code == 429  # the right one too: a guesser learns nothing


def test_a_scraper_may_use_the_password_for_metrics_only(console: ConsoleProcess) -> None:
    assert console.get("/metrics", auth=("prometheus", "pässword".encode())).status_code == 200
    assert console.get("/metrics", auth=("prometheus", "wrong")).status_code == 401
    assert console.get("/", auth=("prometheus", "pässword".encode()), allow_redirects=False).status_code == 303


def test_guessing_at_the_scrapers_door_is_slowed_as_well(console: ConsoleProcess) -> None:
    assert console.get("/metrics", auth=("prometheus", "pässword".encode())).status_code == 200
    codes = [console.get("/metrics", auth=("x", f"guess {i}")).status_code for i in range(6)]
    assert codes == [401] * 4 + [429] * 2
    assert _log_in(console, requests.Session()).status_code == 429  # one limit for both doors
    # a scraper that has been right goes on
    assert console.get("/metrics", auth=("prometheus", "pässword".encode())).status_code == 200


def test_a_session_ends_after_an_idle_hour_and_after_its_hours() -> None:
    sessions = Sessions(hours=12)
    token = sessions.open(now=0)
    assert len(token) >= 43  # 256 bits
    assert sessions.is_open(token, HOUR)
    assert not sessions.is_open(token, 2 * HOUR + 1)
    busy = sessions.open(now=0)
    assert all(sessions.is_open(busy, t * HOUR // 2) for t in range(25))
    assert not sessions.is_open(busy, 12 * HOUR + 1)
    assert not sessions.is_open("", 0)


def test_sessions_and_addresses_are_bounded() -> None:
    sessions = Sessions(hours=1)
    tokens = [sessions.open(now=0) for _ in range(300)]
    assert not sessions.is_open(tokens[0], 0)
    assert sessions.is_open(tokens[-1], 0)
    attempts = Attempts()
    allowed = [attempts.allow(f"192.0.2.{i}", now=0) for i in range(100)]
    assert allowed == [True] * 20 + [False] * 80  # all addresses together
    assert attempts.allow("192.0.2.1", now=60_001)


# -- D3: the guard, and whose attempts they are


# The rule switched off: the server's own protocol instead of the guard, and who connects instead of who is forwarded.
OFF = """
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from collector.console import app, serving
serving.make_protocol = lambda *limits: HttpToolsProtocol
app.address_of = lambda scope, trusted: scope["client"][0]
"""


def behind_a_proxy(data_dir: Path, patch: str = "") -> ConsoleProcess:
    make_store(data_dir, clicks=1, conversions=0).close()
    config = structs.replace(
        make_config(data_dir, password_hash=CHEAP), edge=EdgeConfig(trusted_proxies=["127.0.0.1/32"])
    )
    return ConsoleProcess(config, patch)


@pytest.fixture
def proxied(tmp_path: Path) -> Iterator[ConsoleProcess]:
    with behind_a_proxy(tmp_path) as running:
        yield running


def _wrong(console: ConsoleProcess, times: int, forwarded: str) -> list[int]:
    headers = {"X-Forwarded-For": forwarded}
    return [_log_in(console, requests.Session(), "wrong", **headers).status_code for _ in range(times)]


def test_D3_behind_a_trusted_proxy_each_address_has_its_own_attempts(proxied: ConsoleProcess) -> None:
    assert _wrong(proxied, 6, "203.0.113.1") == [401] * 5 + [429]
    assert _wrong(proxied, 1, "203.0.113.2") == [401], "another visitor is not held to it"
    assert _wrong(proxied, 1, "6.6.6.6, 203.0.113.1") == [429], "what a stranger writes before it changes nothing"
    assert _wrong(proxied, 5, "2001:db8::1") == [401] * 5
    assert _wrong(proxied, 1, "2001:db8::2") == [429], "a network of IPv6 is one"


def test_D3_without_trusted_proxies_a_forged_address_gains_nothing(console: ConsoleProcess) -> None:
    assert [_wrong(console, 1, f"203.0.113.{number}")[0] for number in range(6)] == [401] * 5 + [429]


GUARDED = [
    (b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"a" * 40_000 + b"\r\n\r\n", 431),
    (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
    (b"POST /login HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n" + b"x" * 20_000, 413),
    (b"POST /login HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4000\r\n" + b"x" * 0x4000, 413),
]
HALF = (b"G", 408)
BOTH_LENGTHS = (b"POST /login HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n", 400)


@pytest.mark.parametrize(("data", "status"), [*GUARDED, BOTH_LENGTHS, HALF])
def test_D3_the_console_has_the_edges_guard(closed: ConsoleProcess, data: bytes, status: int) -> None:
    answer = exchange(closed.port, data, 9.0)
    assert (answer.status, answer.closed) == (status, True), answer.data[:300]


@pytest.mark.slow
def test_D3_control_without_the_guard_all_of_these_pass(tmp_path: Path) -> None:
    with behind_a_proxy(tmp_path, OFF) as unguarded:
        for data, status in GUARDED:
            answer = exchange(unguarded.port, data, 0.3)
            assert (answer.status, answer.closed) != (status, True), data[:60]
        assert not exchange(unguarded.port, HALF[0], 0.3).closed
        assert _wrong(unguarded, 6, "203.0.113.1") == [401] * 5 + [429]
        assert _wrong(unguarded, 1, "203.0.113.2") == [429], "all are one behind a proxy"


def test_D3_idle_connections_do_not_shut_the_console(closed: ConsoleProcess) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(300):
            stack.enter_context(connect(closed.port))
        assert closed.get("/healthz").status_code == 200
        assert len(os.listdir(f"/proc/{closed.process.pid}/fd")) < 100, "control: they were many more"
