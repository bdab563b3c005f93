"""The numbered hard cases of matching that take the whole journal, or the door before it.

Rows that the matcher itself decides are in test_matching_cases.py, 25 to 28 in test_canonical.py, 44 in
test_erasure.py, 52 in test_journal_count.py; the last test here says that none is left out.
"""

from __future__ import annotations

import itertools
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest
from msgspec.structs import replace

from collector.core import statuses
from collector.core.consent import Decision
from collector.core.flags import BOT
from collector.core.intake import Caller
from collector.errors import ApiError
from collector.exchange.operations import Withdraw
from collector.storage.reports import commands
from collector.storage.reports.attribution import Question
from tests.kit.console_process import make_config
from tests.kit.edge_process import Edge, running
from tests.kit.journal_kit import DAY, HOUR, MINUTE, NOW, STORE, Kit, click, config_for, order

SAFARI = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 "
    "Version/18.6 Mobile/15E148 Safari/604.1"
)
ROWS = 52
TESTS = Path(__file__).parents[1]


@pytest.fixture
def kit(tmp_path: Path) -> Iterator[Kit]:
    with Kit(tmp_path) as kit:
        yield kit


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    with running(tmp_path_factory.mktemp("rows")) as edge:
        yield edge


def told(edge: Edge, path: str, body: dict[str, Any], **more: Any) -> dict[str, Any]:
    answer = edge.post(f"/v1/track/{path}", {"storeId": STORE} | body, **more)
    assert answer.status == 200, answer.data
    return dict(answer.body["data"])


def ago(age: timedelta) -> str:
    return (datetime.now(UTC) - age).isoformat().replace("+00:00", "Z")


@pytest.mark.parametrize(
    ("age", "key", "corrected"),
    [
        (timedelta(days=91), "secret", False),
        (timedelta(days=89), "secret", False),
        (timedelta(days=8), "page", True),  # a page's clock is nobody's
        (timedelta(days=6), "page", False),
        (timedelta(minutes=-15), "secret", True),
        (timedelta(minutes=-5), "secret", False),
    ],
)
def test_03_a_clock_that_is_wrong_is_replaced_by_the_time_of_receipt(
    edge: Edge, age: timedelta, key: str, corrected: bool
) -> None:
    stamp = ago(age)
    body = {
        "fbclid": f"IwARclock{crc32(f'{stamp}{key}'.encode())}",
        "landingPage": "https://shop.example/",
        "timestamp": stamp,
    }
    said = told(edge, "click", body, key=key, headers={"Origin": "https://shop.example"})
    assert said.get("timeCorrected", False) is corrected
    at = datetime.fromisoformat(said["timestamp"])
    wanted = datetime.now(UTC) if corrected else datetime.fromisoformat(stamp)
    assert abs(at - wanted) < timedelta(minutes=3)


def test_05_a_late_click_re_opens_its_order_and_sends_nothing_twice(kit: Kit) -> None:
    (first,) = kit.post(order("1", NOW - HOUR, visitorId="v1"))
    assert not first.state.match.attributed
    queued = kit.rows("SELECT id, conversion FROM outbox")
    (late,) = kit.post(click("IwARlate00000", NOW - 2 * HOUR, visitorId="v1"))
    state = kit.state(first.state.row.id)
    assert (state.match.click, state.row.revision) == (late.id, 1)
    assert kit.rows("SELECT id, conversion FROM outbox") == queued
    assert kit.rows("SELECT conversion, revision FROM notice") == [(first.state.row.id, 1)]  # the shop is told of it


def test_06_the_same_order_twice_is_one(kit: Kit) -> None:
    kit.post(click("IwARtwice0000", NOW - HOUR, visitorId="v1"))
    first, second = kit.post(*[order("1", visitorId="v1")] * 2)
    assert (second.duplicate, second.state.row.id, second.state.match) == (True, first.state.row.id, first.state.match)
    assert (second.state.row.revision, kit.rows("SELECT count(*) FROM outbox")) == (0, [(1,)])


def test_07_what_a_second_report_adds_is_united_and_another_value_needs_a_reason(kit: Kit) -> None:
    (first,) = kit.post(order("1", customerData={"email": "jo@example.com"}))
    more, other, explained = kit.post(
        order("1", customerData={"phone": "+14155550100"}, visitorId="v1"),
        order("1", eventValue=12),
        order("1", eventValue=12, orderStatus="updated"),
    )
    assert set(more.state.event.user_data) >= {"em", "ph"}
    assert more.state.row.revision == 1
    assert isinstance(other, ApiError)
    assert other.code == "order_conflict"
    assert (explained.state.event.value, explained.state.row.revision) == (Decimal(12), 2)
    assert {one.state.row.id for one in (first, more, explained)} == {first.state.row.id}


@pytest.fixture
def two_stores(tmp_path: Path) -> Iterator[Kit]:
    config = config_for(tmp_path)
    second = replace(config.store[0], id="store_other", domains=["other.com"], pixel=[])
    with Kit(tmp_path, config=replace(config, store=[*config.store, second])) as kit:
        yield kit


def test_08_one_order_id_in_two_stores_is_two_orders(two_stores: Kit) -> None:
    one, other = two_stores.post(order("1"), order("1", storeId="store_other"))
    assert not other.duplicate
    assert one.state.row.id != other.state.row.id


def test_11_click_ids_that_differ_in_case_are_different(kit: Kit) -> None:
    upper, lower = kit.post(click("IwARCASE00000", visitorId="v1"), click("IwARcase00000", visitorId="v1"))
    assert (upper.id, lower.id, lower.duplicate) == (1, 2, False)
    (ordered,) = kit.post(order("1", fbclid="IwARCASE00000"))
    assert ordered.state.match.click == upper.id


def test_13_a_crawlers_click_is_kept_and_counts_for_nothing(edge: Edge, kit: Kit) -> None:
    agent = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
    said = told(edge, "click", {"fbclid": "IwARbot000000", "landingPage": "https://shop.example/", "userAgent": agent})
    assert (said["tracked"], said["reason"]) == (False, "crawler")
    crawled = kit.operation(click("IwARcrawled00", NOW - HOUR, visitorId="v1", ipAddress="93.184.216.34"))
    crawled.row = (*crawled.row[:11], crawled.row[11] | BOT, *crawled.row[12:])
    kit.submit([crawled])
    frequencies = kit.transaction.lookup.frequencies
    assert (frequencies.clicks_between(1, NOW - DAY, NOW), frequencies.visitors(1, NOW)) == (0, 0.0)
    (ordered,) = kit.post(order("1", visitorId="v1", ipAddress="93.184.216.34"))
    assert not ordered.state.match.attributed


@pytest.mark.parametrize(
    ("seen", "ordered", "row"),
    [
        ("2003:e6:1234:5678:aaaa:bbbb:cccc:dddd", "2003:e6:1234:5678:1:2:3:4", "17: only the low 64 bits differ"),
        ("::ffff:93.184.216.34", "93.184.216.34", "18: IPv4 in IPv6"),
        ("[2003:e6:1234:5678::1]", "2003:e6:1234:5678::1%eth0", "18: brackets, a zone"),
        ("93.184.216.34:51234", "93.184.216.34", "18: a port"),
    ],
)
def test_17_18_one_line_whatever_its_address_looks_like(kit: Kit, seen: str, ordered: str, row: str) -> None:
    (clicked,) = kit.post(click("IwARline00000", NOW - 3 * MINUTE, ipAddress=seen, userAgent=SAFARI))
    (found,) = kit.post(order("1", ipAddress=ordered, userAgent=SAFARI))
    assert found.state.match.click == clicked.id, row


def test_17_another_network_of_64_bits_is_another_line(kit: Kit) -> None:
    kit.post(click("IwARline00000", NOW - 3 * MINUTE, ipAddress="2003:e6:1234:5678::1", userAgent=SAFARI))
    (found,) = kit.post(order("1", ipAddress="2003:e6:1234:5679::1", userAgent=SAFARI))
    assert found.state.match.reason == "no_candidate"


def test_18_a_forged_forwarding_header_is_nobodys_address(tmp_path: Path) -> None:
    headers = {"X-Forwarded-For": "93.184.216.34", "User-Agent": SAFARI, "Origin": "https://shop.example"}
    body = {"fbclid": "IwARforged000", "landingPage": "https://shop.example/"}
    stored = {}
    for trusted in ([], ["127.0.0.1/32"]):
        folder = tmp_path / str(len(trusted))
        folder.mkdir()
        with running(folder, trusted_proxies=trusted) as edge:
            told(edge, "click", body, key="page", headers=headers)
        with Kit(folder / "data") as kit:
            stored[len(trusted)] = kit.rows("SELECT ip FROM click_network")
    assert stored == {0: [(None,)], 1: [("93.184.216.34",)]}


@pytest.mark.parametrize(("days", "attributed"), [(3.9, True), (4.1, False)])
def test_24_a_login_links_the_guests_orders_of_96_hours(kit: Kit, days: float, attributed: bool) -> None:
    """Clicked on the phone; bought as a guest on the desktop; signed in on the phone later, by the same address."""
    kit.post(click("IwARphone0000", NOW - 5 * DAY, visitorId="phone"))
    bought = int(NOW - days * DAY)
    (guest,) = kit.post(order("1", bought, visitorId="desktop", customerData={"email": "jo@example.com"}))
    assert not guest.state.match.attributed
    login = {"storeId": STORE, "eventType": "Login", "at": NOW, "visitorId": "phone"}
    kit.post(login | {"customerData": {"email": "Jo@example.com"}})
    state = kit.state(guest.state.row.id)
    assert (state.match.attributed, state.row.revision) == (attributed, int(attributed))
    assert state.match.method == ("email" if attributed else None)


@pytest.mark.parametrize(
    ("fbc", "attributed"),
    [
        (f"fb.1.{NOW - HOUR}.IwARparts0000", True),
        (f"fb.1.{NOW - HOUR}.IwARparts0000.AQQCAQYA", True),  # with Meta's appendix
        (f"fb.1.{NOW - HOUR}", False),
        (f"fb.1.{NOW - HOUR}.IwARparts0000.AQQCAQYA.more", False),
        ("fb.1.yesterday.IwARparts0000", False),
    ],
)
def test_30_an_fbc_of_four_or_five_parts_is_one_and_any_other_is_missing(kit: Kit, fbc: str, attributed: bool) -> None:
    (clicked,) = kit.post(click("IwARparts0000", NOW - HOUR))
    (found,) = kit.post(order("1", fbc=fbc))
    assert found.state.match.click == (clicked.id if attributed else None)


def test_29_the_click_takes_the_place_of_what_an_fbc_has_told_of_it(kit: Kit) -> None:
    """Also in an order that names it by the id which it had until then."""
    fbc = f"fb.1.{NOW - 2 * HOUR}.IwARlater0000"
    (first,) = kit.post(order("1", NOW - HOUR, fbc=fbc))
    unseen = first.state.match.click
    (second,) = kit.post(order("2", clickId=kit.journal.public.public("click", unseen)))
    assert second.state.match.click == unseen
    (real,) = kit.post(click("IwARlater0000", NOW - 2 * HOUR, visitorId="v1"))
    for ordered in (first, second):
        match = kit.state(ordered.state.row.id).match
        assert (match.click, match.path) == (real.id, [real.id])


FBC = f"fb.1.{NOW - 2 * HOUR}.IwARneighbour0"


def neighbours(folder: Path, own: str, other: str) -> Kit:
    """Two stores, each of a domain."""
    config = config_for(folder)
    one = replace(config.store[0], domains=[own])
    return Kit(folder, config=replace(config, store=[one, replace(one, id="store_other", domains=[other], pixel=[])]))


@pytest.mark.parametrize(
    ("own", "other", "attributed"),
    [
        ("mystore.com", "mystore.com", False),
        ("mystore.com", "shop.mystore.com", False),
        ("de.shop.co.uk", "fr.shop.co.uk", False),
        ("mystore.co.uk", "other.co.uk", True),
        ("one.myshopify.com", "other.myshopify.com", True),
    ],
)
def test_31_a_click_of_a_store_on_the_same_registrable_domain_is_that_stores(
    tmp_path: Path, own: str, other: str, attributed: bool
) -> None:
    with neighbours(tmp_path, own, other) as kit:
        _, ordered = kit.post(
            click("IwARneighbour0", NOW - 2 * HOUR, storeId="store_other", visitorId="v1"), order("1", fbc=FBC)
        )
        assert ordered.state.match.attributed is attributed


@pytest.mark.parametrize("sequence", list(itertools.permutations(range(4))))
def test_31_whenever_the_neighbours_click_arrives(tmp_path: Path, sequence: tuple[int, ...]) -> None:
    """Neither the order whose fbc it is nor one that names the click that was recovered from it keeps it."""
    bodies = [
        click("IwARneighbour0", NOW - 2 * HOUR, storeId="store_other", visitorId="v1"),
        click("IwARown000000", NOW - 5 * HOUR, visitorId="v2"),
        order("1", fbc=FBC),
        order("2", NOW - HOUR, fbc=FBC, visitorId="v2"),
    ]
    with neighbours(tmp_path, "mystore.com", "shop.mystore.com") as kit:
        results = dict(zip(sequence, kit.post(*(bodies[i] for i in sequence)), strict=True))
        guest, known = (kit.state(results[i].state.row.id).match for i in (2, 3))
        assert (guest.attributed, guest.click, guest.path) == (False, None, [])
        assert (known.method, known.click, known.path) == ("visitor_id", results[1].id, [results[1].id])


def test_31_an_fbc_that_two_stores_share_is_unseen_in_both(tmp_path: Path) -> None:
    with neighbours(tmp_path, "mystore.com", "shop.mystore.com") as kit:
        for ordered in kit.post(order("1", fbc=FBC), order("1", fbc=FBC, storeId="store_other")):
            assert ordered.state.match.method == "fbc_unseen"


def test_35_a_click_of_another_store_is_never_the_cause(two_stores: Kit) -> None:
    two_stores.post(
        click("IwARother0000", NOW - HOUR, storeId="store_other", visitorId="v1", ipAddress="93.184.216.34")
    )
    (found,) = two_stores.post(order("1", visitorId="v1", ipAddress="93.184.216.34", userAgent=SAFARI))
    assert found.state.match.reason == "no_candidate"


def shares(kit: Kit) -> dict[tuple[str, str], tuple[float, Decimal]]:
    """Orders and value of each campaign and currency, as `report attribution` shares them out."""
    question = Question(model="last", by="campaign", since=NOW - 30 * DAY, until=NOW + DAY)
    report = commands.attribution(make_config(kit.journal.data_dir), question)
    return {(line.label, line.currency or ""): (line.conversions, line.value) for line in report.lines}


def clicked(kit: Kit) -> int:
    page = "https://mystore.com/?utm_source=facebook&utm_campaign=spring"
    (one,) = kit.post(click("IwARspring000", NOW - HOUR, visitorId="v1", landingPage=page))
    return int(one.id)


@pytest.mark.parametrize(
    ("status", "value", "left"),
    [
        *((status, None, None) for status in sorted(end.word for end in statuses.ENDS)),
        ("partially_refunded", 4, 4),
    ],
)
def test_36_a_refund_keeps_the_attribution_and_takes_the_value_back(
    kit: Kit, status: str, value: int | None, left: int | None
) -> None:
    cause = clicked(kit)
    (first,) = kit.post(order("1", visitorId="v1", eventValue=10))
    assert shares(kit)["spring", "USD"] == (1, Decimal(10))
    amount = {} if value is None else {"eventValue": value}
    (back,) = kit.post({**order("1", visitorId="v1", eventValue=10), **amount, "orderStatus": status})
    assert (back.duplicate, back.state.row.id, back.state.match.click) == (True, first.state.row.id, cause)
    assert kit.rows("SELECT count(*) FROM conversion") == [(1,)]
    assert shares(kit).get(("spring", "USD")) == (None if left is None else (1, Decimal(left)))


def test_38_an_order_of_nothing_is_attributed_and_gives_no_value(kit: Kit) -> None:
    cause = clicked(kit)
    (free,) = kit.post(order("1", visitorId="v1", eventValue=0))
    assert (free.state.match.click, free.state.event.value) == (cause, 0)
    assert shares(kit)["spring", "USD"] == (1, Decimal(0))


def test_40_currencies_are_never_added_up(kit: Kit) -> None:
    clicked(kit)
    kit.post(
        order("1", visitorId="v1", eventValue=10.50),
        order("2", visitorId="v1", eventValue=7, currency="EUR"),
        order("3", visitorId="v1", eventValue=1500, currency="JPY"),
    )
    assert shares(kit) == {
        ("spring", "USD"): (1, Decimal("10.50")),
        ("spring", "EUR"): (1, Decimal(7)),
        ("spring", "JPY"): (1, Decimal(1500)),
    }


def test_41_a_draft_that_is_paid_with_another_value_stays_one_order(kit: Kit) -> None:
    draft, paid = kit.post(
        order("1", visitorId="v1", eventValue=10, orderStatus="pending"),
        order("1", visitorId="v1", eventValue=12, orderStatus="paid"),
    )
    assert (paid.duplicate, paid.state.row.id) == (True, draft.state.row.id)
    assert (paid.state.event.value, paid.state.row.revision) == (Decimal(12), 1)


def test_42_a_renewal_whose_consent_is_denied_inherits_nothing(kit: Kit) -> None:
    kit.post(click("IwARfirst", NOW - HOUR, visitorId="v1"))
    (first,) = kit.post(order("1", visitorId="v1"))
    assert first.state.match.attributed
    renewal = kit.operation(order("2", NOW + MINUTE, renewalOf="1"), decision=Decision("denied", False))
    (renewed,) = kit.submit([renewal])
    match = renewed.state.match
    assert (match.attributed, match.click, match.reason) == (False, None, "consent")


def test_43_consent_that_is_withdrawn_takes_the_device_and_leaves_the_order(kit: Kit) -> None:
    device = {"visitorId": "v1", "ipAddress": "93.184.216.34", "userAgent": SAFARI, "fingerprint": "device-1"}
    kit.post(click("IwARwithdrawn", NOW - HOUR, **device))
    (ordered,) = kit.post(order("1", customerData={"email": "jo@example.com"}, **device))
    assert ordered.state.match.attributed
    kit.submit([Withdraw(1, "v1", kit.journal.names.name(1, "visitor", "v1"))])
    state = kit.state(ordered.state.row.id)
    assert (state.match.attributed, state.match.reason, state.row.revision) == (False, "consent", 1)
    assert (state.event.order_id, state.event.value, state.event.user_data) == ("1", Decimal("9.5"), {})
    for table in ("click", "conversion"):
        keys = "visitor_k, fbp_k, ip_k, ua_k, fp_k"
        assert kit.rows(f"SELECT {keys} FROM {table}") == [(None,) * 5]
    assert kit.rows("SELECT count(*) FROM click_network") == kit.rows("SELECT count(*) FROM identity_link") == [(0,)]


def withdraw(kit: Kit, visitor: str) -> None:
    number, name = kit.journal.stores[STORE].number, kit.journal.names.name
    kit.submit([Withdraw(number, visitor, name(number, "visitor", visitor))])


@pytest.mark.parametrize("folded", [False, True])
def test_43_an_order_that_gained_its_visitor_by_a_second_report_is_withdrawn_too(kit: Kit, folded: bool) -> None:
    kit.post(click("IwARwithdrawn", NOW - HOUR, visitorId="v1"))
    device = {"ipAddress": "93.184.216.34", "userAgent": SAFARI}
    (ordered,) = kit.post(order("1", customerData={"email": "jo@example.com"}, **device))
    if folded:
        kit.fold()
    kit.post(order("1", visitorId="v1"))
    assert kit.state(ordered.state.row.id).match.attributed
    withdraw(kit, "v1")
    state = kit.state(ordered.state.row.id)
    assert (state.match.attributed, state.match.reason) == (False, "consent")
    assert (state.event.user_data, state.event.visitor_id, state.event.ip) == ({}, None, None)
    assert kit.rows("SELECT count(*) FROM conversion_identity") == [(0,)]


OTHERS: dict[str, dict[str, Any]] = {
    "by e-mail": {"customerData": {"email": "jo@example.com"}},
    "by fbclid": {"fbclid": "IwARwithdrawn"},
    "by inference": {"ipAddress": "93.184.216.34", "userAgent": SAFARI},
    "by a renewal": {"renewalOf": "own"},
    "by a renewal's renewal": {"renewalOf": "renewal"},
}


@pytest.mark.parametrize("folded", [False, True])
@pytest.mark.parametrize("name", OTHERS)
def test_43_an_order_that_was_given_a_withdrawn_click_is_answered_as_if_told_afterwards(
    kit: Kit, name: str, folded: bool
) -> None:
    device = {"visitorId": "v1", "ipAddress": "93.184.216.34", "userAgent": SAFARI}
    kit.post(click("IwARwithdrawn", NOW - 30 * MINUTE, **device))
    kit.post(order("own", customerData={"email": "jo@example.com"}, **device))
    kit.post(order("renewal", NOW + MINUTE, renewalOf="own"))
    (other,) = kit.post(order("before", NOW + 2 * MINUTE, **OTHERS[name]))
    kit.post(click("IwARmuchlater", NOW + 5 * DAY, visitorId="v9"))  # by now its answer would stand
    assert other.state.match.attributed
    if folded:
        kit.fold()
    withdraw(kit, "v1")
    state = kit.state(other.state.row.id)
    (told,) = kit.post(order("after", NOW + 2 * MINUTE, **OTHERS[name]))
    assert (state.match.attributed, state.row.click, state.row.revision) == (False, None, 1)
    assert state.match.reason == told.state.match.reason
    assert kit.rows("SELECT revision FROM notice WHERE conversion = ?", other.state.row.id) == [(1,)]


@pytest.mark.parametrize(("more", "kept"), [({"customerData": {"email": "jo@example.com"}}, True), ({}, False)])
def test_43_what_waits_to_be_sent_loses_what_a_withdrawn_click_gave_it(kit: Kit, more: Any, kept: bool) -> None:
    device = {"visitorId": "v1", "ipAddress": "93.184.216.34", "userAgent": SAFARI}
    (clicked,) = kit.post(click("IwARwithdrawn", NOW - HOUR, **device))
    (other,) = kit.post(order("1", clickId=kit.journal.public.public("click", clicked.id), **more))
    assert other.state.match.method == "click_id"
    payload = "SELECT body FROM outbox JOIN outbox_payload USING (id)"
    ((before,),) = kit.rows(payload)
    assert b"93.184.216.34" in before
    withdraw(kit, "v1")
    after = kit.rows(payload)
    assert len(after) == kept
    assert not any(b"93.184.216.34" in body or b"IwARwithdrawn" in body for (body,) in after)


@pytest.mark.parametrize(
    "body",
    [
        b'{"storeId":"store_abc123","eventType":"Purchase","orderId":"1","eventValue":NaN,"currency":"USD"}',
        b'{"storeId":"store_abc123","eventType":"Purchase","orderId":"1","eventValue":1e999,"currency":"USD"}',
        b'{"storeId":"store_abc123","eventType":"Purchase","orderId":"1","eventValue":-1,"currency":"USD"}',
        b'{"storeId":"store_abc123","eventType":"Purchase","eventValue":1,"currency":"USD"}',
        b'{"storeId":"store_abc123","eventType":"Purchase","orderId":"1","currency":"USD"}',
    ],
)
def test_51_what_is_no_number_or_no_order_is_refused_and_not_stored(edge: Edge, body: bytes) -> None:
    answer = edge.post("/v1/track/conversion", body)
    assert answer.status == 400
    assert answer.body["error"]["code"] in {"invalid_json", "invalid_field", "missing_required_field"}
    with closing(sqlite3.connect(f"file:{edge.log.parent}/data/collector.db?mode=ro", uri=True)) as db:
        assert db.execute("SELECT count(*) FROM conversion").fetchone() == (0,)


def test_a_page_may_not_name_another_address(edge: Edge, kit: Kit) -> None:
    """Beside row 18: `ipAddress` is for servers."""
    page = Caller(secret=False, address="93.184.216.99", user_agent=SAFARI)
    (stored,) = kit.submit([kit.operation(click("IwARpage00000", ipAddress="93.184.216.34"), page)])
    assert kit.rows("SELECT ip FROM click_network WHERE id = ?", stored.id) == [("93.184.216.99",)]


def test_every_row_has_a_test() -> None:
    """By its number in the test's name: `test_07_…`, `test_12_13_…`."""
    named = set()
    for file in TESTS.rglob("test_*.py"):
        for numbers in re.findall(r"^def test_((?:\d\d_)+)", file.read_text(encoding="utf-8"), re.MULTILINE):
            named.update(int(number) for number in numbers.strip("_").split("_"))
    assert sorted(named) == list(range(1, ROWS + 1))
