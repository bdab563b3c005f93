"""One letter to a mail server, as RFC 5321 has it: TLS, but for a server on this machine."""

from __future__ import annotations

import contextlib
import smtplib
import ssl
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from typing import Final
from urllib.parse import unquote, urlsplit

from collector.config_loader.checks import is_loopback

_PATIENCE_S: Final = 20.0
_PORTS: Final = {"smtps": 465, "smtp": 587}


def send(url: str, sender: str, to: list[str], letter: tuple[str, str], *, html: str = "") -> None:
    """Hand a letter to the server of `smtps://user:password@host:465`, or of `smtp://…` (STARTTLS).

    `letter`: subject and text; `html`: the same as a page, where there is one.

    Raises smtplib.SMTPException, OSError or ssl.SSLError. Blocks: call it on a thread.
    """
    message = EmailMessage()
    message["Subject"], body = letter
    message["From"], message["To"] = sender, ", ".join(to)
    message["Date"], message["Message-ID"] = formatdate(), make_msgid(domain=sender.rpartition("@")[2])
    message.set_content(body)
    if html:
        message.add_alternative(html, subtype="html")
    way = urlsplit(url)
    host, port = way.hostname or "", way.port or _PORTS[way.scheme]
    try:
        server = _opened(way.scheme, host, port)
    except smtplib.SMTPServerDisconnected:
        raise ConnectionError("the mail server closed before any letter") from None
    try:
        if way.username:
            server.login(unquote(way.username), unquote(way.password or ""))
        server.send_message(message)
        with contextlib.suppress(smtplib.SMTPException, OSError):  # it has the letter
            server.quit()
    finally:
        server.close()


def _opened(scheme: str, host: str, port: int) -> smtplib.SMTP:
    if scheme == "smtps":
        return smtplib.SMTP_SSL(host, port, timeout=_PATIENCE_S, context=ssl.create_default_context())
    server = smtplib.SMTP(host, port, timeout=_PATIENCE_S)
    try:
        if not is_loopback(host):
            server.starttls(context=ssl.create_default_context())
    except BaseException:
        server.close()
        raise
    return server
