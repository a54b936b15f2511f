"""Every order of a listing has an index, so that no page sorts what a large folder holds."""

from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import User
from drive.files import listing
from drive.files.services import create_folder
from drive.models import Blob, File, Folder

MANY = 500
# What the planner would take for so few rows is not the question: is there another way?
OFF = "SET LOCAL enable_sort = off; SET LOCAL enable_incremental_sort = off; SET LOCAL enable_seqscan = off"


@pytest.fixture
def home(user: User, request: pytest.FixtureRequest) -> Folder | None:
    """Fill a folder, or the top of the drive, with many files and folders."""
    here = create_folder(owner=user, parent=None, name="large") if request.param == "folder" else None
    blob = Blob.objects.create(pk="e" * 64, size=1, content_type="image/jpeg", touched_at=timezone.now())
    names = [f"{number * 7919 % 100_003:06}" for number in range(MANY)]
    File.objects.bulk_create(
        [File(owner=user, folder=here, name=name, blob=blob, size=int(name) % 997) for name in names]
    )
    Folder.objects.bulk_create([Folder(owner=user, parent=here, name=name) for name in names])
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE drive_file, drive_folder")
    return here


@pytest.mark.django_db
@pytest.mark.parametrize("home", ["folder", "top"], indirect=True)
@pytest.mark.parametrize("order", sorted(listing.SORTS))
def test_no_page_sorts(user: User, home: Folder | None, order: str) -> None:
    sort = listing.SORTS[order]
    files: dict[str, Any] = {"owner": user, "folder": home, "sort": sort}
    folders: dict[str, Any] = {"owner": user, "parent": home, "sort": sort}
    with CaptureQueriesContext(connection) as asked:
        second = listing.files_in(**files, cursor=None).next
        listing.files_in(**files, cursor=second)
        second = listing.folders_in(**folders, cursor=None).next
        listing.folders_in(**folders, cursor=second)
    assert len(asked) == 4
    for query in asked.captured_queries:
        with connection.cursor() as cursor:
            cursor.execute(OFF)
            cursor.execute("EXPLAIN " + query["sql"])
            plan = "\n".join(row[0] for row in cursor.fetchall())
        assert "Index Scan" in plan, plan
        assert "Sort" not in plan, plan
        assert "Seq Scan" not in plan, plan
