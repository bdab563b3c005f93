"""The Live page: a plain list without a script, a bounded number of streams, and each happening once."""

from __future__ import annotations

import json
import re
import sqlite3
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import requests

from collector.console import hub, live
from collector.console.bar import Asked, Unknown
from collector.console.shell import Desk
from collector.storage.ground import audit
from collector.storage.reports.reader import Reader
from tests.kit.console_process import ConsoleProcess, make_config
from tests.kit.console_store import NOW, PIXEL, add_click, add_conversion, add_request, make_store

Filled = tuple[Path, sqlite3.Connection]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Filled]:
    folder = tmp_path_factory.mktemp("live")
    db = make_store(folder, now=int(time.time() * 1000), clicks=12, conversions=6)
    yield folder, db
    db.close()


@pytest.fixture(scope="module")
def console(store: Filled) -> Iterator[ConsoleProcess]:
    with ConsoleProcess(make_config(store[0])) as running:
        yield running


class Listening:
    """A browser's EventSource, read line by line."""

    def __init__(self, answer: requests.Response) -> None:
        self.answer = answer
        self.lines = answer.iter_lines(chunk_size=1, decode_unicode=True)

    def next(self) -> tuple[str, list[dict[str, Any]]]:
        """The next event's name and lines; what keeps the stream alive is passed over."""
        name = ""
        for line in self.lines:
            if line.startswith("event: "):
                name = line[7:]
            if line.startswith("data: "):
                return name, json.loads(line[6:])
        raise EOFError


def listen(console: ConsoleProcess, query: str = "") -> Listening:
    answer = console.get(f"/live/stream{query}", stream=True)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    return Listening(answer)


def test_the_list_is_whole_without_a_script(console: ConsoleProcess, store: Filled) -> None:
    html = console.get("/live").text
    rows = re.findall(r"<li>.*?</li>", html)
    assert len(rows) >= 12 + 6
    assert "a click on autumn-sale" in html
    assert "/clicks/click_" in html
    only = console.get("/live?kind=click&shop=store_zurich").text
    assert set(re.findall(r'<span class="tag [a-z]*">(\w+)</span>', only)) <= {"click"}
    assert "Look again" in html  # in a noscript
    assert "(shown: " not in html


def test_a_stream_begins_with_the_newest_and_tells_each_happening_once(console: ConsoleProcess, store: Filled) -> None:
    folder, db = store
    stream = listen(console)
    name, lines = stream.next()
    assert name == "all"
    assert lines
    now = int(time.time() * 1000)
    add_click(db, now, campaign="launch-day")
    add_conversion(db, now, order="new-one")
    add_request(db, now, outcome="sent", took=87)
    audit.note(folder, "reload", now, settings="[log] level")
    seen: list[dict[str, Any]] = []
    while len(seen) < 4:
        name, lines = stream.next()
        assert name == "more"
        seen += lines
    assert sorted(line["kind"] for line in seen) == ["attempt", "click", "order", "reload"]
    assert "a click on launch-day" in [line["text"] for line in seen]
    assert "Meta took 1 event in 87 ms" in [line["text"] for line in seen]


@pytest.mark.slow
def test_no_more_streams_than_are_allowed_and_all_end_with_the_process(store: Filled) -> None:
    with ExitStack() as stack:
        with ConsoleProcess(make_config(store[0])) as console:
            streams = [listen(console) for _ in range(hub.MOST_STREAMS)]
            for stream in streams:
                stack.callback(stream.answer.close)
                assert stream.next()[0] == "all"
            refused = console.get("/live/stream")
            assert refused.status_code == 503
            assert refused.headers["retry-after"]
            assert console.get("/").status_code == 200  # pages are answered all the same
        assert console.ending == (0, "no apsw")
        for stream in streams:
            with pytest.raises(EOFError):
                stream.next()


def test_a_stream_that_is_left_makes_room(console: ConsoleProcess, store: Filled) -> None:
    for _ in range(hub.MOST_STREAMS):
        listen(console).answer.close()
    deadline = time.monotonic() + 60  # at the latest when it is told that nothing came, after a quarter of that
    while (answer := console.get("/live/stream", stream=True)).status_code == 503:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert Listening(answer).next()[0] == "all"


@pytest.fixture
async def desk(store: Filled) -> AsyncIterator[Desk]:
    async with Reader(store[0] / "collector.db") as reader:
        yield Desk(make_config(store[0]), reader, lambda: NOW)


async def test_who_is_too_slow_is_let_go_and_others_are_not(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "_EVERY_SECONDS", 3600.0)
    slow, quick = desk.hub.stream(), desk.hub.stream()
    assert (await anext(slow), await anext(quick)) != ([], [])
    for n in range(hub._BEHIND + 1):
        desk.hub._tell([{"kind": "click", "n": n}])
        assert await anext(quick) == [{"kind": "click", "n": n}]
    assert [batch async for batch in slow] == []  # its browser asks again, and gets the newest
    desk.hub._tell([{"kind": "click", "n": -1}])
    assert await anext(quick) == [{"kind": "click", "n": -1}]
    desk.hub.close()
    assert [batch async for batch in quick] == []


async def test_nobody_is_read_for_when_nobody_looks(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "_EVERY_SECONDS", 0.001)
    stream = desk.hub.stream()
    await anext(stream)
    reading = desk.hub._reading
    assert reading is not None
    desk.hub.close()
    assert [batch async for batch in stream] == []
    await reading
    assert desk.hub._reading is None


async def test_what_a_caller_wrote_is_text_and_a_pixels_shop_is_named(desk: Desk, store: Filled) -> None:
    evil = "<img src=x onerror=alert(1)>"
    add_click(store[1], NOW, campaign=evil.replace(" ", "+"))
    page = (await live.live(desk, Asked(), "")).content.decode()
    assert evil not in page
    assert "&lt;img src=x onerror=alert(1)&gt;" in page
    mine = (await live.live(desk, Asked(shop="store_demo"), "attempt")).content.decode()
    assert '<span class="whose">store_demo</span>' in mine
    assert PIXEL not in mine
    with pytest.raises(Unknown):
        await live.live(desk, Asked(), "clicks")


async def test_long_names_of_callers_keep_the_page_within_its_budget(tmp_path: Path) -> None:
    db = make_store(tmp_path, clicks=0, conversions=0)
    db.execute("BEGIN")
    for n in range(hub.NEWEST):
        add_click(db, NOW - 1000 + n, campaign=f"{'Ж' * 110}+{n}")
    db.execute("COMMIT")
    db.close()
    async with Reader(tmp_path / "collector.db") as reader:
        page = (await live.live(Desk(make_config(tmp_path), reader, lambda: NOW), Asked(), "")).content
    assert len(page) < 60_000
    told = [int(n) for n in re.findall(r"Ж (\d+)<", page.decode())]
    assert told == list(range(hub.NEWEST))[::-1][: len(told)]  # the newest; the stream has them all
    assert 80 < len(told) < hub.NEWEST
    assert f"(shown: the first {len(told)} of {hub.NEWEST})" in page.decode()
