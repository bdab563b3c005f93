# ruff: noqa: E501 (cases are read as one line each)
"""O1–O9 and D2 with a shop among the tellers: whatever order and however often they tell, one end state, at most one send."""

from __future__ import annotations

import os
import random
from decimal import Decimal
from itertools import count, permutations
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec import structs

from collector.core import orders
from collector.core.intake import Caller
from collector.core.orders import Rank
from collector.core.shops import order as shop_order
from collector.edge.prepare import Preparer
from collector.edge.webhooks import Webhooks
from collector.exchange.operations import ShopDelivery, ShopTaken
from collector.exchange.shops import Page
from tests.kit import shops as made
from tests.kit.journal_kit import MINUTE, NOW, STORE, Kit, config_for
from tests.kit.journal_kit import order as server_body
from tests.kit.shops import Message

AT = {"created": 0, "paid": 1, "updated": 2, "refunded": 3, "cancelled": 4}
numbers = count(9_000_000, 10)
deliveries = count()


class Shop:
    """A journal, and what an edge makes of a shop's messages for it."""

    def __init__(self, folder: Path, **store: Any) -> None:
        config = config_for(folder)
        changes = {"webhook_secrets": made.STORE.webhook_secrets} | store
        config = structs.replace(config, store=[structs.replace(config.store[0], **changes)])
        self.kit = Kit(folder, config=config)
        journal = self.kit.journal
        ignore = lambda *_: None  # noqa: E731
        keeper = SimpleNamespace(names=journal.names, public=journal.public, stores=journal.stores, count=ignore)
        preparer = Preparer(config, journal.stores, journal.names, journal.public, lambda: self.kit.now, ignore)
        door = SimpleNamespace(most_webhook=4_194_304)
        self.webhooks = Webhooks(config, keeper, preparer, door)  # type: ignore[arg-type]
        from collector.config_loader import shops

        self.hooks = shops.hooks(config.store[0])

    def tell(
        self, message: Message, delivery: bytes | None = None, seen: int = 1, page: Page | None = None
    ) -> ShopTaken:
        """What a signed message becomes; `seen`: by which way it came."""
        hook = self.hooks[message.name]
        headers = {name.lower(): value for name, value in message.headers.items()}
        read = shop_order.read(hook.platform, hook.terms, STORE, headers, message.body)
        known = delivery or b"%d" % next(deliveries)
        one = ShopDelivery(known, self.kit.journal.stores[STORE].number, message.name, read.topic)
        told, _ = self.webhooks._operation(self.kit.journal.stores[STORE], one, read, page or Page(seen))
        (taken,) = self.kit.submit([told])
        assert isinstance(taken, ShopTaken)
        return taken


@pytest.fixture
def shop(tmp_path: Path) -> Any:
    one = Shop(tmp_path)
    yield one
    one.kit.close()


def moment(minutes: int) -> str:
    from collector.core import times

    return times.text(NOW + minutes * MINUTE)


def message(number: int, state: str) -> Message:
    """What Shopify says of an order in one of its states."""
    changes: dict[str, Any] = {
        "created": {"financial_status": "pending"},
        "paid": {"financial_status": "paid"},
        "updated": {"financial_status": "paid", "tags": "gift", "note": "ring twice"},
        "refunded": {"financial_status": "partially_refunded", "current_total_price": "88.90"},
        "cancelled": {"financial_status": "paid", "cancelled_at": moment(AT["cancelled"])},
    }[state]
    return made.shopify(
        f"orders/{state}" if state in ("paid", "cancelled") else "orders/updated",
        id=number,
        admin_graphql_api_id=f"gid://shopify/Order/{number}",
        name=f"#{number + 1}",
        order_number=number + 1,
        created_at=moment(0),
        updated_at=moment(AT[state]),
        **changes,
    )


def told_in(shop: Shop, tellers: tuple[str, ...]) -> tuple[Any, ...]:
    """How an order stands once they have told of it in this order, some of them again."""
    number = next(numbers)
    page = Caller(secret=False, address="198.51.100.9", user_agent=made.AGENT)
    row: int | None = None
    for teller in tellers:
        shop.kit.now += 1000
        if teller == "server":
            shop.kit.submit(
                [
                    shop.kit.operation(
                        server_body(
                            str(number), eventValue=500, currency="EUR", customerData={"email": "ada@example.com"}
                        )
                    )
                ]
            )
        elif teller == "page":
            shop.kit.submit([shop.kit.operation(server_body(str(number), eventValue=3, currency="EUR"), page)])
        else:
            row = shop.tell(message(number, teller)).conversion
    assert row is not None
    found = shop.kit.state(row)
    event = found.event
    sends = shop.kit.rows("SELECT count(*) FROM outbox WHERE conversion = ? AND state < 3", row)
    return (event.order_status, event.value, event.currency, event.rank, found.state, sends)


SHOPS = ("created", "paid", "updated", "refunded")
ALL = [(*SHOPS, "cancelled", "server", "page"), (*SHOPS, "server", "page")]


def some(tellers: tuple[str, ...], most: int) -> list[tuple[str, ...]]:
    every = list(permutations(tellers))
    chosen = every if most >= len(every) else random.Random(7).sample(every, most)
    return [tuple(t for teller in one for t in [teller] * (1 + (n % 3))) for n, one in enumerate(chosen)]


def check(shop: Shop, tellers: tuple[str, ...], most: int) -> None:
    found = [told_in(shop, one) for one in some(tellers, most)]
    ends = {hashable(one): one for one in found}
    assert len(ends) == 1, ends
    assert found[0][-1] == [(0 if "cancelled" in tellers else 1,)], "one event, and none of what has ended"
    ((status, value, currency, rank, _, sends),) = ends.values()
    assert (str(value), currency, rank) == ("88.90", "EUR", Rank.SHOP)
    assert status == ("cancelled" if "cancelled" in tellers else "partially_refunded")
    assert sends == ([(0,)] if "cancelled" in tellers else [(1,)])


def hashable(found: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(str(part) for part in found)


@pytest.mark.parametrize("tellers", ALL, ids=["ended", "not ended"])
def test_O1_D2_one_end_state_whatever_the_order_and_the_repeats(shop: Shop, tellers: tuple[str, ...]) -> None:
    check(shop, tellers, 40)


@pytest.mark.slow
@pytest.mark.parametrize("tellers", ALL, ids=["ended", "not ended"])
def test_10_2_O1_D2_every_permutation(shop: Shop, tellers: tuple[str, ...]) -> None:
    """A part of them; PERMUTATIONS=5040 is all of the seven that end the order."""
    check(shop, tellers, int(os.environ.get("PERMUTATIONS", "300")))


def test_O1_control_by_arrival_alone_the_end_would_depend_on_it(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    timeless = orders.fact
    monkeypatch.setattr("collector.core.orders.fact", lambda event, at, *, edited: timeless(event, None, edited=edited))
    with pytest.raises(AssertionError):
        check(shop, ALL[0], 40)


def test_D1_a_delivery_is_taken_once_and_forgotten_after_eight_days(shop: Shop) -> None:
    one = message(next(numbers), "paid")
    first, again = shop.tell(one, b"same"), shop.tell(one, b"same")
    assert again == structs.replace(first, duplicate=True)
    shop.kit.now += 8 * 24 * 60 * MINUTE + 1
    assert shop.tell(one, b"same") == first
    assert shop.kit.rows("SELECT count(*) FROM shop_delivery") == [(1,)]


def test_O8_a_page_that_is_believed_sends_no_second_event_under_the_orders_number(tmp_path: Path) -> None:
    shop = Shop(tmp_path, browser_purchases="send")
    page = Caller(secret=False, address="198.51.100.9", user_agent=made.AGENT)
    for value, sends in (("118.90", 1), ("7.00", 3)):  # of another value it is another sale: the control
        number = next(numbers)
        shop.tell(message(number, "paid"))
        body = server_body(str(number + 1), eventValue=value, currency="EUR", customerData={"email": "ada@example.com"})
        shop.kit.submit([shop.kit.operation(body, page)])
        assert shop.kit.rows("SELECT count(*) FROM outbox WHERE state < 3") == [(sends,)]
    shop.kit.close()


@pytest.mark.parametrize("shop_first", [True, False])
def test_O6_the_shops_value_counts_and_a_servers_is_a_note(shop: Shop, shop_first: bool) -> None:
    number = next(numbers)
    shop.kit.now += 10 * MINUTE
    later = {"orderStatus": "paid", "statusAt": moment(9)}  # than the shop's
    one = shop.kit.operation(server_body(str(number), eventValue=500, currency="EUR", **later))
    tellers = [lambda: shop.tell(message(number, "paid")), lambda: shop.kit.submit([one])]
    for tell in tellers if shop_first else tellers[::-1]:
        tell()
    row = shop.tell(message(number, "paid")).conversion
    assert row is not None
    event = shop.kit.state(row).event
    assert event.value == Decimal("118.90")
    assert sorted((fact.rank, fact.value) for fact in event.told) == [
        (Rank.SERVER, Decimal(500)),
        (Rank.SHOP, Decimal("118.90")),
    ]


def test_O9_tags_and_notes_change_nothing(shop: Shop) -> None:
    number = next(numbers)
    row = shop.tell(message(number, "paid")).conversion
    assert row is not None
    before = shop.kit.state(row)
    later = made.shopify(
        "orders/updated", **{**_plain(message(number, "paid")), "tags": "shipped", "updated_at": moment(9)}
    )
    assert shop.tell(later).conversion == row
    after = shop.kit.state(row)
    assert (after.row.revision, after.state) == (before.row.revision, before.state)


def _plain(one: Message) -> dict[str, Any]:
    import json

    return json.loads(one.body)  # type: ignore[no-any-return]


def test_O8_two_hooks_with_one_number_and_other_value_are_counted(shop: Shop) -> None:
    number = next(numbers)
    shop.kit.submit([shop.kit.operation(server_body(str(number + 1), eventValue=7, currency="EUR"))])
    shop.tell(message(number, "paid"))
    assert shop.kit.rows("SELECT count(*) FROM conversion") == [(2,)]
    assert (1, "shop.name_conflict") in list(shop.kit.transaction.figures)


def test_retention_takes_an_orders_other_names_with_it(shop: Shop) -> None:
    row = shop.tell(message(next(numbers), "paid")).conversion
    db = shop.kit.transaction._db
    assert db.execute("SELECT count(*) FROM order_name WHERE conversion = ?", (row,)).get == 3
    db.execute("DELETE FROM conversion WHERE id = ?", (row,))
    assert db.execute("SELECT count(*) FROM order_name WHERE conversion = ?", (row,)).get == 0


def test_O8_names_that_a_rollback_took_are_kept_when_they_are_told_again(shop: Shop) -> None:
    kept, transaction = shop.kit.transaction.conversions.order_names, shop.kit.transaction
    shop.tell(message(next(numbers), "paid"))
    transaction.begin()
    kept.keep(1, {7}, {8})
    transaction.rollback()
    assert shop.kit.rows("SELECT count(*) FROM order_name WHERE name IN (7, 8)") == [(0,)]
    transaction.begin()
    kept.keep(1, {7}, {8})
    transaction.commit()
    assert shop.kit.rows("SELECT count(*) FROM order_name WHERE name IN (7, 8)") == [(2,)]
