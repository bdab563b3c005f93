"""Who is told when delivery needs a person? One message to webhook and mailbox per change, without personal data."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from typing import Final, Literal

import httpx
from msgspec import Struct, json

from collector.config import AlertsConfig
from collector.core import times
from collector.core.capi.states import kept_until
from collector.courier import mail
from collector.telemetry import logger

log = logger("courier")

_HOUR_MS: Final = 3_600_000
_DAY_MS: Final = 24 * _HOUR_MS
_TIMEOUT_S: Final = 10.0
_TRIES: Final = 3
# The same trouble of the same pixel is told again after an hour, not with each failed request.
_REPEAT_MS: Final = _HOUR_MS
_SHOP_REPEAT_MS: Final = 24 * _HOUR_MS


# What loses orders or rows unless somebody acts; a request of a shop's platform only has to be known.
_CRITICAL: Final = frozenset({"blocked", "expiring", "expired", "damage", "disk", "clock", "shop_auth"})
_INFO: Final = frozenset({"shop_data_request", "shop_redact", "shop_uninstalled"})
# A queue that moves again ends the trouble of its pixel, but for these, which end by themselves.
_OWN_END: Final = frozenset({"rejected", "clock", "expiring", "expired"})
_PAGES: Final = {"rejected": "/events", "expired": "/events"}

Severity = Literal["critical", "warning", "info"]


class Alert(Struct, frozen=True, kw_only=True):
    """What the webhook receives as JSON. `text` alone suits chat tools."""

    kind: str  # blocked, throttled, failing, rejected, backlog, expiring, expired, clock, damage, disk, backup, shop_…
    state: Literal["raised", "cleared"]
    severity: Severity
    store: str
    pixel: str
    text: str
    at: int
    deadline: str | None = None  # when Meta would no longer take the first event that waits (RFC 3339)
    link: str  # the console's page about it


def severity_of(kind: str) -> Severity:
    return "critical" if kind in _CRITICAL else "info" if kind in _INFO else "warning"


class Alerts:
    """Alerts of this process, sent one after the other by `run`.

    `stores`: whose each pixel is. `console`: where links lead, where [alerts] console_url says nothing.
    """

    def __init__(self, config: AlertsConfig, stores: Mapping[str, str] | None = None, console: str = "") -> None:
        self._config = config
        self._stores = stores or {}
        self._console = (config.console_url or console).rstrip("/")
        if config.email_to and not config.smtp_url:
            log.error("alerts cannot be mailed without a mail server", setting="alerts.smtp_url")
        self._queue: asyncio.Queue[Alert] = asyncio.Queue(100)
        self._told: dict[tuple[str, str], int] = {}  # when, by kind and pixel
        self._standing: set[tuple[str, str]] = set()  # told, and not cleared yet
        self._refusals: dict[str, deque[int]] = {}

    def raised(
        self, kind: str, pixel: str, text: str, now: int, *, deadline: int | None = None, store: str = ""
    ) -> None:
        """Trouble with a pixel's queue. `deadline`: until when its first event can still be sent (ms)."""
        repeat = _SHOP_REPEAT_MS if kind.startswith("shop_") else _REPEAT_MS
        if now - self._told.get((kind, pixel), -repeat) >= repeat:
            self._told[kind, pixel] = now
            self._standing.add((kind, pixel))
            log.warning("a person should look", kind=kind, pixel=pixel)
            whose = f"Pixel {pixel}: " if pixel else ""
            text = f"{whose}{kind}. {text}" + (f". {kept_until(deadline)}" if deadline is not None else "")
            self._put(kind, "raised", pixel, text, now, deadline=deadline, store=store)

    def cleared(self, pixel: str, now: int) -> None:
        """The pixel's queue moves again; told only where trouble was."""
        for kind, _ in sorted(key for key in self._standing if key[1] == pixel and key[0] not in _OWN_END):
            self.over(kind, now, pixel)

    def over(self, kind: str, now: int, pixel: str = "") -> None:
        """Trouble of a pixel, or of the whole installation, has ended; told only where it was."""
        if (kind, pixel) in self._standing:
            self._standing.discard((kind, pixel))
            text = f"Pixel {pixel}: {kind} is over, delivery resumed" if pixel else f"{kind}: over"
            self._put(kind, "cleared", pixel, text, now)

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

    def expiring(self, pixel: str, first: int | None, now: int) -> None:
        """A day before the first deadline of what waits (ms; None: nothing waits)."""
        if first is not None and first - now < _DAY_MS:
            self.raised("expiring", pixel, "the first event that waits can soon be sent no more", now, deadline=first)
        else:
            self.over("expiring", now, pixel)

    def _put(
        self,
        kind: str,
        state: Literal["raised", "cleared"],
        pixel: str,
        text: str,
        now: int,
        *,
        deadline: int | None = None,
        store: str = "",
    ) -> None:
        if not (self._config.webhook_url or self._config.smtp_url):
            return
        alert = Alert(
            kind=kind,
            state=state,
            severity=severity_of(kind),
            store=store or self._stores.get(pixel, ""),
            pixel=pixel,
            text=text,
            at=now,
            deadline=times.text(deadline) if deadline is not None else None,
            link=self._console + _PAGES.get(kind, "/"),
        )
        try:
            self._queue.put_nowait(alert)
        except asyncio.QueueFull:
            log.warning("alert not delivered", kind=kind, pixel=pixel, fault="a hundred wait already")

    async def run(self) -> None:
        """Send what is raised, until cancelled."""
        if not (self._config.webhook_url or self._config.smtp_url):
            return
        async with httpx.AsyncClient(trust_env=False, follow_redirects=False, timeout=_TIMEOUT_S) as client:
            while True:
                alert = await self._queue.get()
                ways = [self._post(client, alert)] if self._config.webhook_url else []
                ways += [self._mail(alert)] if self._config.smtp_url and self._config.email_to else []
                await asyncio.gather(*ways)  # a mail server that hangs keeps no webhook waiting

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

    async def _mail(self, alert: Alert) -> None:
        config = self._config
        for attempt in range(_TRIES):
            try:
                await asyncio.to_thread(mail.send, config.smtp_url, config.email_from, config.email_to, _letter(alert))
            except Exception as error:  # a library's many; its text may hold an address
                log.failed("alert not mailed", error, kind=alert.kind, pixel=alert.pixel)
                await asyncio.sleep(2.0**attempt)
            else:
                return


def _letter(alert: Alert) -> tuple[str, str]:
    """Subject and text."""
    whose = alert.store or (f"pixel {alert.pixel}" if alert.pixel else "collector")
    word = alert.severity if alert.state == "raised" else "over"
    lines = [alert.text, "", f"since: {times.text(alert.at)}"]
    lines += [f"deadline: {alert.deadline}"] if alert.deadline else []
    return f"[collector] {word}: {alert.kind} ({whose})", "\n".join([*lines, f"console: {alert.link}", ""])
