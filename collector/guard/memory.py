"""How does freed memory go back to the system? The allocator alone keeps what lies below the last thing that lives."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import sys
from typing import Any, Final


def settle() -> None:
    """A process has started: what that needed, and nothing needs again, goes back (4 MB of edge and console each)."""
    gc.collect()
    trim()


def trim() -> None:
    """Give freed memory back to the system (malloc_trim(3), glibc only): 1 to 5 ms after a burst of 64 MiB."""
    if _malloc_trim is not None:
        _malloc_trim(0)


def _find_trim() -> Any:
    if sys.platform == "linux":
        with contextlib.suppress(AttributeError, OSError):  # musl has none
            return ctypes.CDLL(None).malloc_trim
    return None


_malloc_trim: Final = _find_trim()
