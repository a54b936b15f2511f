"""Who calls the API: a bearer key with scopes, or the person signed in on the site."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from rest_framework import exceptions
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request

from accounts.models import ApiKey, Scope, User
from accounts.services import find_api_key

if TYPE_CHECKING:
    from rest_framework.views import APIView


class ApiKeyAuthentication(BaseAuthentication):
    """`Authorization: Bearer <key>`; `Token <key>` is taken too, older clients send it."""

    def authenticate(self, request: Request) -> tuple[User, ApiKey] | None:
        words = get_authorization_header(request).split()
        if not words or words[0].lower() not in (b"bearer", b"token"):
            return None
        if len(words) != 2:
            raise exceptions.AuthenticationFailed("Send the key as: Authorization: Bearer <key>.")
        key = find_api_key(secret=words[1].decode("latin-1"))
        if key is None:
            raise exceptions.AuthenticationFailed("This API key is unknown, revoked or expired.")
        return key.user, key

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="api"'


class HasScope(BasePermission):
    """The key has what the view's `scopes` names for the method: a scope, all of a tuple, or one of a set.

    A view without an entry needs `read` for safe methods and `write` for the others. HEAD needs what GET
    does. A person who is signed in on the site has all scopes.
    """

    def has_permission(self, request: Request, view: "APIView") -> bool:
        if not request.user or not request.user.is_authenticated:
            return False
        if not isinstance(request.auth, ApiKey):
            return True
        lacking = lacking_scopes(request, view)
        self.message = f"This key lacks the scope {lacking}."
        return not lacking


def lacking_scopes(request: Request, view: "APIView") -> str:
    """Return in words which scopes a key lacks for a request; nothing where it has those that are needed."""
    declared: Mapping[str, Scope | tuple[Scope, ...] | frozenset[Scope]] = getattr(view, "scopes", {})
    method = str(request.method)
    default = Scope.READ if method in SAFE_METHODS else Scope.WRITE
    # What answers GET answers HEAD too, unless the view tells them apart.
    fallback = declared.get("GET", default) if method == "HEAD" else default
    needed = declared.get(method, fallback)
    if isinstance(needed, frozenset):
        has_one = any(has_scope(request, scope) for scope in needed)
        return "" if has_one else " or ".join(f"'{scope}'" for scope in sorted(needed))
    wanted = needed if isinstance(needed, tuple) else (needed,)
    return " and ".join(f"'{scope}'" for scope in wanted if not has_scope(request, scope))


def has_scope(request: Request, scope: Scope) -> bool:
    """Tell whether the caller's key has a scope. A person who is signed in on the site has all of them."""
    return not isinstance(request.auth, ApiKey) or scope in request.auth.scopes


def caller(request: Request) -> User:
    """Return whose request this is; `HasScope` has let nobody else in."""
    if not isinstance(request.user, User):
        raise exceptions.NotAuthenticated
    return request.user
