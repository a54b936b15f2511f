"""Uploads that were begun and not ended: shown on the start page, to go on with or to give up."""

from uuid import UUID

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from accounts.requests import SignedInRequest
from drive.unfinished import get_unfinished
from drive.uploading import drop_upload


@login_required
@require_POST
def give_up(request: SignedInRequest, upload_id: UUID) -> HttpResponse:
    """Forget an upload with all that was sent of it."""
    upload = get_unfinished(owner=request.user, upload_id=upload_id)
    drop_upload(upload=upload)
    messages.success(request, _("The upload of “%(name)s” was given up.") % {"name": upload.name})
    return redirect("home")
