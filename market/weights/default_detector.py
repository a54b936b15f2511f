"""Default detector: the model of a detection request that names none."""

from typing import Any

from django.db.models import Case, When
from django.utils.translation import gettext as _

from accounts.models import PLATFORM_HANDLE
from ipau.common.errors import Invalid
from market.models import Listing, ListingKind, Version
from workers.tasks import FINDERS


def check_detector(version: Version) -> Version:
    """Return the version if it is a detector.

    Raises:
        Invalid: it is not. `fields` names `model`.
    """
    if version.weights is None or version.weights.task not in FINDERS:
        text = _("“%(title)s” is not a detector. Choose a model that detects objects.") % {
            "title": version.listing.title
        }
        raise Invalid(text, code="no_detector", fields={"model": text})
    return version


def default_detector(*, user: Any) -> Version:
    """Return the newest version of the platform's detector, or of the only detector that `user` may see.

    If the platform has several, box detectors come first, then the newest.

    Raises:
        Invalid: there is no detector, or there are several. `fields` names `model`.
    """
    listings = Listing.objects.visible_to(user).filter(kind=ListingKind.MODEL)
    newest = Version.objects.offered_to(user).order_by("listing", "-number").distinct("listing").values("pk")
    rows = Version.objects.filter(pk__in=newest, listing__in=listings, weights__task__in=FINDERS)
    boxes_first = Case(When(weights__task="detect", then=0), default=1)
    rows = rows.select_related("listing__owner").order_by(boxes_first, "-id")
    own: Version | None = rows.filter(listing__owner__handle=PLATFORM_HANDLE).first()
    found = [own] if own else list(rows[:2])
    if len(found) == 1:
        return found[0]
    text = (
        _("There are several detectors. Name one as “model”: owner/name.")
        if found
        else _("There is no detector yet. Upload the weights of one, or name a model as “model”.")
    )
    raise Invalid(text, code="no_model", fields={"model": text})
