"""A console as users run it: its own process, a socket handed over, a real database."""

from __future__ import annotations

import html
import os
import re
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlsplit
from zoneinfo import ZoneInfo

import msgspec
import requests

from collector.config import Config, ConsoleConfig, PixelConfig, StorageConfig, StoreConfig
from collector.process import hardening
from tests.kit.console_store import PIXEL

T = TypeVar("T")
CHILD = """
import os, sys, msgspec
from collector.config import Config
from collector.console.app import run
config = msgspec.json.decode(sys.stdin.buffer.read(), type=Config)
exec(sys.argv[2])
code = run(config, int(sys.argv[1]), lambda: print("ready", flush=True))
print("apsw" if "apsw" in sys.modules else "no apsw", flush=True)
sys.exit(code)
"""


def make_config(data_dir: Path, *, listen: str = "127.0.0.1:8081", password_hash: str = "") -> Config:
    return Config(
        storage=StorageConfig(data_dir=str(data_dir)),
        console=ConsoleConfig(listen=listen, password_hash=password_hash),
        store=[StoreConfig(id="store_demo", pixel=[PixelConfig(id=PIXEL)]), StoreConfig(id="store_zurich")],
    )


class ConsoleProcess:
    """Started on entering, ended by SIGTERM on leaving; `ending` is then its exit code and last words.

    `patch`: Python that is run before it (a rule switched off).
    """

    def __init__(self, config: Config, patch: str = "") -> None:
        self.config, self.patch = config, patch
        self.ending: tuple[int, str] | None = None

    def __enter__(self) -> ConsoleProcess:
        opened = socket.create_server(("127.0.0.1", 0))
        opened.set_inheritable(True)
        self.port = opened.getsockname()[1]
        self.process = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(opened.fileno()), self.patch],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=[opened.fileno()],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
            preexec_fn=hardening.die_with_parent,
        )
        opened.close()
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(msgspec.json.encode(self.config))
        self.process.stdin.close()
        assert self.process.stdout.readline() == b"ready\n"
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdout is not None
        self.process.send_signal(signal.SIGTERM)
        last_words = self.process.stdout.read().decode()
        self.ending = self.process.wait(60), last_words.strip()
        self.process.stdout.close()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def get(self, path: str, **options: Any) -> requests.Response:
        return requests.get(self.url(path), timeout=60, **options)

    def kinds(self, begin: Iterable[str]) -> dict[str, requests.Response]:
        """An answer of every kind of page that the links of these lead to, by its address."""
        found: dict[str, requests.Response] = {}
        seen, waiting = set[str](), deque(begin)
        while waiting:
            address = waiting.popleft()
            if (kind := kind_of(address)) not in seen:
                seen.add(kind)
                found[address] = self.get(address)
                waiting += map(html.unescape, re.findall(r'href="(/(?!assets)[^"]*)"', found[address].text))
        return found


def within_a_day(ask: Callable[[], T], *zones: str) -> T:
    """What was asked before the day was over in any of these zones (UTC unless some are named): pages name days."""
    while True:
        days = [datetime.now(ZoneInfo(zone)).date() for zone in zones or ("UTC",)]
        found = ask()
        if days == [datetime.now(ZoneInfo(zone)).date() for zone in zones or ("UTC",)]:
            return found


def kind_of(address: str) -> str:
    """A page's address without what is asked for: ids, and the values of its questions; the bar is every page's."""
    url = urlsplit(address)
    asked = sorted(parse_qs(url.query).keys() - {"shop", "range", "compare", "event"})
    return re.sub(r"(conv|click)_\w+|(?<=/share/).+", "ID", url.path) + "?" + "&".join(asked)
