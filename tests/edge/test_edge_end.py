"""An edge that is told to end closes its journal and ends with 0: uvicorn alone would die of the signal before that."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.edge.test_error_shape import CLICK
from tests.kit.edge_process import running
from tests.kit.raw_http import eventually

CLOSING = (
    "from collector.storage.journal.journal import Journal as J; C = J.close; "
    "J.close = lambda self: (C(self), print('the journal is closed', file=sys.stderr, flush=True))"
)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_journal_is_closed_before_the_process_ends(tmp_path: Path, number: signal.Signals) -> None:
    with running(tmp_path, CLOSING) as edge:
        assert edge.post("/v1/track/click", CLICK).status == 200
        os.kill(edge.pid, number)
        assert eventually(lambda: "the journal is closed" in edge.log.read_text(), 60)
