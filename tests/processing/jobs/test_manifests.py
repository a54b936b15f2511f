"""Tables of parameters: parsing, matching with images, and error messages."""

import json
import re
import time
import uuid
from typing import Any

import pytest
from django.test import override_settings
from pytest_django import DjangoAssertNumQueries

from accounts.models import User
from drive.files import services as drive
from drive.files.services import Selection
from drive.models import File, Folder
from ipau.common.errors import DomainError, Invalid, NotFound, TooLarge
from processing import services
from processing.jobs import manifests
from processing.jobs.manifests import ManifestRow, read_table
from processing.models import Item, Job
from tests.drive.factories import upload
from tests.processing.factories import submit, take_turns, version

pytestmark = pytest.mark.django_db
SCHEMA: dict[str, Any] = {"properties": {"method": {}, "threshold": {}}}


def fault(data: bytes) -> Invalid:
    with pytest.raises(Invalid) as caught:
        read_table(data, SCHEMA)
    return caught.value


# --- Reading.


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf", b"\r\n"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_csv_is_read_as_spreadsheets_write_it(delimiter: str, start: bytes, end: str) -> None:
    lines = ["file,method,threshold", "a.jpg,average,12", '"b, c.jpg",,', "", "d.jpg,,7"]
    text = end.join(line.replace(",", delimiter) if '"' not in line else line for line in lines)
    text = text.replace('"b, c.jpg",,', f'"b, c.jpg"{delimiter}{delimiter}')
    assert read_table(start + text.encode(), SCHEMA) == [
        ManifestRow(2, "a.jpg", {"method": "average", "threshold": "12"}),
        ManifestRow(3, "b, c.jpg", {}),
        ManifestRow(5, "d.jpg", {"threshold": "7"}),
    ]


@pytest.mark.parametrize("wrapped", [False, True])
def test_json_is_read(wrapped: bool) -> None:
    items: Any = [{"file": "a.jpg", "input": {"threshold": 3}}, {"file": "b.jpg"}]
    text = json.dumps({"items": items} if wrapped else items)
    assert read_table(text.encode(), SCHEMA) == [
        ManifestRow(1, "a.jpg", {"threshold": 3}),
        ManifestRow(2, "b.jpg", {}),
    ]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "“file”|no rows|columns"),
        (b"file,threshold\n", "no rows"),
        (b"picture,threshold\na.jpg,3\n", "“file”"),
        (b"file,threshold,threshold\na.jpg,3,4\n", "“threshold” twice"),
        (b"file,threshold\na.jpg,3,4\n", "Row 2: it has more cells"),
        (b"file,threshold\n,3\n", "Row 2: it names no image"),
        (b"file,size\na.jpg,3\n", "Row 2: there is no parameter “size”"),
        (b'file,threshold\n"a.jpg,3\n', "line .* cannot be read as CSV"),
        (b"file\n\xff\xfe", "UTF-8"),
        (b"file\na\x00b", "not text"),
        (b"[1]", "Row 1: it must be an object"),
        (b'[{"file": 3}]', "Row 1: it must be an object"),
        (b'[{"file": "a", "input": []}]', "Row 1: its “input”"),
        (b'[{"file": "a", "params": {}}]', "Row 1: “params” is not a known key of a row"),
        (b"[{", "JSON"),
        (b'{"rows": 3}', "list"),
        (b"[" * 100_000, "JSON"),
    ],
)
def test_table_errors_name_the_row(data: bytes, words: str) -> None:
    error = fault(data)
    assert re.search(words, error.message), error.message
    assert error.code == "invalid_table"


def test_table_has_at_most_as_many_rows_as_a_job_images() -> None:
    with override_settings(JOB_MAX_FILES=3):
        assert len(read_table(b"file\na\nb\nc\n", SCHEMA)) == 3
        assert "at most 3 images" in fault(b"file\na\nb\nc\nd\n").message
        assert "at most 3 images" in fault(json.dumps([{"file": "a"}] * 4).encode()).message


def test_a_hundred_thousand_and_one_rows_are_too_many() -> None:
    assert "100,000" in fault(b"file\n" + b"a.jpg\n" * 100_001).message


def test_too_many_bytes_are_not_read() -> None:
    with pytest.raises(TooLarge):
        read_table(b"x" * (manifests.MAX_BYTES + 1), SCHEMA)


def test_error_lists_some_rows_and_counts_the_rest() -> None:
    error = fault(b"file,size\n" + b"a,1\n" * 200)
    assert list(error.fields) == [f"row {n}" for n in range(2, 2 + manifests.MAX_PROBLEMS)]
    assert "And 197 more." in error.message


_ROWS = "file,threshold\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (_ROWS + "a,b,c\n" * 5_000_000, "Row 2: it has more cells.* And at least"),
        (_ROWS + ",b\n" * 8_000_000, "Row 2: it names no image.* And at least"),
        (_ROWS + "\n" * 30_000_000, "more rows"),
        (_ROWS + "," * 30_000_000, "one of its rows has more than 256 KB"),
        (_ROWS + '"\n",' * 8_000_000, "one of its rows has more than 256 KB"),
        ("file," + "c," * 100_000, "“c” twice"),
        ("[" + "[]," * 10_000_000 + "[]]", "as JSON it has more values than a job may have"),
        ("[" + "1," * 15_000_000 + "1]", "as JSON it has more values than a job may have"),
        ("[" + "[]," * 90_000 + "[]]", "Row 1: it must be an object.* And at least"),
        (
            json.dumps([{"file": "a", "input": {f"x{n}": 1 for n in range(100)}}] * 20_000),
            "“x0”.* And at least",
        ),
    ],
    ids=range(10),
)
def test_table_with_errors_everywhere_is_refused_quickly(text: str, words: str) -> None:
    """A table of 32 MB once took a minute of a web process."""
    data = text.encode()
    started = time.thread_time()
    error = fault(data)
    assert time.thread_time() - started < 1.0
    assert re.search(words, error.message), error.message


def test_many_columns_are_checked_quickly() -> None:
    columns = [f"c{number}" for number in range(30_000)]
    started = time.thread_time()
    assert read_table(",".join(["file", *columns]).encode() + b"\na", SCHEMA) == [ManifestRow(2, "a", {})]
    assert time.thread_time() - started < 1.0


def test_empty_rows_are_skipped() -> None:
    rows = read_table(b"file,threshold\na,1\n" + b",\n" * 90_000 + b"b,2\n", SCHEMA)
    assert [row.picture for row in rows] == ["a", "b"]


# --- Matching.


@pytest.fixture
def pictures(user: User) -> list[File]:
    summer = drive.create_folder(owner=user, parent=None, name="Summer")
    beach = drive.create_folder(owner=user, parent=summer, name="Beach")
    return [
        upload(user, "sea.jpg", folder=beach, seed=1),
        upload(user, "sea.jpg", folder=summer, seed=2),
        upload(user, "hill.jpg", folder=summer, seed=3),
        upload(user, "sea.jpg", seed=4),
    ]


@pytest.mark.parametrize(
    ("name", "index"),
    [
        ("hill.jpg", 2),
        ("Summer/hill.jpg", 2),
        ("./Summer/hill.jpg", 2),
        ("Summer\\hill.jpg", 2),
        ("Beach/sea.jpg", 0),
        ("Summer/sea.jpg", 1),
        ("sea.jpg", 3),
    ],
)
def test_row_names_an_image_by_name_or_path(user: User, pictures: list[File], name: str, index: int) -> None:
    row = ManifestRow(2, name, {"threshold": "1"})
    assert manifests.match(owner=user, rows=[row], files=pictures) == {pictures[index].pk: row}


def test_row_names_an_image_by_id(user: User, pictures: list[File]) -> None:
    row = ManifestRow(2, str(pictures[1].pk).upper(), {})
    assert manifests.match(owner=user, rows=[row], files=pictures) == {pictures[1].pk: row}


def test_unknown_ambiguous_and_repeated_images_are_reported_by_row(user: User, pictures: list[File]) -> None:
    rows = [
        ManifestRow(2, "no.jpg", {}),
        ManifestRow(3, "sea.jpg", {}),
        ManifestRow(4, "hill.jpg", {}),
        ManifestRow(5, "Summer/hill.jpg", {}),
    ]
    with pytest.raises(Invalid) as caught:
        manifests.match(owner=user, rows=rows, files=pictures[:3])
    assert list(caught.value.fields) == ["row 2", "row 3", "row 5"]
    assert "“no.jpg” is not one of the selected images" in caught.value.fields["row 2"]
    assert "add the folder name" in caught.value.fields["row 3"]
    assert "already has parameters in row 4" in caught.value.fields["row 5"]


def test_csv_template_can_be_read_back(user: User, pictures: list[File]) -> None:
    odd = upload(user, "=cmd|' x'.jpg", seed=9)
    files = [*pictures, odd]
    text = manifests.write_csv(owner=user, files=files, names=["method", "threshold"])
    assert "=cmd" not in text
    rows = read_table(text.encode(), SCHEMA)
    assert list(manifests.match(owner=user, rows=rows, files=files)) == [file.pk for file in files]


# --- Submitting.


def test_each_image_runs_with_its_own_parameters(user: User) -> None:
    files = [upload(user, f"{n}.jpg", seed=n) for n in range(3)]
    table = [ManifestRow(2, "1.jpg", {"method": "average", "threshold": "10"}), ManifestRow(3, "2.jpg", {})]
    job = submit(user, files, params={"finish": "threshold", "auto_threshold": False}, table=table)
    take_turns(user)
    job.refresh_from_db()
    assert (job.state, job.succeeded) == ("succeeded", 3)
    first, second, third = Item.objects.filter(job=job).order_by("position")
    assert (first.recipe, first.input, third.recipe) == (None, None, None)
    assert second.input == {"method": "average", "threshold": "10"}
    assert second.recipe
    assert second.recipe["steps"][0]["params"]["threshold"] == 10
    keys = {item.memo_key for item in (first, second, third)}
    assert len(keys) == 3


def test_only_table_skips_other_images(user: User) -> None:
    files = [upload(user, f"{n}.jpg", seed=n) for n in range(3)]
    job = submit(user, files, table=[ManifestRow(2, "1.jpg", {})], only_table=True)
    assert [item.name for item in job.items.all()] == ["1.jpg"]


@pytest.mark.parametrize(
    "params",
    [
        {"threshold": "many"},
        {"threshold": 100000},
        {"method": "magic"},
        {"method": ["luma"]},
        {"level": None},
    ],
)
def test_wrong_values_are_reported_by_row_and_nothing_runs(user: User, params: dict[str, Any]) -> None:
    files = [upload(user, f"{n}.jpg", seed=n) for n in range(3)]
    with pytest.raises(Invalid) as caught:
        submit(user, files, table=[ManifestRow(2, "0.jpg", {}), ManifestRow(7, "1.jpg", params)])
    assert list(caught.value.fields) == [f"row 7.{next(iter(params))}"]
    assert caught.value.message.startswith("Row 7: ")
    assert not Job.objects.exists()
    assert not Folder.objects.filter(owner=user).exists()


def test_folder_parameter_cannot_differ_by_image(user: User) -> None:
    tiles = drive.create_folder(owner=user, parent=None, name="Tiles")
    upload(user, "t.jpg", folder=tiles, seed=8)
    file = upload(user, "a.jpg", seed=1)
    about = version("mosaic").params_schema["properties"]
    name = next(key for key in about if about[key]["widget"] == "folder")
    with pytest.raises(Invalid, match="same for all images"):
        submit(user, [file], app="mosaic", table=[ManifestRow(2, "a.jpg", {name: str(tiles.pk)})])


def test_image_of_another_account_is_not_selected(user: User, other_user: User) -> None:
    mine, theirs = upload(user, "a.jpg", seed=1), upload(other_user, "b.jpg", seed=2)
    with pytest.raises(DomainError, match="not one of the selected"):
        submit(user, [mine], table=[ManifestRow(2, str(theirs.pk), {})])


def test_price_above_the_limit_is_refused(user: User) -> None:
    file = upload(user, "a.jpg", seed=1)
    listing = version().listing
    listing.price_each = 1500
    listing.save()
    chosen = Selection(folders=(), files=(file,))
    for most, refused in ((1499, True), (1500, False)):
        terms = services.Terms(max_price=most)
        if refused:
            with pytest.raises(Invalid, match=r"1\.5 credits, more than your limit of 1\.499"):
                services.submit_job(owner=user, version=version(), params={}, selection=chosen, terms=terms)
        else:
            job = services.submit_job(owner=user, version=version(), params={}, selection=chosen, terms=terms)
            assert (job.price_quoted, job.price_charged) == (1500, 0)


def test_unknown_files_are_refused_without_checking_all(
    user: User,
    pictures: list[File],
    monkeypatch: pytest.MonkeyPatch,
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    monkeypatch.setattr(manifests, "LOOKED_UP", 10)
    unknown = manifests.rows_of([{"file": uuid.uuid4()} for _ in range(35)])
    with django_assert_num_queries(1), pytest.raises(NotFound) as caught:
        manifests.check_there(owner=user, rows=unknown)
    assert caught.value.message.endswith(" And at least 7 more.")
    assert list(caught.value.fields) == [f"row {number}" for number in range(1, 11)]
    known = [{"file": pictures[0].pk} for _ in range(20)]
    manifests.check_there(owner=user, rows=manifests.rows_of(known))
    last = manifests.rows_of([*known, {"file": uuid.uuid4()}])
    with pytest.raises(NotFound) as caught:
        manifests.check_there(owner=user, rows=last)
    assert list(caught.value.fields) == ["row 21"]
