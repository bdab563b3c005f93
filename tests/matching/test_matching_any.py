"""Whatever is stored and whatever arrives, the matcher answers, within its bounds, with evidence that sums."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from collector.core import explain
from collector.core.learning import learn
from collector.core.matching import DEFAULT_MODEL, Candidate, Policy, Query, Statistics, match
from tests.kit.journal_kit import DAY

NOW = 1_780_000_000_000
few = st.none() | st.integers(1, 4)  # few names, so that they meet
times = st.integers(NOW - 100 * DAY, NOW + DAY) | st.sampled_from(
    [NOW, NOW - 7 * DAY, NOW - 7 * DAY - 1, NOW + 300_000]
)
classes = st.sampled_from([0, 0x910481, 0x1110481, 0x1_900000, 0x133_0000])
flag_bits = st.sampled_from([0, 0, 0, 1, 2, 4, 8, 16, 32, 64, 256, 1 << 16, 2 << 16])
counts = st.floats(0, 1e7)
clicks = st.builds(
    Candidate,
    id=st.integers(1, 40),
    ts=times,
    last_ts=times,
    fbclid_k=few,
    visitor_k=few,
    fbp_k=few,
    ip_k=few,
    ua_k=few,
    fp_k=few,
    ua_class=classes,
    flags=flag_bits,
)
queries = st.builds(
    Query,
    ts=st.just(NOW),
    fbclid_k=few,
    fbc_k=few,
    visitor_k=few,
    fbp_k=few,
    ip_k=few,
    ua_k=few,
    fp_k=few,
    ua_class=classes,
    flags=flag_bits,
    click_id=few,
    fbc_created=st.none() | times,
    jar_since=st.none() | times,
    fbc_foreign=st.booleans(),
    identity_visitors=st.dictionaries(
        st.integers(1, 4), st.sampled_from(["external_id", "email", "phone", "email_weak"])
    ),
    consent=st.sampled_from(["granted", "denied", "pending"]),
    taken=st.frozensets(st.integers(1, 40), max_size=3),
)
statistics = st.builds(
    Statistics,
    clicks_in_window=counts,
    visitors=counts,
    visitors_on_ip=counts,
    visitors_on_ua=counts,
    visitors_on_fp=counts,
)
windows = st.sampled_from([1, 7, 28, 30, 90])


@settings(max_examples=400)
@given(queries, st.lists(clicks, max_size=12, unique_by=lambda c: c.id), statistics, windows, st.randoms())
def test_any_input(query: Query, found: list[Candidate], about: Statistics, days: int, random: object) -> None:
    policy = Policy(window_ms=days * DAY)
    answer = match(query, found, about, DEFAULT_MODEL, policy)
    assert answer.attributed == (answer.method is not None) == (answer.reason is None)
    assert answer.confidence in range(50, 100) if answer.attributed else answer.confidence == 0
    assert abs(sum(e.bits for e in answer.evidence) - answer.log_odds_bits) < 1e-6
    assert answer.attributed <= (query.consent != "denied")
    credited = next((c for c in found if c.id == answer.click), None)
    if credited is not None:
        assert -300_000 <= NOW - credited.ts <= policy.window_ms
        assert credited.id not in query.taken
        assert not credited.flags & (1 | 2 | 4 | 8 | 256)
    shuffled = list(found)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert match(query, shuffled, about, DEFAULT_MODEL, policy) == answer
    assert explain.explain(answer).summary
    learn(DEFAULT_MODEL, [answer], decoys=[answer], now=NOW)
