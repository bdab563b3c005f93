"""Whose address is this: one spelling for every network address, and the caller behind trusted proxies.

Addresses arrive spelled in many ways (`1.2.3.4:5678`, `[2001:db8::1]:443`, `fe80::1%eth0`, `::ffff:1.2.3.4`).
Everything that compares, stores or limits them sees the one form that `normalise` gives.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network, collapse_addresses, ip_network
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from typing import Final

# The longest sensible spelling: quotes, brackets, 45 characters of address, a zone of 15 (IFNAMSIZ), a port.
LONGEST: Final = 80
# X-Forwarded-For is walked no further than this: whatever stands left of it was written by a stranger.
MAX_HOPS: Final = 10
# Addresses repeat (a page sends several events): parsing costs 2 µs, a hit 0.1 µs. Each cache is below 1 MB.
CACHED: Final = 4_096
# Addresses of nobody on the internet. IPv4: IANA's special-purpose registry and multicast. IPv6: of what is given out
# at all (2000::/3), relays and translators (RFC 7526, 6052, 3056), documentation (RFC 9637), services (AS 112, AMT).
_SPECIAL_4: Final = (
    "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
    "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24",
    "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
)  # fmt: skip
_SPECIAL_6: Final = ("2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20")
_SPECIAL_STARTS: Final = frozenset(network[:4] for network in _SPECIAL_6)
_UNICAST_6: Final = 0b001  # the first three bits of 2000::/3
_MAPPED: Final = bytes(10) + b"\xff\xff"  # ::ffff:0:0/96
# Meta's parameter builder marks what it made, addresses too: 203.0.113.9.AQQAAQMC.
_BUILDERS_SUFFIX: Final = re.compile(r"\.(?:A[Qgw]|B[AQg]|[A-Za-z0-9_-]{8})\Z")
# Of a list, however it was joined and whatever unseen was copied along.
_BETWEEN: Final = re.compile(r"[,;\s\u200b\ufeff]+(?:for=)?")


def normalise(text: str) -> str | None:
    """The canonical text of an IPv4 or IPv6 address, or None when `text` is not one.

    Port, brackets, quotes and zone are taken off; an IPv4-mapped IPv6 address becomes the IPv4 address.
    """
    if ":" not in text:
        try:
            inet_pton(AF_INET, text)  # strict dotted decimal is its own canonical text; a tenth of a full parse's time
            return text
        except (OSError, ValueError):  # ValueError: a NUL or a surrogate
            pass
    return _normalise(text) if len(text) <= LONGEST else None


@lru_cache(maxsize=CACHED)
def _normalise(text: str) -> str | None:
    return _parse(_host_of(text.strip().strip('"')))


def _host_of(text: str) -> str:
    """Take brackets and port off; text that is no `host:port` stays as it is and fails to parse."""
    if text.startswith("["):
        host, closed, rest = text[1:].partition("]")
        return host if closed and (not rest or (rest[0] == ":" and _is_port(rest[1:]))) else ""
    if text.count(":") == 1:
        host, _, port = text.partition(":")
        return host if "." in host and _is_port(port) else ""
    return text


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= 65535


def _parse(host: str) -> str | None:
    try:
        packed = inet_pton(AF_INET6, host.partition("%")[0]) if ":" in host else inet_pton(AF_INET, host)
    except (OSError, ValueError):
        return None
    if len(packed) == 4 or packed.startswith(_MAPPED):
        return inet_ntop(AF_INET, packed[-4:])
    text = inet_ntop(AF_INET6, packed)
    # C libraries write ::/96 as ::1.2.3.4, which is no text of RFC 5952; stored names are of ::102:304.
    return str(IPv6Address(packed)) if "." in text else text


def _packed(address: str) -> bytes:
    return inet_pton(AF_INET6 if ":" in address else AF_INET, address)


def is_list(text: str) -> bool:
    """Whether a text holds more than one address may: what is read of it is not all that was given."""
    return _BETWEEN.search(text.strip()) is not None


def first_public(text: str) -> str | None:
    """The first public address of a pasted X-Forwarded-For; Meta's builder may have put its suffix behind it."""
    for hop in _BETWEEN.split(text, MAX_HOPS)[:MAX_HOPS]:
        address = normalise(hop) or normalise(_BUILDERS_SUFFIX.sub("", hop))
        if address is not None and is_public(address):
            return address
    return None


def match_prefix(address: str) -> str:
    """What counts as the same place: an IPv4 address itself, the /64 of an IPv6 one (a household's or a phone's).

    `address` is normalised. Devices change the lower 64 bits every day (RFC 8981), so these tell nothing.
    """
    return address if ":" not in address else _prefix_64(address)


@lru_cache(maxsize=CACHED)
def _prefix_64(address: str) -> str:
    return f"{inet_ntop(AF_INET6, _packed(address)[:8] + bytes(8))}/64"


@lru_cache(maxsize=CACHED)
def truncate(address: str) -> str:
    """The address without its last part, as `store_ip = "truncated"` keeps it: /24 of IPv4, /48 of IPv6."""
    packed = _packed(address)
    if len(packed) == 4:
        return inet_ntop(AF_INET, packed[:3] + bytes(1))
    return inet_ntop(AF_INET6, packed[:6] + bytes(10))


def is_public(address: str) -> bool:
    """Whether this normalised address can be a visitor's on the internet.

    Private, shared (100.64.0.0/10), documentation, benchmark, class E and multicast addresses are not (IANA's
    special-purpose registries), nor those that a translator or a relay puts in another's place (NAT64, 6to4, Teredo).
    """
    start = address.partition(":")[0]
    if len(start) == 4 and start[0] in "23" and start not in _SPECIAL_STARTS:  # nearly everybody's IPv6 address
        return True
    return _is_public(address)


@lru_cache(maxsize=CACHED)
def _is_public(address: str) -> bool:
    packed = _packed(address)
    if len(packed) == 4:
        return not _PRIVATE.holds(packed)
    return packed[0] >> 5 == _UNICAST_6 and not _PRIVATE.holds(packed)


class _Ranges:
    """Networks as ranges of numbers, by the length of their addresses in bytes."""

    __slots__ = ("_firsts", "_lasts")

    def __init__(self, networks: Iterable[IPv4Network | IPv6Network]) -> None:
        given = tuple(networks)
        four = [*collapse_addresses(one for one in given if isinstance(one, IPv4Network))]
        six = [*collapse_addresses(one for one in given if isinstance(one, IPv6Network))]
        self._firsts = {size: [int(one.network_address) for one in some] for size, some in ((4, four), (16, six))}
        self._lasts = {size: [int(one.broadcast_address) for one in some] for size, some in ((4, four), (16, six))}

    def holds(self, packed: bytes) -> bool:
        number = int.from_bytes(packed, "big")
        before = bisect_right(self._firsts[len(packed)], number)
        return before > 0 and number <= self._lasts[len(packed)][before - 1]


_PRIVATE: Final = _Ranges(map(ip_network, (*_SPECIAL_4, *_SPECIAL_6)))


class Networks:
    """A set of networks that answers `address in networks` for normalised addresses, remembering the answers."""

    __slots__ = ("_contains", "_ranges", "networks")

    def __init__(self, networks: Iterable[IPv4Network | IPv6Network] = ()) -> None:
        self.networks = tuple(networks)
        self._ranges = _Ranges(self.networks)
        self._contains = lru_cache(maxsize=4096)(self._look)

    def __contains__(self, address: str) -> bool:
        return self._contains(address) if self.networks else False

    def __bool__(self) -> bool:
        return bool(self.networks)

    def _look(self, address: str) -> bool:
        return self._ranges.holds(_packed(address))


def parse_networks(texts: Iterable[str]) -> Networks:
    """Read `trusted_proxies` and the like: networks and single addresses; ValueError names the bad one.

    Host bits are refused (`10.0.0.1/8`): whoever writes that has something else in mind than what it would mean.
    """
    return Networks(_read_network(text) for text in texts)


def _read_network(text: str) -> IPv4Network | IPv6Network:
    try:
        network = ip_network(text.strip())
    except ValueError as error:
        raise ValueError(f"{text!r} is no network: {error}; write it like 10.0.0.0/8 or 192.0.2.7") from None
    if isinstance(network, IPv6Network) and network.prefixlen >= 96 and network.network_address.ipv4_mapped is not None:
        # Peers are compared in their IPv4 form, so a mapped network must be as well.
        return IPv4Network((network.network_address.ipv4_mapped, network.prefixlen - 96))
    return network


def client_address(
    peer: str,
    forwarded_for: Sequence[str],
    trusted: Networks,
    real_ip: str | None = None,
) -> str:
    """The caller's normalised address: the peer, or what trusted proxies say about it.

    `forwarded_for` are all X-Forwarded-For lines in order. Only a trusted peer is believed: the lines are joined and
    walked from the right, trusted hops are skipped, the first untrusted one is the caller. Anything that does not
    parse, more than ten hops, or nothing but trusted hops leave the peer: what a stranger can write is never taken.
    `real_ip` (X-Real-IP) counts only where a trusted peer sends no X-Forwarded-For at all. CF-Connecting-IP is never
    read: the proxy that hears Cloudflare knows from whom it came, and tells the visitor's address in these (recipes).
    A `peer` that is no address (a Unix socket) is given back as it came.
    """
    own = normalise(peer)
    if own is None or own not in trusted:
        return own or peer
    if forwarded_for:
        return _first_untrusted(",".join(forwarded_for), trusted) or own
    return (normalise(real_ip) if real_ip else None) or own


def forwarded_address(peer: str, headers: Iterable[tuple[bytes, bytes]], trusted: Networks) -> str:
    """The caller's address by a request's own headers (names in lower case)."""
    lines, real = list[str](), None
    for name, value in headers:
        if name == b"x-forwarded-for":
            lines.append(value.decode("latin-1"))
        elif name == b"x-real-ip" and real is None:
            real = value.decode("latin-1")
    return client_address(peer, lines, trusted, real)


def _first_untrusted(chain: str, trusted: Networks) -> str | None:
    for hop in reversed(chain.rsplit(",", MAX_HOPS)[-MAX_HOPS:]):
        address = normalise(hop)
        if address is None or address not in trusted:
            return address
    return None
