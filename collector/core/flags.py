"""The bits in `click.flags` and `conversion.flags`: why a row is kept apart."""

from __future__ import annotations

from typing import Final

BOT: Final = 1  # a crawler, or a data centre's agent
PREFETCH: Final = 2  # the browser or app fetched the page ahead of a person
DENIED: Final = 4  # the visitor refused marketing
PENDING: Final = 8  # the visitor has not decided yet
TEST: Final = 16  # a merchant's own test
RECOVERED: Final = 32  # a click that we know only from a later fbc
TIME_CORRECTED: Final = 64  # the caller's clock was wrong; the time of receipt stands
UNCONFIRMED: Final = 128  # a Purchase that only a page has told us of, or a page's telling that is but a note
WITHDRAWN: Final = 256  # consent was taken back later

# Counts as a sale nowhere, and teaches nothing (T6).
NO_SALE: Final = TEST | BOT | UNCONFIRMED
# Never a candidate, never counted in a frequency.
INELIGIBLE: Final = BOT | PREFETCH | DENIED | PENDING | TEST | WITHDRAWN
# In no frequency: a recovered click may still be told of by itself, and would then count twice.
UNCOUNTED: Final = INELIGIBLE | RECOVERED
