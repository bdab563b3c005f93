"""What happens; as an export, it is told ten seconds later."""

from __future__ import annotations

from typing import Final

from collector.storage.postgres.told.words import SEEN, STATES

SQL: Final = {
    **{
        f"newest of {table}": f"""
SELECT coalesce((SELECT id FROM {table} WHERE id < {SEEN} ORDER BY id DESC OFFSET $1 LIMIT 1), 0)"""
        for table in ("click", "conversion")
    },
    "newest of request": """
SELECT coalesce((SELECT id FROM request WHERE at < seen_ms() ORDER BY id DESC OFFSET $1 LIMIT 1), 0)""",
    "clicks since": f"""
SELECT k.id, k.received, s.name, k.flags, k.body FROM click k LEFT JOIN store s ON s.id = k.store
 WHERE k.id > $1 AND k.id < {SEEN} ORDER BY k.id LIMIT $2""",
    "conversions since": f"""
SELECT c.id, c.received, s.name, c.event_type, c.flags, c.confidence, c.method, c.capi, {STATES}, c.body
  FROM conversion c LEFT JOIN store s ON s.id = c.store WHERE c.id > $1 AND c.id < {SEEN} ORDER BY c.id LIMIT $2""",
    "requests since": """
SELECT r.id, r.at, p.name, r.events, r.outcome, r.http_status, r.code, r.took_ms
  FROM request r LEFT JOIN pixel p ON p.id = r.pixel
 WHERE r.id > $1 AND r.at < seen_ms() OR r.id IN (SELECT value::bigint FROM json_array_elements_text($2::json))
 ORDER BY r.id LIMIT $3""",
    "refusals since": "SELECT code, sum(n)::bigint FROM refusal_sum WHERE quarter >= $1 GROUP BY 1",
}
