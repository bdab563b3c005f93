"""One click reported several times is one click, whichever report comes first and whatever is folded between."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from msgspec import structs

from collector.config import StoreConfig
from collector.core import flags
from collector.core.consent import Decision
from collector.core.intake import Caller
from collector.core.matching import Match
from collector.exchange import clicks
from collector.exchange.rows import ClickRow
from tests.kit.journal_kit import GRANTED, HOUR, NOW, SERVER, Kit, click, config_for, order

PENDING, DENIED = Decision("pending", False), Decision("denied", False)
PREFETCH, CRAWLER = Caller(secret=True, bot="prefetch"), Caller(secret=True, bot="crawler")
HOME, PHONE = "93.184.216.34", "Mozilla/5.0 (Linux; Android 14; Pixel 8)"
FBP = "fb.1.1789000000000.1234567890"


class Report(NamedTuple):
    """A click's fields, and who reports it under which consent."""

    hours: float  # before NOW
    fields: dict[str, Any]
    caller: Caller = SERVER
    decision: Decision = GRANTED


VISITOR = {"visitorId": "visitor-1"}
BY_VISITOR, BY_FBP = order("1", NOW - HOUR, **VISITOR), order("1", NOW - HOUR, fbp=FBP)
NEAR = order("1", NOW - HOUR, ipAddress=HOME, userAgent=PHONE)

# The reports of one click, an order, and the method by which the order is given it (None: it is not).
CASES: dict[str, tuple[list[Report], dict[str, Any], str | None]] = {
    "pending, then granted": (
        [Report(3, VISITOR, decision=PENDING), Report(2.9, VISITOR)],
        BY_VISITOR,
        "visitor_id",
    ),
    "pending, and granted after the order": (
        [Report(3, VISITOR | {"ipAddress": HOME, "userAgent": PHONE}, decision=PENDING), Report(0.5, VISITOR)],
        NEAR,
        "probabilistic",
    ),
    "pending twice": ([Report(3, VISITOR, decision=PENDING), Report(2, VISITOR, decision=PENDING)], BY_VISITOR, None),
    "a prefetch, then the person": ([Report(3, VISITOR, PREFETCH), Report(2.9, VISITOR)], BY_VISITOR, "visitor_id"),
    "a prefetch alone, twice": ([Report(3, VISITOR, PREFETCH), Report(2.9, VISITOR, PREFETCH)], BY_VISITOR, None),
    "a crawler, then a person": ([Report(3, {}, CRAWLER), Report(2.9, {"fbp": FBP})], BY_FBP, "fbp"),
    "a refusal beside a grant": ([Report(3, {"fbp": FBP}), Report(2, {"fbp": FBP}, decision=DENIED)], BY_FBP, None),
    "a browser's cookie in the second": ([Report(3, VISITOR), Report(2, VISITOR | {"fbp": FBP})], BY_FBP, "fbp"),
    "each half of the network": (
        [Report(3, VISITOR | {"ipAddress": HOME}), Report(2, VISITOR | {"userAgent": PHONE, "fbp": FBP})],
        NEAR,
        "probabilistic",
    ),
    "both, otherwise": (
        [Report(3, VISITOR | {"ipAddress": HOME, "userAgent": PHONE}), Report(2, VISITOR | {"ipAddress": "8.8.4.4"})],
        NEAR,
        "probabilistic",
    ),
    "three in pieces": (
        [Report(3, VISITOR, PREFETCH), Report(2.5, VISITOR | {"fbp": FBP}), Report(2, VISITOR | {"ipAddress": HOME})],
        BY_FBP,
        "fbp",
    ),
}  # fmt: skip


class Store:
    """A store of its own in the journal that all permutations share."""

    def __init__(self, kit: Kit, name: str) -> None:
        self.kit, self.name = kit, name

    def tell(self, step: Report | dict[str, Any]) -> Any:
        if isinstance(step, dict):
            (taken,) = self.kit.submit([self.kit.operation(step | {"storeId": self.name})])
            return taken
        body = click("IwARone000000", NOW - int(step.hours * HOUR), **step.fields) | {"storeId": self.name}
        (taken,) = self.kit.submit([self.kit.operation(body, step.caller, step.decision)])
        return taken

    def click(self) -> Any:
        """The one click, without the store's own names, and its raw network."""
        number = self.kit.journal.stores[self.name].number
        columns = ", ".join(f"click.{column}" for column in ClickRow._fields)
        sql = f"SELECT {columns}, ip, user_agent FROM click LEFT JOIN click_network USING (id) WHERE store = ?"
        ((*values, ip, agent),) = self.kit.rows(sql, number)
        row = ClickRow._make(values)
        keys = [name for name in ("visitor_k", "fbp_k", "ip_k", "ua_k", "fp_k") if getattr(row, name) is not None]
        return row.ts, row.last_ts, row.flags, row.ua_class, keys, clicks.read(row), ip, agent

    def answer(self) -> tuple[Any, ...]:
        number = self.kit.journal.stores[self.name].number
        ((row_id,),) = self.kit.rows("SELECT id FROM conversion WHERE store = ?", number)
        match: Match = self.kit.state(row_id).match
        return match.attributed, match.method, match.confidence, match.reason, match.log_odds_bits


@pytest.mark.parametrize("name", CASES)
def test_the_order_of_reports_and_folds_changes_neither_the_click_nor_the_answer(name: str, tmp_path: Path) -> None:
    reports, conversion, method = CASES[name]
    plays = list(itertools.permutations([*reports, conversion]))
    shops = [StoreConfig(id=f"store_{i}", domains=[f"shop{i}.com"], currency="USD", country="US") for i in range(24)]
    found: dict[tuple[str, tuple[Any, ...]], tuple[int, Any]] = {}
    for fold_after in range(len(reports) + 2):  # 0: never
        folder = tmp_path / str(fold_after)
        with Kit(folder, config=structs.replace(config_for(folder), store=shops)) as kit:
            stores = [Store(kit, shop.id) for shop, _ in zip(shops, plays, strict=False)]
            for place in range(len(reports) + 1):
                for store, play in zip(stores, plays, strict=True):
                    store.tell(play[place])
                if place + 1 == fold_after:
                    kit.fold()
            for store, play in zip(stores, plays, strict=True):
                found.setdefault((repr(store.click()), store.answer()), (fold_after, play))
    assert len(found) == 1, "\n\n".join(f"{k}\n  by {v}" for k, v in found.items())
    ((_, answer),) = found
    assert (answer[0], answer[1]) == (method is not None, method)


def test_a_refusal_leaves_nothing_of_the_visitor(tmp_path: Path) -> None:
    """Refused at once, or beside a grant that was told without a visitor id, also in the index."""
    fields = {"fbp": FBP, "ipAddress": HOME, "userAgent": PHONE, "referrer": "https://l.facebook.com/?u=jane"}
    with Kit(tmp_path) as kit:
        store = Store(kit, "store_abc123")
        store.tell(Report(3, fields))
        kit.fold()
        store.tell(Report(2, fields | {"fbc": f"fb.1.{NOW - 2 * HOUR}.IwARone000000"}, decision=DENIED))
        (_, _, bits, agent, keys, body, ip, raw_agent) = store.click()
        assert (bits, agent, keys, ip, raw_agent) == (flags.DENIED, 0, [], None, None)
        assert (body.visitor_id, body.fbp, body.fbc, body.referrer, body.marketing) == (
            None,
            None,
            None,
            None,
            "denied",
        )
        kit.fold()
        index = kit.transaction.lookup.index._db
        left = {
            t: index.execute(f"SELECT count(*) FROM click_{t}").get for t in ("visitor", "fbp", "ip", "ip_ua", "fp")
        }
        assert set(left.values()) == {0}, left


def test_a_refused_click_with_a_visitor_id_is_kept_without_it(tmp_path: Path) -> None:
    with Kit(tmp_path) as kit:
        store = Store(kit, "store_abc123")
        store.tell(Report(3, VISITOR | {"fbp": FBP, "referrer": "https://x.example/"}, decision=DENIED))
        again = store.tell(Report(2, VISITOR | {"fbp": FBP}, decision=DENIED))
        body = store.click()[5]
        assert again.duplicate
        assert (body.visitor_id, body.fbp, body.fbc, body.referrer) == (None, None, None, None)


def test_a_mere_reload_changes_nothing_and_opens_nothing_again(tmp_path: Path) -> None:
    with Kit(tmp_path) as kit:
        store = Store(kit, "store_abc123")
        store.tell(Report(3, VISITOR | {"fbp": FBP}))
        store.tell(BY_FBP)
        reload = store.tell(Report(0.9, VISITOR))
        assert (reload.duplicate, reload.before) == (True, None)
        assert kit.rows("SELECT count(*) FROM changed_click") == [(0,)]
        assert kit.rows("SELECT last_ts FROM click") == [(NOW - int(0.9 * HOUR),)]
