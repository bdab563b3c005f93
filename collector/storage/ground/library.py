"""Which SQLite do keeper and courier carry?"""

from __future__ import annotations

import apsw


def sqlite_version() -> str:
    """The version of the SQLite inside apsw, for example 3.54.1."""
    return apsw.sqlite_lib_version()
