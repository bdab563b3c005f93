"""The supervisor: ready line, restarts, one instance, reload, drain, and no orphan, with small programs as children."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from collector import __version__
from collector.config import Config
from collector.config_loader import load
from collector.errors import CollectorError
from collector.process import handover, hardening, listening, unpacked
from collector.process.child import delay_after
from collector.storage.ground import audit

ROOT = Path(__file__).parents[2]
ROLES = ("keeper", "edge", "courier", "console")

# A child that answers on its socket with its own process id, and writes down what it was given.
CHILD = """
import json, os, signal, socket, sys, time
from collector.process import handover
role, out = sys.argv[1], sys.argv[2]
secrets = {k: v for k, v in os.environ.items() if k.startswith("COLLECTOR_") and not k.endswith("_FD")}
given = handover.take(os.environ)
handover.end_with_supervisor(os.environ)
log = {"role": role, "pid": os.getpid(), "config": repr(given.config), "env": secrets, "fd": given.fd is not None}
with open(out, "a") as file:
    file.write(json.dumps(log) + "\\n")
mode = os.environ.get("MODE", "")
signal.signal(signal.SIGHUP, lambda *_: open(f"{out}.heard-{role}", "w").close())
if mode == "late" and role != "edge":  # ready only once it is to end
    signal.signal(signal.SIGTERM, lambda *_: (given.ready(), sys.exit(0)))
    open(out + "." + role, "w").close()
    if role == "keeper":
        from collector.exchange import links
        links.take(given.control)
        os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(30)
if mode == "late":
    while not all(os.path.exists(out + "." + other) for other in ("keeper", "courier", "console")):
        time.sleep(0.02)
    sys.exit(3)
if role == "edge" and mode.startswith("exit"):
    sys.exit(int(mode[4:]))
if role == "edge" and mode == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
given.ready()
if role == "keeper":
    from collector.exchange import links
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while links.take(given.control) not in ("end", None):
        pass
    sys.exit(0)
while True:
    time.sleep(0.05)
    if given.fd is not None:
        door = socket.socket(fileno=os.dup(given.fd))
        door.settimeout(0.05)
        try:
            peer, _ = door.accept()
            peer.sendall(str(os.getpid()).encode())
            peer.close()
        except OSError:
            pass
"""

PARENT = """
import errno, os, signal, sys
from collector import telemetry
from collector.config import LogConfig
from collector.config_loader import load
from collector.supervisor import Supervisor
path, child, out = sys.argv[1:4]
telemetry.configure(LogConfig(), "supervisor")
def ready(urls):
    print("ready " + " ".join(f"{k}={v}" for k, v in urls.items()), file=sys.stderr, flush=True)
def command(role):
    if os.path.exists(scarce := f"{out}.scarce-{role}"):
        os.rename(scarce, scarce + "-was")
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    return [sys.executable, child, role, out]
try:
    settings = lambda: load(path, os.environ)
    sys.exit(Supervisor(settings(), reload=settings, on_ready=ready, command=command).run())
except Exception as error:
    print(type(error).__name__, error, file=sys.stderr)
    sys.exit(3)
"""


class Running:
    """A supervisor with its children, seen from outside."""

    def __init__(self, tmp: Path, config: str, **env: str) -> None:
        self.tmp, self.out, self.config = tmp, tmp / "out.ndjson", tmp / "collector.toml"
        (tmp / "child.py").write_text(CHILD)
        (tmp / "parent.py").write_text(PARENT)
        self.write(config)
        with open(tmp / "stderr", "a") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, tmp / "parent.py", self.config, tmp / "child.py", self.out],
                env={**os.environ, "PYTHONPATH": str(ROOT), **env},
                stderr=stderr,
                preexec_fn=hardening.die_with_parent,
            )

    def write(self, config: str) -> None:
        self.config.write_text(config)
        self.config.chmod(0o600)

    @property
    def stderr(self) -> str:
        return (self.tmp / "stderr").read_text()

    @property
    def children(self) -> list[dict]:
        return [json.loads(line) for line in self.out.read_text().splitlines()] if self.out.exists() else []

    def wait_for(self, condition, seconds: float = 30.0):
        deadline = time.monotonic() + seconds
        while not (value := condition()):
            assert time.monotonic() < deadline, self.stderr
            time.sleep(0.02)
        return value

    def ready(self) -> dict[str, str]:
        line = self.wait_for(lambda: next((x for x in self.stderr.splitlines() if x.startswith("ready ")), None))
        return dict(part.split("=") for part in line.split()[1:])

    def ask(self, url: str) -> int:
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=10) as peer:
            return int(peer.recv(20))

    def stop(self, number: int = signal.SIGTERM, within: float = 30.0) -> int:
        self.process.send_signal(number)
        return self.process.wait(within)


@pytest.fixture
def start(tmp_path: Path) -> Iterator:
    started: list[Running] = []

    def start(extra: str = "", tmp: Path = tmp_path, **env: str) -> Running:
        started.append(Running(tmp, settings(tmp_path, extra), **env))
        return started[-1]

    yield start
    for running in started:
        if running.process.poll() is None:
            running.process.kill()
            running.process.wait()


def settings(tmp: Path, extra: str = "") -> str:
    return textwrap.dedent(f"""
        [console]
        listen = "127.0.0.1:0"
        password_hash = "scrypt$17$8$1$UEFTU1dPUkQ=$UEFTU1dPUkQ="
        [storage]
        data_dir = "{tmp / "data"}"
        [edge]
        listen = "127.0.0.1:0"
        {extra}
        [[store]]
        id = "s"
        [[store.pixel]]
        id = "12345"
        access_token = "TOKEN"
    """)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_it_says_ready_with_the_ports_that_were_taken_and_ends_with_0(start):
    running = start()
    urls = running.ready()
    assert set(urls) == {"edge", "console"}
    assert running.ask(urls["edge"]) in [child["pid"] for child in running.children if child["role"] == "edge"]
    pids = [child["pid"] for child in running.children]
    assert running.stop() == 0
    assert not any(alive(pid) for pid in pids)


def test_each_child_gets_only_its_own_secrets_and_none_by_the_environment(start):
    running = start(COLLECTOR_META_TOKEN="FROM_ENV", COLLECTOR_EDGE__WORKERS="1")
    running.ready()
    seen = {child["role"]: child for child in running.children}
    assert {role: child["env"] for role, child in seen.items()} == {role: {} for role in ROLES}
    assert [role for role in seen if "FROM_ENV" in seen[role]["config"]] == ["courier"]
    assert [role for role in seen if "scrypt" in seen[role]["config"]] == ["console"]
    assert {role: child["fd"] for role, child in seen.items()} == {
        "keeper": False,
        "edge": True,
        "courier": False,
        "console": True,
    }


def test_a_killed_edge_comes_back_on_the_same_port_and_the_others_go_on(start):
    running = start()
    url = running.ready()["edge"]
    before = {child["role"]: child["pid"] for child in running.children}
    os.kill(before["edge"], signal.SIGKILL)
    assert running.ask(url) != before["edge"]  # waits in the socket's queue, is not refused
    assert alive(before["courier"])
    assert alive(before["console"])
    assert "started again  child=edge  signal=SIGKILL" in running.stderr


@pytest.mark.parametrize("role", ["edge", "keeper"])
def test_a_moment_without_processes_or_memory_delays_a_restart_and_ends_nothing(start, role):
    running = start()
    running.ready()
    before = {child["role"]: child["pid"] for child in running.children}
    descriptors = f"/proc/{running.process.pid}/fd"
    held = len(os.listdir(descriptors))
    scarce = Path(f"{running.out}.scarce-{role}")
    scarce.touch()
    os.kill(before[role], signal.SIGKILL)
    running.wait_for(lambda: [child for child in running.children if child["role"] == role][1:])
    assert not scarce.exists()
    assert f"cannot be started now  child={role}  reason=Resource temporarily unavailable" in running.stderr
    assert all(alive(pid) for other, pid in before.items() if other not in (role, "edge"))
    running.wait_for(lambda: len(os.listdir(descriptors)) == held)
    assert running.stop() == 0


def test_restarts_come_later_and_later_up_to_a_limit():
    assert [delay_after(n) for n in range(1, 7)] == [0.0, 0.1, 0.2, 0.4, 0.8, 1.6]
    assert delay_after(1000) == 10.0


@pytest.mark.parametrize("code", [2, 3])
def test_a_child_that_cannot_start_ends_all_with_its_code(start, code):
    running = start(MODE=f"exit{code}")
    assert running.process.wait(30) == code
    assert not any(alive(child["pid"]) for child in running.children)


def test_who_is_ready_while_all_ends_is_not_announced(start):
    """The doors are closed by then: asking them for their address ended the supervisor with a traceback."""
    running = start(MODE="late")
    assert running.process.wait(10) == 3
    assert "ready" not in running.stderr
    assert "Error" not in running.stderr


def test_a_child_that_crashes_at_start_is_tried_again(start):
    running = start(MODE="exit1")
    running.wait_for(lambda: sum(child["role"] == "edge" for child in running.children) >= 3)
    assert running.process.poll() is None
    assert running.stop() == 0


def test_a_second_instance_refuses_in_one_sentence(start, tmp_path):
    running = start()
    running.ready()
    (tmp_path / "second").mkdir()
    second = start(tmp=tmp_path / "second")
    assert second.process.wait(30) == 3
    (line,) = second.stderr.splitlines()
    assert f"is in use by the collector with process id {running.process.pid}; stop it first" in line
    assert running.process.poll() is None


def test_no_orphan_is_left_by_a_kill_9_and_the_next_start_takes_over(start, tmp_path):
    running = start()
    running.ready()
    pids = [child["pid"] for child in running.children]
    running.process.kill()
    running.process.wait()
    (tmp_path / "second").mkdir()
    assert start(tmp=tmp_path / "second").ready()
    assert not any(alive(pid) for pid in pids)


def test_an_orphan_that_ignores_the_end_is_ended(start):
    running = start(MODE="deaf")
    running.ready()
    pids = [child["pid"] for child in running.children]
    running.process.kill()
    running.wait_for(lambda: not any(alive(pid) for pid in pids), handover.LAST_SECONDS + 20)


@pytest.mark.slow
def test_a_child_that_does_not_drain_is_ended(start):
    running = start(MODE="deaf")
    running.ready()
    assert running.stop(within=30) == 1


def test_another_release_than_the_last_is_noted_once(start, tmp_path):
    (tmp_path / "data").mkdir(exist_ok=True)
    audit.note(tmp_path / "data", "release", 1, version="0.2.0")
    for _ in range(2):
        running = start()
        running.ready()
        running.stop()
    noted = [entry.about["version"] for entry in audit.read(tmp_path / "data")[0] if entry.action == "release"]
    assert noted == ["0.2.0", __version__]


def test_new_settings_are_taken_without_closing_the_port(start, tmp_path):
    running = start()
    url = running.ready()["edge"]
    first = running.ask(url)
    running.write(settings(tmp_path, "workers = 2"))
    running.process.send_signal(signal.SIGHUP)
    running.wait_for(lambda: sum(child["role"] == "edge" for child in running.children) == 3)
    assert running.ask(url) != first
    assert "new settings are in force" in running.stderr
    running.wait_for(lambda: [e.action for e in audit.read(tmp_path / "data")[0]] == ["release", "reload"])
    assert audit.read(tmp_path / "data")[0][1].about == {"settings": "edge.workers"}


def test_a_faulty_file_keeps_the_old_settings(start, tmp_path):
    running = start()
    url = running.ready()["edge"]
    first = running.ask(url)
    running.write(settings(tmp_path, 'workers = "many"'))
    running.process.send_signal(signal.SIGHUP)
    running.wait_for(lambda: "new settings refused, the old ones stay  fault=" in running.stderr)
    assert "[edge] workers: expected `int`, got `str`" in running.stderr
    assert running.ask(url) == first


@pytest.mark.parametrize("moved", ["storage.data_dir", "storage.engine", "privacy.pepper_file"])
def test_what_would_part_the_rows_from_their_key_takes_a_restart(start, tmp_path, moved):
    running = start()
    url = running.ready()["edge"]
    first = running.ask(url)
    other = '[privacy]\npepper_file = "other.key"\n'
    text = settings(tmp_path)
    server = '[storage]\nengine = "postgres"\ndsn = "postgresql://u@db1/d"\n'
    moves = {
        "storage.data_dir": text.replace("/data", "/other"),
        "storage.engine": text.replace("[storage]\n", server),
        "privacy.pepper_file": text + other,
    }
    running.write(moves[moved])
    running.process.send_signal(signal.SIGHUP)
    running.wait_for(lambda: "new settings refused, the old ones stay  fault=" in running.stderr)
    section, key = moved.split(".")
    assert f"[{section}] {key}: takes a restart" in running.stderr
    assert running.ask(url) == first


def test_a_new_token_restarts_the_courier_alone(start, tmp_path):
    running = start()
    running.ready()
    before = [child["role"] for child in running.children]
    running.write(settings(tmp_path).replace("TOKEN", "NEWER"))
    running.process.send_signal(signal.SIGHUP)
    running.wait_for(lambda: len(running.children) == len(before) + 1)
    assert running.children[-1]["role"] == "courier"
    assert "NEWER" in running.children[-1]["config"]


def test_D4_a_reload_that_changes_nothing_is_passed_on_to_the_courier_alone(start):
    """It tries its blocked queues: what was mended may be at Meta."""
    running = start()
    running.ready()
    before = len(running.children)
    running.process.send_signal(signal.SIGHUP)
    running.wait_for(lambda: list(running.tmp.glob("*.heard-*")))
    assert [path.name for path in running.tmp.glob("*.heard-*")] == ["out.ndjson.heard-courier"]
    assert len(running.children) == before


def test_several_edges_share_one_socket(start):
    running = start("workers = 3")
    url = running.ready()["edge"]
    assert len([child for child in running.children if child["role"] == "edge"]) == 3
    assert running.ask(url)


def test_a_taken_port_is_named():
    with contextlib.closing(listening.bind("127.0.0.1:0")) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(CollectorError, match=f"cannot listen on 127.0.0.1:{port}: Address already in use"):
            listening.bind(f"127.0.0.1:{port}")


def test_ipv6_addresses_are_written_in_brackets():
    with contextlib.closing(listening.bind("[::1]:0")) as opened:
        assert listening.url_of(opened) == f"http://[::1]:{opened.getsockname()[1]}"


def test_a_handed_over_configuration_is_the_same_and_cannot_be_changed():
    config = load(None, {})
    fd = handover.config_file(config, "edge")
    with pytest.raises(PermissionError):
        os.write(fd, b"x")
    with open(fd, "rb") as file:
        file.seek(0)
        raw = file.read()
    assert msgspec.json.decode(raw, type=Config) == config


@pytest.mark.skipif(os.geteuid() != 0, reason="takes two processes of another user")
@pytest.mark.parametrize("hidden", [True, False])
def test_a_process_of_the_same_user_cannot_read_the_couriers_memory(hidden):
    """The control shows that it could, were the memory not hidden."""
    nobody, ready = 65534, os.pipe()
    if (holder := os.fork()) == 0:
        os.setuid(nobody)
        ctypes.CDLL(None).prctl(hardening.PR_SET_DUMPABLE, 1, 0, 0, 0)  # as after an exec; setuid took it away
        if hidden:
            hardening.hide_memory()
        os.write(ready[1], b"1")
        signal.pause()
    os.read(ready[0], 1)
    if (reader := os.fork()) == 0:
        os.setuid(nobody)
        os._exit(0 if os.access(f"/proc/{holder}/environ", os.R_OK) else 1)
    _, status = os.waitpid(reader, 0)
    os.kill(holder, signal.SIGKILL)
    os.waitpid(holder, 0)
    assert os.waitstatus_to_exitcode(status) == (1 if hidden else 0)


def test_only_folders_of_dead_instances_are_cleared(tmp_path):
    own, dead, living, foreign = (tmp_path / f"_MEI{name}" for name in ("own", "dead", "living", "foreign"))
    for folder in (own, dead, living, foreign):
        folder.mkdir()
        if folder is not foreign:
            (folder / unpacked.NAME).touch()
    (tmp_path / "_MEIlink").symlink_to(tmp_path)
    held = os.open(living / unpacked.NAME, os.O_RDWR)
    fcntl.flock(held, fcntl.LOCK_SH)
    unpacked.clear(tmp_path, own)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["_MEIforeign", "_MEIlink", "_MEIliving", "_MEIown"]
    os.close(held)
