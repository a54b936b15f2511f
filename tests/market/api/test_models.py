"""Create models over the API and from the command line."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import CommandError, call_command
from rest_framework.test import APIClient

from accounts.models import User
from drive.files.quota import used_bytes
from drive.files.services import select
from drive.files.trash import trash
from drive.models import File
from market.management.commands import import_weights
from market.models import Conversion, Listing
from market.weights import tasks, work
from tests.drive.factories import upload
from tests.market.factories import marks, model
from tests.market.weights.fake_sandbox import Convert, accepting, refusing, use
from tests.workers.checkpoints.weights_files import safetensors_bytes, script_bytes, torch_bytes

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _marks() -> Iterator[None]:
    with marks():
        yield


def sent(name: str = "best.safetensors", data: bytes | None = None) -> SimpleUploadedFile:
    return SimpleUploadedFile(name, safetensors_bytes() if data is None else data)


def test_a_form_with_weights_becomes_a_model(
    user: User, api: Callable[..., APIClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    client = api(user, ["read", "write"])
    answer = client.post("/v1/models", {"weights": sent(), "name": "finder", "publish": "true"})
    assert answer.status_code == 202, answer.content
    asked = answer.json()
    assert (asked["status"], asked["model"], asked["version"]) == ("starting", f"{user.handle}/finder", None)
    use(monkeypatch, accepting())
    work.convert(asked["id"])
    told = client.get(asked["urls"]["get"]).json()
    assert told["status"] == "succeeded"
    assert told["report"]["facts"]["classes"] == ["cat", "dog"]
    made = client.get(f"/v1/models/{user.handle}/finder").json()
    assert (made["kind"], made["visibility"], made["latest_version"]["id"]) == (
        "model",
        "public",
        told["version"],
    )
    assert [row["id"] for row in client.get("/v1/conversions").json()["results"]] == [asked["id"]]
    assert client.delete(f"/v1/models/{user.handle}/finder").status_code == 204
    assert not Listing.objects.filter(name="finder").exists()


def test_a_file_of_the_drive_is_named_by_its_id(user: User, api: Callable[..., APIClient]) -> None:
    file = upload(user, "best.safetensors", data=safetensors_bytes())
    answer = api(user).post("/v1/models", {"file": str(file.pk), "name": "finder"}, format="json")
    assert (answer.status_code, answer.json()["file"]) == (202, str(file.pk))


def test_a_repeated_request_uploads_and_converts_once(user: User, api: Callable[..., APIClient]) -> None:
    client = api(user)
    answers = [
        client.post("/v1/models", {"weights": sent(), "name": "finder"}, headers={"Idempotency-Key": "k"})
        for _ in range(2)
    ]
    assert [answer.status_code for answer in answers] == [202, 202]
    assert answers[0].json()["id"] == answers[1].json()["id"]
    assert File.objects.filter(owner=user).count() == 1
    other = client.post(
        "/v1/models", {"weights": sent(), "name": "another"}, headers={"Idempotency-Key": "k"}
    )
    assert other.status_code == 409


def test_errors_name_their_field(user: User, api: Callable[..., APIClient]) -> None:
    client, picture = api(user), upload(user)
    file = upload(user, "best.safetensors", data=safetensors_bytes())
    for body, status, fields in [
        ({"name": "finder"}, 422, ["weights"]),
        ({"name": "finder", "file": str(file.pk), "size": 3}, 422, ["size"]),
        ({"name": "Finder!", "file": str(file.pk)}, 422, ["name"]),
        ({"name": "finder", "file": str(file.pk), "family": "nonesuch"}, 422, ["family"]),
        ({"name": "finder", "file": str(file.pk), "config": "{"}, 422, ["config"]),
        ({"name": "finder", "file": str(picture.pk)}, 404, None),
    ]:
        answer = client.post("/v1/models", body, format="json")
        assert answer.status_code == status, (body, answer.content)
        assert list(answer.json().get("errors", {})) == (fields or []), body
    form = client.post("/v1/models", {"weights": sent("a.txt", b"hello"), "name": "finder"})
    assert form.status_code == 422
    assert not Conversion.objects.exists()


def test_a_refusal_has_a_reason(
    user: User, api: Callable[..., APIClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = api(user).post("/v1/models", {"weights": sent(), "name": "finder"}).json()
    use(monkeypatch, refusing())
    work.convert(asked["id"])
    told = api(user).get(asked["urls"]["get"]).json()
    assert (told["status"], told["error"]) == ("failed", "This file names code to run: os.system.")
    assert told["report"]["code"] == "pickle"


def test_only_own_models_can_be_deleted(user: User, other_user: User, api: Callable[..., APIClient]) -> None:
    model(other_user, "open", publish=True)
    assert api(user).delete(f"/v1/models/{other_user.handle}/open").status_code == 404
    assert api(user).delete("/v1/models/ipau/mosaic").status_code == 404
    assert Listing.objects.filter(name__in=["open", "mosaic"]).count() == 2


# --- The command.


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "best.safetensors"
    path.write_bytes(safetensors_bytes())
    return path


def converted_at_once(monkeypatch: pytest.MonkeyPatch, convert: Convert) -> None:
    """Convert in this process while the command waits."""
    use(monkeypatch, convert)
    monkeypatch.setattr(
        import_weights.time, "sleep", lambda _: tasks.convert(str(Conversion.objects.get().pk))
    )


def test_the_command_prints_the_report(user: User, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    converted_at_once(monkeypatch, accepting())
    out = io.StringIO()
    call_command(
        "import_weights",
        str(weights),
        "--owner",
        user.email.upper(),
        "--name=finder",
        "--publish",
        stdout=out,
    )
    told = out.getvalue()
    for text in ("Marks detector", "Classes: cat, dog", "model.onnx", "bubblewrap", "Ready: version 1"):
        assert text in told, text
    assert Listing.objects.get(name="finder").visibility == "public"
    assert File.objects.get(owner=user).name == "best.safetensors"


def test_the_command_fails_where_weights_are_refused(
    user: User, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    converted_at_once(monkeypatch, refusing())
    with pytest.raises(CommandError, match=r"Refused \(pickle\): This file names code to run"):
        call_command("import_weights", str(weights), "--owner", user.email, "--name=f", stdout=io.StringIO())
    assert not File.objects.filter(owner=user).exists()
    assert used_bytes(user) == 0
    # The conversion stays.
    assert Conversion.objects.get().file is None


def test_the_command_keeps_a_file_that_existed(
    user: User, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = upload(user, "mine.safetensors", data=weights.read_bytes())
    converted_at_once(monkeypatch, refusing())
    with pytest.raises(CommandError, match="Refused"):
        call_command("import_weights", str(weights), "--owner", user.email, "--name=f", stdout=io.StringIO())
    assert list(File.objects.filter(owner=user).live()) == [file]
    assert Conversion.objects.get().file == file


def test_the_command_reuses_an_existing_file(
    user: User, other_user: User, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload(other_user, "theirs.safetensors", data=weights.read_bytes())
    binned = upload(user, "binned.safetensors", data=weights.read_bytes())
    trash(owner=user, chosen=select(owner=user, file_ids=[binned.pk]))
    for name in ("finder", "other"):
        call_command(
            "import_weights",
            str(weights),
            "--owner",
            user.email,
            "--name",
            name,
            "--no-wait",
            stdout=io.StringIO(),
        )
    kept = File.objects.filter(owner=user).live().get()
    assert kept.name == "best.safetensors"
    assert [one.file for one in Conversion.objects.all()] == [kept, kept]


def test_the_command_can_return_at_once(user: User, weights: Path) -> None:
    out = io.StringIO()
    call_command(
        "import_weights", str(weights), "--owner", user.email, "--name=finder", "--no-wait", stdout=out
    )
    conversion = Conversion.objects.get()
    assert conversion.is_open
    assert str(conversion.pk) in out.getvalue()


def test_the_command_explains_errors(user: User, weights: Path, tmp_path: Path) -> None:
    text, cut, script = (tmp_path / name for name in ("notes.txt", "cut.pt", "script.pt"))
    text.write_text("hello")
    cut.write_bytes(torch_bytes()[:-30])
    script.write_bytes(script_bytes())
    for file, owner, name, sentence in [
        (weights, "nobody@example.org", "finder", "There is no account with the e-mail address"),
        (tmp_path / "none.pt", user.email, "finder", "No such file"),
        (text, user.email, "finder", "This file type isn’t supported"),
        (cut, user.email, "finder", "These weights are incomplete"),
        (script, user.email, "finder", "This is TorchScript, which contains code"),
        (weights, user.email, "Bad Name", "Use lowercase letters"),
    ]:
        with pytest.raises(CommandError, match=sentence):
            call_command("import_weights", str(file), "--owner", owner, "--name", name, stdout=io.StringIO())
    assert not File.objects.filter(owner=user).exists()


def test_the_command_names_the_families(user: User, weights: Path) -> None:
    given = ["import_weights", str(weights), "--owner", user.email, "--name=f", "--family=yolov8"]
    with pytest.raises(CommandError, match=r"no family called “yolov8”. There are: gan, .*, yolo\."):
        call_command(*given, stdout=io.StringIO())
