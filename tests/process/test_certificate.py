"""The edge's own TLS in the running program, and a sentence for each file that cannot be used."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import ssl
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from collector import certificate
from collector.certificate import Unusable
from collector.config import EdgeConfig
from collector.process import renewal
from collector.process.renewal import Certificate
from tests.kit.authority import Authority, Given
from tests.kit.program import SOURCE, Serving, wait_until


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def good(authority: Authority) -> Given:
    return authority.give("good")


def settings(given: Given) -> EdgeConfig:
    return EdgeConfig(tls_cert=str(given.cert), tls_key=str(given.key))


# -- files


def test_a_sound_pair_is_read_and_its_key_is_in_no_text(good: Given) -> None:
    pair = certificate.of(settings(good))
    assert pair is not None
    assert "PRIVATE" not in repr(pair)
    assert certificate.doubts(settings(good)) == []


def test_without_files_there_is_no_tls() -> None:
    assert certificate.of(EdgeConfig()) is None


Spoil = Callable[[Path, Path, Authority], Any]
FAULTS: dict[str, tuple[Spoil, str, str]] = {
    "no certificate file": (lambda c, k, a: c.unlink(), "tls_cert", "no such file"),
    "no key file": (lambda c, k, a: k.unlink(), "tls_key", "no such file"),
    "a folder": (lambda c, k, a: (c.unlink(), c.mkdir()), "tls_cert", "Is a directory"),
    "a pipe": (lambda c, k, a: (k.unlink(), os.mkfifo(k), os.open(k, os.O_RDWR)), "tls_key", "is not a file"),
    "an empty certificate": (lambda c, k, a: c.write_bytes(b""), "tls_cert", "holds no certificate in PEM"),
    "an empty key": (lambda c, k, a: k.write_bytes(b""), "tls_key", "holds no private key in PEM"),
    "DER": (
        lambda c, k, a: c.write_bytes(ssl.PEM_cert_to_DER_cert(c.read_text())),
        "tls_cert",
        "holds no certificate in PEM",
    ),
    "the two exchanged": (lambda c, k, a: _exchange(c, k), "tls_cert", "holds no certificate in PEM"),
    "a broken certificate": (
        lambda c, k, a: c.write_text(c.read_text()[:200] + "\n-----END CERTIFICATE-----\n"),
        "tls_cert",
        "cannot be read",
    ),
    "a broken key": (
        lambda c, k, a: k.write_text("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"),
        "tls_cert",
        "OpenSSL does not take",
    ),
    "another's key": (lambda c, k, a: shutil.copy(a.give("other").key, k), "tls_key", "is not the key of the first"),
    "the chain before the own": (
        lambda c, k, a: c.write_bytes(a.root.read_bytes() + c.read_bytes()),
        "tls_key",
        "the shop's own comes first there",
    ),
    "a key with a password": (lambda c, k, a: _encrypt(k), "tls_key", "is encrypted; write it without"),
    "too large": (lambda c, k, a: c.write_bytes(b" " * 300_000), "tls_cert", "is larger than 256 KiB"),
}


def _exchange(one: Path, other: Path) -> None:
    held = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(held)


def _encrypt(key: Path) -> None:
    words = ["openssl", "pkey", "-in", key, "-aes256", "-passout", "pass:x", "-out", f"{key}.new"]
    subprocess.run(words, check=True)
    os.replace(f"{key}.new", key)


@pytest.fixture
def spoiled(tmp_path: Path, good: Given) -> Given:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    shutil.copy(good.cert, cert)
    shutil.copy(good.key, key)
    key.chmod(0o600)
    return Given(cert, key, 0)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_file_that_cannot_be_used_is_one_sentence(fault: str, spoiled: Given, authority: Authority) -> None:
    spoil, setting, says = FAULTS[fault]
    spoil(spoiled.cert, spoiled.key, authority)
    with pytest.raises(Unusable, match=says) as caught:
        certificate.of(settings(spoiled))
    assert caught.value.setting == setting
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("setting", ["tls_cert", "tls_key"])
def test_one_of_the_two_alone_names_the_other(setting: str, good: Given) -> None:
    alone = EdgeConfig(**{setting: str(good.cert)})
    with pytest.raises(Unusable, match="is missing: a certificate and its key go together") as caught:
        certificate.of(alone)
    assert caught.value.setting != setting


@pytest.mark.parametrize(("mode", "then"), [(0o644, 0o640), (0o666, 0o640), (0o620, 0o600), (0o640, 0o640)])
def test_a_key_that_others_may_read_is_closed_to_them(spoiled: Given, mode: int, then: int) -> None:
    spoiled.key.chmod(mode)
    assert certificate.of(settings(spoiled)) is not None
    assert stat.S_IMODE(spoiled.key.stat().st_mode) == then


def test_a_key_that_cannot_be_closed_is_refused(spoiled: Given, monkeypatch: pytest.MonkeyPatch) -> None:
    spoiled.key.chmod(0o644)

    def refuse(fd: int, mode: int) -> None:
        raise PermissionError(1, "no")

    monkeypatch.setattr(os, "fchmod", refuse)
    with pytest.raises(Unusable, match=r"is open to others \(mode 0644\); run: chmod 640"):
        certificate.of(settings(spoiled))


@pytest.mark.parametrize(
    ("days", "says"),
    [
        ({"ends": "20240101000000Z"}, "it ended on 2024-01-01 00:00 UTC"),
        ({"begins": "20980101000000Z"}, "it begins on 2098-01-01 00:00 UTC"),
    ],
)
def test_one_that_is_not_good_today_serves_and_is_told_of(authority: Authority, days: dict, says: str) -> None:
    (told,) = certificate.doubts(settings(authority.give("undated", **days)))
    assert says in told


# -- a renewed one


def test_a_renewed_certificate_is_found_within_the_hour(spoiled, authority, monkeypatch) -> None:
    kept = Certificate(settings(spoiled))
    before = kept.pair
    other = authority.give("newer")
    shutil.copy(other.cert, spoiled.cert)
    assert not kept.renewed(settings(spoiled))  # the hour is not over
    monkeypatch.setattr(renewal, "LOOK_SECONDS", 0.0)
    kept._look_at = 0.0
    assert not kept.renewed(settings(spoiled))  # the key is still the old one's: not a pair
    assert kept.pair == before
    shutil.copy(other.key, spoiled.key)
    assert kept.renewed(settings(spoiled))
    assert kept.pair != before
    assert not kept.renewed(settings(spoiled))


# -- the running program


@pytest.fixture
def start(tmp_path: Path, good: Given) -> Iterator[Callable[..., Serving]]:
    running: list[Serving] = []
    shutil.copy(good.cert, tmp_path / "cert.pem")
    shutil.copy(good.key, tmp_path / "key.pem")
    (tmp_path / "key.pem").chmod(0o600)

    def start(**env: str) -> Serving:
        tls = {"COLLECTOR_EDGE__TLS_CERT": "cert.pem", "COLLECTOR_EDGE__TLS_KEY": "key.pem"}
        running.append(Serving(SOURCE, tmp_path, **{**tls, **env}))
        return running[-1]

    yield start
    for serving in running:
        serving.end()


def serial(url: str, authority: Authority) -> int:
    host, _, port = url.removeprefix("https://").rpartition(":")
    trust = ssl.create_default_context(cafile=str(authority.root))
    with (
        socket.create_connection((host, int(port)), 10) as plain,
        trust.wrap_socket(plain, server_hostname=host) as tls,
    ):
        return int(str((tls.getpeercert() or {})["serialNumber"]), 16)


@pytest.mark.slow
def test_orders_come_over_tls_and_a_new_certificate_is_taken_on_sighup(start, authority, good, tmp_path) -> None:
    serving = start()
    url = serving.ready()["edge"]
    assert url.startswith("https://")
    while "/v1/track/conversion" not in serving.stdout:
        pass
    lines = [line for line in serving.stdout.splitlines() if line.startswith("curl ")]
    answers = [_curl(line, authority) for line in lines]
    assert answers[0]["success"]
    assert answers[1]["data"]["attributed"]
    confined = [line for line in serving.stderr.splitlines() if "keeps this process" in line]
    assert confined

    with httpx.Client(verify=ssl.create_default_context(cafile=str(authority.root))) as web:
        kept = web.get(f"{url}/healthz")
        assert (kept.status_code, kept.http_version) == (200, "HTTP/1.1")
        assert serial(url, authority) == good.serial
        port = int(url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), 10) as plain:
            plain.sendall(b"GET /healthz HTTP/1.1\r\nHost: t\r\n\r\n")
            assert b"HTTP" not in plain.recv(100)

        newer = authority.give("next")
        shutil.copy(newer.cert, tmp_path / "cert.pem")
        serving.process.send_signal(signal.SIGHUP)  # the key is still the old one's
        assert wait_until(lambda: "new settings refused" in serving.stderr, 60)
        assert "is not the key of the first certificate" in serving.stderr
        assert serial(url, authority) == good.serial
        shutil.copy(newer.key, tmp_path / "key.pem")
        serving.process.send_signal(signal.SIGHUP)
        assert wait_until(lambda: serial(url, authority) == newer.serial, 60)
        assert web.get(f"{url}/healthz").status_code == 200
    audited = json.loads(serving.run("audit", "--json").splitlines()[0])
    assert "certificate" in json.dumps(audited)
    assert serving.stop() == 0


def _curl(line: str, authority: Authority) -> dict[str, Any]:
    shown = subprocess.run(
        line.replace("curl ", f"curl --cacert {authority.root} ", 1), shell=True, capture_output=True, timeout=30
    )
    return json.loads(shown.stdout)


def test_a_start_with_a_file_that_cannot_be_used_is_one_sentence_and_2(start, tmp_path) -> None:
    (tmp_path / "key.pem").unlink()
    serving = start()
    assert serving.process.wait(30) == 2
    assert serving.stderr.count("\n") == 1
    assert "[edge] tls_key: no such file" in serving.stderr
