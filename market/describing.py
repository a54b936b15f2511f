"""What a seller says of a model: its title, one line of summary, and a page of description in Markdown."""

from django.db import transaction
from django.utils.translation import gettext as _

from accounts.models import User
from ipau.common.errors import Invalid
from market.conversions import get_model
from market.models import Listing
from market.naming import SUMMARY_LENGTH, TITLE_LENGTH, check_text

DESCRIPTION_LENGTH = 10_000


@transaction.atomic
def describe_model(
    *,
    owner: User,
    name: str,
    title: str | None = None,
    summary: str | None = None,
    description: str | None = None,
) -> Listing:
    """Change what is given of what people read of a model.

    Args:
        summary: one line; may be empty.
        description: Markdown; may be empty.

    Raises:
        NotFound: the person has no such model.
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
    """Return a description as it is kept. Raises Invalid."""
    # Browsers send two characters for the end of a line.
    text = text.replace("\r\n", "\n").replace("\0", " ").strip()
    if len(text) > DESCRIPTION_LENGTH:
        problem = _("This may have at most %(n)d characters.") % {"n": DESCRIPTION_LENGTH}
        raise Invalid(problem, code="invalid_input", fields={"description": problem})
    return text
