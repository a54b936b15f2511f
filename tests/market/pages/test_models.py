"""Pages of models: list, upload form, running and finished conversions."""

import pickle
import re
import uuid
from collections.abc import Callable, Iterator

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from accounts.models import User
from drive.files.services import select
from drive.files.trash import restore, trash
from drive.models import File
from market.models import Conversion, ConversionState, Listing, Visibility
from market.weights import conversions, work
from market.weights.report import CLASSES_SHOWN, describe_report
from tests.drive.factories import upload
from tests.market.factories import marks, model
from tests.market.pipelines.factories import pipeline
from tests.market.weights.fake_sandbox import accepting, refusing, use
from tests.workers.checkpoints.weights_files import safetensors_bytes, script_bytes, torch_bytes

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _marks() -> Iterator[None]:
    with marks():
        yield


@pytest.fixture
def client(user: User, client_of: Callable[[User], Client]) -> Client:
    return client_of(user)


@pytest.fixture
def weights(user: User) -> File:
    return upload(user, "best.safetensors", data=safetensors_bytes())


def test_a_weights_file_links_to_the_form(client: Client, user: User, weights: File) -> None:
    page = client.get(f"/drive/file/{weights.pk}/").content.decode()
    assert f'href="/models/new/?file={weights.pk}"' in page
    assert "Create a model" not in client.get(f"/drive/file/{upload(user).pk}/").content.decode()
    form = client.get(f"/models/new/?file={weights.pk}").content.decode()
    assert f'<option value="{weights.pk}" selected>best.safetensors</option>' in form
    assert ">Marks</option>" in form


def test_the_form_requests_a_conversion(client: Client, weights: File) -> None:
    sent = {"file": str(weights.pk), "name": "finder", "title": "Finds <b>cats</b>", "publish": "on"}
    answer = client.post("/models/new/", sent)
    conversion = Conversion.objects.get()
    assert (answer.status_code, answer["Location"]) == (302, f"/models/conversions/{conversion.pk}/")
    assert (conversion.name, conversion.title, conversion.publish) == ("finder", "Finds <b>cats</b>", True)


def test_weights_can_be_uploaded_with_the_form(client: Client, user: User) -> None:
    sent = SimpleUploadedFile("best.safetensors", safetensors_bytes())
    client.post("/models/new/", {"upload": sent, "name": "finder"})
    assert Conversion.objects.get().file == File.objects.get(owner=user)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"name": "No Name"}, "Use lowercase letters, digits and single hyphens"),
        ({"file": ""}, "Choose weights in your drive, or upload a file."),
        ({"config": "{"}, "This is not valid JSON"),
        ({"upload": SimpleUploadedFile("a.txt", b"hello")}, "This file type isn’t supported."),
        ({"upload": SimpleUploadedFile("a.pt", torch_bytes()[:-30])}, "These weights are incomplete"),
        ({"upload": SimpleUploadedFile("a.pt", script_bytes())}, "This is TorchScript, which contains code."),
        ({"upload": SimpleUploadedFile("a.pt", pickle.dumps({"w": 1}))}, "This is a plain pickle"),
        ({"name": "taken"}, "You already have an app, model or pipeline called “taken”."),
    ],
)
def test_errors_are_shown_at_their_field_and_keep_the_input(
    client: Client, user: User, weights: File, changes: dict[str, object], sentence: str
) -> None:
    pipeline(user)
    Listing.objects.filter(owner=user).update(name="taken")
    answer = client.post(
        "/models/new/", {"file": str(weights.pk), "name": "finder", "title": "My finder", **changes}
    )
    page = answer.content.decode()
    assert answer.status_code == 422
    assert sentence in page
    assert 'value="My finder"' in page
    assert not Conversion.objects.exists()


def test_all_errors_are_shown_at_once(client: Client, user: User) -> None:
    page = client.post("/models/new/", {"name": "No Name", "config": "{"}).content.decode()
    for sentence in (
        "Choose weights in your drive",
        "Use lowercase letters",
        "This is not valid JSON",
    ):
        assert sentence in page, sentence
    assert '<details class="mb-3"\n                   open>' in page


def test_an_empty_file_is_the_only_error(client: Client) -> None:
    sent = SimpleUploadedFile("best.pt", b"")
    page = client.post("/models/new/", {"upload": sent, "name": "finder"}).content.decode()
    assert "This file is empty." in page
    assert "Choose weights in your drive" not in page


@pytest.mark.parametrize("name", ["taken", "No Name"])
def test_weights_of_an_invalid_form_need_not_be_sent_again(client: Client, user: User, name: str) -> None:
    pipeline(user)
    Listing.objects.filter(owner=user).update(name="taken")
    sent = SimpleUploadedFile("best.safetensors", safetensors_bytes())
    answer = client.post("/models/new/", {"upload": sent, "name": name})
    file = File.objects.get(owner=user)
    assert answer.status_code == 422
    assert f'<option value="{file.pk}" selected>best.safetensors</option>' in answer.content.decode()
    client.post("/models/new/", {"file": str(file.pk), "name": "free"})
    assert Conversion.objects.get().file == file


def test_a_conversion_is_polled_until_it_ends(
    client: Client, user: User, weights: File, monkeypatch: pytest.MonkeyPatch
) -> None:
    conversion = conversions.request_conversion(owner=user, file=weights, name="finder")
    address = f"/models/conversions/{conversion.pk}/"
    page = client.get(address).content.decode()
    assert f'hx-get="{address}state/"' in page
    assert "Waiting for a conversion worker" in page
    use(monkeypatch, accepting())
    work.convert(conversion.pk)
    ended = client.get(f"{address}state/").content.decode()
    assert "hx-get" not in ended
    assert f'href="/apps/{user.handle}/finder/"' in ended
    for text in ("Marks detector", "Detects objects", "64 × 64", "bubblewrap", "cat", "dog", "Read as data."):
        assert text in ended, text
    assert conversion.source_sha256 in ended


def test_a_refusal_shows_reason_and_actions(
    client: Client, user: User, weights: File, monkeypatch: pytest.MonkeyPatch
) -> None:
    conversion = conversions.request_conversion(owner=user, file=weights, name="finder")
    use(monkeypatch, refusing("It names <script>code</script> to run."))
    work.convert(conversion.pk)
    page = client.get(f"/models/conversions/{conversion.pk}/").content.decode()
    assert "It names &lt;script&gt;code&lt;/script&gt; to run." in page
    assert "No model was created." in page
    stays = "The file stays in your drive:"
    assert stays in page
    assert f'href="/drive/file/{weights.pk}/">best.safetensors</a>' in page
    trash(owner=user, chosen=select(owner=user, file_ids=[weights.pk]))
    assert stays not in client.get(f"/models/conversions/{conversion.pk}/").content.decode()
    restore(owner=user, root_ids=[weights.pk])
    answer = client.post(f"/models/conversions/{conversion.pk}/retry/")
    assert answer.status_code == 302
    conversion.refresh_from_db()
    assert conversion.state == ConversionState.STARTING


def test_the_list_shows_own_and_shared_models(
    client: Client, user: User, other_user: User, weights: File
) -> None:
    model(user, "mine")
    model(other_user, "open", publish=True)
    model(other_user, "secret")
    conversions.request_conversion(owner=user, file=weights, name="later")
    page = client.get("/models/").content.decode()
    assert f'href="/apps/{user.handle}/mine/"' in page
    assert f'href="/apps/{other_user.handle}/open/"' in page
    assert "secret" not in page
    assert "best.safetensors" in page
    visitor = Client().get("/models/").content.decode()
    assert "open" in visitor
    assert "mine" not in visitor


def test_the_list_has_a_constant_number_of_queries(
    client: Client, user: User, other_user: User, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    for number in range(3):
        model(user, f"mine-{number}")
        model(other_user, f"open-{number}", publish=True)
    # Session, user, models, their versions, weights and speeds, conversions, shared models with versions,
    # weights, samples and chosen samples.
    with django_assert_max_num_queries(13):
        client.get("/models/")


def test_a_model_s_page_highlights_models_in_the_navigation(client: Client, user: User) -> None:
    model(user)
    for path, marked in ((f"/apps/{user.handle}/finder/", "/models/"), ("/apps/ipau/mosaic/", "/apps/")):
        page = client.get(path).content.decode()
        entries = re.findall(r'<a class="nav-link"\s+href="([^"]+)"\s+aria-current="page"', page)
        assert entries == [marked]


def test_a_model_is_shared_and_deleted(client: Client, user: User) -> None:
    model(user)
    client.post("/models/finder/share/", {"visibility": "public"})
    assert Listing.objects.get(name="finder").visibility == Visibility.PUBLIC
    assert client.post("/models/finder/share/", {"visibility": "all"}).status_code == 422
    client.post("/models/finder/delete/")
    assert not Listing.objects.filter(name="finder").exists()


def test_a_model_is_shared_from_its_report(client: Client, user: User) -> None:
    version = model(user)
    report = f"/models/conversions/{Conversion.objects.get().pk}/"
    share = 'action="/models/finder/share/"'
    assert share in client.get(report).content.decode()
    version.is_confirmed = False
    version.save()
    assert share not in client.get(report).content.decode()
    version.is_confirmed = True
    version.save()
    client.post("/models/finder/share/", {"visibility": "public"})
    assert share not in client.get(report).content.decode()


def test_models_of_another_account_are_404(
    user: User, client_of: Callable[[User], Client], other_user: User, weights: File
) -> None:
    model(user)
    conversion = conversions.request_conversion(owner=user, file=weights, name="other")
    stranger = client_of(other_user)
    own = f"conversions/{conversion.pk}/"
    for path in (own, f"{own}state/", f"new/?file={weights.pk}"):
        assert stranger.get(f"/models/{path}").status_code == 404, path
    for path in (f"{own}retry/", "finder/share/", "finder/delete/"):
        assert stranger.post(f"/models/{path}", {"visibility": "public"}).status_code == 404, path
    sent = {"file": str(weights.pk), "name": "stolen"}
    assert stranger.post("/models/new/", sent).status_code == 404
    assert stranger.get(f"/models/conversions/{uuid.uuid4()}/").status_code == 404
    assert Client().get("/models/new/").status_code == 302


def test_a_model_s_page_is_that_of_an_app(client: Client, user: User) -> None:
    version = model(user)
    page = client.get(f"/apps/{user.handle}/finder/").content.decode()
    assert "Confidence" in page
    assert "Add to a pipeline" in page
    assert version.listing.title in page
    for text in ("Marks detector", "64 × 64", version.weights.digest, "model.onnx", ">cat<"):
        assert text in page, text
    assert "model.onnx" not in client.get("/apps/ipau/mosaic/").content.decode()


def test_a_conversion_of_a_deleted_model_says_so(client: Client, user: User) -> None:
    model(user)
    conversion = Conversion.objects.get()
    assert (
        "The model is ready to run." in client.get(f"/models/conversions/{conversion.pk}/").content.decode()
    )
    client.post("/models/finder/delete/")
    page = client.get(f"/models/conversions/{conversion.pk}/").content.decode()
    assert "The model was deleted." in page
    assert "Try model" not in page


@pytest.mark.parametrize(
    ("isolation", "sentences"),
    [
        ({"bubblewrap": True, "network": True}, ["(bubblewrap)"]),
        ({"bubblewrap": False, "network": True}, ["not available", "no network access"]),
        (
            {"bubblewrap": False, "network": False, "landlock": True},
            ["not available", "Landlock", "only by the process itself"],
        ),
        ({}, []),
    ],
)
def test_isolation_is_described(isolation: dict[str, bool], sentences: list[str]) -> None:
    found = describe_report({"isolation": isolation}).isolation
    assert len(found) == len(sentences)
    assert all(part in sentence for part, sentence in zip(sentences, found, strict=True))


@pytest.mark.parametrize(
    ("family", "label"),
    [
        ("yolo", "Difference between CPU and GPU format"),
        ("onnx", "Difference between the uploaded and the optimized graph"),
    ],
)
def test_a_report_names_the_compared_formats(family: str, label: str) -> None:
    facts = dict(describe_report({"facts": {"family": family, "difference": 1e-5, "tolerance": 1e-3}}).facts)
    assert facts[label] == "at most 1e-05; the limit is 0.001"
    assert len([label for label in facts if label.startswith("Difference")]) == 1


def test_a_report_uses_the_title_of_lists() -> None:
    report = {"title": "ONNX model", "facts": {"title": "ONNX detector (YOLOv5 output)"}}
    assert dict(describe_report(report).facts)["Recognized as"] == "ONNX detector (YOLOv5 output)"


def test_a_long_list_of_classes_is_truncated() -> None:
    report = describe_report({"facts": {"classes": [f"c{n}" for n in range(1000)]}})
    assert (len(report.classes), report.more_classes) == (CLASSES_SHOWN, 1000 - CLASSES_SHOWN)
    assert describe_report({}).facts == []
