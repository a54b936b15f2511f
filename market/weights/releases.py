"""Create and delete versions of models. Call these in the transaction that ends the conversion."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models import ProtectedError
from django.utils.translation import gettext as _

from drive.storage import blobs
from drive.storage.blobs import Stored
from ipau.common.errors import Conflict
from market.listings.io_schema import in_order
from market.models import ChosenSample, Listing, ListingKind, Tier, Version, Visibility, Weights
from workers import registry
from workers.bundle import FACTS, GRAPH, WEIGHTS
from workers.plugin import Family
from workers.recipe import Recipe

# Content types of the three files of a model.
TYPES = {FACTS: "application/json", GRAPH: "application/octet-stream", WEIGHTS: "application/octet-stream"}


def keep_weights(*, facts: Mapping[str, Any], files: Mapping[str, Stored], source_sha256: str) -> Weights:
    """Return the row of a converted model, locked. Creates it if there is none with this digest.

    Args:
        facts: the content of its model.json.
        files: its three files, by name.
    """
    blobs.register(files.values())
    digest = files[FACTS].sha256
    weights = Weights(
        digest=digest,
        family=facts["family"],
        task=facts["task"],
        facts=facts,
        model_json_id=digest,
        onnx_id=files[GRAPH].sha256,
        safetensors_id=files[WEIGHTS].sha256,
        source_sha256=source_sha256,
    )
    Weights.objects.bulk_create([weights], ignore_conflicts=True)
    return Weights.objects.select_for_update(no_key=True).get(digest=digest)


@dataclass(frozen=True)
class Release:
    """The requested model `owner/name`. `publish`: make it public once it is confirmed."""

    owner_id: UUID
    name: str
    title: str
    publish: bool = False
    is_confirmed: bool = True


def release_model(*, wanted: Release, weights: Weights) -> Version:
    """Create a version of the requested model, and the listing if it is new. Return the version.

    The same weights again return the existing version.

    Raises:
        Conflict: the name was taken by an app or pipeline in the meantime.
    """
    family = _family(weights)
    listing = _listing(wanted, weights)
    if (
        wanted.publish
        and wanted.is_confirmed
        and not listing.taken_down
        and listing.visibility != Visibility.PUBLIC
    ):
        listing.visibility = Visibility.PUBLIC
        listing.save(update_fields=["visibility", "updated_at"])
    recipe = Recipe.single(family.key, weights=weights.digest).model_dump(mode="json")
    schema = in_order(_settings_of(family, weights.facts))
    newest: Version | None = listing.versions.order_by("-number").first()
    if newest is not None and (newest.recipe, newest.params_schema) == (recipe, schema):
        if wanted.is_confirmed and not newest.is_confirmed:
            newest.is_confirmed = True
            newest.save(update_fields=["is_confirmed", "updated_at"])
        return newest
    number = newest.number + 1 if newest else 1
    # Samples have to be computed again with the new weights.
    ChosenSample.objects.filter(listing=listing).update(is_due=True, attempts=0)
    return Version.objects.create(
        listing=listing,
        number=number,
        recipe=recipe,
        params_schema=schema,
        weights=weights,
        is_confirmed=wanted.is_confirmed,
    )


def withdraw_version(version_id: UUID) -> None:
    """Delete a version whose output layout was corrected, and its weights if unused.

    A version that has jobs, or that a pipeline runs, stays, private to its owner.
    """
    version = Version.objects.filter(pk=version_id, is_confirmed=False).first()
    if version is None:
        return
    try:
        with transaction.atomic():
            version.delete()
            delete_unused([version.weights_id] if version.weights_id else [])
    except (ProtectedError, IntegrityError):
        return


def delete_unused(weights: Collection[UUID]) -> None:
    """Delete weights that no version runs. The row lock serializes this with conversions that reuse them."""
    rows = Weights.objects.select_for_update().filter(pk__in=weights).order_by("pk")
    for row in list(rows):
        if not row.versions.exists():
            row.delete()


def _family(weights: Weights) -> Family[Any]:
    found = registry.get(weights.family)
    if not isinstance(found, Family):
        raise TypeError(f"{weights.family} is not a family of weights.")
    return found


def _settings_of(family: Family[Any], facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return a family's parameter schema, reduced to the parameters and choices that apply to the model."""
    schema, names, choices = family.schema(), family.settings_for(facts), family.choices_for(facts)
    properties = {name: dict(about) for name, about in schema["properties"].items() if name in names}
    for name, about in properties.items():
        if name in choices:
            about["enum"] = [choice for choice in about["enum"] if choice in choices[name]]
        # Drop conditions on removed parameters: then the parameter is always shown.
        conditions = {on: values for on, values in about.pop("show_if", {}).items() if on in properties}
        if conditions:
            about["show_if"] = conditions
    return {**schema, "properties": properties}


def _listing(wanted: Release, weights: Weights) -> Listing:
    """Return the listing of this name, locked."""
    rows = Listing.objects.select_for_update(no_key=True, of=("self",)).filter(
        owner=wanted.owner_id, name=wanted.name, archived_at=None
    )
    listing: Listing | None = rows.first()
    if listing is None:
        try:
            with transaction.atomic():
                return _create(wanted, weights)
        except IntegrityError:
            # A concurrent request took the name.
            listing = rows.get()
    if listing.kind != ListingKind.MODEL:
        text = _("You already have an app, model or pipeline called “%(name)s”. Choose another name.")
        raise Conflict(text % {"name": wanted.name}, code="name_taken")
    return listing


def _create(wanted: Release, weights: Weights) -> Listing:
    return Listing.objects.create(
        owner_id=wanted.owner_id,
        name=wanted.name,
        kind=ListingKind.MODEL,
        tier=Tier.ADVANCED,
        title=wanted.title,
        summary=str(weights.facts.get("title", ""))[:200],
        visibility=Visibility.PRIVATE,
    )
