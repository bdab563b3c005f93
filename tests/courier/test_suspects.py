"""D4: all of a batch refused alone by one code accuses the call, however many of it are left to be asked."""

from __future__ import annotations

import pytest

from collector.core.capi.verdicts import Kind, Verdict
from collector.courier.suspects import Suspects

REFUSED = Verdict(kind=Kind.REFUSED, code=105, message="no")


@pytest.mark.parametrize(
    ("batch", "gone", "refused", "call"),
    [(3, 0, 2, False), (3, 0, 3, True), (3, 1, 2, True), (9, 0, 3, True), (9, 7, 2, True), (3, 2, 1, False)],
)
def test_D4_what_is_not_asked_any_more_counts_for_no_part_of_the_batch(
    batch: int, gone: int, refused: int, call: bool
) -> None:
    suspects = Suspects(batch)
    suspects.without(gone)
    for one in range(refused):
        suspects.add([one], REFUSED)
    assert suspects.accuse_the_call is call
    suspects.cleared()
    assert not suspects.accuse_the_call
