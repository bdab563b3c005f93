"""`collector serve` as a newcomer and an operator see it: from the installed package, and from the built binary."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.kit.program import BINARY, ROOT, SOURCE, Serving, alive, paste, request, wait_until

Start = Callable[..., Serving]
TOKEN = "EAA" + "canary" * 20


@pytest.fixture(params=["source", pytest.param("binary", marks=pytest.mark.binary)])
def start(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Start]:
    command = SOURCE if request.param == "source" else [str(BINARY)]
    running: list[Serving] = []

    def start(*args: str, **env: str) -> Serving:
        folder = tmp_path / f"run{len(running)}"
        folder.mkdir()
        running.append(Serving(command, folder, *args, **env))
        return running[-1]

    yield start
    for serving in running:
        serving.end()


@pytest.fixture(scope="module", params=["source", pytest.param("binary", marks=pytest.mark.binary)])
def demo(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A first start on embedded defaults, of which several tests ask something; then it drains."""
    command = SOURCE if request.param == "source" else [str(BINARY)]
    serving = Serving(command, tmp_path_factory.mktemp("demo"))
    try:
        serving.ready()
        yield serving
        assert serving.stop() == 0
    finally:
        serving.end()


@pytest.fixture
def live(tmp_path: Path) -> str:
    """A live configuration whose Meta is a closed door of this machine."""
    path = tmp_path / "collector.toml"
    path.write_text(
        f'[storage]\ndata_dir = "{tmp_path / "data"}"\n[meta]\ngraph_url = "http://127.0.0.1:9"\n'
        '[[store]]\nid = "store_abc123"\n[[store.pixel]]\nid = "123456789012345"\naccess_token_file = "meta.token"\n'
    )
    with open(os.open(tmp_path / "meta.token", os.O_CREAT | os.O_WRONLY, 0o600), "w") as file:
        file.write(TOKEN)
    return str(path)


def test_the_first_start_says_ready_and_its_lines_work_when_pasted(demo: Serving) -> None:
    serving = demo
    assert re.search(r"(?m)^ready edge=http://127\.0\.0\.1:\d+ console=http://127\.0\.0\.1:\d+$", serving.stderr), (
        serving.stderr
    )
    click, conversion = serving.pasted()
    assert click["success"], click
    assert conversion["data"]["attributed"], conversion
    assert conversion["data"]["attributedTo"]["clickId"] == click["data"]["clickId"]
    assert conversion["data"]["capiStatus"] in ("queued", "dry_run")
    assert (serving.tmp / "collector-data" / "collector.db").exists()


def test_the_first_click_and_order_of_the_readme(demo: Serving) -> None:
    (block,) = re.findall(r"```sh\nKEY=sk_\.\.\.\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    url = demo.ready()["edge"]
    demo.pasted()
    key = re.findall(r"\bsk_\w+", demo.stdout)[0]
    lines = [line.replace("\\\n", " ") for line in block.split("\n\n")]
    click, order = (paste(line.replace("$KEY", key).replace("http://127.0.0.1:8080", url)) for line in lines)
    assert click["success"], click
    assert order["data"]["attributed"], order
    assert order["data"]["attributedTo"]["clickId"] == click["data"]["clickId"]


def test_commands_answer_beside_a_running_serve(demo: Serving) -> None:
    click, conversion = (answer["data"] for answer in demo.pasted())
    status = json.loads(demo.run("status", "--json"))
    exported = [json.loads(line)["conversionId"] for line in demo.run("export", "conversions").splitlines()]
    assert exported.count(conversion["conversionId"]) == 1
    assert status["totalConversions"] == len(exported)
    explained = json.loads(demo.run("explain", conversion["conversionId"], "--json"))
    assert explained["clickId"] == click["clickId"]
    head, *rows = demo.run("export", "clicks", "--format", "csv").splitlines()
    clicks = [dict(zip(head.split(","), row.split(","), strict=False))["clickId"] for row in rows]
    assert clicks.count(click["clickId"]) == 1
    assert status["totalClicks"] == len(clicks)
    demo.run("export", "deliveries", "--output", "deliveries.ndjson")
    assert (demo.tmp / "deliveries.ndjson").stat().st_mode & 0o777 == 0o600


def test_each_line_of_its_log_is_one_write(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)  # a packet is a write
    env = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    env |= {"COLLECTOR_EDGE__LISTEN": "127.0.0.1:0", "COLLECTOR_CONSOLE__LISTEN": "127.0.0.1:0"}
    with (
        ours,
        subprocess.Popen([*SOURCE, "serve"], cwd=tmp_path, env=env, stdout=subprocess.DEVNULL, stderr=theirs) as it,
    ):
        theirs.close()
        ours.settimeout(120)
        try:
            writes = [ours.recv(65536)]
            while not writes[-1].startswith(b"ready"):
                writes.append(ours.recv(65536))
            it.terminate()
            while packet := ours.recv(65536):
                writes.append(packet)
        finally:
            it.kill()
    assert [write for write in writes if not write.endswith(b"\n")] == []


def test_a_person_is_erased_beside_a_running_serve(demo: Serving) -> None:
    serving = demo
    url = serving.ready()["edge"]
    serving.pasted()
    key = {"Authorization": f"Bearer {re.findall(r'sk_[A-Za-z0-9]+', serving.stdout)[0]}"}
    order = {"storeId": "store_demo", "eventType": "Purchase", "orderId": "7", "eventValue": 5, "currency": "USD"}
    body = json.dumps(order | {"customerData": {"email": "ann@example.com"}}).encode()
    post = {**key, "Content-Type": "application/json"}
    bought = request(f"{url}/v1/track/conversion", body, post)["data"]
    would = json.loads(serving.run("erase", "--email", "ANN@example.com", "--dry-run", "--json"))
    assert (would["dryRun"], would["receipts"][0]["conversions"]) == (True, 1)
    where = f"{url}/v1/conversions/{bought['conversionId']}"
    assert request(where, headers=key)["success"]
    done = json.loads(serving.run("erase", "--email", "ann@example.com", "--yes", "--json"))
    assert (done["receipts"][0]["conversions"], done["cleared"]) == (1, True)
    assert "ann@example.com" not in json.dumps(done)
    assert request(where, headers=key)["error"]["code"] == "not_found"
    exported = [json.loads(line)["orderId"] for line in serving.run("export", "conversions").splitlines()]
    assert "7" not in exported
    again = request(f"{url}/v1/track/conversion", body, post)
    assert again["error"]["code"] == "order_conflict"
    assert "erased" in again["error"]["message"]
    other = request(f"{url}/v1/track/conversion", body.replace(b'"7"', b'"8"'), post)
    assert other["success"]
    assert request(where, headers=key)["error"]["code"] == "not_found"


def test_keys_are_shown_on_stdout_alone(demo: Serving) -> None:
    demo.pasted()
    keys = re.findall(r"\b[sp]k_\w+", demo.stdout)
    assert len(set(keys)) == 2
    assert not re.search(r"\b[sp]k_\w+", demo.stderr)


def test_each_process_carries_one_copy_of_sqlite(demo: Serving) -> None:
    """Two copies in one process drop each other's locks on the same file (sqlite.org, How To Corrupt)."""
    serving = demo
    urls = serving.ready()
    request(urls["console"] + "/healthz")
    libraries = {"apsw": "apsw", "_sqlite3": "python", "libsqlite3": "python"}
    for role, pid in serving.children().items():
        maps = Path(f"/proc/{pid}/maps").read_text()
        carried = {owner for name, owner in libraries.items() if re.search(rf"/{name}[^/]*\.so", maps)}
        assert carried <= ({"python"} if role == "console" else {"apsw"}), (role, carried)


@pytest.mark.slow
def test_all_processes_together_take_little_memory_while_idle(demo: Serving) -> None:
    """156 MB alone on a machine; from source, the tests' own packages, which httpx finds, add to it."""
    rolled = [Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in demo.tree()]
    assert sum(int(re.findall(r"(?m)^Pss: +(\d+) kB", one)[0]) for one in rolled) < 165_000


def test_the_edge_holds_no_meta_token_anywhere(start: Start, live: str) -> None:
    serving = start("--config", live, COLLECTOR_META_TOKEN=TOKEN + "env")
    serving.ready()
    found = {role: holds(pid, TOKEN.encode()) for role, pid in serving.children().items()}
    assert found == {"keeper": False, "edge": False, "courier": True, "console": False}
    assert serving.stop() == 0


def holds(pid: int, secret: bytes) -> bool:
    """Asked again while the process gives memory back: a piece that is gone cannot be read."""
    for _ in range(20):
        with contextlib.suppress(OSError):
            return held_now(pid, secret)
    return held_now(pid, secret)


def held_now(pid: int, secret: bytes) -> bool:
    """True when the process has the bytes in memory that it wrote itself, its environment included."""
    if secret in Path(f"/proc/{pid}/environ").read_bytes():
        return True
    with open(f"/proc/{pid}/mem", "rb") as mem:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            span, rights, *_ = line.split()
            low, high = (int(end, 16) for end in span.split("-"))
            if rights.startswith("rw") and "[v" not in line:
                mem.seek(low)
                if secret in mem.read(high - low):
                    return True
    return False


@pytest.mark.slow
def test_after_kill_9_of_what_one_sees_nothing_runs_on_and_the_next_start_works(start: Start, live: str) -> None:
    serving = start("--config", live)
    serving.ready()
    pids = list(serving.children().values())
    assert len(pids) == 4
    serving.process.kill()
    serving.process.wait()
    again = start("--config", live)
    again.ready()
    assert wait_until(lambda: not any(map(alive, pids)), 60)
    assert again.stop() == 0


def test_a_killed_child_is_replaced_on_the_same_port(start: Start, live: str) -> None:
    serving = start("--config", live)
    urls = serving.ready()
    for role, door in (("edge", "/healthz"), ("keeper", None), ("console", "/healthz"), ("courier", None)):
        before = serving.children()
        os.kill(before[role], signal.SIGKILL)
        assert wait_until(lambda r=role, b=before: serving.children().get(r, b[r]) != b[r], 60.0)
        if door:
            assert request(urls[role] + door)
        others = {name: pid for name, pid in before.items() if name != role}
        assert {name: serving.children()[name] for name in others} == others, serving.stderr
    assert serving.stop() == 0


@pytest.mark.slow
def test_a_reload_takes_new_settings_or_keeps_the_old_ones(start: Start, live: str) -> None:
    good = Path(live).read_text()
    serving = start("--config", live)
    urls = serving.ready()
    before = serving.children()
    Path(live).write_text(good + "\n[edge]\nworkers = 0\n")
    serving.process.send_signal(signal.SIGHUP)
    assert wait_until(lambda: "new settings refused, the old ones stay" in serving.stderr, 60)
    assert serving.children() == before
    Path(live).write_text(good.replace("[[store]]", '[[store]]\nname = "Renamed"', 1))
    serving.process.send_signal(signal.SIGHUP)
    assert wait_until(lambda: set(serving.children().values()).isdisjoint(before.values()), 60), serving.stderr
    assert request(urls["edge"] + "/healthz")
    assert serving.stop() == 0


def test_a_second_serve_on_the_same_data_refuses_at_once(start: Start, demo: Serving) -> None:
    second = start("--data-dir", str(demo.tmp / "collector-data"))
    assert second.process.wait(30) == 3
    *_, line = second.stderr.splitlines()
    assert "is in use by the collector with process id" in line
    assert demo.process.poll() is None


def test_a_taken_port_ends_in_one_sentence(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        serving = start(COLLECTOR_EDGE__LISTEN=f"127.0.0.1:{port}")
        assert serving.process.wait(30) == 1
    assert serving.stderr.splitlines()[1:] == [f"cannot listen on 127.0.0.1:{port}: Address already in use"]


def test_a_faulty_configuration_ends_with_2_and_every_fault(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text('[edge]\nlistn = "x"\nworkers = 0\n[[store]]\nid = "s"\n')
    serving = start("--config", str(path))
    assert serving.process.wait(30) == 2
    assert len(serving.stderr.splitlines()) == 2
