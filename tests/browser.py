"""A real Chromium, driven with its own protocol through two pipes."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def browser() -> str:
    """Return Chromium's path; without Chromium, skip the test, or fail it if it is required."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if not found:
        message = f"no browser to look at the report with: none of {', '.join(BROWSERS)} is there"
        if os.environ.get("REQUIRE_CHROMIUM"):
            pytest.fail(message)
        pytest.skip(message)
    return found


@dataclass
class Tab:
    """A page of the browser, with its log and requests."""

    to: IO[bytes]
    answers: IO[bytes]
    session: str = ""
    number: int = 0
    logged: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    loaded: bool = False

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send the browser a command, and return its answer."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        self.to.write(json.dumps(message).encode() + b"\0")
        self.to.flush()
        while True:
            found = self._next()
            if found.get("id") == self.number:
                assert "error" not in found, (method, found["error"])
                return dict(found["result"])

    def open(self, file: Path, width: int = 1000, height: int = 1400) -> None:
        """Open a file in a window of this size."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 500,
        )
        self.loaded = False
        self.call("Page.navigate", url=file.as_uri())
        while not self.loaded:
            self._next()

    def run(self, script: str) -> Any:
        """Return the value of an expression in the page."""
        found = self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def press(self, key: str, text: str = "") -> None:
        """Press a key."""
        codes = {"Tab": 9, "Enter": 13, "ArrowDown": 40}
        pressed = {"key": key, "code": key, "windowsVirtualKeyCode": codes[key]}
        self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **pressed)
        self.call("Input.dispatchKeyEvent", type="keyUp", **pressed)

    def picture(self, file: Path) -> None:
        """Take a picture of the whole page."""
        found = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        file.write_bytes(base64.b64decode(found["data"]))

    def _next(self) -> dict[str, Any]:
        """Return the next message, and note its event."""
        text = bytearray()
        while (byte := self.answers.read(1)) != b"\0":
            assert byte, "the browser ended"
            text += byte
        found: dict[str, Any] = json.loads(text)
        happened, parameters = found.get("method"), found.get("params", {})
        if happened == "Page.loadEventFired":
            self.loaded = True
        elif happened == "Network.requestWillBeSent":
            self.requests.append(parameters["request"]["url"])
        elif happened in {"Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown"}:
            self.logged.append(json.dumps(parameters))
        return found


@contextmanager
def opened_browser(directory: Path) -> Iterator[Tab]:
    """Start a browser, with its profile in the directory, and yield a page of it."""
    program = browser()
    to, answers = directory / "to", directory / "answers"
    for pipe in (to, answers):
        os.mkfifo(pipe)
    command: list[str | Path] = [
        *("sh", "-c", 'in=$1 out=$2; shift 2; exec "$@" 3<"$in" 4>"$out"', "sh", to, answers),
        *(program, "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe"),
        *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
        *("--no-first-run", f"--user-data-dir={directory / 'profile'}", "about:blank"),
    ]
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        with to.open("wb") as writing, answers.open("rb") as reading:
            tab = Tab(writing, reading)
            (target,) = [
                one["targetId"]
                for one in tab.call("Target.getTargets")["targetInfos"]
                if one["type"] == "page"
            ]
            found = tab.call("Target.attachToTarget", targetId=target, flatten=True)
            tab.session = found["sessionId"]
            for domain in ("Page", "Runtime", "Network", "Log"):
                tab.call(f"{domain}.enable")
            yield tab
    finally:
        process.terminate()
        process.wait(30)
