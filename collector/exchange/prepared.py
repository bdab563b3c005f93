"""What an edge has made of one click or event: ready for the writer, and what its answer adds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from collector.core.capi.gate import Gate
from collector.core.ids import PublicIds
from collector.errors import ApiError
from collector.exchange import responses
from collector.exchange.clicks import ClickResult, NewClick
from collector.exchange.naming import NewEvent
from collector.exchange.states import EventResult
from collector.exchange.stores import decide


class PreparedClick(Struct, array_like=True, tag=0, gc=False):
    """A click for the journal, and what its answer says beside the journal's result."""

    operation: NewClick
    reason: str | None
    time_corrected: bool
    ignored: tuple[str, ...]

    @property
    def visitor(self) -> str | None:
        return self.operation.visitor

    def answer(self, result: ClickResult, public: PublicIds) -> str:
        """The answer's body."""
        return responses.click(result, self.operation.fbclid, public, self.reason, self.time_corrected)


class PreparedEvent(Struct, gc=False):
    """A conversion or funnel event for the journal."""

    operation: NewEvent
    ignored: Sequence[str]

    @property
    def visitor(self) -> str | None:
        return self.operation.event.visitor_id

    def answer(self, result: EventResult, public: PublicIds) -> str:
        """The answer's body."""
        if self.operation.by_page:
            return responses.success(self._told(result, public)).decode()
        data = responses.conversion_data(result.state, public, duplicate=result.duplicate)
        return responses.success(data).decode()

    def _told(self, result: EventResult, public: PublicIds) -> responses.ToldData:
        """What a page is answered: its own telling, whatever else is known of the order (T4)."""
        told = self.operation
        verdict = decide(told.event, told.store) if result.duplicate else Gate(result.state.state, result.state.reason)
        return responses.told_data(result.state.row.id, told.event, verdict, public)


Prepared = PreparedClick | PreparedEvent


def batch_body(items: Sequence[Prepared | bytes], results: Sequence[Any], public: PublicIds) -> bytes:
    """One result per item in order, each shaped as the single call's whole answer; bytes are an answer already."""
    following = iter(results)
    answers: list[str] = []
    for item in items:
        if isinstance(item, bytes):
            answers.append(item.decode())
        elif isinstance(result := next(following), ApiError):
            answers.append(responses.failure(result).decode())
        else:
            answers.append(item.answer(result, public))
    return responses.batch(answers)
