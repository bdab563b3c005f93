"""Backups of a running collector under load: each holds all that was acknowledged before it, and nothing twice."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import apsw
import pytest

from tests.kit.harness import STORE, Door, GraphSimulator, Installation

ROUNDS = int(os.environ.get("COLLECTOR_DRILLS", "5"))

pytestmark = pytest.mark.slow


class Orders:
    """A server that tells one order after the other; `told` are those that were acknowledged."""

    def __init__(self, door: Door, key: str) -> None:
        self.told: list[str] = []
        self._door, self._key = door, key
        self._over = threading.Event()

    def _tell(self) -> None:
        number = 0
        while not self._over.is_set():
            number += 1
            body = {
                "storeId": STORE, "eventType": "Purchase", "orderId": f"o-{number}", "eventValue": 9.5,
                "currency": "USD", "customerData": {"email": f"p{number}@example.com"},
            }  # fmt: skip
            if self._door.post("/v1/track/conversion", body, self._key).status_code == 200:
                self.told.append(f"o-{number}")

    @contextmanager
    def telling(self) -> Iterator[None]:
        thread = threading.Thread(target=self._tell)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join(30)


def test_every_backup_under_load_holds_what_was_acknowledged_before_it_and_nothing_twice(tmp_path: Path):
    with GraphSimulator() as graph:
        shop = Installation(tmp_path, graph.url)
        key = shop.make_key()
        with shop.serve() as door:
            orders = Orders(door, key)
            with orders.telling():
                for number in range(ROUNDS):
                    before = len(orders.told)
                    made = json.loads(shop.run("backup", str(tmp_path / f"{number}.tar"), "--json"))
                    again = tmp_path / f"again{number}"
                    shop.run("restore", made["file"], "--data-dir", str(again))
                    with closing(apsw.Connection(str(again / "collector.db"))) as db:
                        found = [row[0] for row in db.execute("SELECT dedup_k FROM conversion WHERE store > 0")]
                        waiting = db.execute(
                            "SELECT count(*) FROM outbox WHERE settled IS NULL AND doubt_at IS NULL"
                        ).get
                    assert len(found) == len(set(found)) == made["rows"]["conversion"]
                    assert before <= len(found)
                    assert waiting == 0
            assert len(orders.told) > ROUNDS
