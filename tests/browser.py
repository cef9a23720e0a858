"""A real Chromium for tests of pages, driven through ChromeDriver's WebDriver protocol (W3C) by plain requests.

Both come from the operating system's packages (Debian: chromium, chromium-driver). Where they aren't installed, tests
that need them are skipped on a person's machine and fail in CI.
"""

from __future__ import annotations

import base64
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
ARGUMENTS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage",
    "--window-size=1200,900",
)  # fmt: skip
KEYS = {"Tab": "\ue004", "Enter": "\ue007", "Escape": "\ue00c", "Down": "\ue015", "Up": "\ue013", "Space": "\ue00d",
        "Home": "\ue011", "End": "\ue010"}  # fmt: skip


class Browser:
    """One window. `run` evaluates a script's body in the page."""

    def __init__(self, session: requests.Session, url: str) -> None:
        self._session = session
        self._url = url

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        answer = self._session.request(method, f"{self._url}{path}", json=body, timeout=60)
        value = answer.json()["value"]
        assert answer.ok, value
        return value

    def open(self, file: Path) -> None:
        self._ask("POST", "/url", {"url": file.resolve().as_uri()})

    def run(self, script: str, *arguments: Any) -> Any:
        return self._ask("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def press(self, *names: str) -> None:
        """Presses keys one after the other, on what has the focus."""
        actions = [
            {"type": kind, "value": KEYS.get(name, name)} for name in names for kind in ("keyDown", "keyUp")
        ]  # fmt: skip
        self._ask("POST", "/actions", {"actions": [{"type": "key", "id": "keyboard", "actions": actions}]})

    def click(self, css: str) -> None:
        """Moves the mouse over the middle of an element and clicks."""
        element = next(iter(self._ask("POST", "/element", {"using": "css selector", "value": css}).values()))
        self._ask("POST", f"/element/{element}/click", {})

    def scheme(self, name: str) -> None:
        """`dark` or `light`, as the person prefers it."""
        features = [{"name": "prefers-color-scheme", "value": name}]
        self._command("Emulation.setEmulatedMedia", {"features": features})

    def width(self, pixels: int) -> None:
        self._ask("POST", "/window/rect", {"width": pixels, "height": 900})

    def complaints(self) -> list[str]:
        """What the browser has put on its console, such as errors and what its policy refused."""
        return [line["message"] for line in self._ask("POST", "/se/log", {"type": "browser"})]

    def picture(self, file: Path) -> None:
        file.write_bytes(base64.b64decode(self._ask("GET", "/screenshot")))

    def _command(self, name: str, parameters: Any) -> None:
        self._ask("POST", "/goog/cdp/execute", {"cmd": name, "params": parameters})


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser with an empty profile."""
    if CHROMIUM is None or DRIVER is None:
        missing = "Chromium and ChromeDriver are not installed (Debian: apt-get install chromium chromium-driver)"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    driver = subprocess.Popen([DRIVER, "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    session = requests.Session()
    session.trust_env = False
    try:
        assert driver.stdout is not None
        port = next(found[1] for line in driver.stdout if (found := re.search(r"successfully on port (\d+)", line)))
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
            options = {"binary": CHROMIUM, "args": [*ARGUMENTS, f"--user-data-dir={profile}"]}
            wanted = {"alwaysMatch": {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}}
            base = f"http://127.0.0.1:{port}/session"
            answer = session.post(base, json={"capabilities": wanted}, timeout=60).json()["value"]
            assert "sessionId" in answer, answer
            yield Browser(session, f"{base}/{answer['sessionId']}")
            session.delete(f"{base}/{answer['sessionId']}", timeout=60)
    finally:
        session.close()
        driver.terminate()
        driver.communicate()
