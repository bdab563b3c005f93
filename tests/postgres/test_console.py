"""The console over PostgreSQL: a process of its own, real HTTP, and what it says beside what it says over SQLite."""

from __future__ import annotations

import re
import time
from pathlib import Path

import requests
from msgspec import structs

from collector.config import Config, ConsoleConfig
from collector.console.metrics import METRICS, OF_FILE
from tests.console.test_console_auth import CHEAP
from tests.kit.console_process import ConsoleProcess
from tests.kit.journal_kit import HOUR, Kit, click, order
from tests.kit.journal_kits import PostgresKit
from tests.kit.postgres import Database

PAGE = "https://shop.example/?utm_source=fb&utm_campaign={}"
# Run in the console's process: nothing has to be ten seconds old to be told.
AT_ONCE = """
from collector.storage.postgres.told import SQL
SQL.update({name: sql.replace("seen_ms()", str((1 << 41) - 1)) for name, sql in SQL.items()})
"""
NOT_THERE = "/find?id=nothing"
LISTS = ("/events", "/orders?range=28", "/live", "/find?id=A1", NOT_THERE, "/orders.csv?range=28")


def happened(kit: Kit) -> None:
    """Orders with a click, without one, refunded; another event."""
    now = kit.now
    for n, campaign in ((1, "spring"), (2, "summer")):
        landed = PAGE.format(campaign)
        kit.post(click(f"IwARnumber{n}000", now - n * HOUR, visitorId=f"v{n}", landingPage=landed))
        kit.post(order(f"A{n}", now - n * HOUR // 2, visitorId=f"v{n}", eventValue=10 * n))
    kit.post(order("A3", now - HOUR, visitorId="v3", eventValue=40, customerData={"email": "ada@example.com"}))
    kit.post(order("L1", now - HOUR // 4, visitorId="v1", eventType="Lead"))
    kit.post(order("A4", now - HOUR // 8, visitorId="v4", eventValue=7, orderStatus="refunded"))


def told(config: Config, paths: tuple[str, ...], patch: str = "") -> dict[str, requests.Response]:
    with ConsoleProcess(config, patch) as console:
        answers = {path: console.get(path) for path in paths}
    assert console.ending == (0, "no apsw")
    return answers


def plain(text: str) -> str:
    """A page without what differs: ids, ages, moments of its making."""
    text = re.sub(r"(conv|click)_[A-Za-z0-9_-]+", r"\1_ID", text)
    text = re.sub(r"\b\d+ (s|min|h|d) ago", "some time ago", text)
    return re.sub(r"[0-9]{2}:[0-9]{2}:[0-9]{2}", "TIME", text)


def test_lists_and_single_orders_say_the_same_over_both_engines(database: Database, tmp_path: Path) -> None:
    now = int(time.time() * 1000) - 60_000
    said: list[dict[str, str]] = []
    for kit in (Kit(tmp_path / "file", now), PostgresKit(database, tmp_path / "server", now)):
        with kit:
            happened(kit)
        answers = told(kit.config, LISTS, AT_ONCE if said else "")
        assert {path: one.status_code for path, one in answers.items()} == dict.fromkeys(LISTS, 200) | {NOT_THERE: 404}
        orders = sorted(set(re.findall(r"/conversions/[^\"]+", answers["/events"].text)))
        assert len(orders) == 5
        single = told(kit.config, tuple(orders))
        pages = [plain(one.text) for one in single.values()]
        said.append({path: plain(one.text) for path, one in answers.items()} | {"orders": "".join(sorted(pages))})
    file, server = said
    for path in file:
        assert server[path] == file[path], path


def test_system_and_metrics(database: Database, tmp_path: Path) -> None:
    with PostgresKit(database, tmp_path, int(time.time() * 1000)) as kit:
        happened(kit)
    answers = told(kit.config, ("/system", "/metrics", "/healthz"), AT_ONCE)
    system = " ".join(re.sub(r"<[^>]+>", " ", answers["/system"].text).split())
    assert f"Primary 127.0.0.1:{database.node.port}" in system
    assert "Standbys none" in system
    names = set(re.findall(r"^# TYPE (\w+)", answers["/metrics"].text, re.M))
    assert names <= set(METRICS) - OF_FILE
    assert "collector_clicks_total 2\n" in answers["/metrics"].text
    assert "collector_conversions_total 5\n" in answers["/metrics"].text


def test_log_in(database: Database, tmp_path: Path) -> None:
    with PostgresKit(database, tmp_path, int(time.time() * 1000)) as kit:
        happened(kit)
    config = structs.replace(kit.config, console=ConsoleConfig(password_hash=CHEAP))
    with ConsoleProcess(config) as console:
        assert console.get("/orders", allow_redirects=False).headers["location"].startswith("/login")


def test_what_was_refused_stands_under_the_orders_until_somebody_is_erased(database: Database, tmp_path: Path) -> None:
    with PostgresKit(database, tmp_path, int(time.time() * 1000)) as kit:
        kit.post(order("A1", visitorId="v1"))
        kit.journal.count([], {"refused.invalid_field": 1}, [("invalid_field", "eventValue", "R-1001")])
        kit.journal._run(kit.journal._beat())
        kit.journal.count([], {"refused.invalid_json": 1}, [("invalid_json", "", "R-1002")])
        kit.journal.erased.update({1: 1})
        database.sql("INSERT INTO erased (store, name, at) VALUES (1, 2, now_ms())")
        kit.journal._run(kit.journal._learn())
    page = told(kit.config, ("/orders",))["/orders"].text
    assert "R-1001" in page
    assert "eventValue" in page
    assert "R-1002" not in page
    assert "A field holds what it cannot hold." in page
