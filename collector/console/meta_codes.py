"""What do Meta's error codes mean for a merchant? One plain sentence each, with the mend; Meta's own words come second.

Sources: Meta's pages on error codes of the Graph API and of the Conversions API; which of them stops a queue and which
judges an event is `core/capi/verdicts.py`'s.
"""

from __future__ import annotations

import re
from typing import Final

_TOKEN: Final = (
    "Meta no longer takes the access token. Make a new one in Events Manager and put it into the token file."
)
_PERMISSION: Final = "The token may not send to this pixel. Give its system user the pixel in Business settings."
_PACE: Final = "Meta asked for a pause. The queue goes on by itself; nothing is lost."
_META: Final = "Meta had a fault of its own. It is tried again by itself."
# By code and subcode; by code alone where the subcode is none of these.
_CODES: Final[dict[tuple[int, int | None], str]] = {
    (1, None): _META,
    (2, None): _META,
    (3, None): _PERMISSION,
    (10, None): _PERMISSION,
    (100, 33): "Meta knows no such pixel, or the token may not see it. Compare the pixel's number with Events Manager.",
    (100, 2804001): "The click id is not written as Meta writes it.",
    (100, 2804003): "The event is older than the seven days that Meta takes.",
    (100, 2804004): "The event lies in the future by Meta's clock. Is this machine's clock right?",
    (100, 2804008): "The list of products is not as Meta wants it: each needs an id.",
    (100, 2804009): "A Purchase needs a value.",
    (100, 2804010): "A Purchase needs a currency.",
    (100, 2804019): "A field has a value that Meta does not take; its words name the field.",
    (100, 2804023): "There is a value without a currency.",
    (100, 2804030): "Limited data use is set without a country or a state that Meta knows.",
    (100, 2804050): "It says too little about the person. Send an e-mail, a phone or a customer id with the order.",
    (100, None): "Meta found something wrong with the call itself; its words say what.",
    (102, None): _TOKEN,
    (104, None): "The app's secret is missing or wrong: [meta] app_secret.",
    (105, None): "The event has more fields than Meta takes.",
    (190, 458): "The app was taken off the account, so its token is no longer taken. Make a new one.",
    (190, 460): "The password of the token's owner was changed, which ended the token. Make a new one.",
    (190, 463): "The access token has expired. Make a new one in Events Manager and put it into the token file.",
    (190, 467): "The access token was taken back. Make a new one in Events Manager and put it into the token file.",
    (190, None): _TOKEN,
    (341, None): _PACE,
    (368, None): "Meta has blocked this app or page for a while, for its policies. It is tried again once an hour.",
    (803, None): "Meta knows no such pixel. Compare the pixel's number with Events Manager.",
    **{(code, None): _PACE for code in (4, 17, 32, 613)},
}
_OURS: Final = (
    ("waited longer than Meta takes", "It waited until it was older than the seven days that Meta takes."),
    ("in doubt", "Meta may have it already and would count it twice now, so it is not sent again by itself."),
    ("its payload is no longer kept", "It was erased or is too old to be sent again."),
    ("consent", "The person does not allow it."),
)
# As the courier writes it behind Meta's words (courier/register.py: reason_of).
_IN_REASON: Final = re.compile(r"\(Meta (\d{1,10})(?:/(\d{1,10}))?\)$", re.ASCII)


def code_of(reason: str) -> tuple[int, int | None] | None:
    """The code and subcode that a kept reason ends with."""
    found = _IN_REASON.search(reason)
    return (int(found[1]), int(found[2]) if found[2] else None) if found else None


def sentence(code: int | None, subcode: int | None = None, reason: str = "") -> str:
    """Ours for a code, else for the words that we keep ourselves; empty where we know nothing better than Meta."""
    if code is None:
        code, subcode = code_of(reason) or (None, None)
    if code is None:
        return next((said for words, said in _OURS if words in reason), "")
    if 80_000 <= code < 80_100:
        return _PACE
    if 200 <= code < 300:
        return _PERMISSION
    return _CODES.get((code, subcode)) or _CODES.get((code, None), "")


def shown(code: int | None, subcode: int | None, reason: str = "") -> str:
    """`190/463`, or a dash."""
    found = (code, subcode) if code is not None else code_of(reason)
    if found is None:
        return "–"
    return f"{found[0]}/{found[1]}" if found[1] else str(found[0])
