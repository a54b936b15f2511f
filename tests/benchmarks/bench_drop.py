"""Benchmark: a dropped folder of very many small images, with a real browser, site and worker."""

from __future__ import annotations

import argparse
import io
import os
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.benchmarks import site

NAMES = ("drive.drop",)
FILES = 1000
# The tray shows what runs, not what came or waits.
MOST_ROWS = 20
LOOK_SECONDS = 1.0
DONE = "All uploaded"

# What a person would feel: for how long the page did not answer, and what it keeps of so many uploads.
WATCH = """() => {
  window.felt = { longest: 0, rows: 0 };
  new PerformanceObserver((list) => {
    for (const task of list.getEntries()) felt.longest = Math.max(felt.longest, task.duration);
  }).observe({ type: "longtask" });
  setInterval(() => {
    felt.rows = Math.max(felt.rows, document.querySelectorAll(".drive-tray-row").length);
  }, 50);
}"""


def main(files: int = FILES) -> bool:
    """Print the row; return whether all files arrived and the tray stayed small."""
    port = site.free_port()
    with tempfile.TemporaryDirectory(prefix="ipau-drop-") as place:
        folder = _draw(Path(place) / "dropped", files)
        with site.running(slots=1, web_port=port):
            owner, cookie = _person()
            address = f"http://127.0.0.1:{port}"
            with _page(address, cookie) as page, _looking(f"{address}/drive/", cookie) as looks:
                seconds = _drop(page, folder, files)
                felt = page.evaluate("felt")
            arrived = _names_of(owner)
            behind = _wait_for_checks(owner)
        wanted = {path.name for path in folder.iterdir()}
    ok = arrived == wanted and len(wanted) == files and felt["rows"] <= MOST_ROWS
    print(
        f"{'drive.drop':<24} {files / seconds:5.1f} files/s  {'ok' if ok else 'MISSED'}  "
        f"{len(arrived & wanted)} of {files} small pictures in {seconds:.1f} s, all checked {behind:.1f} s "
        f"later; a page of the drive meanwhile: median {looks[len(looks) // 2] * 1000:.0f} ms, worst "
        f"{looks[-1] * 1000:.0f} ms; the browser's longest pause {felt['longest']:.0f} ms, "
        f"{felt['rows']} rows in the tray"
    )
    return ok


def _draw(folder: Path, files: int) -> Path:
    """Fill a folder with small JPEGs that all differ."""
    from PIL import Image

    folder.mkdir()
    for number in range(files):
        out = io.BytesIO()
        color = (number % 256, number // 256 % 256, number * 7 % 256)
        Image.new("RGB", (96, 72), color).save(out, "JPEG", comment=str(number).encode())
        (folder / f"IMG_{number:05}.jpg").write_bytes(out.getvalue())
    return folder


def _person() -> tuple[Any, str]:
    from django.test import Client

    from accounts.models import User

    owner = User.objects.create_user("drop@example.org")
    client = Client()
    client.force_login(owner, backend="allauth.account.auth_backends.AuthenticationBackend")
    return owner, client.cookies["sessionid"].value


@contextmanager
def _page(address: str, cookie: str) -> Iterator[Any]:
    """Open the drive in Chromium."""
    from playwright.sync_api import sync_playwright

    from tests.browser.conftest import ARGS, CHROMIUM, UNSAFE

    # Playwright keeps an event loop in this thread, in which Django would refuse to touch the database.
    os.environ[UNSAFE] = "true"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGS)
        context = browser.new_context(viewport={"width": 1440, "height": 900})
        context.add_cookies([{"name": "sessionid", "value": cookie, "url": address}])
        page = context.new_page()
        page.goto(f"{address}/drive/")
        yield page
        browser.close()


@contextmanager
def _looking(address: str, cookie: str) -> Iterator[list[float]]:
    """Ask for a page every second, as the person's other window would; gives the times it took, sorted."""
    times: list[float] = []
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(LOOK_SECONDS):
            begun = time.perf_counter()
            asked = urllib.request.Request(address, headers={"Cookie": f"sessionid={cookie}"})
            with urllib.request.urlopen(asked, timeout=60) as answer:
                answer.read()
            times.append(time.perf_counter() - begun)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield times
    finally:
        ended.set()
        thread.join()
        times.sort()


def _drop(page: Any, folder: Path, files: int) -> float:
    """Drop the folder on the page as the desktop would; return how long it took until all had come."""
    page.evaluate(WATCH)
    session = page.context.new_cdp_session(page)
    data = {"items": [], "files": [str(folder)], "dragOperationsMask": 1}
    begun = time.perf_counter()
    for kind in ("dragEnter", "dragOver", "drop"):
        session.send("Input.dispatchDragEvent", {"type": kind, "x": 700, "y": 500, "data": data})
    title = page.locator("#drive-tray-title", has_text=DONE)
    title.wait_for(timeout=(30 + files / 2) * 1000)
    return time.perf_counter() - begun


def _names_of(owner: Any) -> set[str]:
    from drive.models import File

    return set(File.objects.filter(owner=owner, folder__name="dropped").values_list("name", flat=True))


def _wait_for_checks(owner: Any) -> float:
    """Return how long the worker still needs to look at all of them (seconds)."""
    from drive.models import File, FileState

    begun = time.perf_counter()
    while File.objects.filter(owner=owner, state=FileState.UPLOADED).exists():
        time.sleep(0.2)
    return time.perf_counter() - begun


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=FILES)
    sys.exit(not main(parser.parse_args().files))
