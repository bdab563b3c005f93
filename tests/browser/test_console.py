"""The console in Chromium: the strict policy breaks nothing, and what callers write never runs."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.console_process import ConsoleProcess, make_config
from tests.kit.console_store import add_click, add_conversion, make_store
from tests.kit.console_world import PAGES

pytestmark = pytest.mark.browser
RUN = "document.title='owned'"
EVIL = f"<script>{RUN}</script><img src=x onerror={RUN}><svg onload={RUN}>"


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsoleProcess]:
    if shutil.which("chromium") is None:
        pytest.skip("needs chromium from the distribution, as .ci/run installs it")
    data_dir, now = tmp_path_factory.mktemp("data"), int(time.time() * 1000)
    db = make_store(data_dir, now=now)
    click = add_click(db, now - 5000, landing_page=f"https://x.example/?utm_source={EVIL}&utm_campaign={EVIL}")
    add_conversion(db, now - 1000, click=click, order=EVIL, kind="<img src=x onerror=document.title='owned'>"[:50])
    with ConsoleProcess(make_config(data_dir)) as running:
        yield running


def _browse(url: str, profile: Path) -> tuple[str, str]:
    """The page as Chromium has it after its scripts ran, and what its console said."""
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}", "--dump-dom"]
    command += ["--virtual-time-budget=3000", "--enable-logging=stderr", "--v=0", url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    said = "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)
    return done.stdout, said


# The Live page stays open, so it has no end to dump; test_console_pages.py drives it.
@pytest.mark.parametrize("path", [path for path in PAGES if path != "/live"])
def test_the_policy_breaks_nothing_and_nothing_of_a_callers_runs(
    console: ConsoleProcess, tmp_path: Path, path: str
) -> None:
    html, said = _browse(console.url(path), tmp_path)
    assert "<title>owned" not in html
    assert "collector</title>" in html
    assert said == ""  # no refused style, script or connection
    assert "<nav" in html


def test_the_script_runs_and_speaks_the_viewers_time(console: ConsoleProcess, tmp_path: Path) -> None:
    html, _ = _browse(console.url("/events"), tmp_path)
    served = console.get("/events").text
    title = re.compile(r'<time datetime="[^"]+" title="([^"]+)"')
    assert title.findall(html) != title.findall(served)


def test_an_evil_conversion_is_shown_as_text(console: ConsoleProcess, tmp_path: Path) -> None:
    path = re.search(r"/conversions/conv_\w+", console.get("/events").text)
    assert path is not None
    html, said = _browse(console.url(path[0]), tmp_path)
    assert "<title>owned" not in html
    assert "&lt;script&gt;" in html
    assert said == ""


def test_the_control_shows_that_an_unescaped_page_would_be_owned(tmp_path: Path) -> None:
    if shutil.which("chromium") is None:
        pytest.skip("needs chromium from the distribution, as .ci/run installs it")
    page = tmp_path / "page.html"
    policy = "<meta http-equiv=content-security-policy content=\"style-src 'self'\">"
    page.write_text(f"{policy}<title>fine</title><p style='color:red'>{EVIL}", encoding="utf-8")
    html, said = _browse(page.as_uri(), tmp_path / "profile")
    assert "<title>owned" in html
    assert "style" in said  # a refusal by the policy would be heard
