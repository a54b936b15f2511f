"""Access control of every API route. New routes are tested without changes here."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from rest_framework.test import APIClient

from accounts.models import User
from drive.files.paths import UploadPath
from drive.files.services import create_folder, select
from drive.files.trash import trash
from drive.shares.services import create_share
from drive.uploads.resumable import begin_resumable
from market.models import Listing, Version, Visibility
from market.weights import conversions
from processing import services
from processing.models import Delivery, JobKind
from processing.services import source_from_file
from tests.api.routes import Route, all_routes
from tests.drive.factories import upload
from tests.market.pipelines.factories import pipeline
from tests.processing.factories import submit, version
from tests.workers.checkpoints.weights_files import safetensors_bytes

pytestmark = pytest.mark.django_db

ROUTES = list(all_routes())
# Routes without data of one account.
SHARED = {
    "account",
    "hardware",
    "drive",
    "drive-move",
    "drive-trash",
    "drive-restore",
    "trash-empty",
    "archives",
    "files",
    "folders",
    "shares",
    "uploads",
    "models",
    "conversions",
    "predictions",
    "jobs",
    "quotes",
    "preview",
    "detect",
    "detect-to-json",
    "detect-to-img",
    "pipelines",
    "webhook-secret",
    "webhook-secret-rotate",
    "webhook-deliveries",
}


def _private_listing(owner: User) -> Version:
    """Return a version of a private listing."""
    builtin = version("blackwhite")
    listing = Listing.objects.create(
        owner=owner,
        name="secret",
        title="Secret",
        summary="…",
        description="Of this nobody else reads.",
        visibility=Visibility.PRIVATE,
    )
    return Version.objects.create(
        listing=listing, number=1, recipe=builtin.recipe, params_schema=builtin.params_schema
    )


@pytest.fixture
def belongings(other_user: User) -> Mapping[str, Mapping[str, Any]]:
    """Return objects of another account, as values of the parameters of each route."""
    file, trashed = upload(other_user), upload(other_user, "gone.jpg", seed=1)
    folder, old = (create_folder(owner=other_user, parent=None, name=name) for name in ("Holiday", "Old"))
    trash(owner=other_user, chosen=select(owner=other_user, folder_ids=[old.pk], file_ids=[trashed.pk]))
    job = submit(other_user, [file])
    source = source_from_file(owner=other_user, file_id=file.pk)
    prediction = services.submit_prediction(owner=other_user, version=version(), params={}, source=source)
    assert prediction.kind == JobKind.PREDICTION
    secret = _private_listing(other_user)
    begun = begin_resumable(owner=other_user, folder=None, place=UploadPath((), "a.jpg"), length=9)
    delivery = Delivery.objects.create(owner=other_user, job=job, event="start", url="https://hooks.example/")
    model = {"owner": other_user.handle, "name": "secret"}
    weights = upload(other_user, "best.safetensors", data=safetensors_bytes())
    conversion = conversions.request_conversion(owner=other_user, file=weights, name="finder")
    return {
        "conversion": {"conversion_id": conversion.pk},
        "conversion-confirm": {"conversion_id": conversion.pk},
        "file": {"file_id": file.pk},
        "file-content": {"file_id": file.pk},
        "file-restore": {"file_id": trashed.pk},
        "folder": {"folder_id": folder.pk},
        "folder-archive": {"folder_id": folder.pk},
        "folder-restore": {"folder_id": old.pk},
        "share": {"share_id": create_share(owner=other_user, folder_id=folder.pk).pk},
        "upload": {"upload_id": begun.pk},
        "model": model,
        "model-readme": model,
        "versions": model,
        "version": {**model, "version_id": secret.pk},
        "model-predictions": model,
        "model-preview": model,
        "pipeline": {"owner": other_user.handle, "name": pipeline(other_user).name},
        "prediction": {"job_id": prediction.pk},
        "prediction-cancel": {"job_id": prediction.pk},
        "job": {"job_id": job.pk},
        "job-items": {"job_id": job.pk},
        "job-cancel": {"job_id": job.pk},
        "job-retry": {"job_id": job.pk},
        "job-again": {"job_id": job.pk},
        "webhook-delivery": {"delivery_id": delivery.pk},
        "webhook-redeliver": {"delivery_id": delivery.pk},
    }


def test_every_route_is_covered(belongings: Mapping[str, Mapping[str, Any]]) -> None:
    assert {route.name for route in ROUTES} == SHARED | set(belongings)
    for route in ROUTES:
        if route.name in belongings:
            assert set(route.parameters) == set(belongings[route.name]), route


def test_objects_of_other_accounts_are_not_found(
    user: User,
    other_user: User,
    api: Callable[..., APIClient],
    belongings: Mapping[str, Mapping[str, Any]],
) -> None:
    stranger, owner = api(user), api(other_user)
    body = {"input": {"image": str(upload(user).pk)}}
    for route in ROUTES:
        if route.name not in belongings:
            continue
        path = route.path(**belongings[route.name])
        for method in route.methods:
            answer = getattr(stranger, method)(path, body if method == "post" else None, format="json")
            assert answer.status_code == 404, (method, path)
            assert answer.json()["status"] == 404
            assert answer.json()["message"]
        if "get" in route.methods:
            # Proves that the 404 above is not due to a wrong URL.
            answer = owner.get(path)
            assert answer.status_code == 200, path
            # Reading to the end closes the file.
            assert b"".join(answer.streaming_content if answer.streaming else [answer.content])


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
def test_every_route_needs_a_key(route: Route) -> None:
    path = route.path(**dict.fromkeys(route.parameters, "01890000-0000-7000-8000-000000000000"))
    for method in route.methods:
        answer = APIClient().generic(method.upper(), path)
        assert answer.status_code == 401, (method, path)
        assert answer["WWW-Authenticate"].startswith("Bearer")
        assert answer["Content-Type"] == "application/problem+json"


def test_a_prediction_is_no_job_and_a_job_no_prediction(
    other_user: User, api: Callable[..., APIClient], belongings: Mapping[str, Mapping[str, Any]]
) -> None:
    client = api(other_user)
    job, prediction = belongings["job"]["job_id"], belongings["prediction"]["job_id"]
    assert client.get(f"/v1/jobs/{prediction}").status_code == 404
    assert client.get(f"/v1/predictions/{job}").status_code == 404
    assert [r["id"] for r in client.get("/v1/jobs").json()["results"]] == [str(job)]
    assert [r["id"] for r in client.get("/v1/predictions").json()["results"]] == [str(prediction)]


def test_references_in_bodies_are_limited_to_the_account(
    user: User,
    api: Callable[..., APIClient],
    belongings: Mapping[str, Mapping[str, Any]],
) -> None:
    client, mine = api(user), upload(user)
    theirs = str(belongings["file"]["file_id"])
    folder = str(belongings["folder"]["folder_id"])
    secret = str(belongings["version"]["version_id"])
    run = "/v1/models/ipau/blackwhite/predictions"
    for path, body in [
        (run, {"input": {"image": theirs}}),
        (run, {"input": {"image": f"/v1/files/{theirs}/content"}}),
        ("/v1/predictions", {"version": secret, "input": {"image": str(mine.pk)}}),
        ("/v1/jobs", {"model": "ipau/blackwhite", "files": [theirs]}),
        ("/v1/jobs", {"model": "ipau/blackwhite", "files": [str(mine.pk), theirs]}),
        ("/v1/jobs", {"model": "ipau/blackwhite", "folder": folder}),
        ("/v1/jobs", {"model": "ipau/blackwhite", "files": [str(mine.pk)], "output_folder": folder}),
        ("/v1/jobs", {"version": secret, "files": [str(mine.pk)]}),
        ("/v1/folders", {"name": "Mine", "parent": folder}),
        ("/v1/preview/blackwhite", {"image": theirs}),
        ("/v1/models", {"file": theirs, "name": "finder"}),
        ("/v1/drive/move", {"files": [str(mine.pk)], "destination": folder}),
        ("/v1/drive/move", {"files": [str(mine.pk), theirs], "destination": "top"}),
        ("/v1/drive/trash", {"folders": [folder]}),
        ("/v1/drive/restore", {"files": [str(belongings["file-restore"]["file_id"])]}),
        ("/v1/shares", {"file": theirs}),
        ("/v1/shares", {"folder": folder}),
        ("/v1/archives", {"files": [str(mine.pk)], "folders": [folder]}),
    ]:
        assert client.post(path, body, format="json").status_code == 404, (path, body)
    own = client.post("/v1/folders", {"name": "Own"}, format="json").json()["id"]
    for path, body in [(f"files/{mine.pk}", {"folder": folder}), (f"folders/{own}", {"parent": folder})]:
        assert client.patch(f"/v1/{path}", body, format="json").status_code == 404, (path, body)
    for name, key in [("files", theirs), ("folders", folder)]:
        assert client.delete(f"/v1/{name}/{key}?permanently=true").status_code == 404
    assert client.get(f"/v1/files?folder={folder}").status_code == 404
    assert client.get(f"/v1/folders?parent={folder}").status_code == 404
    assert client.get(f"/v1/shares?folder={folder}").json()["results"] == []
    # The error for a folder parameter names its field.
    answer = client.post(
        "/v1/models/ipau/mosaic/predictions",
        {"input": {"image": str(mine.pk), "tiles": folder}},
        format="json",
    )
    assert (answer.status_code, list(answer.json()["errors"])) == (422, ["tiles"])
