"""The week's report goes out when it is due, by each way once: over restarts, dead ways, and an end in the middle."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from email import message_from_bytes, policy
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from msgspec import structs

from collector.config import AlertsConfig, Config, ConsoleConfig
from collector.config_loader import load
from collector.core import weeks
from collector.courier import weekly, weekly_ways
from collector.courier.weekly import WeeklySender, weekly_work
from collector.errors import ConfigError, Unavailable
from collector.storage.delivery import SqliteBooks
from collector.storage.outbox.weekly import WeeklyBook
from tests.core.test_weekly import a_week
from tests.courier.test_alerts import mail_server
from tests.kit.hooks import hook
from tests.kit.journal_kit import STORE, Kit, click, order
from tests.kit.program import ROOT

BERLIN = ZoneInfo("Europe/Berlin")
MONDAY = int(datetime(2026, 9, 28, 8, 0, tzinfo=BERLIN).timestamp() * 1000)  # the week of the kit's days is over
HOUR, DAY = 3_600_000, 86_400_000
DUE = weeks.due_of("monday 08:00")


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kit]:
    with Kit(tmp_path_factory.mktemp("weekly")) as made:
        page = "https://mystore.com/?utm_campaign=<script>alert(1)</script>&utm_source=fb"
        made.post(click("IwARaBcDeFgHiJkLmNoPqRsTuV1", visitorId="v1", landingPage=page))
        made.post(order("1", visitorId="v1"), order("2"))
        yield made


class Sending:
    """A sender over the kit's file, at a clock of the test's own."""

    def __init__(self, kit: Kit, alerts: AlertsConfig) -> None:
        self.kit, self.now = kit, MONDAY
        store = structs.replace(kit.config.store[0], timezone="Europe/Berlin")
        self.config: Config = structs.replace(kit.config, alerts=alerts, store=[store])
        self.books = SqliteBooks(kit.config)
        self.db = self.books._db
        self.db.execute("DELETE FROM weekly_sent")

    async def look(self, times: int = 1) -> None:
        """As many looks of a courier that was just started."""
        assert DUE is not None
        thread = ThreadPoolExecutor(1)
        sender = WeeklySender(self.config, DUE, self.books, lambda: self.now, thread)
        try:
            for _ in range(times):
                await sender.once()
        finally:
            thread.shutdown()

    def sent(self) -> list[Any]:
        return self.db.execute("SELECT channel, done FROM weekly_sent ORDER BY 1").fetchall()


def letters_to(port: int, url: str = "") -> AlertsConfig:
    return AlertsConfig(
        webhook_url=url,
        email_to=["shop@mystore.com"],
        email_from="collector@mystore.com",
        smtp_url=f"smtp://127.0.0.1:{port}",
        weekly="monday 08:00",
        console_url="https://console.mystore.com",
    )


async def test_it_goes_by_webhook_and_letter_once_each_over_restarts(kit: Kit) -> None:
    with hook() as (url, received), mail_server() as (port, letters):
        sending = Sending(kit, letters_to(port, url))
        await sending.look(3)
        await sending.look(2)  # a courier that was started anew
        sending.now += 23 * HOUR
        await sending.look()
    assert (len(received), len(letters)) == (1, 1)
    assert sending.sent() == [("letter", 1), ("webhook", 1)]
    told = msgspec.json.decode(received[0])
    assert (told["kind"], told["severity"], told["link"]) == ("weekly", "info", "https://console.mystore.com")
    letter = message_from_bytes(letters[0].encode(), policy=policy.default)
    assert letter["Subject"] == f"{STORE}: 2 orders, Mon 21 Sep – Sun 27 Sep 2026"
    plain, page = (letter.get_body((kind,)).get_content() for kind in ("plain", "html"))  # type: ignore[union-attr]
    assert plain.split() == told["text"].split()
    for said in (plain, page):
        assert "script>" not in said.replace("‹script›", "")
        assert "alert(1)" in said
        assert "19.00" in said


async def test_one_that_went_as_the_server_did_is_told_of_by_the_same_courier(
    kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[list[str]] = []
    monkeypatch.setattr(weekly, "_LOOK_S", 0.01)
    with hook() as (url, received):
        sending = Sending(kit, AlertsConfig(webhook_url=url, weekly="monday 08:00"))
        book: Any = sending.books.weekly

        def gone(*_: Any) -> None:
            raise Unavailable("the connection was lost")

        def unknown(asked: Any = book.unknown) -> list[str]:
            told.append(asked())
            return told[-1]

        monkeypatch.setattr(book, "sent", gone)
        monkeypatch.setattr(book, "unknown", unknown)
        assert DUE is not None
        with ThreadPoolExecutor(1) as thread:
            running = asyncio.ensure_future(
                WeeklySender(sending.config, DUE, sending.books, lambda: sending.now, thread).run()
            )
            async with asyncio.timeout(60):
                while len(told) < 2:
                    await asyncio.sleep(0.01)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
    assert told[:2] == [[], ["webhook"]]
    assert len(received) == 1
    assert sending.sent() == [("webhook", 1)]


async def test_it_says_what_the_command_says_of_the_same_week(kit: Kit, tmp_path: Path) -> None:
    """The courier reads by one library, the command by the other: word for word the same."""
    with hook() as (url, received):
        sending = Sending(kit, AlertsConfig(webhook_url=url, weekly="monday 08:00"))
        await sending.look()
    (tmp_path / "c.toml").write_text(
        f'[meta]\nmode = "off"\n[[store]]\nid = "{STORE}"\ntimezone = "Europe/Berlin"\ncurrency = "USD"\n'
    )
    command = [sys.executable, "-m", "collector", "report", "weekly", "--week", "2026-W39", "--config", "c.toml"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    told = subprocess.run(
        [*command, "--data-dir", str(kit.journal.data_dir)], cwd=tmp_path, env=env, capture_output=True, text=True
    )
    assert told.stdout == msgspec.json.decode(received[0])["text"], told.stderr


@pytest.mark.parametrize(("late", "sent"), [(0, 1), (24 * HOUR, 1), (24 * HOUR + 1, 0), (3 * DAY, 0)])
async def test_a_machine_that_was_off_sends_late_within_a_day(kit: Kit, late: int, sent: int) -> None:
    with hook() as (url, received):
        sending = Sending(kit, AlertsConfig(webhook_url=url, weekly="monday 08:00"))
        sending.now += late
        await sending.look()
    assert len(received) == sent


async def test_it_waits_for_the_last_shop_whose_sunday_is_not_over(kit: Kit) -> None:
    """At 08:00 in Berlin it is 20:00 on Sunday in Honolulu."""
    with hook() as (url, received):
        sending = Sending(kit, AlertsConfig(webhook_url=url, weekly="monday 08:00"))
        other = structs.replace(sending.config.store[0], id="store_far", timezone="Pacific/Honolulu")
        sending.config = structs.replace(
            sending.config, store=[*sending.config.store, other], console=ConsoleConfig(timezone="Europe/Berlin")
        )
        for hours, sent in ((0, 0), (3, 0), (5, 1)):
            sending.now = MONDAY + hours * HOUR
            await sending.look()
            assert len(received) == sent


async def test_a_minute_too_soon_nothing_is_sent_and_a_week_later_the_next(kit: Kit) -> None:
    with hook() as (url, received):
        sending = Sending(kit, AlertsConfig(webhook_url=url, weekly="monday 08:00"))
        sending.now -= 60_000
        await sending.look()
        assert received == []
        for _ in range(2):
            sending.now += 7 * DAY + 60_000
            await sending.look()
    assert len(received) == 2
    weeks_told = [msgspec.json.decode(body)["text"].splitlines()[0] for body in received]
    assert weeks_told == ["Week of Mon 28 Sep – Sun 4 Oct 2026", "Week of Mon 5 Oct – Sun 11 Oct 2026"]


class Refusing(HTTPServer):
    """A webhook that answers as it is told: a status, or nothing at all."""

    def __init__(self, *answers: int) -> None:
        self.answers, self.seen = list(answers), 0
        super().__init__(("127.0.0.1", 0), _Refusal)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/hook?secret=in-the-address"


class _Refusal(BaseHTTPRequestHandler):
    server: Refusing

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.seen += 1
        status = self.server.answers.pop(0) if self.server.answers else 204
        if status:
            self.send_response(status)
            self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


async def test_a_way_that_does_not_take_it_is_tried_again_in_a_quarter_of_an_hour(
    kit: Kit, caplog: pytest.LogCaptureFixture
) -> None:
    server = Refusing(500, 404)
    sending = Sending(kit, AlertsConfig(webhook_url=server.url, weekly="monday 08:00"))
    for seen in (1, 2, 3, 3):
        await sending.look(3)  # within a quarter of an hour nothing more
        assert server.seen == seen
        sending.now += 15 * 60_000
    server.shutdown()
    assert sending.sent() == [("webhook", 1)]
    assert "in-the-address" not in caplog.text


async def test_an_answer_that_never_came_is_not_sent_again_but_told(kit: Kit, caplog: pytest.LogCaptureFixture) -> None:
    """Nobody knows whether it arrived; twice would be worse, and a command sends it."""
    server = Refusing(0)
    sending = Sending(kit, AlertsConfig(webhook_url=server.url, weekly="monday 08:00"))
    await sending.look()
    sending.now += HOUR
    await sending.look()
    server.shutdown()
    assert server.seen == 1
    assert "may not have arrived" in caplog.text


async def test_a_courier_that_ends_in_the_middle_leaves_it_unknown_and_the_next_one_says_so(
    kit: Kit, caplog: pytest.LogCaptureFixture
) -> None:
    with hook() as (url, received):
        sending = Sending(kit, AlertsConfig(webhook_url=url, weekly="monday 08:00"))
        WeeklyBook(sending.db).claim(MONDAY, "webhook", MONDAY)
        await sending.look(2)
    assert received == []
    assert caplog.text.count("may not have arrived") == 1
    assert sending.sent() == [("webhook", 1)]


async def test_the_control_without_a_claim_every_look_sends_it(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(WeeklyBook, "claim", lambda *_: True)
    with hook() as (url, received):
        await Sending(kit, AlertsConfig(webhook_url=url, weekly="monday 08:00")).look(3)
    assert len(received) == 3


@pytest.mark.parametrize(
    "alerts",
    [
        AlertsConfig(webhook_url="https://hooks.example"),
        AlertsConfig(weekly="monday 08:00"),
        AlertsConfig(weekly="monday 08:00", smtp_url="smtp://127.0.0.1:9"),
    ],
)
def test_without_a_moment_or_a_way_there_is_nothing_to_do(kit: Kit, alerts: AlertsConfig) -> None:
    with weekly_work(
        structs.replace(kit.config, alerts=alerts), lambda: SqliteBooks(kit.config), lambda: MONDAY
    ) as work:
        assert work == []


async def test_a_running_courier_sends_it(kit: Kit) -> None:
    with hook() as (url, received):
        alerts = AlertsConfig(webhook_url=url, weekly="monday 08:00")
        Sending(kit, alerts)
        store = structs.replace(kit.config.store[0], timezone="Europe/Berlin")
        with weekly_work(
            structs.replace(kit.config, alerts=alerts, store=[store]), lambda: SqliteBooks(kit.config), lambda: MONDAY
        ) as (sender,):
            running = asyncio.create_task(sender.run())
            async with asyncio.timeout(20):
                while not received:
                    await asyncio.sleep(0.01)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


async def test_a_fault_names_no_address_and_no_password() -> None:
    """What a way said last is logged."""
    alerts = AlertsConfig(webhook_url="http://user:secret@127.0.0.1:9/x", smtp_url="smtp://user:secret@127.0.0.1:9")
    for way in ("webhook", "letter"):
        outcome = await weekly_ways.send(alerts, way, a_week(), MONDAY)
        assert outcome.is_sure
        assert outcome.fault in ("ConnectError", "ConnectionRefusedError")


@pytest.mark.parametrize("said", ["mondays 08:00", "8", "monday 25:00"])
def test_a_moment_that_is_none_is_a_fault(tmp_path: Path, said: str) -> None:
    (tmp_path / "c.toml").write_text(f'[alerts]\nweekly = "{said}"\n')
    with pytest.raises(
        ConfigError, match=r":2: \[alerts\] weekly: expected a weekday and a time, for example monday 08:00"
    ):
        load(str(tmp_path / "c.toml"), {})
