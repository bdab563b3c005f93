"""An order told in one group ends as if told in several, and nothing of it goes out by a stale answer."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from collector.core.capi.states import CapiState
from collector.core.consent import Decision
from collector.core.intake import Caller
from collector.exchange.naming import NewEvent
from collector.exchange.operations import Submission
from collector.exchange.states import EventResult
from tests.journal.test_tellers import SAFARI
from tests.kit.journal_kit import DAY, HOUR, NOW, SERVER, STORE, Kit, click, config_for, order

PAGE = Caller(secret=False, address="81.2.69.142", user_agent=SAFARI)
SHOP = Caller(secret=True, shop=True)
PENDING = Decision("pending", True)
LEAD = {"storeId": STORE, "eventType": "Lead", "eventId": "lead-1", "at": NOW - HOUR}
together = pytest.mark.parametrize("together", [True, False])


def told(kit: Kit, together: bool, *operations: NewEvent) -> list[Any]:
    if together:
        return kit.submit(list(operations))
    return [result for operation in operations for result in kit.submit([operation])]


@together
@pytest.mark.parametrize("more", [{}, {"eventValue": 3, "currency": "USD"}])
def test_T1_what_a_page_claimed_answers_nothing_once_a_server_has_told_it(
    tmp_path: Path, together: bool, more: dict[str, Any]
) -> None:
    with Kit(tmp_path) as kit:
        kit.post(click("IwAR1", NOW - 2 * HOUR, visitorId="visitor-1", fbp=f"fb.1.{NOW - 2 * HOUR}.123456789"))
        page, server = kit.operation(LEAD | {"visitorId": "visitor-1"}, PAGE), kit.operation(LEAD | more, SERVER)
        first, second = told(kit, together, page, server)
        assert first.state.match.attributed  # the control
        assert second.state.match.click is None
        assert not [body for (body,) in kit.rows("SELECT body FROM outbox_payload") if b"123456789" in body]


@together
def test_a_later_tellings_test_code_makes_no_order_a_test(tmp_path: Path, together: bool) -> None:
    with Kit(tmp_path) as kit:
        real = order("N1", NOW - HOUR, visitorId="visitor-1")
        told(kit, together, kit.operation(real), kit.operation(real | {"testEventCode": "T1", "orderStatus": "paid"}))
        assert kit.rows("SELECT test_code FROM outbox") == [(None,)]


@together
def test_what_is_held_for_consent_stays_held_however_old_it_turns_out_to_be(tmp_path: Path, together: bool) -> None:
    person = {"customerData": {"email": "a@example.com"}}
    with Kit(tmp_path) as kit:
        by_server = kit.operation(order("N1", NOW - HOUR, **person), SERVER, PENDING)
        by_shop = kit.operation(order("N1", NOW - 30 * DAY, **person), SHOP, PENDING)
        *_, last = told(kit, together, by_server, by_shop)
        assert last.state.state is CapiState.HELD


@pytest.mark.parametrize("groups", [1, 2])
def test_an_order_that_is_paid_beside_its_click_goes_out_with_it(tmp_path: Path, groups: int) -> None:
    """What the keeper looks at again between groups, a telling that lets the order go may not wait for."""
    config = config_for(tmp_path)
    config = structs.replace(config, store=[structs.replace(config.store[0], send_purchase_on="paid")])
    person = {"visitorId": "visitor-1", "customerData": {"email": "a@example.com"}}
    with Kit(tmp_path, config=config) as kit:
        kit.post(order("N1", NOW - HOUR, orderStatus="pending", **person))
        both = [
            click("IwAR1", NOW - 2 * HOUR, visitorId="visitor-1"),
            order("N1", NOW - HOUR, orderStatus="paid", **person),
        ]
        asked = [Submission([kit.operation(one)]) for one in both]
        done = [
            one
            for group in ([asked] if groups == 1 else [[one] for one in asked])
            for one in kit.journal.commit(deque(group))
        ]
        assert isinstance(result := done[1].results[0], EventResult)
        assert result.state.match.attributed
        assert b"fbc" in kit.rows("SELECT body FROM outbox_payload")[0][0]
