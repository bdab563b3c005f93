"""What a visitor's decision allows: match, send, set cookies, or hold.

    decision   stored  cookies  matched  sent to Meta
    granted    yes     yes      yes      yes
    pending    yes     no       no       held until it is granted, or too old to send
    denied     yes     no       no       no

A page that knows of a denial posts nothing at all; a server's call for such a visitor is kept: the order exists.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal, NamedTuple

from collector.core.events import Consent, Marketing

GpcRule = Literal["honour", "ldu", "ignore"]
_SIGNALS: Final = frozenset({b"sec-gpc", b"dnt"})


class Decision(NamedTuple):
    """The consent in force for one event. `ldu`: ask Meta for Limited Data Use."""

    marketing: Marketing
    ldu: bool

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
    marketing = (said.marketing if said else None) or default
    limited = said.ldu if said and said.ldu is not None else ldu
    if not opted_out or gpc == "ignore":
        return Decision(marketing, limited)
    if gpc == "ldu":
        return Decision(marketing, True)
    granted_here = said is not None and said.marketing == "granted"
    return Decision("granted" if granted_here else "denied", limited)


def opted_out(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Say whether the browser sent Sec-GPC: 1 or DNT: 1; header names in lower case."""
    return any(value == b"1" for name, value in headers if name in _SIGNALS)
