"""The page of one file: its place in a listing, its facts, what it was made from."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.models import User
from drive.files import listing, services
from drive.files import trash as files_trash
from drive.models import File, Share
from drive.shares import services as shares
from drive.uploads import work
from processing.models import Output
from tests.drive.factories import upload
from tests.drive.pages.test_browse import fill, names_on
from tests.pictures import picture_bytes
from tests.processing.factories import submit, take_turns

INSIDE = {"HX-Request": "true", "HX-Target": "viewer"}


@pytest.fixture
def client(client_of: Callable[[User], Client], user: User) -> Client:
    return client_of(user)


@pytest.fixture
def result(user: User) -> File:
    """A picture that a job made of another, whose name is sea.jpg."""
    source = upload(user, "sea.jpg", data=picture_bytes(width=400, height=200))
    work.inspect_uploads(user.pk)
    job = submit(user, [source], params={"contrast": 20})
    take_turns(user)
    return Output.objects.get(item__job=job).file


def page_of(client: Client, file: File, query: str = "", **headers: str) -> Any:
    return client.get(reverse("drive:file", args=[file.pk]) + query, headers=headers)


def walk(client: Client, first: File, query: str = "") -> list[str]:
    """Follow the ways to the next file to the end; return the names on the way."""
    names, answer = [first.name], page_of(client, first, query)
    while answer.context["steps"].after:
        following = File.objects.get(pk=answer.context["steps"].after)
        assert f"{reverse('drive:file', args=[following.pk])}{query}".replace("&", "&amp;") in (
            answer.content.decode()
        )
        answer = page_of(client, following, query)
        assert File.objects.get(pk=answer.context["steps"].before).name == names[-1]
        names.append(following.name)
    return names


# --- The order of the listing.


@pytest.mark.parametrize("sort", ["newest", "name", "size"])
def test_a_folder_is_walked_in_its_order(client: Client, user: User, sort: str) -> None:
    folder = services.create_folder(owner=user, parent=None, name="few")
    upload(user, "elsewhere.jpg", seed=1)
    files = fill(user, 7, folder)
    page = client.get(reverse("drive:folder", args=[folder.pk]), {"sort": sort}).content.decode()
    order = names_on(page, files)
    first = next(file for file in files if file.name == order[0])
    assert page_of(client, first).context["steps"].before is None
    assert walk(client, first) == order


def test_a_search_and_the_stars_are_walked_as_they_were_found(client: Client, user: User) -> None:
    outer = services.create_folder(owner=user, parent=None, name="outer")
    files = {
        name: upload(user, name, folder=folder, seed=seed)
        for seed, (name, folder) in enumerate([("cat 1.jpg", None), ("dog.jpg", None), ("cat 2.jpg", outer)])
    }
    client.get("/drive/?sort=name")
    page = client.get("/drive/search/", {"q": "cat"}).content.decode()
    assert f"{reverse('drive:file', args=[files['cat 2.jpg'].pk])}?from=search&amp;q=cat" in page
    assert walk(client, files["cat 1.jpg"], "?from=search&q=cat") == ["cat 1.jpg", "cat 2.jpg"]
    within = f"?from=search&q=cat&in={outer.pk}"
    assert walk(client, files["cat 2.jpg"], within) == ["cat 2.jpg"]
    File.objects.exclude(name="cat 1.jpg").update(starred=True)
    assert walk(client, files["cat 2.jpg"], "?from=starred") == ["cat 2.jpg", "dog.jpg"]
    back = page_of(client, files["cat 2.jpg"], "?from=search&q=cat").context["back"]
    assert back == f"/drive/search/?q=cat#open-{files['cat 2.jpg'].pk}"
    # What is not a search is the folder.
    assert walk(client, files["cat 1.jpg"], "") == ["cat 1.jpg", "dog.jpg"]
    assert page_of(client, files["dog.jpg"], "?from=nowhere").context["back"].startswith("/drive/#")


@pytest.mark.parametrize("sort", ["newest", "name", "size"])
def test_the_way_back_leads_to_a_page_that_shows_the_tile(client: Client, user: User, sort: str) -> None:
    files = fill(user, 2 * listing.TILES + 10)
    client.get("/drive/", {"sort": sort})
    for file in (files[0], files[listing.TILES], files[-1]):
        address = page_of(client, file).context["back"]
        assert urlsplit(address).fragment == f"open-{file.pk}"
        page = client.get(address)
        assert file.name in names_on(page.content.decode(), files)
    newest = page_of(client, files[-1]).context["back"]
    assert ("cursor" in newest) == (sort == "name")


def test_the_number_of_queries_does_not_grow(
    client: Client, user: User, django_assert_max_num_queries: Any
) -> None:
    counts = set()
    for count in (3, 150):
        folder = services.create_folder(owner=user, parent=None, name=str(count))
        file = fill(user, count, folder)[count // 2]
        for query in ("", "?from=search&q=0", "?from=starred"):
            page_of(client, file, query)
            with django_assert_max_num_queries(11) as counted:
                assert page_of(client, file, query).status_code == 200
            counts.add((query, len(counted.captured_queries)))
    assert len(counts) == 3


def test_a_step_brings_the_inside_of_the_page_only(client: Client, user: User) -> None:
    file = upload(user)
    whole, inside = page_of(client, file), page_of(client, file, "?look=side", **INSIDE)
    assert b"<html" in whole.content
    assert b"<html" not in inside.content
    assert "<title>cat.jpg" in inside.content.decode()
    assert inside["HX-Replace-Url"] == reverse("drive:file", args=[file.pk])
    assert "HX-Target" in inside["Vary"]


def test_deleting_goes_on_to_the_next(client: Client, user: User) -> None:
    a, b = (upload(user, f"{name}.jpg", seed=seed) for seed, name in enumerate("ab"))
    client.get("/drive/?sort=name")
    following = page_of(client, a).context["following"]
    assert following == reverse("drive:file", args=[b.pk])
    trash = reverse("drive:trash-selection")
    answer = client.post(trash, {"file": str(a.pk), "then": following}, follow=True)
    assert answer.redirect_chain[-1][0] == following
    assert "1 item moved to the trash." in answer.content.decode()
    # The last one leads back to the folder, and nothing leads elsewhere.
    assert page_of(client, b).context["following"] == ""
    answer = client.post(trash, {"file": str(b.pk), "then": "https://evil.example/"})
    assert answer["Location"] == reverse("drive:root")


# --- Details.


def test_a_result_says_which_job_made_it_from_what_and_how(client: Client, result: File) -> None:
    page = page_of(client, result).content.decode()
    output = Output.objects.get(file=result)
    assert reverse("processing:job", args=[output.item.job_id]) in page
    assert reverse("processing:app", args=["ipau", "blackwhite"]) in page
    assert reverse("drive:file", args=[output.item.input_file_id]) in page
    origin = page_of(client, result).context["origin"]
    assert ("Contrast", "20 %") in origin.parameters
    assert ">Contrast</th>" in page


def test_an_upload_has_no_origin_and_others_results_tell_nothing(
    client: Client, user: User, other_user: User, result: File
) -> None:
    file = upload(user, "own.jpg")
    assert page_of(client, file).context["origin"] is None
    File.objects.filter(pk=result.pk).update(owner=other_user, folder=None)
    assert page_of(client, result).status_code == 404


def test_an_original_that_is_gone_is_said_to_be(client: Client, user: User, result: File) -> None:
    source = File.objects.get(name="sea.jpg", folder=None)
    files_trash.trash(owner=user, chosen=services.select(owner=user, file_ids=[source.pk]))
    answer = page_of(client, result, "?look=compare")
    assert "in the trash" in answer.content.decode()
    assert answer.context["look"] == "result"
    source.delete()
    page = page_of(client, result).content.decode()
    assert "sea.jpg" in page
    assert "(deleted)" in page


def test_the_links_that_reach_a_file_are_named(client: Client, user: User) -> None:
    outer = services.create_folder(owner=user, parent=None, name="outer")
    inner = services.create_folder(owner=user, parent=outer, name="inner")
    file = upload(user, folder=inner)
    other = services.create_folder(owner=user, parent=None, name="other")
    by_folder = shares.create_share(owner=user, folder_id=outer.pk)
    own = shares.create_share(owner=user, file_id=file.pk)
    old = shares.create_share(owner=user, file_id=file.pk)
    shares.create_share(owner=user, folder_id=other.pk)
    Share.objects.filter(pk=old.pk).update(expires_at=timezone.now() - timedelta(days=1))
    answer = page_of(client, file)
    assert answer.context["shares"] == [own, by_folder]
    assert "Link to the folder “outer”" in answer.content.decode()


# --- A result and its original.


def test_a_result_is_looked_at_alone_or_with_its_original(client: Client, user: User, result: File) -> None:
    source = File.objects.get(name="sea.jpg", folder=None)
    contents = {file: reverse("drive:content", args=[file.pk]) for file in (source, result)}
    shown = {
        look: {
            file
            for file, address in contents.items()
            if f'src="{address}"' in page_of(client, result, f"?look={look}").content.decode()
        }
        for look in ("result", "original", "compare", "side", "nonsense")
    }
    assert shown == {
        "result": {result},
        "original": {source},
        "compare": {source, result},
        "side": {source, result},
        "nonsense": {result},
    }
    # The choice holds for the next result, and is none where there is nothing to compare.
    page_of(client, result, "?look=compare")
    assert page_of(client, result).context["look"] == "compare"
    assert page_of(client, source).context["look"] == "result"
    assert page_of(client, result).context["look"] == "compare"


def test_a_text_that_a_job_made_has_nothing_to_compare(client: Client, user: User) -> None:
    source = upload(user, "sea.jpg")
    work.inspect_uploads(user.pk)
    submit(user, [source], app="ascii")
    take_turns(user)
    text = File.objects.get(kind="text")
    answer = page_of(client, text, "?look=compare")
    assert answer.status_code == 200
    assert answer.context["original"] is None
    assert "Open text" in answer.content.decode()
