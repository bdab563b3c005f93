"""D9: personal data leaves a page's address before anything is stored; campaigns and click ids stay."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.core import intake, urls, wire
from collector.core.beacon import clicks, event
from collector.core.cookies import EMPTY
from collector.core.said import decode
from tests.core.test_poor_fields import CLICK, GRANTED, NOW, ORDER, SERVER, take, take_click

PAGE = "https://shop.example"
FBCLID = "IwAR0abcdefghijklmnopqrstuvwxyz_-0123456789"
CAMPAIGN = f"utm_source=fb&utm_campaign=Summer%20Sale&campaign_id=120210000000000000&placement=feed&fbclid={FBCLID}"

E_MAILS = [
    "jo@example.com",
    "jo%40example.com",
    "jo%2540example.com",
    "Jo.Doe%2Btag%40mail.example.co.uk",
    "mailto:jo@example.com",
    "x,jo@example.com",
    "jos%C3%A9@ex%C3%A4mple.de",
]
PHONES = [
    "%2B16505551212",
    "+16505551212",
    "%2B49%20(0)151%2023456789",
    "0049-151-23456789",
    "16505551212",
    "(650)%20555-1212",
    "650-555-1212",
    "0612345678",
    "4915123456789",
]
NAMES = [
    *("email", "E-Mail", "em", "user_email", "customerEmail", "billing%5Bemail%5D", "emailAddress", "mail", "correo"),
    *("phone", "Telephone", "billing_phone", "phoneNumber", "tel", "ph", "tel%C3%A9fono", "telefon"),
    *(
        "token",
        "access_token",
        "csrfToken",
        "key",
        "order_key",
        "apiKey",
        "password",
        "passwd",
        "pwd",
        "auth",
        "secret",
    ),
    *("first_name", "lastName", "fn", "ln", "name", "fullName", "dob", "dateOfBirth", "zip", "postcode", "street"),
    *("jsessionid", "PHPSESSID", "sid", "session", "login", "username", "otp", "jwt", "ssn", "iban", "signature"),
]
KEPT = [
    "utm_source=fb",
    "utm_content=120210000000000",
    "fbclid=IwAR0abc",
    "gclid=Cj0KCQ-1650555121216505",
    "campaign_name=jo",
    "ad_id=16505551212",
    "adset_name=Name",
    "site_source_name=fb",
    "placement=Facebook_Mobile_Feed",
    "variant=40123456789012",
    "order_id=16505551212",
    "sku=4915123456789",
    "date=2026-11-30",
    "t=1790000000000",
    "q=1790000000",
    "q=red%20shoes",
    "q=50%25",
    "price=19.99",
    "keyword=shoes",
    "emailing=7",
    "page=2",
    "size=10-12",
    "coordinates=52.520008",
    "q=@handle",
    "v=1.2.3.4",
    "monkey=1",
]


@pytest.mark.parametrize("value", [*E_MAILS, *PHONES])
@pytest.mark.parametrize("place", ["/s?q={}", "/s?a=1&q={}&b=2", "/s#/p?q={}", "/s?x=y?q={}", "/s;q={}"])
def test_D9_what_looks_like_an_e_mail_or_a_phone_is_removed_from_any_parameter(value: str, place: str) -> None:
    assert urls.read(PAGE + place.format(value)) == PAGE + place.format("")


@pytest.mark.parametrize("value", [*E_MAILS, "%2B16505551212", "+16505551212"])
def test_D9_from_paths_hashes_and_campaigns_too(value: str) -> None:
    assert urls.read(f"{PAGE}/user/{value}/orders") == f"{PAGE}/user//orders"
    assert urls.read(f"{PAGE}/#/user/{value}") == f"{PAGE}/#/user/"
    assert urls.read(f"{PAGE}/?{value}") == f"{PAGE}/?"
    assert urls.read(f"{PAGE}/?utm_content={value}&{CAMPAIGN}") == f"{PAGE}/?utm_content=&{CAMPAIGN}"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", ["x", "a/b/c==", "S%20T", "%C3%BC", "0"])
def test_D9_a_parameter_named_for_somebodys_own_loses_its_value(name: str, value: str) -> None:
    assert urls.read(f"{PAGE}/p?a=1&{name}={value}&{CAMPAIGN}") == f"{PAGE}/p?a=1&{name}=&{CAMPAIGN}"
    assert urls.read(f"{PAGE}/p#{name}={value}") == f"{PAGE}/p#{name}="


@pytest.mark.parametrize("parameter", KEPT)
def test_D9_campaigns_click_ids_and_what_is_nobodys_stay(parameter: str) -> None:
    url = f"{PAGE}/p/12345?{parameter}&{CAMPAIGN}"
    assert urls.read(url) == url
    assert urls.read(url, None, FBCLID) == url


@pytest.mark.parametrize(
    "path", ["/@scope/package", "/p/0012345678905", "/maps/@52.1,13.2", "/a%20b", "/2026/11/30/x", "/c++/x", "/p/1.2"]
)
def test_D9_a_path_that_names_nobody_stays(path: str) -> None:
    assert urls.read(PAGE + path) == PAGE + path


@pytest.mark.parametrize(
    "value",
    [
        "https%3A%2F%2Fx.example%2F%3Ftoken%3DABC",
        "%2Faccount%3Femail%3Dsomebody",
        "https%253A%252F%252Fx.example%252F%253Fkey%253DABC",
        "/account/jo@example.com",
        "%2Faccount%2Fjo%40example.com",
    ],
)
def test_D9_an_address_inside_an_address_is_looked_into(value: str) -> None:
    assert urls.read(f"{PAGE}/?next={value}&a=1") == f"{PAGE}/?next=&a=1"


def test_D9_user_and_password_go() -> None:
    assert urls.read("https://jo:secret@shop.example/a") == "https://shop.example/a"
    assert urls.read("https://jo@shop.example/a") == "https://shop.example/a"


SECRET = "jo.planted@example.com"
PLANTED = f"https://mystore.com/a?email={SECRET}&q={SECRET}&utm_source=fb&token=planted&fbclid={CLICK['fbclid']}"
CLEAN = f"https://mystore.com/a?email=&q=&utm_source=fb&token=&fbclid={CLICK['fbclid']}"


def test_D9_every_address_of_every_door_is_cleaned_before_it_is_stored() -> None:
    fields = dict.fromkeys(("eventSourceUrl", "referrer", "firstTouch", "lastTouch"), PLANTED)
    order = take(ORDER | fields)[0].event
    assert {order.event_source_url, order.referrer, order.first_touch, order.last_touch} == {CLEAN}
    click = take_click(CLICK | {"landingPage": PLANTED, "referrer": PLANTED})[0].stored
    assert (click.landing_page, click.referrer) == (CLEAN, CLEAN)
    happening = {"t": "PageView", "i": "1", "at": NOW, "u": PLANTED, "r": PLANTED, "d": {}}
    said = decode(json.dumps({"s": "s", "n": NOW, "e": [happening], "f": [NOW, PLANTED], "l": [NOW, PLANTED]}).encode())
    (landed,) = clicks(said, EMPTY, NOW)
    assert intake.check_click(landed, SERVER, GRANTED, NOW, None).stored.landing_page == CLEAN
    seen = intake.check_event(event(said, said.e[0], EMPTY, NOW), SERVER, GRANTED, NOW, None, "US").event
    assert {seen.event_source_url, seen.referrer, seen.first_touch, seen.last_touch} == {CLEAN}


def test_control_without_the_rule_what_is_planted_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(urls, "without_personal_data", lambda url: url)
    urls._usual.cache_clear()
    assert take(ORDER | {"eventSourceUrl": PLANTED})[0].event.event_source_url == PLANTED
    urls._usual.cache_clear()


PIECES = st.sampled_from(
    [*E_MAILS, *PHONES, *NAMES, *KEPT, "?", "&", "#", "/", "=", ";", "%", "%2", "ü", " ", "a", ".", ":", "//", "\\"]
)


@settings(max_examples=150)
@given(st.lists(PIECES, max_size=12).map("".join))
def test_D9_a_cleaned_address_is_clean_and_plain(rest: str) -> None:
    for start in (PAGE + "/", PAGE, "", "/", "//"):
        read = urls.read(start + rest, PAGE)
        if read is None:
            continue
        assert read.isascii()
        assert read.isprintable()
        assert len(read) <= urls.MAX_LENGTH
        assert urls.read(read, PAGE) == read
        assert "jo@example.com" not in read.partition("//")[2].partition("/")[2]


@pytest.mark.parametrize("length", [4_000, 40_000])
def test_a_hostile_address_is_read_in_a_moment(length: int) -> None:
    """Each of these patterns grows with the length, not with its square: the bound is on steps, told by the size."""
    for unit in ("@", "%40", "a@", "+1", "0", "&email", "?=", "(0", "a.", "%25"):
        assert urls.read(f"{PAGE}/?q={unit * (length // len(unit))}", PAGE) is not None


def test_the_click_id_of_a_landing_spares_the_work_only_where_it_is_long_enough() -> None:
    """A short one may be a part of anything, an e-mail's too."""
    url = f"{PAGE}/?q=jo@example.com&fbclid=jo"
    assert urls.read(url, None, "jo") == f"{PAGE}/?q=&fbclid=jo"
    assert urls.read(f"{PAGE}/?email=x&fbclid={FBCLID}", None, FBCLID) == f"{PAGE}/?email=&fbclid={FBCLID}"


def test_a_click_is_refused_for_no_page_at_all_only() -> None:
    body: Any = wire.decode_click(json.dumps(CLICK | {"landingPage": "/only/a/path"}).encode())[0]
    assert intake.check_click(body, SERVER, GRANTED, NOW, None, PAGE).stored.landing_page == PAGE + "/only/a/path"


LABELS = st.tuples(
    st.sampled_from(["utm_source", "utm_content", "ad_id", "ad", "fbclid"]), st.text("0015z_-.~+@%", max_size=16)
)


@settings(max_examples=300)
@given(path=st.text("0015z_-.~/", max_size=16), labels=st.lists(LABELS, max_size=3))
def test_D9_what_is_passed_at_a_glance_would_pass_the_whole_look(path: str, labels: list[tuple[str, str]]) -> None:
    page = f"{PAGE}/{path}?{'&'.join(f'{name}={value}' for name, value in labels)}".rstrip("?")
    assert urls.read(page) == urls.without_personal_data(page)


@pytest.mark.parametrize("value", ["004915112345678", "-004915112345678", "x~00491511-2345678"])
def test_D9_the_control_a_phone_in_a_campaign_parameter_is_seen_at_a_glance(value: str) -> None:
    page = f"{PAGE}/p?utm_content={value}"
    assert urls._HARMLESS.fullmatch(page) is None
    assert "151" not in (urls.read(page) or "")
