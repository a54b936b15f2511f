"""Output layouts of ONNX graphs: only the owner can run them until the owner confirms."""

import io
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from rest_framework.test import APIClient

from accounts.models import User
from drive.files.services import select
from drive.files.trash import trash
from drive.models import File
from ipau.common.errors import Conflict, Invalid, NotFound
from market.listings import services
from market.management.commands import import_weights
from market.models import Conversion, ConversionState, Listing, Version, Weights
from market.pipelines import services as pipelines
from market.pipelines.model_steps import ModelStep, models_of, unavailable_models
from market.weights import confirm_layout, conversions, default_detector, report, tasks, work
from market.weights import services as weights_services
from tests.drive.factories import upload
from tests.market.factories import marks
from tests.market.weights.fake_sandbox import Convert, accepting, refusing, use
from tests.processing.factories import submit_version, take_turns
from tests.workers.checkpoints.weights_files import safetensors_bytes
from workers.configs.model_config import read_wishes
from workers.families.onnx import output_layouts
from workers.recipe import Step
from workers.sandbox.run import Report
from workers.vision.detection_outputs import LAYOUTS

pytestmark = pytest.mark.django_db

DETECT = {"task": "detect", "layout": "anchors", "classes": 80}
TURNED = {"task": "obb", "layout": "anchors", "classes": 79}


@pytest.fixture(autouse=True)
def _marks() -> Iterator[None]:
    with marks():
        yield


def test_each_layout_has_a_text_and_a_config_name() -> None:
    for layout in (*LAYOUTS, output_layouts.SEMANTIC, output_layouts.LABELS):
        assert layout in confirm_layout.NAMED_LAYOUTS
        assert layout in report.LAYOUTS
        assert read_wishes({"layout": layout}, {}).layout == layout


def asking(*choices: dict[str, Any], is_certain: bool = False, sure: tuple[int, ...] = (90, 40)) -> Convert:
    """Return a `convert` of a graph with these possible layouts."""
    inner = accepting(sure)

    def convert(path: Path, out: Path, **given: Any) -> Report:
        made = inner(path, out, **given)
        return Report(**{**vars(made), "choices": choices, "is_certain": is_certain})

    return convert


def convert(
    owner: User, monkeypatch: pytest.MonkeyPatch, file: File | None = None, **asked: Any
) -> Conversion:
    use(monkeypatch, asking(DETECT, TURNED))
    file = file or upload(owner, "best.safetensors", data=safetensors_bytes())
    conversion = conversions.request_conversion(owner=owner, file=file, name="finder", **asked)
    return _again(conversion)


def _again(conversion: Conversion) -> Conversion:
    work.convert(conversion.pk)
    return Conversion.objects.get(pk=conversion.pk)


def test_only_its_owner_can_run_it_until_it_is_confirmed(
    user: User, other_user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    conversion = convert(user, monkeypatch, publish=True)
    assert (conversion.state, conversion.needs_confirmation) == (ConversionState.SUCCEEDED, True)
    version = conversion.version
    assert version is not None
    assert version.listing.visibility == "private"
    job = submit_version(user, version, [upload(user)])
    take_turns(user)
    job.refresh_from_db()
    assert job.succeeded == 1
    with pytest.raises(Conflict, match="Confirm the output layout of this model in its report"):
        weights_services.share_model(owner=user, name="finder", visibility="public")

    confirm_layout.confirm_conversion(owner=user, conversion_id=conversion.pk)
    assert Listing.objects.get(name="finder").visibility == "public"
    assert services.get_latest_version(user=other_user, owner=user.handle, name="finder") == version
    with pytest.raises(Conflict):
        confirm_layout.confirm_conversion(owner=user, conversion_id=conversion.pk)


def test_an_unconfirmed_version_of_a_shared_model_is_hidden(
    user: User, other_user: User, monkeypatch: pytest.MonkeyPatch, api: Callable[..., APIClient]
) -> None:
    first = convert(user, monkeypatch, publish=True)
    confirm_layout.confirm_conversion(owner=user, conversion_id=first.pk)
    use(monkeypatch, asking(DETECT, TURNED, sure=(50, 50)))
    file = upload(user, "better.safetensors", data=safetensors_bytes(note="2"))
    second = _again(
        conversions.request_conversion(owner=user, file=file, name="finder", publish=True)
    ).version
    assert second is not None
    assert second.number == 2
    for person, expected in ((user, 2), (other_user, 1)):
        listing = services.get_listing(user=person, owner=user.handle, name="finder")
        assert services.latest_version(listing, user=person).number == expected
        found = services.get_latest_version(user=person, owner=user.handle, name="finder")
        assert found.number == expected
        assert default_detector.default_detector(user=person).number == expected
        told = api(person).get(f"/v1/models/{user.handle}/finder").json()["latest_version"]
        assert (told["number"], told["confirmed"]) == (expected, expected == 1)
        listed = api(person).get("/v1/models?q=finder").json()["results"]
        assert listed[0]["latest_version"]["number"] == expected
        versions = api(person).get(f"/v1/models/{user.handle}/finder/versions").json()["results"]
        assert [one["number"] for one in versions] == list(range(expected, 0, -1))
    assert services.get_version(user=user, version_id=second.pk) == second
    with pytest.raises(NotFound):
        services.get_version(user=other_user, version_id=second.pk)


def correct(user: User, conversion: Conversion, monkeypatch: pytest.MonkeyPatch) -> Conversion:
    """Choose the layout of oriented boxes."""
    confirm_layout.confirm_conversion(owner=user, conversion_id=conversion.pk, task="obb", layout="anchors")
    use(monkeypatch, asking(TURNED, DETECT, sure=(10, 20)))
    return _again(conversion)


def test_another_layout_is_converted_again(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    config = json.dumps({"names": ["cat"], "task": "detect", "layout": "anchors"})
    conversion = convert(user, monkeypatch, publish=True, config=config)
    wrong = conversion.version
    assert wrong is not None
    again = confirm_layout.confirm_conversion(
        owner=user, conversion_id=conversion.pk, task="obb", layout="anchors"
    )
    assert (again.state, again.version, again.report) == (ConversionState.STARTING, None, {})
    assert json.loads(again.config) == {"names": ["cat"], "task": "obb", "layout": "anchors"}
    # Until then its owner can still run the old version.
    assert (again.corrects, Version.objects.filter(pk=wrong.pk).exists()) == (wrong, True)
    use(monkeypatch, asking(TURNED, DETECT, sure=(10, 20)))
    again = _again(again)
    assert again.needs_confirmation
    assert again.version is not None
    assert (again.version.number, again.corrects) == (2, None)
    confirm_layout.confirm_conversion(owner=user, conversion_id=again.pk, task="obb", layout="anchors")
    assert Listing.objects.get(name="finder").visibility == "public"


def test_a_corrected_version_is_deleted(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    conversion = correct(user, convert(user, monkeypatch), monkeypatch)
    (version,) = Version.objects.filter(listing__name="finder")
    assert version == conversion.version
    assert list(Weights.objects.all()) == [version.weights]


def test_a_corrected_version_with_jobs_stays(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    conversion = convert(user, monkeypatch)
    assert conversion.version is not None
    job = submit_version(user, conversion.version, [upload(user)])
    take_turns(user)
    conversion = correct(user, conversion, monkeypatch)
    job.refresh_from_db()
    assert job.version.number == 1
    found = Version.objects.filter(listing__name="finder").values_list("number", "is_confirmed")
    assert list(found) == [(2, False), (1, False)]
    assert Weights.objects.count() == 2


def test_a_refused_correction_changes_nothing(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    conversion = convert(user, monkeypatch)
    before = Version.objects.count()
    confirm_layout.confirm_conversion(owner=user, conversion_id=conversion.pk, task="obb", layout="anchors")
    use(monkeypatch, refusing())
    conversion = _again(conversion)
    assert (conversion.state, Version.objects.count()) == (ConversionState.FAILED, before)
    use(monkeypatch, asking(TURNED, DETECT, sure=(10, 20)))
    conversion = _again(conversions.retry_conversion(owner=user, conversion_id=conversion.pk))
    assert list(Version.objects.filter(listing__name="finder")) == [conversion.version]


def test_only_possible_layouts_are_accepted(
    user: User, other_user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = upload(user, "best.safetensors", data=safetensors_bytes())
    conversion = convert(user, monkeypatch, file)
    with pytest.raises(Invalid, match="does not fit the outputs"):
        confirm_layout.confirm_conversion(owner=user, conversion_id=conversion.pk, task="classify", layout="")
    with pytest.raises(NotFound):
        confirm_layout.confirm_conversion(owner=other_user, conversion_id=conversion.pk)
    trash(owner=user, chosen=select(owner=user, file_ids=[file.pk]))
    with pytest.raises(Invalid, match="no longer in your drive"):
        confirm_layout.confirm_conversion(owner=user, conversion_id=conversion.pk, task="obb")
    # The current layout can still be confirmed.
    confirm_layout.confirm_conversion(
        owner=user, conversion_id=conversion.pk, task="detect", layout="anchors"
    )
    assert Version.objects.get(listing__name="finder").is_confirmed


def test_confirming_does_not_share_a_model_taken_down(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    conversion = convert(user, monkeypatch, publish=True)
    Listing.objects.filter(name="finder").update(taken_down=True)
    confirm_layout.confirm_conversion(owner=user, conversion_id=conversion.pk)
    assert Listing.objects.get(name="finder").visibility == "private"


def test_a_pipeline_with_an_unconfirmed_model_is_for_its_owner_only(
    user: User, other_user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = convert(user, monkeypatch, publish=True)
    confirm_layout.confirm_conversion(owner=user, conversion_id=first.pk)
    use(monkeypatch, asking(DETECT, TURNED, sure=(50, 50)))
    file = upload(user, "better.safetensors", data=safetensors_bytes(note="2"))
    second = _again(conversions.request_conversion(owner=user, file=file, name="finder"))
    newest = [ModelStep(user.handle, "finder"), Step(operation="blackwhite")]
    with pytest.raises(Invalid, match="others cannot see"):
        pipelines.create_pipeline(owner=user, title="Two", steps=newest, visibility="public")
    kept = services.latest_version(pipelines.create_pipeline(owner=user, title="Two", steps=newest))
    assert [model.number for model in models_of(kept).values()] == [2]
    assert unavailable_models(user=user, version=kept) == {}
    assert unavailable_models(user=other_user, version=kept) != {}
    theirs = pipelines.create_pipeline(owner=other_user, title="Two", steps=newest)
    assert [model.number for model in models_of(services.latest_version(theirs)).values()] == [1]
    confirm_layout.confirm_conversion(owner=user, conversion_id=second.pk)
    assert unavailable_models(user=other_user, version=services.latest_version(kept.listing)) == {}


# --- Pages.


def test_the_report_has_a_form_to_confirm(
    user: User, monkeypatch: pytest.MonkeyPatch, client_of: Callable[[User], Client]
) -> None:
    client, conversion = client_of(user), convert(user, monkeypatch)
    path = f"/models/conversions/{conversion.pk}/"
    page = client.get(path).content.decode()
    assert "Confirm the output layout" in page
    assert 'value="detect:anchors"' in page
    assert "Detects oriented boxes: one column per anchor" in page
    assert "79 classes" in page
    listed = client.get("/models/").content.decode()
    assert "Needs confirmation" in listed
    assert "Not confirmed" in listed
    assert f'href="/models/conversions/{conversion.pk}/">Confirm output layout' in listed
    refused = client.post("/models/finder/share/", {"visibility": "public"}, follow=True)
    assert "Confirm the output layout of this model in its report" in refused.content.decode()
    wrong = client.post(f"{path}confirm/", {"choice": "classify:"}, follow=True).content.decode()
    assert "This layout does not fit the outputs of the model." in wrong
    client.post(f"{path}confirm/", {"choice": "detect:anchors"})
    assert "Confirm the output layout" not in client.get(path).content.decode()
    assert "Not confirmed" not in client.get("/models/").content.decode()


def test_the_page_shows_the_preprocessing_of_a_classifier(
    user: User, monkeypatch: pytest.MonkeyPatch, client_of: Callable[[User], Client]
) -> None:
    numbers = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    facts = {"task": "classify", **numbers, "crop_pct": 1.0, "assumed": ["mean", "std", "crop_pct"]}
    inner = accepting(**facts)

    def made(path: Path, out: Path, **given: Any) -> Report:
        choice = {"task": "classify", "layout": "", "classes": 2}
        return Report(**{**vars(inner(path, out, **given)), "choices": (choice,), "is_certain": True})

    use(monkeypatch, made)
    file = upload(user, "best.safetensors", data=safetensors_bytes())
    conversion = _again(conversions.request_conversion(owner=user, file=file, name="finder"))
    page = client_of(user).get(f"/models/conversions/{conversion.pk}/").content.decode()
    said = (
        "mean 0.485, 0.456, 0.406, standard deviation 0.229, 0.224, 0.225 (assumed); "
        "center square of the image (assumed)"
    )
    assert f"Preprocessing of images: {said}." in page
    assert page.count(said) == 2


def test_another_choice_on_the_page_converts_again(
    user: User, monkeypatch: pytest.MonkeyPatch, client_of: Callable[[User], Client]
) -> None:
    client, conversion = client_of(user), convert(user, monkeypatch)
    path = f"/models/conversions/{conversion.pk}/"
    page = client.post(f"{path}confirm/", {"choice": "obb:anchors"}, follow=True).content.decode()
    assert "Waiting for a conversion worker" in page


def test_the_page_marks_recognized_and_chosen_layouts(
    user: User, monkeypatch: pytest.MonkeyPatch, client_of: Callable[[User], Client]
) -> None:
    conversion = convert(user, monkeypatch)
    path = f"/models/conversions/{conversion.pk}/"
    client = client_of(user)
    assert _badges(client.get(path).content.decode()) == {"detect:anchors": "Recognized", "obb:anchors": ""}
    confirm_layout.confirm_conversion(owner=user, conversion_id=conversion.pk, task="obb", layout="anchors")
    use(monkeypatch, asking({**TURNED, "is_recognised": False}, {**DETECT, "is_recognised": True}))
    _again(conversion)
    told = _badges(client.get(path).content.decode())
    assert told == {"obb:anchors": "Chosen", "detect:anchors": "Recognized"}


def _badges(page: str) -> dict[str, str]:
    """Return the badge of each choice of the form."""
    ways = page.split('name="choice"')[1:]
    badge = re.compile(r'class="badge bg-blue-lt ms-1">(\w+)<')
    found = {way.split('value="', 1)[1].split('"', 1)[0]: badge.search(way) for way in ways}
    return {value: one[1] if one else "" for value, one in found.items()}


def test_only_the_owner_can_confirm(
    user: User, other_user: User, monkeypatch: pytest.MonkeyPatch, client_of: Callable[[User], Client]
) -> None:
    path = f"/models/conversions/{convert(user, monkeypatch).pk}/confirm/"
    assert client_of(other_user).post(path, {"choice": "detect:anchors"}).status_code == 404
    assert Client().post(path).status_code == 302


# --- API and command line.


def test_the_api_confirms(
    user: User, other_user: User, monkeypatch: pytest.MonkeyPatch, api: Callable[..., APIClient]
) -> None:
    conversion = convert(user, monkeypatch)
    path = f"/v1/conversions/{conversion.pk}"
    told = api(user).get(path).json()
    assert told["awaits_confirmation"]
    assert told["report"]["choices"] == [DETECT, TURNED]
    assert api(other_user).post(f"{path}/confirm", {}, format="json").status_code == 404
    wrong = api(user).post(f"{path}/confirm", {"layout": "sideways"}, format="json")
    assert (wrong.status_code, list(wrong.json()["errors"])) == (422, ["layout"])
    again = api(user).post(f"{path}/confirm", {"task": "obb"}, format="json")
    assert (again.status_code, again.json()["status"]) == (202, "starting")
    use(monkeypatch, asking(TURNED, DETECT))
    _again(conversion)
    right = api(user).post(f"{path}/confirm", {}, format="json")
    assert (right.status_code, right.json()["awaits_confirmation"]) == (200, False)
    assert api(user).post(f"{path}/confirm", {}, format="json").status_code == 409


@pytest.mark.parametrize("is_certain", [True, False])
def test_the_command_confirms_only_what_is_certain(
    user: User, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_certain: bool
) -> None:
    path = tmp_path / "best.safetensors"
    path.write_bytes(safetensors_bytes())
    choices = (DETECT,) if is_certain else (DETECT, TURNED)
    use(monkeypatch, asking(*choices, is_certain=is_certain))
    monkeypatch.setattr(
        import_weights.time, "sleep", lambda _: tasks.convert(str(Conversion.objects.get().pk))
    )
    given = ["import_weights", str(path), "--owner", user.email, "--name=finder", "--publish"]
    out = io.StringIO()
    if is_certain:
        call_command(*given, stdout=out)
        assert "Only one output layout is possible." in out.getvalue()
    else:
        with pytest.raises(CommandError) as caught:
            call_command(*given, stdout=out)
        said = str(caught.value)
        assert f"/models/conversions/{Conversion.objects.get().pk}/" in said
        assert '{"task": "obb", "layout": "anchors"}' in said
    assert Listing.objects.get(name="finder").visibility == ("public" if is_certain else "private")
