"""What reports and the console ask, in PostgreSQL's words: each by the name that it has in `storage/reports`.

A file a theme. $1, $2 … are what a question was `given`, then what it is asked with (reports/questions.py).
"""

from __future__ import annotations

from typing import Final

from collector.storage.postgres.told import console, exports, ground, live, orders, pages, sums

SQL: Final[dict[str, str]] = {
    **ground.SQL,
    **orders.SQL,
    **live.SQL,
    **exports.SQL,
    **console.SQL,
    **pages.SQL,
    **sums.SQL,
}
