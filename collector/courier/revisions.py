"""Tells the shop of answers that changed after they were given: a click that arrived late, a sign-in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import httpx
from msgspec import json

from collector.errors import StorageError
from collector.storage.delivery import Notices
from collector.telemetry import logger

log = logger("courier")

Ask = Callable[[Callable[[], Any]], Awaitable[Any]]  # runs a question on the thread that owns the connection
AT_ONCE: Final = 100
_TIMEOUT_S: Final = 10.0
_REST_MS: Final = 5_000  # after a failure, doubled with each further one
_LONGEST_MS: Final = 300_000


class Revisions:
    """Posts to `url` ([alerts] revisions_url) until each is taken with a 2xx; the same one may arrive twice."""

    def __init__(self, url: str, notices: Notices) -> None:
        self._url = url
        self._notices = notices
        self._failures = 0
        self._not_before = 0

    async def tell(self, ask: Ask, now: int, ticks: int) -> None:
        """One request, if there is something to tell. `ticks`: ms of a clock that nobody sets."""
        if not self._url:
            await ask(self._notices.drop_all)
            return
        if ticks < self._not_before:
            return
        try:
            noted = await ask(lambda: self._notices.pending(now, AT_ONCE))
        except StorageError as error:  # a lost key: what waits for Meta still goes out (README, "What to keep safe")
            self._not_before = ticks + _LONGEST_MS
            log.failed("changed answers cannot be told", error)
            return
        if not noted:
            return
        if await self._post(json.encode({"kind": "revisions", "conversions": [one[2] for one in noted]})):
            await ask(lambda: self._notices.told(noted))
            self._failures = 0
            return
        self._not_before = ticks + min(_REST_MS << min(self._failures, 10), _LONGEST_MS)
        self._failures += 1
        log.warning("changed answers not delivered", count=len(noted), attempt=self._failures)

    async def _post(self, body: bytes) -> bool:
        headers = {"Content-Type": "application/json"}
        try:
            async with httpx.AsyncClient(trust_env=False, follow_redirects=False, timeout=_TIMEOUT_S) as client:
                return (await client.post(self._url, content=body, headers=headers)).is_success
        except (httpx.HTTPError, httpx.InvalidURL, ValueError):  # ValueError: a host name that IDNA refuses
            return False
