"""How are tables with a title, and spans of time, written for people?"""

from __future__ import annotations

from collector.cli.output import print_table


def section(title: str, rows: list[list[str]] | list[list[object]], head: list[str]) -> None:
    """A titled table; nothing where there are no rows."""
    if rows:
        print(f"\n{title}")
        print_table([["  " + str(row[0]), *row[1:]] for row in rows], head=["  " + head[0], *head[1:]])


def duration(seconds: int) -> str:
    """In the largest unit that leaves at least two of it."""
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
