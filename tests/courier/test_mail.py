"""Letters over TLS: by SMTPS and STARTTLS, to a server that proves its name, and to no other; nothing before it has."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import smtplib
import socket
import socketserver
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from collector.config import AlertsConfig
from collector.courier import mail
from collector.courier.alerts import Alerts
from tests.kit.authority import Authority, Given

LETTER = ("[collector] critical: blocked", "the token is refused")
TO = ["shop@mystore.com"]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def good(authority: Authority) -> Given:
    return authority.give("mail")


@pytest.fixture(autouse=True)
def _trusted(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.root))
    monkeypatch.setattr(mail, "is_loopback", lambda host: host == "127.0.0.1")  # "localhost" is somebody else's


class Said:
    """What a server was told: each command with whether it came under TLS, and the letters."""

    def __init__(self) -> None:
        self.words: list[tuple[str, bool]] = []
        self.letters: list[str] = []

    def under_tls(self, word: str) -> list[bool]:
        return [tls for said, tls in self.words if said.startswith(word)]


@contextlib.contextmanager
def server(given: Given, way: str) -> Iterator[tuple[int, Said]]:
    """`way`: smtps; starttls; none (does not know it); refuses (454); injects (before the TLS); silent; busy (QUIT)."""
    said = Said()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(given.cert, given.key)
    ended = threading.Event()

    class Session(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(OSError, ssl.SSLError):
                self.talk(way == "smtps")

        def talk(self, tls: bool) -> None:
            sock: socket.socket = self.request
            if tls:
                sock = context.wrap_socket(sock, server_side=True)
            if way == "silent":
                ended.wait(10)
                return
            lines = sock.makefile("rb")
            sock.sendall(b"220 here\r\n")
            while line := lines.readline():
                told = line.decode().strip()
                word = told.upper()
                said.words.append((word[:4] + told[4:], tls))
                if word.startswith("EHLO"):
                    more = b"250-STARTTLS\r\n" if way in ("starttls", "refuses", "injects") and not tls else b""
                    sock.sendall(b"250-here\r\n" + more + b"250 AUTH PLAIN\r\n")
                elif word == "STARTTLS" and way == "refuses":
                    sock.sendall(b"454 not now\r\n")
                elif word == "STARTTLS":
                    sock.sendall(b"220 go\r\n" + (b"250 injected\r\n" if way == "injects" else b""))
                    sock = context.wrap_socket(sock, server_side=True)
                    lines, tls = sock.makefile("rb"), True
                elif word == "DATA":
                    sock.sendall(b"354 go\r\n")
                    said.letters.append(b"".join(iter(lines.readline, b".\r\n")).decode())
                    sock.sendall(b"250 ok\r\n")
                elif word.startswith("AUTH"):
                    sock.sendall(b"235 ok\r\n")
                elif word.startswith("QUIT"):
                    sock.sendall(b"421 too busy\r\n" if way == "busy" else b"221 bye\r\n")
                    return
                else:
                    sock.sendall(b"250 ok\r\n")

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Session) as listening:
        listening.daemon_threads = True
        threading.Thread(target=listening.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield listening.server_address[1], said
        finally:
            ended.set()
            listening.shutdown()


def send(url: str) -> None:
    mail.send(url, "collector@mystore.com", TO, LETTER)


@pytest.mark.parametrize(("way", "scheme"), [("smtps", "smtps"), ("starttls", "smtp"), ("injects", "smtp")])
def test_a_letter_and_its_password_go_under_tls_alone(good: Given, way: str, scheme: str) -> None:
    with server(good, way) as (port, said):
        send(f"{scheme}://us%40er:p%3Aa%2Fss%25@localhost:{port}")
    assert len(said.letters) == 1
    assert LETTER[1] in said.letters[0]
    (login,) = [word for word, _ in said.words if word.startswith("AUTH PLAIN")]
    assert base64.b64decode(login.split()[2]) == b"\0us@er\0p:a/ss%"
    for word in ("AUTH", "MAIL", "RCPT", "DATA"):
        assert said.under_tls(word) == [True], word


def test_a_letter_that_was_taken_is_sent_whatever_the_server_says_to_goodbye(good: Given) -> None:
    with server(good, "busy") as (port, said):
        send(f"smtp://127.0.0.1:{port}")
        assert len(said.letters) == 1


def test_control_a_server_of_this_machine_is_spoken_to_plainly(good: Given) -> None:
    with server(good, "starttls") as (port, said):
        send(f"smtp://127.0.0.1:{port}")
    assert said.under_tls("MAIL") == [False]
    assert len(said.letters) == 1


@pytest.mark.parametrize("way", ["none", "refuses"])
def test_a_server_that_starts_no_tls_is_told_nothing(good: Given, way: str) -> None:
    """As one in the middle would have it, who takes STARTTLS out of the answer."""
    with server(good, way) as (port, said), pytest.raises(smtplib.SMTPException):
        send(f"smtp://user:secret@localhost:{port}")
    assert said.letters == []
    assert said.under_tls("AUTH") + said.under_tls("MAIL") == []


@pytest.mark.parametrize(("way", "scheme"), [("smtps", "smtps"), ("starttls", "smtp")])
@pytest.mark.parametrize("fault", ["ended", "another authority's", "another name"])
def test_a_server_that_does_not_prove_its_name_is_told_nothing(
    authority: Authority,
    good: Given,
    tmp_path: Path,
    way: str,
    scheme: str,
    fault: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    host, given = "localhost", good
    if fault == "ended":
        given = authority.give("ended", ends="20240101000000Z")
    elif fault == "another name":
        host = "localhost.localdomain"
        real = socket.create_connection
        monkeypatch.setattr(socket, "create_connection", lambda to, *more, **named: real(("127.0.0.1", to[1])))
    else:
        given = Authority(tmp_path / "other").give("mail")
    with server(given, way) as (port, said), pytest.raises(ssl.SSLCertVerificationError):
        send(f"{scheme}://user:secret@{host}:{port}")
    assert said.letters == []
    assert said.under_tls("AUTH") + said.under_tls("MAIL") == []


@pytest.mark.parametrize(("way", "scheme"), [("silent", "smtp"), ("none", "smtps"), ("smtps", "smtp")])
def test_a_server_that_does_not_answer_or_speaks_otherwise_holds_nobody_up(
    good: Given, way: str, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mail, "_PATIENCE_S", 0.3)
    with server(good, way) as (port, said), pytest.raises((OSError, smtplib.SMTPException)):
        send(f"{scheme}://localhost:{port}")
    assert said.letters == []


async def test_an_alert_goes_by_smtps(good: Given) -> None:
    with server(good, "smtps") as (port, said):
        config = AlertsConfig(email_to=TO, email_from="collector@mystore.com", smtp_url=f"smtps://localhost:{port}")
        alerts = Alerts(config, {"111": "store_abc123"}, "http://127.0.0.1:8081")
        alerts.raised("blocked", "111", "the token is refused", 1_790_000_000_000)
        running = asyncio.ensure_future(alerts.run())
        async with asyncio.timeout(20):
            while not said.letters:
                await asyncio.sleep(0.01)
        running.cancel()
    assert "the token is refused" in said.letters[0]
    assert said.under_tls("DATA") == [True]
