"""Nothing unhashed of a person goes to Meta, and what is odd in custom data is read or left out, never refused."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from collector.core import intake, personal
from collector.core.capi import custom_data
from collector.core.capi.custom_data import own_keys
from collector.core.capi.payload import Profile, build_event
from collector.core.consent import Decision
from collector.core.events import ConversionBody, CustomerData, Enrichment, Product, StoredEvent
from collector.core.intake import Caller, CheckedEvent
from collector.core.personal import said_of
from tests.capi.test_capi_payload import NOW, build, sent
from tests.kit.simulators.graph_rules import judge

JO = CustomerData(email="jo@example.com", first_name="Josephine", last_name="Smith-Ndiaye", phone="+1 650 555 1212")


def checked(**more: Any) -> CheckedEvent:
    """An order by a server, as intake reads it."""
    body = ConversionBody(
        **{
            "store_id": "store_a", "event_type": "Purchase", "order_id": "1001", "event_value": Decimal("9.90"),
            "currency": "EUR", "customer_data": JO, "event_source_url": "https://shop.example/thanks", **more,
        }
    )  # fmt: skip
    return intake.check_event(body, Caller(secret=True), Decision("granted", False), NOW, None, "US")


def leaving(event: StoredEvent) -> bytes:
    """The bytes for Meta; its judge must take them."""
    built = build_event(event, Enrichment(), Profile())
    assert built.refused is None
    assert judge([msgspec.json.decode(built.payload)], NOW / 1000) is None
    return built.payload


PERSONAL = [
    {"customer": {"email": "jo@example.com", "phone": "+16505551212"}},
    {"emails": ["jo@example.com"]},
    {"customer_name": "Jo Smith"},
    {"billing_phone": "+16505551212"},
    {"billing_email": "x"},
    {"user_data": {"em": "jo@example.com"}},
    {"phone_number": "6505551212"},
    {"customerPhone": "650 555 1212"},
    {"shipping-first-name": "Jo"},
    {"shipping_address": {"line1": "1 Hacker Way", "city": "Menlo Park"}},
    {"userEmail": "x"},
    {"e-mail": "x"},
    {"Vorname": "Jo"},
    {"prénom": "Jo"},
    {"contact": {"n": "Jo"}},
    {"order": {"lines": [{"sku": "A"}, {"note": "for jo@example.com"}]}},
    {"deep": {"er": {"est": ["x", {"y": "write to jo@example.com"}]}}},
    {"note": "call +1 650 555 1212"},
    {"note": "call 0049 151 23456789"},
    {"contact_number": 16505551212},
    {"link": "https://shop.example/o?email=jo@example.com"},
    {"jo@example.com": 1},
    {"firstname": "Jo"},
    {"fn": "Jo"},
    {"name": "Jo Smith"},
    {"date_of_birth": "1997-02-16"},
    {"ip_address": "81.2.69.142"},
    {"password": "hunter2"},
    {"token": "SECRET"},
    {"billingCity": "Berlin"},
    {"recipient": "Jo"},
    {"email%40": "jo%40example.com"},
]


@pytest.mark.parametrize("custom", PERSONAL)
def test_what_is_a_persons_is_left_out_at_any_depth_under_any_key_and_named(custom: dict[str, Any]) -> None:
    found = checked(custom_data={**custom, "colour": "red"})
    payload = leaving(found.event).decode()
    for secret in (
        "jo@",
        "jo%40",
        "6505551212",
        "650 555",
        "Jo",
        "Hacker",
        "Menlo",
        "Berlin",
        "SECRET",
        "hunter2",
        "151 2345",
    ):
        assert secret not in payload.replace("josephine", "")
    assert '"colour":"red"' in payload
    assert any(name.startswith("customData.") for name in found.ignored) or "link" in custom
    assert not any("@" in name for name in found.ignored)
    assert found.event.custom_data["colour"] == "red"


def test_the_checks_above_see_it_without_the_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control."""
    monkeypatch.setattr(personal, "cleaned", lambda key, value, said=None, known=False: value)
    found = checked(custom_data={"customer": {"email": "jo@example.com"}})
    assert b"jo@example.com" in build_event(found.event, Enrichment(), Profile()).payload


def test_an_event_that_an_older_release_stored_is_read_again_before_it_leaves() -> None:
    for custom in PERSONAL:
        payload = build(custom_data=custom).payload
        assert b"jo@" not in payload
        assert b"6505551212" not in payload


@pytest.mark.parametrize(
    "custom",
    [
        {"colour": "red", "size": 42, "gift": True},
        {"customer_type": "returning", "customer_id_hash": "ab12"},
        {"shipping": 4.95, "shipping_method": "express", "delivery_days": 3},
        {"items": [{"name": "Shoe", "price": 9.9, "sku": "0012345678905"}]},
        {"coupon": "SUMMER-2026", "warehouse": "EU-1"},
        {"nested": {"list": [1, None, {"a": None}], "empty": {}}},
        {"city": "Berlin", "country": "DE"},  # Meta's own keys for travel and homes
        {"created": "2026-01-31T06:00:00Z", "ref": "4711-22"},
        {"payment_method": "paypal", "billing_period": "monthly"},
    ],
)
def test_what_is_nobodys_goes_as_it_came(custom: dict[str, Any]) -> None:
    assert own_keys(custom, said_of(JO)) == (custom, [])


@pytest.mark.parametrize(
    "text",
    ["Josephine Smith-Ndiaye", "SMITH-NDIAYE, JOSEPHINE", "Gift for Josephine Smith Ndiaye!", "josephine",
     "Smith-Ndiaye", "650.555.1212", "call 6505551212 now", "16505551212", "josephine_smith_ndiaye"],
)  # fmt: skip
def test_the_events_own_customer_stands_nowhere_in_clear(text: str) -> None:
    found = checked(
        custom_data={"engraving": text, "deep": [{"x": text}]},
        event_source_url=f"https://shop.example/thanks?q={text.replace(' ', '+')}&utm_source=fb",
        referrer=f"https://shop.example/for/Josephine%20Smith-Ndiaye/{text.replace(' ', '')}-josephine-smith-ndiaye",
        products=[Product(product_id="A", name=f"Ring, engraved: Josephine Smith-Ndiaye {text}", category="Rings")],
    )
    stored = msgspec.json.encode(found.event).lower()
    sends = leaving(found.event).lower()
    for clear in (b"josephine", b"ndiaye", b"5551212", b"555.1212"):
        assert clear not in stored
        assert clear not in sends
    assert b"utm_source=fb" in sends
    assert b'"rings"' in sends
    assert {"customData.engraving", "customData.deep", "products[0].name"} <= set(found.ignored)


def test_a_name_that_is_a_word_costs_no_product_its_title() -> None:
    buyer = CustomerData(first_name="Rose", last_name="Black")
    found = checked(
        customer_data=buyer, products=[Product(product_id="A", name="Black")], custom_data={"content_name": "Rose"}
    )
    assert found.event.products[0].name == "Black"
    assert found.event.custom_data == {"content_name": "Rose"}


def test_ids_that_hold_an_address_go_by_their_hash_or_not_at_all() -> None:
    found = checked(event_id="jo@example.com-1", visitor_id="jo@example.com", order_id="jo@example.com/7")
    assert "@" not in found.event.event_id
    assert len(found.event.event_id) == 32
    assert found.event.visitor_id is None
    assert {"eventId", "visitorId"} <= set(found.ignored)
    assert b"jo@" not in leaving(found.event)
    assert b"jo@" not in leaving(
        checked(products=[Product(product_id="jo@example.com"), Product(product_id="B")]).event
    )
    assert b"jo@" not in leaving(checked(user_agent="Mozilla/5.0 (jo@example.com)").event)


# --- types that Meta would refuse

READ = [
    ({"value": "19.99", "currency": "usd"}, {"value": 19.99, "currency": "USD"}),
    ({"value": "19,99", "currency": "EUR"}, {"value": 19.99, "currency": "EUR"}),
    ({"predicted_ltv": "120"}, {"predicted_ltv": 120}),
    ({"num_items": "3"}, {"num_items": 3}),
    ({"num_items": 3.0}, {"num_items": 3}),
    ({"content_ids": "A"}, {"content_ids": ["A"]}),
    ({"content_ids": [1, "B", None, 2.0]}, {"content_ids": ["1", "B", "2"]}),
    ({"content_type": "Product"}, {"content_type": "product"}),
    ({"contents": [{"id": 1}]}, {"contents": [{"id": "1"}]}),
    ({"contents": [{"id": "A", "quantity": "2", "item_price": "9.99"}]},
     {"contents": [{"id": "A", "quantity": 2, "item_price": 9.99}]}),
    ({"contents": [{"id": "A", "quantity": "x"}]}, {"contents": [{"id": "A"}]}),
    ({"contents": [{"quantity": 1}, {"id": "B"}, "x", None, {"id": ""}, {"id": "C", "quantity": 0}]},
     {"contents": [{"id": "B"}]}),
    ({"contents": {"id": "A"}}, {"contents": [{"id": "A"}]}),
    ({"contents": {"0": {"id": "A"}, "2": {"id": "B"}}}, {"contents": [{"id": "A"}, {"id": "B"}]}),
    ({"contents": [{"id": "0012345678905"}]}, {"contents": [{"id": "0012345678905"}]}),
    ({"contents": [{"id": "A", "unknown": 1}]}, {"contents": [{"id": "A"}]}),
    ({"order_id": 1001}, {"order_id": "1001"}),
    ({"search_string": 501}, {"search_string": "501"}),
    ({"delivery_category": "HOME_DELIVERY"}, {"delivery_category": "home_delivery"}),
    ({"value": -0.0, "currency": "EUR"}, {"value": 0, "currency": "EUR"}),
]  # fmt: skip


@pytest.mark.parametrize(("given", "read"), READ)
def test_an_odd_type_under_a_key_of_metas_is_read_for_what_it_must_mean(given: Any, read: Any) -> None:
    body = sent(event_type="ViewContent", order_id=None, value=None, currency=None, custom_data=given)
    assert body["custom_data"] == read


@pytest.mark.parametrize(("given", "read"), READ)
def test_what_is_read_at_intake_and_stored_is_read_the_same_before_it_leaves(given: Any, read: Any) -> None:
    kept, _ = own_keys(given)
    stored = msgspec.msgpack.decode(msgspec.msgpack.encode(kept))
    again, left_out = own_keys(stored)
    assert msgspec.json.decode(msgspec.json.encode(again)) == msgspec.json.decode(msgspec.json.encode(kept))
    assert left_out == []


UNREADABLE = [
    {"value": "free"},
    {"value": -1},
    {"value": True},
    {"value": float("nan")},
    {"value": "1e99"},
    {"currency": "euros"},
    {"currency": 7},
    {"content_ids": {}},
    {"content_ids": [None]},
    {"contents": "x"},
    {"contents": []},
    {"contents": [{}]},
    {"content_type": "gadget"},
    {"num_items": 1.5},
    {"num_items": "some"},
    {"status": 7},
    {"predicted_ltv": "high"},
    {"delivery_category": "drone"},
    {"order_id": ["1"]},
    {"content_name": ["x"]},
    {"search_string": {}},
]


@pytest.mark.parametrize("given", UNREADABLE)
def test_what_cannot_be_read_is_left_out_and_named(given: dict[str, Any]) -> None:
    (key,) = given
    found = checked(event_type="Lead", event_value=None, currency=None, custom_data=given)
    assert found.event.custom_data == {}
    assert found.ignored == [f"customData.{key}"]
    leaving(found.event)


def test_a_line_that_is_left_out_is_named() -> None:
    assert checked(custom_data={"contents": [{"id": "A"}, {"quantity": 1}]}).ignored == ["customData.contents"]


def test_keys_are_counted_by_names_of_metas_only() -> None:
    assert custom_data.label("contents") == "contents"
    assert custom_data.label("jo@example.com") == "personal"


@pytest.mark.parametrize("value", [Decimal("-0.0"), Decimal("0"), Decimal("-0")])
def test_no_value_is_minus_nothing(value: Decimal) -> None:
    assert b"-0" not in build(value=value, products=[Product(product_id="A", price=value)]).payload.replace(
        b"-0500", b""
    )


# --- where it happened


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost/thanks",
        "http://localhost:8080/thanks",
        "http://127.0.0.1/x",
        "http://[::1]/x",
        "https://shop.local/",
        "https://192.168.1.7/",
        "https://10.0.0.1:443/x",
        "https://intranet/x",
        "https://shop.localhost/x",
        "https://x.internal/",
    ],
)
def test_a_page_that_is_not_on_the_internet_is_not_named(url: str) -> None:
    built = build(event_source_url=url, referrer=url, ip="81.2.69.142")
    body = msgspec.json.decode(built.payload)
    assert "event_source_url" not in body
    assert "referrer_url" not in body
    assert {"event_source_url", "referrer_url"} <= set(built.dropped)


@pytest.mark.parametrize(
    "url",
    [
        "https://shop.example/thanks?a=1",
        "http://shop.example",
        "https://81.2.69.142/x",
        "https://münchen.de/x",
        "https://shop.example:8443/x#y",
    ],
)
def test_a_page_on_the_internet_is_named(url: str) -> None:
    assert "event_source_url" in sent(event_source_url=url)


@pytest.mark.parametrize("field", ["event_source_url", "referrer"])
def test_what_of_a_person_stands_in_a_stored_address_does_not_leave(field: str) -> None:
    url = "https://shop.example/thanks?email=jo@example.com&phone=16505551212&token=SECRET&utm_source=fb"
    payload = build(**{field: url}).payload
    assert b"utm_source=fb" in payload
    for secret in (b"jo@", b"16505551212", b"SECRET"):
        assert secret not in payload


@pytest.mark.parametrize(
    "address",
    [
        "100.64.1.2",
        "192.0.2.1",
        "198.51.100.7",
        "203.0.113.9",
        "240.0.0.1",
        "255.255.255.255",
        "224.0.0.1",
        "198.18.0.1",
        "10.1.2.3",
        "127.0.0.1",
        "169.254.1.1",
        "172.16.0.1",
        "192.168.0.1",
        "192.88.99.1",
        "0.0.0.0",
        "192.31.196.1",
        "2001:db8::1",
        "2002:5102:458e::1",
        "64:ff9b::5102:458e",
        "64:ff9b:1::1",
        "2001::1",
        "3fff::1",
        "fec0::1",
        "fe80::1",
        "fd00::1",
        "::1",
        "::",
        "ff02::1",
        "5f00::1",
        "100::1",
        "::ffff:10.0.0.1",
        "2001:20::1",
    ],
)
def test_an_address_that_is_no_visitors_is_not_sent(address: str) -> None:
    for written in (address, f"{address}.AQQAAQMC", f"[{address}]:443" if ":" in address else f"{address}:443"):
        built = build(ip=written)
        assert "client_ip_address" not in msgspec.json.decode(built.payload)["user_data"]
        assert "client_ip_address" in built.dropped


@pytest.mark.parametrize(
    "address",
    [
        "81.2.69.142",
        "192.1.2.3",
        "198.17.0.1",
        "203.1.2.3",
        "172.15.0.1",
        "172.32.0.1",
        "100.63.0.1",
        "100.128.0.1",
        "169.253.0.1",
        "223.255.255.1",
        "2a02:8109:9a80:1::5",
        "2606:4700::1111",
        "2001:4860::1",
    ],
)
def test_the_neighbours_of_those_are_visitors(address: str) -> None:
    for written in (address, f"{address}.AQQAAQMC"):
        assert sent(ip=written)["user_data"]["client_ip_address"] == address


@pytest.mark.parametrize("suffix", ["ZZ", "aq", "A", "AQQ", "AQQAAQM", "AQQAAQMCC", "AQ.AQ"])
def test_a_suffix_that_is_none_of_metas_costs_the_cookie_not_the_event(suffix: str) -> None:
    built = build(fbp=f"fb.1.{NOW}.1234567890.{suffix}", fbc=f"fb.1.{NOW - 9000}.IwAR0abc.{suffix}")
    user = msgspec.json.decode(built.payload)["user_data"]
    assert not {"fbp", "fbc"} & user.keys()
    assert {"fbp", "fbc"} <= set(built.dropped)
    assert judge([msgspec.json.decode(built.payload)], NOW / 1000) is None


@pytest.mark.parametrize("word", ["undefined", "null", "fbclid", "None", "NaN"])
def test_a_placeholder_in_an_fbc_is_no_click(word: str) -> None:
    assert "fbc" not in sent(fbc=f"fb.1.{NOW - 9000}.{word}")["user_data"]


def test_a_key_cannot_write_into_the_answers_header() -> None:
    found = checked(custom_data={"value\r\nSet-Cookie: a": {"email": "x"}, "naïve": "+1 650 555 9999"})
    assert all(name.isascii() and name.isprintable() for name in found.ignored)
    assert len(found.ignored) == 2


def test_a_page_named_as_a_customer_is_called_keeps_its_path() -> None:
    rose = CustomerData(first_name="Rose", last_name="Black")
    url = "https://shop.example/products/rose?colour=black&recipient=rose+black&x=Rose#rose"
    kept = checked(customer_data=rose, event_source_url=url).event.event_source_url
    assert kept == "https://shop.example/products/rose?colour=&recipient=&x=#rose"
