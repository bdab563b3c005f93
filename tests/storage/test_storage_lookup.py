"""Folding, restarting and a second life change no answer: the tail and the index are one, and so are the sums."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import apsw
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from collector.errors import ApiError, StorageError
from collector.exchange.operations import Withdraw
from collector.storage.index import index
from collector.storage.index.bloom import Bloom
from collector.storage.index.frequency import Frequencies
from tests.kit.journal_kit import DAY, HOUR, MINUTE, NOW, Kit, click, order
from tests.kit.program import wait_until

AGENTS = ("Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X)", "Mozilla/5.0 (Linux; Android 14; Pixel 8)")
ADDRESSES = ("93.184.216.34", "185.60.216.35", "2a03:2880:f12f:83::25de")
FEW = st.integers(0, 2)


FAST = (Phase.explicit, Phase.reuse, Phase.generate)  # each example opens two databases: shrinking takes minutes


def maybe(values: Any) -> Any:
    return st.none() | values


KEYS = st.fixed_dictionaries(
    {
        "visitorId": maybe(FEW.map("visitor-{}".format)),
        "fbp": maybe(FEW.map("fb.1.1789000000000.{}123456".format)),
        "ipAddress": maybe(st.sampled_from(ADDRESSES)),
        "userAgent": maybe(st.sampled_from(AGENTS)),
        "fingerprint": maybe(FEW.map("a1b2c3d4e5f6a7{}".format)),
    }
)
HOURS = st.integers(0, 90)
CLICKS = st.builds(lambda n, h, keys: click(f"IwAReq{n}000000", NOW - h * HOUR, **keys), st.integers(0, 5), HOURS, KEYS)
ORDERS = st.builds(
    lambda n, h, keys, mail: order(f"n{n}", NOW - h * HOUR, **keys, **mail),
    st.integers(0, 5),
    HOURS,
    KEYS,
    maybe(FEW.map(lambda n: {"customerData": {"email": f"jane{n}@example.com"}})).map(lambda m: m or {}),
)
STEPS = st.lists(CLICKS | ORDERS | st.sampled_from(["fold", "restart"]), min_size=4, max_size=25)


class Lives:
    """One database through folds and restarts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.kit = Kit(folder)

    def do(self, step: Any) -> Any:
        if step == "restart":
            self.kit.close()
            self.kit = Kit(self.folder)
        elif step == "fold":
            self.kit.fold()
        else:
            body = {name: value for name, value in step.items() if value is not None}
            return plain(self.kit.post(body)[0])
        return None


def plain(result: Any) -> Any:
    """A result as values."""
    if isinstance(result, ApiError):
        return (result.code, result.field)
    if hasattr(result, "state"):
        return (result.duplicate, result.state.row.id, result.state.match, result.state.state)
    return (result.duplicate, result.id, result.ts)


@contextmanager
def two(steps: list[Any]) -> Iterator[tuple[Lives, Lives]]:
    with tempfile.TemporaryDirectory() as folder:
        tried, plain_life = Path(folder, "tried"), Path(folder, "plain")
        first = Lives(tried)
        plain_life.mkdir()
        shutil.copy(tried / "pepper.key", plain_life)  # the same names in both
        second = Lives(plain_life)
        try:
            yield first, second
        finally:
            first.kit.close()
            second.kit.close()


TABLES = (
    "SELECT * FROM click ORDER BY id",
    "SELECT id, ts, dedup_k, click, confidence, method, revision, capi, body, match FROM conversion ORDER BY id",
    "SELECT id, conversion, pixel, state FROM outbox ORDER BY id",
    "SELECT * FROM identity_link ORDER BY 1, 2, 3, 4",
)


@settings(max_examples=15, suppress_health_check=list(HealthCheck), phases=FAST)
@given(STEPS)
def test_folds_and_restarts_change_no_answer(steps: list[Any]) -> None:
    check_equal(steps)


@pytest.mark.slow
@settings(max_examples=150, suppress_health_check=list(HealthCheck), phases=FAST)
@given(STEPS)
def test_folds_and_restarts_change_no_answer_at_length(steps: list[Any]) -> None:
    check_equal(steps)


def check_equal(steps: list[Any]) -> None:
    with two(steps) as (tried, simple):
        for number, step in enumerate(steps):
            answer = tried.do(step)
            if isinstance(step, dict):
                assert answer == simple.do(step), f"step {number}"
        for sql in TABLES:
            assert tried.kit.rows(sql) == simple.kit.rows(sql)
        tried.do("restart")
        assert sums(tried.kit) == sums(simple.kit)


def sums(kit: Kit) -> Any:
    """Every figure of the frequencies, without empty ones."""
    frequencies: Frequencies = kit.transaction.lookup.frequencies
    frequencies.visitors(1, NOW)  # a question counts what waits
    hours = {(s, h): n for s, by_hour in frequencies._hours.items() for h, n in by_hour.items() if n}
    agents = {(key, ua): n for key, by_agent in frequencies._agents.items() for ua, n in by_agent.items() if n}
    sketches: dict[int, bytes] = {}  # of all days: one that lost a click to an earlier day keeps its visitor
    for (store, _), sketch in frequencies._sketches.items():
        sketches[store] = bytes(map(max, sketch, sketches.get(store, bytes(len(sketch)))))
    return hours, agents, sketches


def test_sums_of_old_conversions_survive_a_restart(tmp_path: Path) -> None:
    """An order may come 90 days late; its weeks' sums must still be there after a restart."""
    with Kit(tmp_path) as kit:
        for weeks in range(13):
            at = NOW - weeks * 7 * DAY
            kit.post(
                *[
                    click(f"IwARold{weeks:02}{n}000", at, userAgent=AGENTS[n % 2], visitorId=f"v{weeks}{n}")
                    for n in range(4)
                ]
            )
        before = sums(kit)
        kit.fold()
        assert sums(kit) == before
    with Kit(tmp_path) as kit:
        assert sums(kit) == before


def test_a_repeated_click_takes_nothing_from_those_beside_it(tmp_path: Path) -> None:
    """A later sighting writes what the group has so far; address and agent of the clicks after it are written too."""
    with Kit(tmp_path) as kit:
        kit.post(busy(0, NOW) | {"ipAddress": ADDRESSES[0]})
        numbers = (1, 0, 2)
        kit.submit([kit.operation(busy(n, NOW + 5 * MINUTE) | {"ipAddress": ADDRESSES[0]}) for n in numbers])
        rows = kit.rows("SELECT click.id, ip, user_agent FROM click LEFT JOIN click_network USING (id) ORDER BY id")
    assert rows == [(n + 1, ADDRESSES[0], AGENTS[n % 2]) for n in range(3)]


def test_the_sketch_counts_visitors_within_its_error(tmp_path: Path) -> None:
    with Kit(tmp_path) as kit:
        for start in range(0, 20_000, 1000):
            numbers = range(start, start + 1000)
            kit.submit([kit.operation(click(f"IwARcount{n:08}", visitorId=f"visitor-{n % 5000}")) for n in numbers])
        live = kit.transaction.lookup.frequencies.visitors(1, NOW)
        assert live == pytest.approx(5000, rel=0.10)
        kit.fold()
    with Kit(tmp_path) as kit:
        assert kit.transaction.lookup.frequencies.visitors(1, NOW) == live


@pytest.mark.parametrize("steps", [1, 5])
def test_the_sums_of_a_busy_day_are_those_of_a_row_by_row_count(tmp_path: Path, steps: int) -> None:
    """Within a day a fold sums by shorter statements, and both it and the writer pass over most visitors unseen.

    Judged by the definition: of each register the highest position of a first set bit, of each hour and agent a count.
    """
    stamps = [NOW + n * 977 % (3 * HOUR) for n in range(25_000)]
    with Kit(tmp_path) as kit:
        for first in range(0, len(stamps), 5000):
            for start in range(first, first + 5000, 1000):
                kit.submit([kit.operation(busy(n, stamps[n])) for n in range(start, start + 1000)])
            if first % (25_000 // steps) == 0:
                kit.fold()
        live = sums(kit)
        rows = kit.rows("SELECT ts, visitor_k, ua_k FROM click")
        kit.fold()
    registers = bytearray(1 << 10)
    for _, visitor, _ in rows:
        upper, register = visitor >> 10 & (1 << 52) - 1, visitor & (1 << 10) - 1
        registers[register] = max(registers[register], 53 - (upper | 1).bit_length())
    hours, agents = Counter((1, ts // HOUR) for ts, _, _ in rows), Counter(((1, ts // DAY), ua) for ts, _, ua in rows)
    assert live == (hours, agents, {1: bytes(registers)})
    with Kit(tmp_path) as kit:
        assert sums(kit) == live, "as the folds have written them"


def busy(n: int, at: int) -> dict[str, Any]:
    return click(f"IwARbusy{n:06}", at, visitorId=f"visitor-{n}", userAgent=AGENTS[n % 2])


@given(st.sets(st.integers(-(1 << 63), (1 << 63) - 1), max_size=200), st.integers(-(1 << 63), (1 << 63) - 1))
def test_the_filter_never_denies_what_it_was_told(names: set[int], other: int) -> None:
    bloom = Bloom(bits=12)
    for name in names:
        bloom.add(name)
    assert all(bloom.add(name) for name in names)
    if not names:
        assert not bloom.add(other)


@pytest.mark.parametrize("bits", [27, 30])
def test_the_filter_is_rarely_wrong(bits: int) -> None:
    """At the two names per word that `holding` allows: 0.09 %. Four bits for a name make it 0.2 %, and bits that follow
    from the word's own number, of which a large filter needs more of the name, several times that."""
    bloom, random = Bloom(bits), Random(1)
    words = 1 << 16  # the first ones: so many are filled in half a second
    span = words << 44 - (bits - 6)
    for _ in range(2 * words):
        bloom.add(random.randrange(span))
    wrong = sum(bloom.add(random.randrange(span)) for _ in range(50_000))
    assert 0 < wrong / 50_000 < 0.0012


@pytest.mark.parametrize(("names", "megabytes"), [(0, 16), (3_000_000, 16), (10_000_000, 64), (10**9, 128)])
def test_the_filter_has_room_for_what_is_stored(names: int, megabytes: int) -> None:
    """At 10⁷ names a filter of 16 MB sends one new click in sixty to fifty buckets of the index."""
    assert Bloom.holding(names)._words.nbytes == megabytes << 20


def test_many_names_at_once_are_the_same_as_one_by_one() -> None:
    one, many, random = Bloom(bits=12), Bloom(bits=12), Random(1)
    names = [random.getrandbits(63) - (1 << 62) for _ in range(100)]
    for name in names:
        one.add(name)
    many.update(names)
    assert many._words == one._words
    assert all(many.add(name) for name in names)


def test_the_filter_learns_an_index_by_its_low_bits() -> None:
    """The index keeps 44 bits of a name under its bucket; the filter must know the name by them."""
    bloom = Bloom(bits=12)
    name = -123456789012345678
    bloom.add(7 << 44 | name & ((1 << 44) - 1))
    assert bloom.add(name)


def test_a_late_click_finds_an_order_by_a_key_that_it_gained_after_its_fold(tmp_path: Path) -> None:
    with Kit(tmp_path) as kit:
        (ordered,) = kit.post(order("1", NOW))
        kit.fold()
        kit.post(order("1", NOW, visitorId="visitor-1"))
    with Kit(tmp_path) as kit:
        (clicked,) = kit.post(click("IwARgain00000", NOW - HOUR, visitorId="visitor-1"))
        assert kit.state(ordered.state.row.id).match.click == clicked.id


def test_a_folded_click_is_found_at_its_earlier_time_at_once(tmp_path: Path) -> None:
    """Reported first after the order, then from before it: the index has the later minute until its folder is there."""
    keys = {"ipAddress": ADDRESSES[0], "userAgent": AGENTS[0]}
    with Kit(tmp_path) as kit:
        (first,) = kit.post(click("IwAReq1000000", NOW - HOUR, visitorId="visitor-1", **keys))
        (taken,) = kit.post(order("1", NOW - 2 * HOUR, **keys))
        assert taken.state.match.reason == "no_candidate"
        kit.fold()
        (again,) = kit.post(click("IwAReq1000000", NOW - 3 * HOUR, visitorId="visitor-1", **keys))
        assert (again.id, again.ts) == (first.id, NOW - 3 * HOUR)
        assert kit.rows("SELECT click, method, revision FROM conversion") == [(first.id, "probabilistic", 1)]
        assert kit.rows("SELECT count(*) FROM unproven") == [(1,)], "before its last match, which heals what is missed"


def test_a_transaction_undone_takes_back_the_earlier_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or an order from before the click would count its visitor among those on the address."""
    with Kit(tmp_path) as kit:
        kit.post(click("IwAReq1000000", NOW - HOUR, visitorId="visitor-1", ipAddress=ADDRESSES[0]))
        kit.fold()
        earlier = click("IwAReq1000000", NOW - 3 * HOUR, visitorId="visitor-1", ipAddress=ADDRESSES[0])
        with monkeypatch.context() as patch:
            patch.setattr(kit.transaction, "commit", failing)
            with pytest.raises(StorageError):
                kit.post(earlier)
        lookup, before = kit.transaction.lookup, NOW - 2 * HOUR
        (row,) = lookup.click_rows({1})
        assert lookup._visitors_on("ip", row.ip_k, before) == 0
        kit.post(earlier)
        assert lookup._visitors_on("ip", row.ip_k, before) == 1, "control"


HOME = {"ipAddress": ADDRESSES[0], "userAgent": AGENTS[0]}


def withdraw(kit: Kit, visitor: str) -> None:
    kit.submit([Withdraw(1, visitor, kit.journal.names.name(1, "visitor", visitor))])


@pytest.mark.parametrize("folded", [False, True])
def test_a_withdrawn_click_counts_after_a_restart_as_before_it(tmp_path: Path, folded: bool) -> None:
    """It counts no more, at once; only the index's sketch, an estimate, keeps a visitor whom it has seen."""
    with Kit(tmp_path) as kit:
        kit.post(*[click(f"IwAReq{n}000000", NOW - HOUR, visitorId=f"visitor-{n}", **HOME) for n in range(3)])
        if folded:
            kit.fold()
        _, _, all_three = sums(kit)
        withdraw(kit, "visitor-1")
        before = sums(kit)
        assert list(before[0].values()) == [2]
        assert (before[2] == all_three) == folded
        (told,) = kit.post(order("1", NOW, **HOME))
    with Kit(tmp_path) as kit:
        assert sums(kit) == before
        (again,) = kit.post(order("2", NOW, **HOME))
        assert again.state.match == told.state.match


def test_an_order_of_who_withdrew_has_the_same_reason_before_and_after_a_restart(tmp_path: Path) -> None:
    orders = [order("1", visitorId="visitor-1"), order("2", fbclid="IwAReq1000000"), order("3", **HOME)]
    with Kit(tmp_path) as kit:
        kit.post(click("IwAReq1000000", NOW - HOUR, visitorId="visitor-1", **HOME))
        withdraw(kit, "visitor-1")
        told = [result.state.match.reason for result in kit.post(*orders)]
    with Kit(tmp_path) as kit:
        again = kit.post(*[body | {"orderId": f"again {body['orderId']}"} for body in orders])
    assert told == [result.state.match.reason for result in again] == ["no_candidate", "consent", "no_candidate"]


def test_a_withdrawal_undone_counts_and_finds_the_click_as_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Kit(tmp_path) as kit:
        kit.post(*[click(f"IwAReq{n}000000", NOW - HOUR, visitorId=f"visitor-{n}", **HOME) for n in range(2)])
        before = sums(kit)
        with monkeypatch.context() as patch:
            patch.setattr(kit.transaction, "commit", failing)
            with pytest.raises(StorageError):
                withdraw(kit, "visitor-1")
        assert sums(kit) == before
        (told,) = kit.post(order("1", visitorId="visitor-1"))
        assert told.state.match.click == 2


@pytest.mark.parametrize("folds", [("before",), ("after",), ("before", "after"), ()], ids=" and ".join)
def test_a_crash_before_the_folder_comes_loses_no_earlier_time_and_counts_it_once(
    tmp_path: Path, folds: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the click was folded before it moved or moved before it was folded."""
    life, crashed = tmp_path / "life", tmp_path / "crashed"
    keys = {"visitorId": "visitor-1", "ipAddress": ADDRESSES[0], "userAgent": AGENTS[1]}
    with Kit(life) as kit:
        with monkeypatch.context() as patch:
            patch.setattr(index, "follow", lambda _: None)
            kit.post(click("IwAReq1000000", NOW - HOUR, **keys))
            if "before" in folds:
                kit.fold()
            kit.post(click("IwAReq1000000", NOW - 3 * HOUR, **keys))
            kit.post(click("IwAReq1000000", NOW - 26 * HOUR, **keys))
            if "after" in folds:
                kit.post(click("IwAReq2000000", NOW, visitorId="visitor-2"))
                kit.fold()
            shutil.copytree(life, crashed)
        expected = sums(kit)
        hours = {hour for (_, hour) in expected[0]}
        assert hours == {(NOW - 26 * HOUR) // HOUR, *([NOW // HOUR] if "after" in folds else [])}
        (taken,) = kit.post(order("1", NOW - 2 * HOUR, ipAddress=ADDRESSES[0], userAgent=AGENTS[1]))
    for _ in range(2):  # the second start finds what the first one's folder has made of it
        with Kit(crashed) as kit:
            assert sums(kit) == expected
            (again,) = kit.post(order("1", NOW - 2 * HOUR, ipAddress=ADDRESSES[0], userAgent=AGENTS[1]))
            assert again.state.match == taken.state.match
            assert again.state.match.click == 1
            assert wait_until(lambda kit=kit: not kit.rows("SELECT count(*) FROM changed_click")[0][0], 5.0)


def failing(*_: Any) -> None:
    raise apsw.IOError("io")
