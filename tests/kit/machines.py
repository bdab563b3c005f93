"""Machines over PostgreSQL while something is killed: a load from outside, where a keeper can be stopped, the audit."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import asyncpg
import msgspec

from collector.core.ids import PublicIds
from collector.core.keyed import KeyedHash
from tests.kit.harness import STORE, Door, Installation, eventually
from tests.kit.load import Load
from tests.kit.postgres import SUPERUSER, Database, Node

ROUNDS: Final = int(os.environ.get("FAULT_ROUNDS", "4"))  # kills of each kind; a release takes 100
_WITHIN_S: Final = 60.0
_LOCK: Final = 7
_HELD: Final = f"""
CREATE FUNCTION held() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN PERFORM pg_advisory_xact_lock_shared({_LOCK}); RETURN NULL; END $$"""
_TRIGGER: Final = "CREATE TRIGGER held AFTER {0} ON {1} FOR EACH STATEMENT EXECUTE FUNCTION held()"
_WAITING: Final = f"""
SELECT a.pid, a.application_name FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
 WHERE l.locktype = 'advisory' AND l.objid = {_LOCK} AND NOT l.granted AND a.datname = current_database()"""
_STATE: Final = "SELECT state FROM pg_stat_activity WHERE pid = $1"
T = TypeVar("T")


class Asking:
    """A connection of the test's own, as the superuser, asked from code that waits."""

    def __init__(self, node: Node, database: str, user: str = SUPERUSER) -> None:
        self._runner = asyncio.Runner()
        self._connection = self._run(asyncpg.connect(node.dsn(database, user)))

    def _run(self, work: Awaitable[T]) -> T:
        async def waited() -> T:
            return await work

        return self._runner.run(waited())

    def __enter__(self) -> Asking:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.terminate()
        self._runner.close()

    def rows(self, sql: str, *bind: Any) -> list[Any]:
        return [tuple(row) for row in self._run(self._connection.fetch(sql, *bind))]

    def value(self, sql: str, *bind: Any) -> Any:
        return self._run(self._connection.fetchval(sql, *bind))

    def execute(self, sql: str) -> None:
        self._run(self._connection.execute(sql))


class Trap(Asking):
    """Statements of keepers that write into some tables stand still while it is set: what they write is written."""

    def __init__(self, database: Database, *places: str) -> None:
        """`places`: INSERT or UPDATE, and the table."""
        super().__init__(database.node, database.name)
        self.execute(_HELD)
        for place in places:
            self.execute(_TRIGGER.format(*place.split()))

    def set(self) -> None:
        self.execute(f"SELECT pg_advisory_lock({_LOCK})")

    def release(self) -> None:
        self.execute(f"SELECT pg_advisory_unlock({_LOCK})")

    def caught(self) -> dict[int, int]:
        """Servers' processes that stand still in it, and for which keeper's process."""
        found = self.rows(_WAITING)
        return {pid: int(name.split(":")[-2]) for pid, name in found if name.startswith("collector keeper ")}

    def state(self, pid: int) -> str:
        """Of a server's process: "idle", "idle in transaction", "active"; "" where it is gone."""
        return str(self.value(_STATE, pid) or "")

    def stop(self, count: int) -> dict[int, int]:
        """Stop so many keepers in the trap that is set, and release it: by the servers' processes; {}: it was too late.

        A statement waits for two seconds at most.
        """
        seen: dict[int, int] = {}

        def has_caught() -> bool:
            seen.clear()
            seen.update(self.caught())
            return len(seen) >= count

        eventually(has_caught, _WITHIN_S, 0.005)
        for keeper in seen.values():
            os.kill(keeper, signal.SIGSTOP)
        whole = len(seen) == count and self.caught() == seen
        self.release()
        for keeper in () if whole else seen.values():
            os.kill(keeper, signal.SIGCONT)
        return seen if whole else {}

    def hold(self) -> tuple[int, int]:
        """A server's process and its keeper, which is stopped, with a statement under way that then goes on."""
        for _ in range(20):
            self.set()
            for server, keeper in self.stop(1).items():
                assert eventually(lambda server=server: self.state(server) != "active", _WITHIN_S, 0.005)
                return server, keeper
        raise AssertionError("no keeper was caught")


class Retelling(Load):
    """Orders that are told twice: pending, then paid. `paid`: those whose second telling was acknowledged."""

    def __init__(self, url: str, key: str, threads: int = 3) -> None:
        super().__init__(url, key, STORE, threads)
        self.paid: set[str] = set()

    def _next(self, lane: int) -> tuple[str, Any, list[str]]:
        number = next(self._numbers)
        name, is_second = f"order-{number // 2}", bool(number % 2)
        order = {"orderId": name, "eventValue": 9.5, "currency": "USD", "visitorId": f"visitor-{number // 2}"}
        order |= {"storeId": STORE, "eventType": "Purchase", "orderStatus": "paid" if is_second else "pending"}
        return "/v1/track/conversion", order, [f"{name} {order['orderStatus']}"]

    def _note(self, names: list[str], data: dict[str, Any]) -> None:
        (called,) = names
        name, status = called.split()
        super()._note([name], data)
        if status == "paid":
            self.paid.add(name)


class Audit(msgspec.Struct):
    """What the database says of what was acknowledged."""

    lost: list[str]
    twice: list[str]
    renamed: list[str]  # stored under another id than the answer's


CLEAN: Final = Audit([], [], [])


def audit(node: Node, database: str, pepper: Path, *loads: Load, user: str = SUPERUSER) -> Audit:
    """Compare every acknowledged event with the rows."""
    public = PublicIds(KeyedHash(pepper.read_bytes()).subkey("public ids"))
    with Asking(node, database, user) as asking:
        stored = asking.rows("SELECT id, 'click', body FROM click UNION ALL SELECT id, 'conv', body FROM conversion")
    ids: dict[str, list[str]] = {}
    paid = set()
    for number, kind, raw in stored:
        body = msgspec.msgpack.decode(raw)
        name = body[0] if kind == "click" else body["order_id"]
        ids.setdefault(name, []).append(public.public(kind, number))
        if kind == "conv" and body.get("order_status") == "paid":
            paid.add(name)
    said = {name: given for load in loads for name, given in (load.clicks | load.orders).items()}
    unpaid = {name for load in loads if isinstance(load, Retelling) for name in load.paid} - paid
    return Audit(
        lost=sorted({name for name in said if name not in ids} | unpaid),
        twice=[name for name, rows in ids.items() if len(rows) > 1],
        renamed=[name for name, given in said.items() if name in ids and given not in ids[name]],
    )


def goes_on(*loads: Load, by: int = 20) -> None:
    """Return once each has so many more acknowledged."""
    before = [load.acknowledged for load in loads]
    for load, had in zip(loads, before, strict=True):
        assert eventually(lambda load=load, had=had: load.acknowledged >= had + by, 120), (
            load.answers,
            load.faults[:3],
        )


def sittings(at_once: int = 4) -> Iterator[range]:
    """The rounds, some at a time: what is killed over and over again is started again with growing pauses."""
    for first in range(0, ROUNDS, at_once):
        yield range(first, min(first + at_once, ROUNDS))


@contextmanager
def loaded(
    shop: Installation, made: Callable[[str, str], Load] | None = None, first: int = 0
) -> Iterator[tuple[Door, Load]]:
    """A running machine with a load on it, whose events are numbered from `first` on."""
    key = shop.make_key()
    with shop.serve() as door:
        load = made(door.url, key) if made is not None else Load(door.url, key, STORE, 3)
        load._numbers = itertools.count(first)
        with load.running():
            yield door, load
        assert load.faults == []
