"""Strangers on the pages: they click, and say that they are somebody else, to be credited with that person's orders.

A few people with many browsers: half of what they do is a click and somebody's e-mail, a quarter an e-mail alone, a
quarter a click under a visitor id that was passed on to them.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from collector.core.matching import Candidate

if TYPE_CHECKING:
    from tests.kit.simulators.truth import Person, Public

ACTORS_PER_PERSON = 1 / 2_000
BROWSERS = 20  # visitor ids that one of them uses


class Attackers:
    """The strangers of one public; they live on lines and devices of their own."""

    def __init__(self, public: Public, people: list[Person]) -> None:
        self._public, self._people = public, people
        self.random = Random(public.world.seed)  # of their own: everybody else does what he does without them
        self._actors = people[:: int(1 / ACTORS_PER_PERSON)]

    def act(self, _: Person, ts: int) -> None:
        """One thing that one of them does."""
        public, r = self._public, self.random
        actor, victim = r.choice(self._actors), r.choice(self._people)
        device = actor.devices[0]
        address = public.address_of(actor, device, "home", ts)
        visitor = (1 << 56) + actor.id * BROWSERS + r.randrange(BROWSERS)
        x = r.random()
        if x >= 0.75:
            known = [jar.visitor for d in victim.devices for jar in d.jars.values() if jar.consent]
            if not known:
                return
            visitor = r.choice(known)
        if x < 0.5 or x >= 0.75:
            ua_k, ua_class = public.agent_of(device, "browser", ts)
            keys = (visitor, None, address, ua_k, None, ua_class, 0)
            public.add_click(Candidate(0, ts, ts, public.serial(), *keys), actor)
        if x < 0.75:
            public.claim(ts, visitor, victim.email, address)
