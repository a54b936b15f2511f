"""What a request carries on a page that asks for signing in. For annotations only."""

from django.http import HttpRequest
from django_htmx.middleware import HtmxDetails

from accounts.models import User


class SignedInRequest(HttpRequest):
    """A request behind `login_required` and the htmx middleware."""

    user: User
    htmx: HtmxDetails
