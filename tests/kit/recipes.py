"""The recipes of README, edge/README and SEVERAL, read from there, so that what the tests run is what people copy."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", ROOT / "collector" / "edge" / "README.md", ROOT / "collector" / "SEVERAL.md")


def names() -> set[str]:
    """Every recipe's name."""
    return {name for page in PAGES for name in re.findall(r"(?m)^<!-- recipe: (\S+) -->$", page.read_text())}


def recipe(name: str, exchange: Mapping[str, str] | None = None) -> str:
    """The code block under `<!-- recipe: name -->`, with names of the reader's own in the place of the example's."""
    text = "\n".join(page.read_text() for page in PAGES)
    found = re.findall(rf"<!-- recipe: {re.escape(name)} -->\n```\w*\n(.*?)```", text, re.DOTALL)
    assert len(found) == 1, f"{len(found)} recipes {name} in README.md, collector/edge/README.md, collector/SEVERAL.md"
    text = found[0]
    for old, new in (exchange or {}).items():
        assert old in text, f"the recipe {name} does not mention {old}"
        text = text.replace(old, new)
    return text
