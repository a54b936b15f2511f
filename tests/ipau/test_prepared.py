"""Tests of prepared queries: SQL is compiled once, and the database reuses the plan."""

from concurrent.futures import ThreadPoolExecutor
from uuid import UUID, uuid4

import pytest
from django.db import connection
from pytest_django import DjangoAssertNumQueries

from accounts.models import User
from drive.models import File
from ipau.common.postgresql.prepared_queries import PreparedQuery
from market.models import Version
from tests.drive.factories import upload
from tests.factories import UserFactory

pytestmark = pytest.mark.django_db

by_name = PreparedQuery(
    lambda owner, name: (
        File.objects.select_related("owner", "blob").filter(owner=owner, name=name).order_by("-id")
    ),
    owner=UUID,
    name=str,
)
newest = PreparedQuery(
    lambda name: Version.objects.filter(listing__name=name).select_related("listing").order_by("-number"),
    name=str,
)


def kept_plans() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE '%%drive_file%%'")
        return int(cursor.fetchone()[0])


def test_it_finds_what_the_queryset_finds(
    user: User, other_user: User, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    upload(user, "a.jpg")
    second = upload(user, "a (1).jpg", seed=1)
    theirs = upload(other_user, "a.jpg")
    for file in (second, theirs):
        plain = File.objects.select_related("owner", "blob").get(pk=file.pk)
        with django_assert_num_queries(1) as asked:
            found = by_name.first(owner=file.owner_id, name=file.name)
            assert found == plain
            assert found.owner.email == plain.owner.email
            assert found.blob.size == plain.blob.size
        assert file.name in asked.captured_queries[0]["sql"]
        found = by_name.first(owner=file.owner_id, name=file.name)
        fields = [field.attname for field in File._meta.concrete_fields]
        assert [getattr(found, name) for name in fields] == [getattr(plain, name) for name in fields]


def test_nothing_is_none(user: User) -> None:
    assert by_name.first(owner=user.pk, name="' OR true --") is None
    assert by_name.first(owner=uuid4(), name="a.jpg") is None
    assert by_name.first(owner=user.pk, name="a\0.jpg") is None


def test_columns_are_converted_as_elsewhere() -> None:
    version = newest.first(name="blackwhite")
    assert version is not None
    assert version.recipe["steps"][0]["operation"] == "blackwhite"
    assert version.listing.name == "blackwhite"
    assert version == Version.objects.filter(listing__name="blackwhite").latest("number")


def test_the_database_keeps_one_plan(user: User) -> None:
    before = kept_plans()
    for name in ("a", "b", "c"):
        by_name.first(owner=user.pk, name=name)
    assert kept_plans() <= max(before, 1)
    assert kept_plans() > 0


def test_what_is_found_can_be_changed_and_saved(user: User) -> None:
    upload(user, "a.jpg")
    found = by_name.first(owner=user.pk, name="a.jpg")
    assert found is not None
    found.name = "b.jpg"
    found.save()
    assert File.objects.get(pk=found.pk).name == "b.jpg"


def test_a_value_that_does_not_reach_the_database_is_a_bug() -> None:
    query = PreparedQuery(lambda name, n: File.objects.filter(name=name, size=len(n)), name=str, n=str)
    with pytest.raises(ValueError, match="'n'"):
        query.first(name="a", n="b")


def test_a_missing_value_is_a_bug(user: User) -> None:
    with pytest.raises(KeyError):
        by_name.first(owner=user.pk)


@pytest.mark.django_db(transaction=True)
def test_threads_have_connections_of_their_own() -> None:
    people = [UserFactory() for _ in range(4)]
    files = [upload(person, f"{number}.jpg", seed=number) for number, person in enumerate(people)]
    query = PreparedQuery(lambda owner: File.objects.filter(owner=owner), owner=UUID)

    def look(number: int) -> list[File | None]:
        try:
            return [query.first(owner=people[number].pk) for _ in range(50)]
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(look, range(4)))
    assert found == [[file] * 50 for file in files]
