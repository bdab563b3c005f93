"""Which events of a refused batch are at fault, in as few requests as possible?

Meta refuses the whole batch for one bad event. Its message sometimes names the event's index: that one is asked alone,
and the rest goes without it (two requests). Else the batch is halved: when the left half is taken, the right one must
hold the fault and is halved without being sent; when the left one is refused, the right one is sent whole. At most two
requests a level, so one bad event costs at most 2·log2(n) requests beyond the first. An event is judged only alone.
What is no longer to be sent when its part's turn comes is left out of it, unjudged.
"""

from __future__ import annotations

from typing import Generic, TypeVar

T = TypeVar("T")


class _Part(Generic[T]):
    """Events to send together; `sibling` must hold the fault if these are taken; `suspect`: Meta's message named it."""

    __slots__ = ("events", "sibling", "suspect")

    def __init__(self, events: list[T], sibling: list[T] | None = None, *, suspect: bool = False) -> None:
        self.events = events
        self.sibling = sibling
        self.suspect = suspect


class Isolation(Generic[T]):
    """The parts that still have to be sent; `take` one, send what is left of it (`only`), then say what came of it."""

    def __init__(self, batch: list[T], index: int | None) -> None:
        self._parts: list[_Part[T]] = []
        self._current: _Part[T] | None = None
        self._trust_index = True
        self.requests = 0
        self.guilty: list[T] = []
        self._split(batch, index)

    def __bool__(self) -> bool:
        return bool(self._parts)

    def take(self) -> list[T]:
        """The next part to send."""
        self._current = self._parts.pop()
        self.requests += 1
        return self._current.events

    def only(self, events: list[T]) -> None:
        """These of the part are asked, in this order; with none of them nothing is known of its sibling."""
        if self._current is not None and events:
            self._current.events = events
        else:
            self._whole(self._done().sibling)

    def taken(self) -> None:
        """Meta took the part: then its untried sibling holds the fault."""
        part = self._done()
        if part.suspect:  # the index named an innocent: halve from now on
            self._trust_index = False
        if part.sibling is not None:
            self._split(part.sibling, None)

    def refused(self, index: int | None) -> bool:
        """Meta refused the part: alone it is guilty (True), else it is split. Nothing is known of its sibling."""
        part = self._done()
        self._whole(part.sibling)
        if len(part.events) == 1:
            self.guilty.append(part.events[0])
            return True
        self._split(part.events, index)
        return False

    def divided(self) -> None:
        """Something before Meta lets no such body through: it goes in halves. One event alone waits by itself."""
        part = self._done()
        self._whole(part.sibling)
        if len(part.events) > 1:
            self._split(part.events, None)

    def postponed(self) -> None:
        """Nobody judged the part, the way to Meta failed: it is the next one again."""
        self._parts.append(self._done())

    def rest(self) -> list[T]:
        """Every event that has not been judged, for a retry when the isolation has to stop."""
        parts = [*self._parts, self._current] if self._current is not None else self._parts
        return [event for part in parts for event in (*part.events, *(part.sibling or ()))]

    def _done(self) -> _Part[T]:
        part, self._current = self._current, None
        if part is None:
            raise RuntimeError("no part has been taken")
        return part

    def _whole(self, sibling: list[T] | None) -> None:
        if sibling is not None:
            self._parts.append(_Part(sibling))

    def _split(self, events: list[T], index: int | None) -> None:
        if len(events) == 1:
            self._parts.append(_Part(events))
        elif index is not None and self._trust_index and index < len(events):
            self._parts.append(_Part(events[:index] + events[index + 1 :]))
            self._parts.append(_Part([events[index]], suspect=True))
        else:
            middle = len(events) // 2
            self._parts.append(_Part(events[:middle], events[middle:]))
