"""The console over ten million rows: `python -m tests.kit.console_large build FOLDER`, then `… pages FOLDER [loaded]`.

`build` (minutes, 2.5 GB): three shops, 600 places, 180 days of clicks, orders with journeys and deliveries, and the
first shop's own list of its orders. `pages` prints what each page costs: milliseconds of processor and by the clock,
medians of rounds in turn; `loaded` beside as many clicks as the edge takes, on the same file.
"""

from __future__ import annotations

import asyncio
import random
import resource
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from decimal import Decimal
from pathlib import Path
from statistics import median
from typing import Any, Final

import msgspec
from msgspec import structs

from collector.bench import load, people, servers, storing
from collector.bench.children import serving
from collector.config import Config, PixelConfig, StoreConfig
from collector.console.app import create_app, open_desk
from collector.core.capi.states import CapiState
from collector.core.events import StoredClick, StoredEvent
from collector.core.matching.shapes import Match
from collector.storage.ground import kept
from collector.storage.ground.schema import newest_schema
from collector.storage.journal.journal import Journal
from tests.kit.console_store import DAY_MS, HOUR_MS, KEYED, make_store

CLICKS: Final = 9_400_000
ORDERS: Final = 300_000
PLACES: Final = 600
DAYS: Final = 180
SHOPS: Final = (people.STORE, "store_zurich", "store_kolkata")  # the first is where the bench's clicks go
ROUNDS: Final = 5
_CURRENCIES: Final = ("USD", "CHF", "INR")
_BODY: Final = msgspec.msgpack.encode

_CLICKS: Final = """
WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)
INSERT INTO click (id, store, ts, last_ts, received, fbclid_k, visitor_k, ua_class, flags, body)
SELECT i, p.store, ?2 + i * ?3 / ?1, ?2 + i * ?3 / ?1, ?2 + i * ?3 / ?1, i * 7919 % 4611686018427387847, NULL, 0,
       CASE WHEN i % 31 = 0 THEN 1 WHEN i % 37 = 0 THEN 4 ELSE 0 END, p.body
  FROM n JOIN made p ON p.id = (i * 7919 + i / 601) % ?4"""


def build(folder: Path, clicks: int = CLICKS, orders: int = ORDERS) -> None:
    """The database, its sums and its index."""
    now = int(time.time() * 1000)
    db = make_store(folder, now=now, clicks=0, conversions=0)
    _still(db)
    db.execute("PRAGMA cache_size = -400000")
    db.executescript("DELETE FROM pixel; DELETE FROM pixel_state; DELETE FROM store")
    db.executemany("INSERT INTO store VALUES (?, ?)", list(enumerate(SHOPS, 1)))
    db.executemany("INSERT INTO pixel VALUES (?, ?)", [(n, _pixel(n)) for n in (1, 2, 3)])
    begin = now - DAYS * DAY_MS
    db.execute("CREATE TEMP TABLE made (id INTEGER PRIMARY KEY, store INTEGER, body BLOB)")
    db.executemany("INSERT INTO made VALUES (?, ?, ?)", [(n, n % 3 + 1, _landed(n)) for n in range(PLACES)])
    db.execute("BEGIN")
    db.execute(_CLICKS, (clicks, begin, DAYS * DAY_MS, PLACES))
    rng = random.Random(4)
    rows = [_order(rng, n, orders, clicks, begin) for n in range(1, orders + 1)]
    db.executemany(f"INSERT INTO conversion VALUES ({','.join('?' * len(rows[0]))})", rows)
    sent = [(n, row[1], *_fate(n), row[2], row[2] + 1000, row[2] + 7 * DAY_MS) for n, row in enumerate(rows, 1)]
    sql = """INSERT INTO outbox (conversion, pixel, state, reason, lane, created, due, deadline, attempts, settled)
             VALUES (?1, ?2, ?3, ?4, 0, ?5, ?6, ?7, 1, CASE WHEN ?3 > 2 THEN ?6 END)"""
    db.executemany(sql, sent)
    db.executemany(
        "INSERT INTO shop_order VALUES (1, ?, ?, ?, 'paid', '19.90', 'USD', 'web', NULL, ?, 2, ?)",
        [(n, f"o-{n}", row[2], None if n % 50 == 0 else n, row[2]) for n, row in enumerate(rows, 1) if n % 2],
    )
    db.execute("INSERT INTO shop_pull VALUES (?, ?, ?, ?, NULL)", (SHOPS[0], begin, now, now))
    for name, (function, arguments) in kept.FUNCTIONS.items():
        db.create_function(name, arguments, function, deterministic=True)
    db.execute("UPDATE counted SET through = ?1, clicks = ?1", ((1 << 63) - 1,))
    kept.rebuild(db)  # type: ignore[arg-type]  # what it asks of apsw's connection, this one has too
    db.execute(f"PRAGMA user_version = {newest_schema()}")
    db.execute("COMMIT")
    db.close()
    config = config_of(folder)
    storing._fold(config, folder)


def _still(db: sqlite3.Connection) -> None:
    """No trigger counts what is built: it is summed up once, at the end."""
    db.execute("UPDATE counted SET through = 0, clicks = 0")


def _pixel(n: int) -> str:
    return str(10**14 + n)


def _landed(n: int) -> bytes:
    query = f"utm_source=facebook&utm_campaign=campaign+{n // 15}&adset_id=set-{n // 3}&ad_id=ad-{n}"
    return _BODY(StoredClick(fbclid=f"IwAR{n:0>24}", landing_page=f"https://shop.example/p/{n % 97}?{query}"))


def _order(rng: random.Random, n: int, orders: int, clicks: int, begin: int) -> tuple[Any, ...]:
    """Two in three attributed, two in five of these after several clicks."""
    at, store = begin + n * DAYS * DAY_MS // orders, n % 3 + 1
    journey = _journey(rng, at, begin, clicks) if n % 3 else []
    click = journey[-1][0] if journey else None
    how: dict[str, Any] = {"method": "visitor_id", "tier": "device", "deterministic": True} if n % 2 else {
        "method": "probabilistic", "tier": "inferred"}  # fmt: skip
    match = Match(attributed=False, model="default.1", reason="no_candidate")
    if journey:
        match = Match(
            attributed=True,
            model="default.1",
            click=click,
            confidence=90,
            journey=journey,
            click_ts=journey[-1][1],
            **how,
        )
    value = Decimal(rng.randrange(900, 24_000)) / 100
    people_ = {key: [f"{n:064x}"] for key in ("em", "ph", "fn", "ln")}
    event = StoredEvent(
        event_type="Purchase", event_id=f"e-{n}", ts=at, received=at, order_id=f"o-{n}", value=value,
        currency=_CURRENCIES[store - 1], user_data=people_, order_status="refunded" if n % 40 == 0 else "paid",
    )  # fmt: skip
    keyed = KEYED.name(store, "once", f"Purchase\0oo-{n}")
    names = (keyed, None, None, None, 5, 6, None, 0, 0)
    confidence = (match.confidence or None, match.method, 0, int(_fate(n)[0]))
    return (n, store, at, at, "Purchase", *names, click, *confidence, _BODY(event), _BODY(match))


def _journey(rng: random.Random, at: int, begin: int, clicks: int) -> list[tuple[int, int]]:
    """Clicks of before, as far apart as people come back."""
    ages = sorted((rng.expovariate(1 / (30 * HOUR_MS)) for _ in range(rng.choice((1, 1, 1, 2, 4)))), reverse=True)
    stamps = [max(begin, int(at - age)) for age in ages]
    return [(max(1, (ts - begin) * clicks // (DAYS * DAY_MS)), ts) for ts in stamps]


def _fate(n: int) -> tuple[int, str | None]:
    if n % 97 == 0:
        return int(CapiState.REJECTED), "Invalid parameter: the currency is not valid (Meta 100/2804019)"
    return (int(CapiState.EXPIRED), "waited longer than Meta takes") if n % 301 == 0 else (int(CapiState.SENT), None)


def config_of(folder: Path) -> Config:
    """The bench's own, and the shops."""
    config = servers.config_for(str(folder))
    pixels = [PixelConfig(id=_pixel(n), access_token="x") for n in (1, 2, 3)]
    more = [StoreConfig(id=shop, pixel=[pixel]) for shop, pixel in zip(SHOPS[1:], pixels[1:], strict=True)]
    return structs.replace(config, store=[structs.replace(config.store[0], pixel=pixels[:1]), *more])


PAGES: Final = {
    "Today": "/?range={}",
    "Orders": "/orders?range={}",
    "Orders, by campaign": "/orders?range={}&campaign=campaign+3",
    "Orders, by value": "/orders?range={}&sort=value",
    "Campaigns": "/campaigns?range={}",
    "Credit, linear": "/campaigns?range={}&model=linear",
    "Credit, last, 7 days": "/campaigns?range={}&window=7",
    "Landing pages": "/campaigns?range={}&by=landing-page",
    "Reconcile": "/reconcile?range={}",
    "Delivery": "/delivery?range={}",
    "Trust": "/trust?range={}",
    "Left out": "/left-out?range={}",
    "Live": "/live?range={}",
    "System": "/system?range={}",
    "Events": "/events",
}


async def _took(ask: Callable[[str], Any], path: str) -> tuple[float, float, int, int]:
    """Milliseconds of this process's processor and by the clock, bytes, status."""
    before, began = _spent(), time.monotonic()
    status, size = await ask(path)
    return 1000 * (_spent() - before), 1000 * (time.monotonic() - began), size, status


def _spent() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _asking(app: Any) -> Callable[[str], Any]:
    """A request to the application itself, without a socket."""

    async def ask(path: str) -> tuple[int, int]:
        place, _, query = path.partition("?")
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http",
            "path": place, "raw_path": place.encode(), "query_string": query.encode(), "root_path": "",
            "headers": [(b"host", b"127.0.0.1:8081")], "client": ("127.0.0.1", 5), "server": ("127.0.0.1", 8081),
        }  # fmt: skip
        status, size = 0, 0

        async def send(message: Any) -> None:
            nonlocal status, size
            status = message.get("status", status)
            size += len(message.get("body", b""))

        async def receive() -> Any:
            return {"type": "http.request", "body": b"", "more_body": False}

        await app(scope, receive, send)
        return status, size

    return ask


async def pages(folder: Path, spans: tuple[str, ...] = ("7", "28", "90")) -> None:
    """A line for each page and span."""
    desk = open_desk(config_of(folder))
    while not await desk.count(budget_seconds=60):
        pass
    ask = _asking(create_app(desk))
    found: dict[tuple[str, str], list[tuple[float, float, int, int]]] = {}
    for _ in range(ROUNDS + 1):  # the first warms up
        for name, path in PAGES.items():
            for span in spans:
                found.setdefault((name, span), []).append(await _took(ask, path.format(span)))
    print(f"{'page':24}{'days':>5}{'cpu ms':>9}{'clock ms':>10}{'worst':>8}{'bytes':>8}  status")
    for (name, span), all_ in found.items():
        rounds = all_[1:]
        cpu, clock, worst = median(r[0] for r in rounds), median(r[1] for r in rounds), max(r[1] for r in rounds)
        print(f"{name:24}{span:>5}{cpu:9.0f}{clock:10.0f}{worst:8.0f}{rounds[-1][2]:8}  {rounds[-1][3]}")
    for reader in (desk.reader, desk.counter):
        if reader is not None:
            await reader.close()


@contextmanager
def _beside(folder: Path) -> Iterator[None]:
    """As many single clicks as an edge takes from 64 connections, on the same file."""
    config = config_of(folder)
    load.begin_after(CLICKS)
    with serving(servers.serve, config, Journal) as edge:
        ended, figures = threading.Event(), list[Any]()

        def drive() -> None:
            while not ended.is_set():
                figures.append(load.drive(edge, "click", 64, 5))

        thread = threading.Thread(target=drive)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            rate, p99 = median(one.rate for one in figures), median(one.p99_ms for one in figures)
            print(f"beside {rate:,.0f} clicks/s (p99 {p99:.0f} ms)")


def main(what: str, folder: str, *more: str) -> None:
    if what == "build":
        return build(Path(folder))
    with ExitStack() as stack:
        if "loaded" in more:
            stack.enter_context(_beside(Path(folder)))
        asyncio.run(pages(Path(folder)))
    return None


if __name__ == "__main__":
    main(*sys.argv[1:])
