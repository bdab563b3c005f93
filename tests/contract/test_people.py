"""Erasing a person and telling what is held of one, on both engines: what goes, what stays, what comes late."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from collector.errors import ApiError
from collector.exchange.operations import Once
from collector.exchange.prepared import PreparedEvent
from collector.storage import forgetting
from collector.storage.postgres import erasing
from collector.storage.verbs.erasing import Erasure
from collector.storage.verbs.held import Item
from collector.storage.verbs.person import Asked, Finder, Nameless
from tests.kit.journal_kit import HOUR, MINUTE, NOW, STORE, Kit, click, order
from tests.kit.journal_kits import PostgresKit
from tests.kit.postgres import Database

JANE = {"email": "Jane.Doe@example.com", "phone": "+14155550100", "externalId": "cust-77"}
ERIC = {"email": "eric@example.org", "phone": "+14155550199"}
LATER = NOW + HOUR
WAYS = [
    {"email": "JANE.DOE@example.com "},
    {"phone": "(415) 555-0100"},
    {"external_id": "cust-77"},
    {"visitor": "visitor-of-jane"},
    {"order": "J1"},
]


def device(who: str) -> dict[str, Any]:
    cookie = {"jane": "fb.1.1700000000000.1001", "eric": "fb.1.1700000000000.1002"}[who]
    line = {"jane": "93.184.216.34", "eric": "93.184.216.99"}[who]
    return {"visitorId": f"visitor-of-{who}", "fbp": cookie, "ipAddress": line, "userAgent": f"Mozilla/5.0 ({who})"}


@pytest.fixture(params=["sqlite", "postgres"])
def kit(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kit]:
    """Two people with a click and an order each."""
    monkeypatch.setattr(erasing, "_HEARD_S", 0.0)
    database: Database | None = request.getfixturevalue("database") if request.param == "postgres" else None
    with PostgresKit(database, tmp_path) if database is not None else Kit(tmp_path) as kit:
        for who in ("jane", "eric"):
            kit.post(click(f"IwARof{who.title()}0000", NOW - HOUR, **device(who)))
        kit.post(order("J1", customerData=JANE, **device("jane")))
        kit.post(order("E1", customerData=ERIC, **device("eric")))
        yield kit


def erase(kit: Kit, *, dry_run: bool = False, **who: str) -> Erasure:
    return forgetting.erase_person(kit.config, None, Asked(**who), LATER, dry_run=dry_run)


def held(kit: Kit, **who: str) -> Item:
    (store,) = forgetting.held_of(kit.config, None, Asked(**who), LATER)["stores"]
    found: Item = store
    return found


def counts(kit: Kit) -> dict[str, int]:
    tables = "click click_network conversion conversion_identity identity_link outbox outbox_payload"
    return {
        t: kit.rows(
            f"SELECT count(*) FROM {t} WHERE store > 0" if t in ("click", "conversion") else f"SELECT count(*) FROM {t}"
        )[0][0]
        for t in tables.split()
    }


def learn(kit: Kit) -> None:
    """PostgreSQL's keeper has heard of it; SQLite's looks in each group."""
    until = time.monotonic() + 60
    while isinstance(kit, PostgresKit) and not kit.journal.erased and time.monotonic() < until:
        kit.match_again()
        time.sleep(0.05)


@pytest.mark.parametrize("who", WAYS, ids=lambda who: next(iter(who)))
def test_a_person_is_erased_by_whatever_is_known_of_them(kit: Kit, who: dict[str, str]) -> None:
    (receipt,) = erase(kit, **who).receipts
    assert (receipt.store, receipt.clicks, receipt.conversions, receipt.visitors) == (STORE, 1, 1, 1)
    assert (receipt.not_sent, receipt.sent, receipt.links) == (1, 0, 4)
    kept = counts(kit)
    assert (kept["click"], kept["click_network"], kept["conversion"]) == (1, 1, 1)
    assert held(kit, **who)["clicks"] == held(kit, **who)["events"] == []
    assert len(held(kit, email=ERIC["email"])["events"]) == 1, "everybody else's rows stay"


def test_a_dry_run_tells_the_same_and_changes_nothing(kit: Kit) -> None:
    before = counts(kit)
    would = erase(kit, dry_run=True, email=JANE["email"])
    assert counts(kit) == before
    assert erase(kit, email=JANE["email"]).receipts == would.receipts


def test_remembered_answers_name_nobody_who_is_gone(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erasing, "_AT_ONCE", 2)
    for key, whose in ((-9, JANE), (0, ERIC), (5, JANE), (7, JANE)):
        told = kit.operation(order(f"O{key}", customerData=whose))
        kit.submit([Once([PreparedEvent(told, ())], key, b"hash", False)])
    (receipt,) = erase(kit, email=JANE["email"]).receipts
    assert receipt.answers == 3
    found = kit.rows("SELECT key_k, status FROM idempotency ORDER BY key_k")
    assert found == [(-9, 403), (0, 200), (5, 403), (7, 403)]


def test_what_comes_late_about_an_erased_person_is_refused(kit: Kit) -> None:
    erase(kit, order="J1")
    learn(kit)
    kit.now = LATER + MINUTE
    (again,) = kit.post(order("J1", NOW, customerData=JANE, **device("jane")))
    assert isinstance(again, ApiError)
    (old,) = kit.post(click("IwARofJane0000", NOW - HOUR, **device("jane")))
    assert isinstance(old, ApiError)
    (other,) = kit.post(order("E2", LATER, customerData=ERIC, **device("eric")))
    assert not isinstance(other, ApiError), "control"


def test_what_is_held_of_a_person_is_all_of_theirs_and_nobody_elses(kit: Kit) -> None:
    found = held(kit, email=JANE["email"])
    (clicked,), (event,) = found["clicks"], found["events"]
    assert clicked["visitor_id"] == event["visitor_id"] == "visitor-of-jane"
    assert event["order_id"] == "J1"
    (delivery,) = event["deliveries"]
    assert (delivery["status"], delivery["attempts"]) == ("queued", [])
    assert delivery["event"]["event_name"] == "Purchase"
    assert len(found["links"]) == 4
    assert "eric" not in str(found).lower()


def test_a_value_that_nothing_is_named_by_finds_nobody(kit: Kit) -> None:
    with pytest.raises(Nameless):
        erase(kit, email="none")


def test_the_control_devices_that_are_not_followed_stay(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Finder, "_take_devices", lambda *_: None)
    erase(kit, email=JANE["email"])
    assert counts(kit)["click"] == 2
