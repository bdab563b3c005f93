"""What the courier deletes or wipes beside the keeper is not undone; what an earlier life was told is known."""

from __future__ import annotations

from pathlib import Path

import apsw
import msgspec
import pytest

from collector.core.capi.states import CapiState
from collector.storage.ground import kept
from collector.storage.outbox.dispatch import Outbox
from collector.storage.outbox.outbox import Bound
from tests.kit.journal_kit import HOUR, NOW, Kit, click, order


def courier_of(kit: Kit) -> apsw.Connection:
    courier = kept.know(apsw.Connection(str(kit.journal.data_dir / "collector.db")))
    courier.set_busy_timeout(5000)
    return courier


def test_what_the_courier_wiped_stays_wiped(tmp_path: Path) -> None:
    """A late click is matched with the row as it is on disk: the address that was taken out does not come back."""
    with Kit(tmp_path) as kit:
        (ordered,) = kit.post(order("1", visitorId="v1", ipAddress="93.184.216.34", userAgent="Mozilla/5.0"))
        courier = courier_of(kit)
        body = msgspec.msgpack.decode(courier.execute("SELECT body FROM conversion").get)
        wiped = {name: value for name, value in body.items() if name not in ("ip", "user_agent")}
        courier.execute("UPDATE conversion SET body = ?", (msgspec.msgpack.encode(wiped),))
        courier.close()
        kit.post(click("IwARlate00000", NOW - HOUR, visitorId="v1"))
        state = kit.state(ordered.state.row.id)
        assert state.match.attributed
        assert (state.event.ip, state.event.user_agent) == (None, None)


def sent_between_tellings(kit: Kit) -> tuple[CapiState, bool]:
    """An order is told again twice, and sent in between; how it stands then, and whether it has something to send."""
    known = {"customerData": {"email": "a@example.com"}}
    kit.post(order("1", **known), order("1", orderStatus="paid", **known))
    courier = courier_of(kit)
    Outbox(courier, "test").settle([1], CapiState.SENT, NOW)
    courier.execute("DELETE FROM outbox_payload")
    courier.close()
    (again,) = kit.post(order("1", orderStatus="paid", **known, visitorId="v1"))
    return again.state.state, bool(kit.rows("SELECT id FROM outbox_payload"))


def test_what_is_known_of_a_delivery_is_known_for_one_group_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Kit(tmp_path / "data") as kit:
        assert sent_between_tellings(kit) == (CapiState.SENT, False)
    monkeypatch.setattr(Bound, "forget", lambda _: None)
    with Kit(tmp_path / "control") as kit:
        assert sent_between_tellings(kit) == (CapiState.QUEUED, True)


@pytest.mark.parametrize("lives", [1, 2])
def test_a_renewal_takes_the_answer_of_its_order_that_is_told_later(tmp_path: Path, lives: int) -> None:
    """In this life or, by what is stored, in the next."""
    first, second = click("IwARfirst0000", NOW - 3 * HOUR, visitorId="v1"), click("IwARsecond000", visitorId="v1")
    with Kit(tmp_path) as kit:
        kit.post(first, second | {"at": NOW - HOUR})
        (renewal,) = kit.post(order("2", NOW, visitorId="v1", renewalOf="1"))
        assert renewal.state.match.click == 2
        if lives == 1:
            kit.post(order("1", NOW - 2 * HOUR, visitorId="v1"))
            assert kit.state(renewal.state.row.id).match.click == 1
            return
    with Kit(tmp_path) as kit:
        kit.post(order("1", NOW - 2 * HOUR, visitorId="v1"))
        assert kit.state(renewal.state.row.id).match.click == 1


def test_what_retention_deleted_is_neither_a_duplicate_nor_a_candidate(tmp_path: Path) -> None:
    with Kit(tmp_path) as kit:
        kit.post(click("IwARgone00000", visitorId="v1"), click("IwARstays0000", visitorId="v2"))
        courier = courier_of(kit)
        courier.execute("DELETE FROM click WHERE id = 1")
        courier.close()
        (ordered,) = kit.post(order("1", visitorId="v1"))
        assert not ordered.state.match.attributed
        (again,) = kit.post(click("IwARgone00000", visitorId="v1"))
        assert (again.duplicate, again.id) == (False, 3)
        assert kit.rows("SELECT id FROM click ORDER BY id") == [(2,), (3,)]
