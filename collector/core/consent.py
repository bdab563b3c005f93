"""What a visitor's decision allows: match, send, set cookies, or hold.

    decision   stored  cookies  matched  sent to Meta
    granted    yes     yes      yes      yes
    pending    yes     no       no       held until it is granted, or too old to send
    denied     yes     no       no       no

A page that knows of a denial posts nothing at all; a server's call for such a visitor is kept: the order exists.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, Literal, NamedTuple

from collector.core.events import Consent, Marketing, StoredEvent

GpcRule = Literal["honour", "ldu", "ignore"]
_SIGNALS: Final = frozenset({b"sec-gpc", b"dnt"})


class Decision(NamedTuple):
    """The consent in force for one event. `ldu`: ask Meta for Limited Data Use."""

    marketing: Marketing
    ldu: bool
    unasked: bool = False  # nobody said so: the store's default

    @property
    def allows_matching(self) -> bool:
        """Whether keys of the visitor may be kept and compared, and the event may leave for Meta."""
        return self.marketing == "granted"

    @property
    def held(self) -> bool:
        """Whether sending waits for the visitor's decision."""
        return self.marketing == "pending"


def decide(
    said: Consent | None,
    *,
    default: Marketing,
    ldu: bool = False,
    opted_out: bool = False,
    gpc: GpcRule = "honour",
) -> Decision:
    """The decision in force, from what the event says, the store's default and the browser's opt-out signal.

    `opted_out` is Sec-GPC or Do-Not-Track. A grant said for this shop is later and narrower than the browser's general
    signal and stands beside it (11 CCR 7025(c)(3) lets a visitor consent to one business in spite of the signal).
    """
    told = said.marketing if said else None
    limited = said.ldu if said and said.ldu is not None else ldu
    if not opted_out or gpc == "ignore":
        return Decision(told or default, limited, unasked=told is None)
    if gpc == "ldu":
        return Decision(told or default, True, unasked=told is None)
    return Decision("granted" if told == "granted" else "denied", limited)


# Of what two tellings of one order say, the later in this list counts: a refusal stands, an answer ends the wait.
_ANSWERS: Final[tuple[Marketing | None, ...]] = (None, "pending", "granted", "denied")


def of_both(kept: StoredEvent, told: StoredEvent) -> dict[str, Any]:
    """The consent fields of an event that is told again: what was said counts before any default, whichever came first.

    Where nobody has said anything it is the store's default as of the newest telling; but none displaces a kept
    "granted", which may have been said: rows of older releases do not tell.
    """
    said = max(_answer(kept), _answer(told), key=_ANSWERS.index)
    unsaid = kept.marketing if kept.marketing == "granted" else told.marketing
    return {
        "marketing": said or unsaid,
        "unasked": said is None and unsaid != "granted",
        "consented": kept.consented or told.consented,
        "ldu": kept.ldu or told.ldu,
    }


def _answer(event: StoredEvent) -> Marketing | None:
    """What was said in so many words; None where the store's default decides."""
    unsaid = event.unasked if event.marketing != "granted" else not event.consented
    return None if unsaid else event.marketing


def opted_out(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Say whether the browser sent Sec-GPC: 1 or DNT: 1; header names in lower case."""
    return any(value == b"1" for name, value in headers if name in _SIGNALS)
