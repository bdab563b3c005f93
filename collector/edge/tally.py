"""How many requests ended how? Integers that the hot path adds to, read now and then by the writer's thread.

Adding costs 35 ns (a Counter's addition 100), so whoever counts holds the verb's own counts:

    counts = tally.of("click")
    counts[status] += 1

They belong to the event loop's thread. `totals` copies it in one step, so it may be called from any thread.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Final

from collector.guard.gate import Counts

# Requests that reached no verb: refused by the guard, or for a path where nothing is.
NO_VERB: Final = "none"


class Tally:
    """Answers of this process since its start, by verb and HTTP status."""

    def __init__(self) -> None:
        self._by_verb: dict[str, Counts] = {}

    def of(self, verb: str) -> Counts:
        """The verb's counts. Ask for it before the first request, not with each."""
        return self._by_verb.setdefault(verb, defaultdict(int))

    def totals(self) -> dict[str, int]:
        """`http.VERB.STATUS` -> answers since the start; a number never goes down."""
        return {
            f"http.{verb}.{status}": n
            for verb, counts in list(self._by_verb.items())
            for status, n in counts.copy().items()
        }
