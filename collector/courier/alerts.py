"""Who is told when delivery needs a person? One POST to the configured webhook per change, without personal data."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

import httpx
from msgspec import Struct, json

from collector.config import AlertsConfig
from collector.core import times
from collector.core.capi.states import kept_until
from collector.telemetry import logger

log = logger("courier")

_HOUR_MS: Final = 3_600_000
_TIMEOUT_S: Final = 10.0
_TRIES: Final = 3
# The same trouble of the same pixel is told again after an hour, not with each failed request.
_REPEAT_MS: Final = _HOUR_MS
_SHOP_REPEAT_MS: Final = 24 * _HOUR_MS


class Alert(Struct, frozen=True, kw_only=True):
    """What the webhook receives as JSON. `text` alone suits chat tools."""

    kind: str  # blocked, throttled, failing, rejected, backlog, clock, damage, cleared
    pixel: str
    text: str
    at: int
    deadline: str | None = None  # when Meta would no longer take the first event that waits (RFC 3339)


class Alerts:
    """Alerts of this process, sent one after the other by `run`."""

    def __init__(self, config: AlertsConfig) -> None:
        self._config = config
        self._queue: asyncio.Queue[Alert] = asyncio.Queue(100)
        self._told: dict[tuple[str, str], int] = {}  # when, by kind and pixel
        self._standing: set[tuple[str, str]] = set()  # told, and not cleared yet
        self._refusals: dict[str, deque[int]] = {}

    def raised(self, kind: str, pixel: str, text: str, now: int, *, deadline: int | None = None) -> None:
        """Trouble with a pixel's queue. `deadline`: until when its first event can still be sent (ms)."""
        repeat = _SHOP_REPEAT_MS if kind.startswith("shop_") else _REPEAT_MS
        if now - self._told.get((kind, pixel), -repeat) >= repeat:
            self._told[kind, pixel] = now
            self._standing.add((kind, pixel))
            log.warning("a person should look", kind=kind, pixel=pixel)
            until = times.text(deadline) if deadline is not None else None
            whose = f"Pixel {pixel}: " if pixel else ""
            text = f"{whose}{kind}. {text}" + (f". {kept_until(deadline)}" if deadline is not None else "")
            self._put(Alert(kind=kind, pixel=pixel, text=text, at=now, deadline=until))

    def cleared(self, pixel: str, now: int) -> None:
        """The pixel's queue moves again; told only where trouble was."""
        told = {key for key in self._standing if key[1] == pixel and key[0] not in ("rejected", "clock")}
        self._standing -= told
        if told:
            self._put(Alert(kind="cleared", pixel=pixel, text=f"Pixel {pixel}: delivery resumed", at=now))

    def over(self, kind: str, now: int) -> None:
        """Trouble of the whole installation has ended; told only where it was."""
        if (kind, "") in self._standing:
            self._standing.discard((kind, ""))
            self._put(Alert(kind="cleared", pixel="", text=f"{kind}: over", at=now))

    def refused(self, pixel: str, now: int) -> None:
        """Meta refused an event for good; told when an hour has seen too many."""
        hour = self._refusals.setdefault(pixel, deque())
        hour.append(now)
        while hour[0] < now - _HOUR_MS:
            hour.popleft()
        if len(hour) >= self._config.rejected_per_hour:
            self.raised("rejected", pixel, f"{len(hour)} events rejected within an hour", now)

    def backlog(self, pixel: str, oldest_ms: int, now: int) -> None:
        """The oldest waiting event's age."""
        minutes = (now - oldest_ms) // 60_000
        if minutes >= self._config.backlog_minutes:
            self.raised("backlog", pixel, f"the oldest event has waited {minutes} minutes", now)

    def _put(self, alert: Alert) -> None:
        if self._config.webhook_url and not self._queue.full():
            self._queue.put_nowait(alert)

    async def run(self) -> None:
        """Send what is raised, until cancelled."""
        if not self._config.webhook_url:
            return
        async with httpx.AsyncClient(trust_env=False, follow_redirects=False, timeout=_TIMEOUT_S) as client:
            while True:
                await self._post(client, await self._queue.get())

    async def _post(self, client: httpx.AsyncClient, alert: Alert) -> None:
        for attempt in range(_TRIES):
            try:
                headers = {"Content-Type": "application/json"}
                answer = await client.post(self._config.webhook_url, content=json.encode(alert), headers=headers)
                if answer.status_code < 500:
                    return
            except (httpx.HTTPError, httpx.InvalidURL, ValueError):  # ValueError: a host name that IDNA refuses
                log.warning("alert not delivered", kind=alert.kind, pixel=alert.pixel)
            await asyncio.sleep(2.0**attempt)
