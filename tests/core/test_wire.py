"""From bytes to bodies: what is refused is named, what is unknown is ignored and named, and nothing else raises."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from collector.core import lenient, wire
from collector.core.wire import ClickItem, ConversionItem, EventItem
from collector.errors import STATUS_OF, ApiError

CLICK = {"fbclid": "IwARwire00000", "storeId": "s", "landingPage": "https://shop.example/"}
ORDER = {"storeId": "s", "eventType": "Purchase", "orderId": "1", "eventValue": 9.5, "currency": "USD"}


def raw(body: Any) -> bytes:
    return json.dumps(body).encode()


def refused(decode: Any, body: Any) -> tuple[str, str | None]:
    with pytest.raises(ApiError) as caught:
        decode(body if isinstance(body, bytes) else raw(body))
    return caught.value.code, caught.value.field


def test_a_body_is_decoded_whole() -> None:
    products = [{"productId": 7, "name": "Shoes", "price": 49.995, "quantity": 2}]
    body, ignored = wire.decode_conversion(raw(ORDER | {"products": products, "customData": {"a": [1, {"b": None}]}}))
    assert (body.store_id, body.event_type, body.order_id) == ("s", "Purchase", "1")
    assert body.products is not None
    assert body.products[0].price == Decimal("49.995")
    assert body.custom_data == {"a": [1, {"b": None}]}
    assert ignored == ()


@pytest.mark.parametrize(
    "text", ["9.50", "0.1", "1e2", "123456789012345678", "0.000000000000000001", "9007199254740993"]
)
def test_money_is_kept_exactly(text: str) -> None:
    body, _ = wire.decode_conversion(b'{"storeId":"s","eventType":"Purchase","eventValue":' + text.encode() + b"}")
    assert body.event_value == Decimal(text)


@pytest.mark.parametrize(
    ("change", "code", "field"),
    [
        ({"eventValue": "9.50"}, "invalid_field", "eventValue"),
        ({"eventValue": [9]}, "invalid_field", "eventValue"),
        ({"eventType": ""}, "missing_required_field", "eventType"),
        ({"eventType": "x" * 51}, "invalid_field", "eventType"),
        ({"eventType": None}, "missing_required_field", "eventType"),
        ({"eventType": 7}, "invalid_field", "eventType"),
        ({"storeId": []}, "invalid_field", "storeId"),
        ({"storeId": "x" * 257}, "invalid_field", "storeId"),
        ({"orderId": -1}, "invalid_field", "orderId"),
        ({"orderId": 1001.5}, "invalid_field", "orderId"),
        ({"orderId": True}, "invalid_field", "orderId"),
        ({"orderId": "x" * 257}, "invalid_field", "orderId"),
        ({"currency": 978}, "invalid_field", "currency"),
    ],
)
def test_a_bad_field_is_named(change: dict[str, Any], code: str, field: str) -> None:
    assert refused(wire.decode_conversion, ORDER | change) == (code, field)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"7",
        b'"x"',
        b"[]",
        b"{",
        b'{"a":1}x',
        b"\xef\xbb\xbf{",
        b"\xff",
        b'{"fbclid":"\xff"}',
        b'{"fbclid":"\\ud800"}',
        b'{"fbclid":"a\\u0000b","storeId":"s","landingPage":"https://a.example"}',
        b'{"fbclid":"a\x00b"}',
        b'{"fbclid":"x","storeId":"s","landingPage":"https://a.example","consent":' + b"[" * 5000,
        b"[" * 100_000,
        b'{"a":NaN}',
        b'{"a":Infinity}',
    ],
)
def test_bytes_that_are_no_body_are_the_contracts_error(body: bytes) -> None:
    with pytest.raises(ApiError) as caught:
        wire.decode_click(body)
    assert caught.value.status == 400
    assert "Traceback" not in caught.value.message


def test_an_escaped_backslash_before_u0000_is_no_nul() -> None:
    body, _ = wire.decode_click(raw(CLICK | {"referrer": "a\\u0000b"}))
    assert body.referrer == "a\\u0000b"


def test_unknown_fields_are_ignored_and_named_at_every_level() -> None:
    body, ignored = wire.decode_conversion(
        raw(
            ORDER
            | {
                "extra": 1,
                "customerData": {"email": "a@b.example", "shoe": 44},
                "products": [{"productId": "p", "colour": "red"}],
                "consent": {"marketing": "granted", "by": "cmp"},
                "customData": {"anything": 1},
            }
        )
    )
    assert set(ignored) == {"extra", "customerData.shoe", "products[0].colour", "consent.by"}
    assert body.customer_data is not None
    assert body.customer_data.email == "a@b.example"
    assert body.custom_data == {"anything": 1}
    assert body.event_value == Decimal("9.5")


def test_a_name_that_is_no_header_is_made_one() -> None:
    _, ignored = wire.decode_click(raw(CLICK | {"a\r\nSet-Cookie: x": 1, "é" * 100: 2}))
    assert all(name.isascii() and name.isprintable() and len(name) <= 64 for name in ignored)


def test_of_duplicate_keys_the_last_wins() -> None:
    body, _ = wire.decode_click(b'{"fbclid":"one","storeId":"s","landingPage":"https://a.example","fbclid":"two"}')
    assert body.fbclid == "two"


def test_a_value_inside_custom_data_may_be_called_like_ours() -> None:
    body, _ = wire.decode_conversion(raw(ORDER | {"customData": {"eventValue": "9.50", "type": "click"}}))
    assert body.custom_data == {"eventValue": "9.50", "type": "click"}
    (item,) = wire.decode_batch(raw([{"type": "conversion", **ORDER, "customData": {"eventValue": "9.50"}}]))
    assert not isinstance(item, ApiError)


def test_a_conversion_whose_custom_data_speaks_of_a_click_keeps_its_fields() -> None:
    order = {"type": "conversion", **ORDER, "customData": {"type": "click"}, "extra": 1}
    (item,) = wire.decode_batch(raw([order]))
    assert not isinstance(item, ApiError), item
    assert isinstance(item[0], ConversionItem)
    assert item[0].order_id == "1"
    assert list(item[1]) == ["extra"]


@pytest.mark.parametrize(
    ("decode", "body", "expected"),
    [
        (wire.decode_conversion, ORDER | {"eventValue": "much"}, "a number"),
        (lambda body: wire.decode_batch(b"[" + body + b"]"), CLICK | {"type": "visit"}, "click, conversion, event"),
    ],
)
def test_a_refusal_says_what_was_expected(decode: Any, body: Any, expected: str) -> None:
    try:
        (error,) = decode(raw(body))
    except ApiError as raised:
        error = raised
    assert error.code == "invalid_field"
    assert expected in error.message
    assert not {"yes", "much", "visit"} & set(error.message.split())


def test_a_batch_decodes_each_item_by_its_type() -> None:
    items = [
        {"type": "click", **CLICK},
        {"type": "conversion", **ORDER},
        {"type": "event", **ORDER, "eventType": "Lead"},
    ]
    for body, lines in (
        (raw(items), False),
        (b"\n".join(map(raw, items)), True),
        (b"\r\n".join(map(raw, items)), True),
    ):
        decoded = wire.decode_batch(body, lines=lines)
        kinds = [type(item[0]) for item in decoded if not isinstance(item, ApiError)]
        assert kinds == [ClickItem, ConversionItem, EventItem]


@pytest.mark.parametrize("lines", [False, True])
def test_a_bad_item_fails_alone_in_its_place(lines: bool) -> None:
    bad: list[Any] = [
        7,
        None,
        [],
        {},
        {"type": "other"},
        {"type": "click"},
        {"type": "conversion", **ORDER, "eventValue": "1"},
        {"type": "click", **CLICK, "referrer": "a\x00b"},
    ]
    good = {"type": "click", **CLICK}
    items = [one for pair in zip(bad, [good] * len(bad), strict=True) for one in pair]
    body = b"\n".join(map(raw, items)) if lines else raw(items)
    decoded = wire.decode_batch(body, lines=lines)
    assert [isinstance(one, ApiError) for one in decoded] == [True, False] * len(bad)


def test_a_broken_line_fails_alone_and_a_broken_array_as_a_whole() -> None:
    good = raw({"type": "click", **CLICK})
    decoded = wire.decode_batch(good + b"\n{broken\n\n" + good, lines=True)
    assert [isinstance(one, ApiError) for one in decoded] == [False, True, False]
    assert refused(wire.decode_batch, b"[" + good + b",{broken]")[0] == "invalid_json"


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252"])
def test_a_body_in_another_encoding_is_told_which_it_should_have(encoding: str) -> None:
    body = raw(ORDER).replace(b"USD", "José".encode(encoding))
    with pytest.raises(ApiError, match="UTF-8") as caught:
        wire.decode_conversion(body)
    assert caught.value.code == "invalid_json"


def test_a_batch_is_bounded() -> None:
    assert len(wire.decode_batch(raw([{"type": "click", **CLICK}] * 1000))) == 1000
    assert refused(wire.decode_batch, [{"type": "click", **CLICK}] * 1001)[0] == "payload_too_large"
    assert wire.decode_batch(b"[]") == []


def answer(decode: Any, body: bytes) -> Any:
    """`decoded`, or the status of the refusal; anything else that is raised fails the test."""
    try:
        decode(body)
    except ApiError as error:
        return STATUS_OF[error.code]
    return "decoded"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)
FIELDS = sorted({*lenient.CLICK.names, *lenient.CONVERSION.names, "unknown"})


@settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=8), st.booleans())
def test_any_json_is_decoded_or_refused(changes: dict[str, Any], click: bool) -> None:
    body = raw((CLICK if click else ORDER) | changes)
    for decode in (wire.decode_click, wire.decode_conversion):
        assert answer(decode, body) in ("decoded", 400)
    for one in wire.decode_batch(b"[" + body + b"]"):
        assert not isinstance(one, ApiError) or one.status == 400


@settings(max_examples=400)
@given(st.binary(max_size=200))
def test_any_bytes_are_decoded_or_refused(body: bytes) -> None:
    for decode in (wire.decode_click, wire.decode_conversion, wire.decode_batch):
        assert answer(decode, body) in ("decoded", 400)
    wire.decode_batch(body, lines=True)


@settings(max_examples=200)
@given(st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=6))
def test_a_batch_says_of_each_item_what_the_single_call_says(changes: dict[str, Any]) -> None:
    item = CLICK | changes | {"type": "click"}
    single = {name: value for name, value in item.items() if name != "type"}
    try:
        expected: str | None = None
        wire.decode_click(raw(single))
    except ApiError as error:
        expected = error.code
    (one,) = wire.decode_batch(raw([item]))
    assert (one.code if isinstance(one, ApiError) else None) == expected
