"""What the commands ask: one plain call each, in a process that reads and nothing else (never beside apsw)."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, BinaryIO, Final

from msgspec import Struct, structs

from collector.config import Config
from collector.core.days import Days
from collector.core.shops.counted import Line
from collector.core.weekly import Week
from collector.errors import Damaged, NoSchema
from collector.storage.ground import acknowledged, damage
from collector.storage.reports import export as exports
from collector.storage.reports import insights
from collector.storage.reports.attribution import Question, Report
from collector.storage.reports.attribution import attribution as shared
from collector.storage.reports.explain import explain as explained
from collector.storage.reports.health import Facts
from collector.storage.reports.health import facts as found
from collector.storage.reports.live import Follower, Kind
from collector.storage.reports.names import public_ids
from collector.storage.reports.orders import of_order
from collector.storage.reports.questions import STORE, Reading, named
from collector.storage.reports.reader import DEADLINE_SECONDS, Reader, database
from collector.storage.reports.reconcile import By, sums, unknown_to_the_shop
from collector.storage.reports.shop_ways import ways
from collector.storage.reports.status import Clock, Figures, Status
from collector.storage.reports.status import clock as believed
from collector.storage.reports.status import figures as summed_up
from collector.storage.reports.status import status as stand
from collector.storage.reports.weekly import weekly as of_a_week

_CHECK_SECONDS: Final = 0.5  # of SQLite's quick_check before an answer; `status` has a tenth of a second in all


@asynccontextmanager
async def _whole(
    config: Config, deadline_seconds: float = DEADLINE_SECONDS, *, check: bool = True
) -> AsyncIterator[Reader]:
    """A reader of a database that has lost nothing; Damaged where something is missing: no answer is a shorter one."""
    path = database(config.storage.data_dir)
    damage.refuse(path.parent)
    noted = acknowledged.read(path.parent)[acknowledged.EDGE]
    async with Reader(path, deadline_seconds=deadline_seconds) as reader:
        if gone := [missing for table, number in noted.rows() if (missing := await _missing(reader, table, number))]:
            raise Damaged(damage.missing(path, gone))
        await reader.refuse_a_short_file()
        if check:
            await reader.quick_check(_CHECK_SECONDS)
        yield reader


@asynccontextmanager
async def _read(
    config: Config, deadline_seconds: float = DEADLINE_SECONDS, *, check: bool = True
) -> AsyncIterator[Reading]:
    """What reads the engine that is configured."""
    if config.storage.engine == "postgres":
        from collector.storage.postgres.reading import reading

        async with reading(config.storage, "collector command", deadline_seconds) as asked:
            yield asked
    else:
        async with _whole(config, deadline_seconds, check=check) as reader:
            yield reader


async def _missing(reader: Reader, table: str, number: int) -> damage.Missing | None:
    """What is gone of a table that must have rows up to this number."""
    try:
        row = await reader.one(f"SELECT max(id) FROM {table}")
    except NoSchema:
        row = None
    newest = (row and row[0]) or 0
    return damage.Missing(table, newest, number) if newest < number else None


Progress = Callable[[int, float], None]  # rows so far, share done (0..1)


def status(config: Config, now: int) -> Status:
    """The state of the installation at `now` (ms). StorageError when there is no store yet."""

    async def ask() -> Status:
        async with _whole(config, 20, check=False) as reader:
            found = await stand(reader, now, config.matching.threshold)
            found.shops = await ways(reader, config, now)
            found.insights = await insights.state(reader, config)
            return found

    return asyncio.run(ask())


def figures(config: Config, now: int) -> Figures:
    """What the sums tell at `now` (ms)."""

    async def ask() -> Figures:
        async with _read(config, 20, check=False) as reader:
            found = await summed_up(reader, now, config.matching.threshold)
            found.shops = await ways(reader, config, now)
            found.insights = await insights.state(reader, config)
            return found

    return asyncio.run(ask())


def clock(config: Config, now: int) -> Clock:
    """What time is believed on this machine. StorageError when there is no store yet."""

    async def ask() -> Clock:
        async with _read(config) as reader:
            return await believed(reader, now, socket.gethostname())

    return asyncio.run(ask())


def explain(config: Config, conversion_id: str) -> dict[str, Any] | None:
    """Why a conversion was or was not attributed, and what Meta said; None when there is no such conversion.

    A Purchase may also be named by its order id.
    """

    async def ask() -> dict[str, Any] | None:
        async with _read(config) as reader:
            ids, wanted = await public_ids(reader, config), conversion_id
            if not wanted.startswith("conv_"):
                found = await of_order(reader, config, wanted, ())
                wanted = ids.public("conv", found[-1]) if found else wanted
            return await explained(reader, ids, wanted, config.matching.threshold)

    return asyncio.run(ask())


@asynccontextmanager
async def following(config: Config, *, store: str | None, kinds: set[Kind]) -> AsyncIterator[Follower]:
    """A follower of what happens. StorageError when there is no store yet."""
    async with _read(config, check=False) as reader:
        known = config.store_by_id(store) if store else None
        pixels = [pixel.id for pixel in known.pixel] if known else []
        yield Follower(reader, await public_ids(reader, config), store=store, pixels=pixels, kinds=kinds)


def attribution(config: Config, question: Question) -> Report:
    """Orders shared out over campaigns, ads, pages or days under a credit model."""

    async def ask() -> Report:
        async with _read(config, 30) as reader:
            return await shared(reader, question, config)

    return asyncio.run(ask())


def weekly(config: Config, days: Days, store: str | None) -> Week:
    """A week of one shop, or of each, beside the one before."""

    async def ask() -> Week:
        async with _read(config, 30) as reader:
            return await of_a_week(reader, config, days, store)

    return asyncio.run(ask())


class Reconciled(Struct, frozen=True):
    """The sums, and by store what stands beside them, in sentences (C3)."""

    lines: list[Line]
    notes: dict[str, list[str]]


def reconcile(config: Config, since: int, until: int, *, store: str | None, by: By) -> Reconciled:
    """The shops' own orders beside what Meta was sent, from `since` to `until` (ms)."""

    async def ask() -> Reconciled:
        async with _read(config, 30) as reader:
            lines = await sums(reader, config, since, until, store=store, by=by)
            stores = sorted({line.store for line in lines})
            return Reconciled(lines, {one: await _notes(reader, one, lines, since, until) for one in stores})

    return asyncio.run(ask())


_LISTED: Final = 20
_COUNTED: Final = named(
    "counted beside a shop's orders",
    "SELECT name, sum(n) FROM counter WHERE store = ? AND day >= ? AND name IN (?, ?) GROUP BY name",
)
_NOTED: Final = named(
    "noted of a shop",
    """
SELECT called FROM shop_note WHERE store = (SELECT id FROM store WHERE name = ?) AND kind = ? AND at >= ? AND at < ?
 ORDER BY at DESC LIMIT ?""",
)


async def _notes(reader: Reading, store: str, lines: list[Line], since: int, until: int) -> list[str]:
    row = await reader.one(STORE, store)
    unknown = await unknown_to_the_shop(reader, row[0], since, until) if row else 0
    days = ("shop.name_conflict", "shop.value_differs")
    found = await reader.rows(_COUNTED, row[0], since // 86_400_000, *days) if row else []
    notes = []
    for name, n in found:
        kind = name.removeprefix("shop.")
        listed = await reader.rows(_NOTED, store, kind, since, until, _LISTED)
        notes.append(f"{kind}: {n} ({', '.join(called for (called,) in listed)})" if listed else f"{kind}: {n}")
    if unknown:
        notes.append(f"unknown to the shop: {unknown} purchases that no order of the shop matches")
    missing = max((line.missing for line in lines if line.store == store), default=0)
    if missing and unknown and abs(missing - unknown) <= max(missing, unknown) // 10:
        notes.append("as many are missing as are unknown: the page sends another order number; see order_key")
    return notes


def store_number(config: Config, store: str) -> int | None:
    """The row number of a store; None when it has no rows yet."""

    async def ask() -> int | None:
        async with _read(config) as reader:
            row = await reader.one(STORE, store)
            return row[0] if row else None

    return asyncio.run(ask())


def export(
    config: Config,
    what: exports.What,
    form: exports.Format,
    out: BinaryIO,
    *,
    store: str | None = None,
    progress: Progress | None = None,
) -> int:
    """Write clicks, conversions or deliveries to `out`; how many rows. Beside a running keeper, in flat memory."""

    async def ask() -> int:
        total = 0
        async with _read(config, 30) as reader:
            ids = await public_ids(reader, config)
            async for chunk in exports.export(reader, ids, what, form, store=store):
                out.write(chunk.data)
                total += chunk.rows
                if progress is not None:
                    progress(total, chunk.done)
        return total

    return asyncio.run(ask())


def health(config: Config, now: int) -> Facts:
    """What the doctor asks. StorageError where the database cannot answer."""

    async def ask() -> Facts:
        async with _read(config) as reader:
            return structs.replace(await found(reader, now), insights=await insights.state(reader, config))

    return asyncio.run(ask())
