"""Logs: one line a record, allowed fields only, never the text of an exception or the arguments of a library."""

from __future__ import annotations

import io
import json
import logging

import pytest

from collector import telemetry
from collector.config import LogConfig
from collector.errors import StorageError


@pytest.fixture
def lines():
    stream = io.StringIO()
    before = logging.root.handlers[:], logging.root.level
    telemetry.configure(LogConfig(format="json", level="debug"), "edge", stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    logging.root.handlers[:], logging.root.level = before


def test_an_allowed_field_is_written_and_another_only_named(lines):
    telemetry.logger("edge").info("stored", rows=3, store="s1", email="jo@example.com")
    (line,) = lines()
    assert line["message"] == "stored"
    assert (line["rows"], line["store"], line["process"], line["part"]) == (3, "s1", "edge", "edge")
    assert line["withheld"] == ["email"]
    assert "jo@example.com" not in json.dumps(line)


def test_an_exception_leaves_its_type_and_place_but_not_its_text(lines):
    try:
        raise ValueError("cannot parse jo@example.com")
    except ValueError as error:
        telemetry.logger("edge").failed("a request failed", error, route="/v1/track/click")
        logging.getLogger("somebody").exception("oops %s", "jo@example.com")
    ours, theirs = lines()
    assert ours["error"] == theirs["error"] == "ValueError"
    assert "test_telemetry.py" in ours["at"]
    assert theirs["message"] == "oops %s"
    assert "jo@example.com" not in json.dumps([ours, theirs])


def test_what_storage_says_of_itself_is_told(lines):
    telemetry.logger("keeper").failed("upkeep failed", StorageError("no host of [storage] dsn takes writes"))
    (line,) = lines()
    assert (line["reason"], line["error"]) == ("no host of [storage] dsn takes writes", "StorageError")


def test_control_characters_cannot_forge_a_second_line(lines):
    telemetry.logger("edge").warning("refused", reason="a\n{}\x1b[31m" + "x" * 1000)
    (line,) = lines()
    assert "\n" not in line["reason"]
    assert len(line["reason"]) < 400


def test_a_client_library_logs_no_urls(lines):
    logging.getLogger("httpx").info("HTTP Request: POST https://graph/?access_token=EAA")
    assert lines() == []


def test_text_is_for_people():
    stream = io.StringIO()
    before = logging.root.handlers[:], logging.root.level
    try:
        telemetry.configure(LogConfig(format="text"), "courier", stream)
        telemetry.logger("courier").info("sent", events=5)
        telemetry.logger("courier").debug("not at this level")
    finally:
        logging.root.handlers[:], logging.root.level = before
    assert stream.getvalue().endswith("info    courier    sent  events=5\n")
