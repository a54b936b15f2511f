"""Out of the trash for good: by hand, all at once, and by the sweep."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.conf import settings
from django.core.files.storage import default_storage
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.models import User
from drive.files import services, trash
from drive.files.tasks import sweep_trash
from drive.models import Blob, File, Folder
from drive.storage import blobs, sweep
from drive.uploads import work
from ipau.common.errors import NotFound
from processing.models import Item, Output
from tests.drive.factories import upload
from tests.factories import UserFactory
from tests.processing import factories


@pytest.fixture
def client(client_of: Callable[[User], Client], user: User) -> Client:
    return client_of(user)


def throw(user: User, *, folders: tuple[Folder, ...] = (), files: tuple[File, ...] = ()) -> None:
    chosen = services.select(owner=user, folder_ids=[f.pk for f in folders], file_ids=[f.pk for f in files])
    trash.trash(owner=user, chosen=chosen)


def test_chosen_things_are_asked_about_then_deleted(client: Client, user: User) -> None:
    gone, kept, live = (upload(user, f"{n}.jpg", seed=n) for n in range(3))
    throw(user, files=(gone, kept))
    body = {"root": [str(gone.pk)]}
    page = client.post(reverse("drive:delete-forever"), body).content.decode()
    assert "Delete 1 item forever?" in page
    assert File.objects.count() == 3
    page = client.post(reverse("drive:delete-forever"), {**body, "confirmed": "1"}, follow=True)
    assert "1 item deleted forever." in page.content.decode()
    assert set(File.objects.all()) == {kept, live}
    # Nothing that is still in use can be deleted this way.
    body = {"root": [str(live.pk)], "confirmed": "1"}
    assert client.post(reverse("drive:delete-forever"), body).status_code == 404


def test_emptying_asks_first_and_takes_folders_whole(client: Client, user: User, other_user: User) -> None:
    outer = services.create_folder(owner=user, parent=None, name="outer")
    inner = services.create_folder(owner=user, parent=outer, name="inner")
    upload(user, "in.jpg", folder=inner)
    live = upload(user, "live.jpg")
    theirs = upload(other_user, "theirs.jpg")
    throw(user, folders=(outer,))
    throw(other_user, files=(theirs,))
    address = reverse("drive:empty-trash")
    assert address in client.get(reverse("drive:trash")).content.decode()
    assert "Delete 1 item forever?" in client.get(address).content.decode()
    client.post(address)
    assert Folder.objects.count() == 2
    client.post(address, {"confirmed": "1"})
    assert set(File.objects.all()) == {live, theirs}
    assert not Folder.objects.exists()


def test_what_was_thrown_away_before_its_folder_has_its_own_time(user: User) -> None:
    folder = services.create_folder(owner=user, parent=None, name="folder")
    sub = services.create_folder(owner=user, parent=folder, name="sub")
    early = upload(user, "early.jpg", folder=folder)
    throw(user, folders=(sub,), files=(early,))
    throw(user, folders=(folder,))
    trash.delete_forever(owner=user, root_ids=[folder.pk])
    trash.restore(owner=user, root_ids=[early.pk, sub.pk])
    early.refresh_from_db()
    sub.refresh_from_db()
    assert (early.folder, early.trashed_at, sub.parent) == (None, None, None)


def test_the_sweep_deletes_what_is_old_and_the_bytes_follow(client: Client, user: User) -> None:
    old, young = upload(user, "old.jpg", seed=1), upload(user, "young.jpg", seed=2)
    throw(user, files=(old, young))
    late = timezone.now() - timedelta(days=settings.TRASH_DAYS, hours=1)
    File.objects.filter(pk=old.pk).update(trashed_at=late)
    page = client.get(reverse("drive:trash")).content.decode()
    assert "0 days left" in page
    assert f"{settings.TRASH_DAYS} days left" in page
    sweep_trash()
    assert list(File.objects.all()) == [young]
    Blob.objects.update(touched_at=timezone.now() - 2 * blobs.GRACE)
    assert sweep.sweep_orphans() == 1
    assert not default_storage.exists(Blob(sha256=old.blob_id).path)
    assert default_storage.exists(Blob(sha256=young.blob_id).path)


def test_others_trash_is_not_there(user: User, other_user: User) -> None:
    theirs = upload(other_user)
    throw(other_user, files=(theirs,))
    with pytest.raises(NotFound):
        trash.delete_forever(owner=user, root_ids=[theirs.pk])
    assert trash.empty_trash(owner=user) == 0
    assert File.objects.filter(pk=theirs.pk).exists()


@pytest.mark.django_db(transaction=True)
def test_jobs_outlive_their_pictures_and_results(transactional_db: None) -> None:
    owner = UserFactory()
    file = upload(owner)
    work.inspect_uploads(owner.pk)
    job = factories.submit(owner, [file])
    factories.take_turns(owner)
    result = Output.objects.get(item__job=job).file
    throw(owner, files=(file, result))
    trash.empty_trash(owner=owner)
    item = Item.objects.get(job=job)
    assert (item.state, item.input_file, item.outputs.count()) == ("succeeded", None, 0)
    assert item.blob_id == file.blob_id
