"""D2: the limit of open files as it is: fewer connections, a warning, or one sentence; with the real program."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

import pytest

from tests.kit.program import SOURCE, Serving
from tests.kit.raw_http import connect, exchange, get

pytestmark = pytest.mark.skipif(shutil.which("prlimit") is None, reason="needs prlimit (util-linux)")


@pytest.mark.parametrize("files", [pytest.param(1024, marks=pytest.mark.slow), 256])
def test_D2_with_few_files_it_serves_a_flood_and_says_how_many(tmp_path: Path, files: int) -> None:
    serving = Serving(["prlimit", f"--nofile={files}:{files}", *SOURCE], tmp_path, COLLECTOR_LOG__FORMAT="json")
    try:
        port = int(serving.ready()["edge"].rpartition(":")[2])
        with contextlib.ExitStack() as stack:
            for _ in range(files + 100):
                stack.enter_context(connect(port))
            for _ in range(20):
                assert exchange(port, get("/healthz", b"Connection: close\r\n")).status == 200
            assert [answer["success"] for answer in serving.pasted()] == [True, True]
        assert f'"few files may be open, so few connections are taken","files":{files}' in serving.stderr
        assert serving.stop() == 0
    finally:
        serving.end()


def test_D2_with_64_files_it_says_one_sentence_and_ends_with_2(tmp_path: Path) -> None:
    serving = Serving(["prlimit", "--nofile=64:64", *SOURCE], tmp_path)
    try:
        assert serving.process.wait(60) == 2
        assert "this process may open 64 files, and serving takes more than 64; raise the limit" in serving.stderr
        assert "Traceback" not in serving.stderr
    finally:
        serving.end()
