"""O5 where a platform tells each refund in a message of its own, and never the order again: Paddle's adjustments."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from itertools import permutations
from pathlib import Path
from typing import Any

import msgspec
import pytest

from collector.config import ShopConfig, WebhookConfig
from collector.core import orders
from collector.core.consent import Decision
from collector.core.events import StoredEvent
from collector.core.intake import Caller
from collector.core.shops.compiling import REQUIRED, compiled
from tests.journal.test_refunds import Meta, told
from tests.journal.test_shop_orders import Shop, moment
from tests.kit import shops as made
from tests.kit.journal_kit import DAY, MINUTE, NOW, STORE, click
from tests.kit.journal_kit import order as server_body

TRANSACTION = "txn_1"


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    webhook = [WebhookConfig(name="paddle", preset="paddle", secret=made.SECRETS["paddle"])]
    one = Shop(tmp_path, webhook=webhook, shop=ShopConfig(refund_event="Refund"))
    yield one
    one.kit.close()


def at(minutes: int, topic: str, **about: Any) -> made.Message:
    """What Paddle says at that minute."""
    message = made.paddle(topic, **about)
    body = msgspec.json.decode(message.body) | {"occurred_at": moment(minutes), "event_id": f"evt_{topic}_{minutes}"}
    return made.signed("paddle", body, {})


def paid(minutes: int = 1, **changes: Any) -> made.Message:
    """The order of 59.50."""
    about = {"id": TRANSACTION, "billed_at": moment(0)} | changes
    return at(minutes, "transaction.completed", **about)


def adjusted(minutes: int, amount: str, /, number: int = 1, status: str = "approved", **changes: Any) -> made.Message:
    """An adjustment of that order, in cents."""
    about = {
        "id": f"adj_{number}",
        "transaction_id": TRANSACTION,
        "action": "refund",
        "status": status,
        "currency_code": "USD",
        "customer_id": "ctm_1",
        "totals": {"subtotal": "0", "tax": "0", "total": amount, "currency_code": "USD"},
        "items": [],
    }
    for absent in ("origin", "custom_data", "details", "billed_at"):
        about[absent] = None
    return at(minutes, "adjustment.updated", **about | changes)


def kept(shop: Shop) -> StoredEvent:
    """The one order."""
    ((body,),) = shop.kit.rows("SELECT body FROM conversion WHERE event_type = 'Purchase'")
    return msgspec.msgpack.decode(body, type=StoredEvent)


def stands(shop: Shop) -> tuple[str | None, Decimal | None, Decimal | None]:
    """The one order's status, and what it was worth and is worth."""
    event = kept(shop)
    worth = orders.worth_of(event)
    return event.order_status, worth and worth.gross, worth and worth.net


def of_order(shop: Shop) -> list[tuple[Any, ...]]:
    return shop.kit.rows("SELECT called, status, value, channel FROM shop_order")


WHOLE = Decimal("59.5")


def test_O5_a_refund_alone_is_taken_from_the_order_and_told_to_meta_once(shop: Shop) -> None:
    part = adjusted(2, "2000")
    meta = told(shop, paid(), part, part, adjusted(3, "2000"))
    assert stands(shop) == ("partially_refunded", WHOLE, Decimal("39.5"))
    assert (meta.of("Purchase"), meta.of("Refund"), meta.net) == ([WHOLE], [Decimal(20)], Decimal("39.5"))
    assert of_order(shop) == [("P-1", "partially_refunded", "39.50", "web")]


def test_O5_control_where_it_is_not_taken_away(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orders, "_less_refunds", lambda status, valued, _: (status, valued and valued.value))
    with pytest.raises(AssertionError):
        test_O5_a_refund_alone_is_taken_from_the_order_and_told_to_meta_once(shop)


def test_O5_before_sending_meta_gets_what_stays(shop: Shop) -> None:
    shop.tell(paid())
    shop.tell(adjusted(2, "950"))
    meta = Meta(shop)
    meta.take()
    assert (meta.of("Purchase"), meta.of("Refund")) == ([Decimal(50)], [])


def test_O5_all_of_it_in_one_or_in_two_is_refunded(shop: Shop) -> None:
    meta = told(shop, paid(), adjusted(2, "2000"), adjusted(3, "3950", number=2))
    assert stands(shop) == ("refunded", WHOLE, Decimal(0))
    assert sorted(meta.of("Refund")) == [Decimal(20), Decimal("39.5")]
    assert meta.net == 0


STEPS = {
    "paid again": paid(1),
    "asked": adjusted(2, "2000", status="pending_approval"),
    "approved": adjusted(3, "2000"),
    "another": adjusted(4, "1050", number=2),
    "bounced": adjusted(5, "1050", number=2, status="reversed"),
    "refused": adjusted(6, "500", number=3, status="rejected"),
}


def test_O1_O5_whatever_the_order_and_the_repeats_of_refunds_one_state(shop: Shop) -> None:
    ends = set()
    for number, some in enumerate(permutations(STEPS, len(STEPS))):
        if number % 29:  # 25 of 720
            continue
        facts = told_in(shop, [*some, *some[::2]], f"txn_{number}")
        ends.add(facts)
    assert ends == {("partially_refunded", Decimal("39.5"))}


def told_in(shop: Shop, steps: list[str], transaction: str) -> tuple[str | None, Decimal | None]:
    """How an order stands after these of its messages."""
    order_id = f"P-{transaction}"
    first = shop.tell(paid(1, id=transaction, custom_data={"orderId": order_id}))
    for step in steps:
        shop.kit.now += 1000
        body = msgspec.json.decode(STEPS[step].body)
        about = body["data"]
        if about.get("transaction_id"):
            about["transaction_id"] = transaction
            about["id"] += transaction
        else:
            about |= {"id": transaction, "custom_data": {"orderId": order_id}}
        shop.tell(made.signed("paddle", body, {}))
    assert first.conversion is not None
    event = shop.kit.state(first.conversion).event
    return event.order_status, event.value


@pytest.mark.parametrize(
    ("message", "word"),
    [
        (adjusted(2, "2000", action="credit"), "channel_credit"),
        (adjusted(2, "2000", action="chargeback"), "channel_chargeback"),
        (adjusted(2, "2000", action="chargeback_reverse"), "channel_chargeback"),
        (adjusted(2, "2000", status="pending_approval"), "draft"),
        (adjusted(2, "2000", status="rejected"), "draft"),
        (adjusted(2, "2000", currency_code="XYZ"), "bad_currency"),
        (adjusted(2, "2000", currency_code=None), "bad_currency"),
        (adjusted(2, "0"), "no_value"),
        (adjusted(2, "20.5"), "no_value"),
        (adjusted(2, "-2000"), "no_value"),
        (adjusted(2, "2000", totals=None), "no_value"),
        (adjusted(2, "2000", totals=[]), "no_value"),
        (adjusted(2, "2000", transaction_id="txn_nobodys"), "no_order"),
        (adjusted(2, "2000", transaction_id=None), "no_order"),
        (adjusted(2, "2000", id=None), "no_order"),
        (adjusted(2, "2000", id="x" * 300), "no_order"),
    ],
)
def test_O5_what_gives_nothing_back_is_ignored_with_its_reason(shop: Shop, message: made.Message, word: str) -> None:
    shop.tell(paid())
    assert shop.tell(message).reason == word
    assert stands(shop) == ("paid", WHOLE, WHOLE)
    assert len(of_order(shop)) == 1


def test_O5_a_refund_of_an_order_that_a_page_alone_has_told_waits_for_nothing(shop: Shop) -> None:
    page = Caller(secret=False, address="198.51.100.9", user_agent=made.AGENT)
    body = {"storeId": STORE, "eventType": "Purchase", "orderId": TRANSACTION, "eventValue": 59.5, "currency": "USD"}
    shop.kit.submit([shop.kit.operation(body, page)])
    assert shop.tell(adjusted(2, "2000")).reason == "no_order"
    taken = shop.tell(paid())
    assert taken.conversion is not None
    assert shop.kit.state(taken.conversion).event.value == WHOLE


def test_O5_a_refund_in_another_currency_lessens_nothing(shop: Shop) -> None:
    meta = told(shop, paid(), adjusted(2, "2000", currency_code="EUR"))
    assert stands(shop) == ("partially_refunded", WHOLE, WHOLE)
    assert meta.of("Refund") == []


def test_M2_a_topic_of_refunds_alone_needs_to_know_which_and_how_much() -> None:
    table = {"topic": "a", "topics": {"x": "refund:", "y": "refund: z"}, "fields": dict.fromkeys(REQUIRED, "b")}
    _, faults = compiled(table)
    assert sorted(key for key, _ in faults) == [("topics", "x"), ("topics", "y")]


def test_O5_a_servers_own_word_of_what_is_left_is_not_lessened_again(shop: Shop) -> None:
    left = {"eventValue": 39.5, "currency": "USD", "orderStatus": "partially_refunded", "statusAt": moment(3)}
    shop.kit.post(server_body(TRANSACTION, at=NOW, **left))
    shop.kit.now += MINUTE
    shop.tell(adjusted(2, "2000"))
    assert kept(shop).value == Decimal("39.5")


VISITOR = "visitor-0000-aaaa"
LATE = adjusted(10 * 24 * 60, "2000")


def by_server(shop: Shop, **more: Any) -> None:
    """The order of 59.50, told on day 0."""
    about = {"eventValue": 59.5, "currency": "USD", "orderStatus": "paid", "visitorId": VISITOR} | more
    shop.kit.post(server_body(TRANSACTION, **about))


def on_day_ten(shop: Shop, message: made.Message = LATE) -> None:
    shop.kit.now = NOW + 10 * DAY
    shop.tell(message)


def test_O5_a_refund_alone_moves_neither_an_orders_time_nor_its_credit(shop: Shop) -> None:
    shop.kit.post(click("IwAR0first" + "a" * 40, at=NOW - DAY, visitorId=VISITOR))
    by_server(shop)
    shop.kit.now += 9 * DAY
    shop.kit.post(click("IwAR0second" + "b" * 40, at=shop.kit.now, visitorId=VISITOR))
    credit = "SELECT ts, click FROM conversion WHERE event_type = 'Purchase'"
    before = shop.kit.rows(credit)
    on_day_ten(shop)
    assert shop.kit.rows(credit) == before == [(NOW, 1)]
    assert (kept(shop).ts, kept(shop).paid_at, kept(shop).value) == (NOW, NOW, Decimal("39.5"))


def test_O5_control_where_a_refund_alone_dates_the_order(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orders, "is_of_order", lambda _told: True)
    with pytest.raises(AssertionError):
        test_O5_a_refund_alone_moves_neither_an_orders_time_nor_its_credit(shop)


def test_O5_the_shops_word_of_the_order_counts_whether_its_refund_came_before_or_after(shop: Shop) -> None:
    ends = []
    for number, messages in enumerate(permutations((LATE, paid(5, billed_at=moment(7), custom_data=None)))):
        transaction = f"txn_{number}"
        shop.kit.now = NOW
        shop.kit.post(server_body(transaction, eventValue=59.5, currency="USD", orderStatus="paid"))
        for message in messages:
            shop.kit.now = NOW + 10 * DAY
            about = msgspec.json.decode(message.body)
            about["data"]["transaction_id" if about["data"].get("transaction_id") else "id"] = transaction
            taken = shop.tell(made.signed("paddle", about, {}))
        assert taken.conversion is not None
        event = shop.kit.state(taken.conversion).event
        ends.append((event.ts, event.rank, event.paid_at, event.value, event.user_data))
    assert ends[0] == ends[1]
    assert ends[0][:2] == (NOW + 7 * MINUTE, orders.Rank.SHOP)


def test_O4_a_refund_alone_is_the_payments_time_where_nobody_has_told_one(shop: Shop) -> None:
    by_server(shop, orderStatus=None)
    on_day_ten(shop)
    assert (kept(shop).order_status, kept(shop).paid_at) == ("partially_refunded", NOW + 10 * DAY)


@pytest.mark.parametrize("end", [LATE, at(10 * 24 * 60, "transaction.canceled", id=TRANSACTION, details=None)])
def test_O5_what_is_told_alone_leaves_an_order_a_test(shop: Shop, end: made.Message) -> None:
    by_server(shop, test=True, testEventCode="TEST1")
    marks = "SELECT flags, ts FROM conversion WHERE event_type = 'Purchase'"
    before = shop.kit.rows(marks)
    on_day_ten(shop, end)
    assert shop.kit.rows(marks) == before
    assert kept(shop).order_status != "paid"


@pytest.mark.parametrize(
    ("said", "default"),
    [("granted", "denied"), ("pending", "granted"), ("pending", "denied"), ("denied", "granted")],
)
def test_O5_a_refund_alone_decides_nothing_for_the_visitor(tmp_path: Path, said: Any, default: Any) -> None:
    webhook = [WebhookConfig(name="paddle", preset="paddle", secret=made.SECRETS["paddle"])]
    one = Shop(tmp_path, webhook=webhook, default_consent=default)
    person = {"email": "jane@doe-shop.com"}
    told_so = server_body(TRANSACTION, eventValue=59.5, currency="USD", orderStatus="paid", customerData=person)
    one.kit.submit([one.kit.operation(told_so, decision=Decision(said, ldu=False))])
    before = kept(one)
    on_day_ten(one)
    after = kept(one)
    one.kit.close()
    assert (after.marketing, after.user_data, after.value) == (said, before.user_data, Decimal("39.5"))


UNTIMED: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "our clock is behind": lambda body: body,
    "no time": lambda body: body | {"occurred_at": None},
    "no such time": lambda body: body | {"occurred_at": "yesterday"},
    "before 1970": lambda body: body | {"occurred_at": "0001-01-01T00:00:00Z"},
    "another age": lambda body: body | {"occurred_at": "2126-09-21T14:13:20Z"},
}


def untimed(how: str, message: made.Message) -> made.Message:
    """A message of which no time counts."""
    return made.signed("paddle", UNTIMED[how](msgspec.json.decode(message.body)), {})


@pytest.mark.parametrize("how", UNTIMED)
def test_O5_a_refund_counts_whose_time_is_left_out(shop: Shop, how: str) -> None:
    meta = told(shop, paid(), untimed(how, adjusted(60, "2000")), untimed(how, adjusted(61, "1000", number=2)))
    assert stands(shop) == ("partially_refunded", WHOLE, Decimal("29.5"))
    assert (meta.of("Refund"), meta.net) == ([Decimal(20), Decimal(10)], Decimal("29.5"))
    assert of_order(shop) == [("P-1", "partially_refunded", "29.50", "web")]


def test_O5_a_refund_whose_time_is_left_out_can_be_taken_back(shop: Shop) -> None:
    told(shop, paid(), adjusted(60, "2000"), adjusted(61, "2000", status="reversed"))
    assert stands(shop)[1:] == (WHOLE, WHOLE)


def test_O5_a_refund_of_a_pages_order_waits_for_nothing_without_a_time_either(shop: Shop) -> None:
    page = Caller(secret=False, address="198.51.100.9", user_agent=made.AGENT)
    body = {"storeId": STORE, "eventType": "Purchase", "orderId": TRANSACTION, "eventValue": 59.5, "currency": "USD"}
    shop.kit.submit([shop.kit.operation(body, page)])
    assert shop.tell(adjusted(60, "2000")).reason == "no_order"


def test_O5_an_end_whose_time_is_left_out_leaves_the_value(shop: Shop) -> None:
    told(shop, paid(), at(60, "transaction.canceled", id=TRANSACTION, details=None))
    assert stands(shop) == ("cancelled", WHOLE, Decimal(0))
