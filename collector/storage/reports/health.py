"""What `collector doctor` asks the database: facts, each by one short question; what they mean is judged elsewhere."""

from __future__ import annotations

from typing import Final, Literal

from msgspec import Struct

from collector.core.flags import UNCOUNTED
from collector.storage.ground.pepper import Witness
from collector.storage.reports import delivery
from collector.storage.reports.delivery import Heartbeat, Pixel, Waiting
from collector.storage.reports.insights import InsightState
from collector.storage.reports.names import WITNESS_SQL as WITNESS
from collector.storage.reports.questions import Reading, named
from collector.storage.reports.status import Clock, clock, never_given
from collector.storage.reports.totals import first_received
from collector.storage.rules.standing import Held

_HOUR_MS: Final = 3_600_000
_DAY_MS: Final = 86_400_000
_NEWEST: Final = 10_000  # clicks are looked at, so that the answer comes at once at any size
_ORDERS_NEWEST: Final = 2_000  # of each store: a page view is no order, and another store's is none
_ADDRESSES: Final = 200

_KEYS: Final = named("keys in force", "SELECT kind, coalesce(store, '') FROM api_key WHERE revoked IS NULL")
_CLICKS: Final = named(
    "newest clicks",
    f"""
SELECT coalesce(s.name, ''), max(c.received) FROM click c LEFT JOIN store s ON s.id = c.store
 WHERE c.id > (SELECT max(id) FROM click) - {_NEWEST} AND c.flags & {UNCOUNTED} = 0 GROUP BY c.store""",
)
# Before that, by the kept sums: another store's clicks are many. To the quarter of an hour.
_CLICKS_BEFORE: Final = named(
    "last clicks",
    """
SELECT name, (
       SELECT quarter * 900000 FROM click_quarter WHERE store = s.id AND n > 0 ORDER BY quarter DESC LIMIT 1) AS at
  FROM store s WHERE at IS NOT NULL""",
)
_STORES: Final = named("stores by number", "SELECT id, name FROM store")
# Each order once, however many pixels it goes to.
_ORDERS: Final = named(
    "last orders",
    """
SELECT max(received), coalesce(sum(held), 0), count(*)
  FROM (SELECT received, EXISTS (SELECT 1 FROM outbox WHERE conversion = c.id AND state = 2 AND settled IS NULL) AS held
          FROM conversion c WHERE event_type = 'Purchase' AND store = ? ORDER BY ts DESC LIMIT ?)""",
)
_IPS: Final = named("last addresses", "SELECT ip FROM click_network WHERE ip IS NOT NULL ORDER BY id DESC LIMIT ?")
_SCHEMA: Final = named("schema", "PRAGMA user_version")
_GROWN: Final = named(
    "clicks of a day",
    "SELECT total(n * (quarter >= 4 * ?)), total(n) FROM click_quarter",
)
_WEBHOOKS: Final = named(
    "last webhooks",
    """
SELECT coalesce(s.name, ''), d.webhook, max(d.at) FROM shop_delivery d LEFT JOIN store s ON s.id = d.store
 GROUP BY d.store, d.webhook""",
)


class Orders(Struct, frozen=True):
    """A store's newest purchases: when the last came (ms), how many wait to be confirmed, of how many."""

    last: int
    held: int
    n: int


class Facts(Struct, frozen=True, kw_only=True):
    """The database as the doctor found it."""

    schema: int
    held: Held
    witness: Witness
    clock: Clock
    beats: list[Heartbeat]
    waiting: list[Waiting]
    pixels: list[Pixel]
    successes: dict[str, int]  # when Meta last took events, by pixel; ms
    dead: int  # rejected or expired in the last day
    keys: set[tuple[str, str]]  # kind and store ("": all stores) of those in force
    clicks: dict[str, int]  # the last one's receipt by store; ms
    orders: dict[str, Orders]
    webhooks: dict[tuple[str, str], int]  # the last delivery by store and webhook; ms
    addresses: list[str]  # of the newest visitors
    bytes_a_day: int  # by which the database grows, as of its last day
    insights: InsightState | None = None  # of the ad account, where one is set


async def facts(reader: Reading, now: int) -> Facts:
    """Everything at `now` (ms)."""
    witness, held = await reader.one(WITNESS), await reader.held()
    return Facts(
        held=held,
        schema=((await reader.one(_SCHEMA)) or (0,))[0],
        witness=Witness(witness[0], bool(witness[1])) if witness else Witness(None, named=False),
        clock=await clock(reader, now),
        beats=await delivery.heartbeats(reader),
        waiting=await delivery.waiting(reader),
        pixels=await delivery.pixels(reader),
        successes=await delivery.last_success(reader),
        dead=await delivery.dead_since(reader, now - _DAY_MS),
        keys={(kind, store) for kind, store in await reader.rows(_KEYS)},
        clicks=await _clicks(reader),
        orders=await _orders(reader),
        webhooks={(row[0], row[1]): row[2] for row in await reader.rows(_WEBHOOKS)},
        addresses=await _addresses(reader),
        bytes_a_day=await _growth(reader, held, now),
    )


async def _clicks(reader: Reading) -> dict[str, int]:
    return {**dict(await reader.rows(_CLICKS_BEFORE)), **dict(await reader.rows(_CLICKS))}


async def _orders(reader: Reading) -> dict[str, Orders]:
    """By store; those that have any."""
    found = {name: await reader.one(_ORDERS, number, _ORDERS_NEWEST) for number, name in await reader.rows(_STORES)}
    return {name: Orders(*row) for name, row in found.items() if row and row[2]}


async def _addresses(reader: Reading) -> list[str]:
    return [ip for (ip,) in await reader.rows(_IPS, _ADDRESSES)]


async def _growth(reader: Reading, held: Held, now: int) -> int:
    """Bytes a day: the last day's rows, each as large as the file's average."""
    if reader.by_time:  # whose numbers count no rows
        row = await reader.one(_GROWN, (now - _DAY_MS) // _HOUR_MS)
        return held.bytes * row[0] // row[1] if row and row[1] else 0
    today = total = 0
    for table in ("click", "conversion"):
        row = await reader.one(f"SELECT (SELECT max(id) FROM {table}), (SELECT min(id) FROM {table})")
        if row and row[0] is not None:
            newest, oldest = row
            first = await first_received(reader, table, oldest, newest + 1, now - _DAY_MS)
            today += newest + 1 - first - await never_given(reader, table, first)
            total += newest + 1 - oldest - await never_given(reader, table, oldest)
    return held.bytes * max(today, 0) // total if total > 0 else 0


async def came(reader: Reading, table: Literal["click", "conversion"]) -> int:
    """How many rows ever came. Row numbers of a file are given in order of arrival, so the newest one counts them."""
    row = await reader.one(named("came", f"SELECT max(id) FROM {table} WHERE ? <> ''"), table)
    return (row and row[0]) or 0
