"""What people do with their drive, on a real database."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.utils import timezone

from accounts.models import User
from drive.files import services, trash
from drive.files.services import MAX_DEPTH, Selection
from drive.models import File, Folder
from ipau.common.errors import Conflict, Invalid, NotFound
from tests.drive.factories import upload


def folder(owner: User, name: str, parent: Folder | None = None) -> Folder:
    return services.create_folder(owner=owner, parent=parent, name=name)


def chosen(*rows: Folder | File) -> Selection:
    return Selection(
        tuple(r for r in rows if isinstance(r, Folder)), tuple(r for r in rows if isinstance(r, File))
    )


def live_names(owner: User, parent: Folder | None = None) -> set[str]:
    files = File.objects.filter(owner=owner, folder=parent).live()
    folders = Folder.objects.filter(owner=owner, parent=parent).live()
    return {r.name for r in files} | {r.name for r in folders}


def test_folders_nest_and_tell_their_way(user: User) -> None:
    a = folder(user, "a")
    b = folder(user, "b", a)
    c = folder(user, "c", b)
    assert services.ancestors_of(c) == [a, b, c]
    assert services.ancestors_of(None) == []


def test_a_folder_name_is_taken_once_in_a_place(user: User, other_user: User) -> None:
    a = folder(user, "same")
    folder(user, "same", a)
    folder(other_user, "same")
    with pytest.raises(Conflict):
        folder(user, "same")


def test_the_depth_is_limited_for_new_and_moved_folders(user: User) -> None:
    deepest = None
    for level in range(MAX_DEPTH):
        deepest = folder(user, f"level {level}", deepest)
    with pytest.raises(Invalid):
        folder(user, "too deep", deepest)
    tall = folder(user, "tall")
    with pytest.raises(Invalid):
        services.move(owner=user, chosen=chosen(tall), destination=deepest)


def test_an_upload_with_a_taken_name_is_kept_beside_the_other(user: User) -> None:
    assert [upload(user, "cat.jpg").name for _ in range(3)] == ["cat.jpg", "cat (2).jpg", "cat (3).jpg"]


def test_an_upload_into_a_folder_that_was_trashed_meanwhile_is_refused(user: User) -> None:
    a = folder(user, "a")
    trash.trash(owner=user, chosen=chosen(a))
    with pytest.raises(NotFound):
        upload(user, folder=a)
    with pytest.raises(NotFound):
        folder(user, "b", a)
    assert not File.objects.exists()


def test_renaming(user: User) -> None:
    a, b = upload(user, "a.jpg"), upload(user, "b.jpg")
    assert services.rename_file(owner=user, file_id=a.pk, name=" c.jpg ").name == "c.jpg"
    with pytest.raises(Conflict):
        services.rename_file(owner=user, file_id=b.pk, name="c.jpg")
    with pytest.raises(Invalid):
        services.rename_file(owner=user, file_id=b.pk, name="a/b.jpg")
    b.refresh_from_db()
    assert b.name == "b.jpg"
    first, second = folder(user, "first"), folder(user, "second")
    assert services.rename_folder(owner=user, folder_id=first.pk, name="third").name == "third"
    with pytest.raises(Conflict):
        services.rename_folder(owner=user, folder_id=second.pk, name="third")


def test_moving_keeps_both_where_a_name_is_taken(user: User) -> None:
    a, inner = folder(user, "a"), None
    inner = folder(user, "photos", a)
    upload(user, "cat.jpg", folder=a)
    photos, cat, dog = folder(user, "photos"), upload(user, "cat.jpg"), upload(user, "dog.jpg")
    assert services.move(owner=user, chosen=chosen(photos, cat, dog), destination=a) == 3
    assert live_names(user, a) == {"photos", "photos (2)", "cat.jpg", "cat (2).jpg", "dog.jpg"}
    inner.refresh_from_db()
    assert inner.name == "photos"


def test_moving_things_to_where_they_are_changes_nothing(user: User) -> None:
    a = folder(user, "a")
    cat = upload(user, "cat.jpg", folder=a)
    assert services.move(owner=user, chosen=chosen(cat), destination=a) == 0
    assert live_names(user, a) == {"cat.jpg"}


def test_a_folder_cannot_be_moved_into_itself(user: User) -> None:
    a = folder(user, "a")
    b = folder(user, "b", a)
    c = folder(user, "c", b)
    cat = upload(user, "cat.jpg")
    for destination in (a, b, c):
        with pytest.raises(Conflict) as caught:
            services.move(owner=user, chosen=chosen(cat, a), destination=destination)
        assert caught.value.code == "folder_cycle"
    cat.refresh_from_db()
    assert cat.folder is None


def test_moving_what_was_trashed_meanwhile_moves_nothing(user: User) -> None:
    a, cat, dog = folder(user, "a"), upload(user, "cat.jpg"), upload(user, "dog.jpg", seed=1)
    trash.trash(owner=user, chosen=chosen(cat))
    with pytest.raises(NotFound):
        services.move(owner=user, chosen=chosen(cat, dog), destination=a)
    trash.trash(owner=user, chosen=chosen(a))
    with pytest.raises(NotFound):
        services.move(owner=user, chosen=chosen(dog), destination=a)
    dog.refresh_from_db()
    assert dog.folder is None


def test_trash_takes_a_folder_with_all_in_it_and_undo_brings_it_back(user: User) -> None:
    a = folder(user, "a")
    b = folder(user, "b", a)
    inside, beside = upload(user, "in.jpg", folder=b), upload(user, "beside.jpg")
    when = trash.trash(owner=user, chosen=chosen(a, beside))
    assert live_names(user) == set()
    with pytest.raises(NotFound):
        services.get_file(owner=user, file_id=inside.pk)
    assert trash.restore_batch(owner=user, trashed_at=when) == 2
    assert live_names(user) == {"a", "beside.jpg"}
    assert live_names(user, b) == {"in.jpg"}
    with pytest.raises(NotFound):
        trash.restore_batch(owner=user, trashed_at=when)


def test_what_went_into_the_trash_before_its_folder_stays_there(user: User) -> None:
    a = folder(user, "a")
    early, late = upload(user, "early.jpg", folder=a), upload(user, "late.jpg", folder=a)
    trash.trash(owner=user, chosen=chosen(early))
    trash.trash(owner=user, chosen=chosen(a))
    trash.restore(owner=user, root_ids=[a.pk])
    assert live_names(user, a) == {"late.jpg"}
    late.refresh_from_db()
    assert late.trash_root is None


def test_restoring_without_the_folder_puts_it_at_the_top_under_a_free_name(user: User) -> None:
    a = folder(user, "a")
    inner, cat = folder(user, "inner", a), upload(user, "cat.jpg", folder=a)
    trash.trash(owner=user, chosen=chosen(inner, cat))
    trash.trash(owner=user, chosen=chosen(a))
    upload(user, "cat.jpg")
    folder(user, "inner")
    assert trash.restore(owner=user, root_ids=[inner.pk, cat.pk]) == 2
    assert live_names(user) == {"cat.jpg", "cat (2).jpg", "inner", "inner (2)"}


def test_restoring_a_folder_and_what_lay_in_it_finds_each_place_again(user: User) -> None:
    a = folder(user, "a")
    inner, cat = folder(user, "inner", a), upload(user, "cat.jpg", folder=a)
    trash.trash(owner=user, chosen=chosen(inner, cat))
    trash.trash(owner=user, chosen=chosen(a))
    trash.restore(owner=user, root_ids=[inner.pk, cat.pk, a.pk])
    assert live_names(user) == {"a"}
    assert live_names(user, a) == {"inner", "cat.jpg"}


def test_a_part_of_a_trashed_folder_is_not_restored_by_itself(user: User) -> None:
    a = folder(user, "a")
    b = folder(user, "b", a)
    trash.trash(owner=user, chosen=chosen(a))
    with pytest.raises(NotFound):
        trash.restore(owner=user, root_ids=[b.pk])


def test_a_name_is_free_again_while_its_file_is_in_the_trash(user: User) -> None:
    trash.trash(owner=user, chosen=chosen(upload(user, "cat.jpg")))
    assert upload(user, "cat.jpg").name == "cat.jpg"


def test_other_peoples_things_do_not_exist(user: User, other_user: User) -> None:
    theirs, cat = folder(other_user, "theirs"), upload(other_user, "cat.jpg")
    mine = upload(user, "mine.jpg", seed=1)
    when = trash.trash(owner=other_user, chosen=chosen(upload(other_user, "gone.jpg")))
    for attempt in (
        lambda: services.get_folder(owner=user, folder_id=theirs.pk),
        lambda: services.get_file(owner=user, file_id=cat.pk),
        lambda: services.rename_file(owner=user, file_id=cat.pk, name="x.jpg"),
        lambda: services.rename_folder(owner=user, folder_id=theirs.pk, name="x"),
        lambda: services.select(owner=user, file_ids=[mine.pk, cat.pk]),
        lambda: services.select(owner=user, folder_ids=[theirs.pk]),
        lambda: services.move(owner=user, chosen=chosen(cat), destination=None),
        lambda: trash.restore(owner=user, root_ids=File.objects.filter(name="gone.jpg").values_list("pk")),
        lambda: trash.restore_batch(owner=user, trashed_at=when),
    ):
        with pytest.raises(NotFound):
            attempt()


@pytest.mark.parametrize("junk", ["", "x", "1", "../..", "0190a000-0000-7000-8000-000000000000", "0" * 400])
def test_ids_that_name_nothing(user: User, junk: str) -> None:
    with pytest.raises(NotFound):
        services.get_file(owner=user, file_id=junk)


def test_pictures_of_a_folder_and_its_sub_folders(user: User) -> None:
    a = folder(user, "a")
    b = folder(user, "b", a)
    top, inner = upload(user, "top.jpg", folder=a), upload(user, "inner.jpg", folder=b)
    upload(user, "elsewhere.jpg")
    found = services.pictures_in(owner=user, chosen=chosen(a, top), limit=10)
    assert {f.pk for f in found} == {top.pk, inner.pk}
    assert len(found) == 2
    with pytest.raises(Invalid):
        services.pictures_in(owner=user, chosen=chosen(a), limit=1)


def test_trashing_and_restoring_many_files_takes_few_queries(
    user: User, django_assert_max_num_queries: object
) -> None:
    files = [upload(user, f"{n}.jpg") for n in range(40)]
    with django_assert_max_num_queries(8):  # type: ignore[operator]
        when = trash.trash(owner=user, chosen=chosen(*files))
    with django_assert_max_num_queries(20):  # type: ignore[operator]
        trash.restore_batch(owner=user, trashed_at=when)


def test_the_time_of_a_batch_is_exact(user: User) -> None:
    when = trash.trash(owner=user, chosen=chosen(upload(user)))
    with pytest.raises(NotFound):
        trash.restore_batch(owner=user, trashed_at=when + timedelta(microseconds=1))
    assert when <= timezone.now()


@pytest.mark.django_db(transaction=True)
def test_an_upload_cannot_slip_into_a_folder_that_is_being_trashed(user: User) -> None:
    a = folder(user, "a")

    def late_upload() -> object:
        try:
            return upload(user, folder=a)
        except NotFound as error:
            return error
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            trash.trash(owner=user, chosen=chosen(a))
            outcome = pool.submit(late_upload)
            # It waits for the lock that the trash holds; without one it would be through long before.
            with pytest.raises(TimeoutError):
                outcome.result(timeout=0.7)
        assert isinstance(outcome.result(timeout=10), NotFound)
    assert not File.objects.exists()
