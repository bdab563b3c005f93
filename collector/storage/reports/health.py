"""What `collector doctor` asks the database: facts, each by one short question; what they mean is judged elsewhere."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from collector.core.flags import UNCOUNTED
from collector.storage.ground.pepper import WITNESS_SQL, Witness
from collector.storage.reports import delivery
from collector.storage.reports.delivery import Heartbeat, Pixel, Waiting
from collector.storage.reports.reader import Reader
from collector.storage.reports.status import Clock, clock

_DAY_MS: Final = 86_400_000
_NEWEST: Final = 100_000  # rows of each table are looked at, so that the answer comes at once at any size
_ADDRESSES: Final = 200

_KEYS: Final = "SELECT kind, coalesce(store, '') FROM api_key WHERE revoked IS NULL"
_CLICKS: Final = f"""
SELECT coalesce(s.name, ''), max(c.received) FROM click c LEFT JOIN store s ON s.id = c.store
 WHERE c.id > ? AND c.flags & {UNCOUNTED} = 0 GROUP BY c.store"""
_ORDERS: Final = """
SELECT coalesce(s.name, ''), max(c.received), sum(o.state = 2 AND o.settled IS NULL), count(*)
  FROM conversion c LEFT JOIN store s ON s.id = c.store LEFT JOIN outbox o ON o.conversion = c.id
 WHERE c.id > ? AND c.event_type = 'Purchase' GROUP BY c.store"""
_WEBHOOKS: Final = """
SELECT coalesce(s.name, ''), d.webhook, max(d.at) FROM shop_delivery d LEFT JOIN store s ON s.id = d.store
 GROUP BY d.store, d.webhook"""
_DAILY: Final = "SELECT count(*) FROM {} WHERE id > ? AND received >= ?"


class Orders(Struct, frozen=True):
    """A store's newest purchases: when the last came (ms), how many wait to be confirmed, of how many."""

    last: int
    held: int
    n: int


class Facts(Struct, frozen=True, kw_only=True):
    """The database as the doctor found it."""

    schema: int
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


async def facts(reader: Reader, now: int) -> Facts:
    """Everything at `now` (ms)."""
    named = await reader.one(WITNESS_SQL)
    requests = delivery.Requests()
    await requests.refresh(reader)
    orders = {row[0]: Orders(*row[1:]) for row in await reader.rows(_ORDERS, await _from(reader, "conversion"))}
    return Facts(
        schema=((await reader.one("PRAGMA user_version")) or (0,))[0],
        witness=Witness(named[0], bool(named[1])) if named else Witness(None, named=False),
        clock=await clock(reader, now),
        beats=await delivery.heartbeats(reader),
        waiting=await delivery.waiting(reader),
        pixels=await delivery.pixels(reader),
        successes=requests.last_success,
        dead=await delivery.dead_since(reader, now - _DAY_MS),
        keys={(kind, store) for kind, store in await reader.rows(_KEYS)},
        clicks=dict(await reader.rows(_CLICKS, await _from(reader, "click"))),
        orders=orders,
        webhooks={(row[0], row[1]): row[2] for row in await reader.rows(_WEBHOOKS)},
        addresses=await _addresses(reader),
        bytes_a_day=await _growth(reader, now),
    )


async def _from(reader: Reader, table: str) -> int:
    row = await reader.one(f"SELECT max(id) FROM {table}")
    return max(0, ((row and row[0]) or 0) - _NEWEST)


async def _addresses(reader: Reader) -> list[str]:
    sql = "SELECT ip FROM click_network WHERE ip IS NOT NULL ORDER BY id DESC LIMIT ?"
    return [ip for (ip,) in await reader.rows(sql, _ADDRESSES)]


async def _growth(reader: Reader, now: int) -> int:
    """Bytes a day: the last day's rows, each as large as the file's average."""
    today = total = 0
    for table in ("click", "conversion"):
        day = await reader.one(_DAILY.format(table), await _from(reader, table), now - _DAY_MS)
        span = await reader.one(f"SELECT (SELECT max(id) FROM {table}), (SELECT min(id) FROM {table})")
        today += day[0] if day else 0
        total += span[0] - span[1] + 1 if span and span[0] is not None else 0
    return reader.size() * today // total if total else 0
