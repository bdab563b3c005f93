"""What is past its time goes, in slices; what is not stays."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from collector.config import PrivacyConfig
from collector.core.capi.states import CapiState
from collector.core.events import StoredEvent
from collector.core.retention import DAY_MS, cuts
from collector.storage.outbox.upkeep import Upkeep
from tests.kit.courier_kit import Bench, bench, config_for

NOW = 2_000 * DAY_MS
PRIVACY = PrivacyConfig(network_days=7, click_days=90, conversion_days=400)


@pytest.fixture
def edge(tmp_path: Path) -> Iterator[Bench]:
    with bench(config_for(tmp_path, "http://127.0.0.1:1")) as made:
        yield made


def add(edge: Bench, table: str, **row: Any) -> None:
    names = ", ".join(row)
    edge.db.execute(f"INSERT INTO {table} ({names}) VALUES ({', '.join(':' + n for n in row)})", row)


def click(edge: Bench, number: int, days_ago: float, seen_days_ago: float | None = None) -> None:
    at = NOW - int(days_ago * DAY_MS)
    last = at if seen_days_ago is None else NOW - int(seen_days_ago * DAY_MS)
    add(edge, "click", id=number, store=1, ts=at, last_ts=last, received=at, ua_class=0, flags=0, body=b"")
    add(edge, "click_network", id=number, ip="203.0.113.1", user_agent="x")


def conversion(edge: Bench, number: int, days_ago: float) -> None:
    at = NOW - int(days_ago * DAY_MS)
    event = StoredEvent(event_type="Purchase", event_id="e", ts=at, received=at, ip="203.0.113.1", user_agent="x")
    body = msgspec.msgpack.encode(event)
    fixed = {"store": 1, "event_type": "Purchase", "ua_class": 0, "flags": 0, "revision": 0, "capi": 10, "match": b""}
    add(edge, "conversion", id=number, ts=at, received=at, body=body, **fixed)
    due = {"lane": 0, "created": at, "due": at, "deadline": at, "settled": at, "state": int(CapiState.SENT)}
    add(edge, "outbox", id=number, conversion=number, pixel=1, request=number, **due)
    add(edge, "outbox_payload", id=number, body=b"{}")
    add(edge, "request", id=number, pixel=1, at=at, events=1, outcome="sent")


def sweep(edge: Bench, limit: int = 500) -> int:
    upkeep, turns = Upkeep(edge.db), 0
    while upkeep.cut(cuts(PRIVACY, NOW), limit):
        turns += 1
        assert turns < 1_000
    return turns


def ids(edge: Bench, table: str) -> list[int]:
    return [number for (number,) in edge.rows(f"SELECT id FROM {table} ORDER BY id")]


def test_clicks_and_their_addresses_go_in_their_time(edge: Bench) -> None:
    for number, days in enumerate([200, 91, 89, 8, 6, 0], 1):
        click(edge, number, days)
    sweep(edge)
    assert ids(edge, "click") == [3, 4, 5, 6]
    assert ids(edge, "click_network") == [5, 6]


def test_a_click_that_was_seen_again_stays(edge: Bench) -> None:
    click(edge, 1, 100, seen_days_ago=50)
    click(edge, 2, 95)
    click(edge, 3, 1)
    sweep(edge)
    assert ids(edge, "click") == [1, 3]


def test_conversions_lose_address_and_agent_then_go_with_all_that_was_said_about_them(edge: Bench) -> None:
    for number, days in enumerate([500, 401, 399, 8, 6], 1):
        conversion(edge, number, days)
    sweep(edge)
    for table in ("conversion", "outbox", "outbox_payload", "request"):
        assert ids(edge, table) == [3, 4, 5]
    bodies = [msgspec.msgpack.decode(b, type=StoredEvent) for (b,) in edge.rows("SELECT body FROM conversion")]
    assert [event.ip for event in bodies] == [None, None, "203.0.113.1"]
    assert [event.user_agent for event in bodies] == [None, None, "x"]


def test_large_amounts_go_in_small_transactions(edge: Bench) -> None:
    edge.db.execute("BEGIN")
    for number in range(1, 501):
        click(edge, number, 300)
    edge.db.execute("COMMIT")
    assert sweep(edge, 50) >= 10
    assert ids(edge, "click") == ids(edge, "click_network") == []


def test_identity_links_answers_and_counts_go_too(edge: Bench) -> None:
    for key, days in ((1, 100), (2, 1)):
        add(edge, "identity_link", store=1, kind=1, key=key, visitor_k=-key, last_ts=NOW - days * DAY_MS)
        expires = NOW + (1 if key == 2 else -1)
        add(edge, "idempotency", key_k=key, body_hash=b"", expires=expires, status=200, answer=b"")
        add(edge, "counter", day=2_000 - days * 5, store=1, name="x", n=1)
    sweep(edge)
    assert edge.rows("SELECT key FROM identity_link") == [(2,)]
    assert edge.rows("SELECT key_k FROM idempotency") == [(2,)]
    assert edge.rows("SELECT day FROM counter") == [(1_995,)]


def test_nothing_is_cut_from_an_empty_database(edge: Bench) -> None:
    assert sweep(edge) == 0
