"""Is this a person? The reason why a hit is not, or None.

A hit that is no person is stored and shown with its reason, and kept out of matching, of the frequencies it learns
from, and of Meta. The evidence, the strongest first: a prefetch says so in its headers; an automated browser in its
script; a page always has a user agent; crawlers and headless browsers are named in the community's list.

The list has 1,504 patterns, of which 1,481 are plain text. One regular expression of them all takes 1.9 ms for one user
agent, so plain patterns are found by a four-character piece that ordinary browsers do not have, and only the
rest is searched by expression: about 30 µs for a new user agent, 0.1 µs for one seen before.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from typing import Final, Literal, NamedTuple

Reason = Literal["prefetch", "headless", "crawler", "http_client", "automated", "no_user_agent"]
Headers = Iterable[tuple[bytes, bytes]]

# Real crawlers name themselves early; what follows is not worth a hostile caller's 8 KB.
SCANNED: Final = 512
_PIECE: Final = 4

# What browsers and Meta's apps say when they fetch what nobody has opened yet. X-FB-HTTP-Engine is the network stack
# of Meta's apps themselves; the web view in which a person reads a page has the system's own.
_PREFETCH_HEADERS: Final[dict[bytes, tuple[bytes, ...]]] = {
    b"x-purpose": (b"preview", b"prefetch", b"prerender"),
    b"purpose": (b"preview", b"prefetch", b"prerender"),
    b"sec-purpose": (b"prefetch", b"prerender"),
    b"x-moz": (b"prefetch", b"prerender"),
    b"x-fb-http-engine": (b"liger",),
}
# In the list as link previewers, but people's own: MetaIAB is Meta's in-app browser, in which people land from ads.
_PEOPLE: Final = frozenset({"MetaIAB Facebook"})
# Previewers whose bare name also stands in the user agents of their apps' browsers; the previewer begins with it.
_ONLY_AT_START: Final = frozenset({"WhatsApp", "Viber"})


class _List(NamedTuple):
    """The community's list, made ready: plain patterns by their rarest piece, and one expression for the others."""

    by_piece: dict[str, tuple[tuple[str, Reason], ...]]
    others: re.Pattern[str]


def reason(
    user_agent: str | None, headers: Headers = (), *, automated: bool = False, page: bool = True
) -> Reason | None:
    """Why a hit is not a person's, or None.

    `headers` are the request's own, names in lower case; `automated` is the page's `navigator.webdriver`; `page` is
    False when a server calls for a visitor, whose user agent it may not know.
    """
    if is_prefetch(headers):
        return "prefetch"
    if automated:
        return "automated"
    if not user_agent or not user_agent.strip():
        return "no_user_agent" if page else None
    return of_user_agent(user_agent)


def is_prefetch(headers: Headers) -> bool:
    """Say whether the request's own headers call it a prefetch, preview or prerender."""
    for name, value in headers:
        signs = _PREFETCH_HEADERS.get(name)
        if signs is not None and value.strip().lower().startswith(signs):
            return True
    return False


def of_user_agent(user_agent: str) -> Reason | None:
    """Why a user agent is not a person's, or None."""
    return _of_text(user_agent[:SCANNED])


@lru_cache(maxsize=8192)  # of at most 512 characters each: 4 MB
def _of_text(user_agent: str) -> Reason | None:
    known = _known()
    for start in range(len(user_agent) - _PIECE + 1):
        for text, kind in known.by_piece.get(user_agent[start : start + _PIECE], ()):
            if _says(user_agent, text):
                return kind
    return "crawler" if known.others.search(user_agent) else None


def _says(user_agent: str, text: str) -> bool:
    """Find one plain pattern in a user agent; a leading ^ ties it to the start."""
    return user_agent.startswith(text[1:]) if text[0] == "^" else text in user_agent


def _kind(tags: list[str]) -> Reason:
    if "browser-automation" in tags:
        return "headless"
    return "http_client" if "http-library" in tags else "crawler"


def _plain(pattern: str) -> str | None:
    """The text that a pattern stands for, a leading ^ kept; None when it is more than text."""
    if re.search(r"(?<!\\)[\[\](){}|?*+.$]|\\[a-zA-Z]", pattern):
        return None
    text = re.sub(r"\\(.)", r"\1", pattern)
    return "^" + text if text in _ONLY_AT_START else text


def _pieces(text: str) -> list[str]:
    bare = text.removeprefix("^")
    return [bare[i : i + _PIECE] for i in range(len(bare) - _PIECE + 1)]


@lru_cache(maxsize=1)
def _known() -> _List:
    """Make the list ready, once: 20 ms."""
    import crawleruseragents  # type: ignore[import-untyped]  # ships no types

    del sys.modules["crawleruseragents"]  # 1.5 MB of links and examples that nobody asks for
    entries = [e for e in crawleruseragents.CRAWLER_USER_AGENTS_DATA if e["pattern"] not in _PEOPLE]
    texts = [(text, _kind(e.get("tags", []))) for e in entries if (text := _plain(e["pattern"])) and _pieces(text)]
    others = [e["pattern"] for e in entries if not ((text := _plain(e["pattern"])) and _pieces(text))]
    shared = Counter(piece for text, _ in texts for piece in _pieces(text)) + _ordinary()
    by_piece: dict[str, list[tuple[str, Reason]]] = {}
    for text, kind in texts:
        by_piece.setdefault(min(_pieces(text), key=lambda piece: (shared[piece], piece)), []).append((text, kind))
    return _List({piece: tuple(found) for piece, found in by_piece.items()}, re.compile("|".join(others)))


def _ordinary() -> Counter[str]:
    """Pieces of people's user agents, weighed so that no pattern is looked for by them."""
    return Counter({piece: 1000 for agent in _PEOPLES_AGENTS for piece in _pieces(agent)})


_PEOPLES_AGENTS: Final = """
Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36 Edg/120
Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 Version/17.5 Mobile/15E148 Safari/604.1
[FBAN/FBIOS;FBAV/470.0;FBBV/61;FBDV/iPhone14,5;FBMD/iPhone;FBSN/iOS;FBSV/17.5;FBSS/3;FBID/phone;FBLC/en_US;FBOP/5]
Mozilla/5.0 (Linux; Android 14; SM-S921B Build/UP1A; wv) Version/4.0 Chrome/120 Mobile [FB_IAB/FB4A;FBAV/4;]
Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7; rv:121.0) Gecko/20100101 Firefox/121.0 Instagram 300 Android
""".strip().splitlines()
