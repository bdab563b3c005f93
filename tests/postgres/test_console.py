"""The console over PostgreSQL: a process of its own, real HTTP, and what it says beside what it says over SQLite."""

from __future__ import annotations

import re
import time
from datetime import date, timedelta
from pathlib import Path

import pytest
import requests
from msgspec import structs

from collector.config import Config, ConsoleConfig
from collector.console.metrics import METRICS, OF_FILE
from tests.console.test_console_auth import CHEAP
from tests.console.test_live import listen
from tests.kit.console_process import ConsoleProcess, within_a_day
from tests.kit.harness import eventually
from tests.kit.journal_kit import HOUR, Kit, click, order
from tests.kit.journal_kits import PostgresKit
from tests.kit.postgres import Database, Node, Pair, make_database

PAGE = "https://shop.example/?utm_source=fb&utm_campaign={}"
# Run in the console's process: nothing has to be ten seconds old to be told.
AT_ONCE = """
from collector.storage.postgres.told import SQL
SQL.update({name: sql.replace("seen_ms()", str((1 << 41) - 1)) for name, sql in SQL.items()})
"""
NOT_THERE = "/find?id=nothing"
LISTS = ("/events", "/orders?range=28", "/live", "/find?id=A1", NOT_THERE, "/orders.csv?range=28")
SUMS = ("/campaigns", "/campaigns?model=linear", "/delivery", "/trust", "/left-out", "/reconcile")


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


def said(config: Config, patch: str) -> dict[str, str]:
    """The pages of all, and of each order."""
    with ConsoleProcess(config, patch) as console:
        answers = {path: console.get(path) for path in (*LISTS, *SUMS)}
        assert {path for path, one in answers.items() if one.status_code != 200} == {NOT_THERE}
        orders = set(re.findall(r'/conversions/[^"]+', answers["/events"].text))
        assert len(orders) == 5
        pages = sorted(plain(console.get(path).text) for path in orders)
    assert console.ending == (0, "no apsw")
    return {path: plain(one.text) for path, one in answers.items()} | {"orders": "".join(pages)}


@pytest.mark.slow
def test_lists_and_single_orders_say_the_same_over_both_engines(database: Database, tmp_path: Path) -> None:
    now = int(time.time() * 1000) - 60_000
    kits = (Kit(tmp_path / "file", now), PostgresKit(database, tmp_path / "server", now))
    for kit in kits:
        with kit:
            happened(kit)
    here, there = (kit.config for kit in kits)
    file, server = within_a_day(lambda: (said(here, ""), said(there, AT_ONCE)))
    for path in file:
        assert server[path] == file[path], path


@pytest.mark.slow
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


@pytest.mark.slow
def test_that_no_keeper_is_left_is_said(database: Database, tmp_path: Path) -> None:
    with PostgresKit(database, tmp_path, int(time.time() * 1000)) as kit:
        happened(kit)
        database.sql("UPDATE edge SET beat = beat - 600000 WHERE open")
        assert "no click and no order is stored" in told(kit.config, ("/",))["/"].text
        with PostgresKit(database, tmp_path, int(time.time() * 1000)) as other:
            assert "no click and no order" not in told(other.config, ("/",))["/"].text
    database.sql("UPDATE edge SET beat = beat - 600000 WHERE beat > 0")
    page = text_of(told(kit.config, ("/",))["/"])
    assert re.search(r"The keeper@\S+ has been silent for \d+ min: no click and no order is stored", page)


@pytest.mark.slow
def test_log_in(database: Database, tmp_path: Path) -> None:
    with PostgresKit(database, tmp_path, int(time.time() * 1000)) as kit:
        happened(kit)
    config = structs.replace(kit.config, console=ConsoleConfig(password_hash=CHEAP))
    with ConsoleProcess(config) as console:
        assert console.get("/orders", allow_redirects=False).headers["location"].startswith("/login")


@pytest.mark.slow
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


@pytest.mark.slow
def test_what_another_keeper_may_still_come_before_is_told_later(database: Database, tmp_path: Path) -> None:
    with PostgresKit(database, tmp_path, int(time.time() * 1000) + HOUR) as kit:
        kit.post(click("IwARnumber1000", kit.now - HOUR, landingPage=PAGE.format("spring")))
    assert "a click on spring" not in told(kit.config, ("/live",))["/live"].text
    assert "a click on spring" in told(kit.config, ("/live",), AT_ONCE)["/live"].text


def test_a_stream_tells_each_happening_once(database: Database, tmp_path: Path) -> None:
    now = int(time.time() * 1000)
    with PostgresKit(database, tmp_path, now) as kit, ConsoleProcess(kit.config, AT_ONCE) as console:
        kit.post(click("IwARnumber1000", kit.now, landingPage=PAGE.format("spring")))
        stream = listen(console)
        name, lines = stream.next()
        assert (name, [line["text"] for line in lines]) == ("all", ["a click on spring"])
        kit.post(click("IwARnumber2000", kit.now, landingPage=PAGE.format("summer")))
        kit.post(order("A1", visitorId="v1"))
        seen: list[str] = []
        while len(seen) < 2:
            name, lines = stream.next()
            seen += [line["kind"] for line in lines]
        assert sorted(seen) == ["click", "order"]
        stream.answer.close()


@pytest.mark.slow
def test_pages_answer_whichever_of_the_two_servers_is_gone(postgres_pair: Pair, tmp_path: Path) -> None:
    primary, standby = postgres_pair.primary, postgres_pair.standby
    primary.sql("ALTER SYSTEM SET synchronous_standby_names = ''")
    primary.reload()
    database = make_database(primary, "gone")
    with PostgresKit(database, tmp_path, int(time.time() * 1000)) as kit:
        happened(kit)
    whole = "SELECT count(*) FROM conversion"
    assert eventually(lambda: asked(standby, whole, "gone") == "5", 60)
    storage = structs.replace(kit.config.storage, read_dsn=standby.dsn("gone"))
    with ConsoleProcess(structs.replace(kit.config, storage=storage)) as console:
        assert f"The console reads at 127.0.0.1:{standby.port}" in text_of(console.get("/system"))
        orders = f"/orders?range={date.today() - timedelta(3)}..{date.today()}"  # the same days also after midnight
        expected = plain(console.get(orders).text)
        standby.kill()
        assert plain(console.get(orders).text) == expected
        assert "cannot be asked" in text_of(console.get("/system"))
        standby.start()
        reads = f"The console reads at 127.0.0.1:{standby.port}, 0 s behind"
        assert eventually(lambda: reads in text_of(console.get("/system")), 60, 0.5)
        primary.kill()
        assert plain(console.get(orders).text) == expected
        assert "The primary does not answer" in text_of(console.get("/system"))
        assert "collector_up 1\n" in console.get("/metrics").text
        standby.kill()
        answer = console.get("/orders")
        assert (answer.status_code, "cannot be reached" in answer.text) == (503, True)
    assert console.ending == (0, "no apsw")


def asked(node: Node, statement: str, database: str) -> str:
    try:
        return node.sql(statement, database)
    except AssertionError:
        return ""


def text_of(answer: requests.Response) -> str:
    assert answer.status_code == 200
    return " ".join(re.sub(r"<[^>]+>", " ", answer.text).split())
