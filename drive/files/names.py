"""Validate names of files and folders, and number duplicate names."""

import unicodedata
from collections.abc import Collection, Iterable
from pathlib import PurePosixPath

from django.utils.translation import gettext as _

from ipau.common.errors import Invalid

MAX_BYTES = 255
# Characters that change how a name is displayed, and could disguise the type of a file.
_BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def clean_name(raw: str) -> str:
    """Validate a name and normalize it: NFC, no surrounding space.

    Raises:
        Invalid: the name is empty, too long, a path, or has forbidden characters.
    """
    name = unicodedata.normalize("NFC", raw).strip()
    if not name or name in {".", ".."}:
        raise Invalid(_("Enter a name."), fields={"name": _("A name is required.")})
    if "/" in name or "\\" in name:
        raise Invalid(_("A name cannot contain a slash."), fields={"name": _("Remove the slash.")})
    if any(unicodedata.category(c) in {"Cc", "Cs"} or c in _BIDI for c in name):
        raise Invalid(
            _("This name contains invisible control characters."),
            fields={"name": _("Remove the control characters.")},
        )
    if len(name.encode()) > MAX_BYTES:
        raise Invalid(
            _("This name is too long. The limit is %(most)d bytes.") % {"most": MAX_BYTES},
            fields={"name": _("Choose a shorter name.")},
        )
    return name


def upload_name(raw: str, suffix: str) -> str:
    """Return a valid name for an uploaded file.

    An invalid name is repaired, not refused, so that no upload fails because of it. `suffix` (".jpg") is
    appended to a name without one.
    """
    name = unicodedata.normalize("NFC", raw.replace("\\", "/")).rsplit("/", 1)[-1]
    name = "".join(c for c in name if unicodedata.category(c) not in {"Cc", "Cs"} and c not in _BIDI).strip()
    if not name.strip("."):
        name = "file"
    if not PurePosixPath(name).suffix:
        name += suffix
    return fit(name)


def fit(name: str, extra: str = "") -> str:
    """Insert `extra` before the suffix, and shorten the stem to the length limit."""
    suffix = PurePosixPath(name).suffix
    if len(suffix.encode()) > 20:
        suffix = ""
    stem = name[: len(name) - len(suffix)] if suffix else name
    room = MAX_BYTES - len((extra + suffix).encode())
    stem = stem.encode()[:room].decode(errors="ignore")
    return f"{stem}{extra}{suffix}"


def free_name(name: str, taken: Collection[str]) -> str:
    """Return `name`, or the first of "name (2)", "name (3)", … that is not in `taken`."""
    number = 1
    candidate = name
    while candidate in taken:
        number += 1
        candidate = fit(name, f" ({number})")
    return candidate


def distinct_names(names: Iterable[str]) -> list[str]:
    """Return `names` in the same order, with duplicates numbered. Linear time."""
    numbers: dict[str, int] = {}
    taken: set[str] = set()
    found = []
    for name in names:
        number = numbers.get(name, 0) + 1
        candidate = name if number == 1 else fit(name, f" ({number})")
        while candidate in taken:
            number += 1
            candidate = fit(name, f" ({number})")
        numbers[name] = number
        taken.add(candidate)
        found.append(candidate)
    return found
