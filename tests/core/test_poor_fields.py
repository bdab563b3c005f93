"""F1, F2: a poor field makes an event poorer, never lost. Each kind of value, read or left out and named."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from collector.core import intake, lenient, wire
from collector.core.consent import Decision
from collector.core.events import ClickBody, ConversionBody, Product
from collector.core.intake import Caller, CheckedClick, CheckedEvent
from collector.errors import ApiError

NOW = 1_790_000_000_000
GRANTED = Decision("granted", False)
SERVER = Caller(secret=True, address="198.51.100.1")
SITE = "https://mystore.com/"
ORDER = {
    "storeId": "store_abc123",
    "eventType": "Purchase",
    "orderId": "o-1",
    "eventValue": 49.9,
    "currency": "USD",
    "userAgent": "Mozilla/5.0 (Windows NT 10.0; Win64; x64)",
    "ipAddress": "81.2.69.142",
    "eventSourceUrl": "https://mystore.com/thanks",
    "customerData": {"email": "jo@example.com"},
}
CLICK = {"fbclid": "IwARpoorfields0000000000", "storeId": "store_abc123", "landingPage": "https://mystore.com/?a=b"}
ORDER_TYPES = {"storeId", "eventType", "orderId", "eventValue", "currency"}


def take(body: dict[str, Any] | bytes) -> tuple[CheckedEvent, list[str]]:
    """An order as a server tells it, and the names of what was left out."""
    decoded, ignored = wire.decode_conversion(body if isinstance(body, bytes) else json.dumps(body).encode())
    checked = intake.check_event(decoded, SERVER, GRANTED, NOW, None, "US", SITE)
    msgspec.msgpack.encode(checked.event)
    return checked, [*ignored, *checked.ignored]


def take_click(body: dict[str, Any]) -> tuple[CheckedClick, list[str]]:
    decoded, ignored = wire.decode_click(json.dumps(body).encode())
    checked = intake.check_click(decoded, SERVER, GRANTED, NOW, None, SITE)
    msgspec.msgpack.encode(checked.stored)
    return checked, [*ignored, *checked.ignored]


def told(**change: Any) -> tuple[CheckedEvent, list[str]]:
    return take(ORDER | change)


def one_line(**line: Any) -> tuple[Product, list[str]]:
    checked, ignored = told(products=[{"productId": "A"} | line])
    return checked.event.products[0], ignored


# -- products


@pytest.mark.parametrize("quantity", [2, 2.0, "2", " 2 ", "2.0"])
def test_F1_a_whole_quantity_is_read_however_it_is_written(quantity: Any) -> None:
    line, ignored = one_line(quantity=quantity)
    assert (line.quantity, ignored) == (2, [])


@pytest.mark.parametrize("quantity", [1.5, "0,5", -1, "-1", "two", [2], {"n": 2}, True, 1e12, "NaN", "Infinity", 1e999])
def test_F1_a_quantity_that_is_no_number_of_pieces_is_left_out_and_named(quantity: Any) -> None:
    raw = json.dumps(ORDER | {"products": [{"productId": "A", "quantity": quantity, "price": 2}]})
    checked, ignored = take(raw.replace("Infinity", "1e999").encode() if quantity == 1e999 else raw.encode())
    assert (checked.event.products[0].quantity, checked.event.products[0].price) == (None, Decimal(2))
    assert ignored == ["products[0].quantity"]


@pytest.mark.parametrize(
    ("price", "read"), [(19.99, "19.99"), ("19.99", "19.99"), (" 19.99", "19.99"), (5, "5"), ("5e0", "5"), ("0", "0")]
)
def test_F1_a_price_is_a_number_or_a_text_that_is_one(price: Any, read: str) -> None:
    line, ignored = one_line(price=price)
    assert (line.price, ignored) == (Decimal(read), [])


@pytest.mark.parametrize("price", ["19,99", "$5", "NaN", "1.234,56", [5], {"amount": 5}, True, "1 000", "free"])
def test_F1_another_price_is_left_out_and_named(price: Any) -> None:
    line, ignored = one_line(price=price)
    assert (line.price, ignored) == (None, ["products[0].price"])


@pytest.mark.parametrize("nothing", ["", None, "  ", "\n"])
@pytest.mark.parametrize("field", ["price", "quantity", "productId", "name", "category"])
def test_F1_nothing_said_of_a_product_is_nothing_and_needs_no_name(field: str, nothing: Any) -> None:
    assert one_line(**{"productId": "A", field: nothing})[1] == []


@pytest.mark.parametrize(
    ("identity", "read"),
    [(123.0, "123"), (-1, "-1"), (501, 501), ("A-1", "A-1"), (12345678901234567890, "12345678901234567890")],
)
def test_F1_a_products_id_is_read_as_text(identity: Any, read: Any) -> None:
    line, ignored = one_line(productId=identity)
    assert (line.product_id, ignored) == (read, [])


@pytest.mark.parametrize(
    ("field", "value", "read"),
    [
        ("name", 501, "501"),
        ("name", 5.5, "5.5"),
        ("category", ["a", "b"], None),
        ("category", {}, None),
        ("name", True, None),
        ("name", "x" * 5000, None),
        ("category", 12.0, "12"),
    ],
)
def test_F1_a_products_texts_are_read_or_left_out(field: str, value: Any, read: str | None) -> None:
    line, ignored = one_line(**{field: value})
    assert getattr(line, field) == read
    assert ignored == ([] if read else [f"products[0].{field}"])


@pytest.mark.parametrize(
    ("products", "count", "named"),
    [
        ({}, 0, []),
        ([], 0, []),
        (None, 0, []),
        ("", 0, []),
        ({"1": {"productId": "A"}, "7": {"productId": "B"}}, 2, []),
        ({"productId": "A", "quantity": 1}, 1, []),
        ([{"productId": "A"}, None, "B", 7], 1, ["products[1]", "products[2]", "products[3]"]),
        ("A", 0, ["products"]),
        (7, 0, ["products"]),
        ([{"productId": "A"}] * 1001, 1000, ["products"]),
        ([{"productId": "A", "colour": "red"}], 1, ["products[0].colour"]),
    ],
)
def test_F1_lines_are_read_one_by_one(products: Any, count: int, named: list[str]) -> None:
    checked, ignored = told(products=products)
    assert (len(checked.event.products), ignored) == (count, named)


# -- objects


@pytest.mark.parametrize("field", ["customerData", "customData", "consent"])
@pytest.mark.parametrize("empty", [[], {}, None, ""])
def test_F1_phps_empty_array_is_an_empty_object(field: str, empty: Any) -> None:
    checked, ignored = told(**{field: empty})
    assert ignored == []
    assert checked.event.marketing == "granted"


@pytest.mark.parametrize("field", ["customerData", "customData"])
@pytest.mark.parametrize("value", [[1], "text", 7, True, [{}], 1.5])
def test_F1_what_is_no_object_is_left_out_and_named(field: str, value: Any) -> None:
    assert told(**{field: value})[1] == [field]


@pytest.mark.parametrize(
    ("customer", "key", "expected"),
    [
        ({"zipCode": 94035}, "zip_code", "94035"),
        ({"zipCode": 94035.0}, "zip_code", "94035"),
        ({"phone": 16505551212}, "phone", "16505551212"),
        ({"phone": [16505551212, None]}, "phone", ["16505551212"]),
        ({"dateOfBirth": 19970216}, "date_of_birth", "19970216"),
        ({"externalId": [1, 2]}, "external_id", ["1", "2"]),
        ({"externalId": 7.0}, "external_id", "7"),
        ({"email": [None]}, "email", []),
        ({"email": ["a@b.example", 7, ""]}, "email", ["a@b.example", "7"]),
        ({"firstName": 7}, "first_name", "7"),
        ({"lastName": ""}, "last_name", ""),
        ({"city": None}, "city", None),
    ],
)
def test_F1_what_is_told_of_a_person_is_read_as_text(customer: dict[str, Any], key: str, expected: Any) -> None:
    body, ignored = wire.decode_conversion(json.dumps(ORDER | {"customerData": customer}).encode())
    assert body.customer_data is not None
    assert (getattr(body.customer_data, key), list(ignored)) == (expected, [])


@pytest.mark.parametrize(
    ("customer", "named"),
    [
        ({"email": {"address": "a@b.example"}}, "customerData.email"),
        ({"email": ["a@b.example", {}]}, "customerData.email"),
        ({"email": ["a@b.example"] * 21}, "customerData.email"),
        ({"city": ["Berlin"]}, "customerData.city"),
        ({"gender": True}, "customerData.gender"),
        ({"zipCode": "9" * 5000}, "customerData.zipCode"),
        ({"shoe": 44}, "customerData.shoe"),
    ],
)
def test_F1_what_cannot_be_read_of_a_person_is_named(customer: dict[str, Any], named: str) -> None:
    body, ignored = wire.decode_conversion(json.dumps(ORDER | {"customerData": customer}).encode())
    assert list(ignored) == [named]
    assert body.order_id == "o-1"


@pytest.mark.parametrize(
    ("consent", "marketing", "named"),
    [
        ({"marketing": "denied"}, "denied", []),
        ({"marketing": "DENIED"}, "denied", []),
        ({"marketing": False}, "denied", []),
        ({"marketing": "opt-out"}, "denied", []),
        ("denied", "denied", []),
        (False, "denied", []),
        (0, "denied", []),
        ({"marketing": "yes"}, "granted", []),
        (True, "granted", []),
        ("Granted", "granted", []),
        ({"marketing": ""}, None, []),
        ({"ldu": "true"}, None, []),
        ({"ldu": 1, "marketing": "granted"}, "granted", []),
        ({"marketing": "maybe"}, "pending", ["consent.marketing"]),
        ({"marketing": ["granted"]}, "pending", ["consent.marketing"]),
        ([1], "pending", ["consent.marketing"]),
        ({"ldu": "perhaps"}, None, ["consent.ldu"]),
    ],
)
def test_F1_a_decision_that_cannot_be_read_is_never_a_grant(consent: Any, marketing: str | None, named: Any) -> None:
    body, ignored = wire.decode_conversion(json.dumps(ORDER | {"consent": consent}).encode())
    assert body.consent is not None
    assert (body.consent.marketing, list(ignored)) == (marketing, named)


def test_F1_of_custom_data_only_what_nobody_can_hold_is_left_out() -> None:
    deep: Any = 1
    for _ in range(16):
        deep = {"a": deep}
    custom = {"keep": 1.25, "big": 1 << 54, "deep": deep, "wide": [0] * 2000, "list": [1, {"b": None}]}
    checked, ignored = told(customData=custom)
    assert checked.event.custom_data == {"keep": 1.25, "list": [1, {"b": None}]}
    assert ignored == ["customData.big", "customData.deep", "customData.wide"]


# -- addresses of machines


@pytest.mark.parametrize(
    ("text", "read", "named"),
    [
        ("203.0.113.9.AQQAAQMC", None, True),  # documentation: nobody's
        ("81.2.69.142.AQQAAQMC", "81.2.69.142", False), ("81.2.69.142.AQ", "81.2.69.142", False),
        ("2a02:8109:9a80:1::5.AQQAAQMC", "2a02:8109:9a80:1::5", False), ("81.2.69.142, 10.0.0.1", "81.2.69.142", True),
        ("10.0.0.1, 81.2.69.142", "81.2.69.142", True), ("unknown, 81.2.69.142:4711", "81.2.69.142", True),
        ("10.0.0.1;81.2.69.142", "81.2.69.142", True), ("10.0.0.1 81.2.69.142", "81.2.69.142", True),
        ("for=10.0.0.1;for=81.2.69.142", "81.2.69.142", True), ("\u200b81.2.69.142\ufeff", "81.2.69.142", True),
        (",, 2a02:8109:9a80:1::5%eth0", "2a02:8109:9a80:1::5", True), ("::ffff:81.2.69.142", "81.2.69.142", False),
        ("2A02:8109:9A80:0001::5", "2a02:8109:9a80:1::5", False), ("081.002.069.142", None, True),
        ("81.2.69.142/32", None, True), (["81.2.69.142", "10.0.0.1"], "81.2.69.142", True),
        ("10.0.0.1, 192.168.0.1", None, True), (" 81.2.69.142 ", "81.2.69.142", False),
        ("[2a02:8109:9a80:1::5]:443", "2a02:8109:9a80:1::5", False), ("localhost", None, True),
        ("1.2.3.4.5", None, True), ("unknown", None, False), ("", None, False), (None, None, False), (7, None, True),
        ({"v4": "81.2.69.142"}, None, True), ("x" * 600, None, True),
    ],
)  # fmt: skip
def test_F1_the_first_public_address_of_what_was_given(text: Any, read: str | None, named: bool) -> None:
    for checked, ignored in (told(ipAddress=text), take_click(CLICK | {"ipAddress": text})):
        assert (checked.event.ip if isinstance(checked, CheckedEvent) else checked.ip) == read
        assert ignored == (["ipAddress"] if named else [])


# -- addresses of pages


@pytest.mark.parametrize(
    ("url", "read"),
    [
        ("/thanks", "https://mystore.com/thanks"),
        ("thanks.html?o=1", "https://mystore.com/thanks.html?o=1"),
        ("?order=7", "https://mystore.com/?order=7"),
        ("mystore.com/thanks", "https://mystore.com/thanks"),
        ("www.mystore.com/thanks", "https://www.mystore.com/thanks"),
        ("//mystore.com/thanks", "https://mystore.com/thanks"),
        ("https://mystore.com/\u0633\u200c\u0644", "https://mystore.com/%D8%B3%E2%80%8C%D9%84"),
        ("https://mystore.com/a\u00a0b", "https://mystore.com/a%C2%A0b"),
        ("https://mystore.com/a\u3000b", "https://mystore.com/a%E3%80%80b"),
        ("https://mystore.com/a\u00adb", "https://mystore.com/a%C2%ADb"),
        ("https://mystore.com/a\u200db", "https://mystore.com/a%E2%80%8Db"),
        ("https://mystore.com/\U0001f600", "https://mystore.com/%F0%9F%98%80"),
        ("https://mystore.com/a b", "https://mystore.com/a%20b"),
        (" https://mystore.com/a\r\n", "https://mystore.com/a"),
        ("https://mystore.com/a\nb", "https://mystore.com/ab"),
        ("HTTPS://mystore.com/a", "https://mystore.com/a"),
        ("https://büch.example/", "https://xn--bch-hoa.example/"),
        ("https://mystore.com/100%", "https://mystore.com/100%"),
    ],
)
def test_F1_a_pages_address_is_read_as_browsers_read_it(url: str, read: str) -> None:
    checked, ignored = told(eventSourceUrl=url)
    assert (checked.event.event_source_url, ignored) == (read, [])
    click, ignored = take_click(CLICK | {"landingPage": url})
    assert (click.stored.landing_page, ignored) == (read, [])


@pytest.mark.parametrize(
    "url", ["android-app://com.shop", "about:blank", "javascript:void(0)", "mailto:x", "https://", "undefined", 7, {}]
)
@pytest.mark.parametrize("field", ["eventSourceUrl", "referrer"])
def test_F1_what_is_no_page_is_left_out_and_named(field: str, url: Any) -> None:
    assert told(**{field: url})[1] == [field]


@pytest.mark.parametrize("nothing", ["", None, " ", "\t", "\u3000"])
def test_F1_a_renewal_has_no_page(nothing: Any) -> None:
    checked, ignored = told(eventSourceUrl=nothing, referrer=nothing)
    assert (checked.event.event_source_url, ignored) == (None, [])


@pytest.mark.parametrize("letter", ["x", "ж", "ก", "%20"])
def test_F1_a_long_address_is_cut_and_its_click_id_kept(letter: str) -> None:
    url = f"https://mystore.com/?utm_source=fb&q={letter * 4200}&fbclid={CLICK['fbclid']}"
    checked, ignored = told(eventSourceUrl=url)
    kept = checked.event.event_source_url
    assert kept is not None
    assert len(kept) <= 4096
    assert kept.startswith("https://mystore.com/?utm_source=fb&q=")
    assert kept.endswith(f"&fbclid={CLICK['fbclid']}")
    assert ignored == ["eventSourceUrl"]
    assert take_click(CLICK | {"landingPage": url})[0].stored.landing_page == kept


def test_F1_a_long_agent_is_cut() -> None:
    checked, ignored = told(userAgent="Mozilla/5.0 " * 400)
    assert (len(checked.event.user_agent or ""), ignored) == (4096, ["userAgent"])


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("timestamp", "", []),
        ("timestamp", None, []),
        ("timestamp", "yesterday", ["timestamp"]),
        ("timestamp", [], ["timestamp"]),
        ("timestamp", 7, ["timestamp"]),
        ("timestamp", {"at": 1}, ["timestamp"]),
        ("statusAt", "soon", ["statusAt"]),
        ("statusAt", "", []),
        ("orderStatus", "", []),
        ("orderStatus", "who knows", ["orderStatus"]),
        ("orderStatus", 7, ["orderStatus"]),
        ("orderStatus", ["paid"], ["orderStatus"]),
        ("orderStatus", "processing", []),
        ("orderStatus", "PAID", []),
        ("orderStatus", "on-hold", []),
    ],
)
def test_F1_a_time_or_a_status_that_cannot_be_read_is_left_out_and_named(
    field: str, value: Any, named: list[str]
) -> None:
    assert told(**{field: value})[1] == named


# -- ids, names, choices


@pytest.mark.parametrize(
    ("field", "value", "read"),
    [
        ("visitorId", 123, "123"),
        ("eventId", 12345, "12345"),
        ("eventId", 12345.0, "12345"),
        ("fingerprint", 77777777, "77777777"),
        ("clickId", 5, "5"),
        ("renewalOf", 1000, "1000"),
        ("eventId", "x" * 257, None),
        ("visitorId", ["v"], None),
        ("eventId", {"id": 1}, None),
        ("clickId", True, None),
    ],
)
def test_F1_an_id_is_a_text_or_a_number(field: str, value: Any, read: str | None) -> None:
    body, ignored = wire.decode_conversion(json.dumps(ORDER | {field: value}).encode())
    attribute = next(f.name for f in msgspec.structs.fields(ConversionBody) if f.encode_name == field)
    assert getattr(body, attribute) == read
    assert list(ignored) == ([] if read else [field])


@pytest.mark.parametrize(
    ("order_id", "read"),
    [
        (1001.0, "1001"),
        (1001, "1001"),
        (10**20, str(10**20)),
        ("1", "1"),
        (1e3, "1000"),
        ("1001.0", "1001.0"),
        (7, "7"),
    ],
)
def test_F1_an_order_id_is_read_as_text(order_id: Any, read: str) -> None:
    assert told(orderId=order_id)[0].event.order_id == read


@pytest.mark.parametrize(
    "around", [" {}", "{}\n", "\u200b{}\ufeff", "\u2060{}", "\u00a0\u200e{}\u3000", "\ufeff {} \u00ad"]
)
@pytest.mark.parametrize(
    "number", ["o-1", "#1001", "注文1", "٣", "o 1", "o\u200d1", "undefined-1", "NA-7", "10", "0-1", "true1"]
)
def test_L3_an_order_id_is_trimmed_of_what_nobody_sees(number: str, around: str) -> None:
    told_, ignored = told(orderId=around.format(number), renewalOf=around.format("first"))
    assert (told_.event.order_id, told_.event.renewal_of, ignored) == (number, "first", [])


@pytest.mark.parametrize(
    "number",
    [
        *("undefined", "   ", "null", "NaN", "None", "0", "-", "N/A", "false", "[object Object]", "{{order_id}}"),
        *("Undefined", "NULL", "nan", "none ", "n/a", "na", "nil", "(null)", "(none)", "unknown", "not set", "True"),
        *("\u200b", "\ufeff", "\u00a0", "\u2060 ", "\u3000", "--", "#", "()", "{}", "[]", "''", '""', "...", "—", "🛒"),
        *(
            "{{ order.id }}",
            "{order_id}",
            "{$order.id}",
            "{%id%}",
            "%ORDER_ID%",
            "__ORDER__",
            "[order_id]",
            "<%= id %>",
        ),
        *("${order.id}", "[object Undefined]", "{{a\nb}}", "0.0", "00", "-0", "+0", "-1", 0, 0.0),
        *("#undefined", "#null", "#0", '"null"', "'undefined'", "# 0"),
    ],
)
def test_L3_what_stands_for_no_order_is_none_however_it_is_written(number: Any) -> None:
    with pytest.raises(ApiError) as caught:
        told(orderId=number)
    assert (caught.value.status, caught.value.code, caught.value.field) == (400, "missing_required_field", "orderId")
    lead, ignored = told(orderId=number, eventType="Lead")
    assert lead.event.order_id is None
    assert ignored == (["orderId"] if str(number).strip(" \u00a0\u2060\u200b\ufeff\u3000") else [])


@pytest.mark.parametrize(
    ("source", "read", "named"),
    [
        ("", "website", False),
        (None, "website", False),
        ("APP", "app", False),
        (" phone_call ", "phone_call", False),
        ("web", "website", True),
        (7, "website", True),
        (["app"], "website", True),
    ],
)
def test_F1_an_unknown_source_is_left_out_and_named(source: Any, read: str, named: bool) -> None:
    checked, ignored = told(actionSource=source)
    assert (checked.event.action_source, ignored) == (read, ["actionSource"] if named else [])


@pytest.mark.parametrize("test", [True, 1, "true", "1", "yes"])
def test_F1_a_test_is_one_however_it_is_said(test: Any) -> None:
    assert told(test=test)[0].event.test


@pytest.mark.parametrize(
    ("test", "named"), [(None, False), ("", False), (0, False), ("no", False), ([], True), (7, True)]
)
def test_F1_what_says_no_test_is_none(test: Any, named: bool) -> None:
    checked, ignored = told(test=test)
    assert (checked.event.test, ignored) == (False, ["test"] if named else [])


FBC = f"fb.1.{NOW - 86_400_000}.IwAR0abcdefghijklmnop"


@pytest.mark.parametrize("fbc", [FBC, f" {FBC} ", f'"{FBC}"', f"{FBC}.AQICAQMC", f"{FBC}.AQ"])
def test_F1_an_fbc_is_trimmed(fbc: str) -> None:
    checked, ignored = told(fbc=fbc)
    assert (checked.event.fbc, ignored) == (fbc.strip(' "'), [])


@pytest.mark.parametrize(
    "fbc",
    [
        f"fb.1.{NOW}.undefined",
        f"fb.1.{NOW}.null",
        f"fb.1.{NOW}.NaN",
        f"fb.1.{NOW}.__FBCLID__",
        f"fb.1.{NOW}.fbclid",
        f"fb.1.{NOW // 1000}.IwAR0abcdefghijklmnop",
        f"{FBC}.ZZ",
        f"{FBC}.AQICAQM",
        "IwAR0abcdefghijklmnop",
        "undefined",
        7,
        [FBC],
        "x" * 2000,
    ],
)
def test_F1_an_fbc_that_meta_refuses_is_left_out_and_named(fbc: Any) -> None:
    checked, ignored = told(fbc=fbc)
    assert (checked.event.fbc, ignored) == (None, ["fbc"])
    click, ignored = take_click(CLICK | {"fbc": fbc})
    assert (click.stored.fbc, ignored) == (None, ["fbc"])


@pytest.mark.parametrize("fbp", [f"fb.1.{NOW}.1234567890.ZZ", f"fb.1.{NOW}.x", "0", f"fb.7.{NOW}.1234567890", True])
def test_F1_an_fbp_that_meta_refuses_is_left_out_and_named(fbp: Any) -> None:
    checked, ignored = told(fbp=fbp)
    assert (checked.event.fbp, ignored) == (None, ["fbp"])


# -- event names (L3, ruling 26)


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("purchase", "Purchase"),
        (" Purchase ", "Purchase"),
        ("ADDTOCART", "AddToCart"),
        ("pageview", "PageView"),
        (" Newsletter sign-up ", "Newsletter sign-up"),
        ("Bestellung abgeschlossen", "Bestellung abgeschlossen"),
        ("購入", "購入"),
        ("Purchase2", "Purchase2"),
    ],
)
def test_L3_a_name_is_trimmed_and_a_standard_one_is_spelled_as_meta_does(name: str, read: str) -> None:
    assert told(eventType=name)[0].event.event_type == read


@pytest.mark.parametrize(
    "name",
    [
        "x" * 51,
        "a\x07b",
        "a\u200bb",
        "---",
        "  ",
        "undefined",
        "[object Object]",
        "{{event}}",
        "null",
        "Signup jo@example.com",
        "call +16505551212",
    ],
)
def test_ruling_26_a_name_that_meta_would_refuse_is_400(name: str) -> None:
    with pytest.raises(ApiError) as caught:
        told(eventType=name)
    assert (caught.value.status, caught.value.field) == (400, "eventType")


def test_ruling_26_a_byte_order_mark_is_skipped() -> None:
    mark = b"\xef\xbb\xbf"
    order, click = json.dumps(ORDER).encode(), json.dumps(CLICK | {"type": "click"}).encode()
    assert take(mark + order)[0].event.order_id == "o-1"
    assert not isinstance(wire.decode_batch(mark + b"[" + click + b"]")[0], ApiError)
    assert not isinstance(wire.decode_batch(mark + click + b"\n" + click, lines=True)[0], ApiError)


# -- what is still refused, and that nothing else is


@pytest.mark.parametrize("field", sorted(ORDER_TYPES))
@pytest.mark.parametrize("value", [[], {}, True, None, ["x"]])
def test_F1_without_it_there_is_no_order(field: str, value: Any) -> None:
    with pytest.raises(ApiError) as caught:
        told(**{field: value})
    assert (caught.value.status, caught.value.field) == (400, field)


@pytest.mark.parametrize("field", ["fbclid", "storeId", "landingPage"])
@pytest.mark.parametrize("value", [[], {}, True, None])
def test_F2_without_it_there_is_no_click(field: str, value: Any) -> None:
    with pytest.raises(ApiError) as caught:
        take_click(CLICK | {field: value})
    assert (caught.value.status, caught.value.field) == (400, field)


ODD = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=12)
    | st.sampled_from(["", "\u200b", "x" * 5000, 10**400, -1, 1.5, 1 << 63, "fb.1.1.x", "https://", "/x", "%"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abcdefg", max_size=4), inner, max_size=4),
    max_leaves=8,
)
OPTIONAL = sorted(lenient.CONVERSION.optional)
PARTS = sorted({*lenient._CUSTOMER.names, *lenient._PRODUCT.names, *lenient._CONSENT.names})
MEMBERS = st.dictionaries(st.sampled_from(PARTS), ODD, max_size=5)


@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from(OPTIONAL), ODD | MEMBERS | st.lists(MEMBERS, max_size=3), max_size=8))
@example({"customData": {"a": 10**400}})
def test_F1_no_optional_field_refuses_an_order(change: dict[str, Any]) -> None:
    checked, _ = take(ORDER | change)
    assert (checked.event.order_id, checked.event.value) == ("o-1", Decimal("49.9"))


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from(sorted(lenient.CLICK.optional)), ODD | MEMBERS, max_size=8))
def test_F2_no_optional_field_refuses_a_click(change: dict[str, Any]) -> None:
    assert take_click(CLICK | change)[0].stored.fbclid == CLICK["fbclid"]


def test_control_without_the_readers_a_poor_field_refuses_the_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lenient, "read", lambda tree, shape, path, left_out: tree)
    with pytest.raises(ApiError):
        told(products=[{"productId": "A", "quantity": 1.5}])
    with pytest.raises(ApiError):
        told(visitorId=7)


def test_control_a_reader_that_gives_what_the_type_refuses_costs_the_field_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What a reader lets through is held against the strict type once more."""
    fields = dict(lenient.CONVERSION.optional)
    fields["visitorId"] = fields["visitorId"]._replace(read=lambda value, path, left_out: [value])
    monkeypatch.setattr(wire, "CONVERSION", lenient.CONVERSION._replace(optional=fields))
    assert told(visitorId=7)[1] == ["visitorId"]


def test_the_types_of_both_bodies_have_a_reader_for_each_field_or_need_it() -> None:
    for struct, shape in ((ClickBody, lenient.CLICK), (ConversionBody, lenient.CONVERSION)):
        names = {field.encode_name for field in msgspec.structs.fields(struct)}
        assert names <= shape.names
        assert names - set(shape.optional) <= ORDER_TYPES | {"fbclid", "landingPage"}
