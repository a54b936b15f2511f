"""Files of bytes that workers have made: many at once, below one folder."""

from typing import Any

import pytest
from django.db import transaction

from accounts.models import User
from drive.files.bulk_create import NewFile, create_files
from drive.files.folder_tree import hold_or_replace
from drive.files.placement import lock_tree
from drive.models import File, FileKind, FileState, Folder, Thumbnail
from drive.storage import blobs
from tests.pictures import picture_bytes

pytestmark = pytest.mark.django_db


def make(root: Folder, *places: str) -> list[File]:
    stored = blobs.store(picture_bytes(), "image/jpeg")
    small = blobs.store(b"thumbnail", "image/webp")
    new = [
        NewFile(path, name, stored.sha256, "image/jpeg", stored.size, 8, 6, (small.sha256, 256))
        for path, _, name in (place.rpartition("/") for place in places)
    ]
    text = blobs.store(b"{}", "application/json")
    new.append(NewFile("", "found.json", text.sha256, "application/json", text.size))
    with transaction.atomic():
        lock_tree(root.owner)
        blobs.register([stored, small, text])
        return create_files(root, new)


def test_files_lie_where_their_paths_say_in_the_order_given(user: User) -> None:
    root = Folder.objects.create(owner=user, parent=None, name="Results")
    made = make(root, "b.jpg", "Summer/Beach/a.jpg", "Summer/a.jpg")
    assert [file.name for file in made] == ["b.jpg", "a.jpg", "a.jpg", "found.json"]
    below = [file.folder for file in made]
    assert [folder.name for folder in below if folder] == ["Results", "Beach", "Summer", "Results"]
    assert {file.state for file in File.objects.all()} == {FileState.READY}
    assert [file.kind for file in made] == [FileKind.PICTURE] * 3 + [FileKind.TEXT]
    # The same bytes four times, shown by one thumbnail.
    assert [(one.source_id, one.side) for one in Thumbnail.objects.all()] == [(made[0].blob_id, 256)]
    again = make(root, "b.jpg")
    assert [file.name for file in again] == ["b (2).jpg", "found (2).json"]
    assert Thumbnail.objects.count() == 1


def test_a_trashed_root_is_replaced_even_where_the_drive_has_no_room_for_folders(
    user: User, settings: Any
) -> None:
    root = Folder.objects.create(owner=user, parent=None, name="Results")
    settings.DRIVE_MAX_FOLDERS = 1
    with transaction.atomic():
        assert hold_or_replace(root, owner_id=user.pk, name="Results") == root
    Folder.objects.filter(pk=root.pk).update(trashed_at="2026-01-01T00:00Z", trash_root=root.pk)
    Folder.objects.create(owner=user, parent=None, name="Results")
    with transaction.atomic():
        other = hold_or_replace(root, owner_id=user.pk, name="Results")
        new = hold_or_replace(None, owner_id=user.pk, name="Others")
    assert (other.name, new.name) == ("Results (2)", "Others")
    assert other.trashed_at is None
