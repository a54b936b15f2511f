"""Lines of the log of a job name the cause of a delay."""

import pytest

from accounts.models import User
from processing.job_queue import job_log
from processing.job_queue.job_log import Kind
from tests.drive.factories import upload
from tests.processing.factories import submit

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    ("code", "number", "text"),
    [
        ("storage", 1, "The storage did not respond for 1 image, which will be retried."),
        ("storage", 1200, "The storage did not respond for 1,200 images, which will be retried."),
        ("no_memory", 1, "A worker had too little memory for 1 image, which will be retried."),
        ("no_room", 3, "A worker had too little memory for 3 images, which will be retried."),
    ],
)
def test_a_delay_has_the_cause_of_its_code(code: str, number: int, text: str, user: User) -> None:
    job = submit(user, [upload(user, "a.jpg")])
    job_log.tally(job.pk, Kind.DELAYED, number, code=code)
    assert text in [line.text for line in job_log.log_of(job)]
