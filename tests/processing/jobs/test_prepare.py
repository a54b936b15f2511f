"""Parameters that refer to the drive, and idempotency of submissions."""

import uuid

import pytest

from accounts.models import User
from drive.files import services as drive
from drive.files.services import Selection
from ipau.common.errors import Conflict, Invalid, NotFound
from processing import services
from processing.models import Job, Resource, State
from tests.drive.factories import upload
from tests.processing.factories import submit, take_turns, version

pytestmark = pytest.mark.django_db


def test_mosaic_freezes_the_owners_tiles(user: User) -> None:
    folder = drive.create_folder(owner=user, parent=None, name="Tiles")
    tiles = [upload(user, f"t{n}.jpg", folder=folder, seed=100 + n) for n in range(4)]
    job = submit(user, [upload(user, seed=1)], app="mosaic", params={"tiles": str(folder.pk)})
    frozen = Resource.objects.filter(job=job, parameter="tiles").order_by("position")
    assert [r.blob_id for r in frozen] == [t.blob_id for t in tiles]
    take_turns(user)
    job.refresh_from_db()
    assert job.state == State.SUCCEEDED


def test_tiles_of_another_account_are_not_found(user: User, other_user: User) -> None:
    folder = drive.create_folder(owner=other_user, parent=None, name="Tiles")
    upload(other_user, folder=folder)
    with pytest.raises(Invalid) as caught:
        submit(user, [upload(user, seed=1)], app="mosaic", params={"tiles": str(folder.pk)})
    assert set(caught.value.fields) == {"tiles"}
    assert not Job.objects.exists()


def test_wrong_parameters_are_reported_and_no_job_is_created(user: User) -> None:
    with pytest.raises(Invalid) as caught:
        submit(user, [upload(user)], params={"contrast": 500, "color": "red"})
    assert set(caught.value.fields) == {"contrast", "color"}
    assert "at most 100" in caught.value.fields["contrast"]
    assert not Job.objects.exists()


def test_job_without_images_is_refused(user: User) -> None:
    folder = drive.create_folder(owner=user, parent=None, name="Empty")
    with pytest.raises(Invalid, match="choose at least one"):
        services.submit_job(owner=user, version=version(), params={}, selection=Selection((folder,), ()))


def test_folder_runs_with_all_its_contents(user: User) -> None:
    top = drive.create_folder(owner=user, parent=None, name="Top")
    deep = drive.create_folder(owner=user, parent=top, name="Deep")
    upload(user, "a.jpg", folder=top, seed=1)
    upload(user, "a.jpg", folder=deep, seed=2)
    upload(user, "elsewhere.jpg", seed=3)
    job = services.submit_job(owner=user, version=version(), params={}, selection=Selection((top,), ()))
    assert sorted(job.items.values_list("output_stem", flat=True)) == ["a", "a (2)"]


def test_the_same_key_gives_the_same_job(user: User) -> None:
    file = upload(user)
    first = submit(user, [file], idempotency_key="k")
    again = submit(user, [file], idempotency_key="k")
    assert first.pk == again.pk
    assert Job.objects.count() == 1
    with pytest.raises(Conflict):
        submit(user, [file], idempotency_key="k", params={"contrast": 5})


def test_same_key_of_another_account_is_another_job(user: User, other_user: User) -> None:
    first = submit(user, [upload(user)], idempotency_key="k")
    second = submit(other_user, [upload(other_user)], idempotency_key="k")
    assert first.pk != second.pk


def test_job_of_another_account_is_not_found(user: User, other_user: User) -> None:
    job = submit(user, [upload(user)])
    for job_id in (job.pk, uuid.uuid4(), "nonsense"):
        with pytest.raises(NotFound):
            services.cancel_job(owner=other_user, job_id=job_id)
    job.refresh_from_db()
    assert job.state == State.STARTING


def test_cancel_after_the_end_is_refused_and_changes_nothing(user: User) -> None:
    job = submit(user, [upload(user)])
    take_turns(user)
    with pytest.raises(Conflict, match="already ended"):
        services.cancel_job(owner=user, job_id=job.pk)
    job.refresh_from_db()
    assert job.state == State.SUCCEEDED
