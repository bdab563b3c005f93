"""The courier's outbox, on both engines: what the keeper puts in, what is claimed, settled, put back and taken over."""

from __future__ import annotations

import msgspec

from collector.core.capi.payload import not_ahead
from collector.core.capi.states import CapiState
from collector.core.flags import DENIED, WITHDRAWN
from collector.core.retention import cuts
from collector.storage.rules.sending import FRESH_MS, Claim, PixelHealth, Report
from tests.kit.courier_kit import now_ms
from tests.kit.engines import Engine, put, states

SENT = Report(outcome="sent", http_status=200, trace_id="t")
LEASE = 30_000


def conversions(engine: Engine, claim: Claim | None) -> list[int]:
    assert claim is not None
    found = dict(engine.rows("SELECT id, conversion FROM outbox"))
    return [found[event.id] for event in claim.events]


def test_purchases_go_first_and_others_ride_along(engine: Engine) -> None:
    put(engine, 3, first=1, name="PageView")
    put(engine, 2, first=11)
    claim = engine.box.claim_fresh(engine.pixel(), 4, now_ms() + 1_000, LEASE)
    assert conversions(engine, claim) == [11, 12, 1, 2]


def test_nothing_is_claimed_before_it_is_due_unless_a_batch_is_full(engine: Engine) -> None:
    put(engine, 3)
    now = now_ms() - 1_000
    assert engine.box.claim_fresh(engine.pixel(), 4, now, LEASE) is None
    assert len(conversions(engine, engine.box.claim_fresh(engine.pixel(), 3, now, LEASE))) == 3


def test_a_batch_in_flight_is_not_claimed_again(engine: Engine) -> None:
    put(engine, 5)
    first = engine.box.claim_fresh(engine.pixel(), 3, now_ms() + 1_000, LEASE)
    second = engine.box.claim_fresh(engine.pixel(), 3, now_ms() + 1_000, LEASE)
    assert conversions(engine, first) + conversions(engine, second) == [1, 2, 3, 4, 5]
    assert engine.box.claim_fresh(engine.pixel(), 3, now_ms() + 1_000, LEASE) is None


def test_what_is_sent_is_settled_with_its_request_and_never_claimed_again(engine: Engine) -> None:
    put(engine, 2)
    now = now_ms() + 1_000
    claim = engine.box.claim_fresh(engine.pixel(), 10, now, LEASE)
    assert claim is not None
    engine.box.close_sent(claim, SENT, now)
    engine.box.land([event.id for event in claim.events])
    assert states(engine) == {"sent": 2}
    assert engine.box.claim_fresh(engine.pixel(), 10, now + FRESH_MS, LEASE) is None
    assert engine.rows("SELECT request, attempts, settled FROM outbox") == [(claim.request, 1, now)] * 2
    assert engine.rows("SELECT outcome, ids FROM request") == [("sent", None)]


def test_the_backlog_goes_by_earliest_deadline_and_leaves_the_fresh_alone_until_it_is_due(engine: Engine) -> None:
    old = now_ms() - 3_600_000
    put(engine, 1, first=1, created=old)
    put(engine, 1, first=2, created=old - 3_600_000)
    put(engine, 1, first=3)
    assert conversions(engine, engine.box.claim_fresh(engine.pixel(), 1, now_ms() + 1_000, LEASE)) == [3]
    assert conversions(engine, engine.box.claim_backlog(engine.pixel(), 10, now_ms(), LEASE)) == [2, 1]
    assert engine.box.claim_backlog(engine.pixel(), 10, now_ms(), LEASE) is None


def test_a_retry_is_not_claimed_before_its_time_and_every_attempt_is_kept(engine: Engine) -> None:
    put(engine, 1)
    now = now_ms() + 1_000
    requests = []
    for turn in range(3):
        claim = engine.box.claim_fresh(engine.pixel(), 10, now, LEASE)
        assert claim is not None
        requests.append(claim.request)
        engine.box.close_request(claim, Report(outcome="transient", http_status=503))
        engine.box.requeue([claim.events[0].id], now + 500, reason="HTTP 503", doubt_at=now if turn == 1 else None)
        engine.box.land([claim.events[0].id])
        assert engine.box.claim_fresh(engine.pixel(), 10, now + 499, LEASE) is None
        now += 500
    assert engine.rows("SELECT state, attempts, doubts, doubt_at, request, reason FROM outbox") == [
        (CapiState.RETRYING, 3, 1, now - 1_000, requests[2], "HTTP 503")
    ]
    assert engine.rows("SELECT request FROM attempt ORDER BY request") == [(requests[0],), (requests[1],)]


def test_too_old_events_expire_at_the_claim_and_by_themselves(engine: Engine) -> None:
    put(engine, 2, created=now_ms() - 3_600_000)
    later = now_ms() + 8 * 86_400_000
    assert engine.box.claim_backlog(engine.pixel(), 1, later, LEASE) is None
    assert states(engine) == {"expired": 1, "queued": 1}
    assert engine.box.expire(engine.pixel(), later) == 1
    assert states(engine) == {"expired": 2}


def test_an_event_in_doubt_for_two_days_is_not_sent_a_second_time(engine: Engine) -> None:
    put(engine, 1)
    now = now_ms() + 1_000
    claim = engine.box.claim_fresh(engine.pixel(), 1, now, LEASE)
    assert claim is not None
    engine.box.close_request(claim, Report(outcome="lost"))
    engine.box.requeue([claim.events[0].id], now, reason="lost", doubt_at=now)
    engine.box.land([claim.events[0].id])
    assert engine.box.claim_backlog(engine.pixel(), 1, now + 48 * 3_600_000, LEASE) is None
    assert states(engine) == {"rejected": 1}
    assert "in doubt" in engine.rows("SELECT reason FROM outbox")[0][0]


def test_one_request_carries_one_test_code(engine: Engine) -> None:
    put(engine, 4)
    engine.execute("UPDATE outbox SET test_code = 'TEST1' WHERE conversion IN (2, 3)")
    first = engine.box.claim_fresh(engine.pixel(), 10, now_ms() + 1_000, LEASE)
    second = engine.box.claim_fresh(engine.pixel(), 10, now_ms() + 1_000, LEASE)
    assert (conversions(engine, first), conversions(engine, second)) == ([1, 4], [2, 3])


def test_a_successor_takes_over_what_was_in_flight_as_in_doubt(engine: Engine) -> None:
    put(engine, 3)
    now = now_ms() + 1_000
    assert engine.box.claim_fresh(engine.pixel(), 2, now, LEASE) is not None
    successor = engine.successor(now + 5)
    assert engine.rows("SELECT n FROM counter WHERE name = 'ambiguous'") == [(2,)]
    assert engine.rows("SELECT conversion, state, doubts FROM outbox ORDER BY id") == [(1, 1, 1), (2, 1, 1), (3, 0, 0)]
    assert engine.rows("SELECT outcome FROM request") == [("interrupted",)]
    assert sorted(conversions(engine, successor.claim_fresh(engine.pixel(), 9, now + 10, LEASE))) == [1, 2, 3]


def test_a_pixels_health_is_kept(engine: Engine) -> None:
    number = engine.pixel()
    assert engine.box.health(number).state == "open"
    blocked = PixelHealth("blocked", 1, 2, "token expired", b"hash")
    engine.box.mark(number, blocked)
    assert engine.box.health(number) == blocked


def test_payloads_are_wiped_once_settled_and_dead_letters_after_their_time(engine: Engine) -> None:
    put(engine, 4)
    now = now_ms() + 1_000
    claim = engine.box.claim_fresh(engine.pixel(), 3, now, LEASE)
    assert claim is not None
    engine.box.close_request(claim, SENT)
    engine.box.settle([claim.events[0].id], CapiState.SENT, now)
    engine.box.settle([claim.events[1].id], CapiState.REJECTED, now, reason="m")
    upkeep = engine.upkeep
    privacy = engine.config.privacy
    upkeep.wipe_payloads(cuts(privacy, now).dead_payloads)
    assert engine.rows("SELECT id FROM outbox_payload ORDER BY id") == [(2,), (3,), (4,)]
    upkeep.wipe_payloads(0)
    assert upkeep.wipe_payloads(cuts(privacy, now + 8 * 86_400_000).dead_payloads) == 1
    assert engine.rows("SELECT id FROM outbox_payload ORDER BY id") == [(3,), (4,)]


def test_consent_is_asked_again_at_sending(engine: Engine) -> None:
    put(engine, 3)
    for number, bits in ((1, 0), (2, WITHDRAWN), (3, DENIED)):
        engine.execute(
            "INSERT INTO conversion (id, store, ts, received, event_type, ua_class, flags, revision, capi, body, match)"
            f" VALUES ({number}, 1, 1, 1, 'Purchase', 0, {bits}, 0, 0, '', '')".replace("''", engine.no_bytes)
        )
    assert conversions(engine, engine.box.claim_fresh(engine.pixel(), 9, now_ms() + 1_000, LEASE)) == [1]
    assert (
        engine.rows("SELECT state, reason FROM outbox WHERE settled IS NOT NULL")
        == [(CapiState.SKIPPED, "consent withdrawn")] * 2
    )


def test_a_clock_set_back_does_not_strand_what_waits(engine: Engine) -> None:
    year = 365 * 86_400_000
    put(engine, 2, created=now_ms() + year)
    put(engine, 1, first=3)
    now = now_ms() + 1_000
    assert conversions(engine, engine.box.claim_fresh(engine.pixel(), 1, now, LEASE)) == [3]
    assert engine.box.pull_forward(engine.pixel(), now, 7_200_000) == 2
    assert engine.box.pull_forward(engine.pixel(), now, 7_200_000) == 0
    claim = engine.box.claim_fresh(engine.pixel(), 9, now, LEASE)
    assert claim is not None
    body = msgspec.json.decode(not_ahead(claim.events[0].body, claim.events[0].deadline, now))
    assert body["event_time"] == now // 1000
    assert msgspec.json.decode(claim.events[0].body)["event_time"] > now // 1000
