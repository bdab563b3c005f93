"""Two edges on one database: each sees what the other stored, and neither undoes the other's work."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from collector.errors import ApiError
from collector.storage.ground import kept
from tests.kit.journal_kit import HOUR, NOW, Kit, click, order


@pytest.fixture
def edges(tmp_path: Path) -> Iterator[tuple[Kit, Kit]]:
    with Kit(tmp_path) as one, Kit(tmp_path) as two:
        yield one, two


def filtered(kit: Kit) -> None:
    """The duplicate filter has learnt the index: from now on it alone says what is new."""
    kit.transaction.all_learned.wait(5)
    kit.submit([])
    kit.transaction.clicks.filtered = True


def test_ids_are_given_once(edges: tuple[Kit, Kit]) -> None:
    ids = []
    for number in range(20):
        kit = edges[number % 2]
        ids += [one.id for one in kit.post(click(f"IwARturn0000{number}"), click(f"IwARtwin0000{number}"))]
    assert ids == list(range(1, 41))


def test_a_click_of_the_other_edge_is_a_duplicate(edges: tuple[Kit, Kit]) -> None:
    one, two = edges
    filtered(one)
    filtered(two)
    (first,) = one.post(click("IwARother0000", visitorId="v1"))
    (again,) = two.post(click("IwARother0000", visitorId="v1"))
    assert (again.duplicate, again.id) == (True, first.id)


def test_a_click_of_the_other_edge_is_a_candidate(edges: tuple[Kit, Kit]) -> None:
    one, two = edges
    (clicked,) = one.post(click("IwARcand00000", visitorId="v1"))
    (ordered,) = two.post(order("1", visitorId="v1"))
    assert ordered.state.match.click == clicked.id


def test_merges_of_both_edges_are_kept(edges: tuple[Kit, Kit]) -> None:
    one, two = edges
    (first,) = one.post(order("1"))
    two.post(order("1", customerData={"email": "jane@example.com"}))
    one.post(order("1", customerData={"phone": "+14155550100"}))
    assert set(two.state(first.state.row.id).event.user_data) >= {"em", "ph"}


def test_sightings_of_both_edges_are_kept(edges: tuple[Kit, Kit]) -> None:
    one, two = edges
    one.post(click("IwARseen00000", visitorId="v1"))
    two.post(click("IwARseen00000", NOW - HOUR, visitorId="v1"))
    one.post(click("IwARseen00000", NOW + 2 * HOUR, visitorId="v1"))
    assert one.rows("SELECT ts, last_ts FROM click") == [(NOW - HOUR, NOW + 2 * HOUR)]


def test_a_conflict_is_seen_by_the_other_edge(edges: tuple[Kit, Kit]) -> None:
    one, two = edges
    one.post(order("1"))
    (refused,) = two.post(order("1", eventValue=10))
    assert isinstance(refused, ApiError)
    assert refused.code == "order_conflict"


def test_both_may_fold(edges: tuple[Kit, Kit]) -> None:
    one, two = edges
    for round_number in range(3):
        for kit in edges:
            kit.post(*[click(f"IwARfold{round_number}{id(kit)}{n}", visitorId=f"v{n}") for n in range(20)])
        edges[round_number % 2].fold()
    assert one.rows("SELECT count(*), count(DISTINCT fbclid_k) FROM click") == [(120, 120)]
    (ordered,) = two.post(order("1", visitorId="v3"))
    assert len(ordered.state.match.path) == 6


def test_what_the_courier_wiped_stays_wiped(edges: tuple[Kit, Kit]) -> None:
    """A late click is matched with the row as it is on disk: the address that was taken out does not come back."""
    import apsw
    import msgspec

    one, _ = edges
    (ordered,) = one.post(order("1", visitorId="v1", ipAddress="93.184.216.34", userAgent="Mozilla/5.0"))
    courier = kept.know(apsw.Connection(str(one.journal.data_dir / "collector.db")))
    courier.set_busy_timeout(5000)
    body = msgspec.msgpack.decode(courier.execute("SELECT body FROM conversion").get)
    wiped = {name: value for name, value in body.items() if name not in ("ip", "user_agent")}
    courier.execute("UPDATE conversion SET body = ?", (msgspec.msgpack.encode(wiped),))
    courier.close()
    one.post(click("IwARlate00000", NOW - HOUR, visitorId="v1"))
    state = one.state(ordered.state.row.id)
    assert state.match.attributed
    assert (state.event.ip, state.event.user_agent) == (None, None)


@pytest.mark.parametrize("told_at", [0, 1])
def test_a_renewal_that_another_edge_was_told_takes_the_answer_of_its_order(
    edges: tuple[Kit, Kit], told_at: int
) -> None:
    one, _ = edges
    one.post(click("IwARfirst0000", NOW - 3 * HOUR, visitorId="v1"), click("IwARsecond000", NOW - HOUR, visitorId="v1"))
    (renewal,) = edges[told_at].post(order("2", NOW, visitorId="v1", renewalOf="1"))
    assert renewal.state.match.click == 2
    one.post(order("1", NOW - 2 * HOUR, visitorId="v1"))
    assert one.state(renewal.state.row.id).match.click == 1


def test_a_renewal_of_an_earlier_life_takes_the_answer_of_its_order(tmp_path: Path) -> None:
    with Kit(tmp_path) as kit:
        kit.post(click("IwARfirst0000", NOW - 3 * HOUR, visitorId="v1"))
        kit.post(click("IwARsecond000", NOW - HOUR, visitorId="v1"))
        (renewal,) = kit.post(order("2", NOW, visitorId="v1", renewalOf="1"))
    with Kit(tmp_path) as kit:
        kit.post(order("1", NOW - 2 * HOUR, visitorId="v1"))
        assert kit.state(renewal.state.row.id).match.click == 1


def test_a_withdrawal_at_the_other_edge_is_heeded(edges: tuple[Kit, Kit]) -> None:
    from collector.exchange.operations import Withdraw

    one, two = edges
    one.post(click("IwARtaken0000", visitorId="v1"), click("IwARstays0000", NOW - HOUR, visitorId="v2"))
    two.post(click("IwARother0000", visitorId="v3"))  # by now the other edge knows them
    one.submit([Withdraw(1, "v1", one.journal.names.name(1, "visitor", "v1"))])
    withdrawn, stays = two.post(order("1", visitorId="v1"), order("2", visitorId="v2"))
    assert not withdrawn.state.match.attributed
    assert stays.state.match.attributed


def test_what_retention_deleted_is_neither_a_duplicate_nor_a_candidate(edges: tuple[Kit, Kit]) -> None:
    import apsw

    one, _ = edges
    one.post(click("IwARgone00000", visitorId="v1"), click("IwARstays0000", visitorId="v2"))
    courier = kept.know(apsw.Connection(str(one.journal.data_dir / "collector.db")))
    courier.set_busy_timeout(5000)
    courier.execute("DELETE FROM click WHERE id = 1")
    courier.close()
    (ordered,) = one.post(order("1", visitorId="v1"))
    assert not ordered.state.match.attributed
    (again,) = one.post(click("IwARgone00000", visitorId="v1"))
    assert (again.duplicate, again.id) == (False, 3)
    assert one.rows("SELECT id FROM click ORDER BY id") == [(2,), (3,)]
