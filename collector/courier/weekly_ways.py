"""By which ways can a week's report go, and is it taken? For the courier, and for a command."""

from __future__ import annotations

import asyncio
import logging
import smtplib
from typing import Final, NamedTuple

import httpx
import msgspec

from collector.config import AlertsConfig
from collector.core import weekly as core
from collector.core.weekly import Week
from collector.courier import mail
from collector.courier.alerts import Alert
from collector.courier.graph import trust

_TIMEOUT_S: Final = 10.0
_UNSURE: Final = (httpx.ReadTimeout, httpx.ReadError, httpx.RemoteProtocolError, smtplib.SMTPServerDisconnected)


def ways_of(alerts: AlertsConfig) -> list[str]:
    """By which ways a report can go."""
    return (["webhook"] if alerts.webhook_url else []) + (["letter"] if alerts.smtp_url and alerts.email_to else [])


class Outcome(NamedTuple):
    """`fault`: None once it was taken, else why not; not `is_sure` where it had left us and no answer came."""

    fault: str | None = None
    is_sure: bool = True


async def send(alerts: AlertsConfig, way: str, week: Week, now: int) -> Outcome:
    """Send it by one way. No fault holds an address or a password."""
    try:
        if way == "webhook":
            return await _post(alerts.webhook_url, week, now)
        letter = (core.subject(week), core.text(week))
        given = (alerts.smtp_url, alerts.email_from, alerts.email_to, letter)
        await asyncio.to_thread(mail.send, *given, html=core.html(week))
    except Exception as error:  # a library's many, whose text may hold a password
        return Outcome(type(error).__name__, is_sure=not isinstance(error, _UNSURE))
    return Outcome()


async def _post(url: str, week: Week, now: int) -> Outcome:
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it logs whole URLs at INFO
    said = Alert(
        kind="weekly", state="raised", severity="info", store="", pixel="", text=core.text(week), at=now, link=week.link
    )
    headers = {"Content-Type": "application/json"}
    async with httpx.AsyncClient(trust_env=False, follow_redirects=False, timeout=_TIMEOUT_S, verify=trust()) as client:
        answer = await client.post(url, content=msgspec.json.encode(said), headers=headers)
    return Outcome(None if answer.is_success else f"HTTP {answer.status_code}")
