"""Export: the API's own names, spreadsheets that stay data, short transactions beside a running writer."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
from decimal import Decimal
from pathlib import Path

import pytest

from collector.core import flags
from collector.storage.reports import commands, export
from collector.storage.reports.cells import cell
from collector.storage.reports.reader import Reader
from tests.kit.console_process import make_config
from tests.kit.console_store import IDS, NOW, PIXEL, add_click, add_conversion, make_store

FORMULAS = [
    "=1+1",
    "+1",
    "-1",
    "@SUM(A1)",
    "\tx",
    "\rx",
    "\nx",
    '=HYPERLINK("http://evil.example","x")',
    "=cmd|' /C calc'!A0",
]


def _ndjson(data_dir: Path, what: export.What, **options: str) -> list[dict[str, object]]:
    out = io.BytesIO()
    rows = commands.export(make_config(data_dir), what, "ndjson", out, **options)  # type: ignore[arg-type]
    lines = out.getvalue().decode().splitlines()
    assert len(lines) == rows
    return [json.loads(line, parse_float=Decimal) for line in lines]


def _csv(data_dir: Path, what: export.What) -> list[dict[str, str]]:
    out = io.BytesIO()
    rows = commands.export(make_config(data_dir), what, "csv", out)
    text = out.getvalue().decode()
    assert text.count("\r\n") >= rows + 1
    found = list(csv.DictReader(io.StringIO(text, newline="")))
    assert len(found) == rows
    return found


def test_clicks_conversions_and_deliveries_come_in_the_apis_names(tmp_path: Path) -> None:
    make_store(tmp_path).close()
    ids = IDS
    clicks, conversions, deliveries = (_ndjson(tmp_path, what) for what in ("clicks", "conversions", "deliveries"))
    assert (len(clicks), len(conversions), len(deliveries)) == (400, 120, 120)
    assert clicks[0]["clickId"] == ids.public("click", 1)
    assert {"fbclid", "storeId", "landingPage", "timestamp", "visitorId", "fbp"} <= set(clicks[0])
    first = conversions[0]
    assert first["conversionId"] == ids.public("conv", 1)
    assert {"storeId", "eventType", "orderId", "eventValue", "currency", "attributed", "capiStatus", "eventId"} <= set(
        first
    )
    credited = next(c for c in conversions if c["attributed"])
    assert isinstance(credited["attributedTo"], dict)
    assert credited["attributedTo"]["clickId"] == credited["clickId"]
    assert {"confidenceScore", "method", "clickAgeSeconds", "fbclid", "evidence"} <= set(credited["attributedTo"])
    assert deliveries[0]["conversionId"] == ids.public("conv", 1)
    assert deliveries[0]["pixel"] == PIXEL
    assert {len(set(map(tuple, map(sorted, rows)))) for rows in (clicks, conversions, deliveries)} == {
        1
    }  # the same keys


def test_money_is_exact(tmp_path: Path) -> None:
    db = make_store(tmp_path, clicks=0, conversions=0)
    for i, value in enumerate(("0.10", "1234567890123.45", "10", "0")):
        add_conversion(db, NOW, order=str(i), value=Decimal(value))
    assert [str(row["eventValue"]) for row in _ndjson(tmp_path, "conversions")] == [
        "0.10",
        "1234567890123.45",
        "10",
        "0",
    ]
    assert [row["eventValue"] for row in _csv(tmp_path, "conversions")] == ["0.10", "1234567890123.45", "10", "0"]


def test_personal_data_is_named_by_kind_and_never_written(tmp_path: Path) -> None:
    make_store(tmp_path).close()
    out = io.BytesIO()
    commands.export(make_config(tmp_path), "conversions", "ndjson", out)
    assert b"abababab" not in out.getvalue()  # the hashes of the fixture
    assert any("em" in row["customerDataKinds"] for row in _ndjson(tmp_path, "conversions"))  # type: ignore[operator]


@pytest.mark.parametrize("text", FORMULAS)
def test_a_cell_cannot_become_a_formula(tmp_path: Path, text: str) -> None:
    db = make_store(tmp_path, clicks=0, conversions=0)
    add_conversion(db, NOW, order=text)
    add_click(db, NOW, landing_page=text)
    for what, column in (("conversions", "orderId"), ("clicks", "landingPage")):
        (row,) = _csv(tmp_path, what)  # type: ignore[arg-type]
        assert row[column] == "'" + text
    (line,) = _ndjson(tmp_path, "conversions")
    assert line["orderId"] == text  # data for programs stays as it is


def test_cells_follow_rfc_4180_and_numbers_stay_numbers() -> None:
    assert [cell(v) for v in (None, True, 5, -5, Decimal("-1.50"), Decimal("1E+3"))] == [
        "",
        "true",
        "5",
        "-5",
        "-1.50",
        "1000",
    ]
    assert cell('a "b", c') == '"a ""b"", c"'
    assert cell("two\r\nlines") == '"two\r\nlines"'
    assert cell(["a", "b"]) == '"[""a"",""b""]"'


def test_any_text_survives_a_csv_round_trip(tmp_path: Path) -> None:
    db = make_store(tmp_path, clicks=0, conversions=0)
    texts = ['quote " comma , end', "naïve ☃ 漢字", "line\nbreak", "'already", " leading space", '"', ",,,"]
    for text in texts:
        add_conversion(db, NOW, order=text)
    assert [row["orderId"] for row in _csv(tmp_path, "conversions")] == texts


def test_bots_and_refusals_are_exported_with_their_reason(tmp_path: Path) -> None:
    db = make_store(tmp_path, clicks=0, conversions=0)
    add_click(db, NOW, marks=flags.DENIED)
    add_click(db, NOW, marks=flags.BOT)
    add_click(db, NOW)
    assert [(row["tracked"], row["reason"]) for row in _ndjson(tmp_path, "clicks")] == [
        (False, "consent"),
        (False, "bot"),
        (True, None),
    ]


def test_one_store_alone(tmp_path: Path) -> None:
    db = make_store(tmp_path)
    for what, table in (("clicks", "click"), ("conversions", "conversion")):
        rows = _ndjson(tmp_path, what, store="store_zurich")  # type: ignore[arg-type]
        assert len(rows) == db.execute(f"SELECT count(*) FROM {table} WHERE store = 2").fetchone()[0]
        assert {row["storeId"] for row in rows} == {"store_zurich"}
    assert _ndjson(tmp_path, "clicks", store="store_nowhere") == []


def test_an_empty_store_gives_an_empty_file_and_a_csv_its_header(tmp_path: Path) -> None:
    make_store(tmp_path, clicks=0, conversions=0).close()
    assert _ndjson(tmp_path, "clicks") == []
    out = io.BytesIO()
    commands.export(make_config(tmp_path), "clicks", "csv", out)
    assert out.getvalue().startswith(b"clickId,storeId,fbclid,")
    assert out.getvalue().count(b"\r\n") == 1


async def test_rows_that_arrive_meanwhile_are_left_out_and_the_log_can_be_folded_between_pages(tmp_path: Path) -> None:
    db: sqlite3.Connection = make_store(tmp_path, clicks=3500, conversions=0)
    rows = 0
    async with Reader(tmp_path / "collector.db") as reader:
        async for chunk in export.export(reader, IDS, "clicks", "ndjson"):
            rows += chunk.rows
            for _ in range(500):
                add_click(db, NOW)
            assert db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
    assert rows == 3500
    assert chunk.done == 1.0


def test_progress_is_told(tmp_path: Path) -> None:
    make_store(tmp_path, clicks=2500).close()
    told: list[tuple[int, float]] = []
    commands.export(
        make_config(tmp_path), "clicks", "csv", io.BytesIO(), progress=lambda n, done: told.append((n, done))
    )
    assert told[0] == (0, 0.0)
    assert told[-1] == (2500, 1.0)
    assert told == sorted(told)
