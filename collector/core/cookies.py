"""Which cookies does a visit set, and how are they written: the visitor id, `_fbc` and `_fbp`.

The rules, from Meta's fbp-and-fbc page and from what browsers do:

- `fb.{index}.{milliseconds}.{fbclid or digits}`, index = dots in the cookie's domain (example.com 1, shop.co.uk 2).
  The case of an fbclid is kept. A fifth segment is Meta's parameter builder's mark, and is kept byte for byte.
- `_fbc` is written when there is none or when a newer click's fbclid differs, with that click's time; never renewed.
- `_fbp` is made when there is none and written again as it is: a server's cookie outlives Safari's 7 days for scripts.
- The visitor id is random, HttpOnly, and renewed by each visit.
- Nothing goes back into a header that does not fit its pattern: cookies are what a caller sent.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64encode
from functools import lru_cache
from ipaddress import ip_address
from typing import Final, NamedTuple

from publicsuffixlist import PublicSuffixList

from collector.core.addresses import normalise
from collector.core.clickid import build_fbc, is_fbc, is_fbp, parse_fbc
from collector.core.times import AHEAD_MS

FBC: Final = "_fbc"
FBP: Final = "_fbp"
DAY_SECONDS: Final = 86_400
# Browsers keep no cookie longer (RFC 6265bis 5.5); Meta's own last 90 days.
MAX_DAYS: Final = 400

_VISITOR: Final = re.compile(r"[A-Za-z0-9_-]{22}")
_HOST: Final = re.compile(r"[a-z0-9_](?:[a-z0-9_.-]{0,251}[a-z0-9_])?")


class Jar(NamedTuple):
    """The three values of a visitor, each checked or None."""

    visitor: str | None = None
    fbc: str | None = None
    fbp: str | None = None


EMPTY: Final = Jar()


class Fresh(NamedTuple):
    """Randomness for one visit, drawn by the caller: 16 bytes for a visitor id, and a number for `_fbp`."""

    visitor: bytes
    browser: int


class Site(NamedTuple):
    """Where cookies are set. `domain` None: for this host only (an address, localhost, a public suffix)."""

    domain: str | None
    subdomain_index: int


class Policy(NamedTuple):
    """How cookies are written: names, life and place."""

    visitor_cookie: str
    days: int
    site: Site
    secure: bool


class Visit(NamedTuple):
    """The visitor's values after this visit, and those of them to be written."""

    jar: Jar
    write: Jar


def read(header: str, visitor_cookie: str, now: int) -> Jar:
    """The three values of a Cookie header; what does not fit its pattern is absent, and hides no other of its name.

    Of two that fit the newer counts: by the time inside, for a visitor id by its place (browsers send the older first).
    A click of tomorrow is none: a device whose clock was ahead has stamped it, and every later click would be older.
    """
    visitor = fbc = fbp = None
    for pair in header.split(";"):
        name, _, value = pair.strip().partition("=")
        if name == visitor_cookie:
            visitor = _fitting(value) or visitor
        elif name == FBC:
            fbc = _newer(fbc, _not_ahead(fbc_or_none(_bare(value)), now))
        elif name == FBP:
            fbp = _newer(fbp, fbp_or_none(_bare(value)))
    return Jar(visitor, fbc, fbp)


def _bare(value: str) -> str:
    return value.strip(' "')


def _newer(one: str | None, other: str | None) -> str | None:
    if one is None or other is None:
        return one or other
    return max(one, other, key=_created)


def _not_ahead(value: str | None, now: int) -> str | None:
    return None if value and _created(value) > now + AHEAD_MS else value


def _created(value: str) -> int:
    return int(value.split(".")[2].ljust(13, "0"))


def fbc_or_none(value: str | None) -> str | None:
    """An fbc value as it came when it has Meta's form, else None."""
    return value if value and is_fbc(value) else None


def fbp_or_none(value: str | None) -> str | None:
    """An fbp value as it came when it has Meta's form, else None."""
    return value if value and is_fbp(value) else None


def _fitting(value: str) -> str | None:
    bare = _bare(value)
    return bare if _VISITOR.fullmatch(bare) else None


def visit(
    jar: Jar,
    *,
    fbclid: str | None,
    clicked: int,
    now: int,
    subdomain_index: int,
    fresh: Fresh,
    known: Jar = EMPTY,
) -> Visit:
    """What a consenting visitor's cookies become; times in milliseconds.

    `clicked` is the time of the click that brought `fbclid`; `known` is what we remember of this visitor id, for when
    Safari or a cleaner dropped the others.
    """
    visitor = jar.visitor or new_visitor(fresh.visitor)
    fbp = jar.fbp or known.fbp or f"fb.{subdomain_index}.{now}.{fresh.browser}"
    held = jar.fbc or known.fbc
    fbc = next_fbc(held, fbclid, clicked, subdomain_index)
    return Visit(Jar(visitor, fbc, fbp), Jar(visitor, fbc if fbc != jar.fbc else None, fbp))


def new_visitor(entropy: bytes) -> str:
    """A visitor id of 22 characters from 16 random bytes."""
    return urlsafe_b64encode(entropy[:16]).rstrip(b"=").decode()


def next_fbc(held: str | None, fbclid: str | None, clicked: int, subdomain_index: int) -> str | None:
    """The `_fbc` in force: the one held, or a new one for a click that is newer and another.

    `fbclid` has passed clickid.fault.
    """
    if fbclid is None:
        return held
    before = parse_fbc(held) if held else None
    if before and (before.fbclid == fbclid or before.created > clicked):
        return held
    return build_fbc(fbclid, clicked, subdomain_index)


def site(host: str, configured: str = "") -> Site:
    """Where to set cookies for a Host header: the domain configured when it fits, else the registrable one."""
    name = host_name(host)
    if name is None:
        return Site(None, 0)
    if configured and (name == configured or name.endswith("." + configured)):
        return Site(configured, _dots(configured))
    registrable = registrable_domain(name)
    return Site(registrable, _dots(registrable)) if registrable else Site(None, _dots(name))


def _dots(domain: str) -> int:
    """Meta's subdomain index; its readers know 0, 1 and 2."""
    return min(domain.count("."), 2)


def host_name(host: str) -> str | None:
    """The name in a Host header, lower case, without its port; None for an address or nonsense."""
    name = host.lower().rsplit(":", 1)[0] if not host.endswith("]") else host
    name = name.rstrip(".")
    return name if _HOST.fullmatch(name) and not _is_address(name) else None


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


@lru_cache(maxsize=4096)
def registrable_domain(name: str) -> str | None:
    """The domain that somebody registered: one label more than a public suffix; None for localhost or a suffix."""
    found: str | None = _suffixes().privatesuffix(name)
    return found


@lru_cache(maxsize=1)
def _suffixes() -> PublicSuffixList:
    """The public suffix list that the library carries, private section included: 30 ms, once."""
    return PublicSuffixList()


def same_site(one: str, other: str) -> bool:
    """Say whether two hosts share a registrable domain, so that a cookie set by one is sent to the other."""
    return site_name(one) == site_name(other)


def site_name(host: str) -> str:
    """The registrable domain of a host, by which sites are told apart; an address or a lone name stands for itself."""
    name = host_name(host)
    return _bare_address(host) if name is None else registrable_domain(name) or name


def _bare_address(host: str) -> str:
    """An address without brackets and port: a Host has them, a page's host name has not."""
    return normalise(host) or host


def can_be_shared(host: str) -> bool:
    """Whether a cookie of this host could be for a whole domain: no address, no lone name, no public suffix."""
    name = host_name(host)
    return name is not None and registrable_domain(name) is not None


def set_cookies(write: Jar, policy: Policy) -> list[str]:
    """Set-Cookie values for what a visit writes."""
    named = ((policy.visitor_cookie, write.visitor), (FBC, write.fbc), (FBP, write.fbp))
    age = min(policy.days, MAX_DAYS) * DAY_SECONDS
    return [_set_cookie(name, value, age, policy) for name, value in named if value is not None]


def clear_cookies(header: str, policy: Policy, kept: Jar = EMPTY) -> list[str]:
    """Set-Cookie values that remove what a visitor who denies consent, or was erased, still sends us.

    `kept`: what is written anew and so need not be removed.
    """
    sent = {pair.strip().partition("=")[0] for pair in header.split(";")}
    named = ((policy.visitor_cookie, kept.visitor), (FBC, kept.fbc), (FBP, kept.fbp))
    return [_set_cookie(name, "", 0, policy) for name, new in named if name in sent and new is None]


def _set_cookie(name: str, value: str, age: int, policy: Policy) -> str:
    domain = f"; Domain={policy.site.domain}" if policy.site.domain else ""
    secure = "; Secure" if policy.secure else ""
    hidden = "; HttpOnly" if name == policy.visitor_cookie else ""  # Meta's pixel reads the other two
    return f"{name}={value}; Path=/; Max-Age={age}{domain}; SameSite=Lax{secure}{hidden}"
