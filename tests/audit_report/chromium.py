"""A real Chromium, driven with the DevTools protocol over a pipe: open a file, ask, press, look.

No driver has to be installed: the protocol is JSON with a zero octet after each message
(--remote-debugging-pipe).  One browser with one page; leaving the `with` ends its processes.
"""

import base64
import contextlib
import fcntl
import itertools
import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from tests.conftest import BROWSERS

_TIMEOUT: Final = 30.0  # seconds for one answer
_KEYS: Final = {  # key -> (code, virtual key code, text)
    "Enter": ("Enter", 13, "\r"), "Escape": ("Escape", 27, ""), "Tab": ("Tab", 9, ""),
    "ArrowLeft": ("ArrowLeft", 37, ""), "ArrowUp": ("ArrowUp", 38, ""),
    "ArrowRight": ("ArrowRight", 39, ""), "ArrowDown": ("ArrowDown", 40, ""),
    "Home": ("Home", 36, ""), "End": ("End", 35, ""), "PageDown": ("PageDown", 34, ""),
    "PageUp": ("PageUp", 33, ""),
}  # fmt: skip
_CONTROL: Final = 2  # DevTools' modifier


def browser_path() -> str | None:
    return next((path for name in BROWSERS if (path := shutil.which(name))), None)


class PageError(AssertionError):
    """The page threw, or the browser did not answer."""


class Page:
    """One page.  complaints: what it logged as an error, requests: what it wanted to load."""

    def __init__(self, process: subprocess.Popen[bytes], reader: int, writer: int) -> None:
        self._process, self._reader, self._writer = process, reader, writer
        self._numbers = itertools.count(1)
        self._unread = b""
        self._session = ""
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.loaded = False
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> Any:
        """One command of the protocol, and its result."""
        number = next(self._numbers)
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        octets = json.dumps(message).encode() + b"\0"
        while octets:
            octets = octets[os.write(self._writer, octets) :]
        deadline = time.monotonic() + _TIMEOUT
        while True:
            got = self._receive(deadline)
            if got.get("id") == number:
                if "error" in got:
                    raise PageError(f"{method}: {got['error']}")
                return got["result"]

    def _receive(self, deadline: float) -> dict[str, Any]:
        while b"\0" not in self._unread:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._reader], [], [], left)[0]:
                raise PageError("the browser does not answer")
            octets = os.read(self._reader, 1 << 20)
            if not octets:
                raise PageError("the browser ended")
            self._unread += octets
        line, self._unread = self._unread.split(b"\0", 1)
        got: dict[str, Any] = json.loads(line)
        self._note(got.get("method", ""), got.get("params", {}))
        return got

    def _note(self, method: str, params: dict[str, Any]) -> None:
        if method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.complaints.append(details.get("exception", {}).get("description", str(details)))
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.complaints.append(params["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method == "Page.loadEventFired":
            self.loaded = True

    # -- what tests say ------------------------------------------------------------------------

    def resize(self, width: int, height: int, *, scale: float = 1, mobile: bool = False) -> None:
        """Size of the window in CSS pixels."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height,
                  deviceScaleFactor=scale, mobile=mobile)  # fmt: skip
        self.call("Emulation.setTouchEmulationEnabled", enabled=mobile)

    def prefer(self, scheme: str) -> None:
        """The system's colours: "light" or "dark"."""
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.call("Emulation.setEmulatedMedia", features=[feature])

    @contextlib.contextmanager
    def before_load(self, script: str) -> Iterator[None]:
        """Within the `with`, run a script in every document before its own."""
        added = self.call("Page.addScriptToEvaluateOnNewDocument", source=script)
        try:
            yield
        finally:
            self.call("Page.removeScriptToEvaluateOnNewDocument", identifier=added["identifier"])

    def open(self, path: Path, *, ready: str = "document.readyState === 'complete'") -> None:
        """Open a file and wait until the expression is true."""
        self.complaints.clear()
        self.requests.clear()
        self.call("Page.navigate", url=path.as_uri())
        self.wait(ready)

    def ask(self, expression: str) -> Any:
        """The value of an expression; promises are awaited.  Raises PageError if it throws."""
        got = self.call("Runtime.evaluate", expression=expression, returnByValue=True,
                        awaitPromise=True, userGesture=True)  # fmt: skip
        if "exceptionDetails" in got:
            raise PageError(str(got["exceptionDetails"].get("exception", got)))
        return got["result"].get("value")

    def wait(self, expression: str, *, seconds: float = 20.0) -> None:
        """Until the expression is true."""
        deadline = time.monotonic() + seconds
        while not self.ask(f"Boolean({expression})"):
            if time.monotonic() > deadline:
                raise PageError(f"never true: {expression}\n" + "\n".join(self.complaints))
            time.sleep(0.02)

    def settle(self) -> None:
        """Until two frames were drawn."""
        self.ask("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def press(self, *keys: str) -> None:
        """Keys one after the other; "Control+End" for combinations."""
        for name in keys:
            control = name.startswith("Control+")
            key = name.removeprefix("Control+")
            code, number, text = _KEYS.get(key, ("", ord(key[0].upper()), key))
            event = {
                "key": key, "code": code, "windowsVirtualKeyCode": number,
                "modifiers": _CONTROL if control else 0,
            }  # fmt: skip
            shown = {"text": text} if text and not control else {}
            self.call("Input.dispatchKeyEvent", type="keyDown", **event, **shown)
            self.call("Input.dispatchKeyEvent", type="keyUp", **event)
        self.settle()

    def type(self, text: str) -> None:
        """Into what has the focus."""
        self.call("Input.insertText", text=text)

    def click(self, x: float, y: float) -> None:
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)
        self.settle()

    def click_on(self, selector: str) -> None:
        """The middle of the first element that is seen, scrolled to."""
        x, y = self.ask(
            f"(() => {{ const it = [...document.querySelectorAll({json.dumps(selector)})]"
            ".find(e => e.checkVisibility());"
            " it.scrollIntoView({block: 'center'}); const r = it.getBoundingClientRect();"
            " return [r.x + r.width / 2, r.y + r.height / 2]; })()"
        )
        self.click(x, y)

    def text(self, selector: str) -> str:
        """What is to be read in the first element, as innerText has it."""
        return str(self.ask(f"document.querySelector({json.dumps(selector)}).innerText"))

    def screenshot(self, *, whole: bool = False) -> bytes:
        """A PNG."""
        got = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        return base64.b64decode(got["data"])

    def pdf(self) -> bytes:
        """As it prints."""
        return base64.b64decode(self.call("Page.printToPDF", printBackground=True)["data"])


@contextlib.contextmanager
def browser() -> Iterator[Page]:
    """A browser with an empty profile of its own.  Its proxy is a dead port: it reaches nothing."""
    path = browser_path()
    assert path is not None, "no Chromium"
    with contextlib.ExitStack() as stack:
        profile = stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
        their_reader, our_writer = _pipe(stack, ours=1)
        our_reader, their_writer = _pipe(stack, ours=0)
        try:
            process = subprocess.Popen(
                ["bash", "-c", f'exec "$@" 3<&{their_reader} 4>&{their_writer}', "bash", path,
                 "--headless", "--remote-debugging-pipe", "--no-sandbox", "--no-first-run",
                 "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
                 "--disable-background-networking", "--disable-component-update",
                 "--proxy-server=127.0.0.1:9", f"--user-data-dir={profile}"],
                pass_fds=(their_reader, their_writer), stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        finally:
            os.close(their_reader)
            os.close(their_writer)
        stack.callback(_end, process)
        yield Page(process, our_reader, our_writer)


def _pipe(stack: contextlib.ExitStack, *, ours: int) -> tuple[int, int]:
    """A pipe; one end is closed with the stack.  Numbers from 10 on: 3 and 4 are the browser's."""
    ends = []
    for end in os.pipe():
        ends.append(fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10))
        os.close(end)
    stack.callback(os.close, ends[ours])
    return ends[0], ends[1]


def _end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
