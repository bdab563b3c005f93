"""`collector import`: history with its true times; twice is once; a cut neither loses nor doubles."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from collector.cli import main
from collector.cli.importing import command, pieces
from collector.cli.importing.pieces import Shape, pieces_of
from collector.config import StorageConfig
from collector.core import times
from collector.core.capi.states import CapiState
from collector.storage.ground.database import connect
from tests.kit.harness import Installation
from tests.kit.program import ROOT
from tests.kit.simulators.graph import GraphSimulator

NOW = time.time_ns() // 1_000_000
DAY = 86_400_000
STORE = "store_abc123"


def at(days_ago: float) -> str:
    return times.text(NOW - int(days_ago * DAY))


def click(n: int, **more: Any) -> dict[str, Any]:
    fbclid = f"IwAR0history{n:08d}"
    return {"fbclid": fbclid, "storeId": STORE, "landingPage": "https://mystore.com/", "timestamp": at(20), **more}


def order(n: int, **more: Any) -> dict[str, Any]:
    buyer = {"customerData": {"email": f"p{n}@example.com"}, "userAgent": "Mozilla/5.0 (X11) Firefox/127.0"}
    money = {"eventValue": 10 + n, "currency": "USD", "ipAddress": "93.184.216.34", **buyer}
    return {"storeId": STORE, "eventType": "Purchase", "orderId": f"H{n}", "timestamp": at(19), **money, **more}


def page_view(n: int) -> dict[str, Any]:
    return {"storeId": STORE, "eventType": "PageView", "timestamp": at(18), "visitorId": f"v{n}"}


@pytest.fixture
def graph() -> Iterator[GraphSimulator]:
    with GraphSimulator() as simulator:
        yield simulator


@pytest.fixture
def place(tmp_path: Path, graph: GraphSimulator) -> Iterator[Installation]:
    installation = Installation(tmp_path, graph.url)
    yield installation
    installation.end()


Run = Callable[..., int]


@pytest.fixture
def run(place: Installation) -> Run:
    return lambda *words: main(["import", *map(str, words), "--config", str(place.config)])


def written(place: Installation, *lines: Any, name: str = "history.ndjson") -> Path:
    path = place.folder / name
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return path


def counts(place: Installation) -> tuple[int, int]:
    ((clicks, conversions),) = place.rows("SELECT (SELECT count(*) FROM click), (SELECT count(*) FROM conversion)")
    return clicks, conversions


def test_history_keeps_its_time_is_matched_and_the_same_file_twice_changes_nothing(
    place: Installation, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [click(1, visitorId="visitor-1"), order(1, visitorId="visitor-1"), page_view(1), page_view(2)]
    path = written(place, *lines)
    assert run(path, "--json") == 0
    assert json.loads(capsys.readouterr().out) == {
        "taken": 4, "known": 0, "refused": 0, "left_out": 0, "dryRun": False,
    }  # fmt: skip
    before = place.rows("SELECT id, ts, click, method, capi, body FROM conversion ORDER BY id")
    assert [(row[1] // 1000 * 1000, row[3]) for row in before][:1] == [((NOW - 19 * DAY) // 1000 * 1000, "visitor_id")]
    assert run(path) == 0
    assert "0 taken, 4 were here" in capsys.readouterr().out
    assert place.rows("SELECT id, ts, click, method, capi, body FROM conversion ORDER BY id") == before
    assert counts(place) == (1, 3)


def test_what_meta_still_takes_is_queued_and_nothing_older_or_with_no_send(place: Installation, run: Run) -> None:
    assert run(written(place, order(1), order(2, timestamp=at(1)))) == 0
    states = dict(place.rows("SELECT c.id, o.state FROM conversion c LEFT JOIN outbox o ON o.conversion = c.id"))
    assert states[2] == 0
    assert states[1] != 0
    assert place.rows("SELECT capi FROM conversion WHERE id = 1") == [(int(CapiState.EXPIRED),)]
    assert run(written(place, order(3, timestamp=at(1)), name="quiet.ndjson"), "--no-send") == 0
    assert place.rows("SELECT count(*) FROM outbox WHERE conversion = 3 AND settled IS NULL") == [(0,)]


def test_an_order_that_waits_still_goes_though_it_is_imported_with_no_send(place: Installation, run: Run) -> None:
    path = written(place, order(1, timestamp=at(1)))
    assert run(path) == 0
    assert run(path, "--no-send") == 0
    assert place.rows("SELECT state FROM outbox WHERE settled IS NULL") == [(0,)]


def test_faults_are_told_by_line_and_the_rest_is_taken(
    place: Installation, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    rejects = place.folder / "rejects.ndjson"
    lines = [order(1), "{broken", order(2, currency="XXX"), "[1]", "", order(3), order(1, eventValue=99), "{}"]
    assert run(written(place, *lines), "--rejects", rejects) == 1
    told = [json.loads(line) for line in rejects.read_text().splitlines()]
    assert sorted((one["line"], one["code"]) for one in told) == [
        (2, "invalid_json"), (3, "invalid_currency"), (4, "invalid_json"),
        (7, "order_conflict"), (8, "missing_required_field"),
    ]  # fmt: skip
    assert counts(place) == (0, 2)
    assert run(written(place, "{broken")) == 1
    assert "line 1:" in capsys.readouterr().err


def test_a_csv_of_any_shop_is_read_by_its_columns(place: Installation, run: Run) -> None:
    text = '﻿Name;x,Total,Date,E-Mail,Note\n"A;1",19.90,{at},jo@example.com,"two\nlines"\nA2,5,{at},,\n'
    path = place.folder / "orders.csv"
    path.write_text(text.replace("{at}", at(3)).replace("Name;x", "Name"))
    columns = "orderId=Name,eventValue=Total,timestamp=Date,customerData.email=E-Mail,currency=Note"
    assert run(path, "--columns", columns, "--type", "conversion", "--store", STORE) == 1  # it has no event type
    fixed = path.read_text().replace("Note", "eventType,currency", 1).replace('"two\nlines"', "Purchase,USD")
    path.write_text(fixed.replace(",,\n", ",,Purchase,USD\n"))
    assert run(path, "--columns", columns.rpartition(",")[0], "--store", STORE) == 0
    assert place.rows("SELECT event_type, count(*) FROM conversion GROUP BY 1") == [("Purchase", 2)]
    assert place.rows("SELECT count(*) FROM conversion_identity WHERE kind = 2") == [(1,)]


def test_what_export_wrote_is_imported_elsewhere_and_not_sent_again(
    place: Installation, run: Run, tmp_path: Path, graph: GraphSimulator
) -> None:
    crawler = {"userAgent": "Googlebot/2.1 (+http://www.google.com/bot.html)"}
    lines = [click(1, visitorId="visitor-1"), click(2, **crawler), order(1, visitorId="visitor-1", timestamp=at(1))]
    assert run(written(place, *lines)) == 0
    with closing(connect(place.data / "collector.db", StorageConfig())) as db:
        db.execute("UPDATE outbox SET state = 10, settled = 1")
    (tmp_path / "other").mkdir()
    other = Installation(tmp_path / "other", graph.url)
    for what, form in (("clicks", "ndjson"), ("conversions", "csv")):
        path = tmp_path / f"{what}.{form}"
        assert main(["export", what, "--format", form, "--output", str(path), "--config", str(place.config)]) == 0
        assert main(["import", str(path), "--config", str(other.config)]) == 0
    assert counts(other) == (1, 1)
    assert other.rows("SELECT method, ts FROM conversion") == place.rows(
        "SELECT method, ts / 1000 * 1000 FROM conversion"
    )
    assert other.rows("SELECT count(*) FROM outbox WHERE settled IS NULL") == [(0,)]


def test_a_dry_run_finds_the_faults_and_stores_nothing(place: Installation, run: Run) -> None:
    assert run(written(place, order(1), "{broken"), "--dry-run") == 1
    assert counts(place) == (0, 0)


def test_wrong_files_and_words_are_one_sentence(
    place: Installation, run: Run, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run(tmp_path / "none.ndjson") == 2
    assert run(tmp_path) == 2
    assert run(written(place, ""), "--columns", "orderId") == 2
    assert run(written(place, "", name="empty.csv")) == 2
    assert run(written(place, order(1)), "--store", "nowhere") == 2
    assert run(written(place, order(1)), "--rejects", tmp_path / "no" / "file") == 1
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 6, errors
    elsewhere = ["import", str(written(place, order(1))), "--data-dir", str(tmp_path / "mistyped")]
    assert main(elsewhere) == 3
    assert not (tmp_path / "mistyped").exists()


def test_hostile_lines_take_no_memory_and_no_neighbour(
    place: Installation, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pieces, "LONGEST_LINE", 5000)
    long = json.dumps({"x": "y" * 30_000})
    deep = "[" * 4000
    lines = [order(1), long, deep, '{"eventType": 7}', "\ufeff" + json.dumps(order(2)), '{"fbclid": "\\u0000"}']
    assert run(written(place, *lines)) == 1
    assert counts(place) == (0, 2)


def test_a_line_says_its_own_type_as_an_item_of_the_api_does(
    place: Installation, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """And what has no name of its own is still one event, however often it is told."""
    named = [click(1, type="click"), order(1, type="conversion")]
    nameless = [
        {**page_view(1), "type": "event"},
        {**order(2), "type": "conversion", "orderId": None, "eventType": "Lead"},
    ]
    none = [{**order(3), "type": wrong} for wrong in (None, 7, "purchase", ["click"])]
    path = written(place, *named, *nameless, *nameless, *none)
    for _ in range(2):
        assert run(path) == 1
        said = capsys.readouterr()
        assert "4 refused" in said.out
        assert "fault of the collector" not in said.err
        assert counts(place) == (1, 3)


ROWS = int(os.environ.get("IMPORT_ROWS", "7000"))  # 10⁶ take some ten minutes
# Of SQLite: two files' caches of 8 MB, and what a group needs; at 10⁶ rows 41, with the folds of the index.
WITHIN_MB = 32 if ROWS < 100_000 else 48
GROWS_MB = 24  # of the process, from a third of the rows to all of them: what knows of a person or page is bounded


@pytest.mark.slow
@pytest.mark.parametrize("cache_mb", [None, 64], ids=["as it is", "control: the usual caches"])
def test_more_rows_take_no_more_memory(place: Installation, tmp_path: Path, cache_mb: int | None) -> None:
    """In a process of its own; `IMPORT_ROWS=1000000 pytest -m slow -k more_rows` has the issue's size."""
    path = tmp_path / "history.ndjson"
    with path.open("w") as file:
        for n in range(ROWS):
            note = {"customData": {"note": f"{n:08000d}"}} if ROWS < 100_000 else {}  # as many bytes in fewer rows
            row = click(n, visitorId=f"v{n // 4}") if n % 4 == 0 else order(n, visitorId=f"v{n // 4}") | note
            file.write(json.dumps(row) + "\n")
    program = textwrap.dedent("""
        import json, sys, apsw
        from collector.cli import main
        from collector.cli.importing import taker
        from collector.cli.progress import Bar
        path, config, cache = sys.argv[1:4]
        if cache != "None":
            taker._CACHE_MB = int(cache)
        seen = []
        def show(self, offset, count):
            with open("/proc/self/status") as file:
                anon = next(int(line.split()[1]) for line in file if line.startswith("RssAnon"))
            seen.append((count, anon // 1024))
        Bar.show = show
        assert main(["import", path, "--config", config, "--no-send"]) == 0
        third = next(anon for count, anon in seen if count >= seen[-1][0] / 3)
        print(json.dumps([seen[-1][0], apsw.memory_high_water() >> 20, seen[-1][1] - third]))
    """)
    words = [sys.executable, "-c", program, path, place.config, str(cache_mb)]
    ended = subprocess.run(words, capture_output=True, text=True, check=True, cwd=ROOT)
    rows, sqlite_mb, grown_mb = json.loads(ended.stdout.splitlines()[-1])
    print(f"{rows} rows: {sqlite_mb} MB of SQLite, {grown_mb} MB more than after a third")
    assert rows == ROWS
    assert (sqlite_mb < WITHIN_MB) == (cache_mb is None)
    if cache_mb is None and rows >= 200_000:  # by then every bounded memory is full
        assert grown_mb < GROWS_MB


def cut_after(monkeypatch: pytest.MonkeyPatch, batches: int) -> None:
    """A cut between what is taken and its note, in the given batch."""
    real, seen = command._Import._note, []

    def note(self: Any, done: Any) -> None:
        seen.append(done)
        if len(seen) == batches:
            raise KeyboardInterrupt
        real(self, done)

    monkeypatch.setattr(command._Import, "_note", note)


def test_a_cut_import_goes_on_and_neither_loses_nor_doubles(
    place: Installation, run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "_BATCH", 5)
    rejects = place.folder / "rejects"
    lines = [(click(n), order(n), page_view(n), "{broken")[n % 4] for n in range(40)]
    path = written(place, *lines)
    with monkeypatch.context() as cut:
        cut_after(cut, 4)
        assert run(path, "--rejects", rejects) == 1
    assert sum(counts(place)) == 15
    assert run(path, "--rejects", rejects, "--resume", "--json") == 1
    assert sum(counts(place)) == 30
    done = json.loads(capsys.readouterr().out)
    assert done["taken"] + done["known"] == 30
    assert [json.loads(line)["line"] for line in rejects.read_text().splitlines()] == [4 * n for n in range(1, 11)]
    assert run(path, "--resume") == 1
    assert "begins at its first line" in capsys.readouterr().err
    path.write_text(path.read_text() + json.dumps(order(99)) + "\n")
    with monkeypatch.context() as cut:
        cut_after(cut, 3)
        run(path)
    path.write_text("{}\n")
    assert run(path, "--resume") == 2


def test_control_without_names_of_their_own_events_would_be_doubled(
    place: Installation, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pieces, "_is_named", lambda _: True)
    path = written(place, page_view(1))
    run(path)
    run(path)
    assert counts(place) == (0, 2)


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_records_of_a_csv_go_on_behind_the_one_that_was_cut(tmp_path: Path, mark: str) -> None:
    path = tmp_path / "x.csv"
    path.write_text(f'eventType{mark}orderId\nPurchase{mark}1\nPurchase{mark}"2\n2"\nPurchase{mark}3\n')
    shape = Shape(form="csv", kind=None, store=None)
    with path.open("rb") as file:
        whole = list(pieces_of(file, shape))
    with path.open("rb") as file:
        rest = list(pieces_of(file, shape, offset=whole[1].end, line=whole[1].line))
    assert rest == whole[2:]
    assert [piece.line for piece in whole] == [2, 4, 5]
    assert [json.loads(piece.raw)["orderId"] for piece in whole] == ["1", "2\n2", "3"]


@pytest.mark.parametrize(
    ("head", "divider", "columns"),
    [
        ("a;b,c;d", ";", ["a", "b,c", "d"]),
        ('"a;b;c",d', ",", ["a;b;c", "d"]),
        ("a", ",", ["a"]),
        ("\ufeffa\tb,c\td", "\t", ["a", "b,c", "d"]),
        ('"a,c";e', ";", ["a,c", "e"]),
    ],
)
def test_the_first_line_of_a_csv_says_what_divides_its_columns(
    tmp_path: Path, head: str, divider: str, columns: list[str]
) -> None:
    """Excel writes `;` where numbers have a comma: most of Europe."""
    path = tmp_path / "x.csv"
    path.write_text(f"{head}\n{divider.join(map(str, range(len(columns))))}\n")
    with path.open("rb") as file:
        (piece,) = pieces_of(file, Shape(form="csv", kind=None, store=None))
    found = json.loads(piece.raw)
    assert {name: found.get(name) for name in columns} == {name: str(n) for n, name in enumerate(columns)}


def table(tmp_path: Path, raw: bytes, **more: Any) -> list[pieces.Piece]:
    path = tmp_path / "x.csv"
    path.write_bytes(raw)
    with path.open("rb") as file:
        return list(pieces_of(file, Shape(form="csv", kind=None, store=None), **more))


def test_a_line_that_is_no_utf8_is_refused_alone(place: Installation, run: Run) -> None:
    rejects = place.folder / "rejects"
    rows = [f"{STORE};{name};Purchase;{n},5;EUR" for n, name in enumerate(("A1", "A2", "Müller", "A4", "A5"), 1)]
    path = place.folder / "latin.csv"
    path.write_bytes("\n".join(["storeId;orderId;eventType;eventValue;currency", *rows, ""]).encode("cp1252"))
    assert run(path, "--rejects", rejects) == 1
    assert counts(place) == (0, 4)
    assert [(one["line"], "not UTF-8" in one["message"]) for one in map(json.loads, rejects.open())] == [(4, True)]


def test_a_record_with_a_line_that_is_no_utf8_ends_where_it_ends(tmp_path: Path) -> None:
    raw = b'orderId,eventType\nA1,Purchase\n"two\nM\xfcller\nlines",Purchase\nA3,Purchase\n\xff\xfe\nA4,Purchase\n'
    whole = table(tmp_path, raw)
    assert [(piece.line, bool(piece.fault)) for piece in whole] == [
        (2, False), (5, True), (6, False), (7, True), (8, False),
    ]  # fmt: skip
    for n, piece in enumerate(whole, 1):
        assert table(tmp_path, raw, offset=piece.end, line=piece.line) == whole[n:]
    with pytest.raises(ValueError, match="column names: it is not UTF-8"):
        table(tmp_path, b"orderId,Stra\xdfe\nA1,x\n")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("said", ["", "sep=;\r\n", "sep=|\r\n"])
def test_a_csv_as_excel_writes_it(tmp_path: Path, encoding: str, said: str) -> None:
    mark = said[4:5] or ";"
    rows = [["orderId", "eventType", "eventValue"], ["Zoë 🙂", "Purchase", "12,50"], ["ਊ", "Purchase", "3"]]
    raw = (said + "".join(mark.join(row) + "\r\n" for row in rows)).encode(encoding)
    whole = table(tmp_path, raw)
    assert [(json.loads(one.raw)["orderId"], json.loads(one.raw)["eventValue"]) for one in whole] == [
        ("Zoë 🙂", 12.5), ("ਊ", 3),
    ]  # fmt: skip
    assert table(tmp_path, raw, offset=whole[0].end, line=whole[0].line) == whole[1:]


@pytest.mark.parametrize("raw", ["orderId\nA".encode("utf-16")[:-1], b"PK\x03\x04orderId\n", b"\x1f\x8b\0", b"%PDF"])
def test_what_is_no_text_is_one_sentence(tmp_path: Path, raw: bytes) -> None:
    with pytest.raises(ValueError, match="it is no text, or broken"):
        table(tmp_path, raw)


@pytest.mark.parametrize(
    ("mark", "cell", "value"),
    [
        (";", "12,50", "12.50"), (";", "12.50", "12.50"), (";", "1.234,50", "1234.50"), (";", "1,234.50", "1234.50"),
        (";", "1.234.567", "1234567"), (";", "1 234,50", "1234.50"), (";", "1\u202f234", "1234"), (";", "7", "7"),
        (";", "1'234.50", "1234.50"), (";", "0,500", "0.500"), (";", "1234,567", "1234.567"), ("\t", "-3,5", "-3.5"),
        (",", "1.234", "1.234"), (",", '"12,50"', "12.50"), (",", "12.50", "12.50"),
        (";", "1.234", None), ("\t", "1,234", None), (",", '"1,234"', None), (";", "-12.345", None),
        (";", "1.23.456", ""), (";", "1,234,5", ""), (";", "12,50 EUR", ""), (";", "012,5", ""), (";", ",5", ""),
    ],
)  # fmt: skip
def test_an_amount_is_read_in_one_way_or_refused(tmp_path: Path, mark: str, cell: str, value: str | None) -> None:
    """None: in two ways; empty: it is no number, which the contract says of it."""
    (piece,) = table(tmp_path, f"orderId{mark}eventValue\nA1{mark}{cell}\n".encode())
    if value is None:
        bare = cell.strip('"')
        assert f"eventValue: '{bare}' can be read as {bare.replace('.', '').replace(',', '')} and as" in piece.fault
    elif value:
        assert f'"eventValue":{value}'.encode() in piece.raw
    else:
        assert json.loads(piece.raw)["eventValue"] == cell


@pytest.mark.parametrize(
    ("head", "mark"),
    [
        ("fbclid,landingPage,note;a;b;c", ","), ("orderId;eventType;a,b,c,d", ";"), ('"orderId"\t"a,b"\tx;y;z;u', "\t"),
        ("customerData.email;customData.x,y,z,u", ";"), ("Name;Total;a,b,c,d", ";"),
    ],
)  # fmt: skip
def test_what_divides_columns_is_what_makes_the_most_known_names(tmp_path: Path, head: str, mark: str) -> None:
    path = tmp_path / "x.csv"
    path.write_text(f"{head}\n{mark.join('12')}\n")
    with path.open("rb") as file:
        (piece,) = pieces_of(file, Shape(form="csv", kind=None, store=None, columns={"Name": "orderId"}))
    assert not piece.fault
    assert b'"1"' in piece.raw


@pytest.mark.slow
def test_beside_a_running_collector_and_killed_it_takes_every_line_once(place: Installation) -> None:
    lines = [(click(n), order(n, timestamp=at(1)), page_view(n))[n % 3] for n in range(9_000)]
    path = written(place, *lines)
    words = [sys.executable, "-m", "collector", "import", str(path), "--config", str(place.config)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with place.serve() as door:
        for how in (signal.SIGKILL, signal.SIGINT, signal.SIGKILL):
            with subprocess.Popen(words, env=environment, stderr=subprocess.PIPE, text=True) as cut:
                before = sum(counts(place))
                while sum(counts(place)) < before + 500 and cut.poll() is None:
                    time.sleep(0.01)
                cut.send_signal(how)
                assert cut.stderr is not None
                assert ("the same command with --resume goes on" in cut.stderr.read()) == (how == signal.SIGINT)
            words = [*words[:5], *words[5:], "--resume"] if "--resume" not in words else words
        done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        assert counts(place) == (3_000, 6_000)
        assert door is not None
    assert place.rows("SELECT count(DISTINCT dedup_k) FROM conversion") == [(6_000,)]
