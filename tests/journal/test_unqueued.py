"""What is never queued says why, wherever it is shown: in the answer, to `explain`, on its page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from collector.core.capi import gate
from collector.core.capi.states import CapiState
from collector.storage.reports import commands
from tests.edge.test_error_shape import ORDER
from tests.kit.console_process import ConsoleProcess
from tests.kit.edge_process import running
from tests.kit.journal_kit import Kit, config_for, order

REASONS: dict[str, tuple[dict[str, Any], str]] = {
    "a tool": ({"eventType": "Lead", "orderId": None, "userAgent": "curl/8.5.0"}, "not a person: "),
    "no consent": ({"consent": {"marketing": "denied"}}, "consent denied"),
    "a test": ({"test": True}, "a test order without testEventCode"),
    "a cancelled order": ({"orderStatus": "cancelled"}, "the order was cancelled before it was sent"),
}


@pytest.mark.parametrize("name", REASONS)
def test_the_answer_and_the_read_say_why(tmp_path: Path, name: str) -> None:
    more, reason = REASONS[name]
    with running(tmp_path) as edge:
        posted = edge.post("/v1/track/conversion", ORDER | more).body["data"]
        read = edge.get(f"/v1/conversions/{posted['conversionId']}").body["data"]
        fine = edge.post(
            "/v1/track/conversion",
            ORDER | {"orderId": "fine", "userAgent": "Mozilla/5.0", "customerData": {"email": "a@b.example"}},
        ).body["data"]
    assert posted["capiStatus"] == read["capiStatus"] == "skipped"
    assert posted["capiReason"] == read["capiReason"]
    assert posted["capiReason"].startswith(reason)
    assert "capiReason" not in fine


def test_a_store_without_a_pixel_says_so(tmp_path: Path) -> None:
    with running(tmp_path, mode="live") as edge:
        posted = edge.post("/v1/track/conversion", ORDER | {"storeId": "store_other"}, "other").body["data"]
    assert posted["capiStatus"] == "disabled"
    assert "no pixel" in posted["capiReason"]


def test_explain_and_the_page_say_why(tmp_path: Path) -> None:
    config = config_for(tmp_path)
    with Kit(tmp_path, config=config) as kit:
        (result,) = kit.post(order("A", orderStatus="cancelled"))
        public = kit.journal.public.public("conv", result.state.row.id)
    found = commands.explain(config, public)
    assert found is not None
    assert (found["capiStatus"], found["capiReason"]) == ("skipped", "the order was cancelled before it was sent")
    with ConsoleProcess(config) as console:
        page = console.get(f"/conversions/{public}").text
    assert "left out on purpose (the order was cancelled before it was sent)" in page


def test_other_states_need_no_reason_of_their_own(tmp_path: Path) -> None:
    with Kit(tmp_path) as kit:
        (result,) = kit.post(order("A"))
    for state in set(CapiState) - {CapiState.SKIPPED, CapiState.DISABLED}:
        assert gate.why_unqueued(result.state.event, state) is None
