"""Firefox, driven by its own Marionette protocol: the few calls that the tests make, as Selenium names them.

Debian has no geckodriver. It only translates WebDriver's HTTP into Marionette's commands, which are JSON texts after
their length: [0, id, command, parameters] there, [1, id, error, result] back.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from collector.process import hardening
from tests.browser import ground

SETTINGS: dict[str, bool | int | str] = {
    "network.dns.forceResolve": "127.0.0.1",  # every host of the tests is this machine
    "network.dns.disableIPv6": True,
    "app.normandy.enabled": False,
    "app.update.disabledForTesting": True,
    "browser.safebrowsing.malware.enabled": False,
    "browser.safebrowsing.phishing.enabled": False,
    "browser.shell.checkDefaultBrowser": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "extensions.update.enabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "services.settings.server": "data:,#remote-settings-dummy/v1",
    "toolkit.telemetry.reportingpolicy.firstRun": False,
}
# What Selenium's Chromium hides by a flag, and what its log is taken from. Marionette is always seen as automation.
AS_A_PERSON = """<script nonce="watch">(() => {
  Object.defineProperty(Navigator.prototype, 'webdriver', {get: () => false});
  const lines = window.consoleLines = [];
  for (const level of ['log', 'info', 'warn', 'error']) {
    const own = console[level];
    console[level] = (...words) => {
      lines.push(level + ' ' + words.map(String).join(' '));
      own.apply(console, words); };
  }
})()</script>"""
FORGET = """const done = arguments[arguments.length - 1];
Services.clearData.deleteData(Ci.nsIClearDataService.CLEAR_COOKIES | Ci.nsIClearDataService.CLEAR_DOM_STORAGES
  | Ci.nsIClearDataService.CLEAR_NETWORK_CACHE | Ci.nsIClearDataService.CLEAR_IMAGE_CACHE, done)"""


class Refused(Exception):
    """The browser says that a command failed."""


class Firefox:
    """One Firefox with one tab."""

    head = AS_A_PERSON  # every page begins with it

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._reader = connection.makefile("rb")
        self._count = 0
        self._receive()  # its greeting
        self._call("WebDriver:NewSession", acceptInsecureCerts=True)
        self._call("WebDriver:SetTimeouts", pageLoad=20_000, script=20_000)

    def _receive(self) -> Any:
        length = b""
        while (digit := self._reader.read(1)) not in (b":", b""):
            length += digit
        return json.loads(self._reader.read(int(length)))

    def _call(self, command: str, **parameters: Any) -> Any:
        self._count += 1
        text = json.dumps([0, self._count, command, parameters]).encode()
        self._socket.sendall(b"%d:%s" % (len(text), text))
        _, _, error, result = self._receive()
        if error:
            raise Refused(f"{error['error']}: {error['message']}")
        return result["value"] if isinstance(result, dict) and set(result) == {"value"} else result

    def get(self, url: str) -> None:
        self._call("WebDriver:Navigate", url=url)

    def back(self) -> None:
        self._call("WebDriver:Back")

    def execute_script(self, script: str, *args: Any) -> Any:
        return self._call("WebDriver:ExecuteScript", script=script, args=args, sandbox=None)

    def execute_async_script(self, script: str, *args: Any) -> Any:
        return self._call("WebDriver:ExecuteAsyncScript", script=script, args=args, sandbox=None)

    def js(self, script: str) -> Any:
        return self.execute_script(f"return ({script})")

    def cookies(self) -> dict[str, dict[str, Any]]:
        return {cookie["name"]: cookie for cookie in self._call("WebDriver:GetCookies")}

    def delete_all_cookies(self) -> None:
        self._call("WebDriver:DeleteAllCookies")

    def console(self) -> list[str]:
        return list(self.js("window.consoleLines || []"))

    def open_tab(self) -> None:
        self._call("WebDriver:SwitchToWindow", handle=self._call("WebDriver:NewWindow", type="tab")["handle"])

    def forget(self) -> None:
        """As new: one empty tab, no cookies, no storage, no cache."""
        first, *others = self._call("WebDriver:GetWindowHandles")
        for handle in others:
            self._call("WebDriver:SwitchToWindow", handle=handle)
            self._call("WebDriver:CloseWindow")
        self._call("WebDriver:SwitchToWindow", handle=first)
        self.get("about:blank")
        self._call("Marionette:SetContext", value="chrome")
        self.execute_async_script(FORGET)
        self._call("Marionette:SetContext", value="content")


@contextlib.contextmanager
def firefox(folder: Path) -> Iterator[Firefox]:
    """A Firefox with a profile of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    port = ground.free_port()
    settings = {**SETTINGS, "marionette.port": port}
    (folder / "user.js").write_text(
        "".join(f"user_pref({json.dumps(k)}, {json.dumps(v)});\n" for k, v in settings.items())
    )
    command = [shutil.which("firefox-esr") or "firefox-esr", "--headless", "--marionette", "--no-remote"]
    command += ["--remote-allow-system-access"]  # to clear what the browser keeps
    with (folder / "firefox.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--profile", str(folder)],
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "HOME": str(folder), "MOZ_CRASHREPORTER_DISABLE": "1"},
            preexec_fn=hardening.die_with_parent,
        )
        try:
            ground.wait_for(port, process, 60)
            with socket.create_connection(("127.0.0.1", port), 60) as connection:
                yield Firefox(connection)
        finally:
            process.terminate()
            process.wait(20)
