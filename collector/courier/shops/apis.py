"""How each platform's API is read: pages of orders by time of change, oldest first (L2 to L4).

Each gives pages of (orders, changed): all that changed before `changed` (ms) has been given by then.
"""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final, Protocol

import msgspec
from msgspec import Raw, Struct

from collector.config import ShopConfig
from collector.core import times
from collector.courier.shops.http import ShopClient, Trouble
from collector.storage.rules.pulled import Found

Page = tuple[list[Found], int]
API: Final = "2026-07"
_MONEY: Final = "shopMoney { amount currencyCode } presentmentMoney { amount currencyCode }"
_ADDRESS: Final = "firstName lastName city zip provinceCode countryCodeV2 phone"
_LINES: Final = (
    f"sku currentQuantity title isGiftCard variant {{ id }} product {{ id }} discountedUnitPriceSet {{ {_MONEY} }}"
)
_REFUNDS: Final = f" refunds {{ id createdAt totalRefundedSet {{ {_MONEY} }} }}"
QUERY: Final = f"""query($q: String!, $after: String) {{
 orders(first: 50, after: $after, sortKey: UPDATED_AT, query: $q) {{ pageInfo {{ hasNextPage endCursor }}
 nodes {{ id name number createdAt processedAt updatedAt cancelledAt test sourceName tags taxesIncluded
 displayFinancialStatus email phone clientIp customAttributes {{ key value }}
 customerJourneySummary {{ lastVisit {{ landingPage referrerUrl }} }}
 currentTotalPriceSet {{ {_MONEY} }} currentSubtotalPriceSet {{ {_MONEY} }} currentTotalTaxSet {{ {_MONEY} }}
 totalRefundedSet {{ {_MONEY} }} customer {{ id email }}
 billingAddress {{ {_ADDRESS} }} shippingAddress {{ {_ADDRESS} }}
 lineItems(first: 100) {{ nodes {{ {_LINES} }} }} }} }} }}"""
_REST_MS: Final = 1_000
_STUCK: Final = "it gives the same page again and says that there is more"
_MOST_PAGED: Final = 24_000  # orders; Shopify pages through 25,000 and no more, so the window is narrowed before that


class _PageInfo(Struct, rename="camel"):
    has_next_page: bool = False
    end_cursor: str | None = None


class _Orders(Struct, rename="camel"):
    nodes: list[Raw]
    page_info: _PageInfo


class _Data(Struct):
    orders: _Orders


class _Code(Struct, frozen=True):
    code: str = ""


class _Error(Struct, frozen=True):
    extensions: _Code = _Code()


class _Throttle(Struct, frozen=True, rename="camel"):
    currently_available: float = 0
    restore_rate: float = 50


class _Cost(Struct, frozen=True, rename="camel"):
    requested_query_cost: float = 0
    throttle_status: _Throttle = _Throttle()


class _Extensions(Struct, frozen=True):
    cost: _Cost = _Cost()


class _Graph(Struct, frozen=True):
    data: _Data | None = None
    errors: list[_Error] = []
    extensions: _Extensions = _Extensions()


class _Updated(Struct):
    updatedAt: str  # noqa: N815


class _Token(Struct):
    access_token: str
    expires_in: float = 86_400


class Shopify:
    """The GraphQL Admin API; the token of an own app is fetched, and again before it ends."""

    def __init__(self, client: ShopClient, shop: ShopConfig, topics: Sequence[str] = ()) -> None:
        self._client, self._shop = client, shop
        self._query = QUERY.replace(" customer {", f"{_REFUNDS} customer {{", 1) if shop.refund_event else QUERY
        self._token, self._until = shop.access_token, float("inf") if shop.access_token else 0.0

    async def pages(self, since: int, until: int) -> AsyncIterator[Page]:
        """Every order that changed from `since` to `until` (ms)."""
        begin, given = since, 0
        asked = _window(begin, until)
        while True:
            found = await self._page(asked)
            orders = found.nodes
            changed, given = begin, given + len(orders)
            if orders:
                changed = _updated(orders[-1]) or begin
            last = not found.page_info.has_next_page
            yield [Found("shopify_pull", "orders/pulled", bytes(one)) for one in orders], until if last else changed
            if last:
                return
            if not orders or found.page_info.end_cursor in (None, asked["after"]):
                raise Trouble(_STUCK)
            if given >= _MOST_PAGED and changed // 1000 > begin // 1000:
                begin, given = changed, 0
                asked = _window(begin, until)
            else:
                asked["after"] = found.page_info.end_cursor

    async def _page(self, asked: dict[str, Any]) -> _Orders:
        while True:
            headers = {"X-Shopify-Access-Token": await self._fresh_token()}
            path = f"/admin/api/{API}/graphql.json"
            try:
                answer = await self._client.ask(
                    "POST", path, json={"query": self._query, "variables": asked}, headers=headers
                )
            except Trouble as trouble:
                if trouble.auth and self._shop.client_id:
                    self._until = 0.0  # the next try fetches another
                raise
            graph: _Graph = answer.read(_Graph)
            if graph.data is not None:
                return graph.data.orders
            if not any(error.extensions.code == "THROTTLED" for error in graph.errors):
                raise Trouble("it refuses the question")
            cost = graph.extensions.cost
            lacking = cost.requested_query_cost - cost.throttle_status.currently_available
            await asyncio.sleep(min(max(lacking / max(cost.throttle_status.restore_rate, 1.0), 0.05), 60.0))

    async def _fresh_token(self) -> str:
        now = asyncio.get_running_loop().time()
        if now >= self._until:
            form = {
                "grant_type": "client_credentials",
                "client_id": self._shop.client_id,
                "client_secret": self._shop.client_secret,
            }
            token: _Token = (await self._client.ask("POST", "/admin/oauth/access_token", data=form)).read(_Token)
            self._token, self._until = token.access_token, now + max(token.expires_in - 300.0, 1.0)
        return self._token


def _window(since: int, until: int) -> dict[str, Any]:
    return {"q": f"updated_at:>='{times.text(since)}' updated_at:<'{times.text(until)}'", "after": None}


def _updated(order: Raw) -> int | None:
    try:
        return times.parse(msgspec.json.decode(order, type=_Updated).updatedAt)
    except msgspec.MsgspecError:  # one odd order holds up no other
        return None


class _Changed(Struct):
    date_modified_gmt: str | None = None


class WooCommerce:
    """The REST API v3. Rows move while one reads, so each page begins at the last time seen, less a second (L3)."""

    def __init__(self, client: ShopClient, shop: ShopConfig, topics: Sequence[str] = ()) -> None:
        key = b64encode(f"{shop.consumer_key}:{shop.consumer_secret}".encode()).decode()
        self._client, self._headers = client, {"Authorization": f"Basic {key}"}
        self._order = "modified"

    async def pages(self, since: int, until: int) -> AsyncIterator[Page]:
        """Every order that changed from `since` (ms) on."""
        begin, number = since, 1
        before: list[Raw] = []
        while True:
            orders = await self._page(begin, number)
            if number > 1 and orders and orders[:1] == before[:1]:
                raise Trouble(_STUCK)
            before = orders
            found = [Found("woocommerce", "order.updated", bytes(one)) for one in orders]
            moments = [_modified(one) for one in orders]
            if len(orders) < 100:
                yield found, until
                return
            newest = max(moments)
            yield found, max(newest - _REST_MS, since)
            if newest - _REST_MS > begin and self._order == "modified":
                begin, number = newest - _REST_MS, 1
            else:  # the whole page lies within a second
                number += 1

    async def _page(self, begin: int, number: int) -> list[Raw]:
        query = {
            "modified_after": times.text(begin)[:-1],
            "dates_are_gmt": "true",
            "orderby": self._order,
            "order": "asc",
            "per_page": "100",
            "page": str(number),
        }
        try:
            answer = await self._client.ask("GET", "/wp-json/wc/v3/orders", params=query, headers=self._headers)
        except Trouble as trouble:
            if not trouble.refused or self._order == "date":
                raise
            self._order = "date"  # an older shop does not sort by change
            return await self._page(begin, number)
        rows: list[Raw] = answer.read(list[Raw])
        return rows


def _modified(order: Raw) -> int:
    try:
        return times.parse((msgspec.json.decode(order, type=_Changed).date_modified_gmt or "") + "Z") or 0
    except msgspec.MsgspecError:
        return 0


class _Event(Struct):
    id: str
    created: int


class _Events(Struct):
    data: list[Raw]
    has_more: bool = False


class Stripe:
    """Events, which Stripe keeps for 30 days, the newest first: so the watermark moves with the last page alone."""

    def __init__(self, client: ShopClient, shop: ShopConfig, topics: Sequence[str] = ()) -> None:
        self._client, self._headers = client, {"Authorization": f"Bearer {shop.restricted_key}"}
        self._topics = list(topics)

    async def pages(self, since: int, until: int) -> AsyncIterator[Page]:
        """Every event from `since` to `until` (ms)."""
        query: dict[str, Any] = {
            "types[]": self._topics,
            "created[gte]": since // 1000,
            "created[lt]": until // 1000,
            "limit": 100,
        }
        while True:
            events: _Events = (await self._client.ask("GET", "/v1/events", params=query, headers=self._headers)).read(
                _Events
            )
            more = events.has_more and bool(events.data)
            yield [Found("stripe", "", bytes(one)) for one in events.data], since if more else until
            if not more:
                return
            last = msgspec.json.decode(events.data[-1], type=_Event).id
            if last == query.get("starting_after"):
                raise Trouble(_STUCK)
            query["starting_after"] = last


class Api(Protocol):
    """A platform's API. `topics`: of what its webhooks tell, where it gives messages and not orders."""

    def __init__(self, client: ShopClient, shop: ShopConfig, topics: Sequence[str] = ()) -> None: ...

    def pages(self, since: int, until: int) -> AsyncIterator[Page]:
        """Pages of what changed from `since` to `until` (ms)."""


APIS: Final[dict[str, type[Api]]] = {"shopify": Shopify, "woocommerce": WooCommerce, "stripe": Stripe}
