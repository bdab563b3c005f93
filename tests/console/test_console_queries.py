"""No page, metric, export or command walks through a whole table: each question's plan is looked at."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from collector.console import campaigns, delivery, events, left_out, order, orders, today, trust
from collector.console.bar import Asked
from collector.console.metrics import metrics_text
from collector.console.shell import Desk
from collector.storage.reports.attribution import Question, attribution
from collector.storage.reports.explain import explain
from collector.storage.reports.export import export
from collector.storage.reports.reader import Reader, Row
from collector.storage.reports.status import status
from tests.kit.console_process import make_config
from tests.kit.console_store import IDS, NOW, make_store

# Small tables, which may be walked through; the others grow with the traffic.
SMALL = {"refusal", "total", "step", "store", "json_each", "event_name", "pixel", "pixel_state", "heartbeat", "model"}
SMALL |= {"s", "p", "m", "found", "sold"}  # under their short names


async def _asked(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, tuple[object, ...]]]:
    asked: list[tuple[str, tuple[object, ...]]] = []
    rows = Reader.rows

    async def listening(self: Reader, sql: str, *params: object) -> list[Row]:
        asked.append((sql, params))
        return await rows(self, sql, *params)

    monkeypatch.setattr(Reader, "rows", listening)
    config = make_config(data_dir)
    ids = IDS
    async with Reader(data_dir / "collector.db") as reader:
        desk = Desk(config, reader, lambda: NOW)
        month = Asked(range="28")
        await today.today(desk, month)
        await orders.orders(desk, month, orders.Filters(), "")
        async for _ in await orders.orders_csv(desk, month, orders.Filters()):
            pass
        await events.last(desk, "")
        await order.order_page(desk, ids.public("conv", 1))
        await events.click(desk, ids.public("click", 1))
        await campaigns.campaigns(desk, month, "campaign", "")
        await delivery.delivery_page(desk, month, "")
        await trust.trust_page(desk, month)
        await left_out.left_out(desk, month)
        await metrics_text(desk)
        await status(reader, NOW, 50)
        await explain(reader, ids, ids.public("conv", 1), 50)
        for what in ("clicks", "conversions", "deliveries"):
            async for _ in export(reader, ids, what, "csv"):  # type: ignore[arg-type]
                pass
        await attribution(reader, Question(model="linear", by="campaign", since=0, until=NOW))
    return asked


def _walks(db: sqlite3.Connection, sql: str, params: tuple[object, ...]) -> list[str]:
    """The plan's steps that go through a growing table without an index or a row number."""
    plan = [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {sql}", params)]
    steps = [step for step in plan if step.startswith("SCAN ") and step.split()[1] not in SMALL]
    # `found` and `sold` are inner questions, whose own steps are here too; constant rows are a plot's columns. A walk
    # along a partial index of what waits or is dead is bounded by that, and LIMIT ends a walk by row number.
    return [
        step
        for step in steps
        if "USING INDEX outbox_d" not in step and not step.endswith(("CONSTANT ROW", "CONSTANT ROWS"))
    ]


async def test_no_question_walks_through_a_growing_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    db = make_store(tmp_path)
    asked = await _asked(tmp_path, monkeypatch)
    assert len({sql for sql, _ in asked}) > 25
    walks = {sql: found for sql, params in asked if (found := _walks(db, sql, params))}
    assert walks == {}


def test_the_control_sees_a_walk(tmp_path: Path) -> None:
    db = make_store(tmp_path)
    # What once made each refresh read the whole table: one aggregate may jump to an end, two together may not.
    assert _walks(db, "SELECT max(id), min(id) FROM click", ()) == ["SCAN click"]
    assert _walks(db, "SELECT count(*) FROM conversion WHERE ts > 5", ()) == ["SCAN conversion"]
