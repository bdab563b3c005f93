"""The kept sums: whatever happens to rows, by whoever, each sum is what counting its rows gives."""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import apsw
import msgspec
import pytest

from collector.core.capi.states import CapiState
from collector.core.consent import Decision
from collector.core.matching.shapes import Label, Match
from collector.core.retention import cuts
from collector.errors import StorageError
from collector.storage.ground import kept
from collector.storage.ground.database import connect, open_database
from collector.storage.journal import transaction
from collector.storage.journal.writer import Submission
from collector.storage.outbox.dispatch import Outbox
from collector.storage.outbox.replay import replay
from collector.storage.outbox.upkeep import Upkeep
from collector.storage.people.erasure import erase_person
from collector.storage.rules import counted
from collector.storage.verbs.person import Asked
from tests.kit.harness import eventually
from tests.kit.journal_kit import DAY, HOUR, MINUTE, NOW, Kit, click, order

STATUSES = ("paid", "pending", "refunded", "cancelled", "partially_refunded")


def recounted(db: apsw.Connection, table: str) -> list[Any]:
    return sorted(db.execute(kept.RECOUNT[table]).fetchall())


def stored(db: apsw.Connection, table: str) -> list[Any]:
    return sorted(db.execute(f"SELECT * FROM {table} WHERE n <> 0").fetchall())


def compare(db: apsw.Connection) -> None:
    for table in kept.RECOUNT:
        assert stored(db, table) == recounted(db, table), table
        assert not db.execute(f"SELECT count(*) FROM {table} WHERE n < 0").get


@pytest.fixture
def kit(tmp_path: Path) -> Iterator[Kit]:
    with Kit(tmp_path) as kit:
        yield kit


@pytest.fixture
def db(kit: Kit) -> Iterator[apsw.Connection]:
    with closing(connect(kit.journal.data_dir / "collector.db", kit.config.storage)) as db:
        yield db


def visit(rng: random.Random, n: int) -> dict[str, Any]:
    query = f"utm_source=fb&utm_campaign=c{rng.randrange(4)}&ad_id={rng.randrange(3)}"
    return click(
        f"IwAR{n:012d}",
        NOW - rng.randrange(6 * DAY),
        landingPage=f"https://mystore.com/p?{query}" if n % 5 else "https://mystore.com/",
        visitorId=f"visitor-{n % 40}",
        userAgent="Mozilla/5.0 (X11) Firefox/127.0",
    )


def sale(rng: random.Random, n: int) -> dict[str, Any]:
    return order(
        f"N{n % 60}",
        NOW - rng.randrange(5 * DAY),
        eventValue=rng.randrange(100, 99_999) / 100,
        currency=rng.choice(("USD", "EUR", "JPY")),
        eventType=rng.choice(("Purchase", "Purchase", "Lead", "my own event")),
        visitorId=f"visitor-{rng.randrange(60)}",
        customerData={"email": f"p{n % 30}@example.com"},
        orderStatus=rng.choice(STATUSES),
    )


def traffic(kit: Kit, rng: random.Random, n: int) -> None:
    """Clicks and orders mixed: late clicks re-open, repeated orders are refunded, cancelled, and taken back."""
    bodies = [visit(rng, i) if rng.random() < 0.5 else sale(rng, i) for i in range(n)]
    for start in range(0, n, 7):
        kit.post(*bodies[start : start + 7])
    kit.submit([kit.operation(visit(rng, n), decision=Decision("denied", False))])


def settle(db: apsw.Connection, rng: random.Random) -> None:
    """What a courier writes down, some of it twice."""
    box = Outbox(db, "test")
    for (number,) in db.execute("SELECT id FROM outbox").fetchall():
        state = rng.choice((CapiState.SENT, CapiState.REJECTED, CapiState.EXPIRED, None))
        if state is not None:
            box.settle(
                [number], state, NOW, reason=None if state is CapiState.SENT else f"code {number}: no such field"
            )


def teach(db: apsw.Connection, rng: random.Random) -> None:
    """What later proof said of some answers, some of it twice."""
    for number, match in db.execute("SELECT id, match FROM conversion").fetchall() * 2:
        kind = rng.choice(("identity", "device", "organic"))
        label = Label(kind, 1, stated=rng.random(), right=rng.random() < 0.5, contradicted=rng.choice((None, True)))
        taught = msgspec.structs.replace(msgspec.msgpack.decode(match, type=Match), label=label)
        if rng.random() < 0.6:
            db.execute("UPDATE conversion SET match = ? WHERE id = ?", (msgspec.msgpack.encode(taught), number))


def test_the_sums_are_those_of_the_rows_after_all_that_can_happen_to_them(kit: Kit, db: apsw.Connection) -> None:
    rng = random.Random(15)
    traffic(kit, rng, 200)
    compare(db)
    assert db.execute("SELECT count(*) FROM sale_sum WHERE tier = 2 AND place > 0").get > 5
    assert db.execute("SELECT count(*) FROM click_sum WHERE apart = 'denied'").get == 1
    settle(db, rng)
    compare(db)
    assert db.execute("SELECT sum(n) FROM delivery_sum WHERE state = 11 AND cause > 0").get > 5
    assert db.execute("SELECT count(*) FROM cause").get < 10  # one line for one cause, whatever its figures
    teach(db, rng)
    compare(db)
    assert db.execute("SELECT sum(n) FROM truth_sum").get > 20
    replay(db, (CapiState.REJECTED,), now=NOW)
    traffic(kit, rng, 120)
    compare(db)
    erase_person(kit.config, None, Asked(email="p3@example.com"), NOW + HOUR, dry_run=False)
    compare(db)
    later = NOW + kit.config.privacy.click_days * DAY + 2 * DAY
    upkeep = Upkeep(db)
    while upkeep.cut(cuts(kit.config.privacy, later)):
        compare(db)
    assert db.execute("SELECT count(*) FROM click_sum").get == 0 or db.execute("SELECT count(*) FROM click").get


def test_a_rebuild_gives_the_same_sums_and_happens_once(kit: Kit, db: apsw.Connection) -> None:
    traffic(kit, random.Random(4), 60)
    before = {table: stored(db, table) for table in kept.RECOUNT}
    db.execute("UPDATE sale_sum SET n = n + 1")
    db.execute("INSERT INTO recount VALUES (1)")
    kept.recount_if_due(db)
    assert {table: stored(db, table) for table in kept.RECOUNT} == before
    db.execute("UPDATE sale_sum SET n = n + 1")
    kept.recount_if_due(db)
    assert stored(db, "sale_sum") != before["sale_sum"]


def test_control_without_its_trigger_a_sum_is_noticed(kit: Kit, db: apsw.Connection) -> None:
    traffic(kit, random.Random(5), 40)
    db.execute("DROP TRIGGER outbox_kept_after")
    settle(db, random.Random(5))
    with pytest.raises(AssertionError):
        compare(db)


def rolled_back_with_a_new_place(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    """A group whose click names a campaign that nobody knows is rolled back; then another one brings it again."""
    page = "https://shop.example/?utm_campaign="
    kit.submit([kit.operation(click("IwAR1", landingPage=page + "known"))])
    left = [apsw.BusyError("planted")]
    monkeypatch.setattr(kit.transaction.late, "flush", lambda: left and raised(left.pop()))
    with pytest.raises(StorageError):
        kit.submit([kit.operation(click("IwAR2", landingPage=page + "undone"))])
    for n, name in enumerate(("other", "undone", "known")):
        kit.submit([kit.operation(click(f"IwAR3{n}", landingPage=page + name))])


def raised(error: Exception) -> None:
    raise error


def test_a_place_of_a_group_that_is_rolled_back_is_made_anew(
    kit: Kit, db: apsw.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    rolled_back_with_a_new_place(kit, monkeypatch)
    compare(db)


def test_control_a_place_that_outlives_its_group_is_noticed(
    kit: Kit, db: apsw.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept.NewRows, "forget", lambda _: None)
    rolled_back_with_a_new_place(kit, monkeypatch)
    with pytest.raises(AssertionError):
        compare(db)


def one_group(kit: Kit, db: apsw.Connection, seed: int) -> None:
    """New orders, told again, cancelled, credited to late clicks and refused, all inside the group that has them."""
    rng = random.Random(seed)
    kit.post(*(sale(rng, n) for n in range(20)))  # these are older, and told again in the group
    bodies = [sale(rng, n) if rng.random() < 0.6 else visit(rng, n) for n in range(90)]
    bodies += [order("N70", eventValue=7, visitorId="visitor-3"), order("N70", orderStatus="refunded", eventValue=7)]
    bodies += [order("N71", fbc=f"fb.1.{NOW - HOUR}.IwAR{0:012d}"), visit(rng, 0)]  # the click's page comes after it
    bodies += [order("N72", currency="EUR"), order("N72", orderStatus="pending", eventValue=9.5, currency="EUR")]
    taken = kit.submit([*map(kit.operation, bodies), kit.operation(order("N73"), decision=Decision("denied", False))])
    assert len({one.state.row.id for one in taken if hasattr(one, "state")}) > 20


@contextmanager
def putting_off(kit: Kit) -> Iterator[None]:
    """As between two countings of a keeper under load."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kit.transaction, "count", lambda: None)
        patch.setattr(kit.transaction, "_beat_at", math.inf)
        yield


def due(kit: Kit) -> int:
    """Events that are in no sum."""
    return int(
        kit.transaction._db.execute("SELECT count(*) FROM conversion WHERE id > (SELECT through FROM counted)").get
    )


def clicks_due(kit: Kit) -> int:
    """Likewise clicks."""
    return int(kit.transaction._db.execute("SELECT count(*) FROM click WHERE id > (SELECT clicks FROM counted)").get)


@pytest.mark.parametrize("seed", range(3))
def test_new_events_are_counted_as_they_stand_when_they_are(kit: Kit, db: apsw.Connection, seed: int) -> None:
    rng = random.Random(seed)
    with putting_off(kit):
        one_group(kit, db, seed)
        assert due(kit) > 20
        compare(db)
        settle(db, rng)  # the courier changes what is not counted yet
        traffic(kit, rng, 30)
        erase_person(kit.config, None, Asked(email="p3@example.com"), NOW + HOUR, dry_run=False)
        compare(db)
    kit.transaction.count()
    assert not due(kit)
    compare(db)
    assert db.execute("SELECT sum(n) FROM sale_sum WHERE reversed > 0").get
    assert db.execute("SELECT sum(n) FROM delivery_sum WHERE state = 10").get
    settle(db, rng)  # from here on triggers count, on every connection
    traffic(kit, rng, 30)
    compare(db)


def landing(n: int, **more: Any) -> dict[str, Any]:
    page = f"https://mystore.com/?utm_campaign=of-{n % 3}"
    return click(f"IwARlanding{n:06d}", NOW - n * MINUTE, visitorId=f"visitor-{n}", landingPage=page, **more)


def clicks_in(db: apsw.Connection) -> int:
    return int(db.execute("SELECT coalesce(sum(n), 0) FROM click_sum").get)


def told_more_of(kit: Kit) -> None:
    """A click that nobody has counted is reported again: it was earlier."""
    kit.post(landing(1) | {"at": NOW - HOUR})


def withdrawn(kit: Kit) -> None:
    """A click that nobody has counted has its visitor refuse."""
    kit.submit([kit.operation(landing(2), decision=Decision("denied", False))])


def erased(kit: Kit) -> None:
    """Another process takes what nobody has counted."""
    erase_person(kit.config, None, Asked(visitor="visitor-3"), NOW + HOUR, dry_run=False)


def undone(kit: Kit) -> None:
    """A group with another click is rolled back."""
    with pytest.MonkeyPatch.context() as patch:
        left = [apsw.BusyError("planted")]
        patch.setattr(kit.transaction.late, "flush", lambda: left and raised(left.pop()))
        with pytest.raises(StorageError):
            kit.submit([kit.operation(landing(9))])


def nothing(kit: Kit) -> None:
    """As it is."""


@pytest.mark.parametrize("happens", [nothing, told_more_of, withdrawn, erased, undone])
def test_new_clicks_are_counted_as_they_stand_when_they_are(kit: Kit, db: apsw.Connection, happens: Any) -> None:
    kit.post(landing(0))
    with putting_off(kit):
        kit.post(landing(1), landing(2))
        kit.submit([kit.operation(landing(n)) for n in range(3, 6)])
        assert clicks_due(kit) == 5
        assert clicks_in(db) == 1
        compare(db)
        happens(kit)
        kit.post(landing(6))
        compare(db)
    kit.transaction.count()
    assert not clicks_due(kit)
    assert clicks_in(db) == db.execute("SELECT count(*) FROM click").get >= 6
    compare(db)
    kit.post(landing(7))
    compare(db)


def test_control_a_click_that_changes_before_it_is_counted_is_noticed(kit: Kit, db: apsw.Connection) -> None:
    db.execute("DROP TRIGGER click_uncounted_changes")
    with putting_off(kit):
        kit.post(landing(1))
        told_more_of(kit)
    kit.transaction.count()
    with pytest.raises(AssertionError):
        compare(db)


def test_clicks_that_were_put_off_are_counted_by_whoever_opens_the_database_next(kit: Kit) -> None:
    with putting_off(kit):
        kit.post(landing(1), landing(2))
        with closing(open_database(kit.config.storage)) as db:
            assert (clicks_due(kit), clicks_in(db)) == (0, 2)
            kit.post(landing(3))  # the keeper believes that it has put off already
            assert (clicks_due(kit), clicks_in(db)) == (0, 3)
            kit.transaction.new_rows.count()
            kit.transaction.new_rows.settle()
            kit.post(landing(4))
            kit.transaction.new_rows.settle()  # it knows no more of it than a keeper that comes after it
            kit.post(landing(5))
            assert (clicks_due(kit), clicks_in(db)) == (2, 3)
            kit.transaction.new_rows.count()
            assert (clicks_due(kit), clicks_in(db)) == (0, 5)
            compare(db)


def test_what_was_put_off_is_counted_by_whoever_opens_the_database_next_and_at_the_keepers_end(kit: Kit) -> None:
    with putting_off(kit):
        kit.post(order("N1"), order("N2"))
        assert due(kit) == 2
        with closing(open_database(kit.config.storage)) as db:
            assert not due(kit)
            compare(db)
            kit.post(order("N3"))  # the keeper believes that it has put off already
            compare(db)
            assert db.execute("SELECT sum(n) FROM sale_sum").get == 3
    kit.transaction.end()
    with putting_off(kit):
        kit.post(order("N4"))
        assert due(kit) == 1
    kit.transaction.end()
    assert not due(kit)


def test_a_keeper_under_load_counts_within_moments(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kit.transaction, "_beat_at", math.inf)
    kit.journal.commit(deque([Submission([kit.operation(order("N1"))])]))
    assert due(kit) == 1
    monkeypatch.setattr(transaction, "_COUNT_S", math.inf)
    assert kit.journal.rest(), "there is more of it"
    assert due(kit) == 1
    monkeypatch.setattr(transaction, "_COUNT_S", 0.0)
    eventually(lambda: not kit.journal.rest())
    assert not due(kit)


@pytest.mark.parametrize("through", [0, kept._ALL])
def test_control_events_counted_twice_or_never_are_noticed(kit: Kit, db: apsw.Connection, through: int) -> None:
    """The mark of what is counted, moved by somebody who counts nothing."""
    kit.post(*(order(f"N{n}") for n in range(3)))
    with putting_off(kit):
        kit.post(order("N4"))
    db.execute("UPDATE counted SET through = ?", (through,))
    kit.transaction.count()
    with pytest.raises(AssertionError):
        compare(db)


def test_new_events_of_a_group_that_is_rolled_back_count_nowhere(
    kit: Kit, db: apsw.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = [apsw.BusyError("planted")]
    monkeypatch.setattr(kit.transaction.late, "flush", lambda: left and raised(left.pop()))
    with pytest.raises(StorageError):
        kit.submit([kit.operation(order("N1")), kit.operation(order("N2", eventValue=3))])
    assert not due(kit)
    compare(db)
    kit.submit([kit.operation(order("N2", eventValue=3)), kit.operation(order("N3"))])
    compare(db)
    assert db.execute("SELECT sum(n) FROM sale_sum").get == 2


def test_a_counting_that_fails_is_done_later(kit: Kit, db: apsw.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    with putting_off(kit):
        kit.post(order("N1"))
    with monkeypatch.context() as patch:
        patch.setattr(kept, "_NEW", ("SELECT no_such_function()",))
        with pytest.raises(apsw.SQLError):
            kit.transaction.count()
    assert due(kit) == 1
    eventually(lambda: not kit.journal.rest())
    assert not due(kit)
    compare(db)


def test_a_sum_past_64_bits_is_a_float_and_refuses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Amounts may have 18 digits: with sum() alone such orders were acknowledged, and nothing opened the file again."""
    monkeypatch.setitem(kept.FUNCTIONS, "event_units", (lambda body: 5 * 10**18, 1))
    with Kit(tmp_path) as kit:
        kit.submit([kit.operation(order(f"many-{n}")) for n in range(3)])
        storage = kit.config.storage
    with closing(open_database(storage)) as db:
        for table in ("sale_sum", "sale_day", "sale_quarter"):
            assert db.execute(f"SELECT n, units FROM {table}").fetchall() == [(3, pytest.approx(1.5e19))], table
        db.execute("INSERT INTO recount VALUES (1)")
    with closing(open_database(storage)) as db:
        assert db.execute("SELECT n, units FROM sale_day").fetchall() == [(3, pytest.approx(1.5e19))]


def test_who_cannot_count_opens_the_database_all_the_same(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk or another's lock must not keep `status` and `doctor` out."""
    with putting_off(kit):
        kit.post(order("later"))
        with monkeypatch.context() as full:
            full.setattr(kept, "_NEW", ("INSERT INTO nowhere SELECT ?",))
            with closing(open_database(kit.config.storage)) as db:
                assert due(kit) == 1
        with closing(open_database(kit.config.storage)) as db:
            assert not due(kit)
            compare(db)


def test_a_flood_of_names_is_bounded_and_still_counted(kit: Kit, db: apsw.Connection) -> None:
    db.execute("INSERT INTO place (store, number, name) VALUES (1, 4999, 'x')")
    for n in range(4):
        kit.post(click(f"IwARflood{n:06d}", NOW - MINUTE, landingPage=f"https://mystore.com/?utm_campaign=flood-{n}"))
    assert db.execute("SELECT count(*), max(number) FROM place").get == (2, 5000)
    assert db.execute("SELECT sum(n) FROM click_sum WHERE place = 0").get == 3
    compare(db)


def test_a_group_with_known_reasons_leaves_the_last_place_to_a_new_one(kit: Kit, db: apsw.Connection) -> None:
    kit.post(order("A1", orderStatus="pending", visitorId="v-12345"))
    rows = "WITH RECURSIVE n(i) AS (VALUES (10) UNION ALL SELECT i + 1 FROM n WHERE i < 1999)"
    db.execute(f"{rows} INSERT INTO cause (id, name) SELECT i, 'reason ' || i FROM n")
    old = {"customerData": {"email": "a@example.com"}}
    again, new = order("A2", orderStatus="pending", visitorId="v-12345"), order("A3", NOW - 30 * DAY, **old)
    kit.submit([kit.operation(again), kit.operation(new)])
    kit.post(order("A4", NOW - 30 * DAY, **old))
    compare(db)


def test_control_without_its_trigger_the_truth_is_noticed(kit: Kit, db: apsw.Connection) -> None:
    traffic(kit, random.Random(6), 40)
    db.execute("DROP TRIGGER truth_kept_before")
    teach(db, random.Random(6))
    with pytest.raises(AssertionError):
        compare(db)


@pytest.mark.parametrize("body", [b"", b"\xc1", b"\x80", b"\x81\xa5value\xcb\x7f\xf0\x00\x00\x00\x00\x00\x00"])
def test_a_row_that_cannot_be_read_counts_as_nothing_known(body: bytes) -> None:
    read = (counted.event_currency, counted.event_units, counted.event_ended, counted.match_tier)
    assert tuple(one(body) for one in read) == ("", 0, 0, 0)
    assert counted.click_place(body) == counted.SEPARATOR * 3


def test_what_changes_nothing_that_is_counted_leaves_the_sums_alone(kit: Kit, db: apsw.Connection) -> None:
    (taken,) = kit.submit([kit.operation(order("N1", NOW - HOUR, eventValue=5, currency="EUR", orderStatus="pending"))])
    row, event = taken.state.row, taken.state.event

    def changed(**fields: Any) -> int:
        body = msgspec.msgpack.encode(msgspec.structs.replace(event, **fields))
        before = db.total_changes()
        db.execute("UPDATE conversion SET capi = ?, body = ? WHERE id = ?", (row.capi, body, row.id))
        compare(db)
        return db.total_changes() - before

    assert changed(order_status="paid", referrer="https://m.facebook.com/") == 1
    assert changed(order_status="refunded") > 1, "the control: what it is worth has changed"
