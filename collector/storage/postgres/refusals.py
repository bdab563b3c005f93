"""Refusals one by one: each keeper writes those of its edges with its sign of life."""

from __future__ import annotations

from typing import Final

from collector.storage.postgres.connecting import Connection
from collector.storage.rules.refusals import KEPT_DAYS, MOST_OF_A_CODE, Told

_DAY_MS: Final = 86_400_000
_WRITE: Final = """
INSERT INTO refusal (at, code, field, called)
SELECT $1, code, field, called FROM unnest($2::text[], $3::text[], $4::text[]) AS t (code, field, called)"""
_BEYOND: Final = f"""
DELETE FROM refusal USING unnest($1::text[]) AS t (told) WHERE code = told AND id <=
    (SELECT id FROM refusal WHERE code = told ORDER BY id DESC LIMIT 1 OFFSET {MOST_OF_A_CODE})"""
_OLD: Final = "DELETE FROM refusal WHERE at < $1"
UNNAMED: Final = "UPDATE refusal SET called = '' WHERE called <> ''"  # whose a refused order was, nobody can tell


async def write(connection: Connection, told: list[Told], now: int) -> None:
    """Inside the caller's transaction; what is old (`now`: ms) goes."""
    columns = [[text.replace("\0", "") for text in column] for column in zip(*told, strict=True)]
    await connection.execute(_WRITE, now, *columns)
    await connection.execute(_BEYOND, sorted(set(columns[0])))
    await connection.execute(_OLD, now - KEPT_DAYS * _DAY_MS)
