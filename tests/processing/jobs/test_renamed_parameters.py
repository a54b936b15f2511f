"""Versions and jobs from before parameters were renamed: migrated, they run and repeat as they did."""

import json
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from accounts.models import User
from market.listings import services as market
from market.listings.io_schema import in_order
from market.models import Version
from market.pipelines import services as pipelines
from market.pipelines.bind_params import bind_params
from market.pipelines.model_steps import ModelStep
from market.pipelines.steps import settings_of
from processing import services
from processing.jobs.manifests import ManifestRow
from processing.models import Item, Job
from tests.drive.factories import upload
from tests.market.weights.test_install import install
from tests.processing.factories import FRESH, states, submit_version, take_turns, version
from workers import registry
from workers.recipe import Step, name_steps

pytestmark = pytest.mark.django_db
# The schema and the defaults of each operation as they were, by key.
OLD: dict[str, Any] = json.loads((Path(__file__).parent / "old_parameters.json").read_text())
TARGETS = [("market", "0015_renamed_parameters"), ("processing", "0006_renamed_parameters")]
# People rewrite these freely.
WORDS = ("title", "description", "enum_labels")


def migrate() -> None:
    """Run the two migrations over the rows that are there."""
    executor = MigrationExecutor(connection)
    for app, name in TARGETS:
        executor.recorder.record_unapplied(app, name)
    MigrationExecutor(connection).migrate(TARGETS)


def make_old(of: Version, *given: dict[str, Any]) -> Version:
    """Write a version as it was kept before, with all settings of its steps, or none of a single one."""
    steps = of.recipe["steps"]
    for step, params in zip(steps, given, strict=True):
        step["params"] = {**OLD[step["operation"]]["defaults"], **params} if step["params"] else {}
    old = [OLD[step["operation"]]["schema"] for step in steps]
    if "x-steps" not in of.params_schema:
        of.params_schema = in_order(old[0])
    else:
        properties: dict[str, Any] = {}
        for position, name in enumerate(name_steps(step["operation"] for step in steps)):
            for setting, about in settings_of(old[position], name, steps[position]["params"])[0].items():
                properties[setting] = {**about, "x-step": position}
        of.params_schema = {**of.params_schema, "properties": properties}
    of.save()
    return of


def make_job_old(job: Job, asked: dict[str, Any], recipe: dict[str, Any]) -> None:
    Job.objects.filter(pk=job.pk).update(input=asked, recipe=recipe)


def rules_of(schema: dict[str, Any]) -> dict[str, Any]:
    return {
        name: {key: value for key, value in about.items() if key not in WORDS}
        for name, about in schema["properties"].items()
    }


@pytest.mark.parametrize("key", OLD)
def test_a_stored_schema_has_the_rules_of_a_new_one(user: User, key: str) -> None:
    of = version()
    of.recipe = {"steps": [{"operation": key, "params": {}}]}
    make_old(of, {})
    migrate()
    of.refresh_from_db()
    assert rules_of(of.params_schema) == rules_of(in_order(registry.get(key).schema()))
    defaults = {name: about["default"] for name, about in of.params_schema["properties"].items()}
    assert registry.validate(key, defaults) == registry.get(key).Params()


def test_migrated_schemas_read_as_new_ones(user: User) -> None:
    detector = make_old(install(user), {})
    migrate()
    detector.refresh_from_db()
    properties = detector.params_schema["properties"]
    assert properties["iou"]["title"] == "IoU threshold"
    assert properties["image_size"]["enum_labels"] == {"auto": "model default"}
    assert properties["result"]["enum_labels"]["crop"] == "Crop the best match"


def test_an_old_pipeline_runs_with_its_values(user: User) -> None:
    detector = install(user)
    asked = ModelStep(user.handle, detector.listing.name)
    steps = [Step(operation="pixelart"), asked, Step(operation="blackwhite"), asked]
    kept = pipelines.create_pipeline(owner=user, title="Four", steps=steps)
    pipeline = make_old(
        market.latest_version(kept),
        {"palette": "grey4", "colours": 9},
        {"most": 7, "line": 0, "size": 0, "top": 3},
        {"finish": "threshold", "automatic": False, "level": 90},
        {"most": 300, "line": 5, "size": 320},
    )
    old_recipe = pipeline.recipe
    job = submit_old(user, pipeline, {"yolo2.most": 11, "yolo.line": "0", "blackwhite.finish": "grey"})
    migrate()
    pipeline.refresh_from_db()
    params = [step["params"] for step in pipeline.recipe["steps"]]
    assert old_recipe["steps"][1]["weights"] == pipeline.recipe["steps"][1]["weights"]
    assert (params[0]["palette"], params[0]["colors"]) == ("gray4", 9)
    assert (params[1]["max_detections"], params[1]["line_width"], params[1]["image_size"]) == (
        7,
        "auto",
        "auto",
    )
    assert (params[2]["auto_threshold"], params[2]["threshold"]) == (False, 90)
    assert (params[3]["line_width"], params[3]["image_size"]) == (5, 320)
    assert pipeline.params_schema["properties"]["yolo2.image_size"]["default"] == 320
    assert pipeline.params_schema["properties"]["blackwhite.threshold"]["show_if"] == {
        "blackwhite.finish": ["threshold"],
        "blackwhite.auto_threshold": [False],
    }
    recipe, by_step = bind_params(pipeline, {"yolo2.max_detections": 4})
    assert by_step
    assert recipe.steps[3].params["max_detections"] == 4
    take_turns(user)
    assert states(job) == ["succeeded"]
    job.refresh_from_db()
    assert job.input == {"yolo2.max_detections": 11, "yolo.line_width": "auto", "blackwhite.finish": "gray"}


def submit_old(user: User, pipeline: Version, asked: dict[str, Any]) -> Job:
    """Return a job that waits since before, whose recipe is the pipeline's."""
    migrated = Version.objects.get(pk=pipeline.pk)
    recipe = migrated.recipe
    Version.objects.filter(pk=pipeline.pk).update(
        recipe={
            "steps": [
                {**step, "params": registry.get(step["operation"]).Params().model_dump(mode="json")}
                for step in recipe["steps"]
            ]
        }
    )
    job = submit_version(user, Version.objects.get(pk=pipeline.pk), [upload(user)], terms=FRESH)
    Version.objects.filter(pk=pipeline.pk).update(recipe=recipe)
    make_job_old(job, asked, recipe)
    return job


def test_an_old_job_with_rows_of_its_own_repeats(user: User) -> None:
    app = version()
    files = [upload(user, f"{n}.jpg", seed=n) for n in range(2)]
    rows = [ManifestRow(1, "1.jpg", {"threshold": "10"})]
    job = submit_version(
        user, app, files, params={"finish": "threshold", "auto_threshold": False}, table=rows, terms=FRESH
    )
    old = {**OLD["blackwhite"]["defaults"], "finish": "threshold", "automatic": False}
    make_job_old(
        job,
        {"finish": "threshold", "automatic": False, "method": "average"},
        {"steps": [{"operation": "blackwhite", "params": {**old, "method": "average"}}]},
    )
    own_params = {"method": "average", "level": 10, "finish": "grey"}
    own = Item.objects.filter(job=job, recipe__isnull=False)
    own.update(
        input={"level": "10", "finish": "grey"},
        recipe={"steps": [{"operation": "blackwhite", "params": {**old, **own_params}}]},
    )
    make_old(app, {})
    migrate()
    assert own.get().input == {"threshold": "10", "finish": "gray"}
    take_turns(user)
    again = services.repeat_job(owner=user, job_id=job.pk)
    take_turns(user)
    assert states(job) == states(again) == ["succeeded", "succeeded"]
    assert again.input == {"finish": "threshold", "auto_threshold": False, "method": "average"}
    recipes = [
        Item.objects.filter(job=one).order_by("position").values_list("recipe") for one in (job, again)
    ]
    assert list(recipes[0]) == list(recipes[1])
    assert Job.objects.get(pk=job.pk).recipe == again.recipe
