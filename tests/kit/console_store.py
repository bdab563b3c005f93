"""A synthetic store for the console's tests: the real schema, filled with rows of a small shop."""

from __future__ import annotations

import random
import sqlite3
from decimal import Decimal
from importlib import resources
from pathlib import Path

import msgspec

from collector.core import flags
from collector.core.capi.states import CapiState
from collector.core.events import StoredClick, StoredEvent
from collector.core.ids import PublicIds
from collector.core.keyed import KeyedHash
from collector.core.matching.shapes import Evidence, Match, Rival
from collector.storage.ground import kept

HOUR_MS, DAY_MS = 3_600_000, 86_400_000
NOW = 1_790_000_000_000  # 21 September 2026, 14:13:20 UTC
PEPPER = b"p" * 32
KEYED = KeyedHash(PEPPER)
IDS = PublicIds(KEYED.subkey("public ids"))
PIXEL, OTHER_PIXEL = "123456789012345", "987654321098765"


def make_store(
    data_dir: Path, *, now: int = NOW, clicks: int = 400, conversions: int = 120, seed: int = 7
) -> sqlite3.Connection:
    """A database with two stores, two pixels, a week of clicks and conversions; the open connection, for more rows."""
    data_dir.mkdir(parents=True, exist_ok=True)
    (data_dir / "pepper.key").write_bytes(PEPPER)
    (data_dir / "pepper.key").chmod(0o600)
    db = sqlite3.connect(data_dir / "collector.db", isolation_level=None)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=OFF")  # a power cut loses it: 0.06 s instead of 0.6
    migrations = resources.files("collector.storage").joinpath("migrations")
    for script in sorted(migrations.iterdir(), key=lambda entry: entry.name):
        db.executescript(script.read_text())
    for name, (function, arguments) in kept.FUNCTIONS.items():
        db.create_function(name, arguments, function, deterministic=True)
    db.execute("DELETE FROM recount")
    db.executemany("INSERT INTO store VALUES (?, ?)", [(1, "store_demo"), (2, "store_zurich")])
    db.executemany("INSERT INTO pixel VALUES (?, ?)", [(1, PIXEL), (2, OTHER_PIXEL)])
    rng = random.Random(seed)
    db.execute("BEGIN")
    for _ in range(clicks):
        add_click(
            db,
            now - rng.randrange(7 * DAY_MS),
            store=rng.choice([1, 1, 1, 2]),
            campaign=rng.choice(["autumn-sale", "autumn-sale", "retargeting", "brand"]),
            marks=flags.BOT if rng.random() < 0.08 else 0,
        )
    for i in range(conversions):
        store = rng.choice([1, 1, 1, 2])
        click = rng.randrange(1, clicks + 1) if clicks and rng.random() < 0.62 else None
        add_conversion(
            db,
            now - int(7 * DAY_MS * rng.random() ** 1.3),
            store=store,
            click=click,
            order=f"order-{i}",
            kind="Purchase" if rng.random() < 0.6 else rng.choice(["Lead", "AddToCart", "ViewContent"]),
            value=Decimal(rng.randrange(900, 24_000)) / 100,
            currency="USD" if store == 1 else "CHF",
            capi=CapiState.SENT if rng.random() < 0.9 else CapiState.QUEUED,
            rng=rng,
        )
    add_deliveries(db, now, rng)
    names = ("http.click.200", "http.none.404", "refused.invalid_fbclid", "left_out.fbp", "missing.event_source_url")
    db.executemany("INSERT INTO total VALUES (?, ?)", [(name, n) for n, name in enumerate(names, 1)])
    db.execute("COMMIT")
    return db


def add_deliveries(db: sqlite3.Connection, now: int, rng: random.Random) -> None:
    """An outbox row and a request for each conversion; some refused, one pixel blocked, two processes alive."""
    for number, ts, capi in db.execute("SELECT id, ts, capi FROM conversion ORDER BY id").fetchall():
        refused = rng.random() < 0.06
        state = CapiState.REJECTED if refused and capi == CapiState.SENT else capi
        request = None
        if state != CapiState.QUEUED:
            outcome, http, code, text = (
                ("refused", 400, 100, "Invalid parameter") if refused else ("sent", 200, None, None)
            )
            request = add_request(
                db, ts + 900, outcome=outcome, http=http, code=code, message=text, took=rng.randrange(90, 600)
            )
        add_outbox(
            db,
            number,
            int(state),
            ts,
            settled=ts + 1500 if request else None,
            request=request,
            reason="Meta: value must not be negative" if refused else None,
        )
    db.execute(
        "INSERT INTO pixel_state VALUES (2, 'blocked', ?, NULL, 'the access token has expired (190/463)', NULL)",
        (now - 900_000,),
    )
    for process in ("courier", "edge"):
        db.execute("INSERT INTO heartbeat VALUES (?, ?, ?)", (process, now - 2_000, b'{"version":"0.1.0","sent":7}'))


def add_request(
    db: sqlite3.Connection,
    at: int,
    *,
    pixel: int = 1,
    outcome: str = "sent",
    http: int | None = 200,
    code: int | None = None,
    message: str | None = None,
    took: int = 120,
) -> int:
    sql = """INSERT INTO request (pixel, at, events, outcome, http_status, code, trace_id, message, took_ms)
             VALUES (?,?,1,?,?,?,?,?,?) RETURNING id"""
    return int(
        db.execute(sql, (pixel, at, outcome, http, code, f"AbC{at % 100_000:05d}xYz", message, took)).fetchone()[0]
    )


def add_outbox(
    db: sqlite3.Connection,
    conversion: int,
    state: int,
    ts: int,
    *,
    pixel: int = 1,
    settled: int | None = None,
    request: int | None = None,
    reason: str | None = None,
) -> int:
    sql = """INSERT INTO outbox (conversion, pixel, state, lane, created, due, deadline, attempts, settled,
               request, reason)
             VALUES (?,?,?,0,?,?,?,?,?,?,?) RETURNING id"""
    return int(
        db.execute(
            sql,
            (
                conversion,
                pixel,
                state,
                ts,
                ts + 1000,
                ts + 7 * DAY_MS,
                int(request is not None),
                settled,
                request,
                reason,
            ),
        ).fetchone()[0]
    )


def add_click(
    db: sqlite3.Connection,
    ts: int,
    *,
    store: int = 1,
    campaign: str = "autumn-sale",
    marks: int = 0,
    landing_page: str = "",
) -> int:
    """One click; its row number."""
    page = landing_page or f"https://mystore.com/p?utm_source=facebook&utm_campaign={campaign}&ad_id=77"
    body = msgspec.msgpack.encode(StoredClick(fbclid="IwAR0abc", landing_page=page))
    sql = """INSERT INTO click (store, ts, last_ts, received, fbclid_k, visitor_k, ua_class, flags, body)
             VALUES (?,?,?,?,?,?,?,?,?) RETURNING id"""
    return int(db.execute(sql, (store, ts, ts, ts, 11, 12, 0, marks, body)).fetchone()[0])


def add_conversion(
    db: sqlite3.Connection,
    ts: int,
    *,
    store: int = 1,
    click: int | None = None,
    order: str = "order-1",
    kind: str = "Purchase",
    value: Decimal | None = Decimal("10.00"),
    currency: str | None = "USD",
    marks: int = 0,
    capi: int = CapiState.SENT,
    rng: random.Random | None = None,
    order_status: str | None = None,
    match: Match | None = None,
    renewal_of: str | None = None,
) -> int:
    """One conversion with its match; its row number."""
    rng = rng or random.Random(order)
    keys = {k: ["ab" * 32] for k in ("em", "ph", "external_id", "fn") if rng.random() < 0.6}
    event = StoredEvent(
        event_type=kind,
        event_id=f"event-{order}",
        ts=ts,
        received=ts,
        order_id=order,
        value=value,
        currency=currency,
        user_data=keys,
        fbc="fb.1.1789999999999.IwAR0abc" if click else None,
        fbp="fb.1.1.2" if rng.random() < 0.7 else None,
        order_status=order_status,
        renewal_of=renewal_of,
    )
    match = match or _match(click, rng, ts)
    sql = """INSERT INTO conversion (store, ts, received, event_type, dedup_k, ip_k, ua_k, ua_class, flags, click,
               confidence, method, revision, capi, body, match)
             VALUES (?,?,?,?,?,?,?,0,?,?,?,?,0,?,?,?) RETURNING id"""
    row = db.execute(
        sql,
        (
            store,
            ts,
            ts,
            kind,
            KEYED.name(store, "once", f"{kind}\0o{order}"),
            5 if rng.random() < 0.9 else None,
            6,
            marks,
            match.click,
            match.confidence or None,
            match.method,
            int(capi),
            msgspec.msgpack.encode(event),
            msgspec.msgpack.encode(match),
        ),
    ).fetchone()
    return int(row[0])


def _match(click: int | None, rng: random.Random, ts: int) -> Match:
    if click is None:
        return Match(
            attributed=False,
            model="default.1",
            reason=rng.choice(["no_candidate", "below_threshold"]),
            best=31,
            evidence=[Evidence("prior", "clicks_in_window", -14.2, 18_211.0), Evidence("ip", "equal", 3.1, 40.0)],
            log_odds_bits=-11.1,
        )
    if rng.random() < 0.7:
        return Match(
            attributed=True,
            model="default.1",
            click=click,
            confidence=98,
            method="visitor_id",
            tier="device",
            deterministic=True,
            strong=True,
            evidence=[Evidence("visitor_id", "equal", 5.6)],
            log_odds_bits=5.6,
            p_any=0.98,
            path=[click],
            click_ts=ts - 3_000_000,
        )
    return Match(
        attributed=True,
        model="default.1",
        click=click,
        confidence=84,
        method="probabilistic",
        tier="inferred",
        evidence=[
            Evidence("prior", "clicks_in_window", -15.4, 18_211.0),
            Evidence("ip", "equal", 10.9, 2.0),
            Evidence("user_agent", "same_ios_version_other_shell", 2.2),
            Evidence("time", "<1h", 4.7),
        ],
        log_odds_bits=2.4,
        p_any=0.87,
        rivals=[Rival(3, 0.06)],
        alternatives=2,
        path=[click],
        click_ts=ts - 3_000_000,
    )
