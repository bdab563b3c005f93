"""O5: where a store wants it, Meta is told of refunds, so that there Purchase less refunds is what the shop keeps."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import structs

from collector.config import ShopConfig
from collector.core import refunds
from collector.core.capi.event_id import derive
from collector.core.capi.states import CapiState
from collector.core.intake import Caller
from collector.storage.journal.refunds import Refunds
from collector.storage.outbox.replay import replay
from tests.journal.test_shop_orders import Shop, moment
from tests.kit import shops as made
from tests.kit.journal_kit import MINUTE, NOW, STORE
from tests.kit.journal_kit import order as server_body

ORDER = 4_440_000


def refund(number: int, amount: str, minutes: int, **changes: Any) -> dict[str, Any]:
    """As Shopify has it in its order."""
    money = {"id": 1, "kind": "refund", "status": "success", "amount": amount, "currency": "EUR"}
    return {"id": number, "created_at": moment(minutes), "transactions": [money | changes]}


def order(minutes: int, value: str, *given_back: dict[str, Any], status: str = "paid", **more: Any) -> made.Message:
    """A Shopify order of 118.90 as it stands by then."""
    return made.shopify(
        "orders/updated",
        f"d-{minutes}",
        id=ORDER,
        admin_graphql_api_id=f"gid://shopify/Order/{ORDER}",
        name="#77",
        order_number=77,
        created_at=moment(0),
        processed_at=moment(0),
        updated_at=moment(minutes),
        current_total_price=value,
        financial_status=status,
        refunds=list(given_back),
        **more,
    )


class Meta:
    """Takes what is queued, as the courier would have it."""

    def __init__(self, shop: Shop) -> None:
        self.shop, self.taken = shop, list[dict[str, Any]]()

    def take(self) -> None:
        db = self.shop.kit.transaction._db
        for number, body in db.execute(
            "SELECT o.id, p.body FROM outbox o JOIN outbox_payload p ON p.id = o.id WHERE o.state = 0"
        ).fetchall():
            self.taken.append(json.loads(body))
            now = self.shop.kit.now
            db.execute("UPDATE outbox SET state = 10, settled = ? WHERE id = ?", (now, number))

    def of(self, name: str) -> list[Decimal]:
        return [Decimal(str(e["custom_data"]["value"])) for e in self.taken if e["event_name"] == name]

    @property
    def net(self) -> Decimal:
        assert len({e["event_id"] for e in self.taken}) == len(self.taken), "no event comes twice"
        return sum(self.of("Purchase"), Decimal(0)) - sum(self.of("Refund"), Decimal(0))


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    one = Shop(tmp_path, shop=ShopConfig(refund_event="Refund"))
    yield one
    one.kit.close()


def told(shop: Shop, *messages: made.Message) -> Meta:
    """Meta, which has taken the order after the first message and looks again after each other one."""
    meta = Meta(shop)
    for message in messages:
        shop.kit.now += MINUTE
        shop.tell(message)
        meta.take()
    return meta


def test_O5_a_refund_after_sending_is_an_event_of_its_own_once(shop: Shop) -> None:
    back = refund(901, "30.00", 2)
    later = order(3, "88.90", back, status="partially_refunded")
    meta = told(shop, order(1, "118.90"), later, later, order(4, "88.90", back, status="partially_refunded"))
    assert (meta.of("Purchase"), meta.of("Refund"), meta.net) == ([Decimal("118.9")], [Decimal(30)], Decimal("88.9"))
    event = meta.taken[-1]
    assert event["event_id"] == derive(STORE, "Refund", f"{ORDER}|901")
    assert event["custom_data"] == {"value": 30, "currency": "EUR", "order_id": str(ORDER)}
    assert event["action_source"] == "system_generated"
    assert "contents" not in event["custom_data"]
    assert event["user_data"] == meta.taken[0]["user_data"]
    assert event["event_time"] * 1000 == NOW + 2 * MINUTE


def test_O5_what_was_given_back_before_sending_is_in_the_value_and_never_told(shop: Shop) -> None:
    first, second = refund(901, "30.00", 1), refund(902, "8.90", 5)
    meta = told(shop, order(2, "88.90", first, status="partially_refunded"), order(6, "80.00", first, second))
    assert (meta.of("Purchase"), meta.of("Refund")) == ([Decimal("88.9")], [Decimal("8.9")])
    assert meta.taken[-1]["event_id"] == derive(STORE, "Refund", f"{ORDER}|902")


def test_O5_several_refunds_in_one_telling_are_several_events(shop: Shop) -> None:
    both = refund(901, "30.00", 2), refund(902, "8.90", 3)
    meta = told(shop, order(1, "118.90"), order(4, "80.00", *both, status="partially_refunded"))
    assert sorted(meta.of("Refund")) == [Decimal("8.9"), Decimal(30)]
    assert meta.net == Decimal(80)


def test_O5_control_by_default_there_is_no_such_event(tmp_path: Path) -> None:
    one = Shop(tmp_path)
    meta = told(one, order(1, "118.90"), order(3, "88.90", refund(901, "30.00", 2), status="partially_refunded"))
    one.kit.close()
    assert (meta.of("Refund"), meta.net) == ([], Decimal("118.9"))


def test_O5_control_without_the_memory_of_what_was_told_it_is_told_again(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = refunds.told
    monkeypatch.setattr(refunds, "told", lambda order, has, now: (order.refunds, known(order, has, now)[1]))
    with pytest.raises(AssertionError):
        test_O5_the_order_of_arrival_changes_nothing(shop, (3, 4))


def test_O5_an_edit_is_no_refund(shop: Shop) -> None:
    meta = told(shop, order(1, "118.90"), order(2, "58.95"), order(3, "58.95", refund(901, "59.95", 3)))
    assert (meta.of("Refund"), meta.net) == ([Decimal("59.95")], Decimal("58.95"))


@pytest.mark.parametrize("times", [(3, 4), (4, 3)], ids=["in order", "swapped"])
def test_O5_the_order_of_arrival_changes_nothing(shop: Shop, times: tuple[int, int]) -> None:
    first, second = refund(901, "30.00", 2), refund(902, "8.90", 4)
    states = {3: order(3, "88.90", first), 4: order(4, "80.00", first, second)}
    assert told(shop, order(1, "118.90"), *(states[t] for t in times)).net == Decimal(80)


def test_O5_a_teller_who_names_no_refund_is_told_apart_by_the_sum(shop: Shop) -> None:
    def server(minutes: int, value: str, status: str) -> None:
        body = server_body("R-1", eventValue=value, currency="EUR", orderStatus=status, statusAt=moment(minutes))
        shop.kit.submit([shop.kit.operation(body | {"customerData": {"email": "ada@example.com"}})])
        meta.take()

    meta = Meta(shop)
    for minutes, value, status in (
        (1, "100", "paid"),
        (2, "70", "partially_refunded"),
        (2, "70", "partially_refunded"),
    ):
        server(minutes, value, status)
    server(3, "70", "refunded")
    assert (meta.of("Refund"), meta.net) == ([Decimal(30), Decimal(70)], Decimal(0))


@pytest.mark.parametrize(
    "end",
    [{"cancelled_at": moment(2)}, {"status": "voided"}, {"status": "expired"}],
    ids=["cancelled", "voided", "failed"],
)
def test_O5_an_end_without_a_refund_gives_nothing_back(shop: Shop, end: dict[str, Any]) -> None:
    assert told(shop, order(1, "118.90"), order(3, "118.90", **end)).of("Refund") == []


def test_O5_cancelled_and_refunded_tells_the_refund(shop: Shop) -> None:
    back = refund(901, "118.90", 2)
    meta = told(shop, order(1, "118.90"), order(3, "0.00", back, status="refunded", cancelled_at=moment(2)))
    assert (meta.of("Refund"), meta.net) == ([Decimal("118.9")], Decimal(0))


@pytest.mark.parametrize(
    ("amount", "currency", "sent"),
    [("30.00", "EUR", 30), ("4800", "JPY", 30), ("999999", "EUR", 30), ("abc", "EUR", 30), ("-5", "EUR", None)],
)
def test_O5_an_amount_never_exceeds_what_the_shop_lost(
    shop: Shop, amount: str, currency: str, sent: int | None
) -> None:
    back = refund(901, amount, 2, currency=currency)
    meta = told(shop, order(1, "118.90"), order(3, "88.90", back, status="partially_refunded"))
    assert meta.of("Refund") == ([Decimal(sent)] if sent else [Decimal(30)])


@pytest.mark.parametrize(
    "given", [None, "x", 7, {}, [None], [7], [{"id": None}], [{"id": {"a": 1}}], [[]], [{"id": "\0"}]]
)
def test_O5_refunds_of_any_shape_harm_nothing(shop: Shop, given: Any) -> None:
    message = order(3, "88.90", status="partially_refunded")
    odd = made.signed("shopify", json.loads(message.body) | {"refunds": given}, dict(message.headers))
    assert told(shop, order(1, "118.90"), odd).net == Decimal("88.9")


def test_O5_consent_that_was_taken_back_stops_it(shop: Shop) -> None:
    denied: dict[str, Any] = {"note_attributes": [{"name": "_consent", "value": "denied"}]}
    meta = told(shop, order(1, "118.90"), order(3, "88.90", refund(901, "30.00", 2), **denied))
    assert meta.of("Refund") == []
    states = shop.kit.rows("SELECT capi FROM conversion WHERE event_type = 'Refund'")
    assert states == [(int(CapiState.SKIPPED),)]


def flying(shop: Shop, body: bytes = b"") -> int:
    """The courier has the order's Purchase in a request."""
    ids = msgspec.msgpack.encode([n for (n,) in shop.kit.rows("SELECT id FROM outbox")])
    sql = "INSERT INTO request (pixel, at, events, outcome, ids) VALUES (1, 0, 1, 'in_flight', ?) RETURNING id"
    return int(shop.kit.transaction._db.execute(sql, (ids,)).get)


def answer(shop: Shop, request: int, state: CapiState) -> None:
    """The courier has Meta's answer; the keeper has not looked yet."""
    db = shop.kit.transaction._db
    db.execute("UPDATE request SET outcome = 'sent' WHERE id = ?", (request,))
    settled = shop.kit.now if state is CapiState.SENT else None
    db.execute("UPDATE outbox SET state = ?, settled = ?, request = ?", (int(state), settled, request))


def land(shop: Shop, request: int, state: CapiState) -> None:
    answer(shop, request, state)
    shop.kit.transaction._land()


@pytest.mark.parametrize("state", [CapiState.SENT, CapiState.RETRYING])
def test_O5_a_refund_while_the_purchase_is_under_way(shop: Shop, state: CapiState) -> None:
    """Meta has what was under way if it took it; else the next try carries what stays."""
    row = shop.tell(order(1, "118.90")).conversion
    request = flying(shop)
    shop.tell(order(3, "88.90", refund(901, "30.00", 2), status="partially_refunded"))
    assert shop.kit.rows("SELECT value FROM sent_before") == [("118.90",)]
    land(shop, request, state)
    assert shop.kit.rows("SELECT count(*) FROM sent_before") == [(0,)]
    meta = Meta(shop)
    shop.kit.transaction._db.execute("UPDATE outbox SET state = 0 WHERE state = 1")
    meta.take()
    assert row is not None
    event = shop.kit.state(row).event
    if state is CapiState.SENT:
        assert (str(event.sent_value), meta.of("Refund"), meta.of("Purchase")) == ("118.90", [Decimal(30)], [])
    else:
        assert (event.sent_value, meta.of("Refund"), meta.of("Purchase")) == (None, [], [Decimal("88.9")])


def test_O5_control_without_the_note_of_what_is_under_way_it_would_be_lost(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Refunds, "note_sent", lambda *_: None)
    with pytest.raises(AssertionError):
        test_O5_a_refund_while_the_purchase_is_under_way(shop, CapiState.SENT)


def test_O5_a_full_refund_while_the_purchase_is_under_way_is_told_once_meta_has_it(shop: Shop) -> None:
    """It is dropped from the queue, but a request that has left cannot be called back."""
    shop.tell(order(1, "118.90"))
    request = flying(shop)
    shop.tell(order(3, "0.00", refund(901, "118.90", 2), status="refunded"))
    land(shop, request, CapiState.SENT)
    meta = Meta(shop)
    meta.take()
    assert (meta.of("Purchase"), meta.of("Refund")) == ([], [Decimal("118.9")])


@pytest.mark.parametrize("value", ["80.00", "88.90"], ids=["another refund", "no news"])
def test_O5_a_telling_between_metas_answer_and_its_noting_forgets_nothing_meta_has(shop: Shop, value: str) -> None:
    row = shop.tell(order(1, "118.90")).conversion
    request = flying(shop)
    first, second = refund(901, "30.00", 2), refund(902, "8.90", 4)
    shop.tell(order(3, "88.90", first, status="partially_refunded"))
    answer(shop, request, CapiState.SENT)
    both = [first, second] if value == "80.00" else [first]
    shop.tell(order(4, value, *both, status="partially_refunded", phone="+491701234567"))
    shop.kit.transaction._land()
    meta = Meta(shop)
    meta.take()
    assert row is not None
    assert str(shop.kit.state(row).event.sent_value) == "118.90"
    assert sum(meta.of("Refund"), Decimal(0)) == Decimal("118.90") - Decimal(value)


def test_O5_a_telling_of_another_order_forgets_nothing_of_this_one(shop: Shop) -> None:
    shop.tell(order(1, "118.90"))
    request = flying(shop)
    shop.tell(order(3, "88.90", refund(901, "30.00", 2), status="partially_refunded"))
    answer(shop, request, CapiState.SENT)
    for minutes, value in ((1, "100"), (2, "70")):
        body = server_body("R-1", eventValue=value, currency="EUR", orderStatus="paid", statusAt=moment(minutes))
        shop.kit.submit([shop.kit.operation(body | {"customerData": {"email": "ada@example.com"}})])
    shop.kit.transaction._land()
    meta = Meta(shop)
    meta.take()
    assert (meta.of("Purchase"), meta.of("Refund")) == ([Decimal(70)], [Decimal(30)])


@pytest.mark.parametrize("retold", ["140.00", "130.00", "118.90"])
@pytest.mark.parametrize("under_way", [False, True], ids=["sent", "under way"])
def test_O5_an_order_that_takes_over_a_pages_delivery_knows_what_meta_has_of_it(
    tmp_path: Path, under_way: bool, retold: str
) -> None:
    """The page told 140 (and something else once that was under way), the shop 118.90: a full refund gives back 140."""
    visitor, address = "0198c5b6-7c1a-7e2b-9f3d-1a2b3c4d5e6f", "89.204.130.7"
    shop = Shop(tmp_path, shop=ShopConfig(refund_event="Refund"), browser_purchases="send")
    body = server_body(str(ORDER), eventValue="140.00", currency="EUR") | {"visitorId": visitor}
    shop.kit.submit([shop.kit.operation(body, caller=Caller(secret=False, address=address))])
    meta = Meta(shop)
    request = flying(shop)
    if not under_way:
        land(shop, request, CapiState.SENT)
    again = shop.kit.operation(body | {"eventValue": retold}, caller=Caller(secret=False, address=address))
    shop.kit.submit([again])
    own = {"client_details": {"browser_ip": address}, "note_attributes": [{"name": "_cv", "value": visitor}]}
    row = shop.tell(order(1, "118.90", browser_ip=address, **own)).conversion
    if under_way:
        land(shop, request, CapiState.SENT)
    meta.take()
    assert row is not None
    event = shop.kit.state(row).event
    assert (str(event.value), str(event.sent_value)) == ("118.90", "140.00")
    shop.tell(order(3, "0.00", refund(901, "118.90", 2), status="refunded"))
    meta.take()
    shop.kit.close()
    assert (meta.of("Purchase"), meta.of("Refund")) == ([], [Decimal(140)])


def rejected(shop: Shop) -> None:
    """Meta has refused the order's Purchase."""
    sql = "UPDATE outbox SET state = ?, attempts = 1, settled = ?"
    shop.kit.transaction._db.execute(sql, (int(CapiState.REJECTED), shop.kit.now))


def replayed(shop: Shop) -> Meta:
    list(replay(shop.kit.transaction._db, [CapiState.REJECTED], now=shop.kit.now))
    meta = Meta(shop)
    meta.take()
    return meta


def test_O5_a_replay_sends_what_stays_of_an_order_after_its_refund(shop: Shop) -> None:
    shop.tell(order(1, "118.90"))
    rejected(shop)
    first, second = refund(901, "30.00", 2), refund(902, "8.90", 4)
    shop.tell(order(3, "88.90", first, status="partially_refunded"))
    meta = replayed(shop)
    assert (meta.of("Purchase"), meta.of("Refund")) == ([Decimal("88.9")], [])
    shop.tell(order(4, "80.00", first, second, status="partially_refunded"))
    meta.take()
    assert (meta.of("Refund"), meta.net) == ([Decimal("8.9")], Decimal(80))


def test_O5_a_replay_sends_nothing_of_an_order_that_was_refunded_in_full(shop: Shop) -> None:
    shop.tell(order(1, "118.90"))
    rejected(shop)
    shop.tell(order(3, "0.00", refund(901, "118.90", 2), status="refunded"))
    assert replayed(shop).taken == []


def test_O5_an_erasure_takes_the_refunds_of_its_orders(tmp_path: Path) -> None:
    from collector.storage.people.erasure import erase_person
    from collector.storage.verbs.person import Asked

    shop = Shop(tmp_path, shop=ShopConfig(refund_event="Refund"))
    nobody: dict[str, Any] = {"email": None, "customer": None, "billing_address": None, "note_attributes": []}
    told(shop, order(1, "118.90", **nobody), order(3, "88.90", refund(901, "30.00", 2), **nobody))
    assert shop.kit.rows("SELECT count(*) FROM conversion WHERE event_type = 'Refund'") == [(1,)]
    config = shop.kit.config
    shop.kit.close()
    (receipt,) = erase_person(config, STORE, Asked(order=str(ORDER)), shop.kit.now, dry_run=False).receipts
    assert receipt.conversions == 2


def test_O5_L6_the_pull_tells_the_same_refund() -> None:
    from collector.config import StoreConfig
    from collector.config_loader import shops
    from collector.core.shops import order as shop_order

    store = StoreConfig(id=STORE, shop=ShopConfig(refund_event="Refund"))
    money = {"shopMoney": {"amount": "30.0", "currencyCode": "EUR"}}
    node = {
        "id": f"gid://shopify/Order/{ORDER}",
        "updatedAt": moment(3),
        "createdAt": moment(0),
        "currentTotalPriceSet": {"shopMoney": {"amount": "88.9", "currencyCode": "EUR"}},
        "displayFinancialStatus": "PARTIALLY_REFUNDED",
        "refunds": [{"id": "gid://shopify/Refund/901", "createdAt": moment(2), "totalRefundedSet": money}],
    }
    hook = shops.pulled(store, "shopify_pull")
    pulled = shop_order.read(hook.platform, hook.terms, STORE, {}, json.dumps(node).encode()).outcome
    told = shops.hooks(structs.replace(store, webhook_secrets={"shopify": ["x"]}))["shopify"]
    message = order(3, "88.90", refund(901, "30.00", 2), status="partially_refunded")
    headers = {k.lower(): v for k, v in message.headers.items()}
    hooked = shop_order.read(told.platform, told.terms, STORE, headers, message.body).outcome
    assert isinstance(pulled, shop_order.ShopOrder)
    assert isinstance(hooked, shop_order.ShopOrder)
    assert pulled.refunds == hooked.refunds != ()
