"""One request through the door: limits, body, key, store, verb, answer. Raw ASGI, because this is the hot path.

scope ─▶ method, media type ─▶ key, rate ─▶ length ─▶ body ─▶ decode ─▶ store, origin ─▶ track ─▶ 200 after the commit

What the head tells is judged before a byte of the body is asked for (D1).
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Final, TypeVar

from litestar.types import Receive, Scope, Send

from collector import telemetry
from collector.config import Config
from collector.core import addresses, bots, consent, wire
from collector.core.addresses import Networks
from collector.core.events import ClickBody, ConversionBody, values_of
from collector.core.intake import Caller
from collector.edge import auth, track
from collector.edge.keeper import Keeper
from collector.edge.limits import TokenBuckets
from collector.edge.prepare import Preparer
from collector.edge.tally import Tally
from collector.edge.track import Asked, Tracker
from collector.errors import ApiError, StorageError
from collector.exchange import responses
from collector.exchange.keys import ApiKey
from collector.exchange.prepared import Prepared
from collector.exchange.responses import JSON, Answer, Headers
from collector.exchange.stores import Store
from collector.guard.bodies import BodyLimits
from collector.guard.names import request_id

log = telemetry.logger("edge")

JSON_TYPES: Final = frozenset({b"application/json", b"text/plain", b""})
# What a page sends is small; what a server sends is bounded by [edge] max_body_bytes.
MOST_PAGE_BYTES: Final = BodyLimits().of_page
WEBHOOKS: Final = "/v1/webhooks/"
_LINES_TYPE: Final = b"application/x-ndjson"
BATCH_TYPES: Final = JSON_TYPES | {_LINES_TYPE}
_KEYED_PATHS: Final = frozenset({"/v1/track/click", "/v1/track/conversion", "/v1/track/event"})
# An answer before the body was read ends the connection; a client that is not told uses it again (axios: hang up).
_CLOSE: Final = (b"connection", b"close")
_EXPOSED: Final = (
    b"Collector-Ignored-Fields, Collector-Reason, Idempotent-Replayed, Request-Id, Retry-After, "
    b"RateLimit, RateLimit-Policy"
)
_PREFLIGHT: Final = [
    (b"access-control-allow-methods", b"GET, POST"),
    (b"access-control-allow-headers", b"authorization, content-type, idempotency-key, prefer, x-request-id"),
    (b"access-control-max-age", b"86400"),
]

_UNSTORED: Final = ApiError("storage_unavailable", "the event could not be stored and was not accepted; send it again")
_CRASHED: Final = ApiError("internal_error", "an internal error; the event may not be stored")

Headered = Mapping[bytes, bytes]
Body = TypeVar("Body", ClickBody, ConversionBody)
Handler = Callable[["Request"], Awaitable[Answer]]
Admission = Callable[["Request"], "ApiKey | None"]


class Request:
    """What a verb sees of one HTTP request. `key`: the one of its head, where the verb asks for one.

    `most`: bytes that its body may have, where the verb has a limit of its own; `passed`: told how many came or were
    announced, where they are more; `signed`: a shop's signature was found to hold.
    """

    __slots__ = ("body", "headers", "key", "most", "passed", "scope", "signed")

    def __init__(self, scope: Scope, headers: Headered) -> None:
        self.scope = scope
        self.headers = headers
        self.body = b""
        self.key: ApiKey | None = None
        self.most: int | None = None
        self.passed: Callable[[int], None] | None = None
        self.signed = False


class ClientGone(Exception):
    """The connection ended before the body was whole: what came of it is no request, however well it may parse."""


class Door:
    """The verbs of the tracking API as ASGI applications; `tally` counts how they answer."""

    def __init__(
        self,
        config: Config,
        keeper: Keeper,
        preparer: Preparer,
        tracker: Tracker,
        tally: Tally,
        clock: Callable[[], int],
    ) -> None:
        self._keeper = self.keeper = keeper
        self._preparer = preparer
        self._tracker = self.tracker = tracker
        self._clock = clock
        self.tally = tally
        self._most = config.edge.max_body_bytes
        self.most_webhook = config.edge.max_webhook_bytes
        self._trusted: Networks = addresses.parse_networks(config.edge.trusted_proxies)
        self._by_key = TokenBuckets("key", config.edge.rate_limit_key_per_second)
        self._by_address = TokenBuckets("address", config.edge.rate_limit_address_per_second)

    def endpoint(
        self, method: str, verb: str, handler: Handler, admission: Admission | None = None
    ) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
        """An ASGI application that answers every outcome in the contract's shape, a crash too, and counts it.

        `admission` judges the head before the body is read, and says with which key it came.
        """
        counts = self.tally.of(verb)

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            headers = dict(scope["headers"])
            request = Request(scope, headers)
            try:
                answer = await self._answer(request, receive, method, handler, admission)
            except ClientGone:
                return
            except Exception as error:
                answer = self.refusal(error, verb, request_id(_named(scope)), self._own(request))
            counts[answer.status] += 1
            if b"origin" in headers:
                answer.headers = [*answer.headers, *self._cross_origin(request)]
            await reply(send, answer)

        return app

    def _own(self, request: Request) -> bytes | None:
        """The body, as far as it was read, of what the merchant's own server sends; None of a page's or a stranger's.

        By the header: a key that is beyond its rate, or a body of another media type, is the merchant's too.
        """
        key = auth.known(self._keeper, request.headers.get(b"authorization", b""))
        return request.body if request.signed or (key is not None and key.kind == "secret") else None

    def refusal(self, error: Exception, verb: str, name: str, own: bytes | None = None) -> Answer:
        """What a request is answered that ended with an exception; `name`: its Request-Id; `own`: see Keeper.refuse."""
        if isinstance(error, ApiError):
            self._keeper.refuse("refused", error, own)
            return responses.error_answer(error, name)
        if isinstance(error, StorageError):
            return responses.error_answer(_UNSTORED, name)
        log.failed("a request crashed", error, route=verb, request_id=name)  # by its verb: a path may hold anything
        return responses.error_answer(_CRASHED, name)

    async def _answer(
        self, request: Request, receive: Receive, method: str, handler: Handler, admission: Admission | None
    ) -> Answer:
        asked: str = request.scope["method"]  # type: ignore[typeddict-item]
        if asked != method and not (asked == "HEAD" and method == "GET"):
            if asked == "OPTIONS":
                return Answer(204, b"", _PREFLIGHT)
            raise ApiError("method_not_allowed", f"use {method} here", headers=[(b"allow", method.encode())])
        if admission is not None:
            request.key = admission(request)
        if method == "POST":
            request.body = await self._body(request, receive)
        return await handler(request)

    async def _body(self, request: Request, receive: Receive) -> bytes:
        headers, most = request.headers, request.most or self._most_bytes(request.key)
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length) > most:
            raise self._too_large(request, most, int(length) if length.isdigit() else 0)
        if headers.get(b"content-encoding", b"identity") != b"identity":
            raise ApiError("unsupported_media_type", "send the body without Content-Encoding", headers=[_CLOSE])
        pieces: list[bytes] = []
        size, more = 0, True
        while more:
            message: Any = await receive()
            if message["type"] != "http.request":
                raise ClientGone
            pieces.append(message.get("body", b""))
            size, more = size + len(pieces[-1]), message.get("more_body", False)
            if size > most:
                raise self._too_large(request, most, size)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _most_bytes(self, key: ApiKey | None) -> int:
        return self._most if auth.is_secret(key) else min(self._most, MOST_PAGE_BYTES)

    def allowance(self, scope: Any) -> int:
        """How many bytes this request's body may have by its head; with a secret key always more than a page's."""
        if scope.get("raw_path", b"").startswith(WEBHOOKS.encode()):
            return self.most_webhook
        for name, value in scope["headers"]:
            if name == b"authorization" and auth.is_secret(auth.known(self._keeper, value)):
                return max(self._most, MOST_PAGE_BYTES + 1)
        return self._most_bytes(None)

    def _too_large(self, request: Request, most: int, size: int) -> ApiError:
        if request.passed is not None:
            request.passed(size)
        text = f"a body has at most {most} bytes here"
        setting = {self._most: " ([edge] max_body_bytes)", self.most_webhook: " ([edge] max_webhook_bytes)"}
        text += setting.get(most, "; more takes a secret key")
        return ApiError("payload_too_large", text, headers=[_CLOSE])

    async def click(self, request: Request) -> Answer:
        """POST /v1/track/click."""
        body, ignored, key, store, caller = self._admitted(request, wire.decode_click)
        return await self._tracker.one(self._preparer.click(body, caller, store, ignored), self._asked(request, key))

    def prepared_click(self, raw: bytes, key: ApiKey, caller: Caller) -> Prepared:
        """A click that came with a secret key, ready for the keeper; ApiError for what the caller must mend."""
        body, ignored = wire.decode_click(raw)
        store = auth.store_for(self._keeper.stores, key, body.store_id)
        return self._preparer.click(body, caller, store, ignored)

    def prepared_event(self, raw: bytes, key: ApiKey, caller: Caller) -> Prepared:
        """Likewise a conversion or funnel event."""
        body, ignored = wire.decode_conversion(raw)
        store = auth.store_for(self._keeper.stores, key, body.store_id)
        return self._preparer.event(body, caller, store, ignored)

    def prepared_batch(self, raw: bytes, key: ApiKey, caller: Caller, media: bytes) -> list[Prepared | ApiError]:
        """Each item of a batch, ready for the keeper, or what is wrong with it."""
        decoded = wire.decode_batch(raw, lines=media == _LINES_TYPE)
        return self._preparer.items(decoded, caller, key, self._clock())

    async def event(self, request: Request) -> Answer:
        """POST /v1/track/conversion and /v1/track/event."""
        body, ignored, key, store, caller = self._admitted(request, wire.decode_conversion)
        return await self._tracker.one(self._preparer.event(body, caller, store, ignored), self._asked(request, key))

    def _admitted(
        self, request: Request, decode: Callable[[bytes], tuple[Body, Sequence[str]]]
    ) -> tuple[Body, Sequence[str], ApiKey, Store, Caller]:
        """The decoded body and its ignored fields; who may post it, for which store, as whom. ApiError otherwise."""
        body, ignored = decode(request.body)
        key = request.key = request.key or auth.authenticate(self._keeper, auth.key_in_body(body.key))
        store = auth.store_for(self._keeper.stores, key, body.store_id)
        caller = self._caller(request, key, store.config)
        if not caller.secret and isinstance(body, ConversionBody):
            self.spend_values(self._address(request), values_of(body.customer_data))
        return body, ignored, key, store, caller

    async def batch(self, request: Request) -> Answer:
        """POST /v1/track/batch."""
        media, key = _media_type(request), request.key
        assert key is not None, "batch_key was asked before"
        items = self.prepared_batch(request.body, key, Caller(secret=True, address=self._address(request)), media)
        return await self._tracker.many(items, self._asked(request, key))

    async def conversion_state(self, request: Request) -> Answer:
        """GET /v1/conversions/{id}."""
        return await self._tracker.read_conversion(_last_segment(request), self._secret(request))

    async def click_state(self, request: Request) -> Answer:
        """GET /v1/clicks/{id}."""
        return await self._tracker.read_click(_last_segment(request), self._secret(request))

    def event_key(self, request: Request) -> ApiKey | None:
        """Who may post a click or an event, as far as the head tells."""
        _check_media_type(request, JSON_TYPES)
        return self._early_key(request)

    def batch_key(self, request: Request) -> ApiKey | None:
        """Who may post a batch."""
        _check_media_type(request, BATCH_TYPES)
        return self._secret(request)

    def _early_key(self, request: Request) -> ApiKey | None:
        """The key of the header or the query, within its rate; None where the body must say it."""
        query = request.scope["query_string"]
        in_query = auth.key_in_query(query) if query else None
        presented = auth.bearer(request.headers) or in_query
        key = self._admit(request, presented) if presented is not None else None
        if key is None or key.kind != "secret":
            self._spend_by_address(self._address(request))
        return key

    def _admit(self, request: Request, presented: bytes) -> ApiKey:
        try:
            key = auth.authenticate(self._keeper, presented)
        except ApiError:
            self._spend_by_address(self._address(request))  # guessing keys is bounded too
            raise
        if key.kind == "secret":
            self.spend_key(key)
        return key

    def spend_key(self, key: ApiKey) -> None:
        """One request of this key's rate; ApiError beyond it."""
        self._spend(self._by_key, key.id)

    def _secret(self, request: Request) -> ApiKey:
        key = self._early_key(request)
        if key is None:
            raise ApiError("unauthorized", "no key: send Authorization: Bearer KEY")
        if key.kind != "secret":
            raise ApiError("forbidden", "a publishable key may only post clicks and events; use a secret key")
        return key

    def spend_values(self, address: str, values: int) -> None:
        """What a page's request costs beside itself: a value of a person may have orders matched anew (P4)."""
        if values:
            self._spend(self._by_address, addresses.match_prefix(address), values)

    def _spend(self, buckets: TokenBuckets, name: str, cost: int = 1) -> None:
        now = time.monotonic()
        if buckets.spend(name, now, cost):
            headers = buckets.take(name, now, cost).headers()
            raise ApiError("rate_limit_exceeded", "too many requests; wait as Retry-After says", headers=headers)

    def _spend_by_address(self, address: str) -> None:
        """One household has one bucket: whoever has an IPv6 network has 2^64 addresses."""
        self._spend(self._by_address, addresses.match_prefix(address))

    def _address(self, request: Request) -> str:
        peer = request.scope["client"]
        return self.address_of(peer[0] if peer else "", request.scope["headers"])

    def address_of(self, peer: str, headers: Iterable[tuple[bytes, bytes]]) -> str:
        """Whose request it is: the peer's, or whom a trusted proxy says."""
        return addresses.forwarded_address(peer, headers, self._trusted)

    def page_address(self, request: Request) -> str:
        """The address of a page's visitor, within its rate; ApiError beyond it."""
        address = self._address(request)
        self._spend_by_address(address)
        return address

    def _caller(self, request: Request, key: ApiKey, store: Any) -> Caller:
        if key.kind == "secret":
            return Caller(secret=True, address=self._address(request))
        auth.check_origin(request.headers, store)
        agent = request.headers.get(b"user-agent", b"").decode("latin-1") or None
        return Caller(
            secret=False,
            address=self._address(request),
            user_agent=agent,
            bot=bots.reason(agent, request.scope["headers"]),
            opted_out=consent.opted_out(request.scope["headers"]),
        )

    def _asked(self, request: Request, key: ApiKey) -> Asked:
        headers = request.headers
        return Asked(
            key,
            request.scope["path"],
            request.body,
            track.idempotency_key(headers.get(b"idempotency-key")),
            track.preferred_wait(headers.get(b"prefer")) if key.kind == "secret" else 0.0,
            None if key.kind == "secret" else self._address(request),
        )

    def _cross_origin(self, request: Request) -> Headers:
        """What lets a page of one of the stores read the answer; nothing for strangers."""
        origin = request.headers[b"origin"]
        if origin == b"null" or not (self._is_a_stores(origin.decode("latin-1")) or self._is_keyed(request)):
            return [(b"vary", b"Origin")]
        return [
            (b"vary", b"Origin"),
            (b"access-control-allow-origin", origin),
            (b"access-control-allow-credentials", b"true"),  # a beacon to another host of the shop brings its cookies
            (b"access-control-expose-headers", _EXPOSED),
        ]

    def _is_a_stores(self, origin: str) -> bool:
        return any(auth.is_own(origin, store.config) for store in self._keeper.stores.values() if store.config.active)

    def _is_keyed(self, request: Request) -> bool:
        """Whether the request has the key of a store without domains: pages anywhere may post for it (D8).

        A preflight has no key yet: while there is such a store, it is told yes of the paths where one could be used.
        """
        open_to_keys = {store.config.id for store in self._keeper.stores.values() if _takes_any_page(store)}
        if request.scope["method"] == "OPTIONS":  # type: ignore[typeddict-item]
            return bool(open_to_keys) and request.scope["path"] in _KEYED_PATHS
        return request.key is not None and request.key.store in open_to_keys


def _takes_any_page(store: Store) -> bool:
    return store.config.active and not store.config.domains


def _named(scope: Scope) -> Any:
    return scope  # litestar's types know only the keys that it gives a meaning


def _check_media_type(request: Request, allowed: frozenset[bytes]) -> None:
    if _media_type(request) not in allowed:
        wanted = "application/json or application/x-ndjson" if _LINES_TYPE in allowed else "application/json"
        raise ApiError("unsupported_media_type", f"send it with Content-Type: {wanted}")


def _media_type(request: Request) -> bytes:
    return request.headers.get(b"content-type", b"").partition(b";")[0].strip().lower()


def _last_segment(request: Request) -> str:
    """The id of `/v1/clicks/ID`, which is all that the mount leaves of the path; nothing lies deeper."""
    identifier = request.scope["path"].strip("/")
    if not identifier or "/" in identifier:
        raise ApiError("not_found", "nothing is at this path")
    return identifier


async def reply(send: Send, answer: Answer) -> None:
    """Send one whole answer: JSON, unless it says what else it is."""
    headers = answer.headers
    if answer.body:
        length = (b"content-length", str(len(answer.body)).encode())
        typed = any(name == b"content-type" for name, _ in headers)
        headers = [length, *headers] if typed else [JSON, length, *headers]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body, "more_body": False})
