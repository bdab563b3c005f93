"""Which schema does this release bring a database to? Imports no SQLite, so every process may ask."""

from __future__ import annotations

from importlib import resources
from importlib.resources.abc import Traversable


def scripts(folder: str) -> list[Traversable]:
    """The migrations of `storage/<folder>`, in their order."""
    found = resources.files("collector.storage").joinpath(folder).iterdir()
    return sorted((entry for entry in found if entry.name.endswith(".sql")), key=lambda entry: entry.name)


def newest_schema(folder: str = "migrations") -> int:
    """The schema that this release brings a database to."""
    return len(scripts(folder))
