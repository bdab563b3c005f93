"""A bad day at the running program: every input of the reports, mixed and again and again, beside broken HTTP.

No answer is a fault of ours, no process ends, the edge's memory is bounded, and the order that comes after is taken.
COLLECTOR_BAD_DAY_SECONDS: how long it goes on (30; an hour is 3600).
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from pathlib import Path
from random import Random

import pytest

from tests.kit.case_inputs import ORDER, Input, beacons, clicks, orders
from tests.kit.harness import GraphSimulator, Installation, eventually
from tests.kit.raw_http import exchange

SECONDS = float(os.environ.get("COLLECTOR_BAD_DAY_SECONDS", "30"))
CALLERS = 4
MORE_MIB = 48  # that an edge may grow by after its first minute's work: arenas, tables of names
BROKEN = [
    b"", b"\0" * 100, b"GET / HTTP/9.9\r\n\r\n", b"POST /c HTTP/1.1\r\nContent-Length: -1\r\n\r\n", b"\x16\x03\x01",
    b"POST /c HTTP/1.1\r\nHost: t\r\nContent-Length: 10\r\nContent-Length: 11\r\n\r\n{}", b"GET /" + b"x" * 70_000,
    b"POST /c HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"POST /v1/track/conversion HTTP/1.1\r\nHost: t\r\nContent-Length: 900000\r\n\r\n{",
    b"GET /c.gif?d=%7B HTTP/1.1\r\nHost: t\r\n\r\n", b"OPTIONS * HTTP/1.1\r\nHost: t\r\n\r\n",
]  # fmt: skip


def as_request(one: Input, key: str) -> bytes:
    """The input for the harness's store, on a connection of its own."""
    given = {"Host": "mystore.com", "Connection": "close", **one.headers}
    if one.by_server:
        given["Authorization"] = f"Bearer {key}"
    body = one.body.replace(b"shop.example", b"mystore.com")
    given["Content-Length"] = str(len(body))
    lines = "".join(f"{name}: {value}\r\n" for name, value in given.items()).replace("shop.example", "mystore.com")
    return f"POST {one.path} HTTP/1.1\r\n{lines}\r\n".encode("latin-1") + body


class Callers:
    """So many at once, each with its own order of all inputs, until the time is over."""

    def __init__(self, port: int, key: str, seconds: float) -> None:
        self.port, self.key, self.until = port, key, time.monotonic() + seconds
        self.faults: list[str] = []
        self.answers: Counter[int] = Counter()
        threads = [threading.Thread(target=self._call, args=(number,)) for number in range(CALLERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _call(self, number: int) -> None:
        dice, round_ = Random(number), 0
        while time.monotonic() < self.until:
            round_ += 1
            inputs = [*orders(f"{number}-{round_}"), *beacons(), *clicks()]
            dice.shuffle(inputs)
            for one in inputs:
                if time.monotonic() > self.until:
                    return
                self._note(one.what, exchange(self.port, as_request(one, self.key), 30).statuses or [599])
                if dice.random() < 0.05:
                    broken = dice.choice(BROKEN)
                    self._note(repr(broken[:60]), exchange(self.port, broken, 30, half_close=True).statuses)

    def _note(self, what: str, statuses: list[int]) -> None:
        self.answers.update(statuses)
        self.faults += [f"{what}: {status}" for status in statuses if status >= 500]


def resident_mib(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


@pytest.mark.slow
def test_a_bad_day_costs_no_answer_no_process_and_no_memory(tmp_path: Path) -> None:
    with GraphSimulator() as graph:
        shop = Installation(tmp_path, graph.url)
        key = shop.make_key()
        with shop.serve() as door:
            port, before = int(door.url.rpartition(":")[2]), door.serving.children()
            first = Callers(port, key, SECONDS / 3)
            settled = resident_mib(before["edge"])
            rest = Callers(port, key, SECONDS * 2 / 3)
            assert first.faults + rest.faults == []
            assert {200, 204, 400, 401} & set(rest.answers) >= {200, 204, 400}, "control: taken and refused ones"
            assert door.serving.children() == before
            assert resident_mib(before["edge"]) < settled + MORE_MIB
            after = door.post("/v1/track/conversion", {**ORDER, "orderId": "the-day-after"}, key)
            assert after.status_code == 200, after.text
            assert eventually(
                lambda: any(e.get("custom_data", {}).get("order_id") == "the-day-after" for e in graph.events), 90
            )
        shop.end()


def test_a_fault_of_ours_would_be_seen() -> None:
    """Control: an answer of 500, and a connection that ends without one, are faults."""
    seen = object.__new__(Callers)
    seen.faults, seen.answers = [], Counter()
    seen._note("taken", [200])
    seen._note("broken", [500])
    seen._note("cut", [599])
    assert seen.faults == ["broken: 500", "cut: 599"]
