"""The outbox in a real file: what the edge puts in, what the courier claims, settles, puts back and takes over."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from collector.core.capi.states import CapiState
from collector.storage.ground import stores
from collector.storage.ground.commits import Commits
from collector.storage.outbox import outbox
from collector.storage.outbox.dispatch import Claim, Outbox, Report, is_temporary
from collector.storage.outbox.upkeep import Upkeep
from tests.kit.courier_kit import Bench, bench, config_for, now_ms

SENT = Report(outcome="sent", http_status=200, trace_id="t")
LEASE = 30_000


@pytest.fixture
def edge(tmp_path: Path) -> Iterator[Bench]:
    with bench(config_for(tmp_path / "data", "http://127.0.0.1:1", "111", "222")) as made:
        yield made


@pytest.fixture
def box(edge: Bench) -> Outbox:
    return Outbox(edge.db, "test")


def pixel(edge: Bench, name: str = "111") -> int:
    return stores.pixel_number(edge.db, name)


def conversions(edge: Bench, claim: Claim | None) -> list[int]:
    assert claim is not None
    found = dict(edge.rows("SELECT id, conversion FROM outbox"))
    return [found[event.id] for event in claim.events]


def test_hold_release_merge_and_drop(edge: Bench, box: Outbox) -> None:
    edge.put(3)
    now = now_ms() + 1_000
    edge.db.execute("BEGIN IMMEDIATE")
    assert [outbox.hold(edge.db, n, reason="consent pending") for n in (1, 2)] == [1, 1]
    assert outbox.merge(edge.db, 1, {pixel(edge): b'{"richer":1}'}, now + 60_000) == 1
    edge.db.execute("COMMIT")
    delivery = outbox.delivery_of(edge.db, 1)
    assert delivery is not None
    assert (delivery.state, delivery.reason) == (CapiState.HELD, "consent pending")
    assert conversions(edge, box.claim_fresh(pixel(edge), 9, now, LEASE)) == [3]
    assert outbox.release(edge.db, 1, now=now) == 1
    assert outbox.drop(edge.db, 2, now=now, reason="the order was cancelled before it was sent") == 1
    claim = box.claim_fresh(pixel(edge), 9, now, LEASE)
    assert conversions(edge, claim) == [1]
    assert claim is not None
    assert claim.events[0].body == b'{"richer":1}'
    assert edge.rows("SELECT count(*) FROM outbox_payload") == [(2,)]
    assert edge.states() == {"queued": 2, "skipped": 1}


def test_what_is_settled_can_no_longer_be_held_or_dropped(edge: Bench, box: Outbox) -> None:
    edge.put(1)
    claim = box.claim_fresh(pixel(edge), 1, now_ms() + 1_000, LEASE)
    assert claim is not None
    box.close_sent(claim, SENT, now_ms())
    assert outbox.drop(edge.db, 1, now=now_ms(), reason="late") == 0
    assert outbox.hold(edge.db, 1, reason="late") == 0
    assert edge.states() == {"sent": 1}


def test_a_dropped_event_in_flight_is_not_put_back(edge: Bench, box: Outbox) -> None:
    edge.put(1)
    claim = box.claim_fresh(pixel(edge), 1, now_ms() + 1_000, LEASE)
    assert claim is not None
    outbox.drop(edge.db, 1, now=now_ms(), reason="consent withdrawn")
    box.close_request(claim, Report(outcome="transient"))
    box.requeue([claim.events[0].id], now_ms(), reason="again")
    assert edge.states() == {"skipped": 1}


def test_a_commit_of_another_connection_is_noticed(edge: Bench) -> None:
    with bench(edge.config) as other:
        commits = Commits(other.db)
        assert commits.happened()
        assert not commits.happened()
        edge.put(1)
        assert commits.happened()
        assert not commits.happened()


def test_the_backlogs_figures(edge: Bench) -> None:
    edge.put(3)
    edge.put(2, first=10, pixel="222")
    outbox.hold(edge.db, 2, reason="r")
    figures = Upkeep(edge.db).backlog(pixel(edge))
    assert (figures["queued"], figures["retrying"], figures["held"]) == (2, 0, 1)
    assert 0 < now_ms() - figures["oldest"] < 60_000


def test_what_was_refused_before_it_was_sent_revives_with_richer_data(edge: Bench, box: Outbox) -> None:
    edge.put(3)
    edge.db.execute("UPDATE outbox SET state = 11, settled = 1, reason = 'too little' WHERE conversion < 3")
    edge.db.execute("UPDATE outbox SET attempts = 1 WHERE conversion = 2")
    now = now_ms() + 1_000
    for conversion in (1, 2, 3):
        richer, deadline = {pixel(edge): b'{"richer":1}'}, now + 60_000
        outbox.revive(edge.db, conversion, richer, now=now, due=now, deadline=deadline)
    assert edge.states() == {"queued": 2, "rejected": 1}  # what Meta itself has refused is for `replay`
    claim = box.claim_fresh(pixel(edge), 9, now, LEASE)
    assert claim is not None
    assert {event.id: event.body == b'{"richer":1}' for event in claim.events} == {1: True, 3: False}


@pytest.mark.parametrize("change", ["drop", "hold"])
def test_what_is_dropped_or_held_after_it_was_chosen_is_not_claimed(
    change: str, edge: Bench, box: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    edge.put(3)
    chosen = box._fresh_ids

    def chosen_before(*args: int) -> list[int]:
        ids = chosen(*args)
        verbs = {
            "drop": lambda: outbox.drop(edge.db, 2, now=1, reason="r"),
            "hold": lambda: outbox.hold(edge.db, 2, reason="r"),
        }
        verbs[change]()
        return ids

    monkeypatch.setattr(box, "_fresh_ids", chosen_before)
    assert conversions(edge, box.claim_fresh(pixel(edge), 9, now_ms() + 1_000, LEASE)) == [1, 3]
    assert edge.states() == {"queued": 2, "skipped" if change == "drop" else "held": 1}


def test_what_was_dropped_in_flight_stays_so_unless_meta_has_it(edge: Bench, box: Outbox) -> None:
    edge.put(2)
    now = now_ms() + 1_000
    claim = box.claim_fresh(pixel(edge), 9, now, LEASE)
    assert claim is not None
    outbox.drop(edge.db, 1, now=now, reason="cancelled")
    box.settle(claim.ids, CapiState.REJECTED, now, reason="refused")
    assert edge.states() == {"skipped": 1, "rejected": 1}
    box.close_sent(claim, SENT, now)
    assert edge.states() == {"sent": 2}


def test_a_full_disk_is_waited_for_and_loses_nothing(edge: Bench) -> None:
    edge.put(5)
    with bench(edge.config) as other:
        box = Outbox(other.db, "test")
        claim = box.claim_fresh(1, 9, now_ms() + 1_000, LEASE)
        assert claim is not None
        other.db.execute("CREATE TABLE filler (x BLOB)")
        other.db.pragma("max_page_count", 1)  # SQLite then takes no page more than it has
        with pytest.raises(apsw.FullError) as full:
            other.db.executemany("INSERT INTO filler VALUES (zeroblob(3000))", [()] * 1_000)
        assert is_temporary(full.value)
        with pytest.raises(apsw.FullError):
            settle_and_fill(box, other.db, claim)
        assert edge.states() == {"queued": 5}
        other.db.pragma("max_page_count", 1 << 30)
        box.close_sent(claim, SENT, now_ms())
        assert edge.states() == {"sent": 5}


def settle_and_fill(box: Outbox, db: apsw.Connection, claim: Claim) -> None:
    """A settle whose transaction ends on a full disk."""
    with box.transaction():
        box.close_sent(claim, SENT, now_ms())
        db.execute("INSERT INTO filler VALUES (zeroblob(100000))")


def test_a_claim_whose_commit_fails_is_no_claim(edge: Bench, box: Outbox) -> None:
    """On a full disk; the events seemed to be in flight until the courier's next start."""
    edge.put(3, created=now_ms() - 10_000)
    box._db.set_commit_hook(lambda: True)
    with pytest.raises(apsw.ConstraintError):
        box.claim_fresh(1, 10, now_ms(), 60_000)
    box._db.set_commit_hook(None)
    claim = box.claim_fresh(1, 10, now_ms(), 60_000)
    assert claim is not None
    assert len(claim.events) == 3
