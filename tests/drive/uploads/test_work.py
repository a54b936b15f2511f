"""Inspection of uploads while the storage is down."""

import errno
from datetime import timedelta

import pytest
from django.utils import timezone

from accounts.models import User
from drive.models import File, FileState
from drive.storage import blobs
from drive.uploads import work
from tests.drive.factories import upload

pytestmark = pytest.mark.django_db


def _waiting_file(user: User) -> File:
    file = upload(user, "a.jpg", seed=91)
    File.objects.filter(pk=file.pk).update(state=FileState.UPLOADED)
    return file


def _take_turn(file: File) -> File:
    """Inspect once more, as if the lease had expired."""
    File.objects.filter(pk=file.pk, lease_token__isnull=False).update(
        lease_expires_at=timezone.now() - timedelta(seconds=1)
    )
    work.inspect_uploads(file.owner_id)
    file.refresh_from_db()
    return file


@pytest.mark.parametrize(
    "error", [OSError(errno.EIO, "The bucket failed"), TimeoutError(errno.ETIMEDOUT, "slow")]
)
def test_storage_that_is_down_costs_no_attempt(
    error: OSError, user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = _waiting_file(user)

    def fail(_: str) -> bytes:
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(blobs, "read", fail)
        for _ in range(work.MAX_ATTEMPTS + 2):
            file = _take_turn(file)
            assert (file.state, file.attempts) == (FileState.UPLOADED, 0)
    assert _take_turn(file).state == FileState.READY


@pytest.mark.parametrize(
    "error", [OSError("image file is truncated"), FileNotFoundError(errno.ENOENT, "gone")]
)
def test_other_errors_end_after_three_attempts(
    error: OSError, user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = _waiting_file(user)

    def fail(_: str) -> bytes:
        raise error

    monkeypatch.setattr(blobs, "read", fail)
    for _ in range(work.MAX_ATTEMPTS + 1):
        file = _take_turn(file)
    assert file.state == FileState.REFUSED
    assert "Checking this file failed 3 times" in file.reason
