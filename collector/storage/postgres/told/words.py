"""What several questions have in common."""

from __future__ import annotations

from typing import Final

STATES: Final = """
(SELECT string_agg(o.state::text, ',') FROM outbox o WHERE o.store = c.store AND o.conversion = c.id)"""
STORED: Final = """
SELECT c.id, coalesce(s.name, ''), c.ts, c.received, c.event_type, c.flags, c.click, c.confidence, c.method"""
ALL_STORES: Final = "ANY(ARRAY(SELECT id FROM store))"  # for the indexes that begin with the store
NUMBERS: Final = "(SELECT value::bigint FROM json_array_elements_text($1::json))"
SEEN: Final = "(seen_ms() << 22)"  # below it all that was committed is seen
