"""Storefronts and WooCommerce, as edge/README.md has them: no order is missed, each finds its click by what is told."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.browser.ground import PERSON, Collector, free_port, running
from tests.kit.platform_kit import (
    BY_ADMIN,
    BY_SERVICE,
    Door,
    Visitor,
    a_door,
    a_visitor,
    asked,
    check,
    check_told,
    needs_php,
    order_number,
    the_collector,
    the_key,
    woocommerce,
)  # fmt: skip
from tests.kit.recipes import names, recipe

__all__ = ["a_door", "a_visitor", "the_collector", "the_key"]
pytestmark = pytest.mark.slow

EXPRESS = "express@5"


def environment(collector: Collector, port: int) -> dict[str, str]:
    own = {"COLLECTOR_URL": f"http://127.0.0.1:{collector.port}", "COLLECTOR_KEY": collector.key("store_abc123")}
    return {**os.environ, **own, "PORT": str(port)}


def pay(port: int, visitor: Visitor, order: str) -> dict[str, Any]:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/paid/{order}", headers={"Cookie": visitor.header, "User-Agent": PERSON}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return dict(json.load(answer))


def test_the_storefront_in_python(tmp_path: Path, collector: Collector, visitor: Visitor) -> None:
    program, port = tmp_path / "storefront.py", free_port()
    program.write_text(recipe("python"))
    env = environment(collector, port)
    with running([sys.executable, str(program)], port, tmp_path / "log", env=env):
        check(pay(port, visitor, "1001"), visitor)


@pytest.mark.skipif(shutil.which("npm") is None, reason="needs node and npm")
def test_the_storefront_in_node(tmp_path: Path, collector: Collector, visitor: Visitor) -> None:
    subprocess.run(["npm", "install", "--silent", "--no-save", EXPRESS], check=True, cwd=tmp_path, capture_output=True)
    program, port = tmp_path / "storefront.js", free_port()
    program.write_text(recipe("express"))
    env = environment(collector, port)
    with running(["node", str(program)], port, tmp_path / "log", cwd=tmp_path, env=env):
        check(pay(port, visitor, "1002"), visitor)


# --- WooCommerce ------------------------------------------------------------------------------------------------------

WAYS_TO_PAY = {  # what happens to an order, by whose request
    "card": ("classic", [("processing", BY_SERVICE), ("completed", BY_ADMIN)]),
    "card-block": ("block", [("processing", BY_SERVICE)]),
    "cash-on-delivery": ("block", [("processing", None), ("completed", BY_ADMIN)]),
    "bank-transfer": ("classic", [("on-hold", None), ("processing", BY_ADMIN)]),
    "cheque": ("block", [("on-hold", None), ("completed", BY_ADMIN)]),
    "virtual-goods": ("classic", [("completed", BY_SERVICE)]),
    "second-attempt": ("classic", [("failed", BY_SERVICE), ("processing", BY_SERVICE)]),
    "given-up": ("classic", [("on-hold", None), ("cancelled", BY_ADMIN)]),
    "money-back": ("classic", [("processing", BY_SERVICE), ("refunded", BY_ADMIN)]),
}


@needs_php
@pytest.mark.parametrize("way", WAYS_TO_PAY)
def test_woocommerce_misses_no_way_to_pay(tmp_path: Path, door: Door, key: str, visitor: Visitor, way: str) -> None:
    shop, order = woocommerce(tmp_path, door, key), order_number()
    checkout, changes = WAYS_TO_PAY[way]
    shop.ask(asked(visitor.cookies), checkout, order)
    for status, request in changes:
        shop.ask(request or asked(visitor.cookies), status, order)
    bodies = check_told(door, visitor, *(status for status, _ in changes))
    assert {body["eventValue"] for body in bodies} == {49.9}


@needs_php
def test_control_by_payment_complete_alone_cash_on_delivery_is_missed(
    tmp_path: Path, door: Door, key: str, visitor: Visitor
) -> None:
    shop, order = (
        woocommerce(tmp_path, door, key, {"woocommerce_order_status_processing": "woocommerce_payment_complete"}),
        order_number(),
    )
    shop.ask(asked(visitor.cookies), "block", order)
    shop.ask(asked(visitor.cookies), "processing", order)
    assert door.told == []


@needs_php
def test_control_a_device_read_when_the_status_changes_is_the_admins(
    tmp_path: Path, door: Door, key: str, visitor: Visitor
) -> None:
    at_once = {"($order->get_meta('_collector') ?: [])": "Collector::device(WC_Geolocation::get_ip_address())"}
    shop, order = woocommerce(tmp_path, door, key, at_once), order_number()
    shop.ask(asked(visitor.cookies), "classic", order)
    shop.ask(BY_ADMIN, "completed", order)
    assert [told.body["visitorId"] for told in door.told] == [BY_ADMIN["cookies"]["_cv"]]


@needs_php
def test_woocommerce_orders_that_an_admin_makes(tmp_path: Path, door: Door, key: str, visitor: Visitor) -> None:
    """On the phone: no device, unless the customer pays by the link; in the shop's own checkout: not the admin's."""
    shop = woocommerce(tmp_path, door, key)
    phoned, linked, ordered = order_number(), order_number(), order_number()
    shop.ask(BY_ADMIN, "made", phoned)
    shop.ask(BY_ADMIN, "processing", phoned)
    shop.ask(BY_ADMIN, "classic", ordered)
    shop.ask(BY_ADMIN, "processing", ordered)
    assert [set(told.body) & {"visitorId", "userAgent", "ipAddress", "consent"} for told in door.told] == [set(), set()]
    assert [told.status for told in door.told] == [200, 200]
    door.told.clear()
    shop.ask(BY_ADMIN, "made", linked)
    shop.ask(asked(visitor.cookies), "pay", linked)
    shop.ask(BY_SERVICE, "processing", linked)
    check_told(door, visitor, "processing")


CONSENTS: list[tuple[dict[str, str], str, str | None]] = [  # cookies, WP Consent API's type, what is told
    ({}, "", None),
    ({"wp_consent_marketing": "allow"}, "optin", "granted"),
    ({"wp_consent_marketing": "deny"}, "optin", "denied"),
    ({"wp_consent_marketing": "deny"}, "optout", "denied"),
    ({"wp_consent_marketing": "deny"}, "", "denied"),
    ({}, "optin", "pending"),
    ({}, "optout", "granted"),
    ({"CookieConsent": "{stamp:%27x%27%2Cnecessary:true%2Cmarketing:true%2Cver:1}"}, "", "granted"),
    ({"CookieConsent": "{stamp:%27x%27%2Cnecessary:true%2Cmarketing:false%2Cver:1}"}, "optout", "denied"),
    ({"OptanonAlertBoxClosed": "2026-11-01", "OptanonConsent": "groups=C0001%3A1%2CC0004%3A1"}, "", "granted"),
    ({"OptanonConsent": "groups=C0001%3A1%2CC0004%3A0", "OptanonAlertBoxClosed": "2026-11-01"}, "", "denied"),
    ({"OptanonConsent": "groups=C0001%3A1%2CC0004%3A1"}, "", None),  # the box is still open: a default
    ({"wp_consent_marketing": "allow", "CookieConsent": "{marketing:false}"}, "optin", "denied"),
]


@needs_php
@pytest.mark.parametrize(("cookies", "type_", "said"), CONSENTS)
def test_consent_is_read_at_checkout_and_told(
    tmp_path: Path, door: Door, key: str, cookies: dict[str, str], type_: str, said: str | None
) -> None:
    shop, order = woocommerce(tmp_path, door, key), order_number()
    shop.ask(asked(cookies, type=type_), "classic", order)
    shop.ask(BY_ADMIN, "processing", order)  # whose own cookies say "allow"
    (told,) = door.told
    assert told.body.get("consent") == ({"marketing": said} if said else None)
    assert (told.status, told.ignored) == (200, None)


@needs_php
def test_where_consent_is_asked_first_the_visitors_cookie_is_the_grant(
    tmp_path: Path, door: Door, key: str, visitor: Visitor
) -> None:
    shop = woocommerce(tmp_path, door, key)
    shop.put("mu-plugins/collector/collector.php", shop.client.replace("ASKS_FIRST = false", "ASKS_FIRST = true"))
    for cookies, said in [
        (visitor.cookies, "granted"),
        ({}, None),
        ({**visitor.cookies, "wp_consent_marketing": "deny"}, "denied"),
    ]:
        order = order_number()
        shop.ask(asked(cookies), "classic", order)
        shop.ask(BY_SERVICE, "processing", order)
        assert door.told[-1].body.get("consent") == ({"marketing": said} if said else None)


@needs_php
@pytest.mark.parametrize("precision", ["-1", "14", "17", "100"])
def test_amounts_have_no_tail_whatever_the_hosts_setting(tmp_path: Path, door: Door, key: str, precision: str) -> None:
    shop = woocommerce(tmp_path, door, key)
    totals = {"49.90": "49.9", "49.899999999999999": "49.9", "0.30000000000000004": "0.3", "1234567.89": "1234567.89"}
    for total, told in totals.items():
        order = order_number()
        shop.ask(asked({}), "made", order, total)
        shop.ask(BY_ADMIN, "processing", order, ini=f"serialize_precision={precision}")
        assert f'"eventValue":{told},' in door.told[-1].raw
        assert door.told[-1].status == 200


@needs_php
def test_woocommerce_tells_of_what_stays_after_a_refund(tmp_path: Path, door: Door, key: str, visitor: Visitor) -> None:
    shop, order = woocommerce(tmp_path, door, key), order_number()
    shop.ask(asked(visitor.cookies), "classic", order)
    shop.ask(BY_SERVICE, "processing", order)
    shop.ask(BY_ADMIN, "refund", order, "20")
    shop.ask(BY_ADMIN, "completed", order)
    bodies = check_told(door, visitor, "processing", "partially_refunded", "completed")
    assert [body["eventValue"] for body in bodies] == [49.9, 29.9, 29.9]


@needs_php
def test_woocommerce_tells_again_what_the_collector_did_not_take(
    tmp_path: Path, door: Door, key: str, visitor: Visitor
) -> None:
    shop, order = woocommerce(tmp_path, door, key), order_number()
    shop.ask(asked(visitor.cookies), "classic", order)
    door.down = True
    shop.ask(BY_SERVICE, "processing", order)
    shop.ask(BY_SERVICE, "scheduled", order)
    assert (door.refused, door.told) == (2, [])
    door.down = False
    shop.ask(BY_SERVICE, "scheduled", order)
    shop.ask(BY_SERVICE, "scheduled", order)
    check_told(door, visitor, "processing")


@needs_php
def test_the_checkout_notes_what_woocommerces_own_webhook_carries(
    tmp_path: Path, door: Door, key: str, visitor: Visitor
) -> None:
    shop, order = woocommerce(tmp_path, door, key), order_number()
    shop.ask(asked({**visitor.cookies, "wp_consent_marketing": "allow"}), "block", order)
    marks = json.loads(shop.ask(BY_ADMIN, "meta", order))
    assert marks == {name: visitor.cookies[name] for name in ("_cv", "_fbc", "_fbp")} | {"_consent": "granted"}


@needs_php
def test_woocommerce_prints_the_tag(tmp_path: Path, door: Door, key: str) -> None:
    page = woocommerce(tmp_path, door, key).ask(asked({}), "page", "0")
    assert page == '<script async src="/m/c.js" data-store="store_abc123"></script>'


def test_every_recipe_is_run() -> None:
    sources = [path.read_text() for path in Path(__file__).parents[1].rglob("*.py")]
    run = {name for text in sources for name in re.findall(r'recipe\(\s*"([\w-]+)"', text)}
    run |= {f"magento-{name}" for text in sources for name in re.findall(r'"(\w+)"', text)} & names()
    run |= {name for text in sources for name in re.findall(r'\("(medusa[\w-]*)", "', text)}
    assert names() - run == set()
