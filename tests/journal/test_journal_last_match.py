"""What no proof names is matched a last time when its 96 hours end: once, whoever looked, whatever broke in between."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import apsw
import pytest

from collector.core.capi.states import CapiState
from collector.core.consent import Decision
from collector.exchange.operations import Again, Withdraw
from collector.storage.ground import kept
from collector.storage.journal import transaction
from collector.storage.journal.late import Late
from collector.storage.verbs.conversions import Conversions
from tests.kit.journal_kit import DAY, HOUR, MINUTE, NOW, Kit, click, order
from tests.kit.program import wait_until

IPHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5"
HOME = {"ipAddress": "93.184.216.34", "userAgent": IPHONE}
CAUSE = click("IwARcause0000", NOW - 10 * MINUTE, visitorId="visitor-1", **HOME)
CLOSING = click("IwARclosing00", NOW + 97 * HOUR, visitorId="visitor-9")


@pytest.fixture
def nothing_reopens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the last match can find what came late."""
    monkeypatch.setattr(Late, "_reopen", lambda *_: None)


def look_around(kit: Kit) -> None:
    """As the writer does every five seconds, and what is due by it."""
    kit.transaction._beat_at = 0.0
    finish(kit)


def finish(kit: Kit) -> None:
    """Until nothing is due."""
    deadline = time.monotonic() + 60
    kit.submit([])
    kit.submit([])  # after the upkeep that followed the first
    while kit.transaction.late.due:
        assert time.monotonic() < deadline
        kit.submit([])
    kit.submit([])  # the last step is on disk


def waiting(kit: Kit) -> list[int]:
    return [row_id for (row_id,) in kit.rows("SELECT conversion FROM unproven ORDER BY 1")]


def test_the_last_match_takes_in_what_nobody_asked_for(tmp_path: Path, nothing_reopens: None) -> None:
    with Kit(tmp_path) as kit:
        (ordered,) = kit.post(order("1", **HOME))
        kit.post(CAUSE)
        assert not kit.state(ordered.state.row.id).match.attributed
        kit.post(CLOSING)
        finish(kit)
        state = kit.state(ordered.state.row.id)
        assert (state.match.attributed, state.row.revision, waiting(kit)) == (True, 1, [])


def test_it_closes_for_ever(tmp_path: Path) -> None:
    with Kit(tmp_path) as kit:
        (ordered,) = kit.post(order("1", **HOME))
        kit.post(CLOSING)
        finish(kit)
        kit.post(CAUSE)
        kit.submit([Again(ordered.state.row.id)])
        kit.post(order("1", **HOME))  # told again, with nothing new
        kit.submit([Again(ordered.state.row.id)])
        assert kit.state(ordered.state.row.id) == ordered.state
    with Kit(tmp_path) as kit:
        kit.post(click("IwARlater0000", NOW - 9 * MINUTE, visitorId="visitor-2", **HOME))
        kit.submit([Again(ordered.state.row.id)])
        assert kit.state(ordered.state.row.id).row == ordered.state.row


def test_what_needs_no_last_match_does_not_wait_for_one(tmp_path: Path) -> None:
    """What is proved, and what may not be matched at all."""
    with Kit(tmp_path) as kit:
        kit.post(CAUSE, order("1", visitorId="visitor-1"))
        kit.submit([kit.operation(order("2", **HOME), decision=Decision("denied", False))])
        assert waiting(kit) == []


def test_an_answer_that_proof_gave_meanwhile_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Kit(tmp_path) as kit:
        (ordered,) = kit.post(order("1", visitorId="visitor-1"))
        kit.post(CAUSE)
        proved = kit.state(ordered.state.row.id)
        assert proved.match.deterministic
        monkeypatch.setattr(Conversions, "reconsider", lambda *_: pytest.fail("matched again"))
        kit.post(CLOSING)
        finish(kit)
        assert (kit.state(ordered.state.row.id), waiting(kit)) == (proved, [])


def test_steps_are_small_and_none_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transaction, "_LAST_MATCHES", 3)
    steps: list[int] = []
    finish_step = Late.finish

    def counted(self: Late, now: int, most: int) -> None:
        before = self._db.execute("SELECT count(*) FROM unproven").get
        finish_step(self, now, most)
        steps.append(before - self._db.execute("SELECT count(*) FROM unproven").get)

    monkeypatch.setattr(Late, "finish", counted)
    with Kit(tmp_path) as kit:
        kit.post(*[order(f"n{n}", NOW + n * MINUTE, **HOME) for n in range(20)], order("open", NOW + 50 * HOUR, **HOME))
        kit.post(CLOSING)
        finish(kit)
        assert waiting(kit) == [21]
        assert (sum(steps), max(steps)) == (20, 3)


def test_a_crash_before_the_last_match_loses_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nothing_reopens: None
) -> None:
    with monkeypatch.context() as broken, Kit(tmp_path) as kit:
        broken.setattr(Late, "finish", lambda *_: None)
        (ordered,) = kit.post(order("1", **HOME))
        kit.post(CAUSE, CLOSING)
        assert waiting(kit) == [1]
    with Kit(tmp_path) as kit:
        look_around(kit)
        assert (kit.state(ordered.state.row.id).match.attributed, waiting(kit)) == (True, [])
        revision = kit.state(ordered.state.row.id).row.revision
    with Kit(tmp_path) as kit:
        look_around(kit)
        assert kit.state(ordered.state.row.id).row.revision == revision == 1


def test_a_step_that_the_disk_refuses_is_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nothing_reopens: None
) -> None:
    with Kit(tmp_path) as kit:
        (ordered,) = kit.post(order("1", **HOME))
        kit.post(CAUSE)
        reconsider, faults = Conversions.reconsider, iter([apsw.BusyError("locked"), apsw.BusyError("locked")])

        def refused(self: Conversions, *of: Any) -> Any:
            changed = reconsider(self, *of)
            for fault in faults:
                raise fault
            return changed

        monkeypatch.setattr(Conversions, "reconsider", refused)
        kit.post(CLOSING)
        finish(kit)
        state = kit.state(ordered.state.row.id)
        assert (state.match.attributed, state.row.revision, waiting(kit)) == (True, 1, [])


def test_an_order_that_cannot_be_matched_does_not_hold_up_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nothing_reopens: None
) -> None:
    with Kit(tmp_path) as kit:
        results = kit.post(*[order(f"n{n}", NOW + n, **HOME) for n in range(4)])
        kit.post(CAUSE)
        reconsider = Conversions.reconsider

        def defective(self: Conversions, row: Any, *of: Any) -> Any:
            if row.id == 2:
                raise ValueError("a defect of ours")
            return reconsider(self, row, *of)

        monkeypatch.setattr(Conversions, "reconsider", defective)
        kit.post(CLOSING)
        finish(kit)
        assert waiting(kit) == []
        attributed = [kit.state(result.state.row.id).match.attributed for result in results]
        assert attributed == [True, False, True, True]


def test_the_clock_survives_a_restart_and_a_fold(tmp_path: Path) -> None:
    with Kit(tmp_path) as kit:
        kit.post(CAUSE)
        (ordered,) = kit.post(order("1", visitorId="visitor-1"))
        kit.post(CLOSING)
        look_around(kit)
        kit.fold()
    with Kit(tmp_path) as kit:
        kit.post(click("IwARlater0000", NOW - MINUTE, visitorId="visitor-1"))
        assert kit.state(ordered.state.row.id).row == ordered.state.row


def test_an_event_that_was_not_stored_moves_no_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Kit(tmp_path) as kit:
        (ordered,) = kit.post(order("1", visitorId="visitor-1"))
        with monkeypatch.context() as broken:
            broken.setattr(kit.transaction, "commit", lambda: (_ for _ in ()).throw(apsw.BusyError("locked")))
            with pytest.raises(Exception, match="could not be stored"):
                kit.post(CLOSING)
        (clicked,) = kit.post(CAUSE)
        assert kit.state(ordered.state.row.id).match.click == clicked.id


def test_a_transaction_that_cannot_begin_sets_no_clock_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Kit(tmp_path) as kit:
        (ordered,) = kit.post(order("1", visitorId="visitor-1"))
        kit.post(CLOSING)
        assert wait_until(lambda: waiting(kit) == [], 60), "its last match is between groups"
        with monkeypatch.context() as broken:
            broken.setattr(kit.transaction._space, "check", lambda: (_ for _ in ()).throw(apsw.BusyError("locked")))
            with pytest.raises(Exception, match="could not be stored"):
                kit.post(order("2"))
        kit.post(CAUSE)
        assert kit.state(ordered.state.row.id).row == ordered.state.row


def test_a_store_that_falls_silent_is_closed_after_a_week(tmp_path: Path, nothing_reopens: None) -> None:
    """Its event time does not move any more; without an end, retention would take the answer's ground away."""
    with Kit(tmp_path) as kit:
        (ordered,) = kit.post(order("1", **HOME))
        kit.post(CAUSE)
        kit.now += 6 * DAY
        look_around(kit)
        assert waiting(kit) == [1]
        kit.now += 2 * DAY
    with Kit(tmp_path, kit.now) as kit:
        look_around(kit)
        state = kit.state(ordered.state.row.id)
        assert (state.match.attributed, waiting(kit)) == (True, [])
        kit.post(click("IwARlater0000", NOW - MINUTE, visitorId="visitor-2", **HOME))
        kit.submit([Again(ordered.state.row.id)])
        assert kit.state(ordered.state.row.id).row == state.row


def test_nothing_is_sent_a_second_time(tmp_path: Path, nothing_reopens: None) -> None:
    with Kit(tmp_path) as kit:
        (ordered,) = kit.post(order("1", **HOME))
        courier = kept.know(apsw.Connection(str(tmp_path / "collector.db")))
        courier.set_busy_timeout(5000)
        courier.execute("UPDATE outbox SET state = ?, settled = ?", (int(CapiState.SENT), NOW))
        before = courier.execute("SELECT * FROM outbox").fetchall()
        kit.post(CAUSE, CLOSING)
        finish(kit)
        assert kit.state(ordered.state.row.id).match.attributed
        assert courier.execute("SELECT * FROM outbox").fetchall() == before
        courier.close()


def test_a_withdrawal_holds_at_the_last_match(tmp_path: Path) -> None:
    """Neither the visitor's own order nor an inference of somebody else's uses what was taken back."""
    with Kit(tmp_path) as kit:
        kit.post(CAUSE)
        own, other = kit.post(order("1", fbclid="IwARother0000", **HOME), order("2", NOW + 1, **HOME))
        assert kit.state(other.state.row.id).match.attributed
        kit.submit([Withdraw(1, "visitor-1", kit.journal.names.name(1, "visitor", "visitor-1"))])
        kit.post(CLOSING)
        finish(kit)
        assert not kit.state(own.state.row.id).match.attributed
        assert not kit.state(other.state.row.id).match.attributed


def test_what_was_erased_or_cut_meanwhile_is_passed_over(tmp_path: Path) -> None:
    with Kit(tmp_path) as kit:
        kit.post(order("1", **HOME), order("2", NOW + 1, **HOME))
        other = kept.know(apsw.Connection(str(tmp_path / "collector.db")))
        other.set_busy_timeout(5000)
        other.execute("DELETE FROM conversion WHERE id = 1")
        other.close()
        kit.post(CLOSING)
        finish(kit)
        assert waiting(kit) == []


def test_a_busy_address_later_does_not_hide_the_cause(tmp_path: Path) -> None:
    """Matched again after 96 hours, an order finds the clicks before it, however many came after it."""
    with Kit(tmp_path) as kit:
        kit.post(CAUSE)
        (ordered,) = kit.post(order("1", **HOME))
        assert ordered.state.match.attributed
        for start in range(0, 300, 100):
            later = [
                click(f"IwARz{n:08}", NOW + (n + 1) * MINUTE, visitorId=f"v{n}", **HOME)
                for n in range(start, start + 100)
            ]
            kit.submit([kit.operation(body) for body in later])
            if start == 100:
                kit.fold()
        kit.post(CLOSING)
        finish(kit)
        assert waiting(kit) == []
        assert kit.state(ordered.state.row.id).match.click == ordered.state.match.click


def test_a_click_at_a_hot_address_matches_no_folded_order_of_before_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor a proved one. It cost a quarter of a millisecond a click, once the orders were folded."""
    line = {"ipAddress": "93.184.216.34", "userAgent": "Mozilla/5.0 (X11; Linux x86_64)"}
    with Kit(tmp_path) as kit:
        kit.post(click("IwARown000000", NOW - HOUR, visitorId="v1", **line))
        kit.post(*[order(f"before-{n}", NOW - 60_000, **line) for n in range(5)])
        kit.post(order("proved", NOW + 1_000, visitorId="v1", **line))
        (after,) = kit.post(order("after", NOW + 2_000, **line))
        kit.fold()
        matched: list[int] = []
        conversions = kit.transaction.conversions
        reconsider = conversions.reconsider

        def counted(row: Any, *of: Any) -> Any:
            matched.append(row.id)
            return reconsider(row, *of)

        monkeypatch.setattr(conversions, "reconsider", counted)
        kit.post(click("IwARnow000000", NOW, visitorId="v2", **line))
        assert matched == [after.state.row.id]
