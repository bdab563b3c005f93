"""The script that a shop's page loads: made ready once, settings in it, under a stable and an immutable address.

The stable address (`/c.js`) is what goes into a page; browsers ask for it again after an hour and mostly hear 304. The
other (`/c.1f3a9c5b7d.js`) names its content, may be kept for a year, and can be pinned by an integrity attribute; of an
older content it still answers with today's, but then as a stable address does.
"""

from __future__ import annotations

import gzip
import re
from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha256, sha384
from importlib.resources import files
from posixpath import dirname, relpath, splitext
from typing import Final

import msgspec

from collector.config import EdgeConfig, PrivacyConfig, StoreConfig

SOURCE: Final = "collector.min.js"
_PLACE: Final = b"__SETTINGS__"
_HASH_LENGTH: Final = 10
_HOUR: Final = b"public, max-age=3600, stale-while-revalidate=86400"
_YEAR: Final = b"public, max-age=31536000, immutable"

Headers = list[tuple[bytes, bytes]]
Answer = tuple[int, Headers, bytes]


class Snippet:
    """The script as this configuration makes it. `path` is the stable address, `pinned_path` the immutable one."""

    def __init__(self, edge: EdgeConfig, privacy: PrivacyConfig, stores: Sequence[StoreConfig]) -> None:
        settings = msgspec.json.encode(_settings(edge, privacy, stores)).replace(b"</", b"<\\/")
        self.body = files(__package__).joinpath("assets", SOURCE).read_bytes().replace(_PLACE, settings)
        self.gzipped = gzip.compress(self.body, compresslevel=9, mtime=0)
        self.integrity = "sha384-" + b64encode(sha384(self.body).digest()).decode()
        name = sha256(self.body).hexdigest()[:_HASH_LENGTH]
        stem, extension = splitext(edge.snippet_path)
        self.path = edge.snippet_path
        self.pinned_path = f"{stem}.{name}{extension}"
        self._etag = f'"{name}"'.encode()
        self._addresses = re.compile(
            rf"{re.escape(stem)}(?:\.[0-9a-f]{{{_HASH_LENGTH}}})?{re.escape(extension)}", re.ASCII
        )

    def owns(self, path: str) -> bool:
        """Whether a path is one of the script's addresses, today's or an older one."""
        return self._addresses.fullmatch(path) is not None

    def answer(self, path: str, headers: Sequence[tuple[bytes, bytes]]) -> Answer:
        """Status, headers and body for a GET of one of its addresses; header names in lower case."""
        asked = dict(headers)
        given = [
            (b"etag", self._etag),
            (b"cache-control", _YEAR if path == self.pinned_path else _HOUR),
            (b"vary", b"Accept-Encoding"),
            (b"access-control-allow-origin", b"*"),  # integrity attributes need it
            (b"cross-origin-resource-policy", b"cross-origin"),
            (b"timing-allow-origin", b"*"),
            (b"x-content-type-options", b"nosniff"),
        ]
        if self._etag in asked.get(b"if-none-match", b""):
            return 304, given, b""
        body = self.body
        if b"gzip" in asked.get(b"accept-encoding", b""):
            body = self.gzipped
            given.append((b"content-encoding", b"gzip"))
        given.append((b"content-type", b"text/javascript; charset=utf-8"))
        given.append((b"content-length", str(len(body)).encode()))
        return 200, given, body


def _settings(edge: EdgeConfig, privacy: PrivacyConfig, stores: Sequence[StoreConfig]) -> dict[str, object]:
    """What the script must know before its first request; only stores that differ from the default are named in it."""
    default = [privacy.default_consent, "server-only"]
    own = {store.id: [store.default_consent or privacy.default_consent, store.pixel_mode] for store in stores}
    folder = dirname(edge.snippet_path)
    return {
        "b": relpath(edge.beacon_path, folder),
        "g": relpath(edge.pixel_path, folder),
        "o": privacy.gpc,
        "d": default,
        "s": {store: what for store, what in own.items() if what != default},
    }
