"""Several edges at once over one database: none misses what another stores at that moment, nothing is stored twice.

For PostgreSQL alone: SQLite has one writer.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from collector.exchange.clicks import ClickResult
from collector.exchange.operations import Submission
from collector.storage.postgres import single, writing
from collector.storage.postgres.journal import PostgresJournal
from tests.kit.journal_kit import MINUTE, NOW, click, order
from tests.kit.journal_kits import PostgresKit
from tests.kit.journal_kits import patient as patient
from tests.kit.postgres import Database

pytestmark = pytest.mark.usefixtures("patient")
GROUP = 20
FBP = "fb.1.1789000000000.1234567890"
_held = threading.local()
Bodies = list[dict[str, Any]]


@pytest.fixture
def racing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two edges' groups neither is written before both have asked all that they ask."""
    together, write = Barrier(2), writing.write

    async def held(connection: Any, memory: Any) -> None:
        if getattr(_held, "first", False):
            _held.first = False
            together.wait(60)
        await write(connection, memory)

    monkeypatch.setattr(writing, "write", held)


@contextmanager
def edges(database: Database, folder: Path, count: int) -> Iterator[list[PostgresKit]]:
    with ExitStack() as stack:
        yield [stack.enter_context(PostgresKit(database, folder)) for _ in range(count)]


def commit(kit: PostgresKit, bodies: Sequence[dict[str, Any]], *, held: bool = False) -> list[Any]:
    """As a keeper does, in groups: each, and after its answers a rest."""
    results: list[Any] = []
    operations = [kit.operation(body) for body in bodies]
    for first in range(0, len(operations), GROUP):
        _held.first = held
        (answered,) = kit.journal.commit(deque([Submission(operations[first : first + GROUP])]))
        _held.first = False
        if isinstance(answered.results, Exception):
            raise answered.results
        kit.journal.rest()
        results += answered.results
    return results


def at_once(kits: Sequence[PostgresKit], bodies: Sequence[Bodies], *, held: bool = False) -> list[list[Any]]:
    """Each edge is told its bodies, in a thread of its own; then all settle."""
    with ThreadPoolExecutor(len(kits)) as pool:
        told = list(pool.map(lambda kit, own: commit(kit, own, held=held), kits, bodies))
    for kit in kits:
        kit.match_again()
    return told


def clicks_and_orders(pairs: int) -> tuple[Bodies, Bodies]:
    clicks = [click(f"IwAR{n:012}", NOW - MINUTE, visitorId=f"visitor-{n}") for n in range(pairs)]
    return clicks, [order(f"n{n}", NOW, visitorId=f"visitor-{n}") for n in range(pairs)]


def sign_ins_and_orders(pairs: int) -> tuple[Bodies, Bodies]:
    known = [{"email": f"jane{n}@example.com"} for n in range(pairs)]
    seen = [{"eventType": "Lead", "visitorId": f"visitor-{n}", "customerData": known[n]} for n in range(pairs)]
    leads = [order(f"l{n}", NOW, **seen[n]) for n in range(pairs)]
    return leads, [order(f"n{n}", NOW, customerData=known[n]) for n in range(pairs)]


def missed(kits: Sequence[PostgresKit], pairs: int, sets: Any) -> int:
    """How many of the orders are without their click in the end, told at the same moments as what leads to it."""
    if sets is sign_ins_and_orders:
        commit(kits[0], clicks_and_orders(pairs)[0])
    _, results = at_once(kits, sets(pairs), held=True)
    return sum(not kits[0].state(result.state.row.id).match.attributed for result in results)


@pytest.mark.parametrize("sets", [clicks_and_orders, sign_ins_and_orders])
@pytest.mark.parametrize("pairs", [60, pytest.param(2_000, marks=pytest.mark.slow)])
def test_no_order_misses_what_is_stored_at_the_same_moment(
    pairs: int, sets: Any, database: Database, tmp_path: Path, racing: None
) -> None:
    with edges(database, tmp_path, 2) as kits:
        assert missed(kits, pairs, sets) == 0


@pytest.mark.parametrize("sets", [clicks_and_orders, sign_ins_and_orders])
def test_control_without_the_look_after_the_commit_all_do(
    sets: Any, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, racing: None
) -> None:
    async def nothing(*_: Any) -> None: ...

    monkeypatch.setattr(PostgresJournal, "_look", nothing)
    with edges(database, tmp_path, 2) as kits:
        assert missed(kits, 40, sets) == 40


@pytest.mark.parametrize("count", [(120, 40), pytest.param((3_000, 500), marks=pytest.mark.slow)], ids=str)
def test_what_three_edges_are_told_at_once_is_stored_once(
    count: tuple[int, int], database: Database, tmp_path: Path
) -> None:
    clicks = [click(f"IwAR{n:012}", NOW - MINUTE, visitorId=f"visitor-{n}") for n in range(count[0])]
    orders = [order(f"n{n}", NOW, visitorId=f"visitor-{n}") for n in range(count[1])]
    with edges(database, tmp_path, 3) as kits:
        turned = [clicks, clicks[GROUP // 2 :] + clicks[: GROUP // 2], clicks[::-1]]
        told = at_once(kits, [some + orders for some in turned])
        rows = kits[0].rows("SELECT (SELECT count(*) FROM click), (SELECT count(*) FROM conversion)")
        sums = kits[0].rows("SELECT sum(n)::bigint FROM click_hour")
    assert rows == [count]
    assert sums == [(count[0],)]
    clicked = [{(r.id, r.duplicate) for r in some if isinstance(r, ClickResult)} for some in told]
    bought = [{(r.state.row.id, r.duplicate) for r in some if not isinstance(r, ClickResult)} for some in told]
    for answered, many in ((clicked, count[0]), (bought, count[1])):
        assert all({number for number, _ in some} == {number for number, _ in answered[0]} for some in answered)
        assert sum(not duplicate for some in answered for _, duplicate in some) == many


@pytest.mark.parametrize("looked", [True, False], ids=["rule", "control"])
def test_what_edges_have_not_looked_through_when_they_die_another_does(
    looked: bool, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with edges(database, tmp_path, 2) as (one, other):
        (bought,) = one.journal.commit(deque([Submission([one.operation(order("n1", NOW, visitorId="v"))])]))
        other.journal.commit(deque([Submission([other.operation(click("IwAR1", NOW - MINUTE, visitorId="v"))])]))
        row = bought.results[0].state.row.id
        assert not one.state(row).match.attributed
        database.sql("UPDATE edge SET until = 0 WHERE open")  # both are dead: neither has come to its rest
        if not looked:
            monkeypatch.setattr(PostgresJournal, "_take_over", PostgresJournal._have_weeks)
        with PostgresKit(database, tmp_path) as third:
            for _ in range(2):
                third.journal._left_at = 0.0
                third.match_again()
            assert third.state(row).match.attributed is looked


@pytest.mark.parametrize("looked", [True, False], ids=["rule", "control"])
def test_of_a_dead_edge_also_what_it_changed_is_looked_through(
    looked: bool, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A click that was told again, with another device, by an edge that had not come to its look."""
    with edges(database, tmp_path, 2) as (one, other):
        first = click("IwAR1", NOW - MINUTE, visitorId="v")
        commit(one, [first])
        note_what_is_looked_through(one)
        (bought,) = commit(other, [order("n1", NOW, fbp=FBP)])
        one.journal.commit(deque([Submission([one.operation({**first, "fbp": FBP})])]))
        assert _attributed_by_another(one, bought, monkeypatch if not looked else None) is looked
        if looked:
            assert one.rows("SELECT count(*) FROM unlooked") == [(0,)]


@pytest.mark.parametrize("looked", [True, False], ids=["rule", "control"])
def test_of_a_dead_edge_also_who_signed_in_is_looked_through(
    looked: bool, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = {"customerData": {"email": "jane@example.com"}}
    with edges(database, tmp_path, 2) as (one, other):
        commit(one, [click("IwAR1", NOW - MINUTE, visitorId="v")])
        note_what_is_looked_through(one)
        (bought,) = commit(other, [order("n1", NOW, **known)])
        lead = order("l1", NOW, eventType="Lead", visitorId="v", **known)
        one.journal.commit(deque([Submission([one.operation(lead)])]))
        assert _attributed_by_another(one, bought, monkeypatch if not looked else None) is looked


def note_what_is_looked_through(kit: PostgresKit) -> None:
    """As its sign of life does every five seconds."""
    kit.match_again()
    kit.journal._beat_at = 0.0
    kit.match_again()


def _attributed_by_another(dead: PostgresKit, bought: Any, off: pytest.MonkeyPatch | None) -> bool:
    """Whether the order has its click once another edge has looked; `off`: with nothing that tells of changes."""
    database = dead.database
    database.sql(f"UPDATE edge SET until = 0 WHERE owner = '{dead.journal._owner}'")
    if off is not None:
        off.setattr(single, "carried", _none)
        database.sql("DELETE FROM unlooked")
    assert database.sql(f"SELECT click FROM conversion WHERE id = {bought.state.row.id}") == ""
    with PostgresKit(database, Path(dead.config.storage.data_dir)) as third:
        for _ in range(3):
            third.journal._left_at = 0.0
            third.match_again()
        return bool(third.state(bought.state.row.id).match.attributed)


async def _none(*_: Any) -> list[Any]:
    return []


def test_a_text_that_the_server_refuses_is_stored_without_what_it_refuses(database: Database, tmp_path: Path) -> None:
    with PostgresKit(database, tmp_path) as kit:
        (new,) = [kit.operation(order("n1", NOW))]
        new.event.event_type = "Odd\0"
        (bought,) = kit.submit([new])
        assert kit.rows("SELECT event_type FROM conversion") == [("Odd",)]
        assert kit.state(bought.state.row.id).event.order_id == "n1"
