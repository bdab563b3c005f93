"""Requests by verb and status: counted where they are answered, added up over processes and restarts."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path
from typing import Any

import apsw

from collector.edge.tally import Tally
from tests.edge.test_error_shape import CLICK, FROM_SHOP, ORDER
from tests.kit.edge_process import Edge, running
from tests.kit.journal_kit import Kit, click, order


def stored(data_dir: Path) -> dict[str, int]:
    with contextlib.closing(apsw.Connection(str(data_dir / "collector.db"), flags=apsw.SQLITE_OPEN_READONLY)) as db:
        return dict(db.execute("SELECT name, n FROM total").fetchall())


def ask(edge: Edge) -> None:
    """Every verb once or twice, well and badly."""
    data = edge.post("/v1/track/conversion", ORDER).body["data"]
    clicked = edge.post("/v1/track/click", CLICK).body["data"]
    edge.post("/v1/track/click", CLICK | {"fbclid": "a b"})
    edge.post("/v1/track/click", CLICK, None)
    edge.get("/v1/track/click")
    edge.post("/v1/track/event", ORDER | {"eventType": "Lead"})
    edge.post("/v1/track/batch", [{"type": "click"} | CLICK])
    edge.get(f"/v1/conversions/{data['conversionId']}")
    edge.get(f"/v1/clicks/{clicked['clickId']}")
    edge.post("/c", {"s": "store_abc123", "e": []}, None, FROM_SHOP)
    edge.get("/c.gif?s=nobody", None)
    edge.get("/c.js", None)
    edge.get("/c.0123456789.js", None)
    edge.get("/healthz", None)
    edge.get("/readyz", None)
    edge.get("/openapi.json", None)
    edge.get("/nothing", None)
    with socket.create_connection(("127.0.0.1", edge.port)) as broken:
        broken.sendall(b"GET / HTTP/9\r\n\r\n")
        assert broken.recv(100).startswith(b"HTTP/1.1 400")


WANTED = {
    "http.conversion.200": 1,
    "http.click.200": 1,
    "http.click.400": 1,
    "http.click.401": 1,
    "http.click.405": 1,
    "http.event.200": 1,
    "http.batch.200": 1,
    "http.read_conversion.200": 1,
    "http.read_click.200": 1,
    "http.beacon.204": 1,
    "http.pixel.200": 1,
    "http.script.200": 2,
    "http.healthz.200": 1,
    "http.readyz.200": 1,
    "http.openapi.200": 1,
    "http.none.404": 1,
    "http.none.400": 1,
}


def test_every_answer_is_counted_under_its_verb_also_over_a_restart(tmp_path: Path) -> None:
    for times in (1, 2):
        with running(tmp_path) as edge:
            ask(edge)
        found = {name: n for name, n in stored(tmp_path / "data").items() if name.startswith("http.")}
        assert found == {name: n * times for name, n in WANTED.items()}


def test_a_process_that_lives_on_writes_them_with_its_sign_of_life(tmp_path: Path) -> None:
    with Kit(tmp_path) as kit:
        for seen in (3, 5):
            kit.journal.count([], {"http.click.200": seen})
            kit.transaction.beat()
        assert stored(tmp_path) == {"http.click.200": 8}
    assert stored(tmp_path) == {"http.click.200": 8}


def test_two_edges_add_up(tmp_path: Path) -> None:
    for n in (2, 3):
        with Kit(tmp_path) as kit:
            kit.journal.count([], {"http.click.200": n})
    assert stored(tmp_path) == {"http.click.200": 5}


def test_what_a_full_disk_refuses_is_written_later(tmp_path: Path) -> None:
    with Kit(tmp_path) as kit:
        kit.journal.count([(0, "refused.storage_unavailable", 1)], {"http.click.503": 4})
        trigger = "BEFORE INSERT ON total BEGIN SELECT RAISE(ABORT, 'full'); END"
        kit.transaction._db.execute(f"CREATE TEMP TRIGGER full {trigger}")
        kit.transaction.beat()
        assert kit.transaction.broken
        assert stored(tmp_path) == {}
        kit.transaction._db.execute("DROP TRIGGER full")
    assert stored(tmp_path) == {"http.click.503": 4, "refused.storage_unavailable": 1}
    with Kit(tmp_path) as kit:
        assert kit.rows("SELECT name, n FROM counter") == [("refused.storage_unavailable", 1)]


def missing(folder: Path, **more: Any) -> dict[str, int]:
    with Kit(folder) as kit:
        kit.post(order("1", customerData={"email": "a@b.c"}, **more))
    return {name: n for name, n in stored(folder).items() if name.startswith("missing.")}


def test_an_event_without_what_meta_asks_for_is_counted_once(tmp_path: Path) -> None:
    page, agent = {"eventSourceUrl": "https://mystore.com/thanks"}, {"userAgent": "Mozilla/5.0"}
    assert missing(tmp_path / "whole", **page, **agent) == {}
    assert missing(tmp_path / "agent", **page) == {"missing.client_user_agent": 1}
    assert missing(tmp_path / "shop", **page, actionSource="phone_call") == {}


def test_a_late_click_does_not_count_it_again(tmp_path: Path) -> None:
    with Kit(tmp_path) as kit:
        kit.post(order("1", visitorId="v1", customerData={"email": "a@b.c"}), click("IwAR0one", visitorId="v1"))
    assert stored(tmp_path)["missing.client_user_agent"] == 1


def test_totals_may_be_asked_for_while_they_grow() -> None:
    tally = Tally()
    counts = tally.of("click")
    counts[200] += 1
    before = tally.totals()
    counts[200] += 1
    counts[400] += 1
    assert before == {"http.click.200": 1}
    assert tally.totals() == {"http.click.200": 2, "http.click.400": 1}
    assert tally.of("click") is counts


def test_what_a_batch_holds_is_refused_by_the_hour_item_by_item(tmp_path: Path) -> None:
    with running(tmp_path) as edge:
        edge.post("/v1/track/click", CLICK | {"fbclid": "a b"})
        batch = [{"type": "click"} | CLICK, {"type": "click"} | CLICK | {"fbclid": "a b"}]
        for more in (None, {"Idempotency-Key": "once"}):
            assert edge.post("/v1/track/batch", batch, headers=more).status == 200
    path = str(tmp_path / "data" / "collector.db")
    with contextlib.closing(apsw.Connection(path, flags=apsw.SQLITE_OPEN_READONLY)) as db:
        (found,) = db.execute("SELECT code, sum(n) FROM refusal_sum GROUP BY 1").fetchall()
    assert found[1] == 3
    assert stored(tmp_path / "data")[f"refused_item.{found[0]}"] == 2
