"""Victim: a user who loads pages, requests previews and runs jobs, with timing."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import urllib3
from PIL import Image

from tests.neighbors.site import Answer, Client
from tests.workers.inference import bombs

KINDS = ("page", "preview", "job", "model")


@dataclass
class Times:
    """How long what was asked for took, in seconds by kind, and what went wrong."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: {kind: [] for kind in KINDS})
    failures: list[str] = field(default_factory=list)

    def slowest(self, kind: str) -> float:
        """Return the 95th percentile."""
        return float(np.percentile(self.seconds[kind], 95)) if self.seconds[kind] else 0.0


class Victim:
    """An account with some images and a model of its own."""

    def __init__(self, client: Client, model: str) -> None:
        self._client = client
        self._model = model
        self._number = 0
        self._files = [client.upload(f"{n}.jpg", picture(n)) for n in range(6)]

    def use(self, seconds: float) -> Times:
        """Use the site for so long, all kinds side by side as a person with two tabs would."""
        times = Times()
        acts: Mapping[str, Callable[[], None]] = {
            "page": self._look,
            "preview": self._preview,
            "job": lambda: self._run("ipau/blackwhite"),
            "model": lambda: self._run(self._model),
        }
        ends = time.monotonic() + seconds
        threads = [
            threading.Thread(target=_repeat, args=(times, ends, {kind: acts[kind] for kind in kinds}))
            for kinds in (("page",), ("preview", "job", "model"))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return times

    def _look(self) -> None:
        for path in ("/v1/files", "/apps/ipau/blackwhite/", "/healthz"):
            _expect(self._client.ask("GET", path), 200)

    def _preview(self) -> None:
        self._number += 1
        fields = {"image": ("a.jpg", picture(1000 + self._number)), "contrast": "10"}
        _expect(self._client.ask("POST", "/v1/preview/blackwhite", fields=fields), 200)

    def _run(self, model: str) -> None:
        job = self._client.wait_for_job(self._client.submit(model, self._files[:3]))
        assert (job["status"], job["failed"]) == ("succeeded", 0), job


def _expect(answer: Answer, status: int) -> None:
    assert answer.status == status, f"{answer.status} {answer.data[:300]!r}"


def _repeat(times: Times, ends: float, acts: Mapping[str, Callable[[], None]]) -> None:
    while time.monotonic() < ends:
        for kind, act in acts.items():
            began = time.monotonic()
            try:
                act()
            except (AssertionError, urllib3.exceptions.HTTPError) as error:
                times.failures.append(f"{kind}: {error}")
            times.seconds[kind].append(time.monotonic() - began)
        time.sleep(0.05)


def picture(seed: int, side: int = 320) -> bytes:
    """Return a JPEG that no other seed gives."""
    noise = np.random.default_rng(seed).integers(0, 200, (side // 8, side // 8, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(noise).resize((side, side), Image.Resampling.BICUBIC).save(out, "JPEG")
    return out.getvalue()


def bright(side: int = bombs.SIDE, *, seed: int = 0) -> bytes:
    """Return a PNG that bombs do harm on. One pixel differs, so that no two of them are the same file."""
    level = round(255 * bombs.BRIGHT)
    image = Image.new("RGB", (side, side), (level, level, level))
    image.putpixel((seed % side, seed // side % side), (level, level, level - 1))
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()
