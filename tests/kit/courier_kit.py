"""A courier on real files against the simulator: what the delivery tests share."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from collector.config import BatchWait, Config, MetaConfig, PixelConfig, StorageConfig, StoreConfig
from collector.core.capi.payload import Profile, build_event
from collector.core.capi.states import NAMES
from collector.core.events import Enrichment, StoredEvent
from collector.courier.app import Courier
from collector.process import hardening
from collector.storage.ground import stores
from collector.storage.ground.database import open_database
from collector.storage.outbox import outbox
from collector.storage.rules import deliveries

EMAIL = "62a14e44f765419d10fea99367361a727c12365e2520f32218d505ed9aa0f62f"


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def config_for(data_dir: Path, graph_url: str, *pixels: str, token: str = "secret-token", **meta: Any) -> Config:
    """A live configuration with quick retries."""
    terms: dict[str, Any] = {
        "graph_url": graph_url,
        "batch_wait_seconds": BatchWait(purchase=0.1, other=0.1),
        "retry_base_seconds": 0.05,
        "retry_max_seconds": 0.4,
        "timeout_seconds": 2.0,
    }
    store = StoreConfig(id="store_a", pixel=[PixelConfig(id=p, access_token=token) for p in pixels or ("111",)])
    return Config(
        storage=StorageConfig(data_dir=str(data_dir), reserve_mb=1),
        meta=MetaConfig(**{**terms, **meta}),
        store=[store],
    )


def an_event(number: int, *, at: int | None = None, name: str = "Purchase", **more: Any) -> StoredEvent:
    """A valid event; its id tells its number."""
    now = at if at is not None else now_ms()
    fields: dict[str, Any] = {
        "event_type": name,
        "event_id": f"e{number}",
        "ts": now - 1000,
        "received": now_ms() if at is None else max(at, now_ms()),
        "order_id": str(number),
        "value": Decimal("10.50"),
        "currency": "USD",
        "user_data": {"em": [EMAIL]},
        "user_agent": "Mozilla/5.0",
        "event_source_url": "https://shop.example/thanks",
    }
    return StoredEvent(**{**fields, **more})


def poisoned(payload: bytes) -> bytes:
    """The payload with a key that Meta does not know, which our own checks would never let through."""
    return payload.replace(b'"user_data":{', b'"user_data":{"click_id":"x",')


class Bench:
    """The edge's side of the outbox in a test."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.db = open_database(config.storage)

    def close(self) -> None:
        self.db.close()

    def put(
        self,
        count: int = 1,
        *,
        first: int = 1,
        pixel: str = "111",
        name: str = "Purchase",
        poison: Callable[[int], bool] = lambda n: False,
        created: int | None = None,
        **more: Any,
    ) -> None:
        """Queue events numbered from `first`, as the edge does."""
        now = created if created is not None else now_ms()
        rows = []
        self.db.execute("BEGIN IMMEDIATE")
        number = stores.pixel_number(self.db, pixel)
        for n in range(first, first + count):
            built = build_event(an_event(n, name=name, at=created, **more), Enrichment(), Profile())
            assert built.refused is None, built.refused
            if poison(n):
                built = msgspec.structs.replace(built, payload=poisoned(built.payload))
            rows.append(deliveries.row_of(n, number, name, built, now=now, wait_seconds=0.1))
        outbox.insert(self.db, rows)
        self.db.execute("COMMIT")

    def states(self, pixel: str | None = None) -> Counter[str]:
        """How many events are in each state."""
        where = "" if pixel is None else "WHERE pixel = (SELECT id FROM pixel WHERE name = ?)"
        bind = () if pixel is None else (pixel,)
        rows = self.db.execute(f"SELECT state, count(*) FROM outbox {where} GROUP BY state", bind)
        return Counter({NAMES[int(state)]: int(n) for state, n in rows})

    def open(self) -> int:
        """Events that are not settled."""
        return int(self.db.execute("SELECT count(*) FROM outbox WHERE settled IS NULL").get)

    def counter(self, name: str) -> int:
        return int(self.db.execute("SELECT coalesce(sum(n), 0) FROM counter WHERE name = ?", (name,)).get)

    def rows(self, sql: str, *bind: Any) -> list[Any]:
        return self.db.execute(sql, bind).fetchall()


@contextmanager
def bench(config: Config) -> Iterator[Bench]:
    made = Bench(config)
    try:
        yield made
    finally:
        made.close()


def courier_process(config: Config) -> subprocess.Popen[bytes]:
    """A courier in a process of its own, on this configuration."""
    code = (
        "import sys, msgspec\nfrom collector.config import Config\nfrom collector.courier.app import run\n"
        "from collector.telemetry import configure\n"
        "c = msgspec.json.decode(sys.argv[1], type=Config)\nconfigure(c.log, 'courier')\nsys.exit(run(c, None))"
    )
    text = msgspec.json.encode(config).decode()
    return subprocess.Popen([sys.executable, "-c", code, text], preexec_fn=hardening.die_with_parent)


def heeds(pid: int, number: signal.Signals) -> bool:
    """Whether a process has a handler for this signal by now: one that was just started would be ended by it."""
    status = Path(f"/proc/{pid}/status").read_text()
    (caught,) = re.findall(r"(?m)^SigCgt:\s*([0-9a-f]+)$", status)
    return bool(int(caught, 16) >> number - 1 & 1)


def wait_until(question: Callable[[], Any], seconds: float = 60.0, every: float = 0.02) -> bool:
    """Ask until it is true; False when the time is over."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if question():
            return True
        time.sleep(every)
    return False


class CourierThread:
    """The courier on a loop of its own in this process; `clock` and `ticks` may be a test's."""

    def __init__(self, config: Config, **seams: Any) -> None:
        self.courier = Courier(config, **seams)
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self.courier.run(self._is_ready)), daemon=True)

    def _is_ready(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ready.set()

    def __enter__(self) -> CourierThread:
        self._thread.start()
        assert self._ready.wait(30)
        return self

    def __exit__(self, *_: object) -> None:
        self.call(self.courier.stop)
        self._thread.join(60)
        assert not self._thread.is_alive()

    def call(self, what: Callable[[], Any]) -> None:
        """Run `what` on the courier's loop."""
        self._loop.call_soon_threadsafe(what)

    def ask(self, question: Any) -> Any:
        """The result of a coroutine on the courier's loop."""
        return asyncio.run_coroutine_threadsafe(question, self._loop).result(60)

    def new_token(self, pixel: str, token: str) -> None:
        """What a reload does once the configuration names another token."""
        target = msgspec.structs.replace(self.courier._targets[pixel], token=token)
        queue = self.courier._queues[pixel]
        self.call(lambda: queue.retarget(target))
