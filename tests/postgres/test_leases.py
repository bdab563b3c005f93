"""Couriers on several machines share the pixels: one owner at a time, and a former one writes nothing late."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from collector.core.capi.states import CapiState
from collector.storage import delivery
from collector.storage.postgres import leases, settling
from collector.storage.rules.sending import Claim, Report
from tests.kit import engines
from tests.kit.courier_kit import now_ms
from tests.kit.engines import Postgres, put, states
from tests.kit.postgres import Database

SENT = Report(outcome="sent", http_status=200)
LEASE = 30_000


@pytest.fixture
def here(tmp_path: Path, database: Database) -> Iterator[Postgres]:
    with engines.postgres(tmp_path, database) as made:
        yield made


def claimed(box: delivery.Outbox, here: Postgres, later: int = 1_000) -> Claim:
    claim = box.claim_fresh(here.pixel(), 10, now_ms() + later, LEASE)
    assert claim is not None
    return claim


def expire(here: Postgres) -> None:
    """A minute has passed, and nobody has renewed anything."""
    here.execute("UPDATE pixel_lease SET until = 0")


def anew(box: delivery.Outbox) -> dict[str, int]:
    """Whose pixels are whose, looked at now."""
    box._looked_ms = None  # type: ignore[attr-defined]
    return box.lease(now_ms())


def test_couriers_share_the_pixels_evenly_and_none_has_two_owners(here: Postgres) -> None:
    assert anew(here.box).keys() == {"111", "222"}
    other = here.courier("other")
    assert anew(other) == {}
    mine, others = anew(here.box), anew(other)
    assert len(mine) == len(others) == 1
    assert mine.keys() | others.keys() == {"111", "222"}
    third = here.courier("third")
    assert anew(third) == {}


def test_a_pixel_with_a_request_under_way_changes_hands_when_that_is_over(here: Postgres) -> None:
    put(here, 1, pixel="222")
    claim = here.box.claim_fresh(here.pixel("222"), 9, now_ms() + 1_000, LEASE)
    assert claim is not None
    other = here.courier("other")
    anew(other)
    assert anew(here.box).keys() == {"111"}, "it claims no more of the pixel that it gives away"
    assert anew(other) == {}
    here.box.close_sent(claim, SENT, now_ms())
    here.box.land(claim.ids)
    anew(here.box)
    assert anew(other).keys() == {"222"}
    assert states(here) == {"sent": 1}


def test_what_is_released_is_anothers_at_once(here: Postgres) -> None:
    other = here.courier("other")
    assert anew(other) == {}
    here.box.release()
    assert anew(other).keys() == {"111", "222"}


@pytest.mark.parametrize("kept", [True, False], ids=["kept", "control: the epoch is not asked"])
def test_a_late_settle_under_a_lost_lease_is_not_written(
    kept: bool, here: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(here, 2)
    claim = claimed(here.box, here)
    expire(here)
    other = here.courier("other")
    assert anew(other).keys() == {"111"}
    if not kept:
        monkeypatch.setattr(leases, "_HOLDS", "SELECT $1::int + length($2::text) + $3::bigint")
        monkeypatch.setattr(settling, "_CLOSE", settling._CLOSE.replace("AND outcome = 'in_flight'", ""))
    here.box.close_sent(claim, SENT, now_ms())
    assert states(here) == ({"retrying": 2} if kept else {"sent": 2})
    if kept:
        assert here.rows("SELECT outcome FROM request") == [("interrupted",)]
        assert here.rows("SELECT doubts, doubt_at IS NULL FROM outbox") == [(1, False)] * 2
        again = claimed(other, here, later=2_000)
        assert [event.body for event in again.events] == [event.body for event in claim.events], "the same event ids"
        other.close_sent(again, SENT, now_ms())
        assert states(here) == {"sent": 2}


def test_whose_lease_is_lost_claims_settles_and_requeues_nothing(here: Postgres) -> None:
    put(here, 3)
    claim = here.box.claim_fresh(here.pixel(), 2, now_ms() + 1_000, LEASE)
    assert claim is not None
    expire(here)
    other = here.courier("other")
    anew(other)
    here.box.settle(claim.ids, CapiState.REJECTED, now_ms(), reason="late")
    here.box.requeue(claim.ids, now_ms() + 9_000, reason="late")
    here.box.close_again(claim, Report(outcome="transient"), now_ms(), now_ms(), reason="late", doubt=True)
    assert here.box.claim_fresh(here.pixel(), 9, now_ms() + 1_000, LEASE) is None
    assert here.box.expire(here.pixel(), now_ms() + 30 * 86_400_000) == 0
    assert here.rows("SELECT state, reason FROM outbox ORDER BY id") == [
        (1, "interrupted"),
        (1, "interrupted"),
        (0, None),
    ]
    assert "111" not in anew(here.box)


def test_rows_that_somebody_changes_at_this_moment_are_left_for_the_next_claim(here: Postgres) -> None:
    put(here, 3)
    with here.changing("UPDATE outbox SET state = 2 WHERE conversion = 2"):
        assert len(claimed(here.box, here).events) == 2
    assert states(here) == {"queued": 2, "held": 1}


def test_a_claim_whose_commit_was_not_answered_hides_nothing(here: Postgres) -> None:
    put(here, 2)
    claim = claimed(here.box, here)
    here.box.land(claim.ids)
    here.box._open.clear()  # type: ignore[attr-defined]  # as after a connection that was lost during COMMIT
    again = claimed(here.box, here)
    assert again.ids == claim.ids
    anew(here.box)
    assert here.rows("SELECT id, outcome, ids IS NULL FROM request ORDER BY id") == [
        (claim.request, "interrupted", True),
        (again.request, "in_flight", False),
    ]
    here.box.close_sent(again, SENT, now_ms())
    here.box.close_sent(again, SENT, now_ms())
    assert here.rows("SELECT state, attempts FROM outbox") == [(10, 1)] * 2, "a repeated settle counts once"
