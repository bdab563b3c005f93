"""Large batches are prepared by a helper process: the answers are the edge's own, and nothing depends on it."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector import release
from collector.core import wire
from collector.core.intake import Caller
from collector.edge import helper
from collector.edge.helper import Answered, Hello, Question
from collector.edge.prepare import PreparedEvent, Preparer
from collector.errors import ApiError
from collector.process.program import own_command
from collector.storage.clock import Clock
from collector.storage.journal import Journal
from collector.storage.keys import ApiKey
from tests.edge_process import Edge, configuration, running

NOW = 1_790_000_000_000
AT = "2026-09-21T14:00:00Z"
CLICK = {
    "type": "click",
    "storeId": "store_abc123",
    "fbclid": "IwARgood00000",
    "landingPage": "https://shop.example/p",
    "ipAddress": "93.184.216.34",
    "userAgent": "Mozilla/5.0",
    "visitorId": "visitor-1",
}
ORDER = {
    "type": "conversion",
    "storeId": "store_abc123",
    "eventType": "Purchase",
    "orderId": "1001",
    "eventValue": 49.9,
    "currency": "USD",
    "customerData": {"email": "a@shop.example"},
}
ODD: list[Any] = [
    {},
    {"fbclid": None},
    {"fbclid": "not a click id"},
    {"fbclid": "\u0000"},
    {"storeId": "store_closed"},
    {"storeId": "store_other"},
    {"timestamp": AT},
    {"timestamp": "yesterday"},
    {"consent": {"marketing": "denied"}},
    {"userAgent": "Googlebot/2.1"},
    {"ipAddress": "127.0.0.1"},
    {"ipAddress": "here"},
    {"fbp": "broken", "fbc": "fb.1.1790000000000.IwARgood00000"},
    {"more": 1, "fingerprint": "a1b2c3d4e5", "eventId": "e1"},
    {"visitorId": 7, "referrer": []},
    {"landingPage": "/only/a/path", "ipAddress": "93.184.216.34, 10.0.0.1"},
]
ITEMS = st.one_of(
    st.sampled_from(ODD).map(lambda change: CLICK | change),
    st.integers(0, 99).map(
        lambda n: CLICK | {"fbclid": f"IwARmany000{n:02}", "landingPage": f"https://shop.example/ü{n}"}
    ),
    st.sampled_from(
        [ORDER, ORDER | {"eventValue": "x"}, ORDER | {"type": "event", "eventType": "Lead"}, 7, None, "x", []]
    ),
)


class Both:
    """The same installation in this process: as the edge has it, and as the helper is told of it."""

    def __init__(self, folder: Path) -> None:
        config = configuration(folder)
        self.journal = Journal(config, Clock(lambda: NOW, lambda: NOW))
        journal = self.journal
        self.own = Preparer(config, journal.stores, journal.names, journal.public, lambda: NOW, lambda *_: None)
        told = msgspec.msgpack.encode(Hello(release.name(), config, journal.stores, journal.names.pepper))
        self.other = helper._preparer(msgspec.msgpack.decode(told, type=Hello))

    def alone(self, body: bytes, question: Question) -> Any:
        try:
            decoded = wire.decode_batch(body, lines=question.lines)
        except ApiError as error:
            return _said(error)
        return [_said(one) for one in self.own.items(decoded, _caller(question), _key(question), NOW)]

    def aside(self, body: bytes, question: Question) -> Any:
        raw = helper._guarded(self.other, msgspec.msgpack.encode(question), body)
        if raw == helper.ELSE:
            return self.alone(body, question)
        answered = msgspec.msgpack.decode(raw, type=list[Answered])
        left = [wire.decode_item(one) for one in answered if isinstance(one, bytes)]
        own = iter(self.own.items(left, _caller(question), _key(question), NOW))
        return [_said(next(own) if isinstance(one, bytes) else one) for one in answered]


def _caller(question: Question) -> Caller:
    return Caller(secret=True, address=question.address)


def _key(question: Question) -> ApiKey:
    return ApiKey("key_1", b"", "secret", question.store, 0, None)


def _said(one: Any) -> Any:
    """Everything of it but the identity of an error."""
    if isinstance(one, ApiError):
        return one.code, one.message, one.field
    if isinstance(one, PreparedEvent):
        return msgspec.to_builtins(one.operation.event), one.operation.query, one.ignored
    return msgspec.to_builtins(one)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    installation = Both(tmp_path_factory.mktemp("both"))
    yield installation
    installation.journal.close()


@settings(deadline=None)
@given(
    st.lists(ITEMS, max_size=12),
    st.booleans(),
    st.sampled_from([None, "127.0.0.1", "93.184.216.34"]),
    st.sampled_from([None, "store_abc123"]),
)
def test_the_helper_makes_of_a_batch_what_the_edge_makes(
    both: Both, items: list[Any], lines: bool, address: str | None, store: str | None
) -> None:
    raw = [json.dumps(item).encode() for item in items]
    body = b"\n".join(raw) if lines else b"[" + b",".join(raw) + b"]"
    question = Question(NOW, lines, address, store)
    assert both.aside(body, question) == both.alone(body, question)


@pytest.mark.parametrize("body", [b"", b"{", b"{}", b"7", b"[" * 2000, b"[" + b"{}," * 1000 + b"{}]", b"[\xff]"])
def test_a_batch_that_is_bad_as_a_whole_is_left_to_the_edge(both: Both, body: bytes) -> None:
    question = Question(NOW, False, None, None)
    assert helper._guarded(both.other, msgspec.msgpack.encode(question), body) == helper.ELSE
    assert both.aside(body, question) == both.alone(body, question)


def test_a_good_click_does_not_come_back_as_it_came(both: Both) -> None:
    """Or the edge would do all the work a second time, and no other test would notice."""
    question = Question(NOW, False, None, None)
    answered = helper.answer(both.other, question, json.dumps([CLICK, ORDER, CLICK]).encode())
    assert [isinstance(one, bytes) for one in answered] == [False, True, False]


def test_F1_what_is_left_out_is_counted_by_field_once_an_event(both: Both) -> None:
    counted: list[str] = []
    journal = both.journal
    own = Preparer(
        configuration(Path()),
        journal.stores,
        journal.names,
        journal.public,
        lambda: NOW,
        lambda store, name: counted.append(name),
    )
    odd = {"products": [{"price": "1,5"}, {"price": "2,5"}], "visitorId": [], "customData": {"a": 1 << 60}, "mine": 1}
    items = [ORDER | odd, CLICK | {"fbc": "fb.1.1.x", "mine": 1}, CLICK, ORDER]
    decoded = wire.decode_batch(json.dumps(items).encode())
    assert not any(isinstance(one, ApiError) for one in own.items(decoded, Caller(secret=True), _key(Q), NOW))
    assert sorted(counted) == [f"left_out.{name}" for name in ("customData", "fbc", "products.price", "visitorId")]


Q = Question(NOW, False, None, None)


def batch(first: int, count: int = 200) -> list[dict[str, Any]]:
    """Clicks, and of each tenth place an order of the click before."""
    made: list[dict[str, Any]] = []
    for n in range(first, first + count):
        person = {"visitorId": f"visitor-{n // 10}"}
        if n % 10 == 9:
            made.append(ORDER | person | {"orderId": str(n)})
        else:
            made.append(CLICK | person | {"fbclid": f"IwARnumber{n:06}"})
    return made


def post(edge: Edge, items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    answer = edge.post("/v1/track/batch", items)
    assert answer.status == 200, answer
    return list(answer.body["data"]["results"])


def helper_of(edge: Edge) -> int | None:
    """The process id of the edge's helper."""
    for child in Path(f"/proc/{edge.pid}/task/{edge.pid}/children").read_text().split():
        if "helper" in Path(f"/proc/{child}/cmdline").read_text().split("\0"):
            return int(child)
    return None


def until(true: Callable[[], Any], seconds: float = 20.0) -> Any:
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.02)
    return found


def with_helper(edge: Edge) -> int:
    """Have a helper take batches; its process id."""
    before = len(ready(edge))
    post(edge, batch(0))
    return int(until(lambda: ready(edge)[before:])[0])


def ready(edge: Edge) -> list[str]:
    """The process ids of the helpers that have begun to work."""
    return re.findall(r"a helper takes large batches.*?pid\W+(\d+)", edge.log.read_text())


def right(results: list[dict[str, Any]]) -> bool:
    """Whether each is a success, and each order was given to a click of its visitor: one of the nine before it."""
    for number, one in enumerate(results):
        if not one["success"]:
            return False
        if "attributed" in one["data"]:
            own = [before["data"]["fbclid"] for before in results[number - 9 : number]]
            if one["data"]["attributedTo"]["fbclid"] not in own:
                return False
    return True


def test_answers_before_with_and_after_the_helper(tmp_path: Path) -> None:
    with running(tmp_path) as edge:
        assert helper_of(edge) is None, "a small shop pays for none"
        assert right(post(edge, batch(1000)))
        pid = with_helper(edge)
        assert right(results := post(edge, batch(2000)))
        again = post(edge, batch(2000))
        assert [one["data"].get("duplicate") for one in again] == [True] * 200
        assert [_id(one) for one in again] == [_id(one) for one in results]
        os.kill(pid, signal.SIGKILL)
        until(lambda: not Path(f"/proc/{pid}").exists())
        assert right(post(edge, batch(3000)))
        until(lambda: "the helper is gone" in edge.log.read_text())


def _id(one: dict[str, Any]) -> str:
    return str(one["data"].get("clickId") or one["data"]["conversionId"])


def test_a_batch_that_the_helper_dies_over_is_answered(tmp_path: Path) -> None:
    with running(tmp_path, "from collector.edge import aside; aside._ANSWER_SECONDS = 60") as edge:
        pid = with_helper(edge)
        os.kill(pid, signal.SIGSTOP)
        results = list[Any]()
        waiting = threading.Thread(target=lambda: results.extend(post(edge, batch(2000))))
        waiting.start()
        time.sleep(0.3)
        assert not results, "the helper has it"
        os.kill(pid, signal.SIGKILL)
        waiting.join(10)
        assert right(results)
        assert len(results) == 200


def test_a_helper_that_hangs_is_ended_and_its_batch_answered(tmp_path: Path) -> None:
    with running(tmp_path, "from collector.edge import aside; aside._ANSWER_SECONDS = 0.3") as edge:
        pid = with_helper(edge)
        os.kill(pid, signal.SIGSTOP)
        assert right(post(edge, batch(2000)))
        until(lambda: helper_of(edge) is None)
        assert "the helper does not answer" in edge.log.read_text()


SPOILT = {
    "another release's": "from collector import release; release.name = lambda: 'the one before'",
    "not to be read": (
        "import msgspec; from collector.edge import aside; aside._decode = lambda raw: msgspec.msgpack.decode(b'\\xc1')"
    ),
}


@pytest.mark.parametrize("name", SPOILT)
def test_a_helper_that_is_of_no_use_harms_nobody(tmp_path: Path, name: str) -> None:
    """The program may be replaced under a running edge: a newer helper might name and store otherwise."""
    with running(tmp_path, SPOILT[name]) as edge:
        numbers = iter(range(1000, 100_000, 200))
        until(lambda: right(post(edge, batch(next(numbers)))) and "the helper is gone" in edge.log.read_text())
        assert right(post(edge, batch(next(numbers))))


def test_an_idle_helper_goes_and_comes_again(tmp_path: Path) -> None:
    with running(tmp_path, "from collector.edge import aside; aside._IDLE_SECONDS = 0.5") as edge:
        pid = with_helper(edge)
        until(lambda: not Path(f"/proc/{pid}").exists())
        assert "gone" not in edge.log.read_text(), "that is no fault"
        assert with_helper(edge) != pid


def test_a_helper_ends_with_its_edge(tmp_path: Path) -> None:
    with running(tmp_path) as edge:
        pid = with_helper(edge)
        os.kill(edge.pid, signal.SIGKILL)
        until(lambda: not Path(f"/proc/{pid}").exists() or _is_zombie(pid))


def _is_zombie(pid: int) -> bool:
    return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()


def test_a_drain_takes_the_helper_along(tmp_path: Path) -> None:
    """SIGTERM to the whole group, as service managers send it: the batch in hand is answered all the same."""
    with running(tmp_path) as edge:
        pid = with_helper(edge)
        for one in (pid, edge.pid):
            os.kill(one, signal.SIGTERM)
        until(lambda: not Path(f"/proc/{pid}").exists() or _is_zombie(pid))
    assert "gone" not in edge.log.read_text()


def run(env: dict[str, str], *fds: int) -> subprocess.CompletedProcess[str]:
    command = own_command("helper")
    return subprocess.run(command, env=os.environ | env, pass_fds=fds, capture_output=True, text=True, check=False)


def test_an_edge_that_ended_before_it_said_a_word() -> None:
    """In a process of its own: a helper ignores SIGTERM, and whoever is started by such a process does too."""
    ours, theirs = socket.socketpair()
    ours.close()
    with theirs:
        done = run({helper.FD: str(theirs.fileno())}, theirs.fileno())
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_nobody_but_the_edge_starts_one() -> None:
    done = run({})
    assert done.returncode == 2
    assert "the edge starts it by itself" in done.stderr
