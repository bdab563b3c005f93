"""Hostile bodies: whatever bytes come, decoding gives a body or an error of the contract, never another exception."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.core import beacon, intake, wire
from collector.core.consent import Decision
from collector.core.cookies import Jar
from collector.core.events import ClickBody, ConversionBody
from collector.core.intake import Caller
from collector.core.said import Beacon, decode
from collector.errors import ApiError

NOW = 1_790_000_000_000
SERVER = Caller(secret=True)
PAGE = Caller(secret=False, address="203.0.113.9", user_agent="Mozilla/5.0")
GRANTED = Decision("granted", False)

CLICK = {"fbclid": "IwAR0abcdefghijklmnopqrstuvwxyz", "storeId": "s", "landingPage": "https://shop.example/?a=b"}
ORDER = {"storeId": "s", "eventType": "Purchase", "orderId": "1", "eventValue": 1, "currency": "USD"}


def order(extra: str) -> bytes:
    """A good order with raw JSON text spliced in, for what `json.dumps` would not write."""
    return (json.dumps(ORDER)[:-1] + "," + extra + "}").encode()


def outcome(decode: Callable[[bytes], Any], raw: bytes) -> str:
    """`ok`, or the code of the contract's error; any other exception fails the test."""
    try:
        check(decode(raw))
    except ApiError as error:
        return error.code
    return "ok"


def check(decoded: Any) -> None:
    """Take the body further, as the edge does, until it is ready to be stored."""
    for item in decoded if isinstance(decoded, list) else [decoded]:
        if isinstance(item, ApiError):
            continue
        body = item[0]
        for caller in (SERVER, PAGE):
            if isinstance(body, ClickBody):
                stored: Any = intake.check_click(body, caller, GRANTED, NOW, None).stored
            else:
                stored = intake.check_event(body, caller, GRANTED, NOW, None, "US").event
            msgspec.msgpack.encode(stored)


NINES = "9" * 400
BAD_ORDERS = {
    "NaN": (order('"eventValue":NaN'), "invalid_json"),
    "Infinity": (order('"eventValue":-Infinity'), "invalid_json"),
    "1e999": (order('"eventValue":1e999'), "invalid_field"),
    "1e999999999": (order('"eventValue":1e999999999'), "invalid_field"),
    "1e-999999999": (order('"eventValue":1e-999999999'), "invalid_field"),
    "400 digits": (order(f'"eventValue":{NINES}'), "invalid_field"),
    "5000 digits": (order(f'"eventValue":{"9" * 5000}'), "invalid_field"),
    "negative": (order('"eventValue":-1'), "invalid_field"),
    "text": (order('"eventValue":"12.50"'), "invalid_field"),
    "NaN as text": (order('"event\\u0056alue":"NaN"'), "invalid_field"),
    "order id of 400 digits": (order(f'"orderId":{NINES}'), "invalid_field"),
    "order id of 5000 digits": (order(f'"orderId":{"9" * 5000}'), "invalid_field"),
    "NUL": (order('"fbp":"a\\u0000b"'), "invalid_json"),
    "NUL in a key": (order('"customData":{"a\\u0000":1}'), "invalid_json"),
    "raw NUL": (order('"fbp":"a\x00b"'), "invalid_json"),
    "lone surrogate": (order('"fbp":"\\ud800"'), "invalid_json"),
    "surrogates reversed": (order('"fbp":"\\udc00\\ud800"'), "invalid_json"),
    "raw surrogate": (order('"fbp":"X"').replace(b"X", b"\xed\xa0\x80"), "invalid_json"),
    "bad utf-8": (order('"fbp":"X"').replace(b"X", b"\xff"), "invalid_json"),
    "overlong utf-8": (order('"fbp":"X"').replace(b"X", b"\xc0\xaf"), "invalid_json"),
    "utf-16": (order('"fbp":"a"').decode().encode("utf-16"), "invalid_json"),
    "nested 1100": (order('"customData":{"a":' + "[" * 1100 + "]" * 1100 + "}"), "invalid_json"),
    "nested 900 with NUL": (order('"customData":{"a":' + "[" * 900 + '"\\u0000"' + "]" * 900 + "}"), "invalid_json"),
    "nested 100000, open": (order('"customData":{"a":' + "[" * 100_000), "invalid_json"),
    "unknown nested 100000": (order('"zzz":' + "[" * 100_000 + "]" * 100_000), "invalid_json"),
    "trailing data": (order('"fbp":"a"') + b"{}", "invalid_json"),
    "trailing comma": (order('"fbp":"a",'), "invalid_json"),
    "single quotes": (b"{'storeId':'s'}", "invalid_json"),
    "comment": (order('"fbp":"a"/*b*/'), "invalid_json"),
    "empty": (b"", "invalid_json"),
    "null": (b"null", "invalid_json"),
    "array": (b"[]", "invalid_json"),
    "string": (b'"a"', "invalid_json"),
    "gzip": (b"\x1f\x8b\x08\x00\x00\x00\x00\x00", "invalid_json"),
    "true as store": (order('"storeId":true'), "invalid_field"),
    "object as store": (order('"storeId":{}'), "invalid_field"),
    "null as store": (order('"storeId":null'), "missing_required_field"),
}


POOR_ORDERS = {
    "external id of 5000 digits": (order(f'"customerData":{{"externalId":{"9" * 5000}}}'), "customerData.externalId"),
    "product id of 400 digits": (order(f'"products":[{{"productId":{NINES}}}]'), "products[0].productId"),
    "many e-mails": (
        order('"customerData":{"email":[' + ",".join(['"a@b.example"'] * 21) + "]}"),
        "customerData.email",
    ),
    "custom integer": (order(f'"customData":{{"a":{NINES}}}'), "customData.a"),
    "custom 2^63": (order('"customData":{"a":9223372036854775808}'), "customData.a"),
    "custom 1e999": (order('"customData":{"a":1e999}'), "customData.a"),
    "custom 1e99999999999999999999": (order('"customData":{"a":1e99999999999999999999}'), "customData.a"),
    "quantity 2^63": (order('"products":[{"quantity":9223372036854775808}]'), "products[0].quantity"),
    "nested 17": (order('"customData":{"a":' + "[" * 17 + "]" * 17 + "}"), "customData.a"),
    "nested 900": (order('"customData":{"a":' + "[" * 900 + "]" * 900 + "}"), "customData.a"),
    "3000 values": (order('"customData":{"a":[' + ",".join("1" * 3000) + "]}"), "customData.a"),
    "unknown nested 900": (order('"zzz":' + "[" * 900 + "]" * 900), "zzz"),
}


@pytest.mark.parametrize("name", POOR_ORDERS)
def test_F1_what_only_makes_it_poorer_is_left_out_and_named(name: str) -> None:
    raw, field = POOR_ORDERS[name]
    assert outcome(wire.decode_conversion, raw) == "ok"
    assert list(wire.decode_conversion(raw)[1]) == [field]


@pytest.mark.parametrize("name", BAD_ORDERS)
def test_a_bad_order_is_an_error_of_the_contract(name: str) -> None:
    raw, code = BAD_ORDERS[name]
    assert outcome(wire.decode_conversion, raw) == code


@pytest.mark.parametrize("name", BAD_ORDERS)
def test_in_a_batch_it_fails_alone(name: str) -> None:
    """Where the array itself can be read, the good neighbour of a bad item is kept."""
    good = json.dumps(CLICK | {"type": "click"}).encode()
    bad = BAD_ORDERS[name][0].replace(b'{"storeId"', b'{"type":"conversion","storeId"', 1)
    lines = wire.decode_batch(good + b"\n" + bad.replace(b"\n", b" ") + b"\n" + good, lines=True)
    assert not isinstance(lines[0], ApiError)
    assert not isinstance(lines[-1], ApiError)
    assert outcome(lambda raw: wire.decode_batch(raw), b"[" + good + b"," + bad + b"]") in {"ok", "invalid_json"} | {
        BAD_ORDERS[name][1]
    }


def test_in_an_array_one_bad_string_costs_one_item() -> None:
    good = json.dumps(CLICK | {"type": "click"}).encode()
    for bad in (b'{"type":"click","fbclid":"\\u0000"}', b'{"type":"click","fbclid":"\xff"}', b'{"type":7}', b"3"):
        decoded = wire.decode_batch(b"[" + good + b"," + bad + b"," + good + b"]")
        assert [isinstance(item, ApiError) for item in decoded] == [False, True, False], bad


@pytest.mark.parametrize("price", ['"NaN"', '"Infinity"', "1e999", "1e-999", '"sNaN"', "-1e40"])
def test_a_price_that_no_money_has_costs_the_price_only(price: str) -> None:
    body, _ = wire.decode_conversion(order(f'"products":[{{"productId":"a","price":{price}}}]'))
    checked = intake.check_event(body, SERVER, GRANTED, NOW, None, "US")
    assert checked.event.products[0].price is None
    assert "products[0].price" in checked.ignored


def test_of_a_repeated_key_the_last_wins() -> None:
    body, _ = wire.decode_conversion(order('"eventValue":2,"eventValue":3'))
    assert body.event_value == 3


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def finite(raw: bytes) -> bool:
    """NaN and Infinity are no JSON: an array that holds them cannot be taken apart."""
    return b"NaN" not in raw and b"Infinity" not in raw


def bodies(good: dict[str, Any], struct: type) -> st.SearchStrategy[bytes]:
    """A good body with some fields, known and unknown, put to anything; floats may be NaN."""
    names = [field.encode_name for field in msgspec.structs.fields(struct)]
    changed = st.dictionaries(st.sampled_from(names) | st.text(max_size=8), JSON, max_size=5)
    return changed.map(lambda change: json.dumps(good | change).encode())


@settings(max_examples=100)
@given(bodies(ORDER, ConversionBody))
def test_no_order_raises_anything_else(raw: bytes) -> None:
    assert outcome(wire.decode_conversion, raw)


@settings(max_examples=100)
@given(bodies(CLICK, ClickBody))
def test_no_click_raises_anything_else(raw: bytes) -> None:
    assert outcome(wire.decode_click, raw)


@settings(max_examples=80)
@given(st.binary(max_size=200) | JSON.map(lambda tree: json.dumps(tree).encode()))
def test_no_bytes_raise_anything_else(raw: bytes) -> None:
    for read in (wire.decode_click, wire.decode_conversion, wire.decode_batch):
        assert outcome(read, raw)
    assert outcome(lambda one: wire.decode_batch(one, lines=True), raw)


@settings(max_examples=100)
@given(st.lists(bodies(ORDER | {"type": "event"}, ConversionBody).filter(finite), max_size=5))
def test_a_batch_answers_each_of_its_items(items: list[bytes]) -> None:
    assert len(wire.decode_batch(b"[" + b",".join(items) + b"]")) == len(items)
    assert len(wire.decode_batch(b"\n".join(items), lines=True)) == len(items)


# -- the pages' beacon and pixel

HAPPENED = {"t": "PageView", "at": NOW - 5, "u": "https://shop.example/?fbclid=IwAR0abcdefghijklmnop", "d": {}}
BEACON = {"s": "store", "n": NOW, "e": [HAPPENED]}
JAR = Jar(visitor="v", fbp="fb.1.1780000000000.123456789", fbc=None)


def take(said: Beacon) -> Any:
    """Take a beacon as far as it goes before the journal."""
    caller = PAGE
    beacon.landing(said, NOW)
    for click in beacon.clicks(said, JAR, NOW):
        msgspec.msgpack.encode(intake.check_click(click, caller, GRANTED, NOW, None).stored)
    for one in said.e:
        body = beacon.event(said, one, JAR, NOW)
        msgspec.msgpack.encode(intake.check_event(body, caller, GRANTED, NOW, None, "US").event)
    return []


def beacon_outcome(raw: bytes) -> str:
    return outcome(lambda one: take(decode(one)), raw)


def happening(**change: Any) -> bytes:
    return json.dumps(BEACON | {"e": [HAPPENED | change]}).encode()


@pytest.mark.parametrize(
    "raw",
    [
        happening(t="Purchase", d={"value": "NaN", "currency": "USD", "order_id": "1"}),
        happening(t="Purchase", d={"value": 1e300, "currency": "USD", "order_id": "1"}),
        happening(t="Purchase", d={"value": 1, "currency": "USD", "order_id": "x" * 300}),
        happening(d={"a": "X"}).replace(b'"X"', b"[" * 100_000),
        b"",
        b"[]",
        b"\xff",
    ],
)
def test_a_bad_beacon_is_an_error_of_the_contract(raw: bytes) -> None:
    assert beacon_outcome(raw) in ("invalid_field", "invalid_json", "payload_too_large")


def test_a_clock_of_the_far_future_does_no_harm() -> None:
    assert outcome(lambda raw: take(decode(raw)), json.dumps(BEACON | {"n": 1 << 53}).encode()) == "ok"


@settings(max_examples=100)
@given(
    st.fixed_dictionaries(
        {"t": st.sampled_from(["PageView", "Purchase", "x"])},
        optional={
            "at": st.integers(0, 1 << 53),
            "u": st.text(max_size=40) | st.just(HAPPENED["u"]),
            "r": st.text(max_size=20),
            "i": st.text(max_size=20),
            "d": st.dictionaries(st.sampled_from(["value", "currency", "order_id", "a"]), JSON, max_size=4),
            "h": st.dictionaries(st.sampled_from(["email", "phone", "externalId", "country"]), JSON, max_size=3),
        },
    ),
    st.integers(0, 1 << 53),
)
def test_no_beacon_raises_anything_else(one: dict[str, Any], clock: int) -> None:
    assert beacon_outcome(json.dumps(BEACON | {"n": clock, "e": [one]}).encode())


@settings(max_examples=80)
@given(st.text(max_size=200) | st.dictionaries(st.sampled_from("dskcu"), st.text(max_size=60)).map(urlencode))
def test_no_pixel_raises_anything_else(query: str) -> None:
    assert outcome(lambda _: take(beacon.of_pixel(query, "https://shop.example/", NOW)), b"")


@pytest.mark.parametrize(
    "query", ["&".join("a=1" for _ in range(99)), "s=%00", "s=a&u=%00", "d=%ff", "s=%ff&u=http://[", "d=" + "[" * 5000]
)
def test_an_odd_pixel_is_an_error_or_an_event(query: str) -> None:
    assert outcome(lambda _: take(beacon.of_pixel(query, "https://shop.example/", NOW)), b"")
