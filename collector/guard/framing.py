"""Would every proxy and server read this request alike: the checks of framing that the parser leaves to us.

httptools refuses Content-Length with Transfer-Encoding, two lengths, bare LF, folded lines and broken chunks. It lets
pass what is here: other codings, several or missing Hosts, versions that are not HTTP/1 (RFC 9112 3.2 and 6.1).
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

import httptools

from collector.guard.gate import GuardLimits
from collector.guard.refusals import BAD_REQUEST, HEADERS_TOO_LARGE, TARGET_TOO_LONG, Refusal

# A name or an address with an optional port. RFC 3986 3.2.2 would allow more (`;`, `=`, `,`, `@` before it …), which no
# host has and which Host is attacked with: cookies and redirects are made from it.
HOST: Final = re.compile(rb"(?:[A-Za-z0-9._\-]*|\[[0-9A-Fa-f:.]+\])(?::\d{0,5})?")


def fault_in(
    version: str, url: bytes, headers: list[tuple[bytes, bytes]], fed: int, limits: GuardLimits
) -> Refusal | None:
    """What is wrong with a whole head; `fed`: the bytes of its reads, at least as many as it has itself."""
    if len(headers) > limits.headers:
        return HEADERS_TOO_LARGE
    if fed > limits.header_bytes and sum(len(name) + len(value) + 4 for name, value in headers) > limits.header_bytes:
        return HEADERS_TOO_LARGE
    if len(url) > limits.target_bytes:
        return TARGET_TOO_LONG
    return None if is_sound(version, headers) else BAD_REQUEST


def is_sound(version: str, headers: list[tuple[bytes, bytes]]) -> bool:
    """One well-formed Host (HTTP/1.0 may do without), and no transfer coding but a single `chunked` in HTTP/1.1."""
    names = [name for name, _ in headers]
    hosts = names.count(b"host")
    if hosts > 1 or (hosts and not _is_host(headers[names.index(b"host")][1])):
        return False
    if version == "1.1":
        return hosts == 1 and (b"transfer-encoding" not in names or _is_plainly_chunked(headers))
    return version == "1.0" and b"transfer-encoding" not in names


@lru_cache(maxsize=256)
def _is_host(value: bytes) -> bool:
    return HOST.fullmatch(value) is not None


def _is_plainly_chunked(headers: list[tuple[bytes, bytes]]) -> bool:
    return [value.lower() for name, value in headers if name == b"transfer-encoding"] == [b"chunked"]


def head_without_upgrade(parser: httptools.HttpRequestParser, url: bytes, headers: list[tuple[bytes, bytes]]) -> bytes:
    """The head that `parser` has read, as it would be had the client not asked for another protocol."""
    lines = [b"%b %b HTTP/%b" % (parser.get_method(), url, parser.get_http_version().encode())]
    lines += [b"%b: %b" % header for header in headers if header[0] != b"upgrade"]
    return b"\r\n".join([*lines, b"", b""])
