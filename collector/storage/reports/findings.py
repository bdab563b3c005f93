"""What one check found: its name, how bad it is, what it saw, and the mend."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

Level = Literal["ok", "warn", "fail"]


class Finding(Struct, frozen=True):
    """One line of the answer. `mend` is empty where there is nothing to do."""

    check: str
    level: Level
    what: str
    mend: str = ""


def ok(check: str, what: str) -> Finding:
    return Finding(check, "ok", what)


def warn(check: str, what: str, mend: str) -> Finding:
    return Finding(check, "warn", what, mend)


def fail(check: str, what: str, mend: str) -> Finding:
    return Finding(check, "fail", what, mend)
