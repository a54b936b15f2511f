"""Output folders that mirror the folders of the images, even if the owner changes them during the job."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts.models import User
from drive.files import folder_tree, trash
from drive.files import services as drive
from drive.files.services import MAX_DEPTH, Selection
from drive.models import File, Folder
from ipau.common.errors import Invalid
from processing import services
from processing.execution import output_folders, record_results
from processing.execution.output_options import Options
from processing.fleet import registry
from processing.job_queue import claims
from processing.models import Item, Job, State
from processing.services import Terms
from tests.drive.factories import upload
from tests.processing.execution.test_races import at_once, committed
from tests.processing.factories import run_chunk, take_turns, version

pytestmark = pytest.mark.django_db
KEEPING = Terms(options=Options(keep_folders=True))


def folder(user: User, name: str, parent: Folder | None = None) -> Folder:
    return drive.create_folder(owner=user, parent=parent, name=name)


def summer(user: User) -> Folder:
    """Create Photos/Summer with Beach and Town below it, and an image of the same name in each."""
    top = folder(user, "Summer", folder(user, "Photos"))
    upload(user, "sea.jpg", folder=top, seed=1)
    for seed, name in enumerate(("Beach", "Town"), 2):
        upload(user, "sea.jpg", folder=folder(user, name, top), seed=seed)
    return top


def submit(user: User, chosen: Selection, terms: Terms = KEEPING) -> Job:
    return services.submit_job(owner=user, version=version(), params={}, selection=chosen, terms=terms)


def paths(job: Job) -> list[str]:
    """Return the paths of results below the job's folder."""
    job.refresh_from_db()
    found = []
    for file in File.objects.filter(made_by__item__job=job).live():
        parts = drive.ancestors_of(file.folder)
        below = [part.name for part in parts[[p.pk for p in parts].index(job.output_folder_id) + 1 :]]
        found.append("/".join([*below, file.name]))
    return sorted(found)


def test_results_keep_the_folders_of_their_images(user: User) -> None:
    single = upload(user, "single.jpg", seed=9)
    job = submit(user, Selection(folders=(summer(user),), files=(single,)))
    take_turns(user)
    assert paths(job) == ["Summer/Beach/sea.jpg", "Summer/Town/sea.jpg", "Summer/sea.jpg", "single.jpg"]
    job.refresh_from_db()
    assert (job.state, job.succeeded) == (State.SUCCEEDED, 4)


def test_results_share_one_folder_by_default(user: User) -> None:
    job = submit(user, Selection(folders=(summer(user),), files=()), Terms())
    take_turns(user)
    assert paths(job) == ["sea (2).jpg", "sea (3).jpg", "sea.jpg"]


def test_reused_results_keep_folders(user: User) -> None:
    chosen = Selection(folders=(summer(user),), files=())
    submit(user, chosen)
    take_turns(user)
    job = submit(user, chosen)
    take_turns(user)
    assert paths(job) == ["Summer/Beach/sea.jpg", "Summer/Town/sea.jpg", "Summer/sea.jpg"]
    assert job.reused == 3


def test_equal_names_are_numbered_in_each_folder(user: User) -> None:
    top = summer(user)
    from tests.pictures import picture_bytes

    upload(user, "sea.png", folder=top, data=picture_bytes("PNG", seed=8))
    job = submit(user, Selection(folders=(top,), files=()))
    take_turns(user)
    assert paths(job) == [
        "Summer/Beach/sea.jpg",
        "Summer/Town/sea.jpg",
        "Summer/sea (2).png",
        "Summer/sea.jpg",
    ]


def test_chosen_folders_with_equal_names_share_one(user: User) -> None:
    one, two = folder(user, "Beach", folder(user, "A")), folder(user, "Beach", folder(user, "B"))
    upload(user, "sea.jpg", folder=one, seed=1)
    upload(user, "sea.jpg", folder=two, seed=2)
    job = submit(user, Selection(folders=(one, two), files=()))
    take_turns(user)
    assert paths(job) == ["Beach/sea (2).jpg", "Beach/sea.jpg"]


def test_paths_start_at_the_outermost_chosen_folder(user: User) -> None:
    top = summer(user)
    inner = Folder.objects.get(name="Beach")
    files = list(File.objects.filter(owner=user))
    found = output_folders.folder_paths(
        owner=user, chosen=Selection(folders=(inner, top), files=()), files=files
    )
    assert sorted(found.values()) == ["Summer", "Summer/Beach", "Summer/Town"]


@pytest.mark.parametrize("change", ["trashed", "renamed"])
def test_removed_output_folder_is_created_again(user: User, change: str) -> None:
    job = submit(user, Selection(folders=(summer(user),), files=()))
    assert job.output_folder is not None
    made = folder(user, "Summer", job.output_folder)
    if change == "trashed":
        trash.trash(owner=user, chosen=Selection(folders=(made,), files=()))
    else:
        drive.rename_folder(owner=user, folder_id=made.pk, name="Mine")
    take_turns(user)
    assert paths(job) == ["Summer/Beach/sea.jpg", "Summer/Town/sea.jpg", "Summer/sea.jpg"]
    assert not File.objects.filter(folder=made).exists()


def test_existing_output_folder_is_used(user: User) -> None:
    job = submit(user, Selection(folders=(summer(user),), files=()))
    there = folder(user, "Beach", folder(user, "Summer", job.output_folder))
    take_turns(user)
    assert File.objects.filter(folder=there).count() == 1
    assert Folder.objects.filter(owner=user, name="Summer", parent=job.output_folder).count() == 1


def test_too_deeply_nested_folders_are_refused(user: User) -> None:
    top = inner = folder(user, "0")
    for level in range(1, MAX_DEPTH):
        inner = Folder.objects.create(owner=user, parent=inner, name=str(level))
    upload(user, folder=inner, seed=1)
    with pytest.raises(Invalid, match="nested too deeply to be kept"):
        submit(user, Selection(folders=(top,), files=()))
    assert submit(user, Selection(folders=(top,), files=()), Terms()).total == 1


def test_queries_depend_on_depth_not_number_of_folders(user: User) -> None:
    counts = []
    for number in (2, 12):
        root = folder(user, f"root {number}")
        wanted = [f"a/{n}" for n in range(number)]
        with CaptureQueriesContext(connection) as asked:
            made = folder_tree.make_folders(root, wanted)
        assert len({made[way].pk for way in wanted}) == number
        counts.append(len(asked))
    assert counts[0] == counts[1]


@committed
def test_trashing_while_finishing_leaves_no_hidden_file(user: User) -> None:
    chosen = Selection(folders=(summer(user),), files=())
    for _ in range(4):
        job = submit(user, chosen, Terms(options=Options(keep_folders=True, reuse=False)))
        assert job.output_folder is not None
        made = folder(user, "Summer", job.output_folder)
        held = claims.claim(job=job, slot=registry.this_slot(), slots=1, seconds=1, seconds_per_item=0.001)
        assert held is not None
        done = run_chunk(held)
        raised = at_once(
            lambda held=held, done=done: record_results.finish(held, done),
            lambda made=made: trash.trash(owner=user, chosen=Selection(folders=(made,), files=())),
        )
        assert raised == []
        for file in File.objects.filter(made_by__item__job=job).select_related("folder"):
            assert file.folder is not None
            assert (file.trashed_at is None) == (file.folder.trashed_at is None)
        assert Item.objects.filter(job=job, state=State.SUCCEEDED).count() == 3
