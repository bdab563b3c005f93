"""The n-th write, sync or read of each of SQLite's files fails once: nothing acknowledged is lost, no 200 is wrong.

The process goes on, or ends and says why; the next one finds everything. The control acknowledges in spite of it.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from tests.kit.harness import ROOT

FILES = ("collector.db", "collector.db-wal", "index.db", "index.db-wal", "acknowledged")
KINDS = {"EIO": errno.EIO, "ENOSPC": errno.ENOSPC, "short": 0}
MOST = int(os.environ.get("FAULTS", "500"))
FIRST = int(os.environ.get("FAULT_FIRST", "1"))
STEP = int(os.environ.get("FAULT_STEP", "17"))
Ask = Callable[..., dict[str, Any]]


class Fault(NamedTuple):
    file: str
    op: str
    kind: str


FAULTS = [
    Fault(file, op, kind)
    for file in FILES
    for op, kinds in (("write", tuple(KINDS)), ("sync", ("EIO",)), ("read", ("EIO",)))
    for kind in kinds
]


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    """What came of a fault, in a fresh folder of a journal that has some rows already."""
    if shutil.which("gcc") is None:
        pytest.skip("gcc makes the faults, and is not installed")
    place = tmp_path_factory.mktemp("faults")
    shim = place / "faults.so"
    source = ROOT / "tests" / "kit" / "faults.c"
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-o", shim, source, "-ldl"], check=True, capture_output=True)
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.kit.faulty"],
        env={**os.environ, "LD_PRELOAD": str(shim)},
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert server.stdin is not None
    assert server.stdout is not None
    folder, begun = place / "data", place / "begun"

    def ask(fault: Fault | None, n: int = 0, *, early: bool = False) -> dict[str, Any]:
        shutil.rmtree(folder, ignore_errors=True)
        if begun.exists():
            shutil.copytree(begun, folder)
        told = {"file": fault.file, "op": fault.op, "error": KINDS[fault.kind]} if fault else {"file": ""}
        server.stdin.write(json.dumps({"folder": str(folder), "n": n, "early": early, **told}) + "\n")
        server.stdin.flush()
        return json.loads(server.stdout.readline())

    try:
        assert ask(None)["wrong"] == ""
        shutil.copytree(folder, begun)
        yield ask
    finally:
        server.stdin.close()
        server.wait(60)


def assert_nothing_is_lost(ask: Ask, fault: Fault, numbers: range) -> int:
    """How many of the faults fired: once n is past all that the process does, none does."""
    fired = 0
    for n in numbers:
        came = ask(fault, n)
        assert came["wrong"] == "", (fault, n, came)
        # Done, or ended in order: by the sentence of a start (3), or the writer's own end after its last answers (1).
        assert came["code"] in (0, 1, 3), (fault, n, came)
        assert "crash" not in json.dumps(came["said"]), (fault, n, came)
        if not came["fired"] and came["code"] == 0:
            break
        fired += 1
    return fired


A_FEW = (
    (Fault("collector.db-wal", "write", "EIO"), 30),
    (Fault("collector.db-wal", "write", "short"), 41),
    (Fault("collector.db-wal", "sync", "EIO"), 12),
    (Fault("collector.db", "write", "ENOSPC"), 20),
    (Fault("collector.db", "read", "EIO"), 3),
    (Fault("acknowledged", "write", "EIO"), 5),
)


@pytest.mark.parametrize(("fault", "n"), A_FEW)
def test_a_few_failures_lose_nothing(ask: Ask, fault: Fault, n: int) -> None:
    assert assert_nothing_is_lost(ask, fault, range(n, n + 1)) == 1


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS, ids="-".join)
def test_the_nth_failure_loses_nothing(ask: Ask, fault: Fault) -> None:
    fired = assert_nothing_is_lost(ask, fault, range(FIRST, MOST + 1, STEP))
    print(f"{'-'.join(fault)}: {fired} failures, 0 lost")


def test_the_check_finds_a_writer_that_acknowledges_in_spite_of_the_fault(ask: Ask) -> None:
    fault = Fault("collector.db-wal", "write", "EIO")
    assert any("lost" in ask(fault, n, early=True)["wrong"] for n in range(20, 60, 5))
