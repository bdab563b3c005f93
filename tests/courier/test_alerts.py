"""Alerts: kind, state, severity, shop, deadline and link, by webhook and by letter; never anything of a person."""

from __future__ import annotations

import asyncio
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_string
from pathlib import Path

import msgspec
import pytest

from collector.config import AlertsConfig
from collector.config_loader import load
from collector.courier.alerts import Alert, Alerts
from collector.errors import ConfigError
from tests.kit.hooks import hook

HOUR, DAY = 3_600_000, 86_400_000
NOW = 1_790_000_000_000


@contextmanager
def mail_server(*, refusing: int = 0) -> Iterator[tuple[int, list[str]]]:
    """A mail server on a real socket: its port, and what it was given; the first letters are refused for now."""
    letters: list[str] = []
    left = [refusing]

    class Session(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(b"220 here\r\n")
            while line := self.rfile.readline():
                word = line[:4].upper()
                if word == b"DATA":
                    self.wfile.write(b"354 go\r\n")
                    text = b"".join(iter(self.rfile.readline, b".\r\n"))
                    letters.append(text.decode())
                elif word == b"QUIT":
                    self.wfile.write(b"221 bye\r\n")
                    return
                if word == b"MAIL" and left[0]:
                    left[0] -= 1
                    self.wfile.write(b"451 later\r\n")
                else:
                    self.wfile.write(b"250 ok\r\n")

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Session) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1], letters
        server.shutdown()


async def until(condition: object) -> None:
    async with asyncio.timeout(20):
        while not condition():  # type: ignore[operator]
            await asyncio.sleep(0.01)


def alerts_for(port: int, **more: str) -> Alerts:
    config = AlertsConfig(
        email_to=["shop@mystore.com"],
        email_from="collector@mystore.com",
        smtp_url=f"smtp://127.0.0.1:{port}",
        **more,  # type: ignore[arg-type]
    )
    return Alerts(config, {"111": "store_abc123"}, "http://127.0.0.1:8081")


def queued(alerts: Alerts) -> list[Alert]:
    return [alerts._queue.get_nowait() for _ in range(alerts._queue.qsize())]


async def test_an_alert_goes_to_webhook_and_mailbox_with_all_that_is_needed() -> None:
    with hook() as (url, received), mail_server() as (port, letters):
        alerts = alerts_for(port, webhook_url=url, console_url="https://console.mystore.com/")
        alerts.raised("blocked", "111", "the token is refused", NOW, deadline=NOW + 6 * DAY)
        running = asyncio.ensure_future(alerts.run())
        await until(lambda: received and letters)
        running.cancel()
    told = msgspec.json.decode(received[0])
    assert told == {
        "kind": "blocked", "state": "raised", "severity": "critical", "store": "store_abc123", "pixel": "111",
        "text": told["text"], "at": NOW, "deadline": "2026-09-27T14:13:20Z", "link": "https://console.mystore.com/",
    }  # fmt: skip
    letter = message_from_string(letters[0])
    assert letter["Subject"] == "[collector] critical: blocked (store_abc123)"
    assert (letter["To"], letter["From"]) == ("shop@mystore.com", "collector@mystore.com")
    for part in ("the token is refused", "deadline: 2026-09-27T14:13:20Z", "console: https://console.mystore.com/"):
        assert part in letter.get_payload()


async def test_a_mail_server_that_refuses_for_now_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    real = asyncio.sleep
    monkeypatch.setattr(asyncio, "sleep", lambda seconds: real(min(seconds, 0.01)))
    with mail_server(refusing=2) as (port, letters):
        alerts = alerts_for(port)
        alerts.raised("disk", "", "nearly full", NOW)
        running = asyncio.ensure_future(alerts.run())
        await until(lambda: letters)
        running.cancel()
    assert "critical: disk (collector)" in letters[0]


def test_what_is_over_says_what_it_was() -> None:
    alerts = alerts_for(9)
    alerts.raised("backup", "", "none could be made", NOW)
    alerts.raised("failing", "111", "no answer", NOW)
    alerts.cleared("111", NOW + 1)
    alerts.over("backup", NOW + 2)
    alerts.over("backup", NOW + 3)
    told = [(a.kind, a.state, a.severity) for a in queued(alerts)]
    assert told[2:] == [("failing", "cleared", "warning"), ("backup", "cleared", "warning")]


def test_expiring_begins_a_day_before_and_ends_when_nothing_is_near() -> None:
    alerts = alerts_for(9)
    alerts.expiring("111", NOW + 2 * DAY, NOW)
    assert queued(alerts) == []
    alerts.expiring("111", NOW + DAY - HOUR, NOW)
    alerts.cleared("111", NOW)  # the queue moves again, which saves nothing yet
    (told,) = queued(alerts)
    assert (told.kind, told.severity, told.deadline) == ("expiring", "critical", "2026-09-22T13:13:20Z")
    alerts.expiring("111", None, NOW)
    assert [a.state for a in queued(alerts)] == ["cleared"]


@pytest.mark.parametrize(
    ("lines", "word"),
    [
        ('email_to = ["nobody"]\nemail_from = "a@b.example"', "alerts] email_to"),
        ('email_to = ["a@b.example"]', "alerts] email_from"),
        ('email_to = ["a@b.example"]\nemail_from = "a@b.example"\nsmtp_url = "mail.example"', "alerts] smtp_url"),
        ('console_url = "console"', "alerts] console_url"),
    ],
)
def test_settings_of_letters_are_checked(tmp_path: Path, lines: str, word: str) -> None:
    (tmp_path / "c.toml").write_text(f"[alerts]\n{lines}\n")
    with pytest.raises(ConfigError) as fault:
        load(str(tmp_path / "c.toml"), {}, role="all")
    assert word in str(fault.value)
