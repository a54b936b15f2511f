"""Sample images of models, for visitors and accounts without images."""

import io
import re
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from PIL import Image
from pytest_django import DjangoAssertNumQueries

from accounts.models import User
from drive.models import File
from drive.storage import blobs
from market.models import Sample, Version
from processing.models import Job
from processing.previews import channel
from processing.previews.channel import Answer
from tests.drive.factories import upload
from tests.market.factories import marks, model
from tests.processing.fake_workers import stand_in

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _marks() -> Iterator[None]:
    with marks():
        yield


@pytest.fixture
def sources(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, str]]:
    """Answer each preview request with «picture»; return the requested sources."""
    stand_in("preview")
    requests: list[dict[str, str]] = []

    def send(request_id: str, key: str, source: dict[str, str], recipe: Any, resources: Any) -> bool:
        requests.append(source)
        channel.answer(request_id, key, Answer("image/png", b"picture", 4, 3))
        return True

    monkeypatch.setattr("processing.previews.tasks.send_preview", send)
    return requests


def picture(color: str) -> bytes:
    with io.BytesIO() as stream:
        Image.new("RGB", (30, 20), color).save(stream, "WEBP")
        return stream.getvalue()


def tried(version: Version) -> list[Sample]:
    """Return two samples of a model. The second one shows a cat."""
    assert version.weights is not None
    found = []
    for position, (color, seen) in enumerate((("red", []), ("blue", [{"name": "cat", "count": 1}]))):
        stored = blobs.store(picture(color), "image/webp")
        blobs.register([stored])
        found.append(
            Sample.objects.create(
                weights=version.weights,
                position=position,
                before_id=stored.sha256,
                caption=f"All <{color}>",
                width=30,
                height=20,
                seen=seen,
            )
        )
    return found


def chosen(page: str) -> list[str]:
    return re.findall(r'name="sample"\s+value="([^"]+)"[^>]*checked', page)


def test_a_visitor_tries_a_model_on_its_samples(user: User, sources: list[dict[str, str]]) -> None:
    first, telling = tried(model(user, publish=True))
    path = f"/apps/{user.handle}/finder/"
    page = Client().get(path).content.decode()
    assert chosen(page) == [str(telling.pk)]
    assert 'alt="All &lt;blue&gt;"' in page
    assert f'id="preview-before" src="/models/samples/{telling.pk}/before.webp"' in page
    for sample in (first, telling):
        answer = Client().post(f"{path}preview/", {"sample": str(sample.pk)})
        assert (answer.status_code, answer.content) == (200, b"picture")
    assert sources == [{"blob": first.before_id}, {"blob": telling.before_id}]


def test_without_javascript_the_sample_stays_selected(user: User, sources: list[dict[str, str]]) -> None:
    first, _telling = tried(model(user, publish=True))
    sent = {"sample": str(first.pk), "page": "1"}
    page = Client().post(f"/apps/{user.handle}/finder/preview/", sent).content.decode()
    assert chosen(page) == [str(first.pk)]
    assert sources == [{"blob": first.before_id}]


def test_accounts_with_images_see_those(user: User, client_of: Callable[[User], Client]) -> None:
    tried(model(user))
    upload(user)
    page = client_of(user).get(f"/apps/{user.handle}/finder/").content.decode()
    assert 'name="file"' in page
    assert 'name="sample"' not in page


def test_samples_of_private_models_are_not_found(
    user: User, other_user: User, client_of: Callable[[User], Client], sources: list[dict[str, str]]
) -> None:
    (hidden, _) = tried(model(user, "hidden"))
    model(user, "open", sure=(80, 20), publish=True)
    stranger = client_of(other_user)
    for wanted in (hidden.pk, uuid.uuid4(), "../1"):
        for path in ("preview/", "run/"):
            answer = stranger.post(f"/apps/{user.handle}/open/{path}", {"sample": str(wanted)})
            assert answer.status_code == 404, (wanted, path)
    assert sources == []
    assert not File.objects.exists()


def test_a_run_over_a_sample_puts_it_into_the_drive_once(
    user: User, other_user: User, client_of: Callable[[User], Client]
) -> None:
    _first, telling = tried(model(other_user, publish=True))
    for key in "ab":
        sent = {"sample": str(telling.pk), "request_key": key}
        assert client_of(user).post(f"/apps/{other_user.handle}/finder/run/", sent).status_code == 302
    file = File.objects.get(owner=user)
    assert (file.name, file.blob_id) == ("sample.webp", telling.before_id)
    assert Job.objects.count() == 2


def test_models_for_a_selection_list_own_models_first(
    user: User,
    other_user: User,
    client_of: Callable[[User], Client],
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    tried(model(user, "mine", sure=(70, 10)))
    tried(model(other_user, "shared", publish=True))
    model(other_user, "hidden", sure=(80, 20))
    client = client_of(user)
    page = client.post("/run/", {"file": str(upload(user).pk)}, follow=True)
    found = re.findall(r'href="(/apps/[^/"]+/(?:mine|shared|hidden)/)\?selection=', page.content.decode())
    assert found == [f"/apps/{user.handle}/mine/", f"/apps/{other_user.handle}/shared/"]
    address = page.redirect_chain[-1][0]
    with CaptureQueriesContext(connection) as queries:
        client.get(address)
    for number in range(3):
        tried(model(user, f"mine-{number}", sure=(60, number)))
    with django_assert_num_queries(len(queries)):
        client.get(address)
