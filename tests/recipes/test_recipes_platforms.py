"""Magento, PrestaShop and Medusa, as edge/README.md has them: no order is missed, each keeps its customer's device."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kit.platform_kit import (
    BY_ADMIN,
    BY_SERVICE,
    Door,
    Medusa,
    Visitor,
    a_door,
    a_visitor,
    asked,
    check_told,
    magento,
    needs_node,
    needs_php,
    order_number,
    prestashop,
    the_collector,
    the_key,
)  # fmt: skip

__all__ = ["a_door", "a_visitor", "the_collector", "the_key"]
pytestmark = pytest.mark.slow

# --- PrestaShop -------------------------------------------------------------------------------------------------------


@needs_php
@pytest.mark.parametrize(
    ("states", "told"),
    [
        (["accepted"], ["paid"]),
        (["cod", "shipped"], ["pending", "paid"]),
        (["cheque", "accepted"], ["pending", "paid"]),
        (["cheque", "canceled"], ["pending", "cancelled"]),
        (["error", "accepted"], ["failed", "paid"]),
        (["accepted", "refunded"], ["paid", "refunded"]),
    ],
    ids="-".join,
)
def test_prestashop_misses_no_way_to_pay(
    tmp_path: Path, door: Door, key: str, visitor: Visitor, states: list[str], told: list[str]
) -> None:
    shop, order = prestashop(tmp_path, door, key), order_number()
    shop.ask(asked(visitor.cookies), "checkout", order)
    shop.ask(BY_SERVICE, "order", order)
    shop.ask(BY_SERVICE, states[0], order)
    for state in states[1:]:
        shop.ask(BY_ADMIN, state, order)
    assert check_told(door, visitor, *told)[0]["eventValue"] == 49.9


@needs_php
def test_prestashop_tells_again_and_tells_of_refunds(tmp_path: Path, door: Door, key: str, visitor: Visitor) -> None:
    shop, order, gone = prestashop(tmp_path, door, key), order_number(), order_number()
    shop.ask(asked(visitor.cookies), "checkout", order)
    shop.ask(BY_SERVICE, "order", order)
    shop.ask(BY_SERVICE, "order", gone)
    door.down = True
    shop.ask(BY_SERVICE, "accepted", order)
    shop.ask(BY_SERVICE, "accepted", gone)
    assert door.refused == 3
    door.down = False
    shop.ask(BY_SERVICE, "delete", gone)  # holds up nobody
    (tmp_path / "cron.php").write_text("<?php require __DIR__ . '/modules/collectortag/tell.php'; ")
    shop.put("program.php", "<?php require __DIR__ . '/modules/collectortag/tell.php';")
    shop.ask(BY_SERVICE)
    shop.ask(BY_SERVICE)
    check_told(door, visitor, "paid")
    shop.start("prestashop", "modules/collectortag/collectortag.php")
    shop.ask(BY_ADMIN, "slip", order, "20.000000")
    (body,) = check_told(door, visitor, "partially_refunded")
    assert body["eventValue"] == 29.9
    assert 'data-store="store_abc123"' in shop.ask(asked({}), "page", "0")


# --- Magento ----------------------------------------------------------------------------------------------------------

CRON = asked({}, "", "", area="crontab")


@needs_php
@pytest.mark.parametrize(
    ("first", "by", "later", "told"),
    [
        ("buy", "webapi_rest", [], ["paid"]),
        ("buy", "service", [], ["paid"]),
        ("place", "webapi_rest", ["invoice"], ["pending", "paid"]),
        ("place", "graphql", ["ship", "comment", "invoice"], ["pending", "pending", "paid"]),
        ("place", "frontend", ["cancel"], ["pending", "cancelled"]),
        ("buy", "frontend", ["comment", "close"], ["paid", "refunded"]),
    ],
)
def test_magento_misses_no_way_to_pay(
    tmp_path: Path, door: Door, key: str, visitor: Visitor, first: str, by: str, later: list[str], told: list[str]
) -> None:
    shop, order = magento(tmp_path, door, key), order_number()
    if by in ("service", "frontend"):
        shop.ask(asked(visitor.cookies, area="frontend"), "checkout", order)
    shop.ask(BY_SERVICE if by == "service" else asked(visitor.cookies, area=by), first, order)
    assert door.told == []  # the checkout waits for nobody
    shop.ask(CRON, "cron", order)
    for step in later:
        shop.ask(BY_ADMIN, step, order)
        shop.ask(CRON, "cron", order)
    assert check_told(door, visitor, *told)[0]["eventValue"] == 49.9
    shop.ask(CRON, "cron", order)
    assert door.told == []


@needs_php
def test_magento_notes_in_the_orders_own_transaction_and_tells_again(
    tmp_path: Path, door: Door, key: str, visitor: Visitor
) -> None:
    shop, order, gone = magento(tmp_path, door, key), order_number(), order_number()
    shop.ask(asked(visitor.cookies, area="webapi_rest"), "broken", order)
    shop.ask(CRON, "cron", order)
    assert (door.told, door.refused) == ([], 0)  # no order was saved: nothing is told
    shop.ask(asked(visitor.cookies, area="webapi_rest"), "buy", order)
    shop.ask(asked(visitor.cookies, area="webapi_rest"), "buy", gone)
    door.down = True
    shop.ask(CRON, "cron", order)
    assert door.refused == 2
    door.down = False
    shop.ask(BY_ADMIN, "delete", gone)
    shop.ask(CRON, "cron", order)
    check_told(door, visitor, "paid")
    shop.ask(BY_ADMIN, "refund", order, "20")
    shop.ask(CRON, "cron", order)
    (body,) = check_told(door, visitor, "partially_refunded")
    assert body["eventValue"] == 29.9


@needs_php
@pytest.mark.parametrize("heard", [False, True], ids=["as-it-stands", "control-heard-in-the-admins-area-too"])
def test_magento_takes_no_admins_device(tmp_path: Path, door: Door, key: str, heard: bool) -> None:
    """Who orders for a customer on the phone has cookies of the shop's pages as well."""
    shop, order = magento(tmp_path, door, key), order_number()
    if heard:
        shop.put("app/etc/adminhtml/events.xml", (tmp_path / "app/etc/frontend/events.xml").read_text())
    shop.ask(BY_ADMIN, "place", order)
    shop.ask(CRON, "cron", order)
    (told,) = door.told
    assert told.body.get("visitorId") == (BY_ADMIN["cookies"]["_cv"] if heard else None)
    assert told.status == 200


# --- Medusa -----------------------------------------------------------------------------------------------------------


@needs_node
def test_medusa_tells_each_event_of_an_order(tmp_path: Path, door: Door, key: str, visitor: Visitor) -> None:
    shop = Medusa(tmp_path, door, key)
    paid, cash, ended = order_number(), order_number(), order_number()
    place = ["place", "order_1", int(paid), 49.9]
    paying = [["authorize", "order_1", 49.9], ["capture", "order_1", 49.9], ["refund", "order_1", 20]]
    errors = shop.run(visitor.cookies, ["early", "order_1"], place, *paying)
    assert errors == []
    bodies = check_told(door, visitor, "pending", "paid", "partially_refunded")
    assert [body["eventValue"] for body in bodies] == [49.9, 49.9, 29.9]
    shop.run(visitor.cookies, ["place", "order_2", int(cash), 10], ["silent", "order_2", 10], ["job"])
    check_told(door, visitor, "pending", "paid")
    shop.run(visitor.cookies, ["place", "order_3", int(ended), 10], ["cancel", "order_3"])
    check_told(door, visitor, "pending", "cancelled")


@needs_node
def test_medusa_tells_again_what_the_collector_did_not_take(
    tmp_path: Path, door: Door, key: str, visitor: Visitor
) -> None:
    shop, order = Medusa(tmp_path, door, key), order_number()
    door.down = True
    errors = shop.run({**visitor.cookies, "wp_consent_marketing": "deny"}, ["place", "order_1", int(order), 49.9])
    assert (len(errors), "503" in errors[0]) == (1, True)
    assert "jo@example.com" not in errors[0]
    door.down = False
    shop.run({**visitor.cookies, "wp_consent_marketing": "deny"}, ["place", "order_1", int(order), 49.9], ["job"])
    assert [told.body["consent"] for told in door.told] == [{"marketing": "denied"}] * 2
    assert [told.status for told in door.told] == [200, 200]
