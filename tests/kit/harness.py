"""The whole collector as a merchant runs it: `collector serve`, a configuration, keys, and Meta's simulator."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests

from tests.kit.program import BINARY, ROOT, SOURCE, Serving, alive, wait_until
from tests.kit.simulators.graph import GraphSimulator

STORE = "store_abc123"
OTHER = "store_other"
CLOSED = "store_closed"
PIXEL = "123456789012345"
TOKEN = "EAA" + "simulator" * 6
ORIGIN = "https://mystore.com"

_TEMPLATE = """
[edge]
listen = "127.0.0.1:0"
rate_limit_key_per_second = 0
rate_limit_address_per_second = 0
{edge}

[console]
listen = "127.0.0.1:0"

[storage]
data_dir = "{data}"
reserve_mb = {reserve_mb}

[meta]
mode = "live"
graph_url = "{graph}"
batch_wait_seconds = {{ purchase = {wait}, other = {wait} }}
retry_base_seconds = 0.1
retry_max_seconds = 1.0

[[store]]
id = "{STORE}"
name = "My store"
domains = ["mystore.com"]
currency = "USD"
country = "US"
[[store.pixel]]
id = "{PIXEL}"
access_token_file = "meta.token"

[[store]]
id = "{OTHER}"
domains = ["other.example"]

[[store]]
id = "{CLOSED}"
active = false
"""


class Installation:
    """A folder with a configuration and keys; `serve` starts the program in it, as often as a test wants."""

    def __init__(
        self,
        folder: Path,
        graph: str,
        *,
        command: Sequence[str] = tuple(SOURCE),
        data: Path | None = None,
        wait: float = 0.2,
        reserve_mb: int = 1,
        edge: str = "",
    ) -> None:
        self.folder = folder
        self.command = list(command)
        self.data = data or folder / "data"
        self.config = folder / "collector.toml"
        text = _TEMPLATE.format(
            edge=edge, data=self.data, graph=graph, wait=wait, reserve_mb=reserve_mb,
            STORE=STORE, OTHER=OTHER, CLOSED=CLOSED, PIXEL=PIXEL,
        )  # fmt: skip
        self.config.write_text(text)
        with open(os.open(folder / "meta.token", os.O_CREAT | os.O_WRONLY, 0o600), "w") as file:
            file.write(TOKEN)
        self.running: list[Serving] = []

    def run(self, *args: str) -> str:
        """What a command prints; it must end with 0."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith("COLLECTOR_")}
        done = subprocess.run(
            [*self.command, *args, "--config", str(self.config)],
            env={**clean, "PYTHONPATH": str(ROOT)},
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def make_key(self, kind: str = "secret", store: str | None = STORE) -> str:
        """A new key of the store, or of every store."""
        which = ["--store", store] if store else []
        return str(json.loads(self.run("keys", "create", *which, "--kind", kind, "--json"))["key"])

    def start(self, **env: str) -> Serving:
        """`collector serve`, not yet ready."""
        folder = self.folder / f"run{len(self.running)}"
        folder.mkdir()
        serving = Serving(self.command, folder, "--config", str(self.config), **env)
        self.running.append(serving)
        return serving

    @contextmanager
    def serve(self, **env: str) -> Iterator[Door]:
        """A running collector, ended on leaving."""
        serving = self.start(**env)
        try:
            yield Door(serving)
        finally:
            serving.end()

    def end(self) -> None:
        for serving in self.running:
            serving.end()

    def rows(self, sql: str, *bind: Any, database: str = "collector.db") -> list[Any]:
        """An answer of the database, read with apsw as our own processes do; its WAL stays as it is."""
        import apsw

        db = apsw.Connection(str(self.data / database), flags=apsw.SQLITE_OPEN_READWRITE)
        try:
            db.set_busy_timeout(5000)
            return db.execute(sql, bind).fetchall()
        finally:
            db.close()


class Door:
    """The public address of a running collector."""

    def __init__(self, serving: Serving, seconds: float = 120.0) -> None:
        self.serving = serving
        self.urls = serving.ready(seconds)
        self.url = self.urls["edge"]
        self.session = requests.Session()
        self.session.trust_env = False

    def post(self, path: str, body: Any, key: str | None, **headers: str) -> requests.Response:
        """A POST of the tracking API; header names with underscores for dashes. Bytes are sent as they are."""
        given = {"Content-Type": "application/json"} | _named(headers)
        if key is not None:
            given["Authorization"] = f"Bearer {key}"
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.session.post(f"{self.url}{path}", data=data, headers=given, timeout=60)

    def get(self, path: str, key: str | None = None, **headers: str) -> requests.Response:
        given = _named(headers) | ({"Authorization": f"Bearer {key}"} if key else {})
        return self.session.get(f"{self.url}{path}", headers=given, timeout=60)


def _named(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


def eventually(question: Any, seconds: float = 30.0, every: float = 0.02) -> Any:
    """The first truthy answer; the last one when the time is over."""
    deadline = time.monotonic() + seconds
    while not (answer := question()) and time.monotonic() < deadline:
        time.sleep(every)
    return answer


__all__ = [  # what the tests of the whole program start from
    "BINARY",
    "CLOSED",
    "ORIGIN",
    "OTHER",
    "PIXEL",
    "ROOT",
    "SOURCE",
    "STORE",
    "TOKEN",
    "Door",
    "GraphSimulator",
    "Installation",
    "alive",
    "eventually",
    "wait_until",
]
