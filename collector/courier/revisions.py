"""Tells the shop of answers that changed after they were given: a click that arrived late, a sign-in (api.md)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import apsw
import httpx
from msgspec import json

from collector.config import Config
from collector.core.ids import PublicIds
from collector.core.keyed import KeyedHash
from collector.errors import StorageError
from collector.storage import notices
from collector.storage.database import load_pepper
from collector.telemetry import logger

log = logger("courier")

Ask = Callable[[Callable[[], Any]], Awaitable[Any]]  # runs a question on the thread that owns the connection
AT_ONCE: Final = 100
_TIMEOUT_S: Final = 10.0
_REST_MS: Final = 5_000  # after a failure, doubled with each further one
_LONGEST_MS: Final = 300_000


class Revisions:
    """Posts to `[alerts] revisions_url` until each is taken with a 2xx; the same one may arrive twice."""

    def __init__(self, config: Config, db: apsw.Connection) -> None:
        self._url = config.alerts.revisions_url
        self._db = db
        self._config = config
        self._public: PublicIds | None = None
        self._failures = 0
        self._not_before = 0

    async def tell(self, ask: Ask, now: int) -> None:
        """One request, if there is something to tell."""
        if not self._url:
            await ask(lambda: notices.drop_all(self._db))
            return
        if now < self._not_before:
            return
        try:
            noted = await ask(lambda: notices.pending(self._db, self._ids, now, AT_ONCE))
        except (
            StorageError
        ) as error:  # the key is lost: what waits for Meta still goes out (README, "What to keep safe")
            self._not_before = now + _LONGEST_MS
            log.failed("changed answers cannot be told", error)
            return
        if not noted:
            return
        if await self._post(json.encode({"kind": "revisions", "conversions": [one[2] for one in noted]})):
            await ask(lambda: notices.told(self._db, noted))
            self._failures = 0
            return
        self._not_before = now + min(_REST_MS << min(self._failures, 10), _LONGEST_MS)
        self._failures += 1
        log.warning("changed answers not delivered", count=len(noted), attempt=self._failures)

    def _ids(self) -> PublicIds:
        if self._public is None:  # the courier needs no key for anything else, and delivers without it
            key = load_pepper(self._db, Path(self._config.storage.data_dir), self._config.privacy.pepper_file)
            self._public = PublicIds(KeyedHash(key).subkey("public ids"))
        return self._public

    async def _post(self, body: bytes) -> bool:
        headers = {"Content-Type": "application/json"}
        try:
            async with httpx.AsyncClient(trust_env=False, follow_redirects=False, timeout=_TIMEOUT_S) as client:
                return (await client.post(self._url, content=body, headers=headers)).is_success
        except (httpx.HTTPError, httpx.InvalidURL, ValueError):  # ValueError: a host name that IDNA refuses
            return False
