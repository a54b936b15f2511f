"""Services of listings: search, get, prefetch, and sync of the built-in apps."""

from typing import Any
from uuid import UUID

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Case, Exists, F, OuterRef, Prefetch, Q, QuerySet, When

from accounts.models import PLATFORM_HANDLE, User
from drive.models import Blob
from ipau.common.errors import NotFound
from ipau.common.postgresql.prepared_queries import PreparedQuery
from market.listings.io_schema import in_order, outputs_of
from market.models import ChosenSample, Listing, ListingKind, Sample, Version
from workers import registry
from workers.plugin import Operation
from workers.recipe import Recipe

# Further words of a search are ignored.
SEARCH_WORDS = 10


def get_listing(*, user: Any, owner: str, name: str) -> Listing:
    """Return the listing `owner/name` that `user` (None: anyone) may see.

    Raises:
        NotFound: there is none.
    """
    rows = _at_address(user, owner, name).select_related("owner")
    listing: Listing | None = rows.first()
    if listing is None:
        raise NotFound(f"There is no app or model “{owner}/{name}”.")
    return listing


def describe_listing(*, user: Any, owner: str, name: str) -> Listing:
    """Return the same as `get_listing`, with everything that the API shows prefetched."""
    rows = with_newest(_at_address(user, owner, name), user=user, measured=True)
    return rows.first() or get_listing(user=user, owner=owner, name=name)


def list_apps(*, user: Any) -> list[Listing]:
    """Return the apps that `user` may see and run, basic ones first."""
    rows = Listing.objects.visible_to(user).filter(kind=ListingKind.APP, versions__isnull=False)
    return list(rows.select_related("owner").distinct().order_by("-tier", "title", "id"))


def list_shared_models() -> QuerySet[Listing]:
    """Return the public models."""
    rows: QuerySet[Listing] = Listing.objects.visible_to(None).filter(kind=ListingKind.MODEL)
    return rows.filter(versions__is_confirmed=True).distinct().select_related("owner")


def list_runnable_models(*, user: User) -> QuerySet[Listing]:
    """Return the models that `user` may run: own models first, then the newest."""
    return list_newest_models(user=user).order_by(Case(When(owner=user, then=0), default=1), "-id")


def list_newest_models(*, user: User | None) -> QuerySet[Listing]:
    """Return the models that `user` (None: anyone) may run, newest first."""
    ready = Version.objects.offered_to(user).filter(listing=OuterRef("pk"))
    rows = Listing.objects.visible_to(user).filter(Exists(ready), kind=ListingKind.MODEL)
    return rows.select_related("owner").order_by("-id")


def search_listings(*, user: Any, words: str = "") -> QuerySet[Listing]:
    """Return the listings that `user` may see and that contain all words."""
    rows = Listing.objects.visible_to(user)
    for word in words.split()[:SEARCH_WORDS]:
        rows = rows.filter(
            Q(name__icontains=word)
            | Q(title__icontains=word)
            | Q(summary__icontains=word)
            | Q(owner__handle__iexact=word)
        )
    return rows


def latest_version(listing: Listing, *, user: Any = None) -> Version:
    """Return the newest version of a listing that `user` (None: anyone) may run.

    Raises:
        NotFound: there is no version.
    """
    version: Version | None = listing.versions.offered_to(user).order_by("-number").first()
    if version is None:
        raise NotFound(f"“{listing.title}” has no version that you can run.")
    version.listing = listing
    return version


def get_latest_version(*, user: User, owner: str, name: str) -> Version:
    """Return the newest version of the listing `owner/name`, in one query.

    Raises:
        NotFound: `user` can see no such listing, or it has no version.
    """
    version = _newest_at.first(user=user.pk, owner=owner, name=name)
    # The second query only determines which of the two is missing.
    return version or latest_version(get_listing(user=user, owner=owner, name=name), user=user)


def _newest_versions_at(user: User, owner: str, name: str) -> QuerySet[Version]:
    rows = Version.objects.offered_to(user).filter(listing__in=_at_address(user, owner, name))
    return rows.select_related("listing__owner").order_by("-number")


_newest_at = PreparedQuery(
    lambda user, owner, name: _newest_versions_at(User(pk=user), owner, name), user=UUID, owner=str, name=str
)


def get_version(*, user: Any, version_id: UUID | str, listing: Listing | None = None) -> Version:
    """Return a version by id, of any listing or of `listing`.

    Raises:
        NotFound: there is none, or `user` may not see its listing.
    """
    listings = Listing.objects.visible_to(user)
    rows = Version.objects.offered_to(user).filter(listing__in=listings).select_related("listing__owner")
    if listing is not None:
        rows = rows.filter(listing=listing)
    try:
        return rows.get(pk=version_id)
    except (Version.DoesNotExist, ValidationError) as error:
        raise NotFound("There is no such version.") from error


def get_sample_picture(*, user: Any, sample_id: UUID, which: str) -> Blob:
    """Return the blob of a sample image, "before" or "after" the model.

    Raises:
        NotFound: there is none, or `user` may see no model with this sample.
    """
    querysets: Any = [kind.objects.visible_to(user).filter(pk=sample_id) for kind in (Sample, ChosenSample)]
    found = next((row for rows in querysets for row in rows.select_related("before", "after")), None)
    blob: Blob | None = getattr(found, which) if found and which in ("before", "after") else None
    if blob is None:
        raise NotFound("There is no such sample.")
    return blob


def with_newest(rows: QuerySet[Listing], *, user: Any = None, measured: bool = False) -> QuerySet[Listing]:
    """Prefetch the owner and the newest version that `user` may run.

    Args:
        measured: also prefetch weights, speeds and samples.
    """
    newest: QuerySet[Version] = Version.objects.offered_to(user)
    newest = newest.order_by("listing", "-number").distinct("listing")
    if measured:
        newest, rows = with_measurements(newest), rows.prefetch_related("chosen_samples")
    return rows.select_related("owner").prefetch_related(Prefetch("versions", queryset=newest))


def with_measurements(versions: QuerySet[Version]) -> QuerySet[Version]:
    """Prefetch the weights of versions, with their speeds and samples."""
    return versions.select_related("weights").prefetch_related(
        "weights__speeds", "weights__job_speeds", "weights__samples"
    )


def note_runs(*, listing_id: UUID, number: int) -> None:
    """Add to the run count of a listing."""
    Listing.objects.filter(pk=listing_id).update(run_count=F("run_count") + number)


@transaction.atomic
def sync_builtin_listings() -> None:
    """Create a listing for each operation, and a new version if an operation has changed.

    Listings of removed operations become private, because their jobs refer to them.
    """
    platform = _platform_user()
    operations = registry.all_operations()
    for operation in operations:
        _sync(platform, operation)
    apps = Listing.objects.filter(owner=platform, kind=ListingKind.APP)
    removed = apps.exclude(name__in=[o.key for o in operations])
    removed.update(visibility="private")


def delivers(version: Version, kind: str) -> bool:
    """Return whether a version has an output of this kind: "image", "text" or "data"."""
    return any(output.kind == kind for output in outputs_of(version))


def _at_address(user: Any, owner: str, name: str) -> QuerySet[Listing]:
    rows: QuerySet[Listing] = Listing.objects.visible_to(user)
    # PostgreSQL rejects queries with NUL characters.
    return rows.none() if "\0" in owner + name else rows.filter(owner__handle=owner, name=name)


def _platform_user() -> User:
    platform = User.objects.filter(handle=PLATFORM_HANDLE).first()
    if platform is None:
        # Nobody can sign in as this user: it has no password and no mailbox.
        platform = User.objects.create_user(
            f"{PLATFORM_HANDLE}@invalid.invalid", handle=PLATFORM_HANDLE, name="IPAU", is_active=False
        )
    return platform


def _sync(platform: User, operation: Operation[Any]) -> None:
    listing, _ = Listing.objects.update_or_create(
        owner=platform,
        name=operation.key,
        defaults={
            "kind": ListingKind.APP,
            "tier": operation.tier,
            "title": operation.title,
            "summary": operation.summary,
            "description": operation.description,
            "visibility": "public",
        },
    )
    recipe = Recipe.single(operation.key).model_dump(mode="json")
    schema = in_order(operation.schema())
    latest = listing.versions.order_by("-number").first()
    same = latest is not None and (latest.recipe, latest.params_schema) == (recipe, schema)
    if latest is not None and same and latest.number >= operation.version:
        return
    number = operation.version if latest is None else max(operation.version, latest.number + 1)
    Version.objects.create(listing=listing, number=number, recipe=recipe, params_schema=schema)
