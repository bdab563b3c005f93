"""The stores, their models, the key."""

from __future__ import annotations

from typing import Final

SQL: Final = {
    "stores": "SELECT id FROM store ORDER BY id",
    "store": "SELECT id FROM store WHERE name = $1",
    "witness of the key": "SELECT value, true FROM pepper_check",
    "newest models": """
SELECT m.store, m.body FROM model m WHERE m.created = (SELECT max(created) FROM model WHERE store = m.store)""",
    "model": "SELECT m.body FROM model m JOIN store s ON s.id = m.store WHERE s.name = $1 AND m.version = $2",
}
