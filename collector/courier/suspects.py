"""Is it the events or the call? Asked where Meta refuses events alone, and names no fault of their own fields (105)."""

from __future__ import annotations

from collections.abc import Sequence

from collector.core.capi.verdicts import Verdict

# So many refused in a row, and none of the batch taken: the rest need not be asked.
ENOUGH = 3


class Suspects:
    """The events of one batch that were refused alone. Another code, or an event that is taken, clears the call."""

    def __init__(self, batch: int) -> None:
        self._batch = batch
        self._call_is_good = False
        self.ids: list[int] = []
        self.verdict: Verdict | None = None

    def without(self, count: int) -> None:
        """So many of the batch are asked no more: cancelled, withdrawn or held meanwhile. One alone accuses nobody."""
        self._batch = max(self._batch - count, 2)

    def add(self, ids: Sequence[int], verdict: Verdict) -> None:
        """One more."""
        if self.verdict is not None and self.verdict.code != verdict.code:
            self._call_is_good = True
        self.ids += ids
        self.verdict = verdict

    def cleared(self) -> None:
        """Meta took one of the batch, or judged it by its own fields: the call is good."""
        self._call_is_good = True

    @property
    def accuse_the_call(self) -> bool:
        """Whether all of the batch, as far as it was asked, were refused alike."""
        return not self._call_is_good and len(self.ids) >= min(self._batch, ENOUGH)
