"""L2: how Shopify's GraphQL is asked; against a shop on a real socket that pages no further than it wants to."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from collector.core import times
from collector.courier.shops import apis
from tests.courier.test_shop_pull import fill, make
from tests.kit.journal_kit import MINUTE, NOW
from tests.kit.shop_server import Fault, ShopServer, serving

__all__ = ["make"]  # a fixture
_PAGES = 3


class Shopify(ShopServer):
    """Notes what is asked, and pages through so many pages of a window and no more."""

    def __init__(self) -> None:
        super().__init__(page=7)
        self.questions: list[dict[str, Any]] = []

    def shopify(self, asked: dict[str, Any], token: str) -> Fault:
        self.questions.append(asked)
        if int(asked["variables"].get("after") or 0) >= _PAGES * self.page:
            return 200, {}, b'{"errors": [{"message": "too far", "extensions": {"code": "BAD_REQUEST"}}]}'
        return super().shopify(asked, token)


@pytest.fixture
def server() -> Iterator[Shopify]:
    with serving(Shopify()) as one:
        assert isinstance(one, Shopify)
        yield one


def test_L2_the_window_is_asked_for_by_time_of_change_in_pages_of_fifty(make: Any, server: Shopify) -> None:
    fill(server, 9)
    make().pull()
    asked = " ".join(server.questions[0]["query"].split())
    assert "orders(first: 50, after: $after, sortKey: UPDATED_AT, query: $q)" in asked
    begin, end = times.text(NOW - 7 * 86_400_000 - 10 * MINUTE), times.text(NOW - MINUTE)
    first, second = (question["variables"] for question in server.questions)
    window = re.fullmatch(r"updated_at:>='(.+)' updated_at:<'(.+)'", first["q"])
    assert window is not None
    assert begin <= window[1] <= times.text(NOW - 7 * 86_400_000)
    assert window[2] == end
    assert (first["after"], second) == (None, first | {"after": "7"})


def throttled(requested: float, available: float, rate: float) -> Fault:
    status = {"currentlyAvailable": available, "restoreRate": rate}
    cost = {"requestedQueryCost": requested, "throttleStatus": status}
    errors = [{"message": "Throttled", "extensions": {"code": "THROTTLED"}}]
    return 200, {}, json.dumps({"errors": errors, "extensions": {"cost": cost}}).encode()


@pytest.mark.parametrize(
    ("cost", "seconds"), [((62, 12, 10), 5.0), ((62, 12, 100), 0.5), ((900, 0, 1), 60.0), ((5, 900, 50), 0.05)]
)
def test_L2_throttled_it_waits_until_the_cost_is_there(
    make: Any, server: Shopify, monkeypatch: pytest.MonkeyPatch, cost: tuple[float, float, float], seconds: float
) -> None:
    wanted, one, slept = fill(server, 3), make(), list[float]()
    true = asyncio.sleep

    async def sleep(wait: float, result: Any = None) -> Any:
        slept.append(wait)
        return await true(0, result)

    monkeypatch.setattr(apis.asyncio, "sleep", sleep)
    server.faults.append(throttled(*cost))
    one.pull()
    one.take()
    assert [wait for wait in slept if wait] == [seconds]
    assert one.called() == wanted


def test_L2_control_a_cost_that_is_not_read(make: Any, server: Shopify, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apis._Graph, "extensions", apis._Extensions())
    with pytest.raises(AssertionError):
        test_L2_throttled_it_waits_until_the_cost_is_there(make, server, monkeypatch, (62, 12, 10), 5.0)


def test_L2_the_window_is_narrowed_before_the_shop_pages_no_further(
    make: Any, server: Shopify, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apis, "_MOST_PAGED", (_PAGES - 1) * server.page)
    wanted, one = fill(server, 60), make()
    one.pull()
    one.take()
    assert one.called() == wanted


def test_L2_control_a_window_that_stays_ends_where_the_shop_stops(make: Any, server: Shopify) -> None:
    wanted, one = fill(server, 60), make()
    one.pull()
    one.take()
    assert one.called() == wanted[: _PAGES * server.page]
