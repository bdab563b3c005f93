"""Meta's answers as verdicts, poison found in few requests, and when a pixel is asked again."""

from __future__ import annotations

import json
import math
from datetime import date
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.config import AlertsConfig
from collector.core import retry
from collector.core.capi import versions
from collector.core.capi.gate import Terms, decide
from collector.core.capi.isolation import Isolation
from collector.core.capi.states import CapiState
from collector.core.capi.verdicts import Answer, Kind, Verdict, classify, date_of
from collector.core.events import StoredEvent
from collector.courier.alerts import Alerts
from collector.courier.blocks import Block
from collector.courier.pacing import Pacing


def graph_error(status: int, code: int, subcode: int | None = None, **more: Any) -> Answer:
    error = {"message": "m", "code": code, "fbtrace_id": "trace", **more}
    if subcode is not None:
        error["error_subcode"] = subcode
    return Answer(status=status, body=msgspec.json.encode({"error": error}))


# Every code that Meta documents or that a caller has reported on this endpoint, and what it judges; whatever the HTTP
# status says. D4: an event is judged by 100 with a subcode 28040xx, and by 105, and by nothing else.
PASSING = [*(1, 2, 5000, 21009, 341, 368), *(4, 17, 32, 613), *range(80_000, 80_015)]
STOPPING = [
    *(-1, 0, 3, 5, 7, 10, 12, 33, 99, 101, 102, 104, 106, 110, 111, 190, 192, 194, 195, 197, *range(200, 300)),
    *(300, 330, 341_000, 352, 389, 452, 459, 463, 464, 467, 492, 506, 509, 551, 601, 612, 630, 670, 801, 803, 900, 960),
    *(1340006, 1349125, 1609005, 1713222, 2069016, 2108006, 2310000, 2424009, 2500, 2608, 2635, 2641, 3001, 3006, 3018),
    *(3910, 5201, 10_900, 12_000, 14_001, 80_100, 200_000, 987_654, 2_804_003, 2**31 - 1, -(2**31)),
]
OF_THE_CALL = [None, -1, 0, 33, 99, 1, 2, 1349125, 1487390, 1885316, 2018001, 2446079, 2_803_999, 2_804_100]
OF_THE_EVENT = [
    2_804_000,
    *(2_804_000 + n for n in (1, 3, 4, 7, 8, 9, 10, 16, 17, 19, 23, 30, 36, 43, 48, 50)),
    2_804_099,
]


@pytest.mark.parametrize("status", [400, 401, 403, 404])
def test_D4_only_an_events_own_refusal_judges_an_event(status: int) -> None:
    kinds = {code: classify(graph_error(status, code, 460), 10).kind for code in (*PASSING, *STOPPING)}
    assert {code for code, kind in kinds.items() if kind is Kind.REFUSED} == set()
    assert {kinds[code] for code in PASSING} == {Kind.TRANSIENT, Kind.THROTTLED}
    assert {kinds[code] for code in STOPPING} == {Kind.BLOCKED}
    assert classify(graph_error(status, 105), 10).kind is Kind.REFUSED
    for subcode in OF_THE_EVENT:
        assert classify(graph_error(status, 100, subcode), 10).kind is Kind.REFUSED
    for subcode in OF_THE_CALL:
        assert classify(graph_error(status, 100, subcode), 10).kind is Kind.BLOCKED


@pytest.mark.parametrize(
    ("code", "subcode", "kind"),
    [
        (17, 2446079, Kind.THROTTLED),
        (613, 1487742, Kind.THROTTLED),
        (613, 5044001, Kind.THROTTLED),
        (80004, 2446079, Kind.THROTTLED),
        (190, 460, Kind.BLOCKED),
        (190, 463, Kind.BLOCKED),
        (100, 33, Kind.BLOCKED),
        (105, None, Kind.REFUSED),
        (100, 2804003, Kind.REFUSED),
    ],
)
def test_the_body_decides_not_the_status(code: int, subcode: int | None, kind: Kind) -> None:
    for status in (400, 401, 403):
        verdict = classify(graph_error(status, code, subcode), 10)
        assert verdict.kind is kind
        assert (verdict.code, verdict.subcode, verdict.trace_id) == (code, subcode, "trace")


@pytest.mark.parametrize("number", [2**31, -(2**31) - 1, 2**63, 10**19, 10**300, 1.0, True, "190", None, [], {}])
def test_D4_a_number_that_is_none_is_no_code_no_subcode_and_no_count(number: Any) -> None:
    """SQLite's integers end at 64 bits: what is not bounded here would end the courier there."""
    assert classify(graph_error(400, number), 1).kind is Kind.TRANSIENT
    verdict = classify(Answer(status=400, body=msgspec.json.encode({"error": {"code": 100}})), 1)
    assert verdict.kind is Kind.BLOCKED
    odd = f'{{"error":{{"code":100,"error_subcode":{_json(number)}}}}}'.encode()
    assert classify(Answer(status=400, body=odd), 1).kind in (Kind.BLOCKED, Kind.TRANSIENT)
    counted = f'{{"events_received":{_json(number)}}}'.encode()
    assert classify(Answer(status=200, body=counted), 1).kind is Kind.GARBLED


def _json(value: Any) -> str:
    return json.dumps(value)


def test_D4_a_text_of_metas_is_cut_and_stays_in_one_line() -> None:
    verdict = classify(graph_error(400, 190, message="a\nb\x00" + "c" * 5_000, fbtrace_id="t" * 5_000), 1)
    assert verdict.message.startswith("a b c")
    assert len(verdict.message) <= 500
    assert len(verdict.trace_id or "") <= 500


def test_is_transient_spares_events_but_not_a_dead_token() -> None:
    assert classify(graph_error(400, 100, 99, is_transient=True), 1).kind is Kind.TRANSIENT
    assert classify(graph_error(400, 987654, is_transient=True), 1).kind is Kind.TRANSIENT
    assert classify(graph_error(401, 190, is_transient=True), 1).kind is Kind.BLOCKED
    assert classify(graph_error(500, 987654), 1).kind is Kind.TRANSIENT
    assert classify(graph_error(500, -1), 1).kind is Kind.TRANSIENT


@pytest.mark.parametrize(
    ("answer", "kind", "doubt"),
    [
        (Answer(status=200, body=b'{"events_received":10,"messages":[],"fbtrace_id":"t"}'), Kind.SENT, False),
        (Answer(status=200, body=b'{"events_received":9}'), Kind.SHORT, True),
        (Answer(status=200, body=b"<html>"), Kind.GARBLED, True),
        (Answer(status=200, body=b""), Kind.GARBLED, True),
        (Answer(status=200, body=b"{}"), Kind.GARBLED, True),
        (Answer(status=200, body=b"[" * 5000), Kind.GARBLED, True),
        (Answer(status=502, body=b"<html>"), Kind.TRANSIENT, True),
        (Answer(status=503), Kind.TRANSIENT, True),
        (Answer(status=429), Kind.THROTTLED, False),
        *((Answer(status=status, body=b"<html>"), Kind.WALLED, False) for status in (400, 403, 404, 406, 418, 422)),
        *((Answer(status=status, body=b"<html>"), Kind.TRANSIENT, False) for status in (401, 407, 408)),
        (Answer(status=301), Kind.TRANSIENT, False),
        (Answer(status=413), Kind.TOO_BIG, False),
        (Answer(fault="no answer in time"), Kind.LOST, True),
        (Answer(fault="refused", body_sent=False), Kind.UNREACHED, False),
    ],
)
def test_answers_that_are_no_graph_error(answer: Answer, kind: Kind, doubt: bool) -> None:
    verdict = classify(answer, 10)
    assert (verdict.kind, verdict.doubt) == (kind, doubt)


def test_the_index_is_read_from_metas_path() -> None:
    text = """Unexpected key "click_id" on param "$['data'][17]['user_data']" """
    assert classify(graph_error(400, 100, 2804019, message=text), 100).index == 17
    assert classify(graph_error(400, 100, 2804019, message="Invalid parameter"), 100).index is None


@pytest.mark.parametrize(
    ("headers", "wait_ms"),
    [
        ({"retry-after": "7"}, 7_000),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "1000000000"}, 3_600_000),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}, None),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT", "date": "Wed, 21 Oct 2026 07:27:30 GMT"}, 30_000),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT", "date": "Wed, 21 Oct 2026 07:29:00 GMT"}, None),
        ({"x-business-use-case-usage": '{"1":[{"estimated_time_to_regain_access":3}]}'}, 180_000),
        ({"x-app-usage": "not json"}, None),
        ({}, None),
    ],
)
def test_what_meta_asks_us_to_wait(headers: dict[str, str], wait_ms: int | None) -> None:
    answer = msgspec.structs.replace(graph_error(400, 4), headers=headers)
    assert classify(answer, 1).wait_ms == wait_ms


@given(st.binary(max_size=300), st.integers(100, 599), st.dictionaries(st.text(max_size=20), st.text(max_size=50)))
def test_no_answer_raises(body: bytes, status: int, headers: dict[str, str]) -> None:
    assert isinstance(classify(Answer(status=status, body=body, headers=headers), 5), Verdict)


def run_isolation(size: int, poison: set[int], *, named: bool = False) -> tuple[int, list[int], list[int]]:
    """The requests, what was delivered and what was found guilty, against a Meta that refuses whole batches."""

    def index_of(part: list[int]) -> int | None:
        return next((i for i, n in enumerate(part) if n in poison), None) if named else None

    batch = list(range(size))
    search: Isolation[int] = Isolation(batch, index_of(batch))
    delivered: list[int] = []
    while search:
        part = search.take()
        if poison & set(part):
            search.refused(index_of(part))
        else:
            delivered += part
            search.taken()
    return search.requests, sorted(delivered), sorted(search.guilty)


@pytest.mark.parametrize("size", [2, 3, 10, 100, 997, 1000])
def test_one_poison_costs_at_most_twice_log2_requests(size: int) -> None:
    for bad in {0, 1, size // 3, size // 2, size - 1}:
        requests, delivered, guilty = run_isolation(size, {bad})
        assert guilty == [bad]
        assert len(delivered) == size - 1
        assert requests <= 2 * math.log2(size)


@given(st.integers(1, 200), st.data(), st.booleans())
def test_every_poison_is_found_and_all_others_are_delivered(size: int, data: st.DataObject, named: bool) -> None:
    poison = data.draw(st.sets(st.integers(0, size - 1), min_size=1))
    requests, delivered, guilty = run_isolation(size, poison, named=named)
    assert guilty == sorted(poison)
    assert sorted(delivered + guilty) == list(range(size))
    assert requests <= max(1, 2 * len(poison) * math.log2(max(2, size)))


@settings(max_examples=50)
@given(st.integers(2, 60), st.data(), st.booleans())
def test_what_goes_meanwhile_is_left_out_and_all_others_are_judged_once(
    size: int, data: st.DataObject, named: bool
) -> None:
    """At any moment some are settled elsewhere, and others let through in no company."""
    poison = data.draw(st.sets(st.integers(0, size - 1), min_size=1))
    walled = data.draw(st.sets(st.integers(0, size - 1), max_size=3))
    index_of = lambda part: next((i for i, n in enumerate(part) if n in poison), None) if named else None  # noqa: E731
    search: Isolation[int] = Isolation(list(range(size)), index_of(range(size)))
    gone, delivered, alone = set[int](), list[int](), set[int]()
    while search:
        gone |= data.draw(st.sets(st.integers(0, size - 1), max_size=3)) - set(delivered) - {*search.guilty} - alone
        part = [n for n in search.take() if n not in gone]
        search.only(part)
        if part and walled & set(part):
            search.divided()
            alone |= set(part) if len(part) == 1 else set()
        elif part and poison & set(part):
            search.refused(index_of(part))
        elif part:
            delivered += part
            search.taken()
    assert sorted([*delivered, *search.guilty, *alone, *gone]) == list(range(size))
    assert set(search.guilty) <= poison
    assert alone <= walled


def test_a_named_poison_costs_two_requests() -> None:
    assert run_isolation(1000, {700}, named=True)[0] == 2


def test_an_index_that_names_an_innocent_is_not_believed_twice() -> None:
    search: Isolation[int] = Isolation(list(range(1000)), 0)
    while search:
        if 999 in search.take():
            search.refused(0)  # Meta keeps naming the first
        else:
            search.taken()
    assert search.guilty == [999]
    assert search.requests < 30


def test_backoff_grows_is_jittered_and_capped() -> None:
    terms = retry.Backoff(1_000, 300_000)
    assert [retry.backoff_ms(n, 0.999999, terms) for n in (0, 1, 2, 30)] == [999, 1_999, 3_999, 299_999]
    assert retry.backoff_ms(10, 0.0, terms) == 100
    # Ten couriers that lost Meta together come back spread, not together.
    waits = {retry.backoff_ms(6, dice / 10, terms) for dice in range(10)}
    assert len(waits) == 10


def test_the_breaker_opens_after_five_faults_and_one_answer_closes_it() -> None:
    terms, breaker = retry.Backoff(), retry.Breaker()
    for n in range(5):
        assert not breaker.open
        breaker = retry.after_fault(breaker, n, 0.5, terms)
    assert breaker.open
    assert breaker.until >= 5_000
    closed = retry.after_success(breaker)
    assert (closed.open, closed.until, closed.faults) == (False, 0, 0)


def test_the_breaker_opens_when_most_of_twenty_fail() -> None:
    terms, breaker = retry.Backoff(), retry.Breaker()
    for _ in range(10):
        breaker = retry.after_fault(breaker, 0, 0.5, terms)
        breaker = retry.after_success(breaker) if not breaker.open else breaker
    assert not breaker.open
    for _ in range(2):  # two in a row after every second one failed: eleven of twenty
        breaker = retry.after_fault(breaker, 0, 0.5, terms)
    assert breaker.open
    assert breaker.faults == 2


def test_what_meta_asks_is_never_shortened() -> None:
    asked = retry.after_fault(retry.Breaker(), 1_000, 0.0, retry.Backoff(), asked_ms=60_000)
    assert asked.until >= 61_000


def test_a_throttled_pixel_sends_half_then_slowly_more() -> None:
    pace = retry.slowed(retry.Pace(), 400.0, 0)
    assert pace.per_second == 200.0
    assert retry.slowed(pace, 400.0, 59_000).per_second == 200.0  # one complaint
    assert retry.slowed(pace, 400.0, 60_000).per_second == 100.0
    assert retry.recovered(pace, 59_000).per_second == 200.0
    assert retry.recovered(pace, 60_000).per_second == pytest.approx(220.0)
    assert retry.recovered(retry.Pace(4_900.0, 0), 60_000).per_second is None


def test_a_doubt_is_resent_only_inside_metas_window() -> None:
    hour = 3_600_000
    assert retry.may_resend(None, 10**15)
    assert retry.may_resend(0, 46 * hour)
    assert not retry.may_resend(0, 48 * hour)


def gate_of(terms: Terms | None = None, pixels: int = 1, **more: Any) -> tuple[str, str | None]:
    event = StoredEvent(**{"event_type": "Purchase", "event_id": "e", "ts": 0, "received": 0, **more})
    gate = decide(event, terms or Terms(), pixels)
    return gate.state.name.lower(), gate.reason


@pytest.mark.parametrize(
    ("terms", "pixels", "more", "state"),
    [
        (Terms(), 1, {}, CapiState.QUEUED),
        (Terms(mode="off"), 1, {}, CapiState.DISABLED),
        (Terms(), 0, {}, CapiState.DISABLED),
        (Terms(), 1, {"bot": "crawler"}, CapiState.SKIPPED),
        (Terms(), 1, {"marketing": "denied"}, CapiState.SKIPPED),
        (Terms(), 1, {"marketing": "pending"}, CapiState.HELD),
        (Terms(), 1, {"test": True}, CapiState.SKIPPED),
        (Terms(), 1, {"test": True, "test_event_code": "TEST1"}, CapiState.QUEUED),
        (Terms(), 1, {"unconfirmed": True}, CapiState.HELD),
        (Terms(browser_purchases="send"), 1, {"unconfirmed": True}, CapiState.QUEUED),
        (Terms(), 1, {"order_status": "pending"}, CapiState.QUEUED),
        (Terms(send_purchase_on="paid"), 1, {"order_status": "pending"}, CapiState.HELD),
        (Terms(send_purchase_on="paid"), 1, {}, CapiState.HELD),
        (Terms(send_purchase_on="paid"), 1, {"order_status": "Paid"}, CapiState.QUEUED),
        (Terms(send_purchase_on="paid"), 1, {"event_type": "Lead"}, CapiState.QUEUED),
        (Terms(), 1, {"order_status": "cancelled"}, CapiState.SKIPPED),
        (Terms(), 1, {"order_status": "refunded"}, CapiState.SKIPPED),
    ],
)
def test_what_may_go_out_now_later_or_never(terms: Terms, pixels: int, more: dict[str, Any], state: CapiState) -> None:
    name, reason = gate_of(terms, pixels, **more)
    assert name == state.name.lower()
    assert (reason is None) is (state is CapiState.QUEUED)


@pytest.mark.parametrize(
    ("version", "words"),
    [
        ("v26.0", None),
        ("v25.0", None),
        ("v24.0", "ends on 2027-10-08"),
        ("v23.0", "out of support since 2027-05-29"),
        ("v12.0", "no longer supported"),
        ("v99.0", None),
        ("26", "does not look like"),
    ],
)
def test_a_version_that_nears_its_end_is_told(version: str, words: str | None) -> None:
    told = versions.warning(version, date(2027, 9, 1))
    assert (told is None) is (words is None)
    assert (words or "") in (told or "")


def test_metas_clock_is_read_from_the_answer() -> None:
    headers = {"date": "Wed, 21 Oct 2026 07:28:00 GMT"}
    theirs = 1_792_567_680_000
    assert date_of(headers) == theirs
    assert date_of({"date": "nonsense"}) is None
    assert date_of({}) is None


def test_D4_a_blocked_queue_is_probed_after_1_2_4_to_30_minutes_and_at_once_when_asked_to() -> None:
    block, now, minutes = Block(), 0, []
    for _ in range(8):
        wait = block.put(now)
        assert block.closed_for(now) == wait
        now += wait
        minutes.append(wait // 60_000)
    assert minutes == [1, 2, 4, 8, 16, 30, 30, 30]
    block.put(now)
    block.try_now(now)
    assert block.closed_for(now) == 0
    assert block.put(now) == 0  # the probe that was on its way does not answer for what was mended since
    block.probing()
    assert block.put(now) == 60_000  # and gently from there


def test_a_state_is_told_once_and_ended_by_the_first_answer() -> None:
    pacing = Pacing(retry.Backoff(10, 100))
    throttled = Verdict(kind=Kind.THROTTLED, message="m")
    assert [pacing.fault(throttled, n, 0.5) for n in range(3)] == ["throttled", None, None]
    assert pacing.success(10, 1) is True
    assert pacing.success(11, 1) is False
    assert pacing.pace.per_second is not None  # slower for a while, but no longer in trouble
    failing = Verdict(kind=Kind.TRANSIENT, message="m")
    assert [pacing.fault(failing, n, 0.5) for n in range(6)] == [None, None, None, None, "failing", None]


def test_an_alert_is_not_repeated_within_the_hour_however_it_flaps() -> None:
    alerts = Alerts(AlertsConfig(webhook_url="http://127.0.0.1:1/"))
    for minute in range(0, 61, 10):
        alerts.raised("throttled", "111", "m", minute * 60_000)
        alerts.cleared("111", minute * 60_000 + 1)
    states = [alerts._queue.get_nowait().state for _ in range(alerts._queue.qsize())]
    assert states == ["raised", "cleared", "raised", "cleared"]
