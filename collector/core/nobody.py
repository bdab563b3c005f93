"""Which values name nobody, or no order: what scripts, templates and forms leave where a value should be.

Sent as a person's key, such a value makes one person of all guests; the hash of one does so as well, and hides it. As
an order's number it makes one order of all, and the second customer's sale is lost.
"""

from __future__ import annotations

import re
from hashlib import md5, sha1, sha256
from typing import Final

# No name, no e-mail, no place is called so. "Na" and "Test" are people's names, "0" may stand in a form.
NOTHING: Final = frozenset(
    ["", "null", "(null)", "undefined", "none", "nil", "nan", "n/a", "n.a.", "n.a", "n/d", "[object object]", "unknown",
     "not set", "(not set)", "not provided", "not specified", "not available", "-", "--", "."]
)  # fmt: skip
# As an id, these are nobody either: WooCommerce gives every guest the id 0.
NO_ID: Final = NOTHING | {
    "0", "-1", "na", "anon", "anonymous", "guest", "false", "true", "test", "default", "not logged in", "logged out",
}  # fmt: skip
# As an order's number these are none (L3).
_NO_ORDER: Final = NOTHING | {"-1", "na", "(none)", "false", "true"}
_ZERO: Final = re.compile(r"[-+]?0+(\.0*)?")
# Blanks, and what nobody sees: joiners, marks of direction, the byte order mark.
_UNSEEN: Final = (
    (0x09, 0x0D), (0x1C, 0x20), (0x85, 0x85), (0xA0, 0xA0), (0xAD, 0xAD), (0x1680, 0x1680), (0x180E, 0x180E),
    (0x2000, 0x200F), (0x2028, 0x202F), (0x205F, 0x2069), (0x3000, 0x3000), (0xFEFF, 0xFEFF),
)  # fmt: skip
# Stripped, and not by a regular expression: one that ends in `+$` takes the square of a page's million blanks.
_AROUND: Final = "".join(chr(code) for first, last in _UNSEEN for code in range(first, last + 1))
_QUOTES: Final = "#\"'` "
LONGEST: Final = 64  # nothing longer is looked at: no placeholder is
_TEMPLATE: Final = re.compile(
    r"\{\{.*\}\}|\{%.*%\}|[$#]\{.*\}|<%.*%>|%+[A-Za-z_]+%+|__\w+__|\[\[.*\]\]|\[[A-Za-z_ ]+\]|\{\$?[\w.]+\}",
    re.ASCII | re.DOTALL,
)
_MARKS: Final = frozenset("{[$#<%_")
_WORD: Final = re.compile(r"[^\W_]+")
_HASHED: Final = ("", " ", "0", "-1", "null", "NULL", "Null", "undefined", "none", "None", "nan", "NaN", "nil", "n/a",
                  "N/A", "false", "true", "[object Object]", "[object object]", "{}", "[]", "unknown")  # fmt: skip
# SHA-256, SHA-1 and MD5 of nothing: hashed upstream, in every absent field.
HASHES: Final = frozenset(
    algorithm(text.encode(), usedforsecurity=False).hexdigest() for text in _HASHED for algorithm in (sha256, sha1, md5)
) | {"0" * 64, "0" * 40, "0" * 32}


def is_nothing(text: str) -> bool:
    """Whether this stands where a value is missing, also where two of them were joined ("undefined undefined")."""
    lowered = text.lower()
    return (
        lowered in NOTHING
        or (text[:1] in _MARKS and _TEMPLATE.fullmatch(text) is not None)
        or (" " in text and all(word in NOTHING for word in lowered.replace(",", " ").split()))
    )


def is_no_id(text: str) -> bool:
    """Whether this is no customer's id: a placeholder, or nothing but zeros and marks (`{}`, the UUID of nobody)."""
    lowered = text.lower()
    if lowered in NO_ID or ((text[:1] in _MARKS or " " in text) and is_nothing(text)):
        return True
    if len(text) > LONGEST:
        return False
    for word in _WORD.findall(lowered):  # noqa: SIM110  nearly always the first says no: a generator takes as long again
        if word not in NO_ID and word.strip("0"):
            return False
    return True


def is_no_order(text: str) -> bool:
    """Whether this trimmed text is no order's number, also as "#…": it has no letter or digit, or stands for none."""
    text = text.strip(_QUOTES)
    return (
        text.lower() in _NO_ORDER
        or is_nothing(text)
        or _ZERO.fullmatch(text) is not None
        or not any(map(str.isalnum, text))
    )


def trimmed(text: str) -> str:
    """The text without blanks and invisible marks around it."""
    return text if text.isalnum() else text.strip(_AROUND)
