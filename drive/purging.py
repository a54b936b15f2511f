"""Out of the trash for good: chosen things, all of it, or what has lain there too long.

Only rows are deleted here. Bytes that no other row refers to go with the next sweep of the storage.
"""

from collections.abc import Collection, Iterable, Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import F, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.models import User
from drive.models import File, Folder, Share
from drive.placing import as_uuid, lock_tree
from ipau.common.errors import Invalid, NotFound

# Rows that one statement deletes; a folder may hold a hundred thousand.
_CHUNK = 1000
# A revoked link stays this long, so that a repeated request that made it makes no other.
REVOKED_DAYS = 30


def roots_in_trash(*, owner: User, root_ids: Iterable[object]) -> list[UUID]:
    """Return the chosen roots of the owner's trash.

    Raises:
        Invalid: nothing was chosen.
        NotFound: one of them is not in the owner's trash, or went there only as a part of its folder.
    """
    keys = {as_uuid(i) for i in root_ids}
    if not keys:
        raise Invalid(_("Nothing is selected."))
    found = [key for key in _roots(owner) if key in keys]
    if len(found) != len(keys):
        raise NotFound(_("Some of this is no longer in the trash."))
    return found


def delete_forever(*, owner: User, root_ids: Iterable[object]) -> int:
    """Delete chosen things of the trash for good; return how many. Raises as `roots_in_trash`."""
    roots = roots_in_trash(owner=owner, root_ids=root_ids)
    _purge(owner, roots)
    return len(roots)


def empty_trash(*, owner: User) -> int:
    """Delete all of the owner's trash for good; return how many things lay in it by themselves."""
    roots = _roots(owner)
    _purge(owner, roots)
    return len(roots)


def sweep_trash(*, owners: int = 100) -> int:
    """Delete what has been in the trash for longer than `settings.TRASH_DAYS`; return how many roots."""
    before = timezone.now() - timedelta(days=settings.TRASH_DAYS)
    old = {"trash_root": F("pk"), "trashed_at__lt": before}
    keys = {*_owners(Folder.objects.filter(**old)), *_owners(File.objects.filter(**old))}
    swept = 0
    for owner in User.objects.filter(pk__in=keys)[:owners]:
        roots = _roots(owner, trashed_at__lt=before)
        _purge(owner, roots)
        swept += len(roots)
    return swept


def sweep_revoked_shares() -> int:
    """Delete links that were revoked `REVOKED_DAYS` ago, and return how many."""
    before = timezone.now() - timedelta(days=REVOKED_DAYS)
    return Share.objects.filter(revoked_at__lt=before).delete()[0]


def count_trash(*, owner: User) -> int:
    """Return how many things lie in the owner's trash by themselves."""
    return len(_roots(owner))


def _owners(rows: QuerySet[File] | QuerySet[Folder]) -> set[UUID]:
    return set(rows.values_list("owner", flat=True))


def _roots(owner: User, **narrower: object) -> list[UUID]:
    wanted = {"owner": owner, "trash_root": F("pk"), **narrower}
    folders = Folder.objects.filter(**wanted).values_list("pk", flat=True)
    files = File.objects.filter(**wanted).values_list("pk", flat=True)
    return [*folders, *files]


def _purge(owner: User, roots: Collection[UUID]) -> None:
    """Delete these and what went into the trash with them, as far as nobody restores it meanwhile.

    In one transaction for so many files at a time: a job that finishes just now holds its pictures' rows and
    waits for the owner's usage, which a longer one would hold while it waits for more such rows.
    """
    ours = {"owner": owner, "trash_root__in": list(roots), "trashed_at__lte": timezone.now()}
    with transaction.atomic():
        lock_tree(owner)
        inside = list(Folder.objects.filter(**ours).values_list("pk", flat=True))
        # What was trashed before its folder was is a thing of its own, and stays until its own time has come.
        File.objects.filter(owner=owner, folder__in=inside).exclude(trash_root__in=roots).update(folder=None)
        Folder.objects.filter(owner=owner, parent__in=inside).exclude(trash_root__in=roots).update(
            parent=None
        )
    while _purge_files(owner, ours):
        pass
    with transaction.atomic():
        lock_tree(owner)
        Folder.objects.filter(**ours).delete()


@transaction.atomic
def _purge_files(owner: User, ours: Mapping[str, Any]) -> bool:
    """Delete a thousand of these files; return whether there were any."""
    # Read under the lock: somebody may just have restored them.
    lock_tree(owner)
    keys = list(File.objects.filter(**ours).values_list("pk", flat=True)[:_CHUNK])
    File.objects.filter(pk__in=keys).delete()
    return bool(keys)
