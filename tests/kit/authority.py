"""A certificate authority of a test's own, made by openssl, and what it gives out."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import NamedTuple


class Given(NamedTuple):
    """A certificate and its key, PEM files; `serial` tells it from others."""

    cert: Path
    key: Path
    serial: int


class Authority:
    """One root in a folder; `root` is what clients trust."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.root = folder, folder / "root.pem"
        self._root_key = folder / "root.key"
        self._serial = 0
        _key(self._root_key)
        name = ["-subj", "/CN=A test's authority", "-days", "3650", "-addext", "basicConstraints=critical,CA:TRUE"]
        _openssl("req", "-x509", "-key", self._root_key, "-out", self.root, *name)

    def give(self, name: str, *, begins: str = "20200101000000Z", ends: str = "20990101000000Z") -> Given:
        """A certificate for localhost and 127.0.0.1. `begins`, `ends`: YYYYMMDDHHMMSSZ."""
        self._serial += 1
        given = Given(self.folder / f"{name}.pem", self.folder / f"{name}.key", self._serial)
        request, index = self.folder / f"{name}.csr", self.folder / "index"
        _key(given.key)
        _openssl("req", "-new", "-key", given.key, "-out", request, "-subj", "/CN=localhost")
        settings = self.folder / "ca.cnf"
        settings.write_text(
            f"[ca]\ndefault_ca = own\n[own]\ndatabase = {index}\nserial = {self.folder / 'serial'}\n"
            f"new_certs_dir = {self.folder}\ndefault_md = sha256\npolicy = any\nunique_subject = no\n"
            "x509_extensions = server\n[any]\ncommonName = supplied\n"
            "[server]\nsubjectAltName = DNS:localhost,IP:127.0.0.1\nextendedKeyUsage = serverAuth\n"
        )
        index.write_text("")
        (self.folder / "serial").write_text(f"{self._serial:04X}\n")
        dates = ["-startdate", begins, "-enddate", ends]
        root = ["-cert", self.root, "-keyfile", self._root_key]
        _openssl("ca", "-batch", "-notext", "-config", settings, *root, *dates, "-in", request, "-out", given.cert)
        return given


def _key(path: Path) -> None:
    _openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", path)
    path.chmod(0o600)


def _openssl(*words: str | Path) -> None:
    ended = subprocess.run(["openssl", *map(str, words)], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
