"""`collector init`: a folder that runs, keys shown once, six steps; nothing overwritten, nothing left of a failure."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from collector.cli import going_live, init, main
from collector.config_loader import load, load_settings
from collector.errors import StorageError
from tests.kit.program import ROOT

DOMAIN = ("--domain", "mystore.com")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]):
    def run(*argv: str) -> tuple[int, str, str]:
        code = main(argv)
        out = capsys.readouterr()
        return code, out.out, out.err

    return run


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_folder_passes_config_check_and_holds_keys_that_work(run, tmp_path):
    folder = tmp_path / "new" / "shop"
    code, out, _ = run("init", str(folder), *DOMAIN, "--currency", "usd", "--country", "us", "--json")
    made = json.loads(out)
    assert code == 0
    settings = load_settings(str(folder / "collector.toml"), {})
    assert settings.warnings == []
    assert settings.config.meta.mode == "dry_run"
    (store,) = settings.config.store
    assert (store.id, store.domains, store.currency, store.country) == ("store_mystore", ["mystore.com"], "USD", "US")
    assert mode(folder / "collector.toml") == mode(folder / "meta.token") == 0o600
    kinds = {
        key["kind"]: key["store"] for key in json.loads(run("keys", "list", "--json", "--data-dir", made_in(folder))[1])
    }
    assert kinds == {"secret": store.id, "publishable": store.id}
    assert made["secret"].startswith("sk_")
    assert made["publishable"].startswith("pk_")
    assert made["secret"] not in (folder / "collector.toml").read_text()


def made_in(folder: Path) -> str:
    return str(folder / "collector-data")


def test_a_token_file_with_something_in_it_makes_it_live(run, tmp_path):
    token = tmp_path / "a.token"
    token.write_text("EAAtoken\n")
    code, _, _ = run("init", str(tmp_path / "shop"), *DOMAIN, "--pixel", "123456789012345", "--token-file", str(token))
    assert code == 0
    config = load(str(tmp_path / "shop/collector.toml"), {})
    assert config.meta.mode == "live"
    assert config.store[0].pixel[0].access_token == "EAAtoken"


def test_a_token_that_lies_in_the_folder_is_found(run, tmp_path):
    (tmp_path / "meta.token").write_text("EAAtoken")
    assert run("init", str(tmp_path), *DOMAIN, "--pixel", "123456789012345")[0] == 0
    assert load(str(tmp_path / "collector.toml"), {}).meta.mode == "live"


def test_the_lines_of_the_pixel_need_only_be_uncommented(run, tmp_path):
    run("init", str(tmp_path), *DOMAIN, "--pixel", "123456789012345")
    path = tmp_path / "collector.toml"
    text = re.sub(r"(?m)^# (\[\[store.pixel\]\]|id = |access_token_file)", r"\1", path.read_text())
    path.write_text(text.replace('mode = "dry_run"', 'mode = "live"'))
    (tmp_path / "meta.token").write_text("EAAtoken")
    assert load(str(path), {}).store[0].pixel[0].id == "123456789012345"


@pytest.mark.parametrize("there", ["collector.toml", "collector-data/collector.db"])
def test_nothing_is_overwritten(run, tmp_path, there):
    path = tmp_path / there
    path.parent.mkdir(exist_ok=True)
    path.write_text("mine")
    code, _, err = run("init", str(tmp_path), *DOMAIN)
    assert code == 2
    assert str(path) in err
    assert path.read_text() == "mine"


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--domain", "co.uk"], "--domain"),
        (["--domain", "https://mystore.com/x"], "--domain"),
        ([*DOMAIN, "--store", "a b"], "--store"),
        ([*DOMAIN, "--pixel", "pixel"], "--pixel"),
        ([*DOMAIN, "--currency", "EURO"], "--currency"),
        ([*DOMAIN, "--country", "Germany"], "--country"),
        ([*DOMAIN, "--token-file", "absent"], "--token-file"),
        ([], "--domain"),
    ],
)
def test_a_fault_names_its_flag_and_leaves_nothing(run, tmp_path, monkeypatch, flags, named):
    monkeypatch.setattr(sys, "stdin", open(os.devnull))  # noqa: SIM115
    code, _, err = run("init", str(tmp_path / "shop"), *flags)
    assert code == 2
    assert err.startswith(named)
    assert not (tmp_path / "shop").exists()


def test_what_a_failed_init_made_is_gone_and_the_next_one_works(run, tmp_path, monkeypatch):
    def broken(*_: object) -> None:
        raise StorageError("no room")

    with monkeypatch.context() as patch:
        patch.setattr(init, "load_pepper", broken)
        assert run("init", str(tmp_path), *DOMAIN)[0] == 3
    assert list(tmp_path.iterdir()) == []
    assert run("init", str(tmp_path), *DOMAIN)[0] == 0


def test_the_six_steps_are_printed_and_stand_in_the_readme(run, tmp_path):
    _, out, _ = run("init", str(tmp_path), *DOMAIN)
    assert len(re.findall(r"(?m)^\d\. ", out)) == len(going_live.steps("f", "s")) == 6
    readme = " ".join((ROOT / "README.md").read_text().split())
    assert all(step in out for step in going_live.steps(str(tmp_path / "collector.toml"), "store_mystore"))
    assert all(step in readme for step in going_live.steps("collector.toml", "store_abc123"))


def test_on_a_terminal_it_asks_what_it_cannot_find_out(tmp_path):
    import pty

    leader, follower = pty.openpty()
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "collector", "init", str(tmp_path), "--currency", "EUR"]
    with subprocess.Popen(command, stdin=follower, stdout=subprocess.PIPE, env=env, stderr=subprocess.PIPE) as asked:
        os.write(leader, b"shop.example\n\n\nDE\n")
        _, err = asked.communicate(timeout=30)
    assert asked.returncode == 0
    assert b"[store_shop]" in err
    (store,) = load(str(tmp_path / "collector.toml"), {}).store
    assert (store.id, store.domains, store.country) == ("store_shop", ["shop.example"], "DE")
