"""Request type of pages that require sign-in. For annotations only."""

from django.http import HttpRequest
from django_htmx.middleware import HtmxDetails

from accounts.models import User


class SignedInRequest(HttpRequest):
    """A request behind `login_required` and the htmx middleware."""

    user: User
    htmx: HtmxDetails
