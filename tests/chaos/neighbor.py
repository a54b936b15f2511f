"""Hostile neighbor: an account with models that hang or use all memory, on images of its jobs."""

import io
import tempfile
import time
from collections import Counter
from pathlib import Path
from random import Random

from django.db import connection, transaction

from accounts.models import User
from drive.files.services import Selection
from drive.models import File
from drive.storage import blobs
from drive.uploads import services as uploads_services
from ipau.common.errors import Conflict
from market.models import DeviceKind, Speed, Version
from market.weights.releases import TYPES, Release, keep_weights, release_model
from processing import services
from processing.execution.output_options import Options
from processing.services import Terms
from tests.chaos.people import insist
from tests.neighbors.victim import bright
from tests.workers.inference import bombs
from workers.sandbox import run

BOMBS = {"hang": bombs.never_ending, "hog": bombs.memory_hog}
IMAGES = 3
# As their trials give, over images that are not bright.
TRIAL = {"device": "a processor", "first_ms": 7.0, "each_ms": 3.0, "runs": 9, "width": 640, "height": 427}


class Neighbor:
    """`attack` in a thread. `asked` is how many jobs it asked for, `done` what came of that."""

    def __init__(self, choice: Random, *, jobs: int, seconds: float) -> None:
        self.done: Counter[str] = Counter()
        self.asked = 0
        self._choice = choice
        self._jobs = jobs
        self._pause = seconds / jobs

    def arrive(self) -> None:
        """Make the models, before anything is struck."""
        self._owner = User.objects.create_user("neighbor@example.org")
        self._models = {name: _make_model(self._owner, name, make()) for name, make in BOMBS.items()}
        self._files = [_upload(self._owner, f"bright {n}.png", bright(seed=n)) for n in range(IMAGES)]

    def attack(self) -> None:
        """Ask for all the jobs, evenly spread."""
        for number in range(self._jobs):
            name = self._choice.choice(list(self._models))
            try:
                insist(lambda name=name, number=number: self._submit(name, f"harm {number}"))
            except Conflict:
                # Its runs had to be ended too often.
                self.done[f"{name} is paused"] += 1
            else:
                self.asked += 1
                self.done[name] += 1
            time.sleep(self._choice.uniform(0, 2 * self._pause))
        connection.close()

    def _submit(self, name: str, key: str) -> None:
        services.submit_job(
            owner=self._owner,
            version=Version.objects.get(pk=self._models[name].pk),
            params={},
            selection=Selection((), tuple(self._files)),
            terms=Terms(options=Options(reuse=False)),
            idempotency_key=key,
        )


def _make_model(owner: User, name: str, graph: bytes) -> Version:
    """Convert a graph in the sandbox, as a worker does, and release it."""
    with tempfile.TemporaryDirectory() as place:
        upload, made = Path(place) / "upload", Path(place) / "out"
        upload.write_bytes(graph)
        report = run.convert(upload, made)
        assert report.ok, report
        files = {file: blobs.store((made / file).read_bytes(), TYPES[file]) for file in TYPES}
    wanted = Release(owner_id=owner.pk, name=name, title=name, publish=False)
    with transaction.atomic():
        blobs.register(files.values())
        source = files["model.onnx"].sha256
        weights = keep_weights(facts=report.facts, files=files, source_sha256=source)
        Speed.objects.create(weights=weights, kind=DeviceKind.CPU, **TRIAL)
        return release_model(wanted=wanted, weights=weights)


def _upload(owner: User, name: str, data: bytes) -> File:
    return uploads_services.upload_file(
        owner=owner, folder=None, name=name, content=io.BytesIO(data), size=len(data)
    )
