"""A data directory of 0.2.0 goes on under today's program: rows, keys, orders, and what waited, sent once."""

from __future__ import annotations

import glob
import os
import time
from collections import Counter
from pathlib import Path
from typing import Any

import apsw
import pytest

from tests.kit.harness import PIXEL, STORE, TOKEN, GraphSimulator, Installation, wait_until
from tests.kit.journal_kit import Kit, click, order

RELEASE = Path(__file__).parent / "release_0_2_0"
PEPPER = bytes.fromhex("8b1d0ca3cb7ee9180eaf301d9ffd07beb99eebd0410fc893726e27a154177647")
STOPPED = 1_796_033_274_000  # 2026-11-30T10:07:54Z
SECRET, PUBLISHABLE = "sk_jAc3mJxS8UpaYTFjDwnRHqamLvxGvNLCdur3YXdL", "pk_avy6emBvRmWtzHzt7QVRyPhLWn1EdeIrmLfNHUZK"
SENT, WAITING, HELD = ["sent-1", "sent-2"], ["waits-1", "waits-2", "waits-3"], "pending-1"
FAKETIME = next(iter(glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1")), "")
TABLES = (
    "click",
    "click_network",
    "conversion",
    "conversion_identity",
    "identity_link",
    "api_key",
    "outbox",
    "request",
)


def restore(data: Path) -> None:
    """Lay the directory down as 0.2.0 left it."""
    data.mkdir(mode=0o700, exist_ok=True)
    for name in ("collector", "index"):
        db = apsw.Connection(str(data / f"{name}.db"))
        db.execute("PRAGMA page_size = 8192; PRAGMA journal_mode = WAL")
        db.execute((RELEASE / f"{name}.sql").read_text())
        db.close()
    (data / "pepper.key").write_bytes(PEPPER)
    (data / "pepper.key").chmod(0o600)


def counted(data: Path) -> dict[str, int]:
    db = apsw.Connection(str(data / "collector.db"))
    try:
        return {table: db.execute(f"SELECT count(*) FROM {table}").get for table in TABLES}
    finally:
        db.close()


def told_again(order_id: str, value: float, visitor: str, **more: Any) -> dict[str, Any]:
    return order(order_id, STOPPED, eventValue=value, visitorId=visitor, **more)


def test_rows_and_names_of_0_2_0_are_those_of_today(tmp_path: Path) -> None:
    restore(tmp_path)
    before = counted(tmp_path)
    with Kit(tmp_path, now=STOPPED + 60_000) as kit:
        assert counted(tmp_path) == before
        assert kit.rows("PRAGMA integrity_check") == [("ok",)]
        again = kit.post(
            told_again("sent-1", 11, "v-1"),
            told_again("waits-2", 22, "v-2"),
            click("IwARone0000000", STOPPED, visitorId="v-1"),
        )
        assert [result.duplicate for result in again] == [True] * 3, "it knows its orders and clicks by their names"
        (new,) = kit.post(order("new", STOPPED + 30_000, visitorId="v-1"))
        assert new.state.match.click == 1, "and an order finds a click of before"
        waits = kit.rows("SELECT count(*) FROM outbox WHERE settled IS NULL")
        assert waits == [(6,)], "four that wait, one that is held, and the new one"


def test_the_control_under_another_key_nothing_is_known(tmp_path: Path) -> None:
    restore(tmp_path)
    db = apsw.Connection(str(tmp_path / "collector.db"))
    db.execute("UPDATE conversion SET dedup_k = dedup_k + 1; UPDATE click SET fbclid_k = fbclid_k + 1")
    db.close()
    with Kit(tmp_path, now=STOPPED + 60_000) as kit:
        again = kit.post(told_again("sent-1", 11, "v-1"), click("IwARone0000000", STOPPED, visitorId="v-1"))
        assert [result.duplicate for result in again] == [False, False]


@pytest.mark.slow
@pytest.mark.skipif(not FAKETIME, reason="no libfaketime here (apt-get install faketime)")
def test_serve_takes_it_over_and_what_waited_is_sent_once(tmp_path: Path) -> None:
    """At the time at which 0.2.0 was stopped: a week later Meta would take nothing of it."""
    with GraphSimulator(token=TOKEN) as graph:
        place = Installation(tmp_path, graph.url)
        restore(place.data)
        before = counted(place.data)
        ids = dict(place.rows("SELECT id, state FROM outbox"))
        clock = place.data / "clock"
        clock.write_text(f"{(STOPPED + 60_000) // 1000 - int(time.time()):+d}\n")
        env = {
            "LD_PRELOAD": FAKETIME,
            "FAKETIME_TIMESTAMP_FILE": str(clock),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        with place.serve(**env) as door:
            open_rows = "SELECT count(*) FROM outbox WHERE settled IS NULL"
            assert wait_until(lambda: place.rows(open_rows) == [(1,)], 60), door.serving.stderr
            assert len(graph.accepted[PIXEL]) == 4
            for order_id, value, visitor in (("sent-1", 11, "v-1"), ("waits-3", 23, "v-3")):
                body = {"storeId": STORE, "eventType": "Purchase", "orderId": order_id, "eventValue": value}
                answer = door.post("/v1/track/conversion", {**body, "currency": "USD", "visitorId": visitor}, SECRET)
                data = answer.json()["data"]
                assert (answer.status_code, data["duplicate"]) == (200, True)
                assert door.get(f"/v1/conversions/{data['conversionId']}", SECRET).json()["data"]["capiSent"]
            seen = {"storeId": STORE, "fbclid": "IwARnew0000000", "landingPage": "https://mystore.com/"}
            assert door.post("/v1/track/click", seen, PUBLISHABLE, origin="https://mystore.com").status_code == 200
            body = {"storeId": STORE, "eventType": "Purchase", "orderId": HELD, "eventValue": 30, "currency": "USD"}
            granted = {**body, "visitorId": "v-2", "consent": {"marketing": "granted"}}
            assert door.post("/v1/track/conversion", granted, SECRET).json()["data"]["duplicate"]
            assert wait_until(lambda: place.rows(open_rows) == [(0,)], 60), door.serving.stderr
        assert graph.accepted[PIXEL] == Counter(graph.accepted[PIXEL].keys()), "each once"
        assert len(graph.accepted[PIXEL]) == 5
        after = counted(place.data)
        assert after["click"] == before["click"] + 1
        assert {table: after[table] for table in ("conversion", "api_key", "outbox")} == {
            table: before[table] for table in ("conversion", "api_key", "outbox")
        }
        assert dict(place.rows("SELECT id, state FROM outbox")).keys() == ids.keys()
        assert not os.path.exists(place.data / "damage")
