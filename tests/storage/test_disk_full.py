"""A full disk: posts are refused with 503, nothing acknowledged is lost, reads go on, and service resumes by itself.

The disk is a small tmpfs of the test's own, so it takes root.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.kit.harness import STORE, TOKEN, Door, GraphSimulator, Installation, alive, wait_until
from tests.kit.load import PAGE, Audit, Load, audit

MIB = 1024 * 1024
CLEAN = Audit(lost=[], twice=[], renamed=[], without_delivery=[], integrity="ok")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)], capture_output=True, text=True
    )
    if done.returncode != 0:
        pytest.skip(f"a file system cannot be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture(scope="module")
def graph() -> Iterator[GraphSimulator]:
    with GraphSimulator(token=TOKEN) as graph:
        yield graph


@pytest.fixture
def place(tmp_path: Path, disk: Path, graph: GraphSimulator) -> Installation:
    return Installation(tmp_path, graph.url, data=disk / "data")


def fill(disk: Path, leave: int = 0) -> Path:
    """Another program's file takes what is free, but for `leave` bytes."""
    path = disk / "filler"
    with open(path, "wb", buffering=0) as file:
        while True:
            free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize - leave
            if free <= 0:
                return path
            try:
                file.write(b"\0" * min(free, MIB))
            except OSError:
                return path


def click(name: str) -> dict[str, str]:
    return {"fbclid": f"IwARdisk{name:0>20}", "storeId": STORE, "landingPage": PAGE, "visitorId": f"visitor-{name}"}


@contextmanager
def full(disk: Path) -> Iterator[None]:
    filler = fill(disk)
    try:
        yield
    finally:
        filler.unlink()


def test_a_full_disk_refuses_reads_on_and_recovers(place: Installation, disk: Path) -> None:
    key = place.make_key()
    with place.serve() as door:
        assert door.get("/readyz").status_code == 200
        load = Load(door.url, key, STORE, threads=2)
        with load.running():
            assert wait_until(lambda: load.acknowledged > 300, 60)
            for _ in range(3):
                with full(disk):
                    assert wait_until(lambda: door.get("/readyz").status_code == 503, 60), "readyz"
                    assert_refused(door, key)
                    before = load.acknowledged
                    time.sleep(0.3)
                    assert load.acknowledged <= before + 25, "what was under way at most"
                    name, public_id = next(iter(load.clicks.items()))
                    state = door.get(f"/v1/clicks/{public_id}", key)
                    assert (state.status_code, state.json()["data"]["fbclid"]) == (200, name)
                    assert door.get("/healthz").status_code == 200
                assert wait_until(lambda: door.post("/v1/track/click", click("x"), key).status_code == 200, 60)
                assert door.get("/readyz").status_code == 200
                before = load.acknowledged
                assert wait_until(lambda b=before: load.acknowledged > b + 50, 60)
        pids = set(door.serving.children().values())
        assert len(pids) == 4
        assert all(map(alive, pids)), "no process was lost over it"
        assert_delivered(place)
        assert door.serving.stop() == 0
    assert load.faults == []
    assert 503 in load.answers
    assert audit(place.data, load) == CLEAN


def assert_refused(door: Door, key: str) -> None:
    order = {"storeId": STORE, "eventType": "Purchase", "orderId": "full", "eventValue": 1, "currency": "USD"}
    bodies = {
        "click": click("full"),
        "conversion": order,
        "event": {"storeId": STORE, "eventType": "Lead"},
        "batch": [{"type": "click", **click("full")}, {"type": "conversion", **order}],
    }
    for path, body in bodies.items():
        for headers in ({}, {"Idempotency_Key": f"full-{path}"}):
            answer = door.post(f"/v1/track/{path}", body, key, **headers)
            assert answer.status_code == 503, (path, answer.text)
            assert answer.json()["error"]["code"] == "storage_unavailable"
            assert int(answer.headers["retry-after"]) > 0


def assert_delivered(place: Installation) -> None:
    waiting = "SELECT count(*) FROM outbox WHERE settled IS NULL"
    assert wait_until(lambda: place.rows(waiting) == [(0,)], 60), "the courier goes on too"


@pytest.mark.slow
def test_a_crash_on_a_full_disk_loses_nothing(place: Installation, disk: Path) -> None:
    key = place.make_key()
    door = Door(place.start())
    load = Load(door.url, key, STORE, threads=2)
    with load.running():
        assert wait_until(lambda: load.acknowledged > 300, 60)
        filler = fill(disk)
        assert wait_until(lambda: load.answers[503] > 5, 60)
        door.serving.process.kill()
        door.serving.process.wait()
        assert wait_until(lambda: not any(map(alive, door.serving.children().values())), 60)
    crashed = audit_copy(place, load)
    again = place.start()
    time.sleep(1.0)
    filler.unlink()
    door = Door(again, 30)
    assert wait_until(lambda: door.post("/v1/track/click", click("y"), key).status_code == 200, 60)
    assert_delivered(place)
    assert door.serving.stop() == 0
    assert audit(place.data, load) == CLEAN
    assert crashed.lost == []


def audit_copy(place: Installation, load: Load) -> Audit:
    """The files as the crash left them, read elsewhere: opening them where they are would mend them."""
    import shutil

    copy = place.folder / "copy"
    shutil.copytree(place.data, copy, ignore=shutil.ignore_patterns("*.sock"))
    return audit(copy, load)


@pytest.mark.slow
def test_a_first_start_without_room_ends_in_one_sentence(place: Installation, disk: Path) -> None:
    filler = fill(disk)
    serving = place.start()
    assert serving.process.wait(20) == 3, serving.stderr
    assert "Traceback" not in serving.stderr
    assert "please report" not in serving.stderr
    filler.unlink()
    with place.serve() as door:  # and left nothing that would keep the next one from starting
        assert door.get("/readyz").status_code == 200


@pytest.mark.slow
def test_a_start_on_a_full_disk_reads_and_refuses_until_there_is_room(place: Installation, disk: Path) -> None:
    key = place.make_key()
    with place.serve() as door:
        public_id = door.post("/v1/track/click", click("w"), key).json()["data"]["clickId"]
    filler = fill(disk)
    with place.serve() as door:
        assert wait_until(lambda: door.get("/readyz").status_code == 503, 60)
        assert door.get(f"/v1/clicks/{public_id}", key).status_code == 200
        filler.unlink()
        assert wait_until(lambda: door.post("/v1/track/click", click("w"), key).status_code == 200, 60)


@pytest.mark.slow
def test_the_reserve_is_kept(place: Installation, disk: Path) -> None:
    """Posts are refused before the last byte is gone: there is room to delete, to checkpoint, to settle."""
    key = place.make_key()
    with place.serve() as door:
        filler = fill(disk, leave=MIB // 2)
        assert wait_until(lambda: door.get("/readyz").status_code == 503, 60)
        assert door.post("/v1/track/click", click("z"), key).status_code == 503
        filler.unlink()
        assert wait_until(lambda: door.post("/v1/track/click", click("z"), key).status_code == 200, 60)
