"""Pipeline steps that run models: find the version and check who may run it."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from django.db.models import (
    Case,
    CharField,
    Q,
    QuerySet,
    Value,
    When,
    prefetch_related_objects,
)
from django.db.models.functions import Concat
from django.utils.translation import gettext as _

from accounts.models import User
from ipau.common.errors import Invalid, NotFound
from market.listings import services
from market.listings.io_schema import STEPS
from market.listings.pauses import check_runs
from market.models import Listing, ListingKind, StepModel, Version
from market.pipelines.steps import StepProblems, title_of
from workers.recipe import Step, name_steps

GONE = "model_gone"
# Placeholder operation of a step if its model, and so its family, is unknown.
UNKNOWN = "model"
MODELS_OFFERED = 8
_MODELS = "models__model__listing__owner"


@dataclass(frozen=True)
class ModelStep:
    """A requested step: the model `owner/name`. Without a `number`: its newest version."""

    owner: str
    name: str
    number: int | None = None
    params: Mapping[str, Any] = field(default_factory=dict)

    @property
    def address(self) -> str:
        return f"{self.owner}/{self.name}"


@dataclass(frozen=True)
class Composed:
    """Steps as a worker runs them, and the model versions by step position."""

    steps: tuple[Step, ...]
    models: Mapping[int, Version] = field(default_factory=dict)

    @property
    def titles(self) -> tuple[str, ...]:
        """Titles of the steps. Those of built-in apps are in English, to be translated."""
        return tuple(
            self.models[position].listing.title if position in self.models else title_of(step.operation)
            for position, step in enumerate(self.steps)
        )


def compose(*, user: Any, steps: Sequence[Step | ModelStep]) -> Composed:
    """Look up the models that steps name. Parameters are not checked.

    Raises:
        Invalid: `user` can see no such model. `fields` names its step.
    """
    found: list[Step] = []
    models: dict[int, Version] = {}
    missing: dict[int, str] = {}
    releases = iter(find_releases(user=user, steps=[step for step in steps if isinstance(step, ModelStep)]))
    for position, step in enumerate(steps):
        if isinstance(step, Step):
            # A digest does not show who owns the weights, so callers cannot pass one.
            found.append(step.model_copy(update={"weights": None}))
        elif release := next(releases):
            models[position] = release
            found.append(_run(release, step.params))
        else:
            missing[position] = _missing(step)
            found.append(Step(operation=UNKNOWN))
    problems = StepProblems(found)
    for position, text in missing.items():
        problems.add_step(position, text)
    problems.check()
    return Composed(tuple(found), models)


def find_release(*, user: Any, step: ModelStep) -> Version:
    """Return the model version that a step requests.

    Raises:
        NotFound: `user` can see no such model, or it has no such version.
    """
    (release,) = find_releases(user=user, steps=[step])
    if release is None:
        raise NotFound(_missing(step))
    return release


def find_releases(*, user: Any, steps: Sequence[ModelStep]) -> list[Version | None]:
    """Return the model version of each step, or None if there is none. At most two queries."""
    numbered, newest = Q(), Q()
    for step in steps:
        if "\0" in step.address:
            continue
        at_address = Q(listing__owner__handle=step.owner, listing__name=step.name)
        if step.number is None:
            newest |= at_address
        else:
            numbered |= at_address & Q(number=step.number)
    found: dict[tuple[str, int | None], Version] = {}
    if numbered:
        rows = _releases(user).filter(numbered)
        found |= {(_address_of(release), release.number): release for release in rows}
    if newest:
        rows = _releases(user).filter(newest).order_by("listing_id", "-number").distinct("listing_id")
        found |= {(_address_of(release), None): release for release in rows}
    return [found.get((step.address, step.number)) for step in steps]


@dataclass(frozen=True)
class Offer:
    """Models found, each with its `address`. `more`: others match too."""

    models: Sequence[Listing]
    more: bool


def offer_models(*, user: User, text: str = "", chosen: Collection[str] = ()) -> Offer:
    """Return models that a user may run as steps. One query.

    Order: exact address, models in the pipeline, own models, newest.

    Args:
        text: words that each occur in the address `owner/name` or in the title.
        chosen: the addresses of the models that are in the pipeline.
    """
    words = text.replace("\0", " ").split()[: services.SEARCH_WORDS]
    rows = services.list_runnable_models(user=user).annotate(
        address=Concat("owner__handle", Value("/"), "name", output_field=CharField())
    )
    for word in words:
        rows = rows.filter(Q(address__icontains=word) | Q(title__icontains=word))
    rank = Case(
        When(address__iexact=" ".join(words), then=0),
        When(address__in=[address for address in chosen if "\0" not in address], then=1),
        When(owner=user, then=2),
        default=3,
    )
    found = list(rows.order_by(rank, "-id")[: MODELS_OFFERED + 1])
    return Offer(found[:MODELS_OFFERED], len(found) > MODELS_OFFERED)


def with_models(rows: QuerySet[Listing]) -> QuerySet[Listing]:
    """Prefetch the models that pipelines run."""
    return rows.prefetch_related(f"versions__{_MODELS}")


def models_of(version: Version) -> dict[int, Version]:
    """Return the model versions of a pipeline by step position, including deleted models.

    Loads them if they are not prefetched. No query for pipelines without models.
    """
    runs_models = any(step.get("weights") for step in version.recipe["steps"])
    if STEPS not in version.params_schema or not runs_models:
        return {}
    prefetch_related_objects([version], _MODELS)
    return {row.position: row.model for row in version.models.all()}


def listings_run_by(version: Version) -> list[UUID]:
    """Return the listings whose run counts a run increases: its own and those of its models.

    They are sorted, so that transactions that lock them one by one cannot deadlock.
    """
    return sorted({version.listing_id, *(model.listing_id for model in models_of(version).values())})


def price_each_of(version: Version) -> int:
    """Return the price of one image in millicredits: the listing's price and those of its models."""
    models = models_of(version).values()
    return version.listing.price_each + sum(model.listing.price_each for model in models)


def unavailable_models(*, user: Any, version: Version) -> dict[str, str]:
    """Return an error message for each model that `user` cannot run, by step name."""
    steps = version.params_schema.get(STEPS, [])
    names = name_steps(step["operation"] for step in version.recipe["steps"])
    found = {}
    for position, model in models_of(version).items():
        if not model.is_offered_to(user):
            text = _(
                "Step %(n)d runs the model “%(title)s”, which is no longer available: its owner deleted it "
                "or made it private."
            )
            found[names[position]] = text % {"n": position + 1, "title": steps[position]["title"]}
    return found


def check_models(*, user: Any, version: Version) -> None:
    """Raise Invalid if a pipeline runs a model that `user` cannot run, Conflict if a model is paused.

    Models of an unsaved draft are not checked: they were looked up for the user who edits it.
    """
    check_runs(version)
    if version._state.adding:
        return
    for model in models_of(version).values():
        check_runs(model)
    found = unavailable_models(user=user, version=version)
    if found:
        raise Invalid(" ".join(found.values()), code=GONE, fields=found)


def keep_models(version: Version, models: Mapping[int, Version]) -> None:
    """Save which model versions the steps of a version run."""
    StepModel.objects.bulk_create(
        StepModel(version=version, position=position, model=model) for position, model in models.items()
    )


def _address_of(release: Version) -> str:
    return f"{release.listing.owner.handle}/{release.listing.name}"


def _missing(step: ModelStep) -> str:
    words = {"model": step.address[:120], "n": step.number}
    if step.number is None:
        return _("there is no model “%(model)s”.") % words
    return _("there is no version %(n)d of the model “%(model)s”.") % words


def _releases(user: Any) -> QuerySet[Version]:
    models = Listing.objects.visible_to(user).filter(kind=ListingKind.MODEL)
    rows = Version.objects.offered_to(user).filter(listing__in=models, weights__isnull=False)
    return rows.select_related("listing__owner", "weights")


def _run(release: Version, params: Mapping[str, Any]) -> Step:
    """Return the step of a model version with these parameters. Fixed parameters of the version win."""
    own = Step.model_validate(release.recipe["steps"][-1])
    return own.model_copy(update={"params": {**params, **own.params}})
