"""An order told again: a refusal then or now stands, and nothing of the person stays with the order."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import msgspec
import pytest

from collector.core import flags
from collector.core.consent import Decision
from collector.core.events import StoredEvent
from collector.exchange.operations import Withdraw
from collector.exchange.rows import ConversionRow
from tests.kit.journal_kit import GRANTED, HOUR, NOW, SERVER, STORE, Kit, click, order

PENDING, DENIED = Decision("pending", False), Decision("denied", False)
SILENT = Decision("granted", False, unasked=True)
PERSON = {
    "visitorId": "visitor-1",
    "fbp": "fb.1.1789000000000.1234567890",
    "ipAddress": "93.184.216.34",
    "userAgent": "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X)",
    "fbclid": "IwARone000000",
    "customerData": {"email": "jane@example.com"},
}
NAMES = ("fbclid_k", "visitor_k", "fbp_k", "ip_k", "ua_k", "fp_k")


def tell(kit: Kit, decision: Decision, **fields: Any) -> Any:
    """Told by a server; in so many words, unless it is the store's default."""
    said = None if decision.unasked else {"marketing": decision.marketing}
    (taken,) = kit.submit([kit.operation(order("1", NOW - HOUR, consent=said, **fields), SERVER, decision)])
    return taken.state


def kept(kit: Kit) -> tuple[ConversionRow, StoredEvent]:
    columns = ", ".join(ConversionRow._fields)
    (values,) = kit.rows(f"SELECT {columns} FROM conversion")
    row = ConversionRow._make(values)
    return row, msgspec.msgpack.decode(row.body, type=StoredEvent)


def assert_nobody(kit: Kit) -> None:
    row, event = kept(kit)
    assert [name for name in NAMES if getattr(row, name) is not None] == []
    assert (row.ua_class, row.click, row.method) == (0, None, None)
    assert (event.marketing, event.user_data, event.order_id) == ("denied", {}, "1")
    assert [
        n for n in ("fbclid", "fbc", "fbp", "visitor_id", "ip", "user_agent") if getattr(event, n) is not None
    ] == []
    assert kit.rows("SELECT count(*) FROM conversion_identity") == [(0,)]
    assert kit.rows("SELECT count(*) FROM identity_link") == [(0,)]
    assert kit.rows("SELECT count(*) FROM outbox WHERE settled IS NULL") == [(0,)]
    assert kit.rows("SELECT count(*) FROM outbox_payload") == [(0,)]


@pytest.mark.parametrize("folded", [False, True], ids=["in memory", "folded between"])
@pytest.mark.parametrize("decisions", [*itertools.permutations([GRANTED, PENDING, DENIED]), (DENIED, GRANTED, GRANTED)])
def test_one_refusal_among_an_orders_reports_stands(
    decisions: tuple[Decision, ...], folded: bool, tmp_path: Path
) -> None:
    with Kit(tmp_path) as kit:
        kit.post(click("IwARone000000", NOW - 2 * HOUR, visitorId="visitor-1"))
        for number, decision in enumerate(decisions):
            state = tell(kit, decision, **PERSON, customData={"step": number} if number == 0 else None)
            if folded:
                kit.fold()
        assert (state.match.attributed, state.match.reason) == (False, "consent")
        assert_nobody(kit)
        assert kept(kit)[0].flags == flags.DENIED
        kit.fold()
        again = tell(kit, DENIED)
        assert again.row.id == state.row.id, "the same order is known again"


def test_an_order_of_a_visitor_who_withdrew_stays_withdrawn_when_it_is_told_again(tmp_path: Path) -> None:
    with Kit(tmp_path) as kit:
        tell(kit, SILENT, **PERSON)
        number = kit.journal.stores[STORE].number
        kit.submit([Withdraw(number, "visitor-1", kit.journal.names.name(number, "visitor", "visitor-1"))])
        state = tell(kit, SILENT, **PERSON, orderStatus="paid")
        assert (state.match.attributed, state.match.reason) == (False, "consent")
        assert_nobody(kit)
        assert kept(kit)[0].flags == flags.WITHDRAWN
        assert kept(kit)[1].order_status == "paid", "control: the second report was taken"


@pytest.mark.parametrize("decisions", [(PENDING, GRANTED), (GRANTED, PENDING)], ids=["granted later", "asked again"])
def test_a_grant_ends_the_wait_for_a_decision(decisions: tuple[Decision, ...], tmp_path: Path) -> None:
    with Kit(tmp_path) as kit:
        kit.post(click("IwARone000000", NOW - 2 * HOUR, visitorId="visitor-1"))
        for number, decision in enumerate(decisions):
            state = tell(kit, decision, **PERSON, customData={"step": 1} if number else None)
        row, event = kept(kit)
        assert (row.flags, event.marketing, state.match.attributed) == (0, "granted", True)
        assert kit.rows("SELECT state, settled FROM outbox") == [(0, None)], "to be sent"
