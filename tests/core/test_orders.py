"""Which telling of an order wins: the rules by name, and every order of arrival with repeats (core/orders.py)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from decimal import Decimal
from itertools import combinations, permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from collector.core import amounts, orders, refunds, statuses
from collector.core.capi import gate
from collector.core.capi.gate import Terms
from collector.core.capi.states import CapiState
from collector.core.events import Fact, StoredEvent
from collector.core.orders import Browser, Rank
from collector.core.statuses import Status
from collector.errors import ApiError

T0 = 1_790_000_000_000
MINUTE, DAY = 60_000, 86_400_000
PAID_STORE = Terms(send_purchase_on="paid")


def told(
    status: str | None = None,
    at: int | None = None,
    *,
    received: int = T0,
    rank: Rank = Rank.SERVER,
    value: float | str = 10,
    edited: bool = False,
    **more: Any,
) -> StoredEvent:
    """One telling of an order, as intake makes it; `at`: its statusAt."""
    event = StoredEvent(
        event_type="Purchase",
        event_id="e",
        order_id="1",
        ts=more.pop("ts", received),
        received=received,
        rank=int(rank),
        order_status=status,
        value=Decimal(str(value)),
        currency="USD",
        unconfirmed=rank is Rank.PAGE,
        **more,
    )
    if at is not None or edited:
        event.told = [orders.fact(event, at, edited=edited)]
    return orders.settled(event)


def all_of(*tellings: StoredEvent) -> StoredEvent:
    kept, *others = tellings
    for other in others:
        kept = orders.tell(kept, other)
    return kept


# -- L1, L2


@pytest.mark.parametrize(
    ("text", "status"),
    [
        *[
            (word, Status.PAID)
            for word in ("paid", "PAID", " Paid ", "processing", "completed", "captured", "wc-completed")
        ],
        *[(word, Status.PENDING) for word in ("pending", "on-hold", "ON_HOLD", "awaiting payment", "partially_paid")],
        *[(word, Status.CANCELLED) for word in ("cancelled", "Canceled", "wc-cancelled", "trash")],
        *[(word, Status.FAILED) for word in ("failed", "expired", "Payment error", "declined")],
        *[(word, Status.AUTHORIZED) for word in ("authorized", "Authorised")],
        *[
            (word, Status.PARTIALLY_REFUNDED)
            for word in ("partially_refunded", "partially-refunded", "PartiallyRefunded")
        ],
        ("refunded", Status.REFUNDED),
        ("voided", Status.VOIDED),
        *[(word, None) for word in ("shiny", "", "wc-", "paid!", "1", "updated")],
    ],
)
def test_L1_a_status_in_any_platforms_words(text: str, status: Status | None) -> None:
    assert statuses.read(text) is status


@given(st.text(max_size=40))
def test_L1_any_word_is_a_status_or_none(text: str) -> None:
    assert statuses.read(text) is None or statuses.read(statuses.read(text).word) is statuses.read(text)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("one", "other", "code", "same"),
    [
        ("49.9", "49.899999999999999", "USD", True),
        ("67.2", "67.2000000000000028421709430404007434844970703125", "EUR", True),
        ("0", "-0.0", "USD", True),
        ("100", "100.4", "JPY", True),
        ("1.0004", "1.0", "KWD", True),
        ("1.004", "1.0", "KWD", False),
        ("49.90", "49.91", "USD", False),
    ],
)
def test_L2_amounts_are_compared_in_minor_units(one: str, other: str, code: str, same: bool) -> None:
    assert amounts.same(Decimal(one), Decimal(other), code) is same
    first, second = told(value=one), told(value=other)
    first.currency = second.currency = code
    if same:
        assert orders.tell(first, second) == first
    else:
        with pytest.raises(ApiError, match="another eventValue"):
            orders.tell(first, second)


def test_L2_what_is_sent_has_no_tail_and_no_negative_zero() -> None:
    assert str(amounts.rounded(Decimal("49.899999999999999"), "USD")) == "49.90"
    assert str(amounts.rounded(Decimal("-0.0"), "USD")) == "0.0"
    assert str(amounts.rounded(Decimal("-0.001"), "USD")) == "0.00"
    assert str(amounts.rounded(Decimal("9.5"), "USD")) == "9.5"


# -- T1, T2, T5


def test_T1_a_higher_word_replaces_a_lower_one_which_stays_as_a_note() -> None:
    page = told(rank=Rank.PAGE, value="0.01", user_data={"em": ["x"]}, fbp="page")
    order = all_of(page, told("paid", value=99, user_data={"em": ["y"]}))
    assert (order.value, order.user_data, order.fbp, order.unconfirmed) == (99, {"em": ["y"]}, None, False)
    assert {(f.rank, f.value) for f in order.told} == {(0, Decimal("0.01")), (1, Decimal(99))}


def test_T1_between_ranks_there_is_no_conflict_and_among_servers_there_is() -> None:
    shop = told("paid", T0, rank=Rank.SHOP, value=80)
    assert all_of(told(value=10), shop).value == all_of(shop, told(value=10)).value == 80
    assert all_of(shop, told("cancelled", T0 + DAY)).order_status == "paid"
    with pytest.raises(ApiError, match="another eventValue"):
        all_of(told(value=10), told(value=80))
    with pytest.raises(ApiError, match="another currency"):
        all_of(told(), structs.replace(told(), currency="EUR"))


def test_T2_a_page_changes_nothing_of_a_told_order() -> None:
    order = told("pending", T0)
    page = told("paid", T0 + DAY, rank=Rank.PAGE, value=1, marketing="denied", user_data={"em": ["x"]}, fbp="p")
    assert orders.tell(order, page) == order
    noted = orders.noted(order, [page])
    assert orders.is_only_noted(order, noted)
    assert (noted.order_status, noted.value) == ("pending", 10)


def test_T2_notes_of_pages_are_few_and_push_nothing_out() -> None:
    order = all_of(told("pending", T0), told("paid", T0 + 1))
    noted = orders.noted(order, [told(rank=Rank.PAGE, value=n, received=T0 + n) for n in range(100)])
    assert len(noted.told) == 2 + orders.MOST_NOTES
    assert orders.settled(noted).order_status == "paid"


ORDER = Browser(T0, address=1, people=frozenset({2}))


@pytest.mark.parametrize(
    ("order", "pages", "own"),
    [
        (Browser(T0, visitor=7, keys=("v",)), [Browser(T0 + DAY, visitor=7)], [0]),
        (Browser(T0, visitor=7, keys=("v",)), [Browser(T0 - 1, visitor=8, address=1)], []),
        (ORDER, [Browser(T0 - DAY, address=1, keys=("a",))], [0]),
        (ORDER, [Browser(T0 - DAY - 1, address=1, keys=("a",))], []),
        (ORDER, [Browser(T0 + 1, address=1, keys=("a",))], []),
        (ORDER, [Browser(T0 - 1, address=1, keys=("a",), refused=True)], []),
        (ORDER, [Browser(T0 - 1, people=frozenset({2}), keys=("a",))], [0]),
        (ORDER, [Browser(T0 - 1, people=frozenset({3}), keys=("a",))], []),
        (ORDER, [Browser(T0 - 1, people=frozenset({2}), keys=("a",), sale=("USD", 1))], []),  # guessed the number
        (ORDER, [Browser(T0 - 1, address=1, keys=("a",), sale=("USD", 1))], [0]),
        (ORDER, [Browser(T0 - 1, address=9, people=frozenset({2}), keys=("a",))], []),  # from elsewhere
        (ORDER, [Browser(T0 - 1, people=frozenset({2}), keys=("a",)), Browser(T0 - 2, address=1, keys=("b",))], [1]),
        (ORDER, [Browser(T0 - 1, address=1, keys=("a",)), Browser(T0 - 2, address=1, keys=("b",))], []),
        (ORDER, [Browser(T0 - 1, address=1, keys=("a",)), Browser(T0 - 2, address=1, keys=("a",))], [0, 1]),
        (structs.replace(ORDER, keys=("v",)), [Browser(T0 - 1, address=1, keys=("a",))], []),
    ],
)
def test_T2_only_the_orders_own_browser_adds_to_it(order: Browser, pages: list[Browser], own: list[int]) -> None:
    assert orders.own_browsers(order, pages) == own


def test_T2_it_adds_what_is_absent_and_nothing_else() -> None:
    page = told(rank=Rank.PAGE, value=1, visitor_id="v", fbp="p", fbc="c", user_data={"em": ["x"]}, ip="1.1.1.1")
    added = ["visitor_id", "fbp", "fbc"]
    assert orders.filled(told(), page) == structs.replace(told(), visitor_id="v", fbp="p", fbc="c", filled=added)
    assert orders.filled(told(fbp="own"), page).fbp == "own"


def test_T5_the_server_saying_denied_ends_it_and_saying_granted_is_its_own_word() -> None:
    refused = all_of(told(user_data={"em": ["x"]}, fbp="p"), told(marketing="denied"))
    assert (refused.marketing, refused.user_data, refused.fbp) == ("denied", {}, None)
    assert all_of(refused, told(marketing="granted", consented=True)).marketing == "denied"
    page = told(rank=Rank.PAGE, marketing="denied")
    assert all_of(page, told(marketing="granted", user_data={"em": ["x"]})).user_data == {"em": ["x"]}
    assert orders.outlives(told(consented=True))
    assert not orders.outlives(told())
    assert not orders.outlives(told(consented=True, rank=Rank.PAGE))


# -- O1 to O7


def test_O1_time_decides_and_not_arrival() -> None:
    paid, cancelled = told("paid", T0 + 5, value=8), told("cancelled", T0 + 4)
    for one in (all_of(paid, cancelled), all_of(cancelled, paid)):
        assert (one.order_status, one.value) == ("paid", 8)


def test_O1_an_older_telling_still_fills_what_is_absent() -> None:
    order = all_of(told("paid", T0 + 5), told("pending", T0, value=3, fbp="p", user_data={"em": ["x"]}))
    assert (order.order_status, order.value, order.fbp, order.user_data) == ("paid", 10, "p", {"em": ["x"]})


@pytest.mark.parametrize(("one", "other"), list(combinations(Status, 2)))
def test_O1_of_two_at_one_moment_the_later_in_the_list_counts(one: Status, other: Status) -> None:
    tellings = told(one.word, T0), told(other.word, T0)
    assert {all_of(*order).order_status for order in permutations(tellings)} == {other.word}


def test_O2_a_late_pending_without_a_time_undoes_nothing() -> None:
    for word in ("paid", "failed", "refunded"):
        order = all_of(told(word, value=10), told("pending", received=T0 + DAY, value=7))
        assert order.order_status == word
        assert statuses.has_ended(word) or order.value == 10  # an end's own value says nothing
    stated = all_of(told("paid", T0), told("pending", T0 + 1, received=T0 + 2))
    assert stated.order_status == "pending"  # the control: with a time it does


def test_O2_without_a_time_a_status_counts_as_of_its_receipt() -> None:
    assert all_of(told("paid", T0 - 5), told("cancelled", received=T0)).order_status == "cancelled"
    assert all_of(told("cancelled", received=T0), told("paid", T0 - 5)).order_status == "cancelled"
    assert all_of(told("cancelled", received=T0), told("paid", received=T0 + 1)).order_status == "paid"


def test_O4_the_time_of_payment() -> None:
    first = told("pending", ts=T0 - 9 * DAY)
    assert first.paid_at is None
    assert all_of(first, told("paid", T0 - DAY)).paid_at == T0 - DAY
    assert all_of(first, told("paid", received=T0 + 5)).paid_at == T0 + 5
    assert all_of(first, told("paid", received=T0 + 5, ts=T0 - DAY)).paid_at == T0 - DAY  # it dates itself
    assert told("paid", ts=T0 - 30 * DAY).paid_at == T0 - 30 * DAY  # history: never now (L4)
    again = [told("paid", T0 + 1), told("cancelled", T0 + 2), told("completed", T0 + 3), told("shipped", T0 + 9)]
    assert {all_of(*order).paid_at for order in permutations(again)} == {T0 + 3}


def test_O5_an_order_is_worth_what_stays_and_an_end_leaves_its_value() -> None:
    tellings = (
        told("paid", T0, value=100),
        told("partially_refunded", T0 + 1, value=60),
        told("cancelled", T0 + 2, value=5),
    )
    for order in permutations(tellings):
        found = all_of(*order)
        assert (found.order_status, found.value) == ("cancelled", 60)
        assert orders.worth_of(found) == orders.Worth(Decimal(100), Decimal(0))
    assert orders.worth_of(all_of(*tellings[:2])) == orders.Worth(Decimal(100), Decimal(60))


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (told("cancelled"), "cancelled before it was sent"),
        (told("failed"), "failed before it was sent"),
        (told("paid", value=0), "worth 0"),
        (told("paid", value="0.001"), "worth 0"),
        (told("partially_refunded", value=0), "worth 0"),
    ],
)
def test_O5_nothing_left_is_never_sent_and_says_why(event: StoredEvent, reason: str) -> None:
    verdict = gate.decide(event, PAID_STORE, 1)
    assert verdict.state is CapiState.SKIPPED
    assert reason in (verdict.reason or "")


def test_O6_an_edit_is_no_contradiction() -> None:
    assert all_of(told(value=10), told(value=12, received=T0 + 1, edited=True)).value == 12
    assert all_of(told(value=10), told(None, T0 + 1, value=12)).value == 12


def test_O6_two_servers_contradict_each_other_and_never_their_shop() -> None:
    server, other = told(value=10), told(value=12, received=T0 + 1)
    with pytest.raises(ApiError, match="another eventValue"):
        all_of(server, other)
    shop = told("paid", T0, rank=Rank.SHOP, value=11)
    for tellings in ((server, shop), (shop, server), (server, shop, other), (shop, other, server)):
        assert all_of(*tellings).value == 11


def test_O7_people_are_united_and_the_first_event_id_stays() -> None:
    server = told(user_data={"em": ["a"], "ph": ["1"]}, fbp="p", ip="1.1.1.1")
    shop = told("paid", T0, rank=Rank.SHOP, user_data={"em": ["b"]}, ip="2.2.2.2")
    order = all_of(server, structs.replace(shop, event_id="other"))
    assert order.user_data == {"em": ["b", "a"], "ph": ["1"]}
    assert (order.event_id, order.fbp, order.ip) == ("e", "p", "2.2.2.2")


def given_back(number: int, amount: str = "1.00", **more: Any) -> StoredEvent:
    """A refund that is told alone, a minute after the one before."""
    received = T0 + number * MINUTE
    event = structs.replace(told("partially_refunded", received=received, rank=Rank.SHOP), value=None)
    fact = orders.fact(event, received, edited=False)
    event.told = [structs.replace(fact, refund=f"r{number}", less=Decimal(amount), **more)]
    return event


PAID_BY = {
    "the shop": [told("paid", T0, rank=Rank.SHOP, value=500)],
    "the shop, without a time": [told("paid", rank=Rank.SHOP, value=500)],
    "a server": [told("paid", T0, value=500)],
    "a server, without a status": [told(value=500)],
    "a server, and its shop": [told("paid", T0, value=480), told("paid", T0, rank=Rank.SHOP, value=500)],
    "the shop, many times": [told("paid", T0 + n, rank=Rank.SHOP, value=500) for n in range(60)],
    "the shop, edited": [told("paid", T0 + n, rank=Rank.SHOP, value=440 + n, edited=True) for n in range(61)],
}


@pytest.mark.parametrize("by", PAID_BY)
@pytest.mark.parametrize("many", [23, 24, 25, 100])
def test_O5_however_many_refunds_are_told_alone_the_order_keeps_its_value(by: str, many: int) -> None:
    back = [given_back(n) for n in range(1, many + 1)]
    wanted = ("partially_refunded", Decimal(500 - many), Decimal(500))
    first, *later = PAID_BY[by]
    for order in (all_of(first, *later, *back, *back[::7]), all_of(first, *reversed(back), *later, *back[:3])):
        worth = orders.worth_of(order)
        assert worth is not None
        assert (order.order_status, order.value, worth.gross) == wanted
        assert len(order.told) <= orders.MOST_FACTS + refunds.MOST


def test_O5_of_a_refund_told_alone_its_newest_word_stays_among_many() -> None:
    back = [given_back(n) for n in range(1, 101)]
    bounced = structs.replace(given_back(200), told=[structs.replace(given_back(200, "0").told[0], refund="r1")])
    assert all_of(*PAID_BY["the shop"], *back, bounced, back[0]).value == 401


def test_O5_refunds_told_alone_are_bounded_and_push_nothing_out() -> None:
    order = all_of(*PAID_BY["the shop"], *(given_back(n) for n in range(1, 131)))
    assert (order.value, len(order.told)) == (400, 1 + refunds.MOST)
    assert all_of(order, told("cancelled", T0 + DAY, rank=Rank.SHOP)).order_status == "cancelled"


def test_O5_control_where_refunds_push_out_what_the_order_was_worth(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = orders._kept
    monkeypatch.setattr(orders, "_kept", lambda facts: kept(facts)[-orders.MOST_FACTS :])
    with pytest.raises(AssertionError):
        test_O5_however_many_refunds_are_told_alone_the_order_keeps_its_value("the shop", 24)


def test_the_last_value_is_never_what_has_to_go() -> None:
    """Even should every telling be needed."""
    value, *others = [structs.replace(orders.facts_of(told("paid", T0 + n))[0], value=None) for n in range(25)]
    value = structs.replace(value, value=Decimal(5))
    needed = iter(range(1000))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(orders, "standing", lambda _facts: next(needed))
        assert orders._spare([value, *others], []) == others[0]


def test_many_tellings_keep_the_state_and_are_bounded() -> None:
    tellings = [told("partially_refunded", T0 + n, value=100 - n) for n in range(80)]
    order = all_of(told("paid", T0 - 1, value=100), *tellings)
    assert (order.order_status, order.value, len(order.told)) == ("partially_refunded", 21, orders.MOST_FACTS)


def test_a_repeat_is_no_change() -> None:
    order = all_of(told("pending", T0), told("paid", T0 + 1))
    assert orders.tell(order, told("paid", T0 + 1, received=T0 + DAY)) == order
    assert orders.tell(order, told(received=T0 + DAY)) == order


# -- every order of arrival


# Which of them comes last in time, and what all of them end as.
TIMES = {
    "as told": (0, 1, 2, 3, 4),
    "paid last": (0, 1, 9, 2, 3),
    "cancelled and paid again": (0, 1, 5, 4, 2),
    "all at once": (0, 0, 0, 0, 0),
}


def scenarios(most_repeats: int) -> Iterator[tuple[str, list[StoredEvent]]]:
    words = ("pending", "failed", "paid", "cancelled", "refunded")
    for name, times in TIMES.items():
        tellings = [told(word, T0 + at * MINUTE) for word, at in zip(words, times, strict=True)]
        for repeats in range(most_repeats + 1):
            for repeated in combinations(tellings, repeats):
                yield name, [*tellings, *repeated]


class Courier:
    """The order as it is stored, and what has gone to Meta, should everything that may go out go at once, or last."""

    def __init__(self, kept: StoredEvent | None = None, *, sent: int = 0, could: bool = False) -> None:
        self.kept, self.sent, self.could = kept, sent, could

    def take(self, telling: StoredEvent) -> Courier:
        kept = telling if self.kept is None else orders.tell(self.kept, telling)
        goes = gate.decide(kept, PAID_STORE, 1).state is CapiState.QUEUED
        return Courier(kept, sent=max(self.sent, int(goes)), could=goes)


def ends(tellings: Sequence[StoredEvent]) -> tuple[Counter[tuple[Any, ...]], int]:
    """How every order of arrival ends, and how many there are; common beginnings are played once."""
    found: Counter[tuple[Any, ...]] = Counter()
    pool = Counter(tellings.index(t) for t in tellings)

    def play(state: Courier, left: Counter[int], arrived: int) -> None:
        if not left:
            assert state.kept is not None
            found[state.kept.order_status, state.kept.value, state.kept.paid_at, state.could] += 1
            return
        for n in list(left):
            left[n] -= 1
            play(state.take(structs.replace(tellings[n], received=T0 + DAY + arrived)), +left, arrived + 1)
            left[n] += 1

    play(Courier(), pool, 0)
    return found, found.total()


@pytest.mark.parametrize("most_repeats", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_O3_every_order_of_arrival_gives_one_state_and_goes_out_where_it_ends_paid(most_repeats: int) -> None:
    arrivals = 0
    for name, tellings in scenarios(most_repeats):
        found, count = ends(tellings)
        arrivals += count
        assert len(found) == 1, (name, found)
        [(status, _, _, goes)] = found
        assert goes == (status == "paid"), (name, found)
    # Five tellings in four settings: alone 5!, with one again 6!/2 for each, with two again 7!/4 for each pair.
    assert arrivals == 4 * (120 if most_repeats == 0 else 120 + 5 * 360 + 10 * 1260)


def test_O3_the_control_an_order_of_arrival_decides_where_time_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orders, "_place", lambda fact: ())
    with pytest.raises(AssertionError):
        test_O3_every_order_of_arrival_gives_one_state_and_goes_out_where_it_ends_paid(0)


WORDS = ("pending", "failed", "paid", "cancelled", "refunded")


def test_O3_without_times_the_last_word_counts_and_paid_at_the_end_goes_out() -> None:
    """Each order of arrival of the five, of any length, with repeats: a late `pending` alone undoes nothing (O2)."""
    played = 0
    for length in range(1, 6):
        for words in _sequences(length):
            state = Courier()
            for n, word in enumerate(words):
                state = state.take(told(word, received=T0 + n))
            assert state.kept is not None
            wanted = next((w for w in reversed(words) if w != "pending"), "pending")
            assert (state.kept.order_status, state.could) == (wanted, wanted == "paid"), words
            played += 1
    assert played == sum(5**n for n in range(1, 6))


def _sequences(length: int) -> Iterator[tuple[str, ...]]:
    if length == 0:
        yield ()
        return
    for word in WORDS:
        for rest in _sequences(length - 1):
            yield (word, *rest)


facts = st.lists(
    st.builds(
        Fact,
        rank=st.integers(0, 2),
        at=st.integers(0, 3),
        stated=st.booleans(),
        status=st.sampled_from([None, *(s.word for s in Status)]),
        value=st.sampled_from([None, Decimal(0), Decimal(1), Decimal(2)]),
        currency=st.just("USD"),
        edited=st.booleans(),
        moment=st.integers(0, 3),
    ),
    max_size=8,
)


@given(facts, st.randoms())
def test_the_state_is_a_function_of_the_set_of_tellings(some: list[Fact], dice: Any) -> None:
    other = [*some, *dice.choices(some, k=3)] if some else []
    dice.shuffle(other)
    assert orders.standing(some) == orders.standing(other)
