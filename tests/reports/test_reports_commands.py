"""The commands that read: `status`, `export`, `explain`, `report attribution`, run as users run them."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.kit.console_store import IDS, make_store

CHILD = """
import sys
from collector.cli import main
code = main(sys.argv[1:])
print("apsw" if "apsw" in sys.modules else "no apsw", "litestar" in sys.modules, file=sys.stderr)
sys.exit(code)
"""


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data")
    make_store(path, now=int(time.time() * 1000)).close()
    return path


def _run(data_dir: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", CHILD, *arguments, "--data-dir", str(data_dir)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, check=False)


def test_status_speaks_json_and_words_and_never_loads_apsw(data_dir: Path) -> None:
    done = _run(data_dir, "status", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["totalClicks"] == 400
    assert "no apsw False" in done.stderr
    assert "400 clicks" in _run(data_dir, "status").stdout


def test_explain_names_the_evidence_and_refuses_an_unknown_id(data_dir: Path) -> None:
    known = IDS.public("conv", 1)
    done = _run(data_dir, "explain", known, "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["conversionId"] == known
    assert answer["summary"]
    assert abs(sum(e["bits"] for e in answer["evidence"]) - answer["logOddsBits"]) < 0.05
    assert _run(data_dir, "explain", "conv_nothing").returncode == 1


def test_export_writes_to_stdout_or_a_private_file(data_dir: Path, tmp_path: Path) -> None:
    done = _run(data_dir, "export", "conversions")
    assert done.returncode == 0, done.stderr
    assert len([json.loads(line) for line in done.stdout.splitlines()]) == 120
    target = tmp_path / "clicks.csv"
    assert _run(data_dir, "export", "clicks", "--format", "csv", "--output", str(target)).returncode == 0
    assert len(list(csv.DictReader(io.StringIO(target.read_text(), newline="")))) == 400
    assert target.stat().st_mode & 0o077 == 0


def test_report_attribution_shares_every_order_and_refuses_nonsense(data_dir: Path) -> None:
    done = _run(data_dir, "report", "attribution", "--model", "linear", "--by", "campaign", "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert {line["label"] for line in answer["lines"]} >= {"autumn-sale", "(not attributed)"}
    assert sum(line["conversions"] for line in answer["lines"]) == pytest.approx(answer["orders"])
    assert "currency" in _run(data_dir, "report", "attribution", "--by", "day", "--since", "7d").stdout
    for wrong in (["--window", "5"], ["--since", "yesterday"], ["--store", "nowhere"], ["--by", "moon"]):
        assert _run(data_dir, "report", "attribution", *wrong).returncode == 2, wrong


def test_without_a_store_the_commands_say_so_with_exit_code_3(tmp_path: Path) -> None:
    for command in (["status"], ["export", "clicks"], ["explain", "conv_x"], ["report", "attribution"]):
        done = _run(tmp_path / "nothing", *command)
        assert done.returncode == 3, (command, done.stderr)
        assert "collector" in done.stderr
        assert "Traceback" not in done.stderr
