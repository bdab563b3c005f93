"""How does the guard answer by itself? Each way in which it refuses, in the contract's shape."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec


class Refusal(msgspec.Struct, frozen=True):
    """One way in which the guard answers: the status line and the contract's error."""

    status: bytes
    code: str
    message: str
    headers: bytes = b""

    @property
    def status_code(self) -> int:
        """The number of the status line."""
        return int(self.status[:3])


BAD_REQUEST: Final = Refusal(b"400 Bad Request", "bad_request", "this is not a valid HTTP/1.1 request")
BODY_TOO_LARGE: Final = Refusal(
    b"413 Content Too Large",
    "payload_too_large",
    "a body of this size takes a valid secret key",
)
TIMED_OUT: Final = Refusal(b"408 Request Timeout", "request_timeout", "the request did not arrive in time")
TARGET_TOO_LONG: Final = Refusal(b"414 URI Too Long", "target_too_long", "the request target is too long")
HEADERS_TOO_LARGE: Final = Refusal(
    b"431 Request Header Fields Too Large", "headers_too_large", "the headers are too many or too large"
)
OVERLOADED: Final = Refusal(
    b"503 Service Unavailable", "overloaded", "too busy, or about to restart; try again", b"retry-after: 1\r\n"
)
TOO_MANY_FROM_ADDRESS: Final = Refusal(
    b"429 Too Many Requests",
    "rate_limit_exceeded",
    "too many connections from this address; try again",
    b'retry-after: 1\r\nratelimit-policy: "connections";q=1\r\nratelimit: "connections";r=0;t=1\r\n',
)


def rendered(refusal: Refusal, name: str, default_headers: Sequence[tuple[bytes, bytes]]) -> bytes:
    """The whole answer, which ends the connection; `name` is the request's (names.py)."""
    error = {"code": refusal.code, "message": refusal.message, "requestId": name}
    body = msgspec.json.encode({"success": False, "error": error})
    return b"".join(
        [b"HTTP/1.1 ", refusal.status, b"\r\n"]
        + [header + b": " + value + b"\r\n" for header, value in default_headers]
        + [b"content-type: application/json\r\ncontent-length: ", str(len(body)).encode(), b"\r\n"]
        + [b"cache-control: no-store\r\ncollector-reason: ", refusal.code.encode(), b"\r\nrequest-id: ", name.encode()]
        + [b"\r\n", refusal.headers]
        + [b"connection: close\r\n\r\n", body]
    )
