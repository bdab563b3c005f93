"""What a checked body becomes: times, money, click ids, addresses, keys; refused, left out and named, or kept."""

from __future__ import annotations

import base64
import itertools
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.core import clickid, flags, intake, times
from collector.core.consent import Decision
from collector.core.events import ClickBody, ConversionBody
from collector.core.ids import PublicIds
from collector.core.intake import Caller
from collector.core.keyed import KeyedHash
from collector.errors import ApiError

NOW = 1_790_000_000_000
DAY = 86_400_000
GRANTED = Decision("granted", False)
SERVER = Caller(secret=True, address="198.51.100.1", user_agent="python-requests/2")
PAGE = Caller(secret=False, address="93.184.216.34", user_agent="Mozilla/5.0")
FBCLID = "IwAR0intake0000"


def check_click(caller: Caller = SERVER, decision: Decision = GRANTED, bot: str | None = None, **fields: Any) -> Any:
    body = {"fbclid": FBCLID, "storeId": "s", "landingPage": "https://shop.example/"} | fields
    return intake.check_click(msgspec.convert(body, ClickBody), caller, decision, NOW, bot)


def check_order(caller: Caller = SERVER, **fields: Any) -> Any:
    body = {"storeId": "s", "eventType": "Purchase", "orderId": "1", "eventValue": 9.5, "currency": "usd"} | fields
    decoded = msgspec.json.decode(
        msgspec.json.encode({k: v for k, v in body.items() if v is not ...}), type=ConversionBody
    )
    return intake.check_event(decoded, caller, GRANTED, NOW, None, "US")


def code_of(check: Any, **fields: Any) -> tuple[str, str | None]:
    with pytest.raises(ApiError) as caught:
        check(**fields)
    return caught.value.code, caught.value.field


# -- times


@pytest.mark.parametrize(
    ("text", "millis"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("2026-01-31T06:00:00Z", 1_769_839_200_000),
        ("2026-01-31T07:30:00+01:30", 1_769_839_200_000),
        ("2026-01-31t06:00:00z", 1_769_839_200_000),
        ("2026-01-31 06:00:00Z", 1_769_839_200_000),
        ("2026-01-31T06:00:00.123456789Z", 1_769_839_200_123),
        ("2026-01-31T06:00:00.1Z", 1_769_839_200_100),
        ("2026-01-30T22:00:00-08:00", 1_769_839_200_000),
        ("2016-12-31T23:59:60Z", 1_483_228_799_000),
    ],
)
def test_times_are_read(text: str, millis: int) -> None:
    assert times.parse(text) == millis


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2026-01-31",
        "2026-01-31T06:00:00",
        "2026-02-30T06:00:00Z",
        "2026-13-01T06:00:00Z",
        "2026-01-31T25:00:00Z",
        "2026-01-31T06:61:00Z",
        "2026-01-31T06:00:00+99:00",
        "1769839200",
        "٢٠٢٦-01-31T06:00:00Z",
        "2026-01-31T06:00:00Z\n",
        "0000-01-01T00:00:00Z",
    ],
)
def test_what_is_no_rfc_3339_is_none(text: str) -> None:
    assert times.parse(text) is None


@given(st.integers(0, 4_000_000_000_000))
def test_what_is_written_is_read_back(millis: int) -> None:
    assert times.parse(times.exact(millis)) == millis
    assert times.parse(times.text(millis)) == millis // 1000 * 1000


@given(st.text(max_size=40))
def test_any_text_is_a_time_or_none(text: str) -> None:
    assert times.parse(text) is None or isinstance(times.parse(text), int)


@pytest.mark.parametrize(
    ("caller", "ago", "corrected"),
    [
        (SERVER, 90 * DAY, False),
        (SERVER, 90 * DAY + 1000, False),
        (SERVER, 400 * DAY, False),
        (SERVER, -10 * 60_000, False),
        (SERVER, -10 * 60_000 - 1000, True),
        (PAGE, 7 * DAY, False),
        (PAGE, 7 * DAY + 1000, True),
        (PAGE, -11 * 60_000, True),
    ],
)
def test_a_clock_that_is_wrong_is_replaced_and_said(caller: Caller, ago: int, corrected: bool) -> None:
    claimed = NOW - ago
    click = check_click(caller, timestamp=times.exact(claimed))
    assert (click.ts, click.time_corrected) == (NOW if corrected else claimed, corrected)
    assert bool(click.flags & flags.TIME_CORRECTED) == corrected
    assert click.received == NOW


def test_a_time_that_is_none_is_left_out_and_named() -> None:
    for checked in (check_click(timestamp="yesterday"), check_order(timestamp="yesterday")):
        assert list(checked.ignored) == ["timestamp"]
    assert (check_order(timestamp="").event.ts, check_order(timestamp="").ignored) == (NOW, [])


# -- money


@pytest.mark.parametrize("value", [0, 0.01, 9.5, 123456789, "0.000000000000000001"])
def test_money_is_kept(value: Any) -> None:
    event = check_order(eventValue=msgspec.Raw(str(value).encode())).event
    assert event.value == Decimal(str(value))
    assert event.currency == "USD"


@pytest.mark.parametrize("value", ["-1", "-0.01", "1e18", "1e400", "0.0000000000000000001"])
def test_what_is_no_money_is_refused(value: str) -> None:
    assert code_of(check_order, eventValue=msgspec.Raw(value.encode())) == ("invalid_field", "eventValue")


@pytest.mark.parametrize("code", ["eur", "EUR", " Eur "])
def test_a_currency_in_any_case(code: str) -> None:
    assert check_order(currency=code).event.currency == "EUR"


@pytest.mark.parametrize("code", ["HRK", "BGN", "ang", "LTL", "EEK", "BYR", "CUC", "ZWL", "XCG", "SVC", "CLF", "XAF"])
def test_a_withdrawn_currency_is_taken(code: str) -> None:
    """Meta takes more than ISO 4217 lists today, and an order is not lost for its currency's end."""
    assert check_order(currency=code).event.currency == code.upper()


@pytest.mark.parametrize("code", ["XXX", "XTS", "EURO", "€", "12", "us dollar", "ZZZ"])
def test_a_currency_that_is_none_is_refused(code: str) -> None:
    assert code_of(check_order, currency=code) == ("invalid_currency", "currency")


@pytest.mark.parametrize("absent", ["orderId", "eventValue", "currency"])
def test_what_a_purchase_needs(absent: str) -> None:
    assert code_of(check_order, **{absent: ...}) == ("missing_required_field", absent)


def test_a_lead_needs_none_of_it() -> None:
    event = check_order(eventType="Lead", orderId=..., eventValue=..., currency=...)
    assert (event.event.value, event.event.currency, event.idempotent) == (None, None, None)


def test_a_value_needs_its_currency_whatever_the_event() -> None:
    assert code_of(check_order, eventType="Lead", currency=...) == ("missing_required_field", "currency")


def test_a_price_that_no_money_has_is_left_out_and_named() -> None:
    event = check_order(products=[{"productId": "a", "price": 1}, {"productId": "b", "price": msgspec.Raw(b"1e999")}])
    assert [product.price for product in event.event.products] == [Decimal(1), None]
    assert "products[1].price" in event.ignored


# -- what makes an event the same one


def test_the_same_order_has_the_same_event_id_and_another_type_another() -> None:
    ids = {check_order(eventType=name).event.event_id for name in ("Purchase", "Purchase", "Lead")}
    assert len(ids) == 2
    assert check_order(eventId="own").event.event_id == "own"


def test_an_order_as_number_or_text_is_one_order() -> None:
    assert check_order(orderId=1001).idempotent == check_order(orderId="1001").idempotent


def test_without_order_the_event_id_is_what_repeats() -> None:
    event = check_order(eventType="Lead", orderId=..., eventValue=..., currency=..., eventId="e1")
    assert event.idempotent == "ee1"
    assert event.idempotent != check_order(orderId="e1").idempotent


# -- click ids


@pytest.mark.parametrize(
    "fbclid",
    ["a b", "a<b>", "é", "x" * 501, "null", "undefined", "__FBCLID__", "fbclid", "a%20b", "0", "-", "nil", "None"],
)
def test_what_is_no_click_id_is_refused(fbclid: str) -> None:
    assert code_of(check_click, fbclid=fbclid) == ("invalid_fbclid", "fbclid")


def test_beside_an_order_it_is_left_out_and_named() -> None:
    event = check_order(fbclid="null", fbc="fb.1.x", fbp="nonsense")
    assert (event.event.fbclid, event.event.fbc, event.event.fbp) == (None, None, None)
    assert set(event.ignored) == {"fbclid", "fbc", "fbp"}


def modern(seconds: int) -> str:
    """A click id with its time inside, as readings of real ones show it."""
    payload = b"\x01\x02\x03extn\x03aemclck" + (seconds - 1_704_140_976).to_bytes(4, "big") + b"\x00" * 20
    return "Iw" + base64.urlsafe_b64encode(payload + b"\0" * (-len(payload) % 3)).decode()


def test_the_time_inside_a_click_id_is_read_and_an_old_one_is_refused() -> None:
    fresh, old = modern(NOW // 1000 - 3600), modern(NOW // 1000 - 91 * 86_400)
    assert clickid.click_time(fresh) == NOW // 1000 * 1000 - 3_600_000
    check_click(fbclid=fresh)
    assert code_of(check_click, fbclid=old) == ("invalid_fbclid", "fbclid")


@given(st.text("ABCIwPAabc019_-", min_size=1, max_size=200))
def test_a_click_id_that_does_not_decode_is_never_refused_for_that(text: str) -> None:
    fault = clickid.fault("Q" + text, NOW)
    assert fault is None or "placeholder" in fault


@pytest.mark.parametrize(
    ("value", "parts"),
    [
        ("fb.1.1700000000000.abc", (1, 1_700_000_000_000, "abc", None)),
        ("fb.2.1700000000.abc", (2, 1_700_000_000_000, "abc", None)),
        ("fb.1.1700000000000.abc.AQ", (1, 1_700_000_000_000, "abc", "AQ")),
        ("fb.1.1700000000000.abc.AQIDBAUG", (1, 1_700_000_000_000, "abc", "AQIDBAUG")),
        ("fb.3.1700000000000.abc", None),
        ("fb.1.170000000000.abc", None),
        ("fb.1.1700000000000.", None),
        ("fb.1.1700000000000.a b", None),
        ("fb.1.1700000000000.abc\r\nSet-Cookie: x", None),
        ("fb.1.١٧٠٠٠٠٠٠٠٠٠٠٠.abc", None),
    ],
)
def test_fbc_is_parsed(value: str, parts: Any) -> None:
    parsed = clickid.parse_fbc(value)
    assert (tuple(parsed) if parsed else None) == parts


@given(st.from_regex(r"\A[A-Za-z0-9_-]{1,500}\Z"), st.integers(10**12, 10**13 - 1), st.integers(0, 2))
def test_what_is_built_is_parsed(fbclid: str, created: int, index: int) -> None:
    assert clickid.parse_fbc(clickid.build_fbc(fbclid, created, index)) == (index, created, fbclid, None)


def test_an_old_fbc_refuses_its_click() -> None:
    old = clickid.build_fbc(FBCLID, NOW - 91 * DAY)
    assert code_of(check_click, fbc=old) == ("invalid_fbclid", "fbc")


# -- who called


def test_a_server_speaks_for_the_visitor_and_a_page_for_itself() -> None:
    assert check_click(SERVER).ip is None, "the shop's own address says nothing"
    assert check_click(SERVER, ipAddress="93.184.216.34").ip == "93.184.216.34"
    assert check_click(SERVER, ipAddress=SERVER.address).ip is None
    assert check_click(SERVER, ipAddress="unknown").ip is None
    assert check_click(SERVER).user_agent is None
    page = check_click(PAGE, ipAddress="8.8.8.8")
    assert (page.ip, page.user_agent) == (PAGE.address, PAGE.user_agent)
    assert "ipAddress" in page.ignored
    odd = check_click(ipAddress="1.2.3")
    assert (odd.ip, odd.ignored) == (None, ["ipAddress"])


def test_a_purchase_by_a_page_is_unconfirmed_and_cannot_ask_for_tests() -> None:
    event = check_order(PAGE, testEventCode="TEST1")
    assert event.event.unconfirmed
    assert event.flags & flags.UNCONFIRMED
    assert event.event.test_event_code is None
    assert not check_order(SERVER).event.unconfirmed


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)",
        "//",
        "/p",
        "shop.example",
        "https://",
        "ftp://a.example",
        "http:///x",
    ],
)
def test_F2_a_click_needs_a_page_and_an_order_goes_without(url: str) -> None:
    assert code_of(check_click, landingPage=url) == ("invalid_field", "landingPage")
    order = check_order(eventSourceUrl=url)
    assert (order.event.event_source_url, order.ignored) == (None, ["eventSourceUrl"])


def test_why_a_click_will_not_be_used() -> None:
    assert check_click().reason is None
    assert check_click(bot="crawler").reason == "crawler"
    assert check_click(decision=Decision("denied", False)).reason == "consent"
    assert check_click(decision=Decision("denied", False)).flags & flags.DENIED


# -- ids and names


@given(st.integers(0, (1 << 63) - 1))
def test_a_public_id_opens_to_its_row_and_to_no_other_kind(row: int) -> None:
    public = PublicIds(b"k" * 32)
    text = public.public("click", row)
    assert public.row("click", text) == row
    assert public.row("conv", text.replace("click", "conv")) is None
    assert PublicIds(b"x" * 32).row("click", text) is None


@given(st.text(max_size=50))
def test_a_forged_id_opens_to_nothing(text: str) -> None:
    public = PublicIds(b"k" * 32)
    assert public.row("click", text) is None
    assert public.row("click", "click_" + text) is None


def test_ids_in_a_row_look_unrelated() -> None:
    public = PublicIds(b"k" * 32)
    ids = [public.public("conv", row) for row in range(1000)]
    assert len(set(ids)) == 1000
    shared = [sum(a == b for a, b in zip(one, two, strict=True)) - 5 for one, two in itertools.pairwise(ids)]
    assert max(shared) < 16, "of 32 digits about 2 are the same by chance"


def test_names_differ_by_store_kind_and_installation() -> None:
    one, other = KeyedHash(b"a" * 32), KeyedHash(b"b" * 32)
    names = {one.name(1, "ip", "x"), one.name(2, "ip", "x"), one.name(1, "ua", "x"), other.name(1, "ip", "x")}
    assert len(names) == 4
    assert one.name(1, "ip", "x") == KeyedHash(b"a" * 32).name(1, "ip", "x")
    assert all(-(1 << 63) <= name < 1 << 63 for name in names)
    assert "a" not in repr(one).replace("KeyedHash", "")
    assert one.subkey("p") != one.subkey("q")


def test_a_pepper_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        KeyedHash(b"short")
