"""The running program over PostgreSQL, from outside: a click, its order, Meta; two machines; a primary that dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.kit import postgres, shops
from tests.kit.harness import BINARY, PIXEL, ROOT, STORE, Door, Installation, eventually
from tests.kit.postgres import make_database
from tests.kit.program import free_port
from tests.kit.simulators.graph import GraphSimulator

VISITOR = "visitor-of-the-test-1"


def installation(
    folder: Path, graph: str, dsn: str, standby: str, pepper: Path | None = None, **more_of_it: Any
) -> Installation:
    folder.mkdir()
    made = Installation(folder, graph, **more_of_it)
    text = made.config.read_text()
    more = f'[storage]\nengine = "postgres"\ndsn = "{dsn}"\nstandby = "{standby}"\ngroup_timeout_seconds = 20\n'
    text = text.replace("[storage]\n", more)
    if pepper is not None:
        text += f'\n[privacy]\npepper_file = "{pepper}"\n'
    made.config.write_text(text)
    made.config.chmod(0o600)
    return made


def click(number: int) -> dict[str, Any]:
    page = "https://mystore.com/?utm_source=facebook"
    return {"storeId": STORE, "fbclid": f"IwAR{number:040}", "landingPage": page, "visitorId": f"{VISITOR}-{number}"}


def order(number: int) -> dict[str, Any]:
    return {
        "storeId": STORE,
        "eventType": "Purchase",
        "orderId": f"order-{number}",
        "eventValue": 49.9,
        "currency": "USD",
        "visitorId": f"{VISITOR}-{number}",
    }


def post(door: Door, path: str, body: dict[str, Any], key: str) -> tuple[int, dict[str, Any]]:
    answer = door.post(f"/v1/track/{path}", body, key)
    return answer.status_code, dict(answer.json())


def taken(door: Door, path: str, body: dict[str, Any], key: str) -> dict[str, Any]:
    """As a tag does: sent again until it is taken."""
    last: list[tuple[int, dict[str, Any]]] = []

    def tried() -> bool:
        last[:] = [post(door, path, body, key)]
        return last[0][0] == 200

    assert eventually(tried, 60, 0.2), last
    return last[0][1]


@pytest.mark.slow
def test_a_click_its_order_and_meta(database: postgres.Database, tmp_path: Path) -> None:
    with GraphSimulator() as graph:
        shop = installation(tmp_path / "one", graph.url, database.dsn, "none")
        key = shop.make_key()
        with shop.serve() as door:
            assert post(door, "click", click(1), key)[0] == 200
            code, answer = post(door, "conversion", order(1), key)
            assert code == 200
            assert answer["data"]["attributed"]
            again = post(door, "conversion", order(1), key)[1]
            assert again["data"]["duplicate"]
            assert eventually(lambda: graph.events, 60)
            console = requests.get(f"{door.urls['console']}/events", timeout=60)
            assert "conv_" in console.text
            assert requests.get(f"{door.urls['console']}/system", timeout=60).status_code == 200
            shown = shop.run("status")
            assert "at work" in shown
            assert door.serving.stop() == 0
        assert database.sql("SELECT count(*) FROM click") == "1"
        assert database.sql("SELECT count(*) FROM edge WHERE open") == "0"


@pytest.mark.slow
def test_what_one_machine_has_taken_the_other_one_knows(database: postgres.Database, tmp_path: Path) -> None:
    with GraphSimulator() as graph:
        pepper = tmp_path / "pepper.key"
        one = installation(tmp_path / "one", graph.url, database.dsn, "none", pepper)
        two = installation(tmp_path / "two", graph.url, database.dsn, "none", pepper)
        key = one.make_key()
        with one.serve() as first, two.serve() as second:
            for number in range(10):
                assert post(first, "click", click(number), key)[0] == 200
                assert taken(second, "conversion", order(number), key)["data"]["attributed"]
                assert post(first, "conversion", order(number), key)[1]["data"]["duplicate"]
            first.serving.process.send_signal(signal.SIGKILL)
            assert taken(second, "conversion", order(0), key)["data"]["duplicate"]
            assert eventually(lambda: len(graph.accepted.get(PIXEL, ())) == 10, 90)


@pytest.mark.slow
def test_the_primary_dies_and_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    with GraphSimulator() as graph, postgres.pair() as both:
        make_database(both.primary, "shop")
        shop = installation(tmp_path / "one", graph.url, both.dsn("shop"), "warn")
        key = shop.make_key()
        with shop.serve() as door:
            acknowledged = [number for number in range(50) if post(door, "click", click(number), key)[0] == 200]
            assert len(acknowledged) == 50
            both.primary.kill()
            code, answer = post(door, "click", click(100), key)
            assert (code, answer["error"]["code"]) == (503, "storage_unavailable")
            assert eventually(lambda: door.get("/readyz").status_code == 503, 60)
            both.standby.promote()
            assert taken(door, "click", click(100), key)["success"]
            assert eventually(lambda: door.get("/readyz").status_code == 200, 60)
            assert both.standby.sql("SELECT count(*) FROM click", "shop") == "51"
            assert all(pid in door.serving.tree() for pid in door.serving.children().values())


@pytest.mark.binary
def test_the_built_program_takes_a_click_and_its_order(database: postgres.Database, tmp_path: Path) -> None:
    shop = installation(tmp_path / "one", "http://127.0.0.1:9", database.dsn, "none", command=(str(BINARY),))
    key = shop.make_key()
    with shop.serve() as door:
        assert post(door, "click", click(1), key)[0] == 200
        assert taken(door, "conversion", order(1), key)["data"]["attributed"]
        assert "at work" in shop.run("status")


@pytest.mark.slow
def test_orders_are_imported_by_the_running_keeper_and_without_one(database: postgres.Database, tmp_path: Path) -> None:
    lines = [json.dumps({**order(number), "timestamp": "2026-11-01T00:00:00Z"}) for number in range(5)]
    (tmp_path / "orders.ndjson").write_text("\n".join(lines))
    shop = installation(tmp_path / "one", "http://127.0.0.1:9", database.dsn, "none")
    words = ("import", str(tmp_path / "orders.ndjson"), "--no-send", "--json")
    assert json.loads(shop.run(*words))["taken"] == 5
    with shop.serve():
        assert json.loads(shop.run(*words))["known"] == 5
    assert database.sql("SELECT count(*) FROM conversion") == "5"
    assert database.sql("SELECT count(*) FROM edge WHERE open") == "0"


@pytest.mark.slow
@pytest.mark.parametrize("command", ["serve", "keeper", "courier"])
def test_a_server_that_is_away_at_the_start_ends_it_with_a_sentence(tmp_path: Path, command: str) -> None:
    port = free_port()
    shop = installation(tmp_path / "one", "http://127.0.0.1:9", f"postgresql://u@127.0.0.1:{port}/d", "none")
    words = [*shop.command, command, "--config", str(shop.config)]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, cwd=tmp_path, env=env)
    assert done.returncode == 3, done.stderr
    assert f"[storage] dsn: 127.0.0.1:{port} cannot be reached: Connection refused" in done.stderr


@pytest.mark.slow
def test_a_shops_webhook_is_an_order_once(database: postgres.Database, tmp_path: Path) -> None:
    with GraphSimulator() as graph:
        shop = installation(tmp_path / "one", graph.url, database.dsn, "none")
        secret = f'[store.webhook_secrets]\nstripe = "{shops.SECRETS["stripe"]}"\n[[store.pixel]]'
        shop.config.write_text(shop.config.read_text().replace("[[store.pixel]]", secret, 1))
        now = int(time.time())
        told = shops.stripe(at=now, created=now)
        with shop.serve() as door:
            for _ in range(3):
                headers = {**told.headers, "Content-Type": "application/json"}
                url = f"{door.url}/v1/webhooks/stripe/{STORE}"
                answer = door.session.post(url, data=told.body, headers=headers, timeout=60)
                assert answer.status_code == 200, answer.text
            assert eventually(lambda: graph.events, 60)
        assert database.sql("SELECT count(*), count(DISTINCT dedup_k) FROM conversion") == "1|1"
        assert len(graph.accepted[PIXEL]) == 1
