"""Services of models: list, get, describe, share and delete."""

from django.db import IntegrityError, transaction
from django.db.models import Prefetch, ProtectedError, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.models import User
from ipau.common.errors import Conflict, Invalid, NotFound
from market.listings import services
from market.listings.names import NAME_LENGTH, SUMMARY_LENGTH, TITLE_LENGTH, check_text
from market.models import Conversion, Listing, ListingKind, Visibility
from market.weights.releases import delete_unused

MOST_MODELS = 200
DESCRIPTION_LENGTH = 10_000


def list_models(*, owner: User) -> QuerySet[Listing]:
    """Return the models of an account."""
    rows = Listing.objects.filter(owner=owner, kind=ListingKind.MODEL, archived_at=None)
    return services.with_newest(rows, user=owner)


def with_unconfirmed(models: QuerySet[Listing]) -> QuerySet[Listing]:
    """Prefetch the conversions of unconfirmed versions."""
    waiting = Conversion.objects.filter(version__is_confirmed=False).only("version").order_by("-id")
    return models.prefetch_related(Prefetch("versions__conversions", queryset=waiting))


def get_model(*, owner: User, name: str) -> Listing:
    """Return a model of `owner`.

    Raises:
        NotFound: no model has this name.
    """
    listing = list_models(owner=owner).filter(name=name).first() if "\0" not in name else None
    if listing is None:
        raise NotFound(_("You have no model “%(name)s”.") % {"name": name[:NAME_LENGTH]})
    return listing


@transaction.atomic
def share_model(*, owner: User, name: str, visibility: str) -> Listing:
    """Make a model public or private.

    Raises:
        NotFound: the account has no such model.
        Conflict: an operator has taken it down, or its output layout is not confirmed.
    """
    listing = get_model(owner=owner, name=name)
    if visibility == Visibility.PUBLIC and listing.taken_down:
        raise Conflict(_("An operator has taken this model down, so it cannot be shared."))
    if visibility == Visibility.PUBLIC and not listing.versions.filter(is_confirmed=True).exists():
        text = _("Confirm the output layout of this model in its report before you share it.")
        raise Conflict(text, code="unconfirmed")
    listing.visibility = visibility
    listing.save(update_fields=["visibility", "updated_at"])
    return listing


def delete_model(*, owner: User, name: str) -> None:
    """Delete a model with its versions and unused weights.

    If it has jobs, or a pipeline runs it, archive it instead, because they refer to it.

    Raises:
        NotFound: the account has no such model.
    """
    listing = get_model(owner=owner, name=name)
    try:
        with transaction.atomic():
            used = list(listing.versions.exclude(weights=None).values_list("weights", flat=True))
            listing.delete()
            delete_unused(used)
    except (ProtectedError, IntegrityError):
        listing.chosen_samples.all().delete()
        Listing.objects.filter(pk=listing.pk).update(
            archived_at=timezone.now(), visibility=Visibility.PRIVATE
        )


@transaction.atomic
def describe_model(
    *,
    owner: User,
    name: str,
    title: str | None = None,
    summary: str | None = None,
    description: str | None = None,
) -> Listing:
    """Change the texts of a model that are not None.

    Args:
        summary: one line; may be empty.
        description: Markdown; may be empty.

    Raises:
        NotFound: the account has no such model.
        Invalid: a text is too long, or the title is empty.
    """
    listing = get_model(owner=owner, name=name)
    changed = {}
    if title is not None:
        changed["title"] = check_text("title", title, TITLE_LENGTH, _("Give the model a title."))
    if summary is not None:
        changed["summary"] = check_text("summary", summary, SUMMARY_LENGTH)
    if description is not None:
        changed["description"] = check_description(description)
    for field, text in changed.items():
        setattr(listing, field, text)
    listing.save(update_fields=[*changed, "updated_at"])
    return listing


def check_description(text: str) -> str:
    """Return the normalized description. Raises Invalid."""
    # Browsers send line ends as CRLF.
    text = text.replace("\r\n", "\n").replace("\0", " ").strip()
    if len(text) > DESCRIPTION_LENGTH:
        problem = _("Use at most %(n)d characters.") % {"n": DESCRIPTION_LENGTH}
        raise Invalid(problem, code="invalid_input", fields={"description": problem})
    return text
