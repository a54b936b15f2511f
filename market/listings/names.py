"""Validate the name, title and summary of a listing."""

import re

from django.utils.translation import gettext as _

from ipau.common.errors import Invalid

NAME_LENGTH, TITLE_LENGTH, SUMMARY_LENGTH = 60, 100, 200
# Used by URLs of pages.
RESERVED_NAMES = frozenset({"new", "preview", "steps"})
_NAME = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")


def check_name(name: str) -> str:
    """Return the name if it is valid in an address. Raises Invalid."""
    problem = ""
    if not _NAME.fullmatch(name) or len(name) > NAME_LENGTH:
        problem = _("Use lowercase letters, digits and single hyphens, at most %(n)d characters.") % {
            "n": NAME_LENGTH
        }
    elif name in RESERVED_NAMES:
        problem = _("The name “%(name)s” is reserved. Choose another one.") % {"name": name}
    if problem:
        raise Invalid(problem, code="invalid_input", fields={"name": problem})
    return name


def check_text(field: str, text: str, most: int, missing: str = "") -> str:
    """Return the normalized line of text. Raises Invalid, for an empty text with `missing`."""
    text = " ".join(text.replace("\0", " ").split())
    problem = ""
    if not text:
        problem = missing
    elif len(text) > most:
        problem = _("Use at most %(n)d characters.") % {"n": most}
    if problem:
        raise Invalid(problem, code="invalid_input", fields={field: problem})
    return text
