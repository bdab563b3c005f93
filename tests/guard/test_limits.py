"""Token buckets: exact, bounded in memory, honest in their headers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.core.addresses import match_prefix
from collector.edge.limits import TokenBuckets, Verdict


def allowed(buckets: TokenBuckets, key: str, now: float, asks: int) -> int:
    return sum(buckets.take(key, now).allowed for _ in range(asks))


def test_a_burst_is_twice_the_rate_and_then_the_rate_holds() -> None:
    buckets = TokenBuckets("address", 100)
    assert allowed(buckets, "a", 1000.0, 500) == 200
    assert allowed(buckets, "a", 1000.5, 500) == 50
    assert allowed(buckets, "a", 1001.5, 500) == 100
    assert allowed(buckets, "a", 9999.0, 500) == 200


def test_keys_do_not_share() -> None:
    buckets = TokenBuckets("address", 1)
    assert allowed(buckets, "a", 0.0, 9) == 2
    assert allowed(buckets, "b", 0.0, 9) == 2


def test_rate_zero_is_no_limit_and_keeps_nothing() -> None:
    buckets = TokenBuckets("key", 0)
    assert allowed(buckets, "a", 0.0, 10_000) == 10_000
    assert len(buckets) == 0


def test_a_refusal_takes_nothing_and_says_when_to_return() -> None:
    buckets = TokenBuckets("key", 10)
    assert buckets.take("a", 0.0, cost=20).allowed
    refused = [buckets.take("a", 0.0, cost=5) for _ in range(50)][-1]
    assert not refused.allowed
    assert refused.retry_after == pytest.approx(0.5)
    assert not buckets.take("a", 0.49, cost=5).allowed
    assert buckets.take("a", 0.51, cost=5).allowed


def test_a_cost_above_the_burst_needs_a_full_bucket() -> None:
    buckets = TokenBuckets("key", 10)
    assert buckets.take("a", 0.0, cost=1000).allowed
    assert not buckets.take("a", 1.0, cost=1000).allowed
    assert buckets.take("a", 2.001, cost=1000).allowed


def test_remaining_counts_down() -> None:
    buckets = TokenBuckets("address", 2)
    assert [buckets.take("a", 0.0).remaining for _ in range(5)] == [3, 2, 1, 0, 0]


def test_the_headers_of_a_refusal() -> None:
    buckets = TokenBuckets("address", 100)
    allowed(buckets, "a", 0.0, 200)
    assert dict(buckets.take("a", 0.0).headers()) == {
        b"ratelimit-policy": b'"address";q=200;w=2',
        b"ratelimit": b'"address";r=0;t=1',
        b"retry-after": b"1",
    }


def test_an_answer_that_was_allowed_carries_no_retry_after() -> None:
    headers = dict(TokenBuckets("key", 5).take("a", 0.0).headers())
    assert headers == {
        b"ratelimit-policy": b'"key";q=10;w=2',
        b"ratelimit": b'"key";r=9;t=2',
    }


def test_a_clock_that_goes_back_costs_at_most_an_empty_bucket() -> None:
    buckets = TokenBuckets("address", 10)
    allowed(buckets, "a", 1_000_000.0, 20)
    verdict = buckets.take("a", 5.0)
    assert not verdict.allowed
    assert verdict.retry_after <= 2.0


def test_a_million_addresses_stay_within_the_bound_and_the_busy_one_is_kept() -> None:
    """A flood of 100,000 (twice the bound) IPv6 addresses leaves 50,000 entries, and no pardon for its source."""
    buckets = TokenBuckets("address", 1)
    assert allowed(buckets, "busy", 0.0, 3) == 2
    for number in range(100_000):
        buckets.take(f"2001:db8:{number >> 16:x}:{number & 0xFFFF:x}::/64", 0.0)
        if number % 1000 == 0:
            buckets.take("other", 0.0)
            assert not buckets.take("busy", 0.0).allowed
    assert len(buckets) == 50_000
    assert sys.getsizeof(buckets._full_at) < 12 * 1024 * 1024


@pytest.mark.slow
def test_a_million_addresses_cost_little_memory() -> None:
    """In a process of its own: the map, its keys and the parsers' caches stay within 25 MiB."""
    program = """
from collector.core.addresses import match_prefix, normalise
from collector.edge.limits import TokenBuckets
def resident(): return int(open("/proc/self/statm").read().split()[1]) * 4096 / 2**20
buckets, before = TokenBuckets("address", 100), resident()
for i in range(1_000_000):
    buckets.take(match_prefix(normalise(f"2001:db8:{i >> 16:x}:{i & 0xFFFF:x}::1")), i * 1e-4)
print(resident() - before)
"""
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=root)
    assert float(done.stdout) < 25


def test_one_household_of_ipv6_has_one_bucket() -> None:
    buckets = TokenBuckets("address", 10)
    asks = [buckets.take(match_prefix(f"2001:db8:1:2::{number:x}"), 0.0).allowed for number in range(100)]
    assert sum(asks) == 20


STEPS = st.lists(st.tuples(st.floats(0, 3), st.integers(1, 5)), min_size=1, max_size=200)


def reference(rate: int, steps: list[tuple[float, int]]) -> list[bool]:
    """The bucket as textbooks draw it: tokens that drip in."""
    tokens, answers = 2.0 * rate, []
    for wait, cost in steps:
        tokens = min(2.0 * rate, tokens + wait * rate)
        granted = tokens >= cost - 1e-6
        tokens -= cost if granted else 0
        answers.append(granted)
    return answers


@given(st.integers(3, 1000), STEPS)
def test_the_bucket_agrees_with_the_textbook(rate: int, steps: list[tuple[float, int]]) -> None:
    buckets, now, answers = TokenBuckets("key", rate), 1e6, []
    for wait, cost in steps:
        now += wait
        answers.append(buckets.take("a", now, cost).allowed)
    expected = reference(rate, steps)
    assert abs(sum(answers) - sum(expected)) <= 1  # rounding may shift one grant by a moment


@settings(max_examples=20)
@given(st.integers(1, 100), st.integers(1, 10))
def test_never_more_than_burst_plus_rate_in_any_span(rate: int, seconds: int) -> None:
    buckets = TokenBuckets("key", rate)
    granted = sum(allowed(buckets, "a", 50.0 + tenth / 10, rate) for tenth in range(seconds * 10 + 1))
    assert abs(granted - (2 * rate + rate * seconds)) <= 1


def test_a_verdict_is_a_value() -> None:
    assert isinstance(TokenBuckets("key", 1).take("a", 0.0), Verdict)
