"""When will the disk be full? At the last day's pace, and as far as retention does not give back what a day takes."""

from __future__ import annotations

from typing import Final

DAYS_WARN: Final = 14  # enough to buy a disk
RESERVES_WARN: Final = 4


def days_left(free: int, reserve: int, bytes_a_day: int) -> int | None:
    """Whole days until posts are refused, which is when less than `reserve` bytes are free; None: it does not grow."""
    return max(0, (free - reserve) // bytes_a_day) if bytes_a_day > 0 else None


def growth(size: int, rows_today: int, rows_kept: int, oldest_ms: int, cut_ms: int) -> int:
    """Bytes a day: the last day's rows, each as large as the file's average; 0 once as much is cut as comes.

    `oldest_ms`: the oldest row's receipt; `cut_ms`: what is older is cut.
    """
    settled = oldest_ms < cut_ms + 86_400_000
    return 0 if settled or not rows_kept else size * rows_today // rows_kept


def warning(free: int, reserve: int, days: int | None) -> str | None:
    """What a person should know of it; None: nothing."""
    mb = f"{free >> 20} MB are free, and below {reserve >> 20} MB posts are refused"
    if days is not None and days < DAYS_WARN:
        return f"the disk will be full in about {days} days at the last day's pace: {mb}"
    return f"the disk is nearly full: {mb}" if free < RESERVES_WARN * reserve else None
