"""The outbox in a real file: what the edge puts in, what the courier claims, settles, puts back and takes over."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import apsw
import msgspec
import pytest

from collector.core.capi.payload import not_ahead
from collector.core.capi.states import CapiState
from collector.core.flags import DENIED, WITHDRAWN
from collector.core.retention import cuts
from collector.storage.ground import stores
from collector.storage.ground.commits import Commits
from collector.storage.outbox import outbox
from collector.storage.outbox.dispatch import FRESH_MS, Claim, Outbox, PixelHealth, Report, is_temporary
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


def test_purchases_go_first_and_others_ride_along(edge: Bench, box: Outbox) -> None:
    edge.put(3, first=1, name="PageView")
    edge.put(2, first=11)
    claim = box.claim_fresh(pixel(edge), 4, now_ms() + 1_000, LEASE)
    assert conversions(edge, claim) == [11, 12, 1, 2]


def test_nothing_is_claimed_before_it_is_due_unless_a_batch_is_full(edge: Bench, box: Outbox) -> None:
    edge.put(3)
    now = now_ms() - 1_000
    assert box.claim_fresh(pixel(edge), 4, now, LEASE) is None
    assert len(conversions(edge, box.claim_fresh(pixel(edge), 3, now, LEASE))) == 3


def test_a_batch_in_flight_is_not_claimed_again(edge: Bench, box: Outbox) -> None:
    edge.put(5)
    first = box.claim_fresh(pixel(edge), 3, now_ms() + 1_000, LEASE)
    second = box.claim_fresh(pixel(edge), 3, now_ms() + 1_000, LEASE)
    assert conversions(edge, first) + conversions(edge, second) == [1, 2, 3, 4, 5]
    assert box.claim_fresh(pixel(edge), 3, now_ms() + 1_000, LEASE) is None


def test_what_is_sent_is_settled_with_its_request_and_never_claimed_again(edge: Bench, box: Outbox) -> None:
    edge.put(2)
    now = now_ms() + 1_000
    claim = box.claim_fresh(pixel(edge), 10, now, LEASE)
    assert claim is not None
    box.close_sent(claim, SENT, now)
    box.land([event.id for event in claim.events])
    assert edge.states() == {"sent": 2}
    assert box.claim_fresh(pixel(edge), 10, now + FRESH_MS, LEASE) is None
    assert edge.rows("SELECT request, attempts, settled FROM outbox") == [(claim.request, 1, now)] * 2
    assert edge.rows("SELECT outcome, ids, lease_owner FROM request") == [("sent", None, None)]


def test_the_backlog_goes_by_earliest_deadline_and_leaves_the_fresh_alone_until_it_is_due(
    edge: Bench, box: Outbox
) -> None:
    old = now_ms() - 3_600_000
    edge.put(1, first=1, created=old)
    edge.put(1, first=2, created=old - 3_600_000)
    edge.put(1, first=3)
    assert conversions(edge, box.claim_fresh(pixel(edge), 1, now_ms() + 1_000, LEASE)) == [3]
    assert conversions(edge, box.claim_backlog(pixel(edge), 10, now_ms(), LEASE)) == [2, 1]
    assert box.claim_backlog(pixel(edge), 10, now_ms(), LEASE) is None


def test_a_retry_is_not_claimed_before_its_time_and_every_attempt_is_kept(edge: Bench, box: Outbox) -> None:
    edge.put(1)
    now = now_ms() + 1_000
    requests = []
    for turn in range(3):
        claim = box.claim_fresh(pixel(edge), 10, now, LEASE)
        assert claim is not None
        requests.append(claim.request)
        box.close_request(claim, Report(outcome="transient", http_status=503))
        box.requeue([claim.events[0].id], now + 500, reason="HTTP 503", doubt_at=now if turn == 1 else None)
        box.land([claim.events[0].id])
        assert box.claim_fresh(pixel(edge), 10, now + 499, LEASE) is None
        now += 500
    assert edge.rows("SELECT state, attempts, doubts, doubt_at, request, reason FROM outbox") == [
        (CapiState.RETRYING, 3, 1, now - 1_000, requests[2], "HTTP 503")
    ]
    assert edge.rows("SELECT request FROM attempt") == [(requests[0],), (requests[1],)]


def test_too_old_events_expire_at_the_claim_and_by_themselves(edge: Bench, box: Outbox) -> None:
    edge.put(2, created=now_ms() - 3_600_000)
    later = now_ms() + 8 * 86_400_000
    assert box.claim_backlog(pixel(edge), 1, later, LEASE) is None
    assert edge.states() == {"expired": 1, "queued": 1}
    assert box.expire(pixel(edge), later) == 1
    assert edge.states() == {"expired": 2}


def test_an_event_in_doubt_for_two_days_is_not_sent_a_second_time(edge: Bench, box: Outbox) -> None:
    edge.put(1)
    now = now_ms() + 1_000
    claim = box.claim_fresh(pixel(edge), 1, now, LEASE)
    assert claim is not None
    box.close_request(claim, Report(outcome="lost"))
    box.requeue([claim.events[0].id], now, reason="lost", doubt_at=now)
    box.land([claim.events[0].id])
    assert box.claim_backlog(pixel(edge), 1, now + 48 * 3_600_000, LEASE) is None
    assert edge.states() == {"rejected": 1}
    assert "in doubt" in edge.rows("SELECT reason FROM outbox")[0][0]


def test_one_request_carries_one_test_code(edge: Bench, box: Outbox) -> None:
    edge.put(4)
    edge.db.execute("UPDATE outbox SET test_code = 'TEST1' WHERE conversion IN (2, 3)")
    first = box.claim_fresh(pixel(edge), 10, now_ms() + 1_000, LEASE)
    second = box.claim_fresh(pixel(edge), 10, now_ms() + 1_000, LEASE)
    assert (conversions(edge, first), conversions(edge, second)) == ([1, 4], [2, 3])


def test_a_successor_takes_over_what_was_in_flight_as_in_doubt(edge: Bench, box: Outbox) -> None:
    edge.put(3)
    now = now_ms() + 1_000
    assert box.claim_fresh(pixel(edge), 2, now, LEASE) is not None
    successor = Outbox(edge.db, "next")
    assert successor.take_over(now + 5) == 2
    assert successor.take_over(now + 5) == 0
    assert edge.rows("SELECT conversion, state, doubts FROM outbox") == [(1, 1, 1), (2, 1, 1), (3, 0, 0)]
    assert edge.rows("SELECT outcome FROM request") == [("interrupted",)]
    assert sorted(conversions(edge, successor.claim_fresh(pixel(edge), 9, now + 10, LEASE))) == [1, 2, 3]


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


def test_a_pixels_health_is_kept(edge: Bench, box: Outbox) -> None:
    number = pixel(edge)
    assert box.health(number).state == "open"
    blocked = PixelHealth("blocked", 1, 2, "token expired", b"hash")
    box.mark(number, blocked)
    assert box.health(number) == blocked


def test_payloads_are_wiped_once_settled_and_dead_letters_after_their_time(edge: Bench, box: Outbox) -> None:
    edge.put(4)
    now = now_ms() + 1_000
    claim = box.claim_fresh(pixel(edge), 3, now, LEASE)
    assert claim is not None
    box.close_request(claim, SENT)
    box.settle([claim.events[0].id], CapiState.SENT, now)
    box.settle([claim.events[1].id], CapiState.REJECTED, now, reason="m")
    upkeep = Upkeep(edge.db)
    privacy = edge.config.privacy
    assert upkeep.wipe_payloads(cuts(privacy, now).dead_payloads) == 1
    assert edge.rows("SELECT id FROM outbox_payload") == [(2,), (3,), (4,)]
    upkeep.wipe_payloads(0)
    assert upkeep.wipe_payloads(cuts(privacy, now + 8 * 86_400_000).dead_payloads) == 1
    assert edge.rows("SELECT id FROM outbox_payload") == [(3,), (4,)]


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


def test_consent_is_asked_again_at_sending(edge: Bench, box: Outbox) -> None:
    edge.put(3)
    blank = {"store": 1, "ts": 1, "received": 1, "event_type": "Purchase", "ua_class": 0, "revision": 0, "capi": 0}
    for number, bits in ((1, 0), (2, WITHDRAWN), (3, DENIED)):
        row = {"id": number, **blank, "flags": bits, "body": b"", "match": b""}
        names = ", ".join(row)
        edge.db.execute(f"INSERT INTO conversion ({names}) VALUES ({', '.join(':' + n for n in row)})", row)
    assert conversions(edge, box.claim_fresh(pixel(edge), 9, now_ms() + 1_000, LEASE)) == [1]
    assert (
        edge.rows("SELECT state, reason FROM outbox WHERE settled IS NOT NULL")
        == [(CapiState.SKIPPED, "consent withdrawn")] * 2
    )


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


def test_a_clock_set_back_does_not_strand_what_waits(edge: Bench, box: Outbox) -> None:
    year = 365 * 86_400_000
    edge.put(2, created=now_ms() + year)
    edge.put(1, first=3)
    now = now_ms() + 1_000
    assert conversions(edge, box.claim_fresh(pixel(edge), 1, now, LEASE)) == [3]
    assert box.pull_forward(pixel(edge), now, 7_200_000) == 2
    assert box.pull_forward(pixel(edge), now, 7_200_000) == 0
    claim = box.claim_fresh(pixel(edge), 9, now, LEASE)
    assert claim is not None
    body = msgspec.json.decode(not_ahead(claim.events[0].body, claim.events[0].deadline, now))
    assert body["event_time"] == now // 1000
    assert msgspec.json.decode(claim.events[0].body)["event_time"] > now // 1000


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
