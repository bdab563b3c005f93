"""What the sums say of a span: the views of migrations/0005_sums.sql, which are what is folded and what is new."""

from __future__ import annotations

from typing import Final

from collector.core.event_names import STANDARD

# For keys that begin with store and event.
_EVENTS: Final = ", ".join(f"'{name}'" for name in (*sorted(STANDARD), "(custom)"))
_OF_STORES: Final = "store = ANY($1::int[])"


def _rows(kind: str, columns: str, condition: str = "true") -> str:
    """Of a span its whole days ($2, $3), and the quarters before ($4, $5) and after them ($6, $7)."""
    which = f"{_OF_STORES} AND {condition}"
    return f"""
 FROM (SELECT {columns} FROM {kind}_days WHERE {which} AND day >= $2 AND day < $3
       UNION ALL SELECT {columns} FROM {kind}_sums WHERE {which} AND quarter >= $4 AND quarter < $5
       UNION ALL SELECT {columns} FROM {kind}_sums WHERE {which} AND quarter >= $6 AND quarter < $7) AS found"""


def _steps(first: int) -> str:
    """The columns of a plot: when each begins (ms), its quarters."""
    return f"unnest(${first}::bigint[], ${first + 1}::int[], ${first + 2}::int[]) AS s (at, first, upto)"


_SALES: Final = "sum(n)::bigint, sum(units), sum(reversed)::bigint"
SQL: Final = {
    "sales by step": f"""
SELECT (s.at << 2) + q.tier, q.currency, sum(q.n)::bigint, sum(q.units), sum(q.reversed)::bigint
  FROM {_steps(2)} JOIN sale_quarters q
    ON q.{_OF_STORES} AND q.event = $5 AND q.quarter >= s.first AND q.quarter < s.upto
 GROUP BY 1, 2 HAVING sum(q.n) <> 0 ORDER BY 1, 2""",
    "sales by tier": f"""
SELECT coalesce(sum(n), 0)::bigint, coalesce(sum(n) FILTER (WHERE tier = 1), 0)::bigint,
       coalesce(sum(n) FILTER (WHERE tier = 2), 0)::bigint
  FROM sale_quarters WHERE {_OF_STORES} AND quarter >= $2 AND quarter < $3 AND event = $4""",
    "sales by place": f"""
SELECT place, currency, tier, {_SALES} {_rows("sale", "place, currency, tier, n, units, reversed", "event = $8")}
 GROUP BY 1, 2, 3 HAVING sum(n) <> 0 ORDER BY 1, 2, 3""",
    "events of a span": f"""
SELECT event, sum(n)::bigint {_rows("sale", "event, n", f"event IN ({_EVENTS})")}
 GROUP BY 1 HAVING sum(n) <> 0 ORDER BY 2 DESC, 1""",
    "sales of a span": f"""
SELECT event, store, currency, tier, {_SALES}
 {_rows("sale", "event, store, currency, tier, n, units, reversed", f"event IN ({_EVENTS})")}
 GROUP BY 1, 2, 3, 4 HAVING sum(n) <> 0 ORDER BY 1, 2, 3, 4""",
    "clicks of a span": f"SELECT (apart <> '')::int, sum(n)::bigint {_rows('click', 'apart, n')} GROUP BY 1",
    "clicks by step": f"""
SELECT s.at, sum(q.n)::bigint FROM {_steps(2)} JOIN click_quarters q
    ON q.{_OF_STORES} AND q.quarter >= s.first AND q.quarter < s.upto
 GROUP BY 1 HAVING sum(q.n) <> 0 ORDER BY 1""",
    "clicks by place": f"""
SELECT place, sum(n)::bigint {_rows("click", "place, n", "apart = ''")} GROUP BY 1 HAVING sum(n) <> 0 ORDER BY 1""",
    "clicks kept apart": f"""
SELECT apart, sum(n)::bigint {_rows("click", "apart, n", "apart <> ''")}
 GROUP BY 1 HAVING sum(n) <> 0 ORDER BY 2 DESC, 1""",
    "places": "SELECT id, name FROM place WHERE id = ANY($1::int[])",
    "all places": "SELECT id, store, name FROM place",
    "deliveries": f"""
SELECT 0, coalesce(p.name, ''), d.state, d.doubt, sum(d.n)::bigint
  FROM delivery_sums d LEFT JOIN pixel p ON p.id = d.pixel
 WHERE d.{_OF_STORES} AND d.quarter >= $2 AND d.quarter < $3 AND d.event = $4 AND (d.sale OR $5::int = 0)
 GROUP BY 2, 3, 4 HAVING sum(d.n) <> 0 ORDER BY 2, 3, 4""",
    "deliveries by step": f"""
SELECT s.at, p.name, d.state, d.doubt, sum(d.n)::bigint
  FROM {_steps(2)} JOIN delivery_sums d
    ON d.{_OF_STORES} AND d.event = $5 AND d.quarter >= s.first AND d.quarter < s.upto AND d.sale
  JOIN pixel p ON p.id = d.pixel
 GROUP BY 1, 2, 3, 4 HAVING sum(d.n) <> 0 ORDER BY 1, 2, 3, 4""",
    "waits by step": f"""
SELECT s.at, p.name, w.step, sum(w.n)::bigint
  FROM {_steps(1)} CROSS JOIN pixel p
  JOIN wait_sums w ON w.pixel = p.id AND w.quarter >= s.first AND w.quarter < s.upto
 GROUP BY 1, 2, 3 HAVING sum(w.n) <> 0 ORDER BY 1, 2, 3""",
    "states of a span": f"""
SELECT coalesce(p.name, ''), d.state, sum(d.n)::bigint FROM delivery_sums d LEFT JOIN pixel p ON p.id = d.pixel
 WHERE d.event IN ({_EVENTS}) AND d.sale AND d.{_OF_STORES} AND d.quarter >= $2 AND d.quarter < $3
 GROUP BY 1, 2 HAVING sum(d.n) <> 0 ORDER BY 1, 2""",
    "has event": """
SELECT EXISTS (SELECT 1 FROM store s WHERE EXISTS (SELECT 1 FROM sale_days d WHERE d.store = s.id AND d.event = $1))""",
    "taken of pixel": """
SELECT quarter::bigint * 900000 FROM wait_sums WHERE pixel = $1 AND n > 0 ORDER BY quarter DESC LIMIT 1""",
    "sellers": """
SELECT s.id FROM store s
 WHERE (SELECT sum(n) FROM sale_quarters t WHERE t.store = s.id AND t.event = 'Purchase' AND t.quarter >= $1) > 0
 ORDER BY 1""",
    "labels": """
SELECT t.store, t.purchase::int, t.label, sum(t.n)::bigint
  FROM store s JOIN truth_sums t ON t.store = s.id AND t.day >= $1
 GROUP BY 1, 2, 3 HAVING sum(t.n) <> 0 ORDER BY 1, 2, 3""",
    "decoys": "SELECT store, name, sum(n)::bigint FROM counter WHERE day >= $1 AND name IN ($2, $3, $4) GROUP BY 1, 2",
}
