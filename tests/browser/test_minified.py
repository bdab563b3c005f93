"""The served script is made from the readable one, by terser in a fixed version, and by nothing else."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ASSETS = Path(__file__).parents[2] / "collector" / "edge" / "assets"
TERSER = "terser@5.51.2"
OPTIONS = ["--compress", "passes=3,unsafe_arrows=true", "--mangle", "--ecma", "2018"]
# V8 compiles all of it at once, where it would parse each function first to skip it and then again to run it.
EAGER = ["--format", "preamble='//# allFunctionsCalledOnLoad'"]

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(shutil.which("npm") is None, reason="terser comes by npm"),
]


@pytest.mark.parametrize(("name", "more"), [("collector", EAGER), ("collector.pixel", ["--module"])])
def test_each_minified_script_is_the_readable_one(tmp_path: Path, name: str, more: list[str]) -> None:
    subprocess.run(
        ["npm", "install", "--silent", "--no-save", "--prefix", str(tmp_path), TERSER], check=True, capture_output=True
    )
    options = [*OPTIONS, *more]
    found = subprocess.run(
        [str(tmp_path / "node_modules/.bin/terser"), str(ASSETS / f"{name}.js"), *options],
        check=True,
        capture_output=True,
    ).stdout
    assert found.strip() == (ASSETS / f"{name}.min.js").read_bytes().strip(), "make it again: npx " + " ".join(
        [TERSER, f"{name}.js", *options, "-o", f"{name}.min.js"]
    )
