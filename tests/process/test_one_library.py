"""No process has a file open by apsw and by Python's SQLite at once: they share the kernel's locks, not their lists."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import apsw
import grimp
import pytest

from collector.storage.reports.reader import Reader
from tests.kit.far_sqlite import FarConnection, TwoLibraries
from tests.kit.journal_kit import Kit

LIBRARIES = {"apsw", "aiosqlite"}
# Proves a backup by apsw: a copy of its own that nobody else opens, after its report has closed the live file.
APART = {"collector.cli.doctor", "collector.cli.doctor.machine"}


def loading_both() -> list[str]:
    """Modules that lead to both. A command's process runs one module of `cli`, a part's process one `app`."""
    graph = grimp.build_graph("collector", include_external_packages=True, exclude_type_checking_imports=True)
    return [name for name in graph.modules if graph.find_upstream_modules(name) >= LIBRARIES]


def test_no_module_leads_to_both_libraries() -> None:
    assert set(loading_both()) <= APART


def test_control_the_graph_sees_both(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(__name__ + ".LIBRARIES", {"apsw", "msgspec"})
    assert "collector.cli.keys" in loading_both()


async def test_a_report_beside_a_journal_of_this_process_is_asked_by_another_process(tmp_path: Path) -> None:
    with Kit(tmp_path):
        async with Reader(tmp_path / "collector.db") as reader:
            assert await reader.one("SELECT count(*) FROM click") == (0,)
            assert reader._connection is not None
            assert isinstance(reader._connection._conn, FarConnection)


def test_control_what_apsw_has_open_is_refused_to_pythons_and_the_other_way_round(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with closing(apsw.Connection(str(path))) as db:
        db.execute("CREATE TABLE a (b)")
        with pytest.raises(TwoLibraries):
            sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    with closing(sqlite3.connect(path)), pytest.raises(TwoLibraries):
        apsw.Connection(str(path))
    with closing(apsw.Connection(str(path))) as db:
        assert db.execute("SELECT count(*) FROM a").get == 0
