"""What a page's beacon becomes: clicks and events of the contract, by our clock, whatever the page's says."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any
from urllib.parse import quote

import pytest

from collector.core import beacon, times
from collector.core.beacon import Landing
from collector.core.cookies import EMPTY, Jar
from collector.core.events import ConversionBody
from collector.core.said import Beacon, decode
from collector.errors import ApiError

NOW = 1_790_000_000_000
PAGE = 1_600_000_000_000  # the page's clock is six years late
LANDING = "https://shop.test/?utm_source=fb&fbclid=IwAR0AbC-_x"


def said(**more: Any) -> Beacon:
    return decode(json.dumps({"s": "store_1", "n": PAGE} | more).encode())


def view(url: str = LANDING, **more: Any) -> dict[str, Any]:
    return {"t": "PageView", "i": "id1", "at": PAGE, "u": url, "d": {}} | more


def first(read: Beacon, jar: Jar) -> ConversionBody:
    return beacon.event(read, read.e[0], jar, NOW)


def test_times_are_as_long_ago_as_the_page_says() -> None:
    (click,) = beacon.clicks(said(e=[view(at=PAGE - 5_000)]), EMPTY, NOW)
    assert click.timestamp is not None
    assert times.parse(click.timestamp) == NOW - 5_000


def test_what_lies_ahead_of_the_pages_own_clock_is_now() -> None:
    event = first(said(e=[view(at=PAGE + 9_000)]), EMPTY)
    assert event.timestamp is not None
    assert times.parse(event.timestamp) == NOW


def test_a_page_view_with_a_click_id_is_a_click_and_a_page_view() -> None:
    jar = Jar("v" * 22, "fb.1.1.IwAR0AbC-_x".replace(".1.I", f".{NOW}.I"), "fb.1.1780000000000.42")
    (click,) = beacon.clicks(said(e=[view()]), jar, NOW)
    assert (click.fbclid, click.landing_page, click.store_id) == ("IwAR0AbC-_x", LANDING, "store_1")
    assert (click.visitor_id, click.fbc, click.fbp) == jar
    event = first(said(e=[view()]), jar)
    assert (event.event_type, event.event_id, event.event_source_url) == ("PageView", "id1", LANDING)


def test_another_clicks_fbc_does_not_go_with_this_click() -> None:
    jar = Jar(fbc="fb.1.1780000000000.IwAnother")
    assert beacon.clicks(said(e=[view()]), jar, NOW)[0].fbc is None


@pytest.mark.parametrize(
    "url", ["https://shop.test/", "https://shop.test/?fbclid=", "not a url?fbclid=a b", "https://[/?fbclid=x"]
)
def test_no_usable_click_id_makes_no_click(url: str) -> None:
    assert beacon.clicks(said(e=[view(url)]), EMPTY, NOW) == []


def test_a_click_id_is_decoded_and_kept_as_it_stands() -> None:
    assert beacon.fbclid_of("https://x.test/?a=1&fbclid=IwAR%2D0#fbclid=no") == "IwAR-0"
    assert beacon.fbclid_of("https://x.test/?fbclid=IwAR%252D0") == "IwAR-0"
    assert beacon.fbclid_of("https://x.test/?fbclid=IwAR%25252D0") == "IwAR%2D0"


def test_an_event_with_a_click_id_in_its_address_is_no_second_click() -> None:
    assert beacon.clicks(said(e=[view(t="AddToCart")]), EMPTY, NOW) == []


def test_the_newest_landing_counts_and_the_last_touch_stands_in() -> None:
    older, newer = view("https://x.test/?fbclid=IwOld", at=PAGE - 9000), view("https://x.test/?fbclid=IwNew")
    assert beacon.landing(said(e=[newer, older]), NOW) == (Landing("IwNew", NOW), None)
    touched = said(e=[view("https://x.test/")], l=[PAGE - 7000, "https://x.test/?fbclid=IwTouch"])
    assert beacon.landing(touched, NOW) == (Landing("IwTouch", NOW - 7000), None)


def test_a_placeholder_is_named_as_such() -> None:
    assert beacon.landing(said(e=[view("https://x.test/?fbclid=undefined")]), NOW) == (None, "invalid_fbclid")


def test_a_purchase_carries_its_order_and_money_apart_from_its_other_data() -> None:
    data = {"value": 49.9, "currency": "eur", "order_id": 1001, "content_ids": ["a"]}
    event = first(said(e=[view(t="Purchase", d=data, i=None)]), EMPTY)
    assert (event.order_id, event.event_value, event.currency) == ("1001", Decimal("49.9"), "eur")
    assert event.custom_data == {"content_ids": ["a"]}
    assert event.event_id is None  # derived from the order, as for the server's call


def test_an_amount_that_is_no_number_is_refused_by_name() -> None:
    with pytest.raises(ApiError) as raised:
        first(said(e=[view(d={"value": "much"})]), EMPTY)
    assert (raised.value.code, raised.value.field) == ("invalid_field", "value")


def test_customer_data_is_taken_where_it_fits() -> None:
    event = first(said(e=[view(h={"email": "a@b.de", "zipCode": 12345, "shoe": 44})]), EMPTY)
    assert event.customer_data is not None
    assert event.customer_data.email == "a@b.de"
    event = first(said(e=[view(h={"email": {"no": 1}})]), EMPTY)
    assert event.customer_data is None


@pytest.mark.parametrize(
    "raw", [b"", b"[]", b"{", b'{"s":""}', b'{"s":[]}', b'{"s":"\\ud800"}', b'{"n":1}', b'{"s":"x","e":[}', b"\xff"]
)
def test_what_is_no_beacon_is_refused(raw: bytes) -> None:
    with pytest.raises(ApiError) as raised:
        decode(raw)
    assert raised.value.status == 400


def test_deep_nesting_is_refused() -> None:
    with pytest.raises(ApiError):
        decode(b'{"s":"x","z":' + b"[" * 50_000)


def test_keys_of_a_newer_snippet_are_ignored() -> None:
    assert said(zz=1, e=[view(new=[1])]).s == "store_1"


def test_the_pixel_carries_a_whole_beacon_or_stands_for_a_page_view() -> None:
    whole = beacon.of_pixel("d=" + quote(json.dumps({"s": "store_1", "e": [view()]})), "", NOW)
    assert whole.e[0].u == LANDING
    plain = beacon.of_pixel("s=store_1&c=granted", LANDING, NOW)
    assert (plain.s, plain.c, plain.e[0].t, plain.e[0].u) == ("store_1", "granted", "PageView", LANDING)
    named = beacon.of_pixel("storeId=store_1&key=pk_1&landingPage=https%3A%2F%2Fx.test%2F&fbclid=Iw-0", "", NOW)
    assert (named.s, named.k, named.e[0].u) == ("store_1", "pk_1", "https://x.test/?fbclid=Iw-0")
    with pytest.raises(ApiError):
        beacon.of_pixel("", LANDING, NOW)
