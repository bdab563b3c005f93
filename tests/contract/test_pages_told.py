"""Every question has PostgreSQL's words, and the answers of both engines to one world are the same, to the cent."""

from __future__ import annotations

import ast
import importlib
import pkgutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import date
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from collector import console
from collector.config import Config
from collector.core.days import Days, begin, day_of
from collector.storage import reports
from collector.storage.postgres.reading import reading
from collector.storage.postgres.told import SQL
from collector.storage.reports import attribution, commands, decoys, delivery, digest, insights, kept, reconcile, trust
from collector.storage.reports.kept import Span
from collector.storage.reports.questions import Named, Reading
from collector.storage.reports.reader import Reader, database
from collector.storage.reports.totals import Totals
from tests.kit import postgres
from tests.kit.console_store import DAY_MS, NOW
from tests.kit.console_world import World, month
from tests.kit.moved import in_postgres

ZONE = ZoneInfo("Europe/Zurich")
CLICKS = 500
SPANS = {
    "a month": (NOW - 28 * DAY_MS, NOW + DAY_MS),
    "some hours": (NOW - 3_600_000 * 7, NOW),
    "two days": (NOW - 3 * DAY_MS - 45 * 60_000, NOW - DAY_MS + 30 * 60_000),
}


def whole(found: Any) -> Any:
    """Without what engines are free in: the order of rows of which no order is promised."""
    return sorted(found, key=repr) if isinstance(found, list) else found


def quarter(ms: int) -> int:
    return ms // kept.QUARTER_MS * kept.QUARTER_MS


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return month(tmp_path_factory.mktemp("world"), NOW, clicks=CLICKS)


@pytest.fixture(scope="module")
def moved(world: World, postgres_server: postgres.Node) -> Iterator[Config]:
    with in_postgres(world, postgres_server, "told_pages") as config:
        yield config


@asynccontextmanager
async def both(world: World, moved: Config) -> AsyncIterator[tuple[Reading, Reading]]:
    async with Reader(database(world.config.storage.data_dir)) as sqlite, reading(moved.storage, "test", 30) as other:
        yield sqlite, other


Question = Callable[[Reading, World, Span], Awaitable[Any]]


def begins(span: Span) -> list[int]:
    days = Days(day_of(span.since, ZONE), day_of(span.until - 1, ZONE))
    return [max(begin(day, ZONE), span.since) for day in days.all()]


OF_SPANS: dict[str, Question] = {
    "sales by step": lambda r, w, s: kept.sales_by_step(r, s, "Purchase", begins(s)),
    "sales by place": lambda r, w, s: kept.sales_by_place(r, s, "Purchase"),
    "by tier": lambda r, w, s: kept.by_tier(r, s, "Purchase"),
    "leads by tier": lambda r, w, s: kept.by_tier(r, s, "Lead"),
    "events": lambda r, w, s: kept.events(r, s),
    "sales": lambda r, w, s: kept.sales(r, s),
    "clicks": lambda r, w, s: kept.clicks(r, s),
    "clicks by step": lambda r, w, s: kept.clicks_by_step(r, s, begins(s)),
    "clicks by place": lambda r, w, s: kept.clicks_by_place(r, s),
    "kept apart": lambda r, w, s: kept.kept_apart(r, s),
    "deliveries": lambda r, w, s: kept.deliveries(r, s, "Purchase"),
    "all deliveries": lambda r, w, s: kept.deliveries(r, s, "Purchase", sales=False),
    "deliveries by step": lambda r, w, s: kept.deliveries_by_step(r, s, "Purchase", begins(s)),
    "waits by step": lambda r, w, s: kept.waits_by_step(r, s.until, begins(s)),
    "states": lambda r, w, s: kept.states(r, s),
    "causes": lambda r, w, s: delivery.causes(r, s, "Purchase"),  # type: ignore[arg-type]
    "causes of custom events": lambda r, w, s: delivery.causes(r, s, kept.CUSTOM),  # type: ignore[arg-type]
    "places": lambda r, w, s: kept.places(r, range(40)),
    "digest": lambda r, w, s: digest.digest(r, s, _days(s), ZONE, spend=w.config),
    "spend by line": lambda r, w, s: insights.by_line(r, w.config, _days(s), s),
    "spend": lambda r, w, s: insights.total(r, w.config, _days(s)),
    "reconcile": lambda r, w, s: reconcile.counted(r, w.config, s.since, s.until),
    "reconcile by reason": lambda r, w, s: reconcile.counted(r, w.config, s.since, s.until, by="reason"),
    "reconcile by channel": lambda r, w, s: reconcile.counted(r, w.config, s.since, s.until, by="channel"),
    "missing": lambda r, w, s: reconcile.missing(r, w.config.store[0], s.since, s.until),
    "unknown to the shop": lambda r, w, s: reconcile.unknown_to_the_shop(r, 1, s.since, s.until),
    "newest purchases": lambda r, w, s: attribution.newest_from(r, _asked(s), 20),
}


def _days(span: Span) -> Days:
    return Days(day_of(span.since, ZONE), day_of(span.until - 1, ZONE))


def _asked(span: Span, by: Any = "campaign", model: Any = "linear") -> attribution.Question:
    return attribution.Question(model=model, by=by, since=span.since, until=span.until, window_days=90)


@pytest.mark.parametrize("stores", [(1, 2, 3), (2,), ()], ids=len)
@pytest.mark.parametrize("span", SPANS)
async def test_both_engines_tell_the_same_of_a_span(
    world: World, moved: Config, span: str, stores: tuple[int, ...]
) -> None:
    one = Span(stores, *map(quarter, SPANS[span]))
    said = 0
    async with both(world, moved) as (sqlite, other):
        for name, question in OF_SPANS.items():
            wanted = whole(await question(sqlite, world, one))
            assert whole(await question(other, world, one)) == wanted, name
            said += bool(wanted)
    assert said > (20 if stores == (1, 2, 3) else 6) or span != "a month", "they say something"


@pytest.mark.parametrize("by", ["campaign", "source", "adset", "ad", "landing-page", "day"])
def test_credit_is_shared_out_alike(world: World, moved: Config, by: Any) -> None:
    question = _asked(Span((1,), *SPANS["a month"]), by, "position")
    wanted = commands.attribution(world.config, question)
    assert commands.attribution(moved, question) == wanted
    assert wanted.orders > 50


def test_commands_report_alike(world: World, moved: Config) -> None:
    since, until = SPANS["a month"]
    for by in ("day", "reason", "channel"):
        wanted = commands.reconcile(world.config, since, until, store=None, by=by)  # type: ignore[arg-type]
        assert commands.reconcile(moved, since, until, store=None, by=by) == wanted  # type: ignore[arg-type]
        assert wanted.lines
    days = Days(date(2026, 9, 14), date(2026, 9, 20))
    assert commands.weekly(moved, days, None) == commands.weekly(world.config, days, None)


async def test_trust_rests_on_the_same_labels_and_outcomes(world: World, moved: Config) -> None:
    async with both(world, moved) as (sqlite, other):
        since = NOW - 31 * DAY_MS
        assert await trust.labels(other, since) == await trust.labels(sqlite, since) != {}
        assert await decoys.counted(other, NOW, {1}) == await decoys.counted(sqlite, NOW, {1})
        here, there = Totals(), Totals()
        assert await here.refresh(sqlite, NOW, budget_seconds=60)
        assert await there.refresh(other, NOW, budget_seconds=60)
        assert there.signals(since) == here.signals(since) != {}
        assert there.outcomes(since) == here.outcomes(since) != {}


async def test_a_shops_day_is_told_alike(world: World, moved: Config) -> None:
    shop = world.config.store[0]
    async with both(world, moved) as (sqlite, other):
        day = day_of(world.sold[-20].ts, ZoneInfo(shop.timezone)).isoformat()
        pixel = shop.pixel[0].id
        wanted = await reconcile.orders_of_day(sqlite, shop, pixel, day)
        assert await reconcile.orders_of_day(other, shop, pixel, day) == wanted
        assert await reconcile.count_of_day(other, shop, day) == await reconcile.count_of_day(sqlite, shop, day)
        assert wanted


# -- the words themselves

_OF_SQLITE_ALONE = {"received from click"}


def _modules() -> Iterator[Any]:
    for package in (reports, console):
        for found in pkgutil.iter_modules(package.__path__):
            yield importlib.import_module(f"{package.__name__}.{found.name}")


def _told_by(value: Any) -> Iterator[str]:
    if isinstance(value, Named):
        yield value.name
    elif isinstance(value, dict):
        for one in value.values():
            yield from _told_by(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _told_by(one)


def _written(module: Any) -> Iterator[str]:
    """Names that stand in a call of `named`."""
    for node in ast.walk(ast.parse(Path(module.__file__).read_text())):
        called = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "named"
        if called and isinstance(node.args[0], ast.Constant):
            yield node.args[0].value


def names() -> set[str]:
    found = {name for module in _modules() for value in vars(module).values() for name in _told_by(value)}
    return found | {name for module in _modules() for name in _written(module)}


def test_every_question_has_words_for_postgresql() -> None:
    asked = names()
    assert len(asked) > 60
    assert asked - SQL.keys() <= _OF_SQLITE_ALONE


def test_control_a_question_without_words_is_noticed() -> None:
    assert "sales by step" in names(), "also of those that are made where they are asked"
    assert {"orders missing", "newest of click"} <= names()
