"""What a listing is known by: its name in addresses, its title, its line of summary."""

import re

from django.utils.translation import gettext as _

from ipau.common.errors import Invalid

NAME_LENGTH, TITLE_LENGTH, SUMMARY_LENGTH = 60, 100, 200
# What stands for something else in the addresses of pages.
RESERVED_NAMES = frozenset({"new", "preview", "steps"})
_NAME = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")


def check_name(name: str) -> str:
    """Return a name that can stand in an address. Raises Invalid."""
    problem = ""
    if not _NAME.fullmatch(name) or len(name) > NAME_LENGTH:
        problem = _("Use small letters, digits and single dashes, at most %(n)d.") % {"n": NAME_LENGTH}
    elif name in RESERVED_NAMES:
        problem = _("The name “%(name)s” is reserved. Choose another one.") % {"name": name}
    if problem:
        raise Invalid(problem, code="invalid_input", fields={"name": problem})
    return name


def check_text(field: str, text: str, most: int, missing: str = "") -> str:
    """Return a line of text as it is kept. Raises Invalid, with the sentence `missing` where it is empty."""
    text = " ".join(text.replace("\0", " ").split())
    problem = ""
    if not text:
        problem = missing
    elif len(text) > most:
        problem = _("This may have at most %(n)d characters.") % {"n": most}
    if problem:
        raise Invalid(problem, code="invalid_input", fields={field: problem})
    return text
