"""Orders are written at the end of their group; to those after them in it they are there at once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import msgspec
import pytest
from msgspec import structs

from collector.exchange.operations import Withdraw
from tests.kit.journal_kit import HOUR, MINUTE, NOW, STORE, Kit, click, config_for, order

AGENT = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15"
CUSTOMER = {"customerData": {"email": "ann@example.org", "phone": "+12025550123"}}


@pytest.fixture
def kit(tmp_path: Path) -> Iterator[Kit]:
    with Kit(tmp_path) as kit:
        yield kit


def together(kit: Kit, *bodies: dict[str, Any]) -> list[Any]:
    """The results of one group."""
    return kit.submit([kit.operation(body) for body in bodies])


def payloads(kit: Kit) -> list[dict[str, Any]]:
    return [msgspec.json.decode(body) for (body,) in kit.rows("SELECT body FROM outbox_payload ORDER BY id")]


def test_the_second_order_of_a_group_knows_the_customer_by_the_first(kit: Kit) -> None:
    _, _, second = together(
        kit,
        click("first", at=NOW - HOUR, visitorId="ann"),
        order("1", visitorId="ann", **CUSTOMER),
        order("2", **CUSTOMER),
    )
    assert second.state.match.method == "email"
    assert kit.state(2).row.click == 1


def test_an_order_told_twice_in_a_group_is_one_and_goes_out_richer(kit: Kit) -> None:
    first, again = together(kit, order("1", visitorId="ann"), order("1", **CUSTOMER))
    assert (first.duplicate, again.duplicate) == (False, True)
    assert kit.rows("SELECT id, revision FROM conversion") == [(1, 1)]
    assert kit.rows("SELECT conversion, state FROM outbox") == [(1, 0)]
    assert set(payloads(kit)[0]["user_data"]) == {"em", "ph"}


def test_an_order_told_twice_without_news_names_the_click_of_its_group(kit: Kit) -> None:
    body = order("1", fbclid="first")
    *_, again = together(kit, click("first", at=NOW - HOUR), body, body)
    assert again.duplicate
    assert again.state.click.fbclid == "first"


def test_a_click_after_its_order_in_a_group_is_credited_and_sent(kit: Kit) -> None:
    together(kit, order("1", visitorId="ann", **CUSTOMER), click("late", at=NOW - MINUTE, visitorId="ann"))
    assert kit.rows("SELECT click, method, revision FROM conversion") == [(1, "visitor_id", 1)]
    assert payloads(kit)[0]["user_data"]["fbc"].endswith(".late")


def test_a_click_of_the_group_gives_its_address_to_the_order(kit: Kit) -> None:
    together(
        kit,
        click("first", at=NOW - HOUR, visitorId="ann", ipAddress="93.184.216.7", userAgent=AGENT),
        order("1", visitorId="ann"),
    )
    assert payloads(kit)[0]["user_data"]["client_ip_address"] == "93.184.216.7"


def test_a_link_made_in_a_group_gives_an_order_of_the_group_its_click(kit: Kit) -> None:
    together(kit, click("first", at=NOW - HOUR, visitorId="ann"))
    together(kit, order("1", **CUSTOMER), order("2", visitorId="ann", **CUSTOMER))
    assert kit.rows("SELECT id, click, method FROM conversion") == [(1, 1, "email"), (2, 1, "visitor_id")]


def test_a_click_that_is_given_once_is_given_once_within_a_group(tmp_path: Path) -> None:
    config = config_for(tmp_path)
    config = structs.replace(config, store=[structs.replace(config.store[0], count="one")])
    with Kit(tmp_path, config=config) as kit:
        together(kit, click("first", at=NOW - HOUR), order("1", fbclid="first"), order("2", NOW + 1, fbclid="first"))
        assert kit.rows("SELECT click FROM conversion ORDER BY id") == [(1,), (None,)]
        together(kit, order("3", NOW - 1, fbclid="first"))
        assert kit.rows("SELECT click FROM conversion ORDER BY id") == [(None,), (None,), (1,)]


def test_who_withdraws_in_the_group_of_his_order_is_forgotten_in_it(kit: Kit) -> None:
    store = kit.journal.stores[STORE].number
    withdraw = Withdraw(store, "ann", kit.journal.names.name(store, "visitor", "ann"))
    kit.submit([kit.operation(order("1", visitorId="ann", **CUSTOMER)), withdraw])
    assert kit.rows("SELECT visitor_k FROM conversion") == [(None,)]
    assert kit.rows("SELECT key FROM identity_link UNION ALL SELECT key FROM conversion_identity") == []


def test_of_a_group_that_is_rolled_back_nothing_is_written_later(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    real, left = kit.transaction.commit, [apsw.FullError("planted")]

    def once() -> None:
        if left:
            raise left.pop()
        real()

    monkeypatch.setattr(kit.transaction, "commit", once)
    (lost,) = kit.submit_together([[kit.operation(order("1", visitorId="ann", **CUSTOMER))]])
    assert isinstance(lost, Exception)
    (kept,) = kit.submit([kit.operation(order("2", visitorId="bob"))])
    assert kept.state.row.id == 1
    tables = ("conversion", "outbox", "outbox_payload", "identity_link", "conversion_identity")
    assert [kit.rows(f"SELECT count(*) FROM {table}") for table in tables] == [[(1,)], [(1,)], [(0,)], [(0,)], [(0,)]]


def test_many_orders_of_a_group_have_their_own_rows(kit: Kit) -> None:
    together(kit, *[order(f"n{n}", visitorId=f"v{n}", customerData={"email": f"p{n}@x.org"}) for n in range(150)])
    sql = "SELECT o.id = c.id AND o.conversion = c.id FROM conversion c JOIN outbox o ON o.id = c.id"
    assert kit.rows(sql) == [(1,)] * 150
    assert [p["custom_data"]["order_id"] for p in payloads(kit)] == [f"n{n}" for n in range(150)]
    assert kit.rows("SELECT count(*) FROM identity_link") == [(300,)]


def test_a_click_that_the_order_names_is_credited_however_many_look_alike(kit: Kit) -> None:
    here = {"ipAddress": "93.184.216.7", "userAgent": AGENT}
    kit.submit([kit.operation(click("named", at=NOW - 100 * MINUTE, visitorId="ann"))])
    for kind, who in (("fp", {"fingerprint": "device-1"}), ("ua", here), ("ip", {**here, "userAgent": AGENT + "9"})):
        alike = [click(f"{kind}-{n}", at=NOW - 60 * MINUTE + n, visitorId=f"{kind}{n}", **who) for n in range(32)]
        together(kit, *alike)
    (found,) = together(kit, order("1", visitorId="ann", fingerprint="device-1", **here))
    assert found.state.click.fbclid == "named"
