"""PostgreSQL's sums: whatever happens to rows, by whoever and at once, each sum is what counting its rows gives."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from msgspec import structs

from collector.core import retention
from collector.core.capi.states import CapiState
from collector.core.event_names import STANDARD
from collector.storage import forgetting
from collector.storage.postgres import counting, erasing, folding, ids
from collector.storage.postgres.outbox import PostgresOutbox
from collector.storage.postgres.replay import replay
from collector.storage.postgres.threaded import Threaded
from collector.storage.postgres.upkeep import PostgresUpkeep
from collector.storage.rules import counted
from collector.storage.verbs.person import Asked
from tests.journal.test_consent_of_orders import PAGE
from tests.kit.courier_kit import now_ms
from tests.kit.journal_kit import DAY, HOUR, NOW, click, config_for, order
from tests.kit.journal_kits import PostgresKit
from tests.kit.journal_kits import patient as patient
from tests.kit.postgres import Database
from tests.kit.sums import compare, told
from tests.storage.test_kept import traffic, visit

pytestmark = pytest.mark.usefixtures("patient")
EVERYTHING = 1_000_000


@pytest.fixture
def kit(database: Database, tmp_path: Path) -> Iterator[PostgresKit]:
    with PostgresKit(database, tmp_path) as kit:
        yield kit


@pytest.fixture
def side(kit: PostgresKit) -> Iterator[Threaded]:
    """A courier's way to the database."""
    with Threaded(kit.config.storage, "test") as threaded:
        yield threaded


def settle(kit: PostgresKit, side: Threaded, rng: random.Random) -> None:
    """What a courier writes down, some of it twice."""
    box = PostgresOutbox(side, "test")
    box.lease(now_ms())
    for (number,) in kit.rows("SELECT id FROM outbox"):
        state = rng.choice((CapiState.SENT, CapiState.REJECTED, CapiState.EXPIRED, None))
        if state is not None:
            box.settle([number], state, kit.now + 777, reason=f"code {number}")
        elif rng.random() < 0.5:
            box.requeue([number], kit.now, reason="again", doubt_at=kit.now)
    box.release()


def fold(side: Threaded, most: int = EVERYTHING) -> int:
    return side.ask(lambda c: folding.fold(c, most))


def left(kit: PostgresKit, view: str) -> int:
    return int(kit.rows(f"SELECT count(*) FROM {view}")[0][0])


@pytest.mark.slow
def test_the_sums_are_those_of_the_rows_after_all_that_can_happen_to_them(
    kit: PostgresKit, side: Threaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(erasing, "_HEARD_S", 0.0)
    rng = random.Random(15)
    traffic(kit, rng, 160)
    found = compare(kit)
    assert sum(key[-1] == 2 and key[-2] > 0 for key in found["sale_sums"]) > 5
    assert sum(key[-1] == "denied" for key in found["click_sums"]) == 1
    assert fold(side) > 20
    assert compare(kit) == found, "what is folded says the same"
    assert not left(kit, "sale_new"), "and lies in the sums"
    settle(kit, side, rng)
    assert compare(kit)["wait_sums"]
    list(replay(kit.config.storage, (CapiState.REJECTED,), now=NOW))
    traffic(kit, rng, 80)
    compare(kit)
    forgetting.erase_person(kit.config, None, Asked(email="p3@example.com"), NOW + HOUR, dry_run=False)
    compare(kit)
    fold(side)
    settle(kit, side, rng)
    compare(kit)


def test_what_retention_takes_is_in_no_sum(kit: PostgresKit, side: Threaded) -> None:
    rng = random.Random(7)
    traffic(kit, rng, 28)
    kit.now = NOW + 14 * DAY
    kit.post(*(order(f"late-{n}", NOW + 13 * DAY, visitorId=f"visitor-{n}", eventValue=n) for n in range(9)))
    fold(side)
    upkeep = PostgresUpkeep(side)
    clicks = left(kit, "click")
    for days in (97, 104, 401, 416):
        while upkeep.cut(retention.cuts(kit.config.privacy, NOW + days * DAY)):
            pass
        compare(kit)
        if days == 104:
            assert left(kit, "click") == 0 < clicks
            assert compare(kit)["sale_sums"], "orders are still there, at no place"
            assert not left(kit, "click_sum")
    assert not left(kit, "conversion")
    upkeep.cut(retention.cuts(kit.config.privacy, NOW + 416 * DAY))
    assert all(not rows for rows in told(kit).values())
    fold(side)
    side.ask(lambda c: folding.sweep(c, (NOW + 20 * DAY) // counted.QUARTER_MS))
    assert not left(kit, "sale_day") + left(kit, "delivery_sum")


@pytest.mark.parametrize("together", [False, True])
def test_what_a_page_told_and_has_sent_counts_as_the_order_that_a_server_tells(
    database: Database, tmp_path: Path, *, together: bool
) -> None:
    """Its row in the outbox becomes that of another event, of another time."""
    config = config_for(tmp_path)
    sends = structs.replace(config, store=[structs.replace(config.store[0], browser_purchases="send")])
    with PostgresKit(database, tmp_path, config=sends) as kit:
        told = kit.operation(order("P1", visitorId="v1", eventValue=5), caller=PAGE)
        again = kit.operation(order("P1", NOW - 2 * HOUR, visitorId="v1", eventValue=6))
        if together:
            kit.submit([told, again])
        else:
            kit.submit([told])
            assert sum(compare(kit)["delivery_sums"].values()) == 1
            kit.submit([again])
        found = compare(kit)
    (sale,) = found["sale_sums"]
    (sent,) = [key for key in found["delivery_sums"] if key[4]]
    assert sale[2] == sent[2] == (NOW - 2 * HOUR) // counted.QUARTER_MS


def test_what_is_queued_later_is_no_more_never_queued(kit: PostgresKit) -> None:
    (told,) = kit.submit([kit.operation(order("D1", visitorId="v2", orderStatus="failed"))])
    assert [key[4] for key in compare(kit)["delivery_sums"]] == [0]
    kit.post(order("D1", visitorId="v2", orderStatus="paid"))
    assert told.state.row.id == kit.rows("SELECT conversion FROM outbox")[0][0]
    assert [key[4] > 0 for key in compare(kit)["delivery_sums"]] == [True]


def test_a_click_whose_campaign_is_learnt_later_takes_its_orders_along(kit: PostgresKit) -> None:
    page = "https://mystore.com/?utm_campaign="
    kit.post(click("IwAR1000", NOW - HOUR, visitorId="v1", landingPage=page + "late"))
    kit.post(order("A1", visitorId="v1", eventValue=5))
    (before,) = [key for key in compare(kit)["sale_sums"] if key[4]]
    kit.post(click("IwAR1000", NOW - 2 * HOUR, visitorId="v1", landingPage=page + "early"))
    (after,) = [key for key in compare(kit)["sale_sums"] if key[4]]
    names = dict(kit.rows("SELECT id, name FROM place"))
    assert ("late" in names[before[4]], "early" in names[after[4]]) == (True, True)


@pytest.mark.slow
@pytest.mark.parametrize("trigger", ["conversion", "outbox", "click"])
def test_control_without_its_trigger_a_sum_is_noticed(
    kit: PostgresKit, side: Threaded, database: Database, trigger: str
) -> None:
    rng = random.Random(5)
    traffic(kit, rng, 60)
    for operation in ("update", "delete"):
        database.sql(f"DROP TRIGGER counted_{operation} ON {trigger}")
    settle(kit, side, rng)
    traffic(kit, rng, 60)
    kit.rows("DELETE FROM click WHERE id = (SELECT min(id) FROM click)")
    with pytest.raises(AssertionError):
        compare(kit)


def test_control_a_group_that_forgets_its_clicks_is_noticed(kit: PostgresKit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "week_of", lambda number: 0)
    kit.post(visit(random.Random(1), 1))
    compare(kit)
    kit.rows("DELETE FROM click_new WHERE week = 0")
    with pytest.raises(AssertionError):
        compare(kit)


def run(*works: Callable[[], None]) -> None:
    """All at once, each in a thread of its own; raises what one of them raised."""
    failed: list[BaseException] = []

    def guarded(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=guarded, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]


def test_two_keepers_a_courier_and_a_fold_at_once_lose_nothing(
    database: Database, tmp_path: Path, side: Threaded, kit: PostgresKit
) -> None:
    ended = threading.Event()

    def folds() -> None:
        while not ended.is_set():
            fold(side, 7)

    with ExitStack() as stack:
        kits = [kit, stack.enter_context(PostgresKit(database, tmp_path))]
        works = [lambda kit=one, seed=seed: traffic(kit, random.Random(seed), 21) for seed, one in enumerate(kits)]
        folder = threading.Thread(target=folds)
        folder.start()
        try:
            run(*works)
            run(*works, lambda: settle(kit, side, random.Random(2)))
        finally:
            ended.set()
            folder.join()
        found = compare(kit)
        fold(side)
        assert compare(kit) == found


def test_a_fold_changes_no_total_while_it_goes_on(kit: PostgresKit, side: Threaded) -> None:
    traffic(kit, random.Random(3), 21)
    wanted = told(kit)
    seen: list[bool] = []
    ended = threading.Event()

    def reads() -> None:
        while not ended.is_set() or not seen:
            seen.append(told(kit) == wanted)

    def folds() -> None:
        try:
            while fold(side, 1):
                pass
        finally:
            ended.set()

    run(reads, folds)
    assert all(seen)
    assert not left(kit, "click_new") + left(kit, "delivery_new")


def test_a_store_has_only_so_many_places(kit: PostgresKit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "_HAVE", counting._HAVE.replace("5000", "3"))
    page = "https://mystore.com/?utm_campaign=c{}"
    for n in range(5):
        kit.post(click(f"IwAR{n}000", NOW - HOUR, visitorId=f"v{n}", landingPage=page.format(n)))
    found = compare(kit)
    assert sum(n for key, n in found["click_sums"].items() if not key[2]) == 2
    with PostgresKit(kit.database, Path(kit.config.storage.data_dir)) as other:
        for n in (*range(9, 40), 1):
            other.post(click(f"IwAR{n}111", NOW - HOUR, visitorId=f"w{n}", landingPage=page.format(n)))
        found = compare(other)
        assert sum(n for key, n in found["click_sums"].items() if not key[2]) == 2 + 31
        assert len(other.journal._places) == 3 + 1, "what has no place is not remembered"


def test_a_sum_past_64_bits_refuses_no_order(kit: PostgresKit, side: Threaded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counted, "event_units", lambda body: 5 * 10**18)
    kit.post(*(order(f"N{n}") for n in range(3)))
    fold(side)
    kit.post(order("N4"))
    assert kit.rows("SELECT sum(units) FROM sale_days") == [(2 * 10**19,)]
    compare(kit)


def test_the_schema_knows_the_standard_names_and_the_weeks(kit: PostgresKit) -> None:
    for name in (*STANDARD, "my own"):
        assert kit.rows(f"SELECT event_name_of('{name}')") == [(name if name in STANDARD else "(custom)",)]
    for number in (1, ids.SQLITE - 1, ids.first_of(NOW), ids.first_of(NOW + 5 * DAY)):
        assert kit.rows(f"SELECT week_of({number})") == [(counting.week_of(number),)]
