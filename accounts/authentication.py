"""API authentication: a bearer key with scopes, or a signed-in session."""

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
    """`Authorization: Bearer <key>`; `Token <key>` is accepted for older clients."""

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
    """Require the scopes that the view's `scopes` names for the method: one, all of a tuple, or any of a set.

    A view without an entry needs `read` for safe methods and `write` for the others. HEAD needs the scopes
    of GET. A signed-in session has all scopes.
    """

    def has_permission(self, request: Request, view: "APIView") -> bool:
        if not request.user or not request.user.is_authenticated:
            return False
        if not isinstance(request.auth, ApiKey):
            return True
        missing = missing_scopes(request, view)
        self.message = f"This key lacks the scope {missing}."
        return not missing


def missing_scopes(request: Request, view: "APIView") -> str:
    """Return the names of the scopes that a key lacks for a request; empty if it lacks none."""
    declared: Mapping[str, Scope | tuple[Scope, ...] | frozenset[Scope]] = getattr(view, "scopes", {})
    method = str(request.method)
    default = Scope.READ if method in SAFE_METHODS else Scope.WRITE
    # Views answer HEAD as GET, unless they declare scopes for HEAD.
    fallback = declared.get("GET", default) if method == "HEAD" else default
    needed = declared.get(method, fallback)
    if isinstance(needed, frozenset):
        has_one = any(has_scope(request, scope) for scope in needed)
        return "" if has_one else " or ".join(f"'{scope}'" for scope in sorted(needed))
    wanted = needed if isinstance(needed, tuple) else (needed,)
    return " and ".join(f"'{scope}'" for scope in wanted if not has_scope(request, scope))


def has_scope(request: Request, scope: Scope) -> bool:
    """Return whether the caller has a scope. A signed-in session has all scopes."""
    return not isinstance(request.auth, ApiKey) or scope in request.auth.scopes


def caller(request: Request) -> User:
    """Return the account of a request that `HasScope` has admitted."""
    if not isinstance(request.user, User):
        raise exceptions.NotAuthenticated
    return request.user
