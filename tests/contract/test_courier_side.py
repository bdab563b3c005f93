"""A courier's side of either engine beside its queue: changed answers, commits of others, the machine's clock."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from collector.core.trusted import Mark, State
from collector.storage import delivery
from collector.storage.delivery import Side
from tests.kit.journal_kit import DAY, HOUR, NOW, Kit, click, order
from tests.kit.journal_kits import PostgresKit
from tests.kit.postgres import Database


@pytest.fixture(params=["sqlite", "postgres"])
def kit(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Kit]:
    """An order whose click came late: its answer has changed."""
    database: Database | None = request.getfixturevalue("database") if request.param == "postgres" else None
    with PostgresKit(database, tmp_path) if database is not None else Kit(tmp_path) as kit:
        kit.post(order("A1", visitorId="v1", customerData={"email": "ada@example.com"}))
        kit.post(click("IwARlate00000", NOW - HOUR, visitorId="v1"))
        yield kit


@pytest.fixture
def side(kit: Kit) -> Iterator[Side]:
    made = delivery.opened(kit.config)
    yield made
    made.close()


def test_an_answer_that_changed_is_told_until_it_is_taken(kit: Kit, side: Side) -> None:
    (noted,) = side.notices.pending(NOW, 10)
    revision = noted[2]
    assert (revision.order_id, revision.revision, revision.attributed) == ("A1", 1, True)
    assert revision.method == "visitor_id"
    assert side.notices.pending(NOW, 10) == [noted]
    side.notices.told([noted])
    assert side.notices.pending(NOW, 10) == []


def test_what_changed_again_meanwhile_stays_and_what_is_old_goes(kit: Kit, side: Side) -> None:
    (noted,) = side.notices.pending(NOW, 10)
    side.notices.told([(noted[0], noted[1] - 1, noted[2])])
    assert side.notices.pending(NOW, 10) == [noted]
    side.notices.pending(NOW + 8 * DAY, 10)
    assert side.notices.pending(NOW, 10) == []


def test_nobody_wants_to_be_told(side: Side) -> None:
    side.notices.drop_all()
    assert side.notices.pending(NOW, 10) == []


def test_the_mark_of_this_machines_clock_is_kept(kit: Kit, side: Side) -> None:
    assert side.kept.read() is None
    for at in (NOW, NOW + HOUR):
        side.kept.change(lambda before, at=at: State(Mark(at, 7, "boot"), at, acceptances=0 if before is None else 1))
    again = delivery.opened(kit.config)
    try:
        assert again.kept.read() == State(Mark(NOW + HOUR, 7, "boot"), NOW + HOUR, acceptances=1)
    finally:
        again.close()


def test_a_commit_of_somebody_else_is_noticed(kit: Kit, side: Side) -> None:
    assert side.commits.happened(), "the first look finds whatever there is"
    kit.post(order("A2", visitorId="v2"))
    until = time.monotonic() + 60
    while not (happened := side.commits.happened()) and time.monotonic() < until:
        time.sleep(0.05)
    assert happened
