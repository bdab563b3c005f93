"""What the journal promises of a group: whole or not at all, poison alone, nothing remembered that was rolled back."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import apsw
import pytest

from collector.core.capi.states import CapiState
from collector.errors import ApiError, StorageError
from collector.exchange.clicks import NewClick
from tests.kit.journal_kit import DAY, HOUR, MINUTE, NOW, Kit, click, order

AGENT = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15"


@pytest.fixture
def kit(tmp_path: Path) -> Iterator[Kit]:
    with Kit(tmp_path) as kit:
        yield kit


def failing_once(kit: Kit, monkeypatch: pytest.MonkeyPatch, error: Exception, at: str = "commit") -> None:
    """The next `commit` (or `begin`) raises; what it had to do is done up to there."""
    real = getattr(kit.transaction, at)
    left = [error]

    def once(*args: Any) -> Any:
        if not left:
            return real(*args)
        if at == "commit":
            kit.transaction.clicks.flush()
        raise left.pop()

    monkeypatch.setattr(kit.transaction, at, once)


def test_a_stored_click_is_findable_and_its_order_is_given_it(kit: Kit) -> None:
    (stored,) = kit.post(click("IwARfirst0000", visitorId="v1"))
    (result,) = kit.post(order("1", visitorId="v1"))
    assert result.state.match.click == stored.id
    assert kit.state(result.state.row.id).match == result.state.match


def test_a_click_and_its_order_in_one_group_see_each_other(kit: Kit) -> None:
    clicked, ordered = kit.submit(
        [kit.operation(click("IwARgroup0000", visitorId="v1")), kit.operation(order("1", visitorId="v1"))]
    )
    assert ordered.state.match.click == clicked.id


@pytest.mark.parametrize("error", [apsw.FullError("full"), apsw.IOError("io"), apsw.BusyError("busy")])
def test_a_commit_that_fails_is_503_and_leaves_nothing(
    kit: Kit, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    kit.post(click("IwARbefore000"))
    failing_once(kit, monkeypatch, error)
    with pytest.raises(StorageError):
        kit.post(click("IwARlost00000", visitorId="v1"))
    kit.transaction._space.refusing = False
    assert kit.rows("SELECT count(*) FROM click") == [(1,)]
    (again,) = kit.post(click("IwARlost00000", visitorId="v1"))
    assert not again.duplicate, "the tail forgot it too"
    assert kit.rows("SELECT id FROM click ORDER BY id") == [(1,), (2,)], "no gap in the ids"


def test_a_merge_that_was_rolled_back_is_merged_when_it_comes_again(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    (first,) = kit.post(order("1"))
    failing_once(kit, monkeypatch, apsw.IOError("io"))
    richer = order("1", customerData={"email": "jane@example.com"}, fbp="fb.1.1700000000000.123456789")
    with pytest.raises(StorageError):
        kit.post(richer)
    (again,) = kit.post(richer)
    assert again.duplicate
    stored = kit.state(first.state.row.id)
    assert "em" in stored.event.user_data, "acknowledged means stored"
    assert stored.event.fbp


def test_a_sighting_that_was_rolled_back_is_kept_when_it_comes_again(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    kit.post(click("IwARseen00000", NOW, visitorId="v1"))
    failing_once(kit, monkeypatch, apsw.IOError("io"))
    earlier = click("IwARseen00000", NOW - HOUR, visitorId="v1")
    with pytest.raises(StorageError):
        kit.post(earlier)
    (again,) = kit.post(earlier)
    assert (again.duplicate, again.ts) == (True, NOW - HOUR)
    assert kit.rows("SELECT ts, last_ts FROM click") == [(NOW - HOUR, NOW)]


def test_sums_forget_what_was_rolled_back(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        failing_once(kit, monkeypatch, apsw.IOError("io"))
        with pytest.raises(StorageError):
            kit.post(click(f"IwARgone0000{number}", userAgent=AGENT))
    kit.post(click("IwARkept00000", userAgent=AGENT))
    assert kit.transaction.lookup.frequencies.clicks_between(1, NOW - DAY, NOW + DAY) == 1


def test_begin_may_fail_and_the_next_group_goes_on(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(_: int) -> None:
        monkeypatch.setattr(kit.transaction.lookup, "begin", real)
        raise apsw.IOError("io")

    real = kit.transaction.lookup.begin
    monkeypatch.setattr(kit.transaction.lookup, "begin", failing)
    with pytest.raises(StorageError):
        kit.post(click("IwARbegin0000"))
    (stored,) = kit.post(click("IwARbegin0000"))
    assert not stored.duplicate


def test_upkeep_may_fail_and_the_writer_goes_on(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing() -> None:
        raise apsw.IOError("io")

    monkeypatch.setattr(kit.transaction, "idle", failing)
    for number in range(3):
        (stored,) = kit.post(click(f"IwARidle0000{number}"))
        assert not stored.duplicate


class Poison(NewClick):
    """An operation that the transaction cannot do."""


@pytest.mark.parametrize(
    "error",
    [
        OverflowError("2^63"),
        KeyError("jane"),
        apsw.ConstraintError("poison"),
        apsw.TooBigError("poison"),
        TypeError("x"),
    ],
)
def test_poison_in_a_group_harms_nobody_else(kit: Kit, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    real = kit.transaction.apply

    def apply(operations: Sequence[Any]) -> Any:
        if any(isinstance(one, NewClick) and one.fbclid == "IwARpoison000" for one in operations):
            raise error
        return real(operations)

    monkeypatch.setattr(kit.transaction, "apply", apply)
    gate = held_writer(kit, monkeypatch)
    submissions = [[kit.operation(click(f"IwARgood0000{n}", visitorId=f"v{n}"))] for n in range(5)]
    submissions.insert(2, [kit.operation(click("IwARpoison000"))])
    submissions.append([kit.operation(order("1", visitorId="v1"))])
    threading.Timer(0.1, gate.set).start()
    results = kit.submit_together(submissions)
    assert isinstance(results[2], Exception)
    assert [type(one) for i, one in enumerate(results) if i != 2] == [list] * 6
    assert kit.rows("SELECT count(*) FROM click") == [(5,)]
    assert results[-1][0].state.match.attributed
    assert len({one[0].id for i, one in enumerate(results[:-1]) if i != 2}) == 5


def held_writer(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Hold the next group until the event is set, so that what is submitted meanwhile is one group."""
    gate = threading.Event()
    real = kit.transaction.begin

    def begin() -> None:
        gate.wait(5)
        real()

    monkeypatch.setattr(kit.transaction, "begin", begin)
    return gate


def test_a_refused_item_of_a_submission_leaves_its_neighbours(kit: Kit) -> None:
    kit.post(order("1"))
    bodies = [order("2"), order("1", eventValue=10), order("3")]
    results = kit.submit([kit.operation(body) for body in bodies])
    assert isinstance(results[1], ApiError)
    assert results[1].code == "order_conflict"
    assert kit.rows("SELECT count(*) FROM conversion") == [(3,)]


def test_one_click_however_often_and_from_however_many_restarts_it_comes(tmp_path: Path) -> None:
    seen = set()
    for life in range(3):
        with Kit(tmp_path, now=NOW + life * HOUR) as kit:
            for repeat in range(2):
                at = NOW + life * HOUR + repeat * MINUTE
                (stored,) = kit.post(click("IwARsame00000", at, visitorId="v1"))
                assert stored.duplicate == bool(life or repeat)
                assert stored.ts == NOW
                seen.add(stored.id)
                if life == 1:
                    kit.fold()
    assert seen == {1}


def test_what_makes_a_click_another_one(kit: Kit) -> None:
    bodies = [
        click("IwARone000000", visitorId="v1"),
        click("IwARone000000", visitorId="v2"),
        click("iwarone000000", visitorId="v1"),
        click("IwARone000000"),
        click("IwARone000000", NOW - 91 * DAY, visitorId="v1"),
    ]
    assert [one.duplicate for one in kit.post(*bodies)] == [False] * 5
    assert [one.duplicate for one in kit.post(*bodies)] == [True] * 5


def test_a_passed_on_link_with_many_visitors_still_knows_each_of_them(kit: Kit) -> None:
    bodies = [click("IwARviral0000", visitorId=f"visitor-{n}") for n in range(100)]
    first = [one.id for one in kit.post(*bodies)]
    again = kit.post(*bodies)
    assert [one.duplicate for one in again] == [True] * 100
    assert [one.id for one in again] == first


def test_an_order_again_is_the_same_and_queued_once(kit: Kit) -> None:
    (first,) = kit.post(order("1", customerData={"email": "jane@example.com"}))
    (again,) = kit.post(order("1", customerData={"email": "jane@example.com"}))
    assert (first.duplicate, again.duplicate) == (False, True)
    assert again.state.row.id == first.state.row.id
    assert kit.rows("SELECT conversion, state FROM outbox") == [(1, CapiState.QUEUED)]


def test_orders_of_the_same_id_and_another_type_are_others(kit: Kit) -> None:
    results = kit.post(order("1"), order("1", eventType="Lead"), order("1", eventType="Subscribe"))
    assert [one.duplicate for one in results] == [False] * 3


def test_the_richer_second_order_goes_out_in_place_of_the_first(kit: Kit) -> None:
    kit.post(order("1", customerData={"email": "jane@example.com"}))
    kit.post(order("1", customerData={"phone": "+14155550100"}, products=[{"productId": "p1", "price": 9.5}]))
    kit.fold()
    ((body,),) = kit.rows("SELECT body FROM outbox_payload")
    assert b'"em"' in body
    assert b'"ph"' in body
    assert b'"p1"' in body


def test_idempotency_replays_the_first_answer_also_after_a_restart(tmp_path: Path) -> None:
    from collector.exchange.operations import Answered, Once
    from collector.exchange.prepared import PreparedEvent

    def once(kit: Kit, body: bytes) -> Answered:
        (answered,) = kit.submit([Once([PreparedEvent(kit.operation(order("1")), ())], 7, body, False)])
        return answered

    with Kit(tmp_path) as kit:
        first = once(kit, b"hash")
        assert (first.status, first.replayed) == (200, False)
        assert b'"duplicate"' not in first.answer
    with Kit(tmp_path, now=NOW + HOUR) as kit:
        again = once(kit, b"hash")
        assert (again.answer, again.replayed) == (first.answer, True)
        conflict = once(kit, b"other")
        assert isinstance(conflict, ApiError)
        assert conflict.code == "idempotency_conflict"
    with Kit(tmp_path, now=NOW + 25 * HOUR) as kit:
        later = once(kit, b"other")
        assert not later.replayed
        assert b'"duplicate":true' in later.answer, "24 h later the order's own id still protects it"
