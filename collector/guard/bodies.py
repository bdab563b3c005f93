"""How many bytes of request bodies does this process hold, in all and of each address?

A body counts from its first byte until its request is answered. Who sends without a valid secret key may have a page's
bytes and no more, so a flood of large bodies is refused while it is still small (D1). After a burst the memory goes
back to the system: the allocator alone keeps what was freed below the last thing that lives.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, MutableMapping
from typing import Any, Final, TypeAlias

import msgspec

from collector.guard.memory import trim
from collector.guard.refusals import BODY_TOO_LARGE, OVERLOADED, Refusal

Scope: TypeAlias = MutableMapping[str, Any]
Allowance: TypeAlias = Callable[[Scope], int]

# From a peak of so many bytes on, memory is given back once it is over.
BURST_BYTES: Final = 4 * 1024 * 1024
OVER_BYTES: Final = BURST_BYTES // 16
TRIM_SECONDS: Final = 0.5
# A body up to this is counted to the proxy that sends it; of a larger one it is worth asking whose it is (3 µs).
SMALL_BYTES: Final = 16_384
UNBOUNDED: Final = 1 << 62


class BodyLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes: of one body that nobody vouches for, of all bodies, of all bodies of an address.

    From `of_strangers` on, only who holds a secret key finds room: pages, however many, never shut out a shop's server.
    """

    of_page: int = 65_536
    in_all: int = 64 * 1024 * 1024
    of_strangers: int = 48 * 1024 * 1024
    of_address: int = 2 * 1024 * 1024
    # Half of all: who holds a secret key posts batches side by side, and one of them must not shut out the others.
    of_vouched_address: int = 32 * 1024 * 1024


class Bodies:
    """The count. `give_back` is called when a burst is over."""

    def __init__(self, limits: BodyLimits, give_back: Callable[[], object] | None = None) -> None:
        self.limits = limits
        self.total = 0
        self.peak = 0
        self.by_address: dict[str, int] = {}
        self._give_back = give_back or trim_soon

    def take(self, address: str | None, count: int, *, vouched: bool) -> bool:
        """Count so many bytes more, of this address or (None) of nobody in particular; False where they do not fit."""
        limits = self.limits
        if self.total + count > (limits.in_all if vouched else min(limits.in_all, limits.of_strangers)):
            return False
        if address is not None:
            held = self.by_address.get(address, 0) + count
            if held > (limits.of_vouched_address if vouched else limits.of_address):
                return False
            self.by_address[address] = held
        self.total += count
        if self.total > self.peak:
            self.peak = self.total
        return True

    def give(self, address: str | None, count: int) -> None:
        """These bytes are held no more."""
        self.total -= count
        if address is not None and count:
            left = self.by_address[address] - count
            if left:
                self.by_address[address] = left
            else:
                del self.by_address[address]
        if self.peak > BURST_BYTES and self.total < OVER_BYTES:
            self.peak = self.total
            self._give_back()


class Load:
    """The body of one request, counted in `bodies`. `most`: how many bytes it may have, as far as is known by now."""

    __slots__ = ("address", "bodies", "most", "scope", "size")

    def __init__(self, bodies: Bodies, address: str | None, most: int, scope: Scope) -> None:
        self.bodies = bodies
        self.address = address
        self.most = most
        self.scope = scope
        self.size = 0


class Loads:
    """The bodies of one connection's requests, until each is answered.

    `address`: who is charged; None behind a trusted proxy, and then `caller` says of a request's scope who sent it.
    `bodies` says by whose budget a request is counted. `allowance` is asked of a scope whose body has passed a page's
    size; None: any size may come.
    """

    __slots__ = ("_address", "_allowance", "_bodies", "_caller", "_loads")

    def __init__(
        self,
        bodies: Callable[[Scope], Bodies],
        address: str | None,
        caller: Callable[[Scope], str | None],
        allowance: Allowance | None,
    ) -> None:
        self._bodies, self._address, self._caller, self._allowance = bodies, address, caller, allowance
        self._loads: deque[Load] = deque()

    def begin(self, scope: Scope) -> None:
        """A request's head is complete."""
        bodies = self._bodies(scope)
        self._loads.append(Load(bodies, self._address, bodies.limits.of_page, scope))

    def take(self, count: int) -> Refusal | None:
        """Count a piece of the newest request's body; say why it may not come.

        Of a body that is too large what it may have is counted: whoever keeps more holds memory that nobody counts.
        """
        load = self._loads[-1]
        size = load.size + count
        refusal = None
        if size > load.most and self._allowed(load) < size:
            refusal = BODY_TOO_LARGE
            size = load.most
            count = size - load.size
        if size > SMALL_BYTES and load.address is None:
            self._charge_the_caller(load)
        if not self._fits(load, count):
            return OVERLOADED
        load.size = size
        return refusal

    @property
    def size(self) -> int:
        """Bytes of the newest request's body that are counted."""
        return self._loads[-1].size

    def _fits(self, load: Load, count: int) -> bool:
        """Who holds a secret key has more room, and is asked for it once the usual room is full."""
        bodies, page = load.bodies, load.bodies.limits.of_page
        if bodies.take(load.address, count, vouched=load.most > page):
            return True
        return load.most <= page < self._allowed(load) and bodies.take(load.address, count, vouched=True)

    def _allowed(self, load: Load) -> int:
        load.most = max(load.most, self._allowance(load.scope) if self._allowance else UNBOUNDED)
        return load.most

    def _charge_the_caller(self, load: Load) -> None:
        """A trusted proxy's body is its caller's."""
        caller = self._caller(load.scope)
        if caller is not None and load.bodies.take(caller, load.size, vouched=True):
            load.bodies.give(None, load.size)
            load.address = caller

    def answered(self) -> None:
        """The oldest request is answered."""
        if self._loads:
            load = self._loads.popleft()
            load.bodies.give(load.address, load.size)

    def taken_back(self) -> None:
        """The newest request will never be."""
        load = self._loads.pop()
        load.bodies.give(load.address, load.size)

    def drop(self) -> None:
        """None of them will be."""
        while self._loads:
            self.taken_back()


_due = 0.0  # when memory is given back next, by the loops' clock


def trim_soon() -> None:
    """Give memory back once the requests' tasks have let go of it; bursts that end side by side are served by one."""
    global _due
    loop = asyncio.get_running_loop()
    if _due < loop.time() + TRIM_SECONDS / 2:
        _due = loop.time() + TRIM_SECONDS
        loop.call_later(TRIM_SECONDS, trim)
