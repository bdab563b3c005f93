"""The served script is made from the readable one, by terser in a fixed version, and by nothing else."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ASSETS = Path(__file__).parents[2] / "collector" / "edge" / "assets"
TERSER = "terser@5.51.2"
OPTIONS = ["--compress", "passes=3,unsafe_arrows=true", "--mangle", "--ecma", "2018"]

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(shutil.which("npm") is None, reason="terser comes by npm"),
]


def test_the_minified_script_is_the_readable_one(tmp_path: Path) -> None:
    subprocess.run(
        ["npm", "install", "--silent", "--no-save", "--prefix", str(tmp_path), TERSER], check=True, capture_output=True
    )
    made = subprocess.run(
        [str(tmp_path / "node_modules/.bin/terser"), str(ASSETS / "collector.js"), *OPTIONS],
        check=True,
        capture_output=True,
    ).stdout
    assert made.strip() == (ASSETS / "collector.min.js").read_bytes().strip(), "make it again: npx " + " ".join(
        [TERSER, "collector.js", *OPTIONS, "-o", "collector.min.js"]
    )
