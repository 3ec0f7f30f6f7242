"""A page in a real browser: Debian's chromium without a window, driven by the DevTools protocol.

What is looked at: errors, network calls, alternative texts as a screen reader gets them, contrast as it is painted,
overflow on a telephone, and paper. `REPORT_PICTURES=DIRECTORY` keeps the screenshots and the PDF for people to look at.
"""

import base64
import contextlib
import http.server
import io
import itertools
import json
import os
import shutil
import subprocess
import threading
import time
from pathlib import Path

import pytest
from PIL import Image
from websockets.sync.client import connect

from app.reports.answer import CONTENT_SECURITY_POLICY

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="no chromium is installed (apt-get install chromium)"
)

PAINTED = """
(() => {
  const channel = v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const rgb = text => text.match(/[\\d.]+/g).map(Number);
  const ground = element => {
    for (; element; element = element.parentElement) {
      const [r, g, b, a = 1] = rgb(getComputedStyle(element).backgroundColor);
      if (a > 0) return [r, g, b];
    }
    return [255, 255, 255];
  };
  const poor = [];
  let texts = 0;
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || ["TITLE", "DESC"].includes(element.tagName.toUpperCase())) continue;
    texts += 1;
    const style = getComputedStyle(element);
    const colour = rgb(element.tagName === "text" ? style.fill : style.color).slice(0, 3);
    const [low, high] = [light(colour), light(ground(element))].sort((one, other) => one - other);
    if ((high + 0.05) / (low + 0.05) < 4.5) poor.push(walker.currentNode.data);
  }
  return {texts, poor};
})()
"""
OVERFLOW = """
(() => {
  const width = document.documentElement.clientWidth;
  const inScroll = element => element.closest(".scroll") !== null;
  const wide = [...document.body.querySelectorAll("*")].filter(
    element => !inScroll(element) && !element.closest("svg") && !element.closest("thead")
      && element.getBoundingClientRect().right > width + 1);
  return {page: document.documentElement.scrollWidth, width, wide: wide.map(element => element.outerHTML.slice(0, 80))};
})()
"""
DETAILS = "[...document.querySelectorAll('details table')].filter(table => table.checkVisibility({contentVisibilityAuto: true}) && table.getBoundingClientRect().height > 20).length"


class Tab:
    """One page of a browser."""

    def __init__(self, socket):
        self._socket = socket
        self._ids = itertools.count(1)
        self.events = []

    def call(self, method, **parameters):
        number = next(self._ids)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while (message := self._receive()).get("id") != number:
            pass
        assert "error" not in message, message
        return message["result"]

    def wait_for(self, name):
        while not any(event["method"] == name for event in self.events):
            self._receive()

    def evaluate(self, expression):
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def settles(self, expression, expected):
        """Look again until a change of the medium has come through, which the browser tells nobody of."""
        deadline = time.monotonic() + 10
        while (found := self.evaluate(expression)) != expected and time.monotonic() < deadline:
            time.sleep(0.05)
        return found

    def resize(self, width, height, *, mobile):
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=mobile,
        )

    def picture(self):
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        return base64.b64decode(shot["data"])

    def named(self, *names):
        return [event["params"] for event in self.events if event["method"] in names]

    def _receive(self):
        message = json.loads(self._socket.recv(timeout=30))
        if "method" in message:
            self.events.append(message)
        return message


@contextlib.contextmanager
def browser(profile: Path):
    command = [
        CHROMIUM,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--hide-scrollbars",
        "--remote-debugging-port=0",
        f"--user-data-dir={profile}",
        "about:blank",
    ]
    with (profile.parent / "chromium.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            port_file, deadline = profile / "DevToolsActivePort", time.monotonic() + 30
            while not port_file.exists() or port_file.read_text().count("\n") < 1:
                assert process.poll() is None, "chromium ended"
                assert time.monotonic() < deadline, "chromium did not begin to listen"
                time.sleep(0.05)  # it says by this file alone that it listens
            port, path = port_file.read_text().splitlines()[:2]
            with connect(f"ws://127.0.0.1:{port}{path}", max_size=None, proxy=None) as control:
                first = Tab(control)
                target = first.call("Target.createTarget", url="about:blank")["targetId"]
                page = f"ws://127.0.0.1:{port}/devtools/page/{target}"
                with connect(page, max_size=None, proxy=None) as socket:
                    yield Tab(socket)
                first.call("Browser.close")
            process.wait(20)
        finally:
            process.kill()
            process.wait()


@contextlib.contextmanager
def served(page: str):
    """Serve one page as the API does; yields its address and the list of paths that were asked for."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            content = page.encode() if self.path == "/report" else b""
            self.send_response(200 if content else 404)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Security-Policy", CONTENT_SECURITY_POLICY)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/report", asked
        finally:
            server.shutdown()
            thread.join(10)


def keep(name: str, content: bytes) -> None:
    if directory := os.environ.get("REPORT_PICTURES"):
        (Path(directory) / name).write_bytes(content)


def colours_of(content: bytes, size) -> int:
    with Image.open(io.BytesIO(content)) as picture:
        assert picture.width == size
        assert picture.height > 1000, "the page has no length"
        return len(
            picture.convert("RGB").resize((picture.width // 4, picture.height // 4)).getcolors(1 << 24)
        )


@needs_chromium
def test_a_real_browser_shows_the_page_to_everybody(sheet_of, draw, accepted, tmp_path):
    page = draw(sheet_of("finetune", acceptance=accepted))
    profile = tmp_path / "profile"
    profile.mkdir()
    with served(page) as (address, asked), browser(profile) as tab:
        for domain in ("Page", "Network", "Log", "Runtime", "Accessibility"):
            tab.call(f"{domain}.enable")
        tab.resize(1280, 900, mobile=False)
        tab.call("Page.navigate", url=address)
        tab.wait_for("Page.loadEventFired")

        desktop = tab.picture()
        keep("desktop.png", desktop)
        assert colours_of(desktop, 1280) > 100, "the pictures are missing"
        painted = tab.evaluate(PAINTED)
        assert painted["texts"] > 300
        assert painted["poor"] == []
        overflow = tab.evaluate(OVERFLOW)
        assert (overflow["page"], overflow["wide"]) == (overflow["width"], [])

        nodes = tab.call("Accessibility.getFullAXTree")["nodes"]
        images = [node for node in nodes if node.get("role", {}).get("value") in {"image", "img"}]
        pictures = page.count("<svg")
        assert len(images) == pictures > 5
        for image in images:
            assert len(image["name"]["value"]) > 5
            assert len(image["description"]["value"]) > 60
        tables = [node for node in nodes if node.get("role", {}).get("value") == "table"]
        assert all(table["name"]["value"] for table in tables)

        tab.resize(390, 844, mobile=True)
        phone = tab.picture()
        keep("phone.png", phone)
        assert colours_of(phone, 390) > 100
        overflow = tab.evaluate(OVERFLOW)
        assert (overflow["page"], overflow["width"], overflow["wide"]) == (390, 390, [])
        assert tab.evaluate(PAINTED)["poor"] == []
        tab.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
        opened = tab.evaluate(OVERFLOW)
        assert (opened["page"], opened["wide"]) == (390, []), "an opened table widens the page"
        tab.evaluate("document.querySelectorAll('details').forEach(one => one.open = false)")

        assert tab.settles(DETAILS, 0) == 0
        tab.call("Emulation.clearDeviceMetricsOverride")
        tab.call("Emulation.setEmulatedMedia", media="print")
        opened = page.count("<details>")
        assert tab.settles(DETAILS, opened) == opened, "on paper nothing can be opened"
        paper = tab.call("Page.printToPDF", preferCSSPageSize=True, printBackground=True)["data"]
        pdf = base64.b64decode(paper)
        keep("paper.pdf", pdf)
        assert pdf.startswith(b"%PDF")
        assert pdf.count(b"/Type /Page\n") + pdf.count(b"/Type /Page ") >= 4

        assert asked == ["/report"], "the page asks for more than itself"
        assert {event["request"]["url"] for event in tab.named("Network.requestWillBeSent")} <= {
            address,
            "data:,",
        }
        assert tab.named("Log.entryAdded") == []
        assert tab.named("Runtime.exceptionThrown", "Runtime.consoleAPICalled") == []
