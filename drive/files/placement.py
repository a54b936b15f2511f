"""Insert rows into folders: lock against trashing, and number duplicate names."""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from django.db import IntegrityError, transaction
from django.utils.translation import gettext as _

from accounts.models import User
from drive.files.names import free_name
from drive.models import File, Folder
from ipau.common.errors import Conflict, NotFound

T = TypeVar("T")


def lock_tree(owner: User) -> None:
    """Lock an owner's folder tree: two concurrent moves could create a cycle."""
    User.objects.select_for_update(no_key=True).get(pk=owner.pk)


def hold(folder: Folder | None) -> None:
    """Lock a folder against trashing until the transaction ends.

    Raises:
        NotFound: the folder has been trashed.
    """
    if folder is None:
        return
    rows = Folder.objects.filter(pk=folder.pk).live().select_for_update(no_key=True)
    if rows.first() is None:
        raise NotFound(_("This folder no longer exists. It may have been deleted."))


@contextmanager
def naming() -> Iterator[None]:
    """Turn a violation of unique names by a concurrent request into `Conflict`."""
    try:
        with transaction.atomic():
            yield
    except IntegrityError as error:
        raise Conflict(
            _("Something was added there at the same moment. Please try again."), code="name_taken"
        ) from error


def names_of(rows: Any) -> set[str]:
    return set(rows.values_list("name", flat=True))


def place(
    model: type[File] | type[Folder], rows: Sequence[File | Folder], taken: set[str], **changes: Any
) -> None:
    """Update all rows with `changes`, and number names that are in `taken`, which is extended.

    One query for all rows with a free name, and one for each numbered row.
    """
    unchanged = []
    numbered = []
    for row in rows:
        name = free_name(row.name, taken)
        taken.add(name)
        if name == row.name:
            unchanged.append(row.pk)
        else:
            numbered.append((row.pk, name))
    model._default_manager.filter(pk__in=unchanged).update(**changes)
    for key, name in numbered:
        model._default_manager.filter(pk=key).update(name=name, **changes)


def first_free(name: str, rows: Any, attempt: Callable[[str], T]) -> T:
    """Call `attempt` with the first free name, and retry if a concurrent request takes it."""
    taken: Collection[str] = ()
    while True:
        try:
            with transaction.atomic():
                return attempt(free_name(name, taken))
        except IntegrityError:
            now_taken = names_of(rows)
            if now_taken == taken:
                raise
            taken = now_taken
