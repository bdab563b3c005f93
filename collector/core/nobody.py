"""Which values name nobody: what scripts, templates and forms leave where a person's value should be.

Sent as a key, such a value makes one person of all guests; the hash of one does so as well, and hides it.
"""

from __future__ import annotations

import re
from hashlib import md5, sha1, sha256
from typing import Final

# No name, no e-mail, no place is called so. "Na" and "Test" are people's names, "0" may stand in a form.
NOTHING: Final = frozenset(
    ["", "null", "(null)", "undefined", "none", "nil", "nan", "n/a", "n.a.", "n.a", "n/d", "[object object]", "unknown",
     "not set", "(not set)", "not provided", "-", "--", "."]
)  # fmt: skip
# As an id, these are nobody either: WooCommerce gives every guest the id 0.
NO_ID: Final = NOTHING | {"0", "-1", "na", "anonymous", "guest", "false", "true", "test", "default"}
LONGEST: Final = 64  # nothing longer is looked at: no placeholder is
_TEMPLATE: Final = re.compile(
    r"\{\{.*\}\}|\{%.*%\}|\$\{.*\}|<%.*%>|%[A-Za-z_]+%|__\w+__|\[object \w+\]|\{\w+\}", re.ASCII
)
_MARKS: Final = frozenset("{[$<%_")
_HASHED: Final = ("", " ", "0", "-1", "null", "NULL", "Null", "undefined", "none", "None", "nan", "NaN", "nil", "n/a",
                  "N/A", "false", "true", "[object Object]", "[object object]", "{}", "[]", "unknown")  # fmt: skip
# SHA-256, SHA-1 and MD5 of nothing: hashed upstream, in every absent field.
HASHES: Final = frozenset(
    algorithm(text.encode(), usedforsecurity=False).hexdigest() for text in _HASHED for algorithm in (sha256, sha1, md5)
)


def is_nothing(text: str) -> bool:
    """Whether this stands where a value is missing."""
    return text.lower() in NOTHING or (text[:1] in _MARKS and _TEMPLATE.fullmatch(text) is not None)


def is_no_id(text: str) -> bool:
    """Whether this is no customer's id."""
    return text.lower() in NO_ID or is_nothing(text)
