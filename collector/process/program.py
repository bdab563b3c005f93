"""How is this program started again, as a part of itself?"""

from __future__ import annotations

import sys


def own_command(part: str) -> list[str]:
    """The command for one of its parts: "edge", "keeper" and so on."""
    if getattr(sys, "frozen", False):
        return [sys.executable, part]
    return [sys.executable, "-m", "collector", part]
