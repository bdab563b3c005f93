"""What is past its time goes, in slices, and what is not stays; on both engines."""

from __future__ import annotations

import msgspec

from collector.config import PrivacyConfig
from collector.core.capi.states import CapiState
from collector.core.events import StoredEvent
from collector.core.retention import DAY_MS, cuts
from tests.kit.courier_kit import now_ms
from tests.kit.engines import Engine, put

NOW = 20_000 * DAY_MS
PRIVACY = PrivacyConfig(network_days=7, click_days=90, conversion_days=400)


def before(days: float) -> int:
    return NOW - int(days * DAY_MS)


def click(engine: Engine, n: int, days_ago: float, *, number: int | None = None, seen_days_ago: float = -1) -> None:
    at = before(days_ago)
    number = engine.number(n, at) if number is None else number
    last = at if seen_days_ago < 0 else before(seen_days_ago)
    engine.add("click", id=number, ts=at, last_ts=last, received=at, ua_class=n, flags=0, body=b"")
    engine.add("click_network", id=number, ip="203.0.113.1", user_agent=str(n))


def conversion(engine: Engine, n: int, days_ago: float, *, number: int | None = None) -> None:
    at = before(days_ago)
    number = engine.number(n, at) if number is None else number
    event = StoredEvent(event_type="Purchase", event_id="e", ts=at, received=at, ip="203.0.113.1", user_agent="x")
    body = msgspec.msgpack.encode(event)
    engine.add(
        "conversion",
        id=number,
        ts=at,
        received=at,
        event_type="Purchase",
        ua_class=n,
        flags=0,
        revision=0,
        capi=10,
        body=body,
        match=b"",
    )
    engine.add(
        "outbox",
        id=number,
        conversion=number,
        pixel=1,
        request=n,
        lane=0,
        created=at,
        due=at,
        deadline=at,
        settled=at,
        state=int(CapiState.REJECTED),
        reason=str(n),
    )
    engine.add("outbox_payload", id=number, body=str(n).encode())
    engine.add("request", id=n, pixel=1, at=at, events=n, outcome="sent")


def sweep(engine: Engine, limit: int = 500) -> int:
    turns = 0
    while engine.upkeep.cut(cuts(PRIVACY, NOW), limit):
        turns += 1
        assert turns < 1_000
    return turns


def left(engine: Engine, table: str, column: str) -> list[int]:
    return sorted(int(n) for (n,) in engine.rows(f"SELECT {column} FROM {table}"))


def test_clicks_and_their_addresses_go_in_their_time(engine: Engine) -> None:
    """A week goes whole: on PostgreSQL up to six days later."""
    for n, days in enumerate([200, 98, 89, 8, 6, 0], 1):
        click(engine, n, days)
    sweep(engine)
    assert left(engine, "click", "ua_class") == [3, 4, 5, 6]
    assert left(engine, "click_network", "user_agent") == [5, 6]
    assert sweep(engine) == 0


def test_conversions_lose_address_and_agent_then_go_with_all_that_was_said_about_them(engine: Engine) -> None:
    for n, days in enumerate([500, 401, 399, 8, 6], 1):
        conversion(engine, n, days)
    sweep(engine)
    kept = {"conversion": "ua_class", "outbox": "reason", "outbox_payload": "id", "request": "events"}
    found = {table: left(engine, table, column) for table, column in kept.items()}
    assert found.pop("outbox_payload") == [n for (n,) in sorted(engine.rows("SELECT id FROM outbox"))]
    assert set(map(tuple, found.values())) == {(3, 4, 5)}
    rows = engine.rows("SELECT body FROM conversion ORDER BY ts")
    bodies = [msgspec.msgpack.decode(body, type=StoredEvent) for (body,) in rows]
    assert [event.ip for event in bodies] == [None, None, "203.0.113.1"]
    assert [event.user_agent for event in bodies] == [None, None, "x"]


def test_identity_links_answers_and_counts_go_too(engine: Engine) -> None:
    for key, days in ((1, 100), (2, 1)):
        engine.add("identity_link", kind=1, key=key, visitor_k=-key, last_ts=before(days))
        expires = NOW + (1 if key == 2 else -1)
        engine.add("idempotency", key_k=key, body_hash=b"", expires=expires, status=200, answer=b"")
        engine.add("counter", day=20_000 - days * 5, store=1, name="x", n=1)
    sweep(engine)
    assert engine.rows("SELECT key FROM identity_link") == [(2,)]
    assert engine.rows("SELECT key_k FROM idempotency") == [(2,)]
    assert engine.rows("SELECT day FROM counter") == [(19_995,)]


def test_nothing_is_cut_from_an_empty_database(engine: Engine) -> None:
    assert sweep(engine) == 0


def test_the_backlogs_figures(engine: Engine) -> None:
    put(engine, 3)
    put(engine, 2, first=10, pixel="222")
    engine.execute("UPDATE outbox SET state = 2 WHERE conversion = 2")
    figures = engine.upkeep.backlog(engine.pixel())
    assert (figures["queued"], figures["retrying"], figures["held"]) == (2, 0, 1)
    assert 0 <= now_ms() - figures["oldest"] < 600_000
