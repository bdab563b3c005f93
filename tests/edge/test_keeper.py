"""Edge and keeper: frames on their connection, and what each promises while the other is away, stopped or dead."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector import release
from collector.core.cookies import EMPTY
from collector.edge import keeper as edge_keeper
from collector.errors import ApiError, StorageError
from collector.exchange import frames, links
from collector.exchange.clicks import ClickResult, NewClick
from collector.exchange.frames import Frames, Operations, Question, Submitted, ToEdge, ToKeeper
from collector.exchange.operations import Again, Answered, Once, Remember, Reworded, Withdraw
from collector.exchange.prepared import PreparedEvent
from tests.kit.harness import STORE, TOKEN, Door, GraphSimulator, Installation, wait_until
from tests.kit.journal_kit import Kit, click, order
from tests.kit.program import ROOT, SOURCE, Serving

CLICK = {"storeId": STORE, "landingPage": "https://mystore.com/?utm=a"}
CUSTOMER = {"email": "jo@example.com", "phone": "+14155550100", "firstName": "Ana María"}


@pytest.fixture
def kit(tmp_path: Path) -> Iterator[Kit]:
    with Kit(tmp_path) as kit:
        yield kit


# -- frames


def fed(stream: bytes, cuts: list[int]) -> list[bytes]:
    """The contents that come out when the stream arrives in these pieces."""
    cutter, found, last = Frames(), [], 0
    for cut in [*sorted(cuts), len(stream)]:
        found += list(cutter.feed(stream[last:cut]))
        last = cut
    return found


STREAM = b"".join(
    frames.frame(content)
    for content in (
        ToKeeper(),
        ToKeeper([Submitted(7, [NewClick((1, 2, None, b"body"), ("203.0.113.9", None), "v", "IwAR0")])]),
        ToKeeper(questions=[Question(8, "click", 4)], figures=[(1, "left_out.x", 2)], totals={"http.click.200": 9}),
    )
)


def test_a_stream_cut_at_any_byte_gives_the_same_frames() -> None:
    whole = fed(STREAM, [])
    assert len(whole) == 3
    for cut in range(len(STREAM) + 1):
        assert fed(STREAM, [cut]) == whole
    assert fed(STREAM, list(range(len(STREAM)))) == whole


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_a_stream_in_any_pieces_gives_the_same_frames(cuts: list[int]) -> None:
    assert fed(STREAM, cuts) == fed(STREAM, [])


@given(st.binary(min_size=4, max_size=64))
def test_what_is_no_frame_is_refused_and_breaks_nothing(noise: bytes) -> None:
    cutter = Frames()
    try:
        for content in cutter.feed(noise):
            frames.decode_to_keeper(content)
    except ValueError:
        pass  # the one thing that a reader must expect


def test_a_frame_of_a_length_that_none_has_is_refused() -> None:
    with pytest.raises(ValueError, match="bytes"):
        list(Frames().feed((frames.LONGEST + 1).to_bytes(4, "little") + b"x" * 16))


def test_every_operation_is_the_same_on_the_other_side(kit: Kit) -> None:
    event = kit.operation(
        order("1", visitorId="v-1", customerData=CUSTOMER, products=[{"productId": "a", "price": 9.5}])
    )
    sent = [
        kit.operation(click("IwARsame00001", visitorId="v-1")),
        event,
        Once([PreparedEvent(event, ()), b"an answer"], 7, b"hash", True),
        Reworded(7, b"hash", b"{}"),
        Again(3),
        Remember(1, "v-1", 5, 6, 1),
        Withdraw(1, "v-1", 5),
    ]
    content = ToKeeper([Submitted(1, [frames.asking(one) for one in sent])])
    (raw,) = Frames().feed(frames.frame(content))
    (submitted,) = frames.decode_to_keeper(raw).submitted
    back = Operations({store.number: store for store in kit.journal.stores.values()}, kit.journal.public)
    got = [back.of(one) for one in submitted.operations]
    assert got[0] == sent[0]
    assert [type(one) for one in got] == [type(one) for one in sent]
    assert got[1].event == event.event
    assert got[1].query == event.query
    assert got[1].identities == event.identities
    assert got[1].store is event.store
    assert got[3:] == sent[3:]


def test_every_result_is_the_same_on_the_other_side(kit: Kit) -> None:
    stored = kit.submit(
        [kit.operation(click("IwARback00001", visitorId="v")), kit.operation(order("9", visitorId="v"))]
    )
    refused = ApiError("order_conflict", "another value", "eventValue")
    unnamed = ApiError("order_conflict", "erased", "orderId")
    unnamed.order = ""
    results = [*stored, Answered(200, b"{}", True, [stored[0], refused]), refused, EMPTY, None, unnamed]
    (raw,) = Frames().feed(frames.frame(ToEdge([frames.committed(4, results)])))
    (one,) = frames.decode_to_edge(raw).committed
    got = [frames.value_of(result) for result in one.results]
    assert got[0] == stored[0]
    assert got[1].state.row == stored[1].state.row
    assert got[1].state.match == stored[1].state.match
    assert isinstance(got[2].results[0], ClickResult)
    assert (got[2].results[1].code, got[3].code, got[3].field) == ("order_conflict", "order_conflict", "eventValue")
    assert (got[3].order, got[6].order) == (None, "")
    assert got[4:6] == [EMPTY, None]


@pytest.mark.parametrize(("error", "fault"), [(StorageError("full"), "storage"), (KeyError("x"), "defect")])
def test_a_fault_says_whose_it_is_and_nothing_of_what_was_in_it(error: Exception, fault: str) -> None:
    assert frames.committed(1, error) == frames.Committed(1, [], fault)  # type: ignore[arg-type]


# -- connections


def test_an_end_reaches_the_child_that_asked_for_it() -> None:
    ours, theirs = links.control()
    with ours, theirs:
        links.ask(theirs)
        assert links.asked(ours) is True
        assert links.asked(ours) is False
        one, other = links.pair()
        assert links.give(ours, one)
        end = links.take(theirs)
        assert isinstance(end, socket.socket)
        with end, other:
            end.send(b"x")
            assert other.recv(1) == b"x"
        links.tell_to_end(ours)
        assert links.take(theirs) == "end"
        ours.close()
        assert links.take(theirs) is None


def test_a_child_that_is_gone_is_given_nothing() -> None:
    ours, theirs = links.control()
    with ours:
        theirs.close()
        one, other = links.pair()
        with other:
            assert not links.give(ours, one)
        assert links.asked(ours) is None


# -- what gathers while the keeper works


class _Far:
    """The keeper's end of an edge's connection, played by the test."""

    def __init__(self, end: socket.socket) -> None:
        self.end, self._frames = end, Frames()

    def tell(self, content: ToEdge) -> None:
        self.end.send(frames.frame(content))

    def told(self, *numbers: int) -> None:
        """These submissions are on disk."""
        self.tell(ToEdge([frames.committed(number, [ClickResult(number, 1, False)]) for number in numbers]))

    async def heard(self) -> list[int]:
        """The submissions of the next frame."""
        data = await asyncio.get_running_loop().sock_recv(self.end, 1 << 20)
        (content,) = self._frames.feed(data)
        return [one.number for one in frames.decode_to_keeper(content).submitted]

    async def silent(self) -> bool:
        """Whether nothing comes for many turns of the loop."""
        for _ in range(20):
            await asyncio.sleep(0)
        try:
            return not self.end.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return True


@contextlib.asynccontextmanager
async def far_keeper() -> AsyncIterator[tuple[edge_keeper.Keeper, _Far]]:
    ours, theirs = links.control()
    with ours, theirs:
        keeper = edge_keeper.Keeper(theirs)
        one, end = links.pair()
        with one, end:
            links.give(ours, one)
            far = _Far(end)
            state = frames.State([], [], False, True, None, None)
            far.tell(ToEdge(hello=frames.Hello(release.name(), {}, b"p" * 32), state=state))
            await keeper.greeted()
            yield keeper, far
            keeper.close()


CLICKED = NewClick((1, 2, None, b"body"), ("203.0.113.9", None), "v", "IwAR0")


async def test_the_keepers_word_that_orders_wait_in_the_inbox_wakes_who_reads_it() -> None:
    async with far_keeper() as (keeper, far):
        assert keeper.inbox_filled.is_set()  # a keeper that begins may have found some
        for inbox, told in ((0, False), (1, True), (1, False), (2, True)):
            keeper.inbox_filled.clear()
            asked = asyncio.ensure_future(keeper.inbox())
            await asyncio.sleep(0)
            state = frames.State([], [], False, True, None, None, inbox)
            far.tell(ToEdge(state=state, found=[frames.Found(keeper._number, frames.FoundInbox([]))]))
            assert await asked == []
            assert keeper.inbox_filled.is_set() is told


async def test_what_comes_while_the_keeper_works_gathers_and_goes_before_the_answers() -> None:
    async with far_keeper() as (keeper, far):
        first = keeper.submit([CLICKED])
        assert await far.heard() == [1]
        others = [keeper.submit([CLICKED]) for _ in range(2)]
        assert await far.silent()
        seen: list[bool] = []
        first.add_done_callback(lambda _: seen.append(keeper._under_way == 3))
        far.told(1)
        assert await far.heard() == [2, 3]
        assert (await first)[0].id == 1
        assert seen == [True], "the keeper has its next group before anybody is answered"
        far.told(2, 3)
        assert [(await other)[0].id for other in others] == [2, 3]
        last = keeper.submit([CLICKED])
        assert await far.heard() == [4], "with nothing under way it goes at once"
        far.told(4)
        await last


async def test_a_question_and_many_operations_do_not_wait_for_the_group_under_way() -> None:
    async with far_keeper() as (keeper, far):
        keeper.submit([CLICKED])
        assert await far.heard() == [1]
        asked = asyncio.ensure_future(keeper.click(7))
        assert await far.heard() == []
        keeper.submit([CLICKED] * 300)
        assert await far.heard() == [3]
        far.tell(ToEdge(found=[frames.Found(2, None)]))
        assert await asked is None


async def test_control_without_gathering_each_submission_is_a_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge_keeper, "_MANY", 1)
    async with far_keeper() as (keeper, far):
        keeper.submit([CLICKED])
        assert await far.heard() == [1]
        keeper.submit([CLICKED])
        assert not await far.silent()


async def test_what_has_gathered_goes_to_the_next_keeper() -> None:
    async with far_keeper() as (keeper, far):
        lost = keeper.submit([CLICKED])
        assert await far.heard() == [1]
        kept = keeper.submit([CLICKED])
        far.end.shutdown(socket.SHUT_RDWR)
        with pytest.raises(StorageError):
            await lost
        assert not kept.done()
        one, end = links.pair()
        with one, end:
            keeper._opening.append(asyncio.ensure_future(keeper._open(one)))
            assert await _Far(end).heard() == [2]


async def _refused(far: _Far) -> list[tuple[str, str, str]]:
    """What the next frame tells of refusals."""
    data = await asyncio.get_running_loop().sock_recv(far.end, 1 << 20)
    (content,) = Frames().feed(data)
    return frames.decode_to_keeper(content).refused


@pytest.mark.parametrize("erased", [[], [7]], ids=["the control", "erased"])
async def test_numbers_that_wait_in_the_edge_go_with_an_erasure(erased: list[int]) -> None:
    async with far_keeper() as (keeper, far):
        keeper.refuse("refused", ApiError("invalid_currency", "?", "currency"), b'{"orderId": "J-1"}')
        far.tell(ToEdge(state=frames.State([], erased, False, True, None, None)))
        asked = asyncio.ensure_future(keeper.click(7))
        await far.heard()
        far.tell(ToEdge(found=[frames.Found(1, None)]))  # what was told before has been heard by then
        await asked
        keeper._tell_figures()
        assert await _refused(far) == [("invalid_currency", "currency", "" if erased else "J-1")]


async def test_numbers_of_while_the_keeper_was_away_are_not_kept() -> None:
    """It may have heeded an erasure meanwhile, and is asked before it has said so."""
    async with far_keeper() as (keeper, far):
        keeper.refuse("refused", ApiError("not_found", "?"), b'{"orderId": "J-1"}')
        lost = keeper.submit([CLICKED])
        far.end.shutdown(socket.SHUT_RDWR)
        with pytest.raises(StorageError):
            await lost
        keeper.refuse("refused", ApiError("not_found", "?"), b'{"orderId": "J-2"}')
        one, end = links.pair()
        with one, end:
            await keeper._open(one)
            keeper._tell_figures()
            assert await _refused(_Far(end)) == [("not_found", "", "")] * 2


# -- the program


@pytest.fixture(scope="module")
def graph() -> Iterator[GraphSimulator]:
    with GraphSimulator(token=TOKEN) as graph:
        yield graph


def posted(door: Door, key: str, number: int) -> int:
    """The status of one more click."""
    return door.post("/v1/track/click", CLICK | {"fbclid": f"IwARkeeper{number:08}"}, key).status_code


def count(place: Installation) -> int:
    return int(place.rows("SELECT count(*) FROM click")[0][0])


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0, 10])
def test_a_keeper_that_stands_still_is_503_and_then_all_is_well(
    tmp_path: Path, graph: GraphSimulator, seconds: int
) -> None:
    """It stands until the first 503 at least, and for `seconds`."""
    place = Installation(tmp_path, graph.url)
    key = place.make_key()
    with place.serve() as door:
        assert posted(door, key, 1) == 200
        keeper = door.serving.children()["keeper"]
        os.kill(keeper, signal.SIGSTOP)
        try:
            until = time.monotonic() + seconds
            assert posted(door, key, 2) == 503
            while time.monotonic() < until:
                assert posted(door, key, 2) == 503
            assert door.get("/healthz").status_code == 200
        finally:
            os.kill(keeper, signal.SIGCONT)
        assert wait_until(lambda: posted(door, key, 3) == 200, 60)
        assert posted(door, key, 2) == 200, "the retry of who was told 503 is the same click, stored once"
        assert count(place) == 3


def test_a_killed_keeper_loses_nothing_and_the_edge_goes_on_with_the_next(
    tmp_path: Path, graph: GraphSimulator
) -> None:
    place = Installation(tmp_path, graph.url)
    key = place.make_key()
    with place.serve() as door:
        assert posted(door, key, 1) == 200
        before = door.serving.children()
        os.kill(before["keeper"], signal.SIGKILL)
        assert posted(door, key, 2) in (200, 503)  # it waits for the next keeper, or is told that none answers
        assert wait_until(lambda: posted(door, key, 3) == 200, 60)
        assert door.serving.children()["edge"] == before["edge"]
        assert posted(door, key, 2) == 200
        assert count(place) == 3


@pytest.mark.slow
def test_two_edges_share_the_port_and_one_keeper(tmp_path: Path, graph: GraphSimulator) -> None:
    place = Installation(tmp_path, graph.url, edge="workers = 2")
    key = place.make_key()
    with place.serve() as door:
        pids = [pid for pid in door.serving.tree() if "edge" in words(pid)]
        assert len(pids) == 2
        assert {posted(door, key, number) for number in range(40)} == {200}
        os.kill(pids[0], signal.SIGKILL)
        again = Door(door.serving)
        assert wait_until(lambda: posted(again, key, 99) == 200, 60)
        assert count(place) == 41


def words(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
    except OSError:
        return []


@pytest.mark.slow
def test_edge_and_keeper_run_as_units_of_their_own(tmp_path: Path, graph: GraphSimulator) -> None:
    """A systemd unit each: the edge waits for the keeper's socket file, and for the next keeper."""
    place = Installation(tmp_path, graph.url)
    key = place.make_key()
    edge, keeper = Part(place, "edge"), Part(place, "keeper")
    try:
        door: Any = Door(edge, 60)
        assert posted(door, key, 1) == 200
        second = Part(place, "keeper", "second")
        assert second.process.wait(60) == 3, "one keeper to a data directory"
        assert keeper.stop() == 0
        keeper = Part(place, "keeper", "next")
        assert wait_until(lambda: posted(door, key, 2) == 200, 60)
        assert edge.stop() == 0
    finally:
        edge.end()
        keeper.end()
    assert count(place) == 2


class Part(Serving):
    """One process of the installation, under a supervisor of its own."""

    def __init__(self, place: Installation, role: str, name: str = "") -> None:
        self.tmp, self.command = place.folder / f"{role}{name}", place.command
        self.tmp.mkdir()
        self.began = time.monotonic()
        clean = {name: value for name, value in os.environ.items() if not name.startswith("COLLECTOR_")}
        with open(self.tmp / "stdout", "w") as out, open(self.tmp / "stderr", "w") as err:
            self.process = subprocess.Popen(
                [*SOURCE, role, "--config", str(place.config)],
                env={**clean, "PYTHONPATH": str(ROOT)},
                stdout=out,
                stderr=err,
                cwd=self.tmp,
            )
