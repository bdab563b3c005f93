"""One order, and the orders of a span."""

from __future__ import annotations

from typing import Final

from collector.storage.postgres.told.words import ALL_STORES, NUMBERS, STATES, STORED

SQL: Final = {
    "orders by name": f"""
SELECT id FROM conversion WHERE store = {ALL_STORES} AND dedup_k IN {NUMBERS} ORDER BY id""",
    "conversion": f"""{STORED}, c.capi, {STATES}, c.match, c.revision,
       c.ip_k IS NOT NULL, c.ua_k IS NOT NULL, c.body
  FROM conversion c LEFT JOIN store s ON s.id = c.store WHERE c.id = $1""",
    "last conversions": f"""{STORED}, c.capi, {STATES}, c.match
  FROM conversion c LEFT JOIN store s ON s.id = c.store WHERE c.id < $1 ORDER BY c.id DESC LIMIT $2""",
    "click": """
SELECT k.id, coalesce(s.name, ''), k.ts, k.last_ts, k.received, k.flags, k.body
  FROM click k LEFT JOIN store s ON s.id = k.store WHERE k.id = $1""",
    "deliveries of conversion": f"""
SELECT o.id, coalesce(p.name, ''), o.state, o.created, o.due, o.settled, o.attempts, o.doubts, o.doubt_at, o.reason
  FROM outbox o LEFT JOIN pixel p ON p.id = o.pixel
 WHERE o.store = {ALL_STORES} AND o.conversion = $1 ORDER BY o.id""",
    "attempts of delivery": """
SELECT r.id, r.at, r.events, r.outcome, r.http_status, r.code, r.subcode, r.trace_id, r.message, r.took_ms
  FROM request r
 WHERE r.id IN (SELECT request FROM attempt WHERE outbox = $1 UNION SELECT request FROM outbox WHERE id = $1)
 ORDER BY r.id""",
    "steps to order": f"""
SELECT c.id, c.ts, c.event_type, c.body FROM conversion c
 WHERE c.store = {ALL_STORES} AND c.click = $1 AND c.ts BETWEEN $2 AND $3 AND c.id <> $4
   AND c.event_type <> 'Purchase' AND c.flags & 16 = $5 AND c.id < $6
 ORDER BY c.id DESC LIMIT 200""",
    "purchases of a store": """
SELECT store, ts, flags, body, match, id FROM conversion
 WHERE event_type = 'Purchase' AND store = $1 AND ts >= $2 AND ts < $3 AND (ts, id) > ($4, $5)
 ORDER BY ts, id LIMIT $6""",
    "events of a store": """
SELECT store, ts, flags, body, match, id FROM conversion
 WHERE event_type = $7 AND store = $1 AND ts >= $2 AND ts < $3 AND (ts, id) > ($4, $5)
 ORDER BY ts, id LIMIT $6""",
    "bodies of clicks": f"SELECT id, body FROM click WHERE id IN {NUMBERS}",
}
