"""The script that a shop's page loads: made ready once, settings in it, under a stable and an immutable address.

The stable address (`/c.js`) is what goes into a page; browsers ask for it again after an hour and mostly hear 304. The
other (`/c.1f3a9c5b7d.js`) names its content, may be kept for a year, and can be pinned by an integrity attribute; of an
older content it still answers with today's, but then as a stable address does. With `?store=ID` the script carries its
store in itself, so that it works wherever an optimiser copies it to, without the attributes of its element.
"""

from __future__ import annotations

import gzip
import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from hashlib import sha256, sha384
from importlib.resources import files
from posixpath import basename, dirname, relpath, splitext
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qs, urlencode

import litestar
import msgspec
from litestar import Response, route
from litestar.exceptions import NotFoundException
from litestar.handlers import HTTPRouteHandler
from litestar.types import Method

from collector.config import EdgeConfig, PrivacyConfig, StoreConfig
from collector.edge.door import Door, Request
from collector.exchange.responses import Answer

SOURCE: Final = "collector.min.js"
PIXEL: Final = "collector.pixel.min.js"  # the part that stores with "pixel+server" load as well
_PIXEL_QUERY: Final = b"m"
_PLACE, _PIXEL_PLACE = b"__SETTINGS__", b"__PIXEL__"
_HASH_LENGTH: Final = 10
_METHODS: Final[Sequence[Method]] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]
_HOUR: Final = b"public, max-age=3600, stale-while-revalidate=86400"
_YEAR: Final = b"public, max-age=31536000, immutable"


class Text(NamedTuple):
    """The script with settings in it."""

    body: bytes
    gzipped: bytes
    etag: bytes
    query: bytes


def _text(source: bytes, settings: Mapping[str, object], query: str = "") -> Text:
    body = source.replace(_PLACE, msgspec.json.encode(settings).replace(b"</", b"<\\/"))
    return Text(body, gzip.compress(body, compresslevel=9, mtime=0), f'"{_name(body)}"'.encode(), query.encode())


def _name(body: bytes) -> str:
    return sha256(body).hexdigest()[:_HASH_LENGTH]


class Snippet:
    """The script as this configuration makes it. `path` is the stable address, `pinned_path` the immutable one."""

    def __init__(self, edge: EdgeConfig, privacy: PrivacyConfig, stores: Sequence[StoreConfig]) -> None:
        source, pixel = (files(__package__).joinpath("assets", name).read_bytes() for name in (SOURCE, PIXEL))
        source = source.replace(
            _PIXEL_PLACE, msgspec.json.encode(f"{basename(edge.snippet_path)}?{_PIXEL_QUERY.decode()}")
        )
        settings = _settings(edge, privacy, stores)
        self._text = _text(source, settings)
        self.body, self.gzipped = self._text.body, self._text.gzipped
        self._of_store = {
            store.id: _text(source, {**settings, "t": store.id}, "?" + urlencode({"store": store.id}))
            for store in stores
        }
        self._pixel = _text(pixel, {}, "?" + _PIXEL_QUERY.decode())
        self.integrity = "sha384-" + b64encode(sha384(self.body).digest()).decode()
        name = _name(self.body)
        stem, extension = splitext(edge.snippet_path)
        self.path = edge.snippet_path
        self.pinned_path = f"{stem}.{name}{extension}"
        self._relative = basename(self.pinned_path).encode()  # relative: a proxy may have put a path before it
        self._addresses = re.compile(
            rf"{re.escape(stem)}(?:\.[0-9a-f]{{{_HASH_LENGTH}}})?{re.escape(extension)}", re.ASCII
        )

    def owns(self, path: str) -> bool:
        """Whether a path is one of the script's addresses, today's or an older one."""
        return self._addresses.fullmatch(path) is not None

    def _asked_for(self, query: bytes) -> Text:
        """The part for the pixel; the script with the store that the address names; else the one for every store."""
        if query == _PIXEL_QUERY:
            return self._pixel
        named = parse_qs(query.decode("latin-1")).get("store") if query else None
        return self._of_store.get(named[0], self._text) if named else self._text

    def answer(self, path: str, asked: Mapping[bytes, bytes], query: bytes = b"") -> Answer:
        """The answer to a GET of one of its addresses; header names in lower case."""
        text = self._asked_for(query)
        given = [
            (b"etag", text.etag),
            (b"cache-control", _YEAR if path == self.pinned_path else _HOUR),
            (b"content-location", self._relative + text.query),
            (b"vary", b"Accept-Encoding, Origin"),
            (b"cross-origin-resource-policy", b"cross-origin"),
            (b"timing-allow-origin", b"*"),
            (b"x-content-type-options", b"nosniff"),
        ]
        if text.etag in asked.get(b"if-none-match", b""):
            return Answer(304, b"", given)
        body = text.body
        if takes_gzip(asked.get(b"accept-encoding", b"")):
            body = text.gzipped
            given.append((b"content-encoding", b"gzip"))
        given.append((b"content-type", b"text/javascript; charset=utf-8"))
        return Answer(200, body, given)


class Script:
    """The script's routes. Beside its two addresses, those of older contents: pages in caches still name them."""

    def __init__(self, snippet: Snippet, door: Door) -> None:
        self._snippet = snippet
        self.path, self.pinned_path = snippet.path, snippet.pinned_path
        self._counts = door.tally.of("script")
        self.serve = door.endpoint("GET", "script", self._answer)

    async def _answer(self, request: Request) -> Answer:
        return self._snippet.answer(request.scope["path"], request.headers, request.scope["query_string"])

    def older(self) -> HTTPRouteHandler:
        """A route over the script's neighbours: an older script's address gets today's, the others 404."""

        async def handler(request: litestar.Request[Any, Any, Any], asset: str) -> Response[bytes]:
            if request.method not in ("GET", "HEAD") or not self._snippet.owns(request.scope["path"]):
                raise NotFoundException
            scope = request.scope
            answer = self._snippet.answer(scope["path"], dict(scope["headers"]), scope["query_string"])
            self._counts[answer.status] += 1
            headers = {name.decode(): value.decode() for name, value in answer.headers}
            return Response(answer.body, status_code=answer.status, headers=headers)

        return route(f"{dirname(self.path).rstrip('/')}/{{asset:str}}", http_method=_METHODS)(handler)


def takes_gzip(accepted: bytes) -> bool:
    """Whether an Accept-Encoding takes gzip (RFC 9110 12.5.3): named with a weight above 0, or not named beside `*`."""
    weights: dict[bytes, float] = {}
    for item in accepted.lower().split(b","):
        coding, *parameters = (part.strip() for part in item.split(b";"))
        weights[coding.removeprefix(b"x-")] = next(map(_weight, (p for p in parameters if p[:2] == b"q=")), 1.0)
    return weights.get(b"gzip", weights.get(b"*", 0.0)) > 0


def _weight(parameter: bytes) -> float:
    try:
        return float(parameter[2:])
    except ValueError:
        return 0.0  # the script as it is suits everybody


def _settings(edge: EdgeConfig, privacy: PrivacyConfig, stores: Sequence[StoreConfig]) -> dict[str, object]:
    """What the script must know before its first request; only stores that differ from the default are named in it."""
    default = [privacy.default_consent, "server-only"]
    own = {store.id: [store.default_consent or privacy.default_consent, store.pixel_mode] for store in stores}
    folder = dirname(edge.snippet_path)
    known = {"u": edge.public_url.rstrip("/") + edge.snippet_path} if edge.public_url else {}
    return {
        "b": relpath(edge.beacon_path, folder),
        "g": relpath(edge.pixel_path, folder),
        "o": privacy.gpc,
        "d": default,
        "s": {store: what for store, what in own.items() if what != default},
        **known,
    }
