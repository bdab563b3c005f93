"""One question to a shop's API: bounded, to the shop's own host alone, and every fault of it a word (L5)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import msgspec
from msgspec import Struct

from collector.courier.graph import trust

LARGEST: Final = 32 * 1024 * 1024  # bytes of an answer
_TIMEOUT_S: Final = 60.0
_HEADERS: Final = {"User-Agent": "collector", "Accept": "application/json", "Accept-Encoding": "identity"}


class Trouble(Exception):
    """Why a pull cannot go on now. `wait`: what the shop has asked for, in seconds; `auth`: the key was refused."""

    def __init__(self, word: str, *, wait: float | None = None, auth: bool = False, refused: bool = False) -> None:
        super().__init__(word)
        self.word, self.wait, self.auth, self.refused = word, wait, auth, refused


class Answer(Struct, frozen=True):
    """What the shop said, as raw JSON."""

    headers: Mapping[str, str]
    body: bytes

    def read(self, kind: Any) -> Any:
        """The answer as this type; Trouble where it is none."""
        try:
            return msgspec.json.decode(self.body, type=kind)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise Trouble("its answer is not the JSON that was expected") from None


class ShopClient:
    """Questions to one shop, one at a time. Nothing is followed; no key is in an address or a log."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._host = urlsplit(url).netloc
        self._client = httpx.AsyncClient(
            trust_env=False,
            follow_redirects=False,
            timeout=httpx.Timeout(_TIMEOUT_S),
            headers=_HEADERS,
            verify=trust(),
        )

    async def close(self) -> None:
        """Close the connection."""
        await self._client.aclose()

    async def ask(self, method: str, path: str, **sent: Any) -> Answer:
        """Ask; Trouble for everything but a whole 200 of the shop's own."""
        try:
            request = self._client.build_request(method, f"{self._url}{path}", **sent)
            response = await self._client.send(request, stream=True)
            try:
                body = bytearray()
                async for chunk in response.aiter_raw():
                    body += chunk
                    if len(body) > LARGEST:
                        raise Trouble("its answer is larger than 32 MiB")
            finally:
                await response.aclose()
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            raise Trouble(f"it cannot be reached ({type(error).__name__})") from None
        headers = {name.lower(): value for name, value in response.headers.items()}
        _judge(response.status_code, headers)
        return Answer(headers, bytes(body))


def _judge(status: int, headers: Mapping[str, str]) -> None:
    if status == 200:
        return
    if status in (401, 403):
        raise Trouble(f"it refuses the key (HTTP {status})", auth=True)
    if status == 429 or status >= 500:
        raise Trouble(f"it is busy (HTTP {status})", wait=seconds(headers.get("retry-after", "")))
    if 300 <= status < 400:
        raise Trouble(f"it redirects (HTTP {status}); set url to where it leads")
    raise Trouble(f"it refuses the question (HTTP {status})", refused=status == 400)


def seconds(text: str) -> float | None:
    """A Retry-After in seconds; None for none, and for a date. At most an hour is waited."""
    try:
        value = float(text)
    except ValueError:
        return None
    return min(max(value, 0.0), 3_600.0) if value == value else None
