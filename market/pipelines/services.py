"""Services of pipelines: create, change, share, duplicate and delete."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import ProtectedError, QuerySet
from django.utils import timezone
from django.utils.text import slugify
from django.utils.translation import gettext as _

from accounts.models import User
from drive.files import services as drive
from ipau.common.errors import Conflict, Invalid, NotFound
from ipau.common.idempotency import digest_of, find_earlier
from market.listings import services
from market.listings.names import (
    NAME_LENGTH,
    RESERVED_NAMES,
    SUMMARY_LENGTH,
    TITLE_LENGTH,
    check_name,
    check_text,
)
from market.models import Listing, ListingKind, Tier, Version, Visibility
from market.pipelines.model_steps import ModelStep, compose, keep_models, models_of
from market.pipelines.steps import StepProblems, check_number, check_steps, folders_in, schema_of
from workers import registry
from workers.recipe import Recipe, Step

MOST_PIPELINES = 200


@dataclass(frozen=True)
class PipelineRelease:
    """Content of a pipeline version. `models`: the model versions by step position."""

    recipe: Recipe
    schema: Mapping[str, Any]
    models: Mapping[int, Version]


def list_pipelines(*, owner: User) -> QuerySet[Listing]:
    """Return the pipelines of an account."""
    rows = Listing.objects.filter(owner=owner, kind=ListingKind.PIPELINE, archived_at=None)
    return services.with_newest(rows)


def list_shared_pipelines() -> QuerySet[Listing]:
    """Return the public pipelines."""
    return services.with_newest(Listing.objects.visible_to(None).filter(kind=ListingKind.PIPELINE))


def get_pipeline(*, user: Any, owner: str, name: str) -> Listing:
    """Return the pipeline `owner/name` that `user` may see.

    Raises:
        NotFound: there is none.
    """
    listing = services.get_listing(user=user, owner=owner, name=name)
    if listing.kind != ListingKind.PIPELINE:
        raise NotFound(f"There is no pipeline “{owner}/{name}”.")
    return listing


def create_pipeline(
    *,
    owner: User,
    title: str,
    steps: Sequence[Step | ModelStep],
    summary: str = "",
    name: str = "",
    visibility: str = Visibility.PRIVATE,
    idempotency_key: str | None = None,
) -> Listing:
    """Create a pipeline with its first version.

    Args:
        name: the second part of its address. Default: derived from the title.

    Raises:
        Invalid: the steps, a text or the name are invalid, or the account has `MOST_PIPELINES`.
        Conflict: the name is taken, or the idempotency key belongs to another request.
    """
    request = digest_of(title, [_as_json(step) for step in steps], summary, name, visibility)
    mine = Listing.objects.select_related("owner").filter(owner=owner)
    if earlier := find_earlier(mine, idempotency_key, request):
        return earlier
    title, summary = check_title(title), check_text("summary", summary, SUMMARY_LENGTH)
    if name:
        check_name(name)
    recipe, models = _check_recipe(owner, steps)
    if visibility == Visibility.PUBLIC:
        _check_shareable(recipe, models)
    if list_pipelines(owner=owner).count() >= MOST_PIPELINES:
        raise Invalid(_("You have %(n)d pipelines, the maximum. Delete one first.") % {"n": MOST_PIPELINES})
    listing = Listing(
        owner=owner,
        kind=ListingKind.PIPELINE,
        title=title,
        summary=summary,
        tier=_tier_of(recipe),
        visibility=visibility,
        idempotency_key=idempotency_key,
        request_digest=request if idempotency_key else "",
    )
    try:
        return _insert(listing, name, PipelineRelease(recipe, schema_of(recipe, models), models))
    except Conflict:
        # Concurrent requests with one idempotency key: the slower one returns the result of the faster.
        if earlier := find_earlier(mine, idempotency_key, request):
            return earlier
        raise


@transaction.atomic
def change_pipeline(
    *,
    owner: User,
    name: str,
    title: str | None = None,
    summary: str | None = None,
    new_name: str | None = None,
    steps: Sequence[Step | ModelStep] | None = None,
    visibility: str | None = None,
) -> Listing:
    """Change the fields that are not None. New steps create a new version; jobs keep their version.

    Raises:
        NotFound: the account has no such pipeline.
        Invalid: the steps, a text or the name are invalid, or the pipeline cannot be shared as it is.
        Conflict: the new name is taken, or an operator has taken the pipeline down.
    """
    listing = _own(owner, name)
    if title is not None:
        listing.title = check_title(title)
    if summary is not None:
        listing.summary = check_text("summary", summary, SUMMARY_LENGTH)
    if new_name is not None and new_name != listing.name:
        listing.name = check_name(new_name)
    newest = services.latest_version(listing)
    release = _release_of(newest)
    if steps is not None:
        recipe, models = _check_recipe(owner, steps)
        listing.tier = _tier_of(recipe)
        new = PipelineRelease(recipe, schema_of(recipe, models), models)
        if new != release:
            _add_version(listing, newest.number + 1, new)
        release = new
    if visibility is not None:
        listing.visibility = visibility
    if listing.visibility == Visibility.PUBLIC:
        if listing.taken_down:
            raise Conflict(_("An operator has taken this pipeline down, so it cannot be shared."))
        _check_shareable(release.recipe, release.models)
    _save(listing)
    return listing


def duplicate_pipeline(*, user: User, owner: str, name: str) -> Listing:
    """Copy the newest version of a pipeline that `user` may see into a private one of their own.

    Raises:
        NotFound: there is none.
        Invalid: the account has `MOST_PIPELINES`.
    """
    source = get_pipeline(user=user, owner=owner, name=name)
    newest = services.latest_version(source)
    if list_pipelines(owner=user).count() >= MOST_PIPELINES:
        raise Invalid(_("You have %(n)d pipelines, the maximum. Delete one first.") % {"n": MOST_PIPELINES})
    copy = Listing(
        owner=user,
        kind=ListingKind.PIPELINE,
        name=source.name,
        title=source.title,
        summary=source.summary,
        tier=source.tier,
        visibility=Visibility.PRIVATE,
    )
    return _insert(copy, "", _release_of(newest))


def delete_pipeline(*, owner: User, name: str) -> None:
    """Delete a pipeline. If it has jobs, archive it instead, because they refer to it.

    Raises:
        NotFound: the account has no such pipeline.
    """
    try:
        with transaction.atomic():
            _own(owner, name).delete()
    except (ProtectedError, IntegrityError):
        Listing.objects.filter(owner=owner, name=name, kind=ListingKind.PIPELINE, archived_at=None).update(
            archived_at=timezone.now(), idempotency_key=None
        )


def check_title(title: str) -> str:
    """Return the normalized title. Raises Invalid."""
    return check_text("title", title, TITLE_LENGTH, _("Give the pipeline a title."))


def _as_json(step: Step | ModelStep) -> object:
    return step.model_dump() if isinstance(step, Step) else asdict(step)


def _check_recipe(owner: User, steps: Sequence[Step | ModelStep]) -> tuple[Recipe, Mapping[int, Version]]:
    check_number(len(steps))
    composed = compose(user=owner, steps=steps)
    recipe = check_steps(composed.steps, composed.titles)
    for setting, folder_id in folders_in(recipe).items():
        try:
            drive.get_folder(owner=owner, folder_id=folder_id)
        except NotFound as error:
            raise Invalid(error.message, code="invalid_input", fields={setting: error.message}) from error
    return recipe, composed.models


def _check_shareable(recipe: Recipe, models: Mapping[int, Version]) -> None:
    problems = StepProblems(recipe.steps)
    for position, model in models.items():
        if not model.is_offered_to(None):
            problems.add_step(
                position,
                _("it runs a model that others cannot see. Share the model first, or remove the step."),
            )
    problems.check("private_model")
    found = folders_in(recipe)
    if found:
        text = _(
            "This parameter names a folder of your drive, which others cannot see. "
            "Clear it before you share the pipeline."
        )
        raise Invalid(text, code="private_folder", fields=dict.fromkeys(found, text))


def _tier_of(recipe: Recipe) -> str:
    tiers = {registry.get(step.operation).tier for step in recipe.steps}
    return Tier.ADVANCED if Tier.ADVANCED in tiers else Tier.BASIC


def _own(owner: User, name: str) -> Listing:
    """Return a pipeline of the account, locked."""
    rows = Listing.objects.select_for_update(no_key=True, of=("self",)).select_related("owner")
    listing: Listing | None = None
    if "\0" not in name:
        listing = rows.filter(owner=owner, name=name, kind=ListingKind.PIPELINE, archived_at=None).first()
    if listing is None:
        raise NotFound(_("You have no pipeline “%(name)s”.") % {"name": name[:NAME_LENGTH]})
    return listing


def _insert(listing: Listing, name: str, release: PipelineRelease) -> Listing:
    """Insert a listing with its first version, under `name` or a free name derived from its title."""
    candidates = [name] if name else _free_names(listing)
    for candidate in candidates:
        listing.name = candidate
        try:
            with transaction.atomic():
                listing.save(force_insert=True)
                _add_version(listing, 1, release)
        except IntegrityError:
            continue
        return listing
    raise _taken(listing.name)


def _free_names(listing: Listing) -> list[str]:
    """Return up to three free names, the closest to the title first. A concurrent request may take them."""
    stem = (listing.name or slugify(listing.title))[: NAME_LENGTH - 4].replace("_", "-").strip("-")
    stem = re.sub("-{2,}", "-", stem) or "pipeline"
    alike = Listing.objects.filter(owner=listing.owner, name__startswith=stem, archived_at=None)
    taken = set(alike.values_list("name", flat=True)) | RESERVED_NAMES
    numbered = (stem if n == 1 else f"{stem}-{n}" for n in range(1, MOST_PIPELINES + 5))
    return [name for name in numbered if name not in taken][:3]


def _release_of(version: Version) -> PipelineRelease:
    return PipelineRelease(Recipe.model_validate(version.recipe), version.params_schema, models_of(version))


def _add_version(listing: Listing, number: int, release: PipelineRelease) -> None:
    recipe = release.recipe.model_dump(mode="json")
    version = Version.objects.create(
        listing=listing, number=number, recipe=recipe, params_schema=release.schema
    )
    keep_models(version, release.models)


def _save(listing: Listing) -> None:
    try:
        with transaction.atomic():
            listing.save()
    except IntegrityError as error:
        raise _taken(listing.name) from error


def _taken(name: str) -> Conflict:
    text = _("You already have an app, model or pipeline called “%(name)s”. Choose another name.") % {
        "name": name
    }
    return Conflict(text, code="name_taken", fields={"name": text})
