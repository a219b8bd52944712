"""A page in headless Chromium, over its debugging pipe: size, colour scheme, scripts, console, screenshots."""

import base64
import itertools
import json
import os
import shutil
import subprocess
import time
from pathlib import Path

PROGRAM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
TIMEOUT = 60.0


class Page:
    """One open page. Messages are JSON ended by a zero byte; `problems` collects what a console would show."""

    def __init__(self, program: str, profile: Path):
        reads, self._writes = os.pipe()
        self._reads, writes = os.pipe()
        # Chromium reads from descriptor 3 and writes to 4.
        arguments = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
        arguments += ["--remote-debugging-pipe", f"--user-data-dir={profile}"]
        self._process = subprocess.Popen(
            ["bash", "-c", f'exec "$0" "$@" 3<&{reads} 4>&{writes}', program, *arguments, "about:blank"],
            pass_fds=(reads, writes),
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        os.close(reads)
        os.close(writes)
        os.set_blocking(self._reads, False)
        self._numbers, self._buffer, self._session = itertools.count(1), b"", None
        self.problems: list[str] = []
        self.requests: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.terminate()
        self._process.wait(TIMEOUT)
        os.close(self._reads)
        os.close(self._writes)

    def call(self, method, **params):
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._writes, json.dumps(message).encode() + b"\0")
        answer = self._wait_for(lambda m: m.get("id") == number)
        assert "error" not in answer, answer
        return answer["result"]

    def open(self, file, *, width, height, dark=False):
        """Load a file at this size in CSS pixels."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call("Page.navigate", url=Path(file).resolve().as_uri())
        self._wait_for(lambda m: m.get("method") == "Page.loadEventFired")

    def run(self, expression):
        """Value of a JavaScript expression; as a tester it is not bound by the page's policy."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def screenshot(self, file, *, whole=False):
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)["data"]
        Path(file).write_bytes(base64.b64decode(data))

    def _wait_for(self, wanted):
        end = time.monotonic() + TIMEOUT
        while time.monotonic() < end:
            message = self._next()
            if message is None:
                time.sleep(0.01)
                continue
            self._note(message)
            if wanted(message):
                return message
        raise TimeoutError(f"Chromium did not answer in {TIMEOUT:g} s")

    def _next(self):
        if b"\0" not in self._buffer:
            try:
                self._buffer += os.read(self._reads, 1 << 20)
            except BlockingIOError:
                return None
        text, zero, rest = self._buffer.partition(b"\0")
        if not zero:
            return None
        self._buffer = rest
        return json.loads(text)

    def _note(self, message):
        method, params = message.get("method"), message.get("params", {})
        if method == "Runtime.exceptionThrown":
            self.problems.append(json.dumps(params["exceptionDetails"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.problems.append(params["entry"]["text"])
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning"):
            self.problems.append(json.dumps(params["args"]))
        elif method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
