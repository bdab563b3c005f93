"""Which connections may come in: the guard's figures, and the count of who is connected."""

from __future__ import annotations

import resource
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol, TypeAlias

import msgspec

from collector.core.addresses import Networks, forwarded_address, match_prefix, normalise
from collector.errors import ConfigError
from collector.guard.bodies import Bodies, BodyLimits, Scope, trim_soon
from collector.guard.refusals import OVERLOADED, TOO_MANY_FROM_ADDRESS, Refusal

Counts: TypeAlias = defaultdict[int, int]  # HTTP status -> answers
# Of the open files that a process may have: connections beyond the limit that are told so at one time (more are dropped
# without a word), and what the database, the logs and Python itself hold. Of fewer files, a quarter each.
MOST_TOLD: Final = 1024
SPARE_FILES: Final = 256
LEAST_SPARE_FILES: Final = 40
ENOUGH_FILES: Final = SPARE_FILES + MOST_TOLD
LEAST_FILES: Final = 64
# From a peak of so many connections on, memory is given back once it is over: what is refused is no body that counts,
# and 1,024 that came at one moment left 94 MB.
BURST_CONNECTIONS: Final = 64


class GuardLimits(msgspec.Struct, frozen=True, kw_only=True):
    """The guard's figures."""

    header_seconds: float = 5.0
    body_seconds: float = 10.0
    idle_seconds: float = 60.0  # between two requests; longer than nginx and Caddy keep theirs unused
    write_seconds: float = 10.0  # without any byte taken by a client that is owed some
    linger_seconds: float = 2.0
    farewell_seconds: float = 1.0  # for a body that is still coming when the server ends
    header_bytes: int = 32_768
    headers: int = 100
    target_bytes: int = 8_192
    connections: int = 16_000
    connections_per_address: int = 256  # never for trusted proxies
    told: int = MOST_TOLD  # refused connections that may stay for their answer
    bodies: BodyLimits = BodyLimits()
    aside: bytes = b""  # how the paths begin whose bodies are counted by themselves; empty: none
    aside_bodies: BodyLimits = BodyLimits(
        in_all=32 * 1024 * 1024,
        of_strangers=32 * 1024 * 1024,
        of_address=16 * 1024 * 1024,
        of_vouched_address=16 * 1024 * 1024,
    )


class Share(NamedTuple):
    """What a process makes of its limit of open files: connections, and refused ones that are told why."""

    files: int
    connections: int
    told: int


def share_of_files(wanted: int) -> Share:
    """Raise this process's limit of open files as far as it goes; of `wanted` connections those that it allows.

    Without room the kernel would keep clients in its queue, unanswered, where the guard cannot see them. ConfigError
    where so few files may be open that nothing could be served.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + ENOUGH_FILES
    if soft == resource.RLIM_INFINITY:
        return Share(needed, wanted, MOST_TOLD)
    reachable = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    if soft < reachable:
        resource.setrlimit(resource.RLIMIT_NOFILE, (reachable, hard))
    return _shared_out(max(soft, reachable), wanted)


def _shared_out(files: int, wanted: int) -> Share:
    if files <= LEAST_FILES:
        raise ConfigError(
            [
                f"this process may open {files} files, and serving takes more than {LEAST_FILES}; "
                "raise the limit (ulimit -n 65536, or LimitNOFILE=65536 in its systemd unit)"
            ]
        )
    told = min(MOST_TOLD, files // 4)
    spare = min(SPARE_FILES, max(LEAST_SPARE_FILES, files // 4))
    return Share(files, min(wanted, files - told - spare), told)


class Guest(Protocol):
    """What the gate needs to know of a connection."""

    address: str | None
    counted: bool

    @property
    def waiting(self) -> bool:
        """Whether nothing is owed on it, so that it may be given up."""

    def drop(self) -> None:
        """End it at once."""


class Gate:
    """Counts the connections of one process, and finds the one to give up when there are too many."""

    def __init__(
        self,
        limits: GuardLimits,
        trusted: Networks,
        refusals: Counts | None = None,
        give_back: Callable[[], object] = trim_soon,
    ) -> None:
        self.limits = limits
        self.trusted = trusted
        self.total = self.peak = 0
        self._give_back = give_back
        self.told = 0
        self.bodies = Bodies(limits.bodies)
        self.aside_bodies = Bodies(limits.aside_bodies)
        self.refusals = Counts(int) if refusals is None else refusals  # by HTTP status, for the metrics
        # In order of arrival: those that have not yet completed a first request, and all of each address.
        self.unproven: OrderedDict[Guest, None] = OrderedDict()
        self.by_address: dict[str, OrderedDict[Guest, None]] = {}

    @property
    def crowded(self) -> bool:
        """From three quarters of the connections on, idle ones are kept no longer than fresh ones."""
        return self.total * 4 > self.limits.connections * 3

    def admit(self, connection: Guest, peer: str | None) -> Refusal | None:
        """Count a new connection, giving up an older waiting one where its place is needed; or say why not."""
        address = self._counted_address(peer)
        if address is not None and not self._room_for(address):
            return TOO_MANY_FROM_ADDRESS
        if self.total >= self.limits.connections and not self._give_up(next(iter(self.unproven), None)):
            return OVERLOADED
        self.total += 1
        self.peak = max(self.peak, self.total)
        self.unproven[connection] = None
        if address is not None:
            self.by_address.setdefault(address, OrderedDict())[connection] = None
        connection.address = address
        connection.counted = True
        return None

    def leave(self, connection: Guest) -> None:
        """Forget a connection; a second call does nothing."""
        if not connection.counted:
            return
        connection.counted = False
        self.total -= 1
        if self.peak >= BURST_CONNECTIONS and self.total * 16 <= self.peak:
            self.peak = self.total
            self._give_back()
        self.unproven.pop(connection, None)
        if connection.address is not None:
            group = self.by_address[connection.address]
            del group[connection]
            if not group:
                del self.by_address[connection.address]

    def caller(self, scope: Scope) -> str | None:
        """Who sent a request that came by a trusted proxy, as one place; None where the proxy does not say."""
        peer = scope["client"]
        found = normalise(forwarded_address(peer[0] if peer else "", scope["headers"], self.trusted))
        return None if found is None or found in self.trusted else match_prefix(found)

    def bodies_of(self, scope: Scope) -> Bodies:
        """By whose budget a request's body is counted."""
        aside = self.limits.aside
        return self.aside_bodies if aside and scope["raw_path"].startswith(aside) else self.bodies

    def may_tell(self) -> bool:
        """Whether one more refused connection may stay for its answer; if so, `told` is to be lowered at its end."""
        if self.told >= self.limits.told:
            return False
        self.told += 1
        return True

    def _counted_address(self, peer: str | None) -> str | None:
        address = normalise(peer) if peer else None
        return None if address is None or address in self.trusted else match_prefix(address)

    def _room_for(self, address: str) -> bool:
        group = self.by_address.get(address)
        if group is None or len(group) < self.limits.connections_per_address:
            return True
        return self._give_up(next((one for one in group if one.waiting), None))

    def _give_up(self, connection: Guest | None) -> bool:
        if connection is None:
            return False
        self.leave(connection)
        connection.drop()
        return True
