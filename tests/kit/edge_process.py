"""The real edge and its keeper in a process of their own, with a store, keys of both kinds, and its log in a file."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec
from msgspec import structs

from collector.config import Config, EdgeConfig, MetaConfig, PixelConfig, StorageConfig, StoreConfig
from collector.process import hardening
from tests.kit.raw_http import Answer, exchange

ROOT = Path(__file__).parents[2]
PIXEL = PixelConfig(id="123456789012345", access_token="EAAnobody")
STORE = StoreConfig(
    id="store_abc123", name="Shop", domains=["shop.example"], currency="USD", country="US", pixel=[PIXEL]
)
OTHER = StoreConfig(id="store_other", domains=["other.example"])
CLOSED = StoreConfig(id="store_closed", active=False)

PROGRAM = """
    import contextlib, json, os, sys, time
    from pathlib import Path
    import msgspec
    from collector import telemetry
    from collector.config import Config
    from collector.edge import app
    from collector.process import listening
    from collector.storage.ground import keys
    from collector.storage.ground.database import open_database
    config = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Config)
    telemetry.configure(config.log, "edge")
    made = {{}}
    with contextlib.closing(open_database(config.storage)) as db:
        for name, store, kind in (
            ("every", None, "secret"), ("secret", "store_abc123", "secret"), ("page", "store_abc123", "publishable"),
            ("other", "store_other", "secret"),
        ):
            made[name] = keys.create(db, store=store, kind=kind, now=int(time.time() * 1000)).key
    from tests.kit.keeper_thread import keeping
    {patch}
    listener = listening.bind(config.edge.listen)
    made["port"] = listener.getsockname()[1]
    ready = lambda: print(json.dumps(made), flush=True)
    with keeping(config) as control:
        code = app.run(config, listener.detach(), ready, control)
    sys.exit(code)
"""


class Edge(NamedTuple):
    """A running edge: its port, its keys and where its log is."""

    port: int
    pid: int
    keys: dict[str, str]
    log: Path

    def post(self, path: str, body: Any, key: str | None = "secret", headers: dict[str, str] | None = None) -> Answer:
        """One POST on a connection of its own; `body` is encoded unless it is bytes."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.ask("POST", path, raw, key, {"Content-Type": "application/json"} | (headers or {}))

    def get(self, path: str, key: str | None = "secret", headers: dict[str, str] | None = None) -> Answer:
        return self.ask("GET", path, b"", key, headers or {})

    def ask(self, method: str, path: str, body: bytes, key: str | None, headers: dict[str, str]) -> Answer:
        given = {"Host": "edge.test", "Connection": "close"}
        if key is not None:
            given["Authorization"] = f"Bearer {self.keys.get(key, key)}"
        if body or method == "POST":
            given["Content-Length"] = str(len(body))
        lines = [f"{method} {path} HTTP/1.1"] + [f"{name}: {value}" for name, value in (given | headers).items()]
        return exchange(self.port, "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body, 60.0)


def refused_at_last(ask: Callable[[int], Answer]) -> Answer:
    """The first 429 of many: where a machine stands still for a moment, a rate allows one more meanwhile."""
    refused = next((answer for answer in map(ask, range(250)) if answer.status == 429), None)
    assert refused is not None, "all of them were taken"
    return refused


def configuration(data_dir: Path, stores: Sequence[StoreConfig] = (STORE, OTHER, CLOSED), **edge: Any) -> Config:
    """The stores of these tests, with rates out of the way unless they are the subject."""
    limits = {"rate_limit_address_per_second": 0, "rate_limit_key_per_second": 0} | edge
    return Config(
        edge=EdgeConfig(listen="127.0.0.1:0", **limits),
        storage=StorageConfig(data_dir=str(data_dir), reserve_mb=1),
        store=list(stores),
    )


@contextlib.contextmanager
def running(folder: Path, patch: str = "", mode: Literal["live", "dry_run"] = "dry_run", **edge: Any) -> Iterator[Edge]:
    """Start the edge, wait until it is ready, end it after. `patch`: a line of Python run before it (a fault)."""
    settings = folder / "config.json"
    config = structs.replace(configuration(folder / "data", **edge), meta=MetaConfig(mode=mode))
    settings.write_bytes(msgspec.json.encode(config))
    program = textwrap.dedent(PROGRAM).format(patch=patch or "pass")
    log = folder / "log"
    with open(log, "wb") as err:
        process = subprocess.Popen(
            [sys.executable, "-c", program, str(settings)],
            stdout=subprocess.PIPE,
            stderr=err,
            cwd=ROOT,
            preexec_fn=hardening.die_with_parent,
        )
    with process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, log.read_text()
        made = json.loads(line)
        try:
            yield Edge(made.pop("port"), process.pid, made, log)
        finally:
            process.terminate()
            try:
                process.wait(12)
            except subprocess.TimeoutExpired:
                process.kill()
