"""What is an event called: Meta's standard names in their spelling, and custom ones that Meta takes."""

from __future__ import annotations

import re
from typing import Final

from collector.core import urls
from collector.errors import ApiError

STANDARD: Final = frozenset(
    "AddPaymentInfo AddToCart AddToWishlist CompleteRegistration Contact CustomizeProduct Donate FindLocation Lead"
    " InitiateCheckout PageView Purchase Schedule Search StartTrial SubmitApplication Subscribe ViewContent".split()
)
_BY_CASELESS: Final = {name.lower(): name for name in STANDARD}
MOST_CHARACTERS: Final = 50  # of a custom name (Meta's pixel reference)
_PLACEHOLDERS: Final = frozenset({"undefined", "null", "nan", "none", "[object object]"})
_TEMPLATE: Final = re.compile(r"\{\{.*\}\}|<%.*%>|\$\{.*\}|__\w+__")


def read(name: str) -> str:
    """The name, trimmed; a standard one in Meta's spelling; ApiError for one that Meta would refuse."""
    if name in STANDARD:
        return name
    trimmed = name.strip()
    if standard := _BY_CASELESS.get(trimmed.lower()):
        return standard
    if not trimmed or trimmed.lower() in _PLACEHOLDERS or _TEMPLATE.fullmatch(trimmed):
        raise ApiError("missing_required_field", "eventType is required", "eventType")
    if len(trimmed) > MOST_CHARACTERS or not trimmed.isprintable() or not any(map(str.isalnum, trimmed)):
        raise ApiError("invalid_field", f"eventType: expected 1 to {MOST_CHARACTERS} printable characters", "eventType")
    if urls.is_personal(trimmed):
        raise ApiError("invalid_field", "eventType: a name may hold no e-mail address and no phone", "eventType")
    return trimmed
