"""The README's recipes, read from it, so that what the tests run is what people copy."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"


def recipe(name: str, exchange: Mapping[str, str] | None = None) -> str:
    """The code block under `<!-- recipe: name -->`, with names of the reader's own in the place of the example's."""
    found = re.search(rf"<!-- recipe: {re.escape(name)} -->\n```\w*\n(.*?)```", README.read_text(), re.DOTALL)
    assert found, f"README.md has no recipe {name}"
    text = found[1]
    for old, new in (exchange or {}).items():
        assert old in text, f"the recipe {name} does not mention {old}"
        text = text.replace(old, new)
    return text
