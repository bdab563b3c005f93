"""Reports: totals equal what the rows say, questions have a deadline, and nothing is written or held."""

from __future__ import annotations

import os
import random
import re
import sqlite3
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest

from collector.core.capi.states import CapiState
from collector.core.landing import campaign_of
from collector.core.learning import BIN
from collector.core.matching.shapes import Label, Match
from collector.errors import NoStore, TooSlow
from collector.storage.reports import commands, delivery, totals, trust
from collector.storage.reports.conversions import find, last
from collector.storage.reports.folds import DAY_MS
from collector.storage.reports.orders import of_order
from collector.storage.reports.reader import Reader
from collector.storage.reports.status import status
from collector.storage.reports.totals import Totals, first_received
from collector.storage.reports.trust import LabelKey, Truth
from tests.kit.console_process import make_config
from tests.kit.console_store import (
    IDS,
    NOW,
    OTHER_PIXEL,
    PIXEL,
    add_click,
    add_conversion,
    add_outbox,
    add_request,
    make_store,
)

FOREVER = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"


async def _labels(data_dir: Path) -> dict[LabelKey, Truth]:
    async with Reader(data_dir / "collector.db") as reader:
        return await trust.labels(reader, NOW - 31 * DAY_MS)


async def _totals(data_dir: Path, now: int = NOW) -> Totals:
    found = Totals()
    async with Reader(data_dir / "collector.db") as reader:
        assert await found.refresh(reader, now, budget_seconds=60)
    return found


async def test_totals_equal_what_a_full_count_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(totals, "SLICE", 64)  # many slices
    db = make_store(tmp_path, clicks=150, conversions=700)
    found = await _totals(tmp_path)
    methods: Counter[str] = Counter()
    for (match,) in db.execute("SELECT match FROM conversion"):
        judged = msgspec.msgpack.decode(match, type=Match)
        methods[judged.method or judged.reason or "none"] += 1
    outcomes: Counter[str] = Counter()
    for key, n in found.outcomes(0).items():
        outcomes[key.word] += n
    assert outcomes == methods
    assert sum(found.signals(0).values()) == 700


async def test_totals_follow_new_rows_and_late_revisions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    db = make_store(tmp_path, clicks=50, conversions=10)
    found = Totals()
    async with Reader(tmp_path / "collector.db") as reader:
        await found.refresh(reader, NOW, budget_seconds=10)
        number = add_conversion(db, NOW - 1000, click=None, order="late")
        await found.refresh(reader, NOW, budget_seconds=10)
        assert sum(found.outcomes(0).values()) == 11
        revised = Match(attributed=True, model="default.1", click=1, confidence=98, method="fbp", tier="unheard-of")
        sql = "UPDATE conversion SET click = 1, match = ?, revision = 1 WHERE id = ?"
        db.execute(sql, (msgspec.msgpack.encode(revised), number))
        monkeypatch.setattr(totals, "_STALE_OPEN_SECONDS", 0.0)
        await found.refresh(reader, NOW, budget_seconds=10)
        assert [n for key, n in found.outcomes(0).items() if key.tier == "unheard-of"] == [1]


async def test_history_is_counted_newest_first_within_the_budget(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(totals, "SLICE", 16)
    make_store(tmp_path, clicks=0, conversions=400).close()
    found = Totals()
    async with Reader(tmp_path / "collector.db") as reader:
        assert not await found.refresh(reader, NOW, budget_seconds=0.0)
        assert not found.complete
        rounds = 0
        while not await found.refresh(reader, NOW, budget_seconds=0.0):  # a slice at a time
            rounds += 1
            assert max(found.slices) == 400 // 16
        assert rounds > 0
        assert found.complete


async def test_rows_before_the_horizon_are_not_read(tmp_path: Path) -> None:
    db = make_store(tmp_path, clicks=0, conversions=0)
    for day in range(200, 0, -1):
        add_click(db, NOW - day * DAY_MS)
    async with Reader(tmp_path / "collector.db") as reader:
        assert await first_received(reader, "click", 1, 200, NOW - 31 * DAY_MS) == 170
        assert await first_received(reader, "click", 1, 200, 0) == 1
        assert await first_received(reader, "click", 1, 200, NOW) == 200


async def test_a_question_without_end_is_given_up_at_its_deadline_and_the_next_one_is_answered(tmp_path: Path) -> None:
    make_store(tmp_path).close()
    async with Reader(tmp_path / "collector.db", deadline_seconds=0.3) as reader:
        with pytest.raises(TooSlow):
            await reader.rows(FOREVER)
        assert (await reader.one("SELECT count(*) FROM click")) == (400,)


async def test_a_reader_writes_nothing(tmp_path: Path) -> None:
    make_store(tmp_path).close()
    async with Reader(tmp_path / "collector.db") as reader:
        for sql in ("DELETE FROM heartbeat", "CREATE TABLE x (a)", "PRAGMA user_version = 9"):
            with pytest.raises(Exception, match=r"readonly|read-only"):
                await reader.rows(sql)


async def test_a_reader_never_keeps_the_log_from_being_folded_back(tmp_path: Path) -> None:
    db = make_store(tmp_path)
    async with Reader(tmp_path / "collector.db") as reader:
        await reader.rows("SELECT * FROM click")
        add_click(db, NOW)
        assert db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
        async for _ in reader.pages("SELECT id FROM click WHERE id > ? ORDER BY id LIMIT ?", 0, size=10):
            add_click(db, NOW)
            assert db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0, "a page held its transaction"
            break


async def test_a_database_that_comes_later_or_is_restored_is_noticed(tmp_path: Path) -> None:
    async with Reader(tmp_path / "collector.db") as reader:
        with pytest.raises(NoStore):
            await reader.rows("SELECT 1")
        make_store(tmp_path, clicks=7).close()
        assert await reader.one("SELECT count(*) FROM click") == (7,)
        make_store(tmp_path / "other", clicks=9).close()
        os.replace(tmp_path / "other" / "collector.db", tmp_path / "collector.db")
        assert await reader.one("SELECT count(*) FROM click") == (9,)


async def test_the_queue_is_counted_by_pixel_and_state_with_its_oldest(tmp_path: Path) -> None:
    db = make_store(tmp_path, clicks=0, conversions=0)
    queued, retrying, held = int(CapiState.QUEUED), int(CapiState.RETRYING), int(CapiState.HELD)
    for age, state in ((5000, queued), (9000, queued), (3000, retrying), (2000, held)):
        add_outbox(db, 1, state, NOW - age)
    add_outbox(db, 1, int(CapiState.SENT), NOW, settled=NOW)
    async with Reader(tmp_path / "collector.db") as reader:
        found = {(w.pixel, w.state): (w.events, NOW - w.oldest) for w in await delivery.waiting(reader)}
    assert found == {(PIXEL, queued): (2, 5000), (PIXEL, retrying): (1, 3000), (PIXEL, held): (1, 2000)}


async def test_requests_are_counted_on_and_one_in_flight_is_waited_for(tmp_path: Path) -> None:
    db = make_store(tmp_path, clicks=0, conversions=0)
    tally = delivery.Requests()
    async with Reader(tmp_path / "collector.db") as reader:
        add_request(db, NOW - 9000)
        flying = add_request(db, NOW - 5000, outcome="in_flight", http=None)
        add_request(db, NOW - 4000, outcome="throttled", http=400, code=4)
        await tally.refresh(reader)
        assert tally.counts == {(PIXEL, "sent"): 1}
        db.execute("UPDATE request SET outcome = 'sent' WHERE id = ?", (flying,))
        await tally.refresh(reader)
        await tally.refresh(reader)
        assert tally.counts == {(PIXEL, "sent"): 2, (PIXEL, "throttled"): 1}
        assert tally.last_success == {PIXEL: NOW - 5000}


async def test_a_small_shops_last_success_is_known_however_many_requests_came_since(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "_LOOK_BACK", 10)
    db = make_store(tmp_path, clicks=0, conversions=0)
    row = add_conversion(db, NOW - DAY_MS, store=2, order="zurich")
    taken = add_request(db, NOW - DAY_MS + 900, pixel=2)
    add_outbox(db, row, CapiState.SENT, NOW - DAY_MS, pixel=2, settled=NOW - DAY_MS + 900, request=taken)
    for n in reversed(range(20)):
        add_request(db, NOW - 1000 * n)
    tally = delivery.Requests()
    async with Reader(tmp_path / "collector.db") as reader:
        await tally.refresh(reader)
        add_request(db, NOW + 5000)
        await tally.refresh(reader)
    db.close()
    assert tally.counts == {(PIXEL, "sent"): 11}
    assert tally.last_success[PIXEL] == NOW + 5000
    assert 0 <= NOW - DAY_MS - tally.last_success[OTHER_PIXEL] < 900_000


async def test_a_conversions_state_is_that_of_its_deliveries_not_of_its_intake(tmp_path: Path) -> None:
    db = make_store(tmp_path, clicks=0, conversions=0)
    number = add_conversion(db, NOW, capi=CapiState.QUEUED)
    first, second = add_request(db, NOW, outcome="transient", http=500), add_request(db, NOW + 5, http=200)
    row = add_outbox(db, number, int(CapiState.SENT), NOW, settled=NOW + 9, request=second)
    db.execute("INSERT INTO attempt VALUES (?, ?)", (row, first))
    async with Reader(tmp_path / "collector.db") as reader:
        assert (await last(reader))[0].capi == CapiState.SENT
        found = await find(reader, number)
        assert found is not None
        assert found.capi == CapiState.SENT
        assert [t.http_status for t in found.deliveries[0].tries] == [500, 200]
        assert await find(reader, 99) is None


def _labelled(points: list[tuple[float, float]], n: int) -> dict[LabelKey, Truth]:
    """`n` labels for each (stated, true)."""
    from collector.core.calibration import logit

    return {
        LabelKey(1, "identity", "", round(logit(stated) / BIN)): Truth(n, round(n * true)) for stated, true in points
    }


def test_an_honest_model_shows_an_error_near_its_noise_floor_and_a_boaster_a_large_one() -> None:
    rng = random.Random(1)
    steps = [BIN * step for step in range(-8, 12)]
    from collector.core.calibration import sigmoid

    honest = _labelled([(sigmoid(x), sum(rng.random() < sigmoid(x) for _ in range(200)) / 200) for x in steps], 200)
    good = trust.assess(honest, {}, {1}, 50)
    assert good.error is not None
    assert good.floor is not None
    assert good.error < 2.5 * good.floor
    boaster = trust.assess(_labelled([(0.95, 0.45)], 2000), {}, {1}, 50)
    assert boaster.error is not None
    assert abs(boaster.error - 0.5) < 0.02
    assert boaster.floor is not None
    assert boaster.floor < 0.01


def test_with_too_few_labels_no_error_is_stated() -> None:
    few = trust.assess(_labelled([(0.9, 0.9)], trust.ENOUGH - 1), {}, {1}, 50)
    assert (few.labels, few.error, few.floor) == (trust.ENOUGH - 1, None, None)
    other_store = trust.assess(_labelled([(0.9, 0.9)], 5000), {}, {2}, 50)
    assert other_store.labels == 0


def add_labels(db: sqlite3.Connection) -> None:
    """150 orders of each kind that teaches: by identity, by device, and proven organic."""
    shared = {"model": "fs.2", "click": 1, "attributed": True}
    for i in range(150):
        identity = Label("identity", 1, stated=0.9, right=i % 10 != 0)
        device = Label("device", 1, contradicted=i % 50 == 0)
        organic = Label("organic", 1, stated=0.6 if i < 3 else 0.01)
        matches = [
            Match(confidence=97, method="email", tier="identity", label=identity, **shared),
            Match(confidence=98, method="visitor_id", tier="device", label=device, **shared),
            Match(attributed=False, model="fs.2", reason="no_candidate", label=organic),
        ]
        for kind, match in enumerate(matches):
            add_conversion(db, NOW - i * 1000, order=f"{kind}-{i}", match=match)


async def test_status_reads_no_row_of_what_the_sums_hold(tmp_path: Path) -> None:
    """With a million rows the answer must take what it takes with none: it asks the sums, and the newest row ids."""
    db = make_store(tmp_path, clicks=300, conversions=200)
    asked: list[str] = []

    class Listening(Reader):
        async def rows(self, sql: str, *params: object) -> list[Any]:
            asked.append(sql)
            return await super().rows(sql, *params)

    async with Listening(tmp_path / "collector.db") as reader:
        found = await status(reader, NOW, 50)
    since = NOW // DAY_MS * DAY_MS - 6 * DAY_MS
    counted = "SELECT count(*) FROM conversion WHERE event_type = 'Purchase' AND ts >= ?"
    assert (found.days7.purchases,) == db.execute(counted, (since,)).fetchone()
    read = [sql for sql in asked if re.search(r"FROM (click|conversion|click_network)\b", sql)]
    assert all(re.fullmatch(r"SELECT max\(id\) FROM \w+", sql) for sql in read), read
    plans = [
        db.execute(f"EXPLAIN QUERY PLAN {sql}", (1,) * sql.count("?")).fetchall() for sql in asked if "_sum" in sql
    ]
    assert plans
    assert not [step for plan in plans for step in plan if re.search(r"SCAN (click|conversion)\b", step[3])]


_PURCHASES = "SELECT count(*) FROM conversion WHERE event_type = 'Purchase'"


def test_status_tells_how_far_the_confidence_can_be_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from collector.cli import status as command

    db = make_store(tmp_path, clicks=5, conversions=0)
    config = make_config(tmp_path)
    command._show(commands.status(config, NOW))
    assert "on defaults, with caps; 0 of 100 labels so far" in capsys.readouterr().out
    add_labels(db)
    db.executemany("INSERT INTO counter VALUES (?, 1, ?, ?)", [(NOW // DAY_MS, *c) for c in DECOYS])
    db.commit()
    found = commands.status(config, NOW)
    command._show(found)
    said = capsys.readouterr().out
    assert re.search(r"(?m)^  visitor_id +98\.0% +98\.0% +150$", said)
    assert re.search(r"(?m)^  inferred +90\.\d% +90\.0% +150$", said)
    assert re.search(r"calibration error of inference 0\.00\d \(0\.0\d\d by chance alone, 150 labels\)", said)
    assert "0.0050 at confidence 80, 0.0025 at 90 (400 orders; an upper bound)" in said
    tiers = {one.tier: one.true for one in found.confidence.reliability}
    assert tiers["phone"] is None  # no label tells of it yet


DECOYS = [("decoy.orders", 400), ("decoy.80", 2), ("decoy.90", 1)]


async def test_labels_of_stored_matches_reach_the_trust_tables(tmp_path: Path) -> None:
    add_labels(make_store(tmp_path, clicks=5, conversions=0))
    found = trust.assess(await _labels(tmp_path), {}, {1}, 50)
    assert found.labels == 150
    assert found.error is not None
    assert found.error < 0.02
    cookie = next(t for t in found.tiers if t.name == "visitor_id")
    assert (cookie.labels, cookie.right) == (150, 147)
    assert (found.organic, found.organic_linked) == (150, 3)


def test_status_and_explain_answer_in_the_apis_names(tmp_path: Path) -> None:
    db = make_store(tmp_path, now=NOW)
    config = make_config(tmp_path)
    answer = msgspec.json.decode(msgspec.json.encode(commands.status(config, NOW)))
    assert answer["totalClicks"] == 400
    assert answer["totalConversions"] == 120
    week = NOW // DAY_MS * DAY_MS - 6 * DAY_MS
    sql = "SELECT count(*) FROM conversion WHERE event_type = 'Purchase' AND ts >= ?"
    assert answer["days7"]["purchases"] == db.execute(sql, (week,)).fetchone()[0]
    assert {row["currency"] for row in answer["revenue7"]} == {"USD", "CHF"}
    assert [p["state"] for p in answer["pixels"]] == ["open", "blocked"]
    assert answer["confidence"]["calibrationError"] is None
    why = commands.explain(config, IDS.public("conv", 1))
    assert why is not None
    assert why["conversionId"] == IDS.public("conv", 1)
    assert commands.explain(config, "conv_nothing") is None
    assert commands.explain(config, IDS.public("conv", 10_000)) is None


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://s.example/a?utm_source=fb&utm_campaign=c&adset_id=9&ad_id=8", ("fb", "c", "9", "8", "s.example/a")),
        ("https://s.example/?campaign_id=12&utm_campaign=", ("", "12", "", "", "s.example/")),
        ("https://s.example", ("", "", "", "", "s.example")),
        ("http://[", ("", "", "", "", "")),
        ("https://s.example/?" + "a=1&" * 500, ("", "", "", "", "s.example/")),
        (
            "https://s.example/a?utm_source=one+two&utm_source=x&utm_campaign=%C3%A9#utm_term=9",
            ("one two", "é", "", "", "s.example/a"),
        ),
        ("https://s.example/?utm_source=a%00%0ab", ("ab", "", "", "", "s.example/")),
    ],
)
def test_a_landing_page_names_its_campaign(url: str, expected: tuple[str, ...]) -> None:
    assert campaign_of(url) == expected


def test_a_process_that_reads_reports_never_has_apsw() -> None:
    child = "import sys; import collector.storage.reports.commands, collector.console.app; print('apsw' in sys.modules)"
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    found = subprocess.run([sys.executable, "-c", child], capture_output=True, text=True, check=True, env=env)
    assert found.stdout.strip() == "False"


FOLD = """
import sys
from pathlib import Path
from collector.config import StorageConfig
from collector.storage.index.index import fold, open_index
from collector.storage.rules.tables import CONVERSIONS
db = open_index(Path(sys.argv[1]), StorageConfig(data_dir=sys.argv[1]))
print(fold(db, CONVERSIONS, 100))
db.close()
"""


async def test_an_order_is_found_in_the_edges_index_and_among_the_rows_after_it(tmp_path: Path) -> None:
    db = make_store(tmp_path, clicks=0, conversions=0)
    add_conversion(db, NOW, order="old")
    add_conversion(db, NOW, order="old", kind="Refund")
    add_conversion(db, NOW, order="old", store=2)
    for i in range(150):
        add_conversion(db, NOW, order=f"other-{i}")
    add_conversion(db, NOW, order="new")
    config = make_config(tmp_path)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}

    async def ask(order: str) -> list[int]:
        async with Reader(tmp_path / "collector.db") as reader:
            return await of_order(reader, config, order, ["Refund"])

    assert await ask("old") == [1, 2, 3]  # before there is an index
    child = [sys.executable, "-c", FOLD, str(tmp_path)]
    folded = subprocess.run(child, capture_output=True, text=True, check=True, env=environment)
    assert folded.stdout == "100\n"
    assert (await ask("old"), await ask("new"), await ask("other-149"), await ask("none")) == (
        [1, 2, 3],
        [154],
        [153],
        [],
    )
    db.execute("DELETE FROM conversion WHERE id = 2")  # the index may still name it
    assert await ask("old") == [1, 3]


def test_the_database_may_be_read_while_it_is_written_and_survives_the_writers_death(tmp_path: Path) -> None:
    make_store(tmp_path, clicks=10).close()
    writer = """
import apsw, sys, os
db = apsw.Connection(sys.argv[1]); db.set_busy_timeout(5000)
for i in range(200): db.execute("INSERT INTO counter VALUES (?, 0, 'x', 1)", (i,))
print("written", flush=True)
os._exit(9)
"""
    path = str(tmp_path / "collector.db")
    child = subprocess.run([sys.executable, "-c", writer, path], capture_output=True, text=True, check=False)
    assert child.stdout == "written\n"

    async def read() -> object:
        async with Reader(tmp_path / "collector.db") as reader:
            return await reader.one("SELECT count(*) FROM counter")

    import asyncio

    assert asyncio.run(read()) == (200,)
    assert (tmp_path / "collector.db-wal").exists(), "a reader took the writer's log away"
    assert sqlite3.connect(path).execute("SELECT count(*) FROM counter").fetchone() == (200,)


async def test_only_orders_are_labels_and_a_lead_is_one_where_there_are_no_purchases(tmp_path: Path) -> None:
    """The rule of core/learning.py: a page view of a known browser is no proven organic order."""
    db = make_store(tmp_path, clicks=5, conversions=0)
    organic = Match(attributed=False, model="x", reason="no_candidate", label=Label("organic", 1, stated=0.6))
    for n, kind in enumerate(["PageView"] * 30 + ["InitiateCheckout"] * 5 + ["Lead"] * 3):
        add_conversion(db, NOW + n, kind=kind, match=organic)
    db.commit()
    assert trust.assess(await _labels(tmp_path), {}, {1}, 50).organic == 3
    add_conversion(db, NOW + 99, order="1", match=organic)
    db.commit()
    assert trust.assess(await _labels(tmp_path), {}, {1}, 50).organic == 1
