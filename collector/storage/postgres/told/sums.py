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


def _in_steps(table: str, first: int) -> tuple[str, str]:
    """When the column of a plot that a row is in begins, and the condition that it is in one: they follow each other.

    From parameter `first` on: when each begins (ms), its first quarter, the first after it.
    """
    begins, firsts, ends = (f"(${first + n}::{type_}[])" for n, type_ in enumerate(("bigint", "int", "int")))
    within = f"{table}.quarter >= {firsts}[1] AND {table}.quarter < {ends}[cardinality({ends})]"
    return f"{begins}[width_bucket({table}.quarter, {firsts})]", within


_AT, _IN = _in_steps("q", 2)
_DELIVERY_AT, _DELIVERY_IN = _in_steps("d", 2)
_WAIT_AT, _WAIT_IN = _in_steps("w", 1)
_SALES: Final = "sum(n)::bigint, sum(units), sum(reversed)::bigint"
SQL: Final = {
    "sales by step": f"""
SELECT ({_AT} << 2) + q.tier, q.currency, sum(q.n)::bigint, sum(q.units), sum(q.reversed)::bigint
  FROM sale_quarters q WHERE q.{_OF_STORES} AND q.event = $5 AND {_IN}
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
SELECT {_AT}, sum(q.n)::bigint FROM click_quarters q WHERE q.{_OF_STORES} AND {_IN}
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
SELECT d.at, p.name, d.state, d.doubt, d.n FROM (
    SELECT {_DELIVERY_AT} AS at, d.pixel, d.state, d.doubt, sum(d.n)::bigint AS n FROM delivery_sums d
     WHERE d.{_OF_STORES} AND d.event = $5 AND {_DELIVERY_IN} AND d.sale
     GROUP BY 1, 2, 3, 4 HAVING sum(d.n) <> 0) d
  JOIN pixel p ON p.id = d.pixel
 ORDER BY 1, 2, 3, 4""",
    "waits by step": f"""
SELECT w.at, p.name, w.step, w.n FROM (
    SELECT {_WAIT_AT} AS at, w.pixel, w.step, sum(w.n)::bigint AS n FROM wait_sums w
     WHERE w.pixel = ANY(ARRAY(SELECT id FROM pixel)) AND {_WAIT_IN}
     GROUP BY 1, 2, 3 HAVING sum(w.n) <> 0) w
  JOIN pixel p ON p.id = w.pixel
 ORDER BY 1, 2, 3""",
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
