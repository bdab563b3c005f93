"""Matching and learning on a real journal: a simulated shop is posted as its pages and server would, and answered."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing
from hashlib import blake2b
from pathlib import Path
from typing import Any

import msgspec
import pytest

from collector.core import flags
from collector.core.matching import Candidate, Model
from collector.storage.ground import database
from collector.storage.learning import learning, models
from tests.kit.journal_kit import DAY, MINUTE, STORE, Kit, click, order
from tests.kit.simulators.agents import TEXTS
from tests.kit.simulators.scores import Scores
from tests.kit.simulators.targets import missed
from tests.kit.simulators.trial import Shelf, Verdict
from tests.kit.simulators.truth import START, Order, Public, World


def address(key: int) -> str:
    """A public IPv4 address for an address key."""
    a, b, c = blake2b(str(key).encode(), digest_size=3).digest()
    return f"{20 + a % 60}.{b}.{c}.{abs(key) % 250 + 1}"


def mailbox(number: int) -> str:
    return f"person{number}@web.de"


def fbp(jar: int, since: int) -> str:
    return f"fb.1.{since}.{jar}"


def click_body(c: Candidate, since: dict[int, int]) -> dict[str, Any]:
    body = click(f"IwAR{c.fbclid_k:020d}", c.ts, visitorId=f"v{c.visitor_k}", ipAddress=address(c.ip_k or 0))
    if c.fp_k is not None:
        body["fingerprint"] = f"fingerprint{c.fp_k}"
    return body | {"userAgent": TEXTS[c.ua_k or 0], "fbp": fbp(c.fbp_k or 0, since.get(c.fbp_k or 0, c.ts))}


def order_body(number: int, o: Order) -> dict[str, Any]:
    body = order(f"o{number}", o.ts, ipAddress=address(o.ip_k or 0), userAgent=TEXTS[o.ua_k or 0])
    if o.email:
        body["customerData"] = {"email": mailbox(o.email - 1)}
    if o.visitor_k is not None and o.fbp_k is not None and o.jar_since is not None:
        body |= {"visitorId": f"v{o.visitor_k}", "fbp": fbp(o.fbp_k, o.jar_since)}
    if o.fbc_k is not None:
        body["fbclid"] = f"IwAR{o.fbc_k:020d}"
    if o.fp_k is not None:
        body["fingerprint"] = f"fingerprint{o.fp_k}"
    return body


def _until(queue: deque[Any], when: Callable[[Any], int], ts: int) -> range:
    """As many turns as there are items up to `ts`."""
    return range(next((at for at, item in enumerate(queue) if when(item) > ts), len(queue)))


class Shop:
    """A public posted to a journal in time order; the answers beside the truth."""

    def __init__(self, folder: Path, public: Public) -> None:
        self.public = public
        self.kit = Kit(folder, START)
        self.verdicts: list[Verdict] = []
        shelf = Shelf(public)
        since = {o.fbp_k: o.jar_since for o in public.orders if o.fbp_k is not None and o.jar_since is not None}
        rows: dict[int, int] = {}
        clicks, sign_ins = deque(shelf.allowed), deque(public.sign_ins)
        for number, one in enumerate(o for o in public.orders if not o.denied):
            self._post_clicks([clicks.popleft() for _ in _until(clicks, lambda c: c.ts, one.ts)], since, rows)
            self._post_sign_ins([sign_ins.popleft() for _ in _until(sign_ins, lambda s: s[0], one.ts)])
            self._post_order(number, one, shelf, rows)

    def _post_sign_ins(self, sign_ins: list[tuple[int, int, int]]) -> None:
        operations = []
        for ts, visitor, who in sign_ins:
            body = {"storeId": STORE, "eventType": "Lead", "visitorId": f"v{visitor}"}
            operations.append(self.kit.operation(body | {"at": ts, "customerData": {"email": mailbox(who)}}))
        self.kit.submit(operations)

    def _post_clicks(self, clicks: list[Candidate], since: dict[int, int], rows: dict[int, int]) -> None:
        operations = []
        for c in clicks:
            self.kit.now = c.ts
            operations.append(self.kit.operation(click_body(c, since)))
        for c, result in zip(clicks, self.kit.submit(operations), strict=True):
            rows[result.id] = c.id

    def _post_order(self, number: int, one: Order, shelf: Shelf, rows: dict[int, int]) -> None:
        self.kit.now = one.ts
        result = self.kit.post(order_body(number, one))[0]
        found = result.state.match
        own = {"click": rows.get(found.click or 0), "best_click": rows.get(found.best_click or 0)}
        answer = msgspec.structs.replace(found, **own)
        true = shelf.clicks[one.truth - 1] if one.truth is not None else None
        near = true is not None and (true.ip_k == one.ip_k or (true.fp_k is not None and true.fp_k == one.fp_k))
        self.verdicts.append(Verdict(one, answer, answer.tier in ("click", "device", "identity"), near))


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    made = Shop(tmp_path_factory.mktemp("shop"), Public(World(seed=701, people=16_000)))
    yield made
    made.kit.close()


@pytest.mark.slow
def test_the_journal_meets_the_targets_of_a_new_store(shop: Shop) -> None:
    scores = Scores([v for v in shop.verdicts if v.order.ts > START + 20 * DAY])
    print(scores.line("through the journal"))
    assert [name for name in missed(scores, trained=False) if not name.startswith("decoys")] == []
    assert len(scores.links(50)) > 20


@pytest.mark.slow
def test_a_night_makes_a_model_that_the_edge_takes_over(shop: Shop) -> None:
    kit = shop.kit
    kit.fold()
    kit.now += 2 * DAY
    db = database.connect(kit.journal.data_dir / database.DATABASE, kit.config.storage)
    try:
        assert learning.due(db, kit.now)
        made = learning.night_if_due(db, kit.config, kit.now)
        model = made[STORE]
        assert not learning.due(db, kit.now + MINUTE)
        assert learning.night_if_due(db, kit.config, kit.now + DAY) == {}, "nothing new, no new version"
        assert models.newest(db, kit.journal.stores[STORE].number) == model
    finally:
        db.close()
    assert model.version == "fs.2"
    assert model.labels > 0
    assert sum(model.classes.values()) > 100
    assert model.ip_others[0] < 0.5
    assert 0.005 < model.share < 0.9
    assert model.crowds or model.networks
    kit.transaction.conversions.take_models(models.in_force(kit.journal._db))
    body = order("after the night", kit.now, ipAddress="20.1.1.1", userAgent="x")
    assert kit.post(body)[0].state.match.model == "fs.2"


@pytest.mark.slow
def test_decoys_are_counted_where_the_console_reads_them(shop: Shop) -> None:
    found = dict(shop.kit.rows("SELECT name, sum(n) FROM counter WHERE name LIKE 'decoy.%' GROUP BY name"))
    assert found["decoy.orders"] > 5
    assert found.get("decoy.80", 0) <= found["decoy.orders"] * 0.1


@pytest.mark.slow
def test_a_night_reads_the_newest_of_a_flood(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounded work, nothing learnt twice, and no lag behind a shop with many page views."""
    kit = shop.kit
    newest = kit.rows("SELECT max(id) FROM conversion")[0][0]
    monkeypatch.setattr(learning, "MOST_ROWS", 200)
    with closing(database.connect(kit.journal.data_dir / database.DATABASE, kit.config.storage)) as db:
        db.execute("DELETE FROM model")
        made: Model = learning.night(db, kit.config, kit.now + 2 * DAY)[STORE]
        assert made.through == newest
        assert 0 < made.counts.get("pool:0", 0) + made.counts.get("pool:1", 0) <= 200
        assert learning.night(db, kit.config, kit.now + 3 * DAY) == {}


def test_tests_and_steps_of_the_funnel_teach_nothing(tmp_path: Path) -> None:
    with Kit(tmp_path) as kit:
        for n in range(5):
            kit.post(order(f"t{n}", test=True), {"storeId": STORE, "eventType": "PageView", "visitorId": f"v{n}"})
        kit.fold()
        db = database.connect(kit.journal.data_dir / database.DATABASE, kit.config.storage)
        assert learning.night(db, kit.config, kit.now + 2 * DAY) == {}
        db.close()
        assert kit.rows("SELECT count(*) FROM conversion WHERE flags & ?", flags.TEST) == [(5,)]
