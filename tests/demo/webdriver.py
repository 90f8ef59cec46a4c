"""A browser driven through chromedriver's W3C WebDriver protocol: real keys, real clicks, and nothing to install."""

import base64
import json
import subprocess
import time
import urllib.error
import urllib.request

# The sandbox is not there for root, as which a container runs; the rest keeps the browser from calling home.
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
]
ENTER, SHIFT = "\ue007", "\ue008"
_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the key of an element's id in the protocol


class Browser:
    """Args: chromedriver: the program; chromium: the browser."""

    def __init__(self, chromedriver, chromium):
        self._driver = subprocess.Popen([chromedriver, "--port=0"], stdout=subprocess.PIPE, text=True)
        port = next(line.split("port ")[1].rstrip(".\n") for line in self._driver.stdout if "successfully" in line)
        self._url = f"http://127.0.0.1:{port}/session"
        options = {"binary": chromium, "args": ARGUMENTS}
        capabilities = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"}}
        try:
            session = self._call("POST", "", {"capabilities": {"alwaysMatch": capabilities}})
        except BaseException:
            self._end_driver()
            raise
        self._url += f"/{session['sessionId']}"

    def close(self):
        try:
            self._call("DELETE", "")
        finally:
            self._end_driver()

    def _end_driver(self):
        with self._driver:  # closes its output and waits for it
            self._driver.terminate()

    def open(self, url):
        self._call("POST", "/url", {"url": url})

    def run(self, script):
        """Runs a function body on the page, and returns what it returns."""
        return self._call("POST", "/execute/sync", {"script": script, "args": []})

    def wait_until(self, expression, seconds=60):
        """Waits until a JavaScript expression is true."""
        end = time.monotonic() + seconds
        while not self.run(f"return Boolean({expression})"):
            if time.monotonic() > end:
                raise TimeoutError(f"{expression} is not true after {seconds} s; the page says {self.text('body')!r}")
            time.sleep(0.05)

    def text(self, selector):
        """What a person reads of an element."""
        return self._call("GET", f"/element/{self._find(selector)}/text")

    def click(self, selector):
        self._call("POST", f"/element/{self._find(selector)}/click", {})

    def type(self, selector, keys):
        self._call("POST", f"/element/{self._find(selector)}/value", {"text": keys})

    def clear(self, selector):
        self._call("POST", f"/element/{self._find(selector)}/clear", {})

    def press(self, keys):
        """Presses keys, or several held together, in whatever has the focus."""
        actions = []
        for held in keys:
            actions += [{"type": "keyDown", "value": key} for key in held]
            actions += [{"type": "keyUp", "value": key} for key in reversed(held)]
        self._call("POST", "/actions", {"actions": [{"type": "key", "id": "keyboard", "actions": actions}]})

    def log(self, kind):
        """The entries since the last call: "browser" = console and errors, "performance" = DevTools events."""
        return self._call("POST", "/se/log", {"type": kind})

    def emulate(self, *, width, height=800, scale=1, dark=False):
        """Sets the size of the window's inside in CSS pixels, their size in real ones, and the colour scheme."""
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self._devtools("Emulation.setEmulatedMedia", features=scheme)
        self._devtools(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=False
        )

    def screenshot(self):
        """The whole page as PNG."""
        shot = self._devtools("Page.captureScreenshot", captureBeyondViewport=True, format="png")
        return base64.b64decode(shot["data"])

    def _devtools(self, command, **parameters):
        return self._call("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def _find(self, selector):
        return self._call("POST", "/element", {"using": "css selector", "value": selector})[_ELEMENT]

    def _call(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._url + path, data, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=120) as response:
                return json.load(response)["value"]
        except urllib.error.HTTPError as error:
            raise RuntimeError(json.load(error)["value"]["message"]) from error
