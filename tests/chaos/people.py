"""Simulated users: they submit, cancel, retry and repeat jobs, and send duplicate wake-ups."""

import io
import time
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any, TypeVar

from django.db import InterfaceError, OperationalError, connection, transaction

from accounts.models import User
from drive.files.services import Selection
from drive.models import File
from drive.uploads import services as uploads_services
from ipau.common.errors import DomainError
from ipau.common.tasks import wake
from market.listings import services as market
from market.models import Version
from market.pipelines import services as pipelines
from processing import services
from processing.execution import tasks
from processing.execution.output_options import Options
from processing.jobs.manifests import ManifestRow
from processing.models import ENDED, OPEN, Job
from processing.services import Terms
from tests.pictures import picture_bytes
from tests.processing import crashing_operation
from workers.recipe import Step

T = TypeVar("T")
OWNERS = 4
PICTURES = 20
DAMAGED = 2
MOST_OF_A_JOB = 20
APPS = ("blackwhite", "pixelart", "ascii", "gray blocks")
# Most of what is struck shall be in the middle of a picture, and none of these costs anything.
HARM = (
    crashing_operation.BREAKS,
    crashing_operation.KILLS,
    crashing_operation.SLOW,
    *[crashing_operation.DOZES] * 9,
)


class Crowd:
    """`use` it in a thread. `done` counts what people did, `asked` is how many jobs they asked for."""

    def __init__(self, choice: Random, *, jobs: int, seconds: float):
        self.done: Counter[str] = Counter()
        self.asked = 0
        self._choice = choice
        self._jobs = jobs
        self._pause = seconds / jobs
        self._files: dict[User, list[File]] = {}
        self._harmful: dict[User, list[File]] = {}

    def arrive(self) -> None:
        """Fill drives and make pipelines, before anything is struck."""
        for number in range(OWNERS):
            owner = User.objects.create_user(f"p{number}@example.org")
            self._files[owner] = [
                _upload(owner, f"{n}.jpg", _picture(100 * number + n)) for n in range(PICTURES)
            ]
            whole = [picture_bytes(width=500, height=400, seed=n) for n in range(DAMAGED)]
            self._files[owner] += [
                _upload(owner, f"damaged {n}.jpg", data[: len(data) // 2]) for n, data in enumerate(whole)
            ]
            self._harmful[owner] = [
                _upload(owner, f"harm {n}.png", picture_bytes("PNG", width=width, height=30 + n, seed=number))
                for n, width in enumerate(HARM)
            ]
            steps = [Step(operation="blackwhite"), Step(operation="pixelart", params={"block": 8})]
            pipelines.create_pipeline(owner=owner, title="Gray blocks", steps=steps, name="gray-blocks")

    def use(self) -> None:
        """Ask for all the jobs, evenly spread, and do other things in between."""
        while self.asked < self._jobs:
            self._do("submitted", self._submit)
            if self._choice.random() < 0.2:
                self._do("canceled", self._cancel)
            if self._choice.random() < 0.25:
                self._do("retried", self._retry)
            if self._choice.random() < 0.2:
                self._do("woken twice", self._wake_twice)
            time.sleep(self._choice.uniform(0, 2 * self._pause))
        connection.close()

    def _do(self, what: str, action: Callable[[], bool]) -> None:
        if action():
            self.done[what] += 1

    # --- What they do. Each returns whether it was done.

    def _submit(self) -> bool:
        owner = self._choice.choice(list(self._files))
        kind = self._choice.choices(["harm", "again", "new"], [4, 2, 9])[0]
        key = f"job {self.asked}"
        self.asked += 1
        if kind == "harm":
            insist(lambda: self._submit_harm(owner, key))
            return True
        ended = insist(lambda: list(Job.objects.filter(owner=owner, state__in=ENDED)[:20]))
        if kind == "again" and ended:
            job = self._choice.choice(ended)
            self.done["run again"] += 1
            insist(lambda: services.repeat_job(owner=owner, job_id=job.pk, idempotency_key=key))
            return True
        app = self._choice.choice(APPS)
        files = self._choice.sample(self._files[owner], self._choice.randint(1, MOST_OF_A_JOB))
        options: dict[str, Any] = {
            "params": {},
            "selection": Selection((), tuple(files)),
            "table": self._table(app, files),
            "terms": self._terms(),
            "idempotency_key": key,
        }
        insist(lambda: services.submit_job(owner=owner, version=_version(owner, app), **options))
        return True

    def _submit_harm(self, owner: User, key: str) -> None:
        files = tuple(self._harmful[owner])
        terms = Terms(options=Options(reuse=False))
        # Before workers can see it, the recipe becomes that of the poison.
        with transaction.atomic():
            job = services.submit_job(
                owner=owner,
                version=_version(owner, "blackwhite"),
                params={},
                selection=Selection((), files),
                terms=terms,
                idempotency_key=key,
            )
            Job.objects.filter(pk=job.pk).update(recipe=crashing_operation.RECIPE)

    def _table(self, app: str, files: list[File]) -> list[ManifestRow]:
        """Return parameters of their own for some of the pictures."""
        if app != "pixelart" or self._choice.random() < 0.4:
            return []
        chosen = self._choice.sample(files, (len(files) + 1) // 2)
        return [
            ManifestRow(number, str(file.pk), {"block": self._choice.choice([6, 10, 14])})
            for number, file in enumerate(chosen, 2)
        ]

    def _terms(self) -> Terms:
        reuse = self._choice.random() < 0.6
        format = self._choice.choice([None, None, None, "PNG"])
        return Terms(options=Options(reuse=reuse, format=format))

    def _cancel(self) -> bool:
        return self._with_a_job(OPEN, lambda job: services.cancel_job(owner=job.owner, job_id=job.pk))

    def _retry(self) -> bool:
        return self._with_a_job(ENDED, lambda job: services.retry_job(owner=job.owner, job_id=job.pk))

    def _with_a_job(self, states: Any, act: Callable[[Job], object]) -> bool:
        rows = Job.objects.filter(state__in=states).select_related("owner").order_by("id")
        jobs = insist(lambda: list(rows))
        if not jobs:
            return False
        job = self._choice.choice(jobs)
        try:
            insist(lambda: act(job))
        except DomainError:
            return False
        return True

    def _wake_twice(self) -> bool:
        for owner in self._files:
            for _ in range(3):
                wake(tasks.turn, str(owner.pk), "cpu", queue="cpu")
        return True


def insist(act: Callable[[], T]) -> T:
    """Do something again until the database takes it, as a person does whose page says to try again."""
    while True:
        try:
            return act()
        except (OperationalError, InterfaceError):
            connection.close()
            time.sleep(0.2)


def _version(owner: User, app: str) -> Version:
    if app == "gray blocks":
        return market.get_latest_version(user=owner, owner=owner.handle, name="gray-blocks")
    return market.get_latest_version(user=owner, owner="ipau", name=app)


def _picture(seed: int) -> bytes:
    return picture_bytes(width=500 + seed % 7 * 40, height=400, seed=seed)


def _upload(owner: User, name: str, data: bytes) -> File:
    return uploads_services.upload_file(
        owner=owner, folder=None, name=name, content=io.BytesIO(data), size=len(data)
    )
