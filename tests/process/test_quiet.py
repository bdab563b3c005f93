"""Where nothing happens, hardly anything is done: no commit without news, no tick; and work is seen at once."""

from __future__ import annotations

import asyncio
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import apsw
import pytest
import uvicorn

from collector.courier.housekeeping import Housekeeping
from collector.courier.register import Stats
from collector.courier.timekeeper import Timekeeper
from collector.errors import Unavailable
from collector.exchange.clock import Clock
from collector.guard import serving
from collector.storage.ground import kept
from collector.storage.ground.clock import Kept
from collector.storage.ground.commits import Commits
from collector.storage.journal import transaction
from tests.kit import courier_kit
from tests.kit.journal_kit import NOW, Kit, click
from tests.kit.program import SOURCE, Serving

_WINDOW_S = 20.0
MOST_WAKES = 40.0  # a second, of all processes; 20 are usual, and a slow machine has fewer


async def asked(server: serving.Server, port: int, times: int) -> list[bytes]:
    """The dates of as many answers on one connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    dates = []
    for _ in range(times):
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        dates += re.findall(rb"(?im)^date: (.*)\r$", head)
    writer.close()
    server.end()
    return dates


async def application(scope, receive, send):
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})


async def test_a_server_has_no_tick_and_its_answers_have_the_date_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    moments = iter([0.5, 0.9, 86_400.0])
    monkeypatch.setattr(serving, "time", SimpleNamespace(time=lambda: next(moments)))

    async def ticked(self: uvicorn.Server, counter: int) -> bool:
        raise AssertionError("it ticks")

    monkeypatch.setattr(uvicorn.Server, "on_tick", ticked)
    config = uvicorn.Config(application, lifespan="off", log_config=None, ws="none", loop="none")
    server = serving.Server(config, lambda: None)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving_it = asyncio.create_task(server.serve(sockets=[listener]))
        dates = await asked(server, listener.getsockname()[1], 3)
        await serving_it
    assert dates == [b"Thu, 01 Jan 1970 00:00:00 GMT"] * 2 + [b"Fri, 02 Jan 1970 00:00:00 GMT"]


class Written:
    """Stands where Upkeep does: the signs of life that were written."""

    def __init__(self) -> None:
        self.beats: list[dict[str, Any]] = []

    def beat(self, process: str, now: int, figures: dict[str, Any]) -> None:
        self.beats.append(dict(figures))


@pytest.fixture
def boot() -> list[int]:
    return [1_000]


@pytest.fixture
def house(boot: list[int]) -> Iterator[Housekeeping]:
    """Housekeeping over nothing; its boot-time clock stands at `boot`."""
    time = SimpleNamespace(clock=Clock(lambda: NOW + boot[0], lambda: boot[0]))
    nobody: Any = None
    parts = [Written(), nobody, {}, Stats(), nobody, nobody, time, *[nobody] * 5, SimpleNamespace(figures={})]
    house = Housekeeping(*parts)
    yield house
    house._thread.shutdown()


async def test_the_couriers_sign_of_life_is_written_with_news_and_four_times_a_minute(
    house: Housekeeping, boot: list[int]
) -> None:
    beats = house._upkeep.beats  # type: ignore[attr-defined]
    for milliseconds, written in ((0, 1), (5_000, 1), (10_000, 2), (5_000, 2)):
        boot[0] += milliseconds
        await house._beat_if_due()
        assert len(beats) == written
    house._stats.requests += 1
    await house._beat_if_due()
    assert len(beats) == 3
    await house.beat()  # the last one of all is written whatever it says
    assert len(beats) == 4


async def test_no_sign_of_life_is_later_than_the_calm_one(house: Housekeeping, boot: list[int]) -> None:
    """Somebody commits at any moment: the job asks every 5 s until a sign is due, and rests for the calm behind one."""
    written = house._upkeep.beats  # type: ignore[attr-defined]
    for stirred_at in range(5_000, 15_001, 100):  # no earlier does a job wake
        await house.beat()
        before, waits = len(written), [stirred_at]
        while len(written) == before:
            boot[0] += waits[-1]
            again = await house._beat_if_due()
            assert again == (len(written) == before)
            waits.append(5_000)
        assert sum(waits[:-1]) <= 15_000, stirred_at


async def test_an_outage_is_one_line_of_a_job_and_not_one_a_turn(
    house: Housekeeping, caplog: pytest.LogCaptureFixture
) -> None:
    """A job fails three times, does its work, and fails three times more, the last of them for another reason."""
    turns = iter([*["away"] * 3, "", *["away"] * 2, "full", "end"])

    async def job() -> None:
        if (said := next(turns)) == "end":
            raise EOFError
        if said:
            raise Unavailable(said)

    with caplog.at_level("ERROR"), pytest.raises(EOFError):
        await house._every(0, 0, job)
    said = [record.__dict__["fields"]["reason"] for record in caplog.records if "has to wait" in record.message]
    assert said == ["away", "away", "full"]


async def test_a_clock_that_is_set_is_told_at_once(
    house: Housekeeping, boot: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    system = [NOW]
    monkeypatch.setattr(house._time, "clock", Clock(lambda: system[0], lambda: boot[0]))
    signs: list[int] = []
    monkeypatch.setattr(house._upkeep, "beat", lambda _, now, figures: signs.append(now))
    await house.beat()
    for set_by in (3_600_000, -7_200_000, 61_000, 1_000, 0):
        boot[0] += 2_000
        system[0] += 2_000 + set_by
        await house._beat_if_late()
        assert (signs[-1] == system[0]) is (set_by != 0)
    boot[0] += 3_600_000  # the machine has slept, and the clock is right
    system[0] += 3_600_000
    await house._beat_if_late()
    assert signs[-1] == system[0]


def test_the_keeper_tells_of_itself_once_the_clock_is_set(tmp_path: Path) -> None:
    with Kit(tmp_path, clock=lambda system, _: Clock(system, lambda: NOW)) as kit:  # type: ignore[arg-type]
        kit.transaction.beat()
        assert not kit.transaction._has_news()
        kit.now += 61_000
        assert kit.transaction._has_news()
        kit.transaction.beat()
        told = kit.transaction._db.execute("SELECT at FROM heartbeat WHERE process = 'keeper'").get
        assert told == kit.now, "the system's clock, with which it is compared"


async def test_a_job_rests_until_somebody_commits(house: Housekeeping) -> None:
    runs: asyncio.Queue[bool] = asyncio.Queue()
    more = [True, False, False]

    async def job() -> bool:
        runs.put_nowait(more[0])
        return more.pop(0)

    task = asyncio.create_task(house._every(0.0, 3_600.0, job))
    assert [await runs.get(), await runs.get()] == [True, False]  # what has more to do goes on by itself
    for _ in range(50):
        await asyncio.sleep(0)
    assert runs.empty()
    house.stir()
    assert await runs.get() is False
    task.cancel()


def test_C1_the_mark_is_written_with_news_and_four_times_a_minute(tmp_path: Path) -> None:
    system, boot = [NOW], [1_000]
    config = courier_kit.config_for(tmp_path, "http://127.0.0.1:1")
    with courier_kit.bench(config) as one, courier_kit.bench(config) as other:
        keeper = Timekeeper(Kept(one.db), lambda: system[0], lambda: boot[0])
        commits = Commits(other.db)
        commits.happened()

        def stepped() -> bool:
            keeper.step(lambda text: None)
            return commits.happened()

        system[0], boot[0] = system[0] + 1, boot[0] + 1
        assert [stepped(), stepped()] == [True, False]
        system[0], boot[0] = system[0] + 14_999, boot[0] + 14_999
        assert not stepped()
        system[0], boot[0] = system[0] + 1, boot[0] + 1
        assert [stepped(), stepped()] == [True, False]
        keeper.heard(NOW)
        keeper.heard(NOW)  # Meta's clock, believed by now
        assert [stepped(), stepped()] == [True, False]
        Kept(other.db).accept(keeper.clock.reading())  # a person's word waits for nothing
        system[0], boot[0] = system[0] + 1, boot[0] + 1
        assert [stepped(), stepped()] == [True, False]
        system[0] += 3_600_000  # and so does a jump
        assert stepped()


def test_the_keepers_sign_of_life_is_written_with_news_and_four_times_a_minute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Kit(tmp_path) as kit:
        now = [transaction.time.monotonic() + 60]
        monkeypatch.setattr(transaction.time, "monotonic", lambda: now[0])
        beats: list[float] = []
        beat = kit.transaction.beat

        def beaten() -> None:
            beats.append(now[0])
            beat()

        monkeypatch.setattr(kit.transaction, "beat", beaten)

        def idle(seconds: float) -> bool:
            """Whether it was written after so long."""
            now[0] += seconds
            kit.now += int(seconds * 1000)
            kit.transaction.idle()
            return bool(beats) and beats[-1] == now[0]

        assert kit.transaction.all_learned.wait(20)  # that the filter knows every click is news
        idle(5)
        assert [idle(5), idle(5), idle(5)] == [False, False, True]
        kit.submit([kit.operation(click("IwARnews", visitorId="v"))])
        kit.transaction.count()  # a quarter of a second later
        assert [idle(5), idle(5)] == [True, False]
        kit.journal.count([(1, "sent", 1)], {})
        assert [idle(5), idle(5)] == [True, False]
        kit.transaction.broken = True  # a disk that refuses writes is tried at once
        assert idle(5)


def test_what_other_processes_did_is_read_when_they_have_committed(tmp_path: Path) -> None:
    with Kit(tmp_path) as kit:
        keeper, commits = kit.transaction, Commits(kit.transaction._db)
        keeper.refresh_keys(force=True)
        before = keeper.keys
        keeper._keys_at, keeper._others = -1e9, SimpleNamespace(happened=lambda: False)
        keeper.refresh_keys()
        assert keeper.keys is before  # not even asked
        other = kept.know(apsw.Connection(str(tmp_path / "collector.db")))
        other.execute("INSERT INTO shop_inbox (store, platform, topic, seen, body) VALUES ('s', 'p', 't', 1, x'00')")
        other.close()
        keeper._keys_at, keeper._others = -1e9, commits
        keeper.refresh_keys()
        assert keeper.keys is not before
        assert keeper.inbox == 1


@pytest.mark.slow
def test_a_quiet_program_sleeps(tmp_path: Path) -> None:
    """What it costs is how often it wakes: 62 times a second cost 0.8 to 1.3 % of a core, 20 a third of that."""
    serving_it = Serving(SOURCE, tmp_path)
    try:
        serving_it.ready()
        time.sleep(_WINDOW_S)
        before = wakes(serving_it)
        time.sleep(_WINDOW_S)
        assert (wakes(serving_it) - before) / _WINDOW_S < MOST_WAKES
    finally:
        serving_it.end()


def wakes(one: Serving) -> int:
    """How often the threads of all its processes have gone to sleep."""
    states = [status.read_text() for pid in one.tree() for status in Path(f"/proc/{pid}/task").glob("*/status")]
    return sum(int(re.findall(r"\nvoluntary_ctxt_switches:\s+(\d+)", state)[0]) for state in states)
