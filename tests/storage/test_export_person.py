"""`collector export-person`: all that an erasure would take, told; nothing of anybody else; nothing changed."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from collector.cli import main
from collector.storage.people.held import held_of
from collector.storage.verbs.person import Asked, Finder, Nameless
from tests.kit.journal_kit import HOUR, MINUTE, NOW, STORE, Kit, click, order
from tests.storage.test_erasure import ERIC, JANE, LATER, counts, device, erase, kit, marks  # noqa: F401  a fixture


def held(kit: Kit, **who: str) -> dict[str, Any]:  # noqa: F811
    found: dict[str, Any] = held_of(kit.config, None, Asked(**who), LATER)["stores"][0]
    return found


WHO = [
    {"email": "JANE.DOE@example.com "},
    {"phone": "(415) 555-0100"},
    {"external_id": "cust-77"},
    {"visitor": "visitor-of-jane"},
    {"order": "J1"},
]


@pytest.mark.parametrize("who", WHO, ids=lambda who: next(iter(who)))
def test_it_tells_what_an_erasure_takes(kit: Kit, who: dict[str, str]) -> None:  # noqa: F811
    before = counts(kit)
    found = held(kit, **who)
    assert counts(kit) == before
    (receipt,) = erase(kit, **who).receipts
    assert (found["store"], len(found["clicks"]), len(found["events"])) == (STORE, receipt.clicks, receipt.conversions)
    assert (found["browsers"], len(found["links"])) == (receipt.visitors, receipt.links)
    after = held(kit, **who)
    assert (after["clicks"], after["events"], after["links"]) == ([], [], [])


def test_every_mark_of_the_person_is_in_it_and_none_of_others(kit: Kit) -> None:  # noqa: F811
    text = json.dumps(held(kit, email=JANE["email"]), default=str)
    assert [mark for mark in marks("jane", JANE) if mark.decode() not in text] == []
    assert [mark for mark in marks("eric", ERIC) if mark.decode() in text] == []


def test_what_meta_was_sent_and_when_is_told(kit: Kit) -> None:  # noqa: F811
    (event,) = held(kit, order="J1")["events"]
    (delivery,) = event["deliveries"]
    assert (delivery["status"], delivery["settled"]) == ("queued", None)
    assert delivery["event"]["user_data"]["em"] == [sha256(JANE["email"].lower().encode()).hexdigest()]
    assert event["attribution"]["attributed"]


def test_of_anothers_order_on_the_device_only_the_device_is_told(kit: Kit) -> None:  # noqa: F811
    kit.post(order("E2", NOW - MINUTE, customerData=ERIC, **device("jane")))
    (other,) = held(kit, email=JANE["email"])["ordersOfOthersOnTheirDevice"]
    assert other["visitor_id"] == "visitor-of-jane"
    assert set(other) == {"conversionId", "visitor_id", "fbp", "fbc", "fbclid"}


def test_control_with_a_finder_that_follows_no_device_the_click_is_missed(
    kit: Kit,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kit.post(click("IwARmore000000", NOW - HOUR, **device("jane")))
    assert len(held(kit, email=JANE["email"])["clicks"]) == 2
    monkeypatch.setattr(Finder, "_take_devices", lambda *_: None)
    assert held(kit, email=JANE["email"])["clicks"] == []


def test_a_placeholder_names_nobody(kit: Kit) -> None:  # noqa: F811
    with pytest.raises(Nameless):
        held(kit, email="test@test.com")


@pytest.fixture
def run(kit: Kit) -> Callable[..., int]:  # noqa: F811
    return lambda *arguments: main(["export-person", "--data-dir", str(kit.journal.data_dir), *arguments])


def test_the_command_writes_a_private_file_or_stdout(
    run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "jane.json"
    assert run("--order", "J1", "--output", str(target)) == 0
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert len(json.loads(target.read_text())["stores"][0]["clicks"]) == 1
    assert not list(tmp_path.glob("*.partial"))
    assert run("--order", "J1", "--output", str(tmp_path / "no" / "jane.json")) == 1
    assert "cannot write" in capsys.readouterr().err
    assert run("--order", "J1") == 0
    assert json.loads(capsys.readouterr().out)["stores"][0]["store"] == STORE
    assert run("--order", "J1", "--store", "nowhere") == 2
