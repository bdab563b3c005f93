"""What reports and the console ask, in PostgreSQL's words: each by the name that it has in `storage/reports`."""

from __future__ import annotations

from typing import Final

_STATES: Final = """
(SELECT string_agg(o.state::text, ',') FROM outbox o WHERE o.store = c.store AND o.conversion = c.id)"""
_STORED: Final = """
SELECT c.id, coalesce(s.name, ''), c.ts, c.received, c.event_type, c.flags, c.click, c.confidence, c.method"""
_ALL_STORES: Final = "ANY(ARRAY(SELECT id FROM store))"  # for the indexes that begin with the store
_NUMBERS: Final = "(SELECT value::bigint FROM json_array_elements_text($1::json))"
_SEEN: Final = "(now_ms() - 10000 << 22)"  # below it all that was committed is seen

SQL: Final = {
    "stores": "SELECT id FROM store ORDER BY id",
    "store": "SELECT id FROM store WHERE name = $1",
    "witness of the key": "SELECT value, true FROM pepper_check",
    "newest models": """
SELECT m.store, m.body FROM model m WHERE m.created = (SELECT max(created) FROM model WHERE store = m.store)""",
    "model": "SELECT m.body FROM model m JOIN store s ON s.id = m.store WHERE s.name = $1 AND m.version = $2",
    # -- one conversion
    "orders by name": f"""
SELECT id FROM conversion WHERE store = {_ALL_STORES} AND dedup_k IN {_NUMBERS} ORDER BY id""",
    "conversion": f"""{_STORED}, c.capi, {_STATES}, c.match, c.revision,
       c.ip_k IS NOT NULL, c.ua_k IS NOT NULL, c.body
  FROM conversion c LEFT JOIN store s ON s.id = c.store WHERE c.id = $1""",
    "last conversions": f"""{_STORED}, c.capi, {_STATES}, c.match
  FROM conversion c LEFT JOIN store s ON s.id = c.store WHERE c.id < $1 ORDER BY c.id DESC LIMIT $2""",
    "click": """
SELECT k.id, coalesce(s.name, ''), k.ts, k.last_ts, k.received, k.flags, k.body
  FROM click k LEFT JOIN store s ON s.id = k.store WHERE k.id = $1""",
    "deliveries of conversion": f"""
SELECT o.id, coalesce(p.name, ''), o.state, o.created, o.due, o.settled, o.attempts, o.doubts, o.doubt_at, o.reason
  FROM outbox o LEFT JOIN pixel p ON p.id = o.pixel
 WHERE o.store = {_ALL_STORES} AND o.conversion = $1 ORDER BY o.id""",
    "attempts of delivery": """
SELECT r.id, r.at, r.events, r.outcome, r.http_status, r.code, r.subcode, r.trace_id, r.message, r.took_ms
  FROM request r
 WHERE r.id IN (SELECT request FROM attempt WHERE outbox = $1 UNION SELECT request FROM outbox WHERE id = $1)
 ORDER BY r.id""",
    "steps to order": f"""
SELECT c.id, c.ts, c.event_type, c.body FROM conversion c
 WHERE c.store = {_ALL_STORES} AND c.click = $1 AND c.ts BETWEEN $2 AND $3 AND c.id <> $4
   AND c.event_type <> 'Purchase' AND c.flags & 16 = $5 AND c.id < $6
 ORDER BY c.id DESC LIMIT 200""",
    # -- orders of a span
    "purchases of a store": """
SELECT store, ts, flags, body, match, id FROM conversion
 WHERE event_type = 'Purchase' AND store = $1 AND ts >= $2 AND ts < $3 AND (ts, id) > ($4, $5)
 ORDER BY ts, id LIMIT $6""",
    "events of a store": """
SELECT store, ts, flags, body, match, id FROM conversion
 WHERE event_type = $7 AND store = $1 AND ts >= $2 AND ts < $3 AND (ts, id) > ($4, $5)
 ORDER BY ts, id LIMIT $6""",
    "bodies of clicks": f"SELECT id, body FROM click WHERE id IN {_NUMBERS}",
    # -- what happens; as below, it is told ten seconds later
    **{
        f"newest of {table}": f"""
SELECT coalesce((SELECT id FROM {table} WHERE id < {_SEEN} ORDER BY id DESC OFFSET $1 LIMIT 1), 0)"""
        for table in ("click", "conversion")
    },
    "newest of request": """
SELECT coalesce((SELECT id FROM request WHERE at < now_ms() - 10000 ORDER BY id DESC OFFSET $1 LIMIT 1), 0)""",
    "clicks since": f"""
SELECT k.id, k.received, s.name, k.flags, k.body FROM click k LEFT JOIN store s ON s.id = k.store
 WHERE k.id > $1 AND k.id < {_SEEN} ORDER BY k.id LIMIT $2""",
    "conversions since": f"""
SELECT c.id, c.received, s.name, c.event_type, c.flags, c.confidence, c.method, c.capi, {_STATES}, c.body
  FROM conversion c LEFT JOIN store s ON s.id = c.store WHERE c.id > $1 AND c.id < {_SEEN} ORDER BY c.id LIMIT $2""",
    "requests since": """
SELECT r.id, r.at, p.name, r.events, r.outcome, r.http_status, r.code, r.took_ms
  FROM request r LEFT JOIN pixel p ON p.id = r.pixel
 WHERE r.id > $1 AND r.at < now_ms() - 10000 OR r.id IN (SELECT value::bigint FROM json_array_elements_text($2::json))
 ORDER BY r.id LIMIT $3""",
    "refusals since": "SELECT code, sum(n)::bigint FROM refusal_sum WHERE quarter >= $1 GROUP BY 1",
    # -- everything, in the order of its ids; what is younger than ten seconds may still be followed by an older one
    **{
        f"ends of {table}": f"""
SELECT (SELECT min(id) FROM {table}), (SELECT max(id) FROM {table} WHERE id < {_SEEN})"""
        for table in ("click", "conversion", "outbox")
    },
    "exported clicks": """
SELECT k.id, s.name, k.ts, k.last_ts, k.received, k.flags, k.body, n.ip, n.user_agent
  FROM click k LEFT JOIN store s ON s.id = k.store LEFT JOIN click_network n ON n.id = k.id AND n.store = k.store
 WHERE k.id > $1 AND k.id <= $2 ORDER BY k.id LIMIT $3""",
    "exported conversions": f"""
SELECT c.id, s.name, c.ts, c.received, c.event_type, c.flags, c.click, c.confidence, c.method, c.revision, c.capi,
       {_STATES}, c.body, c.match, k.ts, k.body
  FROM conversion c LEFT JOIN store s ON s.id = c.store LEFT JOIN click k ON k.id = c.click AND k.store = c.store
 WHERE c.id > $1 AND c.id <= $2 ORDER BY c.id LIMIT $3""",
    "exported deliveries": """
SELECT o.id, o.conversion, s.name, c.event_type, c.body, p.name, o.state, o.created, o.settled, o.attempts, o.doubts,
       o.doubt_at, o.reason, r.at, r.outcome, r.http_status, r.code, r.subcode, r.trace_id, r.message
  FROM outbox o LEFT JOIN conversion c ON c.id = o.conversion AND c.store = o.store
  LEFT JOIN store s ON s.id = o.store LEFT JOIN pixel p ON p.id = o.pixel LEFT JOIN request r ON r.id = o.request
 WHERE o.id > $1 AND o.id <= $2 ORDER BY o.id LIMIT $3""",
}
