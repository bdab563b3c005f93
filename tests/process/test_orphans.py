"""A test run that is killed leaves nothing running: every helper's processes end with the one that started them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kit.program import ROOT, alive, wait_until

# Each starts something as its helper does, prints the process ids, and waits to be killed.
STARTS = {
    "edge": "from tests.kit.edge_process import running\nwith running(folder) as edge: said(edge.pid)",
    "console": """
from tests.kit.console_process import ConsoleProcess, make_config
from tests.kit.console_store import make_store
make_store(folder, clicks=1, conversions=0).close()
with ConsoleProcess(make_config(folder)) as console: said(console.process.pid)
""",
    "courier": """
from tests.kit.courier_kit import bench, config_for, courier_process
with bench(config_for(folder, "http://127.0.0.1:9")) as edge: said(courier_process(edge.config).pid)
""",
    "graph": """
from tests.kit.simulators.graph import graph_process
with graph_process() as graph: said(graph.child.pid)
""",
    "guard": "from tests.guard.test_hostile import process\nwith process() as (_, pid): said(pid)",
    "serve": """
from tests.kit.program import SOURCE, Serving
serving = Serving(SOURCE, folder)
serving.ready()
said(*serving.tree())
""",
    "ground": """
import socket
from tests.browser.ground import free_port, running
port = free_port()
command = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(port)]
with running(command, port, folder / "log", cwd=folder) as served: said(served.pid)
""",
}
BROWSER = """
from tests.browser.conftest import chromium
from tests.kit.program import below
with chromium(folder / "profile") as browser:
    browser.get("data:text/html,words")
    said(*below(browser.service.process.pid))
"""
PROGRAM = """
import sys, time
from pathlib import Path
folder = Path(sys.argv[1])
def said(*pids):
    print(*pids, flush=True)
    time.sleep(60)
{start}
"""


def left_after_a_kill(start: str, folder: Path) -> list[int]:
    """Start it in a process, kill that process, and say who still runs half a minute later at most."""
    command = [sys.executable, "-c", PROGRAM.format(start=start), str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT, text=True) as parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert pids, "it did not start"
        assert alive(pids[0])
        parent.kill()
    wait_until(lambda: not any(map(alive, pids)), 30.0)
    return [pid for pid in pids if alive(pid)]


@pytest.mark.parametrize("name", STARTS)
def test_what_a_helper_starts_ends_with_the_test_run(tmp_path: Path, name: str) -> None:
    assert left_after_a_kill(STARTS[name], tmp_path) == []


@pytest.mark.browser
@pytest.mark.skipif(shutil.which("chromedriver") is None, reason="needs chromium-driver from the distribution")
def test_a_browser_ends_with_the_test_run(tmp_path: Path) -> None:
    assert left_after_a_kill(BROWSER, tmp_path) == []
