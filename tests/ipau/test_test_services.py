"""Tests of the services that the test run starts."""

import os
from collections.abc import Callable
from urllib.parse import urlsplit

import pytest
from django.conf import settings
from django.contrib.auth.models import Permission
from django.core.cache import cache
from django.core.management import call_command
from django.db import IntegrityError, connection, transaction
from rest_framework.test import APIClient

from accounts.models import User
from drive.models import Blob, DriveUsage, File
from market.models import Listing, Version
from tests.drive.factories import upload
from tests.emptying import tables
from tests.factories import UserFactory


@pytest.mark.django_db
def test_database_is_a_real_postgresql_of_this_worker() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_database(), version()")
        name, version = cursor.fetchone()
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    assert name == ("test_ipau_" + worker if worker else "test_ipau")
    assert version.startswith("PostgreSQL")


def test_each_worker_has_its_own_redis_database_and_data_folder() -> None:
    worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
    number = int(worker.removeprefix("gw")) + 1 if worker != "main" else 0
    assert urlsplit(settings.REDIS_URL).path == f"/{number}"
    assert settings.DATA_DIR.name == worker
    cache.set("here", 1)
    assert cache.get("here") == 1


def test_people_and_clients(user: User, other_user: User, api: Callable[..., APIClient]) -> None:
    assert user.handle != other_user.handle
    assert api(user, ["read"])


@pytest.mark.django_db(transaction=True)
def test_after_a_test_that_commits_the_tables_are_as_they_were_in_the_beginning(user: User) -> None:
    if not tables.are_kept(connection):
        pytest.skip("Only a superuser of PostgreSQL can keep them.")
    before = set(Version.objects.values_list("pk", "listing", "listing__title"))
    permissions = set(Permission.objects.values_list("pk", "content_type", "codename"))
    upload(user, "sea.jpg")
    Listing.objects.update(title="changed")
    Version.objects.all().delete()
    with connection.cursor() as cursor:
        # More than are deleted row by row.
        cursor.execute(
            "INSERT INTO drive_blob (sha256, size, content_type, created_at, touched_at) "
            "SELECT lpad(n::text, 64, '0'), n, '', now(), now() FROM generate_series(1, %s) AS n",
            [tables.LARGE_BYTES // 64],
        )
    call_command("flush", interactive=False, verbosity=0)
    assert before
    assert set(Version.objects.values_list("pk", "listing", "listing__title")) == before
    assert set(Permission.objects.values_list("pk", "content_type", "codename")) == permissions
    assert not any(model.objects.exists() for model in (File, Blob, DriveUsage))
    assert list(User.objects.values_list("handle", flat=True)) == ["ipau"]
    # And what refers to anything refers to what is there again.
    assert DriveUsage.objects.create(owner=UserFactory(), used_bytes=1).used_bytes == 1
    with pytest.raises(IntegrityError), transaction.atomic():
        DriveUsage.objects.create(owner_id=user.pk)
