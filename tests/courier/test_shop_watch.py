# ruff: noqa: E501 (cases are read as one line each)
"""P1-P5 and C7: what a platform asks for a customer is done and stays done; what is amiss with a shop is told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from collector.cli import main
from collector.config import AlertsConfig
from collector.core.intake import Caller
from collector.courier.alerts import Alerts
from collector.courier.shops.watch import Watch
from collector.storage.delivery import SqliteBooks
from collector.storage.verbs.shop_health import Health
from tests.journal.test_shop_orders import Shop
from tests.kit import shops as made
from tests.kit.journal_kit import DAY, HOUR, NOW, STORE, order
from tests.shops.test_shop_reconcile import paid

NUMBER = 8_880_000
BOB = {"email": "bob@example.com", "customer": {"id": 5}, "billing_address": None, "landing_site": None, "note_attributes": [], "browser_ip": None, "client_details": {}}  # fmt: skip


class Watched:
    """A shop, and the courier's watch over it."""

    def __init__(self, folder: Path) -> None:
        self.shop = Shop(folder)
        kit = self.shop.kit
        self.alerts = Alerts(AlertsConfig(webhook_url="http://127.0.0.1:9/"))
        self.books = SqliteBooks(kit.config)
        self.db = self.books._db
        self.thread = ThreadPoolExecutor(1)
        self.watch = Watch(kit.config, self.books, self.alerts, lambda: kit.now, self.thread)

    def look(self) -> list[str]:
        """One round; the kinds of alerts that stand."""
        asyncio.run(self.watch.once())
        return sorted(kind for kind, _ in self.alerts._standing)

    def close(self) -> None:
        self.thread.shutdown()
        self.books.close()
        self.shop.kit.close()


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    one = Watched(tmp_path)
    yield one
    one.close()


SEVENTH = NUMBER + 7


def asked(topic: str, body: Any, delivery: str = "r-1") -> made.Message:
    return made.signed("shopify", body, {"X-Shopify-Topic": topic, "X-Shopify-Webhook-Id": delivery})


def redact(*orders: int, delivery: str = "r-1") -> made.Message:
    customer = {"id": 778899, "email": "ada@example.com", "phone": None}
    return asked("customers/redact", {"customer": customer, "orders_to_redact": list(orders)}, delivery)


def test_P1_word_of_a_redacted_customer_is_ignored_from_that_commit_on(watched: Watched) -> None:
    shop = watched.shop
    shop.tell(paid(NUMBER))
    shop.kit.now += HOUR
    assert shop.tell(redact(NUMBER, NUMBER + 1)).reason == "redact"
    assert shop.tell(paid(NUMBER, updated_at="2026-09-21T15:00:00Z")).reason == "erased"  # the courier is yet to come
    assert shop.tell(paid(NUMBER + 1)).reason == "erased"
    assert shop.tell(paid(NUMBER + 2, **BOB)).reason is None  # control: somebody else's


def test_P1_the_courier_erases_and_leaves_a_receipt(watched: Watched) -> None:
    shop = watched.shop
    shop.tell(paid(NUMBER))
    shop.tell(paid(NUMBER + 2, **BOB))
    shop.kit.now += HOUR
    shop.tell(redact(NUMBER))
    watched.look()
    assert [row[0] for row in shop.kit.rows("SELECT called FROM shop_order")] == [str(NUMBER + 2)]
    ((kept, found),) = shop.kit.rows("SELECT asked, found FROM shop_request")
    assert found == 1
    assert b"ada" not in kept
    assert b"778899" not in kept
    shop.kit.now += HOUR
    shop.tell(redact(NUMBER, delivery="r-2"))
    watched.look()
    assert sorted(shop.kit.rows("SELECT found FROM shop_request")) == [(0,), (1,)]
    assert shop.tell(paid(NUMBER, updated_at="2026-09-23T15:00:00Z")).reason == "erased"


def test_P1_the_same_delivery_twice_is_one_request(watched: Watched) -> None:
    for _ in range(3):
        watched.shop.tell(redact(NUMBER), delivery=b"same")
    assert watched.shop.kit.rows("SELECT count(*) FROM shop_request") == [(1,)]


@pytest.mark.parametrize(
    "body",
    [
        b'{"orders_to_redact": {}}',
        b'{"customer": null, "orders_to_redact": null}',
        b'{"customer": {"id": {}, "email": 7}, "orders_to_redact": [null, {}, "x", 1e400]}',
    ],
)
def test_a_request_of_any_shape_is_taken(watched: Watched, body: bytes) -> None:
    assert watched.shop.tell(asked("customers/redact", body)).reason == "redact"
    watched.look()
    assert watched.shop.kit.rows("SELECT found FROM shop_request") == [(0,)]


@pytest.mark.parametrize(
    ("topic", "kind"),
    [
        ("shop/redact", "shop_redact"),
        ("customers/data_request", "shop_data_request"),
        ("app/uninstalled", "shop_uninstalled"),
    ],
)
def test_P3_P4_nothing_else_is_done_by_itself_and_somebody_is_told(watched: Watched, topic: str, kind: str) -> None:
    watched.shop.tell(paid(NUMBER))
    watched.shop.tell(asked(topic, made.SHOPIFY_BARE[topic]))
    assert watched.look() == [kind]
    assert watched.shop.kit.rows("SELECT count(*) FROM shop_order") == [(1,)]


def test_P2_what_is_held_of_a_customer_is_written_for_the_owner_alone_and_goes_with_the_request(
    watched: Watched, capsys: Any
) -> None:
    watched.shop.tell(paid(NUMBER))
    watched.shop.kit.now += HOUR
    watched.shop.tell(asked("customers/data_request", {"customer": {"id": 778899}, "orders_requested": [NUMBER]}))
    assert watched.look() == ["shop_data_request"]
    (file,) = (watched.shop.kit.journal.data_dir / "requests").iterdir()
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    held = [json.loads(line) for line in file.read_text().splitlines()]
    assert any(str(NUMBER) in json.dumps(one["stores"]) for one in held)
    before = file.read_text()
    watched.look()
    assert file.read_text() == before, "what was held when he asked"
    name = file.stem
    assert command(watched, "run", name) == 0
    assert str(file) in capsys.readouterr().out
    assert command(watched, "dismiss", name, "--yes") == 0
    assert not file.exists()


def test_P2_control_of_nobody_nothing_is_written_but_an_empty_answer(watched: Watched) -> None:
    watched.shop.tell(paid(NUMBER))
    watched.shop.tell(asked("customers/data_request", {"customer": {"id": 5}, "orders_requested": []}))
    watched.look()
    (file,) = (watched.shop.kit.journal.data_dir / "requests").iterdir()
    assert str(NUMBER) not in file.read_text()


def command(watched: Watched, *words: str) -> int:
    folder = watched.shop.kit.journal.data_dir
    config = folder / "collector.toml"
    config.write_text(f"[storage]\ndata_dir = {json.dumps(str(folder))}\nreserve_mb = 1\n[[store]]\nid = '{STORE}'\n")
    return main(["requests", *words, "--config", str(config)])


def test_requests_are_listed_run_and_dismissed(watched: Watched, capsys: Any) -> None:
    watched.shop.tell(paid(NUMBER))
    watched.shop.kit.now += HOUR
    watched.shop.tell(redact(NUMBER))
    watched.shop.tell(asked("shop/redact", made.SHOPIFY_BARE["shop/redact"]))
    assert command(watched, "list", "--json") == 0
    ids = {one["kind"]: one["id"] for one in json.loads(capsys.readouterr().out)}
    assert command(watched, "run", ids["redact"]) == 0
    assert "1 orders erased" in capsys.readouterr().out
    assert command(watched, "run", ids["redact"]) == 1
    assert command(watched, "run", ids["shop_redact"]) == 1  # never by a command alone
    assert command(watched, "dismiss", ids["shop_redact"], "--yes") == 0
    assert command(watched, "run", "req_none") == 2
    capsys.readouterr()
    assert command(watched, "list") == 0
    assert "dismissed" in capsys.readouterr().out


# -- C7


def test_C7_orders_that_the_pull_alone_found_are_told(watched: Watched) -> None:
    shop = watched.shop
    watched.db.execute("INSERT INTO shop_pull VALUES (?, ?, ?, ?, NULL)", (STORE, NOW - 9 * DAY, NOW, NOW))
    shop.kit.now = NOW + HOUR
    shop.tell(paid(NUMBER), seen=1)
    assert watched.look() == []
    shop.tell(paid(NUMBER + 1), seen=2)
    assert watched.look() == ["shop_missed"]
    shop.tell(paid(NUMBER + 1), seen=1)  # late, but it came
    assert watched.look() == []


@pytest.mark.parametrize(
    ("mode", "number", "expected"),
    [
        ("pixel+server", str(SEVENTH % 10_000), ["shop_order_key"]),
        ("pixel+server", f"#{SEVENTH % 10_000}", ["shop_order_key"]),
        ("pixel+server", str(SEVENTH), []),
        ("pixel+server", "another", []),
        ("server-only", str(SEVENTH % 10_000), []),
    ],
)
def test_O8_a_page_that_tells_another_number_is_an_alert_where_its_pixel_does_too(
    watched: Watched, mode: Any, number: str, expected: list[str]
) -> None:
    config = watched.shop.kit.config
    store = structs.replace(config.store[0], pixel_mode=mode)
    watched.watch._health = Health(watched.books.shop_figures, structs.replace(config, store=[store]))
    page = Caller(secret=False, address="198.51.100.9", user_agent=made.AGENT)
    body = order(number, eventValue="118.90", currency="EUR", visitorId="v_alertedalerted")
    watched.shop.kit.submit([watched.shop.kit.operation(body, page)])
    watched.shop.tell(paid(SEVENTH))
    watched.shop.kit.transaction.beat()
    assert watched.look() == expected


def test_C7_wrong_signatures_are_told_when_they_are_many(watched: Watched) -> None:
    watched.shop.tell(paid(NUMBER))
    sql = "INSERT INTO counter VALUES (?, 1, 'shop.refused.signature_invalid', ?) ON CONFLICT DO UPDATE SET n = n + excluded.n"
    for n, expected in ((100, []), (4, []), (5, ["shop_signature"])):  # of the first nobody knows when
        watched.db.execute(sql, (NOW // DAY, n))
        assert watched.look() == expected


@pytest.mark.parametrize(
    ("customer", "email", "expected"), [({"id": 7}, None, True), ({"id": 7}, "a@b.example", False), (None, None, False)]
)
def test_C7_orders_without_a_person_are_told(
    watched: Watched, monkeypatch: pytest.MonkeyPatch, customer: Any, email: Any, expected: bool
) -> None:
    counted: list[str] = []
    monkeypatch.setattr(watched.shop.webhooks._keeper, "count", lambda store, name: counted.append(name))
    watched.shop.tell(paid(NUMBER, customer=customer, email=email, billing_address=None))
    assert ("shop.redacted" in counted) is expected
    for name in counted:
        watched.db.execute(
            "INSERT INTO counter VALUES (?, 1, ?, 1) ON CONFLICT DO UPDATE SET n = n + 1", (NOW // DAY, name)
        )
    assert ("shop_redacted" in watched.look()) is expected


def test_C7_a_shop_that_fell_silent_is_told(watched: Watched) -> None:
    shop = watched.shop
    for n in range(200):
        shop.tell(paid(NUMBER + n))
    shop.kit.now += 30 * HOUR
    assert "shop_silent" not in watched.look()  # night: nothing else comes either
    shop.kit.submit([shop.kit.operation(order("api-1", at=shop.kit.now))])
    assert "shop_silent" in watched.look()


def test_C7_poor_accuracy_is_told_and_cleared(watched: Watched) -> None:
    shop = watched.shop
    for n in range(20):
        shop.tell(paid(NUMBER + n))
    shop.kit.now += 3 * HOUR
    assert watched.look() == ["shop_accuracy"]  # all of them wait
    shop.kit.transaction._db.execute("UPDATE outbox SET state = 10")
    assert watched.look() == []
