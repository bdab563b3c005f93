"""What is new in the sums, folded into them: some rows at a time, by one courier at a time, seen by nobody."""

from __future__ import annotations

from typing import Final

from collector.storage.postgres.connecting import Connection

_ALONE: Final = "SELECT pg_try_advisory_xact_lock(hashtext('collector sums'))"
_ADD: Final = "n = {0}.n + excluded.n"
_ADD_SALES: Final = f"{_ADD}, units = {{0}}.units + excluded.units, reversed = {{0}}.reversed + excluded.reversed"
_SALES: Final = "sum(n)::bigint, sum(units), sum(reversed)::bigint"
# Of what is new: the sums that it goes into, their keys as they are made of its columns, and the condition.
_INTO: Final[dict[str, tuple[tuple[str, str, str], ...]]] = {
    "click": (
        ("click_sum", "store, quarter, place, apart, week", "true"),
        ("click_day", "store, quarter / 96 AS day, place, apart, week", "true"),
        ("click_quarter", "store, quarter, week", "apart = ''"),
    ),
    "sale": (
        ("sale_sum", "store, event, quarter, currency, place, tier", "true"),
        ("sale_day", "store, event, quarter / 96 AS day, currency, place, tier", "true"),
        ("sale_quarter", "store, event, quarter, currency, tier", "true"),
    ),
    "delivery": (("delivery_sum", "store, event, quarter, sale, pixel, state, doubt", "true"),),
    "truth": (("truth_sum", "store, day, purchase, label", "true"),),
    "wait": (("wait_sum", "pixel, quarter, step", "true"),),
}
# Sums of nothing before a quarter of an hour; of clicks those that came from SQLite, for others go with their week.
_NO_SALES: Final = "n = 0 AND units = 0 AND reversed = 0"
_SWEPT: Final = {
    **dict.fromkeys(("sale_sum", "sale_quarter"), f"quarter < $1 AND {_NO_SALES}"),
    "sale_day": f"day < $1 / 96 AND {_NO_SALES}",
    **dict.fromkeys(("delivery_sum", "wait_sum"), "quarter < $1 AND n = 0"),
    "truth_sum": "day < $1 / 96 AND n = 0",
    **dict.fromkeys(("click_sum", "click_quarter"), "week = 0 AND quarter < $1 AND n = 0"),
    "click_day": "week = 0 AND day < $1 / 96 AND n = 0",
}
OF_WEEKS: Final = ("click_new", "click_sum", "click_day", "click_quarter")
_LATE: Final = "DELETE FROM click_new WHERE week = ANY($1::int[])"


def _fold(kind: str) -> str:
    sales = kind == "sale"
    parts = []
    for number, (table, keys, condition) in enumerate(_INTO[kind]):
        names = [key.rpartition(" ")[2] for key in keys.split(", ")]
        groups = ", ".join(str(n + 1) for n in range(len(names)))
        columns = ", ".join([*names, *(("n", "units", "reversed") if sales else ("n",))])
        parts.append(
            f"i{number} AS (INSERT INTO {table} ({columns})"
            f" SELECT {keys}, {_SALES if sales else 'sum(n)::bigint'} FROM gone WHERE {condition} GROUP BY {groups}"
            f" ON CONFLICT ({', '.join(names)}) DO UPDATE SET {(_ADD_SALES if sales else _ADD).format(table)})"
        )
    some = f"ctid = ANY(ARRAY(SELECT ctid FROM {kind}_new LIMIT $1::int))"
    gone = f"gone AS (DELETE FROM {kind}_new WHERE {some} RETURNING *)"
    return f"WITH {', '.join([gone, *parts])} SELECT count(*) FROM gone"


_FOLDS: Final = {kind: _fold(kind) for kind in _INTO}


async def fold(connection: Connection, limit: int) -> int:
    """Fold at most `limit` rows of each kind; how many were. 0 also where another courier is at it."""
    if not await connection.fetchval(_ALONE):
        return 0
    return sum([await connection.fetchval(sql, limit) for sql in _FOLDS.values()])


async def sweep(connection: Connection, quarter: int) -> None:
    """Take out the sums of nothing before this quarter, after a round of retention."""
    if await connection.fetchval(_ALONE):
        for table, nothing in _SWEPT.items():
            await connection.execute(f"DELETE FROM {table} WHERE {nothing}", quarter)


async def forget_week(connection: Connection, week: int, limit: int) -> int:
    """Forget some sums of a week of clicks, which is given up once there are none; how many rows were."""
    await connection.execute("SELECT pg_advisory_xact_lock(hashtext('collector sums'))")
    for table in OF_WEEKS:
        some = f"ctid = ANY(ARRAY(SELECT ctid FROM {table} WHERE week = $1 LIMIT $2))"
        said = await connection.execute(f"DELETE FROM {table} WHERE {some}", week, limit)
        if gone := int(said.rpartition(" ")[2]):
            return gone
    return 0


async def forget_late(connection: Connection, weeks: list[int]) -> None:
    """Forget what was changed in clicks of these weeks while they went: nobody changes any more."""
    await connection.execute(_LATE, weeks)
