"""Merchants' own HTTP clients, as they use them: one interface over `requests` and `axios`."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import requests


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]  # names in lower case
    data: Any  # decoded JSON


Client = Callable[..., Reply]  # (method, url, *, headers, data) -> Reply


def by_requests(method: str, url: str, *, headers: dict[str, str], data: Any = None) -> Reply:
    """As in the tracking API's Python example: `requests.post(url, json=…, headers=…)`."""
    body = {"data": data.encode()} if isinstance(data, str) else {"json": data} if data is not None else {}
    with requests.Session() as session:
        session.trust_env = False
        answer = session.request(method, url, headers=headers, timeout=15, **body)
    return Reply(answer.status_code, {k.lower(): v for k, v in answer.headers.items()}, answer.json())


@contextmanager
def axios(folder: Path) -> Iterator[Client]:
    """As in the tracking API's JavaScript example: `axios.post(url, {…}, {headers})`; skips where npm cannot get it."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("node and npm are not installed")
    install = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(folder), "axios@1"]
    done = subprocess.run(install, capture_output=True, text=True, timeout=120)
    if done.returncode != 0:
        pytest.skip(f"npm cannot install axios here: {done.stderr.strip()[:200]}")
    shutil.copy(Path(__file__).parent / "axios.mjs", folder)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(["node", str(folder / "axios.mjs")], text=True, **pipes) as node:

        def by_axios(method: str, url: str, *, headers: dict[str, str], data: Any = None) -> Reply:
            assert node.stdin is not None
            assert node.stdout is not None
            request = {"method": method, "url": url, "headers": headers} | ({} if data is None else {"data": data})
            node.stdin.write(json.dumps(request) + "\n")
            node.stdin.flush()
            answer = json.loads(node.stdout.readline())
            assert answer["status"], answer["data"]
            return Reply(answer["status"], {k.lower(): v for k, v in answer["headers"].items()}, answer["data"])

        yield by_axios
        assert node.stdin is not None
        node.stdin.close()
