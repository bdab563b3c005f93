"""How is the answer to what is done once rendered, and how long is it remembered?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from collector.core.ids import PublicIds
from collector.errors import ApiError
from collector.exchange.operations import Once
from collector.exchange.prepared import batch_body

IDEMPOTENCY_MS: Final = 86_400_000


def rendered(once: Once, results: Sequence[Any], public: PublicIds) -> bytes:
    """The answer's body. Raises the ApiError of a single item, which is not remembered."""
    if once.batch:
        return batch_body(once.items, results, public)
    (item,) = once.items
    if isinstance(results[0], ApiError):
        raise results[0]
    assert not isinstance(item, bytes)
    return item.answer(results[0], public).encode()
