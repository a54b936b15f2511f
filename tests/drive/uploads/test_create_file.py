"""The one call that ends an upload: folders, the file, a taken name, and what is recorded with it."""

import io

import pytest

from accounts.models import User
from drive.files.paths import clean_path, walk
from drive.formats.detect import sniff
from drive.models import DriveUsage, File, Folder, OnConflict
from drive.storage import blobs
from drive.uploads.create_file import create_file
from ipau.common.errors import NotFound, TooLarge
from tests.drive.factories import upload
from tests.pictures import picture_bytes

pytestmark = pytest.mark.django_db


def create(owner: User, path: str, seed: int = 0, **how: object) -> File:
    """Store a picture and make a file of it."""
    data = picture_bytes(seed=seed)
    place, facts = clean_path(path), sniff(io.BytesIO(data))
    how.setdefault("folder", None)
    stored = blobs.store(data, facts.content_type)
    return create_file(owner=owner, folders=place.folders, name=place.name, stored=stored, facts=facts, **how)


def paths_of(owner: User) -> list[str]:
    rows = File.objects.filter(owner=owner).select_related("folder__parent")
    found = []
    for file in rows:
        names, folder = [file.name], file.folder
        while folder is not None:
            names.append(folder.name)
            folder = folder.parent
        found.append("/".join(reversed(names)))
    return sorted(found)


def test_missing_folders_are_made_once(user: User) -> None:
    create(user, "Summer/Beach/a.jpg", 1)
    create(user, "Summer/Beach/b.jpg", 2)
    create(user, "Summer/c.jpg", 3)
    assert paths_of(user) == ["Summer/Beach/a.jpg", "Summer/Beach/b.jpg", "Summer/c.jpg"]
    assert Folder.objects.filter(owner=user).count() == 2


@pytest.mark.parametrize(
    ("choice", "names", "keeps_row", "seed"),
    [
        (OnConflict.KEEP_BOTH, ["Day/sea (2).jpg", "Day/sea.jpg"], False, 2),
        (OnConflict.REPLACE, ["Day/sea.jpg"], True, 2),
        (OnConflict.SKIP, ["Day/sea.jpg"], True, 1),
    ],
)
def test_a_taken_name_is_settled_as_was_asked(
    user: User, choice: OnConflict, names: list[str], keeps_row: bool, seed: int
) -> None:
    there = create(user, "Day/sea.jpg", 1)
    told: list[File] = []
    file = create(user, "Day/sea.jpg", 2, on_conflict=choice, on_created=told.append)
    assert paths_of(user) == names
    assert (file.pk == there.pk) == keeps_row
    # What records the upload hears of the file that stays, and of no other.
    assert [one.pk for one in told] == [file.pk]
    file.refresh_from_db()
    assert blobs.read(file.blob_id) == picture_bytes(seed=seed)
    usage = DriveUsage.objects.get(owner=user)
    rows = File.objects.filter(owner=user)
    assert (usage.files, usage.used_bytes) == (len(names), sum(row.size for row in rows))


def test_the_same_name_elsewhere_is_not_taken(user: User) -> None:
    create(user, "Day/sea.jpg", 1)
    upload(user, "sea.jpg", seed=3)
    create(user, "Night/sea.jpg", 2, on_conflict=OnConflict.REPLACE)
    assert paths_of(user) == ["Day/sea.jpg", "Night/sea.jpg", "sea.jpg"]


def test_what_fails_while_it_is_recorded_leaves_no_file_and_replaces_none(user: User) -> None:
    there = create(user, "sea.jpg", 1)

    def fail(file: File) -> None:
        assert file.pk == there.pk
        raise NotFound("This upload no longer exists. It may have expired or been deleted.")

    with pytest.raises(NotFound):
        create(user, "sea.jpg", 2, on_conflict=OnConflict.REPLACE, on_created=fail)
    assert paths_of(user) == ["sea.jpg"]
    there.refresh_from_db()
    assert blobs.read(there.blob_id) == picture_bytes(seed=1)


def test_a_file_below_a_trashed_folder_is_refused(user: User) -> None:
    create(user, "Day/sea.jpg", 1)
    folder, missing = walk(user, None, ("Day",))
    assert folder is not None
    assert not missing
    Folder.objects.filter(pk=folder.pk).update(trashed_at="2026-01-01T00:00Z", trash_root=folder.pk)
    with pytest.raises(NotFound):
        create(user, "a.jpg", 2, folder=folder)
    with pytest.raises(NotFound):
        create(user, "Beach/a.jpg", 2, folder=folder)


def test_a_full_drive_takes_no_replacement(user: User) -> None:
    there = create(user, "sea.jpg", 1)
    user.quota_bytes = there.size + 1
    user.save()
    with pytest.raises(TooLarge):
        create(user, "sea.jpg", 2, on_conflict=OnConflict.REPLACE)
    assert paths_of(user) == ["sea.jpg"]
