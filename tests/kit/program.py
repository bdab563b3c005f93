"""Running the real program in a test: `python -m collector` or the built binary."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from collector.process import hardening

ROOT = Path(__file__).parents[2]
BINARY = Path(os.environ.get("COLLECTOR_BINARY", ROOT / "dist" / "collector"))
SOURCE = [sys.executable, "-m", "collector"]
# `PROGRAM=dist/collector pytest …` runs browsers, proxies and recipes against the built binary.
PROGRAM = [str(Path(named).resolve())] if (named := os.environ.get("PROGRAM")) else SOURCE


class Serving:
    """A running `collector serve` on free ports, seen from outside."""

    def __init__(self, command: list[str], tmp: Path, *args: str, **env: str) -> None:
        self.tmp, self.command = tmp, command
        # A setting of the tester's own must not reach the program.
        clean = {name: value for name, value in os.environ.items() if not name.startswith("COLLECTOR_")}
        ports = {"COLLECTOR_EDGE__LISTEN": "127.0.0.1:0", "COLLECTOR_CONSOLE__LISTEN": "127.0.0.1:0"}
        self.began = time.monotonic()
        with open(tmp / "stdout", "w") as out, open(tmp / "stderr", "w") as err:
            self.process = subprocess.Popen(
                [*command, "serve", *args],
                env={**clean, "PYTHONPATH": str(ROOT), **ports, **env},
                stdout=out,
                stderr=err,
                cwd=tmp,
                preexec_fn=hardening.die_with_parent,  # a test run that is killed leaves nothing behind
            )

    @property
    def stdout(self) -> str:
        return (self.tmp / "stdout").read_text()

    @property
    def stderr(self) -> str:
        return (self.tmp / "stderr").read_text()

    def ready(self, seconds: float = 120.0) -> dict[str, str]:
        """The addresses of the ready line."""
        while True:
            for line in self.stderr.splitlines(keepends=True):
                if line.startswith("ready ") and line.endswith("\n"):  # the whole of it
                    return dict(part.split("=") for part in line.split()[1:])
            assert self.process.poll() is None, self.stderr
            assert time.monotonic() - self.began < seconds, self.stderr
            time.sleep(0.01)

    def pasted(self) -> list[dict[str, Any]]:
        """The answers to the banner's lines, as if they were pasted into a shell with curl."""
        deadline = time.monotonic() + 60
        while "/v1/track/conversion" not in self.stdout:
            assert time.monotonic() < deadline, self.stdout
            time.sleep(0.01)
        return [paste(line) for line in self.stdout.splitlines() if line.startswith("curl ")]

    def run(self, *args: str) -> str:
        """The stdout of another command beside it, in the same folder."""
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        ended = subprocess.run(
            [*self.command, *args], cwd=self.tmp, env=env, capture_output=True, text=True, timeout=120
        )
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    def tree(self) -> list[int]:
        """Its process id and those below it, all the way down."""
        return below(self.process.pid)

    def children(self) -> dict[str, int]:
        """Process ids by role."""
        found: dict[str, int] = {}
        for pid in self.tree():
            with contextlib.suppress(OSError):
                words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")  # empty for a zombie
                found |= {role: pid for role in ("keeper", "edge", "courier", "console") if role in words}
        return found

    def stop(self, number: int = signal.SIGTERM, seconds: float = 30.0) -> int:
        self.process.send_signal(number)
        return self.process.wait(seconds)

    def end(self) -> None:
        """After the test, whatever it left."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(12)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def below(pid: int) -> list[int]:
    """The process, its children, and theirs."""
    found: list[int] = []
    todo = [pid]
    while todo:
        found.append(todo.pop())
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{found[-1]}/task").iterdir():
                todo += [int(child) for child in (task / "children").read_text().split()]
    return found


def free_port() -> int:
    """A port that stays free until it is taken: below those that the kernel gives to outgoing connections."""
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = secrets.SystemRandom().randrange(10_000, lowest)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def paste(line: str) -> dict[str, Any]:
    words = shlex.split(line)
    headers = dict(words[i + 1].split(": ", 1) for i, word in enumerate(words) if word == "-H")
    body = next(words[i + 1] for i, word in enumerate(words) if word == "-d")
    url = next(word for word in words if word.startswith("http"))
    return request(url, body.encode(), headers)


def request(url: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> dict[str, Any]:
    """The JSON answer of any status."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, headers or {}), timeout=60) as answer:
            return dict(json.load(answer))
    except urllib.error.HTTPError as error:
        return dict(json.load(error))


def alive(pid: int) -> bool:
    """True for a process that runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until(condition: Any, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
