"""How does a batch travel to Meta's Graph, and what exactly came back?

The token goes in a header, never in a URL or a log. Nothing is followed, no proxy of the environment is used, and an
answer is read up to 64 KiB. Whether the whole request had left us decides between "nothing happened" and "in doubt".
"""

from __future__ import annotations

import asyncio
import functools
import hmac
import logging
import ssl
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any, Final

import certifi
import httpx
import msgspec

from collector.config import MetaConfig
from collector.core.capi.verdicts import Answer
from collector.courier.targets import Target
from collector.telemetry import logger

log = logger("courier")

_MAX_ANSWER: Final = 64 * 1024
_CONNECT_S: Final = 5.0
_WRITE_S: Final = 10.0
# Shorter than Meta keeps an idle connection, so that a batch every 15 s reuses one without finding it closed.
_KEEPALIVE_S: Final = 50.0
_HEADERS: Final = {
    "Content-Type": "application/json",
    "Accept-Encoding": "identity",  # no compressed answer, so none that unpacks without end
    "User-Agent": "collector",
}


class GraphClient:
    """One connection pool to Graph for the process's life: its TLS context costs 34 ms."""

    def __init__(self, meta: MetaConfig) -> None:
        for name in ("httpx", "httpcore"):  # they log whole URLs at INFO
            logging.getLogger(name).setLevel(logging.WARNING)
        # The read time-out is longer than the 1.5 s Meta advises: nobody waits for us, and giving up makes a doubt.
        self._timeout = httpx.Timeout(_CONNECT_S, read=meta.timeout_seconds, write=_WRITE_S)
        self._patience = meta.timeout_seconds + _CONNECT_S + _WRITE_S
        self._client = httpx.AsyncClient(
            trust_env=False,
            follow_redirects=False,
            timeout=self._timeout,
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=64, keepalive_expiry=_KEEPALIVE_S),
            verify=trust(),
            headers=_HEADERS,
        )

    async def close(self) -> None:
        """Close every connection."""
        await self._client.aclose()

    async def send(self, target: Target, events: Sequence[bytes], test_code: str | None) -> Answer:
        """Post the events as one batch; every fault of the network, and of what came back, is an Answer too."""
        sent = _Sent()
        try:
            request = self._request(target, events, test_code, sent)
            async with asyncio.timeout(self._patience):  # a byte a second never trips the read time-out
                return _without(target.token, await self._exchange(request))
        except (httpx.HTTPError, OSError, TimeoutError) as error:
            return Answer(fault=_words(error), body_sent=sent.whole)
        except Exception as error:  # D4: nothing that a token holds or an answer brings may stop the courier
            log.failed("a request could not be made or its answer not be read", error)
            return Answer(fault=_words(error), body_sent=sent.whole)

    async def read(self, target: Target, path: str, said: Mapping[str, str], *, largest: int, seconds: float) -> Answer:
        """Ask for what the token may see below `target.base`; up to `largest` bytes of it; else as `send`."""
        proof = _proof(target)
        try:
            request = self._client.build_request(
                "GET",
                f"{target.base}/{path}",
                params={**said, "appsecret_proof": proof} if proof else said,
                headers={"Authorization": f"Bearer {target.token}"},
                extensions={"timeout": httpx.Timeout(_CONNECT_S, read=seconds, write=_WRITE_S).as_dict()},
            )
            async with asyncio.timeout(seconds):
                return _without(target.token, await self._exchange(request, largest))
        except Exception as error:  # D4, as in `send`
            return Answer(fault=_words(error))

    async def ask(self, base: str) -> Answer:
        """Whatever Graph says to nobody in particular: its clock is in the head."""
        try:
            async with asyncio.timeout(self._patience):
                return await self._exchange(self._client.build_request("GET", base))
        except Exception as error:
            return Answer(fault=_words(error), body_sent=False)

    def _request(self, target: Target, events: Sequence[bytes], test_code: str | None, sent: _Sent) -> httpx.Request:
        return self._client.build_request(
            "POST",
            f"{target.base}/{target.pixel}/events",
            content=batch_body(events, test_code=test_code, proof=_proof(target)),
            headers={"Authorization": f"Bearer {target.token}"},
            extensions={"trace": sent.trace, "timeout": self._timeout.as_dict()},
        )

    async def _exchange(self, request: httpx.Request, largest: int = _MAX_ANSWER) -> Answer:
        response = await self._client.send(request, stream=True)
        try:
            body = bytearray()
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > largest:
                    break
        finally:
            await response.aclose()
        headers = {name.lower(): value for name, value in response.headers.items()}
        return Answer(status=response.status_code, headers=headers, body=bytes(body[:largest]))


def _proof(target: Target) -> str | None:
    if not target.app_secret:
        return None
    return hmac.new(target.app_secret.encode(), target.token.encode(), sha256).hexdigest()


@functools.cache
def trust() -> ssl.SSLContext:
    """The system's authorities and certifi's: a bare machine has none of its own. One for all clients: 1 MB each."""
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context


def _without(token: str, answer: Answer) -> Answer:
    """Graph repeats a malformed token in its message; here its way ends, before logs and the database."""
    secret = token.encode()
    if not secret or secret not in answer.body:
        return answer
    return msgspec.structs.replace(answer, body=answer.body.replace(secret, b"(token)"))


def batch_body(events: Sequence[bytes], *, test_code: str | None = None, proof: str | None = None) -> bytes:
    """The request's JSON: encoded events are only joined."""
    tail = b"]"
    if test_code:
        tail += b',"test_event_code":' + _json_string(test_code)
    if proof:
        tail += b',"appsecret_proof":' + _json_string(proof)
    return b'{"data":[' + b",".join(events) + tail + b"}"


def _json_string(text: str) -> bytes:
    return msgspec.json.encode(text)


class _Sent:
    """Whether the request's last byte was handed to the kernel."""

    def __init__(self) -> None:
        self.whole = False

    async def trace(self, name: str, info: dict[str, Any]) -> None:
        if name.endswith("send_request_body.complete"):
            self.whole = True


def _words(error: BaseException) -> str:
    """A fault in plain words; never the exception's own text, which may hold a URL."""
    match error:
        case httpx.ConnectTimeout():
            return "no connection within 5 s"
        case httpx.ConnectError():
            return "connection, DNS or TLS failed"
        case httpx.TimeoutException() | TimeoutError():
            return "no answer in time"
        case _:
            return f"connection lost ({type(error).__name__})"
