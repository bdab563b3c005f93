"""P5: what a shop sends of somebody who was erased is of no use any more, under whichever of his order's names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from collector.exchange.shops import Page
from collector.storage.people.erasure import erase_person
from collector.storage.verbs.person import Asked
from tests.journal.test_shop_orders import Shop, message
from tests.kit import shops as made
from tests.kit.journal_kit import HOUR, STORE, order

NUMBER = 5_550_000


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    one = Shop(tmp_path)
    yield one
    one.kit.close()


def erase(shop: Shop, **who: str) -> int:
    shop.kit.now += HOUR
    erasure = erase_person(shop.kit.config, None, Asked(**who), shop.kit.now, dry_run=False)
    return sum(receipt.conversions for receipt in erasure.receipts)


def test_P5_late_word_of_an_erased_order_is_ignored(shop: Shop) -> None:
    one = message(NUMBER, "paid")
    shop.tell(one)
    assert erase(shop, email="ada@example.com") == 1
    for state in ("paid", "refunded", "cancelled"):
        assert shop.tell(message(NUMBER, state)).reason == "erased"
    assert shop.kit.rows("SELECT count(*) FROM order_name") == [(0,)]


def test_P5_control_another_customers_order_is_taken(shop: Shop) -> None:
    shop.tell(message(NUMBER, "paid"))
    erase(shop, email="ada@example.com")
    other = made.shopify(id=NUMBER + 50, admin_graphql_api_id=None, email="bob@example.com", customer=None, phone=None,
                         billing_address=None, note_attributes=[], landing_site=None)  # fmt: skip
    assert shop.tell(other).reason is None


def test_P5_an_order_that_a_server_told_by_its_number_is_erased_under_the_shops_names_too(shop: Shop) -> None:
    told = order(str(NUMBER + 1), eventValue="118.90", currency="EUR", customerData={"email": "ada@example.com"})
    shop.kit.submit([shop.kit.operation(told)])
    assert shop.tell(message(NUMBER, "paid")).reason is None
    assert erase(shop, order=str(NUMBER + 1)) == 1
    assert shop.tell(message(NUMBER, "refunded")).reason == "erased"


def test_an_order_is_erased_by_the_number_that_people_know_it_by(shop: Shop) -> None:
    shop.tell(message(NUMBER, "paid"))
    assert erase(shop, order=f"#{NUMBER + 1}") == 1


PUT = "INSERT INTO shop_inbox (store, platform, topic, seen, body) VALUES (?, ?, 'orders/updated', 2, ?)"


def waiting(shop: Shop, number: int, email: str) -> None:
    """A pull has found an order, and no edge is there to read it."""
    one = made.shopify(id=number, admin_graphql_api_id=None, name=f"#{number % 1000}", order_number=None, email=email)
    shop.kit.execute(PUT, STORE, "shopify", one.body)


@pytest.mark.parametrize(
    "who", [{"email": "ada@example.com"}, {"order": str(NUMBER + 7)}, {"order": f"#{(NUMBER + 7) % 1000}"}]
)
def test_P6_an_erasure_takes_what_no_edge_has_read_yet(shop: Shop, who: dict[str, str]) -> None:
    shop.tell(message(NUMBER, "paid"))
    waiting(shop, NUMBER + 7, "ada@example.com")
    waiting(shop, NUMBER + 8, "bob@example.com")  # the control
    shop.kit.execute(PUT, STORE, "nobody", b"\0")
    erase(shop, **who)
    left = [bytes(body) for (body,) in shop.kit.rows("SELECT body FROM shop_inbox ORDER BY id")]
    assert len(left) == 2
    assert b"ada@example.com" not in b"".join(left)


def test_P6_a_row_is_deleted_when_it_is_taken(shop: Shop) -> None:
    waiting(shop, NUMBER + 9, "ada@example.com")
    (row,) = shop.kit.rows("SELECT id FROM shop_inbox")[0]
    shop.tell(message(NUMBER + 9, "paid"), page=Page(seen=2, inbox=row))
    assert shop.kit.rows("SELECT count(*) FROM shop_inbox") == [(0,)]
