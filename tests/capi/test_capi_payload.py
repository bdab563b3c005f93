"""One event's JSON: what Meta refuses never leaves, what is optional and bad is left out, the event goes on."""

from __future__ import annotations

import re
import shutil
import subprocess
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from collector.core.capi.event_id import derive
from collector.core.capi.payload import DAY_MS, BuiltEvent, Profile, build_event
from collector.core.capi.states import CapiState, combine, name_of
from collector.core.events import Enrichment, Product, StoredEvent
from tests.kit.simulators.graph_rules import judge

NOW = 1_790_000_000_000
EMAIL = "62a14e44f765419d10fea99367361a727c12365e2520f32218d505ed9aa0f62f"
AGENT = "Mozilla/5.0 (X11; Linux x86_64)"
FBCLID = "IwZXh0bgNhZW0CMTEAAR1abcdefghijklmnopqrstuvwxyz_-0123456789"


def event(**more: Any) -> StoredEvent:
    fields: dict[str, Any] = {
        "event_type": "Purchase",
        "event_id": "abc",
        "ts": NOW - 5_000,
        "received": NOW,
        "order_id": "1001",
        "value": Decimal("99.90"),
        "currency": "EUR",
        "user_data": {"em": [EMAIL]},
        "user_agent": AGENT,
        "event_source_url": "https://shop.example/thanks",
    }
    return StoredEvent(**{**fields, **more})


def build(enrichment: Enrichment | None = None, profile: Profile | None = None, **more: Any) -> BuiltEvent:
    return build_event(event(**more), enrichment or Enrichment(), profile or Profile())


def sent(enrichment: Enrichment | None = None, profile: Profile | None = None, **more: Any) -> dict[str, Any]:
    """The JSON as Meta reads it; the simulator's judge must take it."""
    built = build(enrichment, profile, **more)
    assert built.refused is None, built.refused
    body: dict[str, Any] = msgspec.json.decode(built.payload)
    assert judge([body], NOW / 1000) is None
    return body


def test_a_purchase_as_it_leaves() -> None:
    body = sent(products=[Product(product_id=7, name="Shoe", price=Decimal("99.90"), quantity=1, category="Shoes")])
    assert body == {
        "event_name": "Purchase",
        "event_time": NOW // 1000 - 5,
        "event_id": "abc",
        "action_source": "website",
        "event_source_url": "https://shop.example/thanks",
        "user_data": {"em": [EMAIL], "client_user_agent": AGENT},
        "custom_data": {
            "value": 99.9,
            "currency": "EUR",
            "order_id": "1001",
            "contents": [{"id": "7", "quantity": 1, "item_price": 99.9, "title": "Shoe", "category": "Shoes"}],
            "content_ids": ["7"],
            "content_type": "product",
        },
    }


def test_the_value_is_the_decimal_to_the_digit() -> None:
    value = Decimal("12345678901234567.10")
    assert b'"value":12345678901234567.10' in build(value=value).payload


def test_what_lies_ahead_of_its_receipt_is_sent_as_received() -> None:
    assert sent(ts=NOW + 600_000)["event_time"] == NOW // 1000


@pytest.mark.parametrize(("source", "days"), [("website", 7), ("physical_store", 62)])
def test_too_old_an_event_expires(source: str, days: int) -> None:
    late = build(action_source=source, ts=NOW - days * DAY_MS)
    assert (late.state, late.payload) == (CapiState.EXPIRED, b"")
    assert str(days) in (late.refused or "")
    in_time = build(action_source=source, ts=NOW - days * DAY_MS + 3_600_000)
    assert in_time.state is CapiState.QUEUED
    assert in_time.deadline < NOW + 3_600_000


@pytest.mark.parametrize(
    "more",
    [
        {"value": None},
        {"currency": None},
        {"currency": "euros"},
        {"value": Decimal("NaN")},
        {"action_source": "carrier_pigeon"},
        {"action_source": "app"},
        {"action_source": "business_messaging"},
        {"user_data": {}},
        {"user_data": {"ct": [EMAIL], "country": [EMAIL], "zp": [EMAIL], "st": [EMAIL], "ge": [EMAIL]}},
        {"user_data": {"db": [EMAIL]}},
        {"user_data": {"fn": [EMAIL], "ge": [EMAIL]}, "user_agent": None},
        {"user_data": {"ln": [EMAIL]}, "user_agent": None},
    ],
)
def test_what_meta_cannot_take_is_refused_in_plain_words(more: dict[str, Any]) -> None:
    built = build(**more)
    assert built.state is CapiState.REJECTED
    assert built.payload == b""
    assert re.match(r"[a-zA-Z].{15,}", built.refused or "")


@pytest.mark.parametrize("key", ["em", "ph", "external_id"])
def test_one_strong_identifier_is_enough(key: str) -> None:
    assert list(sent(user_data={key: [EMAIL]}, user_agent=None)["user_data"]) == [key]


def test_an_unknown_key_in_user_data_never_leaves() -> None:
    built = build(user_data={"em": [EMAIL], "click_id": ["x"]})
    assert b"click_id" not in built.payload
    assert "user_data.unknown" in built.dropped


GOOD_FBC = [f"fb.1.{NOW - 10_000}.{FBCLID}", f"fb.0.{NOW - 10_000}.test.AQICAQMC", f"fb.2.{NOW - 10_000}.{FBCLID}.Bg"]
BAD_FBC = [
    "",
    "nonsense",
    f"fb.1.{NOW - 10_000}.",
    f"fb.1.{NOW - 10_000}.with space",
    f"fb.1.{NOW - 10_000}.a.b.c.d",
    f"fb.1.{NOW - 10_000}.{FBCLID}.ZZ",
    f"fb.1.{(NOW - 10_000) // 1000}.{FBCLID}",  # seconds
    f"fb.1.{NOW - 91 * DAY_MS}.{FBCLID}",
    f"fb.1.{NOW + 3_600_000}.{FBCLID}",  # later than the event
    f"fb.1.{NOW - 10_000}.{'x' * 501}",
]


@pytest.mark.parametrize("fbc", GOOD_FBC)
def test_a_good_fbc_leaves_byte_for_byte(fbc: str) -> None:
    assert sent(fbc=fbc)["user_data"]["fbc"] == fbc


@pytest.mark.parametrize("fbc", BAD_FBC)
def test_a_bad_fbc_is_left_out_and_the_event_goes_on(fbc: str) -> None:
    assert "fbc" not in sent(fbc=fbc)["user_data"]


def test_a_pages_clock_that_runs_ahead_does_not_cost_the_click() -> None:
    body = sent(fbc=f"fb.1.{NOW + 60_000}.{FBCLID}")
    assert body["user_data"]["fbc"] == f"fb.1.{NOW - 5_000}.{FBCLID}"


def test_the_clicks_own_fbc_is_used_for_the_same_fbclid() -> None:
    clicked = f"fb.1.{NOW - DAY_MS}.{FBCLID}"
    assert sent(Enrichment(fbc=clicked), fbclid=FBCLID)["user_data"]["fbc"] == clicked
    assert sent(fbclid=FBCLID)["user_data"]["fbc"] == f"fb.1.{NOW - 5_000}.{FBCLID}"
    assert sent(Enrichment(fbc=clicked))["user_data"]["fbc"] == clicked


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ("93.184.216.9", "93.184.216.9"),
        ("93.184.216.9:443", "93.184.216.9"),
        ("93.184.216.9.AQQAAQMC", "93.184.216.9"),
        ("[2606:4700::1]:443", "2606:4700::1"),
        ("::ffff:93.184.216.9", "93.184.216.9"),
        ("2606:4700:0:0::1", "2606:4700::1"),
        ("10.0.0.1", None),
        ("127.0.0.1", None),
        ("192.168.1.1:80", None),
        ("::1", None),
        ("100.64.0.1", None),
        ("203.0.113.9", None),
        ("2001:db8::1", None),
        ("fe80::1%eth0", None),
        ("999.1.1.1", None),
        ("proxy", None),
    ],
)
def test_addresses_leave_bare_and_public(given: str, taken: str | None) -> None:
    built = build(ip=given)
    user = msgspec.json.decode(built.payload)["user_data"]
    assert user.get("client_ip_address") == taken
    assert ("client_ip_address" in built.dropped) is (taken is None)


@pytest.mark.parametrize(
    ("fbp", "good"),
    [
        (f"fb.1.{NOW}.1234567890", True),
        (f"fb.1.{NOW}.123456789012345678", True),
        (f"fb.1.{NOW}.1234567890.AQICAQMC", True),
        (f"fb.1.{NOW}.abc", False),
        ("fb.1.1.1", False),
        ("x", False),
    ],
)
def test_a_malformed_fbp_is_left_out(fbp: str, good: bool) -> None:
    assert ("fbp" in sent(fbp=fbp)["user_data"]) is good


def test_the_credited_click_fills_only_what_is_absent() -> None:
    click = Enrichment(
        fbp=f"fb.1.{NOW}.1", ip="93.184.216.1", user_agent="Clicker", event_source_url="https://a.example/"
    )
    bare = sent(click, user_agent=None, event_source_url=None)
    assert bare["user_data"]["client_user_agent"] == "Clicker"
    assert bare["user_data"]["client_ip_address"] == "93.184.216.1"
    assert bare["event_source_url"] == "https://a.example/"
    assert sent(click)["user_data"]["client_user_agent"] == AGENT


def test_a_website_event_without_url_or_agent_is_sent_and_counted() -> None:
    built = build(user_agent=None, event_source_url=None)
    assert built.refused is None
    assert built.missing == ["event_source_url", "client_user_agent"]
    body = sent(profile=Profile(url="https://shop.example/"), event_source_url=None)
    assert body["event_source_url"] == "https://shop.example/"


def test_contents_need_an_id_and_pieces() -> None:
    products = [
        Product(name="no id"),
        Product(product_id="a", quantity=0),
        Product(product_id="b", price=Decimal("-1")),
    ]
    built = build(products=products)
    custom = msgspec.json.decode(built.payload)["custom_data"]
    assert custom["contents"] == [{"id": "b"}]
    assert built.dropped.count("contents") == 2
    assert "contents" not in sent(products=products[:1])["custom_data"]


@pytest.mark.parametrize(
    "custom",
    [
        {"content_type": "gadget"},
        {"contents": "x"},
        {"contents": [{"quantity": 1}]},
        {"content_ids": [None, True]},
        {"num_items": -1},
        {"delivery_category": "drone"},
        {"predicted_ltv": "high"},
        {"email": "a@b.c"},
        {"note": "write to a.person@example.com"},
        {"Phone": "+1 650 555 1212"},
    ],
)
def test_custom_data_that_meta_or_privacy_forbids_is_left_out(custom: dict[str, Any]) -> None:
    built = build(custom_data={**custom, "colour": "red"})
    kept = msgspec.json.decode(built.payload)["custom_data"]
    assert kept["colour"] == "red"
    assert not custom.keys() & kept.keys()
    assert built.dropped


def test_free_keys_and_known_keys_of_custom_data_leave() -> None:
    given = {"colour": "red", "predicted_ltv": 12.5, "content_name": "Sale", "num_items": 3, "nested": {"a": [1]}}
    assert given.items() <= sent(custom_data=given)["custom_data"].items()


def test_a_value_without_currency_is_left_out_of_another_event() -> None:
    built = build(event_type="Lead", currency=None)
    assert built.refused is None
    assert "value" in built.dropped
    assert "value" not in msgspec.json.decode(built.payload)["custom_data"]


def test_limited_data_use_by_event_or_by_store() -> None:
    for body in (sent(ldu=True), sent(profile=Profile(ldu=True))):
        assert body["data_processing_options"] == ["LDU"]
        assert (body["data_processing_options_country"], body["data_processing_options_state"]) == (0, 0)
    assert "data_processing_options" not in sent()


@pytest.mark.parametrize(
    "url", ["shop.example/thanks", "javascript:alert(1)", "https://user:pw@shop.example/", "http://"]
)
def test_an_url_that_is_none_is_left_out(url: str) -> None:
    built = build(event_source_url=url, referrer=url)
    assert {"event_source_url", "referrer_url"} <= set(built.dropped)
    assert url not in built.payload.decode()


def test_the_simulators_judge_refuses_an_unhashed_email() -> None:
    """The control: the judge that the tests above rely on does see what must not leave."""
    body = sent()
    body["user_data"]["em"] = ["john_smith@gmail.com"]
    refusal = judge([sent(), body], NOW / 1000)
    assert refusal is not None
    assert refusal.index == 1


def test_the_derived_event_id_is_the_same_everywhere() -> None:
    assert derive("store_a", "Purchase", "1001") == "35ba381f9bb7b99287f7dc3879581163"
    assert derive("store_a", "Purchase", "1001") != derive("store_a", "Purchase", "1002")


@pytest.mark.skipif(shutil.which("node") is None, reason="no node here")
def test_the_documented_javascript_computes_the_same_event_id() -> None:
    script = """
const [storeId, eventType, orderId] = process.argv.slice(1);
const bytes = new TextEncoder().encode(`${storeId}|${eventType}|${orderId}`);
globalThis.crypto.subtle.digest("SHA-256", bytes).then((digest) => {
  const hash = new Uint8Array(digest);
  console.log([...hash.slice(0, 16)].map(b => b.toString(16).padStart(2, "0")).join(""));
});"""
    command = [shutil.which("node") or "node", "-e", script, "store_a", "Purchase", "Ä-1001"]
    out = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
    assert out.strip() == derive("store_a", "Purchase", "Ä-1001")


def test_states_have_the_contracts_names_and_one_speaks_for_many() -> None:
    names = {name_of(state) for state in CapiState}
    contract = "queued sent retrying rejected held skipped expired disabled dry_run"
    assert names == set(contract.split())
    assert combine([CapiState.SENT, CapiState.RETRYING]) is CapiState.RETRYING
    assert combine([CapiState.SENT, CapiState.REJECTED]) is CapiState.REJECTED
    assert combine([]) is CapiState.DISABLED
