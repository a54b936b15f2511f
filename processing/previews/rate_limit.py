"""Rate limits of previews, which are free: per account, or per network without an account."""

import time

from django.http import HttpRequest
from rest_framework.request import Request
from rest_framework.throttling import SimpleRateThrottle
from rest_framework.views import APIView

from accounts.models import User
from ipau.common.errors import RateLimited, Unavailable
from ipau.common.http.clients import client_network
from processing.previews.channel import ChannelError, valkey

# A slider in constant motion sends about five requests a second.
SIGNED_IN_A_MINUTE = 600
OTHERS_A_MINUTE = 240


def count_preview(request: HttpRequest) -> None:
    """Count one preview of a page. Raises RateLimited after too many within a minute."""
    if isinstance(request.user, User):
        who, most = f"user:{request.user.pk}", SIGNED_IN_A_MINUTE
    else:
        who, most = f"address:{client_network(request)}", OTHERS_A_MINUTE
    if _count(who, seconds=60) > most:
        text = "You have requested too many previews within a minute. Wait a moment, then try again."
        raise RateLimited(text, retry_after=_left(60))


class PreviewThrottle(SimpleRateThrottle):
    """Limits previews over the API to the number in the settings, per calendar minute."""

    scope = "preview"
    num_requests: int
    duration: int

    def allow_request(self, request: Request, view: APIView) -> bool:
        return _count(f"api:{request.user.pk}", seconds=self.duration) <= self.num_requests

    def wait(self) -> float:
        return _left(self.duration)


def _left(seconds: int) -> int:
    """Return the seconds until the current period ends, at least one."""
    return max(1, round(seconds - time.time() % seconds))


def _count(who: str, *, seconds: int) -> int:
    """Add one to the counter of the current period; return the new count."""
    key = f"ipau:previews:{who}:{int(time.time() // seconds)}"
    pipe = valkey().pipeline(transaction=False)
    pipe.incr(key)
    pipe.expire(key, 2 * seconds)
    try:
        return int(pipe.execute()[0])
    except ChannelError as error:
        raise Unavailable("Previews are unavailable right now. Try again in a moment.") from error
