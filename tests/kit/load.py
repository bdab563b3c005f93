"""Clients that never give up: an event is posted unchanged until it is acknowledged, and what a 200 said is kept."""

from __future__ import annotations

import http.client
import itertools
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw
import msgspec

from collector.core.ids import PublicIds
from collector.core.keyed import KeyedHash
from collector.storage.ground import kept

PAGE = "https://mystore.com/p?utm_source=facebook&campaign_id=1"


class Load:
    """Threads posting clicks, orders and batches; `clicks` and `orders` are what a 200 has named."""

    def __init__(self, url: str, key: str, store: str, threads: int = 4) -> None:
        self.url = url
        self.headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        self.store = store
        self.clicks: dict[str, str] = {}  # fbclid -> clickId
        self.orders: dict[str, str] = {}  # orderId -> conversionId
        self.answers: Counter[int] = Counter()
        self.repeats = 0  # answers that said duplicate: stored the first time, though nobody heard of it
        self.faults: list[str] = []
        self._numbers = itertools.count()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(i,), daemon=True) for i in range(threads)]

    @property
    def acknowledged(self) -> int:
        return len(self.clicks) + len(self.orders)

    @contextmanager
    def running(self) -> Iterator[Load]:
        for thread in self._threads:
            thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            for thread in self._threads:
                thread.join(20)

    def _run(self, lane: int) -> None:
        connection: http.client.HTTPConnection | None = None
        while not self._stop.is_set():
            path, body, names = self._next(lane)
            raw = json.dumps(body).encode()
            while not self._stop.is_set():
                try:
                    if connection is None:
                        connection = http.client.HTTPConnection(self.url.removeprefix("http://"), timeout=10)
                    connection.request("POST", path, raw, self.headers)
                    answer = connection.getresponse()
                    status, text = answer.status, answer.read()
                except (OSError, http.client.HTTPException):
                    connection = None
                    time.sleep(0.01)
                    continue
                self.answers[status] += 1
                if status == 200:
                    self._note(names, json.loads(text)["data"])
                    break
                if status < 500:
                    self.faults.append(f"{status} {text[:200]!r}")
                    break
                time.sleep(0.05)

    def _next(self, lane: int) -> tuple[str, Any, list[str]]:
        number = next(self._numbers)
        if lane == 0:
            items = [self._item(f"{number}-{i}") for i in range(20)]
            return "/v1/track/batch", items, [item.get("orderId") or item["fbclid"] for item in items]
        item = self._item(str(number))
        kind = item.pop("type")
        return f"/v1/track/{kind}", item, [item.get("orderId") or item["fbclid"]]

    def _item(self, name: str) -> dict[str, Any]:
        if name[-1] in "37":
            order = {"orderId": f"order-{name}", "eventValue": 9.5, "currency": "USD"}
            order |= {"visitorId": f"visitor-{name}", "customerData": {"email": f"{name}@example.com"}}
            return {"type": "conversion", "storeId": self.store, "eventType": "Purchase", **order}
        click = {"fbclid": f"IwARload{name:0>24}", "landingPage": PAGE, "visitorId": f"visitor-{name}"}
        return {"type": "click", "storeId": self.store, **click}

    def _note(self, names: list[str], data: dict[str, Any]) -> None:
        for name, one in zip(names, data.get("results") or [{"success": True, "data": data}], strict=True):
            if not one["success"]:
                self.faults.append(str(one))
                continue
            self.repeats += "duplicate" in one["data"]
            if "clickId" in one["data"]:
                self.clicks[name] = one["data"]["clickId"]
            else:
                self.orders[name] = one["data"]["conversionId"]


class Audit(msgspec.Struct):
    """What the database says of what was acknowledged."""

    lost: list[str]
    twice: list[str]
    renamed: list[str]  # stored under another id than the answer's
    without_delivery: list[str]
    integrity: str


def audit(data: Path, load: Load) -> Audit:
    """Compare every acknowledged event with the rows; nothing may be running on the files."""
    db = kept.know(apsw.Connection(str(data / "collector.db")))
    public = PublicIds(KeyedHash((data / "pepper.key").read_bytes()).subkey("public ids"))
    try:
        clicks = _rows(db, "SELECT id, body FROM click", "click", public, lambda body: body[0])
        orders = _rows(db, "SELECT id, body FROM conversion", "conv", public, lambda body: body["order_id"])
        queued = {public.public("conv", row[0]) for row in db.execute("SELECT conversion FROM outbox")}
        several = db.execute("SELECT conversion FROM outbox GROUP BY 1 HAVING count(*) > 1").fetchall()
        integrity = str(db.execute("PRAGMA integrity_check").get)
    finally:
        db.close()
    both = {**clicks, **orders}
    said = {**load.clicks, **load.orders}
    return Audit(
        lost=[name for name in said if name not in both],
        twice=[name for name, ids in both.items() if len(ids) > 1] + [str(row) for row in several],
        renamed=[name for name, public_id in said.items() if name in both and public_id not in both[name]],
        without_delivery=[name for name, public_id in load.orders.items() if public_id not in queued],
        integrity=integrity,
    )


def _rows(db: apsw.Connection, sql: str, prefix: str, public: PublicIds, name: Any) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for row_id, body in db.execute(sql):
        found.setdefault(name(msgspec.msgpack.decode(body)), []).append(public.public(prefix, row_id))
    return found
