"""Two edges are told at one moment what belongs together: the end is as if one had been told after the other.

Each group of both has asked all that it asks before either writes. Then the first writes and looks, and only then the
last writes: so neither saw the other, and whichever is last has to notice. For PostgreSQL alone: SQLite has one writer.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from collector.core.intake import Caller
from collector.exchange.operations import Submission, Withdraw
from collector.storage.postgres import writing
from collector.storage.postgres.journal import PostgresJournal
from tests.kit.journal_kit import MINUTE, NOW, click, order
from tests.kit.journal_kits import PostgresKit
from tests.kit.journal_kits import patient as patient
from tests.kit.postgres import Database
from tests.postgres.test_at_once import GROUP, commit, edges

PAGE = Caller(secret=False, address="93.184.216.34")
FIRST, LAST = 0, 1
_here = threading.local()
Results = Sequence[Any]


class Turn:
    """Where the two wait for each other, group by group."""

    def __init__(self, last: int) -> None:
        self.last = last
        self.asked, self.done = Barrier(2), Barrier(2)


@pytest.fixture(autouse=True)
def turns(monkeypatch: pytest.MonkeyPatch, patient: None) -> None:
    write = writing.write

    async def held(connection: Any, memory: Any) -> None:
        turn, _here.turn = getattr(_here, "turn", None), None
        if turn is not None:
            turn.asked.wait(60)
            if _here.number == turn.last:
                turn.done.wait(60)
        await write(connection, memory)

    monkeypatch.setattr(writing, "write", held)


def told(kit: PostgresKit, number: int, operations: Results, turn: Turn) -> Results:
    results: list[Any] = []
    for first in range(0, len(operations), GROUP):
        _here.turn, _here.number = turn, number
        (answered,) = kit.journal.commit(deque([Submission(operations[first : first + GROUP])]))
        assert isinstance(answered.results, list), answered.results
        kit.match_again()
        results += answered.results
        if number != turn.last:
            turn.done.wait(60)
    return results


def race(kits: Sequence[PostgresKit], operations: Sequence[Results], last: int) -> list[Results]:
    turn = Turn(last)
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda n: told(kits[n], n, operations[n], turn), (0, 1)))
    for kit in kits:
        kit.match_again()
    return results


def of_all(kit: PostgresKit, bodies: Sequence[dict[str, Any]], **by: Any) -> Results:
    return [kit.operation(body, **by) for body in bodies]


def clicks(pairs: int) -> list[dict[str, Any]]:
    return [click(f"IwAR{n:012}", NOW - MINUTE, visitorId=f"visitor-{n}") for n in range(pairs)]


def orders(pairs: int, **more: Any) -> list[dict[str, Any]]:
    return [order(f"n{n}", NOW, **more, visitorId=f"visitor-{n}") for n in range(pairs)]


def people(pairs: int) -> list[dict[str, Any]]:
    return [{"email": f"jane{n}@example.com"} for n in range(pairs)]


def without_click(kit: PostgresKit, results: Results) -> int:
    return sum(not kit.state(result.state.row.id).match.attributed for result in results)


# Each: what of so many pairs has come to a wrong end.


def click_and_order(kits: Sequence[PostgresKit], pairs: int, last: int) -> int:
    told = race(kits, [of_all(kits[0], clicks(pairs)), of_all(kits[1], orders(pairs))], last)
    return without_click(kits[0], told[1])


def sign_in_and_order(kits: Sequence[PostgresKit], pairs: int, last: int) -> int:
    """The sign-in links an address with the visitor whose click is there; the order has the address alone."""
    commit(kits[0], clicks(pairs))
    signed = [
        order(f"l{n}", NOW, eventType="Lead", visitorId=f"visitor-{n}", customerData=one)
        for n, one in enumerate(people(pairs))
    ]
    bought = [order(f"n{n}", NOW, customerData=one) for n, one in enumerate(people(pairs))]
    told = race(kits, [of_all(kits[0], signed), of_all(kits[1], bought)], last)
    return without_click(kits[0], told[1])


def page_and_server(kits: Sequence[PostgresKit], pairs: int, last: int) -> int:
    """Two halves of an order: the page's is a note of the server's, or both count."""
    halves = [of_all(kits[0], orders(pairs), caller=PAGE), of_all(kits[1], orders(pairs))]
    by_page, by_server = race(kits, halves, last)
    known = [kits[0].state(result.state.row.id).row.id for result in by_page]
    return sum(row != result.state.row.id for row, result in zip(known, by_server, strict=True))


def withdrawal_and_order(kits: Sequence[PostgresKit], pairs: int, last: int) -> int:
    """Whoever took his consent back has no order of his attributed, told before or after."""
    commit(kits[0], clicks(pairs))
    name = kits[0].journal.names.name
    taken_back = [Withdraw(1, f"visitor-{n}", name(1, "visitor", f"visitor-{n}")) for n in range(pairs)]
    told = race(kits, [taken_back, of_all(kits[1], orders(pairs))], last)
    return pairs - without_click(kits[0], told[1])


CASES = [click_and_order, sign_in_and_order, page_and_server, withdrawal_and_order]
Case = Callable[[Sequence[PostgresKit], int, int], int]


@pytest.mark.parametrize("pairs", [GROUP, pytest.param(1_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("last", [FIRST, LAST])
@pytest.mark.parametrize("case", CASES)
def test_none_comes_to_a_wrong_end(case: Case, last: int, pairs: int, database: Database, tmp_path: Path) -> None:
    with edges(database, tmp_path, 2) as kits:
        assert case(kits, pairs, last) == 0


@pytest.mark.parametrize("case", CASES)
def test_control_without_the_look_all_do(
    case: Case, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nothing(*_: Any) -> None: ...

    monkeypatch.setattr(PostgresJournal, "_look", nothing)
    with edges(database, tmp_path, 2) as kits:
        assert case(kits, GROUP, LAST) == GROUP


@pytest.mark.parametrize("last", [FIRST, LAST])
def test_two_servers_halves_are_one_order(last: int, database: Database, tmp_path: Path) -> None:
    """By the constraint, not by the look: the second finds the name taken, and adds what it knows."""
    with edges(database, tmp_path, 2) as kits:
        commit(kits[0], clicks(GROUP))
        persons = [order(f"n{n}", NOW, customerData=one) for n, one in enumerate(people(GROUP))]
        one, other = race(kits, [of_all(kits[0], orders(GROUP)), of_all(kits[1], persons)], last)
        assert [r.state.row.id for r in one] == [r.state.row.id for r in other]
        assert without_click(kits[0], one) == 0
        assert kits[0].rows("SELECT count(*) FROM conversion") == [(GROUP,)]
        carried = "SELECT count(DISTINCT conversion) FROM conversion_identity WHERE kind > 0"
        assert kits[0].rows(carried) == [(GROUP,)]
