"""What a group has changed, written in one statement; a name that somebody else has made meanwhile undoes all of it."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Final

import asyncpg

from collector.storage.postgres import counting
from collector.storage.postgres.connecting import Connection
from collector.storage.postgres.memory import Clash, Memory, Question
from collector.storage.postgres.parts import PARTS
from collector.storage.rules.tables import CONVERSIONS

_TAKEN: Final = "CC001"  # what expect() raises (migrations/0002_journal.sql)


@lru_cache(maxsize=512)
def _statement(names: tuple[str, ...]) -> str:
    """These changes as one statement, which fails where one that must be new is not."""
    texts, counts, first = [], [], 1
    for name in names:
        part = PARTS[name]
        arrays = ", ".join(f"${first + n}::{type_}[]" for n, type_ in enumerate(part.types))
        first += len(part.types)
        table = f"unnest({arrays}) AS t({', '.join(part.names)})"
        sql = part.sql.replace("FROM t ", f"FROM {table} ").replace("USING t ", f"USING {table} ")
        texts.append(f"w_{name} AS ({sql})")
        if part.unique:
            counts.append(f"(SELECT count(*) FROM w_{name})")
    wanted = f"SELECT expect({' + '.join(counts)}, ${first}::bigint)" if counts else "SELECT 1"
    return f"WITH {', '.join(texts)} {wanted}"


def changed(memory: Memory) -> bool:
    """Whether there is anything to write."""
    return any(True for part in PARTS.values() for _ in part.rows(memory, memory.changes))


async def write(connection: Connection, memory: Memory) -> None:
    """Write all; Clash where a name is taken by now."""
    names: list[str] = []
    arrays: list[Any] = []
    unique = 0
    for name, part in PARTS.items():
        rows = list(part.rows(memory, memory.changes))
        if rows:
            names.append(name)
            columns = zip(part.types, zip(*rows, strict=True), strict=True)
            arrays += [[_storable(text) for text in one] if type_ == "text" else list(one) for type_, one in columns]
            unique += len(rows) if part.unique else 0
    if not names:
        return
    if any(PARTS[name].unique for name in names):
        arrays.append(unique)
    try:
        await connection.fetch(_statement(tuple(names)), *arrays)
        if follows := counting.to_follow(memory):
            await counting.follow(connection, follows)
    except asyncpg.PostgresError as error:
        if error.sqlstate != _TAKEN:
            raise
        raise Clash(_names_in(memory)) from None


def _storable(text: str | None) -> str | None:
    """A text without what PostgreSQL refuses: NUL (halves of characters are refused at the door)."""
    return text and text.replace("\0", "")


def _names_in(memory: Memory) -> Iterable[Question]:
    """What was assumed to be new: it is asked for before all is tried again."""
    changes = memory.changes
    for name in changes.sightings:
        yield ("sighting", *name)
    for number in changes.new[CONVERSIONS]:
        row = changes.rows[CONVERSIONS][number]
        if row.dedup_k is not None:
            yield ("find", "conversion", "dedup", row.store, row.dedup_k, 0, 4)
    for key in changes.answers:
        yield ("answer", key)
    for delivery in changes.deliveries:
        yield ("delivery", delivery)
