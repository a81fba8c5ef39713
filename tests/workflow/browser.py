"""A headless Chromium, driven as W3C's WebDriver says (https://www.w3.org/TR/webdriver2/)."""

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
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    "--window-size=1400,900",
)

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the key of an element in the protocol

# The driver clicks on the place where an element was: what still moves is missed.
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
        for line in self.driver.stdout:
            if "started successfully on port" in line:
                self.address = f"http://127.0.0.1:{line.split()[-1].rstrip('.')}"
                break
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
        """The element that an XPath finds; it is waited for, up to 10 seconds."""
        for _ in range(50):
            if found := self("elements", {"using": "xpath", "value": path}):
                return found[0][ELEMENT]
            time.sleep(0.2)
        raise AssertionError(f"nothing at {path} in\n{self('source')[:2000]}")

    def click(self, path: str) -> None:
        """Click on an element when it has come to rest; the driver refuses one that can't be seen."""
        element = self.find(path)
        self("execute/sync", {"script": AT_REST, "args": []})
        self(f"element/{element}/click", {})

    def text(self, path: str) -> str:
        """The text of an element as it is seen."""
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
