"""Everything, in the order of its ids; what is younger than ten seconds may still be followed by an older one."""

from __future__ import annotations

from typing import Final

from collector.storage.postgres.told.words import SEEN, STATES

SQL: Final = {
    **{
        f"ends of {table}": f"""
SELECT (SELECT min(id) FROM {table}), (SELECT max(id) FROM {table} WHERE id < {SEEN})"""
        for table in ("click", "conversion", "outbox")
    },
    "exported clicks": """
SELECT k.id, s.name, k.ts, k.last_ts, k.received, k.flags, k.body, n.ip, n.user_agent
  FROM click k LEFT JOIN store s ON s.id = k.store LEFT JOIN click_network n ON n.id = k.id AND n.store = k.store
 WHERE k.id > $1 AND k.id <= $2 ORDER BY k.id LIMIT $3""",
    "exported conversions": f"""
SELECT c.id, s.name, c.ts, c.received, c.event_type, c.flags, c.click, c.confidence, c.method, c.revision, c.capi,
       {STATES}, c.body, c.match, k.ts, k.body
  FROM conversion c LEFT JOIN store s ON s.id = c.store LEFT JOIN click k ON k.id = c.click AND k.store = c.store
 WHERE c.id > $1 AND c.id <= $2 ORDER BY c.id LIMIT $3""",
    "exported deliveries": """
SELECT o.id, o.conversion, s.name, c.event_type, c.body, p.name, o.state, o.created, o.settled, o.attempts, o.doubts,
       o.doubt_at, o.reason, r.at, r.outcome, r.http_status, r.code, r.subcode, r.trace_id, r.message
  FROM outbox o LEFT JOIN conversion c ON c.id = o.conversion AND c.store = o.store
  LEFT JOIN store s ON s.id = o.store LEFT JOIN pixel p ON p.id = o.pixel LEFT JOIN request r ON r.id = o.request
 WHERE o.id > $1 AND o.id <= $2 ORDER BY o.id LIMIT $3""",
}
