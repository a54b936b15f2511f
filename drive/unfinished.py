"""Uploads that were begun and left: what a person may go on with or give up."""

from datetime import timedelta
from uuid import UUID

from django.db.models import F, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.models import User
from drive.models import Upload
from drive.uploading import CONCAT
from ipau.common.errors import NotFound

# One to which bytes came more recently is probably being sent just now.
LEFT_FOR = timedelta(seconds=60)
SHOWN = 5


def unfinished_uploads(*, owner: User) -> QuerySet[Upload]:
    """Return the owner's uploads of which something is still to come, the newest first."""
    rows = Upload.objects.filter(
        owner=owner, completed_at__isnull=True, sent_at__isnull=True, reason="", expires_at__gt=timezone.now()
    )
    left = rows.filter(updated_at__lt=timezone.now() - LEFT_FOR, offset__lt=F("length"))
    # Nobody but the program that sends it can go on with a part of a file.
    left = left.exclude(metadata__has_key=CONCAT)
    return left.select_related("folder").order_by("-id")


def get_unfinished(*, owner: User, upload_id: UUID) -> Upload:
    """Return one of them. Raises NotFound."""
    upload = unfinished_uploads(owner=owner).filter(pk=upload_id).first()
    if upload is None:
        raise NotFound(_("This upload does not exist any more."))
    return upload
