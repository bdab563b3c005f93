"""The tracking verbs: a prepared body into the journal, the journal's result into the contract's answer."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from hashlib import sha256
from typing import Any, Final

from msgspec import Struct

from collector.core import refused
from collector.core.capi.states import CapiState
from collector.edge.keeper import Keeper
from collector.errors import ApiError, StorageError
from collector.exchange import clicks, responses
from collector.exchange.keys import ApiKey
from collector.exchange.operations import Again, Answered, Once, Reworded
from collector.exchange.prepared import Prepared, PreparedClick, PreparedEvent, batch_body
from collector.exchange.responses import Answer, Headers
from collector.exchange.states import EventResult

MOST_WAIT_SECONDS: Final = 10.0
_POLL_SECONDS: Final = 0.05
_MOST_IDEMPOTENCY_KEY: Final = 255
_NO_HEADER: Final = re.compile(r"[^\x20-\x7e]")
_MOST_NAMES_BYTES: Final = 1_000
_UNDECIDED: Final = frozenset({CapiState.QUEUED, CapiState.RETRYING})


class Asked(Struct, frozen=True, gc=False):
    """What a request wants beside storing: an Idempotency-Key, and seconds to wait for Meta's word."""

    key: ApiKey
    path: str
    body: bytes
    idempotency: bytes | None = None
    wait: float = 0.0
    page: str | None = None  # the address of a page's visitor; None where a server asks


class Tracker:
    """One configuration's verbs over the keeper."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper
        self._names, self._public = keeper.names, keeper.public
        self.ending = False  # nobody waits for Meta any more

    async def one(self, prepared: Prepared, asked: Asked) -> Answer:
        """Store one click or event; return once it is on disk."""
        if asked.idempotency is not None:
            return await self._once([prepared], asked, batch=False)
        (result,) = await self._keeper.submit((prepared.operation,))
        if asked.wait and isinstance(result, EventResult):
            result = await self._wait(result, asked.wait)
        return self.answer(prepared, result)

    def answer(self, prepared: Prepared, result: Any) -> Answer:
        """The answer to one click or event of which this became; ApiError is raised."""
        if isinstance(result, ApiError):
            raise result
        return Answer(200, prepared.answer(result, self._public).encode(), _headers(prepared))

    def batch_answer(self, items: Sequence[Prepared | ApiError], results: Sequence[Any]) -> Answer:
        """The answer to a batch of whose good items these are the results, in order."""
        self._count_refused([*items, *_contradicted(items, results)])
        return Answer(200, batch_body(_refusals_rendered(items), results, self._public), _batch_headers(items))

    async def many(self, items: Sequence[Prepared | ApiError], asked: Asked) -> Answer:
        """Store every good item in one group; a bad one fails alone, in its place."""
        if asked.idempotency is not None:
            return await self._once(items, asked, batch=True)
        operations = [item.operation for item in items if not isinstance(item, ApiError)]
        results = await self._keeper.submit(operations) if operations else []
        return self.batch_answer(items, results)

    def _count_refused(self, items: Sequence[Prepared | ApiError]) -> None:
        """A batch is answered 200: what it holds that is refused is counted item by item."""
        for item in items:
            if isinstance(item, ApiError):
                self._keeper.refuse("refused_item", item, b"")  # batches take a secret key

    async def _once(self, items: Sequence[Prepared | ApiError], asked: Asked, *, batch: bool) -> Answer:
        assert asked.idempotency is not None
        name = f"{asked.key.id}\0{asked.path}\0{asked.idempotency.decode('latin-1')}"
        if asked.page is not None:  # T7: nobody occupies another's
            name += f"\0{asked.page}\0{next((i.visitor for i in items if not isinstance(i, ApiError)), None)}"
        operation = Once(
            _refusals_rendered(items),
            self._names.name(0, "idempotency", name),
            sha256(asked.body).digest(),
            batch,
        )
        (answered,) = await self._keeper.submit((operation,))
        if isinstance(answered, ApiError):
            raise answered
        assert isinstance(answered, Answered)
        if batch and not answered.replayed:  # once, with what the keeper refused
            self._count_refused([*items, *_contradicted(items, answered.results)])
        if asked.wait and not batch and not answered.replayed:
            (item,) = items
            answered = await self._waited(operation, answered, item, asked.wait)
        headers = _batch_headers(items) if batch else _headers(items[0])
        if answered.replayed:
            headers.append((b"idempotent-replayed", b"true"))
        return Answer(answered.status, answered.answer, headers)

    async def _waited(self, once: Once, answered: Answered, prepared: Prepared | ApiError, seconds: float) -> Answered:
        """The answer with Meta's word in it, once that is what a replay is given too.

        What was remembered with the effects says "queued": it stands when the process ends in between, and nobody was
        given another one then.
        """
        (result,) = answered.results
        if not isinstance(result, EventResult) or not isinstance(prepared, PreparedEvent):
            return answered
        found = await self._wait(result, seconds)
        if found.state.state is result.state.state:
            return answered
        later = prepared.answer(found, self._public).encode()
        try:
            await self._keeper.submit((Reworded(once.key_k, once.body_hash, later),))
        except StorageError:
            return answered  # it can be remembered no more, and two answers to one key are worse than an early one
        return Answered(answered.status, later, False)

    async def _wait(self, result: EventResult, seconds: float) -> EventResult:
        """Look again until Meta has accepted or refused the event, the time is over, or the process is to end."""
        deadline = asyncio.get_running_loop().time() + min(seconds, MOST_WAIT_SECONDS)
        while result.state.state in _UNDECIDED and asyncio.get_running_loop().time() < deadline:
            if self.ending:
                break
            await asyncio.sleep(_POLL_SECONDS)
            try:
                found = await self._keeper.conversion(result.state.row.id)
            except StorageError:
                break  # what was stored is stored; how its delivery stands cannot be told now
            if found is not None:
                result = EventResult(found.state, result.duplicate)
        return result

    async def read_conversion(self, public_id: str, key: ApiKey) -> Answer:
        """A conversion's current state; 404 for another store's, as if it did not exist."""
        row_id = self._public.row("conv", public_id)
        found = await self._keeper.conversion(row_id) if row_id is not None else None
        if found is None or not self._may_see(found.state.row.store, key):
            raise ApiError("not_found", "no conversion has this id")
        if not self._keeper.refusing:
            # How common its values are may have changed since: an inference is as good as what is known today. And
            # what is re-opened is matched now.
            await self._keeper.submit((Again(found.state.row.id),))
            found = await self._keeper.conversion(found.state.row.id) or found
        data = responses.conversion_data(found.state, self._public)
        return Answer(200, responses.success(responses.with_deliveries(data, found.deliveries, found.attempts)))

    async def read_click(self, public_id: str, key: ApiKey) -> Answer:
        """A click and what came of it; 404 for another store's, as if it did not exist."""
        row_id = self._public.row("click", public_id)
        found = await self._keeper.click(row_id) if row_id is not None else None
        if found is None or not self._may_see(found.row.store, key):
            raise ApiError("not_found", "no click has this id")
        body = clicks.read(found.row)
        reason = body.bot or ("consent" if body.marketing != "granted" else None)
        data = responses.stored_click_data(found.row, body.fbclid, reason, found.conversions, self._public)
        return Answer(200, responses.success(data))

    def _may_see(self, store_number: int, key: ApiKey) -> bool:
        if key.store is None:
            return True
        store = self._keeper.stores.get(key.store)
        return store is not None and store.number == store_number


def _contradicted(items: Sequence[Prepared | ApiError], results: Sequence[Any]) -> list[ApiError]:
    """What the keeper refused of a batch's good items, with their orders' numbers."""
    found = []
    for item, result in zip((one for one in items if not isinstance(one, ApiError)), results, strict=True):
        if isinstance(result, ApiError):
            if result.order is None:
                result.order = (
                    refused.number_of(item.operation.event.order_id) if isinstance(item, PreparedEvent) else ""
                )
            found.append(result)
    return found


def _refusals_rendered(items: Sequence[Prepared | ApiError]) -> list[Prepared | bytes]:
    """The items, with their answers in the places of those that are refused already."""
    return [responses.failure(item) if isinstance(item, ApiError) else item for item in items]


def idempotency_key(value: bytes | None) -> bytes | None:
    """The Idempotency-Key header, checked."""
    if value is not None and not 0 < len(value) <= _MOST_IDEMPOTENCY_KEY:
        raise ApiError("invalid_field", f"Idempotency-Key: expected 1 to {_MOST_IDEMPOTENCY_KEY} characters")
    return value


def preferred_wait(value: bytes | None) -> float:
    """Seconds of `Prefer: wait=N`; anything else in the header is not ours (RFC 7240)."""
    for preference in (value or b"").split(b","):
        name, _, number = preference.strip().partition(b"=")
        if name.strip().lower() == b"wait" and number.strip().isdigit():
            return min(float(number), MOST_WAIT_SECONDS)
    return 0.0


def _headers(prepared: Prepared | ApiError) -> Headers:
    """Beside the answer to one item: what was ignored, and why a click is kept unused."""
    if isinstance(prepared, ApiError):
        return []
    headers = ignored_header(prepared.ignored)
    if isinstance(prepared, PreparedClick) and prepared.reason is not None:
        headers.append(responses.reason(prepared.reason))
    return headers


def _batch_headers(items: Sequence[Prepared | ApiError]) -> Headers:
    """Beside the answer to a batch: what was ignored in any of its items."""
    return ignored_header([name for item in items if not isinstance(item, ApiError) for name in item.ignored])


def ignored_header(names: Sequence[str]) -> Headers:
    """`Collector-Ignored-Fields`, cut: proxies refuse an answer whose headers pass 4 KB (nginx's default buffer).

    Names are the caller's own text: what is no printable ASCII, a line end above all, is no part of a header.
    """
    if not names:
        return []
    text = _NO_HEADER.sub("?", ", ".join(dict.fromkeys(names))).encode()
    cut = text if len(text) <= _MOST_NAMES_BYTES else text[:_MOST_NAMES_BYTES] + b" ..."
    return [(b"collector-ignored-fields", cut)]
