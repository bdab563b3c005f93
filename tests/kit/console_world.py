"""Three shops in three zones as the console meets them: with nothing yet, after a month, and in trouble.

The generator tells what it made (`World`), so that every figure of a page can be compared with it.
"""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

import msgspec

from collector.config import Config, ConsoleConfig, InsightsConfig, PixelConfig, StorageConfig, StoreConfig
from collector.core import flags
from collector.core.capi.states import CapiState
from collector.core.events import StoredEvent
from collector.core.matching.decide import renew
from collector.core.matching.shapes import Match
from collector.core.shares import PURPOSE, Share, seal
from collector.storage.ground import audit
from collector.storage.ground.schema import newest_schema
from tests.kit.console_store import (
    DAY_MS,
    HOUR_MS,
    KEYED,
    add_click,
    add_conversion,
    add_outbox,
    add_request,
    make_store,
)

PAGES: Final = tuple("/ /orders /campaigns /reconcile /delivery /trust /left-out /live /system /events".split())
# Pages of a page: what it shows when something more is asked of it.
DEEPER: Final = {
    "hours": "/?range=yesterday&plot=USD",
    "credit": "/campaigns?range=28&model=linear",
    "landing-pages": "/campaigns?range=28&by=landing-page",
    "sources": "/campaigns?range=28&by=source",
    "day": "/reconcile?range=28&shop=store_demo&only=missing",
    "refused": "/orders?range=28&state=refused&sort=value",
    "no-sense": "/?range=x&why=1",
}
SHOPS: Final = {"store_demo": "America/New_York", "store_zurich": "Europe/Zurich", "store_kolkata": "Asia/Kolkata"}
NAMES: Final = {"store_demo": "Lamps & Co", "store_zurich": "Zürcher Stühle", "store_kolkata": "Kolkata Tea"}
PIXELS: Final = {"store_demo": "123456789012345", "store_zurich": "987654321098765", "store_kolkata": "555000111222333"}
CURRENCIES: Final = ("USD", "CHF", "INR")
DEAD: Final = ("refunded", "cancelled")
STATES: Final = (*[CapiState.SENT] * 24, CapiState.HELD, CapiState.EXPIRED, CapiState.REJECTED, CapiState.SKIPPED)
TOLD: Final = {10: "sent", 2: "held", 12: "expired", 11: "refused", 13: "on purpose", 0: "waiting", 1: "waiting"}
CAMPAIGNS: Final = ("autumn-sale", "retargeting", "brand", "lookalike 1 %", "newsletter-subscribers")
WAITS_MS: Final = (900, 1_400, 1_500, 1_700, 2_100, 2_400, 4_000, 9_000)
WHY: Final = {
    CapiState.HELD: "consent pending",
    CapiState.EXPIRED: "waited longer than Meta takes (7 days after the event)",
    CapiState.REJECTED: "Invalid parameter: the currency is not valid (Meta 100/2804019)",
    CapiState.SKIPPED: "consent denied",
    CapiState.RETRYING: "Error validating access token: Session has expired (Meta 190/463)",
}


class Sold(NamedTuple):
    """What the generator knows of an order."""

    shop: str
    ts: int
    value: Decimal
    currency: str
    campaign: str | None
    state: str
    reversed: bool
    proven: bool
    conversion: int
    customer: int = 0  # 0: the order names nobody


@dataclass
class World:
    """What was made; `clicks`: shop, moment, campaign, why it is kept apart (empty: a person's)."""

    folder: Path
    now: int
    db: sqlite3.Connection
    sold: list[Sold] = field(default_factory=list)
    clicks: list[tuple[str, int, str, str]] = field(default_factory=list)
    renewals: int = 0
    missing: int = 0  # orders of the first shop that nobody has told us of but the shop's own list

    @property
    def outage(self) -> tuple[int, int]:
        """Half a day in which Meta could not be reached (ms)."""
        return self.now - 9 * DAY_MS, self.now - 9 * DAY_MS + 12 * HOUR_MS

    @property
    def config(self) -> Config:
        return Config(
            storage=StorageConfig(data_dir=str(self.folder)),
            console=ConsoleConfig(timezone="Europe/Zurich"),
            insights=InsightsConfig(ad_account="act_1"),
            store=[
                StoreConfig(id=shop, name=NAMES[shop], timezone=zone, pixel=[PixelConfig(id=PIXELS[shop])])
                for shop, zone in SHOPS.items()
            ],
        )

    def days(self, shop: str, span: int = 28) -> tuple[int, int]:
        """The first and the last moment of the shop's last days, by the calendar of its zone."""
        zone = ZoneInfo(SHOPS.get(shop, "Europe/Zurich"))
        last = datetime.fromtimestamp(self.now / 1000, zone).date()
        return midnight(last - timedelta(span - 1), zone), midnight(last + timedelta(1), zone)

    def orders(self, shop: str, span: int = 28) -> list[Sold]:
        since, until = self.days(shop, span)
        return [sold for sold in self.sold if shop in ("", sold.shop) and since <= sold.ts < until]


def midnight(day: date, zone: ZoneInfo) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC).timestamp() * 1000)


def empty(folder: Path, now: int, *, clicks: int = 0, evil: str = "") -> World:
    """A store as the first start leaves it."""
    db = make_store(folder, now=now, clicks=0, conversions=0)
    db.execute("INSERT INTO store VALUES (3, 'store_kolkata')")
    db.executescript("DELETE FROM pixel; DELETE FROM pixel_state; DELETE FROM heartbeat; DELETE FROM total")
    db.execute(f"PRAGMA user_version = {newest_schema()}")
    _beats(db, now)
    return World(folder, now, db)


def month(folder: Path, now: int, *, clicks: int = 1800, seed: int = 28, evil: str = "") -> World:
    """A month in which all went well, but for some orders of every fate. `evil` stands in every field of a caller's."""
    world = empty(folder, now)
    db, rng = world.db, random.Random(seed)
    db.execute("BEGIN")
    db.executemany("INSERT INTO pixel VALUES (?, ?)", [(n, pixel) for n, pixel in enumerate(PIXELS.values(), 1)])
    db.executemany(
        "INSERT INTO api_key VALUES (?, ?, 'secret', ?, ?, NULL)",
        [(f"key_{n}", bytes([n]) * 32, shop, now - 60 * DAY_MS) for n, shop in enumerate(SHOPS)],
    )
    requests = [_answered(db, now, pixel, rng) for pixel in (1, 2, 3)]
    moments = sorted(now - rng.randrange(62 * DAY_MS) for _ in range(clicks))  # rows come in the order of their receipt
    for n, at in enumerate(moments):
        _visit(world, n, at, rng, requests, evil)
    _renew(world, evil)
    for n in range(clicks // 300):
        at = now - (n * 7 + 1) * DAY_MS
        called = evil or f"web-{n}"
        db.execute(
            "INSERT INTO shop_order VALUES (1, ?, ?, ?, 'paid', '19.90', 'USD', 'web', NULL, NULL, 2, ?)",
            (n + 1_000_000, called, at, at),
        )
        world.missing += 1
    db.execute("INSERT INTO shop_pull VALUES ('store_demo', ?, ?, ?, NULL)", (now - 40 * DAY_MS, now, now))
    for code, n in (("invalid_json", 3), ("store_not_found", 1), ("missing_required_field", 7)):
        db.execute("INSERT INTO refusal_sum VALUES (?, ?, ?)", ((now - DAY_MS) // 900_000, code, n))
        field, order = ("currency", evil or "4711") if code == "missing_required_field" else ("", "")
        one = (now - DAY_MS, code, field, order)
        db.executemany("INSERT INTO refusal (at, code, field, called) VALUES (?, ?, ?, ?)", [one] * n)
    _labels(db, now, rng)
    _ads(db, now, evil)
    _share(world)
    db.execute("COMMIT")
    audit.note(folder, "keys create", now - 20 * DAY_MS, store="store_demo", kind="secret")
    audit.note(folder, "release", now - 7 * DAY_MS, version="0.3.0")
    audit.note(folder, "reload", now - 3 * DAY_MS, settings="[alerts] backlog_minutes")
    return world


def trouble(folder: Path, now: int, *, clicks: int = 1800, evil: str = "") -> World:
    """The same month, and then: a token that Meta refuses, a queue that will expire, a silent process, a full disk."""
    world = month(folder, now, clicks=clicks, evil=evil)
    db, rng = world.db, random.Random(5)
    db.execute("BEGIN")
    for n in range(60):
        at = now - (6 * DAY_MS + 22 * HOUR_MS) + n * HOUR_MS
        state = CapiState.RETRYING if n < 40 else CapiState.QUEUED
        value = Decimal(rng.randrange(900, 20_000)) / 100
        row = add_conversion(db, at, order=evil or f"late-{n}", value=value, capi=state, rng=rng)
        add_outbox(db, row, int(state), at, reason=evil or WHY[CapiState.RETRYING] if n < 40 else None)
        world.sold.append(Sold("store_demo", at, value, "USD", None, "waiting", False, False, row))
        _listed(world, 3_000_000 + n, evil or f"late-{n}", world.sold[-1])
    refused = add_request(
        db, now - 600_000, outcome="blocked", http=400, code=190, message=evil or "Session has expired"
    )
    assert refused
    reason = evil or "Error validating access token: Session has expired (Meta 190/463)"
    db.execute("INSERT OR REPLACE INTO pixel_state VALUES (1, 'blocked', ?, NULL, ?, NULL)", (now - 6 * DAY_MS, reason))
    fault = evil or "act_1: Session has expired (code 190); put a new token into [insights] access_token_file"
    db.execute("UPDATE insight_account SET fault = ?, fault_at = ?", (fault, now - 5 * HOUR_MS))
    db.execute("UPDATE heartbeat SET at = ? WHERE process = 'keeper'", (now - 4 * HOUR_MS,))
    db.execute(
        "UPDATE heartbeat SET body = ? WHERE process = 'courier'",
        (b'{"diskFreeBytes":2100000000,"diskDays":3,"newestBackupAt":%d}' % (now - 9 * DAY_MS),),
    )
    db.execute("COMMIT")
    return world


def _beats(db: sqlite3.Connection, now: int) -> None:
    seen = b'{"diskFreeBytes":81000000000,"diskDays":420,"newestBackupAt":%d}' % (now - 7 * HOUR_MS)
    for process, body in (("courier", seen), ("keeper", b"{}")):
        db.execute("INSERT INTO heartbeat VALUES (?, ?, ?)", (process, now - 2_000, body))


def _answered(db: sqlite3.Connection, now: int, pixel: int, rng: random.Random) -> dict[CapiState, int]:
    refused = add_request(
        db, now - 5 * DAY_MS, pixel=pixel, outcome="refused", http=400, code=100, message="Invalid parameter"
    )
    db.execute("UPDATE request SET subcode = 2804019 WHERE id = ?", (refused,))
    sent = [add_request(db, now - n * HOUR_MS, pixel=pixel, took=rng.randrange(80, 700)) for n in range(30, 0, -1)]
    return {CapiState.SENT: sent[0], CapiState.REJECTED: refused}


_APART: Final = (
    (flags.DENIED, "denied"),
    (flags.PENDING, "pending"),
    (flags.BOT, "bot"),
    (flags.PREFETCH, "prefetch"),
)


def _visit(world: World, n: int, at: int, rng: random.Random, requests: list[dict[CapiState, int]], evil: str) -> None:
    db, number = world.db, rng.choice((1, 1, 1, 2, 2, 3))
    shop, campaign = list(SHOPS)[number - 1], rng.choice(CAMPAIGNS)
    bit, apart = rng.choice(_APART) if rng.random() < 0.1 else (0, "")
    at += int(2 * HOUR_MS * rng.random())
    at = min(at, world.now - 60_000)
    page = f"https://shop.example/?utm_source={evil}&utm_campaign={evil}&ad_id={evil}&adset_id={evil}" if evil else (
        f"https://shop.example/p?utm_source=facebook&utm_campaign={campaign.replace(' ', '+').replace('%', '%25')}"
        f"&adset_id=set-{n % 3}&ad_id=ad-{n % 7}"
    )  # fmt: skip
    click = add_click(db, at - rng.randrange(60_000, 40 * HOUR_MS), store=number, marks=bit, landing_page=page)
    ((clicked,),) = db.execute("SELECT ts FROM click WHERE id = ?", (click,)).fetchall()
    world.clicks.append((shop, clicked, campaign, apart))
    if rng.random() < 0.55:
        return
    known, value = not apart and rng.random() < 0.7, Decimal(rng.randrange(1_900, 24_000)) / 100
    status, state = rng.choice((*DEAD, *["paid"] * 18)), rng.choice(STATES)
    order: dict[str, Any] = {"store": number, "value": value, "currency": CURRENCIES[number - 1], "rng": rng}
    named = evil or f"{1000 + n}"
    row = add_conversion(
        db, at, click=click if known else None, order_status=status, capi=state, order=f"{named}", **order
    )
    settled = at + rng.choice(WAITS_MS) if state >= CapiState.SENT else None
    reason = (evil or WHY[state]) if state in WHY else None
    request = requests[number - 1].get(state)
    if settled is not None and world.outage[0] <= at < world.outage[1]:
        add_request(db, at + 900, pixel=number, outcome="unreached", http=None, message="connection refused")
        settled = world.outage[1] + rng.choice(WAITS_MS)
    if settled is not None and state == CapiState.SENT:
        request = add_request(db, settled - 200, pixel=number, took=rng.randrange(80, 200))
    add_outbox(db, row, int(state), at, pixel=number, settled=settled, request=request, reason=reason)
    ((method,),) = db.execute("SELECT coalesce(method, '') FROM conversion WHERE id = ?", (row,)).fetchall()
    world.sold.append(
        Sold(
            *(shop, at, value, CURRENCIES[number - 1], campaign if known else None, TOLD[int(state)]),
            *(status in DEAD, method == "visitor_id", row, _customer(db, row, number, n)),
        )
    )
    if number == 1:
        _listed(world, n + 1, named, world.sold[-1], status)
    # What is in no figure of orders.
    add_conversion(db, at, click=click if known else None, **order | {"order": f"lead-{n}", "kind": "Lead"})
    add_conversion(db, at, marks=flags.TEST, **order | {"order": f"test-{n}"})


def _customer(db: sqlite3.Connection, row: int, store: int, n: int) -> int:
    """Every third order names nobody; the others are of 200 customers of each shop."""
    customer = 1000 * store + n % 200 if n % 3 else 0
    _names(db, row, customer)
    return customer


def _names(db: sqlite3.Connection, row: int, customer: int) -> None:
    if customer:
        db.execute("INSERT INTO conversion_identity VALUES (?, 1, ?)", (row, customer))


def _listed(world: World, n: int, named: str, sold: Sold, status: str = "paid") -> None:
    """An order as the first shop's own list has it."""
    row = (n, named, sold.ts, status, str(sold.value), sold.conversion, sold.ts)
    world.db.execute("INSERT INTO shop_order VALUES (1, ?, ?, ?, ?, ?, 'USD', 'web', NULL, ?, 3, ?)", row)


def _renew(world: World, evil: str) -> None:
    """Every ninth order of a month before is a subscription, renewed once; it inherits what the first was given."""
    for n, first in enumerate([sold for sold in world.sold if sold.ts < world.now - 29 * DAY_MS][::9]):
        at, store = first.ts + 28 * DAY_MS, list(SHOPS).index(first.shop) + 1
        ((judged, order),) = world.db.execute("SELECT match, body FROM conversion WHERE id = ?", (first.conversion,))
        match = renew(msgspec.msgpack.decode(judged, type=Match), first.ts)
        of, named = msgspec.msgpack.decode(order, type=StoredEvent).order_id, evil or f"renewal-{n}"
        money: dict[str, Any] = {"store": store, "value": first.value, "currency": first.currency}
        row = add_conversion(world.db, at, order=named, match=match, renewal_of=of, rng=random.Random(n), **money)
        settled = at + WAITS_MS[n % len(WAITS_MS)]
        request = add_request(world.db, settled - 200, pixel=store)
        add_outbox(world.db, row, int(CapiState.SENT), at, pixel=store, settled=settled, request=request)
        world.sold.append(first._replace(ts=at, state="sent", reversed=False, conversion=row))
        world.renewals += 1
        _names(world.db, row, first.customer)
        if store == 1:
            _listed(world, 2_000_000 + n, named, world.sold[-1])


def _ads(db: sqlite3.Connection, now: int, evil: str) -> None:
    """What each campaign cost on each of 28 days, and an ad that no click of ours names."""
    today = now // DAY_MS
    row = ("USD", "Europe/Berlin", today - 27, today, now - HOUR_MS)
    db.execute("INSERT INTO insight_account VALUES ('act_1', 1, ?, ?, ?, ?, ?, 0, NULL, NULL)", row)
    for n, campaign in enumerate((*CAMPAIGNS, "nobody's")):
        names = (evil or f"Ad {n}", str(2000 + n), evil or f"Set {n}", str(1000 + n), evil or campaign)
        db.execute("INSERT INTO insight_ad VALUES ('act_1', ?, ?, ?, ?, ?, ?)", (str(120_000_000_000 + n), *names))
        for day in range(today - 27, today + 1):
            spend = 10_000 * (20 + 3 * n + day % 5)
            figures = (str(120_000_000_000 + n), "USD", spend, 900 + n, 40 + n, 30 + n, day % 3, 199_000 * (day % 3))
            db.execute("INSERT INTO insight VALUES ('act_1', ?, ?, ?, 1, ?, ?, ?, ?, ?, ?)", (day, *figures))


def _share(world: World) -> None:
    """A link to the first shop's last 28 days."""
    last = datetime.fromtimestamp(world.now / 1000, ZoneInfo(SHOPS["store_demo"])).date()
    row = ("0123456789abcdef", "store_demo", str(last - timedelta(27)), str(last), "Purchase")
    world.db.execute("INSERT INTO share VALUES (?, ?, ?, ?, ?, ?, ?, NULL)", (*row, world.now, world.now + 14 * DAY_MS))


def shared_links(folder: Path) -> list[str]:
    """The path of every link that was made."""
    with closing(sqlite3.connect(folder / "collector.db")) as db:
        rows = db.execute("SELECT id, store, first, last, event, expires FROM share").fetchall()
    made = [Share(i, s, date.fromisoformat(f), date.fromisoformat(t), e, x) for i, s, f, t, e, x in rows]
    return [f"/share/{seal(share, KEYED.subkey(PURPOSE))}" for share in made]


def _labels(db: sqlite3.Connection, now: int, rng: random.Random) -> None:
    """What later proof said of what was stated: of the first shop enough, of the others too little."""
    day = now // DAY_MS
    for step, n, share in ((2, 160, 0.6), (4, 220, 0.72), (8, 300, 0.9), (12, 260, 0.95), (16, 400, 0.98)):
        right = round(n * share)
        for came_true, count in ((1, right), (0, n - right)):
            label = "\x1f".join(("identity", "", str(step), str(came_true)))
            db.execute("INSERT INTO truth_sum VALUES (1, ?, 1, ?, ?)", (day - rng.randrange(1, 9), label, count))
