"""P4: what an event re-opens is matched outside its group, under a budget, and is paid for."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from collector.core.events import CustomerData, values_of
from collector.core.intake import Caller
from collector.errors import StorageError
from collector.exchange.operations import Submission
from collector.storage.journal import transaction
from collector.storage.journal.late import Late
from collector.storage.journal.transaction import GroupTransaction
from tests.kit.journal_kit import HOUR, MINUTE, NOW, STORE, Kit, click, order

JANE = {"email": "jane@example.com"}


@pytest.fixture
def kit(tmp_path: Path) -> Iterator[Kit]:
    with Kit(tmp_path) as kit:
        yield kit


@pytest.fixture
def matched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which step of the writer matched a conversion anew, each time that one did."""
    steps: list[str] = []
    now = ["group"]
    real_match, real_step = Late._match, GroupTransaction._last_matches

    def match(self: Late, *args: Any) -> set[int]:
        steps.append(now[0])
        return real_match(self, *args)

    def step(self: GroupTransaction) -> None:
        now[0] = "between"
        try:
            real_step(self)
        finally:
            now[0] = "group"

    monkeypatch.setattr(Late, "_match", match)
    monkeypatch.setattr(GroupTransaction, "_last_matches", step)
    return steps


def ordered(kit: Kit, count: int) -> None:
    kit.submit([kit.operation(order(f"order{n}", NOW - n * MINUTE, customerData=JANE)) for n in range(count)])


def told(visitor: str) -> dict[str, Any]:
    return {"storeId": STORE, "eventType": "Lead", "at": NOW - 2 * HOUR, "visitorId": visitor, "customerData": JANE}


def test_P4_nothing_is_matched_anew_inside_the_group_that_answers(kit: Kit, matched: list[str]) -> None:
    ordered(kit, 20)
    kit.post(click("IwARjane00000", NOW - 3 * HOUR, visitorId="jane"))
    kit.post(told("jane"))
    assert len(matched) == 20
    assert set(matched) == {"between"}
    assert kit.rows("SELECT count(*) FROM conversion WHERE click IS NOT NULL AND event_type = 'Purchase'") == [(20,)]


def test_P4_control_matching_inside_the_group_is_noticed(
    kit: Kit, matched: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def at_once(self: Late, ids: set[int], store: int, since: int = 0) -> None:
        known = self._stores[store]
        self._match_all(self._open(ids, known, since), known, 0)

    monkeypatch.setattr(Late, "_reopen", at_once)
    ordered(kit, 3)
    kit.post(click("IwARjane00000", NOW - 3 * HOUR, visitorId="jane"))
    kit.post(told("jane"))
    assert "group" in matched


def test_P4_a_step_matches_a_few_and_rests_nine_times_as_long(kit: Kit) -> None:
    ordered(kit, 31)
    kit.post(click("IwARjane00000", NOW - 3 * HOUR, visitorId="jane"))
    kit.journal.commit(deque([Submission([kit.operation(told("jane"))])]))
    writer, times = kit.transaction, [100.0]

    def half_a_second_later() -> float:
        times.append(times[-1] + 0.5)
        return times[-1]

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(transaction.time, "monotonic", half_a_second_later)
        writer._last_matches()
    assert len(writer.late.reopened) == 31 - transaction._LAST_MATCHES
    assert writer._last_matches_at == times[-1] + 9 * (times[-1] - times[1])
    writer._last_matches_at = transaction.time.monotonic() + 3_600
    kit.journal.rest()
    assert len(writer.late.reopened) == 31 - transaction._LAST_MATCHES


def test_P4_a_value_that_many_orders_carry_reopens_nothing(kit: Kit, matched: list[str]) -> None:
    ordered(kit, 40)
    kit.post(click("IwARjane00000", NOW - 3 * HOUR, visitorId="jane"))
    kit.post(told("jane"))
    assert matched == []


def test_P4_claims_of_one_address_beyond_the_bound_reopen_nothing(kit: Kit, matched: list[str]) -> None:
    ordered(kit, 5)
    caller = Caller(secret=False, address="45.83.104.7")
    for number in range(40):
        kit.submit([kit.operation(told(f"stranger{number}"), caller)])
    before = len(matched)
    assert before <= 21 * 32
    for number in range(40, 80):
        kit.submit([kit.operation(told(f"stranger{number}"), caller)])
    assert len(matched) == before


def test_P4_what_is_reopened_outlives_the_process(tmp_path: Path) -> None:
    with Kit(tmp_path) as kit:
        ordered(kit, 3)
        kit.post(click("IwARjane00000", NOW - 3 * HOUR, visitorId="jane"))
        kit.journal.commit(deque([Submission([kit.operation(told("jane"))])]))
        assert kit.rows("SELECT count(*) FROM reopened") == [(3,)]
    with Kit(tmp_path) as again:
        again.submit([])
        assert again.rows("SELECT count(*) FROM reopened") == [(0,)]
        found = again.rows("SELECT count(*) FROM conversion WHERE click IS NOT NULL AND event_type = 'Purchase'")
        assert found == [(3,)]


@pytest.mark.parametrize(
    ("customer", "values"),
    [
        (None, 0),
        (CustomerData(first_name="Jane"), 0),
        (CustomerData(email="a@b.de"), 1),
        (CustomerData(email=["a@b.de", "c@d.de"], phone="+4930123456", external_id=7), 4),
        (CustomerData(email="", phone=[]), 0),
    ],
)
def test_P4_a_value_costs_one(customer: CustomerData | None, values: int) -> None:
    assert values_of(customer) == values


def test_P4_a_rolled_back_group_reopens_nothing(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    ordered(kit, 3)
    kit.post(click("IwARjane00000", NOW - 3 * HOUR, visitorId="jane"))

    def fails(self: GroupTransaction) -> None:
        raise apsw.FullError

    monkeypatch.setattr(GroupTransaction, "commit", fails)
    (refused,) = kit.journal.commit(deque([Submission([kit.operation(told("jane"))])]))
    assert isinstance(refused.results, StorageError)
    assert kit.rows("SELECT count(*) FROM reopened") == [(0,)]
    assert not kit.transaction.late.reopened
