"""When does a version of Meta's API end? It is supported for at least two years (Conversions API)."""

from __future__ import annotations

import re
from datetime import date
from typing import Final

# Release dates as known; a newer version is taken to follow at Meta's usual pace.
RELEASED: Final = {
    "v23.0": date(2025, 5, 29),
    "v24.0": date(2025, 10, 8),
    "v25.0": date(2026, 2, 18),
    "v26.0": date(2026, 7, 29),
}
_LIFE_YEARS: Final = 2
_WARN_DAYS: Final = 120
_FORM: Final = re.compile(r"v\d{1,3}\.\d")


def ends(version: str) -> date | None:
    """The first day on which the version may be gone; None for one that we do not know."""
    released = RELEASED.get(version)
    return released.replace(year=released.year + _LIFE_YEARS) if released else None


def warning(version: str, today: date) -> str | None:
    """What to tell about `[meta] api_version`, or None."""
    if not _FORM.fullmatch(version):
        return f"api_version {version!r} does not look like Meta's (v26.0)"
    end = ends(version)
    if end is None:
        oldest = min(RELEASED, key=lambda known: RELEASED[known])
        old = float(version[1:]) < float(oldest[1:])
        return f"api_version {version} is no longer supported by Meta" if old else None
    days = (end - today).days
    if days < 0:
        return f"api_version {version} has been out of support since {end}; set a newer one"
    return f"api_version {version} ends on {end}, in {days} days; set a newer one" if days < _WARN_DAYS else None
