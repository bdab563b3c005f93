# ruff: noqa: E501 (cases are read as one line each)
"""A month of a shop whose webhooks and whose API are unreliable: after the pull everything is true, to the cent.

MONTH_ORDERS (1,500; 5,000 before a release); 20 % of the webhooks lost, 10 % doubled, 30 % swapped; refunds and edits,
also days later; the key refused for six hours; the collector started anew twice; an API that throttles, fails and
gives half pages.
"""

from __future__ import annotations

import csv
import io
import json
import os
import random
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct, structs

from collector.cli import main
from collector.core import orders, times
from collector.core.capi.states import CapiState
from collector.core.shops import signature
from collector.storage.journal.shop_orders import Deliveries, OrderNames
from tests.courier.test_shop_pull import Pull
from tests.kit import shops as made
from tests.kit.journal_kit import DAY, HOUR, MINUTE, NOW, PIXEL, STORE
from tests.kit.shop_server import HALF, THROTTLED, ShopServer, graph_order, serving, unreliable

pytestmark = pytest.mark.slow
FIRST = 3_330_000
ORDERS = int(os.environ.get("MONTH_ORDERS", "1500"))


# Of the shop's own export, one row of which `Truth.row` is.
COLUMNS = [
    "Name",
    "Financial Status",
    "Currency",
    "Total",
    "Created at",
    "Cancelled at",
    "Refunded Amount",
    "Id",
    "Source",
]


class Truth(Struct):
    """An order as the shop has it."""

    number: int
    at: int
    changed: int
    status: str
    total: Decimal
    cancelled: bool = False
    refunds: list[tuple[int, Decimal, int]] = []  # number, amount, when

    @property
    def named(self) -> dict[str, Any]:
        return {
            "id": self.number,
            "admin_graphql_api_id": f"gid://shopify/Order/{self.number}",
            "name": f"#{self.number}",
            "order_number": self.number,
            "email": f"buyer{self.number}@example.com",
        }

    def webhook(self) -> made.Message:
        cancelled = times.text(self.changed) if self.cancelled else None
        at = {
            "created_at": times.text(self.at),
            "processed_at": times.text(self.at),
            "updated_at": times.text(self.changed),
        }
        value = {"current_total_price": str(self.total), "total_price": "100.00", "financial_status": self.status}
        back = [
            {"id": n, "created_at": times.text(when), "transactions": [{"kind": "refund", "amount": str(amount)}]}
            for n, amount, when in self.refunds
        ]
        return made.shopify(
            "orders/updated",
            f"d{self.number}-{self.changed}",
            cancelled_at=cancelled,
            customer={"id": self.number},
            landing_site=None,
            note_attributes=[],
            refunds=back,
            **self.named,
            **at,
            **value,
        )

    def graph(self) -> dict[str, Any]:
        money = {"shopMoney": {"amount": str(self.total), "currencyCode": "EUR"}}
        return graph_order(
            self.number,
            self.at,
            self.changed,
            name=f"#{self.number}",
            currentTotalPriceSet=money,
            displayFinancialStatus=self.status.upper(),
            cancelledAt=times.text(self.changed) if self.cancelled else None,
            refunds=[
                {
                    "id": f"gid://shopify/Refund/{n}",
                    "createdAt": times.text(when),
                    "totalRefundedSet": {"shopMoney": {"amount": str(amount), "currencyCode": "EUR"}},
                }
                for n, amount, when in self.refunds
            ],
        )

    def row(self) -> list[str]:
        return [
            f"#{self.number}",
            self.status,
            "EUR",
            str(self.total),
            times.text(self.at),
            times.text(self.changed) if self.cancelled else "",
            "0.00",
            str(self.number),
            "web",
        ]


class Month:
    """The shop's side, day by day."""

    def __init__(self, server: ShopServer, dice: random.Random, count: int) -> None:
        self.server, self.dice, self.count = server, dice, count
        self.truth: dict[int, Truth] = {}

    def day(self, begin: int, of: int) -> list[made.Message]:
        """A day's webhooks, in the order in which they happen."""
        told: list[made.Message] = []
        for n in range(len(self.truth), min(len(self.truth) + of, self.count)):
            one = Truth(
                FIRST + n,
                begin + self.dice.randrange(20 * HOUR),
                0,
                "pending",
                Decimal(self.dice.randrange(500, 90_000)) / 100,
            )
            one.changed = one.at
            self.truth[one.number] = one
            told.append(one.webhook())
            one.changed += 2 * MINUTE
            if self.dice.random() < 0.05:
                one.cancelled, one.status = True, "voided"
            else:
                one.status = "paid"
            told.append(one.webhook())
        former = [t for t in self.truth.values() if t.status == "paid" and self.dice.random() < 0.03]
        for one in former:  # refunds and edits, of today's and of older orders
            one.changed, one.total = (
                max(one.changed, begin + 20 * HOUR) + MINUTE,
                (one.total / 2).quantize(Decimal("0.01")),
            )
            one.status = "partially_refunded" if self.dice.random() < 0.7 else "paid"
            told.append(one.webhook())
        self.server.orders = {str(t.number): t.graph() for t in self.truth.values()}
        return told


def post(one: Pull, message: made.Message) -> bool:
    """A webhook through the edge's own door; whether its signature held."""
    shop, headers = one.shop, [(name.lower().encode(), value.encode()) for name, value in message.headers.items()]
    shop.webhooks._keeper.clock = lambda: shop.kit.now  # type: ignore[method-assign]
    signed = shop.webhooks.signed(f"/v1/webhooks/{message.name}/{STORE}", headers, message.body)
    if signed is None:
        return False
    begun = shop.webhooks.begun(signed)
    assert begun.finish(shop.kit.submit(list(begun.operations))).status == 200
    return True


def forged(shop: Month) -> list[made.Message]:
    """Somebody who has not the secret makes orders cheap, and as new as can be."""
    some = shop.dice.sample(sorted(shop.truth), 3)
    cheap = [structs.replace(shop.truth[n], total=Decimal("0.01"), status="paid", changed=NOW + 40 * DAY) for n in some]
    theirs = [one.webhook() for one in cheap]
    return [one._replace(headers=one.headers | {"X-Shopify-Hmac-Sha256": "A" * 43 + "="}) for one in theirs]


def deliver(one: Pull, truth: dict[int, Truth], sent: dict[int, Decimal]) -> None:
    """Meta's part: takes what is queued, once, at the value that the shop has at this moment."""
    db = one.shop.kit.transaction._db
    queued = db.execute(
        "SELECT o.id, o.conversion, p.body, s.called FROM outbox o JOIN outbox_payload p ON p.id = o.id JOIN shop_order s ON s.conversion = o.conversion WHERE o.state = 0"
    ).fetchall()
    for number, conversion, body, called in queued:
        assert conversion not in sent, "a second event of one order"
        sent[conversion] = Decimal(str(json.loads(body)["custom_data"]["value"]))
        assert sent[conversion] == truth[int(called)].total
        db.execute(
            "UPDATE outbox SET state = ?, settled = ? WHERE id = ?", (int(CapiState.SENT), one.shop.kit.now, number)
        )


def month(folder: Path, count: int, capsys: Any) -> Any:
    """What `collector reconcile` says of the shop's own export after it."""
    dice, sent = random.Random(11), dict[int, Decimal]()
    with serving(ShopServer()) as server:
        shop, one = Month(server, dice, count), Pull(folder, server)
        try:
            for day in range(30):
                begin = NOW + day * DAY
                for message in unreliable(shop.day(begin, -(-count // 30)), dice, lost=0.2, doubled=0.1, swapped=0.3):
                    one.shop.kit.now = begin + 21 * HOUR
                    assert post(one, message)
                for message in forged(shop):
                    post(one, message)
                if day == 9:
                    server.token_works = False
                    for _ in range(6):
                        assert one.pull() == [3_600.0]
                        one.shop.kit.now += HOUR // 3
                    server.token_works = True
                server.faults.extend(
                    dice.sample([THROTTLED, HALF, (429, {"Retry-After": "0"}, b""), (500, {}, b"")], 2)
                )
                one.shop.kit.now = begin + 24 * HOUR - MINUTE
                one.pull(4)
                one.take()
                deliver(one, shop.truth, sent)
                if day in (12, 20):  # started anew
                    now = one.shop.kit.now
                    one.close()
                    one = Pull(folder, server)
                    one.shop.kit.now = now
            out = io.StringIO()
            csv.writer(out).writerows([COLUMNS, *(t.row() for t in shop.truth.values())])
            (folder / "export.csv").write_text(out.getvalue())
            (folder / "collector.toml").write_text(
                f"[storage]\ndata_dir = {json.dumps(str(folder))}\nreserve_mb = 1\n[[store]]\nid = '{STORE}'\n[[store.pixel]]\nid = '{PIXEL}'\n"
            )
            assert (
                main(["reconcile", str(folder / "export.csv"), "--config", str(folder / "collector.toml"), "--json"])
                == 0
            )
            assert len(sent) == sum(not t.cancelled for t in shop.truth.values())
        finally:
            one.close()
    return json.loads(capsys.readouterr().out)


def test_a_month_of_a_shop_in_small(tmp_path: Path, capsys: Any) -> None:
    told = month(tmp_path, 120, capsys)
    assert (told["orders"], told["accuracy"], told["valueDiffers"], told["missing"]) == (120, 100.0, 0, [])


def test_a_month_of_a_shop(tmp_path: Path, capsys: Any) -> None:
    told = month(tmp_path, ORDERS, capsys)
    assert (told["orders"], told["accuracy"], told["valueDiffers"], told["missing"]) == (ORDERS, 100.0, 0, [])


def test_control_without_the_time_rule_the_month_is_not_true(
    tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orders, "_place", lambda fact: 0)
    monkeypatch.setattr(orders, "_worth", lambda fact: 0)
    with pytest.raises(AssertionError):
        test_a_month_of_a_shop_in_small(tmp_path, capsys)


def test_control_without_the_signature_check_the_month_is_not_true(
    tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signature, "is_signed", lambda *_: True)
    with pytest.raises(AssertionError):
        test_a_month_of_a_shop_in_small(tmp_path, capsys)


def test_control_without_the_orders_own_name_it_is_sent_twice(
    tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("collector.storage.verbs.conversions.named", lambda *_: None)
    monkeypatch.setattr(OrderNames, "order", lambda *_: None)
    with pytest.raises(AssertionError):
        test_a_month_of_a_shop_in_small(tmp_path, capsys)


def test_D2_the_month_is_true_without_the_memory_of_deliveries_too(
    tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Deliveries, "known", lambda *_: None)
    test_a_month_of_a_shop_in_small(tmp_path, capsys)


def test_control_without_the_pull_orders_are_missing(
    tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Pull, "pull", lambda self, times_=1: [3_600.0])
    with pytest.raises(AssertionError):
        month(tmp_path, 120, capsys)
