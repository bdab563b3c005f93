"""Pages and servers tell of one order, through the real journal: what a page cannot do, rule by rule, with controls."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import apsw
import msgspec
import pytest
from msgspec import structs

from collector.core import flags, orders, times
from collector.core.capi.event_id import derive
from collector.core.capi.states import CapiState
from collector.core.consent import Decision
from collector.core.events import ConversionBody, StoredEvent
from collector.core.intake import Caller, check_event
from collector.core.orders import Rank
from collector.errors import ApiError
from collector.exchange.operations import Withdraw
from collector.storage.ground import kept
from collector.storage.journal import transaction
from collector.storage.reports import commands
from tests.kit.journal_kit import DAY, HOUR, MINUTE, NOW, STORE, Kit, click, config_for, order

SAFARI = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 "
    "Version/18.6 Mobile/15E148 Safari/604.1"
)
BUYER = Caller(secret=False, address="93.184.216.34", user_agent=SAFARI)
STRANGER = Caller(secret=False, address="45.83.12.7", user_agent=SAFARI)
JO = {"customerData": {"email": "jo@example.com"}}
FBP = "fb.1.1789000000000.1234567890"
DENIED = Decision("denied", False)


def opened(folder: Path, **terms: Any) -> Kit:
    config = config_for(folder)
    return Kit(folder, config=structs.replace(config, store=[structs.replace(config.store[0], **terms)]))


@pytest.fixture(autouse=True)
def no_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transaction, "_REST", 0)


@pytest.fixture
def kit(tmp_path: Path) -> Iterator[Kit]:
    with Kit(tmp_path) as kit:
        yield kit


@pytest.fixture
def paid_kit(tmp_path: Path) -> Iterator[Kit]:
    with opened(tmp_path, send_purchase_on="paid") as kit:
        yield kit


def page(kit: Kit, body: dict[str, Any], caller: Caller = STRANGER, decision: Decision | None = None) -> Any:
    """What a page tells; its result."""
    (result,) = kit.submit([kit.operation(body, caller, decision or Decision("granted", False))])
    return result


def server(kit: Kit, number: str = "1", **more: Any) -> Any:
    (result,) = kit.post(order(number, **more))
    if isinstance(result, ApiError):
        raise result
    return result


def weighed(kit: Kit) -> None:
    """Return once every page's telling has been weighed against its order."""
    until = time.monotonic() + 60
    while kit.rows("SELECT count(*) FROM unweighed") != [(0,)]:
        assert time.monotonic() < until
        kit.submit([])


def queue(kit: Kit, sql: str) -> None:
    """What the courier does, in one statement."""
    db = kept.know(apsw.Connection(str(kit.journal.data_dir / "collector.db")))
    db.set_busy_timeout(10_000)
    db.execute(sql)
    db.close()


def send(kit: Kit) -> None:
    queue(kit, "UPDATE outbox SET state = 10, settled = 1, attempts = 1 WHERE settled IS NULL AND state < 2")


def sent(kit: Kit) -> int:
    return int(kit.rows("SELECT count(*) FROM outbox WHERE state = 10")[0][0])


def payloads(kit: Kit) -> list[dict[str, Any]]:
    """The events that wait for Meta."""
    sql = "SELECT p.body FROM outbox o JOIN outbox_payload p ON p.id = o.id WHERE o.settled IS NULL AND o.state < 2"
    return [msgspec.json.decode(body) for (body,) in kit.rows(sql)]


def refuted(monkeypatch: pytest.MonkeyPatch, check: Callable[[], None]) -> None:
    """The control: where pages rank as servers do, the check fails."""
    monkeypatch.setattr(Caller, "rank", property(lambda self: Rank.SERVER))
    with pytest.raises((AssertionError, ApiError, ValueError)):
        check()


# -- T1, T2


def reserves_nothing(kit: Kit, number: str) -> None:
    page(kit, order(number, eventValue=0.01, **JO))
    told = server(kit, number, eventValue=500, customerData={"email": "true@example.com"})
    assert (told.duplicate, told.state.event.value, told.state.state) == (False, 500, CapiState.QUEUED)
    assert [p["custom_data"]["value"] for p in payloads(kit)] == [500]


def test_T1_a_page_that_tells_first_reserves_nothing(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    reserves_nothing(kit, "1")
    refuted(monkeypatch, lambda: reserves_nothing(kit, "2"))


def changes_nothing(kit: Kit, number: str) -> None:
    first = server(kit, number, eventValue=500, **JO)
    before = payloads(kit)
    page(kit, order(number, eventValue=3, orderStatus="updated", visitorId="stranger", fbp=FBP))
    page(kit, order(number, eventValue=500), decision=DENIED)
    weighed(kit)
    after = kit.state(first.state.row.id)
    noted = structs.replace(after.event, told=[])
    assert (noted, after.match, after.state) == (first.state.event, first.state.match, first.state.state)
    assert payloads(kit) == before


def test_T2_a_page_changes_nothing_of_a_told_order(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    changes_nothing(kit, "1")
    refuted(monkeypatch, lambda: changes_nothing(kit, "2"))


@pytest.mark.parametrize("status", ["cancelled", "paid", "refunded", "pending"])
def test_T2_a_page_neither_drops_nor_releases_an_order(paid_kit: Kit, status: str) -> None:
    server(paid_kit, orderStatus="pending", **JO)
    page(paid_kit, order("1", orderStatus=status))
    weighed(paid_kit)
    assert paid_kit.rows("SELECT state FROM outbox ORDER BY id LIMIT 1") == [(int(CapiState.HELD),)]
    assert server(paid_kit, orderStatus="paid").state.state is CapiState.QUEUED


def takes_over_nothing(kit: Kit, number: str) -> None:
    kit.post(click(f"IwARstranger000{number}", NOW - HOUR, visitorId="stranger"))
    page(kit, order(number, visitorId="stranger", fbclid=f"IwARstranger000{number}", **JO))
    told = server(kit, number, ipAddress="81.2.69.142", userAgent=SAFARI, customerData={"email": "b@example.com"})
    page(kit, order(number, visitorId="stranger", fbclid=f"IwARstranger000{number}", fbp=FBP))
    weighed(kit)
    assert not kit.state(told.state.row.id).match.attributed


def test_T2_a_page_takes_over_no_order(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    takes_over_nothing(kit, "1")
    refuted(monkeypatch, lambda: takes_over_nothing(kit, "2"))


def test_T2_the_orders_own_browser_fills_what_the_server_lacks(kit: Kit) -> None:
    kit.post(click("IwARbuyer00000", NOW - HOUR, visitorId="buyer"))
    page(kit, order("1", visitorId="buyer", fbp=FBP, eventId="pixel-1"), BUYER)
    told = server(kit, ipAddress=BUYER.address, **JO)
    assert (told.state.event.visitor_id, told.state.event.fbp) == ("buyer", FBP)
    assert told.state.event.event_id == "pixel-1"  # so that the pixel's own event is the same to Meta
    assert told.state.match.attributed
    assert told.duplicate  # it confirms what its page told


def test_T2_by_e_mail_too_but_not_from_elsewhere_and_not_after_a_day(kit: Kit) -> None:
    page(kit, order("1", visitorId="buyer", **JO), Caller(secret=False, address="127.0.0.1", user_agent=SAFARI))
    page(kit, order("2", visitorId="buyer", **JO), BUYER)
    page(kit, order("3", visitorId="buyer", **JO), BUYER)
    assert server(kit, "1", ipAddress="81.2.69.142", **JO).state.event.visitor_id == "buyer"
    assert server(kit, "2", ipAddress="81.2.69.142", **JO).state.event.visitor_id is None
    kit.now += DAY + 1
    assert server(kit, "3", **JO).state.event.visitor_id is None


def test_T2_an_e_mail_and_a_guessed_number_are_not_enough(kit: Kit) -> None:
    """Of a server that tells no address; control: who knows the amount has seen the order."""
    kit.post(click("IwARnear000000", NOW - HOUR, visitorId="near"))
    page(kit, order("1", visitorId="near", eventValue=1, **JO), STRANGER)
    page(kit, order("2", visitorId="buyer", eventValue=9.499999999, **JO), BUYER)
    told = server(kit, "1", **JO).state
    assert (told.event.visitor_id, told.match.confidence, told.match.deterministic) == (None, 75, False)  # a claim (P1)
    assert server(kit, "2", **JO).state.event.visitor_id == "buyer"


def test_T2_a_page_of_the_same_visitor_adds_its_cookies_later(kit: Kit) -> None:
    told = server(kit, visitorId="buyer", **JO)
    page(kit, order("1", visitorId="buyer", fbp=FBP), BUYER)
    page(kit, order("1", visitorId="stranger", fbp="fb.1.1789000000000.999"), STRANGER)
    weighed(kit)
    after = kit.state(told.state.row.id)
    assert (after.event.fbp, after.row.revision) == (FBP, 1)
    assert [p["user_data"]["fbp"] for p in payloads(kit)] == [FBP]


def test_T2_a_page_confirms_no_link_between_a_person_and_a_visitor(kit: Kit) -> None:
    page(kit, order("1", visitorId="buyer"), BUYER)
    server(kit, ipAddress=BUYER.address, **JO)
    server(kit, "2", visitorId="told", customerData={"email": "two@example.com"})
    confirmed = kit.rows("SELECT count(*) FROM identity_link WHERE confirmed_ts IS NOT NULL GROUP BY visitor_k")
    assert len(confirmed) == 1  # the control: the second order's


def test_T1_what_a_page_said_is_shown_as_a_note(tmp_path: Path) -> None:
    with Kit(tmp_path) as kit:
        page(kit, order("1", eventValue=0.01))
        told = server(kit, eventValue=500, **JO)
        page(kit, order("1", eventValue=7))
        weighed(kit)
        public = kit.journal.public.public("conv", told.state.row.id)
    found = commands.explain(config_for(tmp_path), public)
    assert found is not None
    told_by = [(t["by"], t["eventValue"]) for t in found["tellings"]]
    assert sorted(told_by) == [("page", Decimal("0.01")), ("page", Decimal(7)), ("server", Decimal(500))]


# -- T3 to T7


def test_T3_what_a_page_may_not_say_is_left_out_and_named(kit: Kit) -> None:
    said = {
        "orderStatus": "paid",
        "statusAt": "2026-09-01T00:00:00Z",
        "renewalOf": "7",
        "clickId": "click_0",
        "ipAddress": "81.2.69.142",
        "timestamp": "2026-09-01T00:00:00Z",
        "test": True,
    }

    def checked(caller: Caller) -> Any:
        body = msgspec.convert(
            {k: v for k, v in (order("1") | said).items() if k != "at"}, ConversionBody, strict=False
        )
        return check_event(body, caller, Decision("granted", False), NOW, None, "US")

    told = checked(STRANGER)
    assert sorted(told.ignored) == sorted(said)
    event = told.event
    assert (event.order_status, event.renewal_of, told.click_id, event.ip) == (None, None, None, STRANGER.address)
    assert (event.ts, event.test, event.told) == (NOW, False, [])
    assert checked(Caller(secret=True)).ignored == []  # the control: a server may


def test_T5_a_pages_refusal_takes_its_device_out_and_stops_nothing_else(kit: Kit) -> None:
    granted = {"consent": {"marketing": "granted"}}
    before = server(kit, "1", visitorId="buyer", fbp=FBP, **JO, **granted)
    page(kit, order("1", visitorId="buyer"), BUYER, DENIED)
    page(kit, order("2", visitorId="buyer"), BUYER, DENIED)
    after = server(kit, "2", visitorId="buyer", fbp=FBP, **JO, **granted)
    other = server(kit, "3", visitorId="buyer", fbp=FBP, **JO, **granted)
    weighed(kit)
    for told in (before, after):
        event = kit.state(told.state.row.id).event
        assert (event.visitor_id, event.fbp, event.marketing) == (None, None, "granted")
        assert event.user_data.keys() == {"em"}
    assert kit.state(other.state.row.id).event.fbp == FBP  # it did not refuse for this order
    assert sorted("fbp" in p["user_data"] for p in payloads(kit)) == [False, False, True]


def test_T5_who_withdraws_takes_his_device_out_of_an_order_that_was_told_with_consent(kit: Kit) -> None:
    name = kit.journal.names.name(1, "visitor", "buyer")
    with_consent = server(kit, "1", visitorId="buyer", fbp=FBP, consent={"marketing": "granted"}, **JO)
    without = server(kit, "2", visitorId="buyer", fbp=FBP, **JO)
    kit.submit([Withdraw(1, "buyer", name)])
    kept, gone = kit.state(with_consent.state.row.id), kit.state(without.state.row.id)
    assert (kept.event.marketing, kept.event.fbp, kept.row.flags & flags.WITHDRAWN) == ("granted", None, 0)
    assert kept.event.user_data.keys() == {"em"}
    assert (gone.event.marketing, bool(gone.row.flags & flags.WITHDRAWN)) == ("denied", True)
    assert "fbp" not in payloads(kit)[0]["user_data"]


def test_T5_who_filled_in_a_visitor_takes_that_along_and_not_the_order(kit: Kit) -> None:
    """Somebody behind the buyer's own address tells the order's number first, and withdraws."""
    name = kit.journal.names.name(1, "visitor", "near")
    page(kit, order("1", visitorId="near", fbp=FBP), BUYER)
    told = server(kit, ipAddress=BUYER.address, **JO)
    assert (told.state.event.visitor_id, told.state.event.filled) == ("near", ["visitor_id", "fbp"])
    server(kit, "2", visitorId="near", **JO)
    kit.submit([Withdraw(1, "near", name)])
    after = kit.state(told.state.row.id)
    assert (after.event.marketing, after.event.fbp, after.event.filled) == ("granted", None, [])
    assert (after.row.visitor_k, after.row.flags & flags.WITHDRAWN, after.event.user_data.keys()) == (None, 0, {"em"})
    assert ["fbp" in p["user_data"] for p in payloads(kit)] == [False, False]
    gone = kit.rows("SELECT flags FROM conversion ORDER BY id DESC LIMIT 1")[0][0]
    assert gone & flags.WITHDRAWN  # the control: a server told of that visitor


@pytest.mark.parametrize("told", [{"visitorId": "buyer"}, {"visitorId": "buyer", "fbp": FBP}, {"fbp": FBP}])
def test_T1_what_a_page_filled_in_gives_way_to_a_servers_later_word(kit: Kit, told: dict[str, str]) -> None:
    kit.post(click("IwARbuyer00000", NOW - HOUR, visitorId="buyer", fbp=FBP))
    kit.post(click("IwARnear000000", NOW - HOUR, visitorId="near"))
    page(kit, order("1", visitorId="near", fbp="fb.1.1789000000000.999"), BUYER)
    first = server(kit, ipAddress=BUYER.address, **JO)
    near = kit.state(first.state.row.id).match.click
    server(kit, orderStatus="paid", **told)
    after = kit.state(first.state.row.id)
    # Of another browser than the server's nothing stays.
    filled = {"visitor_id": "near", "fbp": None if "visitorId" in told else "fb.1.1789000000000.999"}
    expected = filled | {{"visitorId": "visitor_id"}.get(key, key): value for key, value in told.items()}
    assert {name: getattr(after.event, name) for name in expected} == expected
    assert after.row.visitor_k == kit.journal.names.name(1, "visitor", expected["visitor_id"])
    assert "visitorId" not in told or after.match.click != near
    server(kit, orderStatus="completed", visitorId="third", fbp="fb.1.1789000000000.1")  # the control: servers' stay
    assert kit.state(first.state.row.id).event.visitor_id == ("buyer" if "visitorId" in told else "third")


def test_T1_a_withdrawal_from_a_pages_event_stops_no_servers(kit: Kit) -> None:
    """Of an event that is no order, page and server have one row."""
    lead = {"storeId": STORE, "eventType": "Lead", "eventId": "form-7", "at": NOW} | JO
    page(kit, lead | {"visitorId": "stranger"})
    kit.submit([Withdraw(1, "stranger", kit.journal.names.name(1, "visitor", "stranger"))])
    (told,) = kit.post(lead | {"eventValue": 50, "currency": "USD"})
    assert (told.state.state, told.state.row.flags & flags.WITHDRAWN) == (CapiState.QUEUED, 0)
    assert [p["custom_data"]["value"] for p in payloads(kit)] == [50]


def test_T6_a_pages_purchase_is_held_whatever_it_lacks_and_says_why(kit: Kit) -> None:
    told = page(kit, order("1"), Caller(secret=False, address="127.0.0.1", user_agent=None))
    assert (told.state.state, told.state.reason) == (
        CapiState.HELD,
        "unconfirmed: only a page has told us of this order",
    )
    assert server(kit, "2").state.state is CapiState.REJECTED  # the control: a server's, as poor, is judged


def test_T6_an_unconfirmed_order_holds_no_click_and_counts_nowhere(tmp_path: Path) -> None:
    with opened(tmp_path, count="one") as kit:
        kit.post(click("IwARone0000000", NOW - HOUR, visitorId="v1"))
        assert page(kit, order("1", NOW - MINUTE, visitorId="v1"), BUYER).state.match.attributed
        assert server(kit, "2", visitorId="v1").state.match.attributed
        assert not server(kit, "3", at=NOW + MINUTE, visitorId="v1").state.match.attributed  # the control
        rows = kit.rows("SELECT flags FROM conversion ORDER BY id")
    assert [bool(row[0] & flags.NO_SALE) for row in rows] == [True, False, False]


@pytest.mark.parametrize("repeats", [1, 3])
def test_T6_where_a_store_sends_what_pages_tell_there_is_one_event_of_an_order(tmp_path: Path, repeats: int) -> None:
    with opened(tmp_path, browser_purchases="send") as kit:
        assert page(kit, order("1", **JO), BUYER).state.state is CapiState.QUEUED
        assert page(kit, order("1", **JO), STRANGER).state.state is CapiState.QUEUED  # to all appearance
        for _ in range(repeats):
            page(kit, order("1", **JO), BUYER)
            page(kit, order("1", **JO), STRANGER)
        assert len(payloads(kit)) == 1
        send(kit)
        assert server(kit, **JO).state.state is CapiState.SENT  # the page's event, which said the same
        page(kit, order("1", **JO), STRANGER)
        send(kit)
        assert sent(kit) == 1
        assert server(kit, "2", **JO).state.state is CapiState.QUEUED
        page(kit, order("2", eventValue=1, **JO), STRANGER)
        weighed(kit)
        assert [p["custom_data"]["value"] for p in payloads(kit)] == [9.5]


def test_T6_what_a_page_had_sent_of_another_amount_stands_for_no_order(tmp_path: Path) -> None:
    with opened(tmp_path, browser_purchases="send") as kit:
        page(kit, order("1", eventValue=0.01, **JO), STRANGER)
        send(kit)
        assert server(kit, eventValue=500, customerData={"email": "b@example.com"}).state.state is CapiState.QUEUED


# -- O3, O4, L4, L5 in the queue


@pytest.mark.parametrize(
    "words",
    [
        *("pending failed paid", "pending cancelled paid", "pending refunded completed", "failed pending paid"),
        *("pending failed pending paid", "pending failed completed", "pending cancelled pending paid", "failed paid"),
        *("on-hold failed processing", "authorized voided captured", "pending expired cancelled failed PAID"),
    ],
)
@pytest.mark.parametrize("terms", ["order", "paid"])
def test_O3_paid_releases_what_never_went_out(tmp_path: Path, words: str, terms: str) -> None:
    with opened(tmp_path, send_purchase_on=terms) as kit:
        for word in words.split():
            kit.now += MINUTE
            told = server(kit, orderStatus=word, **JO)
        assert told.state.state is CapiState.QUEUED
        assert len(payloads(kit)) == 1
        send(kit)
        for word in ("cancelled", "paid", "pending", "completed"):
            kit.now += MINUTE
            assert server(kit, orderStatus=word, **JO).state.state is CapiState.SENT
        assert (payloads(kit), sent(kit)) == ([], 1)


def test_O4_what_is_sent_on_payment_bears_its_time_and_is_matched_by_the_orders(paid_kit: Kit) -> None:
    paid_kit.post(click("IwARpaid000000", NOW - HOUR, visitorId="v1"))
    server(paid_kit, orderStatus="pending", visitorId="v1", **JO)
    queue(paid_kit, "UPDATE outbox SET state = 12, settled = 1")  # expired on the seventh day
    paid_kit.now = NOW + 9 * DAY
    told = server(paid_kit, orderStatus="paid", statusAt="2026-09-30T00:00:00Z", **JO)
    assert (told.state.state, told.state.match.attributed) == (CapiState.QUEUED, True)
    assert [p["event_time"] for p in payloads(paid_kit)] == [1_790_726_400]
    assert told.state.event.ts == NOW


def test_O5_after_sending_metas_copy_stays_and_explain_shows_both(tmp_path: Path) -> None:
    with Kit(tmp_path) as kit:
        server(kit, eventValue=100, orderStatus="paid", **JO)
        send(kit)
        kit.now += MINUTE
        told = server(kit, eventValue=60, orderStatus="partially_refunded")
        public = kit.journal.public.public("conv", told.state.row.id)
    found = commands.explain(config_for(tmp_path), public)
    assert found is not None
    assert found["value"] == {
        "gross": Decimal(100),
        "refunded": Decimal(40),
        "net": Decimal(60),
        "sent": Decimal(100),
        "currency": "USD",
    }
    assert found["capiStatus"] == "sent"


@pytest.mark.parametrize(
    ("days", "state"),
    [
        *((days, "QUEUED") for days in (0, 1, 6.9)),
        *((days, "EXPIRED") for days in (7, 7.01, 7.1, 30, 89, 89.9, 91, 120, 400, 3650)),
    ],
)
def test_L4_a_servers_past_is_true_whatever_its_age(kit: Kit, days: float, state: str) -> None:
    at = NOW - int(days * DAY)
    kit.post(click("IwARold0000000", at - HOUR, visitorId="v1"))
    told = server(kit, at=0, timestamp=times.exact(at), visitorId="v1", **JO)
    assert (told.state.event.ts, told.state.state) == (at, CapiState[state])
    assert told.state.match.attributed  # as of then
    assert not told.state.event.time_corrected


def test_two_orders_under_one_event_id_are_both_sent_and_named(tmp_path: Path) -> None:
    with Kit(tmp_path) as kit:
        rows = [server(kit, n, eventId=i, **JO).state.row.id for n, i in (("1", "x"), ("2", "x"), ("3", "y"))]
        page(kit, order("4", eventId="y"))
        server(kit, "3", eventId="y", **JO)
        assert len(payloads(kit)) == 3
        names = [kit.journal.public.public("conv", row) for row in rows]
    explained = [commands.explain(config_for(tmp_path), name) for name in names]
    assert [one and one["sharesEventIdWith"] for one in explained] == [names[1], names[0], None]


# -- every order of arrival, through SQLite

PAGES = [("page", word) for word in ("", "paid", "cancelled")]
SERVERS = [("server", word) for word in ("pending", "failed", "paid", "cancelled", "refunded")]
STATED = [("stated", word) for word in ("pending", "failed", "paid", "cancelled", "refunded")]
ROUNDS = 60


def test_O3_orders_of_arrival_of_pages_and_servers_end_in_one_state_with_one_event(paid_kit: Kit) -> None:
    """A sample with repeats; a courier sends at any moment. What was told decides, and pages never do."""
    dice = Random(7)
    numbers: dict[str, tuple[str | None, int]] = {}
    for n in range(ROUNDS):
        number = f"n{n}"
        some = dice.sample(SERVERS + STATED, dice.randint(1, 5))
        tellings = [*some, *dice.choices(some, k=2), *dice.choices(PAGES, k=2)]
        dice.shuffle(tellings)
        numbers[number] = _play(paid_kit, number, tellings, dice)
    weighed(paid_kit)
    send(paid_kit)
    for number, (status, before) in numbers.items():
        event_id = derive(STORE, "Purchase", number)
        rows = [r for r in _orders(paid_kit) if r[0] == event_id]
        assert len(rows) == 1, number
        assert rows[0][1] == status, (number, rows)
        count = sum(1 for r in rows[0][2] if r == int(CapiState.SENT))
        assert count <= 1
        assert count == (1 if status == "paid" or before else 0), (number, status, rows)


def _play(kit: Kit, number: str, tellings: list[tuple[str, str]], dice: Random) -> tuple[str | None, int]:
    """Tell it all; the state that the tellings give, and whether something has gone out on the way."""
    facts = []
    row, gone = None, 0
    for who, word in tellings:
        kit.now += 1_000
        status = {"orderStatus": word} if word else {}
        if who == "page":
            page(kit, order(number, eventValue=dice.randint(0, 9), **status, **JO), dice.choice([BUYER, STRANGER]))
            continue
        at = NOW - DAY + 1_000 * [w for _, w in STATED].index(word)
        stated = {"statusAt": times.exact(at)} if who == "stated" else {}
        row = server(kit, number, **status, **stated, **JO).state.row.id
        facts.append(orders.Fact(1, at if stated else kit.now, bool(stated), word, Decimal("9.5"), "USD"))
        if dice.random() < 0.3:
            send(kit)
            gone = int(kit.state(row).state is CapiState.SENT)
    return orders.standing(facts).status, gone


def _orders(kit: Kit) -> list[tuple[str, str | None, list[int]]]:
    found = []
    for row_id, marks, body in kit.rows("SELECT id, flags, body FROM conversion"):
        event = msgspec.msgpack.decode(body, type=StoredEvent)
        states = [s for (s,) in kit.rows("SELECT state FROM outbox WHERE conversion = ?", row_id)]
        if not marks & flags.UNCONFIRMED:
            found.append((event.event_id, event.order_status, states))
    return found
