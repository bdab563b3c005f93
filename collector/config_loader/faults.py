"""How a fault in the configuration is named: where it stands, which key it is about, what to do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

# ("store", 0, "pixel", 1, "id"): table names and keys, with the index of each array table.
Path = tuple[str | int, ...]


class Origin(NamedTuple):
    """Where a value came from. A higher rank wins over a lower one."""

    rank: int
    text: str


DEFAULT = Origin(0, "default")
FILE, ENVIRONMENT, FLAG = 1, 2, 3


class Fault(NamedTuple):
    path: Path
    message: str


def names(path: Path) -> tuple[str, ...]:
    """The path without its indexes: ("store", "pixel", "id")."""
    return tuple(part for part in path if isinstance(part, str))


def label(path: Path) -> str:
    """`[store.pixel] id`, as it is written in the file."""
    parts = names(path)
    if len(parts) < 2:
        return f"[{parts[0]}]" if parts else "the file"
    return f"[{'.'.join(parts[:-1])}] {parts[-1]}"


def nearest(path: Path, known: Mapping[Path, Origin]) -> Origin | None:
    """The origin of a value, of the closest table around it, or of the first thing in it."""
    for end in range(len(path), 0, -1):
        if path[:end] in known:
            return known[path[:end]]
    return next((origin for key, origin in known.items() if key[: len(path)] == path), None)


def render(fault: Fault, origins: Mapping[Path, Origin]) -> str:
    """One sentence: `collector.toml:12: [edge] listn: unknown key; did you mean 'listen'?`"""
    origin = nearest(fault.path, origins)
    where = f"{origin.text}: " if origin is not None and origin.rank != DEFAULT.rank else ""
    return f"{where}{label(fault.path)}: {fault.message}"
