"""The benchmark runs: tiny numbers, no figure asserted; made-up people are the same in Python and in Lua."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from collector.bench import against, matches, people, servers, storing
from collector.bench.children import apart
from collector.bench.payloads import buyer, event_of, hashed, spliced
from collector.bench.plan import QUICK
from tests.kit import postgres

ROOT = Path(__file__).parents[2]
needs_wrk = pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "collector", "bench", *arguments], capture_output=True, text=True, cwd=ROOT, check=False
    )


@pytest.mark.slow
def test_what_needs_no_load_generator_runs():
    done = bench("--quick", "--json", "--rows", "2000", "--only", "payloads", "matching")
    assert done.returncode == 0, done.stderr
    parts = [r["part"] for r in json.loads(done.stdout)["results"]]
    assert parts == ["matching", "matching", "building"]


@pytest.mark.slow
def test_10_10_webhooks_are_measured_beside_clicks_and_a_large_order():
    done = bench("--quick", "--json", "--only", "webhooks")
    assert done.returncode == 0, done.stderr
    (result,) = json.loads(done.stdout)["results"]
    assert result["part"] == "hooked"
    assert [result[name]["failed"] for name in ("webhooks", "alone", "beside")] == [0, 0, 0]
    assert 3_900 < result["size"] < 4_300
    assert 2_300_000 <= result["large_bytes"] < 2_301_000
    assert all(result[name] > 0 for name in ("loop_us", "keeper_us", "p99_ratio", "large_ms", "large_cpu_ms"))


@needs_wrk
@pytest.mark.slow
def test_every_part_runs():
    done = bench("--quick", "--json", "--rows", "3000")
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)["results"]
    assert {r["part"] for r in results} >= {
        *("clicks", "batch", "orders", "hooked", "ingest", "matching", "building", "drained", "start")
    }
    assert all(r["durable"]["failed"] == 0 for r in results if "durable" in r)
    clicks = [r for r in results if r["part"] == "clicks"]  # beside the same server without storing
    assert [(r["connections"], r["stored"]) for r in clicks] == [(c, s) for s in (0, 3000) for c in (1, 16, 64)]
    assert all(r["unstored"]["failed"] == 0 for r in clicks), "a request was refused"
    ingest = [r for r in results if r["part"] == "ingest"]  # few stored beside many, each round both
    assert [(r["kind"], r["few"], r["stored"]) for r in ingest] == [("click", 2000, 3000), ("batch", 2000, 3000)]
    assert all(r["figures"]["failed"] == r["few_figures"]["failed"] == 0 for r in ingest)


@needs_wrk
@pytest.mark.slow
def test_postgresql_is_measured_beside_sqlite():
    postgres.needed()
    done = bench("--quick", "--json", "--rows", "3000", "--engine", "postgres")
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)["results"]
    parts = [r["part"] for r in results]
    assert parts == [
        *("clicks", "bytes", "clicks", "bytes", "edges", "orders", "orders", "bytes", "orders", "orders", "bytes"),
        *("drained", "drained"),
    ]
    figures = [
        (r["part"], name) for r in results for name, value in r.items() if isinstance(value, float) and value <= 0
    ]
    assert figures == []
    assert [r["attributed"] for r in results if r["part"] == "orders" and r["kind"] == "proved"] == [100, 100]
    assert [r["couriers"] for r in results if r["part"] == "drained"] == [1, 3]


@pytest.mark.slow
def test_of_postgresql_what_it_does_not_measure_is_refused():
    done = bench("--engine", "postgres", "--only", "webhooks")
    assert done.returncode == 2
    assert "--only webhooks: of PostgreSQL there are clicks, edges, matching, drain" in done.stderr
    for dsn in ("", "postgresql://db1/x"):
        done = bench("--dsn", dsn)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
        assert "--dsn: it names no server" in done.stderr


@needs_wrk
@pytest.mark.slow
def test_another_release_runs_beside_this_one():
    done = bench("--quick", "--json", "--rows", "1500", "--against", str(ROOT))
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)["results"]
    assert [r["part"] for r in results] == ["resting"] + ["comparison"] * len(against.CASES)
    assert all(r[side]["failed"] == 0 and r[side]["rate"] > 0 for r in results[1:] for side in ("own", "other"))
    assert results[0]["own_mb"] > 10 < results[0]["other_mb"]


@pytest.mark.parametrize("path", ["no-such-folder", "collector", "README.md"])
def test_against_says_what_is_no_release(path):
    done = bench("--against", str(ROOT / path))
    assert done.returncode == 2
    assert "neither a program that may be run nor a folder" in done.stderr


@pytest.mark.slow
def test_wherever_few_and_many_are_as_many_both_are_stored():
    assert bench("--quick", "--rows", str(QUICK.few_rows), "--only", "matching").returncode == 0


def test_half_of_the_clicks_come_by_ipv6():
    assert sum(":" in people.address(n) for n in range(10_000)) / 10_000 == pytest.approx(0.5, abs=0.05)


def test_without_wrk_it_says_what_to_install(monkeypatch, capsys):
    from collector.cli import main

    monkeypatch.setenv("PATH", "")
    assert main(["bench", "--quick"]) == 2
    assert "apt-get install wrk" in capsys.readouterr().err


def test_orders_find_the_clicks_that_were_stored_in_bulk(tmp_path):
    config = servers.config_for(str(tmp_path / "data"))
    apart(storing.fill, config, 3000)
    found = {spent.kind: spent.attributed for spent in apart(matches.measure, config, 3000, 20).kinds}
    assert found["proved"] == 20
    assert found["inferred"] > 10
    assert found["organic"] == 0


def first_request_of_wrk(kind: str, first: int) -> dict[str, Any]:
    """The body of the first request that wrk sends with this script."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(5)
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"
        wrk = [
            "wrk",
            "-t1",
            "-c1",
            "-d1s",
            "-s",
            "collector/bench/assets/load.lua",
            url,
            "--",
            kind,
            "sk",
            str(first),
            "900",
        ]
        with subprocess.Popen(wrk, cwd=ROOT, stdout=subprocess.DEVNULL):
            while not (raw := whole_request(server)):
                pass  # wrk first looks whether anybody listens
    return json.loads(raw.partition(b"\r\n\r\n")[2])


def whole_request(server: socket.socket) -> bytes:
    connection, _ = server.accept()
    raw = b""
    with connection:
        connection.settimeout(5)
        while not raw.endswith(b"}"):
            piece = connection.recv(65536)
            if not piece:
                return b""
            raw += piece
    return raw


@needs_wrk
@pytest.mark.parametrize("first", [7, *(pytest.param(n, marks=pytest.mark.slow) for n in (99, 1003, 3_456_789))])
def test_wrk_and_python_make_the_same_people(first):
    # wrk asks the script for one request that it does not send
    assert first_request_of_wrk("click", first) == people.click(first + 2)


@needs_wrk
def test_wrk_orders_are_by_the_people_of_stored_clicks():
    order = first_request_of_wrk("order", 7)  # 9: proved
    assert order in [people.order(9, by, "proved") for by in range(1, 901)]


def test_the_payload_that_is_measured_is_one_that_meta_takes():
    who = buyer(1)
    event = msgspec.json.decode(spliced(event_of(who, hashed(who), storing.now_ms())))
    assert len(event["user_data"]["em"][0]) == 64
    assert event["custom_data"]["contents"]
