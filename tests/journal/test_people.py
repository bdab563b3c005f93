"""Who vouches that a visitor is a person (P1, P2), and names under which a hashed value meets the plain one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from hashlib import sha256
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec
import pytest

from collector.core.capi.identifiers import public_address
from collector.core.intake import Caller
from collector.core.matching import links
from collector.core.matching.links import MOST_VISITORS, Link, kept, people_of
from collector.core.matching.shapes import OPEN_MS
from collector.exchange.naming import KINDS
from collector.storage.ground.database import connect, migrate
from collector.storage.people import identities
from collector.storage.people.erasure import erase_person
from collector.storage.reports import commands
from collector.storage.rules import linking
from collector.storage.verbs.person import Asked
from tests.kit.journal_kit import DAY, HOUR, MINUTE, NOW, STORE, Kit, click, order

JANE = {"email": "jane@example.com"}
STRANGER = "45.83.104.7"


@pytest.fixture
def kit(tmp_path: Path) -> Iterator[Kit]:
    with Kit(tmp_path) as kit:
        yield kit


def page(kit: Kit, visitor: str, at: int = NOW - 2 * HOUR, address: str = STRANGER, **more: Any) -> Any:
    """A page tells who its visitor is, as the tag's `identify` does."""
    body = {"storeId": STORE, "eventType": "Lead", "at": at, "visitorId": visitor, "customerData": JANE, **more}
    caller = Caller(secret=False, address=address, user_agent="Mozilla/5.0 (stranger)")
    (told,) = kit.submit([kit.operation(body, caller)])
    return told


def clicked(kit: Kit, visitor: str, at: int = NOW - HOUR, **more: Any) -> int:
    (told,) = kit.post(click(f"IwAR{visitor}00000", at, visitorId=visitor, **more))
    return int(told.id)


def ordered(kit: Kit, number: str, at: int = NOW, **more: Any) -> Any:
    (told,) = kit.post(order(number, at, **({"customerData": JANE} | more)))
    return kit.state(told.state.row.id).match


def payload_of(kit: Kit, number: str) -> dict[str, Any]:
    bodies = [msgspec.json.decode(row[0]) for row in kit.rows("SELECT body FROM outbox_payload")]
    (found,) = [body for body in bodies if body.get("custom_data", {}).get("order_id") == number]
    return found


def claims_taken_for_confirmed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rule off: whoever says it is believed, as until 0.2."""

    def believed(values: Any, ts: int) -> links.People:
        sure = [(kind, [Link(x.visitor, x.first_ts, x.first_ts) for x in own]) for kind, own in values]
        return people_of(sure, ts)

    monkeypatch.setattr(linking, "people_of", believed)


# -- P1


@pytest.fixture(params=[False, True], ids=["rule", "control"])
def control(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the rule is off in this run, where every check of it must fail."""
    if request.param:
        claims_taken_for_confirmed(monkeypatch)
    return bool(request.param)


def test_P1_a_claim_is_capped_never_strong_and_enriches_nothing(kit: Kit, control: bool) -> None:
    agent = {"userAgent": "Mozilla/5.0 (X11; strange)", "ipAddress": STRANGER, "fbp": "fb.1.1700000000000.77"}
    own = clicked(kit, "stranger", **agent)
    page(kit, "stranger")
    found = ordered(kit, "1")
    assert (found.click, found.method) == (own, "email")
    user = payload_of(kit, "1")["user_data"]
    enriched = {"fbc", "fbp", "client_ip_address", "client_user_agent"} & user.keys()
    told = (found.confidence, found.strong, found.deterministic, found.evidence[0].result, bool(enriched))
    assert told == ((95, True, True, "confirmed", True) if control else (75, False, False, "claimed", False))


def test_P1_a_claim_proves_nothing_beside_a_confirmed_link(kit: Kit, control: bool) -> None:
    hers = clicked(kit, "jane", NOW - 3 * HOUR)
    ordered(kit, "early", NOW - 2 * HOUR, visitorId="jane")
    strangers = clicked(kit, "stranger")
    page(kit, "stranger")
    found = ordered(kit, "1")
    assert (found.click, found.confidence) == ((strangers, 95) if control else (hers, 95))


def test_P1_nor_where_the_confirmed_visitor_never_clicked(kit: Kit, control: bool) -> None:
    ordered(kit, "early", NOW - 2 * HOUR, visitorId="jane")
    clicked(kit, "stranger")
    page(kit, "stranger")
    assert ordered(kit, "1").attributed is control


def test_P1_the_orders_own_server_confirms_its_own_visitor(kit: Kit, control: bool) -> None:
    clicked(kit, "stranger")
    page(kit, "stranger")
    assert ordered(kit, "1", visitorId="jane").attributed is control


def test_P1_a_claim_of_the_phone_does_not_stand_beside_a_confirmed_email(kit: Kit, control: bool) -> None:
    both = {"email": "jane@example.com", "phone": "+14155550100"}
    ordered(kit, "early", NOW - 2 * HOUR, visitorId="jane")
    clicked(kit, "stranger")
    page(kit, "stranger", customerData={"phone": "+14155550100"})
    assert ordered(kit, "1", customerData=both).attributed is control


def test_P1_an_event_told_by_a_server_confirms(kit: Kit) -> None:
    own = clicked(kit, "jane")
    lead = {"storeId": STORE, "eventType": "Lead", "at": NOW - HOUR, "visitorId": "jane", "customerData": JANE}
    kit.post(lead)
    found = ordered(kit, "1")
    assert (found.click, found.confidence, found.evidence[0].result) == (own, 95, "confirmed")


def test_P1_a_confirmation_that_comes_later_reopens_what_rested_on_a_claim(kit: Kit) -> None:
    """In either order of arrival the answer is the same."""
    strangers = clicked(kit, "stranger")
    page(kit, "stranger")
    first = ordered(kit, "1")
    assert (first.click, first.confidence) == (strangers, 75)
    hers = clicked(kit, "jane", NOW - 3 * HOUR)
    ordered(kit, "2", NOW + MINUTE, visitorId="jane")
    (row,) = kit.rows("SELECT id FROM conversion WHERE event_type = 'Purchase' ORDER BY id LIMIT 1")
    again = kit.state(row[0]).match
    assert (again.click, again.confidence) == (hers, 95)


def test_P1_a_page_that_filled_the_visitor_of_an_order_confirms_nothing(kit: Kit) -> None:
    """A server tells the order with the e-mail, a page told it with the visitor: nobody told both."""
    caller = Caller(secret=False, address=STRANGER)
    kit.submit([kit.operation(order("1", NOW - HOUR, visitorId="stranger"), caller)])
    kit.post(order("1", NOW - HOUR, customerData=JANE))
    assert kit.rows("SELECT count(*) FROM identity_link WHERE confirmed_ts IS NOT NULL") == [(0,)]


def test_P1_claims_do_not_take_the_place_of_what_a_server_tells(kit: Kit) -> None:
    for number in range(5):
        page(kit, "jane", customerData={"email": f"other{number}@example.com"})
    own = clicked(kit, "jane")
    ordered(kit, "early", NOW - HOUR, visitorId="jane")
    assert ordered(kit, "1").click == own


def test_explain_tells_who_vouches(kit: Kit) -> None:
    clicked(kit, "stranger")
    page(kit, "stranger")
    ordered(kit, "1")
    clicked(kit, "jane", NOW - 3 * HOUR)
    ordered(kit, "2", visitorId="jane", customerData={"email": "other@example.com"})
    ordered(kit, "3", customerData={"email": "other@example.com"})
    claimed, _, confirmed = (
        commands.explain(kit.config, kit.journal.public.public("conv", row))
        for (row,) in kit.rows("SELECT id FROM conversion WHERE event_type = 'Purchase' ORDER BY id")
    )
    assert claimed is not None
    assert confirmed is not None
    assert "claimed by a page with the same email" in claimed["summary"]
    assert "proven by email, which a server confirmed" in confirmed["summary"]


# -- P2


def test_P2_many_claims_of_one_address_do_not_make_a_value_worthless(kit: Kit, control: bool) -> None:
    own = clicked(kit, "jane", NOW - 3 * HOUR)
    ordered(kit, "early", NOW - 150 * MINUTE, visitorId="jane")
    for number in range(25):
        page(kit, f"stranger{number}")
    found = ordered(kit, "1")
    assert (found.click, found.confidence) == ((None, 0) if control else (own, 95))
    assert kit.rows("SELECT count(*) FROM identity_link WHERE kind = 2") == [(MOST_VISITORS + 1,)]


def test_P2_the_claim_of_the_true_device_outlives_a_flood_of_one_prefix(kit: Kit) -> None:
    for number in range(25):
        page(kit, f"stranger{number}", NOW - 3 * HOUR, f"45.83.104.{number}")
    page(kit, "jane", address="93.184.216.34")
    own = clicked(kit, "jane")
    assert ordered(kit, "1").click == own


def test_P2_claims_of_many_prefixes_are_too_many_for_one_person(kit: Kit) -> None:
    own = clicked(kit, "stranger0")
    for number in range(MOST_VISITORS + 1):
        assert ordered(kit, f"before{number}", at=NOW + number).attributed is (number > 0)
        page(kit, f"stranger{number}", address=f"45.83.{number}.1")
    assert own > 0
    assert not ordered(kit, "after").attributed


@pytest.mark.parametrize("same", [("45.83.104.1", "45.83.104.250"), ("2a02:8100:1:2::1", "2a02:8100:1:fff::9")])
def test_P2_a_prefix_is_a_24_or_a_48(kit: Kit, same: tuple[str, str]) -> None:
    for visitor, address in zip(("a", "b"), same, strict=True):
        page(kit, visitor, address=address)
    page(kit, "c", address="45.83.105.1")
    assert len(kit.rows("SELECT DISTINCT source FROM identity_link WHERE kind = 2")) == 2


def test_P2_what_is_kept_confirmed_first_then_the_oldest_claim_of_each_source() -> None:
    claims = [Link(n, n, None, 7) for n in range(100, 140)]
    others = [Link(n, n, None, n) for n in range(200, 215)]
    sure = [Link(n, n, n) for n in range(300, 303)]
    got = [link.visitor for link in kept([*claims, *others, *sure])]
    assert got == [300, 301, 302, 100, *range(200, 215), 101, 102]


def test_P2_a_till_is_nobody() -> None:
    many = [Link(n, 0, 0) for n in range(MOST_VISITORS + 1)]
    assert people_of([("email", many)], 0).visitors == {}
    assert len(people_of([("email", many[:-1])], 0).visitors) == MOST_VISITORS


def test_P2_who_is_confirmed_later_than_96_hours_is_only_claimed() -> None:
    late = Link(1, 0, OPEN_MS + 1)
    assert people_of([("email", [late])], 0).claimed == {1}
    assert people_of([("email", [late])], 1).claimed == frozenset()


def test_P2_erasure_follows_confirmed_links_always_and_claims_up_to_20(kit: Kit) -> None:
    ordered(kit, "early", NOW - 3 * HOUR, visitorId="jane")
    hers = clicked(kit, "jane", NOW - 2 * HOUR)
    for number in range(30):
        page(kit, f"stranger{number}", address=f"45.83.{number}.1")
    (receipt,) = erase_person(kit.config, None, Asked(email="jane@example.com"), NOW + HOUR, dry_run=False).receipts
    assert (receipt.shared, receipt.clicks) == (0, 1)
    assert kit.rows("SELECT count(*) FROM click WHERE id = ? AND store > 0", hers) == [(0,)]


def test_P2_page_events_beside_many_other_values_hide_nobody_from_erasure(kit: Kit) -> None:
    ordered(kit, "early", NOW - 3 * HOUR, visitorId="jane")
    for number in range(25):
        page(kit, f"stranger{number}", customerData=JANE | {"phone": f"+1415555{1000 + number}"})
    (receipt,) = erase_person(kit.config, None, Asked(email="jane@example.com"), NOW + HOUR, dry_run=True).receipts
    assert receipt.shared == 0


# -- names of people


def digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()


@pytest.mark.parametrize(
    ("plain", "hashed"),
    [
        ({"email": " Jane@Example.com"}, {"email": digest("jane@example.com")}),
        ({"email": "J.Doe+shop@gmail.com"}, {"email": digest("j.doe+shop@gmail.com")}),
        ({"email": "J.Doe@gmail.com"}, {"email": digest("jdoe@gmail.com").upper()}),
        ({"phone": "+1 (415) 555-0100"}, {"phone": digest("14155550100")}),
        ({"externalId": "cust-77"}, {"externalId": digest("cust-77")}),
        ({"externalId": 77}, {"externalId": digest("77")}),
    ],
)
@pytest.mark.parametrize("turned", [False, True])
def test_a_hashed_value_meets_the_plain_one(
    kit: Kit, plain: dict[str, Any], hashed: dict[str, Any], turned: bool
) -> None:
    first, second = (hashed, plain) if turned else (plain, hashed)
    own = clicked(kit, "jane", NOW - 3 * HOUR)
    ordered(kit, "early", NOW - 2 * HOUR, visitorId="jane", customerData=first)
    assert ordered(kit, "1", customerData=second).click == own


def made_since(version: int) -> list[tuple[str, str]]:
    """What later migrations make, what hangs on a table before it."""
    scripts = sorted(resources.files("collector.storage").joinpath("migrations").iterdir(), key=lambda file: file.name)
    later = [script.read_text() for script in scripts if script.name.endswith(".sql")][version:]
    made = [found for script in later for found in re.findall(r"CREATE (TRIGGER|VIEW|INDEX|TABLE) (\w+)", script)]
    return sorted(made, key=lambda found: found[0] == "TABLE")


def test_names_of_the_release_before_go_on_matching(tmp_path: Path) -> None:
    """A store of 0.2: links under plain names, without a witness; what a purchase bears out counts as confirmed."""
    with Kit(tmp_path) as kit:
        own = clicked(kit, "jane", NOW - 3 * HOUR)
        ordered(kit, "early", NOW - 2 * HOUR, visitorId="jane")
        page(kit, "claimed", customerData={"email": "kim@example.com"})
        others = clicked(kit, "claimed")
        names, store = kit.journal.names, kit.journal.stores[STORE].number
    old = {
        names.name(store, kind, f"sha256:{digest(mail)}"): names.name(store, kind, mail)
        for kind in ("email", "email_weak")
        for mail in ("jane@example.com", "kim@example.com")
    }
    db = connect(tmp_path / "collector.db", kit.config.storage)
    for now, before in old.items():
        for table in ("identity_link", "conversion_identity"):
            db.execute(f"UPDATE {table} SET key = ? WHERE key = ?", (before, now))
    db.execute("ALTER TABLE identity_link DROP COLUMN confirmed_ts")
    db.execute("ALTER TABLE identity_link DROP COLUMN source")
    for kind, name in made_since(7):
        db.execute(f"DROP {kind} IF EXISTS {name}")
    db.pragma("user_version", 7)
    migrate(db, "migrations")
    db.close()
    with Kit(tmp_path) as kit:
        assert (ordered(kit, "1").click, ordered(kit, "2").confidence) == (own, 95)
        found = ordered(kit, "3", customerData={"email": "kim@example.com"})
        assert (found.click, found.confidence) == (others, 75)
        (receipt,) = erase_person(kit.config, None, Asked(email="jane@example.com"), NOW + HOUR, dry_run=False).receipts
        assert receipt.conversions == 3


def test_who_was_erased_before_the_upgrade_stays_erased(kit: Kit) -> None:
    name = kit.journal.names.name(kit.journal.stores[STORE].number, "email", "jane@example.com")
    db = connect(Path(kit.config.storage.data_dir) / "collector.db", kit.config.storage)
    db.execute("INSERT INTO erased (store, name, at) VALUES (1, ?, ?)", (name, NOW - DAY))
    db.close()
    kit.submit([])
    kit.post(order("1", customerData=JANE, visitorId="jane"))
    assert kit.rows("SELECT visitor_k IS NOT NULL FROM conversion") == [(1,)]
    assert kit.rows("SELECT count(*) FROM identity_link WHERE kind = ?", KINDS["email"]) == [(0,)]


# -- addresses that are no visitor's


@pytest.mark.parametrize(
    "address",
    "100.64.0.1 100.127.255.254 10.1.2.3 192.168.1.1 172.20.0.1 169.254.1.1 127.0.0.1 192.0.2.1 198.51.100.7 "
    "203.0.113.9 198.19.0.1 192.88.99.1 224.0.0.251 240.0.0.1 0.0.0.0 ::1 fe80::1 fd00::1 2001:db8::1 "
    "64:ff9b::102:304 64:ff9b:1::1 ff02::1 ::ffff:100.64.0.1".split(),
)
def test_an_address_that_is_no_visitors_is_no_evidence_and_is_not_sent(kit: Kit, address: str) -> None:
    clicked(kit, "one", userAgent="Mozilla/5.0 (X11; rare)", ipAddress=address)
    found = ordered(kit, "1", userAgent="Mozilla/5.0 (X11; rare)", ipAddress=address)
    assert (found.attributed, found.evidence, public_address(address)) == (False, [], None)
    assert "client_ip_address" not in payload_of(kit, "1")["user_data"]


@pytest.mark.parametrize("address", "100.63.255.255 100.128.0.0 192.0.1.1 198.20.0.1 203.0.112.9 2606:4700::1".split())
def test_their_neighbours_are_visitors(kit: Kit, address: str) -> None:
    own = clicked(kit, "one", userAgent="Mozilla/5.0 (X11; rare)", ipAddress=address)
    assert ordered(kit, "1", userAgent="Mozilla/5.0 (X11; rare)", ipAddress=address).click == own


def test_what_is_known_of_a_visitor_is_asked_by_the_visitor(kit: Kit) -> None:
    """Not by walking through the store: with 2,000 people that took ten times as long as all else of an order."""
    question = identities._question((0,), True)
    plan = kit.rows(f"EXPLAIN QUERY PLAN {question}", *[1] * question.count("?"))
    assert not [step for *_, step in plan if step.endswith("(store=?)")]
