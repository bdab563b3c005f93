"""POST /v1/webhooks/{name}/{storeId}: what a shop sends, whose key is its signature.

    head: name, store, what the headers claim ─▶ body ─▶ HMAC ─▶ topic, order (aside, if large) ─▶ keeper ═▶ 200

A status tells the sender one thing, whether trying again can help. So once the signature holds, whatever a repeat
cannot mend is 200 with a reason (R3): a shop that is told of failures switches its webhook off.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from functools import partial
from hashlib import sha256
from typing import Any, Final

from msgspec import UNSET, Struct, structs

from collector import telemetry
from collector.config import Config
from collector.config_loader import shops
from collector.config_loader.shops import Hook
from collector.core import addresses, orders, times
from collector.core.events import ConversionBody, CustomerData
from collector.core.intake import Caller
from collector.core.shops import order, signature
from collector.core.shops.order import Ignored, Read, ShopOrder
from collector.core.shops.signature import Claim, Refused
from collector.edge import track
from collector.edge.door import WEBHOOKS, Door, Request
from collector.edge.keeper import Keeper
from collector.edge.limits import TokenBuckets
from collector.edge.prepare import Preparer
from collector.errors import ApiError, StorageError
from collector.exchange import responses
from collector.exchange.operations import ShopDelivery, ShopTaken, ShopTold
from collector.exchange.responses import Answer, Headers, WebhookData
from collector.exchange.shops import KeptOut, Page, Waiting, Who
from collector.exchange.stores import Store

log = telemetry.logger("edge")

_ASIDE_BYTES: Final = 256 * 1024  # a larger body would hold up everybody else's while it is decoded
_INBOX_AT_ONCE: Final = 10  # one commit for so many: 6 ms in which nobody else is served
_REFUSALS_A_MINUTE: Final = 20
_FORM: Final = b"application/x-www-form-urlencoded"
_LONGEST_PING: Final = 64
_CLOSE: Final = (b"connection", b"close")
WEBHOOK_PAGE: Final = Page()
_SHOP: Final = Caller(secret=True, shop=True)
# Why the tracking API would refuse an order, in a webhook's word.
_REASONS: Final = {"orderId": "no_order", "eventValue": "no_value", "currency": "bad_currency"}
_TELLING: Final = {
    "no_secret": "no secret is configured for this webhook",
    "signature_missing": "the signature's header is missing",
    "signature_malformed": "the signature's header cannot be read",
    "signature_expired": "the signature's timestamp is too old, or ahead: is a clock wrong?",
    "signature_invalid": "the signature does not fit the body: is it another secret?",
}


class Begun(Struct, gc=False):
    """Operations for the keeper, and what makes the answer of their results."""

    operations: Sequence[Any]
    finish: Callable[[Any], Answer]


class Signed(Struct, gc=False):
    """A webhook whose signature holds."""

    store: Store
    hook: Hook
    headers: dict[str, str]
    body: bytes


class Webhooks:
    """One edge's webhooks. A store's are read at its first."""

    def __init__(self, config: Config, keeper: Keeper, preparer: Preparer, door: Door) -> None:
        self._stores = {store.id: store for store in config.store}
        self._keeper, self._preparer, self._door = keeper, preparer, door
        self._hooks: dict[str, dict[str, Hook]] = {}
        self._first: set[tuple[str, int, str]] = set()
        self._refusals = TokenBuckets("webhook", _REFUSALS_A_MINUTE / 60, burst=_REFUSALS_A_MINUTE)

    def admit(self, request: Request) -> None:
        """Judge the head: a body that nobody signed, or signed too long ago, is not even read (R11)."""
        store, hook = self._where(request)
        request.most = self._door.most_webhook
        claimed = signature.claim(hook.scheme, _pairs(request), self._keeper.clock() // 1000)
        if isinstance(claimed, Refused):
            if claimed.reason == "signature_missing" and _may_be_ping(hook, request):
                request.most = _LONGEST_PING
                return
            raise self._refused(request, store, "no_secret" if not hook.keys else claimed.reason)
        if not hook.keys:
            raise self._refused(request, store, "no_secret")
        request.passed = partial(self._passed, store, hook)

    def _passed(self, store: Store, hook: Hook, size: int) -> None:
        """A body is larger than is taken, whether its head said so or its chunks did: nobody will tell this order."""
        self._keeper.count(store.number, "shop.too_large")
        log.warning(
            "a webhook is larger than [edge] max_webhook_bytes: its order is not taken",
            store=store.config.id,
            webhook=hook.name,
            bytes=size,
        )

    async def take(self, request: Request) -> Answer:
        """The body, signed or a ping: what it tells, stored before it is answered."""
        store, hook = self._where(request)
        claimed = signature.claim(hook.scheme, _pairs(request), self._keeper.clock() // 1000)
        if isinstance(claimed, Refused):
            if _is_ping(hook, request):
                self._keeper.count(store.number, "shop.ping")
                self._seen("a shop's ping has come", store, hook)
                return _answer(WebhookData("ping"))
            raise self._refused(request, store, claimed.reason)
        work = (hook, claimed, store.config.id, request)
        if len(request.body) > _ASIDE_BYTES:
            read = await asyncio.get_running_loop().run_in_executor(None, _read, *work)
        else:
            read = _read(*work)
        if read is None:
            raise self._refused(request, store, "signature_invalid")
        request.signed = True
        return await self._stored(store, hook, read, request.body)

    def signed(self, path: str, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> Signed | None:
        """What is signed; None for all that has to be looked at more closely, by `admit` and `take`."""
        name, _, store_id = path.removeprefix(WEBHOOKS).partition("/")
        try:
            store, hook = self._of(name, store_id)
        except ApiError:
            return None
        claimed = signature.claim(hook.scheme, headers, self._keeper.clock() // 1000)
        if isinstance(claimed, Refused) or not signature.is_signed(hook.scheme, hook.keys, claimed, body):
            return None
        return Signed(store, hook, _texts(headers), body)

    def begun(self, one: Signed) -> Begun:
        """What the keeper is asked, and how it is answered."""
        read = order.read(one.hook.platform, one.hook.terms, one.store.config.id, one.headers, one.body)
        told, left_out = self._told(one.store, one.hook, read, one.body)
        return Begun((told,), lambda results: self._answer(one.store, one.hook, read, results[0], left_out))

    def _seen(self, what: str, store: Store, hook: Hook) -> None:
        """Say the first of each kind since this process began: who sets a shop up waits for it."""
        if (what, store.number, hook.name) not in self._first:
            self._first.add((what, store.number, hook.name))
            log.info(what, store=store.config.id, webhook=hook.name)

    async def take_waiting(self) -> int:
        """Read what a pull or a file has found, as a webhook is read, and store it; how many rows there were."""
        waiting = await self._keeper.inbox()
        for first in range(0, len(waiting), _INBOX_AT_ONCE):
            await asyncio.gather(*map(self._take_one, waiting[first : first + _INBOX_AT_ONCE]))
        return len(waiting)

    async def _take_one(self, row: Waiting) -> None:
        try:
            await self._found(row)
        except StorageError:
            raise
        except Exception as error:  # it is taken out all the same: nothing would mend it
            log.failed("an order of a pull or a file could not be read", error)
            await self._drop(row, "unreadable")

    async def _found(self, row: Waiting) -> None:
        store, config = self._keeper.stores.get(row.store), self._stores.get(row.store)
        if store is None or config is None:
            await self._drop(row, "store_not_found")
            return
        hook = shops.pulled(config, row.platform)
        headers = {shops.TOPICS[row.platform][0]: row.topic}
        work = (hook.platform, hook.terms, row.store, headers, row.body)
        loop = asyncio.get_running_loop()
        aside = len(row.body) > _ASIDE_BYTES
        read = await loop.run_in_executor(None, order.read, *work) if aside else order.read(*work)
        await self._stored(store, hook, read, row.body, Page(seen=row.seen, inbox=row.id))

    async def _drop(self, row: Waiting, reason: str) -> None:
        store = self._keeper.stores.get(row.store)
        number = store.number if store is not None else 0
        name = sha256(f"{row.store}\0{row.id}\0".encode() + row.body).digest()
        one = ShopDelivery(name, number, row.platform, row.topic)
        await self._keeper.submit((ShopTold(one, reason, page=Page(seen=row.seen, inbox=row.id)),))

    async def _stored(self, store: Store, hook: Hook, read: Read, body: bytes, page: Page = WEBHOOK_PAGE) -> Answer:
        told, left_out = self._told(store, hook, read, body, page)
        (taken,) = await self._keeper.submit((told,))
        return self._answer(store, hook, read, taken, left_out)

    def _told(
        self, store: Store, hook: Hook, read: Read, body: bytes, page: Page = WEBHOOK_PAGE
    ) -> tuple[ShopTold, Headers]:
        said = f"{store.config.id}\0{hook.name}\0{read.topic}\0{read.delivery}\0".encode("utf-8", "replace")
        one = ShopDelivery(sha256(said + sha256(body).digest()).digest(), store.number, hook.name, read.topic)
        return self._operation(store, one, read, page)

    def _answer(self, store: Store, hook: Hook, read: Read, taken: Any, left_out: Headers) -> Answer:
        if isinstance(taken, ApiError):
            raise taken
        assert isinstance(taken, ShopTaken)
        if taken.conversion is None:
            reason = taken.reason or "erased"
            self._keeper.count(store.number, f"shop.ignored.{reason}")
            return _answer(WebhookData(read.topic, ignored=reason), [responses.reason(reason)])
        self._seen("a shop's order has come", store, hook)
        public = self._keeper.public.public("conv", taken.conversion)
        return _answer(WebhookData(read.topic, public, duplicate=taken.duplicate or UNSET), left_out)

    def _operation(
        self, store: Store, delivery: ShopDelivery, read: Read, page: Page = WEBHOOK_PAGE
    ) -> tuple[ShopTold, Headers]:
        """What the keeper is asked to take, and what the answer names as left out."""
        if isinstance(read.outcome, order.Request):
            return ShopTold(delivery, read.outcome.kind, page=page, request=self._who(store, read.outcome)), []
        if isinstance(read.outcome, Ignored):
            return ShopTold(delivery, read.outcome.reason, page=self._kept_out(store, read.outcome, page)), []
        told = read.outcome
        page = structs.replace(page, channel=told.channel)
        if _is_redacted(told.body.customer_data):
            self._keeper.count(store.number, "shop.redacted")
        if told.odd_amounts:
            self._keeper.count(store.number, "shop.odd_amounts")
        try:
            return self._order(store, delivery, told, page)
        except ApiError as error:
            return ShopTold(delivery, _REASONS.get(error.field or "", error.code), page=page), []

    def _kept_out(self, store: Store, ignored: Ignored, page: Page) -> Page:
        """An order that is ignored for its channel is one that the shop counts: it goes into its list."""
        told = ignored.order
        if told is None or told.body.order_id is None:
            return page
        body = told.body
        order_id = str(body.order_id)
        name = self._keeper.names.name(store.number, "once", f"Purchase\0o{order_id}")
        at = times.parse(body.timestamp or body.status_at or "") or self._keeper.clock()
        value = body.event_value if isinstance(body.event_value, Decimal) else None
        kept = KeptOut(name, order_id, at, body.order_status, value, body.currency or "")
        return structs.replace(page, channel=told.channel, kept_out=kept)

    def _who(self, store: Store, asked: order.Request) -> Who:
        """Whom the platform means; from its commit on, word of him and of these orders is none."""
        person = CustomerData(
            email=asked.email or None, phone=asked.phone or None, external_id=asked.external_id or None
        )
        body = ConversionBody(
            store_id=store.config.id, event_type="Purchase", order_id="of a request", customer_data=person
        )
        body.event_value, body.currency = Decimal(0), "USD"
        new = self._preparer.event(body, _SHOP, store).operation
        names = [key for kind, key in new.identities if kind != "email_weak"]
        once = self._keeper.names.namer(store.number, "once")
        names += [once(f"Purchase\0o{number}") for number in asked.orders]
        kind: Any = asked.kind
        return Who(
            kind,
            store.config.id,
            asked.external_id,
            asked.email,
            asked.phone,
            asked.orders,
            tuple(dict.fromkeys(names)),
        )

    def _order(self, store: Store, delivery: ShopDelivery, told: ShopOrder, page: Page) -> tuple[ShopTold, Headers]:
        if told.ends:
            currency = told.body.currency if told.refund is not None else "USD"
            told.body.event_value, told.body.currency = Decimal(0), currency  # of an order: taken out again (ended)
        prepared = self._preparer.event(told.body, _SHOP, store, told.left_out)
        new, names = prepared.operation, self._keeper.names
        new.event.unsent, new.event.refunds = told.unsent, list(told.refunds)
        if (one := told.refund) is not None:
            facts = orders.facts_of(new.event)  # one without a time too: ours may be behind
            new.event.told = [structs.replace(fact, refund=one.id, less=one.amount) for fact in facts]
        called = [*told.names, *told.numbers]
        name_of = names.namer(store.number, "once")
        keyed = [name_of(f"Purchase\0o{name}") for name in called]
        split = len(told.names)
        return ShopTold(
            delivery,
            None,
            new,
            tuple(keyed[:split]),
            tuple(keyed[split:]),
            told.ends,
            tuple(called),
            page,
        ), track.ignored_header(prepared.ignored)

    def _where(self, request: Request) -> tuple[Store, Hook]:
        name, _, store_id = request.scope["path"].strip("/").partition("/")
        return self._of(name, store_id)

    def _of(self, name: str, store_id: str) -> tuple[Store, Hook]:
        store, config = self._keeper.stores.get(store_id), self._stores.get(store_id)
        if store is None or config is None or not config.active:
            raise ApiError("store_not_found", "no active store has this id", "storeId", headers=[_CLOSE])
        if store_id not in self._hooks:
            self._hooks[store_id] = shops.hooks(config)
        hook = self._hooks[store_id].get(name)
        if hook is None:
            raise ApiError("not_found", "this store has no webhook of this name", headers=[_CLOSE])
        return store, hook

    def _refused(self, request: Request, store: Store, reason: str) -> ApiError:
        """A refusal, charged to its address: who guesses is soon told to wait (R12)."""
        self._keeper.count(store.number, f"shop.refused.{reason}")
        peer = request.scope["client"]
        address = self._door.address_of(peer[0] if peer else "", request.scope["headers"])
        verdict = self._refusals.take(addresses.match_prefix(address), time.monotonic())
        why = [responses.reason(reason), _CLOSE]
        if not verdict.allowed:
            text = "too many webhooks that do not verify; wait as Retry-After says"
            return ApiError("rate_limit_exceeded", text, headers=[*verdict.headers(), *why])
        return ApiError("unauthorized", _TELLING[reason], headers=why)


def _is_redacted(person: CustomerData | None) -> bool:
    """Whether the platform has kept the buyer from this app: a customer's id, and nothing else of him."""
    if person is None or person.external_id is None:
        return False
    return all(getattr(person, name) is None for name in person.__struct_fields__ if name != "external_id")


def _read(hook: Hook, claimed: Claim, store_id: str, request: Request) -> Read | None:
    """What a body tells; None where it is not signed."""
    if not signature.is_signed(hook.scheme, hook.keys, claimed, request.body):
        return None
    return order.read(hook.platform, hook.terms, store_id, _texts(request.headers.items()), request.body)


def _texts(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    return {name.decode("latin-1"): value.decode("utf-8", "replace").strip(" \t") for name, value in headers}


def _pairs(request: Request) -> Sequence[tuple[bytes, bytes]]:
    """All headers, also those that come twice."""
    return list(request.scope["headers"])


def _may_be_ping(hook: Hook, request: Request) -> bool:
    """By its head: WooCommerce tries a new webhook's address with a form that nobody signs (R9)."""
    media = request.headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    return bool(hook.ping) and media == _FORM


def _is_ping(hook: Hook, request: Request) -> bool:
    number = request.body.removeprefix(hook.ping.encode())
    return _may_be_ping(hook, request) and number != request.body and number.isdigit()


def _answer(told: WebhookData, headers: Headers | None = None) -> Answer:
    return Answer(200, responses.success(told), headers or [])
