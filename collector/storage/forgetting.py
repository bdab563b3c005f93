"""Erasing a person, and telling what is held of one: on whichever engine keeps the events."""

from __future__ import annotations

from collector.config import Config
from collector.storage.verbs.erasing import Erasure
from collector.storage.verbs.held import Item
from collector.storage.verbs.person import Asked


def erase_person(config: Config, store: str | None, asked: Asked, now: int, *, dry_run: bool) -> Erasure:
    """Erase a person from a store, or from all; beside a running collector.

    StorageError when there is no database or no such store, Nameless when nothing can be found by what was given.
    """
    if config.storage.engine == "postgres":
        from collector.storage.postgres import erasing

        return erasing.erase_person(config, store, asked, now, dry_run=dry_run)
    from collector.storage.people import erasure

    return erasure.erase_person(config, store, asked, now, dry_run=dry_run)


def held_of(config: Config, store: str | None, asked: Asked, now: int) -> Item:
    """Every row of a person, of one store or of all, with what Meta was sent and when; nothing is changed."""
    if config.storage.engine == "postgres":
        from collector.storage.postgres import erasing

        return erasing.held_of(config, store, asked, now)
    from collector.storage.people import held

    return held.held_of(config, store, asked, now)
