"""`version --licences` and `--sbom`: every library with its licence's text, as CycloneDX has it."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest

from collector.cli import inside, main

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DIRECT = {found[0].lower() for line in PROJECT["dependencies"] if (found := re.match(r"[A-Za-z0-9._-]+", line))}


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> list[inside.Part]:
    """As an installed program knows them: the direct ones, and what these need."""
    names = DIRECT | {name for one in DIRECT for name in inside.needed(one)}
    found = inside.of_names(names)
    monkeypatch.setattr(inside, "parts", lambda: found)
    return found


def test_every_library_is_there_with_version_licence_and_text(parts: list[inside.Part]) -> None:
    known = {part.name.lower().replace("_", "-"): part for part in parts}
    assert set(known) >= {name.replace("_", "-") for name in DIRECT} | {"python", "sqlite", "anyio", "certifi"}
    for part in parts:
        assert part.version, part.name
        assert part.licence != "", part.name
    # A public-domain library brings no text; every other one asks to be told with it.
    assert {part.name for part in parts if not part.texts} <= {"iso4217", "Python"}


def test_the_texts_and_the_bill_of_materials_are_printed(
    parts: list[inside.Part], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["version", "--licences"]) == 0
    said = capsys.readouterr().out
    assert "Permission is hereby granted" in said
    assert said.count("=" * 80) == len(parts) - 1
    assert main(["version", "--sbom"]) == 0
    bill = json.loads(capsys.readouterr().out)
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    assert len({one["bom-ref"] for one in bill["components"]}) == len(parts)
    for one in bill["components"]:
        assert re.fullmatch(r"pkg:(pypi|generic)/[a-z0-9._-]+@\S+", one["purl"])
        assert one["type"] == "library"
        assert one["licenses"][0]["license"]["name"]


def test_sources_that_are_not_installed_say_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def absent(_: str) -> set[str]:
        raise inside.metadata.PackageNotFoundError

    monkeypatch.setattr(inside, "needed", absent)
    assert main(["version", "--licences"]) == 1
    assert "install it" in capsys.readouterr().err
