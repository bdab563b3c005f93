"""D5: names told by pages are 64 a store for all time, then "(other)"; standard and servers' names never are."""

from __future__ import annotations

import asyncio
import sqlite3
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from collector.core.event_names import STANDARD
from collector.core.intake import Caller
from collector.storage.ground import event_names
from collector.storage.reports.folds import OTHER
from collector.storage.reports.reader import Reader
from collector.storage.reports.totals import Totals
from tests.kit.journal_kit import NOW, STORE, Kit

PAGE = Caller(
    secret=False, address="93.184.216.34", user_agent="Mozilla/5.0 (Windows NT 10.0; Win64; x64) Firefox/127.0"
)


def event(name: str, number: int = 0) -> dict[str, Any]:
    return {"storeId": STORE, "eventType": name, "eventId": f"{name}-{number}"}


def tell(kit: Kit, *names: str, by_page: bool = True) -> None:
    for name in names:
        kit.submit([kit.operation(event(name, kit.now), PAGE)] if by_page else [kit.operation(event(name, kit.now))])
        kit.now += 1


def shown(folder: Path) -> set[str]:
    """The event types of the reports, as a console that has just been started shows them."""

    async def read() -> set[str]:
        found = Totals()
        async with Reader(folder / "collector.db") as reader:
            assert await found.refresh(reader, NOW, budget_seconds=60)
        return {key.event_type for key in found.signals(0)}

    return asyncio.run(read())


FIRST = [f"Page {n}" for n in range(event_names.MOST_BY_PAGES)]
MORE = [f"Flood {n}" for n in range(40)]


def test_D5_the_first_names_of_pages_stay_and_a_flood_is_other_over_restarts(tmp_path: Path) -> None:
    with Kit(tmp_path) as kit:
        tell(kit, *FIRST, *MORE)
        assert shown(tmp_path) == {*FIRST, OTHER}
    with Kit(tmp_path) as kit:
        tell(kit, "One more", FIRST[0], "lead")
        assert shown(tmp_path) == {*FIRST, OTHER, "Lead"}
        assert kit.rows("SELECT count(*) FROM event_name") == [(event_names.MOST_BY_PAGES,)]
        assert ("One more",) in kit.rows("SELECT event_type FROM conversion"), "Meta gets each by its own name"


def test_D5_servers_and_metas_names_are_never_other(tmp_path: Path) -> None:
    with Kit(tmp_path) as kit:
        tell(kit, *FIRST, *MORE)
        tell(kit, "Server A", "Server B", MORE[0], by_page=False)
        tell(kit, *sorted(STANDARD - {"Purchase"}))
        tell(kit, "Server A", MORE[1])
    with Kit(tmp_path) as kit:
        tell(kit, "Server C", by_page=False)
        tell(kit, "Not a 65th")
        assert shown(tmp_path) == {*FIRST, "Server A", "Server B", "Server C", MORE[0], OTHER} | STANDARD - {"Purchase"}


def test_D5_a_name_is_written_with_its_event_or_not_at_all(tmp_path: Path) -> None:
    with Kit(tmp_path) as kit:
        names = kit.transaction.conversions._event_names
        names.tell(1, "Rolled back", by_page=True)
        names.tell(1, "Kept", by_page=True)
        kit.journal._db.execute("DELETE FROM event_name WHERE name = 'Rolled back'")
        names.forget()
        names.tell(1, "Rolled back", by_page=True)
        assert {row[0] for row in kit.journal._db.execute("SELECT name FROM event_name")} == {
            "Rolled back",
            "Kept",
        }


def test_control_without_the_bound_every_name_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_names, "MOST_BY_PAGES", 1_000)
    with Kit(tmp_path) as kit:
        tell(kit, *FIRST, *MORE)
        assert shown(tmp_path) == {*FIRST, *MORE}


def test_what_an_installation_has_keeps_its_names(tmp_path: Path) -> None:
    """The migration takes the names in use, the commonest first, and no standard ones."""
    folder = resources.files("collector.storage").joinpath("migrations")
    with sqlite3.connect(tmp_path / "old.db") as db:
        for script in sorted(folder.iterdir(), key=lambda entry: entry.name):
            if script.name.endswith("event_name.sql"):
                break
            db.executescript(script.read_text())
        rows = [(f"Mine {n}",) for n in range(80) for _ in range(80 - n)] + [("Lead",)] * 500
        db.executemany(
            "INSERT INTO conversion (store, ts, received, event_type, ua_class, flags, capi, body, match)"
            " VALUES (1, 1, 1, ?, 0, 0, 0, x'', x'')",
            rows,
        )
        db.executescript(script.read_text())
        names = {name for (name,) in db.execute("SELECT name FROM event_name")}
    assert names == {f"Mine {n}" for n in range(64)}
