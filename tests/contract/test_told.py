"""What commands tell, on both engines: an order explained, everything exported, credit shared out."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from collector.storage.postgres.told import SQL
from collector.storage.reports import commands
from collector.storage.reports.attribution import Question
from tests.kit.courier_kit import now_ms
from tests.kit.journal_kit import DAY, HOUR, NOW, Kit, click, order
from tests.kit.journal_kits import PostgresKit
from tests.kit.postgres import Database

PAGE = "https://shop.example/?utm_source=fb&utm_campaign={}"


def everything_is_old(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever this machine's clock says of the tests' time."""
    for name, sql in SQL.items():
        monkeypatch.setitem(SQL, name, sql.replace("seen_ms()", str((1 << 41) - 1)))


@pytest.fixture(params=["sqlite", "postgres"])
def kit(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kit]:
    """Three orders, two of them with a click of another campaign each, and a Lead."""
    everything_is_old(monkeypatch)
    database: Database | None = request.getfixturevalue("database") if request.param == "postgres" else None
    with PostgresKit(database, tmp_path) if database is not None else Kit(tmp_path) as kit:
        for n, campaign in ((1, "spring"), (2, "summer")):
            kit.post(click(f"IwARnumber{n}000", NOW - HOUR, visitorId=f"v{n}", landingPage=PAGE.format(campaign)))
            kit.post(order(f"A{n}", visitorId=f"v{n}", eventValue=10 * n))
        kit.post(order("A3", visitorId="v3", eventValue=40, customerData={"email": "ada@example.com"}))
        kit.post(order("L1", visitorId="v1", eventType="Lead"))
        yield kit


def told(kit: Kit, order_id: str) -> dict[str, Any]:
    found = commands.explain(kit.config, order_id)
    assert found is not None
    return found


def exported(kit: Kit, what: str) -> list[dict[str, Any]]:
    out = io.BytesIO()
    commands.export(kit.config, what, "ndjson", out)  # type: ignore[arg-type]
    return [msgspec.json.decode(line) for line in out.getvalue().splitlines()]


def test_an_order_is_explained_by_its_number_and_by_its_id(kit: Kit) -> None:
    found = told(kit, "A1")
    assert (found["orderId"], found["attributed"], found["method"]) == ("A1", True, "visitor_id")
    assert (found["capiStatus"], [one["status"] for one in found["deliveries"]]) == ("queued", ["queued"])
    assert told(kit, found["conversionId"]) == found
    assert told(kit, "A3")["attributed"] is False
    assert commands.explain(kit.config, "A9") is None


def test_everything_is_exported_in_the_order_of_its_coming(kit: Kit) -> None:
    orders = exported(kit, "conversions")
    assert [one["orderId"] for one in orders] == ["A1", "A2", "A3", "L1"]
    clicks = exported(kit, "clicks")
    assert [one["campaign"] for one in clicks] == ["spring", "summer"]
    assert [one["clickId"] for one in orders[:2]] == [one["clickId"] for one in clicks]
    assert [one["status"] for one in exported(kit, "deliveries")] == ["queued"] * 4
    assert {one["conversionId"] for one in exported(kit, "deliveries")} == {one["conversionId"] for one in orders}


@pytest.mark.parametrize("model", ["last", "linear"])
def test_credit_is_shared_out_over_campaigns(kit: Kit, model: Any) -> None:
    asked = Question(model=model, by="campaign", since=NOW - DAY, until=NOW + DAY)
    report = commands.attribution(kit.config, asked)
    assert report.orders == 3
    assert [(one.label, one.conversions, int(one.value)) for one in report.lines] == [
        ("spring", 1.0, 10),
        ("summer", 1.0, 20),
        ("(not attributed)", 1.0, 40),
    ]
    leads = commands.attribution(kit.config, msgspec.structs.replace(asked, event_type="Lead"))
    assert [(one.label, one.conversions) for one in leads.lines] == [("spring", 1.0)]


def test_what_has_happened_is_told_once(kit: Kit) -> None:
    opening = commands.following(kit.config, store=None, kinds={"click", "order", "event", "attempt"})
    with asyncio.Runner() as runner:
        tail = runner.run(opening.__aenter__())
        runner.run(tail.begin(NOW, 3))
        told = runner.run(tail.step(NOW))
        assert [item["kind"] for item in told if item["kind"] != "click"] == ["order", "order", "event"]
        assert {item["campaign"] for item in told if item["kind"] == "click"} == {"spring", "summer"}
        assert runner.run(tail.step(NOW)) == []
        kit.now = NOW + HOUR
        kit.post(click("IwARnumber3000", NOW, visitorId="v4", landingPage=PAGE.format("autumn")))
        assert [item["campaign"] for item in runner.run(tail.step(NOW))] == ["autumn"]
        runner.run(opening.__aexit__(None, None, None))


def test_what_another_keeper_may_still_come_before_is_not_exported_yet(
    tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL alone: rows of two keepers do not become visible in the order of their ids."""
    with PostgresKit(database, tmp_path, now=now_ms() + HOUR) as kit:
        kit.post(click("IwARnumber1000", kit.now - HOUR, landingPage=PAGE.format("spring")))
        assert exported(kit, "clicks") == []
        everything_is_old(monkeypatch)
        assert [one["campaign"] for one in exported(kit, "clicks")] == ["spring"], "control"
