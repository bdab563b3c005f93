"""C1 with the real program under libfaketime: its clock jumps, runs wrong over restarts, and comes back.

Nothing here waits by the clock. The courier looks for what is over every half second instead of every half minute, and
that it has looked, by the clock that was set, is seen from two things that are over by any clock.
"""

from __future__ import annotations

import glob
import json
import os
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import apsw
import pytest

from collector.core.capi.states import CapiState
from collector.storage.ground.kept import know
from tests.kit.courier_kit import now_ms
from tests.kit.program import ROOT, SOURCE, Serving, wait_until
from tests.kit.simulators.graph import GraphSimulator

LIBRARY = next(iter(glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1")), "")
DAY = 86_400_000
MINUTE = 60_000
PIXEL = "123456789012345"
CONFIG = """[meta]
mode = "live"
graph_url = "{graph}"
retry_max_seconds = 1.0
[[store]]
id = "store_a"
domains = ["shop.example"]
currency = "USD"
country = "US"
[[store.pixel]]
id = "123456789012345"
access_token = "token"
"""

# Read by every Python process of the program, before its own modules.
HASTE = """
import sys
if "courier" in sys.orig_argv:
    from collector.courier import housekeeping
    housekeeping._EXPIRE_S = housekeeping._CUT_S = 0.5
"""

pytestmark = pytest.mark.skipif(not LIBRARY, reason="no libfaketime here (apt-get install faketime)")


class Shop:
    """The program with a clock that the test sets, its database seen from outside, and a shop that orders."""

    def __init__(self, folder: Path, graph: GraphSimulator) -> None:
        self.folder, self.graph = folder, graph
        self.data = folder / "collector-data"
        self.data.mkdir(mode=0o700)
        self.clock = self.data / "clock"  # where the kernel lets the program's processes read
        self.set("+0")
        self.config = folder / "collector.toml"
        self.config.write_text(CONFIG.format(graph=graph.url))
        self.config.chmod(0o600)
        self.orders = self.ended = 0
        self.site = folder / "site"
        self.site.mkdir()
        (self.site / "sitecustomize.py").write_text(HASTE)
        self.key = json.loads(self.told("keys", "create", "--kind", "secret"))["key"]

    def told(self, *command: str, **env: str) -> str:
        """What a command beside the program says, in a process whose own clock is right unless `env` says otherwise."""
        files = ["--json", "--config", str(self.config), "--data-dir", str(self.data)]
        ended = subprocess.run(
            [*SOURCE, *command, *files],
            env={**os.environ, "PYTHONPATH": str(ROOT), **env},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    def set(self, ahead: str) -> None:
        """Set the machine's clock wrong by so much, as a whole."""
        new = self.clock.with_suffix(".new")
        new.write_text(ahead + "\n")
        new.replace(self.clock)

    @contextmanager
    def serving(self) -> Iterator[Shop]:
        env = {
            "LD_PRELOAD": LIBRARY,
            "FAKETIME_TIMESTAMP_FILE": str(self.clock),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "PYTHONPATH": f"{self.site}:{ROOT}",
            "NO_FAKE_STAT": "1",
        }
        serving = Serving(SOURCE, self.folder, "--config", str(self.config), "--data-dir", str(self.data), **env)
        try:
            self.edge = serving.ready()["edge"]
            self.program = serving
            yield self
            assert serving.stop() == 0, serving.stderr
        finally:
            serving.end()

    def order(self, **more: Any) -> dict[str, Any]:
        """The answer to a new order."""
        self.orders += 1
        body = {
            "storeId": "store_a",
            "eventType": "Purchase",
            "orderId": f"order-{self.orders}",
            "eventValue": 10,
            "currency": "USD",
            "userAgent": "Mozilla/5.0",
            "customerData": {"email": "jo@example.com"},
            **more,
        }
        headers = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.edge}/v1/track/conversion", json.dumps(body).encode(), headers)

        with urllib.request.urlopen(request, timeout=60) as response:
            return dict(json.load(response)["data"])

    def look(self, ahead: str) -> None:
        """Set the clock, and return once the courier has looked by it for what is over."""
        self.set(ahead)
        seen = now_ms() + int(ahead.removesuffix("d")) * DAY
        assert wait_until(lambda: abs(self.beats() - seen) < 5 * MINUTE, 60), "the courier does not see its clock"
        self.order()
        self.ended += 1
        with closing(know(apsw.Connection(str(self.data / "collector.db")))) as db:
            db.set_busy_timeout(5000)
            db.execute("UPDATE outbox SET deadline = 1 WHERE id = (SELECT max(id) FROM outbox)")
            db.execute("INSERT INTO idempotency VALUES (7, x'', 1, 200, x'')")
        assert wait_until(lambda: self.states().get(CapiState.EXPIRED) == self.ended, 60), "nothing ends at all"
        assert wait_until(lambda: not self.rows("SELECT 1 FROM idempotency WHERE key_k = 7"), 60), "nothing is cut"

    def status(self) -> dict[str, Any]:
        return dict(json.loads(self.told("clock", "show")))

    def rows(self, sql: str) -> list[Any]:
        db = apsw.Connection(str(self.data / "collector.db"), flags=apsw.SQLITE_OPEN_READONLY)
        try:
            return db.execute(sql).fetchall()
        finally:
            db.close()

    def states(self) -> dict[int, int]:
        return dict(self.rows("SELECT state, count(*) FROM outbox GROUP BY state"))

    @property
    def alive(self) -> int:
        """Orders that were told, but for those that `look` has ended."""
        return self.orders - self.ended

    def kept(self) -> tuple[int, int]:
        """Of those, how many are stored, and how many are neither refused nor over."""
        [(stored,)] = self.rows(f"SELECT count(*) - {self.ended} FROM conversion")
        [(alive,)] = self.rows("SELECT count(*) FROM outbox WHERE state IN (0, 1, 10)")
        return stored, alive

    def kept_clock(self) -> dict[str, Any]:
        """What the courier wrote down at its last step."""
        return dict(json.loads(self.rows("SELECT body FROM clock")[0][0]))

    def beats(self) -> int:
        """The courier's last step, by the clock that it sees."""
        return int(self.kept_clock()["system"])


def sent_right(graph: GraphSimulator, count: int) -> bool:
    """All orders are at Meta, once, under a time that is true within some minutes."""
    events, accepted = graph.events, graph.accepted.get(PIXEL, {})
    if len(events) < count or len(accepted) < count:
        return False  # the simulator may be at one of them just now
    assert {event["event_id"] for event in events} == set(accepted)
    assert all(n == 1 for n in accepted.values())
    return len(events) == count and all(abs(event["event_time"] * 1000 - now_ms()) < 10 * MINUTE for event in events)


@pytest.fixture
def graph() -> Iterator[GraphSimulator]:
    with GraphSimulator() as simulator:
        yield simulator


@pytest.mark.slow
def test_C1_orders_of_a_clock_8_days_ahead_go_out_right_and_over_a_restart_nothing_ends(
    graph: GraphSimulator, tmp_path: Path
) -> None:
    graph.faults("503")
    shop = Shop(tmp_path, graph)
    with shop.serving():
        shop.order()
        shop.set("+8d")
        assert wait_until(lambda: shop.kept_clock()["held_since"] is not None, 60)
        assert shop.status()["heldSeconds"] > 7 * 86_400
        answer = shop.order()
        assert abs(_ms(answer["timestamp"]) - now_ms()) < MINUTE
        assert "timeCorrected" not in answer or not answer["timeCorrected"]
        assert "the clock jumped ahead and is held" in shop.program.stderr
    shop.set("+800d")
    with shop.serving():
        before = shop.beats()
        shop.order()
        assert wait_until(lambda: shop.beats() > before, 60)
        assert shop.kept() == (3, 3)
        shop.set("+0")
        graph.faults()
        assert wait_until(lambda: sent_right(graph, 3), 60)
        assert wait_until(lambda: shop.kept_clock()["held_since"] is None, 60)


def _ms(text: str) -> int:
    from collector.core import times

    found = times.parse(text)
    assert found is not None
    return found


ALL = ["+8d", "+60d", "+800d", "-1d"]
JUMPS = [
    *((["+800d"], False), (["-8d"], True), (ALL, False), (ALL, True)),
    *(pytest.param([one], dated, marks=pytest.mark.long) for one in ("+8d", "+60d") for dated in (False, True)),
    *(pytest.param([one], dated, marks=pytest.mark.long) for one, dated in (("+800d", True), ("-8d", False))),
]


@pytest.mark.slow
@pytest.mark.parametrize(("steps", "dated"), JUMPS)
@pytest.mark.parametrize("anew", [False, True], ids=["running", "anew"])
def test_C1_nothing_expires_nothing_is_deleted_and_the_queue_goes_out_when_the_clock_is_right(
    steps: list[str], dated: bool, anew: bool, graph: GraphSimulator, tmp_path: Path
) -> None:
    """`dated`: Meta's answers have a Date. `anew`: the program is started with each wrong clock, and sees no jump."""
    graph.state.date = dated
    graph.faults("503")
    shop = Shop(tmp_path, graph)

    def set_clock(ahead: str) -> None:
        if anew:
            running.close()
        shop.set(ahead)
        if anew:
            running.enter_context(shop.serving())

    with ExitStack() as running:
        running.enter_context(shop.serving())
        shop.order()
        for ahead in steps:
            set_clock(ahead)
            shop.order()
            shop.look(ahead)
            shop.order()
            assert shop.kept() == (shop.alive, shop.alive)
        graph.faults()
        set_clock("+0")
        assert wait_until(lambda: sent_right(graph, shop.alive), 60)


@pytest.mark.slow
def test_the_control_a_person_who_accepts_the_jump_ends_what_waits(graph: GraphSimulator, tmp_path: Path) -> None:
    """The checks above see an end where there is one: the same jump, and somebody says that it is right."""
    graph.faults("503")
    shop = Shop(tmp_path, graph)
    with shop.serving():
        shop.order()
    shop.set("+8d")
    with shop.serving():
        wrong = {"LD_PRELOAD": LIBRARY, "FAKETIME": "+8d", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
        told = shop.told("clock", "accept", **wrong)
        assert "accepted" in json.loads(told)
        assert wait_until(lambda: shop.kept_clock()["held_since"] is None, 60)
    with shop.serving():
        assert wait_until(lambda: shop.states().get(12) == 1, 60)
