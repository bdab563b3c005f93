"""Where a command writes: never over the collector's own files, nor over what it reads; a device stays a device."""

from __future__ import annotations

import json
import os
import shutil
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from collector.cli import export_person, main, output
from collector.cli.importing import command
from collector.errors import CollectorError
from tests.kit.harness import Installation

CLICK = {
    "fbclid": "IwAR0output00000001",
    "storeId": "store_abc123",
    "landingPage": "https://mystore.com/",
    "visitorId": "visitor-1",
}
Run = Callable[..., int]


@pytest.fixture
def place(tmp_path: Path) -> Installation:
    installation = Installation(tmp_path, "http://127.0.0.1:1")
    (tmp_path / "history.ndjson").write_text(json.dumps(CLICK) + "\n{broken\n")
    assert main(["import", str(tmp_path / "history.ndjson"), "--config", str(installation.config)]) == 1
    return installation


@pytest.fixture
def run(place: Installation) -> Run:
    return lambda *words: main([*map(str, words), "--config", str(place.config)])


def outputs(place: Installation) -> list[tuple[str, ...]]:
    """Each command that writes a file, but for the file's name."""
    history = str(place.folder / "history.ndjson")
    return [
        ("export", "clicks", "--output"),
        ("export-person", "--visitor", "visitor-1", "--output"),
        ("import", history, "--rejects"),
    ]


def test_no_output_takes_the_place_of_the_collectors_own_files(
    place: Installation, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    (place.folder / "link.toml").symlink_to(place.config)
    os.link(place.config, place.folder / "hard.toml")
    ours = [place.config, place.folder / "link.toml", place.folder / "hard.toml"]
    ours += [place.data / name for name in ("collector.db", "pepper.key", "../data/index.db")]
    for name in ("collector.db", "pepper.key", "index.db"):
        os.link(place.data / name, place.folder / f"hard-{name}")
        ours.append(place.folder / f"hard-{name}")
    (place.folder / "backups").mkdir()
    for name in ("app.secret", "meta.token", "hook.1", "hook.2", "console.hash", "backups/b.tar"):
        (place.folder / name).write_text("secret")
        ours.append(place.folder / name)
    os.link(place.folder / "backups" / "b.tar", place.folder / "b.tar")
    (place.folder / "token").symlink_to("meta.token")
    ours += [place.folder / "b.tar", place.folder / "token"]
    place.config.write_text(with_secrets(place.config.read_text()))
    before = {path: path.read_bytes() for path in ours}
    for words in outputs(place):
        for path in ours:
            assert run(*words, path) == 2, (words, path)
            assert "is in use by the collector and is not overwritten; name another file" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in ours} == before
    for _ in range(2):  # another file among the backups is nobody's
        assert run("export", "clicks", "--output", place.folder / "backups" / "clicks.ndjson") == 0


def with_secrets(text: str) -> str:
    """Every place where a secret's file is named: a value, one of several, one in a table of them."""
    text = text.replace("[console]", '[backup]\ndir = "backups"\n[console]\npassword_hash_file = "console.hash"')
    text = text.replace('mode = "live"', 'mode = "live"\napp_secret_file = "app.secret"')
    return text.replace("[[store.pixel]]", 'webhook_secrets = { shopify_file = ["hook.1", "hook.2"] }\n[[store.pixel]]')


def test_no_output_goes_through_another_mount_of_the_data_folder(
    place: Installation, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mount has another path for the same device and inode; mounting takes root, so the two names are made alike."""
    other = place.folder / "mounted"
    shutil.copytree(place.data, other)
    real = os.path.samefile
    monkeypatch.setattr(os.path, "samefile", lambda a, b: real(*(str(p).replace("mounted", "data") for p in (a, b))))
    for words in outputs(place):
        assert run(*words, other / "pepper.key") == 2
    assert (other / "pepper.key").read_bytes() == (place.data / "pepper.key").read_bytes()


def write_and_fail(name: str, fault: BaseException) -> None:
    with output.private_file(name) as file:
        file.write(b"jo@example.com")
        raise fault


def test_an_output_that_fails_leaves_nothing(
    place: Installation, run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder := place.folder / "somedir").mkdir()
    before = sorted(place.folder.iterdir())
    for words in outputs(place):
        assert run(*words, folder) == 2
        assert "is a folder; name a file in it" in capsys.readouterr().err
    with pytest.raises(CollectorError, match="Is a directory"), output.private_file(str(folder)):
        pass
    for fault in (KeyboardInterrupt(), OSError(28, "full"), ValueError()):
        with pytest.raises((KeyboardInterrupt, CollectorError, ValueError)):
            write_and_fail(str(place.folder / "x"), fault)
    assert sorted(place.folder.iterdir()) == before
    (place.folder / "x.partial").symlink_to(place.config)  # what leads elsewhere is not followed
    config = place.config.read_bytes()
    assert run("export", "clicks", "--output", place.folder / "x") == 0
    assert place.config.read_bytes() == config


def test_a_dash_is_standard_output_or_refused(
    place: Installation, run: Run, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    monkeypatch.chdir(place.folder)
    for words in outputs(place)[:2]:
        assert run(*words, "-") == 0
        assert CLICK["fbclid"].encode() in capfdbinary.readouterr().out
    for words in (
        ("backup", "-"),
        ("import", place.folder / "history.ndjson", "--rejects", "-"),
        ("install", "--deb", "-"),
    ):
        with pytest.raises(SystemExit) as ended:
            run(*words)
        assert ended.value.code == 2
        assert b"it is not written to standard output; name a file" in capfdbinary.readouterr().err
    assert not (place.folder / "-").exists()


def test_what_is_refused_is_not_written_over_what_is_imported(place: Installation, run: Run) -> None:
    history = place.folder / "history.ndjson"
    (place.folder / "same").symlink_to(history)
    before = history.read_bytes()
    for name in (history, place.folder / "same", place.folder / "data/../history.ndjson"):
        assert run("import", history, "--rejects", name) == 2
    assert history.read_bytes() == before


def test_without_the_rule_they_would_be_lost(place: Installation, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "refuse_ours", lambda *given: None)
    monkeypatch.setattr(export_person, "refuse_ours", lambda *given: None)
    history = place.folder / "history.ndjson"
    assert run("import", history, "--rejects", history) == 0
    assert history.read_bytes() == b""
    assert run("export-person", "--visitor", "visitor-1", "--output", place.config) == 0
    assert run("export", "clicks") == 2


def test_an_output_is_made_anew_and_a_link_leads_to_it(place: Installation, run: Run) -> None:
    for words in outputs(place):
        path, link = place.folder / "out", place.folder / "link"
        link.unlink(missing_ok=True)
        link.symlink_to(path)
        for name in (path, link, place.data / "out"):
            if name.parent == place.data:
                name.unlink(missing_ok=True)  # what lies there already may be the collector's
            else:
                path.write_bytes(b"before" * 1_000)
            run(*words, name)
            assert 0 < name.stat().st_size < len(b"before" * 1_000)
        assert link.is_symlink()


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_a_device_or_a_pipe_is_written_to_and_not_replaced(place: Installation, run: Run, kind: str) -> None:
    path, read = place.folder / "special", list[bytes]()
    if kind == "pipe":
        os.mkfifo(path)
    else:
        try:
            os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3))  # as /dev/null
            path.write_bytes(b"")
        except PermissionError:
            pytest.skip("devices are made by root")
    for words in outputs(place):
        reader = threading.Thread(target=lambda: read.append(path.read_bytes()))
        reader.start()
        assert run(*words, path) == (1 if "import" in words else 0)
        reader.join(30)
        assert not path.is_file()
        assert not reader.is_alive()
    assert len(read) == 3
    assert all(read) is (kind == "pipe")


def test_standard_output_named_as_a_file_is_written_to(tmp_path: Path) -> None:
    with open(tmp_path / "out", "wb") as out:
        kept = os.dup(1)
        os.dup2(out.fileno(), 1)
        try:
            assert output.is_special("/dev/stdout")
            with output.private_file("/dev/stdout") as file:
                file.write(b"said")
        finally:
            os.dup2(kept, 1)
            os.close(kept)
        assert os.path.samestat(os.fstat(out.fileno()), (tmp_path / "out").stat())
    assert (tmp_path / "out").read_bytes() == b"said"
    assert not output.is_special(str(tmp_path / "out"))


def test_rejects_that_cannot_be_written_are_told_with_their_file(
    place: Installation, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("import", place.folder / "history.ndjson", "--rejects", "/dev/full") == 1
    assert capsys.readouterr().err.strip() == "cannot write /dev/full: No space left on device"


@pytest.mark.parametrize(
    "words",
    [
        ("init", ""), ("status", "--data-dir", ""), ("serve", "--config", ""), ("backup", ""), ("import", ""),
        ("restore", "x.tar", "--data-dir", ""), ("export", "clicks", "--output", ""), ("reconcile", ""),
        ("install", "--units", ""), ("init", "x", "--token-file="),
    ],
)  # fmt: skip
def test_an_empty_name_is_no_file_and_not_the_current_folder(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert "it is empty; name a file or a folder" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_mark_at_the_beginning_of_a_file_is_none_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Windows' editor begins configuration and token with U+FEFF, and ends lines with CRLF."""
    (tmp_path / "token").write_bytes("\ufeffEAAtoken\r\n".encode())
    pixel = ["--store", "shop", "--domain", "shop.example", "--pixel", "123456789012345"]
    assert main(["init", str(tmp_path / "new"), "--yes", *pixel, "--token-file", str(tmp_path / "token")]) == 0
    config = tmp_path / "new" / "collector.toml"
    config.write_bytes(b"\xef\xbb\xbf" + config.read_bytes().replace(b"\n", b"\r\n"))
    assert b'mode = "live"' in config.read_bytes()
    assert main(["config", "check", "--config", str(config)]) == 0
    config.write_bytes(config.read_bytes().replace(b"[[store]]\r\n", b'[[store]]\r\nid = "\xef\xbb\xbf"\r\n'))
    assert main(["config", "check", "--config", str(config)]) == 2  # the control: elsewhere it is a mark


def test_a_folder_that_is_none_is_told_as_that(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert main(["init", str(tmp_path / "file"), "--yes", "--store", "s", "--domain", "shop.example"]) == 3
    assert capsys.readouterr().err.strip() == f"cannot make {tmp_path / 'file'}: File exists"


def test_a_configuration_with_a_mark_is_installed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", str(tmp_path), "--yes", "--store", "s", "--domain", "shop.example"]) == 0
    config = tmp_path / "collector.toml"
    config.write_bytes(b"\xef\xbb\xbf" + config.read_bytes())
    assert main(["install", "--dry-run", "--config", str(config)]) == 0
    assert "nothing was done: --dry-run" in capsys.readouterr().out


def test_an_empty_data_directory_is_none(
    place: Installation, run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLLECTOR_STORAGE__DATA_DIR", "")
    assert run("status") == 2
    assert "[storage] data_dir: expected `str` of length >= 1" in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["--email", "--phone", "--external-id", "--visitor", "--order"])
@pytest.mark.parametrize("command", ["erase", "export-person"])
def test_an_empty_value_means_nobody(run: Run, command: str, flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    for value in ("", "  "):
        assert run(command, flag, value) == 2
        assert "who is meant is empty" in capsys.readouterr().err


def test_a_current_folder_that_is_gone_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    for words in (("status",), ("serve",), ("backup", "x.tar")):
        assert main(words) == 2
        assert capsys.readouterr().err.strip() == "the current folder has been deleted; change into another one"
