"""Rate limits of sign-in: 429 responses, and device cookies that keep the owner from being locked out.

Wrong passwords count per IP address, and per account and IP address. So an attacker locks out only the
attacker's own address. A third limit, per account, slows down guesses from many addresses. A browser in which
the owner has signed in before has a device cookie. The cookie exempts it from the third limit, and its own
wrong passwords are counted per cookie.
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
# The longest period of most limits, and that of wrong passwords.
WAIT_SECONDS = 60
LOGIN_WAIT_SECONDS = 300

COOKIE = "ipau_device"
COOKIE_SECONDS = 365 * 24 * 3600
_SALT = "accounts.device"


def too_many_requests(request: HttpRequest, *, seconds: int = WAIT_SECONDS) -> HttpResponse:
    """Return a 429 page with Retry-After. allauth calls this as the site's `handler429`."""
    text = _("Too many attempts. Wait %(minutes)d min, then try again.") % {"minutes": -(-seconds // 60)}
    response = render(request, "errors/domain.html", {"error": RateLimited(text)}, status=RateLimited.status)
    response["Retry-After"] = str(seconds)
    response["Cache-Control"] = "no-store"
    return response


def attempts_key(request: HttpRequest, login: str) -> str:
    """Return the counter key of wrong passwords: by device if it is known, else by account and IP address."""
    device = known_device(request, login)
    return f"device:{device}" if device else f"{login.lower()}:{ratelimit.get_ip(request)}"


def count_attempt(request: HttpRequest, login: str) -> ratelimit.RateLimitUsage | None:
    """Count a sign-in attempt per account, except from known devices. Returns None after too many."""
    if known_device(request, login):
        return ratelimit.RateLimitUsage(usage=[])
    return ratelimit.consume(request, app=APP, action=ACCOUNT_LIMIT, key=login.lower())


def clear_attempts(request: HttpRequest, login: str) -> None:
    """Reset the limit of an account, after its owner has set a new password by e-mail."""
    ratelimit.clear(request, app=APP, action=ACCOUNT_LIMIT, key=login.lower())


def known_device(request: HttpRequest, login: str) -> str | None:
    """Return the device id from the cookie if the account's owner has signed in with this browser before."""
    try:
        cookie: dict[str, Any] = signing.loads(
            request.COOKIES.get(COOKIE, ""), salt=_SALT, max_age=COOKIE_SECONDS
        )
    except signing.BadSignature:
        return None
    if not EmailAddress.objects.filter(user=cookie["user"], email__iexact=login).exists():
        return None
    return str(cookie["device"])


def remember_device(request: HttpRequest, response: HttpResponse, user: User) -> None:
    """Set the device cookie after a sign-in."""
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
