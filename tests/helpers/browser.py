"""A headless Chromium that tests look at pages with, driven through its DevTools pipe: no package, no port, no network.

Protocol: JSON messages that end in NUL, the browser reads descriptor 3 and writes descriptor 4.
Source: Chrome DevTools Protocol, ``--remote-debugging-pipe``.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",  # root, as in containers, may not have one
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)
REPLY_S = 60.0
PROCESSOR_S = 120
"""Processor time after which the kernel ends a process of the browser."""

FLAWS = """
(() => {
  const flaws = [], root = document.documentElement;
  const name = e => `${e.tagName}.${e.getAttribute("class") || ""} "${e.textContent.trim().slice(0, 40)}"`;
  const rgb = text => (text.match(/[\\d.]+/g) || []).map(Number);
  const linear = c => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  const light = c => 0.2126 * linear(c[0]) + 0.7152 * linear(c[1]) + 0.0722 * linear(c[2]);
  if (root.scrollWidth > innerWidth) flaws.push(`the page is ${root.scrollWidth} wide`);
  for (const e of document.querySelectorAll("body *")) {
    const style = getComputedStyle(e), box = e.getBoundingClientRect();
    if (e.closest("defs") || e.closest("title") || box.width + box.height === 0) continue;
    if (!e.checkVisibility()) continue;
    if (box.left < -0.5 || box.right > innerWidth + 0.5) flaws.push(`outside: ${name(e)}`);
    if (e instanceof HTMLElement && style.overflowX !== "visible" && e.scrollWidth > e.clientWidth + 1)
      flaws.push(`clipped: ${name(e)}`);
    const owns = [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
    if (!owns) continue;
    if (e instanceof HTMLElement && e.scrollWidth > e.clientWidth + 1 && style.display !== "inline")
      flaws.push(`overflows: ${name(e)}`);
    if (parseFloat(style.fontSize) < 11) flaws.push(`tiny: ${name(e)}`);
    const card = e.closest("td, article, .tiles li, .timeline, section, body").getBoundingClientRect();
    if (box.left < card.left - 0.5 || box.right > card.right + 0.5) flaws.push(`out of its card: ${name(e)}`);
    let behind = e;
    while (behind && rgb(getComputedStyle(behind).backgroundColor)[3] === 0) behind = behind.parentElement;
    const [a, b] = [light(rgb(e instanceof SVGElement ? style.fill : style.color)),
                    light(rgb(getComputedStyle(behind || document.body).backgroundColor))];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (contrast < 4.5) flaws.push(`contrast ${contrast.toFixed(2)}: ${name(e)}`);
  }
  for (const kind of ["text:not(.day)", "text.day"]) {
    const seen = [...document.querySelectorAll(`svg ${kind}`)].filter(e => e.checkVisibility());
    const boxes = seen.map(e => e.getBoundingClientRect());
    for (let i = 1; i < boxes.length; i++)
      if (boxes[i].left < boxes[i - 1].right + 2) flaws.push(`${name(seen[i - 1])} touches ${name(seen[i])}`);
  }
  for (const image of document.images) if (!image.naturalWidth) flaws.push(`not shown: ${image.alt}`);
  return flaws;
})()
"""
"""What is wrong with the page that is open, one line each. Contrast: WCAG 2.2, 1.4.3, level AA."""


def require_browser() -> str:
    """Path of a Chromium; skips the test where there is none, or where nobody asked for it.

    Only under ``BROWSER_TESTS=1``: on small virtual machines a headless Chromium was seen to spin on every core
    and to hold up all tests beside it for minutes.
    """
    if os.environ.get("BROWSER_TESTS") != "1":
        pytest.skip("pages are looked at in a browser under BROWSER_TESTS=1")
    path = next((path for name in NAMES if (path := shutil.which(name))), None)
    if path is None:
        pytest.fail("BROWSER_TESTS=1, and no Chromium is installed")
    return path


class Browser:
    """One tab of a running Chromium."""

    def __init__(self, to: int, back: int) -> None:
        self._to, self._back = to, back
        self._number = 0
        self._rest = b""
        self._session: str | None = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.call("Page.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command and wait for its answer; events in between are dropped."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        left = json.dumps(message).encode() + b"\0"
        while left:
            left = left[os.write(self._to, left) :]
        deadline = time.monotonic() + REPLY_S
        while True:
            answer = self._read(deadline)
            if answer.get("id") == self._number:
                assert "error" not in answer, answer["error"]
                return dict(answer["result"])

    def open(self, page: Path, *, width: int, is_dark: bool = False, media: str = "screen") -> None:
        """Load a page at a width, in CSS pixels; waits until all of it is there."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if is_dark else "light"}
        self.call("Emulation.setEmulatedMedia", media=media, features=[scheme])
        self.call("Page.navigate", url=page.as_uri())
        deadline = time.monotonic() + REPLY_S
        while self.evaluate("document.readyState + location.href") != "complete" + page.as_uri():
            assert time.monotonic() < deadline, "the page does not load"
            time.sleep(0.05)

    def evaluate(self, expression: str) -> Any:
        """Value of a JavaScript expression in the page."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def screenshot(self, png: Path, *, max_height: int = 6000) -> None:
        """Picture of the whole page, down to ``max_height``."""
        width, height = self.evaluate("[innerWidth, document.documentElement.scrollHeight]")
        clip = {"x": 0, "y": 0, "width": width, "height": min(height, max_height), "scale": 1}
        answer = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
        png.write_bytes(base64.b64decode(answer["data"]))

    def _read(self, deadline: float) -> dict[str, Any]:
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._back], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, "the browser does not answer"
            chunk = os.read(self._back, 1 << 20)
            assert chunk, "the browser ended"
            self._rest += chunk
        message, _, self._rest = self._rest.partition(b"\0")
        return dict(json.loads(message))


@contextmanager
def open_browser(path: str, *, folder: Path) -> Iterator[Browser]:
    """Start a Chromium with an empty profile in ``folder``, and end it."""
    from_us, to = os.pipe()
    back, from_it = os.pipe()
    command = [path, *FLAGS, f"--user-data-dir={folder / 'profile'}", "about:blank"]
    shell = f'ulimit -t {PROCESSOR_S}; exec "$0" "$@" 3<&{from_us} 4>&{from_it}'
    with (folder / "browser.log").open("wb") as log:
        process = subprocess.Popen(
            ["bash", "-c", shell, *command],
            pass_fds=(from_us, from_it),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    os.close(from_us)
    os.close(from_it)
    try:
        yield Browser(to, back)
    finally:
        os.close(to)  # the browser ends when its pipe does
        with suppress(subprocess.TimeoutExpired):
            process.wait(10)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # what it started may outlive it
        process.wait()
        os.close(back)
