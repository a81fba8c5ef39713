"""A headless Chromium, driven by W3C's WebDriver protocol (https://www.w3.org/TR/webdriver2/)."""

import base64
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

DRIVER, CHROMIUM = shutil.which("chromedriver"), shutil.which("chromium")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--window-size=1400,900",
)  # fmt: skip

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the key of an element in the protocol

# The driver clicks where it last saw the element, and so misses one that still moves.
AT_REST = (
    "return Promise.allSettled(document.getAnimations().map(moving => moving.finished)).then(() => null)"
)


class Browser:
    """One window; use it in a `with` block. `profile` is an empty folder for the browser's own files."""

    def __init__(self, profile: Path):
        self.driver = subprocess.Popen(
            [DRIVER, "--port=0", f"--log-path={profile.parent / 'chromedriver.log'}"],
            stdout=subprocess.PIPE,
            text=True,
        )
        port = next((line.split()[-1] for line in self.driver.stdout if "successfully on port" in line), None)
        assert port, f"{DRIVER} didn't start: {profile.parent / 'chromedriver.log'}"
        self.address = f"http://127.0.0.1:{port.rstrip('.')}"
        options = {"binary": CHROMIUM, "args": [*FLAGS, f"--user-data-dir={profile}"]}
        capabilities = {"alwaysMatch": {"goog:chromeOptions": options}}
        self.address += "/session/" + self("session", {"capabilities": capabilities})["sessionId"]

    def __call__(self, command: str, body: dict[str, Any] | None = None) -> Any:
        """Send a command of the protocol; GET without a body. Raises AssertionError with what went wrong."""
        request = Request(
            f"{self.address}/{command}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        try:
            with urlopen(request, timeout=60) as answer:
                return json.load(answer)["value"]
        except HTTPError as error:
            raise AssertionError(f"{command} {body}: {json.load(error)['value']['message']}") from None

    def find(self, path: str) -> str:
        """The element that an XPath finds; waits for it up to 10 seconds."""
        for _ in range(50):
            if elements := self("elements", {"using": "xpath", "value": path}):
                return elements[0][ELEMENT]
            time.sleep(0.2)
        raise AssertionError(f"nothing at {path} in\n{self('source')[:2000]}")

    def click(self, path: str) -> None:
        """Click on an element once it is at rest; the driver refuses an invisible one."""
        element = self.find(path)
        self("execute/sync", {"script": AT_REST, "args": []})
        self(f"element/{element}/click", {})

    def text(self, path: str) -> str:
        """The visible text of an element."""
        return self(f"element/{self.find(path)}/text")

    def run(self, script: str, path: str) -> Any:
        """What a JavaScript function body returns for an element, `arguments[0]`."""
        element = {ELEMENT: self.find(path)}
        return self("execute/sync", {"script": script, "args": [element]})

    @contextmanager
    def frame(self, path: str) -> Iterator[None]:
        """Look inside an iframe for the length of a `with` block."""
        self("frame", {"id": {ELEMENT: self.find(path)}})
        yield
        self("frame/parent", {})

    def screenshot(self, path: Path) -> None:
        """The window as a PNG."""
        path.write_bytes(base64.b64decode(self("screenshot")))

    def __enter__(self) -> "Browser":
        return self

    def __exit__(self, *exc: object) -> None:
        with suppress(URLError):
            urlopen(Request(self.address, method="DELETE"), timeout=30)
        self.driver.terminate()
        self.driver.wait()
