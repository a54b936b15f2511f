"""Rate limits of signing in: how a limit is answered, and how an account's owner stays able to sign in.

Wrong passwords count against the sender's address, and against the account together with that address. So a
stranger who hammers an account locks out only the stranger's own address. A third limit, of the account
alone, slows down guesses from many addresses. A browser in which the owner has signed in before has a cookie
that exempts it from that third limit; its own wrong passwords are counted by the cookie.
"""

import secrets
from typing import Any

from allauth.account.models import EmailAddress
from allauth.core.internal import ratelimit
from django.conf import settings
from django.core import signing
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _

from accounts.models import User
from ipau.common.errors import RateLimited

APP = "allauth.account"
# Names of limits in ACCOUNT_RATE_LIMITS that allauth does not have itself.
ACCOUNT_LIMIT = "login_failed_account"
CODE_LIMIT = "enter_code"
# The longest time for which most limits hold, in seconds, and that of wrong passwords.
WAIT_SECONDS = 60
LOGIN_WAIT_SECONDS = 300

COOKIE = "ipau_device"
COOKIE_SECONDS = 365 * 24 * 3600
_SALT = "accounts.device"


def too_many_requests(request: HttpRequest, *, seconds: int = WAIT_SECONDS) -> HttpResponse:
    """Answer 429 with a sentence. allauth calls this as the site's `handler429`."""
    text = _("Too many attempts. Wait %(minutes)d min, then try again.") % {"minutes": -(-seconds // 60)}
    response = render(request, "errors/domain.html", {"error": RateLimited(text)}, status=RateLimited.status)
    response["Retry-After"] = str(seconds)
    response["Cache-Control"] = "no-store"
    return response


def attempts_key(request: HttpRequest, login: str) -> str:
    """Return the key that counts wrong passwords of an account: by device if it is known, else by address."""
    device = known_device(request, login)
    return f"device:{device}" if device else f"{login.lower()}:{ratelimit.get_ip(request)}"


def count_attempt(request: HttpRequest, login: str) -> ratelimit.RateLimitUsage | None:
    """Count an attempt to sign in against the account alone; None where there were too many."""
    if known_device(request, login):
        return ratelimit.RateLimitUsage(usage=[])
    return ratelimit.consume(request, app=APP, action=ACCOUNT_LIMIT, key=login.lower())


def forget_attempts(request: HttpRequest, login: str) -> None:
    """Let an account be signed in to again: its owner has set a new password by a mail."""
    ratelimit.clear(request, app=APP, action=ACCOUNT_LIMIT, key=login.lower())


def known_device(request: HttpRequest, login: str) -> str | None:
    """Return the name of the browser if the account's owner has signed in with it before."""
    try:
        told: dict[str, Any] = signing.loads(
            request.COOKIES.get(COOKIE, ""), salt=_SALT, max_age=COOKIE_SECONDS
        )
    except signing.BadSignature:
        return None
    if not EmailAddress.objects.filter(user=told["user"], email__iexact=login).exists():
        return None
    return str(told["device"])


def remember_device(request: HttpRequest, response: HttpResponse, user: User) -> None:
    """Give the browser in which somebody has just signed in its cookie."""
    device = known_device(request, user.email) or secrets.token_urlsafe(12)
    response.set_cookie(
        COOKIE,
        signing.dumps({"user": str(user.pk), "device": device}, salt=_SALT),
        max_age=COOKIE_SECONDS,
        path="/accounts/",
        secure=settings.SESSION_COOKIE_SECURE,
        httponly=True,
        samesite="Lax",
    )
