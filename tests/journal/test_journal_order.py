"""The final answer does not depend on the order in which clicks and conversions arrive, confidenceScore included.

Nor on whether anybody looked. Each permutation plays in a store of its own, so that one journal serves them all: a
store knows nothing of another. Sets that span more than 96 hours arrive as late as late.py promises to bear.
"""

from __future__ import annotations

import itertools
import os
import random
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest

from collector.config import StoreConfig
from collector.core import flags
from collector.core.events import StoredClick
from collector.core.matching import Match
from collector.exchange.operations import Again
from collector.exchange.rows import ClickRow
from collector.storage.index import index, lookup
from collector.storage.index.frequency import Frequencies
from collector.storage.journal import transaction
from tests.kit.journal_kit import DAY, HOUR, MINUTE, NOW, Kit, click, config_for, order

IPHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5"
PIXEL_PHONE = (
    "Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0 Mobile Safari"
)
HOME, OFFICE = "93.184.216.34", "185.60.216.35"
JANE = {"email": "jane@example.com"}
PHONE = {"phone": "+14155550100"}
FBP = "fb.1.1789000000000.1234567890"


def at(hours: float) -> int:
    return NOW - int(hours * HOUR)


SETS: dict[str, list[dict[str, Any]]] = {
    "one visitor's clicks and orders": [
        click("IwARa00000000", at(50), visitorId="visitor-1", fbp=FBP),
        click("IwARb00000000", at(20), visitorId="visitor-1", fbp=FBP),
        click("IwARc00000000", at(5), visitorId="visitor-2"),
        order("between", at(30), visitorId="visitor-1"),
        order("after", at(1), fbp=FBP),
        order("named", at(2), fbclid="IwARa00000000"),
    ],
    "inference on address and agent": [
        click("IwARa00000000", at(30), ipAddress=HOME, userAgent=IPHONE),
        click("IwARb00000000", at(10), ipAddress=HOME, userAgent=IPHONE),
        click("IwARc00000000", at(9), ipAddress=OFFICE, userAgent=PIXEL_PHONE, visitorId="visitor-3"),
        click("IwARd00000000", at(8), ipAddress=OFFICE, userAgent=IPHONE, visitorId="visitor-4"),
        order("home", at(7), ipAddress=HOME, userAgent=IPHONE),
        order("office", at(6), ipAddress=OFFICE, userAgent=PIXEL_PHONE),
        order("stranger", at(5), ipAddress=HOME, userAgent=PIXEL_PHONE),
    ],
    "a person known by e-mail": [
        click("IwARa00000000", at(40), visitorId="visitor-1"),
        click("IwARb00000000", at(30), visitorId="visitor-2"),
        order("lead", at(39), eventType="Lead", visitorId="visitor-1", customerData=JANE),
        order("second", at(29), eventType="Lead", visitorId="visitor-2", customerData=JANE | PHONE),
        order("cookieless", at(10), customerData=JANE),
        order("by phone", at(9), customerData=PHONE),
    ],
    "a click reported twice, and orders completed later": [
        click("IwARa00000000", at(20), visitorId="visitor-1"),
        click("IwARa00000000", at(30), visitorId="visitor-1"),
        click("IwARb00000000", at(25), visitorId="visitor-1"),
        order("1", at(24)),
        order("1", at(24), visitorId="visitor-1"),
        order("2", at(2), visitorId="visitor-1", customerData=JANE),
    ],
    "a click known from fbc alone, until it comes": [
        order("1", at(10), fbc=f"fb.1.{at(12)}.IwARx00000000"),
        order("2", at(8), fbc=f"fb.1.{at(12)}.IwARx00000000", visitorId="visitor-1"),
        click("IwARx00000000", at(12), visitorId="visitor-1"),
        click("IwARy00000000", at(9), visitorId="visitor-1"),
        order("3", at(1), visitorId="visitor-1"),
    ],
    "a click known from fbc alone is counted once": [
        order("1", at(10), fbc=f"fb.1.{at(12)}.IwARx00000000"),
        click("IwARx00000000", at(12), visitorId="visitor-1", userAgent=IPHONE),
        click("IwARy00000000", at(9), ipAddress=HOME, userAgent=IPHONE),
        order("2", at(7), ipAddress=HOME, userAgent=IPHONE),
    ],
    "an order that names one click and carries the fbc of another": [
        click("IwARa00000000", at(20), visitorId="visitor-1"),
        order("1", at(10), fbclid="IwARa00000000", fbc=f"fb.1.{at(25)}.IwARx00000000"),
        order("2", at(9), fbclid="IwARa00000000", fbc=f"fb.1.{at(12)}.IwARx00000000"),
        click("IwARx00000000", at(12), visitorId="visitor-2"),
    ],
    "an fbc that speaks for its own order alone": [
        click("IwARa00000000", at(7), visitorId="visitor-1"),
        click("IwARa00000000", at(1), visitorId="visitor-1"),
        order("1", at(3), visitorId="visitor-1", fbc=f"fb.1.{at(8)}.IwARx00000000"),
        order("2", at(2), fbclid="IwARx00000000"),
    ],
    "a shared address that grows common": [
        *[
            click(f"IwARs{n:08}", at(20 - n), visitorId=f"visitor-{n}", ipAddress=OFFICE, userAgent=IPHONE)
            for n in range(6)
        ],
        order("1", at(13), ipAddress=OFFICE, userAgent=IPHONE),
        order("2", at(1), ipAddress=OFFICE, userAgent=IPHONE),
    ],
    "a passed-on link": [
        click("IwARp00000000", at(20), visitorId="visitor-1"),
        click("IwARp00000000", at(15), visitorId="visitor-2"),
        click("IwARp00000000", at(10), visitorId="visitor-3"),
        order("1", at(5), fbclid="IwARp00000000"),
        order("2", at(4), fbclid="IwARp00000000", visitorId="visitor-2"),
    ],
    "a renewal with a click of its own": [
        click("IwARa00000000", at(20), visitorId="visitor-1"),
        click("IwARb00000000", at(2), visitorId="visitor-1"),
        order("1", at(10), visitorId="visitor-1"),
        order("2", at(1), visitorId="visitor-1", renewalOf="1"),
        order("3", at(0), renewalOf="2"),
    ],
    "clocks that differ": [
        click("IwARk00000000", at(0), visitorId="visitor-1"),
        order("1", at(0) - 2 * MINUTE, visitorId="visitor-1"),
        click("IwARl00000000", at(0) + 4 * MINUTE, visitorId="visitor-2"),
        order("2", at(0), visitorId="visitor-2"),
    ],
}  # fmt: skip

ONCE_SETS: dict[str, list[dict[str, Any]]] = {
    "an order that finds a nearer click leaves the one it had": [
        click("IwARw00000000", at(40), visitorId="visitor-1"),
        click("IwARx00000000", at(30), visitorId="visitor-1"),
        click("IwARy00000000", at(21), visitorId="visitor-2"),
        order("1", at(20), visitorId="visitor-1", fbclid="IwARy00000000"),
        order("2", at(10), visitorId="visitor-1"),
    ],
    "an order that is completed later leaves the click it had": [
        click("IwARw00000000", at(40), visitorId="visitor-1"),
        click("IwARx00000000", at(30), visitorId="visitor-1"),
        click("IwARy00000000", at(21), visitorId="visitor-2"),
        order("1", at(20), visitorId="visitor-1"),
        order("1", at(20), fbclid="IwARy00000000"),
        order("2", at(10), visitorId="visitor-1"),
    ],
    "each order leaves its click to the next": [
        *[click(f"IwAR{n}00000000", at(60 - n), visitorId="visitor-1") for n in range(4)],
        *[order(f"n{n}", at(20 - n), visitorId="visitor-1") for n in range(3)],
        order("lead", at(20), eventType="Lead", visitorId="visitor-1"),
    ],
}

CLOSING = click("IwARclosing00", at(-240), visitorId="somebody-else")  # after it, every other answer stands
LATEST_MS = 72 * HOUR  # how late anything arrives in a set that spans more than 96 hours


def strangers(first: int, last: int, step: int, **more: Any) -> list[dict[str, Any]]:
    """One click each by people who have nothing to do with the orders."""
    return [click(f"IwARz{n:08}", at(n), visitorId=f"stranger-{n}", **more) for n in range(last, first, step)]


LONG_SETS: dict[str, list[dict[str, Any]]] = {
    "a home and an office, and a shop that grows": [
        click("IwARa00000000", at(330), ipAddress=HOME, userAgent=IPHONE, visitorId="visitor-1"),
        order("home", at(329), ipAddress=HOME, userAgent=IPHONE),
        click("IwARb00000000", at(228), ipAddress=OFFICE, userAgent=PIXEL_PHONE, visitorId="visitor-2"),
        order("office", at(227), ipAddress=OFFICE, userAgent=PIXEL_PHONE),
        click("IwARc00000000", at(112), ipAddress=HOME, userAgent=IPHONE, visitorId="visitor-1"),
        order("home again", at(111), ipAddress=HOME, userAgent=IPHONE),
        *strangers(340, 5, 27, ipAddress=OFFICE, userAgent=IPHONE),
        *strangers(341, 6, 31, ipAddress=HOME, userAgent=PIXEL_PHONE),
    ],
    "one address that everybody shares later": [
        click("IwARa00000000", at(300), ipAddress=OFFICE, userAgent=IPHONE, visitorId="visitor-1"),
        order("1", at(299.5), ipAddress=OFFICE, userAgent=IPHONE),
        *[
            click(f"IwARs{n:08}", at(298 - 6 * n), visitorId=f"visitor-{n}", ipAddress=OFFICE, userAgent=IPHONE)
            for n in range(30)
        ],
        order("2", at(120), ipAddress=OFFICE, userAgent=IPHONE),
    ],
    "proof over two weeks": [
        click("IwARa00000000", at(340), visitorId="visitor-1", fbp=FBP),
        order("1", at(250), visitorId="visitor-1"),
        click("IwARb00000000", at(249), visitorId="visitor-1"),
        order("2", at(140), fbp=FBP),
        click("IwARa00000000", at(130), visitorId="visitor-1", fbp=FBP),
        order("3", at(100), visitorId="visitor-1", fbclid="IwARb00000000"),
        order("4", at(20), fbc=f"fb.1.{at(30)}.IwARx00000000"),
        click("IwARx00000000", at(30), visitorId="visitor-3"),
    ],
    "who signs in within a day, and who after a week": [
        click("IwARa00000000", at(302), visitorId="visitor-1"),
        order("guest", at(300), customerData=JANE),
        order("sign-in", at(280), eventType="Lead", visitorId="visitor-1", customerData=JANE),
        click("IwARb00000000", at(301), visitorId="visitor-2"),
        order("stranger", at(299), customerData=PHONE),
        click("IwARc00000000", at(190), visitorId="visitor-3"),
        order("late sign-in", at(130), eventType="Lead", visitorId="visitor-2", customerData=PHONE),
        order("much later", at(20), customerData=JANE),
    ],
}
Answer = tuple[Any, ...]


@pytest.fixture(autouse=True)
def _visitors_counted_exactly(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The sketch and the 16-bit tags err by the visitors' names, which differ from store to store: not asked here."""
    seen: dict[tuple[int, int], set[tuple[int, int | None]]] = defaultdict(set)
    extend = Frequencies.extend

    def counted(self: Frequencies, rows: Sequence[ClickRow]) -> None:
        extend(self, rows)
        for row in rows:
            if row.flags & flags.UNCOUNTED:
                continue
            who = row.visitor_k if row.visitor_k is not None else row.fbclid_k
            seen[id(self), row.store].add((row.ts // DAY, who))

    def exact(self: Frequencies, store: int, ts: int) -> float:
        return float(len({who for day, who in seen[id(self), store] if ts // DAY - 30 < day <= ts // DAY}))

    monkeypatch.setattr(lookup, "click_tag", lambda row: row.visitor_k or row.fbclid_k or row.id)
    monkeypatch.setattr(index, "VISITOR_TAG", "coalesce(visitor_k, fbclid_k, id)")
    index._fold_statement.cache_clear()
    monkeypatch.setattr(Frequencies, "extend", counted)
    monkeypatch.setattr(Frequencies, "visitors", exact)
    monkeypatch.setattr(transaction, "_LAST_MATCHES", 5_000)
    monkeypatch.setattr(transaction, "_REST", 0)
    yield
    index._fold_statement.cache_clear()


def permutations(bodies: list[dict[str, Any]], most: int, seed: int = 7) -> list[tuple[int, ...]]:
    """All orders of arrival when there are few, else `most` drawn at random; the first is the given one."""
    count = len(bodies)
    if count <= 5:
        return list(itertools.permutations(range(count)))[:most]
    dice = random.Random(seed)
    return [tuple(range(count)), *(tuple(dice.sample(range(count), count)) for _ in range(most - 1))]


def delayed(bodies: list[dict[str, Any]], most: int, seed: int = 7) -> list[tuple[int, ...]]:
    """Orders of arrival in which nothing is more than LATEST_MS behind its store's clock; the first is that of time."""
    dice = random.Random(seed)
    count = range(len(bodies))
    times = [body["at"] for body in bodies]
    found = [tuple(sorted(count, key=lambda i: times[i]))]
    for _ in range(most - 1):
        arrival = [t + dice.random() ** dice.choice((0.2, 1, 5)) * LATEST_MS for t in times]
        found.append(tuple(sorted(count, key=lambda i: arrival[i])))
    return found


def play(
    folder: Path,
    bodies: list[dict[str, Any]],
    orders: list[tuple[int, ...]],
    fold_at: int | None = None,
    looks: str = "at the end",
    count: Literal["every", "one"] = "every",
) -> list[Answer]:
    """The final answer of each order of arrival. All stores go step by step together, so a group holds many stores.

    `looks`: when every answer is asked for. Where nobody looks at the end, an event that closes all comes last.
    """
    config = config_for(folder)
    names = [f"store_{i}" for i in range(len(orders))]
    pixel = config.store[0].pixel
    stores = [StoreConfig(id=name, currency="USD", country="US", pixel=pixel, count=count) for name in names]
    with Kit(folder, config=msgspec.structs.replace(config, store=stores)) as kit:
        for step in range(len(bodies)):
            if step == fold_at:
                kit.fold()
            batch = [
                kit.operation(bodies[order[step]] | {"storeId": name})
                for name, order in zip(names, orders, strict=True)
            ]
            kit.submit(batch)
            if looks == "always":
                look(kit)
        if looks == "at the end":
            look(kit)
        else:
            kit.submit([kit.operation(CLOSING | {"storeId": name}) for name in names])
            all_closed(kit)
        return [final(kit, kit.journal.stores[name].number) for name in names]


def look(kit: Kit) -> None:
    """As the GET of every conversion does."""
    kit.submit([Again(row_id) for (row_id,) in kit.rows("SELECT id FROM conversion")])


def all_closed(kit: Kit) -> None:
    """Until nothing waits for its last match any more."""
    deadline = time.monotonic() + 60
    while kit.rows("SELECT 1 FROM unproven LIMIT 1"):
        assert time.monotonic() < deadline, kit.rows("SELECT * FROM unproven")
        kit.submit([])


def final(kit: Kit, store: int) -> Answer:
    """Every order's answer, in words that do not depend on row ids."""
    clicks = {
        row_id: click_name(body, ts, last)
        for row_id, body, ts, last in kit.rows("SELECT id, body, ts, last_ts FROM click WHERE store = ?", store)
    }
    answers = []
    for body, found in kit.rows("SELECT body, match FROM conversion WHERE store = ?", store):
        event, match = msgspec.msgpack.decode(body), msgspec.msgpack.decode(found, type=Match)
        path = [clicks[i] for i in match.path]
        answer = (
            match.attributed,
            clicks.get(match.click),
            match.confidence,
            match.method,
            match.reason,
            match.best,
            round(match.p_any, 9),
            path,
        )
        answers.append((event["event_type"], event["order_id"], answer))
    real = kit.rows("SELECT id FROM click WHERE store = ? AND flags & ? = 0", store, flags.RECOVERED)
    return (tuple(sorted(clicks[row_id] for (row_id,) in real)), tuple(sorted(answers, key=str)))


def click_name(body: bytes, ts: int, last: int) -> tuple[Any, ...]:
    stored = msgspec.msgpack.decode(body, type=StoredClick)
    return (stored.fbclid, stored.visitor_id or "", NOW - ts, NOW - last)


def assert_one_answer(folder: Path, bodies: list[dict[str, Any]], most: int, fold_at: int | None = None) -> None:
    orders = permutations(bodies, most)
    assert_one(play(folder, bodies, orders, fold_at), orders)


def assert_one(answers: list[Answer], orders: list[tuple[int, ...]]) -> None:
    counts = Counter(map(str, answers))
    if len(counts) > 1:
        usual = counts.most_common(1)[0][0]
        odd = next(i for i, answer in enumerate(answers) if str(answer) != usual)
        good = next(i for i, answer in enumerate(answers) if str(answer) == usual)
        lines = [f"{len(counts)} answers in {len(orders)} orders of arrival: {sorted(counts.values(), reverse=True)}"]
        lines += [f"{orders[good]} (as {counts[usual]} others)", *_show(answers[good])]
        lines += [f"{orders[odd]}", *_show(answers[odd])]
        pytest.fail("\n".join(lines))


def _show(answer: Answer) -> list[str]:
    return [f"    {one}" for part in answer for one in part]


@pytest.mark.parametrize("name", SETS)
def test_every_order_of_arrival_gives_one_answer(tmp_path: Path, name: str) -> None:
    assert_one_answer(tmp_path, SETS[name], 60)


@pytest.mark.parametrize("looks", ["at the end", "always", "never"])
@pytest.mark.parametrize("name", ONCE_SETS)
def test_a_click_that_is_given_once_goes_to_the_same_order_whatever_arrives_first(
    tmp_path: Path, name: str, looks: str
) -> None:
    orders = permutations(ONCE_SETS[name], 60)
    assert_one(play(tmp_path, ONCE_SETS[name], orders, looks=looks, count="one"), orders)


@pytest.mark.parametrize("name", SETS)
def test_a_fold_on_the_way_changes_nothing(tmp_path: Path, name: str) -> None:
    assert_one_answer(tmp_path, SETS[name], 24, fold_at=len(SETS[name]) // 2)


@pytest.mark.parametrize("name", SETS)
def test_nobody_has_to_look(tmp_path: Path, name: str) -> None:
    """In every order of arrival the answers that stand in the end are those that looking would have given."""
    orders = permutations(SETS[name], 30)
    unread = play(tmp_path / "unread", SETS[name], orders, looks="never")
    assert_one(unread, orders)
    assert_one([*unread, *play(tmp_path / "read", SETS[name], orders[:20], looks="always")], [*orders, *orders[:20]])
    looked = play(tmp_path / "end", SETS[name], orders[:1], looks="at the end")
    assert [unread[0][1]] == [answer[1] for answer in looked]


@pytest.mark.parametrize("looks", ["never", "always"])
@pytest.mark.parametrize("name", LONG_SETS)
def test_what_takes_longer_than_96_hours_has_one_answer_too(tmp_path: Path, name: str, looks: str) -> None:
    orders = delayed(LONG_SETS[name], 30)
    assert_one(play(tmp_path, LONG_SETS[name], orders, looks=looks), orders)


@pytest.mark.parametrize("name", LONG_SETS)
def test_long_sets_with_folds_on_the_way(tmp_path: Path, name: str) -> None:
    """The first order of arrival once with, the others without what the index adds."""
    orders = delayed(LONG_SETS[name], 12)
    plain = play(tmp_path / "tail", LONG_SETS[name], orders, looks="never")
    for third in (1, 2):
        fold_at = len(LONG_SETS[name]) * third // 3
        folded = play(tmp_path / f"fold{third}", LONG_SETS[name], orders, fold_at, looks="never")
        assert_one([*plain, *folded], [*orders, *orders])


@pytest.mark.parametrize(("days", "revision"), [(3.9, 1), (4.1, 0)])
def test_after_96_hours_of_event_time_an_answer_stands(tmp_path: Path, days: float, revision: int) -> None:
    """Whatever the wall clock says: the store has seen something that much later than the order."""
    with Kit(tmp_path) as kit:
        (ordered,) = kit.post(order("1", at(24 * days), visitorId="visitor-1"))
        kit.post(order("2", at(0), visitorId="visitor-2"))
        kit.post(click("IwARlate00000", at(24 * days + 1), visitorId="visitor-1"))
        kit.submit([Again(ordered.state.row.id)])
        state = kit.state(ordered.state.row.id)
        assert (state.row.revision, state.match.attributed) == (revision, bool(revision))


@pytest.mark.slow
@pytest.mark.parametrize("name", SETS)
def test_a_thousand_orders_of_arrival(tmp_path: Path, name: str) -> None:
    assert_one_answer(tmp_path, SETS[name], int(os.environ.get("PERMUTATIONS", "1000")))


@pytest.mark.slow
@pytest.mark.parametrize("name", LONG_SETS)
def test_a_thousand_delays(tmp_path: Path, name: str) -> None:
    orders = delayed(LONG_SETS[name], int(os.environ.get("PERMUTATIONS", "1000")))
    assert_one(play(tmp_path, LONG_SETS[name], orders, looks="never"), orders)


def test_the_check_sees_a_matcher_that_never_looks_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: without re-opening, the first answer stands, and the orders of arrival differ."""
    from collector.storage.journal.late import Late

    monkeypatch.setattr(Late, "_reopen", lambda *_: None)
    monkeypatch.setattr(Late, "again", lambda *_: None)
    with pytest.raises(pytest.fail.Exception, match="answers in"):
        assert_one_answer(tmp_path, SETS["one visitor's clicks and orders"], 60)


def test_the_check_sees_that_nobody_matches_a_last_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: closed as they stand, the inferences that nobody asked for differ."""
    from collector.storage.journal.late import Late

    monkeypatch.setattr(Late, "_last", lambda *_: None)
    bodies = LONG_SETS["a home and an office, and a shop that grows"]
    orders = delayed(bodies, 60)
    with pytest.raises(pytest.fail.Exception, match="answers in"):
        assert_one(play(tmp_path, bodies, orders, looks="never"), orders)


def test_the_check_sees_figures_that_count_what_came_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: with figures of all that is known at the last match, not of the order's own time."""
    monkeypatch.setattr(lookup.Lookup, "_newest", _newest_whenever)
    bodies = LONG_SETS["a home and an office, and a shop that grows"]
    orders = delayed(bodies, 60)
    with pytest.raises(pytest.fail.Exception, match="answers in"):
        assert_one(play(tmp_path, bodies, orders, looks="never"), orders)


def _newest_whenever(
    self: lookup.Lookup, key: str, name: int, until: int, limit: int, since: int = 0
) -> list[ClickRow]:
    return [row for i in self.clicks.find(key, name, limit) if (row := self.clicks.get(i)) is not None]
