"""`collector erase`: nothing of the person is left, in no file; everybody else's is; what comes late is refused."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import Any

import apsw
import msgspec
import pytest

from collector.core.events import StoredClick, StoredEvent
from collector.errors import ApiError
from collector.exchange.operations import Once, Withdraw
from collector.exchange.prepared import PreparedEvent
from collector.storage.ground.database import connect
from collector.storage.ground.kept import know
from collector.storage.index import index, leaving, merging
from collector.storage.people.erasure import erase_person
from collector.storage.rules import tables
from collector.storage.rules.tables import CLICKS, CONVERSIONS
from collector.storage.verbs.erasing import Erasure
from collector.storage.verbs.person import Asked, Nameless
from tests.kit.journal_kit import DAY, HOUR, MINUTE, NOW, STORE, Kit, click, order

JANE = {"email": "Jane.Doe@example.com", "phone": "+14155550100", "externalId": "cust-77"}
ERIC = {"email": "eric@example.org", "phone": "+14155550199"}
LINES = {"jane": "93.184.216.34", "eric": "93.184.216.99"}
AGENT = "Mozilla/5.0 (X11; Linux x86_64; rv:127.0) Gecko/20100101 Firefox/127.0 {}"
LATER = NOW + HOUR  # when it is erased


def device(who: str) -> dict[str, Any]:
    return {
        "visitorId": f"visitor-of-{who}",
        "fbp": "fb.1.1700000000000." + str(int.from_bytes(who.encode()) % 10**10),
        "ipAddress": LINES[who],
        "userAgent": AGENT.format(who),
        "fingerprint": f"device-of-{who}",
    }


@pytest.fixture
def kit(tmp_path: Path) -> Iterator[Kit]:
    """Two people with a click and an order each; Jane's click is folded into the index, the rest is not."""
    with Kit(tmp_path) as kit:
        kit.post(click("IwARofJane0000", NOW - HOUR, referrer="https://jane.example/", **device("jane")))
        kit.fold()
        kit.post(click("IwARofEric0000", NOW - HOUR, **device("eric")))
        kit.post(order("J1", customerData=JANE, **device("jane")))
        kit.post(order("E1", customerData=ERIC, **device("eric")))
        yield kit


def erase(kit: Kit, *, dry_run: bool = False, **who: str) -> Erasure:
    return erase_person(kit.config, None, Asked(**who), LATER, dry_run=dry_run)


def counts(kit: Kit) -> dict[str, int]:
    tables = "click click_network conversion conversion_identity identity_link outbox outbox_payload unproven erased"
    return {t: kit.rows(f"SELECT count(*) FROM {t}")[0][0] for t in tables.split()}


def files(kit: Kit) -> dict[str, bytes]:
    """Every file of the data directory, as anybody with the disk could read it."""
    return {path.name: path.read_bytes() for path in kit.journal.data_dir.iterdir() if path.suffix != ".key"}


def marks(who: str, values: dict[str, str]) -> list[bytes]:
    """What stands in a file while something of a person is kept."""
    text = [f"visitor-of-{who}", f"IwARof{who.title()}0000", LINES[who], AGENT.format(who)]
    hashed = [sha256(values["email"].lower().encode()).hexdigest(), sha256(values["phone"][1:].encode()).hexdigest()]
    return [mark.encode() for mark in [*text, *hashed]]


def index_keys(kit: Kit, who: str) -> list[bytes]:
    """The keys of a person's entries as the index's file has them (SQLite writes 44 bits as six bytes)."""
    names = kit.journal.names
    kinds = [("visitor", f"visitor-of-{who}"), ("fbclid", f"IwARof{who.title()}0000"), ("fp", f"device-of-{who}")]
    named = [names.name(1, kind, value) & merging.LOW_MASK for kind, value in kinds]
    return [name.to_bytes(6, "big") for name in named if name >= 1 << 32]


@pytest.mark.parametrize(
    "who",
    [
        {"email": "JANE.DOE@example.com "},
        {"phone": "(415) 555-0100"},
        {"external_id": "cust-77"},
        {"visitor": "visitor-of-jane"},
        {"order": "J1"},
    ],
    ids=lambda who: next(iter(who)),
)
def test_a_person_is_erased_by_whatever_is_known_of_them(kit: Kit, who: dict[str, str]) -> None:
    (receipt,) = erase(kit, **who).receipts
    assert (receipt.store, receipt.clicks, receipt.conversions, receipt.visitors) == (STORE, 1, 1, 1)
    assert (receipt.not_sent, receipt.sent) == (1, 0)
    assert receipt.links == 4  # e-mail, its base, phone and customer id with the visitor
    kept = counts(kit)
    assert (kept["click"], kept["click_network"], kept["conversion"]) == (1, 1, 1)
    assert kit.rows("SELECT count(*) FROM identity_link WHERE visitor_k = ?", visitor_name(kit, "jane")) == [(0,)]


def visitor_name(kit: Kit, who: str) -> int:
    return kit.journal.names.name(1, "visitor", f"visitor-of-{who}")


def test_no_file_holds_anything_of_them_and_everything_of_the_others(kit: Kit) -> None:
    kit.fold()
    kit.post(order("J2", NOW - MINUTE, customerData=JANE, **device("jane")))
    before = b"".join(files(kit).values())
    assert all(mark in before for mark in [*marks("jane", JANE), *index_keys(kit, "jane")])
    assert erase(kit, email=JANE["email"]).cleared
    after = files(kit)
    for mark in marks("jane", JANE):
        assert [name for name, content in after.items() if mark in content] == []
    for key in index_keys(kit, "jane"):
        assert [name for name, content in after.items() if key in content and "index" in name] == []
    whole = b"".join(after.values())
    assert all(mark in whole for mark in [*marks("eric", ERIC), *index_keys(kit, "eric")])


def test_the_index_keeps_no_entry_of_a_row_that_is_gone(kit: Kit) -> None:
    kit.fold()
    erase(kit, email=JANE["email"])
    index = connect(kit.journal.data_dir / "index.db", kit.config.storage, readonly=True)
    for table in (CLICKS, CONVERSIONS):
        alive = {row[0] for row in kit.rows(f"SELECT id FROM {table.name}")}
        for key in table.keys:
            ids = {row[0] for row in index.execute(f"SELECT id FROM {table.index_table(key.name)}")}
            assert ids <= alive, key.name
    index.close()


def test_a_dry_run_tells_the_same_and_changes_nothing(kit: Kit) -> None:
    before = counts(kit)
    said = erase(kit, dry_run=True, email=JANE["email"]).receipts
    assert counts(kit) == before
    assert erase(kit, email=JANE["email"]).receipts == said
    assert erase(kit, email=JANE["email"]).receipts[0].clicks == 0


def test_a_value_that_came_as_sha256_is_found_by_the_value(kit: Kit) -> None:
    hashed = {"email": sha256(b"max@example.net").hexdigest(), "phone": sha256(b"14155550123").hexdigest()}
    kit.post(order("M1", customerData=hashed))
    kit.post(order("M2", customerData={"email": hashed["email"]}))
    assert erase(kit, dry_run=True, phone="+1 415 555 0123").receipts[0].conversions == 1
    assert erase(kit, email="Max@example.net").receipts[0].conversions == 2


def test_somebody_elses_order_on_the_same_device_stays(kit: Kit) -> None:
    kit.post(order("X1", customerData={"email": "third@example.com"}, **device("jane")))
    kit.post(order("X2", **device("jane")))  # nobody's in particular: it goes with the device
    assert erase(kit, email=JANE["email"]).receipts[0].conversions == 2
    orders = [
        msgspec.msgpack.decode(body, type=StoredEvent).order_id for (body,) in kit.rows("SELECT body FROM conversion")
    ]
    assert "X1" in orders
    assert not {"J1", "X2"} & set(orders)


def test_nobody_is_followed_from_a_value_that_many_visitors_share(kit: Kit) -> None:
    till = {"email": "till@shop.example"}
    for n in range(25):
        kit.post(click(f"IwARtill000{n:02}", visitorId=f"till-{n}"))
        kit.post(order(f"T{n}", customerData=till, visitorId=f"till-{n}"))
    (receipt,) = erase(kit, email="till@shop.example").receipts
    assert (receipt.conversions, receipt.visitors, receipt.clicks, receipt.shared) == (25, 0, 0, 1)


def test_whoever_placed_an_order_is_not_everybody_with_the_tills_address(kit: Kit) -> None:
    till = {"email": "till@shop.example"}
    for n in range(25):
        kit.post(order(f"T{n}", customerData=till | {"externalId": f"cust-{n}"}, visitorId=f"till-{n}"))
    (receipt,) = erase(kit, order="T3").receipts
    assert (receipt.conversions, receipt.visitors, receipt.shared) == (1, 1, 1)


def test_an_order_by_a_tagged_mailbox_is_not_everybody_of_that_mailbox(kit: Kit) -> None:
    for tag in ("one", "two"):
        kit.post(order(tag, customerData={"email": f"family+{tag}@example.net"}))
    assert erase(kit, order="one").receipts[0].conversions == 1
    assert erase(kit, dry_run=True, email="family+two@example.net").receipts[0].conversions == 1
    (late_one,) = kit.post(order("three", NOW - DAY, customerData={"email": "family+two@example.net"}))
    assert not late_one.duplicate  # not late word of the one who was erased


def test_a_placeholder_names_nobody(kit: Kit) -> None:
    with pytest.raises(Nameless):
        erase(kit, email="test@test.com")
    assert counts(kit)["erased"] == 0


def test_row_numbers_are_not_given_again(kit: Kit) -> None:
    """The newest rows of all tables are Eric's. Were they deleted, the next ones would have their numbers, and a
    request to Meta that is under way would settle a stranger's event."""
    ids = {t: kit.rows(f"SELECT max(id) FROM {t}")[0][0] for t in ("click", "conversion", "outbox")}
    erase(kit, email=ERIC["email"])
    kit.close()
    with Kit(kit.journal.data_dir) as later:
        later.post(click("IwARnew000000"), order("N1"))
        for table, before in ids.items():
            assert later.rows(f"SELECT max(id) FROM {table}")[0][0] == before + 1
        later.fold()
        shells = [
            msgspec.msgpack.decode(b, type=StoredClick) for (b,) in later.rows("SELECT body FROM click WHERE id = 2")
        ]
        assert shells == [StoredClick(fbclid="", landing_page="", marketing="denied")]
        assert (later.reader.click(2), later.reader.conversion(2)) == (None, None)
    kit.__init__(kit.journal.data_dir)  # type: ignore[misc]  # for the fixture to close


def late(posted: Any) -> str:
    assert isinstance(posted, ApiError)
    return posted.code


def test_late_word_of_the_erased_is_refused(kit: Kit) -> None:
    erase(kit, email=JANE["email"])
    before = counts(kit)
    again, other, event, by_customer, same = kit.post(
        click("IwARofJane0000", NOW - HOUR, **device("jane")),
        click("IwARofJane0001", NOW - HOUR, **device("jane")),
        order("J0", NOW - DAY, **device("jane")),
        order("J0", NOW - DAY, customerData={"externalId": "cust-77"}),
        order("J1", LATER + HOUR),
    )
    assert [late(one) for one in (again, other, event, by_customer)] == ["forbidden"] * 4
    assert late(same) == "order_conflict"  # whenever: it would be sent to Meta twice
    assert counts(kit) == before
    assert late(kit.post(click("IwARofJane0000", LATER + HOUR))[0]) == "forbidden"  # the same click, told anew


def test_44_an_erased_person_who_clicks_again_is_a_new_visitor(kit: Kit) -> None:
    erase(kit, email=JANE["email"])
    kit.now = LATER + HOUR
    old, stranger = kit.post(
        click("IwARafter0000", LATER + MINUTE, **device("jane")),
        click("IwARstranger0", LATER + MINUTE, visitorId="visitor-of-nobody"),
    )
    assert (old.duplicate, stranger.duplicate) == (False, False)
    (row,) = kit.rows("SELECT visitor_k, fbp_k, ip_k IS NOT NULL, body FROM click WHERE id = ?", old.id)
    body = msgspec.msgpack.decode(row[3], type=StoredClick)
    assert (row[:3], body.visitor_id, body.fbp, body.fbclid) == ((None, None, 1), None, None, "IwARafter0000")

    by_cookie, by_mail = kit.post(
        order("J5", LATER + 2 * MINUTE, visitorId="visitor-of-jane"),
        order("J6", LATER + 2 * MINUTE, visitorId="visitor-of-nobody", customerData=JANE),
    )
    assert by_cookie.state.match.reason == "no_candidate"  # the old cookie leads nowhere
    assert by_mail.state.match.method == "visitor_id"  # new, consented, by what is new
    assert set(by_mail.state.event.user_data) >= {"em", "ph"}
    assert kit.rows("SELECT count(*) FROM conversion_identity WHERE conversion = ?", by_mail.state.row.id) == [(0,)]
    (later,) = kit.post(order("J7", LATER + 3 * MINUTE, customerData=JANE))
    assert not later.state.match.attributed  # the address was not linked to the new visitor


def test_other_peoples_batch_goes_on_beside_what_is_refused(kit: Kit) -> None:
    erase(kit, email=JANE["email"])
    bodies = [
        click("IwARbefore000"),
        click("IwARofJane0000", NOW - HOUR, **device("jane")),
        click("IwARbehind000"),
        order("J1"),
        order("B1"),
    ]
    first, refused, second, conflict, taken = kit.submit([kit.operation(body) for body in bodies])
    assert (late(refused), late(conflict)) == ("forbidden", "order_conflict")
    assert second.id == first.id + 1
    assert not taken.duplicate


def test_a_link_that_was_passed_on_stays_the_others(kit: Kit) -> None:
    kit.post(click("IwARofJane0000", NOW - HOUR, visitorId="visitor-of-a-friend"))
    erase(kit, email=JANE["email"])
    (friend,) = kit.post(order("F1", fbclid="IwARofJane0000", visitorId="visitor-of-a-friend"))
    assert friend.state.match.attributed


def remembered(kit: Kit, key: int, *bodies: dict[str, Any]) -> list[Any]:
    """What the edge stores and answers under an Idempotency-Key: a batch, as responses.py puts it together."""

    items = [PreparedEvent(kit.operation(body), ()) for body in bodies]
    (answered,) = kit.submit([Once(items, key, b"hash", len(items) > 1)])
    assert not isinstance(answered, ApiError)
    return [answered.replayed, msgspec.json.decode(answered.answer)]


def test_remembered_answers_lose_the_person_and_keep_their_place(kit: Kit) -> None:
    """Were they deleted, a replay would be a new request, and other people's events of the batch would count twice."""
    jane, eric = order("J8", customerData=JANE), {"storeId": STORE, "eventType": "AddToCart", **device("eric")}
    _, before = remembered(kit, 70, jane, eric)
    remembered(kit, 71, order("J9", customerData=JANE))
    remembered(kit, 72, order("E9", customerData=ERIC))
    stored = counts(kit)["conversion"]
    assert erase(kit, email=JANE["email"]).receipts[0].answers == 2
    replayed, after = remembered(kit, 70, jane, eric)
    assert replayed
    hers, his = after["data"]["results"]
    assert (hers["success"], hers["error"]["code"]) == (False, "forbidden")
    assert his == before["data"]["results"][1]
    replayed, alone = remembered(kit, 71, order("J9", customerData=JANE))
    assert (replayed, alone["error"]["code"]) == (True, "forbidden")
    assert kit.rows("SELECT status FROM idempotency ORDER BY key_k") == [(200,), (403,), (200,)]
    assert remembered(kit, 72, order("E9", customerData=ERIC))[1]["success"]
    assert counts(kit)["conversion"] == stored - 3  # J1, J8, J9; nothing came anew
    assert not [1 for (answer,) in kit.rows("SELECT answer FROM idempotency WHERE key_k = 71") if b"IwARof" in answer]


def test_an_edge_forgets_what_it_held_in_memory(kit: Kit) -> None:
    """Eric's click was never folded: the edge would find it in its tail."""
    lookup = kit.transaction.lookup
    assert lookup.find(CLICKS, "visitor", visitor_name(kit, "eric"), 0)
    erase(kit, email=ERIC["email"])
    kit.submit([])
    found = lookup.click_rows(set(lookup.find(CLICKS, "visitor", visitor_name(kit, "eric"), 0)))
    assert [(row.visitor_k, row.ip_k, row.fbclid_k) for row in found] in ([], [(None, None, None)])  # gone, or a shell
    (same_line,) = kit.post(order("L1", ipAddress=LINES["eric"], userAgent=AGENT.format("eric")))
    assert not same_line.state.match.attributed


def test_names_of_the_erased_are_kept_as_long_as_orders(kit: Kit) -> None:
    from collector.core.retention import cuts
    from collector.storage.outbox.upkeep import Upkeep

    erase(kit, email=JANE["email"])
    db = know(apsw.Connection(str(kit.journal.data_dir / "collector.db")))
    upkeep, days = Upkeep(db), kit.config.privacy.conversion_days
    kept = counts(kit)["erased"]
    while upkeep.cut(cuts(kit.config.privacy, LATER + days * DAY)):
        pass
    assert counts(kit)["erased"] == kept > 5
    while upkeep.cut(cuts(kit.config.privacy, LATER + days * DAY + MINUTE)):
        pass
    assert counts(kit)["erased"] == 1  # its number is the next one's
    db.close()


def test_a_withdrawal_leaves_no_key_in_the_index_and_the_order_is_known_again(kit: Kit) -> None:
    kit.fold()
    kit.submit([Withdraw(1, "visitor-of-jane", visitor_name(kit, "jane"))])
    with closing(index.open_index(kit.journal.data_dir, kit.config.storage)) as db:
        leaving.work_off(kit.transaction._db, db)
        index.follow(db)
        left = {row[0] for row in db.execute("SELECT id FROM click_visitor UNION SELECT id FROM click_ip")}
        assert left == {2}
        assert {row[0] for row in db.execute("SELECT id FROM conversion_visitor")} == {2}
    again, clicked = kit.post(order("J1", customerData=JANE), click("IwARofJane0000", NOW - HOUR))
    assert (again.duplicate, again.state.row.id) == (True, 1)  # or Meta would be sent it twice
    assert kit.rows("SELECT count(*) FROM outbox WHERE conversion = 1") == [(1,)]
    assert (clicked.duplicate, clicked.id) == (True, 1)


def test_what_is_noted_leaves_the_index_though_the_command_died(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    kit.fold()
    remembered(kit, 70, order("J7", customerData=JANE))

    def killed(*_: object) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(leaving, "work_off", killed)
        with pytest.raises(KeyboardInterrupt):
            erase(kit, email=JANE["email"])
    assert visitor_entries(kit) >= {1, 2}
    assert kit.rows("SELECT status FROM idempotency") == [(403,)]  # with the rows, not after them
    kit.transaction.wants_fold.set()  # the running edge's folder looks each second
    deadline = time.monotonic() + 60
    while visitor_entries(kit) != {2} and time.monotonic() < deadline:
        time.sleep(0.02)
    assert visitor_entries(kit) == {2}
    assert counts(kit)["click"] == 1


def visitor_entries(kit: Kit) -> set[int]:
    with closing(connect(kit.journal.data_dir / "index.db", kit.config.storage, readonly=True)) as db:
        return {row[0] for row in db.execute("SELECT id FROM click_visitor")}


def test_a_browser_is_found_by_what_a_merge_gave_to_its_order(kit: Kit) -> None:
    kit.post(order("G1"))
    kit.fold()
    kit.post(order("G1", visitorId="visitor-of-gus"))
    assert erase(kit, visitor="visitor-of-gus").receipts[0].conversions == 1
    assert kit.rows("SELECT count(*) FROM conversion_identity WHERE kind = 0") == [(0,)]


def test_a_browser_that_is_known_by_its_fbp_alone_goes_too(kit: Kit) -> None:
    fbp = device("jane")["fbp"]
    kit.post({"storeId": STORE, "eventType": "AddToCart", "fbp": fbp}, click("IwARbyfbp0000", NOW - HOUR, fbp=fbp))
    (receipt,) = erase(kit, email=JANE["email"]).receipts
    assert (receipt.clicks, receipt.conversions) == (2, 2)
    assert not [name for name, content in files(kit).items() if fbp.encode() in content]


def test_a_households_phone_leads_to_no_other_of_its_people(kit: Kit) -> None:
    """By her order: his orders and devices are his, and he is not taken for late word of her."""
    phone = "+14155550777"
    kit.post(
        order("hers", customerData={"email": "she@example.com", "phone": phone}, visitorId="her-phone"),
        order("his", customerData={"email": "he@example.com", "phone": phone}, visitorId="his-phone"),
    )
    (receipt,) = erase(kit, order="hers").receipts
    assert (receipt.conversions, receipt.visitors) == (1, 1)
    (late_his,) = kit.post(order("his-0", NOW - DAY, customerData={"email": "he@example.com", "phone": phone}))
    assert not isinstance(late_his, ApiError)
    assert kit.rows("SELECT count(*) FROM identity_link WHERE visitor_k = ?", visitor_of(kit, "his-phone")) != [(0,)]


def visitor_of(kit: Kit, visitor: str) -> int:
    return kit.journal.names.name(1, "visitor", visitor)


def test_a_till_without_visitors_is_known_by_its_many_customers(kit: Kit) -> None:
    for n in range(25):
        kit.post(order(f"P{n}", customerData={"email": "till@shop.example", "phone": f"+141555501{n:02}"}))
    (receipt,) = erase(kit, order="P3").receipts
    assert (receipt.conversions, receipt.shared) == (1, 1)
    (stranger,) = kit.post(order("P99", NOW - DAY, customerData={"email": "till@shop.example"}))
    assert not isinstance(stranger, ApiError)


def test_somebody_elses_order_on_the_device_loses_the_device(kit: Kit) -> None:
    (other,) = kit.post(order("X1", customerData={"email": "third@example.com"}, **device("jane")))
    erase(kit, email=JANE["email"])
    row = other.state.row.id
    keys = "visitor_k, fbp_k, fp_k, fbclid_k, dedup_k IS NOT NULL"
    assert kit.rows(f"SELECT {keys} FROM conversion WHERE id = ?", row) == [(None, None, None, None, 1)]
    event = kit.state(row).event
    assert (event.visitor_id, event.fbp, event.order_id, sorted(event.user_data)) == (None, None, "X1", ["em"])


def test_what_meta_may_have_is_told(kit: Kit) -> None:
    db = know(apsw.Connection(str(kit.journal.data_dir / "collector.db")))
    db.set_busy_timeout(5000)
    kit.post(order("J2", customerData=JANE), order("J3", customerData=JANE), order("J4", customerData=JANE))
    sent, doubted, flying = (row[0] for row in kit.rows("SELECT id FROM outbox ORDER BY id LIMIT 3 OFFSET 2"))
    db.execute("UPDATE outbox SET state = 10, settled = 1 WHERE id = ?", (sent,))
    db.execute("UPDATE outbox SET doubts = 1 WHERE id = ?", (doubted,))
    flight = "INSERT INTO request (pixel, at, events, outcome, ids) VALUES (1, 1, 1, 'in_flight', ?)"
    db.execute(flight, (msgspec.msgpack.encode([flying]),))
    db.close()
    (receipt,) = erase(kit, email=JANE["email"]).receipts
    assert (receipt.sent, receipt.not_sent) == (3, 1)


def test_a_store_that_knows_no_such_form_does_not_stop_the_others(kit: Kit) -> None:
    db = know(apsw.Connection(str(kit.journal.data_dir / "collector.db")))
    db.execute("INSERT INTO store (name) VALUES ('store_of_old')")  # in the configuration no more: no country
    db.close()
    first, old = erase(kit, phone="415 555 0100").receipts
    assert (first.conversions, old.store, old.conversions) == (1, "store_of_old", 0)


def test_no_key_is_left_between_the_cells_of_a_folded_and_merged_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pages split and empty while rows come and are merged; what was copied must not stay behind."""
    for module in (index, tables, merging):
        monkeypatch.setattr(module, "BUCKET", 256)
    index._fold_statement.cache_clear()
    with Kit(tmp_path) as kit:
        for start in range(0, 6_000, 500):
            kit.submit(
                [kit.operation(click(f"IwARrow{n:07}", visitorId=f"v-{n % 40}")) for n in range(start, start + 500)]
            )
            kit.fold()
        with closing(index.open_index(tmp_path, kit.config.storage)) as db:
            while merging.merge(db, CLICKS, index.watermark(db, CLICKS)):
                pass
        names = [kit.journal.names.name(1, "fbclid", f"IwARrow{n:07}") & merging.LOW_MASK for n in range(7, 6_000, 40)]
        wanted = [name.to_bytes(6, "big") for name in names if name >= 1 << 40]
        places = (index.merging.homes(n + 1, name) for n, name in zip(range(7, 6_000, 40), names, strict=True))
        keys = {k.to_bytes(8, "big").lstrip(b"\0") for pair in places for k in pair if k >= 1 << 40}
        assert erase(kit, visitor="v-7").receipts[0].clicks == 150
        content = b"".join(content for name, content in files(kit).items() if "index" in name)
        assert [key for key in keys if key in content] == []
        assert len(wanted) > 100
    index._fold_statement.cache_clear()
