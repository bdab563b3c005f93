"""A store that fails: no route says 2xx for what is not on disk, and the edge works again when the store does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.edge.test_error_shape import CLICK, FROM_SHOP, ORDER, assert_error
from tests.kit.edge_process import Edge, running
from tests.kit.raw_http import Answer, eventually

BEACON = {"s": "store_abc123", "e": [{"t": "PageView", "u": "https://shop.example/?fbclid=IwAR0abcdefghijklmnop"}]}
PIXEL = "/c.gif?s=store_abc123&u=https%3A%2F%2Fshop.example%2F"
ITEMS = [{"type": "click"} | CLICK, {"type": "conversion"} | ORDER, {"type": "event"} | ORDER | {"eventType": "Lead"}]
LINES = {"Content-Type": "application/x-ndjson"}
ONCE = {"Idempotency-Key": "k"}

# Every way in which something can be stored through the public door.
WRITES: dict[str, Any] = {
    "click": lambda edge: edge.post("/v1/track/click", CLICK),
    "click by a page": lambda edge: edge.post("/v1/track/click", CLICK, "page", FROM_SHOP),
    "click, once": lambda edge: edge.post("/v1/track/click", CLICK, headers=ONCE),
    "conversion": lambda edge: edge.post("/v1/track/conversion", ORDER),
    "conversion, waiting": lambda edge: edge.post("/v1/track/conversion", ORDER, headers={"Prefer": "wait=1"}),
    "conversion, once": lambda edge: edge.post("/v1/track/conversion", ORDER, headers=ONCE),
    "event": lambda edge: edge.post("/v1/track/event", ORDER | {"eventType": "Lead"}),
    "batch": lambda edge: edge.post("/v1/track/batch", ITEMS),
    "batch, once": lambda edge: edge.post("/v1/track/batch", ITEMS, headers=ONCE),
    "lines": lambda edge: edge.post("/v1/track/batch", "\n".join(map(json.dumps, ITEMS)).encode(), headers=LINES),
    "beacon": lambda edge: edge.post("/c", BEACON, None, FROM_SHOP),
    "pixel": lambda edge: edge.get(PIXEL, None, {"Referer": "https://shop.example/"}),
}

FAULTS = {
    "begin": "T.begin = lambda self: fail(StorageError('disk'))",
    "commit, full": "T.commit = lambda self: fail(apsw.FullError('disk'))",
    "commit, io error": "T.commit = lambda self: fail(apsw.IOError('disk'))",
    "commit, busy": "T.commit = lambda self: fail(apsw.BusyError('locked'))",
    "commit, a defect": "T.commit = lambda self: fail(RuntimeError('defect'))",
    "apply, a defect": "T.apply = lambda self, operation: fail(RuntimeError('defect'))",
}
PATCH = (
    "import apsw; from collector.errors import StorageError; "
    "from collector.storage.journal.transaction import GroupTransaction as T; "
)
FAIL = "exec('def fail(error):\\n raise error'); "


@pytest.mark.parametrize("fault", FAULTS)
def test_no_route_says_2xx_when_nothing_was_stored(tmp_path: Path, fault: str) -> None:
    with running(tmp_path, PATCH + FAIL + FAULTS[fault]) as edge:
        for name, write in WRITES.items():
            answer: Answer = write(edge)
            status, code = (500, "internal_error") if "defect" in fault else (503, "storage_unavailable")
            assert_error(answer, status, code)
            if status == 503:
                assert b"\r\nretry-after: " in answer.data, name
        assert edge.get("/healthz", None).status == 200, "the process lives, and says so"


def test_control_with_a_sound_store_all_of_these_are_2xx(tmp_path: Path) -> None:
    with running(tmp_path) as edge:
        assert {name: write(edge).status // 100 for name, write in WRITES.items()} == dict.fromkeys(WRITES, 2)


ONE_FAILURE = (
    "E = [1, 1]; C = T.commit; T.commit = lambda self: fail(apsw.IOError('disk')) if E and E.pop() else C(self)"
)


def test_what_failed_once_is_stored_when_it_is_sent_again(tmp_path: Path) -> None:
    with running(tmp_path, PATCH + FAIL + ONE_FAILURE) as edge:
        assert [edge.post("/v1/track/conversion", ORDER).status for _ in range(3)] == [503, 503, 200]
        assert_stored_once(edge)


FLUSH_FAILS_ONCE = (
    "from collector.storage.journal.clicks import Clicks; E = [1]; X = Clicks.flush; "
    "Clicks.flush = lambda self: fail(apsw.IOError('disk')) if E and E.pop() else X(self)"
)


def test_a_store_that_fails_is_no_readiness_and_a_write_that_succeeds_is(tmp_path: Path) -> None:
    still = "; T.beat = lambda self: None"  # a sign of life would mend it between the two questions
    with running(tmp_path, PATCH + FAIL + FLUSH_FAILS_ONCE + still) as edge:
        assert edge.get("/readyz", None).status == 200
        assert edge.post("/v1/track/click", CLICK).status == 503
        assert_error(edge.get("/readyz", None), 503, "storage_unavailable")
        assert edge.get("/healthz", None).status == 200
        assert edge.post("/v1/track/click", CLICK).status == 200
        assert edge.get("/readyz", None).status == 200


def assert_stored_once(edge: Edge) -> None:
    again = edge.post("/v1/track/conversion", ORDER).body["data"]
    assert again["duplicate"] is True
    assert edge.get(f"/v1/conversions/{again['conversionId']}").status == 200


BROKEN_BEGIN = (
    "E = [1]; L = type('L', (), {}); from collector.storage.index.lookup import Lookup; R = Lookup.begin; "
    "Lookup.begin = lambda self, horizon: fail(apsw.IOError('index')) if E and E.pop() else R(self, horizon)"
)


def test_a_failure_after_begin_leaves_no_transaction_open(tmp_path: Path) -> None:
    """Else every later group would fail with "cannot start a transaction within a transaction"."""
    with running(tmp_path, PATCH + FAIL + BROKEN_BEGIN) as edge:
        assert [edge.post("/v1/track/click", CLICK).status for _ in range(2)] == [503, 200]


def test_failing_upkeep_does_not_end_the_writer(tmp_path: Path) -> None:
    upkeep = "T.idle = lambda self: fail(OSError('upkeep'))"
    with running(tmp_path, PATCH + FAIL + upkeep) as edge:
        assert [edge.post("/v1/track/click", CLICK).status for _ in range(3)] == [200] * 3
        assert eventually(lambda: "upkeep failed" in edge.log.read_text())
