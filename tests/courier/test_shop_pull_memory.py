"""The pull's memory is the same at five thousand orders and at a million: it holds a page, and the inbox is bounded.

PULL_ORDERS=1000000 pulls as many as a large shop has in a year.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
from msgspec import structs

from collector.core import times
from collector.courier.shops.pull import Puller
from collector.storage.delivery import SqliteBooks
from collector.storage.shops import inbox
from collector.storage.shops.inbox import Inbox
from tests.courier.test_shop_pull import Pull
from tests.kit.journal_kit import DAY, NOW
from tests.kit.shop_server import graph_order

pytestmark = pytest.mark.slow
PAGE, MOST_PAGED = 50, 25_000
FEW, MANY = 5_000, int(os.environ.get("PULL_ORDERS", "40000"))
MOST_GROWTH_KB = 8 * 1024


class Endless(ThreadingHTTPServer):
    """Shopify's API over orders that are made as they are asked for; it pages through 25,000 of a query, as theirs."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.orders = 0

    def changed(self, n: int) -> int:
        return (NOW - 6 * DAY + n * 5 * DAY // self.orders) // 1000 * 1000

    def first_since(self, since: int) -> int:
        low, high = 0, self.orders
        while low < high:
            middle = (low + high) // 2
            low, high = (middle + 1, high) if self.changed(middle) < since else (low, middle)
        return low


class Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Endless

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["variables"]
        begin = self.server.first_since(times.parse(asked["q"].split("'")[1]) or 0)
        after = int(asked.get("after") or 0)
        assert after < MOST_PAGED, "Shopify refuses this page"
        last = min(begin + after + PAGE, self.server.orders)
        nodes = [graph_order(n, at, at) for n in range(begin + after, last) if (at := self.server.changed(n))]
        info = {"hasNextPage": last < self.server.orders, "endCursor": str(after + PAGE)}
        body = json.dumps({"data": {"orders": {"nodes": nodes, "pageInfo": info}}}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@pytest.fixture
def endless() -> Iterator[Endless]:
    server = Endless()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


class Pulled(NamedTuple):
    """How many different orders came, and the most memory that it took (KB)."""

    orders: int
    most_kb: int


class _At(NamedTuple):
    url: str


def pull_all(folder: str, url: str, orders: int, leaking: bool) -> Pulled:
    """One pull in this process, an edge's part done beside it."""
    one = Pull(Path(folder), _At(url), access_token="t")  # type: ignore[arg-type]  # its address is all that is asked
    storage = structs.replace(one.shop.kit.config.storage, cache_mb=2)  # as the courier has it
    books = SqliteBooks(structs.replace(one.shop.kit.config, storage=storage))
    came = bytearray(orders)
    if leaking:
        _leak()
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark begins anew
    try:
        asyncio.run(_pull(one, books, came))
        return Pulled(sum(came), _most_kb())
    finally:
        books.close()
        one.close()


async def _pull(one: Pull, books: SqliteBooks, came: bytearray) -> None:
    puller = Puller(one.store, books, one.alerts, lambda: one.shop.kit.now, one.thread)
    pulling = asyncio.create_task(puller.once())
    ended, left = False, 1
    while not ended or left:
        ended = pulling.done()  # asked before the last look
        left = await asyncio.get_running_loop().run_in_executor(one.thread, lambda: _take(books.inbox, came))
        await asyncio.sleep(0 if left else 0.001)
    assert await pulling == one.store.shop.pull_minutes * 60
    await puller._client.close()


def _take(box: Inbox, came: bytearray) -> int:
    rows = box.oldest()
    for row in rows:
        came[int(msgspec.json.decode(row.body)["id"].rpartition("/")[2])] = 1
    box._db.executemany("DELETE FROM shop_inbox WHERE id = ?", [(row.id,) for row in rows])
    return len(rows)


def _leak() -> None:
    kept: list[Any] = []
    put: Callable[..., None] = inbox.Inbox.put

    def leaking(self: Inbox, store: str, seen: int, found: Any, pulled: Any = None) -> None:
        kept.extend(found)
        put(self, store, seen, found, pulled)

    inbox.Inbox.put = leaking  # type: ignore[method-assign]


def _most_kb() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def growth(endless: Endless, folder: Path, many: int, *, leaking: bool = False) -> int:
    """KB that a pull of `many` orders takes more than one of FEW, each in a process of its own."""
    most = []
    for n in (FEW, many):
        endless.orders = n
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            found = pool.submit(pull_all, str(folder / str(n)), endless.url, n, leaking).result()
        assert found.orders == n, "every order came"
        most.append(found.most_kb - n // 1024)
    print(f"{FEW} orders: {most[0]} KB, {many} orders: {most[1]} KB at most")
    return most[1] - most[0]


def test_L1_the_pulls_memory_does_not_grow_with_the_shop(endless: Endless, tmp_path: Path) -> None:
    assert growth(endless, tmp_path, MANY) < MOST_GROWTH_KB


def test_L1_control_a_pull_that_keeps_what_it_gave_grows(endless: Endless, tmp_path: Path) -> None:
    assert growth(endless, tmp_path, 4 * FEW, leaking=True) > MOST_GROWTH_KB
