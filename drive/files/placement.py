"""Putting rows into folders: nothing lands where nobody looks, and a taken name gets a number."""

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
    """Serialise changes of one owner's tree: two moves at once could close a circle."""
    User.objects.select_for_update(no_key=True).get(pk=owner.pk)


def hold(folder: Folder | None) -> None:
    """Keep a folder from being trashed until the transaction ends, so that nothing is put where nobody looks.

    Raises:
        NotFound: it has been trashed already.
    """
    if folder is None:
        return
    rows = Folder.objects.filter(pk=folder.pk).live().select_for_update(no_key=True)
    if rows.first() is None:
        raise NotFound(_("This folder does not exist any more."))


@contextmanager
def naming() -> Iterator[None]:
    """Say it plainly when somebody takes a name between our look and our leap."""
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
    """Write `changes` into all rows, numbering those whose names are in `taken`, which grows with them.

    One query for all whose names are free.
    """
    plain = []
    numbered = []
    for row in rows:
        name = free_name(row.name, taken)
        taken.add(name)
        if name == row.name:
            plain.append(row.pk)
        else:
            numbered.append((row.pk, name))
    model._default_manager.filter(pk__in=plain).update(**changes)
    for key, name in numbered:
        model._default_manager.filter(pk=key).update(name=name, **changes)


def first_free(name: str, rows: Any, attempt: Callable[[str], T]) -> T:
    """Call `attempt` with the first name that `rows` does not have; others may be taking names too."""
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
