"""Download of a selection as a zip archive."""

from django.contrib.auth.decorators import login_required
from django.http import HttpResponseBase
from django.shortcuts import redirect
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from accounts.requests import SignedInRequest
from drive.downloads import zip_archives
from drive.downloads.responses import serve_archive
from drive.views.requests import selection


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def download(request: SignedInRequest) -> HttpResponseBase:
    """Send the selection (`file`, `folder`): a single file unchanged, otherwise a zip.

    POST is allowed, because thousands of ids do not fit into a URL.
    """
    chosen = selection(request)
    if len(chosen.files) == 1 and not chosen.folders:
        return redirect(reverse("drive:content", args=[chosen.files[0].pk]) + "?download")
    stream = zip_archives.archive(zip_archives.members_of(owner=request.user, chosen=chosen))
    return serve_archive(stream, name=zip_archives.archive_name(chosen), size=len(stream))
